//! Exchanges of disks, from wherever an earlier try was broken off.

use super::super::layout::Redundancy;
use super::*;

const ID: &str = "0123456789abcdef";
const MD: &str = "/dev/md127";

/// A disk with a partition of the array, in the kernel's array or beside it.
fn disk(name: &str, in_array: bool) -> Device {
    let on = Device { path: MD.into(), kind: "raid5".into(), ..Device::default() };
    let partition = Device {
        path: format!("/dev/{name}1"),
        kind: "part".into(),
        partition_name: Some(format!("narrowboat-{ID}")),
        children: if in_array { vec![on] } else { Vec::new() },
        ..Device::default()
    };
    Device { children: vec![partition], ..empty(name) }
}

fn empty(name: &str) -> Device {
    let serial = Some(format!("S-{name}"));
    Device { path: format!("/dev/{name}"), kind: "disk".into(), size_bytes: 1 << 40, serial, ..Device::default() }
}

fn member(name: &str, slot: Option<u32>, state: &str) -> MemberState {
    let state = state.split(',').map(str::to_owned).collect();
    MemberState { partition: format!("{name}1"), slot, state, present: true, ..MemberState::default() }
}

/// An array of three with these disks in it, and what `lsblk` shows of the machine.
struct World {
    facts: Facts,
    state: ArrayState,
    description: Description,
}

impl World {
    fn new(disks: Vec<Device>, members: Vec<MemberState>) -> World {
        let described = |(slot, serial): (u32, &str)| Member {
            slot,
            serial: Some(serial.into()),
            model: None,
            size_bytes: 1 << 40,
        };
        let members_of = [(0, "S-sda"), (1, "S-sdb"), (2, "S-sdc")].map(described).to_vec();
        let degraded = 3 - members.iter().filter(|member| member.is_whole()).count();
        let state = ArrayState {
            disks: 3,
            degraded: u32::try_from(degraded).expect("few"),
            level: "raid5".into(),
            members,
            ..ArrayState::default()
        };
        let description = Description::new("id".into(), String::new(), Redundancy::Parity, true, 0, members_of);
        World { facts: Facts { disks }, state, description }
    }

    fn array(&self) -> Found {
        self.facts.arrays().remove(0)
    }

    fn old(&self, named: &str) -> Result<Old, String> {
        old(&self.facts, &self.array(), &self.state, Some(&self.description), named)
    }

    fn next(&self, gone: &str, new: &str) -> Result<Next, String> {
        let new = self.facts.disk(new).expect("a disk");
        next(&self.state, &self.array(), MD, new, &self.old(gone))
    }
}

/// sda and sdb are whole, sdc's slot is empty; sdd as given.
fn without_c(sdd: Device, fourth: Option<MemberState>) -> World {
    let mut members = vec![member("sda", Some(0), "in_sync"), member("sdb", Some(1), "in_sync")];
    members.extend(fourth);
    World::new(vec![disk("sda", true), disk("sdb", true), sdd], members)
}

const PATH: &str = "/dev/sdd1";

#[test]
fn a_new_disk_takes_the_place_of_one_that_is_gone_step_by_step() {
    for gone in ["missing", "S-sdc"] {
        assert_eq!(without_c(empty("sdd"), None).next(gone, "sdd"), Ok(Next::Prepare));
        assert_eq!(without_c(disk("sdd", false), None).next(gone, "sdd"), Ok(Next::Add(PATH.into())));
        let spare = without_c(disk("sdd", true), Some(member("sdd", None, "spare")));
        assert_eq!(spare.next(gone, "sdd"), Ok(Next::Settle), "the kernel is about to give it the slot");
        let rebuilding = without_c(disk("sdd", true), Some(member("sdd", Some(2), "spare")));
        assert_eq!(rebuilding.next(gone, "sdd"), Ok(Next::Done(2)));
    }
    // Who has it done already says it once more, although the old one is known by no name any more.
    let mut whole = without_c(disk("sdd", true), Some(member("sdd", Some(2), "in_sync")));
    whole.description.refresh(&seen(&whole.facts, &whole.state, MD));
    for gone in ["missing", "S-sdc", "S-sdd", "nobody"] {
        assert_eq!(whole.next(gone, "sdd"), Ok(Next::Done(2)));
    }
}

