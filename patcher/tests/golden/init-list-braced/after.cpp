struct pair {
    int a;
    int b;
    pair();
};
pair::pair() : a{1}, b{ 2 } {
    LLAMA_OTEL_SPAN("f");
    a = b;
}
