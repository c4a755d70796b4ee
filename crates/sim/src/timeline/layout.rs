//! Where the bars go.

use std::collections::BTreeMap;

use crate::history::History;

pub(super) const BAR_HEIGHT: u32 = 21;
const ROW: u32 = BAR_HEIGHT + 6;
/// Room for the clients' names.
const LEFT: u32 = 84;
/// Between two calls or returns, at the least.
const STEP: u32 = 12;
/// A character of the labels, roughly.
const CHARACTER: u32 = 8;

pub(super) struct Layout {
    pub(super) lanes: Vec<Lane>,
    pub(super) bars: Vec<Bar>,
    /// Where times are written, and which.
    pub(super) ticks: Vec<(u32, u64)>,
    /// Where the unexplained answer came.
    pub(super) until: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

pub(super) struct Lane {
    pub(super) client: u64,
    pub(super) y: u32,
    pub(super) height: u32,
}

pub(super) struct Bar {
    pub(super) index: usize,
    pub(super) label: String,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    /// It has no end within the page.
    pub(super) open: bool,
}

/// An operation whose lane, row and beginning are known.
struct Begun {
    client: u64,
    row: u32,
    x: u32,
    /// Where its label ends.
    end: u32,
    label: String,
}

impl Layout {
    pub(super) fn new(
        history: &History,
        drawn: &[usize],
        until: u64,
        label: impl Fn(usize) -> String,
    ) -> Self {
        // At the same time calls come first, as in the search.
        let mut events = Vec::new();
        for &index in drawn {
            let operation = &history.operations[index];
            events.push((operation.call, false, index));
            if let Some(at) = operation.returned().filter(|&at| at <= until) {
                events.push((at, true, index));
            }
        }
        events.sort_unstable();
        let mut x = LEFT;
        let mut begun: BTreeMap<usize, Begun> = BTreeMap::new();
        let mut ended: BTreeMap<usize, u32> = BTreeMap::new();
        // For each row of a client where it is free again; `None` while an operation is on it.
        let mut rows: BTreeMap<u64, Vec<Option<u32>>> = BTreeMap::new();
        let mut ticks: Vec<(u32, u64)> = Vec::new();
        for (at, is_return, index) in events {
            x += STEP;
            let client = history.operations[index].client;
            let rows = rows.entry(client).or_default();
            if is_return {
                let begun = &begun[&index];
                x = x.max(begun.end);
                rows[begun.row as usize] = Some(x + 6);
                ended.insert(index, x);
            } else {
                let row = rows.iter().position(Option::is_some).unwrap_or_else(|| {
                    rows.push(Some(0));
                    rows.len() - 1
                });
                x = x.max(rows[row].take().unwrap_or(0));
                let label = label(index);
                let end = x + 14 + label.chars().count() as u32 * CHARACTER;
                begun.insert(index, Begun { client, row: row as u32, x, end, label });
            }
            if ticks.last().is_none_or(|last| x >= last.0 + 80) {
                ticks.push((x, at));
            }
        }
        let until = x;
        let open = |(index, begun): (&usize, &Begun)| match ended.contains_key(index) {
            true => 0,
            false => begun.end,
        };
        let width = begun.iter().map(open).max().unwrap_or(0).max(until) + 24;

        let mut lanes = Vec::new();
        let mut y = 0;
        for (&client, rows) in &rows {
            let height = rows.len() as u32 * ROW + 6;
            lanes.push(Lane { client, y, height });
            y += height;
        }
        let tops: BTreeMap<u64, u32> = lanes.iter().map(|lane| (lane.client, lane.y)).collect();
        let bars = begun.into_iter().map(|(index, begun)| {
            let end = ended.get(&index).copied();
            Bar {
                index,
                x: begun.x,
                y: tops[&begun.client] + 6 + begun.row * ROW,
                width: end.unwrap_or(width - 6) - begun.x,
                open: end.is_none(),
                label: begun.label,
            }
        });
        Self { bars: bars.collect(), lanes, ticks, until, width, height: y + 24 }
    }
}
