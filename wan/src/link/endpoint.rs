//! The link of a box: one QUIC endpoint, its peers, and what can be asked of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use narrowboat_storage::error::Refusal;
use quinn::{AsyncUdpSocket, Endpoint, TokioRuntime, VarInt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::host::{Host, LinkConfig, LinkError};
use super::job::{Progress, Stopped, replicate};
use super::pairing::{Code, Desk, desk};
use super::paths::Path;
use super::peers::{Greeting, Peer, Peers};
use super::places::Places;
use super::probe::Unmeasured;
use super::socket::{Counters, ShapedSocket, Shaper};
use super::standing::endpoint_config;
use super::tls::{Doorkeeper, Tls, controller_of};
use super::udp::MarkingSocket;
use super::{Inner, door, heal, keeper, lock, pair, probe};
use crate::heal::Patient;
use crate::peer::{PeerAddress, PeerId, PeerName, PeerRecord};
use crate::probe::Survey;
use crate::shape::{Class, Rate};
use crate::sync::{Replication, Report, Source};

/// How long sessions have to say goodbye when the link shuts down.
const GOODBYE: Duration = Duration::from_secs(3);
const SHUT_DOWN: VarInt = VarInt::from_u32(0);

/// A link. Clones are handles to the same one; it ends with [`Link::shutdown`].
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) inner: Arc<Inner>,
}

/// What is known of a peer just now.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// What is pinned.
    pub record: PeerRecord,
    /// Where it is connected from; None where it is not connected.
    pub connected_from: Option<SocketAddr>,
    /// The path that new sessions use, and for how long it has been used.
    pub path: Option<(Path, Duration)>,
    /// Connections beside that one, over which what had begun there comes to its end.
    pub replaced: usize,
    /// Why it was not reached when it was tried last.
    pub last_error: Option<String>,
    /// How it greeted in the latest session, either way; None where there was none since the link was made.
    pub greeting: Option<Greeting>,
    /// The line to it.
    pub line: Option<Probe>,
    /// The cap that is in force of what is sent to it: the one that was set, or what it grants us, if that is lower.
    pub limit: Option<Rate>,
    /// What it grants us.
    pub granted: Option<Rate>,
    /// What was sent to it in the second that ends now, in bits per second on the wire.
    pub bits_per_second: u64,
    /// What was received from it in the second that ends now, likewise.
    pub received_bits_per_second: u64,
    /// Bytes on the wire since the link was made.
    pub counters: Counters,
}

/// What the line to a peer is like, as far as traffic has shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Round trip, smoothed.
    pub round_trip: Duration,
    /// The shortest round trip so far.
    pub round_trip_min: Duration,
    /// Packets sent over this connection.
    pub sent_packets: u64,
    /// Of these, lost.
    pub lost_packets: u64,
    /// Largest UDP payload that passes.
    pub mtu: u16,
    /// What the line (or its cap) has delivered lately at most, in bits per second; 0 before anything was sent.
    pub bits_per_second: u64,
}

/// What [`Link::probe`] has found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// What traffic has shown, this probe included.
    pub line: Probe,
    /// What was measured, or why nothing was.
    pub survey: Result<Survey, Unmeasured>,
}

impl Link {
    /// Opens the socket and begins to answer, and to dial the peers that are pinned. Must be called within a tokio
    /// runtime; its tasks run there until [`Link::shutdown`].
    pub async fn bind(config: LinkConfig, host: Arc<dyn Host>) -> Result<Link, LinkError> {
        let address = config.listen;
        let marking = MarkingSocket::bind(address, config.marks);
        let marking = marking.map_err(|source| LinkError::Bind { address, source })?;
        let shaper = Shaper::new(config.limit, config.extra_bytes);
        Self::above(ShapedSocket::marking(marking, shaper.clone()), shaper, config, host)
    }

    /// Like [`Link::bind`], over a socket that is open already, such as a simulated one.
    pub fn over(socket: Arc<dyn AsyncUdpSocket>, config: LinkConfig, host: Arc<dyn Host>) -> Result<Link, LinkError> {
        let shaper = Shaper::new(config.limit, config.extra_bytes);
        Self::above(ShapedSocket::new(socket, shaper.clone()), shaper, config, host)
    }

