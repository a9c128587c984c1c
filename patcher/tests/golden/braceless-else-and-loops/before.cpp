int decode(int n) {
    for (int i = 0; i < 3; ++i)
        n += 1;
    while (n < 5)
        n += 2;
    do
        n += 3;
    while (n < 9);
    if (n > 7) {
        n -= 1;
    } else
        n += 4;
    return n;
}
