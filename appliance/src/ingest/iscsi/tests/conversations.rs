//! Conversations of the full-feature phase, PDU by PDU.

use std::sync::Arc;
use std::time::Duration;

use super::harness::{NAME, Served};
use super::initiator::{Initiator, NONE, World, pattern};
use crate::ingest::iscsi::Access;
use crate::ingest::iscsi::scsi::{Disk, Shape};
use crate::ingest::iscsi::session::Memory;
use crate::ingest::iscsi::wire::{Bhs, Pdu, opcode};

fn world() -> World {
    World::new(Served::new(64 << 20, Shape::EMULATED_512, Access::default()))
}

fn read_10(initiator: &mut Initiator, blocks: u16, expected: u32) -> u32 {
    let [high, low] = blocks.to_be_bytes();
    let bhs = initiator.command(0xc1, expected, &[0x28, 0, 0, 0, 0, 0, 0, high, low, 0]);
    initiator.send(bhs, b"");
    bhs.task_tag()
}

fn opcodes(pdus: &[Pdu]) -> Vec<u8> {
    pdus.iter().map(|pdu| pdu.bhs.opcode()).collect()
}

/// The status of the only response.
fn status(pdus: &[Pdu]) -> u8 {
    assert_eq!(opcodes(pdus), [opcode::RESPONSE]);
    pdus[0].bhs.0[3]
}

#[test]
fn data_arrives_by_every_way() {
    let data = pattern(3 << 20);
    for (digest, initial, immediate) in [
        ("None", "No", "Yes"),
        ("CRC32C", "No", "Yes"),
        ("CRC32C", "Yes", "No"),
        ("None", "Yes", "Yes"),
        ("None", "No", "No"),
    ] {
        let world = world();
        let keys = [
            ("HeaderDigest", digest),
            ("DataDigest", digest),
            ("InitialR2T", initial),
            ("ImmediateData", immediate),
            ("FirstBurstLength", "65536"),
            ("MaxOutstandingR2T", "4"),
        ];
        let mut initiator = world.login(1, &keys);
        assert_eq!(initiator.digests.data, digest == "CRC32C");
        let now = if immediate == "Yes" { 8192 } else { 0 };
        let tag = initiator.write(&data, now, initial == "Yes");
        if initial == "No" {
            assert!(initiator.hear().is_empty(), "nothing is asked for while data comes unasked");
            initiator.data_out(tag, NONE, 0, now, &data[now..30_000], false);
            initiator.data_out(tag, NONE, 1, 30_000, &data[30_000..65_536], true);
        }
        let others = initiator.answer_r2ts(&data, 100_000);
        assert!(others.is_empty() && initiator.run_tasks() == 1);
        assert_eq!(status(&initiator.hear()), 0);
        assert!(world.all.disk.read(0, data.len() as u64).unwrap().concat() == data);

        // And back: Data-In within segments and bursts, the status with the last.
        read_10(&mut initiator, 6144, 3 << 20);
        initiator.run_tasks();
        let heard = initiator.hear();
        assert_eq!(heard.len(), 12);
        assert!(heard.iter().enumerate().all(|(number, pdu)| pdu.bhs.word(36) == number as u32));
        let finals: Vec<_> = heard.iter().map(|pdu| pdu.bhs.0[1]).collect();
        assert_eq!(finals, [0, 0, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0x81]);
        assert!(heard.iter().flat_map(|pdu| pdu.data.iter()).eq(data.iter()));
        let before = world.memory.used();
        drop(initiator);
        assert!(before > 0 && world.memory.used() == 0, "all memory comes back");
    }
}

#[test]
fn several_bursts_are_asked_for_at_once() {
    let world = world();
    let data = pattern(4 << 20);
    let keys = [("MaxOutstandingR2T", "3"), ("MaxBurstLength", "262144"), ("FirstBurstLength", "65536")];
    let mut initiator = world.login(1, &keys);
    let tag = initiator.write(&data, 0, true);
    let asked = initiator.hear();
    assert_eq!(opcodes(&asked), [opcode::R2T; 3]);
    let places: Vec<_> = asked.iter().map(|pdu| (pdu.bhs.word(36), pdu.bhs.word(40), pdu.bhs.word(44))).collect();
    assert_eq!(places, [(0, 0, 262_144), (1, 262_144, 262_144), (2, 524_288, 262_144)]);
    // Answered out of their order, which some initiators do.
    let last = asked[2].bhs;
    initiator.data_out(tag, last.word(20), 0, 524_288, &data[524_288..786_432], true);
    assert_eq!(opcodes(&initiator.hear()), [opcode::R2T]);
    // An abort gives everything back; what is still on its way is dropped.
    let held = world.memory.used();
    initiator.task_request(1, tag, 0);
    assert_eq!(initiator.hear_one().bhs.0[2], 0);
    initiator.data_out(tag, asked[0].bhs.word(20), 0, 0, &data[..262_144], true);
    assert!(initiator.hear().is_empty() && initiator.run_tasks() == 0);
    assert_eq!(held - world.memory.used(), 4 * 262_144);
}

