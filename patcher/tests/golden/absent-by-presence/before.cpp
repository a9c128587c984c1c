static int decode_internal(int n) {
    return n;
}
