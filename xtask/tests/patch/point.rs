//! `cargo xtask point`: what it drafts, explains and proposes.

use std::fs;

use crate::{
    checkout::{Checkout, success},
    fork::{checkout_with_points, run, write, write_fork},
};

/// A vendored tree `new`, in which `decode` is elsewhere, beside the vendored `old`.
fn two_eras() -> Checkout {
    let checkout = checkout_with_points();
    for name in ["old-0.9", "new-0.10"] {
        let fork = checkout.dir(name);
        write_fork(&fork, 2);
        if name.starts_with("new") {
            let code = fs::read_to_string(fork.join("src/llama-context.cpp")).unwrap();
            fs::remove_file(fork.join("src/llama-context.cpp")).unwrap();
            write(&fork.join("src/llama-decoder.cpp"), code.replace("llama_context", "llama_decoder"));
        }
        success(checkout.xtask(["vendor", "--from"]).arg(&fork));
    }
    checkout
}

#[test]
fn why_says_what_was_tried_and_what_was_found() {
    let checkout = two_eras();
    let said = success(&mut checkout.xtask(["point", "why", "decode.span", "--tree", "old-0.9"]));
    for line in [
        "decode.span in old-0.9: placed by alternate 0 of 2",
        "=> 0  src/llama-context.cpp  llama_context::decode(llama_batch)",
        "      >     5  int llama_context::decode(const llama_batch & batch) {",
        "      +        LLAMA_OTEL_SPAN(\"llama_decode\");",
        "   1  src/llama.cpp  llama_decode_impl",
        "      no such function",
    ] {
        assert!(said.lines().any(|found| found == line), "no `{line}` in\n{said}");
    }
    let (code, said, _) = run(&mut checkout.xtask(["point", "why", "decode.span", "--tree", "new-0.10"]));
    assert_eq!(code, 3);
    assert!(said.contains("decode.span in new-0.10: LOST") && said.contains("no such file"), "{said}");
    assert!(said.contains("point mend decode.span --tree new-0.10"), "{said}");
    let json = run(&mut checkout.xtask(["point", "why", "decode.span", "--tree", "new-0.10", "--format", "json"])).1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["verdict"]["verdict"], &json["alternates"][0]["verdict"]["tried"][0]["why"]),
        (&"lost".into(), &"no such file".into())
    );
    let (code, _, said) = run(&mut checkout.xtask(["point", "why", "decode.spam"]));
    assert_eq!((code, said.contains("there are: header, decode.span, decode.return")), (1, true), "{said}");
    let (code, _, said) = run(&mut checkout.xtask(["point", "why", "decode.span", "--tree", "nowhere"]));
    assert_eq!((code, said.contains("at hand are: old-0.9, new-0.10")), (1, true), "{said}");
}

#[test]
fn why_shows_which_declared_absence_holds() {
    let checkout = two_eras();
    let path = checkout.path().join("patcher/points/absent.toml");
    let point = "[[point]]\nid = \"a\"\npurpose = \"p\"\ninsert = 'LLAMA_OTEL_START();'\n\
        at = [{ file = \"src/none.cpp\", function = \"f\", position = \"body-start\" }]\n\
        absent = [{ file = \"src/llama.cpp\", missing = true, reason = \"one\" }, { file = \"src/none.cpp\", missing = true, reason = \"two\" }]\n";
    write(&path, point);
    let said = success(&mut checkout.xtask(["point", "why", "a", "--tree", "old-0.9"]));
    assert!(said.starts_with("a in old-0.9: absent by its own declaration: two\n"), "{said}");
    assert!(said.contains("absent if src/llama.cpp is missing: does not hold (one)"), "{said}");
    assert!(said.contains("absent if src/none.cpp is missing: holds (two)"), "{said}");
}

