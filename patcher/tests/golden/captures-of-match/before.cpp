static int process(const char * s, int n) { return n + (s != nullptr); }
int decode(int n) {
    const int ret = process("a  b",
        n /* tokens */ + 1);
    return ret;
}
