//! Task management (RFC 7143 section 11.5) and logout (section 11.14).
//!
//! What is aborted before a worker had it is gone at once. What a worker has is aborted too: it ends as soon as it can, is
//! not answered, and whoever asked for the abort is answered after that; where storage holds it for longer than [`DRAIN`],
//! with a refusal. Who asks again waits for it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::Output;
use super::full::{Full, InHand};
use super::task::Work;
use crate::ingest::iscsi::scsi::{DRAIN, Status};
use crate::ingest::iscsi::wire::{Bhs, Pdu, opcode};

/// Task management functions.
mod function {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const UNIT_RESET: u8 = 5;
    pub const WARM_RESET: u8 = 6;
    pub const COLD_RESET: u8 = 7;
    pub const REASSIGN: u8 = 8;
}

/// Answers to them.
mod answer {
    pub const COMPLETE: u8 = 0;
    pub const NO_SUCH_TASK: u8 = 1;
    pub const NO_SUCH_UNIT: u8 = 2;
    pub const NO_REASSIGNMENT: u8 = 4;
    pub const NOT_SUPPORTED: u8 = 5;
    pub const REJECTED: u8 = 255;
    /// That of a logout (section 11.15.1).
    pub const CLEANUP_FAILED: u8 = 3;
}

/// Most functions that wait for tasks at once.
const PENDING_MAX: usize = 16;

/// An answer that waits for tasks.
pub(super) struct Pending {
    waits: BTreeSet<u64>,
    answer: Bhs,
    then: Then,
    /// When it was first seen waiting for commands alone; task management has its own patience.
    since: Option<Instant>,
}

enum Then {
    GoOn,
    /// The session ends.
    End,
    /// Every session with the target ends.
    EndAll,
}

impl Full {
    /// Takes a task management request.
    pub(super) fn task_request(&mut self, pdu: &Pdu, out: &mut Output) {
        let (function, lun) = (pdu.bhs.0[1] & 0x7f, pdu.bhs.lun());
        let device = self.normal.as_ref().map(|normal| normal.target.device.clone());
        let unit = device.and_then(|device| device.unit(lun));
        let of_unit = matches!(
            function,
            function::ABORT_TASK | function::ABORT_TASK_SET | function::CLEAR_TASK_SET | function::UNIT_RESET
        );
        if self.normal.is_none() || self.pending.len() >= PENDING_MAX {
            self.task_response(pdu, answer::REJECTED, out);
        } else if of_unit && unit.is_none() {
            self.task_response(pdu, answer::NO_SUCH_UNIT, out);
        } else {
            match function {
                function::ABORT_TASK => self.abort_task(pdu, out),
                function::ABORT_TASK_SET => {
                    let waits = self.abort(|_, of| of == lun);
                    self.wait(waits, response(pdu, answer::COMPLETE), Then::GoOn, out);
                }
                function::CLEAR_TASK_SET => self.manage(pdu, Some(lun), Work::ClearTasks { lun }, Then::GoOn),
                function::UNIT_RESET => self.manage(pdu, Some(lun), Work::ResetUnit { lun }, Then::GoOn),
                function::WARM_RESET => self.manage(pdu, None, Work::ResetTarget, Then::GoOn),
                function::COLD_RESET => self.manage(pdu, None, Work::ResetTarget, Then::EndAll),
                function::REASSIGN => self.task_response(pdu, answer::NO_REASSIGNMENT, out),
                _ => self.task_response(pdu, answer::NOT_SUPPORTED, out),
            }
        }
    }

    /// ABORT TASK (section 11.5.1): a task that did not come yet never will.
    fn abort_task(&mut self, pdu: &Pdu, out: &mut Output) {
        let (tag, number) = (pdu.bhs.word(20), pdu.bhs.word(32));
        let is_leaving = self.leaving().any(|(_, own, _)| own == tag);
        if is_leaving || self.commands.contains_key(&tag) {
            let waits = self.abort(|own, _| own == tag);
            self.wait(waits, response(pdu, answer::COMPLETE), Then::GoOn, out);
        } else {
            // Within the window and before this request it is on its way: with one connection it would have come before, so
            // that its initiator never sent it, and only its number is missing. It counts as received.
            let distance = number.wrapping_sub(pdu.bhs.word(24)).cast_signed();
            let on_its_way = self.window.contains(number) && distance < 0;
            let skipped = on_its_way && self.skip(number, tag);
            let said = if skipped { answer::COMPLETE } else { answer::NO_SUCH_TASK };
            self.task_response(pdu, said, out);
        }
    }

    /// Lets a worker do what concerns other sessions too. Own tasks are aborted here; the rest is the unit's gate's.
    fn manage(&mut self, pdu: &Pdu, lun: Option<[u8; 8]>, work: Work, then: Then) {
        let mut waits = self.abort(|_, of| lun.is_none_or(|lun| lun == of));
        let id = self.new_id();
        waits.insert(id);
        self.in_hand.insert(
            id,
            InHand {
                tag: None,
                lun: lun.unwrap_or_default(),
                aborted: Arc::default(),
                held_bytes: 0,
                borrows: false,
                slot: false,
                ordered: false,
            },
        );
        self.managing.push_back((id, work));
        self.managed += 1;
        self.pending.push(Pending { waits, answer: response(pdu, answer::COMPLETE), then, since: None });
    }

