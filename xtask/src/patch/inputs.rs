//! What patching works with besides the tree: the points, and the files that become `common/otel/`.

use std::{fs, path::PathBuf};

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

/// The files that become `common/otel/`: headers, the runtime, and their CMake file.
///
/// # Errors
/// One of them cannot be read.
pub fn added_files(context: &Context) -> Result<Vec<AddedFile>> {
    let shim = context.root.join("otel-shim");
    let include = shim.join("include");
    let mut sources = vec![shim.join("cpp/otel.cpp"), shim.join("cmake/CMakeLists.txt")];
    for entry in fs::read_dir(&include).with_context(|| format!("cannot read {}", include.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", include.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            sources.push(path);
        }
    }
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(AddedFile { path: format!("common/otel/{name}"), bytes })
    };
    let mut added = sources.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    added.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(added)
}
