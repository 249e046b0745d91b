//! Whoever is fenced off writes no more, and nobody who fences waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::reserve::Reservations;
use super::super::{Asked, Device, Disk, Identity, LogicalUnit, Reply, Shape, Status};
use super::{MemoryDisk, nexus, register, write_10};
use crate::ingest::iscsi::tests::harness::{HeldDisk, Kept};

/// What is copied: four pieces of 1 MiB.
const COPIED_BYTES: u64 = 4 << 20;

/// Two units, the second with a disk that can be held up; ports 1 and 2 have sessions, and keys 1 and 2 at the second unit,
/// which port 1 has reserved for registrants.
struct Rig {
    target: Arc<HeldDisk>,
    units: [Arc<LogicalUnit>; 2],
    device: Device,
    aborted: AtomicBool,
}

impl Rig {
    fn new() -> Rig {
        let (source, target) = (Arc::new(MemoryDisk::new(8 << 20)), Arc::new(HeldDisk::new(8 << 20)));
        source.write(0, vec![1; COPIED_BYTES as usize].into(), true).unwrap();
        let unit = |at: u8, disk: Arc<dyn Disk>| {
            let kept = Arc::<Kept>::default();
            let identity = Identity::new([at; 16]);
            Arc::new(LogicalUnit::new(disk, identity, Shape::EMULATED_512, kept, Reservations::default()))
        };
        let units = [unit(1, source), unit(2, target.clone())];
        let device = Device::new((0..).zip(units.clone()).collect(), None);
        let rig = Rig { target, units, device, aborted: AtomicBool::new(false) };
        for port in 1..=2 {
            rig.device.nexus_begins(&nexus(port), false);
            (0..2).for_each(|lun| drop(rig.on(lun, port, &[0; 6], b"")));
            assert_eq!(rig.reserve(port, 0, 0, register(0, port, 0)), Status::Good);
        }
        assert_eq!(rig.reserve(1, 1, 5, register(1, 0, 0)), Status::Good);
        rig
    }

    fn on(&self, lun: u8, port: u8, cdb: &[u8], data: &[u8]) -> Reply {
        let lun = [0, lun, 0, 0, 0, 0, 0, 0];
        let (nexus, epoch, announced_bytes) = (Arc::new(nexus(port)), self.device.epoch(lun), data.len() as u64);
        let never = AtomicBool::new(false);
        let aborted = if port == 1 { &self.aborted } else { &never };
        let asked = Asked { nexus: &nexus, lun, cdb, epoch, announced_bytes, aborted };
        self.device.execute(&asked, Bytes::copy_from_slice(data))
    }

    /// PERSISTENT RESERVE OUT to the second unit.
    fn reserve(&self, port: u8, action: u8, kind: u8, list: [u8; 24]) -> Status {
        self.on(1, port, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list).status
    }

    /// Port 1 copies from the first unit to the second.
    fn copy(&self) -> Status {
        let mut list = vec![0; 16];
        (list[3], list[11]) = (64, 28);
        for unit in &self.units {
            let mut target = [0; 32];
            target[0] = 0xe4;
            (target[4], target[5], target[7]) = (1, 3, 16);
            target[8..24].copy_from_slice(&unit.identity().naa_name());
            list.extend(target);
        }
        let mut segment = [0; 28];
        (segment[0], segment[3], segment[7]) = (2, 24, 1);
        segment[10..12].copy_from_slice(&((COPIED_BYTES / 512) as u16).to_be_bytes());
        list.extend(segment);
        self.on(0, 1, &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0], &list).status
    }
}

/// Holds a copy up in its first piece, has something done meanwhile, and lets it go when `is_under_way` says so. What was
/// done has to wait for the piece, and nothing comes after it. Returns how the copy ended.
fn ended_by(what: impl Fn(&Rig) -> bool + Sync, is_under_way: impl Fn(&Rig) -> bool, waits: bool) -> Status {
    let rig = &Rig::new();
    rig.target.hold(true);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| rig.copy());
        rig.target.wait_for(1);
        let fencing = scope.spawn(|| {
            assert!(what(rig));
            rig.target.began()
        });
        while !is_under_way(rig) {
            std::thread::yield_now();
        }
        if waits {
            assert!(!fencing.is_finished(), "the piece is being written");
        } else {
            while !fencing.is_finished() {
                std::thread::yield_now();
            }
        }
        rig.target.hold(false);
        assert_eq!(fencing.join().unwrap(), 1);
        let status = copying.join().unwrap();
        assert_eq!(rig.target.began(), 1, "nothing was begun after that");
        status
    })
}

