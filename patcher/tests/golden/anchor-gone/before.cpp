int decode(int n) {
    int status = 1; // status = 2;
    return n + status;
}