#[test]
fn data_that_may_not_be_fails_its_command_alone() {
    let world = world();
    let data = pattern(256 << 10);
    for wrong in 0..5 {
        let mut initiator = world.login(1, &[("FirstBurstLength", "65536"), ("MaxBurstLength", "65536")]);
        let tag = initiator.write(&data, 0, true);
        let r2t = initiator.hear_one().bhs;
        let (transfer, end) = (r2t.word(20), 65_536);
        match wrong {
            0 => initiator.data_out(tag, transfer, 1, 0, &data[..512], false),
            1 => initiator.data_out(tag, transfer, 0, 512, &data[..512], false),
            2 => initiator.data_out(tag, transfer, 0, 0, &data[..end + 4], true),
            3 => initiator.data_out(tag, transfer, 0, 0, &data[..512], true),
            _ => initiator.data_out(tag, transfer + 1, 0, 0, &data[..512], false),
        }
        let heard = initiator.hear();
        assert_eq!((status(&heard), &heard[0].data[2..5]), (2, &[0x70, 0, 0x0b][..]), "case {wrong}");
        // The session goes on.
        initiator.write(&data[..512], 512, true);
        assert_eq!((initiator.run_tasks(), status(&initiator.hear())), (1, 0));
    }
    let mut initiator = world.login(1, &[("ImmediateData", "No")]);
    initiator.write(&data[..512], 512, true);
    assert_eq!(status(&initiator.hear()), 2, "immediate data that was not agreed on");
}

#[test]
fn residuals_are_told() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    for (blocks, expected, flag, residual, len) in
        [(2, 1024, 0, 0, 1024), (1, 1024, 2, 512, 512), (2, 512, 4, 512, 512)]
    {
        read_10(&mut initiator, blocks, expected);
        initiator.run_tasks();
        let pdu = initiator.hear_one();
        assert_eq!((pdu.bhs.0[1], pdu.bhs.word(44), pdu.data.len()), (0x81 | flag, residual, len));
    }
}

#[test]
fn numbers_outside_the_window_are_not_taken() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    let (mut behind, mut beyond) = (initiator.command(0x81, 0, &[0; 6]), initiator.command(0x81, 0, &[0; 6]));
    initiator.cmd_sn -= 2;
    behind = behind.with_word(24, initiator.cmd_sn - 1);
    beyond = beyond.with_word(24, initiator.cmd_sn + 1000);
    initiator.send(behind, b"");
    initiator.send(beyond, b"");
    assert!(initiator.hear().is_empty() && initiator.run_tasks() == 0);
    // Those within wait for the ones before.
    let second = initiator.command(0x81, 0, &[0; 6]).with_word(24, initiator.cmd_sn);
    let first = second.with_word(16, 900).with_word(24, initiator.cmd_sn - 1);
    initiator.send(second, b"");
    assert_eq!(initiator.run_tasks(), 0);
    initiator.send(first, b"");
    assert_eq!(initiator.run_tasks(), 2);
    let tags: Vec<_> = initiator.hear().iter().map(|pdu| pdu.bhs.task_tag()).collect();
    assert_eq!(tags, [900, second.task_tag()]);
}

