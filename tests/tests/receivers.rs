//! Receivers that we did not write accept what we send.

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_otel_tests::{Program, arguments, prepared, run};
use otlp_receiver::Receiver;

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `OTELCOL`, the `PATH`, or the folder of tools that may stand beside the checkout.
fn collector() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/tools/otelcol"));
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    std::env::var_os("OTELCOL")
        .map(PathBuf::from)
        .into_iter()
        .chain(on_path.map(|dir| dir.join("otelcol")))
        .chain([beside])
        .find(|path| path.is_file())
}

#[test]
fn an_opentelemetry_collector_forwards_every_span() {
    let Some(collector) = collector() else {
        println!("SKIP: no OpenTelemetry Collector (set OTELCOL to its executable)");
        return;
    };
    let sink = Receiver::start().unwrap();
    let (http, grpc) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(
        &config,
        format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{http}'}}, grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}\n\
             exporters: {{otlp_http: {{endpoint: '{}', compression: gzip}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    traces: {{receivers: [otlp], exporters: [otlp_http]}}\n    metrics: {{receivers: [otlp], exporters: [otlp_http]}}\n",
            sink.http_endpoint()
        ),
    )
    .unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let _collector = Stopped(
        Command::new(collector).arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn().unwrap(),
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", http)).is_err() {
        let mut text = String::new();
        std::fs::File::open(folder.path().join("log")).unwrap().read_to_string(&mut text).unwrap();
        assert!(Instant::now() < deadline, "the collector does not listen: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }

    for (endpoint, protocol) in
        [(format!("http://127.0.0.1:{http}"), "http/protobuf"), (format!("http://127.0.0.1:{grpc}"), "grpc")]
    {
        sink.clear();
        let run = run(
            Program::Instrumented,
            &arguments(&prepared("LLAMA_OTEL_TINY"), &["--n-predict", "10"]),
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("LLAMA_OTEL_DETAIL", "decode"),
            ],
        );
        let n_decodes = 1 + run.done()["n_decoded"].as_u64().unwrap();
        let arrived = sink.wait_until(Duration::from_secs(20), |telemetry| {
            telemetry.spans_named("llama_decode").len() as u64 == n_decodes
                && telemetry.metric("llama.token.count").is_some()
        });
        assert!(arrived, "{protocol}: {} of {n_decodes} decodes", sink.snapshot().spans_named("llama_decode").len());
    }
}
