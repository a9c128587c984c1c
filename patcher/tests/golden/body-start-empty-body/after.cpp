namespace a {
  void nothing() {
      LLAMA_OTEL_SPAN("f");
  }
}
