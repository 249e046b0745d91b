//! SCSI commands and their data: immediate, unsolicited, and asked for with R2Ts (RFC 7143 sections 11.3, 11.7 and 11.8).
//!
//! Only what the command itself wants is asked for: an initiator that announces more than its command moves is told of the
//! rest as a residual. Each R2T is one sequence whose pieces come in order; several R2Ts of one command may be out at once.

use bytes::Bytes;

use super::Output;
use super::full::Full;
use crate::ingest::iscsi::scsi::{Data, Reply, Sense, Status, TRANSFER_BYTES_MAX};
use crate::ingest::iscsi::wire::{self, Bhs, NO_TAG, Pdu, RejectReason, opcode};

/// Most immediate commands under way: they need no slot.
const IMMEDIATE_MAX: usize = 16;
/// Data-Out that is shorter is put together with what comes behind it: slices of few bytes would cost many times what they hold.
const GATHERED_BYTES: usize = 4 << 10;

/// Data that is on its way in answer to one R2T, or unasked.
struct Sequence {
    transfer_tag: u32,
    next_offset: u32,
    end: u32,
    next_number: u32,
    /// Short pieces that came last, up to `next_offset`.
    gathered: Vec<u8>,
}

impl Sequence {
    /// One that begins at an offset and may go to another.
    fn new(transfer_tag: u32, next_offset: u32, end: u32) -> Self {
        Sequence { transfer_tag, next_offset, end, next_number: 0, gathered: Vec::new() }
    }

    /// What was put together, with its offset.
    fn take_gathered(&mut self) -> Option<(u32, Bytes)> {
        let gathered = Bytes::from(std::mem::take(&mut self.gathered));
        (!gathered.is_empty()).then(|| (self.next_offset - gathered.len() as u32, gathered))
    }
}

/// Where a command stands.
enum Stage {
    /// Data is missing.
    Collecting,
    /// Everything is here.
    Ready,
    /// A worker has it.
    InHand,
}

/// A command that is not over.
pub(super) struct Command {
    pub id: u64,
    pub request: wire::Command,
    /// What the logical unit is to compare at the start; `None` where it is to be asked for when the command is handed out.
    pub epoch: Option<u64>,
    /// It came through the window, and has a slot.
    pub slot: bool,
    /// Bytes that were asked for, which are accounted beside the slot.
    pub held_bytes: usize,
    /// It may take what it needs beyond the bound.
    pub borrows: bool,
    /// How many bytes the command wants by itself.
    wanted: u64,
    /// How many of them the initiator has.
    needed: u32,
    /// Up to where data was asked for or came unasked.
    asked: u32,
    sequences: Vec<Sequence>,
    pieces: Vec<(u32, Bytes)>,
    received: u32,
    r2ts: u32,
    stage: Stage,
}

impl Command {
    /// It goes before all that wait, ordered ones too (SAM-5 section 8.6.4).
    pub fn is_head(&self) -> bool {
        self.request.attribute == 3
    }

    /// It may be carried out in any order.
    pub fn is_simple(&self) -> bool {
        self.request.attribute <= 1
    }

    pub fn is_ordered(&self) -> bool {
        self.request.attribute == 2
    }

    /// What the initiator said that it has.
    pub fn announced_bytes(&self) -> u64 {
        if self.request.writes { self.request.expected_bytes.into() } else { 0 }
    }

    /// Most bytes that are read for it, whatever is sent of them in the end.
    pub fn reply_bytes(&self) -> usize {
        let most = TRANSFER_BYTES_MAX as usize;
        if self.request.reads { most.min(self.request.expected_bytes as usize) } else { 0 }
    }

    pub fn is_in_hand(&self) -> bool {
        matches!(self.stage, Stage::InHand)
    }

    /// The data in its order.
    pub fn take_data(&mut self) -> Data {
        self.stage = Stage::InHand;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by_key(|(offset, _)| *offset);
        let data = Data::new(pieces.into_iter().map(|(_, piece)| piece).collect());
        Data::new(data.first(self.needed as usize))
    }

