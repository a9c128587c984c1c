//! The xtask program as a user runs it, in throw-away checkouts.

mod checkout;
mod drift;
mod sources;
#[cfg(unix)]
mod tools;
mod vendor;
mod verbs;
