//! Peers: who they are, how they are reached, how far they are behind, and what they were refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Measured;

/// A peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Its name here.
    pub name: String,
    /// Its key, as a fingerprint to compare.
    pub id: String,
    /// Where it is dialled, best first.
    pub addresses: Vec<String>,
    /// When it was paired.
    pub paired: String,
    /// Where it is connected from.
    pub connected_from: Option<String>,
    /// The path in use.
    #[serde(default)]
    pub path: Option<PeerPath>,
    /// Why it was not reached when tried last.
    pub last_error: Option<String>,
    /// The cap of what is sent to it that counts now, in bits per second.
    pub limit: Option<u64>,
    /// How fast it lets itself be sent to, in bits per second, where it said so; `limit` is never above.
    #[serde(default)]
    pub granted: Option<u64>,
    /// What was sent to it in the last second, in bits on the wire.
    #[serde(default)]
    pub sending: u64,
    /// What was received from it in the last second, likewise.
    #[serde(default)]
    pub receiving: u64,
    /// Round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Bytes sent to it on the wire since the box started.
    pub wire_bytes_sent: u64,
    /// Bytes received from it on the wire since the box started.
    pub wire_bytes_received: u64,
    /// How far it is behind, for each dataset that was ever sent to it.
    pub lag: Vec<Lag>,
    /// What its software called itself in the latest session, where there was one since the box started.
    #[serde(default)]
    pub software: Option<String>,
    /// Whether it proves to have what it does not send, likewise.
    #[serde(default)]
    pub proves: Option<bool>,
    /// How often it was refused something, as far as that is kept.
    #[serde(default)]
    pub refusals: u64,
    /// What it was refused last.
    #[serde(default)]
    pub last_refusal: Option<Refusal>,
}

/// The path to a peer that is in use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PeerPath {
    /// Which of its addresses was dialled; none where it has called.
    pub address: Option<String>,
    /// Why this one.
    pub why: String,
    /// For how long it has been in use.
    pub seconds: f64,
}

/// How far a peer is behind with one dataset.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Lag {
    /// The dataset.
    pub dataset: String,
    /// The newest snapshot that the peer has whole.
    pub newest_there: String,
    /// The moment that it holds.
    pub time: String,
    /// Seconds between that moment and now.
    pub seconds: f64,
    /// Newer snapshots here that it does not have.
    pub snapshots_behind: usize,
}

/// What a peer was refused.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The peer's name then.
    pub peer: String,
    /// When for the first time.
    pub first: String,
    /// And when for the last time.
    pub last: String,
    /// How often.
    pub count: u64,
    /// What, and why: a sentence.
    pub why: String,
}

/// An invitation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Invitation {
    /// The code to be read out.
    pub code: String,
    /// For how many seconds it is good.
    pub seconds: u64,
    /// What the other box's command needs besides the code.
    pub listen: String,
}

/// The line to a peer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The peer.
    pub peer: String,
    /// Round trip, smoothed, in milliseconds.
    pub round_trip_ms: f64,
    /// The shortest round trip, in milliseconds.
    pub round_trip_min_ms: f64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Of these, lost.
    pub lost_packets: u64,
    /// Largest UDP payload that passes.
    pub mtu: u16,
    /// What the line has delivered lately at most; 0 before anything was sent.
    pub bits_per_second: u64,
    /// What was measured just now.
    #[serde(default)]
    pub measured: Option<Measured>,
    /// Why nothing was.
    #[serde(default)]
    pub unmeasured: Option<String>,
}
