static int decode(int n) {
	if (n) {
		n += 1;
	}
	return n;
}
