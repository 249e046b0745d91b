//! Commands as initiators send them, beyond what the conformance suite looks at.

mod fencing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use narrowboat_storage::units::Space;
use proptest::prelude::*;

use super::memory::MemoryDisk;
use super::reserve::Reservations;
use super::{AccessState, Asked, Device, Disk, Identity, LogicalUnit, Nexus, Reply, Shape, Status};
use crate::ingest::iscsi::tests::harness::{HeldDisk, Kept};

struct Rig {
    disks: Vec<Arc<MemoryDisk>>,
    kept: Arc<Kept>,
    device: Device,
}

fn nexus(last: u8) -> Nexus {
    Nexus { initiator: "iqn.2025-01.org.example:host".into(), isid: [0x40, 0, 0, 0, 0, last] }
}

impl Rig {
    /// A target with units 0 and 1, of which the ports 1 and 2 have sessions and know of nothing.
    fn new(shape: Shape) -> Rig {
        let disks = vec![Arc::new(MemoryDisk::new(8 << 20)), Arc::new(MemoryDisk::new(8 << 20))];
        let kept = Arc::<Kept>::default();
        let unit = |(at, disk): (usize, &Arc<MemoryDisk>)| {
            let identity = Identity::new([at as u8 + 1; 16]);
            let unit = LogicalUnit::new(disk.clone(), identity, shape, kept.clone(), Reservations::default());
            (at as u16, Arc::new(unit))
        };
        let device = Device::new(disks.iter().enumerate().map(unit).collect(), None);
        let rig = Rig { disks, kept, device };
        for port in 1..=2 {
            rig.device.nexus_begins(&nexus(port), false);
            for lun in 0..2 {
                assert_eq!(sense(&rig.on(lun, port, &[0; 6], b"")), (6, 0x2900));
            }
        }
        rig
    }

    fn on(&self, lun: u8, port: u8, cdb: &[u8], data: &[u8]) -> Reply {
        let lun = [0, lun, 0, 0, 0, 0, 0, 0];
        let (nexus, epoch) = (Arc::new(nexus(port)), self.device.epoch(lun));
        let asked = Asked {
            nexus: &nexus,
            lun,
            cdb,
            epoch,
            announced_bytes: data.len() as u64,
            aborted: &AtomicBool::new(false),
        };
        self.device.execute(&asked, Bytes::copy_from_slice(data))
    }

    fn run(&self, cdb: &[u8], data: &[u8]) -> Reply {
        self.on(0, 1, cdb, data)
    }

    fn write(&self, block: u8, blocks: u8, byte: u8) {
        assert_eq!(self.run(&write_10(block, blocks, 0), &vec![byte; 512 * usize::from(blocks)]), Reply::good());
    }

    fn read(&self, block: u8, blocks: u8) -> Vec<u8> {
        let reply = self.run(&[0x28, 0, 0, 0, 0, block, 0, 0, blocks, 0], b"");
        assert_eq!(reply.status, Status::Good, "{:x?}", reply.sense);
        reply.data.concat()
    }
}

fn write_10(block: u8, blocks: u8, flags: u8) -> [u8; 10] {
    [0x2a, flags, 0, 0, 0, block, 0, 0, blocks, 0]
}

/// Sense key and code of a reply, (0, 0) where it has none.
fn sense(reply: &Reply) -> (u8, u16) {
    match &reply.sense[..] {
        [0x70 | 0xf0, _, key, _, _, _, _, _, _, _, _, _, asc, ascq, ..] => (*key, u16::from_be_bytes([*asc, *ascq])),
        [0x72, key, asc, ascq, ..] => (*key, u16::from_be_bytes([*asc, *ascq])),
        _ => (0, 0),
    }
}

