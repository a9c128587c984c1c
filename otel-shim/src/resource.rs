//! What the process is: attached to everything that it exports.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;

use crate::abi::Control;
use crate::registry::SCHEMA_URL;

/// The service (the SDK's part, from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`), llama.cpp, the host, the process.
/// No command line and no folder: both may hold what is private. `service_name` is `OTEL_SERVICE_NAME`'s, which the SDK would
/// let one of `OTEL_RESOURCE_ATTRIBUTES` replace.
pub fn resource(control: &Control, service_name: Option<&str>) -> Resource {
    let [llama, commit, ggml] = control.versions();
    let backends: Vec<StringValue> = control.ggml_backends().map(StringValue::from).collect();
    let mut attributes = vec![
        KeyValue::new("llama.version", llama),
        KeyValue::new("ggml.version", ggml),
        KeyValue::new("ggml.backends", Value::Array(Array::String(backends))),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("host.arch", host_arch()),
        KeyValue::new("os.type", os_type()),
    ];
    attributes.extend(commit_or_pin(commit));
    if control.llama_build_number > 0 {
        attributes.push(KeyValue::new("llama.build.number", control.llama_build_number));
    }
    if let Some(name) = host_name() {
        attributes.push(KeyValue::new("host.name", name));
    }
    let program = std::env::current_exe().ok();
    if let Some(name) = program.as_deref().and_then(|path| path.file_name()) {
        attributes.push(KeyValue::new("process.executable.name", name.to_string_lossy().into_owned()));
    }
    // what the environment says stands
    let given = Resource::builder().build();
    attributes.retain(|attribute| given.get(&attribute.key).is_none());
    let builder = Resource::builder().with_schema_url(attributes, SCHEMA_URL);
    match service_name {
        Some(name) => builder.with_service_name(name.to_owned()).build(),
        None => builder.build(),
    }
}

/// The commit, with or without uncommitted changes; a tree that does not know its own is stamped with what it was
/// obtained from.
fn commit_or_pin(stamped: &'static str) -> Option<KeyValue> {
    let hash = stamped.strip_suffix("-dirty").unwrap_or(stamped);
    let is_commit = hash.len() >= 7 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let key = if is_commit { "llama.commit" } else { "llama.pin" };
    (stamped != "unknown").then(|| KeyValue::new(key, stamped))
}

/// The conventions' names of architectures.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// The conventions' names of systems.
fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    let mut name = [0u8; 256];
    // SAFETY: the buffer is given with its length, less one for the terminator that a cut name lacks.
    let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } == 0;
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    let name = name.get(..length).filter(|name| done && !name.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_from_the_name_of_a_pin() {
        for (stamped, key) in [
            ("9e3b928fd8c9", Some("llama.commit")),
            ("0123456789abcdef0123456789abcdef01234567-dirty", Some("llama.commit")),
            ("llama-cpp-sys-2-0.1.161", Some("llama.pin")),
            ("deadbee-cafe", Some("llama.pin")),
            ("unknown", None),
        ] {
            let found = commit_or_pin(stamped);
            assert_eq!(found.as_ref().map(|pair| pair.key.as_str()), key, "{stamped}");
            assert!(found.is_none_or(|pair| pair.value.as_str() == stamped));
        }
    }
}
