//! States of arrays as the kernel shows them, in a tree of files like its own.

use std::fs;
use std::os::unix::fs::symlink;

use super::super::layout::Redundancy;
use super::*;

struct Sys(tempfile::TempDir);

impl Sys {
    /// An idle array of a level with partitions sda1, sdb1, ... that are whole.
    fn new(level: &str, disks: usize) -> Sys {
        let sys = Sys(tempfile::tempdir().expect("a folder"));
        for (name, text) in [
            ("level", level),
            ("raid_disks", &disks.to_string()),
            ("degraded", "0"),
            ("array_state", "clean"),
            ("sync_action", "idle"),
            ("sync_completed", "none"),
            ("sync_speed", "none"),
            ("mismatch_cnt", "0"),
        ] {
            sys.set(name, text);
        }
        for slot in 0..disks {
            sys.member(slot, &slot.to_string(), "in_sync", true);
        }
        sys
    }

    fn set(&self, name: &str, text: &str) -> &Sys {
        let path = self.0.path().join("block/md127/md").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
        self
    }

    fn member(&self, disk: usize, slot: &str, state: &str, present: bool) -> &Sys {
        let name = format!("dev-sd{}1", char::from(b'a' + disk as u8));
        for (file, text) in [("slot", slot), ("state", state), ("errors", "0")] {
            self.set(&format!("{name}/{file}"), text);
        }
        let block = self.0.path().join("block/md127/md").join(&name).join("block");
        let _ = fs::remove_file(&block);
        // The kernel's link leads to the disk, and to nowhere once that is gone.
        symlink(if present { "/" } else { "/nowhere/at/all" }, block).expect("linked");
        self
    }

    fn read(&self) -> ArrayState {
        let member =
            |slot, serial: &str| Member { slot, serial: Some(serial.into()), model: Some("M1".into()), size_bytes: 0 };
        let members = vec![member(0, "A"), member(1, "B"), member(2, "C")];
        let description = Description::new("id".into(), String::new(), Redundancy::Parity, true, 0, members);
        read(self.0.path(), "md127", Some(&description)).expect("an array")
    }
}

#[test]
fn a_healthy_array_has_nothing_to_say() {
    let state = Sys::new("raid5", 3).read();
    assert_eq!((state.health, state.disks, state.degraded), (Health::Healthy, 3, 0));
    assert_eq!(state.advice, [""; 0]);
    assert_eq!(state.members[1].serial.as_deref(), Some("B"));
}

#[test]
fn a_disk_that_is_gone_is_named_by_its_number_with_what_to_do() {
    let sys = Sys::new("raid5", 3);
    sys.set("degraded", "1").member(1, "none", "faulty", false);
    let state = sys.read();
    assert_eq!(state.health, Health::Degraded);
    let said = &state.advice[0];
    assert!(said.contains("1 of 3 disks missing: serial number B (slot 1, M1)"), "{said}");
    assert!(said.contains("`narrowboat disks replace B NEW`") && said.contains("if another disk is lost"), "{said}");
    assert_eq!(state.advice.len(), 1, "a disk that is gone need not be pulled out");
    // The same for one whose entry the kernel has forgotten.
    fs::remove_dir_all(sys.0.path().join("block/md127/md/dev-sdb1")).expect("removed");
    assert_eq!(sys.read().advice, state.advice);
}

#[test]
fn a_disk_that_failed_and_is_still_there_may_be_pulled_out() {
    let sys = Sys::new("raid1", 2);
    sys.set("degraded", "1").member(0, "none", "faulty", true);
    let state = sys.read();
    assert_eq!(state.health, Health::Degraded);
    assert!(state.advice.iter().any(|said| said.contains("sda1 is no longer in use")), "{:?}", state.advice);
}

#[test]
fn a_rebuild_says_how_far_it_is_and_what_may_still_be_lost() {
    let sys = Sys::new("raid6", 4);
    sys.set("degraded", "1").set("sync_action", "recover").set("sync_completed", "2097152 / 8388608");
    sys.set("sync_speed", "102400").member(3, "3", "spare", true);
    let state = sys.read();
    let measured = (state.health, state.done_bytes, state.total_bytes);
    assert_eq!(measured, (Health::Rebuilding, Some(1 << 30), Some(4 << 30)));
    assert_eq!(state.seconds_left(), Some(3.0 * 1024.0 / 100.0));
    let said = &state.advice[0];
    assert!(said.contains("25 % at 100.0 MiB/s, about 31 s left"), "{said}");
    assert!(said.contains("another disk may still be lost"), "{said}");
}

#[test]
fn what_was_not_measured_yet_is_no_nought() {
    let sys = Sys::new("raid5", 3);
    sys.set("degraded", "1")
        .set("sync_action", "recover")
        .set("sync_completed", "delayed")
        .member(2, "2", "spare", true);
    let state = sys.read();
    assert_eq!((state.done_bytes, state.total_bytes, state.bytes_per_second), (None, None, None));
    assert!(state.advice[0].contains("a disk is being rebuilt: not measured yet."), "{:?}", state.advice);
    sys.set("sync_completed", "0 / 2048").set("sync_speed", "0");
    assert!(sys.read().advice[0].contains("0 %, its rate is not measured yet."), "{:?}", sys.read().advice);
    let json = serde_json::to_value(&state).expect("JSON");
    for field in ["done_bytes", "total_bytes", "bytes_per_second", "mismatch_bytes"] {
        assert!(json[field].is_null(), "{field}: {json}");
    }
}

