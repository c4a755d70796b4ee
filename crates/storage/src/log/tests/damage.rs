//! Every kind of damage at every offset of a small log: what was acknowledged is never silently
//! missing.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::*;

const SEGMENT: u64 = 3 * PAGE;

/// A log of several segments and groups, and what damage may at most take of it.
struct Victim {
    disk: SimDisk,
    files: Vec<PathBuf>,
    expected: Groups,
    /// The state before the last batch, and where that batch stands: the stated limit. `None` once
    /// the log is sealed.
    exempt: Option<(Groups, PathBuf, Range<usize>)>,
}

fn victim(sealed: bool) -> Victim {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let filler = "v".repeat(120);
    let mut expected = Groups::new();
    let (mut before, mut last) = (Groups::new(), (PathBuf::new(), 0..0));
    for step in 0..34_u64 {
        let long = |index, term| command(index, term, &format!("{filler}{index}"));
        let one = Update {
            base: (step == 0).then(|| base(0, 0)),
            entries: vec![long(2 * step + 1, 1 + step / 4), long(2 * step + 2, 1 + step / 4)],
            ..Update::default()
        };
        let mut updates = vec![(ONE, one)];
        if step % 3 == 0 {
            updates.push((TWO, append(step / 3 * 2 + 1..=step / 3 * 2 + 2, step + 1)));
        }
        if step % 8 == 5 {
            updates.push((SEVEN, Update { hard_state: vote(step, step), ..Update::default() }));
        }
        let next = model(&expected, &updates);
        before = std::mem::replace(&mut expected, next);
        let (segment, start) = (log.current.number, log.current.end as usize);
        log.update(&updates).unwrap();
        let start = if log.current.number == segment { start } else { segment::START };
        last = (log.current.path.clone(), start..log.current.end as usize);
    }
    if sealed {
        log.seal().unwrap();
    }
    assert!(log.current.number >= 4, "only {} segments", log.current.number);
    assert!(last.1.start > segment::START, "the last frame should have others before it");
    let files = disk.files().into_iter().map(|file| file.0);
    let files = files.filter(|path| path.to_string_lossy().contains("segment-")).collect();
    let exempt = (!sealed).then_some((before, last.0, last.1));
    Victim { disk: disk.crash(Crash::LoseAll), files, expected, exempt }
}

/// What opening would find, without the work of beginning a new segment.
fn examine(disk: &SimDisk) -> Result<Groups, OpenError> {
    let mut scan = scan::scan(disk, directory(), 7, scan::Indexes::Ignored)?;
    for frame in &scan.tail {
        scan.groups.replay(frame.segment, frame.offset, frame.body.clone()).unwrap();
    }
    scan.groups.check().unwrap();
    let recovered = scan.groups.recovered(&BTreeMap::new());
    Ok(recovered.into_iter().map(|(group, state)| (group, state.into())).collect())
}

#[derive(Default)]
struct Tally {
    refused: usize,
    complete: usize,
    exempt: usize,
}

impl Victim {
    /// Applies `damage` to one file, looks what a start would say, and mends the file.
    fn damage(
        &self,
        file: &PathBuf,
        stretch: Range<usize>,
        damage: impl FnOnce(&mut Vec<u8>),
        tally: &mut Tally,
    ) {
        let healthy = self.disk.contents(file).unwrap();
        let mut bytes = healthy.clone();
        damage(&mut bytes);
        if bytes == healthy {
            return;
        }
        assert!(self.disk.overwrite(file, bytes));
        let name = file.file_name().unwrap().to_string_lossy();
        match examine(&self.disk) {
            Ok(found) if found == self.expected => tally.complete += 1,
            Ok(found) => {
                let Some((before, path, frame)) = &self.exempt else {
                    panic!("{name} {stretch:?}: acknowledged entries are silently missing");
                };
                let touched = stretch.start < frame.end && frame.start < stretch.end;
                assert!(path == file && touched, "{name} {stretch:?}: the last batch is missing");
                assert_eq!(&found, before, "{name} {stretch:?}: more than the last batch");
                tally.exempt += 1;
            }
            Err(OpenError::Corrupt(corruption)) => {
                assert_eq!(&corruption.file, file, "{name} {stretch:?}: {corruption}");
                assert!(corruption.offset <= stretch.end as u64, "{stretch:?}: {corruption}");
                tally.refused += 1;
            }
            Err(other) => panic!("{name} {stretch:?}: {other}"),
        }
        assert!(self.disk.overwrite(file, healthy));
    }

