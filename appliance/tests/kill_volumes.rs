//! `kill -9` under initiators that write: the real program, real sockets, real files.
//!
//! Three writers, each with a session of its own, write and discard sectors of a volume as fast as they can, with eight
//! commands under way, and synchronise now and then; snapshots are taken. At a random moment the box is killed, sometimes
//! again while it recovers. Then it is started, and every sector is looked at:
//!
//! * what was synchronised is there: answered with FUA, or before a SYNCHRONIZE CACHE was sent that was answered;
//! * what was answered is there, too: an initiator that finds the box again does not send it anew;
//! * order is kept: if a change is there, so is every change of that writer that was answered before it was sent;
//! * a change is there whole or not at all, however long; and no sector holds what nobody wrote there;
//! * `narrowboat check --deep` finds nothing.
//!
//! `NARROWBOAT_KILLS=200` kills that often (15 otherwise), `NARROWBOAT_SEED` picks another load and other moments.
//! What a power cut would take, `storage/tests/volume_crash.rs` shows on a disk that loses power.

mod common;
mod stamps;

use std::path::Path;
use std::time::Duration;

use common::iscsi::{Initiator, Login};
use common::seeded::{Seeded, number};
use common::{Served, check_deep, copy_folder, data_folder, fine, target};
use narrowboat::control::Request;
use narrowboat::control::reports::Snapshot;
use stamps::{Counts, Moments, SECTOR, SECTORS, Writer, Wrong};

/// Writers at once.
const WRITERS: u64 = 3;
/// After so many kills a new box is begun, so that young stores are met, too, and none grows without end.
const KILLS_OF_ONE_BOX: u64 = 10;
/// A box is killed at most so long after its writers began.
const LOAD_MS_MAX: u64 = 800;

fn volume(data: &Path) {
    let size = (WRITERS * SECTORS * SECTOR as u64).to_string();
    fine(data, &["volume", "create", "disk", "--size", &size]);
}

fn session(served: &Served, writer: &Writer) -> Initiator {
    let login = Login { port: writer.port(), ..Login::default() };
    Initiator::login_as(&served.portals[0], Some(&target("disk")), &login).expect("it serves")
}

/// A session that has heard what the unit has to say first.
fn greeted(served: &Served, writer: &Writer) -> Initiator {
    let mut session = session(served, writer);
    session.greet(0).expect("it serves");
    session
}

/// Lets the writers write until the box is killed.
fn load(served: Served, writers: &mut [Writer], moment: Duration, snapshot: bool) {
    std::thread::scope(|scope| {
        for writer in writers.iter_mut() {
            let session = session(&served, writer);
            scope.spawn(move || writer.work(session));
        }
        std::thread::sleep(moment / 2);
        if snapshot {
            let request = Request::SnapshotCreate { dataset: "disk".into(), name: None };
            served.ask::<Snapshot>(&request).expect("a snapshot");
        }
        std::thread::sleep(moment / 2);
        served.kill();
    });
}

fn verify(served: &Served, writers: &mut [Writer]) -> Result<(), String> {
    for writer in writers {
        let mut session = greeted(served, writer);
        writer.verify(&mut session).map_err(|wrong| format!("writer {}: {wrong:?}", writer.port()))?;
    }
    Ok(())
}

fn kill_one_box(folder: &Path, seed: u64, kills: u64) -> Result<(u64, Counts), String> {
    let mut random = Seeded::new(seed);
    let data = data_folder(folder, &format!("box-{seed}"));
    let mut served = Served::start(&data);
    volume(&data);
    let moments = Moments::default();
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(seed, number, moments.clone())).collect();
    let mut killed = 0;
    while killed < kills {
        let moment = Duration::from_millis(random.below(LOAD_MS_MAX));
        load(served, &mut writers, moment, random.one_in(3));
        killed += 1;
        if random.one_in(4) {
            let again = Served::launch(&data);
            std::thread::sleep(Duration::from_millis(random.below(150)));
            again.kill();
            killed += 1;
        }
        if random.one_in(4) {
            check_deep(&data)?;
        }
        served = Served::start(&data);
        verify(&served, &mut writers).map_err(|why| format!("after {killed} kills: {why}\n{}", served.log()))?;
        check_deep(&data)?;
    }
    let sum = writers.iter().fold(Counts::default(), |sum, writer| sum.with(&writer.counts));
    Ok((killed, sum))
}

