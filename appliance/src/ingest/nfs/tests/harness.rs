//! A client in process: builds calls by hand, hands them to a session, reads the replies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use bytes::Bytes;
use narrowboat_storage::dataset::{FileType, SetAttributes, SetTime};
use narrowboat_storage::units::{Inode, Timestamp};

use super::memexports::MemExports;
use super::memtree::MemTree;
use crate::ingest::nfs::rpc::{Outcome, Peer, Service};
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::wire::{MOUNT_PROGRAM, NFS_PROGRAM};
use crate::ingest::nfs::xdr::{Decoder, Encoder, MARKER_BYTES};
use crate::ingest::nfs::{HandleKey, Rules, Session};

/// When everything in these tests happens.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000_000_123);

/// Numbers of the procedures.
pub(super) mod procedure {
    pub const GETATTR: u32 = 1;
    pub const SETATTR: u32 = 2;
    pub const LOOKUP: u32 = 3;
    pub const ACCESS: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const READ: u32 = 6;
    pub const WRITE: u32 = 7;
    pub const CREATE: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const SYMLINK: u32 = 10;
    pub const MKNOD: u32 = 11;
    pub const REMOVE: u32 = 12;
    pub const RMDIR: u32 = 13;
    pub const RENAME: u32 = 14;
    pub const LINK: u32 = 15;
    pub const READDIR: u32 = 16;
    pub const READDIRPLUS: u32 = 17;
    pub const FSSTAT: u32 = 18;
    pub const FSINFO: u32 = 19;
    pub const PATHCONF: u32 = 20;
    pub const COMMIT: u32 = 21;
}

/// A client and the server that it speaks to.
pub(super) struct Client {
    pub session: Arc<Session>,
    pub exports: Arc<MemExports>,
    pub peer: Peer,
    pub uid: Option<u32>,
    /// When its calls come in.
    pub now: Timestamp,
    xid: AtomicU32,
}

/// Attributes as a client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub file_type: FileType,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub device: (u32, u32),
    pub fsid: u64,
    pub inode: Inode,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

/// What is known of a change: size and times before, attributes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wcc {
    pub before: Option<(u64, Timestamp, Timestamp)>,
    pub after: Option<Seen>,
}

impl Client {
    /// Root on an empty share that does not squash.
    pub fn new() -> Client {
        Client::with(Rules { squash: crate::ingest::nfs::Squash::None, ..Rules::default() })
    }
    pub fn with(rules: Rules) -> Client {
        Client::on(MemExports::new(MemTree::new(), rules))
    }
    pub fn on(exports: Arc<MemExports>) -> Client {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        Client {
            session: Arc::new(Session::new(exports.clone(), HandleKey::new(b"test"))),
            exports,
            peer: Peer { client: address("10.0.0.9:700"), local: address("10.0.0.1:2049") },
            uid: Some(0),
            now: NOW,
            xid: AtomicU32::new(100),
        }
    }
    pub fn tree(&self) -> &MemTree {
        &self.exports.tree
    }
    pub fn next_xid(&self) -> u32 {
        self.xid.fetch_add(1, SeqCst)
    }
    /// One call, as bytes.
    pub fn encode(
        &self,
        xid: u32,
        program: u32,
        version: u32,
        procedure: u32,
        args: impl FnOnce(&mut Encoder),
    ) -> Bytes {
        let mut out = Encoder::new();
        for word in [xid, 0, 2, program, version, procedure] {
            out.u32(word);
        }
        match self.uid {
            Some(uid) => {
                for word in [1, 24, 0, 0, uid, uid, 1, 50] {
                    out.u32(word);
                }
            }
            None => (0..2).for_each(|_| out.u32(0)),
        }
        (0..2).for_each(|_| out.u32(0));
        args(&mut out);
        out.finish_datagram().to_bytes()
    }
    /// Hands a record over, as the rim does.
    pub fn hand_over(&self, record: Bytes) -> Outcome {
        self.session.clone().call(record, &self.peer, self.now)
    }
    /// Hands a record over; the reply without its marker.
    pub fn send(&self, record: Bytes) -> Option<Bytes> {
        match self.hand_over(record) {
            Outcome::Reply(message) => Some(message.to_bytes().slice(MARKER_BYTES..)),
            Outcome::Owed(owed) => Some(owed.settle().to_bytes().slice(MARKER_BYTES..)),
            Outcome::Silence => None,
            Outcome::Close => panic!("closed"),
        }
    }
    /// Calls NFS and returns the results behind a successful RPC header.
    pub fn call(&self, procedure: u32, args: impl FnOnce(&mut Encoder)) -> Results {
        let xid = self.next_xid();
        let record = self.encode(xid, NFS_PROGRAM, 3, procedure, args);
        results(self.send(record).expect("an answer"), xid)
    }
    pub fn mount_call(&self, version: u32, procedure: u32, args: impl FnOnce(&mut Encoder)) -> Results {
        let xid = self.next_xid();
        let record = self.encode(xid, MOUNT_PROGRAM, version, procedure, args);
        results(self.send(record).expect("an answer"), xid)
    }
    pub fn mount(&self, path: &str) -> Result<Bytes, u32> {
        let mut results = self.mount_call(3, 1, |out| out.opaque(path.as_bytes()));
        match results.u32() {
            0 => {
                let handle = results.opaque();
                assert_eq!((results.u32(), results.u32()), (1, 1), "one flavour, AUTH_SYS");
                results.end();
                Ok(handle)
            }
            status => Err(status),
        }
    }
    pub fn root(&self) -> Bytes {
        self.mount("/share").unwrap()
    }
    /// Makes a regular file and returns its handle.
    pub fn create(&self, dir: &Bytes, name: &[u8]) -> Bytes {
        let mut results = self.call(procedure::CREATE, |out| {
            out.opaque(dir);
            out.opaque(name);
            out.u32(1);
            set(out, &SetAttributes { mode: Some(0o644), ..Default::default() });
        });
        results.ok();
        results.post_handle().expect("a handle")
    }
    pub fn mkdir(&self, dir: &Bytes, name: &[u8]) -> Bytes {
        let mut results = self.call(procedure::MKDIR, |out| {
            out.opaque(dir);
            out.opaque(name);
            set(out, &SetAttributes::default());
        });
        results.ok();
        results.post_handle().expect("a handle")
    }
    pub fn lookup(&self, dir: &Bytes, name: &[u8]) -> Result<(Bytes, Seen), Status> {
        let mut results = self.call(procedure::LOOKUP, |out| {
            out.opaque(dir);
            out.opaque(name);
        });
        let status = results.status();
        if status != Status::Ok {
            results.post_attributes();
            results.end();
            return Err(status);
        }
        let handle = results.opaque();
        let seen = results.post_attributes().expect("attributes");
        results.post_attributes();
        results.end();
        Ok((handle, seen))
    }
    pub fn getattr(&self, handle: &Bytes) -> Result<Seen, Status> {
        let mut results = self.call(procedure::GETATTR, |out| out.opaque(handle));
        match results.status() {
            Status::Ok => Ok(results.attributes()),
            status => Err(status),
        }
    }
}

