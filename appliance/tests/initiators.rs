//! What initiators of a real box are told, and what is kept for them: units that come, grow and fill up, reservations
//! over `kill -9`, portals, several units in one target, copies between targets, the end of the box.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::iscsi::{BLOCK, Initiator, Login, read, write};
use common::{CONFIG, PATIENCE, Served, fine, noise, target};
use rustix::process::Signal;

/// Starts a box with more in its config; volumes of 8 MiB are made.
fn start(folder: &Path, rules: &str, volumes: &[&str]) -> (PathBuf, Served) {
    let data = common::data_folder(folder, "box");
    fs::write(data.join("narrowboat.toml"), format!("{CONFIG}{rules}")).expect("a config");
    let served = Served::start(&data);
    for volume in volumes {
        fine(&data, &["volume", "create", volume, "--size", "8MiB"]);
    }
    (data, served)
}

fn as_port(served: &Served, volume: &str, port: u8) -> Initiator {
    let login = Login { port, ..Login::default() };
    Initiator::login_as(&served.portals[0], Some(&target(volume)), &login).expect("it serves")
}

/// Asks until the unit has something to say: what the box notices by itself takes a moment.
fn next_attention(session: &mut Initiator, lun: u8) -> u16 {
    let since = Instant::now();
    loop {
        if let Some(code) = session.greet(lun).expect("a session").first() {
            return *code;
        }
        assert!(since.elapsed() < PATIENCE, "nothing is told");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_session_that_is_open_is_told_of_a_new_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = start(folder.path(), "", &["disk"]);
    let (mut one, mut two) = (as_port(&served, "disk", 1), as_port(&served, "disk", 2));
    assert_eq!((one.greet(0).expect("open"), two.greet(0).expect("open")), (vec![0x2900], vec![0x2900]));
    let beyond = one.run(0, &read(16384, 1), Vec::new(), BLOCK).expect("open");
    assert_eq!(beyond.sense(), (5, 0x2100));
    fine(&data, &["volume", "resize", "disk", "--size", "16MiB"]);
    assert_eq!((one.greet(0).expect("open"), two.greet(0).expect("open")), (vec![0x2a09], vec![0x2a09]));
    let capacity = one.run(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Vec::new(), 8).expect("open");
    assert_eq!(capacity.data, [0, 0, 0x7f, 0xff, 0, 0, 2, 0]);
    assert!(two.run(0, &write(32767, 1, true), vec![1; BLOCK], 0).expect("open").is_good());
}

#[test]
fn reservations_outlive_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = start(folder.path(), "", &["disk"]);
    let out = |action: u8, kind: u8| [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let list = |key: u8, new: u8, kept: u8| {
        let mut list = vec![0; 24];
        (list[7], list[15], list[20]) = (key, new, kept);
        list
    };
    let mut holder = as_port(&served, "disk", 1);
    holder.greet(0).expect("open");
    assert!(holder.run(0, &out(0, 0), list(0, 9, 1), 0).expect("open").is_good());
    assert!(holder.run(0, &out(1, 1), list(9, 0, 0), 0).expect("open").is_good());
    served.kill();
    let served = Served::start(&data);
    let (mut holder, mut other) = (as_port(&served, "disk", 1), as_port(&served, "disk", 2));
    holder.greet(0).expect("open");
    other.greet(0).expect("open");
    let conflict = other.run(0, &write(0, 1, false), vec![1; BLOCK], 0).expect("open");
    assert_eq!(conflict.status, 0x18, "RESERVATION CONFLICT");
    assert!(other.run(0, &read(0, 1), Vec::new(), BLOCK).expect("open").is_good(), "write exclusive: others read");
    assert!(holder.run(0, &write(0, 1, false), vec![1; BLOCK], 0).expect("open").is_good());
    assert!(holder.run(0, &out(3, 0), list(9, 0, 0), 0).expect("open").is_good(), "CLEAR");
    assert!(other.run(0, &write(0, 1, false), vec![1; BLOCK], 0).expect("open").is_good());
}

/// The byte of the caching page with WCE: as it is, what of it can be changed, and as it is by default.
fn caching(session: &mut Initiator) -> [u8; 3] {
    session.greet(0).expect("open");
    [0x00, 0x40, 0x80].map(|control| {
        let sense = [0x1a, 0x08, 0x08 | control, 0, 24, 0];
        session.run(0, &sense, Vec::new(), 24).expect("open").data[6]
    })
}

#[test]
fn a_write_cache_that_the_config_file_switches_off_stays_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = start(folder.path(), "[volume.log]\nwrite_cache = false\n", &["disk", "log"]);
    let select = |wce: u8| {
        let mut list = vec![0; 24];
        (list[4], list[5], list[6]) = (0x08, 18, wce);
        ([0x15, 0x10, 0, 0, 24, 0], list)
    };
    let check = |served: &Served| {
        let (mut disk, mut log) = (as_port(served, "disk", 1), as_port(served, "log", 1));
        assert_eq!((caching(&mut disk), caching(&mut log)), ([4, 4, 4], [0, 0, 0]));
        let (cdb, list) = select(4);
        assert_eq!(log.run(0, &cdb, list, 0).expect("open").sense(), (5, 0x2600), "not by an initiator");
        assert!(log.run(0, &write(0, 1, false), vec![1; BLOCK], 0).expect("open").is_good());
        // Where an initiator did it, it is so until the box is started anew.
        let (cdb, list) = select(0);
        assert!(disk.run(0, &cdb, list, 0).expect("open").is_good());
        assert_eq!(caching(&mut disk), [0, 4, 4]);
    };
    check(&served);
    served.kill();
    check(&Served::start(&data));
}

