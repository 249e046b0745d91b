//! The only sockets and tasks of this crate: one QUIC endpoint a box, under caps, between pinned keys.
//!
//! ```text
//!   replicate ──▶ job ──▶ driver ═══ streams ═══▶ quinn ──▶ congestion ──▶ socket ──▶ the wire
//!                  ▲        │                       ▲           (Steady)     (caps of
//!               keeper   sync::Session              │                      crate::shape)
//!              (dials)   and Worker             tls, door ◀── pairing
//! ```
//!
//! * [`endpoint`]: [`Link`], what the box around it calls; [`host`]: what it is told and what it asks of the box.
//! * [`socket`]: every datagram, both ways, is counted and held under the caps; [`udp`]: and marked by its class.
//! * [`congestion`]: how much may be under way on a thin, long, lossy line; [`scavenger`]: how much for what yields to everybody; [`law`]: how quinn asks them.
//! * [`identity`], [`tls`]: who may connect; [`pairing`]: how two boxes learn one another's keys.
//! * [`lane`], `lanes`: which class a connection has, and connections of classes other than normal.
//! * `grants`: caps of what is received, which peers are told and keep; `hold`: how data stands still while a connection lives.
//! * `door` answers handshakes, `keeper` sees to it that there is a connection over the best path, with `dial` and what `paths`
//!   decides; `connections` has the rules for several connections of one peer, whoever dialled them; `standing` is what outlives a restart.
//! * `probe` measures the line to a peer; `heal` asks it for what is damaged here.
//! * `job` runs a replication over as many connections as it takes, `incoming` serves what peers begin, and `driver` turns
//!   the session value of [`crate::sync`] over the streams of one connection.
//!
//! What it promises: nothing leaves above the caps, whatever it is; nobody without a pinned key gets further than a TLS
//! alert; a peer can make it hold no more than the windows of [`transport`] and of [`crate::sync::Limits`]; a connection
//! that breaks is made again and work goes on where it stopped. What it never does: look into a store (that is
//! [`Host`]'s), decide what is replicated when, or send to a peer whose cap is zero.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::DefaultDirectRateLimiter;
use quinn::{Endpoint, ServerConfig, TransportConfig};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::shape::Class;

mod cancel;
pub mod congestion;
mod connections;
mod dial;
mod door;
mod driver;
pub mod endpoint;
mod grants;
mod heal;
mod hold;
pub mod host;
pub mod identity;
mod incoming;
mod job;
mod keeper;
pub mod lane;
mod lanes;
pub mod law;
mod pair;
pub mod pairing;
mod paths;
mod peers;
mod places;
mod probe;
pub mod scavenger;
mod shaper;
mod shares;
pub mod socket;
mod standing;
mod streams;
pub mod tls;
pub mod transport;
pub mod udp;

pub use cancel::Cancel;
pub use endpoint::{Link, PeerStatus, Probe, Probed};
pub use host::{Host, LinkConfig, LinkError};
pub use identity::Identity;
pub use job::{Progress, Stopped};
pub use pairing::{Code, PairingError};
pub use paths::{Path, Why};
pub use peers::Greeting;
pub use probe::Unmeasured;
pub use socket::Counters;

/// What all tasks of a link share.
struct Inner {
    config: LinkConfig,
    host: Arc<dyn Host>,
    shaper: Arc<socket::Shaper>,
    door: Arc<tls::Doorkeeper>,
    tls: Arc<tls::Tls>,
    /// How handshakes are answered, but for the transport.
    answering: ServerConfig,
    endpoint: Endpoint,
    peers: peers::Peers,
    grants: grants::Grants,
    desk: Mutex<pairing::Desk>,
    /// Probes of lines that run.
    probes: probe::Probes,
    /// Peers that are being healed from this box.
    answers: heal::Answers,
    /// Places for sessions in which peers send to us.
    sessions: places::Places,
    /// What peers have shown to have, from one session to the next.
    possessions: Arc<crate::sync::Possessions>,
    /// Memory for packing, all sessions together.
    packing: Arc<crate::sync::Budget>,
    pairing_limiter: DefaultDirectRateLimiter,
    /// The origin of every time that is handed to a value.
    began: Instant,
    closing: Cancel,
    tasks: Mutex<JoinSet<()>>,
}

impl Inner {
    /// For a connection of a class with whoever is at an address, under the caps that hold now.
    fn transport(&self, class: Class, address: SocketAddr) -> TransportConfig {
        let mut transport = transport::transport_of(class);
        if let Some(payloads) = self.shaper.filling_payloads(address) {
            transport::fill(&mut transport, payloads);
        }
        transport
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("id", &self.config.identity.id()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; should it, what is behind them is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