#[test]
fn new_finds_the_function_in_every_tree_and_adds_a_point_that_works() {
    let checkout = two_eras();
    for (name, class) in [("old-0.9", "llama_context"), ("new-0.10", "llama_decoder")] {
        let src = checkout.vendor(name).join("src/src");
        write(
            &src.join(format!("{class}-free.cpp")),
            format!("void llama_free({class} * it) {{\n    delete it;\n}}\n"),
        );
    }
    let new = |args: &[&str]| {
        let mut command = checkout.xtask(["point", "new", "state.free"]);
        command.args(["--function", "llama_free", "--purpose", "it goes"]).args(args);
        command
    };
    let path = checkout.path().join("patcher/points/state.toml");
    let (code, drafted, table) = run(&mut new(&["--dry-run"]));
    assert_eq!(code, 0, "{table}");
    assert!(!path.exists());
    let at: Vec<_> = drafted.lines().filter(|line| line.contains("file =")).collect();
    assert!(at.len() == 2 && drafted.contains("insert  = 'LLAMA_OTEL_SPAN(\"state_free\");'"), "{drafted}");
    let lands = |tree: &str, file: &str| table.lines().any(|line| line.starts_with(tree) && line.contains(file));
    assert!(lands("old-0.9", "src/llama_context-free.cpp:1  LLAMA_OTEL_SPAN"), "{table}");
    assert!(lands("new-0.10", "src/llama_decoder-free.cpp:1  LLAMA_OTEL_SPAN"), "{table}");

    success(&mut new(&[]));
    assert_eq!(fs::read_to_string(&path).unwrap(), drafted);
    let (code, _, said) = run(&mut new(&[]));
    assert_eq!((code, said.contains("there is a point `state.free` already")), (1, true), "{said}");
    // It is a point like any other.
    let fork = checkout.path().join("old-0.9");
    write(&fork.join("src/llama_context-free.cpp"), "void llama_free(llama_context * it) {\n    delete it;\n}\n");
    let difference = success(checkout.xtask(["patch", "--dry-run", "--from"]).arg(&fork));
    assert!(difference.contains("+    LLAMA_OTEL_SPAN(\"state_free\");"), "{difference}");
}

#[test]
fn new_adds_nothing_that_has_no_place() {
    let checkout = two_eras();
    let points = checkout.path().join("patcher/points");
    let before = crate::fork::files(&points);
    for args in [
        &["--function", "no_such_function"][..],
        &["--function", "llama_context::decode", "--param", "x=no_such_type"],
        &["--function", "llama_context::decode", "--file", "src/llama.cpp"],
        &["--function", "llama_context::decode", "--before", "^no_such_statement"],
    ] {
        let (code, _, said) = run(checkout.xtask(["point", "new", "decode.x"]).args(args));
        assert_eq!(code, 3, "{args:?}: {said}");
    }
    let (code, _, said) = run(&mut checkout.xtask([
        "point",
        "new",
        "decode.x",
        "--function",
        "f",
        "--file",
        "src/llama.cpp",
        "--insert",
        "puts(1);",
    ]));
    assert_eq!((code, said.contains("first token is neither")), (1, true), "{said}");
    assert_eq!(crate::fork::files(&points), before);
}

#[test]
fn mend_proposes_the_line_that_places_a_lost_point() {
    let checkout = two_eras();
    let json =
        success(&mut checkout.xtask(["point", "mend", "decode.return", "--tree", "new-0.10", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let first = &json["proposals"][0];
    assert_eq!((&json["like"], &first["file"]), (&"old-0.9".into(), &"src/llama-decoder.cpp".into()));
    assert_eq!(first["function"], "llama_decoder::decode");
    let path = checkout.path().join("patcher/points/decode.toml");
    let point = fs::read_to_string(&path).unwrap();
    let (head, tail) = point.split_at(
        point.find("at = [{ file = \"src/llama-context.cpp\", function = \"llama_context::decode\", position").unwrap()
            + 6,
    );
    fs::write(&path, format!("{head}{}, {tail}", first["alternate"].as_str().unwrap())).unwrap();
    let said = success(&mut checkout.xtask(["point", "why", "decode.return", "--tree", "new-0.10"]));
    assert!(said.contains("placed by alternate 0 of 2"), "{said}");
    let (code, _, said) = run(&mut checkout.xtask(["point", "mend", "decode.return", "--tree", "new-0.10"]));
    assert_eq!((code, said.contains("is not lost")), (0, true), "{said}");
}