#[test]
fn several_volumes_are_units_of_one_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = "[target.db]\nvolumes = ['data', 'log', 'later']\n";
    let (data, served) = start(folder.path(), rules, &["data", "log"]);
    let mut session = served.log_in("db");
    let luns = |session: &mut Initiator| {
        let answer = session.run(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], Vec::new(), 256).expect("open");
        answer.data[8..].chunks(8).map(|lun| lun[1]).collect::<Vec<_>>()
    };
    for lun in [0, 1] {
        session.greet(lun).expect("open");
        let content = vec![lun + 1; 3 * BLOCK];
        assert!(session.run(lun, &write(7, 3, true), content, 0).expect("open").is_good());
    }
    for lun in [0, 1] {
        let there = session.run(lun, &read(7, 3), Vec::new(), 3 * BLOCK).expect("open");
        assert_eq!(there.data, vec![lun + 1; 3 * BLOCK], "each unit has its own blocks");
    }
    assert_eq!(luns(&mut session), [0, 1]);
    let refused = Initiator::login(&served.portals[0], &target("log"));
    assert!(refused.is_err_and(|error| error.to_string().contains("0x0203")), "no target of its own");
    let said = fine(&data, &["volume", "create", "later", "--size", "1MiB"]);
    assert!(said.contains(":db, unit 2"), "{said}");
    assert_eq!(next_attention(&mut session, 0), 0x3f0e, "REPORTED LUNS DATA HAS CHANGED");
    assert_eq!(luns(&mut session), [0, 1, 2]);
    assert_eq!(session.greet(2).expect("open"), [0x2900]);
    fine(&data, &["dataset", "delete", "log"]);
    assert_eq!(next_attention(&mut session, 0), 0x3f0e);
    assert_eq!(luns(&mut session), [0, 2], "places stay");
    assert_eq!(session.run(1, &[0; 6], Vec::new(), 0).expect("open").sense(), (5, 0x2500));
}

#[test]
fn a_disk_without_room_above_its_reserve_is_told_to_who_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = rustix::fs::statvfs(folder.path()).expect("a file system");
    // Everything is reserved: nothing may be written, and initiators have been warned.
    let reserve = disk.f_blocks * disk.f_frsize;
    let (_, served) = start(folder.path(), "", &["disk"]);
    let data = served.data.clone();
    served.kill();
    let config = CONFIG.replace("reserve = '64MiB'", &format!("reserve = '{reserve}'"));
    let config = config.replace("threshold_percent = 0", "threshold_percent = 90");
    fs::write(data.join("narrowboat.toml"), config).expect("a config");
    let served = Served::start(&data);
    let mut session = served.log_in("disk");
    assert_eq!(session.greet(0).expect("open"), [0x2900, 0x3807], "THIN PROVISIONING SOFT THRESHOLD REACHED");
    let refused = session.run(0, &write(0, 1, true), vec![1; BLOCK], 0).expect("open");
    assert_eq!(refused.sense(), (7, 0x2707), "SPACE ALLOCATION FAILED WRITE PROTECT");
    assert!(session.run(0, &read(0, 1), Vec::new(), BLOCK).expect("open").is_good());
}

#[test]
fn every_portal_is_named_and_leads_to_the_same_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = common::data_folder(folder.path(), "box");
    let config = CONFIG.replace("listen = ['127.0.0.1:0']", "listen = ['127.0.0.1:0', '127.0.0.1:0']");
    fs::write(data.join("narrowboat.toml"), config).expect("a config");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "8MiB"]);
    for portal in &served.portals {
        let listed = Initiator::discover(portal).expect("it answers");
        for other in &served.portals {
            assert!(listed.contains(&format!("TargetAddress={other},1\0")), "{listed:?}");
        }
    }
    let name = target("disk");
    let through = |portal: usize, port: u8| {
        let login = Login { port, ..Login::default() };
        let mut session = Initiator::login_as(&served.portals[portal], Some(&name), &login).expect("it serves");
        session.greet(0).expect("open");
        session
    };
    let (mut one, mut two) = (through(0, 1), through(1, 2));
    assert!(one.run(0, &write(5, 1, false), vec![7; BLOCK], 0).expect("open").is_good());
    assert_eq!(two.run(0, &read(5, 1), Vec::new(), BLOCK).expect("open").data, [7; BLOCK]);
    // The same port again, through the other portal: the old session gives way.
    let mut again = through(1, 1);
    assert!(one.run(0, &[0; 6], Vec::new(), 0).is_err(), "closed");
    assert_eq!(again.run(0, &read(5, 1), Vec::new(), BLOCK).expect("open").data, [7; BLOCK]);
    assert!(two.run(0, &[0; 6], Vec::new(), 0).expect("open").is_good());
}

