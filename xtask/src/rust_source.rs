//! Just enough of Rust's grammar for the house rules: words, punctuation, literals, comments.
//!
//! A rule that greps finds its forbidden word in comments and strings, and misses
//! `use std::{fs, io}`. Over tokens it does neither.

#[cfg(test)]
mod tests;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An identifier or a keyword.
    Word,
    /// One punctuation character, or `::`.
    Punctuation,
    /// A string, character or number, with its quotes.
    Literal,
    /// A lifetime, with its quote.
    Lifetime,
}

/// One token and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

/// One comment; a block comment stands at the line it begins on.
#[derive(Clone, Copy, Debug)]
pub struct Comment<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// A file, taken apart.
pub struct Source<'a> {
    pub tokens: Vec<Token<'a>>,
    pub comments: Vec<Comment<'a>>,
}

impl<'a> Source<'a> {
    /// Takes `text` apart. Text that is no Rust gives some tokens too: the compiler complains, not this.
    pub fn scan(text: &'a str) -> Source<'a> {
        let mut scanner =
            Scanner { text, at: 0, line: 1, tokens: Vec::new(), comments: Vec::new() };
        while scanner.at < text.len() {
            scanner.step();
        }
        Source { tokens: scanner.tokens, comments: scanner.comments }
    }

    /// The same without the items under `#[cfg(test)]`.
    pub fn without_tests(mut self) -> Source<'a> {
        let mut kept = Vec::with_capacity(self.tokens.len());
        let mut at = 0;
        while at < self.tokens.len() {
            if is_test_attribute(&self.tokens[at..]) {
                at = end_of_item(&self.tokens, at);
            } else {
                kept.push(self.tokens[at]);
                at += 1;
            }
        }
        self.tokens = kept;
        self
    }

    /// Whether the tokens at `at` are exactly `pattern`.
    pub fn matches(&self, at: usize, pattern: &[&str]) -> bool {
        matches(&self.tokens[at..], pattern)
    }

    /// The lines where the tokens of `pattern` stand one after the other.
    pub fn lines_of(&self, pattern: &[&str]) -> Vec<usize> {
        let here = (0..self.tokens.len()).filter(|at| self.matches(*at, pattern));
        here.map(|at| self.tokens[at].line).collect()
    }

    /// Every path such as `std::fs::File`, with groups (`std::{fs, io}`) written out.
    pub fn paths(&self) -> Vec<(String, usize)> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.tokens[at].kind == Kind::Word {
                at = read_path(&self.tokens, at, "", &mut paths);
            } else {
                at += 1;
            }
        }
        paths
    }
}

/// Whether `tokens` begin with `pattern`.
pub fn matches(tokens: &[Token<'_>], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens.iter().zip(pattern).all(|(token, text)| token.text == *text)
}

/// Whether an attribute that leaves its item to tests begins here: `#[cfg(test)]` or
/// `#[cfg(all(test, …))]`. `any(test, …)` does not, since its item is built without tests too.
pub fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    matches(tokens, &["#", "[", "cfg", "(", "test", ")", "]"])
        || matches(tokens, &["#", "[", "cfg", "(", "all", "(", "test"])
}

/// The position after the item whose attributes begin at `at`.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    while matches(&tokens[at..], &["#", "["]) {
        at = after_group(tokens, at + 1);
    }
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" => return after_group(tokens, at),
            "(" | "[" => at = after_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The position after the bracket that closes the one at `at`.
pub fn after_group(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < tokens.len() {
        match tokens[at].text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Reads the path at `at`, which is a word, below `prefix`; returns the position after it.
fn read_path(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &str,
    paths: &mut Vec<(String, usize)>,
) -> usize {
    let line = tokens[at].line;
    let mut path = join(prefix, tokens[at].text);
    at += 1;
    while matches(&tokens[at..], &["::"]) {
        match tokens.get(at + 1) {
            Some(next) if next.kind == Kind::Word => {
                path = join(&path, next.text);
                at += 2;
            }
            Some(next) if next.text == "{" => return read_group(tokens, at + 2, &path, paths),
            _ => break,
        }
    }
    paths.push((path, line));
    at
}

/// Reads `a, b::{c, d}, …}` below `prefix`.
fn read_group(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &str,
    paths: &mut Vec<(String, usize)>,
) -> usize {
    while at < tokens.len() && tokens[at].text != "}" {
        if tokens[at].kind == Kind::Word && tokens[at].text != "as" {
            at = read_path(tokens, at, prefix, paths);
        } else {
            // A comma, a star, or `as` with the new name that follows it.
            at += if tokens[at].text == "as" { 2 } else { 1 };
        }
    }
    at + 1
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
    comments: Vec<Comment<'a>>,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn step(&mut self) {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return };
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if rest.starts_with("//") {
            self.comment(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.comment(block_comment(rest));
        } else if let Some(length) = string(rest) {
            self.token(Kind::Literal, length);
        } else if first == '\'' {
            let (kind, length) = quote(rest);
            self.token(kind, length);
        } else if first.is_alphanumeric() || first == '_' {
            let kind = if first.is_ascii_digit() { Kind::Literal } else { Kind::Word };
            self.token(kind, word(rest));
        } else if rest.starts_with("::") {
            self.token(Kind::Punctuation, 2);
        } else {
            self.token(Kind::Punctuation, first.len_utf8());
        }
    }

    fn token(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, text: &self.rest()[..length], line: self.line });
        self.skip(length);
    }

    fn comment(&mut self, length: usize) {
        self.comments.push(Comment { text: &self.rest()[..length], line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// The length of the block comment at the start of `rest`; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string literal at the start of `rest`, with prefix (`b`, `c`, `r`) and hashes.
fn string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|after| after.starts_with(['"', '#']))
    })?;
    let after = &rest[prefix.len()..];
    if !prefix.ends_with('r') {
        return after.starts_with('"').then(|| prefix.len() + plain_string(after));
    }
    let hashes = after.len() - after.trim_start_matches('#').len();
    // `r#name` is a raw identifier.
    if !after[hashes..].starts_with('"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = &after[hashes + 1..];
    let length = inside.find(&closing).map_or(inside.len(), |end| end + closing.len());
    Some(prefix.len() + hashes + 1 + length)
}

fn plain_string(after: &str) -> usize {
    let mut escaped = false;
    for (at, c) in after.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    after.len()
}

/// What the quote at the start of `rest` begins: a character or a lifetime.
fn quote(rest: &str) -> (Kind, usize) {
    let mut inside = rest.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some(_)) => {
            let end = rest[3.min(rest.len())..].find('\'').map_or(rest.len(), |end| end + 4);
            (Kind::Literal, end)
        }
        (Some(_), Some((at, '\''))) => (Kind::Literal, at + 1),
        _ => (Kind::Lifetime, 1 + word(&rest[1..])),
    }
}
