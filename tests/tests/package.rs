//! The crate that `cargo xtask package` made: a program on it, built outside of the workspace, is instrumented; its bill of
//! materials is complete and valid; its patches make its llama.cpp out of upstream's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use llama_otel_tests::{number, prepared};
use otlp_receiver::Receiver;
use serde_json::{Value, json};

/// The parent that the program gives.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// What `package.json` says, and the crate's folder.
fn package() -> (Value, PathBuf) {
    let dir = prepared("LLAMA_OTEL_PACKAGE");
    let manifest: Value = serde_json::from_slice(&fs::read(dir.join("package.json")).unwrap()).unwrap();
    let folder = dir.join(manifest["name"].as_str().unwrap());
    (manifest, folder)
}

fn sbom() -> Value {
    serde_json::from_slice(&fs::read(package().1.join("sbom.cdx.json")).unwrap()).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Every file below `dir`, as paths with `/`.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let path = |path: &Path| path.strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/");
    entries.map(|entry| (path(entry.path()), fs::read(entry.path()).unwrap())).collect()
}

/// The program on the unpacked crate, which decodes so many tokens.
fn decode(n: &str, receiver: &Receiver, variables: &[(&str, &str)]) -> Output {
    Command::new(prepared("LLAMA_OTEL_PACKAGE_PROGRAM"))
        .arg(prepared("LLAMA_OTEL_TINY"))
        .arg(n)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint())
        .envs(variables.iter().copied())
        .output()
        .expect("the program that `cargo xtask test` built")
}

#[test]
fn a_program_on_the_unpacked_crate_is_instrumented() {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let out = decode("9", &receiver, &[]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), "9");
    let pin = package().0["pin"].as_str().unwrap().to_owned();
    assert!(stderr.contains(&format!("{pin})")) && stderr.contains("telemetry: rust"), "{stderr}");
    assert!(stderr.contains("llama-otel: instrumented, ABI "), "{stderr}");

    let telemetry = receiver.stop();
    assert_eq!(telemetry.spans_named("llama_model_load").len(), 1);
    assert_eq!(telemetry.spans_named("llama_sample_token").len(), 9);
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes.len(), 9);
    assert!(decodes.iter().all(|span| number(span, "llama.batch.n_tokens") == 1.0));
    assert!(telemetry.spans.iter().filter(|span| span.name != "llama_backend_init").all(|span| span.trace_id == TRACE));
    assert_eq!(telemetry.metric("llama.decode.duration").expect("a metric").count(), 9);
}

#[test]
fn without_a_variable_it_exports_nothing() {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let out = decode("3", &receiver, &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), "3", "{}", String::from_utf8_lossy(&out.stderr));
    assert!(receiver.requests().is_empty());
}

#[test]
fn the_archive_is_small_enough_and_says_what_it_is() {
    let (manifest, folder) = package();
    assert!(manifest["bytes"].as_u64().unwrap() < 10 << 20, "registries take 10 MiB: {manifest}");
    let cargo = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(cargo.contains(&format!("license = \"{}\"", text(&manifest["license"]))), "{cargo}");
    assert!(!cargo.contains("path = \"..") && !cargo.contains("publish = false"), "{cargo}");
    // Nothing of this machine is in a text that this project wrote.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_str().unwrap().to_owned();
    for (path, bytes) in files(&folder) {
        let found = bytes.windows(root.len()).any(|window| window == root.as_bytes());
        assert!(!found, "{path} names {root}");
    }
}

/// A crate of `Cargo.lock`: its name, version and checksum.
type Locked = (String, String, String);

/// The crates of the lock, each with the names of what it needs.
fn locked(folder: &Path, but: &str) -> BTreeMap<Locked, Vec<String>> {
    let lock = fs::read_to_string(folder.join("Cargo.lock")).unwrap();
    let mut locked = BTreeMap::new();
    for entry in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let start = format!("{key} = \"");
            entry.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('"').map(str::to_owned))
        };
        let (name, version) = (value("name").unwrap(), value("version").unwrap());
        if name == but {
            continue;
        }
        // ` "name",` or ` "name version",`
        let needs = entry.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\",")?.split(' ').next());
        let checksum = value("checksum").expect("a crate of a registry");
        locked.insert((name, version, checksum), needs.map(str::to_owned).collect());
    }
    locked
}

#[test]
fn every_crate_of_the_lock_is_a_component_and_nothing_else() {
    let (manifest, folder) = package();
    let locked = locked(&folder, text(&manifest["name"]));
    let sbom = sbom();
    let components = list(&sbom["components"]).filter(|component| component["bom-ref"] != "llama.cpp");
    let listed: BTreeSet<Locked> = components
        .map(|component| {
            let purl = text(&component["purl"]);
            assert!(purl.starts_with("pkg:cargo/"), "{purl}");
            assert!(list(&component["licenses"]).next().is_some(), "{component}");
            assert_eq!(component["hashes"][0]["alg"], "SHA-256");
            let [name, version] = ["name", "version"].map(|key| text(&component[key]).to_owned());
            (name, version, text(&component["hashes"][0]["content"]).to_owned())
        })
        .collect();
    assert!(listed.len() > 100, "{}", listed.len());
    for krate in &listed {
        assert!(locked.contains_key(krate), "{krate:?} is not in Cargo.lock");
    }
    // cxx keeps its command line tool at its own version by needing it under `cfg(any())`, which holds on no system.
    let left_out: BTreeSet<&String> =
        locked.keys().filter(|krate| !listed.contains(*krate)).map(|krate| &krate.0).collect();
    for krate in &listed {
        for need in locked[krate].iter().filter(|need| left_out.contains(need)) {
            assert_eq!((krate.0.as_str(), need.as_str()), ("cxx", "cxxbridge-cmd"), "a component is missing");
        }
    }
}

