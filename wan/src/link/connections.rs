//! The normal connections of one peer: the one that new sessions use, and those that it has replaced.
//!
//! ```text
//!            adopted                        replaced                     unused, or silent
//!   (none) ──────────▶ in use for new sessions ─────▶ its sessions go on ────────────────▶ closed
//! ```
//!
//! Two boxes that dial one another at the same time come to two connections, and one that moves to a better path has two
//! for a while. None of that may cost a running session. So a connection that was replaced is not closed: its sessions end
//! in their own time, new ones use the other. Rules that both ends keep, each from what it sees itself:
//!
//! 1. *Which one new sessions use.* Of two that the same side dialled the newer one: who dials again has left the old one, or
//!    wants to leave it. Of two that came about by dialling one another within [`AT_ONCE`] the one that the smaller key
//!    dialled; later the newer one. Should the ends see the times differently, both connections are used for a while,
//!    which is as good.
//! 2. *Who closes the other one:* the box with the smaller key, when no session has used it for [`QUIET`]. A session that the
//!    other end begins on it at that very moment has sent nothing yet, and begins again on the one in use.
//! 3. *What is silent* ([`Silence`]) and was replaced is closed by either: it is the old path of a peer that has left it.
//!
//! A peer has at most [`REPLACED_MAX`] replaced ones; the oldest is closed for the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, Side, VarInt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::paths::{Path, Silence, Traffic};

/// Connections that come about within this time, dialled by either side, are taken for boxes that dialled one another at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// A replaced connection that no session has used for so long is closed. Longer than the other end takes to learn of the new one.
const QUIET: Duration = Duration::from_secs(5);
/// So many replaced connections of a peer are left open at most.
const REPLACED_MAX: usize = 3;
/// Closed because there is another.
const DUPLICATE: VarInt = VarInt::from_u32(2);

/// The normal connections of a peer.
#[derive(Debug)]
pub(super) struct Connections(watch::Sender<Vec<Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    connection: Connection,
    since: Instant,
    path: Path,
    users: Arc<AtomicUsize>,
}

/// New connections as they come.
pub(super) struct Changes(watch::Receiver<Vec<Entry>>);

impl Changes {
    /// Waits for the next; for ever where there will be none.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A session uses a connection as long as this lives.
#[derive(Debug, Default)]
pub(super) struct InUse(Option<Arc<AtomicUsize>>);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(users) = &self.0 {
            users.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Connections(watch::Sender::new(Vec::new()))
    }
}

impl Connections {
    /// The one that new sessions use, with its path and since when it is there.
    pub(super) fn current(&self) -> Option<(Connection, Path, Instant)> {
        let entries = self.0.borrow();
        entries
            .iter()
            .rfind(|entry| is_up(&entry.connection))
            .map(|entry| (entry.connection.clone(), entry.path.clone(), entry.since))
    }

    /// Is any of them from this address?
    pub(super) fn any_from(&self, address: SocketAddr) -> bool {
        let entries = self.0.borrow();
        entries.iter().any(|entry| is_up(&entry.connection) && entry.connection.remote_address() == address)
    }

    /// How many are up that were replaced.
    pub(super) fn replaced(&self) -> usize {
        self.0.borrow().iter().filter(|entry| is_up(&entry.connection)).count().saturating_sub(1)
    }

    /// Hears of every connection that is adopted.
    pub(super) fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// Takes a new connection. `smaller` says whether this box has the smaller key of the two.
    pub(super) fn adopt(&self, connection: &Connection, path: Path, smaller: bool) {
        self.0.send_modify(|entries| {
            // A handle keeps what is left of a connection in memory.
            entries.retain(|entry| is_up(&entry.connection));
            let ours = connection.side() == Side::Client;
            let replaces = entries
                .last()
                .is_none_or(|old| replaces(old.connection.side() == Side::Client, ours, old.since.elapsed(), smaller));
            let entry = Entry { connection: connection.clone(), since: Instant::now(), path, users: Arc::default() };
            let at = if replaces { entries.len() } else { entries.len() - 1 };
            entries.insert(at, entry);
            if entries.len() > REPLACED_MAX + 1 {
                entries.remove(0).connection.close(DUPLICATE, b"too many connections");
            }
        });
    }

    /// Notes that a session uses a connection, if it is one of these.
    pub(super) fn begin_use(&self, connection: &Connection) -> InUse {
        let entries = self.0.borrow();
        let users =
            entries.iter().find(|entry| is_same(&entry.connection, connection)).map(|entry| entry.users.clone());
        if let Some(users) = &users {
            users.fetch_add(1, Ordering::Relaxed);
        }
        InUse(users)
    }

    /// Looks after one connection from time to time: closes it where it was replaced and its time has come.
    pub(super) fn look_after(&self, connection: &Connection, watch: &mut Watch, smaller: bool) {
        let entries = self.0.borrow();
        let in_use = |entry: &Entry| is_same(&entry.connection, connection);
        let Some(at) = entries.iter().position(in_use) else { return };
        let now = Instant::now();
        // Looked at from the beginning: when it is replaced it may have been silent for a while.
        let is_silent = watch.silence.look(now, Traffic::of(connection), connection.rtt());
        let is_replaced = entries.iter().skip(at + 1).any(|newer| is_up(&newer.connection));
        if !is_replaced || entries[at].users.load(Ordering::Relaxed) > 0 {
            watch.quiet_since = None;
        }
        if is_replaced && is_silent {
            connection.close(DUPLICATE, b"silent, and there is another connection");
        } else if is_replaced && smaller && now - *watch.quiet_since.get_or_insert(now) >= QUIET {
            connection.close(DUPLICATE, b"there is another connection");
        }
    }

    /// Closes all of them.
    pub(super) fn close(&self, why: &'static str) {
        self.0.borrow().iter().for_each(|entry| entry.connection.close(VarInt::from_u32(0), why.as_bytes()));
    }
}

/// What is remembered between two looks at a connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    quiet_since: Option<Instant>,
    silence: Silence,
}

/// Rule 1: whether new sessions use the new one of two connections. Of each: was it dialled here?
fn replaces(old_is_ours: bool, new_is_ours: bool, apart: Duration, smaller: bool) -> bool {
    let crossed = old_is_ours != new_is_ours && apart < AT_ONCE;
    !crossed || new_is_ours == smaller
}

/// Are these handles to the same connection?
pub(super) fn is_same(one: &Connection, other: &Connection) -> bool {
    one.stable_id() == other.stable_id()
}

/// Is the connection up, as far as is known?
pub(super) fn is_up(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_choose_the_same_connection_whatever_they_saw_first() {
        let seconds = Duration::from_secs;
        // In the words of each end: which of the two dialled the one that it uses in the end.
        let chosen = |smaller: bool, ours_first: bool, apart| {
            let new_used = replaces(ours_first, !ours_first, apart, smaller);
            let ours = if new_used { !ours_first } else { ours_first };
            if ours == smaller { "the smaller key's" } else { "the larger key's" }
        };
        for ours_first in [true, false] {
            for smaller in [true, false] {
                assert_eq!(chosen(smaller, ours_first, seconds(1)), "the smaller key's");
            }
        }
        // Long afterwards, and where one side dials again, the newer one.
        assert!(replaces(true, false, seconds(60), true) && replaces(false, true, seconds(60), false));
        for smaller in [true, false] {
            assert!(replaces(true, true, seconds(1), smaller) && replaces(false, false, seconds(1), smaller));
        }
    }
}
