//! The table of operations: one line a command. Dispatch, reservations, the length of data-out and REPORT SUPPORTED
//! OPERATION CODES all read the same table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::tasks::Pass;
use super::{Cdb, Data, Device, LogicalUnit, Nexus, Reply, Sense};
use super::{access, block, compare, copy, identify, manage, mode, provision, reserve};

/// A command that is being carried out.
pub(super) struct Call<'a> {
    pub device: &'a Device,
    pub unit: &'a Arc<LogicalUnit>,
    pub nexus: &'a Nexus,
    pub cdb: Cdb<'a>,
    /// What the initiator sent: at most what [`data_out_bytes`] says.
    pub data: Data,
    /// What it said that it has.
    pub announced_bytes: u64,
    pub pass: &'a Pass<'a>,
    /// [`super::Asked::aborted`].
    pub aborted: &'a AtomicBool,
}

impl Call<'_> {
    /// Refuses where the command was ended meanwhile. To be asked before each step of one that has several.
    pub fn proceed(&self) -> Result<(), Sense> {
        if self.aborted.load(SeqCst) || self.pass.is_barred() { Err(Sense::ABORTED) } else { Ok(()) }
    }
}

/// What a command is to other initiators' reservations (SPC-4 section 5.13.1, SBC-3 section 4.17) and to unit attentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Never refused, and reports no unit attention.
    Always,
    /// Refused only while another initiator holds a reservation of the old kind.
    Free,
    /// Refused where reading is reserved.
    Read,
    /// Refused where writing is reserved.
    Write,
    /// Looks at reservations itself.
    Own,
}

/// Where a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// None, or to the initiator.
    In,
    /// From the initiator: so many bytes, by the command alone.
    Out(u64),
}

pub(super) struct Operation {
    pub opcode: u8,
    pub action: Option<u8>,
    /// Which bits of the command are looked at; its length is the command's.
    pub usage: &'static [u8],
    pub class: Class,
    direction: fn(&Cdb, u64) -> Direction,
    pub run: fn(&Call) -> Result<Reply, Sense>,
}

fn none(_: &Cdb, _: u64) -> Direction {
    Direction::In
}

fn blocks(cdb: &Cdb, block_bytes: u64) -> Direction {
    Direction::Out(block::Extent::of(cdb).blocks.saturating_mul(block_bytes))
}

fn verified(cdb: &Cdb, block_bytes: u64) -> Direction {
    match cdb.u8(1) >> 1 & 3 {
        1 => blocks(cdb, block_bytes),
        3 if block::Extent::of(cdb).blocks > 0 => Direction::Out(block_bytes),
        _ => Direction::In,
    }
}

fn one_block(cdb: &Cdb, block_bytes: u64) -> Direction {
    // NDOB, of the 16-byte command alone.
    let none = cdb.opcode() == 0x93 && cdb.flag(1, 0x01);
    if none { Direction::In } else { Direction::Out(block_bytes) }
}

fn compared(cdb: &Cdb, block_bytes: u64) -> Direction {
    Direction::Out(u64::from(cdb.u8(13)) * 2 * block_bytes)
}

fn atomic(cdb: &Cdb, block_bytes: u64) -> Direction {
    Direction::Out(u64::from(cdb.u16(12)) * block_bytes)
}

fn list_6(cdb: &Cdb, _: u64) -> Direction {
    Direction::Out(cdb.u8(4).into())
}

fn list_10(cdb: &Cdb, _: u64) -> Direction {
    Direction::Out(cdb.u16(7).into())
}

fn list_out(cdb: &Cdb, _: u64) -> Direction {
    Direction::Out(cdb.u32(5).into())
}

fn list_copy(cdb: &Cdb, _: u64) -> Direction {
    Direction::Out(cdb.u32(10).into())
}

macro_rules! action {
    () => {
        None
    };
    ($action:literal) => {
        Some($action)
    };
}

