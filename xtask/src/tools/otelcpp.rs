//! opentelemetry-cpp where the machine has none: its sources and its protobuf definitions, pinned in `upstream.toml`, in the
//! cache; CMake builds them along with llama.cpp.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use patcher::tree::digest;

use crate::{
    cache::Slot,
    context::Context,
    progress::Unit,
    sources::fetch,
    upstream::{FILE, Pin, Upstream},
    vendor::copy_tree,
};

/// A library's name in `upstream.toml`, the file by which its folder is known in what the source gives, and the CMake cache
/// entry that takes the folder.
const LIBRARIES: [(&str, &str, &str); 2] = [
    ("opentelemetry-cpp", "sdk/CMakeLists.txt", "OPENTELEMETRY_CPP_SOURCE_DIR"),
    ("opentelemetry-proto", "opentelemetry/proto/trace/v1/trace.proto", "OTELCPP_PROTO_PATH"),
];

/// Gets both into the cache. The CMake cache entries that name them.
///
/// # Errors
/// `upstream.toml` does not pin them; a source cannot be reached, or gave something else; the cache cannot be written.
pub fn provision(context: &Context) -> Result<Vec<(String, String)>> {
    let upstream = Upstream::read(context)?;
    let mut defines = Vec::new();
    for (name, mark, define) in LIBRARIES {
        let pin = upstream.libraries.get(name).with_context(|| {
            format!("{FILE} has no [library.{name}]\nhelp: install opentelemetry-cpp, or name a source folder: -D {define}=DIR")
        })?;
        let dir = ensure(context, name, mark, pin).with_context(|| format!("{name} cannot be had"))?;
        defines.push((define.to_owned(), dir.display().to_string()));
    }
    Ok(defines)
}

fn ensure(context: &Context, name: &str, mark: &str, pin: &Pin) -> Result<PathBuf> {
    let Some(wanted) = &pin.sha256 else {
        bail!("[library.{name}] in {FILE} needs the sha256 of its tree");
    };
    // named by its content, so that what is there is what is wanted
    let dir = context.cache.join("libraries").join(format!("{name}-{}", wanted.get(..16).unwrap_or(wanted)));
    let slot = Slot::lock(&dir, &context.ui)?;
    if dir.join(mark).is_file() {
        return Ok(dir);
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let fetched = fetch(context, &pin.source, scratch.path())?;
    let root = walkdir::WalkDir::new(&fetched)
        .max_depth(2)
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| entry.path().join(mark).is_file())
        .with_context(|| format!("{} holds no {mark}", pin.source))?;
    let phase = context.ui.phase(format!("unpack {name}"), Unit::Steps);
    slot.replace(|new| {
        let files = copy_tree(root.path(), None, new, |done, total| phase.set(done, total))?;
        let found = digest(new).with_context(|| format!("cannot read {}", new.display()))?;
        if found != *wanted {
            bail!(
                "{} is not what {FILE} says\n  expected sha256  {wanted}\n  found            {found}\n\
                 help: if you trust it, write the new one into [library.{name}]",
                pin.source
            );
        }
        phase.finish(format_args!("{files} files"));
        Ok(())
    })?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// An archive with one folder at its top, as forges make them.
    fn archive(dir: &Path) -> PathBuf {
        let file = dir.join("opentelemetry-proto-1.0.tar");
        let mut tar = tar::Builder::new(fs::File::create(&file).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(7);
        header.set_mode(0o644);
        header.set_cksum();
        let path = "opentelemetry-proto-1.0/opentelemetry/proto/trace/v1/trace.proto";
        tar.append_data(&mut header, path, &b"syntax;"[..]).unwrap();
        tar.finish().unwrap();
        file
    }

    #[test]
    fn an_archive_is_taken_if_its_tree_is_the_pinned_one() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().into(), cache: dir.path().into(), ui: crate::progress::Ui::new(true) };
        let (name, mark, _) = LIBRARIES[1];
        let source =
            crate::upstream::Source::Archive { url: None, file: Some(archive(dir.path())), sha256: None, subdir: None };
        let pin = |sha256: &str| Pin { source: source.clone(), sha256: Some(sha256.to_owned()) };
        let error = format!("{:#}", ensure(&context, name, mark, &pin(&"0".repeat(64))).unwrap_err());
        let found = error.split("found").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        assert!(error.contains("is not what upstream.toml says"), "{error}");
        let there = ensure(&context, name, mark, &pin(found)).unwrap();
        assert_eq!(fs::read(there.join(mark)).unwrap(), b"syntax;");
    }
}
