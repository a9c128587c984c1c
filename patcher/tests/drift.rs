//! The lock and the grades of drift, on small trees that change between two looks.

use patcher::drift::{Grade, grade};
use patcher::lock::Lock;
use patcher::verdict::Verdict;
use patcher::{PointSet, Tree};

const POINT: &str = r#"
[[point]]
id = "decode.span"
purpose = "a test"
insert = 'LLAMA_OTEL_SPAN("decode");'
at = [{ file = "a.cpp", function = "decode", position = "body-start" }, { file = "b.cpp", function = "decode", position = "body-start" }]
absent = [{ file = "old.cpp", missing = false, reason = "the era of the monolith" }]
"#;

fn look(file: &str, code: &str) -> Verdict {
    let points = PointSet::parse([("p.toml", POINT)]).unwrap();
    let tree = Tree::from_files("t", [(file.to_owned(), code)]);
    let verdicts = match patcher::plan(&tree, &points, Vec::new()) {
        Ok(plan) => plan.verdicts,
        Err(errors) => errors.verdicts,
    };
    verdicts.into_iter().next().unwrap()
}

#[test]
fn a_point_is_graded_against_what_the_lock_remembers() {
    let known = look("a.cpp", "int decode(int n) {\n    return n;\n}\n");
    let mut lock = Lock::default();
    lock.record("t", std::slice::from_ref(&known));
    let lock = Lock::parse(&lock.render()).unwrap();
    let entry = lock.entry("t", "decode.span");
    assert!(entry.is_some());
    let graded = |file: &str, code: &str| grade(entry, &look(file, code));

    assert_eq!(grade(entry, &known), Grade::Same);
    assert_eq!(grade(None, &known), Grade::New);
    assert_eq!(graded("a.cpp", "\n\nint decode(int n) {\n    return n;\n}\n"), Grade::Moved);
    assert_eq!(graded("b.cpp", "int decode(int n) {\n    return n;\n}\n"), Grade::Moved);
    assert_eq!(graded("a.cpp", "int decode(int n) {\n    return n + 1;\n}\n"), Grade::BodyChanged);
    assert_eq!(graded("a.cpp", "int decode_it(int n) {\n    return n;\n}\n"), Grade::Lost);
    assert_eq!(
        graded("a.cpp", "int decode(int n) {\n    return n;\n}\nint decode(long n) {\n    return 1;\n}\n"),
        Grade::Ambiguous
    );
    assert_eq!(graded("old.cpp", ""), Grade::Absent);
}

#[test]
fn a_lock_survives_writing_and_reading_and_has_a_line_for_each_point() {
    let mut lock = Lock::default();
    let placed = look("a.cpp", "int decode(int n) {\n    return n;\n}\n");
    lock.record("crate-0.1.2", std::slice::from_ref(&placed));
    lock.record("crate-0.1.3\"quoted\"", &[look("old.cpp", "")]);
    // What is alike stands there once.
    lock.record("crate-0.1.4", &[placed]);
    let text = lock.render();
    assert_eq!(Lock::parse(&text).unwrap(), lock, "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("\"decode.span\"")).count(), 1);
    assert!(text.contains("crate-0.1.2 crate-0.1.4"), "{text}");
    // The same text in another file is another place.
    let moved = look("b.cpp", "int decode(int n) {\n    return n;\n}\n");
    lock.record("crate-0.1.5", &[moved]);
    let text = lock.render();
    assert_eq!(Lock::parse(&text).unwrap(), lock, "{text}");
    let unknown = text.replace("[texts.\"decode.span\"]", "[texts.\"other\"]");
    assert!(Lock::parse(&unknown).unwrap_err().to_string().contains("makes no sense"), "{unknown}");
    assert!(Lock::parse("x = 1").unwrap_err().to_string().contains("drift --bless"));
}
