//! Plans for machines as `lsblk` describes them.

use super::*;

const ID: ArrayId =
    ArrayId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10]);
const SHORT: &str = "0123456789abcdef";

/// A disk of so many GB, with what is on it as JSON.
fn disk(name: &str, gigabytes: u64, children: &str) -> String {
    format!(
        r#"{{"name":"/dev/{name}","type":"disk","size":{},"model":"DISK  ","serial":"S-{name}","rota":true,"ro":false,
        "fstype":null,"label":null,"uuid":null,"partlabel":null,"mountpoints":[null],"tran":"sata","children":[{children}]}}"#,
        gigabytes * 1_000_000_000
    )
}

fn machine(disks: &[String]) -> Facts {
    Facts::parse(format!(r#"{{"blockdevices":[{}]}}"#, disks.join(",")).as_bytes()).expect("understood")
}

/// A partition of our array on the disk `name`, and on it what the kernel has made of it.
fn member(name: &str, holds: &str, on: &str) -> String {
    format!(
        r#"{{"name":"/dev/{name}1","type":"part","size":3990000000000,"fstype":{holds},"label":"any:narrowboat","uuid":"01234567-89ab-cdef-fedc-ba9876543210",
        "partlabel":"narrowboat-{SHORT}","mountpoints":[null],"children":[{on}]}}"#
    )
}

fn md(label: &str, on: &str) -> String {
    format!(
        r#"{{"name":"/dev/md127","type":"raid1","size":3980000000000,"fstype":"crypto_LUKS","label":"{label}","uuid":"u","mountpoints":[null],"children":[{on}]}}"#
    )
}

const RAID: &str = r#""linux_raid_member""#;

fn wish(disks: &[&str]) -> Wish {
    let disks = disks.iter().map(|disk| (*disk).to_owned()).collect();
    Wish { disks, redundancy: None, key: FirstKey::Passphrase, overwrite: false, give_up: Vec::new() }
}

fn refused(facts: &Facts, wish: &Wish, part: &str) {
    let why = make(facts, wish, ID).expect_err("refused");
    assert!(why.contains(part), "{why}");
}

#[test]
fn empty_disks_become_an_array_in_order() {
    let facts = machine(&[disk("sda", 4000, ""), disk("sdb", 4000, ""), disk("sdc", 4000, "")]);
    let plan = make(&facts, &wish(&["/dev/sdb", "S-sda", "sdc"]), ID).expect("planned");
    assert_eq!(plan.layout.redundancy, Redundancy::Parity);
    let paths: Vec<_> = plan.disks.iter().map(|disk| disk.path.as_str()).collect();
    assert_eq!(paths, ["/dev/sdb", "/dev/sda", "/dev/sdc"], "slots are in the order in which disks were named");
    assert!(plan.usable_bytes > 7_900_000_000_000 && plan.usable_bytes < 8_000_000_000_000);
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps.len(), 3 + 3 + 6);
    let order = [Step::Create, Step::Encrypt, Step::Format, Step::Describe, Step::Keys, Step::Finish];
    assert_eq!(plan.steps[6..], order);
    assert_eq!(plan.notices, [""; 0]);
    assert_eq!(plan.disks[0].serial.as_deref(), Some("S-sdb"));
    assert!(plan.disks.iter().all(|disk| disk.loses.is_none()));
}

#[test]
fn ids_are_written_as_the_tools_want_them() {
    assert_eq!(ID.uuid(), "01234567:89abcdef:fedcba98:76543210");
    assert_eq!(ID.partition_name(), format!("narrowboat-{SHORT}"));
    assert!(ID.partition_name().len() <= 36, "a GPT name has 36 characters");
}

