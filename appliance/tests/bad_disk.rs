//! The real program on a disk that fails: read errors, write errors, syncs that fail, a disk that vanishes, fills up, or takes its time, while
//! clients that nobody here wrote are at work. The box stays up, refuses what it must, says so, and loses nothing that it called safe.
//!
//! The disk is a file system in user space (`common/faulty`); where this machine lets nobody mount one, the tests say so and pass. `make bad-disk`
//! shows what happens, step by step.

mod common;
#[path = "common/faulty/mod.rs"]
mod faulty;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::check_deep;
use faulty::lab::{BOTH, Lab, MIB, To, config, files};
use faulty::{ALL, Fate, Op, Rule, TRANSFERS, WRITES};
use rustix::io::Errno;

fn must(lab: &mut Lab, at_mib: usize) {
    for to in BOTH {
        assert!(lab.writes(to, at_mib), "{to:?}");
    }
}

/// Everybody is told no, and is served again what he had.
fn refuses_writes_and_reads_on(lab: &mut Lab, at_mib: usize) {
    for to in BOTH {
        assert!(!lab.writes(to, at_mib), "{to:?}");
        assert!(lab.reads(to), "{to:?}");
    }
}

#[test]
fn sectors_that_can_not_be_read() {
    let Some(mut lab) = Lab::new("sectors_that_can_not_be_read") else { return };
    (0..3).for_each(|at| must(&mut lab, at));
    lab.stop();
    lab.start();
    lab.told();
    lab.does("4 KiB of the container with the first data can't be read any more");
    let first =
        files(&lab.data.join("containers")).into_iter().find(|path| path.extension().is_some_and(|end| end == "data"));
    let file = first.expect("a container").strip_prefix(&lab.data).expect("below").display().to_string();
    let at = 300 << 10;
    lab.disk.only([Rule::fails(&[Op::Read], &file).within((at, at + 4096))]);
    let read = BOTH.map(|to| lab.reads(to));
    assert!(read.contains(&false), "nobody met it");
    assert!(read.contains(&true), "the other is served");
    assert!(BOTH.into_iter().any(|to| lab.writes(to, 5)), "and written to");
    let said = lab.problems();
    assert!(said.contains("objects are damaged") && said.contains("the disk failed"), "{said}");
    let check = lab.command(&["check", "--deep"]);
    println!(
        "   narrowboat check --deep: {}",
        check.out.lines().find(|line| line.contains("wrong")).unwrap_or("nothing")
    );
    assert!(check.code == 4 && check.out.contains(&file), "{check:?}");
    lab.told();
    lab.does("it can be read again");
    lab.disk.mend();
    // Whoever looks at what is damaged has it read once more.
    let shown = lab.command(&["scrub", "show"]);
    assert!(!shown.out.contains("DAMAGED;"), "{shown:?}");
    assert_eq!(lab.status()["damaged_objects"], 0);
    lab.is_whole();
}

#[test]
fn what_can_not_be_read_at_the_start() {
    let Some(mut lab) = Lab::new("what_can_not_be_read_at_the_start") else { return };
    (0..2).for_each(|at| must(&mut lab, at));
    assert_eq!(lab.command(&["snapshot", "create", "office", "--name", "monday"]).code, 0);
    lab.stop();
    lab.told();
    for (file, word) in
        [("index.redb", "the index was built again"), ("catalogue.redb", "the catalogue was built again")]
    {
        lab.does(&format!("{file} can't be read at the start"));
        lab.disk.only([Rule::fails(&[Op::Read], file).times(1)]);
        lab.start();
        let told = lab.told();
        assert!(told.contains(word), "{told}");
        assert!(lab.command(&["snapshot", "list"]).out.contains("office@monday"));
        lab.is_whole();
        lab.stop();
    }
    lab.does("no tree node can be read at the start");
    lab.disk.only([Rule::fails(&[Op::Read], ".node")]);
    lab.start();
    let told = lab.told();
    let said = lab.problems();
    assert!(!lab.reads(To::Share) || told.contains("can't be served"), "{told}\n{said}");
    assert!(said.contains("the disk failed"), "{said}");
    lab.kill();
    lab.disk.mend();
    lab.does("the journal can't be read at the start: without it nobody knows what was written last");
    lab.disk.only([Rule::fails(&[Op::Read], "journal/")]);
    let before = files(&lab.data);
    let told = lab.fails_to_start();
    assert!(told.contains("read journal/"), "{told}");
    assert_eq!(files(&lab.data), before, "nothing was begun anew");
    lab.disk.mend();
    lab.start();
    must(&mut lab, 3);
    lab.is_whole();
}

