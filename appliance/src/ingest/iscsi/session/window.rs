//! The command window (RFC 7143 section 4.2.2.1): which command numbers may come.
//!
//! Every number that may come is a slot, and a slot's memory (the data that comes unasked with a command) is taken before
//! the number is given out, because a number once given cannot be taken back.

use super::Share;

/// Most commands that may come or be under way.
const SLOTS_MAX: usize = 128;
/// Slots that a session has whatever others use.
const SLOTS_MIN: usize = 4;
/// Most bytes of slots of one session: one initiator does not take what others need.
const SLOT_BYTES_MAX: usize = 16 << 20;
/// What a command costs beside its data.
const COMMAND_BYTES: usize = 1 << 10;

/// Which numbers may come.
#[derive(Debug)]
pub(super) struct Window {
    memory: Share,
    /// The next number in order.
    pub expected: u32,
    /// The last number that may come.
    pub last: u32,
    slot_bytes: usize,
    /// Slots whose memory is taken: open ones and those of commands under way.
    slots: usize,
}

impl Window {
    /// Opens a window; a command may bring up to `unasked_bytes`.
    pub fn new(memory: Share, first: u32, unasked_bytes: u32) -> Self {
        let slot_bytes = COMMAND_BYTES + unasked_bytes as usize;
        let mut window = Window { memory, expected: first, last: first.wrapping_sub(1), slot_bytes, slots: 0 };
        window.open();
        window
    }

    /// Opens as many slots as there is memory for.
    pub fn open(&mut self) {
        let most = (SLOT_BYTES_MAX / self.slot_bytes).clamp(SLOTS_MIN, SLOTS_MAX);
        while self.slots < most {
            if self.slots < SLOTS_MIN {
                self.memory.take(self.slot_bytes);
            } else if !self.memory.reserve_ahead(self.slot_bytes) {
                return;
            }
            self.slots += 1;
            self.last = self.last.wrapping_add(1);
        }
    }

    /// What a slot holds beside the command itself.
    pub fn unasked_bytes(&self) -> usize {
        self.slot_bytes - COMMAND_BYTES
    }

    /// Gives the slot of a command back that is over.
    pub fn free(&mut self) {
        self.memory.release(self.slot_bytes);
        self.slots = self.slots.saturating_sub(1);
        self.open();
    }

    /// True where a number may come: serial number arithmetic (RFC 1982).
    pub fn contains(&self, number: u32) -> bool {
        let width = self.last.wrapping_sub(self.expected).wrapping_add(1);
        number.wrapping_sub(self.expected) < width
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.memory.release(self.slots * self.slot_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ingest::iscsi::session::Memory;

    fn share(memory: &Arc<Memory>) -> Share {
        memory.share([10, 0, 0, 1].into())
    }

    #[test]
    fn slots_are_accounted_before_they_are_given_out() {
        let memory = Arc::new(Memory::new(1 << 20));
        let slot = COMMAND_BYTES + (256 << 10);
        let mut window = Window::new(share(&memory), u32::MAX, 256 << 10);
        assert_eq!(window.last, 2, "four in any case, across the end of the numbers");
        assert!(
            window.contains(u32::MAX) && window.contains(2) && !window.contains(3) && !window.contains(u32::MAX - 1)
        );
        assert_eq!(memory.used(), 4 * slot);
        window.expected = 0;
        window.free();
        assert_eq!((window.last, memory.used()), (3, 4 * slot));
        drop(window);
        assert_eq!(memory.used(), 0);
        let window = Window::new(share(&Arc::new(Memory::new(1 << 30))), 0, 256 << 10);
        assert_eq!(window.last, 62, "16 MiB of slots");
        let window = Window::new(share(&Arc::new(Memory::new(1 << 30))), 0, 0);
        assert_eq!(window.last, 127);
    }
}