#[test]
fn the_cache_is_what_it_says() {
    let rig = Rig::new(Shape::EMULATED_512);
    let unstable = || rig.disks[0].unstable.load(SeqCst);
    rig.write(0, 1, 1);
    assert_eq!(unstable(), 1);
    assert_eq!(rig.run(&write_10(1, 1, 0x08), &[2; 512]), Reply::good());
    assert_eq!(unstable(), 0, "FUA");
    rig.write(2, 1, 3);
    assert_eq!(rig.run(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], b""), Reply::good());
    assert_eq!(unstable(), 0, "SYNCHRONIZE CACHE");
    rig.write(3, 1, 3);
    // The caching page as it is read, but for the cache.
    let page = rig.run(&[0x1a, 0x08, 0x08, 0, 255, 0], b"").data.concat();
    assert_eq!(page[4..7], [0x08, 18, 0x04]);
    let mut list = page.clone();
    (list[0], list[2], list[6]) = (0, 0, 0);
    assert_eq!(rig.run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list), Reply::good());
    assert_eq!(unstable(), 0, "switched off, everything is stable first");
    rig.write(4, 1, 4);
    assert_eq!(unstable(), 0);
    assert_eq!(sense(&rig.on(0, 2, &[0; 6], b"")), (6, 0x2a01), "others are told");
    assert_eq!(rig.run(&[0; 6], b""), Reply::good());
    list[7] = 0x55;
    assert_eq!(sense(&rig.run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)), (5, 0x2600));
}

#[test]
fn a_cache_that_is_off_for_good_cannot_be_switched_on() {
    let rig = Rig::new(Shape { write_cache: false, ..Shape::EMULATED_512 });
    let unstable = || rig.disks[0].unstable.load(SeqCst);
    // READ and WRITE CACHE of the caching page: current, changeable and default values.
    for control in [0x00, 0x40, 0x80] {
        let page = rig.run(&[0x1a, 0x08, 0x08 | control, 0, 255, 0], b"").data.concat();
        assert_eq!(page[4..7], [0x08, 18, 0], "control {control:#x}");
    }
    let page = rig.run(&[0x1a, 0x08, 0x08, 0, 255, 0], b"").data.concat();
    let mut list = page.clone();
    (list[0], list[2]) = (0, 0);
    assert_eq!(rig.run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list), Reply::good(), "it is off already");
    list[6] = 0x04;
    assert_eq!(sense(&rig.run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)), (5, 0x2600));
    rig.write(0, 1, 1);
    assert_eq!(unstable(), 0, "WRITE");
    assert!(rig.device.reset());
    assert_eq!(sense(&rig.run(&[0; 6], b"")), (6, 0x2903));
    rig.write(1, 1, 1);
    // WRITE SAME (10) of one block, UNMAP of one, COMPARE AND WRITE.
    assert_eq!(rig.run(&[0x41, 0, 0, 0, 0, 2, 0, 0, 4, 0], &[7; 512]), Reply::good());
    let unmap = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &2u64.to_be_bytes(), &1u32.to_be_bytes(), &[0; 4]].concat();
    assert_eq!(rig.run(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap), Reply::good());
    let compare = [[1; 512], [2; 512]].concat();
    assert_eq!(rig.run(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0], &compare), Reply::good());
    assert_eq!(unstable(), 0, "after everything that writes, and after a reset");
}

#[test]
fn errors_of_the_disk_are_told_apart() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(5, 1, 1);
    rig.disks[0].damaged.store(true, SeqCst);
    let reply = rig.run(&[0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0], b"");
    assert_eq!((sense(&reply), &reply.sense[..7]), ((3, 0x1100), &[0xf0, 0, 3, 0, 0, 0, 5][..]));
    rig.disks[0].damaged.store(false, SeqCst);
    rig.disks[0].full.store(true, SeqCst);
    assert_eq!(sense(&rig.run(&write_10(5, 1, 0), &[9; 512])), (7, 0x2707));
    assert_eq!(rig.read(5, 1), [1; 512]);
    rig.disks[0].full.store(false, SeqCst);
    rig.disks[0].read_only.store(true, SeqCst);
    assert_eq!(sense(&rig.run(&write_10(5, 1, 0), &[9; 512])), (7, 0x2700));
    assert_eq!(rig.run(&[0x1a, 0x08, 0x08, 0, 4, 0], b"").data.concat()[2] & 0x80, 0x80);
}

#[test]
fn a_new_size_and_a_full_disk_are_told_once() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.disks[0].resize(16 << 20);
    for port in 1..=2 {
        assert_eq!(sense(&rig.on(0, port, &[0; 6], b"")), (6, 0x2a09));
        assert_eq!(rig.on(0, port, &[0; 6], b""), Reply::good());
    }
    let capacity = rig.run(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"").data.concat();
    assert_eq!(capacity, [0, 0, 0x7f, 0xff, 0, 0, 2, 0]);
    let unit = rig.device.units()[&0].clone();
    let space = |free_bytes| Space { total_bytes: 1000, free_bytes };
    for (free, expected) in [(101, (0, 0)), (100, (6, 0x3807)), (50, (0, 0)), (500, (0, 0)), (50, (6, 0x3807))] {
        unit.notice_space(space(free));
        assert_eq!(sense(&rig.run(&[0; 6], b"")), expected, "{free} bytes free");
    }
}

