int decode(int n) {
    switch (n) {
        case 1: return 2;
        case 2:
            LLAMA_OTEL_STATUS(3);
            return 3;
        default: break;
    }
    LLAMA_OTEL_STATUS(0);
    return 0;
}
