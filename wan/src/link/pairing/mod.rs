//! Pairing: two boxes learn one another's keys from nine digits that two people read out over the telephone.
//!
//! ```text
//!  joiner (dials)                                   inviter (has an open invitation)
//!    │ Hello   version, realm, SPAKE2 element  ──────▶ │  one attempt is burnt
//!    │ ◀──────  version, realm, SPAKE2 element  Answer │
//!    │ Proof   I know the code                 ──────▶ │  the code is used up
//!    │ ◀──────  so do I; name, store, port        Card │
//!    │ Card    name, store, port               ──────▶ │  pins the joiner
//!    │ ◀──────                                    Done │
//!    ▼ pins the inviter
//! ```
//!
//! What it promises:
//!
//! * A code is good for one pairing, ten minutes and three attempts ([`desk`]). Each attempt lets the other side try one
//!   code of a hundred million, and SPAKE2 (RFC 9382) lets nobody try more of them later from what was sent.
//! * Who sits between the two boxes learns nothing and pairs with nobody: every proof covers the keys that both sides
//!   showed in TLS, the exporter of that very connection (RFC 5705, RFC 8446 section 7.5), both greetings and what is
//!   said in the message, so a proof from one connection is worth nothing in another.
//! * Nothing of a box but its realm and its key is told before the other side has proved the code.
//! * Boxes of different realms, or of one and the same store, part with a sentence.
//!
//! The protocol is a value ([`session`]): frames and the time in, frames out. It has no socket and no clock. The page
//! `docs/formats/pairing.md` owns the bytes ([`wire`]).

pub mod code;
pub mod desk;
pub mod session;
pub mod wire;

pub use code::Code;
pub use desk::Desk;
pub use session::{Facts, Inviter, Joiner, PairingError, Step};
pub use wire::{Card, Frame};

#[cfg(test)]
mod tests;
