//! `[page]`: where people find the box.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Acme;

/// Where the page is when nothing is said: for this machine alone.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8443";

/// `[page]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// Address and port, or empty for off; [`DEFAULT_ADDRESS`] where nothing is said.
    pub listen: Option<String>,
    /// PEM file with the certificate and those that vouch for it; one of the box's own where nothing is said.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// Whether neighbours find it by its name (mDNS); yes where nothing is said.
    pub announce: Option<bool>,
    /// An authority that gives the page a certificate; none where nothing is said.
    pub acme: Option<Acme>,
}

impl Page {
    /// Where it is, if it is anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.as_deref().unwrap_or(DEFAULT_ADDRESS).parse().ok()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(text) = &self.listen {
            super::listen_address("page.listen", text)?;
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(_), _) if self.acme.is_some() => Err(
                "page.certificate_file: with [page.acme] the authority gives the certificate: leave out one of them"
                    .into(),
            ),
            (Some(_), None) => Err("page.certificate_file: its key is missing (page.key_file)".into()),
            (None, Some(_)) => Err("page.key_file: its certificate is missing (page.certificate_file)".into()),
            _ => self.acme.as_ref().map_or(Ok(()), Acme::check),
        }
    }
}
