//! One model in several files, as `gguf-split` leaves it: the first has all keys, each has some of the tensors.

use std::path::{Path, PathBuf};

use crate::{Error, GgufWriter, Value};

impl GgufWriter {
    /// Writes the model as `n` files, `PREFIX-00001-of-0000n.gguf` and so on, and returns their paths in order.
    ///
    /// # Errors
    /// `n` is 0 or larger than the number of tensors; a key is there twice; a file cannot be written.
    pub fn write_split(&self, folder: impl AsRef<Path>, prefix: &str, n: u16) -> Result<Vec<PathBuf>, Error> {
        let total = self.tensors.len();
        if n == 0 || usize::from(n) > total {
            let rule = format!("from 1 to the number of tensors ({total})");
            return Err(Error::Shape { what: "number of files".to_owned(), value: n.into(), rule });
        }
        let mut paths = Vec::new();
        let first = |i: u16| usize::from(i) * total / usize::from(n);
        for i in 0..n {
            let mut part = if i == 0 { self.clone() } else { GgufWriter::default() };
            part.tensors = self.tensors[first(i)..first(i + 1)].to_vec();
            part.key("split.no", Value::U16(i))
                .key("split.count", Value::U16(n))
                .key("split.tensors.count", Value::I32(i32::try_from(total).unwrap_or(i32::MAX)));
            let path = folder.as_ref().join(format!("{prefix}-{:05}-of-{n:05}.gguf", i + 1));
            part.write(&path)?;
            paths.push(path);
        }
        Ok(paths)
    }
}
