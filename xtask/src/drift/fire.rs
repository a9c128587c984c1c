//! `--build`: a whole llama.cpp for each tree, a program that decodes with it, and each point asked whether it fired.
//! A point in a place that is never reached is as good as lost.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use llama_build::{BuildType, Manifest, Options, SystemLibKind};
use patcher::{AddedFile, Plan, PointSet, Tree, plan::Insertion};

use super::{
    compile::{compiler, write},
    list::Listed,
    trees::Place,
};
use crate::{
    context::Context,
    model::{self, Name},
    progress::{Unit, ninja_step},
    python::{checked, last_lines},
    tools::{self, Tools},
};

const PROGRAM: &str = include_str!("fire.cpp");

/// What the program cannot bring about with a small decoder model on a processor.
const OUT_OF_REACH: [(&str, &str); 3] = [
    ("encode.batch", "the model has no encoder"),
    ("encode.status", "the model has no encoder"),
    ("context.exception", "no parameters make this model's context throw in every era"),
];

/// What takes longer hangs: it is a matter of seconds, also where nothing is optimised.
const PATIENCE: Duration = Duration::from_secs(300);

/// Added to the header and to the runtime of such a build only.
const HEADER: &str = "\nextern \"C\" void llama_otel_fired(const char * point);\n#define LLAMA_OTEL_FIRED(point) llama_otel_fired(point)\n";
const RUNTIME: &str = "
#include <cstdio>
#include <mutex>
#include <set>
extern \"C\" void llama_otel_fired(const char * point) {
    static std::mutex mutex;
    static std::set<std::string> seen;
    std::lock_guard<std::mutex> lock(mutex);
    if (seen.insert(point).second) {
        printf(\"fired %s\\n\", point);
    }
}
";

/// Builds and runs every tree, and says of each what did not fire. Returns the number of trees that failed.
///
/// # Errors
/// The tools or the model are missing, or the cache cannot be written. A tree that does not build is a failure, no error.
pub fn fire(
    context: &Context,
    trees: &[Listed<'_>],
    places: &[Place],
    points: &PointSet,
    added: &[AddedFile],
    jobs: usize,
) -> Result<usize> {
    let tools = tools::ensure(context)?;
    let model = model::ensure(context, Name::Tiny)?;
    let added = with_trace(added);
    let mut failed = 0;
    for (tree, place) in trees.iter().zip(places) {
        let Place::Folder(dir) = place else { continue };
        let run = Run { context, tools: &tools, model: &model, jobs };
        match run.one(tree, dir, points, &added) {
            Ok(report) => {
                println!("{tree}: {report}");
                failed += usize::from(!report.is_complete());
            }
            Err(error) => {
                println!("{tree}: FAILED\n  {}", format!("{error:#}").replace('\n', "\n  "));
                failed += 1;
            }
        }
    }
    Ok(failed)
}

/// What one tree came to.
struct Report {
    fired: usize,
    excused: Vec<&'static str>,
    silent: Vec<String>,
    spans_missing: Vec<String>,
}

impl Report {
    fn is_complete(&self) -> bool {
        self.silent.is_empty() && self.spans_missing.is_empty()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} points fired", self.fired)?;
        for id in &self.excused {
            let why = OUT_OF_REACH.iter().find(|(known, _)| known == id).map(|(_, why)| *why).unwrap_or_default();
            write!(f, "; {id} is out of reach ({why})")?;
        }
        for id in &self.silent {
            write!(f, "; {id} DID NOT FIRE")?;
        }
        for name in &self.spans_missing {
            write!(f, "; span {name} WAS NOT RECORDED")?;
        }
        Ok(())
    }
}

struct Run<'a> {
    context: &'a Context,
    tools: &'a Tools,
    model: &'a Path,
    jobs: usize,
}

impl Run<'_> {
    fn one(&self, tree: &Listed<'_>, dir: &Path, points: &PointSet, added: &[AddedFile]) -> Result<Report> {
        let open = Tree::open(dir, tree.to_string()).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut plan = patcher::plan(&open, points, added.to_vec())?;
        trace(&mut plan);
        let applied = plan.apply(&open)?;
        plan.verify(&open, &applied)?;
        let work = self.context.cache.join("sweep/build").join(tree.to_string());
        let source = work.join("src");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        write(dir, &applied, &source, |_| true)?;
        let output = self.build(tree, &source, &work).and_then(|manifest| self.run(&work, &manifest));
        let _ = fs::remove_dir_all(&work);
        Ok(report(&plan, &output?))
    }

    fn build(&self, tree: &Listed<'_>, source: &Path, work: &Path) -> Result<Manifest> {
        let mut options = Options::new(source);
        options.cmake = Some(self.tools.cmake.path.clone());
        options.ninja = Some(self.tools.ninja.path.clone());
        options.jobs = Some(self.jobs);
        options.build_type = BuildType::Debug;
        let phase = self.context.ui.phase(format!("compile {tree}"), Unit::Steps);
        let mut on_line = |line: &str| {
            if let Some((done, total)) = ninja_step(line) {
                phase.set(done, total);
            }
        };
        let manifest = llama_build::build(&options, &work.join("out"), &mut on_line)?;
        phase.finish("");
        Ok(manifest)
    }

    /// Standard output of the program.
    fn run(&self, work: &Path, manifest: &Manifest) -> Result<String> {
        let (source, program, out) = (work.join("fire.cpp"), work.join("fire"), work.join("out"));
        fs::write(&source, PROGRAM).with_context(|| format!("cannot write {}", source.display()))?;
        let mut command = Command::new(compiler()?);
        // Before there were samplers, sampling was a row of calls, and no point lies in them.
        let header = fs::read_to_string(work.join("src/include/llama.h")).unwrap_or_default();
        command.arg(format!("-DHAS_SAMPLERS={}", i32::from(header.contains("llama_sampler_chain_init"))));
        command.args(["-std=c++17", "-g", "-w", "-DLLAMA_OTEL=1"]).arg(&source).arg("-o").arg(&program);
        command.arg("-I").arg(work.join("src"));
        command.args(manifest.include_dirs.iter().map(|dir| format!("-I{}", out.join(dir).display())));
        command.arg("-Wl,--start-group").args(manifest.libs.iter().map(|lib| out.join(&lib.path)));
        command.arg("-Wl,--end-group").args(&manifest.link_args);
        for lib in manifest.system_libs.iter().filter(|lib| lib.kind != SystemLibKind::Framework) {
            command.args(lib.dir.iter().map(|dir| format!("-L{dir}"))).arg(format!("-l{}", lib.name));
        }
        checked(&mut command).context("the program that decodes does not compile")?;
        let (out, log) = (work.join("fire.out"), work.join("fire.log"));
        let mut child = Command::new(&program)
            .arg(self.model)
            .arg(work.join("not-a-model.gguf"))
            .stdin(Stdio::null())
            .stdout(File::create(&out).with_context(|| format!("cannot write {}", out.display()))?)
            .stderr(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
            .spawn()
            .context("the program that decodes cannot be started")?;
        let started = Instant::now();
        let (succeeded, status) = loop {
            if let Some(status) = child.try_wait()? {
                break (status.success(), status.to_string());
            }
            if started.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                break (false, format!("still running after {} s", PATIENCE.as_secs()));
            }
            thread::sleep(Duration::from_millis(50));
        };
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = read(&out)?;
        if !succeeded {
            let log = last_lines(&read(&log)?, 15);
            bail!("the program that decodes did not come to its end ({status})\n{text}\n{log}");
        }
        Ok(text)
    }
}

