//! The full-feature phase: dispatch, the command window, sequence numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::commands::Command;
use super::manage::Pending;
use super::replies::Cursor;
use super::task::{Done, Task, Weight, Work, Write};
use super::window::Window;
use super::{Output, Share};
use crate::ingest::iscsi::login::{Context, Established};
use crate::ingest::iscsi::params::Params;
use crate::ingest::iscsi::registry::Seat;
use crate::ingest::iscsi::scsi::{self, Nexus, Reply};
use crate::ingest::iscsi::target::Target;
use crate::ingest::iscsi::wire::{Bhs, Frame, NO_TAG, Pdu, RejectReason, opcode};

/// What a session of the normal kind has.
pub(super) struct Normal {
    pub target: Arc<Target>,
    pub seat: Seat,
    pub nexus: Arc<Nexus>,
}

/// A task in a worker's hands.
pub(super) struct InHand {
    /// The command it came from; `None` for task management, which `pending` knows.
    pub tag: Option<u32>,
    /// The logical unit that it is for.
    pub lun: [u8; 8],
    /// Its answer is not sent, and it is to end as soon as it can.
    pub aborted: Arc<AtomicBool>,
    /// How many bytes it holds beside its slot.
    pub held_bytes: usize,
    /// It borrowed memory.
    pub borrows: bool,
    /// It has a slot of the window.
    pub slot: bool,
    pub ordered: bool,
}

/// A session that stands.
pub(super) struct Full {
    pub normal: Option<Normal>,
    pub params: Params,
    pub memory: Share,
    pub cid: u16,
    pub window: Window,
    stat_sn: u32,
    /// Requests whose turn has not come; `None` where one was aborted before it came.
    early: BTreeMap<u32, Option<Pdu>>,
    /// Commands by their tags: those that wait for data, and those that are ready.
    pub commands: BTreeMap<u32, Command>,
    /// Tags of those that wait for data, in the order in which they came.
    pub collecting: VecDeque<u32>,
    /// Tags of those that are ready.
    pub ready: VecDeque<u32>,
    pub in_hand: BTreeMap<u64, InHand>,
    /// Numbers of ordered tasks that are not over.
    pub ordered: BTreeSet<u64>,
    /// Task management and logouts that wait for tasks.
    pub pending: Vec<Pending>,
    /// Task management for workers.
    pub managing: VecDeque<(u64, Work)>,
    /// Task management that workers have not brought back: commands wait for it.
    pub managed: usize,
    pub next_id: u64,
    pub next_transfer_tag: u32,
    pub immediate: usize,
    pub text: super::discovery::Texts,
    pub logged_out: bool,
    /// Counts Data-Out.
    pub moved: u64,
    /// Since when data was asked for and none came, and the count then.
    starving: Option<(Instant, u64)>,
    over: bool,
    pub evicted: Vec<u64>,
}

impl Full {
    pub fn new(established: Established, memory: Share) -> Self {
        let Established { normal, params, cid, cmd_sn, stat_sn } = established;
        let unasked = if !params.initial_r2t || params.immediate_data { params.first_burst_bytes } else { 0 };
        let normal = normal.map(|(target, seat, nexus)| {
            seat.if_current(|| target.device.nexus_begins(&nexus, seat.superseded.is_some()));
            Normal { target, seat, nexus: Arc::new(nexus) }
        });
        let unasked = if normal.is_some() { unasked } else { 0 };
        Full {
            window: Window::new(memory.clone(), cmd_sn, unasked),
            normal,
            params,
            memory,
            cid,
            stat_sn,
            early: BTreeMap::new(),
            commands: BTreeMap::new(),
            collecting: VecDeque::new(),
            ready: VecDeque::new(),
            in_hand: BTreeMap::new(),
            ordered: BTreeSet::new(),
            pending: Vec::new(),
            managing: VecDeque::new(),
            managed: 0,
            next_id: 0,
            next_transfer_tag: 0,
            immediate: 0,
            text: super::discovery::Texts::default(),
            logged_out: false,
            moved: 0,
            starving: None,
            over: false,
            evicted: Vec::new(),
        }
    }

    /// The connection of the session whose place this one took, where it still had one.
    pub fn superseded(&self) -> Option<u64> {
        self.normal.as_ref().and_then(|normal| normal.seat.superseded.as_ref()).and_then(|old| old.connection)
    }

    pub fn max_cmd_sn(&self) -> u32 {
        self.window.last
    }

    /// True where the connection is to end.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// True where tasks are in workers' hands or wait for them.
    pub fn is_busy(&self) -> bool {
        !self.in_hand.is_empty() || !self.ready.is_empty()
    }

    pub fn end(&mut self) {
        self.over = true;
    }

