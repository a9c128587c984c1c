//! A program on llama-cpp-2 as published is instrumented by the drop-in for llama-cpp-sys-2 alone; and what wants an instrumented
//! llama.cpp does not link with upstream's own.

use std::path::Path;
use std::process::Command;

use llama_otel_tests::{number, prepared};
use otlp_receiver::Receiver;
use serde_json::{Value, json};

#[test]
fn an_unmodified_program_exports_what_it_did() {
    let (exe, model) = (prepared("LLAMA_OTEL_DROPIN"), prepared("LLAMA_OTEL_TINY"));
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let out = Command::new(&exe)
        .arg(&model)
        .arg("12")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint())
        .env("LLAMA_OTEL_DETAIL", "decode")
        .output()
        .expect("the program that `cargo xtask test` built");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let stdout = String::from_utf8(out.stdout).unwrap();
    let counts: Vec<f64> = stdout.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [n_prompt, n_generated] = counts[..] else { panic!("{stdout}") };
    assert_eq!(n_generated, 12.0);

    let telemetry = receiver.stop();
    let load = telemetry.span("llama_model_load").expect("the load");
    assert_eq!(load.attribute("llama.model.load.outcome"), Some(&json!("ok")));
    assert_eq!(load.attribute("llama.model.file"), Some(&json!(model.file_name().unwrap().to_str().unwrap())));
    assert_eq!(telemetry.spans_named("llama_init_from_model").len(), 1);

    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes.len(), 13, "the prompt and each token");
    let tokens: f64 = decodes.iter().map(|span| number(span, "llama.batch.n_tokens")).sum();
    assert_eq!(tokens, n_prompt + n_generated);
    assert_eq!(telemetry.spans_named("llama_sample_token").len(), 12);
    let generation = telemetry.span("llama_generation").expect("one sequence");
    assert_eq!(number(generation, "gen_ai.usage.input_tokens"), n_prompt);
    assert_eq!(telemetry.metric("llama.decode.duration").expect("a metric").count(), 13);
}

#[test]
fn without_a_variable_the_program_exports_nothing_and_does_the_same() {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let run = |telemetry: bool| {
        let mut command = Command::new(prepared("LLAMA_OTEL_DROPIN"));
        command.arg(prepared("LLAMA_OTEL_TINY")).arg("5").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        if telemetry {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()).env("OTEL_SDK_DISABLED", "true");
        }
        command.output().expect("the program that `cargo xtask test` built").stdout
    };
    assert_eq!(run(false), run(true));
    assert!(receiver.stop().spans.is_empty());
}

#[test]
fn the_program_carries_the_mark() {
    let bytes = std::fs::read(prepared("LLAMA_OTEL_DROPIN")).unwrap();
    let mark = b"llama-otel: instrumented, ABI ";
    assert!(bytes.windows(mark.len()).any(|window| window == mark));
}

/// A crate that insists upon an instrumented llama.cpp, and a program that only uses upstream's own function through it.
#[test]
fn what_insists_does_not_link_with_the_library_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let mark = Path::new(env!("CARGO_MANIFEST_DIR")).join("../otel-shim/src/mark.rs");
    let declaration = "unsafe extern \"C\" { pub safe fn llama_time_us() -> i64; }";
    let insisting = format!("#[path = {mark:?}]\n#[macro_use]\nmod mark;\nrequire_instrumented!();\n{declaration}\n");
    let [with, without] = [insisting, declaration.to_owned()].map(|sys| link_with_pristine(dir.path(), &sys));
    assert_eq!(without, Ok(()), "the link itself is possible");
    let error = with.unwrap_err();
    assert!(error.contains("llama_otel_instrumented_abi_"), "{error}");
}

fn link_with_pristine(dir: &Path, sys: &str) -> Result<(), String> {
    std::fs::write(dir.join("sys.rs"), sys).unwrap();
    std::fs::write(dir.join("main.rs"), "fn main() { println!(\"{}\", sys::llama_time_us()); }").unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compile = |args: &[&str]| {
        let out = Command::new(&rustc).current_dir(dir).args(["--edition", "2024"]).args(args).output().expect("rustc");
        match out.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    };
    compile(&["--crate-type", "rlib", "--crate-name", "sys", "sys.rs"])?;
    let prebuilt = prepared("LLAMA_OTEL_PREBUILT_PRISTINE");
    let manifest = std::fs::read(prebuilt.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let libs = ["libs", "system_libs"].map(|key| manifest[key].as_array().unwrap().clone()).concat();
    let mut libs: Vec<String> =
        libs.iter().map(|lib| format!("{}={}", lib["kind"], lib["name"]).replace('"', "")).collect();
    libs.extend(manifest["cxx_stdlib"].as_str().map(|name| format!("dylib={name}")));
    let search = format!("native={}", prebuilt.join("lib").display());
    let mut args = vec!["main.rs", "--extern", "sys=libsys.rlib", "-L", &search];
    args.extend(libs.iter().flat_map(|lib| ["-l", lib]));
    compile(&args)
}
