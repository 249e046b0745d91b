//! ONC RPC version 2 (RFC 5531): the header of a call, the credentials in it, and the header of its reply.
//!
//! Nothing here knows a program: NFS, MOUNT and the portmapper stand on it side by side, and so can NFSv4.1.
//!
//! A call that cannot be answered by its program gets the protocol's own error: [`Rejection`] before the credentials
//! are believed (`MSG_DENIED`), [`Refused`] afterwards (`MSG_ACCEPTED` with another status than success).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::units::Timestamp;

use super::xdr::{Decoder, Encoder, Malformed, Message};

/// Programs as a value: one record in, at most one reply out. Called from many threads at once; may block.
pub trait Service: Send + Sync {
    /// Carries out one call. Where its reply must wait for a sync, that is left to the caller ([`Outcome::Owed`]), who
    /// may gather many and wait once.
    fn call(self: Arc<Self>, record: Bytes, peer: &Peer, now: Timestamp) -> Outcome;

    /// True for a call that takes little longer to carry out than to hand to somebody else: such calls are carried out
    /// one after the other by whoever reads them. Must be quick; what is wrong with the call is found out later.
    fn is_brief(&self, record: &Bytes) -> bool {
        let _ = record;
        false
    }

    /// True for a call that may hold whoever carries it out for long: a disk, room or a lock may be waited for. Only some workers
    /// carry such calls out, so that the others always read and answer. Must be quick.
    fn may_wait(&self, record: &Bytes) -> bool {
        let _ = record;
        true
    }

    /// True where the program has something for a caller. The others are strangers: they have few connections, are let go
    /// soon, and may send no records that take memory of their own rather than what every connection has (long ones, or ones
    /// in several fragments). Asked when a client comes and, while it is a stranger, every now and then.
    fn knows(&self, peer: &Peer) -> bool {
        let _ = peer;
        true
    }

    /// About how many bytes of bulk data the reply to a call will hold at most, so that memory is accounted for before the
    /// call is begun. Must be quick; what is wrong with the call is found out later.
    fn reply_bytes(&self, record: &Bytes) -> usize {
        let _ = record;
        0
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the client is.
    pub client: SocketAddr,
    /// Which of our addresses it reached.
    pub local: SocketAddr,
}

/// What becomes of one record.
#[derive(Debug)]
pub enum Outcome {
    /// A reply, with its record marker.
    Reply(Message),
    /// The call was carried out, and its reply has to wait until that is stable.
    Owed(Owed),
    /// Nothing is said: the call is under way already, and its answer will do for both.
    Silence,
    /// Whoever sent it does not speak RPC: the connection is closed.
    Close,
}

/// A reply that waits for a sync. Those that are owed at the same time share one: the first that is settled waits for
/// it, and the others find it done. Dropped, the call counts as never answered.
pub struct Owed(Box<dyn FnOnce() -> Message + Send>);

impl Owed {
    /// Owes what `settle` returns once all that the call did is stable, or has failed to be.
    pub fn new(settle: impl FnOnce() -> Message + Send + 'static) -> Self {
        Owed(Box::new(settle))
    }

    /// Waits for the sync and returns the reply: what the call did, or that it is not stable.
    pub fn settle(self) -> Message {
        (self.0)()
    }
}

impl std::fmt::Debug for Owed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Owed")
    }
}

/// The only version of RPC there is.
pub const RPC_VERSION: u32 = 2;
/// Longest body of a credential or verifier (section 8.2).
const AUTH_BYTES_MAX: usize = 400;
/// Longest machine name in AUTH_SYS (section 14).
const MACHINE_BYTES_MAX: usize = 255;
/// Most further groups in AUTH_SYS (section 14).
pub const GROUPS_MAX: usize = 16;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
const AUTH_SHORT: u32 = 2;

/// What a caller says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nothing (`AUTH_NONE`).
    Anonymous,
    /// POSIX ids (`AUTH_SYS`, section 14).
    System {
        /// User.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Further groups, at most [`GROUPS_MAX`].
        groups: Vec<u32>,
    },
}

/// The header of a call: everything before the procedure's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallHeader {
    /// Chosen by the client; the reply carries it back.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Procedure within the program.
    pub procedure: u32,
    /// Who calls.
    pub identity: Identity,
}

