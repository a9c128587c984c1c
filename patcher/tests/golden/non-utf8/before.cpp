// café ÿþ
static const char * name = "café";
static int decode(int n) {
    return n + (name != nullptr);
}
