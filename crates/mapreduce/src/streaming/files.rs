//! Files that travel with a job of commands, and the folder where an attempt's commands find them.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::task::Attempt;

/// Bytes of all files of a job together. They are part of its description, which the coordinator
/// keeps.
pub const FILES_BYTES_MAX: u64 = 16 << 20;

/// A file that travels with a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedFile {
    /// Its name, without folders.
    name: String,
    /// Whether it can be run.
    executable: bool,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Content {
    Text(String),
    /// Bytes that are no text, in hexadecimal.
    Hex(String),
}

impl ShippedFile {
    /// Reads files, each to be found by the last part of its path.
    ///
    /// # Errors
    /// For people: which one cannot be read, is no file, has the name of another one, or is too much.
    pub fn read(paths: &[PathBuf]) -> Result<Vec<Self>, String> {
        let mut files: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for path in paths {
            let shown = path.display();
            let failed = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => format!("there is no file {shown}"),
                _ => format!("cannot read {shown}: {error}"),
            };
            let metadata = fs::metadata(path).map_err(failed)?;
            if !metadata.is_file() {
                return Err(format!("{shown} is not a file"));
            }
            bytes += metadata.len();
            if bytes > FILES_BYTES_MAX {
                return Err(format!("--files has more than {} MiB", FILES_BYTES_MAX >> 20));
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| format!("{shown} has no name that is text"))?.to_owned();
            if files.iter().any(|other| other.name == name) {
                return Err(format!("two of --files are called {name}"));
            }
            let content = fs::read(path).map_err(failed)?;
            let executable = metadata.permissions().mode() & 0o111 != 0;
            files.push(Self { name, executable, content: Content::of(content) });
        }
        Ok(files)
    }

    /// Whether a command that begins with `word` means this file.
    pub fn is_meant_by(&self, word: &str) -> bool {
        self.executable && word.strip_prefix("./").unwrap_or(word) == self.name
    }
}

impl Content {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => {
                Self::Hex(error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
            }
        }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let hex = match self {
            Self::Text(text) => return Ok(text.clone().into_bytes()),
            Self::Hex(hex) => hex.as_bytes(),
        };
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hex.chunks(2).map(byte).collect();
        bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The folder of an attempt's commands. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct WorkingFolder(PathBuf);

impl WorkingFolder {
    /// Makes a folder with the files; none for a job without.
    pub(super) fn make(
        files: &[ShippedFile],
        attempt: &Attempt,
        task: &str,
    ) -> io::Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let name = format!("work-{task}-{:016x}", attempt.attempt);
        let path = if attempt.folder.as_os_str().is_empty() {
            // A sequential run has no folder of its own.
            std::env::temp_dir().join(format!("kontiki-{}-{name}", std::process::id()))
        } else {
            attempt.folder.join(name)
        };
        // Of an attempt with the same name that was killed.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        // A process runs in it.
        let folder = Self(fs::canonicalize(path)?);
        for file in files {
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(mode);
            let mut written = options.open(folder.0.join(&file.name))?;
            io::Write::write_all(&mut written, &file.content.bytes()?)?;
        }
        Ok(Some(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        // What stays is removed with the folder of the job.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_arrive_as_they_are_and_go_with_the_attempt() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8], mode| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, bytes).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            path
        };
        let all: Vec<u8> = (0..=255).collect();
        let paths = [put("in/run.sh", b"#!/bin/sh\n", 0o750), put("in/data", &all, 0o600)];
        let files = ShippedFile::read(&paths).expect("read");
        let json = serde_json::to_string(&files).expect("JSON");
        assert_eq!(serde_json::from_str::<Vec<ShippedFile>>(&json).expect("JSON"), files);
        assert!(files[0].is_meant_by("./run.sh") && files[0].is_meant_by("run.sh"));
        assert!(!files[1].is_meant_by("./data"), "it cannot be run");
        let attempt = Attempt {
            job: 1,
            attempt: 2,
            reduces: 1,
            memory_bytes: 4 << 20,
            folder: folder.path().join("attempts"),
            skip: Vec::new(),
        };
        let made = WorkingFolder::make(&files, &attempt, "m-1").expect("made").expect("files");
        let path = made.path().to_path_buf();
        assert_eq!(fs::read(path.join("data")).expect("read"), all);
        let mode = fs::metadata(path.join("run.sh")).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        // Again, as after a kill.
        let again = WorkingFolder::make(&files, &attempt, "m-1").expect("made").expect("files");
        drop(again);
        assert!(!path.exists());
        drop(made);
        assert!(WorkingFolder::make(&[], &attempt, "m-1").expect("nothing").is_none());
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: u64| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("written");
            path
        };
        for (paths, expect) in [
            (vec![folder.path().join("absent")], "there is no file"),
            (vec![folder.path().to_path_buf()], "is not a file"),
            (vec![file("a", 1), file("b/a", 1)], "two of --files are called a"),
            (vec![file("large", FILES_BYTES_MAX), file("one", 1)], "more than 16 MiB"),
        ] {
            let said = ShippedFile::read(&paths).expect_err(expect);
            assert!(said.contains(expect), "{said}");
        }
    }
}
