//! Pairing as a value: one side of one attempt.

use std::time::Duration;

use rand::CryptoRng;
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::code::Code;
use super::desk::{Attempt, Desk};
use super::wire::{Card, Frame, Greeting, Message, PROOF_LEN, Reason, VERSION, card_bytes};
use crate::peer::{PeerId, PeerName};

/// Features that this version must be understood to have: none yet.
const REQUIRED: u32 = 0;

/// What a side knows of the connection and of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Keying material of this TLS connection, label `EXPORTER-narrowboat-pair-1`.
    pub exporter: [u8; 32],
    /// The key that the joiner proved in TLS.
    pub joiner: PeerId,
    /// The key that the inviter proved in TLS.
    pub inviter: PeerId,
    /// Our realm.
    pub realm: [u8; 16],
    /// Who we are.
    pub card: Card,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this frame, then wait for one.
    Send(Frame),
    /// Paired. Pin the peer, durably; then send the frame, if there is one. It is the end.
    Paired {
        /// What the peer said of itself.
        card: Card,
        /// What it is to be called here, if the invitation said so.
        name: Option<PeerName>,
        /// What is still to be sent.
        last: Option<Frame>,
    },
    /// Not paired. Send the frame, if there is one. It is the end.
    Failed {
        /// Why, for a person.
        error: PairingError,
        /// What is still to be sent.
        last: Option<Frame>,
    },
}

/// Why two boxes did not pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// The codes differ, or somebody sits in between.
    #[error(
        "the code does not fit, or somebody is listening in between; {attempts_left} attempts are left with this code"
    )]
    WrongCode {
        /// Attempts left with this code.
        attempts_left: u8,
    },
    /// No invitation is open.
    #[error(
        "no invitation is open there: it was used, its attempts are used up, or there was none; make a new one with 'peer invite'"
    )]
    NotInvited,
    /// The invitation is too old.
    #[error("the code is older than ten minutes; make a new one with 'peer invite'")]
    Expired,
    /// The boxes are in different realms.
    #[error(
        "the two boxes belong to different realms, so neither would understand the names of the other's data; create one of the stores anew with the realm key of the other"
    )]
    OtherRealm,
    /// Both boxes keep the same store.
    #[error("both boxes keep the same store: one is a copy of the other, and a store cannot be its own peer")]
    SameStore,
    /// Versions do not fit.
    #[error("the other box speaks another version of pairing; update the older of the two")]
    Unsupported,
    /// The other side does not keep to the protocol.
    #[error("the other side does not speak the pairing protocol")]
    Malformed,
    /// The other box failed by itself.
    #[error("the other box could not complete the pairing; see its log")]
    Failed,
}

impl PairingError {
    fn reason(&self) -> (Reason, u8) {
        match self {
            PairingError::WrongCode { attempts_left } => (Reason::WrongCode, *attempts_left),
            PairingError::NotInvited => (Reason::NotInvited, 0),
            PairingError::Expired => (Reason::Expired, 0),
            PairingError::OtherRealm => (Reason::OtherRealm, 0),
            PairingError::SameStore => (Reason::SameStore, 0),
            PairingError::Unsupported => (Reason::Unsupported, 0),
            PairingError::Malformed => (Reason::Malformed, 0),
            PairingError::Failed => (Reason::Failed, 0),
        }
    }

    fn told(reason: Reason, attempts_left: u8) -> PairingError {
        match reason {
            Reason::WrongCode => PairingError::WrongCode { attempts_left },
            Reason::NotInvited => PairingError::NotInvited,
            Reason::Expired => PairingError::Expired,
            Reason::OtherRealm => PairingError::OtherRealm,
            Reason::SameStore => PairingError::SameStore,
            Reason::Unsupported => PairingError::Unsupported,
            Reason::Malformed => PairingError::Malformed,
            Reason::Failed => PairingError::Failed,
        }
    }

    /// Ends it, and tells the other side why.
    fn tell(self) -> Step {
        let (reason, left) = self.reason();
        Step::Failed { last: Some(Message::Refused(reason, left).encode()), error: self }
    }
}

/// The side that dials with a code.
pub struct Joiner {
    facts: Facts,
    state: JoinerState,
}

