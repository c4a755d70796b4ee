//! A violation of linearizability as a page that a person can read.
//!
//! One lane for each client, a bar from call to return for each operation on the keys in question,
//! near the answer that no order explains. Below it the order of all the others that was found, with
//! what the keys held after each. The page stands alone, without scripts, in light and in dark.
//!
//! The axis shows the order of calls and returns, not their distances: a bar is as wide as its text.

mod layout;
mod text;

use std::fmt::Write;

use crate::history::{History, Operation, Outcome};
use crate::linearizability::Violation;
use layout::Layout;
use text::{Escaped, Time, label, shown, words};

/// The page.
pub fn html(history: &History, violation: &Violation) -> String {
    let page = Page { history, violation };
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = page.write(&mut out);
    out
}

struct Page<'a> {
    history: &'a History,
    violation: &'a Violation,
}

impl Page<'_> {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let keys: Vec<String> = self.violation.keys.iter().map(|key| shown(key, 60)).collect();
        let keys = keys.join(", ");
        let title = Escaped(&keys);
        writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">")?;
        writeln!(out, "<meta name=\"viewport\" content=\"width=device-width\">")?;
        writeln!(out, "<title>Not linearizable: {title}</title>\n<style>{STYLE}</style>")?;
        writeln!(out, "<h1>Not linearizable: <code>{title}</code></h1>")?;
        self.verdict(out)?;
        self.lanes(out)?;
        self.legend(out)?;
        self.order(out)?;
        writeln!(out, "</html>")
    }

    fn operation(&self, index: usize) -> &Operation {
        &self.history.operations[index]
    }

    /// The place of an operation in the order, counted from 1.
    fn place(&self, index: usize) -> Option<usize> {
        self.violation.order.iter().position(|&at| at == index).map(|at| at + 1)
    }

    fn time(&self, at: u64) -> Time {
        Time { at, until: self.violation.until }
    }

    fn verdict(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "<section class=\"verdict\">")?;
        for &index in &self.violation.stuck {
            let operation = self.operation(index);
            writeln!(
                out,
                "<p>Client {} called <code>{}</code> at {} and was answered <strong>{}</strong> at \
                 {}. <strong>No order explains this answer.</strong></p>",
                operation.client,
                Escaped(&words(operation)),
                self.time(operation.call),
                Escaped(&text::answer(operation)),
                self.time(self.violation.until),
            )?;
        }
        writeln!(
            out,
            "<p>{} operations on {} were called before that. Without this answer {} of them have an \
             order, and after the last of it there is:</p><ul>",
            self.violation.operations.len(),
            if self.violation.keys.len() == 1 { "this key" } else { "these keys" },
            self.violation.order.len()
        )?;
        for (at, key) in self.violation.keys.iter().enumerate() {
            let held = self.violation.states.last().and_then(|state| state[at].as_deref());
            let key = shown(key, 60);
            writeln!(out, "<li><code>{} = {}</code></li>", Escaped(&key), Escaped(&value(held)))?;
        }
        writeln!(out, "</ul>")?;
        for line in self.when_it_was_there() {
            writeln!(out, "<p>{line}</p>")?;
        }
        writeln!(
            out,
            "<p class=\"note\">Times are in milliseconds before the unexplained answer.</p></section>"
        )
    }

    /// For a read of a value that had been there: which operation took it away, and when.
    fn when_it_was_there(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for &index in &self.violation.stuck {
            let operation = self.operation(index);
            let Some((key, read)) = text::read_of_one_key(operation) else { continue };
            let Some(at) = self.violation.keys.iter().position(|other| other == key) else {
                continue;
            };
            let states = &self.violation.states;
            let offset = self.violation.order.len() - states.len();
            let Some(last) = states.iter().rposition(|state| state[at].as_deref() == read) else {
                continue;
            };
            let Some(&next) = self.violation.order.get(offset + last + 1) else { continue };
            let after = self.operation(next);
            let when = match after.returned() {
                Some(returned) if returned < operation.call => format!(
                    "returned {} ms before this read was called",
                    text::millis(operation.call - returned)
                ),
                Some(_) => "was not over when this read was called".to_owned(),
                None => "has no known outcome, but its value was read".to_owned(),
            };
            lines.push(format!(
                "In this order <code>{}</code> was last there before operation #{}, <code>{}</code> by \
                 client {}, which {when}.",
                Escaped(&value(read)),
                offset + last + 2,
                Escaped(&words(after)),
                after.client,
            ));
        }
        lines
    }

    /// The operations to draw: those that were under way late, those at the end of the order, and
    /// the one that wrote what was answered.
    fn drawn(&self) -> Vec<usize> {
        let recent = |index: &usize| {
            let operation = self.operation(*index);
            (operation.returned().unwrap_or(operation.call).min(self.violation.until), *index)
        };
        let mut all = self.violation.operations.clone();
        all.sort_by_key(|index| std::cmp::Reverse(recent(index)));
        let mut drawn: Vec<usize> = all.into_iter().take(DRAWN_MAX).collect();
        drawn.extend(self.violation.order.iter().rev().take(DRAWN_MAX / 2));
        drawn.extend(&self.violation.stuck);
        for &index in &self.violation.stuck {
            if let Some((_, Some(read))) = text::read_of_one_key(self.operation(index)) {
                let wrote = |of: &&usize| text::gives(self.operation(**of), read);
                drawn.extend(self.violation.operations.iter().find(wrote));
            }
        }
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    fn lanes(&self, out: &mut String) -> std::fmt::Result {
        let drawn = self.drawn();
        let hidden = self.violation.operations.len() - drawn.len();
        let layout = Layout::new(self.history, &drawn, self.violation.until, |index| {
            label(self.operation(index), self.place(index))
        });
        if hidden > 0 {
            writeln!(out, "<p class=\"note\">{hidden} earlier operations are not drawn.</p>")?;
        }
        let (width, height) = (layout.width, layout.height);
        writeln!(
            out,
            "<div class=\"scroll\"><svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\" role=\"img\" aria-label=\"operations by client\">"
        )?;
        for lane in &layout.lanes {
            let (y, middle) = (lane.y, lane.y + lane.height / 2 + 4);
            writeln!(
                out,
                "<rect class=\"lane\" x=\"0\" y=\"{y}\" width=\"{width}\" height=\"{}\"/>\
                 <text class=\"client\" x=\"8\" y=\"{middle}\">client {}</text>",
                lane.height, lane.client
            )?;
        }
        for bar in &layout.bars {
            let operation = self.operation(bar.index);
            let class = match (&operation.outcome, bar.open) {
                _ if self.violation.stuck.contains(&bar.index) => "stuck",
                (Outcome::Unknown, _) | (_, true) => "open",
                _ => "known",
            };
            let (x, y, w) = (bar.x, bar.y, bar.width);
            writeln!(
                out,
                "<g class=\"{class}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" \
                 height=\"{}\" rx=\"4\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
                Escaped(&text::told(operation, self.violation.until)),
                layout::BAR_HEIGHT,
                x + 6,
                y + 15,
                Escaped(&bar.label),
            )?;
        }
        for (x, at) in &layout.ticks {
            writeln!(
                out,
                "<text class=\"tick\" x=\"{x}\" y=\"{}\">{}</text>",
                height - 6,
                self.time(*at)
            )?;
        }
        let x = layout.until;
        writeln!(
            out,
            "<line class=\"until\" x1=\"{x}\" y1=\"0\" x2=\"{x}\" y2=\"{}\"/></svg></div>",
            height - 20
        )
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "<p class=\"legend\"><span class=\"key known\"></span>answered, with its number in the \
             order <span class=\"key open\"></span>not answered in time: may have taken effect or \
             not <span class=\"key stuck\"></span>the answer that no order explains</p>"
        )
    }

    fn order(&self, out: &mut String) -> std::fmt::Result {
        let order = &self.violation.order;
        let states = &self.violation.states;
        let offset = order.len() - states.len();
        writeln!(out, "<h2>The order of the others</h2>")?;
        if offset > 0 {
            writeln!(out, "<p class=\"note\">The first {offset} are left out.</p>")?;
        }
        write!(out, "<div class=\"scroll\"><table><tr><th>#<th>client<th>operation<th>answer")?;
        for key in &self.violation.keys {
            write!(out, "<th><code>{}</code> after it", Escaped(&shown(key, 30)))?;
        }
        writeln!(out, "<th>called<th>returned")?;
        for (at, state) in states.iter().enumerate() {
            let operation = self.operation(order[offset + at]);
            write!(
                out,
                "<tr><td>{}<td>{}<td><code>{}</code><td><code>{}</code>",
                offset + at + 1,
                operation.client,
                Escaped(&words(operation)),
                Escaped(&text::answer(operation)),
            )?;
            for held in state {
                write!(out, "<td><code>{}</code>", Escaped(&value(held.as_deref())))?;
            }
            let returned = operation.returned().filter(|&at| at < self.violation.until);
            let returned = returned.map_or("later".to_owned(), |at| self.time(at).to_string());
            writeln!(out, "<td>{}<td>{returned}", self.time(operation.call))?;
        }
        for &index in &self.violation.stuck {
            let operation = self.operation(index);
            writeln!(
                out,
                "<tr class=\"stuck\"><td>none<td>{}<td><code>{}</code><td><code>{}</code>\
                 <td colspan=\"{}\">fits nowhere<td>{}<td>{}",
                operation.client,
                Escaped(&words(operation)),
                Escaped(&text::answer(operation)),
                self.violation.keys.len(),
                self.time(operation.call),
                self.time(self.violation.until),
            )?;
        }
        writeln!(out, "</table></div>")
    }
}