    /// Takes a PDU.
    pub fn receive(&mut self, context: &Context, pdu: Pdu, out: &mut Output) {
        if self.logged_out {
            return;
        }
        match pdu.bhs.opcode() {
            // These have no place in the order of commands.
            opcode::DATA_OUT => self.data_out(pdu, out),
            opcode::SNACK => self.reject(RejectReason::SnackUnsupported, &pdu.bhs, out),
            opcode::NOP_OUT
            | opcode::COMMAND
            | opcode::TASK_REQUEST
            | opcode::TEXT_REQUEST
            | opcode::LOGOUT_REQUEST => self.in_order(context, pdu, out),
            // A second login on a connection (RFC 7143 section 6.3) ends it.
            opcode::LOGIN_REQUEST => self.end(),
            _ => self.reject(RejectReason::CommandNotSupported, &pdu.bhs, out),
        }
        self.pump(out);
    }

    /// Takes requests in the order of their numbers; those outside the window are not taken at all (section 4.2.2.1).
    fn in_order(&mut self, context: &Context, pdu: Pdu, out: &mut Output) {
        if pdu.bhs.is_immediate() {
            self.request(context, pdu, false, out);
            self.take_early(context, out);
            return;
        }
        let number = pdu.bhs.word(24);
        if !self.window.contains(number) {
            return;
        }
        // Held back at most as many as the window has slots, each with its memory. More than a slot holds may not come unasked,
        // and what is sent in order on one connection is never early.
        if number != self.window.expected && pdu.data.len() > self.window.unasked_bytes() {
            self.reject(RejectReason::ProtocolError, &pdu.bhs, out);
            return;
        }
        self.early.entry(number).or_insert(Some(pdu));
        self.take_early(context, out);
    }

    /// Takes the requests whose turn it is.
    fn take_early(&mut self, context: &Context, out: &mut Output) {
        while let Some(pdu) = self.early.remove(&self.window.expected) {
            self.window.expected = self.window.expected.wrapping_add(1);
            match pdu {
                Some(pdu) => self.request(context, pdu, true, out),
                None => self.window.free(),
            }
        }
    }

    /// Counts a number as received whose request is aborted before its turn (RFC 7143 section 11.5.1). False where the number
    /// is that of a request with another tag, which nobody aborts.
    pub fn skip(&mut self, number: u32, tag: u32) -> bool {
        let is_anothers = self.early.get(&number).and_then(Option::as_ref).is_some_and(|pdu| pdu.bhs.task_tag() != tag);
        if !is_anothers {
            self.early.insert(number, None);
        }
        !is_anothers
    }

    /// Takes a request whose turn it is. `slot`: it came through the window.
    fn request(&mut self, context: &Context, pdu: Pdu, slot: bool, out: &mut Output) {
        if self.logged_out {
            return;
        }
        let holds = match pdu.bhs.opcode() {
            opcode::COMMAND if self.normal.is_none() => {
                self.reject(RejectReason::ProtocolError, &pdu.bhs, out);
                false
            }
            opcode::COMMAND => self.command(&pdu, slot, out),
            opcode::TASK_REQUEST => {
                self.task_request(&pdu, out);
                false
            }
            opcode::TEXT_REQUEST => {
                self.text_request(context, &pdu, out);
                false
            }
            opcode::LOGOUT_REQUEST => {
                self.logout(&pdu, out);
                false
            }
            _ => {
                self.nop_out(&pdu, out);
                false
            }
        };
        if slot && !holds {
            self.window.free();
        }
    }

    /// Moves everything on that memory or an ended task may have let go.
    pub fn pump(&mut self, out: &mut Output) {
        self.window.open();
        self.ask_for_data(out);
    }

    /// Ends the session where data was asked for and none came for `patience`: it holds memory that others wait for. Refuses
    /// aborts that storage holds up.
    pub fn tick(&mut self, now: Instant, patience: Duration, out: &mut Output) {
        self.tick_pending(now, out);
        let waits = self.collecting.iter().any(|tag| self.commands.get(tag).is_some_and(Command::waits_for_data));
        self.starving = match self.starving {
            _ if !waits => None,
            Some((since, moved)) if moved == self.moved => {
                self.over |= now.saturating_duration_since(since) > patience;
                Some((since, moved))
            }
            _ => Some((now, self.moved)),
        };
    }

    /// True where [`Full::next_task`] would give one.
    pub fn has_task(&self, mut admits: impl FnMut(Weight) -> bool) -> bool {
        (!self.managing.is_empty() && admits(Weight::Management)) || self.next_at(admits).is_some()
    }

