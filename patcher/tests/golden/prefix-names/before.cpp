static int model_load_from_file_impl(int n) {
    return n;
}
static int model_load(int n) {
    return model_load_from_file_impl(n);
}
int model_load_from_file(int n) {
    return model_load(n);
}
