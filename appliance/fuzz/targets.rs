//! What is done with bytes that an initiator or a peer could send: PDUs, text, logins, commands, whole conversations,
//! frames, whole sessions of replication either way, probes and grants. Each target takes
//! any bytes, must never panic, and checks what has to hold whatever they are.
//!
//! `tests/fuzz.rs` runs them in every test run, from seeds that are changed at random; `make fuzz` runs them under libFuzzer,
//! which looks at the paths that an input takes through the code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use narrowboat::ingest::iscsi::chap::{Account, Secret};
use narrowboat::ingest::iscsi::framing::Assembler;
use narrowboat::ingest::iscsi::login::{Context, Login, Outcome};
use narrowboat::ingest::iscsi::null::NullDisk;
use narrowboat::ingest::iscsi::params::Params;
use narrowboat::ingest::iscsi::registry::Registry;
use narrowboat::ingest::iscsi::scsi::reserve::Reservations;
use narrowboat::ingest::iscsi::scsi::{
    Asked, Device, Identity, Keeper, LogicalUnit, Nexus, Shape, Status, TRANSFER_BYTES_MAX,
};
use narrowboat::ingest::iscsi::session::{Deadlines, Done, Memory, Session};
use narrowboat::ingest::iscsi::text;
use narrowboat::ingest::iscsi::wire::{Bhs, Command, Digests, Encoder, Frame, Pdu, opcode};
use narrowboat::ingest::iscsi::{Access, Target, Targets};
use narrowboat::ingest::nfs::record::Buffers;

#[path = "sessions/mod.rs"]
mod sessions;
#[path = "wan.rs"]
mod wan;

/// A target: its name, what it does with an input (and how much of it came through), inputs that get far into the code, and
/// those that libFuzzer has found since, a line of hexadecimal digits each (`make fuzz ARGS=--keep` writes them).
pub struct Fuzzed {
    pub name: &'static str,
    pub run: fn(&[u8]) -> usize,
    pub seeds: fn() -> Vec<Vec<u8>>,
    found: &'static str,
}

impl Fuzzed {
    /// All inputs that are worth beginning with.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("digits");
        let line = |line: &str| line.as_bytes().chunks(2).map(byte).collect();
        (self.seeds)().into_iter().chain(self.found.lines().map(line)).collect()
    }
}

/// All targets.
pub const TARGETS: [Fuzzed; 9] = [
    Fuzzed { name: "pdu", run: pdu, seeds: pdu_seeds, found: include_str!("corpus/pdu.hex") },
    Fuzzed { name: "text", run: self::text, seeds: text_seeds, found: include_str!("corpus/text.hex") },
    Fuzzed { name: "login", run: login, seeds: login_seeds, found: include_str!("corpus/login.hex") },
    Fuzzed { name: "cdb", run: cdb, seeds: cdb_seeds, found: include_str!("corpus/cdb.hex") },
    Fuzzed { name: "session", run: session, seeds: session_seeds, found: include_str!("corpus/session.hex") },
    Fuzzed { name: "frames", run: wan::frames, seeds: wan::frames_seeds, found: include_str!("corpus/frames.hex") },
    Fuzzed {
        name: "receive",
        run: sessions::receiving,
        seeds: sessions::session_seeds,
        found: include_str!("corpus/receive.hex"),
    },
    Fuzzed {
        name: "send",
        run: sessions::sending,
        seeds: sessions::session_seeds,
        found: include_str!("corpus/send.hex"),
    },
    Fuzzed { name: "probe", run: wan::probe, seeds: wan::probe_seeds, found: include_str!("corpus/probe.hex") },
];

const NAME: &str = "iqn.2026-01.org.example:disk";
const HOST: &str = "iqn.2026-01.org.example:host";
const DISK_BYTES: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: usize = 8192;
const MEMORY_BYTES: usize = 8 << 20;

/// Takes an input apart.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    /// As many bytes as the next two say, or as there are.
    fn piece(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_be_bytes([self.u8()?, self.u8()?]));
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// Bytes as [`Cursor::piece`] reads them.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Buffers without a pool.
struct Plain;

impl Buffers for Plain {
    type Buffer = Vec<u8>;
    fn take(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }
    fn seal(&self, mut buffer: Vec<u8>, len: usize) -> Bytes {
        buffer.truncate(len);
        buffer.into()
    }
}

