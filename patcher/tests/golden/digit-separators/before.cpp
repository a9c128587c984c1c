static int limit(int n) {
    int big = 1'000'000;
    char quote = '\'';
    return big + n + quote;
}
