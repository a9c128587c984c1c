//! What people and programs read: the JSON report, the unified difference, the index of points.

use patcher::{AddedFile, PointSet, Report, Tree, index_markdown, unified_diff};

const POINTS: &str = r#"
[[point]]
id = "decode.span"
purpose = "a test"
insert = 'LLAMA_OTEL_SPAN({batch}.n);'
at = [{ file = "a.cpp", function = "decode", params = { batch = "batch" }, position = "body-start" }]

[[point]]
id = "decode.return"
purpose = "a test"
insert = 'LLAMA_OTEL_STATUS(1);'
at = [{ file = "a.cpp", function = "decode", position = "before", match = '^return (a|b)' }]
absent = [{ file = "a.cpp", function = "encode", missing = true, reason = "not in this era" }]

[[block]]
file = "CMakeLists.txt"
text = "add_subdirectory(otel)"
"#;

fn points() -> PointSet {
    PointSet::parse([("p.toml", POINTS)]).unwrap()
}

fn tree(code: &str) -> Tree {
    Tree::from_files("t", [("a.cpp".to_owned(), code), ("CMakeLists.txt".to_owned(), "project(x)\n")])
}

fn added() -> Vec<AddedFile> {
    vec![AddedFile { path: "common/otel/otel.h".to_owned(), bytes: b"#pragma once\n".to_vec() }]
}

const CODE: &str = "int decode(const batch & b) {\n    return 0;\n}\n";

#[test]
fn the_json_report_has_a_verdict_for_each_point_and_both_hashes_of_each_file() {
    let tree = tree(CODE);
    let (plan, applied) = patcher::patch(&tree, &points(), added()).unwrap();
    let json = serde_json::to_value(Report::of_plan(&plan, &applied)).unwrap();
    assert_eq!(json["tree"], "t");
    assert_eq!(json["ok"], true);
    let first = &json["points"][0];
    assert_eq!(
        (&first["id"], &first["verdict"], &first["alternate"]),
        (&"decode.span".into(), &"placed".into(), &0.into())
    );
    assert_eq!((&first["file"], &first["line"], &first["function"]), (&"a.cpp".into(), &1.into(), &"decode".into()));
    assert_eq!(first["sites"][0]["inserted"], "LLAMA_OTEL_SPAN(b.n);");
    assert_eq!(
        (&json["points"][1]["verdict"], &json["points"][1]["reason"]),
        (&"absent".into(), &"not in this era".into())
    );
    let files = json["files"].as_array().unwrap();
    assert_eq!(
        files.iter().map(|f| f["path"].as_str().unwrap()).collect::<Vec<_>>(),
        ["CMakeLists.txt", "a.cpp", "common/otel/otel.h"]
    );
    assert_eq!(files[1]["before"], patcher::tree::sha256(CODE.as_bytes()));
    assert_eq!(files[2]["before"], serde_json::Value::Null);
}

#[test]
fn a_failed_plan_reports_every_point_as_well() {
    let errors = patcher::plan(&tree("int encode() {\n    return 0;\n}\n"), &points(), added()).unwrap_err();
    let json = serde_json::to_value(Report::of_errors(&errors)).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["points"][0]["verdict"], "lost");
    assert_eq!(json["points"][1]["verdict"], "lost");
    assert_eq!(json["points"][0]["tried"][0]["why"], "no such function");
}

#[test]
fn the_difference_is_one_that_patch_takes() {
    let tree = tree(CODE);
    let (_, applied) = patcher::patch(&tree, &points(), added()).unwrap();
    let plain = unified_diff(&tree, &applied, false).unwrap();
    let wanted = "\
--- a/CMakeLists.txt
+++ b/CMakeLists.txt
@@ -1 +1,4 @@
 project(x)
+# >>> llama-otel
+add_subdirectory(otel)
+# <<< llama-otel
--- a/a.cpp
+++ b/a.cpp
@@ -1,3 +1,4 @@
 int decode(const batch & b) {
+    LLAMA_OTEL_SPAN(b.n);
     return 0;
 }
--- /dev/null
+++ b/common/otel/otel.h
@@ -0,0 +1 @@
+#pragma once
";
    assert_eq!(plain, wanted);
    let coloured = unified_diff(&tree, &applied, true).unwrap();
    assert!(coloured.contains("\u{1b}[32m+    LLAMA_OTEL_SPAN(b.n);"));
}

#[test]
fn the_index_has_one_row_for_each_point() {
    let index = index_markdown(&points());
    assert!(
        index.contains("| `decode.span` | a.cpp | `decode(batch)` | body-start | `LLAMA_OTEL_SPAN({batch}.n);` |"),
        "{index}"
    );
    assert!(
        index.contains("| `decode.return` | a.cpp | `decode` | before `^return (a\\|b)` | `LLAMA_OTEL_STATUS(1);` |"),
        "{index}"
    );
    assert!(index.contains("Appended to `CMakeLists.txt`"));
}

#[test]
fn a_plan_is_not_applied_to_a_tree_that_changed() {
    let plan = patcher::plan(&tree(CODE), &points(), added()).unwrap();
    let error = plan.apply(&tree("int decode(batch b) {\n    return 1;\n}\n")).unwrap_err();
    assert!(error.to_string().starts_with("a.cpp: has changed since the plan was made"), "{error}");
}
