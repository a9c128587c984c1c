// static int decode(int n) {
//     return n;
// }
static int encode(int n) {
    return n; // unlike decode(int n) {
}