    fn above(
        socket: Arc<ShapedSocket>,
        shaper: Arc<Shaper>,
        config: LinkConfig,
        host: Arc<dyn Host>,
    ) -> Result<Link, LinkError> {
        let address = config.listen;
        let door = Arc::new(Doorkeeper::default());
        let tls = Arc::new(Tls::new(&config.identity, door.clone())?);
        let answering = tls.answer()?;
        let (standing, server) = (endpoint_config(&config.identity), Some(answering.clone()));
        let endpoint = Endpoint::new_with_abstract_socket(standing, server, socket, Arc::new(TokioRuntime))
            .map_err(|source| LinkError::Bind { address, source })?;
        let pinned = config.peers.clone();
        let places = Places::new(config.sessions.clamp(1, 1024), config.limits.window_bytes);
        let inner = Arc::new(Inner {
            config,
            host,
            shaper,
            door,
            tls,
            answering,
            endpoint,
            peers: Peers::default(),
            grants: Default::default(),
            desk: Mutex::new(Desk::default()),
            probes: probe::Probes::default(),
            answers: heal::Answers::default(),
            sessions: places,
            possessions: Arc::default(),
            packing: Arc::default(),
            pairing_limiter: door::pairing_limiter(),
            began: Instant::now(),
            closing: Cancel::new(),
            tasks: Mutex::default(),
        });
        inner.spawn(door::answer(inner.clone()));
        pinned.into_iter().for_each(|record| inner.add(record));
        Ok(Link { inner })
    }

    /// The address that the link listens on.
    pub fn local_address(&self) -> Result<SocketAddr, LinkError> {
        let address = self.inner.config.listen;
        self.inner.endpoint.local_addr().map_err(|source| LinkError::Bind { address, source })
    }

    /// The box's own key.
    pub fn id(&self) -> PeerId {
        self.inner.config.identity.id()
    }

