static int decode_internal(int n) {
    return n;
}

int decode(int n) {
    return decode_internal(n);
}
