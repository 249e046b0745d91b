//! Caps, and when peers will have caught up under them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cap, and why it counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// It is about what is received.
    #[serde(default)]
    pub receive: bool,
    /// The peer; none for the whole box.
    pub peer: Option<String>,
    /// What counts now, in bits per second; none for no cap, 0 for pause.
    pub limit: Option<u64>,
    /// Why: "override", "rule" (of the calendar), or "rate" (nothing else was said).
    pub reason: String,
    /// The rule, as the calendar has it.
    pub rule: Option<String>,
    /// The time zone of the calendar.
    pub zone: Option<String>,
    /// Until when; none for ever.
    pub until: Option<String>,
    /// What counts from then on, as `limit` does.
    pub then: Option<u64>,
    /// What counts where nothing else does, as `limit` does.
    pub rate: Option<u64>,
    /// The calendar: a rule a line, exceptions by date first.
    pub calendar: Vec<String>,
}

/// Which caps count now, and what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// When that was.
    pub time: String,
    /// The whole box.
    pub whole: Limit,
    /// What the whole box receives, where anything was said about it.
    #[serde(default)]
    pub whole_received: Option<Limit>,
    /// Peers, by name.
    pub peers: Vec<ExplainedPeer>,
}

/// The same of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPeer {
    /// Its own cap.
    pub cap: Limit,
    /// The cap of what is received from it, where anything was said about it.
    #[serde(default)]
    pub received: Option<Limit>,
    /// What it lets itself be sent, in bits per second, where it said so.
    #[serde(default)]
    pub granted: Option<u64>,
    /// What is received from it now, in bits per second.
    #[serde(default)]
    pub receiving: u64,
    /// What counts: the lowest of its own cap, the box's, its pace and what it grants, in bits per second; none where there is none of them.
    pub in_force: Option<u64>,
    /// How its recovery point is met, where it has one and lacks something.
    pub recovery: Option<Recovery>,
    /// What its line was seen to take at most, in bits per second.
    pub line: Option<u64>,
    /// What is sent to it now, in bits per second.
    pub sending: u64,
    /// Datasets of which it lacks the newest snapshot.
    pub behind: Vec<String>,
    /// Replications to it that are under way. Without any, nothing is sent, whatever it lacks.
    pub under_way: usize,
    /// Bytes on the wire that this takes at most.
    pub left_bytes: u64,
    /// When it will have caught up.
    pub caught_up: CaughtUp,
}

/// How a recovery point is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// How old a snapshot may be when it is there, in seconds.
    pub seconds: u64,
    /// When what the peer lacks has to be there.
    pub deadline: String,
    /// The rate that is enough for that, in bits per second; none where all that the calendar allows is needed.
    pub pace: Option<u64>,
    /// Bytes on the wire that will not be there in time all the same.
    pub misses_bytes: u64,
}

/// When a peer will have caught up with what is there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum CaughtUp {
    /// It has.
    Now,
    /// At this time, at the latest.
    At {
        /// When.
        time: String,
        /// In so many seconds.
        seconds: u64,
    },
    /// Never, at this calendar.
    Never,
    /// Later than is looked ahead.
    After {
        /// How far that is.
        time: String,
    },
    /// Nobody knows: from this time on no cap bounds what is sent, and what the line takes was not measured.
    Unknown {
        /// From when on.
        time: String,
    },
}