#[test]
fn writes_that_fail() {
    let Some(mut lab) = Lab::new("writes_that_fail") else { return };
    (0..2).for_each(|at| must(&mut lab, at));
    lab.does("containers can't be written");
    lab.disk.only([Rule::fails(&[Op::Write], "containers/")]);
    refuses_writes_and_reads_on(&mut lab, 2);
    lab.says("the disk failed");
    lab.rests();
    lab.told();
    lab.does("they can again: what waited in memory is written");
    lab.disk.mend();
    must(&mut lab, 2);
    lab.is_whole();
    lab.does("the journal can't be written");
    lab.disk.only([Rule::fails(&[Op::Write], "journal/").times(1)]);
    refuses_writes_and_reads_on(&mut lab, 3);
    let said = lab.problems();
    assert!(said.contains("nothing is written any more") && said.contains("Restart the box"), "{said}");
    lab.rests();
    lab.told();
    lab.does("it could be by now, but nobody knows what of the record is there: only a restart tells");
    refuses_writes_and_reads_on(&mut lab, 3);
    lab.kill();
    lab.start();
    must(&mut lab, 3);
    lab.is_whole();
    lab.told();
    lab.does("the system mounts the disk read-only");
    lab.disk
        .only([Rule::new(WRITES, "", Fate::Fails(Errno::ROFS)), Rule::new(&[Op::Sync], "", Fate::Fails(Errno::ROFS))]);
    refuses_writes_and_reads_on(&mut lab, 4);
    lab.says("Read-only file system");
    lab.rests();
    lab.told();
    lab.kill();
    lab.disk.mend();
    lab.start();
    must(&mut lab, 4);
    lab.is_whole();
}

#[test]
fn a_sync_that_fails_once() {
    let Some(mut lab) = Lab::new("a_sync_that_fails_once") else { return };
    must(&mut lab, 0);
    for (at, folder) in [(1, "journal/"), (3, "containers/")] {
        lab.does(&format!(
            "one sync in {folder} fails: the kernel takes what it covered for written, and it is on no disk"
        ));
        lab.disk.only([Rule::fails(&[Op::Sync], folder).times(1)]);
        refuses_writes_and_reads_on(&mut lab, at);
        assert_eq!(lab.disk.met(), 1, "one sync failed, and none was tried again");
        let said = lab.problems();
        assert!(said.contains("nothing is written any more") && said.contains("sync"), "{said}");
        lab.rests();
        lab.told();
        lab.does("kill -9, and a start on what the kernel shows; then the power goes");
        lab.kill();
        lab.start();
        must(&mut lab, at + 1);
        lab.kill();
        let lost = lab.disk.cut_power();
        println!("   {lost} pages were on no disk");
        lab.start();
        lab.told();
        lab.is_whole();
        lab.does("the same, and the power goes at once");
        lab.disk.only([Rule::fails(&[Op::Sync], folder).times(1)]);
        refuses_writes_and_reads_on(&mut lab, at);
        lab.kill();
        let lost = lab.disk.cut_power();
        println!("   {lost} pages were on no disk");
        assert!(lost > 0, "the disk lost nothing");
        lab.disk.mend();
        lab.start();
        lab.told();
        must(&mut lab, at);
        lab.is_whole();
    }
}

#[test]
fn a_disk_that_vanishes() {
    let Some(mut lab) = Lab::new("a_disk_that_vanishes") else { return };
    (0..2).for_each(|at| must(&mut lab, at));
    lab.stop();
    lab.start();
    lab.told();
    lab.does("the disk answers nothing but errors any more");
    lab.disk.only([Rule::fails(ALL, "")]);
    for to in BOTH {
        assert!(!lab.writes(to, 2) && !lab.reads(to), "{to:?}");
    }
    let said = lab.problems();
    assert!(said.contains("the disk failed") && said.contains("no new figures"), "{said}");
    lab.rests();
    lab.told();
    lab.does("it is back: what lies there is read");
    lab.disk.mend();
    assert!(BOTH.into_iter().all(|to| lab.reads(to)));
    assert_eq!(lab.status()["damaged_objects"], 0, "a disk that was gone says nothing of what lies on it");
    if !lab.status()["disk"]["stopped"].is_null() {
        lab.does("something had been on its way to the journal: a restart tells whether it is there");
        assert!(BOTH.into_iter().all(|to| !lab.writes(to, 2)));
        lab.kill();
        lab.start();
    }
    must(&mut lab, 2);
    lab.is_whole();
    lab.does("it is gone at the start");
    lab.kill();
    lab.disk.only([Rule::fails(ALL, "")]);
    let told = lab.fails_to_start();
    assert!(told.contains("Input/output error"), "{told}");
    lab.disk.mend();
    lab.does("it is not even mounted: its place is an empty folder");
    lab.disk.take_out();
    let told = lab.fails_to_start();
    assert!(told.contains("if its disk is not mounted, mount it"), "{told}");
    assert!(files(&lab.data).is_empty(), "a new box was begun in the place of the disk");
    lab.disk.put_back();
    lab.start();
    lab.is_whole();
}

