//! Turns a crate's sources into a module of another crate: paths that begin at the crate begin at the module, and the names of
//! crates that became modules are looked for in the crate around them. It goes by tokens, so that texts and comments stay, and
//! what it does not know how to rewrite is an error.

use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;

/// How the sources of one crate change.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// The module that the crate becomes; `None` for the sources of the crate that takes the others in.
    pub module: Option<&'a str>,
    /// The modules that other crates became, by the names of those.
    pub folded: &'a [&'a str],
}

/// A changed source.
pub struct Folded {
    pub text: String,
    /// Macros with `#[macro_export]`, which are at the root of the crate whatever module they stand in.
    pub exported_macros: Vec<String>,
}

/// An edit: these bytes become that text.
type Edit = (Range<usize>, String);

/// Applies `rule` to one file. A crate that becomes a module loses its tests, which need its own development dependencies.
///
/// # Errors
/// It is no Rust source, or has a path that no rule covers; then with the line.
pub fn fold(text: &str, rule: Rule<'_>) -> Result<Folded> {
    let file = syn::parse_file(text).map_err(|error| at(error.span(), &error.to_string()))?;
    let mut edits: Vec<Edit> = Vec::new();
    let mut exported_macros = Vec::new();
    for item in &file.items {
        if rule.module.is_some() && is_for_tests(item) {
            edits.push((with_line_end(text, item.span().byte_range()), String::new()));
        } else if let syn::Item::Macro(item) = item
            && let (Some(name), true) = (&item.ident, has_attribute(&item.attrs, "macro_export"))
        {
            exported_macros.push(name.to_string());
        }
    }
    let removed: Vec<_> = edits.iter().map(|(range, _)| range.clone()).collect();
    let tokens: TokenStream = text.parse().map_err(|_| anyhow::anyhow!("it has no tokens"))?;
    let mut paths = Vec::new();
    Walk { text, rule, edits: &mut paths }.stream(tokens)?;
    edits.extend(paths.into_iter().filter(|(range, _)| !removed.iter().any(|removed| removed.contains(&range.start))));

    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (range, new) in edits {
        out.push_str(text.get(end..range.start).context("two edits of one place")?);
        out.push_str(&new);
        end = range.end;
    }
    out.push_str(text.get(end..).unwrap_or_default());
    syn::parse_file(&out).map_err(|error| at(error.span(), &format!("after folding: {error}")))?;
    Ok(Folded { text: out, exported_macros })
}

fn at(span: Span, what: &str) -> anyhow::Error {
    anyhow::anyhow!("line {}: {what}", span.start().line)
}

fn has_attribute(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

/// `#[cfg(test)] mod tests`, or what exists for documentation tests only.
fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|cfg| cfg == "test" || cfg == "doctest")
    })
}

/// An item with the rest of its line, and the empty line before it.
fn with_line_end(text: &str, range: Range<usize>) -> Range<usize> {
    let rest = text.get(range.end..).unwrap_or_default();
    let end = range.end + rest.find('\n').map_or(rest.len(), |at| at + 1);
    let before = text.get(..range.start).unwrap_or_default();
    let start = if before.ends_with("\n\n") { range.start - 1 } else { range.start };
    start..end
}

struct Walk<'a> {
    text: &'a str,
    rule: Rule<'a>,
    edits: &'a mut Vec<Edit>,
}

impl Walk<'_> {
    fn stream(&mut self, stream: TokenStream) -> Result<()> {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let token = |index: Option<usize>| index.and_then(|index| tokens.get(index));
        for (index, this) in tokens.iter().enumerate() {
            let (before, after) = (token(index.checked_sub(1)), token(index.checked_add(1)));
            let starts_path = is_punct(after, ':') && is_punct(token(index.checked_add(2)), ':');
            match this {
                TokenTree::Group(group) => {
                    // `pub(crate)`, `pub(in path)`
                    let is_visibility = group.delimiter() == Delimiter::Parenthesis && is_ident(before, "pub");
                    if !(is_visibility && group.stream().to_string() == "crate") {
                        self.stream(group.stream())?;
                    }
                }
                TokenTree::Ident(ident) if ident == "crate" && !is_ident(before, "extern") => match self.rule.module {
                    None => {}
                    Some(module) if starts_path => self.replace(ident.span(), format!("crate::{module}")),
                    Some(_) => bail!(at(ident.span(), "`crate` that begins no path: how is it to be folded?")),
                },
                TokenTree::Ident(ident) if self.rule.folded.iter().any(|name| ident == name) => {
                    let follows_path = is_punct(before, ':') && is_joint_colon(token(index.checked_sub(2)));
                    let is_inside_path = follows_path || is_punct(before, '.');
                    if !is_inside_path && (starts_path || is_ident(before, "use")) {
                        self.replace(ident.span(), format!("crate::{ident}"));
                    }
                }
                TokenTree::Literal(literal) => self.documentation(literal.span()),
                _ => {}
            }
        }
        Ok(())
    }

    fn replace(&mut self, span: Span, new: String) {
        self.edits.push((span.byte_range(), new));
    }

    /// A comment that documents something is a literal whose text begins as the comment does: its links follow the items.
    fn documentation(&mut self, span: Span) {
        let (Some(module), Some(text)) = (self.rule.module, self.text.get(span.byte_range())) else { return };
        if (text.starts_with("//") || text.starts_with("/*")) && text.contains("crate::") {
            self.replace(span, text.replace("crate::", &format!("crate::{module}::")));
        }
    }
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The first half of `::`.
fn is_joint_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

