//! Writes GGUF model files: any keys and tensors through [`GgufWriter`], in one file or several, and tiny models with
//! random weights through [`TinyModel`] (llama), [`TinyEncoder`] (BERT), [`TinyEncoderDecoder`] (T5), [`TinyRecurrent`]
//! (Mamba) and [`TinyHybrid`] (Jamba), for tests and for a demo that needs no download.
//!
//! The same description gives the same bytes on every system.
//!
//! ```no_run
//! use tiny_gguf::TinyModel;
//!
//! TinyModel::default().write("tiny.gguf")?;
//! # Ok::<(), tiny_gguf::Error>(())
//! ```

mod bert;
mod damage;
mod gguf;
mod jamba;
mod llama;
mod mamba;
mod random;
mod split;
mod t5;
mod tensor;

pub use bert::TinyEncoder;
pub use damage::Damage;
pub use gguf::{ALIGNMENT, GgufWriter, Value};
pub use jamba::TinyHybrid;
pub use llama::{TinyModel, Vocab};
pub use mamba::TinyRecurrent;
pub use random::Weights;
pub use t5::TinyEncoderDecoder;
pub use tensor::{Tensor, TensorType};

use std::{io, path::PathBuf};

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sizes of a model do not fit together.
    #[error("{what} ({value}) must be {rule}")]
    Shape {
        /// Field of the model, or tensor.
        what: String,
        /// What it is.
        value: u64,
        /// What it must be.
        rule: String,
    },
    /// A key or tensor occurs twice.
    #[error("`{0}` is there twice")]
    Duplicate(String),
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
