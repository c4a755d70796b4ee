//! One process that reads lines and writes lines.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Commands;
use super::files::WorkingFolder;
use super::stderr::Said;
use crate::error::TaskError;
use crate::input::MapTask;
use crate::task::{Attempt, Counters, Monitor, ReduceTask};

/// How often a command is looked at that may have to be killed.
const LOOK: Duration = Duration::from_millis(10);

/// What a command finds: variables that tell which task it runs, and the job's files.
pub(super) struct Variables {
    all: Vec<(String, String)>,
    folder: Option<WorkingFolder>,
}

impl Variables {
    fn of(
        attempt: &Attempt,
        kind: char,
        number: u32,
        commands: &Commands,
    ) -> Result<Variables, TaskError> {
        let job = format!("job_{:x}", attempt.job);
        let task = format!("task_{:x}_{kind}_{number:06}", attempt.job);
        let id = format!("attempt_{:x}_{kind}_{number:06}_{}", attempt.job, attempt.attempt);
        let ours = [
            ("mapreduce_job_id", job),
            ("mapreduce_task_id", task),
            ("mapreduce_task_attempt_id", id),
            ("mapreduce_task_partition", number.to_string()),
            ("mapreduce_task_ismap", (kind == 'm').to_string()),
            ("mapreduce_job_reduces", attempt.reduces.to_string()),
        ];
        let folder = WorkingFolder::make(&commands.files, attempt, &format!("{kind}-{number}"));
        let folder = folder.map_err(|source| TaskError::files("write", &attempt.folder, source))?;
        let mut variables = Variables { all: commands.environment.clone(), folder };
        ours.into_iter().for_each(|(name, value)| variables.set(name, value));
        Ok(variables)
    }

    fn set(&mut self, name: &str, value: String) {
        self.all.push((name.to_owned(), value));
    }

    pub(super) fn of_map(
        task: &MapTask,
        attempt: &Attempt,
        commands: &Commands,
    ) -> Result<Variables, TaskError> {
        let mut variables = Variables::of(attempt, 'm', task.number, commands)?;
        if let Some(part) = task.parts.first() {
            let name = String::from_utf8_lossy(&part.name).into_owned();
            variables.set("mapreduce_map_input_file", name.clone());
            variables.set("map_input_file", name);
            variables.set("mapreduce_map_input_start", part.start.to_string());
            variables.set("mapreduce_map_input_length", part.bytes().to_string());
        }
        Ok(variables)
    }

    pub(super) fn of_reduce(
        task: ReduceTask,
        attempt: &Attempt,
        commands: &Commands,
    ) -> Result<Variables, TaskError> {
        Variables::of(attempt, 'r', task.number, commands)
    }

    /// A shell that finds all that.
    fn shell(&self) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.envs(self.all.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            let mut path = folder.path().as_os_str().to_owned();
            path.push(":");
            let own = self.all.iter().rfind(|(name, _)| name == "PATH");
            let own = own.map(|(_, path)| path.into());
            path.push(own.or_else(|| std::env::var_os("PATH")).unwrap_or_default());
            shell.current_dir(folder.path()).env("PATH", path);
        }
        shell
    }
}

/// Runs commands.
pub(super) struct Child;

impl Child {
    /// Runs `command`: `feed` writes to it and `take` reads from it at the same time. Returns what
    /// it counted.
    ///
    /// # Errors
    /// Of `feed` or `take`, or when the command fails or cannot be started.
    pub(super) fn run(
        command: &str,
        variables: &Variables,
        monitor: &dyn Monitor,
        feed: impl FnOnce(ChildStdin) -> Result<(), TaskError> + Send,
        take: impl FnOnce(&mut dyn Read) -> Result<(), TaskError>,
    ) -> Result<Counters, TaskError> {
        let failed = |message: String| TaskError::user(message);
        let mut child = variables
            .shell()
            .arg("-c")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that all that it starts can be killed with it.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("cannot start `{command}`: {error}")))?;
        let (Some(stdin), Some(mut stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(format!("cannot talk to `{command}`")));
        };
        let (fed, taken, said, status) = thread::scope(|scope| {
            let feeding = scope.spawn(move || feed(stdin));
            let listening = scope.spawn(move || Said::read(stderr, |status| monitor.said(status)));
            let watching = scope.spawn(move || wait(&mut child, monitor));
            let taken = take(&mut stdout);
            // A command that still writes gets an error, and ends.
            drop(stdout);
            (feeding.join(), taken, listening.join(), watching.join())
        });
        let panicked = |_| failed("a thread that serves a command panicked".into());
        let (fed, said) = (fed.map_err(panicked)?, said.map_err(panicked)?);
        let status = status.map_err(panicked)?;
        taken?;
        fed?;
        let status =
            status.map_err(|error| failed(format!("cannot wait for `{command}`: {error}")))?;
        match status {
            None => Err(TaskError::Cancelled),
            Some(status) if status.success() => Ok(said.counters),
            Some(status) => {
                Err(failed(format!("`{command}` ended with {status}: {}", said.text())))
            }
        }
    }
}

/// Waits for the end of a command, and kills it when the attempt is cancelled; nothing then.
fn wait(
    child: &mut process::Child,
    monitor: &dyn Monitor,
) -> io::Result<Option<process::ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if monitor.is_cancelled() {
            let group = rustix::process::Pid::from_child(child);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// Checks that the program that `command` begins with is there, as far as can be told without
/// running it.
///
/// # Errors
/// What is missing, for people.
pub fn check_command(command: &str) -> Result<(), String> {
    let Some(first) = command.split_whitespace().next() else {
        return Err("the command is empty".into());
    };
    // Quotes, variables, assignments and the like are the shell's business.
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    if !first.chars().all(plain) {
        return Ok(());
    }
    let found = Command::new("/bin/sh")
        .args(["-c", "command -v -- \"$0\"", first])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start a shell: {error}"))?;
    if found.success() { Ok(()) } else { Err(format!("there is no command `{first}`")) }
}