/// Feeds a stream in pieces until it ends or breaks.
fn feed(
    assembler: &mut Assembler<Plain>,
    mut stream: &[u8],
    piece: usize,
    mut take: impl FnMut(Pdu, &mut Assembler<Plain>) -> bool,
) {
    loop {
        match assembler.next_pdu() {
            Ok(Some(pdu)) => {
                if !take(pdu, assembler) {
                    return;
                }
            }
            Ok(None) if !stream.is_empty() => {
                let room = assembler.room();
                let len = room.len().min(piece.max(1)).min(stream.len());
                room[..len].copy_from_slice(&stream[..len]);
                assembler.filled(len);
                stream = &stream[len..];
            }
            _ => return,
        }
    }
}

fn encoded(frame: Frame, digests: Digests) -> Vec<u8> {
    let mut out: Vec<Bytes> = Vec::new();
    Encoder::default().encode(frame, digests, &mut out);
    out.concat()
}

/// A stream of PDUs, with and without digests, however it is cut: what comes out is no longer than was declared, and
/// written again it is read as the same.
pub fn pdu(input: &[u8]) -> usize {
    let mut cursor = Cursor(input);
    let (Some(flags), Some(piece)) = (cursor.u8(), cursor.u8()) else { return 0 };
    let mut count = 0;
    let digests = Digests { header: flags & 1 != 0, data: flags & 2 != 0 };
    let mut assembler = Assembler::new(Plain, SEGMENT_BYTES_MAX);
    assembler.set(digests, SEGMENT_BYTES_MAX);
    feed(&mut assembler, cursor.0, piece.into(), |pdu, _| {
        count += 1;
        assert!(pdu.data.len() <= SEGMENT_BYTES_MAX);
        let command = Command::decode(&pdu);
        assert!(command.is_none_or(|command| (16..=260).contains(&command.cdb.len())));
        if pdu.ahs.is_empty() {
            let mut again = Assembler::new(Plain, SEGMENT_BYTES_MAX);
            again.set(digests, SEGMENT_BYTES_MAX);
            let bytes = encoded(Frame::with_data(pdu.bhs, pdu.data.clone()), digests);
            let mut same = false;
            feed(&mut again, &bytes, usize::MAX, |other, _| {
                same = other == pdu;
                true
            });
            assert!(same, "{pdu:?}");
        }
        true
    });
    assert!(assembler.held_bytes() <= SEGMENT_BYTES_MAX + 16);
    count
}

fn pdu_seeds() -> Vec<Vec<u8>> {
    let command = Bhs::new(opcode::COMMAND, 0xa1).with_word(20, 512).with_bytes(32, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1]);
    let all = [(0, 7), (1, 200), (2, 3), (3, 48)].map(|(flags, piece)| {
        let digests = Digests { header: flags & 1 != 0, data: flags & 2 != 0 };
        let frames =
            [Frame::with_data(command, Bytes::from_static(&[5; 512])), Frame::new(Bhs::new(opcode::NOP_OUT, 0x80))];
        let stream = frames.map(|frame| encoded(frame, digests)).concat();
        [vec![flags, piece], stream].concat()
    });
    all.into()
}

/// Text of any kind: what is taken is within bounds, and written again it is the same.
pub fn text(input: &[u8]) -> usize {
    let Ok(pairs) = text::parse(input) else { return 0 };
    assert!(pairs.len() <= text::PAIRS_MAX);
    let mut writer = text::Writer::default();
    for (key, value) in &pairs {
        assert!(key.len() <= text::KEY_BYTES_MAX && value.len() <= text::VALUE_BYTES_MAX);
        writer.pair(key, value);
        let _ = text::number(value);
        if let Some(bytes) = text::binary(value) {
            assert_eq!(text::binary(&text::to_hex(&bytes)), Some(bytes));
        }
        for discovery in [false, true] {
            Params::default().negotiate(key, value, discovery);
        }
    }
    let count = pairs.len();
    assert_eq!(text::parse(&writer.finish()), Ok(pairs));
    count
}

/// Keys as open-iscsi sends them.
const KEYS: &str = "HeaderDigest=CRC32C,None\0DataDigest=None\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0IFMarker=No\0\
    OFMarker=No\0ErrorRecoveryLevel=0\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=16776192\0\
    FirstBurstLength=262144\0MaxOutstandingR2T=1\0MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0\
    MaxRecvDataSegmentLength=262144\0";

fn text_seeds() -> Vec<Vec<u8>> {
    let chap = "CHAP_N=host\0CHAP_R=0x00112233445566778899aabbccddeeff\0CHAP_I=7\0CHAP_C=0bAAECAwQFBgcICQ==\0";
    [KEYS, chap, "SendTargets=All\0", "X-org.example=\0"].map(|text| text.as_bytes().to_vec()).into()
}