#[test]
fn memory_closes_the_window_but_never_wholly() {
    let mut world = world();
    world.memory = Arc::new(Memory::new(0));
    let data = pattern(2 << 20);
    let mut many: Vec<_> = (0..3u8)
        .map(|port| {
            let mut initiator = world.connect(port.into());
            initiator.isid[5] = port;
            initiator
        })
        .collect();
    for initiator in &mut many {
        initiator.login_request(1, Some(3), &[("InitiatorName", initiator.name), ("TargetName", NAME)]);
        let pdu = initiator.hear_one();
        assert_eq!(pdu.bhs.word(32) - pdu.bhs.word(28), 3, "four slots");
        initiator.now_full();
        initiator.write(&[0; 512], 512, true);
        initiator.run_tasks();
        initiator.hear();
        initiator.write(&data, 0, true);
    }
    // One write of all may borrow, and the next when it is over.
    let mut done = 0;
    while done < 3 {
        let heard: Vec<_> = many
            .iter_mut()
            .map(|initiator| {
                initiator.wait(0);
                initiator.hear()
            })
            .collect();
        let asked: Vec<_> = heard.iter().enumerate().filter(|(_, heard)| !heard.is_empty()).collect();
        assert_eq!(asked.len(), 1, "one at a time");
        let (who, heard) = asked[0];
        assert_eq!(opcodes(heard), [opcode::R2T]);
        let bhs = heard[0].bhs;
        let offset = bhs.word(40) as usize;
        many[who].data_out(
            bhs.task_tag(),
            bhs.word(20),
            0,
            offset,
            &data[offset..offset + bhs.word(44) as usize],
            true,
        );
        if many[who].run_tasks() == 1 {
            assert_eq!(status(&many[who].hear()), 0);
            done += 1;
        }
    }
    drop(many);
    assert_eq!(world.memory.used(), 0);
}

#[test]
fn data_in_tiny_pieces_costs_no_more_than_in_large_ones() {
    let world = world();
    let data = pattern(64 << 10);
    let keys = [("MaxBurstLength", "16384"), ("FirstBurstLength", "16384"), ("MaxOutstandingR2T", "4")];
    let mut initiator = world.login(1, &keys);
    let tag = initiator.write(&data, 0, true);
    let asked = initiator.hear();
    assert_eq!(asked.len(), 4);
    // All bursts at once, in turns, four bytes each, but for one long piece in the middle of each.
    let mut at = [0; 4];
    let mut number = [0; 4];
    while at.iter().any(|at| *at < 16_384) {
        for (burst, r2t) in asked.iter().enumerate() {
            let len = if at[burst] == 8000 { 5000 } else { 4.min(16_384 - at[burst]) };
            let offset = r2t.bhs.word(40) as usize + at[burst];
            let last = at[burst] + len == 16_384;
            initiator.data_out(tag, r2t.bhs.word(20), number[burst], offset, &data[offset..offset + len], last);
            (at[burst], number[burst]) = (at[burst] + len, number[burst] + 1);
        }
    }
    assert_eq!(initiator.run_tasks(), 1);
    assert_eq!(status(&initiator.hear()), 0);
    assert!(world.all.disk.read(0, data.len() as u64).unwrap().concat() == data);
}

#[test]
fn immediate_commands_bring_data_only_into_memory_that_is_there() {
    let mut world = world();
    world.memory = Arc::new(Memory::new(4 << 20));
    let mut initiator = world.login(1, &[("FirstBurstLength", "262144")]);
    let before = world.memory.used();
    let data = vec![7; 256 << 10];
    let send = |initiator: &mut Initiator| {
        let cdb = [0x2a, 0, 0, 0, 0, 0, 0, 2, 0, 0];
        let mut bhs = Bhs::new(opcode::COMMAND | 0x40, 0xa1).with_word(20, 256 << 10).with_bytes(32, &cdb);
        bhs = initiator.numbered(bhs);
        initiator.send(bhs, &data);
    };
    let taken = (0..20).take_while(|_| {
        send(&mut initiator);
        initiator.hear().is_empty()
    });
    let taken = taken.count();
    assert!(taken > 0 && taken < 16 && world.memory.used() <= 2 << 20, "{taken} at {before}");
    assert_eq!(initiator.run_tasks(), taken);
    assert_eq!((initiator.hear().len(), world.memory.used()), (taken, before));
    // What comes too early and is more than a slot holds is not kept.
    let bhs = initiator.command(0xa1, 512, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).with_word(24, initiator.cmd_sn);
    initiator.send(bhs, &vec![1; 300 << 10]);
    assert_eq!(opcodes(&initiator.hear()), [opcode::REJECT]);
}

#[test]
fn whoever_was_asked_for_data_and_sends_none_is_closed() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    initiator.write(&pattern(1 << 20), 0, true);
    for _ in 0..4 {
        // It answers pings, which is not enough.
        initiator.wait(10);
        let bhs = Bhs::new(opcode::NOP_OUT | 0x40, 0x80).with_word(16, 5000);
        initiator.send(bhs, b"");
        assert!(!initiator.session.is_closing());
    }
    initiator.wait(1);
    assert!(initiator.session.is_closing());
}

