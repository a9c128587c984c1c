struct ring {
    int n;
    bool operator == (const ring & other) const {
        return n == other.n;
    }
};
