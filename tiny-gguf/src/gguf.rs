//! The GGUF container, version 3, little-endian: header, keys and values, tensor descriptions, tensor data.

use std::{collections::HashSet, fs, path::Path};

use crate::{Error, Tensor};

/// Every tensor's data starts at a multiple of this many bytes.
pub const ALIGNMENT: usize = 32;
const VERSION: u32 = 3;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    String(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Strings(Vec<String>),
}

/// Collects keys and tensors and lays them out as a file. The order of adding is the order in the file.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    keys: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

impl GgufWriter {
    /// A file of the given `general.architecture`.
    pub fn new(architecture: &str) -> Self {
        let mut writer = Self::default();
        writer.key("general.architecture", Value::String(architecture.to_owned()));
        writer
    }

    /// Adds a key.
    pub fn key(&mut self, key: impl Into<String>, value: Value) -> &mut Self {
        self.keys.push((key.into(), value));
        self
    }

    /// Adds numbers under the architecture's own keys: `block_count` of `llama` is `llama.block_count`.
    pub(crate) fn numbers(&mut self, architecture: &str, numbers: &[(&str, u32)]) -> &mut Self {
        for (key, value) in numbers {
            self.key(format!("{architecture}.{key}"), Value::U32(*value));
        }
        self
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, tensor: Tensor) -> &mut Self {
        self.tensors.push(tensor);
        self
    }

    /// Removes a key or tensor of that name; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.keys.len() + self.tensors.len();
        self.keys.retain(|(key, _)| key != name);
        self.tensors.retain(|tensor| tensor.name != name);
        before != self.keys.len() + self.tensors.len()
    }

    /// The whole file.
    ///
    /// # Errors
    /// A key or a tensor is there twice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check_unique()?;
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            put_string(&mut bytes, key);
            put_value(&mut bytes, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut bytes, &tensor.name);
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(tensor.kind.id().to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(ALIGNMENT);
        }
        pad(&mut bytes);
        for tensor in &self.tensors {
            bytes.extend(&tensor.data);
            pad(&mut bytes);
        }
        Ok(bytes)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of [`to_bytes`](Self::to_bytes), and a file that cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        fs::write(path, self.to_bytes()?).map_err(|source| Error::Write { path: path.to_path_buf(), source })
    }

    fn check_unique(&self) -> Result<(), Error> {
        let (mut keys, mut tensors) = (HashSet::new(), HashSet::new());
        let key = self.keys.iter().map(|(key, _)| key).find(|key| !keys.insert(*key));
        let tensor = self.tensors.iter().map(|tensor| &tensor.name).find(|name| !tensors.insert(*name));
        match key.or(tensor) {
            Some(name) => Err(Error::Duplicate(name.clone())),
            None => Ok(()),
        }
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    const ARRAY: u32 = 9;
    let (kind, element, count) = match value {
        Value::U16(_) => (2, None, 0),
        Value::U32(_) => (4, None, 0),
        Value::I32(_) => (5, None, 0),
        Value::F32(_) => (6, None, 0),
        Value::Bool(_) => (7, None, 0),
        Value::String(_) => (8, None, 0),
        Value::U64(_) => (10, None, 0),
        Value::I32s(values) => (ARRAY, Some(5u32), values.len()),
        Value::F32s(values) => (ARRAY, Some(6), values.len()),
        Value::Strings(values) => (ARRAY, Some(8), values.len()),
    };
    bytes.extend(u32::to_le_bytes(kind));
    if let Some(element) = element {
        bytes.extend(element.to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
    }
    match value {
        Value::U16(value) => bytes.extend(value.to_le_bytes()),
        Value::U32(value) => bytes.extend(value.to_le_bytes()),
        Value::I32(value) => bytes.extend(value.to_le_bytes()),
        Value::F32(value) => bytes.extend(value.to_le_bytes()),
        Value::Bool(value) => bytes.push(u8::from(*value)),
        Value::U64(value) => bytes.extend(value.to_le_bytes()),
        Value::String(value) => put_string(bytes, value),
        Value::I32s(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        Value::F32s(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        Value::Strings(values) => values.iter().for_each(|value| put_string(bytes, value)),
    }
}
