//! `bench-sink`: an OTLP/HTTP receiver that counts spans and keeps nothing, so that it is never what a figure measures.
//!
//! Prints its base URL, then for every line on standard input the number of spans since it started. Ends with the input.

use std::io::{self, BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Field numbers from `ExportTraceServiceRequest` down to a span: `resource_spans`, `scope_spans`, `spans`.
const PATH: [u32; 3] = [1, 2, 2];
const BODY_LIMIT: usize = 64 << 20;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let count = Arc::new(AtomicU64::new(0));
    let routes = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(|| async { StatusCode::OK }))
        .route("/v1/logs", post(|| async { StatusCode::OK }))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::clone(&count));
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    println!("http://{}", listener.local_addr()?);
    runtime.spawn(async move { axum::serve(listener, routes).await });
    for line in io::stdin().lock().lines() {
        line?;
        println!("{}", count.load(Ordering::Relaxed));
        io::stdout().flush()?;
    }
    Ok(())
}

async fn traces(State(count): State<Arc<AtomicU64>>, body: Bytes) -> StatusCode {
    match messages(&body, &PATH) {
        Some(n) => {
            count.fetch_add(n, Ordering::Relaxed);
            StatusCode::OK
        }
        None => StatusCode::BAD_REQUEST,
    }
}

/// How many messages lie at the end of a path of fields, none of them read; `None` if it is not protobuf.
fn messages(mut message: &[u8], path: &[u32]) -> Option<u64> {
    let Some((&field, rest)) = path.split_first() else { return Some(1) };
    let mut n = 0;
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message).ok()?;
        if (number, kind) == (field, WireType::LengthDelimited) {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (inner, after) = message.split_at_checked(length)?;
            n += messages(inner, rest)?;
            message = after;
        } else {
            skip_field(kind, number, &mut message, DecodeContext::default()).ok()?;
        }
    }
    Some(n)
}
