int serve(int port) {
    const auto handle = [&port](int req) {
        LLAMA_OTEL_SPAN(req);
        return req + port;
    };
    return handle(1);
}