enum JoinerState {
    Greeted { spake: Box<Spake2<Ed25519Group>>, hello: Frame },
    Proved { key: SessionKey },
    Introduced { key: SessionKey, card: Card },
    Over,
}

impl Joiner {
    /// Begins, with the frame to be sent first.
    pub fn start(code: &Code, facts: Facts, rng: &mut impl CryptoRng) -> (Joiner, Frame) {
        let (a, b) = sides();
        let (spake, element) = Spake2::<Ed25519Group>::start_a_with_rng(&Password::new(code.secret()), &a, &b, rng);
        let hello = Message::Hello(greeting(&facts, &element)).encode();
        (Joiner { facts, state: JoinerState::Greeted { spake: Box::new(spake), hello: hello.clone() } }, hello)
    }

    /// Takes a frame (without its length) from the inviter.
    pub fn receive(&mut self, frame: &[u8]) -> Step {
        let message = Message::decode(frame);
        if let Some(Message::Refused(reason, left)) = message {
            self.state = JoinerState::Over;
            return Step::Failed { error: PairingError::told(reason, left), last: None };
        }
        match (std::mem::replace(&mut self.state, JoinerState::Over), message) {
            (JoinerState::Greeted { spake, hello }, Some(Message::Answer(theirs))) => {
                if let Err(error) = check_greeting(&self.facts, &theirs) {
                    return error.tell();
                }
                let Ok(shared) = spake.finish(&theirs.element) else { return PairingError::Malformed.tell() };
                let key = SessionKey::derive(&shared, &self.facts, &hello, &Message::Answer(theirs).encode());
                let proof = key.proof(Purpose::Code, &[]);
                self.state = JoinerState::Proved { key };
                Step::Send(Message::Proof(proof).encode())
            }
            (JoinerState::Proved { key }, Some(Message::InviterCard(card, proof))) => {
                if !key.proves(Purpose::InviterCard, &card_bytes(&card), &proof) {
                    return PairingError::WrongCode { attempts_left: 0 }.tell();
                }
                if card.store == self.facts.card.store {
                    return PairingError::SameStore.tell();
                }
                let ours = self.facts.card.clone();
                let proof = key.proof(Purpose::JoinerCard, &card_bytes(&ours));
                self.state = JoinerState::Introduced { key, card };
                Step::Send(Message::JoinerCard(ours, proof).encode())
            }
            (JoinerState::Introduced { key, card }, Some(Message::Done(proof))) => {
                if !key.proves(Purpose::Done, &[], &proof) {
                    return PairingError::Malformed.tell();
                }
                Step::Paired { card, name: None, last: None }
            }
            _ => PairingError::Malformed.tell(),
        }
    }
}

/// The side that has given out a code.
pub struct Inviter {
    facts: Facts,
    state: InviterState,
}

enum InviterState {
    Waiting,
    Answered { key: SessionKey, attempt: Attempt },
    Introduced { key: SessionKey, name: Option<PeerName> },
    Over,
}

impl Inviter {
    /// Waits for the joiner's greeting.
    pub fn new(facts: Facts) -> Inviter {
        Inviter { facts, state: InviterState::Waiting }
    }

    /// Takes a frame (without its length) from the joiner.
    pub fn receive(&mut self, now: Duration, desk: &mut Desk, rng: &mut impl CryptoRng, frame: &[u8]) -> Step {
        let message = Message::decode(frame);
        let state = std::mem::replace(&mut self.state, InviterState::Over);
        if let (InviterState::Answered { attempt, .. }, false) = (&state, matches!(message, Some(Message::Proof(_)))) {
            desk.fail(attempt);
        }
        match (state, message) {
            (_, Some(Message::Refused(reason, left))) => {
                Step::Failed { error: PairingError::told(reason, left), last: None }
            }
            (InviterState::Waiting, Some(Message::Hello(theirs))) => self.answer(now, desk, rng, theirs),
            (InviterState::Answered { key, attempt }, Some(Message::Proof(proof))) => {
                self.check_proof(desk, key, attempt, &proof)
            }
            (InviterState::Introduced { key, name }, Some(Message::JoinerCard(card, proof))) => {
                if !key.proves(Purpose::JoinerCard, &card_bytes(&card), &proof) {
                    return PairingError::Malformed.tell();
                }
                if card.store == self.facts.card.store {
                    return PairingError::SameStore.tell();
                }
                let done = Message::Done(key.proof(Purpose::Done, &[])).encode();
                Step::Paired { card, name, last: Some(done) }
            }
            _ => PairingError::Malformed.tell(),
        }
    }

