//! Accepted connections: counted, given a deadline for their first bytes, and cut when asked.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Bytes that a caller must have sent in time: the preface of HTTP/2 and its first frame header.
const FIRST_BYTES: usize = 24 + 9;

/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of a listener.
pub(crate) struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    first_bytes_timeout: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    cutter: Cutter,
}

impl Incoming {
    pub(crate) fn new(
        listener: TcpListener,
        connections_max: usize,
        first_bytes_timeout: Duration,
        cutter: Cutter,
    ) -> Self {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { listener, places, first_bytes_timeout, pause: None, cutter }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let (stream, remote) = match ready!(self.listener.poll_accept(context)) {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!(%remote, "refused a connection: the limit is reached");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%remote, %error, "connection lost at once");
                continue;
            }
            return Poll::Ready(Some(Ok(Connection {
                stream,
                first_bytes: Some((FIRST_BYTES, Box::pin(sleep(self.first_bytes_timeout)))),
                cut: self.cutter.register(),
                _place: place,
            })));
        }
    }
}

/// One accepted connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// How many bytes are missing, and until when. `None` once they are there.
    first_bytes: Option<(usize, Pin<Box<Sleep>>)>,
    cut: Arc<Cut>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.cut.is_due(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some((missing, deadline)) = &mut self.first_bytes {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                self.first_bytes = None;
            } else if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Cuts all connections of a server that would not end by themselves: streams between nodes, and
/// callers that keep a connection open.
#[derive(Clone, Default)]
pub(crate) struct Cutter(Arc<Mutex<Vec<std::sync::Weak<Cut>>>>);

#[derive(Default)]
struct Cut {
    due: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Cut {
    /// Whether the connection is to end; if not, remembers whom to wake when it is.
    fn is_due(&self, context: &Context<'_>) -> bool {
        if !self.due.load(Ordering::Acquire) {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *reader {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        // Looked at again, since `cut_all` may have run before the waker was there.
        self.due.load(Ordering::Acquire)
    }
}

impl Cutter {
    fn register(&self) -> Arc<Cut> {
        let cut = Arc::new(Cut::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|cut| cut.strong_count() > 0);
        }
        all.push(Arc::downgrade(&cut));
        cut
    }

    pub(crate) fn cut_all(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for cut in all.iter().filter_map(std::sync::Weak::upgrade) {
            cut.due.store(true, Ordering::Release);
            let waker = cut.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
