use super::*;

const AT: &str = "2026-11-23T14:00:00.000Z";

fn log(data: &Path) -> Audit {
    Audit::open(data, AT, Arc::default()).expect("a sound folder")
}

fn entry(what: &str) -> Entry {
    Entry { at: AT.into(), who: "anna".into(), by: "session".into(), what: what.into(), ..Entry::default() }
}

fn whats(audit: &Audit) -> Vec<(u64, String)> {
    audit.newest(None, 1000).expect("readable").into_iter().map(|entry| (entry.n, entry.what)).collect()
}

/// The page of the format, with its example.
#[test]
fn the_example_of_the_page_is_read() {
    let page = include_str!("../../../../docs/formats/audit.md");
    let example =
        page.split("## An example\n\n```\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let data = tempfile::tempdir().expect("a folder");
    let audit = log(data.path());
    let from = "192.168.7.4".to_owned();
    let asked = Entry { from: from.clone(), with: serde_json::json!({"name": "films"}), ..entry("dataset-delete") };
    let n = audit.add(asked.clone()).expect("room");
    let at = "2026-11-23T14:00:00.120Z".to_owned();
    let outcome = Entry { at, from, of: Some(n), outcome: Some("done".into()), ..entry("dataset-delete") };
    audit.add(outcome.clone()).expect("room");
    let written = fs::read_to_string(file_of(&data.path().join(FOLDER), 1)).expect("there");
    assert_eq!(written, example);
    let read = read(example.as_bytes());
    assert_eq!((read.rest, read.next, read.bytes), (Rest::Nothing, 3, example.len() as u64));
    assert_eq!(read.entries, [Entry { n: 1, ..asked }, Entry { n: 2, ..outcome }]);
}

#[test]
fn entries_outlive_the_box_and_come_newest_first() {
    let data = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let audit = log(data.path());
        for nth in 0..3 {
            audit.add(entry(&format!("{round}.{nth}"))).expect("room");
        }
    }
    let audit = log(data.path());
    let all = whats(&audit);
    assert_eq!(all.first(), Some(&(9, "2.2".into())));
    assert_eq!(all.last(), Some(&(1, "0.0".into())));
    let page = audit.newest(Some(8), 2).expect("readable");
    assert_eq!(page.iter().map(|entry| entry.n).collect::<Vec<_>>(), [7, 6]);
}

/// A power cut may leave any beginning of what was being written; what was acknowledged stays.
#[test]
fn whatever_a_power_cut_leaves_of_the_last_line_is_removed() {
    let data = tempfile::tempdir().expect("a folder");
    let audit = log(data.path());
    audit.add(entry("kept")).expect("room");
    let path = file_of(&data.path().join(FOLDER), 1);
    let kept = fs::read(&path).expect("there").len();
    audit.add(entry("lost")).expect("room");
    let whole = fs::read(&path).expect("there");
    drop(audit);
    for left in kept..whole.len() {
        fs::write(&path, &whole[..left]).expect("written");
        let audit = log(data.path());
        assert_eq!(whats(&audit), [(1, "kept".to_owned())], "{left} bytes left");
        audit.add(entry("next")).expect("room");
        drop(audit);
        assert_eq!(whats(&log(data.path())), [(2, "next".to_owned()), (1, "kept".to_owned())], "{left} bytes left");
    }
}

#[test]
fn a_file_without_its_head_begins_again() {
    for left in 0..80 {
        let data = tempfile::tempdir().expect("a folder");
        let audit = log(data.path());
        audit.add(entry("kept")).expect("room");
        audit.lock().begin_file(&data.path().join(FOLDER)).expect("room");
        let path = file_of(&data.path().join(FOLDER), 2);
        let head = fs::read(&path).expect("there");
        fs::write(&path, &head[..left]).expect("written");
        drop(audit);
        let audit = log(data.path());
        assert_eq!(audit.add(entry("next")).expect("room"), 2);
        assert_eq!(fs::read(&path).expect("there")[..head.len()], head, "with the chain of the file before");
    }
}

