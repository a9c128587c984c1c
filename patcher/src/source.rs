//! One C++ file, read once: its bytes, its masked text, its `#if` chains and the index of its function definitions.

use std::ops::Range;
use std::sync::Arc;

use tree_sitter::{Node, Parser, Tree as SyntaxTree};

use crate::cpp_type;
use crate::mask::Mask;
use crate::preproc::Chains;

/// A parameter of a function definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its type in the form of `cpp_type::normalise`.
    pub normal: String,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// What follows a function's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Braces; the range holds both.
    Block(Range<usize>),
    /// `= default`, `= delete` or `= 0`, as written.
    Without(String),
}

/// One function definition; a lambda bound to a name counts as one.
#[derive(Debug, Clone)]
pub struct Function {
    /// Qualified name: namespaces, classes, and the enclosing function for what is defined inside one.
    pub name: String,
    /// Its parameters, without `void` and `...`.
    pub parameters: Vec<Parameter>,
    /// The parameter list as written, white space collapsed, parentheses included.
    pub signature: String,
    /// The whole definition.
    pub range: Range<usize>,
    /// Its body.
    pub body: Body,
    /// Whether the parser made full sense of what stands between parameter list and body.
    pub head_is_clear: bool,
}

/// A parsed file.
pub struct SourceFile {
    /// Path from the tree's root.
    pub path: String,
    /// The file as it is.
    pub bytes: Arc<[u8]>,
    /// Comments and literals blanked.
    pub mask: Mask,
    /// Its `#if` chains.
    pub chains: Chains,
    syntax: Option<SyntaxTree>,
    functions: Vec<Function>,
    unclear: Vec<Range<usize>>,
    /// Masked text without preprocessor directives.
    bare: Vec<u8>,
    is_balanced: bool,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// Reads a file without looking for functions.
    pub fn scan(path: &str, bytes: Arc<[u8]>) -> Self {
        let mask = Mask::new(&bytes);
        let chains = Chains::new(mask.code());
        let line_starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1)).collect();
        SourceFile {
            path: path.to_owned(),
            bytes,
            mask,
            chains,
            syntax: None,
            functions: Vec::new(),
            unclear: Vec::new(),
            bare: Vec::new(),
            is_balanced: true,
            line_starts,
        }
    }

    /// Reads a file and indexes its functions.
    pub fn parse(path: &str, bytes: Arc<[u8]>) -> Self {
        let mut file = Self::scan(path, bytes);
        let mut parser = Parser::new();
        // A grammar that the linked tree-sitter cannot load would find no function: every point would be lost, loudly.
        if parser.set_language(&tree_sitter_cpp::LANGUAGE.into()).is_ok() {
            file.syntax = parser.parse(file.mask.code(), None);
        }
        if let Some(syntax) = &file.syntax {
            (file.functions, file.unclear) = Indexer::new(file.mask.code()).run(syntax.root_node());
        }
        file.is_balanced = crate::preproc::braces_balance(file.mask.code());
        file.bare = crate::preproc::without_directives(file.mask.code());
        file
    }

    /// Whether every brace has its counterpart, in the first branch of each `#if` chain.
    pub(crate) fn is_balanced(&self) -> bool {
        self.is_balanced
    }

    /// How many definitions of a name there are by the text alone: the name, a list in parentheses, a brace.
    /// It is the last part of a qualified name that counts.
    pub(crate) fn definitions_by_text(&self, last_name: &str) -> usize {
        let code = &self.bare;
        let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let starts = memchr::memmem::find_iter(code, last_name.as_bytes());
        starts
            .filter(|at| !is_word(at.checked_sub(1).and_then(|before| code.get(before))))
            .filter(|at| {
                let rest = code.get(at + last_name.len()..).unwrap_or_default();
                let list = rest.trim_ascii_start();
                list.starts_with(b"(") && after_parentheses(list).is_some_and(opens_body)
            })
            .count()
    }

    /// Its function definitions, in file order.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Start of the first part that mentions `name(` and that the parser gave up on.
    pub(crate) fn unclear_mention(&self, name: &str) -> Option<usize> {
        let mentions = |part: &&Range<usize>| {
            let text = String::from_utf8_lossy(&self.mask.code()[part.start..part.end]);
            text.match_indices(name).any(|(at, _)| text[at + name.len()..].trim_start().starts_with('('))
        };
        self.unclear.iter().find(mentions).map(|part| part.start)
    }

    /// Whether a word is in the file's code.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        let code = self.mask.code();
        let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let mut from = 0;
        while let Some(at) = crate::mask::find(code, word.as_bytes(), from) {
            if !is_word(at.checked_sub(1).and_then(|before| code.get(before))) && !is_word(code.get(at + word.len())) {
                return true;
            }
            from = at + 1;
        }
        false
    }

    /// The syntax node that spans exactly `range`, if there is one.
    pub(crate) fn node(&self, range: &Range<usize>) -> Option<Node<'_>> {
        let mut node = self.syntax.as_ref()?.root_node().descendant_for_byte_range(range.start, range.end)?;
        while node.byte_range() == *range && node.kind() != "compound_statement" {
            node = node.parent()?;
        }
        (node.byte_range() == *range).then_some(node)
    }

    /// In how many loops of its function a byte is, as far as the tree says.
    pub(crate) fn loops_around(&self, offset: usize) -> usize {
        let root = self.syntax.as_ref().map(tree_sitter::Tree::root_node);
        let innermost = root.and_then(|root| root.descendant_for_byte_range(offset, offset));
        std::iter::successors(innermost, Node::parent)
            .take_while(|node| !matches!(node.kind(), "function_definition" | "lambda_expression"))
            .filter(|node| {
                matches!(node.kind(), "for_statement" | "for_range_loop" | "while_statement" | "do_statement")
            })
            .count()
    }

    /// Line number, from 1, of a byte.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// First byte of the line that `offset` is on.
    pub fn line_start(&self, offset: usize) -> usize {
        self.line_starts.get(self.line_of(offset).saturating_sub(1)).copied().unwrap_or(0)
    }

    /// First byte of the line after the one that `offset` is on, if a newline ends that one.
    pub fn next_line_start(&self, offset: usize) -> Option<usize> {
        self.line_starts.get(self.line_of(offset)).copied()
    }

    /// A line's text, from its number, without indentation and end.
    pub fn line_text(&self, line: usize) -> String {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.bytes.len());
        let end = self.line_starts.get(line).copied().unwrap_or(self.bytes.len());
        String::from_utf8_lossy(&self.bytes[start..end]).trim().to_owned()
    }

    /// White space at the start of the line that `offset` is on.
    pub fn indentation(&self, offset: usize) -> &str {
        let line = &self.bytes[self.line_start(offset)..];
        let length = line.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        std::str::from_utf8(&line[..length]).unwrap_or_default()
    }
}

