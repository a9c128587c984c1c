//! Where a lost point went: on small trees for each way to get lost, and on the real history of llama.cpp.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use patcher::mend::{MendError, Proposal, mend};
use patcher::point::Point;
use patcher::verdict::{Outcome, Verdict};
use patcher::{PointSet, Tree};

const POINTS: &str = r#"
[[point]]
id = "span"
purpose = "a test"
insert = 'LLAMA_OTEL_SPAN({batch}.n_tokens);'
at = [{ file = "src/llama-context.cpp", function = "llama_context::decode", params = { batch = "llama_batch" }, position = "body-start" }]

[[point]]
id = "status"
purpose = "a test"
insert = 'LLAMA_OTEL_STATUS({code}, n_tokens);'
at = [{ file = "src/llama-context.cpp", function = "llama_context::decode", position = "after", match = '^const auto (?<code>\w+) = graph_compute\(' }]

[[point]]
id = "header"
purpose = "a test"
insert = '#include "common/otel/otel.h"'
at = [{ file = "src/llama-impl.h", position = "includes-end" }]
"#;

const DECODE: &str = "\
int llama_context::decode(const llama_batch & batch) {
    const int n_tokens = batch.n_tokens;
    if (n_tokens == 0) {
        LLAMA_LOG_ERROR(\"%s: n_tokens == 0\", __func__);
        return -1;
    }
    balloc->init(batch, model.vocab, memory.get());
    output_reserve(n_tokens);
    const auto status = graph_compute(gf, n_tokens > 1);
    if (status != 0) {
        return -3;
    }
    synchronize();
    return 0;
}
";

const ENCODE: &str = "
int llama_context::encode(const llama_batch & batch) {
    const int n_tokens = batch.n_tokens;
    if (n_tokens == 0) {
        return -1;
    }
    const auto res = graph_encode(gf);
    embd_reserve(n_tokens, res);
    return res;
}
";

const HEADER: &str = "#pragma once\n\n#include \"ggml.h\"\n#include <string>\n\n#define LLAMA_LOG_ERROR(...) llama_log(__VA_ARGS__)\n\nvoid llama_log(const char * format, ...);\n";

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::from_files("t", files.iter().map(|(path, text)| ((*path).to_owned(), *text)))
}

fn before() -> Tree {
    tree(&[("src/llama-context.cpp", &format!("{DECODE}{ENCODE}")), ("src/llama-impl.h", HEADER)])
}

fn point(id: &str) -> Point {
    let points = PointSet::parse([("p.toml", POINTS)]).unwrap();
    points.points().iter().find(|point| point.id == id).unwrap().clone()
}

/// The first proposal, once its alternate has been shown to place the point.
fn first(id: &str, files: &[(&str, &str)]) -> Proposal {
    let after = tree(files);
    let proposals = mend(&point(id), &before(), &after).unwrap();
    let first = proposals.into_iter().next().unwrap_or_else(|| panic!("no proposal for {id}"));
    let toml = format!(
        "[[point]]\nid = 'x'\npurpose = 'x'\ninsert = '{}'\nat = [{}]\n",
        point(id).at[0].insert.as_str(),
        first.alternate
    );
    let plan = patcher::plan(&after, &PointSet::parse([("x.toml", toml)]).unwrap(), Vec::new()).unwrap();
    let site = &plan.verdicts[0].sites[0];
    assert_eq!((&site.file, site.line, &site.function), (&first.file, first.line, &first.function));
    first
}

fn has(proposal: &Proposal, words: &str) {
    assert!(proposal.evidence.iter().any(|text| text.contains(words)), "no `{words}` in {:?}", proposal.evidence);
}

