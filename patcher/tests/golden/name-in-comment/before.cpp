// static int decode(int n) {
/*
static int decode(int n) {
}
*/
static int decode(int n) {
    return n;
}
