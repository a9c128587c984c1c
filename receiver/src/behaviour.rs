//! How the receiver answers: well, or with one of the faults that a client must survive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::store::Store;

/// How requests are answered from now on. Only `Accept`, `Slow` and `Trickle` put content into the
/// telemetry; every request that could be read is kept in `Receiver::requests`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Accept at once.
    #[default]
    Accept,
    /// Accept after this time.
    Slow(Duration),
    /// Refuse with this HTTP status (over gRPC the status code that stands for it), and with
    /// `Retry-After` in whole seconds (over gRPC `RetryInfo`) if given.
    Refuse { status: u16, retry_after: Option<Duration> },
    /// Read the request, never answer.
    Silent,
    /// Accept, and let the answer out one byte a second.
    Trickle,
    /// Close the connection instead of answering. Over gRPC that happens in the handshake.
    Close,
    /// Answer with bytes that are neither HTTP nor HTTP/2.
    Garbage,
}

impl Behaviour {
    /// Whether what is sent meanwhile gets into the telemetry.
    pub(crate) fn accepts(self) -> bool {
        matches!(self, Behaviour::Accept | Behaviour::Slow(_) | Behaviour::Trickle)
    }
}

/// A connection whose writes fail or are falsified as the current behaviour says.
pub struct Connection {
    stream: TcpStream,
    store: Arc<Store>,
    /// When the next byte of a trickle may go.
    next_byte: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub fn new(stream: TcpStream, store: Arc<Store>) -> Self {
        Self { stream, store, next_byte: None }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.store.behaviour() {
            Behaviour::Close => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Behaviour::Garbage => {
                let garbage: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                Pin::new(&mut self.stream).poll_write(context, &garbage)
            }
            Behaviour::Trickle if !bytes.is_empty() => {
                let pause = self.next_byte.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
                ready!(pause.as_mut().poll(context));
                self.next_byte = Some(Box::pin(sleep(Duration::from_secs(1))));
                Pin::new(&mut self.stream).poll_write(context, &bytes[..1])
            }
            _ => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
