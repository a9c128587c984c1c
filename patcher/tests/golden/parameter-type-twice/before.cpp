static void seq_rm(int p0, int p1) {
    p0 = p1;
}
