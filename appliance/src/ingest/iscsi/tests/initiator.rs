//! An initiator as a value: sends PDUs to a session, cuts what it says into PDUs again, runs its tasks when told to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::harness::{NAME, Served};
use crate::ingest::iscsi::framing::{Assembler, Broken};
use crate::ingest::iscsi::login::Context;
use crate::ingest::iscsi::registry::Registry;
use crate::ingest::iscsi::session::{Deadlines, Memory, Session};
use crate::ingest::iscsi::text;
use crate::ingest::iscsi::wire::{Bhs, Digests, Encoder, Frame, NO_TAG, Pdu, opcode};
use crate::ingest::nfs::record::Buffers;

/// Buffers without a pool.
pub struct Plain;

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

/// What all connections of one box share.
pub struct World {
    pub all: Arc<Served>,
    pub registry: Arc<Registry>,
    pub memory: Arc<Memory>,
    pub now: Instant,
}

impl World {
    pub fn new(all: Arc<Served>) -> Self {
        World { all, registry: Arc::default(), memory: Arc::new(Memory::new(64 << 20)), now: Instant::now() }
    }

    pub fn connect(&self, connection: u64) -> Initiator {
        let context = Context {
            targets: self.all.clone(),
            registry: self.registry.clone(),
            connection,
            peer: "10.0.0.7:1000".parse().unwrap(),
            local: "10.0.0.1:3260".parse().unwrap(),
            random: [9; 17],
        };
        let session = Session::new(context, Deadlines::default(), self.memory.clone(), self.now);
        Initiator {
            session,
            to: Assembler::new(Plain, 8192),
            from: Assembler::new(Plain, 1 << 24),
            digests: Digests::default(),
            now: self.now,
            cmd_sn: 100,
            next_tag: 1,
            isid: [0x40, 0, 0, 0, 0, 1],
            name: "iqn.2025-01.org.example:host",
        }
    }

    /// A session with the target, with the keys of open-iscsi and some others.
    pub fn login(&self, connection: u64, keys: &[(&str, &str)]) -> Initiator {
        let mut initiator = self.connect(connection);
        initiator.login_with(keys);
        initiator
    }
}

pub struct Initiator {
    pub session: Session,
    to: Assembler<Plain>,
    from: Assembler<Plain>,
    pub digests: Digests,
    pub now: Instant,
    pub cmd_sn: u32,
    pub next_tag: u32,
    pub isid: [u8; 6],
    pub name: &'static str,
}

impl Initiator {
    /// Sends a PDU over the wire.
    pub fn send(&mut self, bhs: Bhs, data: &[u8]) {
        let mut out: Vec<Bytes> = Vec::new();
        Encoder::default().encode(Frame::with_data(bhs, Bytes::copy_from_slice(data)), self.digests, &mut out);
        self.send_bytes(&out.concat()).unwrap();
    }