/// A disk that answers everything.
fn device() -> Arc<Device> {
    let unit = |lun: u16| {
        let (identity, shape) =
            (Identity::new([lun as u8 + 1; 16]), [Shape::EMULATED_512, Shape::NATIVE_4096][usize::from(lun)]);
        let unit = LogicalUnit::new(
            Arc::new(NullDisk::new(DISK_BYTES)),
            identity,
            shape,
            Arc::new(Forgetful),
            Reservations::default(),
        );
        (lun, Arc::new(unit))
    };
    Arc::new(Device::new([unit(0), unit(1)].into(), None))
}

struct Forgetful;

impl Keeper for Forgetful {
    fn keep(&self, state: &[u8]) -> narrowboat_storage::Result<()> {
        // What is kept can be read again.
        Reservations::decode("fuzz", state).map(drop)
    }
}

struct World(Arc<Target>);

impl Targets for World {
    fn list(&self) -> Vec<Arc<Target>> {
        vec![self.0.clone()]
    }
    fn discovery_accounts(&self) -> Vec<Account> {
        self.0.access.accounts.clone()
    }
}

fn world(accounts: Vec<Account>) -> Arc<World> {
    let access = Access { accounts, ..Access::default() };
    Arc::new(World(Arc::new(Target { name: NAME.into(), alias: "disk".into(), access, device: device() })))
}

fn context(targets: Arc<World>, registry: Arc<Registry>) -> Context {
    let [peer, local] = ["10.0.0.7:1000", "10.0.0.1:3260"].map(|address| address.parse().expect("an address"));
    Context { targets, registry, connection: 1, peer, local, random: [9; 17] }
}

/// Login requests: nobody gets in without the secret where there is one, and what is agreed on is within bounds.
pub fn login(input: &[u8]) -> usize {
    let mut cursor = Cursor(input);
    let Some(first) = cursor.u8() else { return 0 };
    let mut answered = 0;
    let mutual = Some(("box".to_owned(), Secret::new("another secret of its own")));
    let account = Account { name: "host".into(), secret: Secret::new("nobody guesses this"), mutual };
    let accounts = if first & 1 != 0 { vec![account] } else { Vec::new() };
    let proved = accounts.is_empty();
    let (memory, registry) = (Arc::new(Memory::new(MEMORY_BYTES)), Arc::<Registry>::default());
    let context = context(world(accounts), registry);
    let mut login = Login::new(memory.share(context.peer.ip()));
    while let (Some(flags), Some(data)) = (cursor.u8(), cursor.piece()) {
        let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags).with_bytes(8, &[0x40, 0, 0, 0, 0, 1]);
        match login.receive(&context, &Pdu { bhs, ahs: Bytes::new(), data: Bytes::copy_from_slice(data) }) {
            Outcome::Continue(frame) => {
                assert_eq!(frame.bhs.opcode(), opcode::LOGIN_RESPONSE);
                answered += 1;
            }
            Outcome::Refuse(frame) => {
                assert_ne!(frame.bhs.half(36), 0);
                return answered;
            }
            Outcome::Established(_, established) => {
                assert!(proved, "without the secret");
                let params = &established.params;
                assert!((512..=1 << 20).contains(&params.send_bytes) && (512..=1 << 20).contains(&params.burst_bytes));
                assert!(params.first_burst_bytes <= params.burst_bytes && (1..=16).contains(&params.r2t_max));
                return answered + 1;
            }
            Outcome::Close => return answered,
        }
    }
    answered
}

fn login_seeds() -> Vec<Vec<u8>> {
    let who = format!("InitiatorName={HOST}\0SessionType=Normal\0TargetName={NAME}\0");
    let request = |flags: u8, text: &str| [vec![flags], counted(text.as_bytes())].concat();
    let proof = "CHAP_N=host\0CHAP_R=0x00112233445566778899aabbccddeeff\0CHAP_I=7\0CHAP_C=0x0102030405060708\0";
    vec![
        [vec![0], request(0x87, &format!("{who}{KEYS}"))].concat(),
        [vec![0], request(0x81, &format!("{who}AuthMethod=CHAP,None\0")), request(0x87, KEYS)].concat(),
        [vec![0], request(0x44, &who), request(0x87, KEYS)].concat(),
        [vec![0], request(0x87, &format!("InitiatorName={HOST}\0SessionType=Discovery\0"))].concat(),
        [
            vec![1],
            request(0x00, &format!("{who}AuthMethod=CHAP\0")),
            request(0x00, "CHAP_A=7,5\0"),
            request(0x81, proof),
            request(0x87, KEYS),
        ]
        .concat(),
    ]
}