#[test]
fn sizes_go_up_to_the_largest() {
    for (shape, size, last, short) in [
        (Shape::EMULATED_512, super::DISK_BYTES_MIN, 2047u64, 2047u32),
        (Shape::EMULATED_512, super::DISK_BYTES_MAX, (256 << 31) - 1, u32::MAX),
        (Shape::NATIVE_4096, super::DISK_BYTES_MAX, (256 << 28) - 1, u32::MAX),
    ] {
        let rig = Rig::new(shape);
        rig.disks[0].resize(size);
        rig.run(&[0; 6], b"");
        let long = rig.run(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], b"").data.concat();
        assert_eq!(long[..8], last.to_be_bytes());
        assert_eq!(long[8..12], shape.block_bytes.to_be_bytes());
        assert_eq!(rig.run(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"").data.concat()[..4], short.to_be_bytes());
        let mut cdb = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        cdb[2..10].copy_from_slice(&last.to_be_bytes());
        assert_eq!(rig.run(&cdb, &vec![7; shape.block_bytes as usize]), Reply::good());
        cdb[2..10].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(sense(&rig.run(&cdb, &vec![7; shape.block_bytes as usize])), (5, 0x2100));
    }
}

#[test]
fn compare_and_write_is_one_step() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(0, 1, 0);
    // Each of many threads counts up by one, and tries again where another was faster.
    std::thread::scope(|scope| {
        for port in 1..=2 {
            let rig = &rig;
            scope.spawn(move || {
                for _ in 0..50 {
                    loop {
                        let now = rig.on(0, port, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], b"").data.concat();
                        let mut next = now.clone();
                        next[0] += 1;
                        let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
                        let reply = rig.on(0, port, &cdb, &[now, next].concat());
                        if reply == Reply::good() {
                            break;
                        }
                        assert_eq!(sense(&reply), (0xe, 0x1d00));
                    }
                }
            });
        }
    });
    assert_eq!(rig.read(0, 1)[0], 100);
}

#[test]
fn room_is_given_back() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(0, 64, 7);
    let status = |block: u8| {
        let cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, block, 0, 0, 1, 0, 0, 0];
        let data = rig.run(&cdb, b"").data.concat();
        assert_eq!(data[..4], (data.len() as u32 - 4).to_be_bytes());
        let run = |run: &[u8]| (run[7], u32::from_be_bytes(run[8..12].try_into().unwrap()), run[12]);
        data[8..].chunks(16).map(run).collect::<Vec<_>>()
    };
    assert_eq!(status(0), [(0, 64, 0), (64, 16384 - 64, 1)]);
    // UNMAP of blocks 8 to 15 and 32 to 39.
    let mut list = vec![0, 38, 0, 32, 0, 0, 0, 0];
    for block in [8, 32] {
        list.extend([0, 0, 0, 0, 0, 0, 0, block, 0, 0, 0, 8, 0, 0, 0, 0]);
    }
    assert_eq!(rig.run(&[0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0], &list), Reply::good());
    assert_eq!(status(10), [(10, 6, 1), (16, 16, 0), (32, 8, 1), (40, 24, 0), (64, 16384 - 64, 1)]);
    // WRITE SAME without data gives back whether or not it is asked to; with data only zeros do.
    assert_eq!(rig.run(&[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 24, 0, 0], b""), Reply::good());
    assert_eq!(rig.run(&[0x41, 8, 0, 0, 0, 16, 0, 0, 8, 0], &[3; 512]), Reply::good());
    assert_eq!(status(16), [(16, 16, 0), (32, 16384 - 32, 1)]);
    assert_eq!(rig.read(16, 8), [3; 4096]);
    assert_eq!(rig.read(40, 24), [0; 24 * 512]);
}