#[test]
fn dependencies_name_components_and_begin_at_the_crate() {
    let sbom = sbom();
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let main = &sbom["metadata"]["component"];
    let mut references = BTreeSet::from([text(&main["bom-ref"])]);
    for component in list(&main["components"]).chain(list(&sbom["components"])) {
        references.insert(text(&component["bom-ref"]));
        references.extend(list(&component["components"]).map(|part| text(&part["bom-ref"])));
    }
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in list(&sbom["dependencies"]) {
        edges.insert(text(&entry["ref"]), list(&entry["dependsOn"]).map(text).collect());
    }
    let (mut reached, mut pending) = (BTreeSet::new(), vec![text(&main["bom-ref"])]);
    while let Some(reference) = pending.pop() {
        assert!(references.contains(reference), "{reference} is no component");
        if reached.insert(reference) {
            pending.extend(edges.get(reference).into_iter().flatten());
        }
    }
    assert_eq!(reached, references, "what nothing depends on has no place in it");
}

#[test]
fn llama_cpp_says_what_it_is_descended_from() {
    let (manifest, folder) = package();
    let sbom = sbom();
    let llama = list(&sbom["components"]).find(|component| component["name"] == "llama.cpp").unwrap();
    assert_eq!(llama["modified"], json!(true));
    let pedigree = &llama["pedigree"];
    let ancestors: Vec<_> = list(&pedigree["ancestors"]).map(|ancestor| text(&ancestor["purl"])).collect();
    assert!(ancestors[0].starts_with("pkg:github/ggml-org/llama.cpp"), "{ancestors:?}");
    let (name, version) = text(&manifest["pin"]).rsplit_once('-').unwrap();
    assert_eq!(ancestors[1], format!("pkg:cargo/{name}@{version}"));
    let mut points = BTreeSet::new();
    for patch in list(&pedigree["patches"]) {
        assert_eq!(patch["type"], "unofficial");
        assert!(folder.join(text(&patch["diff"]["url"])).is_file(), "{patch}");
        points.extend(list(&patch["resolves"]).map(|issue| text(&issue["name"])));
    }
    for point in ["decode.span", "decode.batch"] {
        assert!(points.contains(point), "{point} of {points:?}");
    }
    let parts = list(&llama["components"]).map(|part| text(&part["name"])).collect::<Vec<_>>();
    assert!(parts.contains(&"ggml"), "{parts:?}");
    let notice = fs::read_to_string(folder.join("NOTICE")).unwrap();
    for part in list(&llama["components"]) {
        assert!(folder.join(text(&part["properties"][0]["value"])).is_dir(), "{part}");
        assert!(notice.contains(text(&part["name"])), "{part}");
    }
}

#[test]
fn the_patches_make_its_llama_cpp_of_upstream_s() {
    let (_, folder) = package();
    let packaged = files(&folder.join("llama.cpp"));
    let src = prepared("LLAMA_OTEL_SRC");
    let dir = tempfile::tempdir().unwrap();
    for path in packaged.keys().filter(|path| src.join(path).is_file()) {
        let to = dir.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, fs::read(src.join(path)).unwrap()).unwrap();
    }
    let pristine = files(dir.path());
    assert_ne!(pristine, packaged);
    let patches: Vec<PathBuf> = {
        let mut paths: Vec<_> =
            fs::read_dir(folder.join("patches")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let out = Command::new("git")
        .current_dir(dir.path())
        .args(["-c", "core.autocrlf=false", "apply", "--whitespace=nowarn"])
        .args(&patches)
        .env("GIT_CEILING_DIRECTORIES", dir.path().parent().unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let patched = files(dir.path());
    let paths = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&patched), paths(&packaged));
    for (path, bytes) in &packaged {
        assert!(patched[path] == *bytes, "{path} differs");
    }
}

/// The schemas of the standard itself, by another program than the one that wrote the document.
#[test]
fn cyclonedx_s_own_validator_accepts_it() {
    let Some(python) = std::env::var_os("LLAMA_OTEL_CYCLONEDX") else {
        let why =
            std::env::var("LLAMA_OTEL_NO_CYCLONEDX").unwrap_or_else(|_| "LLAMA_OTEL_CYCLONEDX is not set".to_owned());
        println!("SKIP: {why}");
        return;
    };
    const PROGRAM: &str = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        text = open(sys.argv[1], encoding='utf-8').read()\n\
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)\n\
        print(error if error is None else repr(error)[:2000])\n";
    let validate = |path: &Path| {
        let out = Command::new(&python).args(["-c", PROGRAM]).arg(path).output().expect("the Python of the cache");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(validate(&package().1.join("sbom.cdx.json")), "None");
    // It does find faults.
    let dir = tempfile::tempdir().unwrap();
    let mut faulty = sbom();
    faulty["components"][0]["pedigree"]["patches"][0]["type"] = json!("official");
    let path = dir.path().join("faulty.cdx.json");
    fs::write(&path, serde_json::to_vec(&faulty).unwrap()).unwrap();
    assert!(validate(&path).contains("official"), "{}", validate(&path));
}