    /// Sends bytes.
    pub fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        loop {
            if self.session.is_closing() {
                return Ok(()); // Nothing is read any more.
            }
            match self.to.next_pdu() {
                Ok(Some(pdu)) => {
                    self.session.receive(pdu, self.now);
                    let (digests, data_bytes_max) = self.session.framing();
                    self.to.set(digests, data_bytes_max);
                }
                Ok(None) if bytes.is_empty() => return Ok(()),
                Ok(None) => {
                    let room = self.to.room();
                    let len = room.len().min(bytes.len());
                    room[..len].copy_from_slice(&bytes[..len]);
                    self.to.filled(len);
                    bytes = &bytes[len..];
                }
                Err(broken) => {
                    self.session.broken(broken);
                    return Err(broken);
                }
            }
        }
    }

    /// Everything that was said since.
    pub fn hear(&mut self) -> Vec<Pdu> {
        let mut said: Vec<Bytes> = Vec::new();
        self.session.take_output(&mut said);
        let said = said.concat();
        let mut rest = &said[..];
        let mut all = Vec::new();
        loop {
            if let Some(pdu) = self.from.next_pdu().unwrap() {
                all.push(pdu);
                continue;
            }
            if rest.is_empty() {
                return all;
            }
            let room = self.from.room();
            let len = room.len().min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            self.from.filled(len);
            rest = &rest[len..];
        }
    }

    /// The one PDU that was said since.
    pub fn hear_one(&mut self) -> Pdu {
        let mut all = self.hear();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Runs every task that is ready.
    pub fn run_tasks(&mut self) -> usize {
        let mut count = 0;
        while let Some(task) = self.session.next_task(|_| true) {
            self.session.complete(task.run());
            count += 1;
        }
        count
    }

    /// A login request of a stage, towards another where `next` says so.
    pub fn login_request(&mut self, stage: u8, next: Option<u8>, keys: &[(&str, &str)]) {
        let flags = stage << 2 | next.map_or(0, |next| 0x80 | next);
        let mut bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags).with_bytes(8, &self.isid);
        bhs = bhs.with_word(16, 77).with_word(24, self.cmd_sn);
        let mut text = text::Writer::default();
        keys.iter().for_each(|(key, value)| text.pair(key, value));
        self.send(bhs, &text.finish());
    }

    /// Status, flags and keys of a login response.
    pub fn login_response(&mut self) -> (u16, u8, Vec<(String, String)>) {
        let pdu = self.hear_one();
        assert_eq!(pdu.bhs.opcode(), opcode::LOGIN_RESPONSE);
        (pdu.bhs.half(36), pdu.bhs.0[1], text::parse(&pdu.data).unwrap())
    }

    fn login_with(&mut self, keys: &[(&str, &str)]) {
        let mut all = vec![("InitiatorName", self.name), ("TargetName", NAME), ("SessionType", "Normal")];
        all.extend([("InitialR2T", "No"), ("MaxRecvDataSegmentLength", "262144"), ("MaxBurstLength", "16776192")]);
        all.retain(|(key, _)| !keys.iter().any(|(own, _)| own == key));
        all.extend(keys);
        self.login_request(1, Some(3), &all);
        let (status, flags, said) = self.login_response();
        assert_eq!((status, flags), (0, 0x87), "{said:?}");
        assert!(said.iter().all(|(_, value)| value != "Reject" && value != "NotUnderstood"), "{said:?}");
        self.now_full();
        // The first command is told that the unit is new to this initiator.
        let bhs = self.command(0x80 | 0x01, 0, &[0; 6]);
        self.send(bhs, b"");
        assert_eq!(self.run_tasks(), 1);
        assert_eq!(self.hear_one().bhs.0[3], 2);
    }

    /// Takes over what was agreed on.
    pub fn now_full(&mut self) {
        let (digests, _) = self.session.framing();
        self.digests = digests;
        self.from.set(digests, 1 << 24);
    }

    /// The header of the next command.
    pub fn command(&mut self, flags: u8, expected_bytes: u32, cdb: &[u8]) -> Bhs {
        let bhs = Bhs::new(opcode::COMMAND, flags).with_word(20, expected_bytes).with_bytes(32, cdb);
        self.numbered(bhs)
    }

    /// Gives a request the next number and a tag of its own.
    pub fn numbered(&mut self, bhs: Bhs) -> Bhs {
        let bhs = bhs.with_word(16, self.next_tag).with_word(24, self.cmd_sn);
        self.next_tag += 1;
        if !bhs.is_immediate() {
            self.cmd_sn += 1;
        }
        bhs
    }

    /// A WRITE (10) of blocks of 512 bytes from block 0 on, with so much data beside it.
    pub fn write(&mut self, data: &[u8], immediate: usize, is_final: bool) -> u32 {
        let blocks = (data.len() / 512) as u16;
        let [high, low] = blocks.to_be_bytes();
        let cdb = [0x2a, 0, 0, 0, 0, 0, 0, high, low, 0];
        let bhs = self.command(0x21 | if is_final { 0x80 } else { 0 }, data.len() as u32, &cdb);
        self.send(bhs, &data[..immediate]);
        bhs.task_tag()
    }

    /// A piece of data.
    pub fn data_out(&mut self, tag: u32, transfer_tag: u32, number: u32, offset: usize, data: &[u8], last: bool) {
        let bhs = Bhs::new(opcode::DATA_OUT, if last { 0x80 } else { 0 })
            .with_word(16, tag)
            .with_word(20, transfer_tag)
            .with_word(36, number)
            .with_word(40, offset as u32);
        self.send(bhs, data);
    }

    /// Answers R2Ts in pieces of at most `piece` until none comes any more. Says what else came.
    pub fn answer_r2ts(&mut self, data: &[u8], piece: usize) -> Vec<Pdu> {
        let mut others = Vec::new();
        loop {
            let (asked, mut other): (Vec<_>, Vec<_>) =
                self.hear().into_iter().partition(|pdu| pdu.bhs.opcode() == opcode::R2T);
            others.append(&mut other);
            if asked.is_empty() {
                return others;
            }
            for r2t in asked {
                let (offset, len) = (r2t.bhs.word(40) as usize, r2t.bhs.word(44) as usize);
                let wanted = &data[offset..offset + len];
                let count = wanted.len().div_ceil(piece);
                for (number, part) in wanted.chunks(piece).enumerate() {
                    let at = offset + number * piece;
                    let last = number + 1 == count;
                    self.data_out(r2t.bhs.task_tag(), r2t.bhs.word(20), number as u32, at, part, last);
                }
            }
        }
    }

    /// A task management request.
    pub fn task_request(&mut self, function: u8, referenced: u32, number: u32) {
        let bhs =
            Bhs::new(opcode::TASK_REQUEST | 0x40, 0x80 | function).with_word(20, referenced).with_word(32, number);
        let bhs = self.numbered(bhs);
        self.send(bhs, b"");
    }

    /// A text request.
    pub fn text(&mut self, text: &[u8], more: bool, transfer_tag: u32) {
        let bhs = Bhs::new(opcode::TEXT_REQUEST, if more { 0x40 } else { 0x80 }).with_word(20, transfer_tag);
        let bhs = self.numbered(bhs);
        self.send(bhs, text);
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.session.tick(self.now);
    }
}

/// Bytes that differ everywhere.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// No task is meant.
pub const NONE: u32 = NO_TAG;
