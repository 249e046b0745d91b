//! Pairing over a real connection: reads and writes the frames of [`super::pairing`], and pins who was paired.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::Timestamp;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::lookup_host;

use super::host::LinkError;
use super::pairing::wire::{FRAME_MAX, Message, Reason};
use super::pairing::{Card, Code, Facts, Inviter, Joiner, PairingError, Step};
use super::tls::{SERVER_NAME, peer_of};
use super::{Inner, lock};
use crate::peer::{PeerAddress, PeerId, PeerName, PeerRecord};
use crate::shape::Class;

/// A pairing that takes longer is given up, at either side.
const WHOLE: Duration = Duration::from_secs(30);
/// How long the last frame is waited for to arrive.
const FAREWELL: Duration = Duration::from_secs(3);
const EXPORTER: &[u8] = b"EXPORTER-narrowboat-pair-1";
const OVER: VarInt = VarInt::from_u32(0);

/// Serves a connection that came to pair.
pub(super) async fn answer(inner: &Arc<Inner>, connection: Connection, joiner: PeerId) {
    let outcome = tokio::time::timeout(WHOLE, invited(inner, &connection, joiner)).await;
    match outcome {
        Ok(Ok(record)) => tracing::info!(peer = %record.name, id = %record.id, "paired"),
        Ok(Err(error)) => tracing::warn!(address = %connection.remote_address(), %error, "not paired"),
        Err(_) => tracing::warn!(address = %connection.remote_address(), "not paired: it took too long"),
    }
    inner.close_door_when_over();
    connection.close(OVER, b"");
}

async fn invited(inner: &Arc<Inner>, connection: &Connection, joiner: PeerId) -> Result<PeerRecord, LinkError> {
    let facts = facts(inner, connection, joiner, inner.config.identity.id())?;
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| PairingError::Malformed)?;
    let mut session = Inviter::new(facts);
    loop {
        let frame = read(&mut recv).await?;
        let step = {
            let mut rng = StdRng::from_seed(rand::random());
            session.receive(inner.began.elapsed(), &mut lock(&inner.desk), &mut rng, &frame)
        };
        match step {
            Step::Send(frame) => write(&mut send, &frame).await?,
            Step::Paired { card, name, last } => {
                let ip = connection.remote_address().ip().to_canonical();
                let address = PeerAddress::from(SocketAddr::new(ip, card.port));
                match pin(inner, card, name, joiner, address).await {
                    Ok(record) => {
                        finish(&mut send, last.as_deref()).await;
                        return Ok(record);
                    }
                    Err(error) => {
                        finish(&mut send, Some(&Message::Refused(Reason::Failed, 0).encode())).await;
                        return Err(error);
                    }
                }
            }
            Step::Failed { error, last } => {
                finish(&mut send, last.as_deref()).await;
                return Err(error.into());
            }
        }
    }
}

/// Pairs with the box at `address` that gave out `code`.
pub(super) async fn join(inner: &Arc<Inner>, code: &Code, address: &PeerAddress) -> Result<PeerRecord, LinkError> {
    let unreachable = |why: String| LinkError::Unreachable { peer: address.to_string(), why };
    let connection = tokio::time::timeout(WHOLE, dial(inner, address))
        .await
        .map_err(|_| unreachable("no answer".to_owned()))?
        .map_err(unreachable)?;
    let joined = tokio::time::timeout(WHOLE, joined(inner, &connection, code, address)).await;
    connection.close(OVER, b"");
    joined.map_err(|_| unreachable("it took too long".to_owned()))?
}

