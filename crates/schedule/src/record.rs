//! What the coordinator's journal holds: only what a coordinator must not forget.
//!
//! Not in it: assignments, leases, heartbeats, failures, lost outputs. Workers say what they run and
//! what they hold when they come back, and what is not said in time is not believed.
//!
//! # Format
//! A byte for the kind, then its fields: numbers as LEB128, byte strings with their length before
//! them, lists with their count. A record is one entry of the log, which has checksums of its own.
//! Kinds are never given another meaning; one that is not known is refused.

use crate::{AttemptId, AttemptRef, Counters, JobId, JobSpec, Outcome, Phase, TaskId, WorkerId};

/// One durable fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A coordinator began to work with this journal for the how manyeth time.
    Started {
        /// From 1.
        epoch: u32,
    },
    /// There is this job.
    Submitted {
        /// Its id.
        job: JobId,
        /// What it is.
        spec: JobSpec,
    },
    /// The output of a map is this attempt's, and this worker has it.
    Accepted {
        /// The attempt of a map.
        attempt: AttemptRef,
        /// Who holds the output.
        worker: WorkerId,
        /// To be added to the job's, if no attempt of the task was counted yet.
        counters: Counters,
    },
    /// This attempt may put its output in its final place.
    Granted {
        /// The attempt.
        attempt: AttemptRef,
    },
    /// This attempt's output is in its final place.
    Committed {
        /// The attempt.
        attempt: AttemptRef,
        /// To be added to the job's, if no attempt of the task was counted yet.
        counters: Counters,
    },
    /// The job has ended.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
    /// In a checkpoint: what was counted before it.
    Counted {
        /// The job.
        job: JobId,
        /// The sums.
        counters: Counters,
        /// Counted tasks whose output was lost since.
        lost: Vec<TaskId>,
    },
}

/// Bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// A kind that another version wrote, or rot.
    UnknownKind(u8),
    /// The bytes end too early, or too late, or say what cannot be.
    Malformed,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "a record of the unknown kind {kind}"),
            Self::Malformed => f.write_str("a record that cannot be read"),
        }
    }
}

impl std::error::Error for BadRecord {}

const STARTED: u8 = 1;
const SUBMITTED: u8 = 2;
const ACCEPTED: u8 = 3;
const GRANTED: u8 = 4;
const COMMITTED: u8 = 5;
const ENDED: u8 = 6;
const COUNTED: u8 = 7;

impl Record {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder(Vec::new());
        match self {
            Self::Started { epoch } => {
                out.kind(STARTED);
                out.number(u64::from(*epoch));
            }
            Self::Submitted { job, spec } => {
                out.kind(SUBMITTED);
                out.number(job.0);
                out.spec(spec);
            }
            Self::Accepted { attempt, worker, counters } => {
                out.kind(ACCEPTED);
                out.attempt(attempt);
                out.number(worker.0);
                out.counters(counters);
            }
            Self::Granted { attempt } => {
                out.kind(GRANTED);
                out.attempt(attempt);
            }
            Self::Committed { attempt, counters } => {
                out.kind(COMMITTED);
                out.attempt(attempt);
                out.counters(counters);
            }
            Self::Ended { job, outcome } => {
                out.kind(ENDED);
                out.number(job.0);
                out.outcome(outcome);
            }
            Self::Counted { job, counters, lost } => {
                out.kind(COUNTED);
                out.number(job.0);
                out.counters(counters);
                out.number(lost.len() as u64);
                for task in lost {
                    out.task(*task);
                }
            }
        }
        out.0
    }

    /// The record that `bytes` are, all of them.
    ///
    /// # Errors
    /// Bytes that [`Record::encode`] does not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let (kind, rest) = bytes.split_first().ok_or(BadRecord::Malformed)?;
        if !(STARTED..=COUNTED).contains(kind) {
            return Err(BadRecord::UnknownKind(*kind));
        }
        let mut bytes = Decoder(rest);
        let record = bytes.record(*kind).ok_or(BadRecord::Malformed)?;
        if bytes.0.is_empty() { Ok(record) } else { Err(BadRecord::Malformed) }
    }
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn kind(&mut self, kind: u8) {
        self.0.push(kind);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn task(&mut self, task: TaskId) {
        self.number(u64::from(task.number) << 1 | u64::from(task.phase == Phase::Reduce));
    }

    fn attempt(&mut self, attempt: &AttemptRef) {
        self.number(attempt.job.0);
        self.task(attempt.task);
        self.number(attempt.attempt.0);
    }

    fn spec(&mut self, spec: &JobSpec) {
        self.bytes(spec.name.as_bytes());
        for number in [spec.maps, spec.reduces, spec.failures_max, spec.skip_bad_records.into()] {
            self.number(u64::from(number));
        }
        self.number(spec.token);
        self.bytes(&spec.payload);
    }

    fn counters(&mut self, counters: &Counters) {
        self.number(counters.len() as u64);
        for (group, name, sum) in counters.iter() {
            self.bytes(group.as_bytes());
            self.bytes(name.as_bytes());
            // Zigzag: small numbers of both signs are short.
            self.number((sum << 1 ^ sum >> 63) as u64);
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.number(0),
            Outcome::Failed(why) => {
                self.number(1);
                self.bytes(why.as_bytes());
            }
            Outcome::Cancelled => self.number(2),
        }
    }
}

struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn record(&mut self, kind: u8) -> Option<Record> {
        Some(match kind {
            STARTED => Record::Started { epoch: self.small()? },
            SUBMITTED => Record::Submitted { job: self.job()?, spec: self.spec()? },
            ACCEPTED => Record::Accepted {
                attempt: self.attempt()?,
                worker: WorkerId(self.number()?),
                counters: self.counters()?,
            },
            GRANTED => Record::Granted { attempt: self.attempt()? },
            COMMITTED => Record::Committed { attempt: self.attempt()?, counters: self.counters()? },
            ENDED => Record::Ended { job: self.job()?, outcome: self.outcome()? },
            COUNTED => Record::Counted {
                job: self.job()?,
                counters: self.counters()?,
                lost: self.tasks()?,
            },
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            let placed = bits << shift;
            if placed >> shift != bits || (*byte == 0 && shift > 0) {
                return None;
            }
            number |= placed;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn job(&mut self) -> Option<JobId> {
        self.number().map(JobId)
    }

    fn task(&mut self) -> Option<TaskId> {
        let number = self.number()?;
        let phase = if number & 1 == 0 { Phase::Map } else { Phase::Reduce };
        Some(TaskId { phase, number: u32::try_from(number >> 1).ok()? })
    }

    fn tasks(&mut self) -> Option<Vec<TaskId>> {
        let count = self.number()?;
        // Not reserved: the count is only what the bytes claim.
        (0..count).map(|_| self.task()).collect()
    }

    fn attempt(&mut self) -> Option<AttemptRef> {
        let (job, task) = (self.job()?, self.task()?);
        Some(AttemptRef { job, task, attempt: AttemptId(self.number()?) })
    }

    fn spec(&mut self) -> Option<JobSpec> {
        let name = self.text()?;
        let (maps, reduces, failures_max) = (self.small()?, self.small()?, self.small()?);
        let skip_bad_records = match self.small()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let token = self.number()?;
        let payload = self.bytes()?.to_vec();
        Some(JobSpec { name, maps, reduces, failures_max, skip_bad_records, token, payload })
    }

    fn counters(&mut self) -> Option<Counters> {
        let count = self.number()?;
        let mut counters = Counters::new();
        for _ in 0..count {
            let (group, name, sum) = (self.text()?, self.text()?, self.number()?);
            counters.add(&group, &name, (sum >> 1) as i64 ^ -((sum & 1) as i64));
        }
        Some(counters)
    }

    fn outcome(&mut self) -> Option<Outcome> {
        Some(match self.number()? {
            0 => Outcome::Done,
            1 => Outcome::Failed(self.text()?),
            2 => Outcome::Cancelled,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn counters() -> impl Strategy<Value = Counters> {
        vec(("\\PC{0,5}", "[a-z]{0,3}", any::<i64>()), 0..4).prop_map(|list| {
            let mut counters = Counters::new();
            for (group, name, sum) in list {
                counters.add(&group, &name, sum);
            }
            counters
        })
    }

    fn attempt() -> impl Strategy<Value = AttemptRef> {
        (any::<u64>(), any::<bool>(), any::<u32>(), any::<u64>()).prop_map(
            |(job, map, number, attempt)| {
                let task = if map { TaskId::map(number) } else { TaskId::reduce(number) };
                AttemptRef { job: JobId(job), task, attempt: AttemptId(attempt) }
            },
        )
    }

    fn record() -> impl Strategy<Value = Record> {
        let outcome = prop_oneof![
            Just(Outcome::Done),
            "\\PC*".prop_map(Outcome::Failed),
            Just(Outcome::Cancelled)
        ];
        let spec = ("\\PC*", any::<(u32, u32, u32, bool, u64)>(), vec(any::<u8>(), 0..40))
            .prop_map(|(name, (maps, reduces, failures_max, skip_bad_records, token), payload)| {
                JobSpec { name, maps, reduces, failures_max, skip_bad_records, token, payload }
            });
        prop_oneof![
            any::<u32>().prop_map(|epoch| Record::Started { epoch }),
            (any::<u64>(), spec)
                .prop_map(|(job, spec)| Record::Submitted { job: JobId(job), spec }),
            (attempt(), any::<u64>(), counters()).prop_map(|(attempt, worker, counters)| {
                Record::Accepted { attempt, worker: WorkerId(worker), counters }
            }),
            attempt().prop_map(|attempt| Record::Granted { attempt }),
            (attempt(), counters())
                .prop_map(|(attempt, counters)| Record::Committed { attempt, counters }),
            (any::<u64>(), outcome)
                .prop_map(|(job, outcome)| Record::Ended { job: JobId(job), outcome }),
            (any::<u64>(), counters(), vec(attempt(), 0..4)).prop_map(|(job, counters, lost)| {
                let lost = lost.into_iter().map(|attempt| attempt.task).collect();
                Record::Counted { job: JobId(job), counters, lost }
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record()) {
            let bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
            for end in 0..bytes.len() {
                prop_assert!(Record::decode(&bytes[..end]).is_err());
            }
            prop_assert!(Record::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(mut bytes in vec(any::<u8>(), 0..60), kind in 0..9_u8) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            // Counters may come in another order or doubled, so not every record that is read
            // gives the same bytes; but what it gives is read as the same record.
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_named() {
        assert_eq!(Record::decode(&[200, 1]), Err(BadRecord::UnknownKind(200)));
        assert_eq!(Record::decode(&[]), Err(BadRecord::Malformed));
    }
}
