//! Item 7a: a sort of far more than fits, under a limit that the kernel enforces where it can.
//!
//! With a memory cgroup that may be made (version 1 or 2), more than is allowed is the process's end.
//! Without one its peak, as `/proc` tells it, is compared.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::acceptance::{Context, Figures};
use crate::program::{POLL, Program};

const LIMIT: Duration = Duration::from_secs(15 * 60);
const WORKERS: u64 = 2;
const MEMORY_MIB: u64 = 128;
/// What the engine promises beside its workers' budgets.
const BESIDE_MIB: u64 = 48;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let (input, output) = (context.scratch.join("input"), context.scratch.join("output"));
    let size: u64 = context.amount(4_000_000_000, 50_000_000);
    // A small run has less to sort, and must not have it all in memory either.
    let memory = context.amount(MEMORY_MIB, 8);
    let allowed_mib = WORKERS * memory + BESIDE_MIB;
    Program::new(&context.binary)
        .args(["mr", "gen", "sort", "--size", &size.to_string(), "--output"])
        .args([&input])
        .output_within(LIMIT)?;
    let cgroup = Cgroup::make(allowed_mib << 20);
    let enter = cgroup.as_ref().map_or_else(
        || "exec \"$@\"".to_owned(),
        |cgroup| format!("echo $$ > '{}/cgroup.procs' && exec \"$@\"", cgroup.path.display()),
    );
    let begun = Instant::now();
    let mut sort = Program::new("sh")
        .args(["-c", &enter, "sort"])
        .args([&context.binary])
        .args(["mr", "run", "sort", "--quiet", "--workers", &WORKERS.to_string()])
        .args(["--memory", &format!("{memory}MiB")])
        .args(["--input".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()])
        .spawn_logged(&context.scratch.join("sort"))?;
    let mut peak_kib = 0;
    while sort.is_running() {
        ensure!(begun.elapsed() < LIMIT, "the sort takes too long");
        peak_kib = peak_kib.max(peak(sort.id()).unwrap_or(0));
        std::thread::sleep(POLL);
    }
    let status = sort.wait(LIMIT)?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = fs::read_to_string(context.scratch.join("sort.err")).unwrap_or_default();
    ensure!(status.success(), "the sort failed: {status}\n{said}");
    ensure!(peak_kib <= allowed_mib << 10, "a peak of {peak_kib} KiB, {allowed_mib} MiB allowed");
    is_sorted(&input.join("part-0"), &output)?;
    let how = if cgroup.is_some() { "memory cgroup" } else { "peak as /proc tells it" };
    Ok(Figures::from_iter([
        ("bytes".to_owned(), size.into()),
        ("seconds".to_owned(), ((seconds * 10.0).round() / 10.0).into()),
        ("allowed_mib".to_owned(), allowed_mib.into()),
        ("peak_rss_mib".to_owned(), (peak_kib >> 10).into()),
        ("limit_by".to_owned(), how.into()),
    ]))
}

/// The most memory that a process has had, in KiB.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A memory cgroup of our own, removed when it is dropped.
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A group with this limit, if one can be made here.
    fn make(bytes: u64) -> Option<Cgroup> {
        let name = format!("kontiki-acceptance-{}", std::process::id());
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", None),
            ("/sys/fs/cgroup", "memory.max", Some("memory.swap.max")),
        ];
        versions.into_iter().find_map(|(root, limit, swap)| {
            let path = Path::new(root).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Cgroup { path };
            // Dropped, and so removed, where there is no such limit.
            fs::File::options().write(true).open(group.path.join(limit)).ok()?;
            fs::write(group.path.join(limit), bytes.to_string()).ok()?;
            if let Some(swap) = swap {
                // Not every kernel has it.
                let _ = fs::write(group.path.join(swap), "0");
            }
            Some(group)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// The lines of a file, how many and a sum that does not depend on their order.
fn lines_of(path: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<(u64, u64)> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut count, mut sum, mut line) = (0, 0_u64, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        each(&line)?;
        count += 1;
        sum = sum.wrapping_add(mixed(&line));
        line.clear();
    }
    Ok((count, sum))
}

/// A number of a line, eight bytes at a time: this runs over gigabytes.
fn mixed(line: &[u8]) -> u64 {
    line.chunks(8).fold(line.len() as u64, |number, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (number ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

/// The output is in order from part to part, and its lines are those of the input.
fn is_sorted(input: &Path, output: &Path) -> Result<()> {
    let expected = lines_of(input, |_| Ok(()))?;
    let (mut found, mut last) = ((0, 0_u64), Vec::new());
    for part in 0.. {
        let path = output.join(format!("mr-out-{part}"));
        if !path.exists() {
            break;
        }
        let (count, sum) = lines_of(&path, |line| {
            if line < last.as_slice() {
                bail!("{} is not in order", path.display());
            }
            last.clear();
            last.extend_from_slice(line);
            Ok(())
        })?;
        found = (found.0 + count, found.1.wrapping_add(sum));
    }
    ensure!(found == expected, "{} lines in, {} out, or other ones", expected.0, found.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_order_or_another_line_is_found() {
        let folder = std::env::temp_dir().join(format!("kontiki-sorted-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let input = folder.join("input");
        fs::write(&input, "b\na\nc\n").expect("written");
        let verdict = |first: &str, second: &str| {
            fs::write(folder.join("mr-out-0"), first).expect("written");
            fs::write(folder.join("mr-out-1"), second).expect("written");
            is_sorted(&input, &folder).is_ok()
        };
        assert!(verdict("a\nb\n", "c\n"));
        assert!(!verdict("a\nc\n", "b\n"));
        assert!(!verdict("a\nb\n", "d\n"));
        assert!(!verdict("a\nb\n", ""));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