    fn answer(&mut self, now: Duration, desk: &mut Desk, rng: &mut impl CryptoRng, theirs: Greeting) -> Step {
        // What cannot come to anything burns no attempt.
        if let Err(error) = check_greeting(&self.facts, &theirs) {
            return error.tell();
        }
        let attempt = match desk.begin(now) {
            Ok(attempt) => attempt,
            Err(error) => return error.tell(),
        };
        let (a, b) = sides();
        let password = Password::new(attempt.code.secret());
        let (spake, element) = Spake2::<Ed25519Group>::start_b_with_rng(&password, &a, &b, rng);
        let Ok(shared) = spake.finish(&theirs.element) else {
            desk.fail(&attempt);
            return PairingError::Malformed.tell();
        };
        let answer = Message::Answer(greeting(&self.facts, &element)).encode();
        let key = SessionKey::derive(&shared, &self.facts, &Message::Hello(theirs).encode(), &answer);
        self.state = InviterState::Answered { key, attempt };
        Step::Send(answer)
    }

    fn check_proof(&mut self, desk: &mut Desk, key: SessionKey, attempt: Attempt, proof: &[u8; PROOF_LEN]) -> Step {
        if !key.proves(Purpose::Code, &[], proof) {
            desk.fail(&attempt);
            return PairingError::WrongCode { attempts_left: attempt.left }.tell();
        }
        let name = match desk.redeem(&attempt) {
            Ok(name) => name,
            Err(error) => return error.tell(),
        };
        let ours = self.facts.card.clone();
        let proof = key.proof(Purpose::InviterCard, &card_bytes(&ours));
        self.state = InviterState::Introduced { key, name };
        Step::Send(Message::InviterCard(ours, proof).encode())
    }
}

/// What a proof is good for: none can be taken for another.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    Code = 1,
    InviterCard = 2,
    JoinerCard = 3,
    Done = 4,
}

/// The key that both sides have if, and only if, they know the same code and share the same TLS connection.
struct SessionKey([u8; 32]);

impl SessionKey {
    fn derive(shared: &[u8], facts: &Facts, hello: &[u8], answer: &[u8]) -> SessionKey {
        let mut hasher = blake3::Hasher::new_derive_key("narrowboat 2026 v1 pairing");
        for part in [shared, &facts.exporter, &facts.joiner.0, &facts.inviter.0, hello, answer] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        SessionKey(*hasher.finalize().as_bytes())
    }

    fn proof(&self, purpose: Purpose, body: &[u8]) -> [u8; PROOF_LEN] {
        *self.hash(purpose, body).as_bytes()
    }

    /// Compares in constant time, as `blake3::Hash` does.
    fn proves(&self, purpose: Purpose, body: &[u8], proof: &[u8; PROOF_LEN]) -> bool {
        self.hash(purpose, body) == blake3::Hash::from_bytes(*proof)
    }

    fn hash(&self, purpose: Purpose, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[purpose as u8]).update(body);
        hasher.finalize()
    }
}

/// The identities of SPAKE2. Who the boxes really are is proved afterwards, with their keys.
fn sides() -> (Identity, Identity) {
    (Identity::new(b"narrowboat pairing joiner"), Identity::new(b"narrowboat pairing inviter"))
}

fn greeting(facts: &Facts, element: &[u8]) -> Greeting {
    let mut fixed = [0; super::wire::ELEMENT_LEN];
    fixed.copy_from_slice(element);
    Greeting { version: VERSION, optional: 0, required: REQUIRED, realm: facts.realm, element: fixed }
}

fn check_greeting(facts: &Facts, theirs: &Greeting) -> Result<(), PairingError> {
    if theirs.version != VERSION || theirs.required & !REQUIRED != 0 {
        return Err(PairingError::Unsupported);
    }
    if theirs.realm != facts.realm {
        return Err(PairingError::OtherRealm);
    }
    Ok(())
}