#[test]
fn blocks_are_copied_between_targets_that_the_initiator_is_logged_in_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, served) = start(folder.path(), "", &["from", "to"]);
    let mut from = served.log_in("from");
    from.greet(0).expect("open");
    assert!(from.run(0, &write(3, 5, false), vec![9; 5 * BLOCK], 0).expect("open").is_good());
    // The NAA name of a unit, from its device identification page.
    let name = |session: &mut Initiator| {
        let page = session.run(0, &[0x12, 1, 0x83, 0, 255, 0], Vec::new(), 255).expect("open").data;
        page[8..24].to_vec()
    };
    let own = name(&mut from);
    let mut to = served.log_in("to");
    to.greet(0).expect("open");
    let other = name(&mut to);
    to.logout().expect("open");
    let mut list = vec![0; 16];
    (list[0], list[3], list[11]) = (42, 64, 28);
    for naa in [own, other] {
        list.extend([0xe4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend(naa);
        list.extend([0, 0, 0, 0, 0, 0, 2, 0]);
    }
    let mut segment = [0; 28];
    (segment[0], segment[3], segment[7], segment[11], segment[19], segment[27]) = (2, 24, 1, 5, 3, 100);
    list.extend(segment);
    let cdb = [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0];
    let refused = from.run(0, &cdb, list.clone(), 0).expect("open");
    assert_eq!(refused.sense(), (0x0a, 0x0d02), "COPY TARGET DEVICE NOT REACHABLE: it has logged out there");
    let mut to = served.log_in("to");
    to.greet(0).expect("open");
    assert!(from.run(0, &cdb, list, 0).expect("open").is_good());
    assert_eq!(to.run(0, &read(100, 5), Vec::new(), 5 * BLOCK).expect("open").data, [9; 5 * BLOCK]);
}

/// Digests, immediate data, data that comes unasked, several R2Ts at once: each with commands of all lengths.
#[test]
fn data_comes_and_goes_by_every_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, served) = start(folder.path(), "", &["disk"]);
    let content = noise(5, 1 << 20);
    for number in 0..16u8 {
        let key = |bit: u8, yes: &str, no: &str| (if number & bit != 0 { yes } else { no }).to_owned();
        let keys = vec![
            ("ImmediateData", key(1, "Yes", "No")),
            ("InitialR2T", key(2, "Yes", "No")),
            ("MaxOutstandingR2T", key(4, "8", "1")),
            ("MaxBurstLength", key(4, "65536", "262144")),
            ("MaxRecvDataSegmentLength", key(8, "8192", "1048576")),
        ];
        let login = Login { port: number, keys, digests: number & 8 != 0, ..Login::default() };
        let session = Initiator::login_as(&served.portals[0], Some(&target("disk")), &login);
        let mut session = session.expect("it serves");
        session.greet(0).expect("open");
        for (at, blocks) in [(0, 1), (3, 17), (100, 128), (1000, 200), (4096, 3000), (9000, 6144)] {
            let data =
                content.iter().copied().cycle().skip(usize::from(number)).take(blocks * BLOCK).collect::<Vec<_>>();
            let written = session.run(0, &write(at, blocks, false), data.clone(), 0).expect("open");
            assert!(written.is_good(), "{number}: {written:?}");
            let there = session.run(0, &read(at, blocks), Vec::new(), data.len()).expect("open");
            assert!(there.is_good() && there.data == data, "{number}: {blocks} blocks");
        }
        session.logout().expect("open");
    }
}

#[test]
fn a_box_that_ends_asks_its_initiators_to_leave() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = start(folder.path(), "", &["disk"]);
    let mut session = served.log_in("disk");
    session.greet(0).expect("open");
    assert!(session.run(0, &write(0, 1, false), vec![5; BLOCK], 0).expect("open").is_good());
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| served.end_with(Signal::TERM));
        let (said, _) = session.hear().expect("open");
        assert_eq!((said[0] & 0x3f, said[36]), (0x32, 1), "asynchronous message: logout is asked for");
        session.logout().expect("answered");
        assert!(ended.join().expect("no panic").success());
    });
    let served = Served::start(&data);
    assert!(!served.log().contains("when they were asked to"), "nobody was waited for: {}", served.log());
    let mut session = served.log_in("disk");
    session.greet(0).expect("open");
    assert_eq!(session.run(0, &read(0, 1), Vec::new(), BLOCK).expect("open").data, [5; BLOCK]);
}
