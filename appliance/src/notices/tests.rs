use std::net::UdpSocket;

use super::ways::Trouble;
use super::work::{REFUSALS_MAX, pause};
use super::*;
use crate::accounts::audit::Entry;
use crate::control::reports::Status;

fn config(text: &str) -> Config {
    Config::read(text).expect("sound")
}

fn audit(data: &Path) -> Audit {
    Audit::open(data, "2026-11-23T14:00:00.000Z", Arc::default()).expect("a sound folder")
}

fn open(data: &Path, config: &Config, audit: &Audit) -> Notices {
    Notices::open(data, config, "bonn", "ab".into(), audit)
}

fn happened(audit: &Audit, what: &str, with: serde_json::Value) {
    let entry = Entry {
        at: crate::units::rfc3339(clock::now()),
        who: "anna".into(),
        from: "10.0.0.1".into(),
        what: what.into(),
        ..Entry::default()
    };
    let of = audit.add(Entry { with, ..entry.clone() }).expect("room");
    audit.add(Entry { of: Some(of), outcome: Some("done".into()), ..entry }).expect("room");
}

/// What a look tells that finds nothing wrong.
fn step(notices: &Notices, audit: &Audit, now: u64) -> Option<Notice> {
    let events = notices.events(audit, now);
    let mut known = notices.lock();
    let notice = known.kept.teller.step(now, &notices.rules, Some(problems::seen(&Status::default())), events);
    notice.iter().for_each(|notice| known.kept.add(notice.clone()));
    notices.keeper.keep(&known.kept);
    notice
}

#[test]
fn what_was_before_is_learnt_and_what_happens_is_told_once_also_across_restarts() {
    let data = tempfile::tempdir().expect("a folder");
    let log = audit(data.path());
    let config = config("");
    (0..110).for_each(|_| happened(&log, "dataset-delete", serde_json::json!({ "name": "old" })));
    happened(&log, "sign-in", serde_json::Value::Null);
    let notices = open(data.path(), &config, &log);
    assert_eq!(step(&notices, &log, now()), None, "that was before anybody looked");
    happened(&log, "sign-in", serde_json::Value::Null);
    happened(&log, "dataset-delete", serde_json::json!({ "name": "films" }));
    notices.stop();
    // It ended before it looked again.
    let notices = open(data.path(), &config, &log);
    let notice = step(&notices, &log, now()).expect("something happened");
    let whats: Vec<_> = notice.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(whats, ["dataset-delete"], "from where she came before: {notice:?}");
    assert_eq!(step(&notices, &log, now()), None);
    notices.stop();
    let notices = open(data.path(), &config, &log);
    assert_eq!(step(&notices, &log, now()), None);
    assert_eq!(notices.report().notices.len(), 1);
}

#[test]
fn a_log_that_is_shorter_than_it_was_is_told_of() {
    let data = tempfile::tempdir().expect("a folder");
    let (log, config) = (audit(data.path()), config(""));
    let notices = open(data.path(), &config, &log);
    assert_eq!(step(&notices, &log, now()), None);
    (0..5).for_each(|_| happened(&log, "scrub-start", serde_json::Value::Null));
    assert_eq!(step(&notices, &log, now()), None);
    notices.stop();
    drop(log);
    std::fs::remove_dir_all(data.path().join("audit")).expect("there");
    let log = audit(data.path());
    happened(&log, "scrub-start", serde_json::Value::Null);
    let notices = open(data.path(), &config, &log);
    let notice = step(&notices, &log, now()).expect("it was exchanged");
    assert_eq!((notice.items[0].key.as_str(), notice.severity()), ("audit-shorter", Severity::Problem));
    assert_eq!(step(&notices, &log, now()), None, "once");
}

/// A way of its own, with nobody else.
fn syslog() -> (UdpSocket, Config) {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    server.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    let port = server.local_addr().expect("bound").port();
    let text = format!("[notices]\nlocal = true\n[notices.syslog]\nserver = '127.0.0.1:{port}'\naudit = false\n");
    (server, config(&text))
}

