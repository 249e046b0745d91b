//! Boxes without stores on a simulated network: the shaped socket, keys, and quinn.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use narrowboat_lines::simnet::SimNet;
use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::socket::{ShapedSocket, Shaper};
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::{fill, peer_window, transport};
use narrowboat_wan::shape::{NodeId, Rate};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};

/// A box on a simulated network.
pub struct Node {
    pub endpoint: Endpoint,
    pub shaper: Arc<Shaper>,
    pub tls: Arc<Tls>,
    pub identity: Identity,
    pub door: Arc<Doorkeeper>,
    pub address: SocketAddr,
    transport: fn() -> TransportConfig,
}

impl Node {
    /// With our own transport.
    pub fn new(net: &SimNet, number: u8, limit: Option<Rate>) -> Node {
        Node::with(net, number, limit, transport)
    }

    /// With another one, for what it dials and answers.
    pub fn with(net: &SimNet, number: u8, limit: Option<Rate>, transport: fn() -> TransportConfig) -> Node {
        let address = SocketAddr::from(([10, 0, 0, number], 7420));
        let identity = Identity::from_seed([number; 32]);
        let door = Arc::new(Doorkeeper::default());
        let tls = Arc::new(Tls::new(&identity, door.clone()).expect("a sound key"));
        let shaper = Shaper::new(limit, 0);
        let socket = ShapedSocket::new(net.socket(address), shaper.clone());
        let mut server = tls.answer().expect("a server");
        server.transport_config(Arc::new(transport()));
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([number; 32]));
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))
            .expect("an endpoint");
        Node { endpoint, shaper, tls, identity, door, address, transport }
    }

    /// Lets another box in, and holds what goes there under a cap.
    pub fn know(&self, other: &Node, limit: Option<Rate>) -> NodeId {
        self.door.pin(other.identity.id());
        let node = self.shaper.add_peer(limit);
        self.shaper.route(other.address, node);
        node
    }

    /// A connection to a box that knows this one.
    pub async fn dial(&self, other: &Node) -> Connection {
        let mut transport = (self.transport)();
        if let Some(payloads) = self.shaper.filling_payloads(other.address) {
            fill(&mut transport, payloads);
        }
        self.dial_with(other, transport).await
    }

    /// The same with a transport of its own.
    pub async fn dial_with(&self, other: &Node, transport: TransportConfig) -> Connection {
        let mut config = self.tls.dial(other.identity.id()).expect("a client");
        config.transport_config(Arc::new(transport));
        self.endpoint.connect_with(config, other.address, "narrowboat").expect("sound").await.expect("connects")
    }

    /// Reads all that comes over any connection, and forgets it.
    pub fn take_all(&self) {
        let accept = self.endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accept.accept().await {
                let connection = incoming.await.expect("connects");
                connection.set_receive_window(peer_window(1));
                tokio::spawn(async move {
                    while let Ok(mut stream) = connection.accept_uni().await {
                        tokio::spawn(async move { while let Ok(Some(_)) = stream.read_chunk(1 << 20, false).await {} });
                    }
                });
            }
        });
    }
}

/// From now on the connection always has something to send.
pub async fn always_send(connection: &Connection) {
    for _ in 0..4 {
        let mut stream = connection.open_uni().await.expect("open");
        tokio::spawn(async move { while stream.write_all(&[0; 4096]).await.is_ok() {} });
    }
}

/// quinn as it comes: a transport like ours but for the controller, which is Cubic.
pub fn cubic() -> TransportConfig {
    let mut transport = transport();
    transport.congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    transport
}