/// Checks the header of a successful reply and returns what follows.
pub(super) fn results(reply: Bytes, xid: u32) -> Results {
    let mut results = Results { bytes: reply };
    assert_eq!(results.words::<6>(), [xid, 1, 0, 0, 0, 0], "a successful reply");
    results
}

/// `sattr3`.
pub(super) fn set(out: &mut Encoder, set: &SetAttributes) {
    for word in [set.mode, set.uid, set.gid] {
        out.bool(word.is_some());
        word.into_iter().for_each(|word| out.u32(word));
    }
    out.bool(set.size.is_some());
    set.size.into_iter().for_each(|size| out.u64(size));
    for time in [set.accessed, set.modified] {
        match time {
            None => out.u32(0),
            Some(SetTime::Now) => out.u32(1),
            Some(SetTime::To(time)) => {
                out.u32(2);
                out.time(time);
            }
        }
    }
}

/// Reads results from front to back.
pub(super) struct Results {
    pub bytes: Bytes,
}

impl Results {
    fn read<T>(&mut self, read: impl FnOnce(&mut Decoder) -> T) -> T {
        let mut input = Decoder::new(&self.bytes);
        let value = read(&mut input);
        let rest = self.bytes.len() - input.remaining();
        self.bytes = self.bytes.slice(rest..);
        value
    }
    pub fn u32(&mut self) -> u32 {
        self.read(|input| input.u32().unwrap())
    }
    pub fn u64(&mut self) -> u64 {
        self.read(|input| input.u64().unwrap())
    }
    pub fn opaque(&mut self) -> Bytes {
        self.read(|input| input.opaque_shared(usize::MAX).unwrap())
    }
    pub fn fixed(&mut self) -> [u8; 8] {
        self.read(|input| input.fixed().unwrap())
    }
    pub fn words<const N: usize>(&mut self) -> [u32; N] {
        std::array::from_fn(|_| self.u32())
    }
    pub fn time(&mut self) -> Timestamp {
        self.read(|input| input.time().unwrap())
    }
    pub fn status(&mut self) -> Status {
        const ALL: [Status; 24] = [
            Status::Ok,
            Status::NotOwner,
            Status::NoEntry,
            Status::Io,
            Status::Access,
            Status::Exists,
            Status::CrossDevice,
            Status::NotDirectory,
            Status::IsDirectory,
            Status::Invalid,
            Status::FileTooBig,
            Status::NoSpace,
            Status::ReadOnly,
            Status::TooManyLinks,
            Status::NameTooLong,
            Status::NotEmpty,
            Status::Stale,
            Status::BadHandle,
            Status::NotSync,
            Status::BadCookie,
            Status::NotSupported,
            Status::TooSmall,
            Status::BadType,
            Status::Jukebox,
        ];
        let number = self.u32();
        ALL.into_iter().find(|status| *status as u32 == number).unwrap_or_else(|| panic!("status {number}"))
    }
    pub fn ok(&mut self) {
        assert_eq!(self.status(), Status::Ok);
    }
    pub fn attributes(&mut self) -> Seen {
        let file_type = crate::ingest::nfs::wire::file_type(self.u32()).unwrap();
        let [mode, links, uid, gid] = self.words();
        let (size, _used) = (self.u64(), self.u64());
        let [major, minor] = self.words();
        let (fsid, inode) = (self.u64(), Inode(self.u64()));
        let (_accessed, modified, changed) = (self.time(), self.time(), self.time());
        Seen { file_type, mode, links, uid, gid, size, device: (major, minor), fsid, inode, modified, changed }
    }
    pub fn post_attributes(&mut self) -> Option<Seen> {
        (self.u32() == 1).then(|| self.attributes())
    }
    pub fn post_handle(&mut self) -> Option<Bytes> {
        (self.u32() == 1).then(|| self.opaque())
    }
    pub fn wcc(&mut self) -> Wcc {
        let before = (self.u32() == 1).then(|| (self.u64(), self.time(), self.time()));
        Wcc { before, after: self.post_attributes() }
    }
    /// Nothing is left over.
    pub fn end(&self) {
        assert_eq!(self.bytes.len(), 0, "the results have ended");
    }
}