    /// Takes a piece of data; `false` where it may not be.
    fn take(&mut self, pdu: &Pdu) -> bool {
        let (transfer_tag, number, offset) = (pdu.bhs.word(20), pdu.bhs.word(36), pdu.bhs.word(40));
        let Some(at) = self.sequences.iter().position(|sequence| sequence.transfer_tag == transfer_tag) else {
            return false;
        };
        let Some(sequence) = self.sequences.get_mut(at) else { return false };
        let len = pdu.data.len() as u32;
        let end = sequence.next_offset.checked_add(len).filter(|end| *end <= sequence.end);
        let Some(end) = end.filter(|_| offset == sequence.next_offset && number == sequence.next_number) else {
            return false;
        };
        if pdu.data.len() >= GATHERED_BYTES {
            self.pieces.extend(sequence.take_gathered());
            self.pieces.push((offset, pdu.data.clone()));
        } else {
            sequence.gathered.extend_from_slice(&pdu.data);
        }
        (sequence.next_offset, sequence.next_number) = (end, sequence.next_number.wrapping_add(1));
        self.received += len;
        if pdu.bhs.is_final() {
            self.pieces.extend(sequence.take_gathered());
            let unasked = transfer_tag == NO_TAG;
            let whole = sequence.next_offset == sequence.end;
            if unasked {
                self.asked = self.asked.min(sequence.next_offset);
            }
            self.sequences.remove(at);
            // What was asked for has to come; how much comes unasked is the initiator's choice.
            return unasked || whole;
        }
        sequence.next_offset < sequence.end || transfer_tag == NO_TAG
    }

    /// True where data was asked for, or is to follow unasked.
    pub fn waits_for_data(&self) -> bool {
        !self.sequences.is_empty()
    }

    fn is_whole(&self) -> bool {
        self.sequences.is_empty() && self.asked >= self.needed
    }
}

impl Full {
    /// Takes a command. True where it holds its slot from here on.
    pub(super) fn command(&mut self, pdu: &Pdu, slot: bool, out: &mut Output) -> bool {
        let Some(request) = wire::Command::decode(pdu) else {
            self.reject(RejectReason::InvalidField, &pdu.bhs, out);
            return false;
        };
        let tag = request.tag;
        if tag == NO_TAG || self.commands.contains_key(&tag) {
            self.reject(RejectReason::InvalidField, &pdu.bhs, out);
            return false;
        }
        let Some(device) = self.normal.as_ref().map(|normal| normal.target.device.clone()) else { return false };
        let wanted = device.data_out_bytes(request.lun, &request.cdb);
        let has = if request.writes { request.expected_bytes } else { 0 };
        let needed = u32::try_from(wanted).unwrap_or(u32::MAX).min(has);
        let held_bytes = if slot { 0 } else { self.unasked_bytes(&request, pdu) };
        if !slot && (self.immediate >= IMMEDIATE_MAX || !self.memory.reserve(held_bytes)) {
            self.reject(RejectReason::TooManyImmediate, &pdu.bhs, out);
            return false;
        }
        let epoch = if self.managed == 0 { Some(device.epoch(request.lun)) } else { None };
        let id = self.new_id();
        let mut command = Command {
            id,
            epoch,
            slot,
            held_bytes,
            borrows: false,
            wanted,
            needed,
            asked: 0,
            sequences: Vec::new(),
            pieces: Vec::new(),
            received: 0,
            r2ts: 0,
            stage: Stage::Ready,
            request,
        };
        let failure = self.begin_data(&mut command, pdu);
        if !slot {
            self.immediate += 1;
        }
        if let Some(sense) = failure {
            self.fail(command, &sense, out);
            return true;
        }
        if command.is_ordered() {
            self.ordered.insert(id);
        }
        if command.is_whole() {
            if command.is_head() { self.ready.push_front(tag) } else { self.ready.push_back(tag) }
        } else {
            command.stage = Stage::Collecting;
            self.collecting.push_back(tag);
        }
        self.commands.insert(tag, command);
        true
    }

    /// How much data comes with a command, and may follow unasked.
    fn unasked_bytes(&self, request: &wire::Command, pdu: &Pdu) -> usize {
        let follows = if request.is_final { 0 } else { self.params.first_burst_bytes.min(request.expected_bytes) };
        pdu.data.len().max(follows as usize)
    }

    /// Takes the data that came with a command, and makes ready for what follows unasked.
    fn begin_data(&self, command: &mut Command, pdu: &Pdu) -> Option<Sense> {
        let (len, params) = (pdu.data.len() as u32, &self.params);
        let has = if command.request.writes { command.request.expected_bytes } else { 0 };
        let unasked_max = params.first_burst_bytes.min(has);
        let unexpected = len > 0 && (!params.immediate_data || len > unasked_max);
        let follows = !command.request.is_final;
        if unexpected || (follows && (params.initial_r2t || !command.request.writes)) {
            return Some(Sense::UNEXPECTED_DATA);
        }
        if command.request.reads && command.request.writes {
            return Some(Sense::INVALID_FIELD); // No command here moves data both ways.
        }
        if len > 0 {
            command.pieces.push((0, pdu.data.clone()));
        }
        (command.received, command.asked) = (len, len);
        if follows {
            command.asked = unasked_max;
            command.sequences.push(Sequence::new(NO_TAG, len, unasked_max));
        }
        None
    }