#[test]
fn a_first_fill_is_no_check_that_found_the_disks_to_disagree() {
    let sys = Sys::new("raid5", 3);
    sys.set("mismatch_cnt", "128").set("last_sync_action", "resync");
    assert_eq!(sys.read().mismatch_bytes, None);
    sys.set("last_sync_action", "check");
    assert_eq!(sys.read().mismatch_bytes, Some(65536));
    sys.set("mismatch_cnt", "0");
    assert_eq!(sys.read().mismatch_bytes, Some(0), "a check that found nothing is known to have found nothing");
}

#[test]
fn an_array_that_stands_still_is_told_from_one_that_rests() {
    let sys = Sys::new("raid5", 3);
    assert!(!sys.read().asleep);
    sys.set("sync_action", "frozen").set("degraded", "1").member(2, "none", "spare", true);
    let state = sys.read();
    assert!(state.asleep && state.advice.iter().any(|said| said.contains("broken off")), "{:?}", state.advice);
    sys.set("sync_action", "idle").set("array_state", "read-auto");
    assert!(sys.read().asleep);
}

#[test]
fn disks_with_one_number_are_missing_and_not_named_by_it() {
    let sys = Sys::new("raid5", 3);
    sys.set("degraded", "1").member(1, "none", "faulty", false);
    let member = |slot| Member { slot, serial: Some("DOCK".into()), model: None, size_bytes: 0 };
    let members = vec![member(0), member(1), member(2)];
    let twins = Description::new("id".into(), String::new(), Redundancy::Parity, true, 0, members);
    let state = read(sys.0.path(), "md127", Some(&twins)).expect("an array");
    assert!(state.advice[0].contains("`narrowboat disks replace missing NEW`"), "{:?}", state.advice);
}

#[test]
fn a_copy_to_a_successor_is_no_loss() {
    let sys = Sys::new("raid1", 2);
    sys.set("sync_action", "recover").set("sync_completed", "1 / 2").member(2, "1", "spare,replacement", true);
    let state = sys.read();
    assert_eq!((state.health, state.degraded), (Health::Rebuilding, 0));
    assert!(state.advice[0].contains("copied to its successor") && state.advice[0].contains("nothing is missing"));
    // It is described as who stays; the other one in the slot does not bear its number.
    let serial = |partition: &str| {
        let member = state.members.iter().find(|member| member.partition == partition).expect("there");
        member.serial.clone()
    };
    assert_eq!((serial("sdb1"), serial("sdc1").as_deref()), (None, Some("B")));
}

#[test]
fn more_losses_than_it_can_do_without_are_said_so() {
    let sys = Sys::new("raid5", 3);
    sys.set("degraded", "2").member(0, "none", "faulty", false).member(1, "none", "faulty", false);
    let state = sys.read();
    assert_eq!(state.health, Health::Broken);
    assert!(state.advice[0].contains("serial number A (slot 0, M1), serial number B"), "{:?}", state.advice);
    let sys = Sys::new("raid1", 2);
    sys.set("array_state", "inactive");
    assert_eq!(sys.read().health, Health::Broken);
}

#[test]
fn checks_first_fills_and_unreadable_places_are_told() {
    let sys = Sys::new("raid1", 2);
    sys.set("sync_action", "resync").set("sync_completed", "10 / 100");
    assert_eq!(sys.read().health, Health::Building);
    sys.set("sync_action", "check").set("dev-sda1/errors", "7").set("mismatch_cnt", "16");
    let state = sys.read();
    assert_eq!((state.health, state.mismatch_bytes), (Health::Checking, Some(8192)));
    assert!(state.advice.iter().any(|said| said.contains("the disk A could not read 7 places")), "{:?}", state.advice);
}

#[test]
fn what_is_no_array_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(read(folder.path(), "md127", None), None);
    let sys = Sys::new("raid1", 2);
    fs::write(sys.0.path().join("block/md127/md/degraded"), "what?").expect("written");
    assert_eq!(read(sys.0.path(), "md127", None).map(|state| state.degraded), Some(0));
}

#[test]
fn the_array_below_a_folder_is_found_through_what_lies_between() {
    let sys = tempfile::tempdir().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    let device = fs::metadata(folder.path()).expect("there").dev();
    let node = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let devices = sys.path().join("devices");
    for name in ["dm-0/slaves", "md127/md"] {
        fs::create_dir_all(devices.join(name)).expect("made");
    }
    fs::create_dir_all(sys.path().join("dev/block")).expect("made");
    symlink(devices.join("dm-0"), sys.path().join("dev/block").join(&node)).expect("linked");
    assert_eq!(below(sys.path(), folder.path()), None, "nothing is below yet");
    symlink(devices.join("md127"), devices.join("dm-0/slaves/md127")).expect("linked");
    assert_eq!(below(sys.path(), folder.path()).as_deref(), Some("md127"));
    // A device that is below itself leads nowhere.
    fs::remove_file(devices.join("dm-0/slaves/md127")).expect("removed");
    symlink(devices.join("dm-0"), devices.join("dm-0/slaves/dm-0")).expect("linked");
    assert_eq!(below(sys.path(), folder.path()), None);
}