fn nexus(last: u8) -> Nexus {
    Nexus { initiator: HOST.into(), isid: [0x40, 0, 0, 0, 0, last] }
}

/// Commands, one behind the other, of two initiators: each is answered within bounds, with sense data where it failed.
pub fn cdb(input: &[u8]) -> usize {
    let mut good = 0;
    let device = device();
    (0..2).for_each(|port| device.nexus_begins(&nexus(port), false));
    let mut cursor = Cursor(input);
    while let (Some(place), Some(cdb), Some(data)) = (cursor.u8(), cursor.piece(), cursor.piece()) {
        let lun = [0, place & 3, 0, 0, 0, 0, 0, 0];
        let wanted = device.data_out_bytes(lun, cdb);
        assert!(wanted <= TRANSFER_BYTES_MAX);
        let announced_bytes = if place & 4 != 0 { wanted } else { data.len() as u64 };
        let data = &data[..data.len().min(wanted as usize)];
        let nexus = Arc::new(nexus(place >> 7));
        let asked = Asked {
            nexus: &nexus,
            lun,
            cdb,
            epoch: device.epoch(lun),
            announced_bytes,
            aborted: &AtomicBool::new(false),
        };
        let reply = device.execute(&asked, Bytes::copy_from_slice(data));
        let len: u64 = reply.data.iter().map(|piece| piece.len() as u64).sum();
        assert!(len <= TRANSFER_BYTES_MAX);
        assert_eq!(reply.status == Status::CheckCondition, !reply.sense.is_empty());
        good += usize::from(reply.status == Status::Good);
    }
    good
}

/// Commands that do something, of every kind, each behind those before it: all of them end well.
fn cdb_seeds() -> Vec<Vec<u8>> {
    // What every block of the disk holds.
    let there: Vec<u8> = (0..1024).map(|at| at as u8).collect();
    let mut register = [0; 24];
    (register[15], register[20]) = (7, 1);
    let mut keyed = [0; 24];
    keyed[7] = 7;
    let unmap = [&[0u8, 22, 0, 16, 0, 0, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0]].concat();
    let mut copy = vec![0; 16];
    (copy[0], copy[3], copy[11]) = (42, 64, 28);
    for lun in 0..2u8 {
        let naa = Identity::new([lun + 1; 16]).naa_name();
        copy.extend([&[0xe4, 0, 0, 0, 1, 3, 0, 16][..], &naa, &[0; 8]].concat());
    }
    copy.extend([2, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1]);
    let commands: [(&[u8], &[u8]); 16] = [
        (&[0x12, 1, 0x83, 0, 255, 0], &[]),
        (&[0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0], &[3; 512]),
        (&[0x28, 0, 0, 0, 0, 5, 0, 0, 8, 0], &[]),
        (&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &there),
        (&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0], &[3; 512]),
        (&[0x2e, 2, 0, 0, 0, 5, 0, 0, 1, 0], &there[..512]),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap),
        (&[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0], &[0; 512]),
        (&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]),
        (&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &register),
        (&[0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0], &keyed),
        (&[0x5e, 3, 0, 0, 0, 0, 0, 0, 255, 0], &[]),
        (&[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 108, 0, 0], &copy),
        (&[0x84, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &[]),
        (&[0x1a, 8, 0x3f, 0xff, 255, 0], &[]),
        (&[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 255, 255, 0, 0], &[]),
    ];
    let one = |(cdb, data): &(&[u8], &[u8])| [vec![0], counted(cdb), counted(data)].concat();
    // Behind the question whether the unit is ready, which hears that it is new.
    let ready = [vec![0], counted(&[0; 6]), counted(&[])].concat();
    let up_to = |end: usize| [ready.clone(), commands[..end].iter().flat_map(one).collect()].concat();
    (1..=commands.len()).map(up_to).collect()
}

