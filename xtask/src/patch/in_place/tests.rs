//! A tree between two steps of a run in place, where a kill leaves it: it compiles, it is taken for what it is, and both
//! ways lead out of it.

use std::{
    collections::HashSet,
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use patcher::{AddedFile, PointSet, Report, Tree, strip::first_mark};

use super::super::{inputs::read_added, plan, source::examine};
use super::*;
use crate::drift::compile;

/// The points of a small tree. The line of the span is another one in each version of them.
const POINTS: &str = r##"
[[point]]
id = "header"
purpose = "macros are seen"
insert = '#include "common/otel/otel.h"'
at = [{ file = "src/llama-impl.h", position = "includes-end" }]

[[point]]
id = "header.ggml"
purpose = "macros are seen"
insert = '#include "common/otel/otel.h"'
at = [{ file = "ggml/src/ggml.cpp", position = "includes-end" }]

[[point]]
id = "log"
purpose = "what is logged"
insert = 'LLAMA_OTEL_SPAN("log");'
at = [{ file = "ggml/src/ggml.cpp", function = "ggml_log", position = "body-start" }]

[[point]]
id = "decode"
purpose = "one batch"
insert = 'LLAMA_OTEL_SPAN_@VERSION@("decode");'
at = [{ file = "src/llama-context.cpp", function = "llama_decode", position = "body-start" }]

[[point]]
id = "graph"
purpose = "one graph"
insert = 'LLAMA_OTEL_SPAN_@VERSION@("graph");'
at = [{ file = "src/llama-graph.cpp", function = "llama_graph", position = "body-start" }]

[[block]]
file = "src/CMakeLists.txt"
text = 'add_subdirectory("../common/otel" "otel")'
"##;

const FILES: [(&str, &str); 6] = [
    ("src/CMakeLists.txt", "add_library(llama llama-context.cpp llama-graph.cpp)\n"),
    ("include/llama.h", "#pragma once\nint llama_decode(int n);\n"),
    ("src/llama-impl.h", "#pragma once\n\n#include \"llama.h\"\n\nint llama_graph(int n);\n"),
    (
        "src/llama-context.cpp",
        "#include \"llama-impl.h\"\n\nint llama_decode(int n) {\n    return llama_graph(n);\n}\n",
    ),
    ("src/llama-graph.cpp", "#include \"llama-impl.h\"\n\nint llama_graph(int n) {\n    return n;\n}\n"),
    (
        "ggml/src/ggml.cpp",
        "#include <string>\n\nint ggml_log(const std::string & text) {\n    return text.empty();\n}\n",
    ),
];

/// Points, and the files that patching adds.
struct Version {
    points: PointSet,
    added: Vec<AddedFile>,
}

/// A version of the points; the header has the macros of the other one too.
fn version(name: &str) -> Version {
    let points = PointSet::parse([("p.toml", POINTS.replace("@VERSION@", name))]).unwrap();
    let macros = ["", "_ONE", "_TWO"].map(|end| format!("#define LLAMA_OTEL_SPAN{end}(name) otel_span(name)\n"));
    let added = [
        ("CMakeLists.txt", "add_library(llama-otel otel.cpp)\n".to_owned()),
        ("otel.cpp", format!("#include \"otel.h\"\n\nvoid otel_span(const char *) {{}} // {name}\n")),
        ("otel.h", format!("#pragma once\n\nvoid otel_span(const char *); // {name}\n{}", macros.concat())),
    ];
    let added = added.map(|(path, text)| AddedFile { path: format!("{ADDED_DIR}{path}"), bytes: text.into_bytes() });
    Version { points, added: added.into() }
}

/// Where a run goes.
#[derive(Clone, Copy)]
enum Way<'a> {
    Patched(&'a Version),
    Pristine,
}

/// The tree as the next run sees it, whichever version of the points that has.
fn seen(root: &Path, version: &Version) -> Source {
    examine(root, "t", &version.points, false).unwrap_or_else(|refused| panic!("{refused}"))
}

/// What `version` makes of the tree, and the steps to it.
fn steps_to(root: &Path, version: &Version) -> (Option<String>, Vec<Step>) {
    let source = seen(root, version);
    let (plan, applied) = plan(&source, &version.points, version.added.clone()).unwrap();
    let changes = Changes::to_patched(&source, &applied).unwrap();
    let difference = changes.difference(&source);
    let report = Report::of_plan(&plan, &applied);
    let stamp = Stamp::new(&source.name, None, &version.points, &plan, &report);
    remove_staged(&source).unwrap();
    (difference, steps_to_patched(&source, changes, &stamp).unwrap())
}

/// Every step of a way, in the presence of what is staged for the later ones, as a kill leaves it. `look` is told how many
/// steps are left.
fn walk(root: &Path, way: Way<'_>, any: &Version, mut look: impl FnMut(usize)) {
    let steps = match way {
        Way::Patched(version) => steps_to(root, version).1,
        Way::Pristine => {
            let source = seen(root, any);
            remove_staged(&source).unwrap();
            steps_to_pristine(&source, Changes::to_pristine(&source)).unwrap()
        }
    };
    let mut left = steps.len();
    look(left);
    for step in steps {
        step.take().unwrap();
        left -= 1;
        look(left);
    }
}

fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = Tree::open(root, "t").and_then(|tree| tree.paths()).unwrap();
    paths.into_iter().map(|path| (path.clone(), fs::read(root.join(&path)).unwrap())).collect()
}