#[test]
fn copies_between_units_arrive() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(3, 5, 9);
    let mut list = vec![0; 16];
    (list[0], list[3], list[11]) = (42, 64, 28);
    for lun in 0..2 {
        let mut target = [0; 32];
        target[0] = 0xe4;
        (target[4], target[5], target[7]) = (1, 3, 16);
        target[8..24].copy_from_slice(&rig.device.units()[&lun].identity().naa_name());
        target[30] = 2;
        list.extend(target);
    }
    let mut segment = [0; 28];
    (segment[0], segment[3], segment[7], segment[11], segment[19], segment[27]) = (2, 24, 1, 5, 3, 100);
    list.extend(segment);
    let cdb = [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0];
    assert_eq!(rig.run(&cdb, &list), Reply::good());
    assert_eq!(rig.disks[1].read(100 * 512, 5 * 512).unwrap().concat(), [9; 2560]);
    let status = rig.run(&[0x84, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], b"").data.concat();
    assert_eq!(status, [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 0x0a, 0]);
    assert_eq!(sense(&rig.run(&[0x84, 0, 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], b"")), (5, 0x2400));
    // Another initiator's reservation of the target unit counts.
    assert_eq!(rig.on(1, 2, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &register(0, 7, 0)), Reply::good());
    assert_eq!(rig.on(1, 2, &[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], &register(7, 0, 0)), Reply::good());
    assert_eq!(rig.run(&cdb, &list).status, Status::ReservationConflict);
}

fn register(key: u8, new: u8, flags: u8) -> [u8; 24] {
    let mut list = [0; 24];
    (list[7], list[15], list[20]) = (key, new, flags);
    list
}

#[test]
fn reservations_outlive_a_restart_where_that_was_asked_for() {
    let rig = Rig::new(Shape::EMULATED_512);
    let out = |port, action: u8, kind: u8, list: [u8; 24]| {
        rig.on(0, port, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list).status
    };
    assert_eq!(out(1, 0, 0, register(0, 5, 0)), Status::Good);
    assert!(rig.kept.0.lock().unwrap().is_empty(), "nobody asked for it");
    assert_eq!(out(1, 0, 0, register(5, 6, 1)), Status::Good);
    assert_eq!(out(1, 1, 3, register(6, 0, 0)), Status::Good);
    assert_eq!(rig.on(0, 2, &write_10(0, 1, 0), &[1; 512]).status, Status::ReservationConflict);
    let restarted = Reservations::decode("kept", &rig.kept.0.lock().unwrap()).unwrap();
    assert!(restarted.holds(&nexus(1)) && !restarted.admits(&nexus(2), false));
    // A reset and the end of the session leave it alone.
    assert!(rig.device.reset());
    rig.device.nexus_ends(&nexus(1));
    assert_eq!(sense(&rig.on(0, 2, &[0; 6], b"")), (6, 0x2903));
    assert_eq!(rig.on(0, 2, &write_10(0, 1, 0), &[1; 512]).status, Status::ReservationConflict);
    rig.device.nexus_begins(&nexus(1), true);
    assert_eq!(sense(&rig.on(0, 1, &[0; 6], b"")), (6, 0x2907));
    // Preempted, the other is told, and what is kept follows.
    assert_eq!(out(2, 0, 0, register(0, 9, 1)), Status::Good);
    assert_eq!(out(2, 5, 1, register(9, 6, 0)), Status::Good);
    assert_eq!(sense(&rig.on(0, 1, &[0; 6], b"")), (6, 0x2a05));
    assert_eq!(out(1, 0, 0, register(6, 0, 0)), Status::ReservationConflict);
    let restarted = Reservations::decode("kept", &rig.kept.0.lock().unwrap()).unwrap();
    assert!(restarted.holds(&nexus(2)) && restarted.registrations.len() == 1);
    assert_eq!(out(2, 3, 0, register(9, 0, 0)), Status::Good);
    assert!(Reservations::decode("kept", &rig.kept.0.lock().unwrap()).unwrap().is_empty());
}

#[test]
fn who_may_not_write_may_start_the_unit_and_not_stop_it() {
    let rig = Rig::new(Shape::EMULATED_512);
    let out = |port, action: u8, kind: u8, list: [u8; 24]| {
        rig.on(0, port, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list).status
    };
    let start_stop = |port, how: u8| rig.on(0, port, &[0x1b, 0, 0, 0, how, 0], b"").status;
    assert_eq!(out(1, 0, 0, register(0, 5, 0)), Status::Good);
    for kind in [1, 3, 5, 6, 7, 8] {
        assert_eq!(out(1, 1, kind, register(5, 0, 0)), Status::Good);
        for how in [0x00, 0x10, 0x11, 0x30] {
            assert_eq!(start_stop(2, how), Status::ReservationConflict, "kind {kind}, {how:#x}");
            assert_eq!(start_stop(1, how), Status::Good);
        }
        assert_eq!(start_stop(2, 0x01), Status::Good);
        assert_eq!(out(1, 2, kind, register(5, 0, 0)), Status::Good);
    }
    assert_eq!(start_stop(2, 0x00), Status::Good, "nothing is reserved any more");
}

