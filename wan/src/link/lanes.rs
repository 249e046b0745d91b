//! Connections of classes other than normal: one a class and peer, made when a session first wants it, closed when the last one has ended.
//!
//! ```text
//!   peer ── the connection            normal; dialled by either side, kept up by the keeper
//!      ├─── dialled, by class         made here, next to a connection that was dialled here, to the same address
//!      └─── answered, by class        made over there; the newest counts
//! ```
//!
//! The protocol name that TLS agrees on says the class ([`super::tls::alpn_of`]); a box that knows no classes refuses the name, and the
//! session runs over the connection that is there. Only who dialled the peer can add connections: elsewhere it is behind a
//! NAT, and the same is done. Reasons: `docs/decisions/0012-classes.md`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, Side, VarInt};

use super::connections::{InUse, is_up};
use super::paths::Traffic;
use super::peers::Peer;
use super::{Inner, dial, incoming};
use crate::shape::Class;

/// How long a connection of a class is dialled before the session does without.
const DIAL: Duration = Duration::from_secs(10);
/// Closed because no session uses it any more, or because there is a newer one.
const UNUSED: VarInt = VarInt::from_u32(0);

/// The connections of a peer besides the normal one.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// With how many sessions use each.
    dialled: BTreeMap<Class, (Connection, usize)>,
    answered: BTreeMap<Class, Connection>,
}

/// A connection that a session uses; closed with the last session that does, unless it is the peer's normal one.
pub(super) struct Held {
    connection: Connection,
    of: Option<(Arc<Peer>, Class)>,
    _in_use: InUse,
}

impl Held {
    fn normal(peer: &Peer, connection: Connection) -> Held {
        let in_use = peer.begin_use(&connection);
        Held { connection, of: None, _in_use: in_use }
    }

    /// The connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((peer, class)) = &self.of {
            peer.lanes.let_go(*class, &self.connection);
        }
    }
}

impl Lanes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more session uses the connection of a class, if there is one that is up.
    fn take(&self, class: Class) -> Option<Connection> {
        let mut table = self.table();
        let (connection, users) = table.dialled.get_mut(&class).filter(|(connection, _)| is_up(connection))?;
        *users += 1;
        Some(connection.clone())
    }

    /// A connection was dialled for a first session. Where another session was faster, its connection is used and this one closed.
    fn put(&self, class: Class, connection: Connection) -> Connection {
        let mut table = self.table();
        if let Some((other, users)) = table.dialled.get_mut(&class).filter(|(other, _)| is_up(other)) {
            connection.close(UNUSED, b"there is one");
            *users += 1;
            return other.clone();
        }
        table.dialled.insert(class, (connection.clone(), 1));
        connection
    }

    /// One session less uses a connection.
    fn let_go(&self, class: Class, connection: &Connection) {
        let mut table = self.table();
        let Some((known, users)) = table.dialled.get_mut(&class) else { return };
        if known.stable_id() != connection.stable_id() {
            return;
        }
        *users = users.saturating_sub(1);
        if *users == 0 {
            known.close(UNUSED, b"no longer used");
            table.dialled.remove(&class);
        }
    }

    /// What went over connections to and from an address.
    pub(super) fn traffic_to(&self, address: SocketAddr) -> Traffic {
        let table = self.table();
        let all = table.dialled.values().map(|(connection, _)| connection).chain(table.answered.values());
        let there = all.filter(|connection| connection.remote_address() == address);
        there.map(Traffic::of).fold(Traffic::default(), |sum, one| sum + one)
    }

    /// Closes those over a path that is given up. Their sessions begin again elsewhere.
    pub(super) fn close_to(&self, address: SocketAddr) {
        let table = self.table();
        let all = table.dialled.values().map(|(connection, _)| connection).chain(table.answered.values());
        all.filter(|connection| connection.remote_address() == address)
            .for_each(|connection| connection.close(UNUSED, b"its path is given up"));
    }

    /// The peer has dialled a connection of this class. The newest counts, so that a peer has no more of them than there are classes.
    pub(super) fn answered(&self, class: Class, connection: &Connection) {
        let mut table = self.table();
        // A handle keeps what is left of a connection in memory.
        table.answered.retain(|_, old| is_up(old));
        if let Some(old) = table.answered.insert(class, connection.clone()) {
            old.close(UNUSED, b"there is a newer one");
        }
    }
}

/// A connection for a session of a class: one of its own where that can be had, else the one that is there.
pub(super) async fn hold(inner: &Arc<Inner>, peer: &Arc<Peer>, normal: Connection, class: Class) -> Held {
    // Whoever was dialled can't dial: the address is that of a NAT, or a port that listens to nobody.
    if class == Class::Normal || normal.side() == Side::Server {
        return Held::normal(peer, normal);
    }
    if let Some(connection) = peer.lanes.take(class) {
        return Held { connection, of: Some((peer.clone(), class)), _in_use: InUse::default() };
    }
    let address = normal.remote_address();
    let dialled = tokio::time::timeout(DIAL, dial::dial_at(inner, peer, address, class)).await;
    match dialled.unwrap_or_else(|_| Err("no answer".to_owned())) {
        Ok(connection) => {
            incoming::attend(inner, peer, connection.clone());
            let connection = peer.lanes.put(class, connection);
            Held { connection, of: Some((peer.clone(), class)), _in_use: InUse::default() }
        }
        Err(why) => {
            tracing::debug!(peer = %peer.name(), %class, why, "no connection of its own: the normal one is used");
            Held::normal(peer, normal)
        }
    }
}
