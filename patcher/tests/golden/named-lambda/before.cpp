int serve(int port) {
    const auto handle = [&port](int req) {
        return req + port;
    };
    return handle(1);
}