/// Why a call is denied before its program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Not RPC version 2.
    RpcMismatch,
    /// The credentials are malformed or too long (`AUTH_BADCRED`).
    BadCredentials,
    /// A shorthand that was never handed out (`AUTH_REJECTEDCRED`).
    RejectedCredentials,
    /// The verifier is malformed or too long (`AUTH_BADVERF`).
    BadVerifier,
    /// A flavour that this server does not speak (`AUTH_TOOWEAK`: the client is to try another).
    TooWeak,
}

/// Why an accepted call is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such program here.
    ProgramUnavailable,
    /// The program is here, but only in these versions.
    ProgramMismatch {
        /// Lowest version.
        low: u32,
        /// Highest version.
        high: u32,
    },
    /// No such procedure in this version of the program.
    ProcedureUnavailable,
    /// The arguments are not what the procedure takes.
    GarbageArguments,
    /// Our own fault.
    SystemError,
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Refused::GarbageArguments
    }
}

/// Why a record is not a call that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotACall {
    /// Not even a transaction id to answer to, or a reply: whoever sent it does not speak RPC as a client.
    Noise,
    /// A call that is answered with a rejection.
    Rejected {
        /// The call's transaction id.
        xid: u32,
        /// What to answer.
        why: Rejection,
    },
}

impl CallHeader {
    /// Reads a call's header and leaves `input` at the arguments.
    pub fn decode(input: &mut Decoder) -> Result<CallHeader, NotACall> {
        let xid = input.u32().map_err(|_| NotACall::Noise)?;
        if input.u32() != Ok(CALL) {
            return Err(NotACall::Noise);
        }
        let rejected = |why| NotACall::Rejected { xid, why };
        if input.u32().map_err(|_| NotACall::Noise)? != RPC_VERSION {
            return Err(rejected(Rejection::RpcMismatch));
        }
        let mut number = || input.u32().map_err(|_| NotACall::Noise);
        let (program, version, procedure) = (number()?, number()?, number()?);
        let identity = decode_identity(input).map_err(rejected)?;
        // The verifier of AUTH_NONE and AUTH_SYS calls says nothing; only its bounds matter.
        input.u32().and_then(|_| input.opaque(AUTH_BYTES_MAX)).map_err(|_| rejected(Rejection::BadVerifier))?;
        Ok(CallHeader { xid, program, version, procedure, identity })
    }
}

fn decode_identity(input: &mut Decoder) -> Result<Identity, Rejection> {
    let bad = |_: Malformed| Rejection::BadCredentials;
    let flavour = input.u32().map_err(bad)?;
    let body = input.opaque_shared(AUTH_BYTES_MAX).map_err(bad)?;
    match flavour {
        AUTH_NONE => Ok(Identity::Anonymous),
        AUTH_SYS => decode_system(&body).map_err(bad),
        AUTH_SHORT => Err(Rejection::RejectedCredentials),
        _ => Err(Rejection::TooWeak),
    }
}

fn decode_system(body: &Bytes) -> Result<Identity, Malformed> {
    let mut input = Decoder::new(body);
    input.u32()?; // The stamp: an arbitrary number.
    input.opaque(MACHINE_BYTES_MAX)?;
    let (uid, gid, count) = (input.u32()?, input.u32()?, input.u32()?);
    if count as usize > GROUPS_MAX {
        return Err(Malformed);
    }
    let groups = (0..count).map(|_| input.u32()).collect::<Result<_, _>>()?;
    Ok(Identity::System { uid, gid, groups })
}

/// Writes the header of a successful reply; the results follow.
pub fn accept(out: &mut Encoder, xid: u32) {
    accepted(out, xid, 0);
}

fn accepted(out: &mut Encoder, xid: u32, status: u32) {
    for word in [xid, REPLY, MSG_ACCEPTED, AUTH_NONE, 0, status] {
        out.u32(word);
    }
}

/// Writes the whole reply to a call that was accepted and not carried out (section 9, `accept_stat`).
pub fn refuse(out: &mut Encoder, xid: u32, why: Refused) {
    match why {
        Refused::ProgramUnavailable => accepted(out, xid, 1),
        Refused::ProgramMismatch { low, high } => {
            accepted(out, xid, 2);
            out.u32(low);
            out.u32(high);
        }
        Refused::ProcedureUnavailable => accepted(out, xid, 3),
        Refused::GarbageArguments => accepted(out, xid, 4),
        Refused::SystemError => accepted(out, xid, 5),
    }
}