fn value(held: Option<&[u8]>) -> String {
    held.map_or("nil".to_owned(), |value| format!("\"{}\"", shown(value, 60)))
}

/// Operations that are drawn, about: more do not help a reader.
const DRAWN_MAX: usize = 28;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--page:#fff;--lane:#f3f5f7;--edge:#d1d9e0;
--bar:#cfe3fb;--bar-edge:#2f6fb7;--bad:#ffd9d6;--bad-edge:#c4271c;--open:#fff4d0;--open-edge:#9a6a00}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf2;--soft:#9aa6b2;--page:#0f1419;--lane:#171e26;
--edge:#313b46;--bar:#17375c;--bar-edge:#6aa9ee;--bad:#5a1a17;--bad-edge:#ff7b70;--open:#3d3113;
--open-edge:#d9a93a}}
body{margin:1.5rem auto;padding:0 1rem;max-width:84rem;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:1.6rem}
code,svg text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{font-size:.92em;overflow-wrap:anywhere}
.verdict{border-left:4px solid var(--bad-edge);padding:.1rem 1rem;background:var(--lane)}
.note,.legend{color:var(--soft);font-size:.9rem}
.scroll{margin:1rem 0;overflow-x:auto;border:1px solid var(--edge);border-radius:6px}
svg{display:block}svg text{font-size:12px;fill:var(--ink)}
.lane{fill:var(--page);stroke:var(--edge)}
svg .client,svg .tick{fill:var(--soft)}svg .tick{font-size:10px}
.known rect{fill:var(--bar);stroke:var(--bar-edge)}
.open rect{fill:var(--open);stroke:var(--open-edge);stroke-dasharray:5 3}
.stuck rect{fill:var(--bad);stroke:var(--bad-edge);stroke-width:2}
.until{stroke:var(--bad-edge);stroke-dasharray:2 3}
.key{display:inline-block;width:1.6em;height:.8em;margin:0 .4em 0 1em;border:1px solid;border-radius:3px;
vertical-align:middle}
.key.known{background:var(--bar);border-color:var(--bar-edge);margin-left:0}
.key.open{background:var(--open);border:1px dashed var(--open-edge)}
.key.stuck{background:var(--bad);border-color:var(--bad-edge)}
table{border-collapse:collapse;font-size:.9rem;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--edge);vertical-align:top}
th{color:var(--soft);font-weight:600}
tr.stuck td{background:var(--bad)}
";
