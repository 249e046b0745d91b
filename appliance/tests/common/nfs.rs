//! An NFSv3 client of a few lines, over a real socket: it shares no code with the server, so a mistake in the server's
//! XDR is not made twice. Calls can be repeated with the number that they had, which no real client lets a test do.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A file handle.
pub type Handle = Vec<u8>;

/// How a WRITE wants to be stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stable {
    Unstable = 0,
    Data = 1,
    File = 2,
}

/// Why a call has no good answer.
#[derive(Debug)]
pub enum Trouble {
    /// The connection is gone; what became of the call is not known.
    Gone(io::Error),
    /// The answer is an NFS status.
    Status(u32),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Gone(error)
    }
}

/// The result of a call.
pub type Answer<T> = Result<T, Trouble>;

/// `NFS3ERR_NOENT`.
pub const NO_ENTRY: u32 = 2;
/// `NF3DIR`.
pub const DIRECTORY: u32 = 2;

/// Builds arguments.
#[derive(Clone, Debug, Default)]
pub struct Args(pub Vec<u8>);

impl Args {
    pub fn u32(mut self, word: u32) -> Args {
        self.0.extend(word.to_be_bytes());
        self
    }
    pub fn u64(mut self, word: u64) -> Args {
        self.0.extend(word.to_be_bytes());
        self
    }
    pub fn opaque(self, bytes: &[u8]) -> Args {
        let mut args = self.u32(bytes.len() as u32);
        args.0.extend_from_slice(bytes);
        args.0.resize(args.0.len().next_multiple_of(4), 0);
        args
    }
    /// `sattr3` with at most a mode and a size.
    pub fn set(self, mode: Option<u32>, size: Option<u64>) -> Args {
        let args = match mode {
            Some(mode) => self.u32(1).u32(mode),
            None => self.u32(0),
        };
        let args = args.u32(0).u32(0);
        let args = match size {
            Some(size) => args.u32(1).u64(size),
            None => args.u32(0),
        };
        args.u32(0).u32(0)
    }
}

/// Reads results.
pub struct Results {
    bytes: Vec<u8>,
    at: usize,
}

impl Results {
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.fixed())
    }
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.fixed())
    }
    pub fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes[self.at..self.at + N].try_into().expect("as many bytes");
        self.at += N;
        bytes
    }
    pub fn opaque(&mut self) -> Vec<u8> {
        let len = self.u32() as usize;
        let bytes = self.bytes[self.at..self.at + len].to_vec();
        self.at += len.next_multiple_of(4);
        bytes
    }
    pub fn attributes(&mut self) -> Seen {
        let [file_type, mode, links, uid, gid]: [u32; 5] = std::array::from_fn(|_| self.u32());
        let (size, _used, _device, _fsid, inode) = (self.u64(), self.u64(), self.u64(), self.u64(), self.u64());
        let (_accessed, modified, _changed) = (self.u64(), self.u64(), self.u64());
        Seen { file_type, mode, links, uid, gid, size, inode, modified }
    }
    pub fn post_attributes(&mut self) -> Option<Seen> {
        (self.u32() == 1).then(|| self.attributes())
    }
    fn weak(&mut self) -> Option<Seen> {
        if self.u32() == 1 {
            let _size_and_times: [u8; 24] = self.fixed();
        }
        self.post_attributes()
    }
}

/// Attributes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub file_type: u32,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub inode: u64,
    /// Seconds, then nanoseconds, 32 bits each.
    pub modified: u64,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub cookie: u64,
    pub seen: Seen,
    pub handle: Handle,
}

/// A changing call of the namespace, as it can be repeated.
#[derive(Clone, Debug)]
pub struct Change {
    pub xid: u32,
    pub procedure: u32,
    pub args: Vec<u8>,
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    next_xid: u32,
}

pub const LOOKUP: u32 = 3;
pub const CREATE: u32 = 8;
pub const MKDIR: u32 = 9;
pub const SYMLINK: u32 = 10;
pub const MKNOD: u32 = 11;
pub const REMOVE: u32 = 12;
pub const RMDIR: u32 = 13;
pub const RENAME: u32 = 14;
pub const LINK: u32 = 15;
pub const SETATTR: u32 = 2;

