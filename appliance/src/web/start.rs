//! What the box tells the page worker: one message over the door before anything else, and one for each other certificate later on.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

/// Longest message, in bytes.
pub const START_BYTES_MAX: usize = 64 << 10;

/// All that a worker is given beside its sockets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// How the box calls itself.
    pub name: String,
    /// What the page shows to whoever connects.
    pub shown: Shown,
    /// The user that the worker becomes; it stays who it is where there is none.
    pub user: Option<u32>,
    /// The group that the worker becomes.
    pub group: Option<u32>,
}

/// A certificate to show.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The certificate, and those that vouch for it.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

/// Waits for it.
pub(super) fn receive(door: BorrowedFd<'_>) -> io::Result<Start> {
    let mut message = vec![0; START_BYTES_MAX + 1];
    let (length, _) = recv(door, message.as_mut_slice(), RecvFlags::empty())?;
    match length {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the box has ended before it said anything")),
        length if length > START_BYTES_MAX => Err(io::Error::other("the box's first message is too long")),
        length => serde_json::from_slice(&message[..length]).map_err(io::Error::from),
    }
}
