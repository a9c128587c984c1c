//! `cargo xtask patch`, `export patch` and `point` as a user runs them, in throw-away checkouts with points of their own.

#[allow(dead_code, reason = "shared with the tests of the other verbs")]
#[path = "../cli/checkout.rs"]
mod checkout;
mod export;
mod fork;
mod in_place;
#[cfg(unix)]
mod killed;
mod package;
mod point;
mod real;
mod refused;
mod schema;