fn is_ident(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str, module: Option<&str>) -> String {
        fold(text, Rule { module, folded: &["other_crate"] }).unwrap().text
    }

    #[test]
    fn paths_of_the_crate_begin_at_the_module() {
        for (before, after) in [
            ("use crate::a::{b, c};", "use crate::m::a::{b, c};"),
            ("use crate::{a, b::c};", "use crate::m::{a, b::c};"),
            ("pub(crate) fn f() {}", "pub(crate) fn f() {}"),
            ("pub(in crate::a) fn f() {}", "pub(in crate::m::a) fn f() {}"),
            ("fn f() { crate::g(crate::A) }", "fn f() { crate::m::g(crate::m::A) }"),
            (
                "macro_rules! m { () => { $crate::a::b!(crate::c) }; }",
                "macro_rules! m { () => { $crate::m::a::b!(crate::m::c) }; }",
            ),
            (
                "#[x] mod ffi { extern { type A = crate::a::A; } }",
                "#[x] mod ffi { extern { type A = crate::m::a::A; } }",
            ),
            ("const A: &str = \"crate::a\"; // crate::b", "const A: &str = \"crate::a\"; // crate::b"),
            ("/// See [`crate::a`].\nstruct A;", "/// See [`crate::m::a`].\nstruct A;"),
            ("//! See [`b`](crate::a).\n", "//! See [`b`](crate::m::a).\n"),
            ("const A: &str = \"ä\"; use crate::a;", "const A: &str = \"ä\"; use crate::m::a;"),
        ] {
            assert_eq!(folded(before, Some("m")), after);
            // The crate that takes others in keeps its own paths.
            assert_eq!(folded(before, None), before);
        }
    }

    #[test]
    fn crates_that_became_modules_are_found_in_the_crate() {
        for (before, after) in [
            ("use other_crate::{A, b::C};", "use crate::other_crate::{A, b::C};"),
            ("pub use other_crate as o;", "pub use crate::other_crate as o;"),
            ("other_crate::m!();", "crate::other_crate::m!();"),
            (
                "fn f(a: other_crate::A) { a::other_crate::b(); a.other_crate }",
                "fn f(a: crate::other_crate::A) { a::other_crate::b(); a.other_crate }",
            ),
            ("mod other_crate { }", "mod other_crate { }"),
        ] {
            assert_eq!(folded(before, None), after);
            assert_eq!(folded(before, Some("m")), after);
        }
    }

    #[test]
    fn a_crate_that_becomes_a_module_leaves_its_tests_behind() {
        let text = "use crate::a;\n\n/// For tests.\n#[cfg(test)]\npub(crate) mod tests {\n    use crate::b;\n}\n\n#[cfg(doctest)]\n#[doc = \"x\"]\nstruct Guide;\n\nfn f() {}\n";
        assert_eq!(folded(text, Some("m")), "use crate::m::a;\n\nfn f() {}\n");
        assert_eq!(folded(text, None), text);
    }

    #[test]
    fn exported_macros_are_named_and_the_unknown_is_refused() {
        let rule = Rule { module: Some("m"), folded: &[] };
        let text = "#[macro_export]\nmacro_rules! shown { () => {}; }\nmacro_rules! hidden { () => {}; }\n";
        assert_eq!(fold(text, rule).unwrap().exported_macros, ["shown"]);
        let error = fold("fn f() {}\n\nuse crate as c;", rule).err().unwrap().to_string();
        assert!(error.contains("line 3") && error.contains("begins no path"), "{error}");
        assert!(fold("fn f( {}", rule).is_err());
    }
}
