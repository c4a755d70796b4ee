//! Clerks that append tokens to a key of their own, one after the other, whatever happens.

use std::time::Duration;

use kontiki_types::NodeId;

use super::{Clerk, Event, Service};
use crate::invariants::{Checked, Violation};
use crate::labs::fails;

/// See the module.
pub(in crate::labs) struct Appenders {
    clerks: Vec<Clerk>,
    /// What each has begun to append.
    values: Vec<String>,
    turns: Vec<u64>,
    are_working: bool,
}

impl Appenders {
    /// They begin at once.
    ///
    /// # Errors
    /// As [`Service::begin`].
    pub(in crate::labs) fn new(service: &mut Service, count: usize) -> Result<Self, Violation> {
        let clerks: Vec<Clerk> = (0..count).map(|_| service.clerk()).collect();
        let mut appenders = Self {
            values: vec![String::new(); clerks.len()],
            turns: vec![0; clerks.len()],
            clerks,
            are_working: true,
        };
        for at in 0..appenders.clerks.len() {
            appenders.append(service, at)?;
        }
        Ok(appenders)
    }

    /// They work for `time`.
    ///
    /// # Errors
    /// As [`Service::next`].
    pub(in crate::labs) fn run(&mut self, service: &mut Service, time: Duration) -> Checked {
        let end = service.cluster.now() + time;
        while let Some(event) = service.next(end)? {
            match event {
                Event::Done(done) => {
                    let pause = service.cluster.random().between(1, 20);
                    service.wake(Duration::from_millis(pause), done.clerk.number());
                }
                Event::Wake(number) => {
                    let at = self.clerks.iter().position(|clerk| clerk.number() == number);
                    if let (Some(at), true) = (at, self.are_working) {
                        self.append(service, at)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// They stop, and get their last answers.
    ///
    /// # Errors
    /// There is none within a minute.
    pub(in crate::labs) fn stop(&mut self, service: &mut Service) -> Checked {
        self.are_working = false;
        let end = service.cluster.now() + Duration::from_secs(60);
        while self.clerks.iter().any(|&clerk| service.is_busy(clerk)) {
            if service.cluster.now() >= end {
                return fails("some append is not answered within a minute".to_owned());
            }
            self.run(service, Duration::from_millis(50))?;
        }
        self.run(service, Duration::from_millis(50))
    }

    /// They go on.
    ///
    /// # Errors
    /// As [`Service::begin`].
    pub(in crate::labs) fn go_on(&mut self, service: &mut Service) -> Checked {
        self.are_working = true;
        (0..self.clerks.len()).try_for_each(|at| self.append(service, at))
    }

    fn append(&mut self, service: &mut Service, at: usize) -> Checked {
        self.turns[at] += 1;
        let token = format!("x {at} {} y", self.turns[at]);
        self.values[at].push_str(&token);
        service.begin(self.clerks[at], &[b"APPEND", key(at).as_bytes(), token.as_bytes()])
    }

    /// Through these nodes every token is read once, in its order.
    ///
    /// # Errors
    /// Something is missing, or there twice.
    pub(in crate::labs) fn check(&self, service: &mut Service, nodes: &[NodeId]) -> Checked {
        let reader = service.clerk_of(nodes);
        for (at, value) in self.values.iter().enumerate() {
            let read = service.get(reader, &key(at))?;
            let same = read.iter().zip(value.as_bytes()).take_while(|(a, b)| a == b).count();
            demand!(
                read == value.as_bytes(),
                "the key of appender {at} has {} bytes and not {}, and the first {same} are right",
                read.len(),
                value.len()
            );
        }
        Ok(())
    }

    /// How many tokens were appended by the least eager one.
    pub(in crate::labs) fn least(&self) -> u64 {
        self.turns.iter().copied().min().unwrap_or(0)
    }
}

fn key(at: usize) -> String {
    format!("appender-{at}")
}
