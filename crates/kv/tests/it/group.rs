//! A group of one replica: proposals in, verdicts out.

use bytes::Bytes;
use kontiki_kv::command::{self, Parsed, Read};
use kontiki_kv::{
    Machine, MachineError, MemStore, Outcome, Proposal, QueryAnswer, Reply, Verdict, WriteRequest,
};
use kontiki_types::{ClientId, Incarnation, Index, LogId, LogTime, Seq, Slot, Term};

/// How long after the log time that the client knew a write's deadline is, in these tests.
pub const WINDOW: u64 = 10_000;

/// A machine over a store in memory, and the log that it has applied.
pub struct Group {
    pub machine: Machine<MemStore>,
    pub log: Vec<(LogId, Option<Bytes>)>,
}

impl Group {
    pub fn new() -> Self {
        Self::over(MemStore::new())
    }

    pub fn over(store: MemStore) -> Self {
        Self { machine: Machine::open(store).unwrap(), log: Vec::new() }
    }

    /// Appends proposals to the log and applies them as one batch.
    pub fn try_apply(&mut self, proposals: &[Proposal]) -> Result<Vec<Outcome>, MachineError> {
        let first = self.machine.applied().index.0 + 1;
        let ids = (first..).map(|index| LogId::new(Term(1), Index(index)));
        let entries: Vec<_> =
            ids.zip(proposals.iter().map(|proposal| Some(proposal.to_bytes()))).collect();
        let mut outcomes = Vec::new();
        self.machine.apply(&entries, &mut outcomes)?;
        self.log.extend(entries);
        Ok(outcomes)
    }

    pub fn apply(&mut self, proposals: &[Proposal]) -> Vec<Verdict> {
        let outcomes = self.try_apply(proposals).unwrap();
        outcomes.into_iter().map(|outcome| outcome.verdict).collect()
    }

    /// Applies one write.
    pub fn write(&mut self, proposal: Proposal) -> Verdict {
        let mut verdicts = self.apply(&[proposal]);
        assert_eq!(verdicts.len(), 1);
        verdicts.remove(0)
    }

    /// Runs a command as a client of its own, at the present log time.
    pub fn run(&mut self, request: &str) -> Reply {
        let connection = 1_000_000 + self.machine.applied().index.0;
        let now = self.now();
        match self.write(Write::new(connection, 1, request).at(now).proposal()) {
            Verdict::Done(reply) => reply,
            other => panic!("{request}: {other:?}"),
        }
    }

    pub fn tick(&mut self, stamp: u64) {
        assert_eq!(self.apply(&[Proposal::tick(LogTime(stamp))]), []);
    }

    pub fn now(&self) -> u64 {
        self.machine.log_time().0
    }

    /// A query by a clock.
    pub fn query_at(&self, request: &str, clock: u64) -> QueryAnswer {
        self.machine.query(&read(request), LogTime(clock)).unwrap()
    }

    /// A query by a clock that stands at the log time.
    pub fn query(&self, request: &str) -> Reply {
        match self.query_at(request, self.now()) {
            QueryAnswer::Reply(reply) => reply,
            other => panic!("{request}: {other:?}"),
        }
    }

    /// The version that a WATCH of `key` remembers.
    pub fn version(&self, key: &'static str) -> u64 {
        let read = Read::Versions { keys: vec![Bytes::from_static(key.as_bytes())] };
        let answer = self.machine.query(&read, LogTime(self.now())).unwrap();
        let QueryAnswer::Reply(Reply::Array(versions)) = answer else { panic!("{answer:?}") };
        let [Reply::Integer(version)] = versions[..] else { panic!("{versions:?}") };
        version as u64
    }

    /// Rows of keys and of the due index, live or not.
    pub fn rows(&self) -> usize {
        self.machine.store().rows().filter(|(key, _)| key[0] >= 0x20).count()
    }

    pub fn hash(&self) -> u128 {
        self.machine.state_hash().unwrap()
    }

    /// A machine over a copy of the store as it is.
    pub fn reopened(&self) -> Machine<MemStore> {
        Machine::open(self.machine.store().clone()).unwrap()
    }
}

/// A write on its way into the log.
#[derive(Clone)]
pub struct Write {
    pub request: WriteRequest,
    pub stamp: u64,
}

impl Write {
    /// A write of a client that has seen every reply before, at log time 0.
    pub fn new(connection: u64, seq: u64, request: &str) -> Self {
        let args = args(request);
        let slot = Slot::of(args.get(1).map_or(b"".as_slice(), |key| key));
        Self::of(connection, seq, slot, &write(request))
    }

    pub fn of(connection: u64, seq: u64, slot: Slot, command: &command::Write) -> Self {
        let client = ClientId { incarnation: Incarnation(9), boot: 1, connection };
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let (seq, deadline, command) = (Seq(seq), LogTime(WINDOW), bytes.into());
        let request = WriteRequest { client, seq, low: seq, deadline, after: None, slot, command };
        Self { request, stamp: 0 }
    }

    /// Sent at this time: stamp and deadline follow it.
    pub fn at(mut self, stamp: u64) -> Self {
        self.stamp = stamp;
        self.deadline(stamp + WINDOW)
    }

    /// Proposed (again) at this time.
    pub fn stamped(mut self, stamp: u64) -> Self {
        self.stamp = stamp;
        self
    }

    pub fn deadline(mut self, deadline: u64) -> Self {
        self.request.deadline = LogTime(deadline);
        self
    }

    pub fn low(mut self, low: u64) -> Self {
        self.request.low = Seq(low);
        self
    }

    pub fn after(mut self, after: u64) -> Self {
        self.request.after = Some(Seq(after));
        self
    }

    pub fn proposal(self) -> Proposal {
        Proposal::write(LogTime(self.stamp), self.request)
    }
}

pub fn args(request: &str) -> Vec<Bytes> {
    request.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect()
}

pub fn parsed(request: &str) -> Parsed {
    command::parse(&args(request), 0).unwrap_or_else(|error| panic!("{request}: {error:?}"))
}

pub fn write(request: &str) -> command::Write {
    match parsed(request) {
        Parsed::Write(write) => write,
        Parsed::Read(read) => panic!("{request} is a read: {read:?}"),
    }
}

pub fn read(request: &str) -> Read {
    match parsed(request) {
        Parsed::Read(read) => read,
        Parsed::Write(write) => panic!("{request} is a write: {write:?}"),
    }
}

pub fn bulk(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}

pub fn done(reply: Reply) -> Verdict {
    Verdict::Done(reply)
}
