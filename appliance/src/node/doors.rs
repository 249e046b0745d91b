//! The doors of a box: NFS and iSCSI in front, the link to peers.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use narrowboat_storage::error::Refusal;
use narrowboat_storage::{Store, tree};
use narrowboat_wan::link::{Identity, Link, LinkConfig};
use narrowboat_wan::peer::PeerName;

use super::StartError;
use crate::caps::{Caps, Way};
use crate::clock;
use crate::config::Config;
use crate::ingest::exports::StoreExports;
use crate::ingest::iscsi;
use crate::ingest::nfs::portmap::Portmap;
use crate::ingest::nfs::rpc::Service;
use crate::ingest::nfs::{HandleKey, Hosts, Server, ServerConfig, Session};
use crate::ingest::volumes::StoreTargets;
use crate::refusals::Refusals;
use crate::replicas::{Replicas, peers};

/// The NFS front door: nothing where it is off.
#[derive(Default)]
pub(super) struct NfsFront {
    pub(super) server: Option<Server>,
    session: Option<Arc<Session>>,
    pub(super) address: Option<SocketAddr>,
}

impl NfsFront {
    pub(super) fn users(&self) -> Option<(Arc<Session>, Hosts)> {
        Some((self.session.clone()?, self.server.as_ref()?.hosts()))
    }
}

pub(super) fn start_nfs(store: &Arc<Store>, config: &Config) -> Result<NfsFront, StartError> {
    let Some(address) = config.nfs_address() else { return Ok(NfsFront::default()) };
    let failed =
        |what, address: SocketAddr| move |source| StartError::Listen { what, address: address.to_string(), source };
    let exports = Arc::new(StoreExports::new(store.clone(), config.clone()));
    let session = Arc::new(Session::new(exports, HandleKey::new(&store.id().0)));
    let listener = TcpListener::bind(address).map_err(failed("NFS", address))?;
    let local = listener.local_addr().map_err(failed("NFS", address))?;
    let mut streams: Vec<(TcpListener, Arc<dyn Service>)> = vec![(listener, session.clone())];
    let mut datagrams: Vec<(UdpSocket, Arc<dyn Service>)> = Vec::new();
    if let Some(asked) = config.portmap_address() {
        let portmap = Arc::new(Portmap::new(local.port()));
        streams.push((TcpListener::bind(asked).map_err(failed("the portmapper", asked))?, portmap.clone()));
        datagrams.push((UdpSocket::bind(asked).map_err(failed("the portmapper", asked))?, portmap));
    }
    let server = Server::start(ServerConfig::new(Arc::new(clock::now)), streams, datagrams)
        .map_err(|error| StartError::Thread("the NFS server".into(), error))?;
    Ok(NfsFront { server: Some(server), session: Some(session), address: Some(local) })
}

/// The iSCSI front door: nothing where it is off.
#[derive(Default)]
pub(super) struct IscsiFront {
    pub(super) server: Option<iscsi::Server>,
    pub(super) targets: Option<Arc<StoreTargets>>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) fn start_iscsi(store: &Arc<Store>, config: &Config) -> Result<IscsiFront, StartError> {
    let bind = |address: &SocketAddr| {
        let failed = |source| StartError::Listen { what: "iSCSI", address: address.to_string(), source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok((listener, local))
    };
    let bound: Vec<_> = config.iscsi_addresses().iter().map(bind).collect::<Result<_, StartError>>()?;
    let (portals, addresses): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    // Wrong rules are told also where nothing is served by them yet.
    let targets = StoreTargets::new(store.clone(), config.clone(), addresses.clone()).map_err(StartError::Config)?;
    if portals.is_empty() {
        return Ok(IscsiFront::default());
    }
    let targets = Arc::new(targets);
    let server = iscsi::Server::start(iscsi::ServerConfig::default(), targets.clone(), portals)
        .map_err(|error| StartError::Thread("the iSCSI server".into(), error))?;
    Ok(IscsiFront { server: Some(server), targets: Some(targets), addresses })
}

pub(super) fn start_link(
    runtime: &tokio::runtime::Runtime,
    data: &Path,
    config: &Config,
    name: &str,
    caps: &Arc<Caps>,
    store: &Arc<Store>,
    refusals: &Arc<Refusals>,
) -> Result<Option<Link>, StartError> {
    let Some(listen) = config.wan_address() else { return Ok(None) };
    let identity = Identity::load_or_create(&data.join("identity.key"), rand::random)?;
    let name: PeerName = name.parse().map_err(|error: Refusal| StartError::Config(error.to_string()))?;
    let realm = store.realm().clone();
    let mut link = LinkConfig::new(listen, identity, name, realm, store.id(), tree::spans);
    link.limit = caps.limit_at(Way::Sent, None, clock::wall());
    link.extra_bytes = config.wan.overhead_bytes.into();
    link.marks = config.wan.dscp.marks().map_err(StartError::Config)?;
    link.limits.compression = config.wan.compression().map_err(StartError::Config)?;
    link.limits.delta = config.wan.delta;
    link.limits.resemblance = config.wan.resemblance;
    link.require_proofs = config.wan.require_proofs;
    link.peers = peers(store);
    let replicas = Replicas::new(store.clone(), caps.clone(), refusals.clone(), config);
    Ok(Some(runtime.block_on(Link::bind(link, Arc::new(replicas)))?))
}
