void time_init();
int count();
void load();

void init() {
    time_init();

    if ( ! count( ) ) {
        load();
    }
}