#[test]
fn an_aborted_task_is_not_answered_and_its_abort_waits_for_it() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    let tag = initiator.write(&[1; 512], 512, true);
    let other = read_10(&mut initiator, 1, 512);
    let running = initiator.session.next_task(|_| true).unwrap();
    initiator.task_request(1, tag, 0);
    assert!(initiator.hear().is_empty(), "a worker has it");
    initiator.session.complete(running.run());
    let heard = initiator.hear();
    assert_eq!((opcodes(&heard), heard[0].bhs.0[2]), (vec![opcode::TASK_RESPONSE], 0));
    assert_eq!(world.all.disk.read(0, 512).unwrap().concat(), [0; 512], "it had not begun to write");
    assert_eq!(initiator.run_tasks(), 1);
    assert_eq!(initiator.hear_one().bhs.task_tag(), other);
    initiator.task_request(1, 4711, initiator.cmd_sn - 1);
    assert_eq!(initiator.hear_one().bhs.0[2], 1, "no such task");
    initiator.task_request(8, 4711, 0);
    assert_eq!(initiator.hear_one().bhs.0[2], 4, "no reassignment");
}

#[test]
fn a_reset_ends_the_tasks_of_others() {
    let world = world();
    let mut one = world.login(1, &[]);
    let mut two = world.connect(2);
    two.isid[5] = 2;
    two.login_request(1, Some(3), &[("InitiatorName", two.name), ("TargetName", NAME)]);
    two.hear();
    two.now_full();
    let bhs = two.command(0x81, 0, &[0; 6]);
    two.send(bhs, b"");
    two.run_tasks();
    two.hear();
    two.write(&[2; 512], 512, true);
    let late = one.write(&[1; 512], 512, true);
    one.task_request(5, NONE, 0);
    assert_eq!(one.run_tasks(), 1, "the reset; the write is gone");
    let heard = one.hear();
    assert_eq!((opcodes(&heard), heard[0].bhs.0[2]), (vec![opcode::TASK_RESPONSE], 0));
    assert_eq!(two.run_tasks(), 1);
    assert_eq!(status(&two.hear()), 0x40, "task aborted");
    assert_eq!(world.all.disk.read(0, 512).unwrap().concat(), [0; 512]);
    let bhs = two.command(0x81, 0, &[0; 6]);
    two.send(bhs, b"");
    two.run_tasks();
    assert_eq!(two.hear_one().data[14..16], [0x29, 0x03]);
    // A cold reset ends every session.
    one.task_request(7, late, 0);
    one.run_tasks();
    one.hear();
    assert!(one.session.is_closing());
    assert_eq!(one.session.take_evicted(), [2]);
}

#[test]
fn a_number_that_was_aborted_before_it_came_counts_as_received() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    let lost = initiator.command(0x81, 0, &[0; 6]);
    let behind = initiator.command(0x81, 0, &[0; 6]);
    initiator.send(behind, b"");
    assert_eq!(initiator.run_tasks(), 0, "it waits for the one before it");
    // The request is immediate: its own number is the next one, which is not aborted by it.
    initiator.task_request(1, 4711, initiator.cmd_sn);
    assert_eq!(initiator.hear_one().bhs.0[2], 1);
    // Nor does it end another task of that number, which waits for its turn.
    initiator.task_request(1, 4711, behind.word(24));
    assert_eq!(initiator.hear_one().bhs.0[2], 1);
    initiator.task_request(1, lost.task_tag(), lost.word(24));
    assert_eq!(initiator.hear_one().bhs.0[2], 0);
    assert_eq!(initiator.run_tasks(), 1);
    let pdu = initiator.hear_one();
    assert_eq!((pdu.bhs.task_tag(), pdu.bhs.word(28)), (behind.task_tag(), initiator.cmd_sn));
    // Should it come after all, it is outside of the window; and no slot was lost.
    initiator.send(lost, b"");
    let bhs = initiator.command(0x81, 0, &[0; 6]);
    initiator.send(bhs, b"");
    assert_eq!(initiator.run_tasks(), 1);
    let after = initiator.hear_one();
    assert_eq!(after.bhs.word(32) - after.bhs.word(28), pdu.bhs.word(32) - pdu.bhs.word(28));
}