/// What follows the parenthesis that closes the one at the start.
fn after_parentheses(text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return text.get(at + 1..),
            b')' => depth -= 1,
            // No parameter list: a call that is cut off.
            b';' | b'{' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Whether a parameter list with this behind it is that of a definition; initialiser lists are not looked for.
fn opens_body(mut rest: &[u8]) -> bool {
    loop {
        rest = rest.trim_ascii_start();
        if rest.starts_with(b"{") {
            return true;
        }
        let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        match rest.get(..word) {
            Some(b"const" | b"noexcept" | b"override" | b"final") => rest = &rest[word..],
            _ => return false,
        }
    }
}

/// Walks a syntax tree and notes every function definition. Iterative: nesting depth is the input's choice.
struct Indexer<'a> {
    code: &'a [u8],
    /// Every opening brace. What holds none has no function in it: most of a file need not be walked.
    braces: Vec<usize>,
    functions: Vec<Function>,
    /// Of each function, where its parameter list starts.
    parameter_starts: Vec<usize>,
    errors: Vec<Range<usize>>,
    scopes: Vec<(usize, String)>,
}

impl<'a> Indexer<'a> {
    fn new(code: &'a [u8]) -> Self {
        let braces = memchr::memchr_iter(b'{', code).collect();
        Indexer {
            code,
            braces,
            functions: Vec::new(),
            parameter_starts: Vec::new(),
            errors: Vec::new(),
            scopes: Vec::new(),
        }
    }

    /// Whether a node may hold a definition, or a part that the parser gave up on.
    fn is_worth_entering(&self, node: Node<'_>) -> bool {
        let range = node.byte_range();
        let next = self.braces.partition_point(|at| *at < range.start);
        let has_brace = self.braces.get(next).is_some_and(|at| *at < range.end);
        // A definition may do without (`= default`), and these may hold one.
        let may_wrap = |kind: &str| {
            matches!(kind, "template_declaration" | "linkage_specification") || kind.starts_with("preproc_")
        };
        has_brace || node.has_error() || may_wrap(node.kind())
    }

