int encode(int n) {
    n += 1;
    n += 2;
    return n;
}
namespace old { int decode(int n) { return encode(n); } }