    /// Damages every offset that is in use, and every 16th of the padding between.
    fn everywhere(&self, from: usize, step: usize) -> Tally {
        let mut tally = Tally::default();
        // In an unsealed log it is the end that differs.
        let skip = if self.exempt.is_some() { self.files.len() - 2 } else { 0 };
        for file in &self.files[skip..] {
            let bytes = self.disk.contents(file).unwrap();
            let in_use = |&at: &usize| at % 16 == 0 || at >= segment::START || bytes[at] != 0;
            let offsets = (0..SEGMENT as usize).filter(in_use);
            for at in offsets.skip(from).step_by(step) {
                let end = SEGMENT as usize;
                let bit = 1 << (at % 8);
                self.damage(file, at..at + 1, |bytes| bytes[at] ^= bit, &mut tally);
                self.damage(file, at..end, |bytes| bytes.truncate(at), &mut tally);
                self.damage(file, at..end, |bytes| bytes[at..].fill(0), &mut tally);
                let page = at..end.min(at + PAGE as usize);
                self.damage(file, page.clone(), |bytes| bytes[page].fill(0), &mut tally);
                // A torn sector: the rest of it is something else.
                let sector = at..(at + 1).next_multiple_of(512);
                self.damage(file, sector.clone(), |bytes| bytes[sector].fill(0xa5), &mut tally);
            }
        }
        tally
    }
}

fn at_every_offset(sealed: bool) -> Tally {
    let victim = victim(sealed);
    assert_eq!(examine(&victim.disk).unwrap(), victim.expected);
    let next = AtomicUsize::new(0);
    const PARTS: usize = 4;
    let part = || {
        let victim = Victim {
            disk: victim.disk.fork(),
            files: victim.files.clone(),
            expected: victim.expected.clone(),
            exempt: victim.exempt.clone(),
        };
        victim.everywhere(next.fetch_add(1, Ordering::Relaxed), PARTS)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS).map(|_| scope.spawn(part)).collect();
        parts.into_iter().map(|part| part.join().unwrap()).fold(Tally::default(), |sum, part| {
            Tally {
                refused: sum.refused + part.refused,
                complete: sum.complete + part.complete,
                exempt: sum.exempt + part.exempt,
            }
        })
    })
}

#[test]
fn damage_to_a_sealed_log_is_harmless_or_refused() {
    let tally = at_every_offset(true);
    assert!(tally.refused > 20_000, "refused {}", tally.refused);
    assert!(tally.complete > 1_000, "complete {}", tally.complete);
    assert_eq!(tally.exempt, 0);
}

#[test]
fn damage_to_an_unsealed_log_takes_at_most_the_very_last_batch() {
    let tally = at_every_offset(false);
    assert!(tally.refused > 20_000, "refused {}", tally.refused);
    assert!(tally.exempt > 500, "the stated limit is exactly stated: {}", tally.exempt);
}

#[test]
fn a_refusal_names_file_offset_group_and_entries() {
    let victim = victim(true);
    let file = &victim.files[1];
    let at = segment::START + 40;
    assert!(victim.disk.rot(file, at as u64, |bytes| bytes[0] ^= 1));
    let Err(OpenError::Corrupt(corruption)) = open(&victim.disk, config(SEGMENT)) else {
        panic!("a damaged log was opened");
    };
    assert_eq!((&corruption.file, corruption.offset), (file, segment::START as u64));
    assert!(corruption.lost.iter().any(|lost| lost.group == ONE && lost.from <= lost.to));
    let text = corruption.to_string();
    assert!(text.contains("segment-0000000000000002.log: offset 8192"), "{text}");
    assert!(text.contains("group 1: entries") && text.contains("hint:"), "{text}");
}

#[test]
fn a_missing_segment_is_refused() {
    for missing in 0..3 {
        let victim = victim(true);
        victim.disk.remove(&victim.files[missing]).unwrap();
        let Err(OpenError::Corrupt(corruption)) = open(&victim.disk, config(SEGMENT)) else {
            panic!("segment {missing} is not missed");
        };
        assert_eq!(corruption.file, victim.files[missing]);
    }
}

#[test]
fn a_refused_log_is_left_as_it_is() {
    let victim = victim(true);
    victim.disk.rot(&victim.files[0], segment::START as u64 + 9, |bytes| bytes[0] ^= 1);
    let files = victim.disk.files();
    assert!(open(&victim.disk, config(SEGMENT)).is_err());
    let kept: Vec<_> =
        victim.disk.files().into_iter().filter(|file| !file.0.ends_with("lock")).collect();
    assert_eq!(kept, files.into_iter().filter(|f| !f.0.ends_with("lock")).collect::<Vec<_>>());
}
