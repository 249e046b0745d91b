//! NFS and MOUNT as a value: one record in, at most one reply out. No sockets, no threads, no clock.
//!
//! The life of a call: its header is read, the program and procedure found, repetitions of changing calls caught, the
//! procedure run, its reply kept where a repetition may come. A reply that has to wait for a sync is handed out as one
//! that is [owed](Outcome::Owed): until it is settled, repetitions find the call under way.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use narrowboat_storage::dataset::CallTag;
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::units::Timestamp;

use super::counters::{Counters, Counts};
use super::export::Exports;
use super::handle::HandleKey;
use super::procedures::locks;
use super::procedures::mount::{self, Mounts};
use super::procedures::{Context, Debt, PROCEDURES, Repeat};
use super::replies::{self, Replies, Tags, Verdict};
use super::rpc::{self, CallHeader, NotACall, Outcome, Owed, Peer, Refused, Service};
use super::status::Status;
use super::users::Users;
use super::wire::{
    MOUNT_PROGRAM, MOUNT_VERSION, NFS_PROGRAM, NFS_VERSION, NLM_PROGRAM, NLM_VERSION, TRANSFER_BYTES_MAX,
};
use super::xdr::{Decoder, Encoder, Malformed, Message};

/// How many answers are kept for repetitions.
const REPLIES_MAX: usize = 16 << 10;
/// How many bytes of them.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// Calls of more bytes than this are not brief: a small file fits, what would be cut does not.
const BRIEF_BYTES_MAX: usize = 64 << 10;

const READ: u32 = 6;
const READDIR: u32 = 16;
const READDIRPLUS: u32 = 17;
const COMMIT: u32 = 21;

