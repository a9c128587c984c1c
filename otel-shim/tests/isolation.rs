//! A receiver with a fault, and a program with the Rust backend that exports to it.

mod child;

#[path = "cases/isolation.rs"]
mod cases;

use child::Child;

/// Runs `examples/lifecycle.rs`. Never `None`.
fn lifecycle(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Child> {
    Some(child::run("lifecycle", arguments, variables))
}