fn copy(files: &BTreeMap<String, Vec<u8>>, to: &Path) {
    for (path, bytes) in files {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A folder by the name that links do not change.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    (dir, root)
}

/// Compiles the sources of trees that hold lines of ours, each content of a source and of all that it can include once.
struct FrontEnd {
    compiler: std::ffi::OsString,
    passed: HashSet<u64>,
}

impl FrontEnd {
    fn find() -> Option<Self> {
        match compile::compiler() {
            Ok(compiler) => Some(FrontEnd { compiler, passed: HashSet::new() }),
            Err(error) => {
                eprintln!("SKIP: {error}");
                None
            }
        }
    }

    /// Asserts that every source compiles that is part of the build, among the files that patching changes or adds.
    fn check(&mut self, root: &Path, files: &BTreeMap<String, Vec<u8>>, changed: &BTreeSet<String>) {
        let ours = |path: &&String| path.starts_with(ADDED_DIR) || changed.contains(*path);
        let built = first_mark(&files["src/CMakeLists.txt"]).is_some();
        let mut headers = DefaultHasher::new();
        let mut sees_lines = false;
        for (path, bytes) in files.iter().filter(|(path, _)| ours(path)) {
            if path.ends_with(".h") {
                (path, bytes).hash(&mut headers);
                sees_lines |= changed.contains(path) && first_mark(bytes).is_some();
            } else if changed.contains(path) && first_mark(bytes).is_some() {
                assert!(built, "{path} has lines of ours, and what they need is not built");
            }
        }
        let headers = headers.finish();
        let mut sources = Vec::new();
        for (path, bytes) in files.iter().filter(|(path, _)| ours(path) && compile::is_checked(Path::new(path))) {
            let is_wanted = if changed.contains(path) { sees_lines || first_mark(bytes).is_some() } else { built };
            let mut hash = DefaultHasher::new();
            (path, bytes, headers).hash(&mut hash);
            if is_wanted && self.passed.insert(hash.finish()) {
                sources.push(PathBuf::from(path));
            }
        }
        let errors = compile::check_all(&self.compiler, root, &sources, 2, |_| ()).unwrap();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn between_two_steps_a_tree_compiles_and_both_ways_lead_out_of_it() {
    let (one, two) = (version("ONE"), version("TWO"));
    let (_dir, root) = folder();
    copy(&FILES.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into(), &root);
    let pristine = contents(&root);
    let changed: BTreeSet<_> = pristine.keys().filter(|path| *path != "include/llama.h").cloned().collect();
    let complete = [&one, &two].map(|version| {
        walk(&root, Way::Patched(version), version, |_| ());
        contents(&root)
    });
    walk(&root, Way::Pristine, &two, |_| ());
    assert_eq!(contents(&root), pristine);

    let mut front_end = FrontEnd::find();
    let mut looked_at = 0;
    for (way, is_there) in [
        (Way::Patched(&one), &complete[0]),
        (Way::Patched(&two), &complete[1]),
        (Way::Pristine, &pristine),
        (Way::Patched(&two), &complete[1]),
        (Way::Patched(&one), &complete[0]),
        (Way::Pristine, &pristine),
    ] {
        walk(&root, way, &one, |left| {
            let found = contents(&root);
            let mut settled = found.clone();
            settled.retain(|path, _| !path.ends_with(STAGED.1));
            front_end.iter_mut().for_each(|front_end| front_end.check(&root, &found, &changed));
            // A later run of either version takes it for what it is, and makes what it should of it, or upstream's tree.
            for (version, complete) in [&one, &two].into_iter().zip(&complete) {
                let (_dir, copied) = folder();
                copy(&found, &copied);
                let (difference, steps) = steps_to(&copied, version);
                assert_eq!(difference.is_none(), settled == *complete, "{difference:?}, {left} steps left");
                steps.into_iter().try_for_each(Step::take).unwrap();
                assert!(contents(&copied) == *complete, "{left} steps left");
            }
            let (_dir, copied) = folder();
            copy(&found, &copied);
            walk(&copied, Way::Pristine, &two, |_| ());
            assert!(contents(&copied) == pristine, "{left} steps left");
            looked_at += 1;
        });
        assert_eq!(contents(&root), *is_there);
    }
    assert!(looked_at > 6 * 6, "{looked_at}");
}

/// The checkout's own points on the tree that `LLAMA_OTEL_SRC` names.
#[test]
fn between_two_steps_a_real_tree_compiles() {
    let Some(src) = env::var_os("LLAMA_OTEL_SRC") else {
        eprintln!("SKIP: LLAMA_OTEL_SRC names no llama.cpp tree");
        return;
    };
    let Some(mut front_end) = FrontEnd::find() else { return };
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let points = PointSet::load_dir(&checkout.join("patcher/points")).unwrap();
    let version = Version { points, added: read_added(&checkout.join("otel-shim")).unwrap() };
    let (_dir, root) = folder();
    let nothing = Applied { files: BTreeMap::new() };
    compile::write(Path::new(&src), &nothing, &root, compile::is_needed).unwrap();
    compile::stub_generated(&root).unwrap();
    let pristine = contents(&root);
    let source = seen(&root, &version);
    let (plan, _) = plan(&source, &version.points, version.added.clone()).unwrap();
    let changed: BTreeSet<_> = plan.files.keys().cloned().collect();
    for way in [Way::Patched(&version), Way::Pristine] {
        walk(&root, way, &version, |_| {
            seen(&root, &version);
            front_end.check(&root, &contents(&root), &changed);
        });
    }
    assert!(contents(&root) == pristine);
    eprintln!("{} sources compiled", front_end.passed.len());
}