/// NFSv3 and MOUNT over some exports, and NLM that refuses every lock.
pub struct Session {
    exports: Arc<dyn Exports>,
    handles: HandleKey,
    replies: Mutex<Replies>,
    mounts: Mutex<Mounts>,
    users: Users,
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
            users: Users::default(),
            counters: Counters::default(),
        }
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// The hosts that have used an export and have not said that they unmounted it, connected or not.
    pub fn users_of(&self, export: DatasetId) -> BTreeSet<IpAddr> {
        self.users.of(export)
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        // A value that is whole between any two of its calls: a panic elsewhere does not harm it.
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nfs(
        self: &Arc<Self>,
        header: &CallHeader,
        record: &Bytes,
        args: &mut Decoder,
        peer: &Peer,
        now: Timestamp,
    ) -> Outcome {
        let number = header.procedure as usize;
        let Some(procedure) = PROCEDURES.get(number) else {
            return self.refuse(header.xid, Refused::ProcedureUnavailable);
        };
        let begun = match procedure.repeat {
            Repeat::Harmless => None,
            Repeat::Kept | Repeat::Journaled => {
                let tag = replies::tag(&self.handles, peer.client.ip(), header.xid, header.procedure, args.rest());
                let verdict = self.replies().begin(tag, now);
                match verdict {
                    Verdict::New => Some(Begun { session: self.clone(), tag }),
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
        let journaled = begun.as_ref().filter(|_| procedure.repeat == Repeat::Journaled);
        let context = self.context(header, peer, now, journaled.map(|begun| Tags::of(begun.tag, now)));
        let mut out = Encoder::new();
        rpc::accept(&mut out, header.xid);
        let status = match (procedure.run)(&context, args, &mut out) {
            Ok(status) => status,
            Err(malformed) => return self.refuse(header.xid, malformed.into()),
        };
        let call = Carried { number, xid: header.xid, asked_bytes: record.len(), begun };
        match context.debt.into_inner() {
            None => Outcome::Reply(self.conclude(call, status, out)),
            Some(debt) => {
                let session = self.clone();
                Outcome::Owed(Owed::new(move || session.settle(call, debt, out)))
            }
        }
    }

    /// Waits until what a call did is stable, and says so, or that it is not.
    fn settle(&self, call: Carried, debt: Debt, mut out: Encoder) -> Message {
        match debt.tree.make_stable(debt.lsn) {
            Ok(()) => {
                if let Some(verifier) = debt.verifier {
                    out.patch(&verifier, &debt.tree.write_verifier());
                }
                self.conclude(call, Status::Ok, out)
            }
            Err(error) => {
                let status = Status::from(error);
                let mut out = Encoder::new();
                rpc::accept(&mut out, call.xid);
                (PROCEDURES[call.number].refuse)(&mut out, status);
                self.conclude(call, status, out)
            }
        }
    }

    /// Counts a call, and keeps its reply where a repetition may come.
    fn conclude(&self, call: Carried, status: Status, out: Encoder) -> Message {
        self.counters.nfs(call.number, status != Status::Ok, call.asked_bytes, out.len());
        let message = out.finish_record();
        if let (Some(begun), Some(answer)) = (call.begun, message.as_whole())
            && status != Status::Jukebox
        {
            begun.finish(answer.clone());
        }
        message
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

    fn lock(&self, header: &CallHeader, args: &mut Decoder) -> Outcome {
        let mut out = Encoder::new();
        rpc::accept(&mut out, header.xid);
        match locks::call(header.procedure, args, &mut out) {
            Ok(()) => Outcome::Reply(out.finish_record()),
            Err(why) => self.refuse(header.xid, why),
        }
    }

    fn context<'a>(&'a self, header: &'a CallHeader, peer: &Peer, now: Timestamp, tags: Option<Tags>) -> Context<'a> {
        Context {
            exports: self.exports.as_ref(),
            handles: &self.handles,
            client: peer.client,
            users: &self.users,
            identity: &header.identity,
            now,
            tags,
            debt: OnceCell::new(),
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
    fn call(self: Arc<Self>, record: Bytes, peer: &Peer, now: Timestamp) -> Outcome {
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
            (NLM_PROGRAM, NLM_VERSION) => self.lock(&header, &mut args),
            (NLM_PROGRAM, _) => {
                self.refuse(header.xid, Refused::ProgramMismatch { low: NLM_VERSION, high: NLM_VERSION })
            }
            _ => self.refuse(header.xid, Refused::ProgramUnavailable),
        }
    }

    fn is_brief(&self, record: &Bytes) -> bool {
        /// Procedures that move bulk data, or wait for files being cut.
        const LENGTHY: [u32; 4] = [READ, READDIR, READDIRPLUS, COMMIT];
        let procedure = Decoder::new(record).words().map(|[_xid, _call, _rpc, _program, _version, number]| number);
        record.len() <= BRIEF_BYTES_MAX && procedure.is_ok_and(|number| !LENGTHY.contains(&number))
    }

    fn may_wait(&self, record: &Bytes) -> bool {
        /// Procedures that are answered from what is in memory, as a rule: NULL, GETATTR, LOOKUP, ACCESS, READLINK, FSSTAT, FSINFO,
        /// PATHCONF (RFC 1813 section 3.3).
        const ASKING: [u32; 8] = [0, 1, 3, 4, 5, 18, 19, 20];
        let words = Decoder::new(record).words();
        let is_asking = |[_xid, _call, _rpc, program, _version, number]: [u32; 6]| {
            program != NFS_PROGRAM || ASKING.contains(&number)
        };
        !words.is_ok_and(is_asking)
    }

    /// Hosts that no export admits may ask what there is (MOUNT, NULL), and are told that they may do nothing else.
    fn knows(&self, peer: &Peer) -> bool {
        let host = peer.client.ip();
        self.exports.list().iter().any(|export| export.clients.iter().any(|network| network.contains(host)))
    }

    fn reply_bytes(&self, record: &Bytes) -> usize {
        asked_bytes(&mut Decoder::new(record)).unwrap_or(0).min(TRANSFER_BYTES_MAX) as usize
    }
}

/// How many bytes a READ or a listing asks for.
fn asked_bytes(input: &mut Decoder) -> Result<u32, Malformed> {
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

/// A call that was carried out and not answered yet.
struct Carried {
    /// Its procedure.
    number: usize,
    xid: u32,
    asked_bytes: usize,
    begun: Option<Begun>,
}

/// A changing call that is under way. Dropped without an answer, it is forgotten, so that a repetition is carried out.
struct Begun {
    session: Arc<Session>,
    tag: CallTag,
}

impl Begun {
    fn finish(self, answer: Bytes) {
        self.session.replies().finish(self.tag, answer);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.session.replies().abandon(self.tag);
    }
}
