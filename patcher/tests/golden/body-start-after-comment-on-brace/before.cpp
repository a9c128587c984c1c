static int decode(int n) { // { not a brace
    // first a comment
    return n;
}
