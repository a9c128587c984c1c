namespace a {
  void nothing() {
  }
}