macro_rules! operations {
    ($($opcode:literal $(/ $action:literal)?, $class:ident, $direction:ident, $run:path, [$($usage:literal)*];)*) => {
        pub(super) static OPERATIONS: &[Operation] = &[$(Operation {
            opcode: $opcode,
            action: action!($($action)?),
            usage: &[$opcode, $($usage),*],
            class: Class::$class,
            direction: $direction,
            run: $run,
        }),*];
    };
}

operations! {
    // Of all devices (SPC-4).
    0x00, Free, none, manage::test_unit_ready, [0 0 0 0 0];
    0x03, Always, none, manage::request_sense, [1 0 0 0xff 0];
    0x12, Always, none, identify::inquiry, [1 0xff 0xff 0xff 0];
    0x15, Write, list_6, mode::select_6, [0x11 0 0 0xff 0];
    0x16, Own, none, reserve::reserve, [0 0 0 0 0];
    0x17, Own, none, reserve::release, [0 0 0 0 0];
    0x1a, Read, none, mode::sense_6, [8 0xff 0xff 0xff 0];
    0x1b, Free, none, manage::start_stop, [1 0 0xf 0xf7 0];
    0x55, Write, list_10, mode::select_10, [0x11 0 0 0 0 0 0xff 0xff 0];
    0x56, Own, none, reserve::reserve, [0 0 0 0 0 0 0 0 0];
    0x57, Own, none, reserve::release, [0 0 0 0 0 0 0 0 0];
    0x5a, Read, none, mode::sense_10, [0x18 0xff 0xff 0 0 0 0xff 0xff 0];
    0x5e/0x00, Free, none, reserve::read_keys, [0x1f 0 0 0 0 0 0xff 0xff 0];
    0x5e/0x01, Free, none, reserve::read_reservation, [0x1f 0 0 0 0 0 0xff 0xff 0];
    0x5e/0x02, Free, none, reserve::report_capabilities, [0x1f 0 0 0 0 0 0xff 0xff 0];
    0x5e/0x03, Free, none, reserve::read_full_status, [0x1f 0 0 0 0 0 0xff 0xff 0];
    0x5f/0x00, Own, list_out, reserve::out, [0x1f 0 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x01, Own, list_out, reserve::out, [0x1f 0xff 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x02, Own, list_out, reserve::out, [0x1f 0xff 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x03, Own, list_out, reserve::out, [0x1f 0 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x04, Own, list_out, reserve::out, [0x1f 0xff 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x05, Own, list_out, reserve::out, [0x1f 0xff 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x06, Own, list_out, reserve::out, [0x1f 0 0 0 0xff 0xff 0xff 0xff 0];
    0x5f/0x07, Own, list_out, reserve::out, [0x1f 0 0 0 0xff 0xff 0xff 0xff 0];
    0x83/0x00, Write, list_copy, copy::extended_copy, [0x1f 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0x84/0x00, Free, none, copy::status, [0x1f 0xff 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0x84/0x03, Free, none, copy::parameters, [0x1f 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0x84/0x04, Free, none, copy::failed_segment, [0x1f 0xff 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0xa0, Always, none, manage::report_luns, [0 0xff 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0xa3/0x0a, Free, none, access::report_groups, [0xff 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0xa3/0x0c, Free, none, manage::report_opcodes, [0x1f 0x87 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0];
    0xa3/0x0d, Free, none, manage::report_task_functions, [0x1f 0x80 0 0 0 0xff 0xff 0xff 0xff 0 0];
    // Of block devices (SBC-3; WRITE ATOMIC of SBC-4).
    0x08, Read, none, block::read, [0x1f 0xff 0xff 0xff 0];
    0x0a, Write, blocks, block::write, [0x1f 0xff 0xff 0xff 0];
    0x25, Free, none, identify::capacity_10, [0 0 0 0 0 0 0 0 0];
    0x28, Read, none, block::read, [0x18 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x2a, Write, blocks, block::write, [0x18 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x2e, Write, blocks, block::write_verify, [0x16 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x2f, Read, verified, block::verify, [0x16 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x34, Read, none, block::prefetch, [0x02 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x35, Write, none, block::synchronize, [0x06 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x37, Read, none, identify::defects_10, [0 0x1f 0 0 0 0 0xff 0xff 0];
    0x41, Write, one_block, provision::write_same, [0x18 0xff 0xff 0xff 0xff 0x1f 0xff 0xff 0];
    0x42, Write, list_10, provision::unmap, [0 0 0 0 0 0x1f 0xff 0xff 0];
    0x88, Read, none, block::read, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x89, Write, compared, compare::compare_and_write, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0 0 0xff 0x1f 0];
    0x8a, Write, blocks, block::write, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x8b, Write, blocks, compare::or_write, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x8e, Write, blocks, block::write_verify, [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x8f, Read, verified, block::verify, [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x90, Read, none, block::prefetch, [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x91, Write, none, block::synchronize, [0x06 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x93, Write, one_block, provision::write_same, [0x19 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x9c, Write, atomic, block::write_atomic, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0x9e/0x10, Free, none, identify::capacity_16, [0x1f 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0];
    0x9e/0x12, Read, none, provision::get_status, [0x1f 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0];
    0xa8, Read, none, block::read, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0xaa, Write, blocks, block::write, [0x18 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0xae, Write, blocks, block::write_verify, [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0xaf, Read, verified, block::verify, [0x16 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0x1f 0];
    0xb7, Read, none, identify::defects_12, [0x1f 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0];
}

/// The operation that a command names. Known codes with unknown service actions are an invalid field (SPC-4 4.3.4).
pub(super) fn find(cdb: &Cdb) -> Result<&'static Operation, Sense> {
    let mut same = OPERATIONS.iter().filter(|operation| operation.opcode == cdb.opcode()).peekable();
    if same.peek().is_none() {
        return Err(Sense::INVALID_OPCODE);
    }
    let action = cdb.u8(1) & 0x1f;
    same.find(|operation| operation.action.is_none_or(|own| own == action)).ok_or(Sense::INVALID_FIELD)
}

/// True where a command is answered from memory, or refused: it waits neither for a disk nor for other commands.
pub fn is_brief(cdb: &[u8]) -> bool {
    let cdb = Cdb(cdb);
    find(&cdb).map_or(true, |operation| match operation.class {
        // To stop is to flush.
        Class::Always | Class::Free => operation.opcode != 0x1b,
        // MODE SENSE.
        Class::Read => matches!(operation.opcode, 0x1a | 0x5a),
        Class::Own | Class::Write => false,
    })
}

/// How many bytes a command wants from the initiator, whatever the initiator says that it has. Nothing that is unknown
/// or over-long is asked for: it is refused without its data.
pub fn data_out_bytes(cdb: &[u8], block_bytes: u64) -> Direction {
    let cdb = Cdb(cdb);
    match find(&cdb).map(|operation| (operation.direction)(&cdb, block_bytes)) {
        Ok(Direction::Out(bytes)) => Direction::Out(if bytes > super::TRANSFER_BYTES_MAX { 0 } else { bytes }),
        Ok(Direction::In) | Err(_) => Direction::In,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_the_length_of_its_group() {
        for operation in OPERATIONS {
            let expected = match operation.opcode >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                5 => 12,
                group => panic!("group {group}"),
            };
            assert_eq!(operation.usage.len(), expected, "{:#x}", operation.opcode);
            let service = operation.action.is_none_or(|action| operation.usage[1] & 0x1f == 0x1f && action < 0x20);
            assert!(service, "{:#x}", operation.opcode);
        }
    }

    #[test]
    fn lengths_come_from_the_command_alone() {
        assert_eq!(data_out_bytes(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 3, 0], 512), Direction::Out(1536));
        assert_eq!(data_out_bytes(&[0x0a, 0, 0, 0, 0, 0], 512), Direction::Out(256 * 512));
        assert_eq!(data_out_bytes(&[0x2f, 2, 0, 0, 0, 0, 0, 0, 3, 0], 512), Direction::Out(1536));
        assert_eq!(data_out_bytes(&[0x2f, 0, 0, 0, 0, 0, 0, 0, 3, 0], 512), Direction::In);
        assert_eq!(data_out_bytes(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 4096), Direction::Out(0));
        assert_eq!(data_out_bytes(&[0xff], 512), Direction::In);
    }
}
