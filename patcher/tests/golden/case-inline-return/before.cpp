int decode(int n) {
    switch (n) {
        case 1: return 2;
        case 2:
            return 3;
        default: break;
    }
    return 0;
}