/// A session after its login: any PDUs, tasks that are run or not, time that passes. Its memory is bounded while it lives and
/// all given back when it is gone.
pub fn session(input: &[u8]) -> usize {
    let (memory, registry) = (Arc::new(Memory::new(MEMORY_BYTES)), Arc::<Registry>::default());
    let mut now = Instant::now();
    let context = context(world(Vec::new()), registry.clone());
    let mut session = Session::new(context, Deadlines::default(), memory.clone(), now);
    let mut assembler = Assembler::new(Plain, SEGMENT_BYTES_MAX);
    let mut told = BTreeMap::new();
    let mut said: Vec<Bytes> = Vec::new();
    let mut stream = login_pdu();
    let mut cursor = Cursor(input);
    loop {
        feed(&mut assembler, &stream, usize::MAX, |pdu, assembler| {
            session.receive(pdu, now);
            let (digests, data_bytes_max) = session.framing();
            assembler.set(digests, data_bytes_max);
            !session.is_closing()
        });
        session.take_output(&mut said);
        said.clear();
        // Slots that a session has in any case, and one write of its address, may go beyond the bound.
        assert!(memory.used() <= MEMORY_BYTES + (8 << 20));
        if session.is_closing() {
            break;
        }
        let (Some(action), Some(piece)) = (cursor.u8(), cursor.piece()) else { break };
        match action % 4 {
            0 => {
                while let Some(task) = session.next_task(|_| true) {
                    task.ids().into_iter().for_each(|id| *told.entry(id).or_insert(0) += 1);
                    let mut done = [task.run()];
                    Done::settle(&mut done);
                    done.into_iter().for_each(|done| session.complete(done));
                }
            }
            1 => {
                now += Duration::from_secs(action.into());
                session.tick(now);
            }
            _ => {}
        }
        stream = piece.to_vec();
    }
    assert!(told.values().all(|times| *times == 1), "no task is handed out twice");
    drop(session);
    assert_eq!((memory.used(), registry.count()), (0, 0), "everything is given back");
    told.len()
}

/// A login without digests whose first command has the number 1.
fn login_pdu() -> Vec<u8> {
    let keys = KEYS.replace("CRC32C,None", "None");
    let who = format!("InitiatorName={HOST}\0SessionType=Normal\0TargetName={NAME}\0{keys}");
    let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87).with_bytes(8, &[0x40, 0, 0, 0, 0, 1]).with_word(24, 1);
    encoded(Frame::with_data(bhs, who.into()), Digests::default())
}

fn session_seeds() -> Vec<Vec<u8>> {
    let pdu = |opcode: u8, flags: u8, number: u32, words: &[(usize, u32)], cdb: &[u8], data: &[u8]| {
        let bhs = Bhs::new(opcode, flags).with_word(16, number).with_word(24, number).with_bytes(32, cdb);
        let bhs = words.iter().fold(bhs, |bhs, (at, word)| bhs.with_word(*at, *word));
        encoded(Frame::with_data(bhs, Bytes::copy_from_slice(data)), Digests::default())
    };
    let piece = |action: u8, pdus: &[Vec<u8>]| [vec![action], counted(&pdus.concat())].concat();
    let ready = pdu(opcode::COMMAND, 0x81, 1, &[], &[0; 6], &[]);
    let write_10 = [0x2a, 0, 0, 0, 0, 0, 0, 0, 64, 0];
    let write = pdu(opcode::COMMAND, 0xa1, 2, &[(20, 32_768)], &write_10, &[1; 4096]);
    let data = pdu(opcode::DATA_OUT, 0x80, 2, &[(20, 2), (24, 0), (40, 4096)], &[], &[2; 28_672]);
    let unasked = pdu(opcode::COMMAND, 0x21, 3, &[(20, 32_768)], &write_10, &[]);
    let comes = pdu(opcode::DATA_OUT, 0x80, 3, &[(20, u32::MAX), (24, 0)], &[], &[2; 32_768]);
    let read = pdu(opcode::COMMAND, 0xc1, 2, &[(20, 4096)], &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[]);
    let abort = pdu(opcode::TASK_REQUEST | 0x40, 0x81, 4, &[(20, 2), (32, 2)], &[], &[]);
    let reset = pdu(opcode::TASK_REQUEST | 0x40, 0x85, 5, &[], &[], &[]);
    let ping = pdu(opcode::NOP_OUT | 0x40, 0x80, 9, &[(20, u32::MAX)], &[], b"ping");
    let targets = pdu(opcode::TEXT_REQUEST, 0x80, 2, &[(20, u32::MAX)], &[], b"SendTargets=All\0");
    let logout = pdu(opcode::LOGOUT_REQUEST | 0x40, 0x80, 6, &[], &[], &[]);
    vec![
        [piece(2, std::slice::from_ref(&ready)), piece(0, &[write.clone(), data.clone()]), piece(0, &[])].concat(),
        [piece(2, std::slice::from_ref(&ready)), piece(0, &[unasked, comes]), piece(0, &[ping])].concat(),
        [piece(2, std::slice::from_ref(&ready)), piece(0, &[write, abort]), piece(0, &[data, reset]), piece(0, &[])]
            .concat(),
        [piece(2, &[ready, read]), piece(0, &[targets]), piece(61, &[]), piece(0, &[logout])].concat(),
    ]
}
