//! The HTTP client of the OTLP exporters: reqwest, and the memory of why it last failed. The exporters themselves say
//! "network error" and no more.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// Why the last request failed, with all causes; taken by whoever reports it.
#[derive(Clone, Debug, Default)]
pub struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: &(dyn Error + 'static)) {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

#[derive(Debug)]
pub struct Client {
    client: reqwest::Client,
    last_error: LastError,
}

impl Client {
    /// # Errors
    /// What is wrong with TLS or the proxy variables on this machine, in words.
    pub fn new(timeout: Duration, last_error: LastError) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(timeout).build();
        client
            .map(|client| Client { client, last_error: last_error.clone() })
            .map_err(|error| {
                last_error.set(&error);
                last_error.take().unwrap_or_default()
            })
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
