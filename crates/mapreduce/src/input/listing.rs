//! From the command line's inputs to files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::glob;
use crate::objects::{Place, is_url};
use crate::store::{self, ListedKeys, is_store};

/// How a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// As it is.
    Plain,
    /// gzip, one member or more; named `*.gz`.
    Gzip,
    /// Zstandard, one frame or more; named `*.zst`.
    Zstd,
}

impl Codec {
    /// What the name's ending says.
    pub fn of(name: &[u8]) -> Codec {
        if name.ends_with(b".gz") {
            Codec::Gzip
        } else if name.ends_with(b".zst") {
            Codec::Zstd
        } else {
            Codec::Plain
        }
    }
}

/// A file of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// The path as the command line or the glob spelled it.
    pub name: Vec<u8>,
    /// Its length when it was listed.
    pub bytes: u64,
    /// How it is stored.
    pub codec: Codec,
    /// If these are keys of a store: which, as lines of about `bytes`.
    pub keys: Option<ListedKeys>,
}

impl InputFile {
    /// One that is read as it is.
    pub(crate) fn plain(name: Vec<u8>, bytes: u64) -> Self {
        Self { name, bytes, codec: Codec::Plain, keys: None }
    }

    fn named(name: Vec<u8>, bytes: u64) -> Self {
        Self { codec: Codec::of(&name), ..Self::plain(name, bytes) }
    }
}

/// Why there is no list of files.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A path that is not there.
    #[error("there is no {0}")]
    Absent(String),
    /// A pattern that nothing matches.
    #[error("nothing matches {0}")]
    NoMatch(String),
    /// A folder, or all inputs together, without a file.
    #[error("there is no file in {0}")]
    Empty(String),
    /// Something that cannot be read.
    #[error("cannot read {name}")]
    Unreadable {
        /// The path.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither a file nor a folder.
    #[error("{0} is neither a file nor a folder")]
    Special(String),
}

/// The path that bytes spell.
pub fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

fn spelled(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The files that `inputs` name: files, folders (all files in them and below; names that begin with
/// `.` or `_` are left out) and patterns; objects in stores, the same way; and keys of a Kontiki store,
/// as they are at one moment from now on.
///
/// The order is that of the inputs, and byte order within a folder or pattern. A file that two
/// inputs name is there twice, as with a shell.
///
/// # Errors
/// When an input is absent, matches nothing, or has a file that cannot be opened.
pub fn list<I: AsRef<[u8]>>(inputs: &[I]) -> Result<Vec<InputFile>, InputError> {
    let mut files = Vec::new();
    for input in inputs {
        let input = input.as_ref();
        if is_store(input) {
            files.extend(store::list(input)?);
            continue;
        }
        if is_url(input) {
            add_objects(input, &mut files)?;
            continue;
        }
        let literal = fs::symlink_metadata(path_of(input)).is_ok();
        if literal || !glob::is_pattern(input) {
            add(input, &mut files)?;
            continue;
        }
        let unreadable = |source| InputError::Unreadable { name: spelled(input), source };
        let names = glob::expand(input).map_err(unreadable)?;
        if names.is_empty() {
            return Err(InputError::NoMatch(spelled(input)));
        }
        for name in names {
            add(&name, &mut files)?;
        }
    }
    Ok(files)
}

/// Adds an object, those below a prefix, or those that match a pattern.
fn add_objects(url: &[u8], files: &mut Vec<InputFile>) -> Result<(), InputError> {
    let failed = |source| InputError::Unreadable { name: spelled(url), source };
    let mut push = |(name, bytes): (Vec<u8>, u64)| {
        files.push(InputFile::named(name, bytes));
    };
    if !glob::is_pattern(url) {
        let place = Place::of(url).map_err(failed)?;
        let is_folder = url.ends_with(b"/");
        if !is_folder && let Some(bytes) = place.length().map_err(failed)? {
            push((url.to_vec(), bytes));
            return Ok(());
        }
        let mut prefix = url.strip_suffix(b"/").unwrap_or(url).to_vec();
        prefix.push(b'/');
        let all = place.list().map_err(failed)?;
        let below = all.into_iter().filter(|(name, _)| {
            name.strip_prefix(prefix.as_slice()).is_some_and(|rest| {
                let mut parts = rest.split(|byte| *byte == b'/');
                !parts.any(|part| part.starts_with(b".") || part.starts_with(b"_"))
            })
        });
        let below: Vec<_> = below.collect();
        if below.is_empty() {
            return Err(InputError::Absent(spelled(url)));
        }
        below.into_iter().for_each(push);
        return Ok(());
    }
    let wild = url.iter().position(|byte| glob::is_pattern(&[*byte])).unwrap_or(url.len());
    let literal = url.get(..wild).unwrap_or_default();
    let folder = literal.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, pattern) = url.split_at_checked(folder).unwrap_or((url, b""));
    let pattern: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').collect();
    let all = Place::of(folder).and_then(|place| place.list()).map_err(failed)?;
    let matching = all.into_iter().filter(|(name, _)| {
        name.strip_prefix(folder).is_some_and(|rest| {
            let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
            glob::path_matches(&pattern, &parts)
        })
    });
    let matching: Vec<_> = matching.collect();
    if matching.is_empty() {
        return Err(InputError::NoMatch(spelled(url)));
    }
    matching.into_iter().for_each(push);
    Ok(())
}

/// Adds a file, or the files of a folder.
fn add(name: &[u8], files: &mut Vec<InputFile>) -> Result<(), InputError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => InputError::Absent(spelled(name)),
        _ => InputError::Unreadable { name: spelled(name), source },
    };
    let metadata = fs::metadata(path_of(name)).map_err(unreadable)?;
    if metadata.is_dir() {
        let before = files.len();
        add_folder(name, files)?;
        if files.len() == before {
            return Err(InputError::Empty(spelled(name)));
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(InputError::Special(spelled(name)));
    }
    // Opened once, so that a file without permission is found before any work.
    fs::File::open(path_of(name)).map_err(unreadable)?;
    files.push(InputFile::named(name.to_vec(), metadata.len()));
    Ok(())
}

