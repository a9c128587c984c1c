extern "C" {

void backend_init(void) {
    int n = 0;
    (void) n;
}

}
