//! Verbs whose result needs neither tools nor network: what they refuse, and the generated model.

use std::{fs, path::Path};

use crate::checkout::{Checkout, success};

#[test]
fn an_unknown_backend_lists_those_that_there_are() {
    let checkout = Checkout::new();
    let output = checkout.xtask(["build", "--backend", "abacus"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("`abacus`") && stderr.contains("cpu, cuda"), "{stderr}");
    assert!(!checkout.path().join("vendor").exists() && !checkout.path().join("cache").exists());
}

#[test]
fn the_tiny_model_is_written_and_mended() {
    let checkout = Checkout::new();
    let model = || success(&mut checkout.xtask(["model", "tiny"])).trim_end().to_owned();
    let path = model();
    let path = Path::new(&path);
    assert!(path.starts_with(checkout.path().join("cache/models")), "{}", path.display());
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..4], b"GGUF");
    fs::write(path, "half").unwrap();
    model();
    assert_eq!(fs::read(path).unwrap(), bytes);
}