#[test]
fn without_encryption_no_step_encrypts_and_it_is_said() {
    let facts = machine(&[disk("sda", 4000, ""), disk("sdb", 4000, "")]);
    let plan = make(&facts, &Wish { key: FirstKey::None, ..wish(&["sda", "sdb"]) }, ID).expect("planned");
    assert!(!plan.steps.contains(&Step::Encrypt) && !plan.steps.contains(&Step::Keys));
    assert!(plan.notices.iter().any(|notice| notice.contains("not encrypted")));
}

#[test]
fn one_disk_has_to_be_wanted() {
    let facts = machine(&[disk("sda", 4000, "")]);
    refused(&facts, &wish(&["sda"]), "--redundancy none");
    let plan = make(&facts, &Wish { redundancy: Some(Redundancy::None), ..wish(&["sda"]) }, ID).expect("planned");
    assert_eq!(plan.layout.may_lose(), 0);
    assert!(plan.notices[0].contains("only peers have the data"));
}

#[test]
fn disks_of_different_sizes_are_used_as_far_as_the_smallest() {
    let facts = machine(&[disk("sda", 4000, ""), disk("sdb", 6000, "")]);
    let plan = make(&facts, &wish(&["sda", "sdb"]), ID).expect("planned");
    assert!(plan.member_bytes < 4_000_000_000_000);
    assert!(plan.notices.iter().any(|notice| notice.contains("not of one size")), "{:?}", plan.notices);
}

