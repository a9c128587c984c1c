//! The forms in which a verb prints its result.

use clap::ValueEnum;

/// How a verb prints its result on standard output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document, for scripts
    Json,
}
