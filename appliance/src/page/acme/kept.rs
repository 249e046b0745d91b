//! What outlives the process (docs/formats/page.md): the account at the authority and what failed, and the certificate with its key.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Failing;
use crate::page::certificate::Certificate;
use crate::whole::exchange;

/// The files, in the page's folder.
const ACCOUNT: &str = "acme.json";
const CERTIFICATE: &str = "acme.pem";
/// The version of the first.
const VERSION: u32 = 1;
/// Where the key begins in it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";
/// Longest file, in bytes.
const BYTES_MAX: u64 = 256 << 10;

/// What is kept beside the certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// The directory that the account is at.
    pub directory: String,
    /// The account, with its key.
    pub account: Option<Value>,
    /// The directory that gave the certificate, and the names it is for.
    pub given: Option<Given>,
    /// What failed since.
    pub failing: Option<Failing>,
}

/// Where a certificate is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The directory.
    pub directory: String,
    /// The names, in order.
    pub names: Vec<String>,
}

impl Kept {
    /// For a directory of which nothing is known yet.
    pub fn begin(directory: &str) -> Kept {
        Kept { version: VERSION, directory: directory.into(), account: None, given: None, failing: None }
    }
}

/// The folder that has both.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The page's folder.
    pub fn new(folder: PathBuf) -> Folder {
        Folder(folder)
    }

    /// What is kept; the beginning where there is nothing, or nothing that can be read. An account of another directory is left behind.
    pub fn read(&self, directory: &str) -> Kept {
        let read = bytes(&self.0.join(ACCOUNT)).and_then(|bytes| {
            let kept: Kept = serde_json::from_slice(&bytes)?;
            match kept.version {
                VERSION => Ok(kept),
                other => Err(io::Error::other(format!("it is of version {other}, this box reads version {VERSION}"))),
            }
        });
        match read {
            Ok(kept) if kept.directory == directory => kept,
            Ok(kept) => Kept { given: kept.given, ..Kept::begin(directory) },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::begin(directory),
            Err(error) => {
                tracing::warn!(%error, "{ACCOUNT} can't be used: the box makes a new account at its authority");
                Kept::begin(directory)
            }
        }
    }

    /// Exchanges it, durably.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        exchange(&self.0, ACCOUNT, &serde_json::to_vec_pretty(kept)?, 0o600)
    }

    /// The certificate; nothing where there is none that can be read.
    pub fn certificate(&self) -> Option<Certificate> {
        let read = bytes(&self.0.join(CERTIFICATE)).and_then(|bytes| {
            let pem = String::from_utf8(bytes).map_err(io::Error::other)?;
            let place = pem.rfind(KEY).unwrap_or(pem.len());
            let (chain, key) = (pem[..place].to_owned(), pem[place..].to_owned());
            Certificate::of(chain, key).map_err(|what| io::Error::other(format!("there is no {what} in it")))
        });
        match read {
            Ok(certificate) => Some(certificate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "{CERTIFICATE} can't be used: the box orders another one");
                None
            }
        }
    }

    /// Exchanges the certificate, durably; the chain and its key in one file, so that they always belong together.
    pub fn keep(&self, chain_pem: &str, key_pem: &str) -> io::Result<()> {
        exchange(&self.0, CERTIFICATE, format!("{}\n{key_pem}", chain_pem.trim_end()).as_bytes(), 0o600)
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the page's folder, which its owner alone looks into.
pub fn folder(data: &Path) -> io::Result<PathBuf> {
    let folder = data.join(crate::page::certificate::FOLDER);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PAGE: &str = include_str!("../../../../docs/formats/page.md");

    #[test]
    fn the_example_of_the_page_is_read_and_written() {
        let rest = PAGE.split_once("```json\n").expect("an example").1;
        let example = rest.split_once("```").expect("its end").0;
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(ACCOUNT), example).expect("written");
        let here = Folder::new(folder.path().into());
        let kept = here.read("https://acme.example.org/directory");
        assert_eq!(kept.failing.as_ref().map(|failing| failing.tries), Some(2));
        assert_eq!(kept.given.as_ref().map(|given| given.names.len()), Some(1));
        here.write(&kept).expect("written");
        assert_eq!(here.read("https://acme.example.org/directory"), kept);
        let mode = fs::metadata(folder.path().join(ACCOUNT)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // At another authority there is no account yet; whose certificate that is stays known.
        let other = here.read("https://other.example.org/directory");
        assert_eq!((other.account, other.failing, other.given), (None, None, kept.given));
    }

    #[test]
    fn damage_is_a_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = Folder::new(folder.path().into());
        assert!(here.certificate().is_none());
        for text in ["", "{", "[]", r#"{"version":2,"directory":"d","account":null,"given":null,"failing":null}"#] {
            fs::write(folder.path().join(ACCOUNT), text).expect("written");
            assert_eq!(here.read("d"), Kept::begin("d"), "{text}");
        }
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\u{fffd}"] {
            fs::write(folder.path().join(CERTIFICATE), text).expect("written");
            assert!(here.certificate().is_none(), "{text}");
        }
    }
}
