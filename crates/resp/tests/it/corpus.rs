//! Inputs worth keeping: one small stream a file, under `tests/corpus/`.

use std::path::Path;

/// What requests are made of.
pub const REQUEST_TOKENS: &[&[u8]] = &[
    b"*0\r\n", b"*1\r\n", b"*2\r\n", b"*-1\r\n", b"*17\r\n", b"$0\r\n", b"$1\r\n", b"$4\r\n",
    b"$65\r\n", b"$-1\r\n", b"\r\n", b"\n", b"\r", b"a", b"PING", b" ", b"\"", b"'", b"\\x4",
    b"\\", b"\0", b"\xff",
];

/// What replies are made of.
pub const REPLY_TOKENS: &[&[u8]] = &[
    b"*0\r\n",
    b"*1\r\n",
    b"*3\r\n",
    b"*-1\r\n",
    b"%1\r\n",
    b"~2\r\n",
    b">1\r\n",
    b"|1\r\n",
    b"|0\r\n",
    b"$0\r\n",
    b"$1\r\n",
    b"$-1\r\n",
    b"!1\r\n",
    b"=5\r\n",
    b"txt:a",
    b"a",
    b"\r\n",
    b"\n",
    b":1\r\n",
    b":+1\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",nan\r\n",
    b",1e3\r\n",
    b"(12\r\n",
    b"+a\r\n",
    b"-b\r\n",
    b"\xff",
];

/// Strings tokens together: each byte of `choices` picks one.
pub fn from_tokens(tokens: &[&[u8]], choices: &[u8]) -> Vec<u8> {
    choices.iter().flat_map(|choice| tokens[usize::from(*choice) % tokens.len()]).copied().collect()
}

/// The contents of the files in a folder of the corpus, in the order of their names.
pub fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the corpus is part of the crate");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}
