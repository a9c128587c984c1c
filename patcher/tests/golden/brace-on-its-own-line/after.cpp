int decode(int n)
{
    LLAMA_OTEL_SPAN("f");
    return n;
}
