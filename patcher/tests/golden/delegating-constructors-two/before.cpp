struct iswa {
    iswa(int size, bool swa);
    iswa(int size);
    int n = 0;
};
iswa::iswa(int size) :
    iswa(size, [](int n) { return n > 0; }(size)) {
}

iswa::iswa(int size, bool swa) : n(size) {
    n += swa;
}
