template <typename T> struct ring {
    T last;
    void push(const T & value);
};
template <typename T>
void ring<T>::push(const T & value) {
    last = value;
}