#[test]
fn what_did_not_come_is_not_said_to_be_the_same() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(0, 2, 7);
    let verify = |data: &[u8]| sense(&rig.run(&[0x2f, 2, 0, 0, 0, 0, 0, 0, 2, 0], data));
    assert_eq!(verify(&[7; 1024]), (0, 0));
    assert_eq!(verify(&[7; 512]), (0xb, 0x0e02));
    assert_eq!(verify(b""), (0xb, 0x0e02));
    assert_eq!(verify(&[8; 1024]), (0xe, 0x1d00));
}

#[test]
fn other_ports_are_registered_and_handed_over_to() {
    let rig = Rig::new(Shape::EMULATED_512);
    let other = nexus(2).transport_id();
    let mut list = register(0, 5, 0x08).to_vec();
    list.extend((other.len() as u32).to_be_bytes());
    list.extend(&other);
    let cdb = |action: u8, len: usize| [0x5f, action, 0, 0, 0, 0, 0, 0, len as u8, 0];
    assert_eq!(rig.run(&cdb(0, list.len()), &list), Reply::good());
    let keys = rig.run(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0], b"").data.concat();
    assert_eq!(keys[7], 16);
    assert_eq!(rig.run(&[0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0], &register(5, 0, 0)), Reply::good());
    let mut list = register(5, 8, 0).to_vec();
    list[19] = 1;
    list[20..24].copy_from_slice(&(other.len() as u32).to_be_bytes());
    list.extend(&other);
    assert_eq!(rig.run(&cdb(7, list.len()), &list), Reply::good());
    let holder = rig.run(&[0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0], b"").data.concat();
    assert_eq!((holder[15], holder[21]), (8, 5));
    let (port, len) = Nexus::from_transport_id(&other).unwrap();
    assert_eq!((port, len), (nexus(2), other.len()));
}

#[test]
fn a_port_in_standby_answers_and_moves_nothing() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.device.units()[&0].set_access(AccessState::Standby, None);
    assert_eq!(sense(&rig.run(&[0; 6], b"")), (6, 0x2a06));
    assert_eq!(sense(&rig.run(&[0; 6], b"")), (2, 0x040b));
    assert_eq!(sense(&rig.run(&write_10(0, 1, 0), &[1; 512])), (2, 0x040b));
    assert_eq!(rig.run(&[0x12, 0, 0, 0, 96, 0], b"").data.concat()[5] & 0x30, 0x10);
    let groups = rig.run(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0], b"").data.concat();
    assert_eq!(groups, [0, 0, 0, 12, 0x82, 0x0f, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1]);
    // No initiator can change that for the others, and none is told that it could.
    assert_eq!(sense(&rig.run(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 1])), (5, 0x2000));
    let known = rig.run(&[0xa3, 0x0c, 2, 0xa4, 0, 0x0a, 0, 0, 0, 255, 0, 0], b"").data.concat();
    assert_eq!(known[1] & 7, 1, "not supported");
    rig.device.units()[&0].set_access(AccessState::Optimized, None);
    assert_eq!(sense(&rig.run(&[0; 6], b"")), (6, 0x2a06));
    rig.write(0, 1, 1);
}

#[test]
fn damage_is_told_with_its_first_block() {
    let rig = Rig::new(Shape::EMULATED_512);
    rig.write(100, 64, 1);
    let run = |opcode: u8, check: u8, from: u8, blocks: u8, data: &[u8]| {
        rig.run(&[opcode, check, 0, 0, 0, from, 0, 0, blocks, 0], data)
    };
    for damaged in [100, 101, 137, 162, 163] {
        *rig.disks[0].damaged_at.lock().unwrap() = Some(damaged * 512 + 5);
        // READ, VERIFY without and with data, of many blocks and of the one.
        let from = damaged as u8;
        for reply in [
            run(0x28, 0, 100, 64, b""),
            run(0x2f, 0, 100, 64, b""),
            run(0x2f, 2, 100, 64, &[1; 64 * 512]),
            run(0x28, 0, from, 1, b""),
        ] {
            assert_eq!(sense(&reply), (3, 0x1100));
            let information = u32::from_be_bytes(reply.sense[3..7].try_into().unwrap());
            assert_eq!((reply.sense[0], u64::from(information)), (0xf0, damaged), "valid, and the block");
        }
        assert_eq!(run(0x28, 0, 90, from - 90, b"").status, Status::Good, "what lies before it");
        assert_eq!(run(0x28, 0, from + 1, 8, b"").status, Status::Good, "and behind");
    }
}

