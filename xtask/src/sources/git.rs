//! Trees of Git repositories, through the user's own git: credentials, proxies, certificates and mirrors
//! (`url.<mirror>.insteadOf`) are honoured because git itself runs, with the user's configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Fetched, Origin, archive, origin::is_commit};
use crate::{context::Context, install::install_command, progress::Unit, python::last_lines};

/// Variables by which git, where it runs a hook, tells the programs below it which repository is meant.
const OF_A_REPOSITORY: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];
/// The commit's bytes as they are: no line ends of a system, no filters, nothing that is left out of an archive.
const ATTRIBUTES: &str = "* -text -eol -crlf -ident -filter -working-tree-encoding -export-ignore -export-subst\n";
/// Where what is fetched is kept, beside branches and tags.
const FETCHED: &str = "refs/llama-otel/fetched";

/// The tree of one commit: shallow, without submodules, without `.git`.
///
/// # Errors
/// There is no git; the repository cannot be reached; it has no such branch, tag or commit.
pub fn fetch(context: &Context, url: &str, rev: &str, scratch: &Path) -> Result<Fetched> {
    let shown = crate::upstream::Source::Git { url: url.to_owned(), rev: rev.to_owned(), subdir: None }.to_string();
    // A folder, as git would take it if it ran in the checkout.
    let url = match context.root.join(url) {
        dir if dir.is_dir() => dir.into_os_string(),
        _ => url.into(),
    };
    let repository = Repository { dir: scratch.join("repository") };
    let init = ["init", "--quiet", "--bare", "--template="].map(std::ffi::OsStr::new);
    checked(Command::new("git").args(init).arg(&repository.dir), "make a repository")?;
    let info = repository.dir.join("info");
    fs::create_dir_all(&info).and_then(|()| fs::write(info.join("attributes"), ATTRIBUTES))?;

    let phase = context.ui.phase(format!("fetch {shown}"), Unit::Unknown);
    let fetch = |depth: &[&str], refs: &[&str]| {
        let mut command = repository.git();
        command.args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance"]).args(depth);
        command.arg("--").arg(&url).args(refs);
        output(&mut command)
    };
    let one = fetch(&["--depth", "1"], &[&format!("+{rev}:{FETCHED}")])?;
    let mut has_history = false;
    if !one.status.success() {
        let said = String::from_utf8_lossy(&one.stderr).into_owned();
        let is_unknown = ["couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref"];
        if !is_unknown.iter().any(|text| said.contains(text)) {
            bail!(
                "git could not fetch {shown}\n{}\nhelp: check the address, the network and your git configuration \
                 (credentials, http.proxy); a mirror: git config --global url.MIRROR.insteadOf ADDRESS",
                last_lines(&said, 10)
            );
        }
        // A short hash is no name that can be asked for, and some servers give branches and tags only.
        let is_there = is_commit(&rev.to_lowercase()) && {
            context.ui.say("the server does not give a commit by that name: fetching its branches and tags ...");
            let all = fetch(&[], &["+refs/heads/*:refs/llama-otel/heads/*", "+refs/tags/*:refs/tags/*"])?;
            has_history = true;
            all.status.success() && {
                let commit = format!("{rev}^{{commit}}");
                let found = output(repository.git().args(["rev-parse", "--verify", "--quiet", &commit]))?;
                let commit = String::from_utf8_lossy(&found.stdout).trim().to_owned();
                found.status.success()
                    && output(repository.git().args(["update-ref", FETCHED, &commit]))?.status.success()
            }
        };
        if !is_there {
            bail!(
                "there is no {shown}: it is no branch and no tag there, and no commit that one of them leads to\n{}\n\
                 help: git ls-remote shows what there is",
                last_lines(&said, 3)
            );
        }
    }
    let commit = repository.answer(&["rev-parse", "--verify", &format!("{FETCHED}^{{commit}}")])?;
    let file = scratch.join(format!("{}.tar", commit.get(..12).unwrap_or("commit")));
    let mut command = repository.git();
    // line ends as the repository wants them, whatever the user's own setting: the digest is the same everywhere
    command
        .args(["-c", "core.autocrlf=false", "-c", "core.eol=lf", "archive", "--format=tar", "--output"])
        .arg(&file)
        .arg(&commit);
    checked(&mut command, "read the commit")?;
    phase.finish(commit.get(..12).unwrap_or_default());

    let mut origin = Origin { build_commit: Some(commit.clone()), ..Origin::default() };
    if has_history {
        origin.describe = repository.answer(&["describe", "--tags", "--always", &commit]).ok();
        // Upstream's build number is the number of commits.
        origin.build_number =
            repository.answer(&["rev-list", "--count", &commit]).ok().and_then(|count| count.parse().ok());
    } else if let Some(tag) = tag_of(&repository, &url, rev, &commit) {
        origin.build_number = Origin::of_name(&tag).build_number;
        origin.describe = Some(tag);
    }
    let fetched = archive::unpacked(context, &file, scratch)?;
    Ok(Fetched { origin: origin.or(fetched.origin), dir: fetched.dir })
}

/// The tag of the commit, one that is a build number first. It costs one question to the server; no answer is no error.
fn tag_of(repository: &Repository, url: &std::ffi::OsStr, rev: &str, commit: &str) -> Option<String> {
    if Origin::of_name(rev).build_number.is_some() {
        return Some(rev.to_owned());
    }
    let listed = output(repository.git().args(["ls-remote", "--quiet", "--tags", "--"]).arg(url)).ok()?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let tags = text.lines().filter_map(|line| {
        let (hash, name) = line.split_once('\t')?;
        (hash == commit).then_some(name.strip_prefix("refs/tags/")?.trim_end_matches("^{}").to_owned())
    });
    let tags: Vec<_> = tags.collect();
    tags.iter().find(|tag| Origin::of_name(tag).build_number.is_some()).or(tags.first()).cloned()
}

/// A repository on this machine.
pub struct Repository {
    /// Where git is told to work.
    pub dir: PathBuf,
}

impl Repository {
    /// A git command in it.
    pub fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.dir).arg("--no-optional-locks");
        command
    }

    /// What git prints, without the line end.
    ///
    /// # Errors
    /// git fails.
    pub fn answer(&self, args: &[&str]) -> Result<String> {
        let output = checked(self.git().args(args), args.first().copied().unwrap_or_default())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// Runs git to its end, whatever comes of it.
///
/// # Errors
/// There is no git.
pub fn output(command: &mut Command) -> Result<Output> {
    for name in OF_A_REPOSITORY {
        command.env_remove(name);
    }
    // What it says is read here, and not only shown.
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("cannot start git, which gets repositories\nhelp: {}", install_command(&["git"])))
}

fn checked(command: &mut Command, what: &str) -> Result<Output> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("git could not {what}\n{}", last_lines(&String::from_utf8_lossy(&output.stderr), 5));
    }
    Ok(output)
}
