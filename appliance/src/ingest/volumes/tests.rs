//! Targets over a store on a simulated disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Store, StoreOptions};

use super::StoreTargets;
use super::plan::place_of;
use crate::ingest::iscsi::scsi::{Asked, Device, Neighbours, Nexus, Reply, Status};
use crate::ingest::iscsi::{Target, Targets};

const MIB: u64 = 1 << 20;
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];
const TEST_UNIT_READY: [u8; 6] = [0; 6];

struct Rig {
    disk: SimDisk,
    store: Arc<Store>,
    targets: StoreTargets,
}

impl Rig {
    /// A store with some volumes of 4 MiB.
    fn new(config: &str, volumes: &[&str]) -> Rig {
        let disk = SimDisk::new(1);
        let options = StoreOptions { reserve_bytes: MIB, ..StoreOptions::default() };
        let (store, _) = Store::open(Arc::new(disk.clone()), options).expect("an empty disk");
        let store = Arc::new(store);
        let config = toml::from_str(config).expect("a config");
        let targets = StoreTargets::new(store.clone(), config, Vec::new()).expect("a sound config");
        let rig = Rig { disk, store, targets };
        volumes.iter().for_each(|name| rig.create(name));
        rig
    }

    fn create(&self, name: &str) {
        self.store.create_volume(name, 4 * MIB, Policy::Inline, Timestamp(1)).expect("room");
    }

    fn target(&self, name: &str) -> Arc<Target> {
        self.targets.by_name(&format!("iqn.2026-11.net.narrowboat:{name}")).expect("a target")
    }

    fn names(&self) -> Vec<String> {
        self.targets.list().iter().map(|target| target.alias.clone()).collect()
    }
}

fn nexus(host: &str) -> Nexus {
    Nexus { initiator: format!("iqn.2026-01.org.example:{host}"), isid: [0x40, 0, 0, 0, 0, 1] }
}

fn run(device: &Device, lun: u8, cdb: &[u8]) -> Reply {
    let lun = [0, lun, 0, 0, 0, 0, 0, 0];
    let (nexus, epoch) = (Arc::new(nexus("host")), device.epoch(lun));
    device.execute(
        &Asked { nexus: &nexus, lun, cdb, epoch, announced_bytes: 0, aborted: &AtomicBool::new(false) },
        Bytes::new(),
    )
}

/// Additional sense codes of what the unit has to say until it has nothing more.
fn attentions(device: &Device, lun: u8) -> Vec<u16> {
    let next = || Some(run(device, lun, &TEST_UNIT_READY)).filter(|reply| reply.status == Status::CheckCondition);
    std::iter::from_fn(next).take(9).map(|reply| u16::from_be_bytes([reply.sense[12], reply.sense[13]])).collect()
}

#[test]
fn volumes_are_put_together_as_the_config_says() {
    let config = "[target.db]\nvolumes=['log','later','data']\ninitiators=['iqn.2026-01.org.example:host']";
    let rig = Rig::new(config, &["alone", "data", "log", "db", "Großes"]);
    assert_eq!(rig.names(), ["db", "Großes", "alone", "db"]);
    let db = rig.target("db");
    assert_eq!(
        db.device.units().into_keys().collect::<Vec<_>>(),
        [0, 2],
        "a place is kept for the one that is missing"
    );
    assert!(!db.access.admits("iqn.2026-01.org.example:other", [127, 0, 0, 1].into()));
    assert!(rig.target("alone").access.admits("iqn.2026-01.org.example:other", [127, 0, 0, 1].into()));
    // The volume that is called like the group is there under its id.
    for row in rig.store.dataset_rows() {
        let (name, lun) = place_of(&rig.targets.config, &row);
        let device = rig.targets.by_name(&name).expect("a target").device.clone();
        assert_eq!(device.units()[&lun].identity().serial(), row.id.to_string(), "{name}");
    }
    db.device.nexus_begins(&nexus("host"), false);
    assert_eq!((attentions(&db.device, 0), attentions(&db.device, 2)), (vec![0x2900], vec![0x2900]));
    rig.create("later");
    rig.targets.look();
    let told = [0, 1, 2].map(|lun| attentions(&db.device, lun));
    assert_eq!(told, [vec![0x3f0e], vec![0x2900], vec![0x3f0e]], "REPORTED LUNS DATA HAS CHANGED");
    rig.store.delete_dataset("log", Timestamp(2)).expect("deleted");
    rig.targets.look();
    assert_eq!(run(&db.device, 0, &INQUIRY).data.concat()[0], 0x7f, "no such unit");
    assert_eq!(attentions(&db.device, 1), [0x3f0e]);
}

