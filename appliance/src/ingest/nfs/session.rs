//! NFS and MOUNT as a value: one record in, at most one reply out. No sockets, no threads, no clock.
//!
//! The life of a call: its header is read, the program and procedure found, repetitions of changing calls caught, the
//! procedure run, its reply kept where a repetition may come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use narrowboat_storage::dataset::CallTag;
use narrowboat_storage::units::Timestamp;

use super::counters::{Counters, Counts};
use super::export::Exports;
use super::handle::HandleKey;
use super::procedures::mount::{self, Mounts};
use super::procedures::{Context, PROCEDURES, Repeat};
use super::replies::{self, Replies, Verdict};
use super::rpc::{self, CallHeader, NotACall, Outcome, Peer, Refused, Service};
use super::status::Status;
use super::wire::{MOUNT_PROGRAM, MOUNT_VERSION, NFS_PROGRAM, NFS_VERSION, TRANSFER_BYTES_MAX};
use super::xdr::{Decoder, Encoder, Malformed, Message};

/// How many answers are kept for repetitions.
const REPLIES_MAX: usize = 16 << 10;
/// How many bytes of them.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// NFSv3 and MOUNT over some exports.
pub struct Session {
    exports: Arc<dyn Exports>,
    handles: HandleKey,
    replies: Mutex<Replies>,
    mounts: Mutex<Mounts>,
    counters: Counters,
}

impl Session {
    /// Serves `exports`, with handles sealed by `handles`.
    pub fn new(exports: Arc<dyn Exports>, handles: HandleKey) -> Self {
        Session {
            exports,
            handles,
            replies: Mutex::new(Replies::new(REPLIES_MAX, REPLY_BYTES_MAX)),
            mounts: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        // A value that is whole between any two of its calls: a panic elsewhere does not harm it.
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nfs(&self, header: &CallHeader, record: &Bytes, args: &mut Decoder, peer: &Peer, now: Timestamp) -> Outcome {
        let number = header.procedure as usize;
        let Some(procedure) = PROCEDURES.get(number) else {
            return self.refuse(header.xid, Refused::ProcedureUnavailable);
        };
        let begun = match procedure.repeat {
            Repeat::Harmless => None,
            Repeat::Kept | Repeat::Journaled => {
                let tag = replies::tag(&self.handles, peer.client.ip(), header.xid, header.procedure, args.rest());
                let verdict = self.replies().begin(tag);
                match verdict {
                    Verdict::New => Some(Begun { session: self, tag }),
                    Verdict::UnderWay => {
                        self.counters.repeated();
                        return Outcome::Silence;
                    }
                    Verdict::Answered(answer) => {
                        self.counters.repeated();
                        return Outcome::Reply(Message::whole(answer));
                    }
                }
            }
        };
        let tag = begun.as_ref().filter(|_| procedure.repeat == Repeat::Journaled).map(|begun| begun.tag);
        let context = self.context(header, peer, now, tag);
        let mut out = Encoder::new();
        rpc::accept(&mut out, header.xid);
        match (procedure.run)(&context, args, &mut out) {
            Ok(status) => {
                self.counters.nfs(number, status != Status::Ok, record.len(), out.len());
                let message = out.finish_record();
                if let (Some(begun), Some(answer)) = (begun, message.as_whole())
                    && status != Status::Jukebox
                {
                    begun.finish(answer.clone());
                }
                Outcome::Reply(message)
            }
            Err(malformed) => self.refuse(header.xid, malformed.into()),
        }
    }

    fn mount(&self, header: &CallHeader, record: &Bytes, args: &mut Decoder, peer: &Peer, now: Timestamp) -> Outcome {
        let context = self.context(header, peer, now, None);
        let mut out = Encoder::new();
        rpc::accept(&mut out, header.xid);
        match mount::call(&context, &self.mounts, header.version, header.procedure, args, &mut out) {
            Ok(status) => {
                self.counters.mount(status != Status::Ok, record.len(), out.len());
                Outcome::Reply(out.finish_record())
            }
            Err(why) => self.refuse(header.xid, why),
        }
    }

    fn context<'a>(&'a self, header: &'a CallHeader, peer: &Peer, now: Timestamp, tag: Option<CallTag>) -> Context<'a> {
        Context {
            exports: self.exports.as_ref(),
            handles: &self.handles,
            client: peer.client,
            identity: &header.identity,
            now,
            tag,
        }
    }

    fn refuse(&self, xid: u32, why: Refused) -> Outcome {
        self.counters.refused();
        let mut out = Encoder::new();
        rpc::refuse(&mut out, xid, why);
        Outcome::Reply(out.finish_record())
    }
}

impl Service for Session {
    fn call(&self, record: Bytes, peer: &Peer, now: Timestamp) -> Outcome {
        let mut args = Decoder::new(&record);
        let header = match CallHeader::decode(&mut args) {
            Ok(header) => header,
            Err(NotACall::Noise) => return Outcome::Close,
            Err(NotACall::Rejected { xid, why }) => {
                self.counters.refused();
                let mut out = Encoder::new();
                rpc::reject(&mut out, xid, why);
                return Outcome::Reply(out.finish_record());
            }
        };
        match (header.program, header.version) {
            (NFS_PROGRAM, NFS_VERSION) => self.nfs(&header, &record, &mut args, peer, now),
            (NFS_PROGRAM, _) => {
                self.refuse(header.xid, Refused::ProgramMismatch { low: NFS_VERSION, high: NFS_VERSION })
            }
            (MOUNT_PROGRAM, 1..=MOUNT_VERSION) => self.mount(&header, &record, &mut args, peer, now),
            (MOUNT_PROGRAM, _) => self.refuse(header.xid, Refused::ProgramMismatch { low: 1, high: MOUNT_VERSION }),
            _ => self.refuse(header.xid, Refused::ProgramUnavailable),
        }
    }

    fn reply_bytes(&self, record: &Bytes) -> usize {
        asked_bytes(&mut Decoder::new(record)).unwrap_or(0).min(TRANSFER_BYTES_MAX) as usize
    }
}

/// How many bytes a READ or a listing asks for.
fn asked_bytes(input: &mut Decoder) -> Result<u32, Malformed> {
    const READ: u32 = 6;
    const READDIR: u32 = 16;
    const READDIRPLUS: u32 = 17;
    let [_xid, _call, _rpc, program, _version, procedure] = input.words()?;
    if program != NFS_PROGRAM || !matches!(procedure, READ | READDIR | READDIRPLUS) {
        return Ok(0);
    }
    for _credential_then_verifier in 0..2 {
        input.u32()?;
        input.opaque(usize::MAX)?;
    }
    input.handle()?;
    input.u64()?; // Offset or cookie.
    if procedure != READ {
        input.u64()?; // Cookie verifier.
    }
    let first = input.u32()?;
    if procedure == READDIRPLUS { input.u32() } else { Ok(first) }
}

/// A changing call that is under way. Dropped without an answer, it is forgotten, so that a repetition is carried out.
struct Begun<'a> {
    session: &'a Session,
    tag: CallTag,
}

impl Begun<'_> {
    fn finish(self, answer: Bytes) {
        self.session.replies().finish(self.tag, answer);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.session.replies().abandon(self.tag);
    }
}
