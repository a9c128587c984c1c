//! C++ types in the form in which a point's parameter and a function's parameter are compared.

/// A type with `const`, `volatile`, `struct`, `class`, `enum`, `typename`, references and insignificant white space
/// dropped: `const struct llama_batch &` and `llama_batch` are alike, `llama_batch *` is not.
pub fn normalise(written: &str) -> String {
    join(
        tokens(written)
            .filter(|token| !matches!(*token, "const" | "volatile" | "struct" | "class" | "enum" | "typename" | "&")),
    )
}

/// Text with white space kept only where it parts two words: `operator  ==` is `operator==`.
pub(crate) fn squeeze(written: &str) -> String {
    join(tokens(written))
}

fn join<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    let mut after_word = false;
    for token in tokens {
        let is_word = token.starts_with(is_word_char);
        if is_word && after_word {
            out.push(' ');
        }
        out.push_str(token);
        after_word = is_word;
    }
    out
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end =
            if is_word_char(first) { rest.find(|c| !is_word_char(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn spelling_does_not_matter_and_the_type_does() {
        assert_eq!(normalise("const  struct llama_batch\n &"), "llama_batch");
        assert_eq!(normalise("llama_batch&&"), "llama_batch");
        assert_eq!(normalise("struct llama_context * const"), "llama_context*");
        assert_eq!(normalise("std::vector< std::string > &"), "std::vector<std::string>");
        assert_eq!(normalise("unsigned   int"), "unsigned int");
        assert_eq!(normalise("std::pair<unsigned int,const char *>"), "std::pair<unsigned int,char*>");
        assert_ne!(normalise("llama_batch *"), normalise("llama_batch"));
        assert_ne!(normalise("constant"), normalise("ant"));
    }
}
