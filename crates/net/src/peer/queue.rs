//! What waits for one peer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio_stream::Stream;

use super::{PeerConfig, PeerStats, lock};
use crate::proto::{Frame, PeerHello};

/// Why a frame was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Dropped {
    /// No such peer.
    #[error("the peer is not known")]
    UnknownPeer,
    /// The queue of the peer is full: it is slower than what is sent to it, or not there.
    #[error("the queue of the peer is full")]
    Full,
    /// The frame is larger than [`PeerConfig::frame_bytes_max`].
    #[error("the frame is too large")]
    TooLarge,
}

/// Bytes that the envelope of a frame adds to its payload, at most.
const ENVELOPE_BYTES: usize = 16;

/// A queue that many fill and one connection at a time empties.
pub(super) struct Queue {
    frame_bytes_max: usize,
    frames_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Number of the connection that may empty the queue.
    connection: u64,
    reader: Option<Waker>,
    stats: PeerStats,
}

impl State {
    fn clear(&mut self) {
        self.stats.dropped_frames += self.frames.len() as u64;
        self.frames.clear();
        self.bytes = 0;
    }
}

impl Queue {
    pub(super) fn new(config: &PeerConfig) -> Self {
        Self {
            frame_bytes_max: config.frame_bytes_max.saturating_sub(ENVELOPE_BYTES),
            frames_max: config.queue_frames_max,
            bytes_max: config.queue_bytes_max,
            state: Mutex::default(),
        }
    }

    pub(super) fn push(&self, frame: Bytes) -> Result<(), Dropped> {
        let mut state = lock(&self.state);
        let dropped = if frame.len() > self.frame_bytes_max {
            Some(Dropped::TooLarge)
        } else if state.frames.len() >= self.frames_max
            || state.bytes.saturating_add(frame.len()) > self.bytes_max
        {
            Some(Dropped::Full)
        } else {
            None
        };
        if let Some(dropped) = dropped {
            state.stats.dropped_frames += 1;
            return Err(dropped);
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        let reader = state.reader.take();
        // Woken without the lock: the reader may run on another thread at once.
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// The frames for a new connection; an older one gets no more.
    pub(super) fn connection(self: &Arc<Self>, hello: PeerHello) -> Frames {
        let mut state = lock(&self.state);
        state.connection += 1;
        let number = state.connection;
        let old = state.reader.take();
        drop(state);
        if let Some(old) = old {
            old.wake();
        }
        Frames { queue: Arc::clone(self), number, hello: Some(hello) }
    }

    /// The connection ended or did not come about: what waits is stale.
    pub(super) fn disconnected(&self) {
        let mut state = lock(&self.state);
        state.connection += 1;
        state.stats.connected = false;
        state.clear();
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn connected(&self) {
        lock(&self.state).stats.connected = true;
    }

    pub(super) fn stats(&self) -> PeerStats {
        let state = lock(&self.state);
        PeerStats { queued_frames: state.frames.len(), queued_bytes: state.bytes, ..state.stats }
    }
}

/// The outgoing half of a connection: a greeting, then whatever is queued. The encoder polls it
/// until it is empty or has a full buffer, so that frames which wait together leave together.
pub(super) struct Frames {
    queue: Arc<Queue>,
    number: u64,
    hello: Option<PeerHello>,
}

impl Stream for Frames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Frame { payload: Bytes::new(), hello: Some(hello) }));
        }
        let mut state = lock(&self.queue.state);
        if state.connection != self.number {
            return Poll::Ready(None);
        }
        if let Some(payload) = state.frames.pop_front() {
            state.bytes -= payload.len();
            state.stats.sent_frames += 1;
            state.stats.sent_bytes += payload.len() as u64;
            return Poll::Ready(Some(Frame { payload, hello: None }));
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
