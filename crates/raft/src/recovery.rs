//! From what stable storage proves to a log in memory, or a refusal that says what is wrong.

use alloc::vec::Vec;

use crate::log::Log;
use crate::{EntryData, Payload, Recovered, RestartError};

/// Builds the log from what was recovered, in ranges of about one message each, so that compaction
/// can give memory back piece by piece.
pub(crate) fn recover_log<P: Payload>(
    recovered: &Recovered<P>,
    range_bytes: usize,
) -> Result<Log<P>, RestartError> {
    let base = recovered.base.clone().unwrap_or_default();
    if base.id.term > recovered.hard_state.term {
        return Err(RestartError::TermAhead { id: base.id });
    }
    if !base.membership.is_well_formed() {
        return Err(RestartError::Membership { id: base.membership_id });
    }
    let mut previous = base.id;
    let mut log = Log::new(base);
    for run in &recovered.stored.runs {
        let gap = run.first != previous.index.next() || run.last.index < run.first;
        if gap || run.last.term < previous.term {
            return Err(RestartError::Gap { at: previous.index.next() });
        }
        if run.last.term > recovered.hard_state.term {
            return Err(RestartError::TermAhead { id: run.last });
        }
        previous = run.last;
        log.append_stored(run);
    }
    let stored = previous.index;
    for (id, membership) in &recovered.stored.memberships {
        if id.index > stored || id.index <= log.base().id.index || !membership.is_well_formed() {
            return Err(RestartError::Membership { id: *id });
        }
        log.append_stored_membership(*id, membership.clone());
    }
    let mut range = Vec::new();
    let mut bytes = 0usize;
    for entry in &recovered.entries {
        if entry.id.index != previous.index.next()
            || entry.id.index == previous.index
            || entry.id.term < previous.term
        {
            return Err(RestartError::Gap { at: previous.index.next() });
        }
        if entry.id.term > recovered.hard_state.term {
            return Err(RestartError::TermAhead { id: entry.id });
        }
        if let EntryData::Membership(membership) = &entry.data
            && !membership.is_well_formed()
        {
            return Err(RestartError::Membership { id: entry.id });
        }
        previous = entry.id;
        bytes = bytes.saturating_add(entry.cost());
        range.push(entry.clone());
        if bytes >= range_bytes {
            log.append(core::mem::take(&mut range).into());
            bytes = 0;
        }
    }
    log.append(range.into());
    let (base, last, applied) = (log.base().id.index, log.last().index, recovered.applied);
    if applied < base || applied > last || applied < stored {
        return Err(RestartError::Applied { base, last, applied });
    }
    Ok(log)
}