fn add_folder(folder: &[u8], files: &mut Vec<InputFile>) -> Result<(), InputError> {
    let unreadable = |source| InputError::Unreadable { name: spelled(folder), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path_of(folder)).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().as_bytes().to_vec();
        if !name.starts_with(b".") && !name.starts_with(b"_") {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let mut path = folder.to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        match fs::metadata(path_of(&path)) {
            Ok(metadata) if metadata.is_dir() => add_folder(&path, files)?,
            // Sockets and the like, and links that lead nowhere, are not input.
            Ok(metadata) if !metadata.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => add(&path, files)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_byte_order_without_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::create_dir(folder.path().join("in/b")).unwrap();
        for name in ["in/c", "in/a.gz", "in/b/x.zst", "in/_SUCCESS", "in/.hidden"] {
            fs::write(folder.path().join(name), "123").unwrap();
        }
        let files = list(&[format!("{root}/in")]).unwrap();
        let found: Vec<(String, Codec)> =
            files.iter().map(|file| (spelled(&file.name), file.codec)).collect();
        let expect = [("a.gz", Codec::Gzip), ("b/x.zst", Codec::Zstd), ("c", Codec::Plain)];
        let expect: Vec<(String, Codec)> =
            expect.map(|(name, codec)| (format!("{root}/in/{name}"), codec)).to_vec();
        assert_eq!(found, expect);
        assert_eq!(files[0].bytes, 3);
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let message = |input: String| list(&[input]).unwrap_err().to_string();
        assert_eq!(message(format!("{root}/x")), format!("there is no {root}/x"));
        assert_eq!(message(format!("{root}/*.txt")), format!("nothing matches {root}/*.txt"));
        assert_eq!(message(root.to_string()), format!("there is no file in {root}"));
        assert_eq!(message("/dev/null".into()), "/dev/null is neither a file nor a folder");
    }

    #[test]
    fn a_file_with_a_bracket_in_its_name_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("{}/a[1].txt", folder.path().to_str().unwrap());
        fs::write(&path, "").unwrap();
        assert_eq!(list(&[&path]).unwrap()[0].name, path.as_bytes());
    }
}
