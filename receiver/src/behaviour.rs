//! How the receiver answers: well, or with one of the faults that a client must survive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::store::Store;

/// How requests are answered from now on. Only `Accept` and `Slow` put content into the
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
    /// Close the connection instead of answering. Over gRPC that happens in the handshake.
    Close,
    /// Answer with bytes that are neither HTTP nor HTTP/2.
    Garbage,
}

/// A connection whose writes fail or are falsified as the current behaviour says.
pub struct Connection {
    stream: TcpStream,
    store: Arc<Store>,
}

impl Connection {
    pub fn new(stream: TcpStream, store: Arc<Store>) -> Self {
        Self { stream, store }
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