#[test]
fn a_change_anywhere_is_seen_and_said() {
    let data = tempfile::tempdir().expect("a folder");
    let audit = log(data.path());
    for nth in 0..2 {
        audit.add(entry(&format!("entry {nth}"))).expect("room");
    }
    drop(audit);
    let folder = data.path().join(FOLDER);
    let sound = fs::read(file_of(&folder, 1)).expect("there");
    // The end of the last line is torn if it is gone; every other byte matters, a third of which is tried.
    for at in (0..sound.len() - 1).step_by(3) {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        fs::write(file_of(&folder, 1), &changed).expect("written");
        let audit = log(data.path());
        let newest = audit.newest(None, 1).expect("readable");
        assert_eq!(newest[0].what, "audit-damaged", "byte {at}");
        assert_eq!(fs::read(file_of(&folder, 1)).expect("there"), changed, "it stays as it is");
        drop(audit);
        assert_eq!(log(data.path()).newest(None, 1).expect("readable")[0].n, newest[0].n, "said once");
        fs::remove_file(file_of(&folder, 2)).expect("there");
    }
}

#[test]
fn a_file_that_somebody_has_grown_is_damaged_and_sizes_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let audit = log(data.path());
    audit.add(entry("before")).expect("room");
    drop(audit);
    let file = file_of(&data.path().join(FOLDER), 1);
    // A terabyte of nothing, which takes no room on the disk.
    OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(1 << 40)).expect("grown");
    let audit = log(data.path());
    assert_eq!(whats(&audit), [(2, "audit-damaged".to_owned()), (1, "before".to_owned())]);
    assert_eq!(fs::metadata(&file).expect("there").len(), 1 << 40, "it stays as it is");
}

#[test]
fn files_are_bounded_and_the_chain_goes_through_them() {
    let data = tempfile::tempdir().expect("a folder");
    let audit = log(data.path());
    let folder = data.path().join(FOLDER);
    for round in 0..FILES_KEPT + 3 {
        audit.add(entry(&format!("{round}"))).expect("room");
        audit.lock().bytes = FILE_BYTES;
    }
    let files = numbers(&folder).expect("readable");
    assert_eq!((files.len() as u32, files.last()), (FILES_KEPT, Some(&(FILES_KEPT + 3))));
    let reads: Vec<Read> =
        files.iter().map(|number| read(&fs::read(file_of(&folder, *number)).expect("there"))).collect();
    for pair in reads.windows(2) {
        assert_eq!(pair[0].rest, Rest::Nothing);
        assert_eq!(pair[0].next, pair[1].entries[0].n);
        let text = serde_json::to_string(&pair[1].entries[0]).expect("an entry");
        assert_eq!(link(&pair[0].chain, text.as_bytes()), pair[1].chain, "one chain through all files");
    }
}

#[test]
fn what_is_sent_on_begins_behind_a_number_also_across_files_and_restarts() {
    let data = tempfile::tempdir().expect("a folder");
    let mut audit = log(data.path());
    for nth in 1..=400u64 {
        audit.add(entry(&nth.to_string())).expect("room");
        if nth == 100 || nth == 200 {
            audit.lock().bytes = FILE_BYTES;
        }
        if nth == 300 {
            audit = log(data.path());
        }
    }
    let numbers = |audit: &Audit, after, limit| {
        let found = audit.after(after, limit).expect("readable").expect("not behind the end");
        found.into_iter().map(|chained| chained.entry.n).collect::<Vec<_>>()
    };
    for after in [0, 1, 99, 100, 150, 200, 250, 299, 300, 398, 399] {
        for limit in [1, 7, 1000] {
            let expected: Vec<u64> = (after + 1..=400).take(limit).collect();
            assert_eq!(numbers(&audit, after, limit), expected, "{after} {limit}");
        }
    }
    assert_eq!((numbers(&audit, 400, 9), audit.next()), (vec![], 401));
    assert_eq!(audit.after(401, 9).expect("readable"), None, "there never were so many");
    // The chain is what stands in the file.
    let last = audit.after(399, 1).expect("readable").expect("there").remove(0);
    let text = fs::read_to_string(file_of(&data.path().join(FOLDER), 3)).expect("there");
    assert!(text.lines().last().expect("a line").starts_with(&format!("{} ", last.chain)));
}
