//! An iSCSI initiator of a few lines, over a real socket: it shares no code with the target, so a mistake in the target's
//! PDUs is not made twice. Commands can be under way side by side, and it can be told to say what no real one would.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// The tag that names nothing.
pub const NO_TAG: u32 = 0xffff_ffff;
/// Bytes of a logical block, where nothing else was asked for.
pub const BLOCK: usize = 512;
/// Bytes of data in one PDU.
const SEGMENT: usize = 24 << 10;
/// How much data comes before the target asks for any.
const FIRST_BURST: usize = 65536;
/// How long the target may be silent.
const PATIENCE: Duration = Duration::from_secs(90);

/// A header, as it lies on the wire.
pub type Header = [u8; 48];

/// Who logs in, and what it asks for.
#[derive(Clone)]
pub struct Login {
    pub initiator: String,
    /// The last byte of the session id, which tells sessions of one initiator apart.
    pub port: u8,
    /// Keys in place of the usual ones.
    pub keys: Vec<(&'static str, String)>,
    /// CRC32C behind headers and data.
    pub digests: bool,
    /// The address that the connection comes from, where it is to be a certain one of this machine.
    pub from: Option<Ipv4Addr>,
}

impl Default for Login {
    fn default() -> Self {
        Login {
            initiator: "iqn.2026-01.org.example:test".into(),
            port: 1,
            keys: Vec::new(),
            digests: false,
            from: None,
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    pub tag: u32,
    pub status: u8,
    pub sense: Vec<u8>,
    pub data: Vec<u8>,
}

impl Answer {
    pub fn is_good(&self) -> bool {
        self.status == 0
    }
    /// Sense key, and additional sense code with its qualifier; zeros where there are none.
    pub fn sense(&self) -> (u8, u16) {
        match &self.sense[..] {
            [0x70 | 0xf0, _, key, _, _, _, _, _, _, _, _, _, code, qualifier, ..] => {
                (key & 0x0f, u16::from_be_bytes([*code, *qualifier]))
            }
            _ => (0, 0),
        }
    }
}

/// A command that is under way.
struct Pending {
    out: Vec<u8>,
    came: Vec<u8>,
}

/// A session.
pub struct Initiator {
    pub socket: TcpStream,
    pub digests: bool,
    pub cmd_sn: u32,
    stat_sn: u32,
    max_cmd_sn: u32,
    next_tag: u32,
    /// Most bytes that go with a command, and up to where more follow without having been asked for.
    immediate: usize,
    unasked: usize,
    pending: BTreeMap<u32, Pending>,
    answered: VecDeque<Answer>,
    /// What the target said without having been asked: codes of asynchronous messages, reasons of rejects.
    pub events: Vec<u8>,
    pub rejects: Vec<u8>,
}

/// The keys that a login sends.
fn keys(target: Option<&str>, login: &Login) -> Vec<u8> {
    let digest = if login.digests { "CRC32C" } else { "None" };
    let mut all: Vec<(&str, String)> = vec![("InitiatorName", login.initiator.clone())];
    match target {
        Some(target) => all.extend([("SessionType", "Normal".into()), ("TargetName", target.into())]),
        None => all.push(("SessionType", "Discovery".into())),
    }
    for (key, value) in [
        ("HeaderDigest", digest),
        ("DataDigest", digest),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "1048576"),
        ("FirstBurstLength", "65536"),
        ("MaxRecvDataSegmentLength", "262144"),
    ] {
        if target.is_some() || key.ends_with("Digest") {
            all.push((key, value.into()));
        }
    }
    all.retain(|(key, _)| !login.keys.iter().any(|(own, _)| own == key));
    all.extend(login.keys.iter().cloned());
    all.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
}

/// A connection from a certain address of this machine: all of 127.0.0.0/8 are.
pub fn connect_from(address: Ipv4Addr, portal: &str) -> io::Result<TcpStream> {
    let portal: SocketAddr = portal.parse().map_err(io::Error::other)?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((address, 0)))?;
    connect(&socket, &portal)?;
    Ok(socket.into())
}

/// A header with its operation, flags and tag.
pub fn header(opcode: u8, flags: u8, tag: u32) -> Header {
    let mut header = [0; 48];
    (header[0], header[1]) = (opcode, flags);
    put(&mut header, 16, tag);
    header
}

/// Sets four bytes.
pub fn put(header: &mut Header, at: usize, word: u32) {
    header[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

/// Reads four bytes.
pub fn word(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

impl Initiator {
    /// Logs in as the usual initiator.
    pub fn login(portal: &str, target: &str) -> io::Result<Initiator> {
        Initiator::login_as(portal, Some(target), &Login::default())
    }

    /// Logs in; without a target for discovery. A refusal is an error with the status in its text.
    pub fn login_as(portal: &str, target: Option<&str>, login: &Login) -> io::Result<Initiator> {
        let socket = match login.from {
            Some(address) => connect_from(address, portal)?,
            None => TcpStream::connect(portal)?,
        };
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut session = Initiator {
            socket,
            digests: false,
            cmd_sn: 1,
            stat_sn: 0,
            max_cmd_sn: 1,
            next_tag: 1,
            immediate: FIRST_BURST,
            unasked: 0,
            pending: BTreeMap::new(),
            answered: VecDeque::new(),
            events: Vec::new(),
            rejects: Vec::new(),
        };
        // Operational negotiation, and on to the full-feature phase.
        let mut request = header(0x43, 0x87, 0);
        (request[8], request[13]) = (0x40, login.port);
        put(&mut request, 24, session.cmd_sn);
        session.send(request, &keys(target, login))?;
        let (answer, text) = session.hear()?;
        let status = u16::from_be_bytes([answer[36], answer[37]]);
        if answer[0] != 0x23 || status != 0 || answer[1] != 0x87 {
            return Err(io::Error::other(format!("login refused with status {status:#06x}, flags {:#04x}", answer[1])));
        }
        let said = String::from_utf8_lossy(&text).into_owned();
        session.digests = login.digests;
        if said.contains("ImmediateData=No") {
            session.immediate = 0;
        }
        if said.contains("InitialR2T=No") {
            (session.immediate, session.unasked) = (session.immediate / 4, FIRST_BURST);
        }
        Ok(session)
    }

    /// Sends a PDU as it is.
    pub fn send(&mut self, mut header: Header, data: &[u8]) -> io::Result<()> {
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut bytes = header.to_vec();
        if self.digests {
            bytes.extend(crc32c::crc32c(&header).to_le_bytes());
        }
        if !data.is_empty() {
            let at = bytes.len();
            bytes.extend_from_slice(data);
            bytes.resize(at + data.len().next_multiple_of(4), 0);
            if self.digests {
                bytes.extend(crc32c::crc32c(&bytes[at..]).to_le_bytes());
            }
        }
        self.socket.write_all(&bytes)
    }

    /// The next PDU.
    pub fn hear(&mut self) -> io::Result<(Header, Vec<u8>)> {
        let mut header = [0; 48];
        self.socket.read_exact(&mut header)?;
        self.check(&header)?;
        let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let mut data = vec![0; len.next_multiple_of(4)];
        if len > 0 {
            self.socket.read_exact(&mut data)?;
            self.check(&data)?;
        }
        data.truncate(len);
        Ok((header, data))
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.digests {
            let mut digest = [0; 4];
            self.socket.read_exact(&mut digest)?;
            assert_eq!(u32::from_le_bytes(digest), crc32c::crc32c(bytes), "the target's digest");
        }
        Ok(())
    }

    /// Gives a request its numbers.
    pub fn numbered(&mut self, header: &mut Header) -> u32 {
        let tag = self.next_tag;
        self.next_tag += 1;
        put(header, 16, tag);
        put(header, 24, self.cmd_sn);
        put(header, 28, self.stat_sn);
        if header[0] & 0x40 == 0 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        tag
    }

    /// Sends a command, with data or with room for some, and does not wait for its answer.
    pub fn submit(&mut self, lun: u8, cdb: &[u8], out: Vec<u8>, room: usize) -> io::Result<u32> {
        while self.cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 > 0 {
            self.take_one()?; // The window is closed.
        }
        let now = out.len().min(self.immediate);
        let unasked = out.len().min(self.unasked).max(now);
        let last = if unasked > now { 0 } else { 0x80 };
        let flags = last | 0x01 | if room > 0 { 0x40 } else { 0 } | if out.is_empty() { 0 } else { 0x20 };
        let mut request = header(0x01, flags, 0);
        request[9] = lun;
        put(&mut request, 20, (out.len() + room) as u32);
        request[32..32 + cdb.len()].copy_from_slice(cdb);
        let tag = self.numbered(&mut request);
        let sent = self.send(request, &out[..now]);
        let sent = sent.and_then(|()| self.send_data(tag, NO_TAG, now, &out[now..unasked]));
        self.pending.insert(tag, Pending { out, came: Vec::new() });
        sent.map(|()| tag)
    }

    /// The next answer to any command.
    pub fn next(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.answered.pop_front() {
                return Ok(answer);
            }
            self.take_one()?;
        }
    }

    /// Sends a command and waits for its answer; answers to others wait.
    pub fn run(&mut self, lun: u8, cdb: &[u8], out: Vec<u8>, room: usize) -> io::Result<Answer> {
        let tag = self.submit(lun, cdb, out, room)?;
        loop {
            if let Some(at) = self.answered.iter().position(|answer| answer.tag == tag) {
                return Ok(self.answered.remove(at).expect("found"));
            }
            self.take_one()?;
        }
    }

    /// Takes one PDU.
    fn take_one(&mut self) -> io::Result<()> {
        let (said, data) = self.hear()?;
        let (opcode, tag) = (said[0] & 0x3f, word(&said, 16));
        self.max_cmd_sn = word(&said, 32);
        // Of Data-In only the last one has a status number of its own.
        if opcode != 0x31 && (opcode != 0x25 || said[1] & 1 != 0) && !(opcode == 0x20 && tag == NO_TAG) {
            self.stat_sn = word(&said, 24).wrapping_add(1);
        }
        match opcode {
            0x31 => self.data_out(&said)?,
            0x25 => {
                let pending = self.pending.get_mut(&tag).expect("data for a command that is under way");
                assert_eq!(pending.came.len(), word(&said, 40) as usize, "data in order");
                pending.came.extend(data);
                if said[1] & 1 != 0 {
                    self.done(tag, said[3], Vec::new());
                }
            }
            0x21 => self.done(tag, said[3], data.get(2..).unwrap_or_default().to_vec()),
            // A ping is answered.
            0x20 if word(&said, 20) != NO_TAG => {
                let mut answer = header(0x40, 0x80, NO_TAG);
                put(&mut answer, 20, word(&said, 20));
                put(&mut answer, 24, self.cmd_sn);
                self.send(answer, &[])?;
            }
            0x32 => self.events.push(said[36]),
            0x3f => self.rejects.push(said[2]),
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self, tag: u32, status: u8, sense: Vec<u8>) {
        let pending = self.pending.remove(&tag).expect("an answer to a command that is under way");
        self.answered.push_back(Answer { tag, status, sense, data: pending.came });
    }

    /// Sends what an R2T asks for.
    fn data_out(&mut self, r2t: &Header) -> io::Result<()> {
        let (tag, offset, len) = (word(r2t, 16), word(r2t, 40) as usize, word(r2t, 44) as usize);
        let wanted =
            self.pending.get(&tag).expect("an R2T for a command that is under way").out[offset..offset + len].to_vec();
        self.send_data(tag, word(r2t, 20), offset, &wanted)
    }

    /// Sends data from an offset on, as one sequence.
    fn send_data(&mut self, tag: u32, transfer_tag: u32, offset: usize, data: &[u8]) -> io::Result<()> {
        for (number, piece) in data.chunks(SEGMENT).enumerate() {
            let last = (number + 1) * SEGMENT >= data.len();
            let mut request = header(0x05, if last { 0x80 } else { 0 }, tag);
            put(&mut request, 20, transfer_tag);
            put(&mut request, 36, number as u32);
            put(&mut request, 40, (offset + number * SEGMENT) as u32);
            self.send(request, piece)?;
        }
        Ok(())
    }

    /// How many commands are under way.
    pub fn under_way(&self) -> usize {
        self.pending.len() + self.answered.len()
    }

    /// Asks a unit whether it is ready until it says so; returns the codes of what it had to say first.
    pub fn greet(&mut self, lun: u8) -> io::Result<Vec<u16>> {
        let mut codes = Vec::new();
        loop {
            let answer = self.run(lun, &[0; 6], Vec::new(), 0)?;
            if answer.is_good() {
                return Ok(codes);
            }
            codes.push(answer.sense().1);
            assert!(codes.len() < 20, "{codes:x?}");
        }
    }

    /// Asks which targets there are.
    pub fn discover(portal: &str) -> io::Result<String> {
        let mut session = Initiator::login_as(portal, None, &Login::default())?;
        let mut request = header(0x04, 0x80, 0);
        put(&mut request, 20, NO_TAG);
        session.numbered(&mut request);
        session.send(request, b"SendTargets=All\0")?;
        Ok(String::from_utf8_lossy(&session.hear()?.1).into_owned())
    }

    /// Logs out.
    pub fn logout(mut self) -> io::Result<()> {
        let mut request = header(0x46, 0x80, 0);
        self.numbered(&mut request);
        self.send(request, &[])?;
        loop {
            let (said, _) = self.hear()?;
            if said[0] & 0x3f == 0x26 {
                return Ok(());
            }
        }
    }
}

/// A command of 16 bytes for some blocks.
fn cdb_16(opcode: u8, flags: u8, block: u64, blocks: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&block.to_be_bytes());
    cdb[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
    cdb
}

/// WRITE (16), with FUA where it is to be stable when it is answered.
pub fn write(block: u64, blocks: usize, stable: bool) -> [u8; 16] {
    cdb_16(0x8a, if stable { 0x08 } else { 0 }, block, blocks)
}

/// READ (16).
pub fn read(block: u64, blocks: usize) -> [u8; 16] {
    cdb_16(0x88, 0, block, blocks)
}

/// SYNCHRONIZE CACHE (16) of everything.
pub fn synchronize() -> [u8; 16] {
    cdb_16(0x91, 0, 0, 0)
}

/// UNMAP of one run: the command and its list.
pub fn unmap(block: u64, blocks: usize) -> ([u8; 10], Vec<u8>) {
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(block.to_be_bytes());
    list.extend((blocks as u32).to_be_bytes());
    list.extend([0; 4]);
    ([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], list)
}
