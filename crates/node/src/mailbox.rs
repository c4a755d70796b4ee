//! A queue into a thread that takes everything that waits at once.
//!
//! Not bounded by itself: every sender is bounded where it sends from. A connection has at most a
//! pipeline of unanswered requests and is not read beyond it, the number of connections is limited,
//! peers are bounded by the core's window, and each stage answers what it was given.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    arrived: Condvar,
}

struct Queue<T> {
    items: Vec<T>,
    /// The receiver sleeps. Spares a wake-up (a system call) while it works.
    asleep: bool,
}

/// The sending side. Clones send to the same receiver.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving side: one thread.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

pub(crate) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue { items: Vec::new(), asleep: false }),
        arrived: Condvar::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Queue<T>> {
    // A sender that panicked has pushed or not pushed; the queue is whole either way.
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, item: T) {
        self.send_all(std::iter::once(item));
    }

    /// Sends several items with one wake-up.
    pub(crate) fn send_all(&self, items: impl IntoIterator<Item = T>) {
        let mut queue = lock(&self.0);
        queue.items.extend(items);
        let wake = queue.asleep && !queue.items.is_empty();
        if wake {
            queue.asleep = false;
        }
        drop(queue);
        if wake {
            self.0.arrived.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// Moves everything that waits to `items`; sleeps until something does, or `timeout` is over.
    pub(crate) fn receive(&self, items: &mut Vec<T>, timeout: Option<Duration>) {
        let mut queue = lock(&self.0);
        if queue.items.is_empty() {
            queue.asleep = true;
            let waiting = |queue: &mut Queue<T>| queue.items.is_empty();
            queue = match timeout {
                Some(timeout) => {
                    let waited = self.0.arrived.wait_timeout_while(queue, timeout, waiting);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.0.arrived.wait_while(queue, waiting);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
            queue.asleep = false;
        }
        if items.is_empty() {
            std::mem::swap(items, &mut queue.items);
        } else {
            items.append(&mut queue.items);
        }
    }
}

/// The sending side of the event loop's queue.
pub(crate) struct InboxSender<T>(Arc<Inbox<T>>);

/// The event loop's queue: a task waits for it, not a thread. Where that task runs on the thread
/// that also serves the sockets, a request costs no wake-up on its way to the core and back.
pub(crate) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    arrived: Notify,
}

pub(crate) fn inbox<T>() -> (InboxSender<T>, Arc<Inbox<T>>) {
    let inbox = Arc::new(Inbox { items: Mutex::new(Vec::new()), arrived: Notify::new() });
    (InboxSender(Arc::clone(&inbox)), inbox)
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> InboxSender<T> {
    pub(crate) fn send(&self, item: T) {
        self.send_all(std::iter::once(item));
    }

    pub(crate) fn send_all(&self, items: impl IntoIterator<Item = T>) {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner).extend(items);
        self.0.arrived.notify_one();
    }

    /// Leaves the items for whenever the loop turns next: at the next heartbeat at the latest.
    pub(crate) fn send_all_without_waking(&self, items: impl IntoIterator<Item = T>) {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner).extend(items);
    }
}

impl<T> Inbox<T> {
    /// Waits until something arrives. Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Moves everything that waits to the end of `items`.
    pub(crate) fn take(&self, items: &mut Vec<T>) {
        let mut waiting = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.is_empty() {
            std::mem::swap(items, &mut waiting);
        } else {
            items.append(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_waits_comes_at_once() {
        let (sender, receiver) = mailbox();
        sender.send_all([1, 2]);
        sender.send(3);
        let mut items = Vec::new();
        receiver.receive(&mut items, None);
        assert_eq!(items, [1, 2, 3]);
    }

    #[test]
    fn a_sleeping_receiver_is_woken() {
        let (sender, receiver) = mailbox();
        let thread = std::thread::spawn(move || {
            let mut items = Vec::new();
            while items.len() < 100 {
                receiver.receive(&mut items, Some(Duration::from_secs(10)));
            }
            items
        });
        for item in 0..100 {
            sender.send(item);
        }
        assert_eq!(thread.join().expect("no panic"), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn waiting_ends() {
        let (_sender, receiver) = mailbox::<u8>();
        let mut items = Vec::new();
        receiver.receive(&mut items, Some(Duration::from_millis(1)));
        assert!(items.is_empty());
    }
}