    /// Opens an invitation and returns its code, to be read out, and for how long it is good. `name` is what the box
    /// that joins will be called here; None takes what it calls itself. A second invitation replaces the first.
    pub fn invite(&self, name: Option<PeerName>) -> (Code, Duration) {
        let code = Code::random(&mut StdRng::from_seed(rand::random()));
        lock(&self.inner.desk).invite(self.inner.began.elapsed(), code.clone(), name);
        self.inner.door.set_pairing(true);
        let inner = self.inner.clone();
        self.inner.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(desk::OPEN_FOR) => inner.close_door_when_over(),
                () = inner.closing.cancelled() => {}
            }
        });
        (code, desk::OPEN_FOR)
    }

    /// Takes the open invitation back.
    pub fn cancel_invitation(&self) {
        lock(&self.inner.desk).cancel();
        self.inner.close_door_when_over();
    }

    /// Pairs with the box at `address` that gave out `code`. When it returns both sides have pinned the other.
    pub async fn join(&self, code: &Code, address: &PeerAddress) -> Result<PeerRecord, LinkError> {
        tokio::select! {
            joined = pair::join(&self.inner, code, address) => joined,
            () = self.inner.closing.cancelled() => Err(LinkError::Closed),
        }
    }

    /// All peers, by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let statuses = self.inner.peers.all().into_iter().map(|peer| {
            let in_use = peer.in_use();
            let connection = in_use.as_ref().map(|(connection, ..)| connection.clone());
            let status = PeerStatus {
                record: peer.record(),
                connected_from: connection.as_ref().map(quinn::Connection::remote_address),
                path: in_use.map(|(_, path, since)| (path, since.elapsed())),
                replaced: peer.replaced(),
                last_error: peer.last_error(),
                greeting: peer.greeting(),
                line: connection.as_ref().map(known),
                limit: self.inner.shaper.limit(Some(peer.node)),
                granted: self.inner.shaper.granted(peer.node),
                bits_per_second: self.inner.shaper.bits_per_second(peer.node),
                received_bits_per_second: self.inner.shaper.received_bits_per_second(Some(peer.node)),
                counters: self.inner.shaper.counters(Some(peer.node)),
            };
            (status.record.name.clone(), status)
        });
        statuses.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The peer of this name, else of this fingerprint.
    pub fn find(&self, name: &str) -> Result<PeerRecord, LinkError> {
        self.peer(name).map(|peer| peer.record())
    }

    /// Pins a peer, or updates what is known of one; the caller keeps the record.
    pub fn add(&self, record: PeerRecord) {
        self.inner.add(record);
    }

    /// Forgets a peer: its connection is closed, and its key opens nothing any more. The caller forgets the record.
    pub fn remove(&self, name: &str) -> Result<PeerRecord, LinkError> {
        let peer = self.peer(name)?;
        self.inner.door.unpin(&peer.id);
        self.inner.peers.remove(&peer.id);
        peer.removed.cancel();
        peer.close("removed");
        self.inner.shaper.remove_peer(peer.node);
        Ok(peer.record())
    }

    /// Changes where a peer is dialled, best first; at most [`PeerRecord::ADDRESSES_MAX`]. It counts at once, and breaks
    /// nothing: a connection to an address that is not among them any more is used until a better one is there. Returns the
    /// record, for the caller to keep.
    pub fn set_addresses(&self, name: &str, addresses: Vec<PeerAddress>) -> Result<PeerRecord, LinkError> {
        if addresses.len() > PeerRecord::ADDRESSES_MAX {
            let sentence = format!("a peer has at most {} addresses", PeerRecord::ADDRESSES_MAX);
            return Err(Refusal::Invalid(sentence).into());
        }
        let peer = self.peer(name)?;
        peer.set_addresses(addresses);
        Ok(peer.record())
    }

    /// The cap of everything that the box sends.
    pub fn box_limit(&self) -> Option<Rate> {
        self.inner.shaper.limit(None)
    }

    /// Changes the cap of everything that the box sends, from the next datagram on. The caller keeps it.
    pub fn set_box_limit(&self, limit: Option<Rate>) {
        self.inner.shaper.set_limit(None, limit);
    }

    /// Changes the cap that is in force of what is sent to one peer, from the next datagram on, and leaves its record as it is. A
    /// peer that is not there is nobody's loss.
    pub fn apply_limit(&self, id: &PeerId, limit: Option<Rate>) {
        if let Some(peer) = self.inner.peers.find(id) {
            self.inner.shaper.set_limit(Some(peer.node), limit);
        }
    }

    /// Changes what the record of a peer says about its cap, and not the one in force. Returns the record, for the caller to keep.
    pub fn note_limit(&self, name: &str, limit: Option<Rate>) -> Result<PeerRecord, LinkError> {
        let peer = self.peer(name)?;
        peer.update(|record| record.limit = limit);
        Ok(peer.record())
    }

    /// Changes the cap of what is sent to one peer, from the next datagram on, in force and in its record. Returns the record,
    /// for the caller to keep.
    pub fn set_limit(&self, name: &str, limit: Option<Rate>) -> Result<PeerRecord, LinkError> {
        let peer = self.peer(name)?;
        self.inner.shaper.set_limit(Some(peer.node), limit);
        peer.update(|record| record.limit = limit);
        Ok(peer.record())
    }

    /// Replicates a snapshot to a peer. Waits for a connection, goes on after a broken one, and ends when the peer has
    /// published the snapshot, has refused it, or nothing has moved for [`LinkConfig::retry_for`]. `progress` is called
    /// a few times a second. What was moved before a failure is kept by the peer.
    pub async fn replicate(
        &self,
        name: &str,
        replication: Replication,
        source: Arc<dyn Source>,
        cancel: &Cancel,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Report, Stopped> {
        self.replicate_as(Class::Normal, name, replication, source, cancel, progress).await
    }

    /// The same as traffic of a class. Where the peer can't be reached by a connection of that class, it is normal traffic.
    pub async fn replicate_as(
        &self,
        class: Class,
        name: &str,
        replication: Replication,
        source: Arc<dyn Source>,
        cancel: &Cancel,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Report, Stopped> {
        let peer = self.peer(name).map_err(|error| Stopped { error, report: Box::default() })?;
        replicate(&self.inner, &peer, replication, class, source, cancel, &mut progress).await
    }

    /// Wire bytes that were sent to a peer, by class, in the order of [`Class::ALL`].
    pub fn sent_by_class(&self, name: &str) -> Result<[u64; Class::ALL.len()], LinkError> {
        Ok(self.inner.shaper.sent_by_class(self.peer(name)?.node))
    }

    /// Bytes on the wire since the link was made: of one peer, or of everything (`None`).
    pub fn counters(&self, name: Option<&str>) -> Result<Counters, LinkError> {
        let node = name.map(|name| self.peer(name).map(|peer| peer.node)).transpose()?;
        Ok(self.inner.shaper.counters(node))
    }

    /// Measures the line to a peer: round trip, loss and capacity both ways, with at most half a megabyte each way and far less on
    /// thin lines ([`crate::probe`]). Takes seconds, a minute at most; waits up to ten seconds for a connection. A peer that can't
    /// be measured, because its software is too old or it was measured just now, is told from what traffic has shown.
    pub async fn probe(&self, name: &str) -> Result<Probed, LinkError> {
        let peer = self.peer(name)?;
        match tokio::time::timeout(Duration::from_secs(10), peer.connected()).await {
            Ok(Some(connection)) => {
                let survey = tokio::select! {
                    survey = probe::ask(&self.inner, &peer, &connection) => survey,
                    () = self.inner.closing.cancelled() => return Err(LinkError::Closed),
                };
                if matches!(survey, Err(Unmeasured::Nonsense)) {
                    self.inner.refused(&peer, format!("it was probed: {}", Unmeasured::Nonsense)).await;
                }
                Ok(Probed { line: known(&connection), survey })
            }
            Ok(None) => Err(LinkError::Closed),
            Err(_) => Err(LinkError::Unreachable {
                peer: peer.name().to_string(),
                why: peer.last_error().unwrap_or_else(|| "it has not called".to_owned()),
            }),
        }
    }

    /// Asks a connected peer for what a store has lost, as traffic of class scavenger. Ends when there is nothing more that it could give, or nothing
    /// left to be healed; what came until then is kept, also where it fails.
    pub async fn heal(&self, name: &str, patient: Arc<dyn Patient>, cancel: &Cancel) -> Result<(), LinkError> {
        let peer = self.peer(name)?;
        heal::ask(&self.inner, &peer, patient, cancel).await
    }

    /// Ends everything in order: sessions say why, connections are closed, tasks end. The port is free when the last
    /// handle of this link is dropped.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        // Sessions get their time; the door's task ends only with the endpoint.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = tokio::time::timeout(GOODBYE, async { while tasks.len() > 1 && tasks.join_next().await.is_some() {} })
            .await;
        self.inner.endpoint.close(SHUT_DOWN, b"shutting down");
        let _ = tokio::time::timeout(GOODBYE, self.inner.endpoint.wait_idle()).await;
        tasks.shutdown().await;
    }

    fn peer(&self, name: &str) -> Result<Arc<Peer>, LinkError> {
        let peers = self.inner.peers.all();
        let named = peers.iter().find(|peer| peer.name().as_str() == name);
        let found = named.or_else(|| peers.iter().find(|peer| peer.id.matches(name) == Ok(true)));
        found.cloned().ok_or_else(|| Refusal::NotFound(format!("peer {name}")).into())
    }
}