fn next(server: &UdpSocket) -> String {
    let mut bytes = [0; 4096];
    let len = server.recv(&mut bytes).expect("a message");
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[test]
fn a_way_is_told_what_it_missed_once_and_as_one() {
    let data = tempfile::tempdir().expect("a folder");
    let log = audit(data.path());
    let (server, config) = syslog();
    let notices = open(data.path(), &config, &log);
    step(&notices, &log, now());
    for name in ["one", "two", "three"] {
        happened(&log, "dataset-delete", serde_json::json!({ "name": name }));
        assert!(step(&notices, &log, now()).is_some());
    }
    notices.stop();
    let notices = open(data.path(), &config, &log);
    std::thread::scope(|scope| {
        scope.spawn(|| notices.serve(0, &log));
        for name in ["one", "two", "three"] {
            assert!(next(&server).contains(&format!("dataset {name}.")), "{name}");
        }
        happened(&log, "dataset-delete", serde_json::json!({ "name": "four" }));
        step(&notices, &log, now());
        notices.woken.notify_all();
        assert!(next(&server).contains("dataset four."), "and nothing twice");
        while notices.ways_told()[0].waiting > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        notices.stop();
    });
    assert_eq!(Kept::read(data.path()).expect("sound").expect("there").ways["syslog"].notice, 4);
}

#[test]
fn a_way_that_fails_rests_longer_each_time_says_so_and_loses_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let (log, (_server, config)) = (audit(data.path()), syslog());
    let notices = open(data.path(), &config, &log);
    step(&notices, &log, now());
    for nth in 1..=core::ITEMS_MAX as u64 + 10 {
        let item = Item { kind: Kind::Event, key: format!("e{nth}"), ..Item::default() };
        notices.lock().kept.add(Notice { n: nth, items: vec![item], ..Notice::default() });
    }
    let telling = notices.lock().telling(&notices.ways[0]).expect("all of them");
    assert_eq!(
        (telling.notice.n, telling.notice.items.len() as u64, telling.notice.more, telling.skipped),
        (60, 50, 10, 0)
    );
    let task = Task::Tell(telling);
    let unheard = || Err(Trouble { why: "nobody listens there".into(), refused: false });
    for _ in 0..30 {
        notices.note(0, &task, unheard());
    }
    let way = notices.ways_told().remove(0);
    assert_eq!((way.waiting, way.tries, way.error.as_deref()), (60, 30, Some("nobody listens there")));
    assert!(way.failing_since.is_some() && way.target.is_none());
    assert_eq!([1, 2, 3, 9, 10, 4000].map(|tries| pause(tries).as_secs()), [10, 20, 40, 2560, 3600, 3600]);
    // Of what is refused itself, not all that comes later is to wait for ever.
    let refusal = || Err(Trouble { why: "HTTP 400".into(), refused: true });
    for _ in 0..REFUSALS_MAX {
        assert_eq!(notices.lock().sent(&notices.ways[0]).notice, 0);
        notices.note(0, &task, refusal());
    }
    assert!(notices.lock().telling(&notices.ways[0]).is_none());
    notices.lock().kept.add(Notice { n: 61, ..Notice::default() });
    assert_eq!(notices.lock().telling(&notices.ways[0]).expect("the next one").skipped, 1);
}

#[test]
fn the_end_of_the_box_waits_for_no_way() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let data = tempfile::tempdir().expect("a folder");
    let log = audit(data.path());
    let text = format!(
        "[notices]\nlocal = true\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = '127.0.0.1:{port}'\n"
    );
    let notices = open(data.path(), &config(&text), &log);
    step(&notices, &log, now());
    happened(&log, "dataset-delete", serde_json::json!({ "name": "films" }));
    step(&notices, &log, now());
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| notices.serve(0, &log));
        let held = silent.accept().expect("it calls");
        let begun = Instant::now();
        notices.stop();
        serving.join().expect("it ends");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(held);
    });
    assert_eq!(notices.report().ways[0].waiting, 1, "it is told after the restart");
}
