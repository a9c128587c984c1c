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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use tokio::sync::oneshot;

/// A folder in which every receiver of the process leaves what it accepted, as JSON, when it stops: so a run of many tests can be
/// looked at as a whole.
pub const RECORD: &str = "OTLP_RECEIVER_RECORD";

/// Why the receiver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the OTLP receiver could not listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
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
    is_recorded: bool,
}

impl Receiver {
    /// Binds both ports and serves them on a thread of its own.
    ///
    /// # Errors
    /// If a port cannot be bound or the thread cannot be started.
    pub fn start() -> Result<Self, Error> {
        Self::start_on(any_port(), any_port())
    }

    /// As [`Receiver::start`], on addresses of the loopback interface that the caller picks, in the order gRPC, HTTP:
    /// for one that comes back where another was.
    ///
    /// # Errors
    /// If an address cannot be bound or the thread cannot be started.
    pub fn start_on(grpc: SocketAddr, http: SocketAddr) -> Result<Self, Error> {
        let (grpc_listener, grpc) = listen(grpc)?;
        let (http_listener, http) = listen(http)?;
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
        Ok(Self { store, grpc, http, stop: Some(stop), thread: Some(thread), is_recorded: true })
    }

    /// Leaves nothing in the folder of [`RECORD`]: what comes was made up by a test.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.is_recorded = false;
        self
    }

    /// The base URL for OTLP over gRPC.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The base URL for OTLP over HTTP, without `/v1/…`.
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Where it listens for gRPC and for HTTP.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.grpc, self.http)
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
        if self.stop.take().is_some()
            && self.is_recorded
            && let Some(folder) = std::env::var_os(RECORD)
            && let Err(error) = record(Path::new(&folder), &self.store.telemetry())
        {
            eprintln!("otlp-receiver: {}: {error}", folder.display());
        }
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

/// One file for each receiver; nothing for one that has received nothing.
fn record(folder: &Path, telemetry: &Telemetry) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if *telemetry == Telemetry::default() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let name = format!("{}-{}.json", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let file = std::fs::File::create(folder.join(name))?;
    serde_json::to_writer(io::BufWriter::new(file), telemetry).map_err(io::Error::other)
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address: wanted, source };
    if !wanted.ip().is_loopback() {
        return Err(failed(io::Error::other("not an address of the loopback interface")));
    }
    // Connections of the one before may linger; `TcpListener::bind` sets SO_REUSEADDR for that where it is harmless.
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
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
