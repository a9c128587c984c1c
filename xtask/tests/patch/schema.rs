//! What `--format json` prints is what `docs/patch-schema.json` says, in every way that a run can end.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::fork::{checkout_with_points, run, write, write_fork};

/// As much of JSON Schema as our own uses; a keyword that is not checked here may not be in it.
fn check(schema: &Value, root: &Value, value: &Value, at: &str) -> Result<(), String> {
    let keywords = schema.as_object().ok_or("a schema is no object")?;
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let name =
                    rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).ok_or("a $ref leads elsewhere")?;
                check(root["$defs"].get(name).ok_or_else(|| format!("there is no {name}"))?, root, value, at)?;
            }
            "anyOf" => {
                let errors: Vec<_> = array(rule).map(|one| check(one, root, value, at)).collect();
                if errors.iter().all(Result::is_err) {
                    return Err(format!("{at}: none of anyOf: {errors:?}"));
                }
            }
            "type" => {
                let types: Vec<_> = if rule.is_array() { array(rule).collect() } else { vec![rule] };
                let is = |of: &str| match of {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other} is not checked"),
                };
                if !types.iter().any(|of| is(of.as_str().unwrap())) {
                    return Err(format!("{at}: {value} is not {rule}"));
                }
            }
            "enum" if !array(rule).any(|one| one == value) => return Err(format!("{at}: {value} is not in {rule}")),
            "enum" => {}
            "pattern" => {
                assert_eq!(rule, "^[0-9a-f]{64}$", "only this pattern is checked");
                let is_hash =
                    |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if value.as_str().is_some_and(|text| !is_hash(text)) {
                    return Err(format!("{at}: {value} is no SHA-256"));
                }
            }
            "required" => {
                for name in array(rule) {
                    value.get(name.as_str().unwrap()).ok_or_else(|| format!("{at}: has no {name}"))?;
                }
            }
            "properties" => {
                for (name, one) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(one, root, value, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                let known: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
                if let Some(more) = value.as_object().into_iter().flatten().find(|(name, _)| !known.contains(name)) {
                    return Err(format!("{at}: {} is not in the schema", more.0));
                }
            }
            "items" => {
                for (index, one) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, root, one, &format!("{at}[{index}]"))?;
                }
            }
            other => panic!("keyword {other} is not checked"),
        }
    }
    Ok(())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/patch-schema.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_way_to_end_prints_what_the_schema_says() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let points = "[[point]]\nid = \"a\"\npurpose = \"p\"\ninsert = 'LLAMA_OTEL_A();'\n\
        at = [{ file = \"src/gone.cpp\", function = \"f\", position = \"body-start\" }]\n\
        absent = [{ file = \"src/gone.cpp\", missing = true, reason = \"r\" }]\n\
        [[point]]\nid = \"b\"\npurpose = \"p\"\ninsert = 'LLAMA_OTEL_B();'\n\
        at = [{ file = \"src/llama.cpp\", function = \"f\", position = \"before\", match = '^return', skip_inline = true }]\n";
    write(&checkout.path().join("patcher/points/absent.toml"), points);
    let with = |body: &str| write(&fork.join("src/llama.cpp"), format!("int f(int n) {{\n{body}\n}}\n"));
    let schema = schema();
    let mut seen = BTreeSet::new();
    let mut print = |args: &[&str], expected: i32| {
        let mut command = checkout.xtask(["patch", "--format", "json", "--from"]);
        let (code, printed, said) = run(command.arg(&fork).args(args));
        assert_eq!(code, expected, "{args:?}: {said}");
        let value: Value =
            serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"));
        check(&schema, &schema, &value, "$").unwrap_or_else(|error| panic!("{args:?}: {error}"));
        for point in value["points"].as_array().into_iter().flatten() {
            seen.extend(point.as_object().unwrap().keys().cloned());
            seen.insert(point["verdict"].as_str().unwrap().to_owned());
        }
        value
    };
    with("    if (n) { return 1; }\n    return 0;");
    assert_eq!(print(&["--dry-run"], 0)["path"], Value::Null);
    let out = checkout.path().join("out");
    let out = out.to_str().unwrap();
    assert_eq!(print(&["--out", out], 0)["path"], out);
    print(&["--out", out, "--check"], 0);
    print(&["--in-place", "--check"], 4);
    print(&["--in-place"], 0);
    assert_eq!(print(&["--revert"], 0)["removed"].as_array().unwrap().len(), 4);
    with("    return 1;\n    return 0;");
    print(&["--dry-run"], 3);
    with("    n++;");
    print(&["--dry-run"], 3);
    write(&fork.join("common/otel/x.h"), "");
    assert_eq!(print(&["--dry-run"], 5)["ok"], false);
    for name in ["placed", "absent", "lost", "ambiguous", "skipped", "reason", "tried"] {
        assert!(seen.contains(name), "no run printed {name}");
    }
}

#[test]
fn the_check_fails_where_it_should() {
    let schema = schema();
    let good = json!({ "tree": "t", "ok": false, "errors": [], "points": [], "files": [], "path": null });
    check(&schema, &schema, &good, "$").unwrap();
    for (key, bad) in
        [("path", json!(1)), ("points", json!([{}])), ("more", json!(1)), ("files", json!([{ "path": "x" }]))]
    {
        let mut value = good.clone();
        value[key] = bad;
        assert!(check(&schema, &schema, &value, "$").is_err(), "{key}");
    }
}
