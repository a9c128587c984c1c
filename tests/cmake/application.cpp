// A program with protobuf messages of its own, beside a shared libllama-otel with opentelemetry-cpp behind it: both must work,
// before telemetry has used protobuf and afterwards.

#include "application.pb.h"
#include "otel.h"

#include <cstdio>
#include <string>

extern "C" bool llama_otel_scenario(const char * name);

static bool talk() {
    application::v1::Question question;
    question.set_prompt("why?");
    for (int i = 0; i < 100; i++) {
        question.add_tokens(i);
    }
    application::v1::Question answer;
    return answer.ParseFromString(question.SerializeAsString()) && answer.tokens_size() == 100 &&
           answer.DebugString() == question.DebugString();
}

int main() {
    const bool before    = talk();
    const bool recorded  = llama_otel_scenario("nested");
    const bool delivered = llama_otel_flush(5000);
    const bool after     = talk();
    printf("{\"before\":%s,\"delivered\":%s,\"after\":%s}\n", before ? "true" : "false", recorded && delivered ? "true" : "false", after ? "true" : "false");
    return 0;
}
