int decode(int n, int more) {
    return n + more;
}

int decode(int n) EXPORT_MACRO(x) {{
    return n;
}
