//! What storage holds up for long: aborts, resets and logouts are answered all the same, and truly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::harness::{HeldDisk, NAME, Served, target};
use super::initiator::{Initiator, NONE, World};
use crate::ingest::iscsi::Access;
use crate::ingest::iscsi::scsi::Shape;
use crate::ingest::iscsi::session::Task;
use crate::ingest::iscsi::wire::{Bhs, Pdu, opcode};

/// A session, one write of which a worker has and the disk will hold.
struct Held {
    world: World,
    disk: Arc<HeldDisk>,
    session: Initiator,
    /// The write's tag and number.
    tag: u32,
    number: u32,
    task: Option<Task>,
}

impl Held {
    fn new() -> Held {
        let disk = Arc::new(HeldDisk::new(1 << 20));
        let target = target(disk.clone(), Shape::EMULATED_512, Access::default());
        target.device.units()[&0].set_drain(Duration::from_millis(20));
        let world = World::new(Arc::new(Served { disk: Arc::default(), target, portals: Mutex::default() }));
        let mut session = world.login(1, &[]);
        disk.hold(true);
        let number = session.cmd_sn;
        let tag = session.write(&[1; 512], 512, true);
        let task = session.session.next_task(|_| true);
        assert!(task.is_some());
        Held { world, disk, session, tag, number, task }
    }
}

/// Lets seconds pass, in which an initiator is heard, and says what it was told beside answers to its pings.
fn pass(initiator: &mut Initiator, seconds: u64) -> Vec<Pdu> {
    let mut told = Vec::new();
    for _ in 0..seconds / 10 {
        let ping = initiator.numbered(Bhs::new(opcode::NOP_OUT | 0x40, 0x80));
        initiator.send(ping, b"");
        initiator.wait(10);
        told.extend(initiator.hear().into_iter().filter(|pdu| pdu.bhs.opcode() != opcode::NOP_IN));
    }
    told
}

#[test]
fn a_reset_is_refused() {
    let Held { world, disk, session: mut one, task, .. } = Held::new();
    let mut two = world.connect(2);
    two.isid[5] = 2;
    two.login_request(1, Some(3), &[("InitiatorName", two.name), ("TargetName", NAME)]);
    two.hear();
    two.now_full();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| task.unwrap().run());
        disk.wait_for(1);
        for function in [4, 5, 6, 7] {
            two.task_request(function, NONE, 0);
            assert_eq!(two.run_tasks(), 1);
            let pdu = two.hear_one();
            assert_eq!((pdu.bhs.opcode(), pdu.bhs.0[2]), (opcode::TASK_RESPONSE, 255), "function {function}");
        }
        assert!(!two.session.is_closing());
        one.task_request(5, NONE, 0);
        assert_eq!((one.run_tasks(), one.hear_one().bhs.0[2]), (1, 255), "its own task is held");
        disk.hold(false);
        one.session.complete(writing.join().unwrap());
        assert!(one.hear().is_empty(), "what was aborted is not answered");
    });
    two.task_request(5, NONE, 0);
    two.run_tasks();
    assert_eq!(two.hear_one().bhs.0[2], 0);
}

#[test]
fn an_abort_is_refused_and_who_asks_again_waits_again() {
    let Held { disk, session: mut one, tag, number, task, .. } = Held::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| task.unwrap().run());
        disk.wait_for(1);
        for (function, referenced) in [(1, tag), (2, NONE), (1, tag)] {
            one.task_request(function, referenced, number);
            assert!(pass(&mut one, 50).is_empty(), "function {function} is answered early");
            let told = pass(&mut one, 30);
            let said: Vec<_> = told.iter().map(|pdu| (pdu.bhs.opcode(), pdu.bhs.0[2])).collect();
            assert_eq!(said, [(opcode::TASK_RESPONSE, 255)], "function {function}");
        }
        // What comes after it goes on.
        let ready = one.command(0x80, 0, &[0; 6]);
        one.send(ready, b"");
        assert_eq!((one.run_tasks(), one.hear_one().bhs.task_tag()), (1, ready.task_tag()));
        one.task_request(2, NONE, 0);
        assert!(one.hear().is_empty());
        disk.hold(false);
        one.session.complete(writing.join().unwrap());
    });
    let pdu = one.hear_one();
    assert_eq!((pdu.bhs.opcode(), pdu.bhs.0[2]), (opcode::TASK_RESPONSE, 0), "and what was aborted is not answered");
    one.task_request(1, tag, number);
    assert_eq!(one.hear_one().bhs.0[2], 1, "no such task");
}

#[test]
fn a_logout_is_answered_and_ends_the_session() {
    let Held { session: mut one, task, .. } = Held::new();
    let logout = one.numbered(Bhs::new(opcode::LOGOUT_REQUEST | 0x40, 0x80));
    one.send(logout, b"");
    assert!(pass(&mut one, 50).is_empty() && !one.session.is_closing());
    let told = pass(&mut one, 30);
    let said: Vec<_> = told.iter().map(|pdu| (pdu.bhs.opcode(), pdu.bhs.0[2])).collect();
    assert_eq!(said, [(opcode::LOGOUT_RESPONSE, 3)], "cleanup failed");
    assert!(one.session.is_closing());
    drop(task);
}
