//! The HTTP client of the OTLP exporters: hyper with rustls, and the memory of why it last failed. The exporters
//! themselves say "network error" and no more.
//!
//! Not reqwest, which the exporters offer: its cargo features, unlike these, would change the client of a program that
//! uses reqwest as well, down to a panic where no provider of TLS was chosen.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::ClientConfig;

use crate::proxy::ProxyConnector;

/// Why the last request failed, with all causes; taken by whoever reports it.
#[derive(Clone, Debug, Default)]
pub struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

#[derive(Debug)]
pub struct Client {
    client: HyperClient<HttpsConnector<ProxyConnector>>,
    last_error: LastError,
}

impl Client {
    pub fn new(timeout: Duration, tls: ClientConfig, last_error: LastError) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(ProxyConnector::from_env());
        Client { client: HyperClient::new(connector, timeout, None), last_error }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let result = self.client.send_bytes(request).await;
        if let Err(error) = &result {
            self.last_error.set(&**error);
        }
        result
    }
}