/// The files to add, with the trace in them.
fn with_trace(added: &[AddedFile]) -> Vec<AddedFile> {
    let mut added = added.to_vec();
    for file in &mut added {
        if file.path.ends_with("/otel.h") {
            file.bytes.extend_from_slice(HEADER.as_bytes());
        } else if file.path.ends_with("/otel.cpp") {
            file.bytes.extend_from_slice(RUNTIME.as_bytes());
        }
    }
    added
}

/// Behind each line of ours, one that names its point.
fn trace(plan: &mut Plan) {
    for edit in plan.files.values_mut() {
        let lines = std::mem::take(&mut edit.insertions);
        for line in lines {
            let is_macro = line.text.trim_start().starts_with("LLAMA_OTEL_");
            let fired = Insertion {
                offset: line.offset,
                text: format!("LLAMA_OTEL_FIRED(\"{}\");", line.point),
                point: line.point.clone(),
            };
            edit.insertions.push(line);
            if is_macro {
                edit.insertions.push(fired);
            }
        }
    }
}

fn report(plan: &Plan, output: &str) -> Report {
    let printed =
        |what: &str| -> BTreeSet<&str> { output.lines().filter_map(|line| line.strip_prefix(what)).collect() };
    let (fired, spans) = (printed("fired "), printed("span "));
    let mut report = Report { fired: 0, excused: Vec::new(), silent: Vec::new(), spans_missing: Vec::new() };
    for verdict in &plan.verdicts {
        let lines: Vec<_> = verdict.sites.iter().map(|site| site.inserted.as_str()).collect();
        if !lines.iter().any(|line| line.starts_with("LLAMA_OTEL_")) {
            continue;
        }
        let excuse = OUT_OF_REACH.iter().find(|(id, _)| *id == verdict.id);
        match (fired.contains(verdict.id.as_str()), excuse) {
            (false, Some((id, _))) => report.excused.push(id),
            (false, None) => report.silent.push(verdict.id.clone()),
            (true, _) => {
                report.fired += 1;
                let missing = lines.iter().filter_map(|line| span_name(line)).filter(|name| !spans.contains(name));
                report.spans_missing.extend(missing.map(str::to_owned));
            }
        }
    }
    report.spans_missing.sort();
    report.spans_missing.dedup();
    report
}

/// The name of the span that a line opens.
fn span_name(line: &str) -> Option<&str> {
    line.strip_prefix("LLAMA_OTEL_SPAN")?.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_did_not_fire_is_named() {
        let points = PointSet::parse([(
            "p.toml",
            "[[point]]\nid = \"a\"\npurpose = \"p\"\ninsert = 'LLAMA_OTEL_SPAN(\"s\");'\n\
             at = [{ file = \"f.cpp\", function = \"f\", position = \"body-start\" }]\n\
             [[point]]\nid = \"b\"\npurpose = \"p\"\ninsert = 'LLAMA_OTEL_START();'\n\
             at = [{ file = \"f.cpp\", function = \"f\", position = \"before\", match = '^return' }]\n",
        )])
        .unwrap();
        let tree = Tree::from_files("t", [("f.cpp".to_owned(), "int f() {\n    return 1;\n}\n")]);
        let mut plan = patcher::plan(&tree, &points, Vec::new()).unwrap();
        trace(&mut plan);
        let applied = plan.apply(&tree).unwrap();
        plan.verify(&tree, &applied).unwrap();
        let text = String::from_utf8(applied.files.values().next().unwrap().clone()).unwrap();
        assert!(text.contains("LLAMA_OTEL_FIRED(\"a\");") && text.contains("LLAMA_OTEL_FIRED(\"b\");"), "{text}");

        assert!(report(&plan, "fired a\nfired b\nspan s\n").is_complete());
        assert_eq!(report(&plan, "fired a\nspan s\n").silent, ["b"]);
        assert_eq!(report(&plan, "fired a\nfired b\n").spans_missing, ["s"]);
    }
}
