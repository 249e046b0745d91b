//! The bytes of replication: streams, frames and messages. `docs/formats/replication-protocol.md` owns them.
//!
//! * Every decoder here takes bytes from a peer that may be hostile: each length is checked before it is believed,
//!   nothing panics, and nothing is allocated that the bytes received so far do not pay for.
//! * Encoding and decoding are exact inverses, so a recorded conversation can be compared byte for byte.
//! * Nothing here decides anything: [`crate::sync`] does.
//!
//! QUIC (TLS 1.3) below authenticates and checks every byte, so frames carry no checksum of their own; objects are
//! verified against their names anyway.

mod bundle;
mod frame;
mod grant;
mod heal;
mod hello;
mod message;
mod object;
mod offer;
mod probe;
mod proof;
mod question;
mod reader;
#[cfg(test)]
mod tests;
mod varint;
mod ways;

pub use bundle::{BASES_OF_BUNDLE_MAX, Bundle, Item, Origin, Packing, WAYS_PER_BASE_MAX, Way};
pub use frame::{Channel, Frame, FrameDecoder, PREFACE_BYTES, Preface, RawFrame, StreamClass};
pub use grant::{GRANT_BYTES, Grant};
pub use heal::{Below, Found, HealMessage, SEEK_WAYS_MAX, Seek};
pub use hello::{Hello, Role};
pub use message::{Ack, Begin, Commit, Message, Published, Stop, StopCode};
pub use object::Object;
pub use offer::{Offer, SnapshotOffer};
pub use probe::{PROBE_MARK_BYTES, PROBE_MESSAGE_BYTES, ProbeMark, ProbeMessage};
pub use proof::{Challenge, Proof, Prove, ProveWays};
pub use question::{Answer, Ask, AskPrefixes};
pub use reader::{Reader, WireError};
pub use ways::DEPTH_MAX;

use narrowboat_storage::name::{Kind, Name};

/// An object's kind and name: what the protocol speaks about.
pub type Ref = (Kind, Name);

/// The newest protocol version that this software speaks.
pub const VERSION_MAX: u16 = 1;
/// The oldest protocol version that this software speaks.
pub const VERSION_MIN: u16 = 1;
/// Features that this software can use: bits of the set to ignore.
pub const FEATURES_KNOWN: u64 = FEATURE_BUNDLES | FEATURE_PREFIXES | FEATURE_PROOFS;
/// Features that this software meets where a peer requires them: bits of the sets for read only and to refuse.
pub const FEATURES_MET: u64 = FEATURE_PROOFS;
/// Objects may come in bundles.
pub const FEATURE_BUNDLES: u64 = 1;
/// Chunks may be asked for by the first bytes of their names.
pub const FEATURE_PREFIXES: u64 = 2;
/// The sender proves to have what it does not send.
pub const FEATURE_PROOFS: u64 = 4;

/// Longest payload of a frame on the control stream.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;
/// Largest object, before compression and as sent.
pub const OBJECT_BYTES_MAX: usize = 4 << 20;
/// Longest payload of a frame on a data stream.
pub const DATA_BYTES_MAX: usize = OBJECT_BYTES_MAX + BUNDLE_HEAD_BYTES_MAX;
/// Longest head of a bundle.
const BUNDLE_HEAD_BYTES_MAX: usize = 512 << 10;
/// Most objects in one bundle.
pub const BUNDLE_OBJECTS_MAX: usize = 4096;
/// Most names in one `Ask`.
pub const ASK_NAMES_MAX: usize = 1024;
/// Most names in one `AskPrefixes`.
pub const ASK_PREFIXES_MAX: usize = 8000;
/// Most earlier snapshots that one `Offer` proposes as a base.
pub const BASES_MAX: usize = 32;
/// Longest name of a dataset or snapshot, in bytes of UTF-8.
pub const TITLE_BYTES_MAX: usize = 255;
/// Longest sentence in a `Stop`, in bytes of UTF-8.
pub const SENTENCE_BYTES_MAX: usize = 1024;
