struct pair {
    int a;
    int b;
    pair();
};
pair::pair() : a{1}, b{ 2 } {
    a = b;
}