#[test]
fn what_is_under_way_when_the_cache_is_switched_off_is_stable_when_it_is_answered() {
    let same = |data: u8| ([0x41, 0, 0, 0, 0, 0, 0, 0, 8, 0], vec![data; 512]);
    for (cdb, data) in [(write_10(0, 8, 0), vec![1; 4096]), same(1), same(0)] {
        let disk = Arc::new(HeldDisk::new(1 << 20));
        let (identity, kept) = (Identity::new([1; 16]), Arc::<Kept>::default());
        let unit = LogicalUnit::new(disk.clone(), identity, Shape::EMULATED_512, kept, Reservations::default());
        let device = Device::new([(0, Arc::new(unit))].into(), None);
        device.nexus_begins(&nexus(1), false);
        let run = |cdb: &[u8], data: &[u8]| {
            let (nexus, aborted) = (Arc::new(nexus(1)), AtomicBool::new(false));
            let (lun, announced_bytes) = ([0; 8], data.len() as u64);
            let asked = Asked { nexus: &nexus, lun, cdb, epoch: device.epoch(lun), announced_bytes, aborted: &aborted };
            device.execute(&asked, Bytes::copy_from_slice(data))
        };
        assert_eq!(sense(&run(&[0; 6], b"")), (6, 0x2900));
        let mut list = run(&[0x1a, 0x08, 0x08, 0, 255, 0], b"").data.concat();
        (list[0], list[2], list[6]) = (0, 0, 0);
        disk.hold(true);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| run(&cdb, &data).status);
            disk.wait_for(1);
            assert_eq!(run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list).status, Status::Good);
            disk.hold(false);
            assert_eq!(writing.join().unwrap(), Status::Good);
        });
        assert_eq!(disk.disk.unstable.load(SeqCst), 0, "{:#x}", cdb[0]);
    }
}

#[test]
fn numbers_without_a_unit_say_so() {
    let rig = Rig::new(Shape::EMULATED_512);
    assert_eq!(rig.on(9, 1, &[0x12, 0, 0, 0, 96, 0], b"").data.concat()[0], 0x7f);
    assert_eq!(sense(&rig.on(9, 1, &[0; 6], b"")), (5, 0x2500));
    let luns = rig.on(9, 1, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], b"").data.concat();
    assert_eq!((luns.len(), luns[3], luns[17]), (24, 16, 1));
    let mut units = rig.device.units();
    rig.device.replace(units.clone());
    assert_eq!(rig.run(&[0; 6], b""), Reply::good(), "the same as before");
    let moved = units.remove(&1).unwrap();
    units.insert(300, moved);
    rig.device.replace(units);
    assert_eq!(sense(&rig.run(&[0; 6], b"")), (6, 0x3f0e));
    assert_eq!(sense(&rig.on(1, 1, &[0; 6], b"")), (5, 0x2500));
    assert!(rig.device.unit([0x41, 0x2c, 0, 0, 0, 0, 0, 0]).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_command_is_answered(
        known in 0usize..super::operations::OPERATIONS.len(), wild: bool, lun in 0u8..3,
        mut cdb in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 1..33),
        data in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..1500),
    ) {
        if !wild {
            let operation = &super::operations::OPERATIONS[known];
            cdb[0] = operation.opcode;
            if let (Some(action), Some(second)) = (operation.action, cdb.get_mut(1)) {
                *second = *second & 0xe0 | action;
            }
        }
        let rig = Rig::new(Shape::EMULATED_512);
        let wanted = rig.device.data_out_bytes([0, lun, 0, 0, 0, 0, 0, 0], &cdb);
        prop_assert!(wanted <= super::TRANSFER_BYTES_MAX);
        let data = &data[..data.len().min(wanted as usize)];
        let reply = rig.on(lun, 1, &cdb, data);
        let len: u64 = reply.data.iter().map(|piece| piece.len() as u64).sum();
        prop_assert!(len <= super::TRANSFER_BYTES_MAX);
        prop_assert!(reply.status != Status::CheckCondition || !reply.sense.is_empty());
    }
}