impl Inner {
    /// Pins a peer and keeps a connection to it.
    pub(super) fn add(self: &Arc<Self>, record: PeerRecord) {
        self.door.pin(record.id);
        let limit = self.host.cap(&record);
        let (peer, new) = self.peers.add(record, limit, &self.shaper);
        if new {
            self.spawn(keeper::keep(self.clone(), peer));
        }
    }

    /// Tells the box that a peer was refused something.
    pub(super) async fn refused(&self, peer: &Peer, why: String) {
        let (host, record) = (self.host.clone(), peer.record());
        if tokio::task::spawn_blocking(move || host.refused(&record, &why)).await.is_err() {
            tracing::error!(peer = %peer.name(), "telling the box of a refusal failed");
        }
    }

    /// Runs a task until it ends or the link shuts down.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if !self.closing.is_cancelled() {
            tasks.spawn(task);
        }
    }

    /// Shuts the door for strangers where no invitation is open any more.
    pub(super) fn close_door_when_over(&self) {
        let open = lock(&self.desk).open_until(self.began.elapsed()).is_some();
        self.door.set_pairing(open);
    }
}

fn known(connection: &quinn::Connection) -> Probe {
    let path = connection.stats().path;
    Probe {
        round_trip: connection.rtt(),
        round_trip_min: connection.min_rtt(),
        sent_packets: path.sent_packets,
        lost_packets: path.lost_packets,
        mtu: path.current_mtu,
        bits_per_second: controller_of(connection).map_or(0, |steady| steady.bytes_per_second().saturating_mul(8)),
    }
}