    /// Where in `ready` the next command is that is admitted: the first, or else the first brief one.
    fn next_at(&self, mut admits: impl FnMut(Weight) -> bool) -> Option<usize> {
        let first = self.runnable(|_| true)?;
        let is_brief = |tag: &u32| self.is_brief(tag);
        let admitted = self.ready.get(first).is_some_and(is_brief) || admits(Weight::Command);
        if admitted { Some(first) } else { self.runnable(is_brief) }
    }

    /// Where in `ready` the next command of some kind is that may run.
    fn runnable(&self, is_meant: impl Fn(&u32) -> bool) -> Option<usize> {
        if self.managed > 0 {
            return None;
        }
        if self.ordered.is_empty() {
            return self.ready.iter().position(is_meant);
        }
        let oldest = self.commands.values().map(|command| command.id).chain(self.in_hand.keys().copied()).min();
        self.ready.iter().position(|tag| {
            self.commands.get(tag).filter(|_| is_meant(tag)).is_some_and(|command| {
                let kept_back = || self.ordered.range(..command.id).next().is_some();
                command.is_head() || if command.is_ordered() { Some(command.id) == oldest } else { !kept_back() }
            })
        })
    }

    /// True where a command waits for nothing, neither for itself nor for what its session's predecessors left behind.
    fn is_brief(&self, tag: &u32) -> bool {
        let before = self.normal.as_ref().and_then(|normal| normal.seat.superseded.as_ref());
        self.commands.get(tag).is_some_and(|command| scsi::is_brief(&command.request.cdb))
            && before.is_none_or(|old| old.running.are_over())
    }

    /// Hands the next task out that is admitted.
    pub fn next_task(&mut self, mut admits: impl FnMut(Weight) -> bool) -> Option<Task> {
        if !self.managing.is_empty()
            && admits(Weight::Management)
            && let Some((id, work)) = self.managing.pop_front()
        {
            return self.task(id, work, 0);
        }
        let at = self.next_at(admits)?;
        let tags = self.run_at(at);
        self.ready.drain(at..at + tags.len());
        let first = self.commands.get(tags.first()?)?;
        let (id, lun, epoch) = (first.id, first.request.lun, first.epoch);
        let taken: Vec<(Write, usize)> = tags.into_iter().filter_map(|tag| self.take_in_hand(tag)).collect();
        let (mut writes, reply_bytes): (Vec<Write>, Vec<usize>) = taken.into_iter().unzip();
        let reply_bytes = reply_bytes.into_iter().sum();
        let epoch = epoch.unwrap_or_else(|| self.normal.as_ref().map_or(0, |normal| normal.target.device.epoch(lun)));
        if writes.len() > 1 {
            return self.task(id, Work::Run { lun, epoch, writes }, reply_bytes);
        }
        let Write { cdb, data, announced_bytes, aborted, .. } = writes.pop()?;
        self.task(id, Work::Command { lun, cdb, data, announced_bytes, epoch, aborted }, reply_bytes)
    }

    /// The command at this place of those that are ready, and the writes behind it that go on where it ends.
    fn run_at(&self, at: usize) -> Vec<u32> {
        let mut tags: Vec<u32> = self.ready.get(at).copied().into_iter().collect();
        let Some(normal) = self.normal.as_ref().filter(|_| self.ordered.is_empty()) else { return tags };
        let command = |tag: &u32| self.commands.get(tag).filter(|command| command.is_simple());
        while let Some(last) = tags.last().and_then(command)
            && let Some(tag) = self.ready.get(at + tags.len())
            && let Some(next) = command(tag)
            && (last.request.lun, last.epoch) == (next.request.lun, next.epoch)
            && normal.target.device.goes_on(last.request.lun, &last.request.cdb, &next.request.cdb)
        {
            tags.push(*tag);
        }
        tags
    }

    /// Puts a command into a worker's hands: its number, itself and its data, and how many bytes may come of it.
    fn take_in_hand(&mut self, tag: u32) -> Option<(Write, usize)> {
        let command = self.commands.get_mut(&tag)?;
        let (id, cdb, reply_bytes) = (command.id, command.request.cdb.clone(), command.reply_bytes());
        let (data, announced_bytes) = (command.take_data(), command.announced_bytes());
        let aborted = Arc::<AtomicBool>::default();
        let in_hand = InHand {
            tag: Some(tag),
            lun: command.request.lun,
            aborted: aborted.clone(),
            held_bytes: command.held_bytes,
            borrows: command.borrows,
            slot: command.slot,
            ordered: command.is_ordered(),
        };
        self.in_hand.insert(id, in_hand);
        Some((Write { id, cdb, data, announced_bytes, aborted }, reply_bytes))
    }

