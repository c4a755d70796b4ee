//! Running other programs: with output kept, with a deadline, or as a guarded group.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often something that can only be asked for is asked for.
pub const POLL: Duration = Duration::from_millis(10);

/// A program that is over its time may take this long to stop what it started itself.
const GRACE: Duration = Duration::from_secs(15);

/// What a program said and how it ended.
pub struct Finished {
    pub success: bool,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A program to be run.
pub struct Program {
    command: Command,
    name: String,
    input: Option<Vec<u8>>,
}

impl Program {
    pub fn new(program: impl AsRef<OsStr>) -> Program {
        let name = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        // `cargo xtask` says by them what xtask is. A build script that looks at them (that of ring
        // does) would run again, and all that depends on it be built again, each time that another
        // cargo is called from here.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&key);
            }
        }
        Program { command, name, input: None }
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Program {
        for argument in arguments {
            let _ = write!(self.name, " {}", argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    /// Replaces the whole environment.
    pub fn environment(
        mut self,
        variables: &BTreeMap<std::ffi::OsString, std::ffi::OsString>,
    ) -> Program {
        self.command.env_clear().envs(variables);
        self
    }

    pub fn in_directory(mut self, directory: &Path) -> Program {
        self.command.current_dir(directory);
        self
    }

    /// What it gets to read on its standard input.
    pub fn input(mut self, bytes: Vec<u8>) -> Program {
        self.input = Some(bytes);
        self
    }

    /// Runs it with our own output and says whether it succeeded.
    pub fn passes(mut self) -> Result<bool> {
        let status = self.command.stdin(Stdio::null()).status();
        Ok(status.with_context(|| format!("cannot run `{}`", self.name))?.success())
    }

    /// Its standard output; an error if it fails.
    pub fn output(self) -> Result<String> {
        self.output_within(Duration::from_secs(60))
    }

    /// Its standard output; an error if it fails or takes longer than `limit`.
    pub fn output_within(self, limit: Duration) -> Result<String> {
        let name = self.name.clone();
        let finished = self.finish_within(limit)?;
        if !finished.success {
            bail!("`{name}` failed:\n{}{}", finished.stdout, finished.stderr);
        }
        Ok(finished.stdout)
    }

    /// Runs it to its end, killed with everything it started if that takes longer than `limit`.
    pub fn finish_within(mut self, limit: Duration) -> Result<Finished> {
        let input = self.input.take();
        self.command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = self.name.clone();
        let mut group = self.spawn_group()?;
        let child = &mut group.child;
        let writer = input.zip(child.stdin.take()).map(|(bytes, mut pipe)| {
            // A program that ends without reading everything is judged by its exit code.
            std::thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, &bytes)))
        });
        let stdout = read_all(child.stdout.take());
        let stderr = read_all(child.stderr.take());
        let status = group.wait(limit).with_context(|| format!("`{name}`"))?;
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        Ok(Finished {
            success: status.success(),
            code: status.code(),
            stdout: joined(stdout),
            stderr: joined(stderr),
        })
    }

    /// Starts it with its standard output and error appended to `log` with `.out` and `.err`.
    pub fn spawn_logged(mut self, log: &Path) -> Result<Group> {
        self.command.stdin(Stdio::null());
        self.spawn_with_output(log)
    }

    /// The same, with a standard input that stays open until [`Group::close_input`].
    pub fn spawn_logged_with_input(mut self, log: &Path) -> Result<Group> {
        self.command.stdin(Stdio::piped());
        self.spawn_with_output(log)
    }

    fn spawn_with_output(mut self, log: &Path) -> Result<Group> {
        let open = |extension| {
            let path = log.with_extension(extension);
            let file = std::fs::File::options().create(true).append(true).open(&path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        self.command.stdout(open("out")?).stderr(open("err")?);
        self.spawn_group()
    }

    /// Starts it as the leader of a process group of its own.
    fn spawn_group(mut self) -> Result<Group> {
        let child = self.command.process_group(0).spawn();
        let child = child.with_context(|| format!("cannot run `{}`", self.name))?;
        Group::adopt(child)
    }
}

/// Whether a program of this name is on the PATH.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// A running program and all it starts; dropping it kills them all.
pub struct Group {
    child: Child,
}

impl Group {
    fn adopt(child: Child) -> Result<Group> {
        running().insert(child.id());
        remember_running();
        Ok(Group { child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal to the whole group, as a terminal does.
    pub fn signal(&self, signal: &str) -> Result<()> {
        signal_to(&[format!("-{}", self.id())], signal)
    }

    /// Ends its standard input, if that is open.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for the program itself to end. If that takes too long, asks it to end, kills the
    /// group if it does not, and fails.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.await_end(limit)? {
            return Ok(status);
        }
        let _ = self.signal("TERM");
        if self.await_end(GRACE)?.is_none() {
            let _ = self.signal("KILL");
            self.child.wait()?;
        }
        bail!("did not end within {} s", limit.as_secs_f32());
    }

    fn await_end(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        // A program that ends right away should not cost a whole turn.
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(POLL);
        }
    }

    /// Whether the program itself still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The children may outlive the leader, so the group is killed either way.
        let _ = self.signal("KILL");
        let _ = self.child.wait();
        running().remove(&self.child.id());
        remember_running();
    }
}

/// Sends `signal` (`KILL`, `INT`, …) to processes at once, and to groups where one begins with `-`.
pub fn signal_to<S: AsRef<OsStr>>(targets: &[S], signal: &str) -> Result<()> {
    // The shell's own `kill`: there everywhere, and the standard library has none.
    let kill = "signal=$1; shift; kill -s \"$signal\" -- \"$@\" 2>/dev/null";
    let status = Command::new("sh").args(["-c", kill, "kill", signal]).args(targets).status()?;
    if !status.success() {
        bail!("a process to send {signal} to is not there");
    }
    Ok(())
}

/// Ends every group that still runs: the last resort when an item exceeds its time.
pub fn end_all_groups() {
    let signal_all = |signal| {
        let groups: Vec<String> = running().iter().map(|id| format!("-{id}")).collect();
        let _ = signal_to(&groups, signal);
    };
    signal_all("TERM");
    // Whoever waits for a group takes it off the list.
    let deadline = Instant::now() + GRACE;
    while !running().is_empty() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    signal_all("KILL");
}

/// The file that lists the running groups, for a script that has to clean up after a tool that
/// was itself killed.
pub fn list_groups_in(file: PathBuf) {
    *listing() = Some(file);
    remember_running();
}

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static LISTING: Mutex<Option<PathBuf>> = Mutex::new(None);

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listing() -> MutexGuard<'static, Option<PathBuf>> {
    LISTING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember_running() {
    if let Some(file) = listing().as_ref() {
        let ids: String = running().iter().map(|id| format!("{id}\n")).collect();
        // Only a convenience for a clean-up that is hardly ever needed.
        let _ = std::fs::write(file, ids);
    }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn joined(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_input_pass_through() {
        let said = Program::new("cat").input(b"hello".to_vec()).output().expect("cat runs");
        assert_eq!(said, "hello");
    }

    #[test]
    fn a_program_over_its_time_is_killed_with_its_children() {
        let started = Instant::now();
        let result = Program::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .finish_within(Duration::from_millis(200));
        assert!(result.is_err());
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_failing_program_says_what_it_said() {
        let error = Program::new("sh").args(["-c", "echo why >&2; exit 3"]).output();
        assert!(error.expect_err("exit 3").to_string().contains("why"));
    }
}