/// Writes the whole reply to a call that was denied (section 9, `reject_stat` and `auth_stat`).
pub fn reject(out: &mut Encoder, xid: u32, why: Rejection) {
    for word in [xid, REPLY, MSG_DENIED] {
        out.u32(word);
    }
    let auth_error = match why {
        Rejection::RpcMismatch => {
            for word in [0, RPC_VERSION, RPC_VERSION] {
                out.u32(word);
            }
            return;
        }
        Rejection::BadCredentials => 1,
        Rejection::RejectedCredentials => 2,
        Rejection::BadVerifier => 3,
        Rejection::TooWeak => 5,
    };
    out.u32(1);
    out.u32(auth_error);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[u32]) -> Bytes {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn decoded(words: &[u32]) -> Result<CallHeader, NotACall> {
        let bytes = call(words);
        CallHeader::decode(&mut Decoder::new(&bytes))
    }

    #[test]
    fn headers_of_calls() {
        let name = u32::from_be_bytes(*b"host");
        let header = |identity| Ok(CallHeader { xid: 9, program: 100_003, version: 3, procedure: 1, identity });
        let rejected = |why| Err(NotACall::Rejected { xid: 9, why });
        let start = [9, 0, 2, 100_003, 3, 1];
        let with = |rest: &[u32]| decoded(&[&start[..], rest].concat());
        assert_eq!(with(&[0, 0, 0, 0]), header(Identity::Anonymous));
        let system = Identity::System { uid: 1000, gid: 100, groups: vec![4, 5] };
        assert_eq!(with(&[1, 32, 77, 4, name, 1000, 100, 2, 4, 5, 0, 0]), header(system));
        assert_eq!(with(&[1, 24, 77, 4, name, 1000, 100, 17, 0, 0]), rejected(Rejection::BadCredentials));
        assert_eq!(with(&[1, 24, 77, 4, name, 1000, 100, 2, 0, 0]), rejected(Rejection::BadCredentials), "groups cut");
        assert_eq!(with(&[1, 404, 0]), rejected(Rejection::BadCredentials), "over 400 bytes");
        assert_eq!(with(&[1, u32::MAX, 0]), rejected(Rejection::BadCredentials));
        assert_eq!(with(&[2, 0, 0, 0]), rejected(Rejection::RejectedCredentials));
        assert_eq!(with(&[6, 0, 0, 0]), rejected(Rejection::TooWeak), "RPCSEC_GSS");
        assert_eq!(with(&[0, 0, 0, 401]), rejected(Rejection::BadVerifier));
        assert_eq!(with(&[0, 0]), rejected(Rejection::BadVerifier), "no verifier");
        assert_eq!(decoded(&[9, 0, 3, 100_003, 3, 1, 0, 0, 0, 0]), rejected(Rejection::RpcMismatch));
        for noise in [&[][..], &[9], &[9, 1, 2, 3, 4, 5], &[9, 0], &[9, 0, 2], &[9, 0, 2, 100_003, 3]] {
            assert_eq!(decoded(noise), Err(NotACall::Noise), "{noise:?}");
        }
    }

    #[test]
    fn replies_carry_the_protocols_own_errors() {
        let written = |write: &dyn Fn(&mut Encoder)| {
            let mut out = Encoder::new();
            write(&mut out);
            out.finish_datagram().to_bytes()
        };
        assert_eq!(written(&|out| accept(out, 5)), call(&[5, 1, 0, 0, 0, 0]));
        let cases = [
            (Refused::ProgramUnavailable, vec![5, 1, 0, 0, 0, 1]),
            (Refused::ProgramMismatch { low: 1, high: 3 }, vec![5, 1, 0, 0, 0, 2, 1, 3]),
            (Refused::ProcedureUnavailable, vec![5, 1, 0, 0, 0, 3]),
            (Refused::GarbageArguments, vec![5, 1, 0, 0, 0, 4]),
            (Refused::SystemError, vec![5, 1, 0, 0, 0, 5]),
        ];
        for (why, words) in cases {
            assert_eq!(written(&|out| refuse(out, 5, why)), call(&words), "{why:?}");
        }
        let cases = [
            (Rejection::RpcMismatch, vec![5, 1, 1, 0, 2, 2]),
            (Rejection::BadCredentials, vec![5, 1, 1, 1, 1]),
            (Rejection::RejectedCredentials, vec![5, 1, 1, 1, 2]),
            (Rejection::BadVerifier, vec![5, 1, 1, 1, 3]),
            (Rejection::TooWeak, vec![5, 1, 1, 1, 5]),
        ];
        for (why, words) in cases {
            assert_eq!(written(&|out| reject(out, 5, why)), call(&words), "{why:?}");
        }
    }
}