#[test]
fn a_disk_that_is_slow() {
    let Some(mut lab) = Lab::new("a_disk_that_is_slow") else { return };
    must(&mut lab, 0);
    lab.does("every operation takes a second");
    lab.disk.only([Rule::new(TRANSFERS, "", Fate::Takes(Duration::from_secs(1)))]);
    // The quick ones before count, too, for as long as a minute.
    let is_told = |lab: &Lab| lab.command(&["status"]).out.contains("the disk is slow");
    let told = (1..12).find(|at| {
        must(&mut lab, *at);
        is_told(&lab)
    });
    assert!(told.is_some(), "nobody says so");
    lab.problems();
    lab.told();
    lab.does("operations don't come to an end any more");
    lab.disk.only([Rule::new(TRANSFERS, "", Fate::Takes(Duration::from_secs(600)))]);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| lab.command(&["snapshot", "create", "office", "--name", "slow"]));
        lab.says("the disk has not answered for");
        let status = lab.status();
        assert!(status["disk"]["waits"]["seconds"].as_f64().is_some_and(|seconds| seconds > 4.0), "{}", status["disk"]);
        lab.disk.mend();
        assert_eq!(client.join().expect("no panic").code, 0, "it came to its end");
    });
    lab.does("it is quick again");
    must(&mut lab, 12);
    lab.told();
    lab.is_whole();
}

#[test]
fn a_disk_that_is_full() {
    let Some(mut lab) = Lab::new("a_disk_that_is_full") else { return };
    lab.stop();
    // A file system of its own in memory below the one that fails: this namespace of mounts has it alone.
    lab.disk.take_out();
    let small = lab.disk.below().to_owned();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=320m", "tmpfs"]).arg(&small);
    assert!(mount.status().expect("mount").success());
    fs::write(small.join("narrowboat.toml"), config()).expect("room");
    lab.disk.put_back();
    lab.begin_again();
    (0..4).for_each(|at| must(&mut lab, at));
    assert_eq!(lab.command(&["snapshot", "create", "office", "--name", "monday"]).code, 0);
    lab.does("something else takes all room above the reserve but 4 MiB");
    let facts = rustix::fs::statvfs(&small).expect("a file system");
    let free = (facts.f_bavail * facts.f_frsize) as usize;
    let ballast = small.join("ballast");
    fs::write(&ballast, vec![7; free - 68 * MIB]).expect("room");
    let refused = (4..12).find(|at| BOTH.into_iter().any(|to| !lab.writes(to, *at)));
    assert!(refused.is_some(), "nobody was refused");
    assert!(BOTH.into_iter().all(|to| lab.reads(to)), "all is read");
    lab.says("the disk is full");
    lab.rests();
    lab.told();
    lab.does("deleting and reclaim work on what is kept back for them");
    let said = lab.command(&["snapshot", "delete", "office@monday"]);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [&["dataset", "delete", "office"][..], &["quarantine", "empty"], &["reclaim"]] {
        let said = lab.command(words);
        println!("   narrowboat {}: {}", words.join(" "), said.out.lines().next().unwrap_or(&said.err));
        assert_eq!(said.code, 0, "{said:?}");
    }
    lab.forget(To::Share);
    assert!(lab.writes(To::Volume, 13), "there is room again");
    assert!(lab.reads(To::Volume));
    check_deep(&lab.data).expect("whole");
    lab.does("the system says that it has room, and refuses all the same (a quota)");
    lab.disk.only([Rule::new(&[Op::Write, Op::Reserve], "containers/", Fate::Fails(Errno::DQUOT))]);
    assert!(lab.reads(To::Volume));
    lab.disk.mend();
    fs::remove_file(&ballast).expect("the ballast");
    assert!(lab.writes(To::Volume, 14) && lab.reads(To::Volume));
    check_deep(&lab.data).expect("whole");
    lab.told();
}
