extern "C" {

void backend_init(void) {
    LLAMA_OTEL_SPAN("f");
    int n = 0;
    (void) n;
}

}