#[test]
fn a_copy_ends_where_its_host_is_fenced_off_from_the_destination() {
    let epoch = |rig: &Rig| rig.units[1].epoch() > 0;
    let preempt = |rig: &Rig, action| rig.reserve(2, action, 5, register(2, 1, 0)) == Status::Good;
    assert_eq!(ended_by(|rig| preempt(rig, 5), epoch, true), Status::TaskAborted, "PREEMPT AND ABORT");
    assert_eq!(ended_by(|rig| preempt(rig, 4), |_| true, false), Status::ReservationConflict, "PREEMPT");
    assert_eq!(ended_by(|rig| rig.units[1].reset(), epoch, true), Status::TaskAborted, "a reset of the destination");
    let source = |rig: &Rig| rig.units[0].epoch() > 0;
    assert_eq!(ended_by(|rig| rig.units[0].reset(), source, true), Status::TaskAborted, "and of the source");
    let abort = |rig: &Rig| {
        rig.aborted.store(true, SeqCst);
        true
    };
    assert_eq!(ended_by(abort, |_| true, false), Status::TaskAborted, "ABORT TASK, or its session is gone");
    let again = |rig: &Rig| {
        rig.device.nexus_begins(&nexus(1), true);
        true
    };
    assert_eq!(ended_by(again, |_| true, false), Status::TaskAborted, "another session in its place");
}

#[test]
fn what_the_one_who_fenced_wrote_stays() {
    let rig = &Rig::new();
    rig.target.hold(true);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| rig.copy());
        rig.target.wait_for(1);
        let fencing = scope.spawn(|| rig.reserve(2, 5, 5, register(2, 1, 0)));
        while rig.units[1].epoch() == 0 {
            std::thread::yield_now();
        }
        rig.target.hold(false);
        assert_eq!(fencing.join().unwrap(), Status::Good);
        // The one within the piece that was written, the other behind it.
        assert_eq!(rig.on(1, 2, &write_10(128, 8, 0), &[2; 4096]).status, Status::Good);
        assert_eq!(rig.on(1, 2, &[0x2a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0], &[2; 4096]).status, Status::Good);
        copying.join().unwrap();
    });
    for offset in [128 * 512, 0x1000 * 512] {
        assert_eq!(rig.target.disk.read(offset, 4096).unwrap().concat(), [2; 4096]);
    }
}

#[test]
fn two_that_fence_each_other_do_not_wait_for_each_other() {
    let rig = &Rig::new();
    let unit = &rig.units[1];
    let since = Instant::now();
    let mut statuses = std::thread::scope(|scope| {
        let turn = unit.reserving.lock().unwrap();
        let fence = |port: u8, other: u8| scope.spawn(move || rig.reserve(port, 5, 5, register(port, other, 0)));
        let both = [fence(1, 2), fence(2, 1)];
        while unit.gate.count() < 2 {
            std::thread::yield_now();
        }
        drop(turn);
        both.map(|one| one.join().unwrap())
    });
    statuses.sort_by_key(|status| *status as u8);
    assert_eq!(statuses, [Status::Good, Status::TaskAborted]);
    assert_eq!(unit.state().reservations.registrations.len(), 1);
    assert!(since.elapsed() < Duration::from_secs(30), "they waited for each other");
}

#[test]
fn a_fence_that_storage_holds_up_does_not_say_that_it_stands() {
    let rig = &Rig::new();
    rig.units[1].set_drain(Duration::from_millis(20));
    rig.target.hold(true);
    let late = rig.units[1].epoch();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| rig.on(1, 1, &write_10(0, 8, 0), &[1; 4096]));
        rig.target.wait_for(1);
        assert_eq!(rig.reserve(2, 5, 5, register(2, 1, 0)), Status::Busy);
        assert!(!rig.units[1].reset() && !rig.units[1].clear_tasks(&nexus(2)));
        rig.target.hold(false);
        writing.join().unwrap();
    });
    assert!(rig.units[1].reset());
    // Whatever was sent before and not begun stays out.
    assert!(rig.units[1].gate.enter(&Arc::new(nexus(1)), late).is_none());
}