#[test]
fn ordered_tasks_keep_their_place() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    let mut send = |attribute: u8| {
        let bhs = initiator.command(0x80 | attribute, 0, &[0; 6]);
        initiator.send(bhs, b"");
        bhs.task_tag()
    };
    let (first, _ordered, _last) = (send(1), send(2), send(1));
    let head = send(3);
    let mut take = || initiator.session.next_task(|_| true);
    let running = [take().unwrap()];
    assert!(running.len() == 1);
    let [ahead] = running;
    initiator.session.complete(ahead.run());
    assert_eq!(initiator.hear_one().bhs.task_tag(), head);
    let simple = initiator.session.next_task(|_| true).unwrap();
    assert!(initiator.session.next_task(|_| true).is_none(), "the ordered one waits for the one before it");
    initiator.session.complete(simple.run());
    assert_eq!(initiator.hear_one().bhs.task_tag(), first);
    let ordered = initiator.session.next_task(|_| true).unwrap();
    assert!(initiator.session.next_task(|_| true).is_none(), "and keeps back the one behind it");
    initiator.session.complete(ordered.run());
    assert_eq!(initiator.run_tasks(), 1);
}

#[test]
fn pings_go_both_ways() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    let bhs = Bhs::new(opcode::NOP_OUT, 0x80).with_word(20, NONE);
    let bhs = initiator.numbered(bhs);
    initiator.send(bhs, b"are you there");
    let pdu = initiator.hear_one();
    assert_eq!((pdu.bhs.opcode(), &pdu.data[..]), (opcode::NOP_IN, &b"are you there"[..]));
    initiator.wait(31);
    let ping = initiator.hear_one();
    assert_eq!((ping.bhs.opcode(), ping.bhs.task_tag()), (opcode::NOP_IN, NONE));
    let answer = Bhs::new(opcode::NOP_OUT | 0x40, 0x80).with_word(16, NONE).with_word(20, ping.bhs.word(20));
    initiator.send(answer, b"");
    initiator.wait(31);
    assert!(initiator.hear().len() == 1 && !initiator.session.is_closing());
    initiator.wait(31);
    assert!(initiator.session.is_closing(), "nobody answered");
}

#[test]
fn leaving_is_asked_for_and_answered() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    initiator.session.shut_down(Duration::from_secs(5));
    let pdu = initiator.hear_one();
    assert_eq!((pdu.bhs.opcode(), pdu.bhs.0[36], pdu.bhs.half(42)), (opcode::ASYNC, 1, 5));
    initiator.write(&[3; 512], 512, true);
    let running = initiator.session.next_task(|_| true).unwrap();
    let bhs = Bhs::new(opcode::LOGOUT_REQUEST | 0x40, 0x80);
    let bhs = initiator.numbered(bhs);
    initiator.send(bhs, b"");
    assert!(initiator.hear().is_empty() && !initiator.session.is_closing(), "a worker has a task");
    initiator.session.complete(running.run());
    assert_eq!(opcodes(&initiator.hear()), [opcode::LOGOUT_RESPONSE]);
    assert!(initiator.session.is_closing());
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn what_cannot_be_is_rejected() {
    let world = world();
    let mut initiator = world.login(1, &[]);
    for (bhs, reason) in [
        (Bhs::new(opcode::SNACK, 0x80), 0x03),
        (Bhs::new(0x1c, 0x80), 0x05),
        (Bhs::new(opcode::COMMAND | 0x40, 0x81).with_word(16, NONE), 0x09),
    ] {
        initiator.send(bhs, b"");
        let pdu = initiator.hear_one();
        assert_eq!((pdu.bhs.opcode(), pdu.bhs.0[2], &pdu.data[..1]), (opcode::REJECT, reason, &bhs.0[..1]));
    }
    // A wrong digest ends the connection at this level of error recovery.
    let mut digested = world.login(2, &[("DataDigest", "CRC32C")]);
    let mut bytes =
        digested.command(0xa1, 512, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).with_bytes(5, &[0, 2, 0]).0.to_vec();
    bytes.extend([7; 516]);
    assert!(digested.send_bytes(&bytes).is_err());
    assert_eq!(digested.hear_one().bhs.0[2], 0x02);
    assert!(digested.session.is_closing() && digested.run_tasks() == 0);
    // Another login on a connection ends it.
    initiator.login_request(1, Some(3), &[]);
    assert!(initiator.session.is_closing());
}
