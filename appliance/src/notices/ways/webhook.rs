//! Notices by a call over HTTPS: one POST of JSON, signed (docs/formats/webhook.md). No redirects, and nothing of the answer but its status
//! is looked at, so that nobody reads through the box what only the box may reach.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::{Telling, Trouble, reach, secret};
use crate::clock;
use crate::config;
use crate::notices::core::{Item, Kind, Severity};
use crate::notices::text::{self, Speaker};
use crate::trust;

/// How long a call may take, name and TLS included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What an answer's head may take.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The header with the signature.
const SIGNATURE: &str = "Narrowboat-Signature";

/// An address that is called.
#[derive(Clone, Debug)]
pub(in crate::notices) struct Webhook {
    config: config::notices::Webhook,
    address: String,
    local: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    #[serde(rename = "box")]
    from: From<'a>,
    test: bool,
    n: u64,
    at: String,
    severity: Severity,
    subject: String,
    items: Vec<Told<'a>>,
    more: u64,
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_since: Option<String>,
}

#[derive(Serialize)]
struct From<'a> {
    name: &'a str,
    store: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct Told<'a> {
    kind: Kind,
    severity: Severity,
    key: &'a str,
    what: &'a str,
    remedy: &'a str,
    since: String,
}

impl<'a> Told<'a> {
    fn of(item: &'a Item) -> Told<'a> {
        let Item { kind, severity, key, what, remedy, since } = item;
        Told { kind: *kind, severity: *severity, key, what, remedy, since: text::rfc3339(*since) }
    }
}

impl Webhook {
    pub fn of(config: &config::Notices) -> Option<Webhook> {
        let address = config.webhook.address.clone()?;
        Some(Webhook { config: config.webhook.clone(), address, local: config.local })
    }

    /// Without what stands behind the host: that may be all that protects the receiver.
    pub fn target(&self) -> String {
        let host = self.address.parse::<Uri>().ok().and_then(|uri| Some(uri.authority()?.to_string()));
        format!("https://{}/…", host.unwrap_or_default())
    }

    pub fn tell(&self, speaker: &Speaker, telling: &Telling) -> Result<(), Trouble> {
        let body = body(speaker, telling).map_err(|error| Trouble::of(error.to_string()))?;
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .https_only(true)
            .max_response_header_size(HEAD_BYTES_MAX)
            .proxy(None)
            .user_agent(concat!("narrowboat/", env!("CARGO_PKG_VERSION")))
            .tls_config(trust::tls(self.config.ca_file.as_deref(), &self.address).map_err(Trouble::of)?)
            .build();
        let resolver = Careful { local: self.local, below: DefaultResolver::default() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        let mut request = agent.post(&self.address).header("Content-Type", "application/json");
        if let Some(file) = &self.config.secret_file {
            let time = clock::wall().seconds();
            request = request.header(SIGNATURE, sign(&secret("webhook.secret_file", file)?, time, &body));
        }
        match request.send(&body) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let why = match status.is_redirection() {
                    true => format!("HTTP {status}: it points elsewhere, and the box does not follow"),
                    false => format!("HTTP {status}"),
                };
                let may_change = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
                Err(if may_change { Trouble::of(why) } else { Trouble::refusal(why) })
            }
            Err(error) => Err(Trouble::of(trust::in_words(&error))),
        }
    }
}

fn body(speaker: &Speaker, telling: &Telling) -> serde_json::Result<String> {
    let notice = &telling.notice;
    serde_json::to_string(&Body {
        version: 1,
        from: From { name: &speaker.name, store: &speaker.store, version: env!("CARGO_PKG_VERSION") },
        test: telling.test,
        n: notice.n,
        at: text::rfc3339(notice.at),
        severity: notice.severity(),
        subject: text::subject(speaker, notice),
        items: notice.items.iter().map(Told::of).collect(),
        more: notice.more,
        skipped: telling.skipped,
        held_since: notice.held.map(|held| text::rfc3339(held.since)),
    })
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 by the secret of "SECONDS.BODY".
fn sign(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={digest}")
}

/// Finds the addresses of a host, and keeps those that may be called.
#[derive(Debug)]
struct Careful {
    local: bool,
    below: DefaultResolver,
}

impl Resolver for Careful {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.below.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for address in found.iter().filter(|address| reach::is_allowed(address.ip(), self.local)) {
            kept.push(*address);
        }
        if kept.is_empty() { Err(Error::Other(format!("its host {}", reach::FORBIDDEN).into())) } else { Ok(kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_page_of_the_format_says() {
        // The example of docs/formats/webhook.md, made by `openssl dgst -sha256 -hmac`.
        let expected = "t=1700000000,v1=cc3e6b62f9f172cec5b021a2421d42af369ed3431d05ace2a8603bdfa3604ed1";
        assert_eq!(sign("a secret", 1_700_000_000, r#"{"version":1}"#), expected);
    }
}
