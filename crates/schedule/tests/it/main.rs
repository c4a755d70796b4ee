//! The rules of the scheduler, one by one, and what must hold under any order of events.

mod bench;
mod rules;
mod scale;
