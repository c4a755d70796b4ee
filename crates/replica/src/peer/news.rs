//! What nodes tell of themselves, in bytes: which configuration they know, and what they lead.
//!
//! Each node numbers the changes of what it leads, from 1 in each of its lives. With its news it says
//! how far it has counted, and how far it has heard the receiver count; who sees that another has
//! missed something sends what is missing. So what is lost on its way is made up for at the next
//! news, and where nothing changes nothing but the news is sent, however many groups there are.

use kontiki_shard::Configuration;
use kontiki_types::{Epoch, GroupId, Incarnation, LogTime, NodeId, Term};

use super::{CONFIGURATION, Frame, FrameBuilder, FrameError, LED, NEWS, PeerMessage};

/// One life of a node: its directory, and how often it had started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The directory.
    pub incarnation: Incarnation,
    /// How often it had started.
    pub boot: u32,
}

/// What a node has and knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The sender's life.
    pub life: Life,
    /// Number of the newest configuration it knows; `None` if it knows of none.
    pub epoch: Option<Epoch>,
    /// How many changes of what it leads it has counted.
    pub led: u64,
    /// The latest log time of the groups it leads, as it estimates it; zero if it leads none.
    pub log_time: LogTime,
    /// The receiver's life as the sender knows it.
    pub your_life: Life,
    /// Up to which change it has heard what the receiver led in that life.
    pub your_led: u64,
}

/// A group that the sender leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedGroup {
    /// The group.
    pub group: GroupId,
    /// The term in which the sender leads it.
    pub term: Term,
    /// The nodes with a replica that has a vote.
    pub voters: Vec<NodeId>,
}

/// What changed of what the sender leads, between two counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The sender's life.
    pub life: Life,
    /// Changes after this one,
    pub from: u64,
    /// up to and with this one.
    pub to: u64,
    /// The groups that they were about and that the sender leads.
    pub groups: Vec<LedGroup>,
}

impl FrameBuilder {
    pub(crate) fn news(&mut self, news: &News) {
        self.message(NEWS, |out| {
            put_life(news.life, out);
            // One more, so that zero is none.
            let epoch = news.epoch.map_or(0, |epoch| epoch.0.saturating_add(1));
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&news.led.to_be_bytes());
            out.extend_from_slice(&news.log_time.0.to_be_bytes());
            put_life(news.your_life, out);
            out.extend_from_slice(&news.your_led.to_be_bytes());
        });
    }

    pub(crate) fn led(&mut self, led: &Led) {
        self.message(LED, |out| {
            put_life(led.life, out);
            out.extend_from_slice(&led.from.to_be_bytes());
            out.extend_from_slice(&led.to.to_be_bytes());
            for LedGroup { group, term, voters } in &led.groups {
                out.extend_from_slice(&group.0.to_be_bytes());
                out.extend_from_slice(&term.0.to_be_bytes());
                let count = u8::try_from(voters.len()).unwrap_or(u8::MAX);
                out.push(count);
                for voter in voters.iter().take(usize::from(count)) {
                    out.extend_from_slice(&voter.0.to_be_bytes());
                }
            }
        });
    }

    pub(crate) fn configuration(&mut self, configuration: &Configuration) {
        self.message(CONFIGURATION, |out| out.extend_from_slice(&configuration.to_bytes()));
    }
}

impl Frame {
    pub(super) fn news(&mut self, end: usize) -> Result<PeerMessage, FrameError> {
        Ok(PeerMessage::News(News {
            life: self.life(end)?,
            epoch: self.u64(end)?.checked_sub(1).map(Epoch),
            led: self.u64(end)?,
            log_time: LogTime(self.u64(end)?),
            your_life: self.life(end)?,
            your_led: self.u64(end)?,
        }))
    }

    pub(super) fn led(&mut self, end: usize) -> Result<PeerMessage, FrameError> {
        let life = self.life(end)?;
        let (from, to) = (self.u64(end)?, self.u64(end)?);
        let mut groups = Vec::new();
        while self.at < end {
            let (group, term) = (GroupId(self.u32(end)?), Term(self.u64(end)?));
            let voters = (0..self.u8(end)?).map(|_| self.u64(end).map(NodeId));
            groups.push(LedGroup { group, term, voters: voters.collect::<Result<_, _>>()? });
        }
        Ok(PeerMessage::Led(Led { life, from, to, groups }))
    }

    pub(super) fn configuration(&mut self, end: usize) -> Result<PeerMessage, FrameError> {
        match Configuration::from_bytes(&self.bytes[self.at..end]) {
            Ok(configuration) => Ok(PeerMessage::Configuration(configuration.into())),
            Err(_) => self.bad("a configuration cannot be decoded"),
        }
    }

    pub(super) fn life(&mut self, end: usize) -> Result<Life, FrameError> {
        Ok(Life { incarnation: Incarnation(self.u64(end)?), boot: self.u32(end)? })
    }
}

pub(super) fn put_life(life: Life, out: &mut Vec<u8>) {
    out.extend_from_slice(&life.incarnation.0.to_be_bytes());
    out.extend_from_slice(&life.boot.to_be_bytes());
}