    fn run(mut self, root: Node<'_>) -> (Vec<Function>, Vec<Range<usize>>) {
        let mut cursor = root.walk();
        let mut depth = 0;
        'walk: loop {
            let node = cursor.node();
            if node.is_error() || node.is_missing() {
                self.errors.push(node.byte_range());
            }
            if node.is_named() {
                self.enter(node, depth);
            }
            if self.is_worth_entering(node) && cursor.goto_first_child() {
                depth += 1;
                continue;
            }
            loop {
                self.scopes.pop_if(|(at, _)| *at == depth);
                if cursor.goto_next_sibling() {
                    break;
                }
                if !cursor.goto_parent() {
                    break 'walk;
                }
                depth -= 1;
            }
        }
        for (function, from) in self.functions.iter_mut().zip(&self.parameter_starts) {
            if let Body::Block(body) = &function.body {
                function.head_is_clear = !self.errors.iter().any(|error| (*from..body.start).contains(&error.start));
            }
        }
        (self.functions, self.errors)
    }

    fn enter(&mut self, node: Node<'_>, depth: usize) {
        let scope = match node.kind() {
            "namespace_definition" | "class_specifier" | "struct_specifier" | "union_specifier" => {
                if node.child_by_field_name("body").is_none() {
                    return;
                }
                node.child_by_field_name("name").map(|name| self.scope_name(name))
            }
            "function_definition" => self.function(node),
            "lambda_expression" => self.lambda(node),
            _ => return,
        };
        if let Some(scope) = scope.filter(|s| !s.is_empty()) {
            self.scopes.push((depth, scope));
        }
    }

    /// Notes a definition; gives back its name within the scope that it stands in.
    fn function(&mut self, node: Node<'_>) -> Option<String> {
        let mut declarator = node.child_by_field_name("declarator")?;
        let mut list = None;
        let name = loop {
            match declarator.kind() {
                "function_declarator" => {
                    list = declarator.child_by_field_name("parameters");
                    declarator = declarator.child_by_field_name("declarator")?;
                }
                "pointer_declarator"
                | "reference_declarator"
                | "parenthesized_declarator"
                | "attributed_declarator" => declarator = inner_declarator(declarator)?,
                _ => break self.declared_name(declarator, &mut list),
            }
        };
        let body = self.body_of(node)?;
        self.add(name.clone(), node, list, body);
        Some(name)
    }

    fn lambda(&mut self, node: Node<'_>) -> Option<String> {
        let parent = node.parent().filter(|p| p.kind() == "init_declarator")?;
        let name = parent.child_by_field_name("declarator").filter(|d| d.kind() == "identifier")?;
        let name = self.text(name);
        let list = node.child_by_field_name("declarator").and_then(|d| d.child_by_field_name("parameters"));
        let body = Body::Block(node.child_by_field_name("body")?.byte_range());
        self.add(name.clone(), node, list, body);
        Some(name)
    }

    fn add(&mut self, name: String, node: Node<'_>, list: Option<Node<'_>>, body: Body) {
        let mut path: Vec<&str> = self.scopes.iter().map(|(_, scope)| scope.as_str()).collect();
        path.push(&name);
        let outer = node.parent().filter(|p| p.kind() == "template_declaration").unwrap_or(node);
        self.functions.push(Function {
            name: path.join("::"),
            parameters: list.map(|list| self.parameters(list)).unwrap_or_default(),
            signature: list.map_or_else(|| "()".to_owned(), |list| self.text(list)),
            range: outer.byte_range(),
            body,
            head_is_clear: true,
        });
        self.parameter_starts.push(list.map_or(node.start_byte(), |list| list.start_byte()));
    }

    fn body_of(&self, node: Node<'_>) -> Option<Body> {
        for child in children(node) {
            match child.kind() {
                "compound_statement" => return Some(Body::Block(child.byte_range())),
                // A function-try-block: the function's body is the block under `try`.
                "try_statement" | "constructor_try_statement" => {
                    return Some(Body::Block(child.child_by_field_name("body")?.byte_range()));
                }
                "default_method_clause" | "delete_method_clause" | "pure_virtual_clause" => {
                    return Some(Body::Without(self.text(child).trim_end_matches(';').to_owned()));
                }
                _ => {}
            }
        }
        None
    }

    /// The name that a declarator declares, qualifiers included. `list` is set where the node holds the parameter list itself.
    fn declared_name<'t>(&self, node: Node<'t>, list: &mut Option<Node<'t>>) -> String {
        match node.kind() {
            "qualified_identifier" => {
                let name =
                    node.child_by_field_name("name").map(|name| self.declared_name(name, list)).unwrap_or_default();
                // An unknown macro in front of a type makes the type look like a scope; the absent `::` gives it away.
                let is_scope = children(node).all(|child| !child.is_missing());
                match node.child_by_field_name("scope").filter(|_| is_scope) {
                    Some(scope) => format!("{}::{name}", self.scope_name(scope)),
                    None => name,
                }
            }
            "operator_cast" => {
                *list = node.child_by_field_name("declarator").and_then(|d| d.child_by_field_name("parameters"));
                let target = node.start_byte()..list.map_or(node.end_byte(), |l| l.start_byte());
                cpp_type::squeeze(&String::from_utf8_lossy(&self.code[target]))
            }
            "template_function" | "template_method" => {
                node.child_by_field_name("name").map(|name| self.text(name)).unwrap_or_default()
            }
            _ => cpp_type::squeeze(&self.text(node)),
        }
    }

    /// The name of a namespace or class, template arguments dropped.
    fn scope_name(&self, node: Node<'_>) -> String {
        match node.kind() {
            "template_type" => node.child_by_field_name("name").map(|name| self.text(name)).unwrap_or_default(),
            "qualified_identifier" => self.declared_name(node, &mut None),
            _ => cpp_type::squeeze(&self.text(node)),
        }
    }

    fn parameters(&self, list: Node<'_>) -> Vec<Parameter> {
        let is_parameter = |n: &Node<'_>| {
            matches!(
                n.kind(),
                "parameter_declaration" | "optional_parameter_declaration" | "variadic_parameter_declaration"
            )
        };
        children(list)
            .filter(is_parameter)
            .map(|node| self.parameter(node))
            .filter(|p| p.normal != "void" || p.name.is_some())
            .collect()
    }

    fn parameter(&self, node: Node<'_>) -> Parameter {
        let mut declarator = node.child_by_field_name("declarator");
        while let Some(inner) = declarator.and_then(inner_declarator) {
            declarator = Some(inner);
        }
        let name = declarator.filter(|d| d.kind() == "identifier");
        // The type is what is left of the declaration without name, attributes and default value.
        let mut text = self.code[node.byte_range()].to_vec();
        let default = node.child_by_field_name("default_value").and_then(|value| value.prev_sibling());
        if let Some(equals) = default {
            text.truncate(equals.start_byte() - node.start_byte());
        }
        for gone in children(node).filter(|n| n.kind() == "attribute_declaration").chain(name) {
            text[gone.start_byte() - node.start_byte()..gone.end_byte() - node.start_byte()].fill(b' ');
        }
        let mut normal = cpp_type::normalise(&String::from_utf8_lossy(&text));
        if normal.ends_with(']')
            && let Some(open) = normal.rfind('[')
        {
            normal.replace_range(open.., "*");
        }
        Parameter { normal, name: name.map(|n| self.text(n)) }
    }

    fn text(&self, node: Node<'_>) -> String {
        String::from_utf8_lossy(&self.code[node.byte_range()]).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The declarator inside a declarator, if it wraps one.
fn inner_declarator(node: Node<'_>) -> Option<Node<'_>> {
    if node.kind().starts_with("abstract_") {
        return None;
    }
    let is_declarator = |n: &Node<'_>| {
        n.kind().ends_with("declarator") || n.kind().ends_with("identifier") || n.kind() == "operator_cast"
    };
    node.child_by_field_name("declarator").or_else(|| children(node).find(is_declarator))
}

/// The named children of a node.
pub(crate) fn children(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        let file = SourceFile::parse("x.cpp", Arc::from(code.as_bytes()));
        file.functions()
            .iter()
            .map(|f| {
                format!(
                    "{}{}",
                    f.name,
                    f.parameters
                        .iter()
                        .map(|p| format!(" {}={}", p.name.as_deref().unwrap_or("-"), p.normal))
                        .collect::<String>()
                )
            })
            .collect()
    }

    #[test]
    fn every_kind_of_definition_is_indexed_under_its_qualified_name() {
        let code = r#"
            namespace a::b { namespace { int f(void) { return 1; } } }
            struct S { S(); ~S() = default; S(const S &) = delete; operator bool() const { return 1; } bool operator == (const S & o) { return 1; } };
            S::S() : x([&](int i) { return i; }), y{1} { }
            S::operator int() const { return 1; }
            S & S::operator=(const S & o) { return *this; }
            struct T : S { T() try : S() { } catch (...) { } };
            template <typename V> V * C<V>::get(V v) { return 0; }
            extern "C" { int ec(struct foo * x, ...) { auto run = [&](int n) { return n; }; struct L { int m() { return 1; } }; return run(1); } }
            GGML_CALL buffer_t bt(int a) { return a; }
            static GGML_CALL bool bt2(int a) { return a; }
        "#;
        assert_eq!(
            names(code),
            [
                "a::b::f",
                "S::~S",
                "S::S -=S",
                "S::operator bool",
                "S::operator== o=S",
                "S::S",
                "S::operator int",
                "S::operator= o=S",
                "T::T",
                "C::get v=V",
                "ec x=foo*",
                "ec::run n=int",
                "ec::L::m",
                "bt a=int",
                "bt2 a=int"
            ]
        );
    }

    #[test]
    fn parameters_have_a_type_and_perhaps_a_name() {
        let code = r#"void f(const std::vector<std::string> & v, int (*cb)(int), float arr[3], llama_batch, const char * s = "x", [[maybe_unused]] bool b = true) { }"#;
        assert_eq!(
            names(code),
            ["f v=std::vector<std::string> cb=int(*)(int) arr=float* -=llama_batch s=char* b=bool"]
        );
    }
}
