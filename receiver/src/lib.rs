//! An OTLP receiver inside the process: the demo reads a run's telemetry from it, the tests
//! assert on it. It listens on 127.0.0.1 only, on ports that the system picks, and stops when
//! dropped. It stores everything in memory and is not meant for anything that runs for long.
//!
//! ```
//! # fn main() -> Result<(), otlp_receiver::Error> {
//! let receiver = otlp_receiver::Receiver::start()?;
//! // … run something with OTEL_EXPORTER_OTLP_ENDPOINT = receiver.http_endpoint() …
//! let telemetry = receiver.stop();
//! assert!(telemetry.span("llama_decode").is_none());
//! # Ok(())
//! # }
//! ```

mod behaviour;
mod grpc;
mod http;
pub mod model;
mod normalise;
mod store;

pub use behaviour::Behaviour;
pub use model::Telemetry;
pub use store::{Request, Signal, Transport};

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use tokio::sync::oneshot;

/// Why the receiver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the OTLP receiver could not listen on 127.0.0.1: {0}")]
    Listen(#[source] io::Error),
    #[error("the OTLP receiver's thread could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// A running receiver.
pub struct Receiver {
    store: Arc<Store>,
    grpc: SocketAddr,
    http: SocketAddr,
    /// Dropping the sender stops the servers.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Binds both ports and serves them on a thread of its own.
    ///
    /// # Errors
    /// If a port cannot be bound or the thread cannot be started.
    pub fn start() -> Result<Self, Error> {
        let (grpc_listener, grpc) = listen().map_err(Error::Listen)?;
        let (http_listener, http) = listen().map_err(Error::Listen)?;
        let store = Arc::new(Store::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let (grpc_store, http_store) = (Arc::clone(&store), Arc::clone(&store));
        let thread = std::thread::Builder::new()
            .name("otlp-receiver".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = serve("gRPC", grpc_listener, |it| grpc::serve(it, grpc_store)) => {}
                        () = serve("HTTP", http_listener, |it| http::serve(it, http_store)) => {}
                    }
                });
            })
            .map_err(Error::Thread)?;
        Ok(Self { store, grpc, http, stop: Some(stop), thread: Some(thread) })
    }

    /// The base URL for OTLP over gRPC.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The base URL for OTLP over HTTP, without `/v1/…`.
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Changes how requests are answered from now on, also on open connections.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.store.set_behaviour(behaviour);
    }

    /// What was accepted so far.
    pub fn snapshot(&self) -> Telemetry {
        self.store.telemetry()
    }

    /// Every request so far, accepted or not.
    pub fn requests(&self) -> Vec<Request> {
        self.store.requests()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.store.clear();
    }

    /// Waits until the accepted telemetry meets the condition; false once `limit` has passed.
    pub fn wait_until(&self, limit: Duration, condition: impl Fn(&Telemetry) -> bool) -> bool {
        self.store.wait_until(limit, condition)
    }

    /// Stops listening and returns what was accepted.
    pub fn stop(mut self) -> Telemetry {
        self.shut_down();
        self.store.telemetry()
    }

    fn shut_down(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can only fail if the thread panicked, and then its message is already out.
            let _ = thread.join();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the server fails, which it reports: a test would otherwise only see nothing.
async fn serve<F, E>(name: &str, listener: TcpListener, server: impl FnOnce(tokio::net::TcpListener) -> F)
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let result = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => server(listener).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = result {
        eprintln!("otlp-receiver: the {name} server stopped: {error}");
    }
}
