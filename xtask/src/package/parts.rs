//! What the package contains besides the work of this project's authors: llama.cpp and what llama.cpp took from elsewhere, each
//! with its licence. A licence that a packaged file names and this table does not know is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use regex::Regex;

/// Something of other authors.
pub struct Part {
    pub name: &'static str,
    /// A folder of the tree; it is in the package if a file of it is.
    pub folder: &'static str,
    /// An SPDX expression; `None` for what is in the public domain.
    pub license: Option<&'static str>,
    /// The file of the tree that has the licence's text.
    pub text: &'static str,
    pub authors: &'static str,
    /// Package URL without a version.
    pub purl: &'static str,
    /// The file that says the version, and how: each group is a number.
    version: Option<(&'static str, &'static str)>,
}

/// Everything that llama.cpp has, or had in one of its trees.
const PARTS: &[Part] = &[
    Part {
        name: "ggml",
        folder: "ggml",
        license: Some("MIT"),
        text: "LICENSE",
        authors: "The ggml authors",
        purl: "pkg:github/ggml-org/ggml",
        version: Some((
            "ggml/CMakeLists.txt",
            r"(?s)GGML_VERSION_MAJOR (\d+)\).*GGML_VERSION_MINOR (\d+)\).*GGML_VERSION_PATCH (\d+)\)",
        )),
    },
    Part {
        name: "llamafile sgemm",
        folder: "ggml/src/ggml-cpu/llamafile",
        license: Some("MIT"),
        text: "ggml/src/ggml-cpu/llamafile/sgemm.cpp",
        authors: "Mozilla Foundation",
        purl: "pkg:github/mozilla-ai/llamafile",
        version: None,
    },
    Part {
        name: "SYCL backend and DPCT helpers",
        folder: "ggml/src/ggml-sycl",
        license: Some("MIT AND Apache-2.0 WITH LLVM-exception"),
        text: "ggml/src/ggml-sycl/common.hpp",
        authors: "Intel Corporation, the LLVM Project",
        purl: "pkg:github/oneapi-src/syclomatic",
        version: None,
    },
    Part {
        name: "xxHash",
        folder: "vendor/hash/xxhash",
        license: Some("BSD-2-Clause"),
        text: "vendor/hash/xxhash/LICENSE",
        authors: "Yann Collet",
        purl: "pkg:github/cyan4973/xxhash",
        version: Some((
            "vendor/hash/xxhash/xxhash.h",
            r"(?s)XXH_VERSION_MAJOR +(\d+)\n.*XXH_VERSION_MINOR +(\d+)\n.*XXH_VERSION_RELEASE +(\d+)\n",
        )),
    },
    Part {
        name: "rotate-bits.h",
        folder: "vendor/hash/rotate-bits",
        license: Some("MIT"),
        text: "vendor/hash/rotate-bits/LICENSE.md",
        authors: "William Casarin",
        purl: "pkg:github/jb55/rotate-bits.h",
        version: None,
    },
    Part {
        name: "SHA-1 in C",
        folder: "vendor/hash/sha1",
        license: None,
        text: "vendor/hash/sha1/sha1.c",
        authors: "Steve Reid",
        purl: "pkg:github/clibs/sha1",
        version: None,
    },
    Part {
        name: "Sha256.c",
        folder: "vendor/hash/sha256",
        license: None,
        text: "vendor/hash/sha256/LICENSE",
        authors: "Igor Pavlov",
        purl: "pkg:github/jb55/sha256.c",
        version: None,
    },
    Part {
        name: "nlohmann json",
        folder: "vendor/nlohmann",
        license: Some("MIT"),
        text: "vendor/nlohmann/json.hpp",
        authors: "Niels Lohmann",
        purl: "pkg:github/nlohmann/json",
        version: Some((
            "vendor/nlohmann/json.hpp",
            r"(?s)NLOHMANN_JSON_VERSION_MAJOR (\d+) .*NLOHMANN_JSON_VERSION_MINOR (\d+) .*NLOHMANN_JSON_VERSION_PATCH (\d+) ",
        )),
    },
    Part {
        name: "cpp-httplib",
        folder: "vendor/cpp-httplib",
        license: Some("MIT"),
        text: "vendor/cpp-httplib/LICENSE",
        authors: "Yuji Hirose",
        purl: "pkg:github/yhirose/cpp-httplib",
        version: Some(("vendor/cpp-httplib/httplib.h", r#"CPPHTTPLIB_VERSION "(\d+)\.(\d+)\.(\d+)""#)),
    },
    Part {
        name: "miniaudio",
        folder: "vendor/miniaudio",
        license: Some("Unlicense OR MIT-0"),
        text: "vendor/miniaudio/miniaudio.h",
        authors: "David Reid",
        purl: "pkg:github/mackron/miniaudio",
        version: Some((
            "vendor/miniaudio/miniaudio.h",
            r"(?s)MA_VERSION_MAJOR +(\d+)\n.*MA_VERSION_MINOR +(\d+)\n.*MA_VERSION_REVISION +(\d+)\n",
        )),
    },
    Part {
        name: "stb",
        folder: "vendor/stb",
        license: Some("MIT OR Unlicense"),
        text: "vendor/stb/stb_image.h",
        authors: "Sean Barrett",
        purl: "pkg:github/nothings/stb",
        version: None,
    },
    Part {
        name: "subprocess.h",
        folder: "vendor/sheredom",
        license: Some("Unlicense"),
        text: "vendor/sheredom/subprocess.h",
        authors: "Neil Henning",
        purl: "pkg:github/sheredom/subprocess.h",
        version: None,
    },
];

/// llama.cpp's own licence, which is also that of every file that names none.
pub const LLAMA_CPP: &str = "MIT";

/// A part that is in the package.
pub struct Contained {
    pub part: &'static Part,
    pub version: Option<String>,
}

/// Which parts the chosen files of `root` belong to.
///
/// # Errors
/// A file cannot be read; one names a licence that no part has; a folder of a third party is in no part.
pub fn contained(root: &Path, chosen: &BTreeSet<String>) -> Result<Vec<Contained>> {
    let mut parts = Vec::new();
    for part in PARTS {
        let is_of = |path: &&String| is_in(path, part.folder) && !path.ends_with("CMakeLists.txt");
        if chosen.iter().any(|path| is_of(&path)) {
            if !chosen.contains(part.text) {
                bail!(
                    "the licence of {} is to be in {}, which is not there\nhelp: mend xtask/src/package/parts.rs",
                    part.name,
                    part.text
                );
            }
            parts.push(Contained { part, version: version(root, part)? });
        }
    }
    check_licences(root, chosen, &parts)?;
    for path in chosen.iter().filter(|path| is_in(path, "vendor/") && !path.ends_with("CMakeLists.txt")) {
        // What glues llama.cpp to a library is llama.cpp's own.
        let is_glue = path.split('/').count() == 3;
        if !is_glue && !parts.iter().any(|contained| is_in(path, contained.part.folder)) {
            bail!(
                "{path} belongs to no known third party\nhelp: add it to xtask/src/package/parts.rs, with its licence"
            );
        }
    }
    Ok(parts)
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || folder.ends_with('/'))
}

fn version(root: &Path, part: &Part) -> Result<Option<String>> {
    let Some((file, pattern)) = part.version else { return Ok(None) };
    let path = root.join(file);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let found = Regex::new(pattern)?.captures(&text).map(|groups| {
        let numbers = groups.iter().skip(1).flatten().map(|group| group.as_str().to_owned());
        numbers.collect::<Vec<_>>().join(".")
    });
    Ok(found)
}

fn check_licences(root: &Path, chosen: &BTreeSet<String>, parts: &[Contained]) -> Result<()> {
    let named = regex::bytes::Regex::new(r"SPDX-License-Identifier:[ \t]*([^\r\n*]+)")?;
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    for path in chosen {
        let file = root.join(path);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for found in named.captures_iter(&bytes) {
            let license =
                String::from_utf8_lossy(found.get(1).map_or(&[][..], |group| group.as_bytes())).trim().to_owned();
            let of_part = |contained: &&Contained| is_in(path, contained.part.folder);
            let is_known = license == LLAMA_CPP
                || parts.iter().filter(of_part).any(|contained| {
                    contained.part.license.is_some_and(|all| all.split(" AND ").any(|one| one == license))
                });
            if !is_known {
                unknown.insert(license, path.clone());
            }
        }
    }
    if let Some((license, path)) = unknown.first_key_value() {
        bail!("{path} is under {license}, which is not known of it\nhelp: add it to xtask/src/package/parts.rs");
    }
    Ok(())
}

/// The licence of the package: ours, llama.cpp's, and every other that a part of it is under.
pub fn expression(own: &str, parts: &[Contained]) -> String {
    let mut terms: BTreeSet<String> = BTreeSet::from([LLAMA_CPP.to_owned()]);
    for license in parts.iter().filter_map(|contained| contained.part.license) {
        match license.contains(" OR ") {
            true => drop(terms.insert(format!("({license})"))),
            false => terms.extend(license.split(" AND ").map(str::to_owned)),
        }
    }
    let own = if own.contains(" OR ") { format!("({own})") } else { own.to_owned() };
    std::iter::once(own).chain(terms).collect::<Vec<_>>().join(" AND ")
}

/// The package's notice: who has what in it, and where the licences stand.
pub fn notice(name: &str, own: &str, parts: &[Contained]) -> String {
    let mut text = format!(
        "{name}\nCopyright (c) The llama-otel authors\n{own}: LICENSE-MIT, LICENSE-APACHE\n\n\
         llama.cpp, in the folder llama.cpp, changed as the folder patches says\nCopyright (c) The ggml authors\n\
         {LLAMA_CPP}: llama.cpp/LICENSE\n"
    );
    for Contained { part, version } in parts {
        let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let license = part.license.unwrap_or("Public domain");
        text += &format!(
            "\n{}{version}, in llama.cpp/{}\n{}\n{license}: llama.cpp/{}\n",
            part.name, part.folder, part.authors, part.text
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) -> String {
        crate::files::write(&root.join(path), text).unwrap();
        path.to_owned()
    }

    #[test]
    fn what_is_packaged_decides_about_the_licence() {
        let dir = tempfile::tempdir().unwrap();
        let cmake = "set(GGML_VERSION_MAJOR 0)\nset(GGML_VERSION_MINOR 26)\nset(GGML_VERSION_PATCH 1)\n";
        let chosen = BTreeSet::from([
            write(dir.path(), "ggml/CMakeLists.txt", cmake),
            write(dir.path(), "ggml/src/ggml.c", "// SPDX-License-Identifier: MIT\n"),
            write(dir.path(), "vendor/hash/hash.cpp", ""),
            write(dir.path(), "vendor/hash/xxhash/xxhash.h", ""),
            write(dir.path(), "vendor/hash/xxhash/LICENSE", ""),
            write(dir.path(), "LICENSE", ""),
            write(dir.path(), "vendor/stb/CMakeLists.txt", ""),
        ]);
        let parts = contained(dir.path(), &chosen).unwrap();
        let names: Vec<_> = parts.iter().map(|contained| (contained.part.name, contained.version.as_deref())).collect();
        assert_eq!(names, [("ggml", Some("0.26.1")), ("xxHash", None)]);
        assert_eq!(expression("MIT OR Apache-2.0", &parts), "(MIT OR Apache-2.0) AND BSD-2-Clause AND MIT");
    }

    #[test]
    fn an_unknown_licence_or_third_party_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "src/a.cpp", "/* SPDX-License-Identifier: GPL-3.0-only */");
        let error = contained(dir.path(), &BTreeSet::from([path])).err().unwrap().to_string();
        assert!(error.contains("src/a.cpp is under GPL-3.0-only"), "{error}");
        let path = write(dir.path(), "vendor/new/lib/a.c", "");
        let error = contained(dir.path(), &BTreeSet::from([path])).err().unwrap().to_string();
        assert!(error.contains("vendor/new/lib/a.c belongs to no known third party"), "{error}");
    }
}
