int decode(int n) {
    if (n == 0) {
        LLAMA_OTEL_STATUS(-1);
        return -1;
    }
    if (n < 0) { // bad
        LLAMA_OTEL_STATUS(-2);
        return -2;
    }
    LLAMA_OTEL_STATUS(0);
    return 0;
}
