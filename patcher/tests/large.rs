//! A file of ten megabytes, many times the largest of llama.cpp's: the line goes where it belongs, and comes out again.

use std::fmt::Write as _;
use std::path::Path;

use patcher::{PointSet, Tree, strip_file};

const BYTES: usize = 10_000_000;

const POINTS: &str = r#"
[[point]]
id = "large.span"
purpose = "a test"
insert = 'LLAMA_OTEL_SPAN({n});'
at = [{ file = "large.cpp", function = "large::wanted", params = { n = "int" }, position = "body-start" }]

[[point]]
id = "large.return"
purpose = "a test"
insert = 'LLAMA_OTEL_STATUS();'
at = [{ file = "large.cpp", function = "large::wanted", position = "before", match = '^return total;' }]
"#;

/// Functions of a namespace, a table as generated code has them, and the wanted function in the midst of them. Each of
/// the others holds the wanted statement, and the wanted name in a comment and in a string.
fn code() -> String {
    let mut code = String::from("namespace large {\n");
    let others = |code: &mut String, name: &str, until: usize| {
        for i in 0.. {
            if code.len() >= until {
                return;
            }
            write!(
                code,
                "int {name}_{i}(int n) {{ // not wanted(int)\n    const char * name = \"int wanted(int n) {{\";\n    int total = n;\n    \
                 for (int i = 0; i < n; i++) {{\n        total += i % {} ? name[0] : i;\n    }}\n    return total;\n}}\n\n",
                i + 2
            )
            .unwrap();
        }
    };
    others(&mut code, "earlier", BYTES / 3);
    code.push_str("static const unsigned char table[] = {\n");
    while code.len() < BYTES / 2 {
        code.push_str(
            "    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,\n",
        );
    }
    code.push_str("};\n\nint wanted(int count) {\n    int total = count;\n    return total;\n}\n\n");
    others(&mut code, "later", BYTES);
    code.push_str("}\n");
    code
}

#[test]
fn ten_megabytes_take_their_lines_and_give_them_back() {
    let before = code();
    assert!(before.len() >= BYTES);
    let points = PointSet::parse([("large.toml", POINTS)]).unwrap();
    let tree = Tree::from_files("large", [("large.cpp".to_owned(), before.clone())]);
    let (_, applied) = patcher::patch(&tree, &points, Vec::new()).unwrap();
    let patched = &applied.files[Path::new("large.cpp")];
    let after = std::str::from_utf8(patched).unwrap();

    let wanted = "int wanted(int count) {\n    LLAMA_OTEL_SPAN(count);\n    int total = count;\n    LLAMA_OTEL_STATUS();\n    return total;\n}\n\nint later_0(";
    assert!(after.contains(wanted));
    assert_eq!(after.matches("LLAMA_OTEL_").count(), 2, "nothing elsewhere");
    assert_eq!(strip_file(patched).unwrap(), before.as_bytes());
}