const NFS: (u32, u32) = (100_003, 3);
const MOUNT: (u32, u32) = (100_005, 3);

impl Client {
    pub fn connect(address: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream, next_xid: 1 })
    }
    /// Numbers calls from `xid` on. Numbers must differ between clients of one address, as with real ones.
    pub fn numbered_from(mut self, xid: u32) -> Client {
        self.next_xid = xid;
        self
    }
    pub fn next_xid(&self) -> u32 {
        self.next_xid
    }
    fn rpc(&mut self, xid: u32, (program, version): (u32, u32), procedure: u32, args: &[u8]) -> io::Result<Results> {
        let header = [xid, 0, 2, program, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0];
        let len = (4 * header.len() + args.len()) as u32 | 1 << 31;
        let mut record: Vec<u8> = [len].iter().chain(&header).flat_map(|word| word.to_be_bytes()).collect();
        record.extend_from_slice(args);
        self.stream.write_all(&record)?;
        let mut marker = [0; 4];
        self.stream.read_exact(&mut marker)?;
        let mut bytes = vec![0; (u32::from_be_bytes(marker) & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut bytes)?;
        let mut results = Results { bytes, at: 0 };
        let header: [u32; 6] = std::array::from_fn(|_| results.u32());
        assert_eq!(header, [xid, 1, 0, 0, 0, 0], "one call, one successful reply");
        Ok(results)
    }
    fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid - 1
    }
    /// Calls NFS; results behind `NFS3_OK`.
    pub fn call(&mut self, procedure: u32, args: Args) -> Answer<Results> {
        let xid = self.xid();
        self.repeat(&Change { xid, procedure, args: args.0 })
    }
    /// Sends a call as it is, perhaps again; results behind `NFS3_OK`.
    pub fn repeat(&mut self, change: &Change) -> Answer<Results> {
        let mut results = self.rpc(change.xid, NFS, change.procedure, &change.args)?;
        match results.u32() {
            0 => Ok(results),
            status => Err(Trouble::Status(status)),
        }
    }
    /// A changing call with a number of its own, to be sent with [`Client::repeat`].
    pub fn change(&mut self, procedure: u32, args: Args) -> Change {
        Change { xid: self.xid(), procedure, args: args.0 }
    }
    pub fn mount(&mut self, path: &str) -> Answer<Handle> {
        let xid = self.xid();
        let mut results = self.rpc(xid, MOUNT, 1, &Args::default().opaque(path.as_bytes()).0)?;
        match results.u32() {
            0 => Ok(results.opaque()),
            status => Err(Trouble::Status(status)),
        }
    }
    pub fn attributes(&mut self, file: &[u8]) -> Answer<Seen> {
        Ok(self.call(1, Args::default().opaque(file))?.attributes())
    }
    pub fn lookup(&mut self, dir: &[u8], name: &[u8]) -> Answer<(Handle, Seen)> {
        let mut results = self.call(LOOKUP, Args::default().opaque(dir).opaque(name))?;
        let handle = results.opaque();
        let seen = results.post_attributes();
        Ok((handle, seen.expect("attributes")))
    }
    pub fn read(&mut self, file: &[u8], offset: u64, len: u32) -> Answer<Vec<u8>> {
        let mut results = self.call(6, Args::default().opaque(file).u64(offset).u32(len))?;
        results.post_attributes();
        let _count_and_end: [u32; 2] = std::array::from_fn(|_| results.u32());
        Ok(results.opaque())
    }
    /// All of a file.
    pub fn read_all(&mut self, file: &[u8]) -> Answer<Vec<u8>> {
        let size = self.attributes(file)?.size;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let piece = self.read(file, bytes.len() as u64, 1 << 20)?;
            assert!(!piece.is_empty(), "a read within the file gives something");
            bytes.extend(piece);
        }
        Ok(bytes)
    }
    /// Writes and returns how stable it is, and the verifier.
    pub fn write(&mut self, file: &[u8], offset: u64, data: &[u8], stable: Stable) -> Answer<(u32, [u8; 8])> {
        let args = Args::default().opaque(file).u64(offset).u32(data.len() as u32).u32(stable as u32).opaque(data);
        let mut results = self.call(7, args)?;
        results.weak();
        assert_eq!(results.u32(), data.len() as u32, "all of it was taken");
        Ok((results.u32(), results.fixed()))
    }
    /// Makes all that was written to a file stable; returns the verifier.
    pub fn commit(&mut self, file: &[u8]) -> Answer<[u8; 8]> {
        let mut results = self.call(21, Args::default().opaque(file).u64(0).u32(0))?;
        results.weak();
        Ok(results.fixed())
    }
    /// Makes a regular file; refused where the name is taken.
    pub fn create(&mut self, dir: &[u8], name: &[u8]) -> Answer<Handle> {
        let change = self.change(CREATE, create_args(dir, name));
        self.make(&change)
    }
    pub fn make_dir(&mut self, dir: &[u8], name: &[u8]) -> Answer<Handle> {
        let change = self.change(MKDIR, Args::default().opaque(dir).opaque(name).set(Some(0o755), None));
        self.make(&change)
    }
    pub fn symlink(&mut self, dir: &[u8], name: &[u8], target: &[u8]) -> Answer<Handle> {
        let args = Args::default().opaque(dir).opaque(name).set(None, None).opaque(target);
        let change = self.change(SYMLINK, args);
        self.make(&change)
    }
    pub fn fifo(&mut self, dir: &[u8], name: &[u8]) -> Answer<Handle> {
        let args = Args::default().opaque(dir).opaque(name).u32(7).set(Some(0o640), None);
        let change = self.change(MKNOD, args);
        self.make(&change)
    }
    /// Sends a call that makes something; its handle.
    pub fn make(&mut self, change: &Change) -> Answer<Handle> {
        let mut results = self.repeat(change)?;
        assert_eq!(results.u32(), 1, "a handle follows");
        Ok(results.opaque())
    }
    pub fn link(&mut self, file: &[u8], dir: &[u8], name: &[u8]) -> Answer<()> {
        self.call(LINK, Args::default().opaque(file).opaque(dir).opaque(name)).map(drop)
    }
    pub fn remove(&mut self, dir: &[u8], name: &[u8]) -> Answer<()> {
        self.call(REMOVE, Args::default().opaque(dir).opaque(name)).map(drop)
    }
    pub fn rename(&mut self, from: (&[u8], &[u8]), to: (&[u8], &[u8])) -> Answer<()> {
        self.call(RENAME, rename_args(from, to)).map(drop)
    }
    pub fn set(&mut self, file: &[u8], mode: Option<u32>, size: Option<u64>) -> Answer<()> {
        self.call(SETATTR, Args::default().opaque(file).set(mode, size).u32(0)).map(drop)
    }
    /// All entries but `.` and `..`.
    pub fn list(&mut self, dir: &[u8]) -> Answer<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let (mut cookie, mut verifier) = (0, [0; 8]);
        loop {
            let mut args = Args::default().opaque(dir).u64(cookie);
            args.0.extend(verifier);
            let mut results = self.call(17, args.u32(4096).u32(32768))?;
            results.post_attributes();
            verifier = results.fixed();
            while results.u32() == 1 {
                let _inode = results.u64();
                let name = results.opaque();
                cookie = results.u64();
                let seen = results.post_attributes();
                let handle = (results.u32() == 1).then(|| results.opaque());
                if name != b"." && name != b".." {
                    let (seen, handle) = (seen.expect("attributes"), handle.expect("a handle"));
                    entries.push(Entry { name, cookie, seen, handle });
                }
            }
            if results.u32() == 1 {
                return Ok(entries);
            }
        }
    }
}

/// Arguments of a guarded CREATE.
pub fn create_args(dir: &[u8], name: &[u8]) -> Args {
    Args::default().opaque(dir).opaque(name).u32(1).set(Some(0o644), None)
}

/// Arguments of RENAME.
pub fn rename_args(from: (&[u8], &[u8]), to: (&[u8], &[u8])) -> Args {
    Args::default().opaque(from.0).opaque(from.1).opaque(to.0).opaque(to.1)
}
