//! Names of entries: which are taken, and what they are below the folder.

use crate::error::Problem;

/// Longest path, in bytes, and deepest, in folders.
const LONGEST: usize = 1000;
const DEEPEST: usize = 64;

/// Names that are devices on Windows, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The parts of an entry's name, without `.` and empty ones. None are left of the name of the folder itself.
///
/// # Errors
/// The name is absolute, leads out, or is not portable.
pub fn parts(name: &[u8]) -> Result<Vec<&str>, Problem> {
    let name = portable(name)?;
    if name.starts_with('/') {
        return Err(Problem::Absolute);
    }
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    for part in &parts {
        check_part(part)?;
    }
    if parts.len() > DEEPEST {
        return Err(Problem::Name("it is too deep"));
    }
    Ok(parts)
}

/// Where a symbolic link in the folder `from` leads, below the folder. `is_link` knows the links of the archive.
///
/// # Errors
/// It is absolute, leads out, goes through or to another link, or is not portable.
pub fn link_target(from: &[&str], target: &[u8], is_link: impl Fn(&str) -> bool) -> Result<String, Problem> {
    let text = portable(target)?;
    if text.starts_with('/') {
        return Err(Problem::LinkAbsolute(text.to_owned()));
    }
    let mut parts = from.to_vec();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(|| Problem::LinkOut(text.to_owned()))?),
            part => {
                check_part(part)?;
                parts.push(part);
                // Here and not at the end: a `..` behind a link is not the folder that the link lies in.
                if is_link(&parts.join("/")) {
                    return Err(Problem::LinkChain(text.to_owned()));
                }
            }
        }
    }
    Ok(parts.join("/"))
}

/// The text, unless a character in it means something else on some system.
fn portable(name: &[u8]) -> Result<&str, Problem> {
    if name.len() > LONGEST {
        return Err(Problem::Name("it is too long"));
    }
    let text = std::str::from_utf8(name).map_err(|_| Problem::Name("it is not UTF-8"))?;
    let bytes = text.as_bytes();
    match text.chars().find(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
        _ if text.is_empty() => Err(Problem::Name("it is empty")),
        _ if bytes.starts_with(b"\\\\") => Err(Problem::Name("it names another machine")),
        _ if bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':') => {
            Err(Problem::Name("it names a drive"))
        }
        Some('\\') => Err(Problem::Name("it has a \\, which separates folders on Windows")),
        Some(c) if c.is_control() => Err(Problem::Name("it has a control character")),
        Some(_) => Err(Problem::Name("it has one of : * ? \" < > |, which Windows does not take")),
        None => Ok(text),
    }
}

fn check_part(part: &str) -> Result<(), Problem> {
    if part == ".." {
        return Err(Problem::LeadsOut);
    }
    if part.ends_with(['.', ' ']) {
        return Err(Problem::Name("Windows drops the . or blank at its end"));
    }
    if part.len() > 255 {
        return Err(Problem::Name("it is too long"));
    }
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        let number = stem.strip_prefix(port).map(str::chars);
        number.is_some_and(|mut rest| matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None)))
    });
    if is_port || DEVICES.contains(&stem.as_str()) {
        return Err(Problem::Name("it is a device on Windows"));
    }
    Ok(())
}

/// What a system without case takes for the same.
pub fn folded(path: &str) -> String {
    path.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        assert_eq!(parts(b"./a//b/./c.cpp").unwrap(), ["a", "b", "c.cpp"]);
        assert_eq!(parts(b"a/").unwrap(), ["a"]);
        assert_eq!(parts("\u{fc}/.clang-format".as_bytes()).unwrap(), ["\u{fc}", ".clang-format"]);
        assert_eq!(parts(b"common/console.cpp").unwrap(), ["common", "console.cpp"]);
        assert!(parts(b"./").unwrap().is_empty());
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        let long = [b'x'; 256];
        let cases: [(&[u8], Problem); 17] = [
            (b"/etc/passwd", Problem::Absolute),
            (b"//host/share", Problem::Absolute),
            (b"..", Problem::LeadsOut),
            (b"a/../../b", Problem::LeadsOut),
            (b"a/..", Problem::LeadsOut),
            (b"C:/x", Problem::Name("it names a drive")),
            (b"c:x", Problem::Name("it names a drive")),
            (br"\\host\share", Problem::Name("it names another machine")),
            (br"a\..\b", Problem::Name("it has a \\, which separates folders on Windows")),
            (b"ab:stream", Problem::Name("it has one of : * ? \" < > |, which Windows does not take")),
            (b"a\0b", Problem::Name("it has a control character")),
            (b"", Problem::Name("it is empty")),
            (b"a/NUL.txt", Problem::Name("it is a device on Windows")),
            (b"lpt1", Problem::Name("it is a device on Windows")),
            (b"a./b", Problem::Name("Windows drops the . or blank at its end")),
            (b"\xff", Problem::Name("it is not UTF-8")),
            (&long, Problem::Name("it is too long")),
        ];
        for (name, problem) in cases {
            assert_eq!(parts(name), Err(problem), "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(parts("a/".repeat(65).as_bytes()), Err(Problem::Name("it is too deep")));
    }

    #[test]
    fn links_are_followed_by_their_text() {
        let target = |from: &[&str], target: &[u8]| link_target(from, target, |path| path == "a/link");
        assert_eq!(target(&["a", "b"], b"../c").unwrap(), "a/c");
        assert_eq!(target(&["a"], b"./b//c").unwrap(), "a/b/c");
        assert_eq!(target(&["a"], b"../.."), Err(Problem::LinkOut("../..".to_owned())));
        assert_eq!(target(&["a"], b"link/../x"), Err(Problem::LinkChain("link/../x".to_owned())));
        assert_eq!(target(&[], b"/etc"), Err(Problem::LinkAbsolute("/etc".to_owned())));
        assert!(target(&[], b"C:/x").is_err());
    }
}