    fn task(&self, id: u64, work: Work, reply_bytes: usize) -> Option<Task> {
        let normal = self.normal.as_ref()?;
        Some(Task {
            id,
            reply_bytes,
            device: normal.target.device.clone(),
            nexus: normal.nexus.clone(),
            work,
            after: normal.seat.superseded.as_ref().map(|old| old.running.clone()).filter(|former| !former.are_over()),
            run: normal.seat.running.begin()?,
        })
    }

    /// Takes back what came of a task.
    pub fn complete(&mut self, done: Done, out: &mut Output) {
        for (id, reply) in done.replies {
            self.complete_one(id, reply, out);
        }
        self.pump(out);
    }

    fn complete_one(&mut self, id: u64, reply: Reply, out: &mut Output) {
        let Some(in_hand) = self.in_hand.remove(&id) else { return };
        match in_hand.tag {
            None => self.managed_done(id, reply.status),
            Some(tag) => {
                self.give_back(in_hand.held_bytes, in_hand.borrows);
                if in_hand.slot {
                    self.window.free();
                } else {
                    self.immediate -= 1;
                }
                if in_hand.ordered {
                    self.ordered.remove(&id);
                }
                if !in_hand.aborted.load(SeqCst)
                    && let Some(command) = self.commands.remove(&tag)
                {
                    self.answer(&command, reply, out);
                }
            }
        }
        self.settle_pending(id, out);
    }

    /// Sends a PDU that carries the numbers of the window. `advance`: it is one that the initiator acknowledges.
    pub fn send(&mut self, bhs: Bhs, data: Vec<Bytes>, advance: bool, out: &mut Output) {
        let bhs = bhs.with_word(24, self.stat_sn).with_word(28, self.window.expected).with_word(32, self.window.last);
        if advance {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        out.push(Frame { bhs, data });
    }

    /// Sends Data-In, which has no number of its own unless it carries the status.
    pub fn send_data(&mut self, bhs: Bhs, data: Vec<Bytes>, status: bool, out: &mut Output) {
        if status {
            self.send(bhs, data, true, out);
        } else {
            let bhs = bhs.with_word(28, self.window.expected).with_word(32, self.window.last);
            out.push(Frame { bhs, data });
        }
    }

    /// Rejects a PDU, whose header goes back with the reason (section 11.17).
    pub fn reject(&mut self, reason: RejectReason, rejected: &Bhs, out: &mut Output) {
        let bhs = Bhs::new(opcode::REJECT, 0x80).with_byte(2, reason as u8).with_word(16, NO_TAG);
        self.send(bhs, vec![Bytes::copy_from_slice(&rejected.0)], true, out);
    }

    /// NOP-Out: a ping is sent back, an answer to ours needs nothing more.
    fn nop_out(&mut self, pdu: &Pdu, out: &mut Output) {
        if pdu.bhs.task_tag() == NO_TAG {
            return;
        }
        let bhs = Bhs::new(opcode::NOP_IN, 0x80)
            .with_bytes(8, &pdu.bhs.lun())
            .with_word(16, pdu.bhs.task_tag())
            .with_word(20, NO_TAG);
        let echo = Cursor::new(vec![pdu.data.clone()]).take(self.params.send_bytes as usize);
        self.send(bhs, echo, true, out);
    }

    /// Asks whether the initiator is there.
    pub fn ping(&mut self, out: &mut Output) {
        let tag = self.transfer_tag();
        let bhs = Bhs::new(opcode::NOP_IN, 0x80).with_word(16, NO_TAG).with_word(20, tag);
        self.send(bhs, Vec::new(), false, out);
    }

    /// Asks the initiator to log out.
    pub fn ask_for_logout(&mut self, grace: Duration, out: &mut Output) {
        let seconds = u16::try_from(grace.as_secs()).unwrap_or(u16::MAX).max(1);
        let bhs =
            Bhs::new(opcode::ASYNC, 0x80).with_word(16, NO_TAG).with_byte(36, 1).with_bytes(42, &seconds.to_be_bytes());
        self.send(bhs, Vec::new(), true, out);
    }

    /// A tag that names a transfer, never the one that names none.
    pub fn transfer_tag(&mut self) -> u32 {
        self.next_transfer_tag = self.next_transfer_tag.wrapping_add(1);
        if self.next_transfer_tag == NO_TAG {
            self.next_transfer_tag = 1;
        }
        self.next_transfer_tag
    }

    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let commands = self.commands.values().filter(|command| !command.is_in_hand());
        commands.for_each(|command| self.give_back(command.held_bytes, command.borrows));
        for task in self.in_hand.values() {
            self.give_back(task.held_bytes, task.borrows);
            task.aborted.store(true, SeqCst);
        }
        // After that: whatever is past the unit's bars has heard of its end.
        if let Some(normal) = &self.normal {
            normal.seat.leave(|| normal.target.device.nexus_ends(&normal.nexus));
        }
    }
}
