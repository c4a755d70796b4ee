//! A process under test, which does not outlive its test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::until;

/// A running process with its output in files.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; its output goes to `log` with `.out` and `.err`.
    pub(super) fn start(mut command: Command, log: &Path) -> Self {
        let file = |end: &str| {
            let file = File::options().create(true).append(true).open(log.with_extension(end));
            file.expect("a log")
        };
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        let child = command.spawn().expect("it starts");
        Self { child, log: log.to_path_buf() }
    }

    pub(super) fn stdout(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    pub(super) fn stderr(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("err")).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    pub(super) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        until("the end of a process", limit, || child.try_wait().expect("our child"))
    }

    /// kill -9, and it is gone.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn stop(&self) {
        self.signal("STOP");
    }

    pub(super) fn go_on(&self) {
        self.signal("CONT");
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let done = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(done.expect("a shell").success(), "{name} to {id}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