async fn dial(inner: &Inner, address: &PeerAddress) -> Result<Connection, String> {
    let mut why = "no address for this name".to_owned();
    for found in lookup_host(address.as_str()).await.map_err(|error| format!("name not found: {error}"))? {
        let mut config = inner.tls.dial_to_pair().map_err(|error| error.to_string())?;
        config.transport_config(Arc::new(inner.transport(Class::Normal, found)));
        match inner.endpoint.connect_with(config, found, SERVER_NAME) {
            Ok(connecting) => match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => why = error.to_string(),
            },
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

async fn joined(
    inner: &Arc<Inner>,
    connection: &Connection,
    code: &Code,
    address: &PeerAddress,
) -> Result<PeerRecord, LinkError> {
    let inviter = peer_of(connection).ok_or(PairingError::Malformed)?;
    let facts = facts(inner, connection, inner.config.identity.id(), inviter)?;
    let refused = |_| no_invitation(connection);
    let (mut send, mut recv) = connection.open_bi().await.map_err(refused)?;
    let (mut session, first) = Joiner::start(code, facts, &mut StdRng::from_seed(rand::random()));
    write(&mut send, &first).await.map_err(|error| closed_or(connection, error))?;
    loop {
        let frame = read(&mut recv).await.map_err(|error| closed_or(connection, error))?;
        match session.receive(&frame) {
            Step::Send(frame) => write(&mut send, &frame).await?,
            Step::Paired { card, name, .. } => return pin(inner, card, name, inviter, address.clone()).await,
            Step::Failed { error, last } => {
                finish(&mut send, last.as_deref()).await;
                return Err(error.into());
            }
        }
    }
}

/// In TLS 1.3 the client's handshake is over before the server has judged its key; so a box without an invitation is heard
/// of by the connection's end.
fn closed_or(connection: &Connection, error: PairingError) -> PairingError {
    if connection.close_reason().is_some() { no_invitation(connection) } else { error }
}

fn no_invitation(connection: &Connection) -> PairingError {
    tracing::debug!(reason = ?connection.close_reason(), "the connection for pairing was closed");
    PairingError::NotInvited
}

fn facts(inner: &Inner, connection: &Connection, joiner: PeerId, inviter: PeerId) -> Result<Facts, PairingError> {
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER, b"").map_err(|_| PairingError::Malformed)?;
    let config = &inner.config;
    let port = inner.endpoint.local_addr().map_or(config.listen.port(), |address| address.port());
    let card = Card { name: config.name.clone(), store: config.store, port };
    Ok(Facts { exporter, joiner, inviter, realm: config.realm.id(), card })
}

/// Keeps the peer, durably, and lets it in. Refused where it claims the store of another peer: nothing but that claim says
/// whose snapshots it may publish here.
async fn pin(
    inner: &Arc<Inner>,
    card: Card,
    name: Option<PeerName>,
    id: PeerId,
    address: PeerAddress,
) -> Result<PeerRecord, LinkError> {
    if let Some(owner) = inner.peers.all().iter().find(|peer| peer.id != id && peer.record().store == card.store) {
        let why = format!(
            "it says that it keeps the store of {}, which has another key; if it is that box with a new key, remove that \
             peer first",
            owner.name()
        );
        return Err(Refusal::Invalid(why).into());
    }
    // Pairing anew changes nothing of what somebody has set: other addresses, and the cap.
    let known = inner.peers.find(&id).map(|known| known.record());
    let others = known.iter().flat_map(|known| known.addresses.iter().filter(|known| **known != address)).cloned();
    let addresses = std::iter::once(address.clone()).chain(others).take(PeerRecord::ADDRESSES_MAX).collect();
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let record = PeerRecord {
        name: inner.peers.free_name(&name.unwrap_or(card.name), &id),
        id,
        addresses,
        realm: inner.config.realm.id(),
        store: card.store,
        paired_at: Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)),
        limit: known.and_then(|known| known.limit),
    };
    let (host, kept) = (inner.host.clone(), record.clone());
    let pinned = tokio::task::spawn_blocking(move || host.pin(&kept)).await;
    pinned.map_err(|_| PairingError::Failed)??;
    inner.add(record.clone());
    Ok(record)
}

async fn read(stream: &mut RecvStream) -> Result<Vec<u8>, PairingError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.map_err(|_| PairingError::Malformed)?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > FRAME_MAX {
        return Err(PairingError::Malformed);
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await.map_err(|_| PairingError::Malformed)?;
    Ok(frame)
}

async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), PairingError> {
    stream.write_all(frame).await.map_err(|_| PairingError::Malformed)
}

/// Says the last word, and waits a little for it to arrive: the connection is closed next.
async fn finish(stream: &mut SendStream, last: Option<&[u8]>) {
    if let Some(last) = last
        && write(stream, last).await.is_ok()
        && stream.finish().is_ok()
    {
        let _ = tokio::time::timeout(FAREWELL, stream.stopped()).await;
    }
}
