//! The xtask program as a user runs it, in throw-away checkouts.

#[cfg(unix)]
mod builds;
mod checkout;
mod drift;
mod sources;
#[cfg(unix)]
mod tools;
mod vendor;
mod verbs;
