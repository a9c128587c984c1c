//! Serves one file over HTTP on this machine, and remembers what was asked of it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A server that answers every request for a path that ends in `path` with `body`, and any other one with 404.
pub struct Server {
    pub address: SocketAddr,
    /// The first line of each request.
    pub requests: Arc<Mutex<Vec<String>>>,
}

/// Starts one. Its thread ends with the test's process.
pub fn serve(path: &'static str, body: Vec<u8>) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, path, &body, &seen);
        }
    });
    Server { address, requests }
}

fn answer(mut stream: TcpStream, path: &str, body: &[u8], seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let is_here = first.split(' ').nth(1).is_some_and(|asked| asked.ends_with(path));
    seen.lock().unwrap().push(first);
    let (status, body) = if is_here { ("200 OK", body) } else { ("404 Not Found", &b""[..]) };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}