#[test]
fn what_can_not_be_meant_is_refused_with_a_sentence() {
    let mounted = r#"{"name":"/dev/sdb1","type":"part","size":1,"fstype":"ext4","mountpoints":["/srv"]}"#;
    let lvm = r#"{"name":"/dev/mapper/a","type":"lvm","size":1,"mountpoints":[null]}"#;
    let used = r#"{"name":"/dev/sdd1","type":"part","size":1,"fstype":"ntfs","mountpoints":[null]}"#;
    let facts = machine(&[
        disk("sda", 4000, ""),
        disk("sdb", 4000, mounted),
        disk("sdc", 4000, lvm),
        disk("sdd", 4000, used),
        disk("sde", 4000, "").replace(r#""ro":false"#, r#""ro":true"#),
        disk("sdf", 4000, "").replace("4000000000000", "100000000"),
    ]);
    refused(&facts, &wish(&[]), "no disk was named");
    refused(&facts, &wish(&["sda", "sdx"]), "there is no disk sdx");
    refused(&facts, &wish(&["sda", "S-sda"]), "named twice");
    refused(&facts, &wish(&["sda", "sde"]), "can't be written");
    refused(&facts, &wish(&["sda", "sdf"]), "too small");
    refused(&facts, &wish(&["sda", "sdd"]), "not empty (1 partition); --overwrite");
    // What is in use is never overwritten.
    for overwrite in [false, true] {
        refused(&facts, &Wish { overwrite, ..wish(&["sda", "sdb"]) }, "mounted at /srv");
        refused(&facts, &Wish { overwrite, ..wish(&["sda", "sdc"]) }, "something that runs");
    }
    let plan = make(&facts, &Wish { overwrite: true, ..wish(&["sda", "sdd"]) }, ID).expect("planned");
    assert_eq!(plan.disks[1].loses.as_deref(), Some("1 partition"));
    let parity = Wish { redundancy: Some(Redundancy::DoubleParity), ..wish(&["sda"]) };
    refused(&facts, &parity, "at least 4 disks");
}

#[test]
fn an_array_that_is_there_is_not_made_again() {
    let open =
        md("narrowboat", r#"{"name":"/dev/mapper/narrowboat","type":"crypt","size":1,"mountpoints":["/srv/box"]}"#);
    let facts =
        machine(&[disk("sda", 4000, &member("sda", RAID, &open)), disk("sdb", 4000, &member("sdb", RAID, &open))]);
    for overwrite in [false, true] {
        let first = format!("`narrowboat disks close --array {SHORT}` it first");
        refused(&facts, &Wish { overwrite, ..wish(&["sda", "sdb"]) }, &first);
    }
    // Who gave it another label has not begun it anew, and one without a label that holds something is no blank.
    for left in [md("films", ""), md("", "").replace(r#""label":"""#, r#""label":null"#)] {
        let facts =
            machine(&[disk("sda", 4000, &member("sda", RAID, &left)), disk("sdb", 4000, &member("sdb", RAID, &left))]);
        assert_eq!(facts.arrays()[0].made(), None);
        refused(&facts, &wish(&["sda", "sdb"]), "and running");
    }
    // What the system has only begun, for want of disks, shows nothing of what it holds: that is no array that was not made to its end.
    let begun = md("", "")
        .replace(r#""size":3980000000000,"fstype":"crypto_LUKS","label":"""#, r#""size":0,"fstype":null,"label":null"#);
    let facts = machine(&[disk("sda", 4000, &member("sda", RAID, &begun))]);
    let found = facts.arrays().remove(0);
    assert_eq!((found.made(), found.held.as_deref()), (None, Some("/dev/md127")));
    for give_up in [vec![], vec![SHORT.to_owned()]] {
        let wish = Wish { give_up, redundancy: Some(Redundancy::None), ..wish(&["sda"]) };
        refused(&facts, &wish, &format!("`narrowboat disks close --array {SHORT}` lets go of them first"));
    }
    // Where the kernel has not put it together, nobody knows how far it was made.
    let facts = machine(&[disk("sda", 4000, &member("sda", RAID, "")), disk("sdb", 4000, &member("sdb", RAID, ""))]);
    for overwrite in [false, true] {
        let wish = Wish { overwrite, give_up: vec!["ffff".into()], ..wish(&["sda", "sdb"]) };
        refused(&facts, &wish, &format!("`narrowboat disks open --array {SHORT}` opens it; `--give-up {SHORT}`"));
    }
    let plan = make(&facts, &Wish { give_up: vec![SHORT.into()], ..wish(&["sda", "sdb"]) }, ID).expect("planned");
    assert_eq!(plan.disks[0].loses.as_deref(), Some(format!("part of the array {SHORT}").as_str()));
    // Two whose ids begin alike: what was typed names none of them.
    let twin = |name: &str, word: &str| {
        let member = member(name, RAID, "")
            .replace("01234567-89ab", word)
            .replace(SHORT, &word.replace('-', "").repeat(2)[..16]);
        disk(name, 4000, &member)
    };
    let twins = machine(&[twin("sda", "aaaa0000-0000"), twin("sdb", "aaaa1111-1111")]);
    let both = |id: &str| Wish { give_up: vec![id.into()], ..wish(&["sda", "sdb"]) };
    for id in ["aaaa", "aaaa0"] {
        refused(&twins, &both(id), "gives up all that it holds");
    }
    // Nor for a place in another array.
    let mut facts = facts;
    let own = machine(&[disk("sdc", 4000, &member("sdc", RAID, "").replace(SHORT, "aaaaaaaaaaaaaaaa"))]);
    facts.disks.extend(own.disks);
    let array = facts.arrays().into_iter().find(|array| array.id.starts_with('a')).expect("there");
    let why = super::exchange(&facts, &array, "sda", 1 << 30, true).expect_err("refused");
    assert!(
        why.contains(&format!("part of another array, {SHORT}")) && why.contains("`sfdisk --delete /dev/sda`"),
        "{why}"
    );
}

#[test]
fn what_was_broken_off_is_begun_again() {
    let left =
        md("narrowboat-new", r#"{"name":"/dev/mapper/narrowboat","type":"crypt","size":1,"mountpoints":["/srv/box"]}"#);
    let both = [disk("sda", 4000, &member("sda", RAID, &left)), disk("sdb", 4000, &member("sdb", RAID, &left))];
    let plan = make(&machine(&both), &wish(&["sda", "sdb"]), ID).expect("planned, without --overwrite");
    let cleared = [
        Step::Unmount("/srv/box".into()),
        Step::Close("/dev/mapper/narrowboat".into()),
        Step::Stop("/dev/md127".into()),
        Step::Erase("/dev/sda".into()),
    ];
    assert_eq!(plan.steps[..4], cleared);
    assert!(plan.disks.iter().all(|disk| disk.loses.is_none()));
    // A partition, and no array in it yet: on one disk, or on both.
    let early = [disk("sda", 4000, &member("sda", "null", "")), disk("sdb", 4000, "")];
    let plan = make(&machine(&early), &wish(&["sda", "sdb"]), ID).expect("planned");
    assert_eq!(plan.steps[0], Step::Erase("/dev/sda".into()));
    // Not with other disks than those that it was begun with.
    let three = [both[0].clone(), both[1].clone(), disk("sdc", 4000, "")];
    refused(&machine(&three), &wish(&["sda", "sdc"]), "name the same ones again");
}

#[test]
fn a_successor_has_to_be_large_enough_and_empty() {
    let md = md("narrowboat", "");
    let facts = machine(&[
        disk("sda", 4000, &member("sda", RAID, &md)),
        disk("sdb", 4000, &member("sdb", RAID, "")),
        disk("sdc", 3000, ""),
        disk("sdd", 4000, ""),
        disk("sde", 4000, "").replace(r#""fstype":null"#, r#""fstype":"xfs""#),
    ]);
    let array = facts.arrays().remove(0);
    let size = 3_990_000_000_000;
    let exchange = |named: &str, overwrite| super::exchange(&facts, &array, named, size, overwrite);
    assert_eq!(exchange("S-sdd", false).expect("planned").path, "/dev/sdd");
    assert!(exchange("sdc", false).expect_err("refused").contains("3.63 TiB are needed"));
    assert!(exchange("sde", false).expect_err("refused").contains("not empty (xfs)"));
    assert_eq!(exchange("sde", true).expect("planned").loses.as_deref(), Some("xfs"));
    // They are in the array, or were in it once and have come back.
    assert_eq!(exchange("sda", false).expect("planned").path, "/dev/sda");
    assert_eq!(exchange("sdb", false).expect("planned").path, "/dev/sdb");
}

#[test]
fn one_number_of_two_disks_names_neither() {
    let twin = |name: &str| disk(name, 4000, "").replace(&format!("S-{name}"), "DOCK-1");
    let facts = machine(&[twin("sda"), twin("sdb"), disk("sdc", 4000, "")]);
    let why = facts.disk("DOCK-1").expect_err("refused");
    assert!(why.contains("2 disks have the serial number DOCK-1 (/dev/sda, /dev/sdb)"), "{why}");
    refused(&facts, &wish(&["DOCK-1", "sdc"]), "name the one that you mean by its path");
    let plan = make(&facts, &wish(&["/dev/sda", "sdb"]), ID).expect("planned, by their paths");
    assert_eq!(plan.disks.len(), 2);
    assert_eq!(facts.disk("S-sdc").expect("there is one").path, "/dev/sdc");
}

#[test]
fn disks_are_listed_with_what_is_on_them() {
    let facts = machine(&[
        disk("sda", 4000, &member("sda", RAID, &md("narrowboat", ""))),
        disk("sdb", 4000, ""),
        disk("zram0", 1, ""),
        disk("sr0", 0, ""),
    ]);
    let listed = facts.listed();
    let lines: Vec<_> = listed.iter().map(|disk| (disk.path.as_str(), disk.free, disk.used.as_str())).collect();
    let used = format!("part of the array {SHORT}");
    assert_eq!(lines, [("/dev/sda", false, used.as_str()), ("/dev/sdb", true, "nothing")]);
    assert_eq!(listed[0].model.as_deref(), Some("DISK"));
    assert!(Facts::parse(b"{}").is_err());
}