    /// A worker brought task management back. Where tasks may still change something, nobody is told that they can't; own
    /// ones may be among them, and are not waited for any longer.
    pub(super) fn managed_done(&mut self, id: u64, status: Status) {
        self.managed = self.managed.saturating_sub(1);
        if status == Status::Good {
            return;
        }
        let asked = self.pending.iter_mut().filter(|pending| pending.waits.contains(&id));
        asked.filter(|pending| pending.answer.opcode() == opcode::TASK_RESPONSE).for_each(|pending| {
            pending.answer = pending.answer.with_byte(2, answer::REJECTED);
            (pending.waits, pending.then) = (BTreeSet::from([id]), Then::GoOn);
        });
    }

    /// Aborts own commands by tag and logical unit. Returns which of them workers have, those included that were aborted before.
    fn abort(&mut self, hit: impl Fn(u32, [u8; 8]) -> bool) -> BTreeSet<u64> {
        let mut waits: BTreeSet<u64> =
            self.leaving().filter(|(_, tag, lun)| hit(*tag, *lun)).map(|(id, ..)| id).collect();
        let tags: Vec<u32> = self
            .commands
            .iter()
            .filter(|(tag, command)| hit(**tag, command.request.lun))
            .map(|(tag, _)| *tag)
            .collect();
        for tag in tags {
            let Some(command) = self.commands.remove(&tag) else { continue };
            if command.is_in_hand() {
                if let Some(in_hand) = self.in_hand.get_mut(&command.id) {
                    in_hand.aborted.store(true, SeqCst);
                }
                waits.insert(command.id);
            } else {
                self.let_go(&command);
            }
        }
        let commands = &self.commands;
        self.collecting.retain(|tag| commands.contains_key(tag));
        self.ready.retain(|tag| commands.contains_key(tag));
        waits
    }

    /// Commands that were aborted and that workers still have: number, tag, logical unit.
    fn leaving(&self) -> impl Iterator<Item = (u64, u32, [u8; 8])> {
        let aborted = self.in_hand.iter().filter(|(_, in_hand)| in_hand.aborted.load(SeqCst));
        aborted.filter_map(|(id, in_hand)| Some((*id, in_hand.tag?, in_hand.lun)))
    }

    /// Refuses those who have waited for commands for too long: what storage holds may still change something.
    pub(super) fn tick_pending(&mut self, now: Instant, out: &mut Output) {
        let in_hand = &self.in_hand;
        let is_managed = |id: &u64| in_hand.get(id).is_some_and(|in_hand| in_hand.tag.is_none());
        for pending in &mut self.pending {
            if pending.waits.iter().any(is_managed) {
                continue;
            }
            if now.saturating_duration_since(*pending.since.get_or_insert(now)) > DRAIN {
                let refusal = match pending.answer.opcode() {
                    opcode::LOGOUT_RESPONSE => answer::CLEANUP_FAILED,
                    _ => answer::REJECTED,
                };
                pending.answer = pending.answer.with_byte(2, refusal);
                pending.waits.clear();
                if matches!(pending.then, Then::EndAll) {
                    pending.then = Then::GoOn;
                }
            }
        }
        self.settle_pending(0, out);
    }

    /// Answers when the tasks are over: at once where there are none.
    fn wait(&mut self, waits: BTreeSet<u64>, answer: Bhs, then: Then, out: &mut Output) {
        self.pending.push(Pending { waits, answer, then, since: None });
        self.settle_pending(0, out);
    }

    /// A task is over: whoever waited for it and for nothing else is answered.
    pub(super) fn settle_pending(&mut self, id: u64, out: &mut Output) {
        for pending in &mut self.pending {
            pending.waits.remove(&id);
        }
        while let Some(at) = self.pending.iter().position(|pending| pending.waits.is_empty()) {
            let Pending { answer, then, .. } = self.pending.remove(at);
            self.send(answer, Vec::new(), true, out);
            match then {
                Then::GoOn => {}
                Then::End => self.end(),
                Then::EndAll => {
                    if let Some(normal) = &self.normal {
                        self.evicted.extend(normal.seat.others());
                    }
                    self.end();
                }
            }
        }
    }

    fn task_response(&mut self, pdu: &Pdu, said: u8, out: &mut Output) {
        self.send(response(pdu, said), Vec::new(), true, out);
    }

    /// Takes a logout request. Every task of the session is aborted first.
    pub(super) fn logout(&mut self, pdu: &Pdu, out: &mut Output) {
        let (reason, cid) = (pdu.bhs.0[1] & 0x7f, pdu.bhs.half(20));
        let said = match reason {
            0 => 0,
            1 if cid == self.cid => 0,
            1 => 1, // No such connection.
            _ => 2, // Recovery is not supported.
        };
        let answer = Bhs::new(opcode::LOGOUT_RESPONSE, 0x80)
            .with_byte(2, said)
            .with_word(16, pdu.bhs.task_tag())
            .with_bytes(40, &self.params.time_to_wait.to_be_bytes())
            .with_bytes(42, &self.params.time_to_retain.to_be_bytes());
        if said != 0 {
            self.send(answer, Vec::new(), true, out);
            return;
        }
        self.logged_out = true;
        let mut waits = self.abort(|_, _| true);
        // Task management that workers have is awaited too, so that it is answered before.
        waits.extend(self.in_hand.keys());
        self.wait(waits, answer, Then::End, out);
    }
}

fn response(pdu: &Pdu, said: u8) -> Bhs {
    Bhs::new(opcode::TASK_RESPONSE, 0x80).with_byte(2, said).with_word(16, pdu.bhs.task_tag())
}