    /// Takes Data-Out. For commands that are over it is dropped: it was sent before the initiator knew.
    pub(super) fn data_out(&mut self, pdu: Pdu, out: &mut Output) {
        let tag = pdu.bhs.task_tag();
        let Some(command) = self.commands.get_mut(&tag).filter(|command| matches!(command.stage, Stage::Collecting))
        else {
            return;
        };
        self.moved += 1;
        if !command.take(&pdu) {
            // At error recovery level 0 nothing is asked for again: the command fails (section 7.2).
            self.collecting.retain(|other| *other != tag);
            if let Some(command) = self.commands.remove(&tag) {
                self.ordered.remove(&command.id);
                self.fail(command, &Sense::DATA_PHASE, out);
            }
            return;
        }
        if command.is_whole() {
            command.stage = Stage::Ready;
            self.collecting.retain(|other| *other != tag);
            self.ready.push_back(tag);
        }
    }

    /// Asks for the data of commands, as far as there is memory. The oldest of a session may borrow.
    pub(super) fn ask_for_data(&mut self, out: &mut Output) {
        let (burst_bytes, r2t_max) = (self.params.burst_bytes, self.params.r2t_max as usize);
        for place in 0..self.collecting.len() {
            let Some(tag) = self.collecting.get(place).copied() else { return };
            loop {
                let transfer_tag = self.transfer_tag();
                let Some(command) = self.commands.get_mut(&tag) else { break };
                let unasked = command.sequences.iter().any(|sequence| sequence.transfer_tag == NO_TAG);
                if unasked || command.asked >= command.needed || command.sequences.len() >= r2t_max {
                    break;
                }
                let len = (command.needed - command.asked).min(burst_bytes);
                if !self.memory.reserve(len as usize) {
                    command.borrows |= place == 0 && self.memory.borrow();
                    if !command.borrows || !command.sequences.is_empty() {
                        return;
                    }
                    self.memory.take(len as usize);
                }
                command.held_bytes += len as usize;
                let (offset, number) = (command.asked, command.r2ts);
                command.asked += len;
                command.r2ts += 1;
                command.sequences.push(Sequence::new(transfer_tag, offset, offset + len));
                let bhs = Bhs::new(opcode::R2T, 0x80)
                    .with_bytes(8, &command.request.lun)
                    .with_word(16, tag)
                    .with_word(20, transfer_tag)
                    .with_word(36, number)
                    .with_word(40, offset)
                    .with_word(44, len);
                self.send(bhs, Vec::new(), false, out);
            }
        }
    }

    /// Ends a command that was not handed out, with an answer.
    fn fail(&mut self, command: Command, sense: &Sense, out: &mut Output) {
        let device = self.normal.as_ref().map(|normal| normal.target.device.clone());
        let unit = device.and_then(|device| device.unit(command.request.lun));
        let reply = match unit {
            Some(unit) => unit.refusal(sense),
            None => Reply { status: Status::CheckCondition, sense: sense.encode(false), ..Reply::default() },
        };
        self.answer(&command, reply, out);
        self.let_go(&command);
    }

    /// Gives memory back.
    pub(super) fn give_back(&self, held_bytes: usize, borrows: bool) {
        self.memory.release(held_bytes);
        if borrows {
            self.memory.pay_back();
        }
    }

    /// Gives back what a command holds that was not handed out.
    pub(super) fn let_go(&mut self, command: &Command) {
        self.give_back(command.held_bytes, command.borrows);
        self.ordered.remove(&command.id);
        if command.slot {
            self.window.free();
        } else {
            self.immediate -= 1;
        }
    }

    /// Answers a command: data, residuals, status, sense data.
    pub(super) fn answer(&mut self, command: &Command, reply: Reply, out: &mut Output) {
        let request = &command.request;
        let wanted = if request.reads || !request.writes {
            reply.data.iter().map(|piece| piece.len() as u64).sum()
        } else {
            command.wanted
        };
        self.reply(request, wanted, command.r2ts, reply, out);
    }
}