#[test]
fn what_was_broken_off_between_two_steps_is_finished() {
    // Killed while mdadm held all back: it stands still for ever, and "is in the array" would be a lie.
    let mut frozen = without_c(disk("sdd", true), Some(member("sdd", None, "spare")));
    frozen.state.asleep = true;
    assert_eq!(frozen.next("S-sdc", "sdd"), Ok(Next::Wake));
    let mut slotted = without_c(disk("sdd", true), Some(member("sdd", Some(2), "spare")));
    slotted.state.asleep = true;
    assert_eq!(slotted.next("missing", "sdd"), Ok(Next::Wake));
    // Added, and not yet said whom it replaces.
    let members = ["sda", "sdb", "sdc"].iter().zip(0..).map(|(name, slot)| member(name, Some(slot), "in_sync"));
    let mut members: Vec<MemberState> = members.collect();
    members.push(member("sdd", None, "spare"));
    let disks = ["sda", "sdb", "sdc", "sdd"].map(|name| disk(name, true)).to_vec();
    let mut world = World::new(disks, members);
    let copy = Next::Copy { from: "/dev/sdb1".into(), to: PATH.into() };
    assert_eq!(world.next("S-sdb", "sdd"), Ok(copy));
    assert!(world.next("missing", "sdd").expect_err("refused").contains("no disk is missing"));
    // It is being copied; then it is done, and the old one is out.
    world.state.members[3] = member("sdd", Some(1), "spare,replacement");
    assert_eq!(world.next("S-sdb", "sdd"), Ok(Next::Done(1)));
    assert_eq!(seen(&world.facts, &world.state, MD)[1].serial.as_deref(), Some("S-sdd"));
    world.state.members[3] = member("sdd", Some(1), "in_sync");
    world.state.members[1] = member("sdb", None, "faulty");
    assert_eq!(world.next("S-sdb", "sdd"), Ok(Next::Done(1)));
    // It can't be in two places.
    let why = world.next("S-sda", "sdd").expect_err("refused");
    assert!(why.contains("in slot 1, ") && why.contains("can't take the place of /dev/sda1, too"), "{why}");
}

#[test]
fn a_disk_that_the_kernel_kicked_out_is_not_in_the_array() {
    let kicked = |slot| without_c(disk("sdd", true), Some(member("sdd", slot, "faulty")));
    for (slot, gone) in [(None, "sdd"), (Some(2), "sdd"), (None, "missing"), (None, "S-sdc")] {
        assert_eq!(kicked(slot).next(gone, "sdd"), Ok(Next::Remove(vec![PATH.into()])), "{gone}");
    }
    assert_eq!(seen(&kicked(Some(2)).facts, &kicked(Some(2)).state, MD).len(), 2, "nor described as if it were");
    // Let go of, it is taken in again, by whatever name.
    let mut out = without_c(disk("sdd", false), None);
    for gone in ["sdd", "S-sdd", "missing", "S-sdc"] {
        assert_eq!(out.next(gone, "sdd"), Ok(Next::Add(PATH.into())), "{gone}");
    }
    // Another dead one goes first, for it bears a name that a new one may get.
    out.state.members.push(MemberState { present: false, ..member("sdx", Some(2), "in_sync") });
    out.state.members[2].state = vec!["faulty".into()];
    assert_eq!(out.next("missing", "sdd"), Ok(Next::Remove(vec!["/dev/sdx1".into()])));
}

#[test]
fn a_disk_that_came_back_under_its_name_is_not_the_one_that_the_kernel_knows() {
    let ghost = without_c(disk("sdd", false), Some(member("sdd", Some(2), "in_sync")));
    assert_eq!(ghost.next("missing", "sdd"), Ok(Next::Remove(vec![PATH.into()])));
    assert_eq!(seen(&ghost.facts, &ghost.state, MD).len(), 2);
}

#[test]
fn who_can_not_be_meant_is_refused() {
    let world = without_c(empty("sdd"), None);
    assert!(world.next("nobody", "sdd").expect_err("refused").contains("no disk nobody is or was in the array"));
    assert!(world.next("S-sdd", "sdd").expect_err("refused").contains("no disk S-sdd"));
    assert_eq!(world.old("/dev/sda1").expect("a member").slot, Some(0));
    let members = ["sda", "sdb", "sdc"].iter().zip(0..).map(|(name, slot)| member(name, Some(slot), "in_sync"));
    let disks = vec![disk("sda", true), disk("sdb", true), disk("sdc", true), disk("sdd", false)];
    let whole = World::new(disks, members.collect());
    assert!(whole.next("missing", "sdd").expect_err("refused").contains("no disk is missing"));
    // Twins of a dock.
    let mut twins = without_c(empty("sdd"), None);
    for disk in &mut twins.facts.disks {
        disk.serial = Some("DOCK".into());
    }
    let why = twins.old("DOCK").expect_err("refused");
    assert!(why.contains("3 disks have the serial number DOCK") && why.contains("by its path"), "{why}");
}

#[test]
fn what_is_written_down_is_what_is_seen() {
    // Two are lost, and the kernel fills another slot than the one that was asked for.
    let members = vec![member("sda", Some(0), "in_sync"), member("sdd", Some(1), "spare")];
    let mut world = World::new(vec![disk("sda", true), disk("sdd", true)], members);
    assert_eq!(world.next("S-sdc", "sdd"), Ok(Next::Done(1)));
    assert!(world.description.refresh(&seen(&world.facts, &world.state, MD)));
    let serials: Vec<_> = world.description.members.iter().map(|member| member.serial.as_deref()).collect();
    assert_eq!(serials, [Some("S-sda"), Some("S-sdd"), Some("S-sdc")]);
}
