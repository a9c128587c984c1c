static int decode(int n) {
	if (n) {
		n += 1;
		LLAMA_OTEL_SPAN("f");
	}
	return n;
}
