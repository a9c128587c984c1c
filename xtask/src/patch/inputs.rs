//! What patching works with besides the tree: the points, and the files that become `common/otel/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use patcher::{AddedFile, PointSet};

use crate::context::Context;

/// The points of the checkout.
///
/// # Errors
/// All problems of all files at once.
pub fn load_points(context: &Context) -> Result<PointSet> {
    Ok(PointSet::load_dir(&context.root.join("patcher/points"))?)
}

/// What becomes `common/otel/`: folders of otel-shim, the extensions that count in them, and where they go.
const ADDED: &[(&str, &[&str], &str)] = &[
    ("include", &["h"], "common/otel"),
    ("cpp", &["cpp", "h"], "common/otel"),
    ("cmake", &["cmake", "txt"], "common/otel"),
    ("otelcpp", &["cpp", "h", "map"], "common/otel/otelcpp"),
];

/// The one C++ file that sees cxx belongs to the crate.
const NOT_ADDED: &str = "cpp/bridge.cpp";

/// The files that become `common/otel/`: headers, the runtime, the backend upon opentelemetry-cpp, and their CMake files.
///
/// # Errors
/// One of them cannot be read.
pub fn added_files(context: &Context) -> Result<Vec<AddedFile>> {
    read_added(&context.root.join("otel-shim"))
}

/// [`added_files`] out of the folder of otel-shim.
///
/// # Errors
/// One of them cannot be read.
pub fn read_added(shim: &Path) -> Result<Vec<AddedFile>> {
    let mut sources = Vec::new();
    for &(folder, extensions, target) in ADDED {
        let folder = shim.join(folder);
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            let is_known = path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known));
            if is_known && !path.ends_with(NOT_ADDED) {
                sources.push((path, target));
            }
        }
    }
    let read = |(path, target): (PathBuf, &str)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(AddedFile { path: format!("{target}/{name}"), bytes })
    };
    let mut added = sources.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    added.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(added)
}
