//! The calls of an order, over HTTPS: as bounded as those of notices, by whom the system or a file trusts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use ureq::Agent;
use ureq::http::{Method, Request};

use crate::config;
use crate::trust;

/// How long a call may take, name and TLS included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What an answer may take, head and body.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: u64 = 1 << 20;

/// How long the authority wants the box to wait, in seconds; 0 where it did not say.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<AtomicU64>);

impl Asked {
    /// What it said last.
    pub fn seconds(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }
}

/// Calls to one authority.
pub struct Calls {
    agent: Agent,
    asked: Asked,
}

impl Calls {
    /// By the config; refused where there is nobody to trust.
    pub fn new(config: &config::Acme, asked: Asked) -> Result<Calls, String> {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .https_only(true)
            .max_response_header_size(HEAD_BYTES_MAX)
            .proxy(None)
            .tls_config(trust::tls(config.ca_file.as_deref(), &config.directory)?)
            .build();
        Ok(Calls { agent: config.new_agent(), asked })
    }
}

impl HttpClient for Calls {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (agent, asked) = (self.agent.clone(), self.asked.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = axum::body::to_bytes(Body::new(body), BODY_BYTES_MAX as usize).await;
            let bytes = bytes.map_err(|error| Error::Other(Box::new(error)))?;
            // Beside the answers to what the authority asks meanwhile.
            let called = tokio::task::spawn_blocking(move || call(&agent, Request::from_parts(parts, bytes)));
            let (response, wait) = called.await.map_err(|error| Error::Other(Box::new(error)))??;
            asked.0.store(wait, Ordering::Relaxed);
            Ok(response)
        })
    }
}

/// The answer, and how long it wants the box to wait.
fn call(agent: &Agent, request: Request<Bytes>) -> Result<(BytesResponse, u64), Error> {
    let has_body = request.method() == Method::POST;
    let (parts, body) = request.into_parts();
    let answer = match has_body {
        true => agent.run(Request::from_parts(parts, body.as_ref())),
        false => agent.run(Request::from_parts(parts, ())),
    };
    let in_words = |error: ureq::Error| Error::Other(trust::in_words(&error).into());
    let (parts, body) = answer.map_err(in_words)?.into_parts();
    if parts.status.is_redirection() {
        return Err(Error::Other(format!("it answers HTTP {}, and the box does not follow", parts.status).into()));
    }
    let wait = wait(&parts);
    let bytes = body.into_with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(in_words)?;
    Ok((BytesResponse { parts, body: Box::new(Bytes::from(bytes)) }, wait))
}

/// Retry-After of an answer that refuses (RFC 8555, 6.6); as a number, which is what authorities send.
fn wait(parts: &ureq::http::response::Parts) -> u64 {
    let refuses = matches!(parts.status.as_u16(), 429 | 503);
    let said = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    said.filter(|_| refuses).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use ureq::http::Response;

    use super::*;

    #[test]
    fn only_a_refusal_has_the_box_wait() {
        let of = |status: u16, value: &str| {
            let response = Response::builder().status(status).header("Retry-After", value).body(()).expect("one");
            wait(&response.into_parts().0)
        };
        assert_eq!((of(429, "3600"), of(503, " 5"), of(200, "5"), of(429, "tomorrow")), (3600, 5, 0, 0));
    }
}