#[test]
fn a_renamed_function_is_found_by_its_text() {
    let code = DECODE.replace("::decode", "::process_tokens");
    let found = first("span", &[("src/llama-context.cpp", &format!("{ENCODE}{code}"))]);
    assert_eq!(found.function.as_deref(), Some("llama_context::process_tokens"));
    assert!(found.alternate.contains(r#"params = { batch = "llama_batch" }"#), "{}", found.alternate);
    has(&found, "100 % of the text");
}

#[test]
fn a_moved_file_is_found() {
    let found = first("status", &[("src/llama-decoder.cpp", DECODE), ("src/llama-context.cpp", ENCODE)]);
    assert_eq!((found.file.as_str(), found.line), ("src/llama-decoder.cpp", 9));
    has(&found, "moved from src/llama-context.cpp");
}

#[test]
fn a_new_parameter_type_is_bound() {
    let code = DECODE.replace("const llama_batch & batch", "const llama_batch_ext & inp");
    let compat = "int llama_context::decode(const llama_batch_old & b) {\n    return decode(to_ext(b));\n}\n";
    let found = first("span", &[("src/llama-context.cpp", &format!("{code}{ENCODE}{compat}"))]);
    assert_eq!(found.line, 1);
    assert!(found.alternate.contains(r#"params = { batch = "llama_batch_ext" }"#), "{}", found.alternate);
    has(&found, "`batch` is now llama_batch_ext");
}

#[test]
fn a_function_that_became_a_method_has_the_object_in_the_line() {
    let points = r#"
        [[point]]
        id = "s"
        purpose = "a test"
        insert = 'LLAMA_OTEL_SPAN_IF({ctx}->n_queued > 0, {ctx});'
        at = [{ file = "src/c.cpp", function = "llama_synchronize", params = { ctx = "llama_context *" }, position = "body-start" }]
    "#;
    let points = PointSet::parse([("p.toml", points)]).unwrap();
    let body = |o: &str| {
        format!(
            "{{\n    sched_synchronize({o}sched);\n    {o}t_eval_us += time_us() - {o}t_start_us;\n    {o}n_queued = 0;\n}}\n"
        )
    };
    let old = format!("void llama_synchronize(struct llama_context * ctx) {}", body("ctx->"));
    let new = format!(
        "void llama_context::synchronize() {}\nvoid llama_synchronize(struct llama_context * ctx) {{\n    ctx->synchronize();\n}}\n",
        body("")
    );
    let proposals = mend(&points.points()[0], &tree(&[("src/c.cpp", &old)]), &tree(&[("src/c.cpp", &new)])).unwrap();
    let first = &proposals[0];
    assert_eq!(first.function.as_deref(), Some("llama_context::synchronize"), "{proposals:?}");
    assert!(first.alternate.contains("insert = 'LLAMA_OTEL_SPAN_IF(n_queued > 0, this);'"), "{}", first.alternate);
    has(first, "`ctx` is the object itself now");
}

#[test]
fn a_statement_that_moved_into_a_function_of_its_own_is_followed() {
    let (start, rest) = DECODE.split_at(DECODE.find("    const auto status").unwrap());
    let code = format!(
        "{start}    return compute(gf, n_tokens);\n}}\n\nint llama_context::compute(ggml_cgraph * gf, int n_tokens) {{\n{rest}{ENCODE}"
    );
    let found = first("status", &[("src/llama-context.cpp", &code)]);
    assert_eq!(found.function.as_deref(), Some("llama_context::compute"));
    has(&found, "the statement is there");
}

#[test]
fn a_rewritten_statement_gets_an_expression_with_its_groups() {
    let code = DECODE.replace("const auto status = graph_compute(", "const ggml_status status = graph_compute(");
    let found = first("status", &[("src/llama-context.cpp", &format!("{ENCODE}{code}"))]);
    assert_eq!(found.function.as_deref(), Some("llama_context::decode"));
    assert!(found.alternate.contains(r"(?<code>-?\w+) = graph_compute\("), "{}", found.alternate);
    has(&found, "is now `const ggml_status status = graph_compute(");
}

#[test]
fn a_word_that_the_line_needs_and_the_function_lacks_speaks_against_it() {
    let code = DECODE.replace("n_tokens", "count");
    let found = first("status", &[("src/llama-context.cpp", &code)]);
    has(&found, "the line uses `n_tokens`, which is not in it");
}

#[test]
fn a_file_that_was_renamed_is_found_for_its_includes() {
    let decoy = "#pragma once\n#include <vector>\n\nstruct llama_arch { int id; };\n";
    let found = first("header", &[("src/llama-arch.h", decoy), ("src/llama-log.h", HEADER)]);
    assert_eq!((found.file.as_str(), found.line), ("src/llama-log.h", 4));
}

#[test]
fn nothing_alike_is_no_proposal_and_a_point_that_never_was_is_an_error() {
    let error = mend(&point("span"), &tree(&[("src/x.cpp", "int x() {\n    return 1;\n}\n")]), &before()).unwrap_err();
    assert!(matches!(error, MendError::NotPlaced { .. }), "{error}");
    let none = mend(&point("status"), &before(), &tree(&[("src/x.cpp", "int x() {\n    return 1;\n}\n")])).unwrap();
    assert!(none.is_empty(), "{none:?}");
}

/// The proposals for a point with one alternate whose file held `old` and is `new` now.
fn proposals(alternate: &str, insert: &str, old: &str, new: &str) -> Vec<Proposal> {
    let text = format!(
        "[[point]]\nid = 's'\npurpose = 'a test'\ninsert = '{insert}'\nat = [{{ file = 'c.cpp', {alternate} }}]\n"
    );
    let points = PointSet::parse([("p.toml", text)]).unwrap();
    mend(&points.points()[0], &tree(&[("c.cpp", old)]), &tree(&[("c.cpp", new)])).unwrap()
}

#[test]
fn a_rewritten_function_is_found_by_what_calls_it() {
    let caller = |call: &str| {
        format!(
            "size_t state_set_data(const uint8_t * src, size_t size) {{\n    reader io(src, size);\n    try {{\n        return {call};\n    }} catch (const std::exception & err) {{\n        log_error(err.what());\n        return 0;\n    }}\n}}\n"
        )
    };
    let old = format!(
        "static size_t set_internal(reader & data) {{\n    data.model_info();\n    return data.size_read();\n}}\n{}",
        caller("set_internal(io)")
    );
    // Alike by its name, and called elsewhere.
    let decoy = "static size_t set_internal_flag(int & flag) {\n    flag = 1;\n    return flag;\n}\n";
    let heir =
        "size_t read_all(source & io) {\n    log_debug(io);\n    memory->load(io);\n    return io.n_bytes();\n}\n";
    let new = format!("{decoy}{heir}{}", caller("read_all(io)"));
    let found = proposals("function = 'set_internal', position = 'body-start'", "LLAMA_OTEL_X(1);", &old, &new);
    assert_eq!(found[0].function.as_deref(), Some("read_all"), "{found:?}");
    has(&found[0], "called where the old one was, in `state_set_data`");
}

#[test]
fn a_function_that_lost_its_text_but_not_its_beginning_is_kept() {
    let checks = "    if (!model) {\n        log_error(\"model cannot be NULL\");\n        return nullptr;\n    }\n    if (params.n_batch == 0) {\n        log_error(\"n_batch cannot be zero\");\n        return nullptr;\n    }\n";
    let work: String = [
        "n_ctx",
        "n_batch",
        "n_threads",
        "rope_scale",
        "rope_base",
        "offload",
        "flash",
        "pooling",
        "yarn_ext",
        "yarn_slow",
    ]
    .iter()
    .map(|field| format!("    cparams.{field} = params.{field} == 0 ? hparams.{field}_train : params.{field};\n"))
    .collect();
    let old = format!(
        "context * init_from_model(model * model, context_params params) {{\n{checks}{work}    return ctx;\n}}\n"
    );
    let new = format!(
        "context::context(model * model, context_params params) {{\n{work}}}\ncontext * open_model(model * model, context_params params) {{\n{checks}    return new context(*model, params);\n}}\n"
    );
    let found = proposals("function = 'init_from_model', position = 'body-start'", "LLAMA_OTEL_X(1);", &old, &new);
    assert_eq!(found[0].function.as_deref(), Some("open_model"), "{found:?}");
}

/// What was one function is two now, of which a third one calls one or the other.
#[test]
fn a_function_that_was_split_is_followed_to_what_calls_the_parts() {
    let fill = |what: &str| {
        format!(
            "    size = kv_size;\n    cells.resize(kv_size);\n    auto * buffer = alloc_tensors(ctx, type_k, type_v);\n    clear_buffer(buffer, 0);\n    log_info(\"KV size\", buffer_size(buffer));\n    {what}\n"
        )
    };
    let caller = |call: &str| {
        format!("context::context(int n) {{\n    sched = new_sched(n);\n    {call}\n    reserve(n);\n}}\n")
    };
    let old = format!(
        "bool cache::init(int kv_size) {{\n{}{}    return true;\n}}\n{}",
        fill("plain();"),
        "    recurrent = is_recurrent(model);\n",
        caller("self->init(n);")
    );
    let new = format!(
        "cache_plain::cache_plain(int kv_size) {{\n{}}}\ncache_recurrent::cache_recurrent(int kv_size) {{\n{}}}\nmemory * model::create_memory(int n) {{\n    if (is_recurrent(this)) {{\n        return new cache_recurrent(n);\n    }}\n    return new cache_plain(n);\n}}\n{}",
        fill("plain();"),
        fill("states();"),
        caller("memory.reset(model.create_memory(n));")
    );
    let found = proposals("function = 'cache::init', position = 'body-start'", "LLAMA_OTEL_X(1);", &old, &new);
    assert_eq!(found[0].function.as_deref(), Some("model::create_memory"), "{found:?}");
    has(&found[0], "which have its text");
    has(found.iter().find(|p| p.function.as_deref() == Some("cache_plain::cache_plain")).unwrap(), "but only a part");
}

#[test]
fn of_a_statement_that_is_gone_the_place_is_where_the_line_has_its_words() {
    let old = "int decode(batch in) {\n    if (in.n_tokens == 0) {\n        return -1;\n    }\n    const int n_all = count(in);\n    while (sbatch.n_tokens > 0) {\n        step(sbatch);\n    }\n    return 0;\n}\n";
    let new = "int decode(batch in) {\n    if (in.n_tokens == 0) {\n        return -1;\n    }\n    prepare(in);\n    const int n_all = allocr.outputs();\n    run(in);\n    return 0;\n}\n";
    let place = "function = 'decode', position = 'before', match = '^while \\(sbatch'";
    let found = proposals(place, "LLAMA_OTEL_X(n_all);", old, new);
    assert_eq!(found[0].line, 6, "{found:?}");
    assert!(found[0].alternate.contains(r#"position = "after""#), "{}", found[0].alternate);
    has(&found[0], "`n_all`, which the line uses, is declared there");
}

#[test]
fn a_comment_above_outlives_the_statement_and_a_loop_of_many_is_told_by_its_lines() {
    let text = |end: &str| {
        format!(
            "void apply(const slots & info) {{\n    for (int s = 0; s < info.n(); ++s) {{\n        cells.set(s, info.pos(s));\n    }}\n    // move the head at the end of the slot\n{end}}}\n"
        )
    };
    let old = text("    head = info.back() + 1;\n");
    let new = text(
        "    for (int s = 0; s < info.n(); ++s) {\n        auto & start = v_starts[s];\n        start = info.last(s);\n    }\n",
    );
    let found =
        proposals("function = 'apply', position = 'after', match = '^head = '", "LLAMA_OTEL_X(cells);", &old, &new);
    assert_eq!(found[0].line, 6, "{found:?}");
    has(&found[0], "the same comment above");
    assert!(!found[0].evidence.iter().any(|text| text.contains("sites")), "{:?}", found[0].evidence);
}

#[test]
fn a_place_in_a_loop_is_not_one_of_a_line_that_ran_once() {
    let old = "cache::cache(int kv_size) {\n    start();\n    cells.resize(kv_size);\n    finish();\n}\n";
    let new = "cache::cache(int kv_size) {\n    start();\n    heads.resize(n_stream);\n    v_cells.resize(n_stream);\n    for (int s = 0; s < n_stream; ++s) {\n        v_cells[s].resize(kv_size);\n    }\n    finish();\n}\n";
    let found = proposals(
        "function = 'cache::cache', position = 'after', match = '^cells\\.resize'",
        "LLAMA_OTEL_X(1);",
        old,
        new,
    );
    assert_eq!(found[0].line, 4, "{found:?}");
}

/// Trees of the crate llama-cpp-sys-2 on both sides of each change of era, oldest first.
const HISTORY: [&str; 14] = [
    "0.1.86", "0.1.88", "0.1.90", "0.1.102", "0.1.103", "0.1.107", "0.1.112", "0.1.115", "0.1.122", "0.1.136",
    "0.1.143", "0.1.147", "0.1.157", "0.1.161",
];

/// A point with some of its alternates, or with a line of TOML in their place, whose sites may be any number.
fn set_of(point: &Point, alternates: &[usize], proposed: Option<&str>) -> Option<PointSet> {
    let text = std::fs::read_to_string(&point.source).unwrap();
    let mut file: toml::Table = toml::from_str(&text).unwrap();
    let points = file["point"].as_array().unwrap().clone();
    let mut point = points.into_iter().find(|p| p["id"].as_str() == Some(&point.id)).unwrap();
    let table = point.as_table_mut().unwrap();
    let at = table["at"].as_array().unwrap().clone();
    let mut chosen: Vec<_> = alternates.iter().map(|index| at[*index].clone()).collect();
    if let Some(proposed) = proposed {
        let mut proposed = toml::from_str::<toml::Table>(&format!("at = {proposed}")).unwrap()["at"].clone();
        if let Some(insert) = chosen[0].get("insert") {
            proposed.as_table_mut().unwrap().entry("insert").or_insert(insert.clone());
        }
        chosen = vec![proposed];
        table.insert("count".to_owned(), "1..".into());
        table.insert("count_reason".to_owned(), "any".into());
    }
    if chosen.is_empty() {
        return None;
    }
    table.insert("at".to_owned(), toml::Value::Array(chosen));
    file.insert("point".to_owned(), toml::Value::Array(vec![point]));
    file.remove("block");
    Some(PointSet::parse([("p.toml", toml::to_string(&file).unwrap())]).unwrap())
}

/// Where the lines of a point go in: file and offset; nowhere if it is lost.
fn offsets(tree: &Tree, set: &Option<PointSet>) -> Vec<(String, usize)> {
    let plan = set.as_ref().and_then(|set| patcher::plan(tree, set, Vec::new()).ok());
    let files = plan.into_iter().flat_map(|plan| plan.files);
    files.flat_map(|(path, edit)| edit.insertions.into_iter().map(move |i| (path.clone(), i.offset))).collect()
}

/// Every point of this project, on each pair of neighbours in the history where another alternate fits: the newer one is
/// taken away, and the first proposal must be the site that it gives. Prints the table.
/// `cargo xtask drift` downloads the trees; `PLACES=<cache>/sweep/places.json cargo test -p patcher --test mend -- --nocapture`.
#[test]
fn on_the_real_history_the_right_site_comes_first() {
    let pairs: Vec<_> = HISTORY.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let Some((right, asked)) = measure(&pairs) else { return };
    assert!(asked > 0 && right * 10 >= asked * 9, "{right} of {asked}");
}

/// The same on changes that no rule was derived from: two eras at once, and backwards. A new rule should help here too, or at
/// least do no harm; the tables of before and after it are to be compared.
#[test]
fn on_changes_that_no_rule_was_made_for_most_are_right() {
    let two_eras = HISTORY.windows(3).map(|three| (three[0], three[2]));
    let backwards = HISTORY.windows(2).map(|pair| (pair[1], pair[0]));
    for pairs in [two_eras.collect::<Vec<_>>(), backwards.collect()] {
        let Some((right, asked)) = measure(&pairs) else { return };
        assert!(asked > 0 && right * 10 >= asked * 7, "{right} of {asked}");
    }
}

/// How many of the points that a change takes from its place are found again first, and how many there are.
fn measure(pairs: &[(&str, &str)]) -> Option<(usize, usize)> {
    let Some(places) = std::env::var_os("PLACES") else {
        println!("SKIP: PLACES does not name the sweep's places.json (`cargo xtask drift` downloads the trees)");
        return None;
    };
    let places: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&std::fs::read(places).unwrap()).unwrap();
    let tree = |version: &str| {
        let name = format!("llama-cpp-sys-2-{version}");
        let dir = PathBuf::from(places[&name]["folder"].as_str().unwrap());
        Tree::open(dir, name).unwrap()
    };
    let points = PointSet::load_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("points")).unwrap();
    let verdicts = |tree: &Tree| -> BTreeMap<String, Verdict> {
        let verdicts = match patcher::plan(tree, &points, Vec::new()) {
            Ok(plan) => plan.verdicts,
            Err(errors) => errors.verdicts,
        };
        verdicts.into_iter().filter(|v| v.outcome == Outcome::Placed).map(|v| (v.id.clone(), v)).collect()
    };
    let (mut asked, mut right, mut right_function, mut among) = (0, 0, 0, 0);
    for (from, to) in pairs {
        let (old, new) = (tree(from), tree(to));
        let (was, is) = (verdicts(&old), verdicts(&new));
        for point in points.points() {
            let (Some(was), Some(is)) = (was.get(&point.id), is.get(&point.id)) else { continue };
            let (Some(old_alternate), Some(new_alternate)) = (was.alternate, is.alternate) else { continue };
            // What was known before the change: an alternate from beyond it would say where to look, or that the one that
            // still fits is not to be taken.
            let known: Vec<_> = (0..point.at.len())
                .filter(|at| if old_alternate > new_alternate { *at > new_alternate } else { *at < new_alternate })
                .collect();
            if old_alternate == new_alternate || !offsets(&new, &set_of(point, &known, None)).is_empty() {
                continue;
            }
            let mut lost = point.clone();
            lost.at = vec![point.at[old_alternate].clone()];
            let proposals = mend(&lost, &old, &new).unwrap();
            // `after` one statement and `before` the next are one place.
            let wanted = offsets(&new, &set_of(point, &(0..point.at.len()).collect::<Vec<_>>(), None));
            let is_right = |p: &Proposal| {
                offsets(&new, &set_of(point, &[old_alternate], Some(&p.alternate))).iter().any(|at| wanted.contains(at))
            };
            let is_function = |p: &Proposal| is.sites.iter().any(|s| s.file == p.file && s.function == p.function);
            asked += 1;
            let rank = proposals.iter().position(is_right);
            right += usize::from(rank == Some(0));
            among += usize::from(rank.is_some());
            right_function += usize::from(proposals.first().is_some_and(is_function));
            let first = proposals.first().map_or("nothing".to_owned(), |p| {
                format!("{:.2} {}:{} {}", p.score, p.file, p.line, p.function.as_deref().unwrap_or("-"))
            });
            let verdict = match rank {
                Some(0) => "right".to_owned(),
                Some(rank) => format!("{}.", rank + 1),
                None if proposals.first().is_some_and(is_function) => "function".to_owned(),
                None => "WRONG".to_owned(),
            };
            let truth = &is.sites[0];
            let wanted = if rank == Some(0) {
                String::new()
            } else {
                format!("   wanted {}:{} {:?}", truth.file, truth.line, truth.function)
            };
            println!("{from:7} -> {to:7}  {:24} {verdict:9} {first}{wanted}", point.id);
        }
    }
    println!(
        "{asked} lost points: the right site first {right}, among the five {among}, the right function first {right_function}"
    );
    Some((right, asked))
}