#[test]
fn what_was_answered_is_there_in_order_and_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kills, seed) = (number("NARROWBOAT_KILLS", 15), number("NARROWBOAT_SEED", 1));
    let (mut killed, mut sum) = (0, Counts::default());
    for begin in seed * 1000.. {
        if killed >= kills {
            break;
        }
        let of_this = KILLS_OF_ONE_BOX.min(kills - killed);
        let (more, counts) =
            kill_one_box(folder.path(), begin, of_this).unwrap_or_else(|why| panic!("seed {begin}: {why}"));
        std::fs::remove_dir_all(folder.path().join(format!("box-{begin}"))).expect("removed");
        (killed, sum) = (killed + more, sum.with(&counts));
    }
    println!("{killed} kills, {sum:?}");
    assert!(sum.answered > 20 * killed && sum.stable > 5 * killed, "a load worth the name: {sum:?}");
    assert!(sum.cut_off > 0, "writes were cut off: {sum:?}");
}

/// The harness's eyes: what it must see in a box that forgot.
#[test]
fn canary_an_older_copy_of_the_folder_is_seen_to_be_older() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "canary");
    let served = Served::start(&data);
    volume(&data);
    let mut writer = Writer::new(1, 0, Moments::default());
    writer.change(&mut greeted(&served, &writer), 0, 8);
    served.kill();
    let copy = folder.path().join("copy");
    copy_folder(&data, &copy);
    let served = Served::start(&data);
    writer.change(&mut greeted(&served, &writer), 100, 300);
    served.kill();
    let look = |folder: &Path| {
        let served = Served::start(folder);
        let mut writer = writer.clone();
        let mut session = greeted(&served, &writer);
        writer.verify(&mut session)
    };
    look(&data).expect("the box itself has it");
    let wrong = stamps::kinds(&look(&copy).expect_err("the copy is older"));
    assert_eq!(wrong, [Wrong::Unsynchronised, Wrong::Unanswered].into());
}

#[test]
fn canary_what_is_missing_torn_or_out_of_order_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "canary");
    let served = Served::start(&data);
    volume(&data);
    let writer = Writer::new(1, 0, Moments::default());
    let mut session = greeted(&served, &writer);
    let mut seen = |meddle: &dyn Fn(&mut Writer, &mut Initiator)| {
        let mut writer = writer.clone();
        // What another canary left is where this one begins.
        let _ = writer.verify(&mut session);
        meddle(&mut writer, &mut session);
        writer.verify(&mut session).map_or_else(|wrong| stamps::kinds(&wrong), |()| Default::default())
    };
    let put = |session: &mut Initiator, block: u64, bytes: &[u8]| {
        let cdb = common::iscsi::write(block, bytes.len() / SECTOR, false);
        assert!(session.run(0, &cdb, bytes.to_vec(), 0).expect("it serves").is_good());
    };
    assert_eq!(seen(&|_, _| {}), [].into());
    assert_eq!(seen(&|writer, _| writer.claim(50, 8, false)), [Wrong::Unanswered].into());
    // One sector of a write is what it was before the write.
    let torn = seen(&|writer, session| {
        let before = writer.change(session, 200, 16);
        writer.change(session, 200, 16);
        put(session, 207, &before[7 * SECTOR..8 * SECTOR]);
    });
    assert_eq!(torn, [Wrong::Unsynchronised, Wrong::Unanswered, Wrong::Torn].into());
    // An older write is missing, a younger one is there.
    let order = seen(&|writer, session| {
        writer.change(session, 300, 8);
        writer.change(session, 400, 8);
        put(session, 300, &[0; 8 * SECTOR]);
    });
    assert_eq!(order, [Wrong::Unsynchronised, Wrong::Unanswered, Wrong::Order].into());
    // A sector that is in the wrong place, or whose bytes are not all its own.
    let foreign = seen(&|writer, session| {
        let sectors = writer.change(session, 500, 2);
        put(session, 501, &sectors[..SECTOR]);
    });
    assert!(foreign.contains(&Wrong::Foreign), "{foreign:?}");
}