#[test]
fn a_disk_that_fills_a_volume_that_grows_and_one_that_goes_are_told() {
    let rig = Rig::new("", &["disk"]);
    let device = rig.target("disk").device.clone();
    device.nexus_begins(&nexus("host"), false);
    rig.targets.look();
    assert_eq!(attentions(&device, 0), [0x2900]);
    rig.store.resize_volume("disk", 8 * MIB, Timestamp(2)).expect("room");
    rig.targets.look();
    assert_eq!(attentions(&device, 0), [0x2a09], "CAPACITY DATA HAS CHANGED");
    // What is left above the reserve is less than a tenth of the disk.
    rig.disk.fill(MIB + rig.disk.used() / 20);
    rig.targets.look();
    rig.targets.look();
    assert_eq!(attentions(&device, 0), [0x3807], "SOFT THRESHOLD REACHED, once");
    let late = Nexus { isid: [0x40, 0, 0, 0, 0, 2], ..nexus("host") };
    device.nexus_begins(&late, false);
    device.nexus_begins(&nexus("host"), false);
    assert_eq!(attentions(&device, 0), [0x2900, 0x3807], "who comes later is told, too");
    rig.disk.fill(64 * MIB);
    rig.targets.look();
    rig.disk.fill(MIB);
    rig.targets.look();
    assert_eq!(attentions(&device, 0), [0x3807], "again, after there was room");
    rig.disk.fill(64 * MIB);
    rig.store.delete_dataset("disk", Timestamp(3)).expect("deleted");
    rig.targets.look();
    assert_eq!(run(&device, 0, &INQUIRY).data.concat()[0], 0x7f);
    assert!(rig.targets.list().is_empty());
}

/// Logs in and registers a key that outlasts a restart (APTPL); says under which name the store keeps it.
fn register(rig: &Rig, volume: &str) -> (Arc<Device>, String) {
    let row = rig.store.dataset_named(volume).expect("there").row;
    let setting = format!("iscsi.reservations.{}", row.id);
    let device = rig.target(volume).device.clone();
    device.nexus_begins(&nexus("host"), false);
    attentions(&device, 0);
    let mut list = [0; 24];
    (list[15], list[20]) = (7, 1);
    let (nexus, epoch) = (Arc::new(nexus("host")), device.epoch([0; 8]));
    let cdb = &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let never = AtomicBool::new(false);
    let asked = Asked { nexus: &nexus, lun: [0; 8], cdb, epoch, announced_bytes: 24, aborted: &never };
    assert_eq!(device.execute(&asked, Bytes::copy_from_slice(&list)), Reply::good());
    assert!(rig.store.setting(&setting).is_some());
    (device, setting)
}

#[test]
fn reservations_go_with_their_volume() {
    let rig = Rig::new("", &["disk"]);
    let (_, setting) = register(&rig, "disk");
    rig.store.delete_dataset("disk", Timestamp(2)).expect("deleted");
    rig.targets.look();
    assert!(rig.store.setting(&setting).is_none());
}

/// A volume is created, logged in to and reserved after a look has begun: it is there afterwards as it was.
#[test]
fn a_volume_that_comes_during_a_look_keeps_its_unit_and_its_reservations() {
    let rig = Rig::new("[target.db]\nvolumes=['data','log']", &["data"]);
    let db = rig.target("db").device.clone();
    let mut came = None;
    rig.targets.look_and(|| {
        rig.create("disk");
        rig.create("log");
        came = Some((register(&rig, "disk"), rig.target("disk").device.units(), rig.target("db").device.units()));
    });
    let ((device, setting), alone, grouped) = came.expect("it was called");
    assert!(Arc::ptr_eq(&rig.target("disk").device, &device), "one device");
    for (name, device, units) in [("disk", device, alone), ("db", db, grouped)] {
        let now = device.units();
        assert!(now.keys().eq(units.keys()) && !now.is_empty(), "{name}");
        assert!(now.values().zip(units.values()).all(|(own, other)| Arc::ptr_eq(own, other)), "{name}: one unit");
    }
    assert!(rig.store.setting(&setting).is_some(), "what was reserved");
    rig.targets.look();
    assert_eq!(rig.target("db").device.units().len(), 2);
    assert!(rig.store.setting(&setting).is_some());
}

#[test]
fn copies_go_to_units_that_the_initiator_is_logged_in_to() {
    let rig = Rig::new("", &["a", "b"]);
    let (a, b) = (rig.target("a").device.clone(), rig.target("b").device.clone());
    let naa = b.units()[&0].identity().naa_name();
    a.nexus_begins(&nexus("host"), false);
    assert!(a.by_name(&nexus("host"), &naa).is_none());
    b.nexus_begins(&nexus("other"), false);
    assert!(a.by_name(&nexus("host"), &naa).is_none());
    b.nexus_begins(&nexus("host"), false);
    assert!(a.by_name(&nexus("host"), &naa).is_some());
    assert!(rig.targets.units.find(&nexus("host"), &[0; 16]).is_none());
}
