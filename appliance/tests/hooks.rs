//! Marks with hooks on real boxes: what is frozen is thawed, whatever happens in between, and a mark says what it is worth.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{PATIENCE, Said, Served, data_folder, facts, fine, narrowboat};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A box with two shares that have windows, and a folder in which hooks leave their traces.
struct World {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl World {
    /// With hooks whose scripts find the folder of traces as `TRACES`.
    fn new(hooks: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let data = data_folder(folder.path(), "box");
        let world = World { folder, data };
        world.set_hooks(hooks);
        world
    }

    fn set_hooks(&self, hooks: &str) {
        let hooks = hooks.replace("TRACES/", &format!("{}/", self.folder.path().display()));
        fs::write(self.data.join("narrowboat.toml"), common::CONFIG.replace("NAME", "box") + &hooks).expect("a config");
    }

    fn serve(&self) -> Served {
        let served = Served::start(&self.data);
        for share in ["office", "log"] {
            if narrowboat(&self.data, &["share", "create", share]).code == 0 {
                fine(&self.data, &["window", share, "--keep", "24h"]);
            }
        }
        served
    }

    fn mark(&self, args: &[&str]) -> (i32, Value) {
        let said = narrowboat(&self.data, &[&["--json", "mark", "office"], args].concat());
        (said.code, serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}")))
    }

    fn trace(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn until_trace(&self, wanted: &[&str]) {
        until(&format!("{wanted:?}"), || self.trace() == wanted, || format!("{:?}", self.trace()));
    }

    fn touch(&self, name: &str) {
        fs::write(self.folder.path().join(name), "").expect("room");
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    fn owed(&self) -> Value {
        facts(&self.data, &["status"])["owed_thaws"].take()
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool, seen: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not {what}: {}", seen());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A hook that leaves a trace of each call, and does something in each.
fn hook(name: &str, freeze: &str, thaw: &str) -> String {
    let call = |what: &str, script: &str| {
        format!("{what} = ['sh', '-c', '''echo {what} {name} >> TRACES/trace; {script}''']\n")
    };
    format!("[hook.{name}]\n{}{}", call("freeze", freeze), call("thaw", thaw))
}

/// What a mark is worth, as `timeline` tells.
fn worth(data: &Path, mark: &str) -> Value {
    let timeline = facts(data, &["timeline", "office"]);
    let moments = timeline["moments"].as_array().expect("a list").clone();
    moments
        .into_iter()
        .find(|moment| moment["name"] == mark)
        .map_or(Value::Null, |mut found| found["consistency"].take())
}

#[test]
fn hooks_freeze_in_order_and_thaw_in_reverse_around_the_mark() {
    let stamp =
        "date +%s%N >> TRACES/times; echo \"$NARROWBOAT_PHASE $NARROWBOAT_MARK\" $NARROWBOAT_DATASET >> TRACES/about";
    let world = World::new(&(hook("db", stamp, stamp) + &hook("web", stamp, stamp)));
    let _served = world.serve();
    let (code, marked) = world.mark(&["noon", "--with", "log", "--hook", "db", "--hook", "web"]);
    assert_eq!(
        (code, &marked["consistency"], &marked["quiet"]),
        (0, &json!("application"), &json!(true)),
        "{marked:#}"
    );
    assert_eq!(world.trace(), ["freeze db", "freeze web", "thaw web", "thaw db"]);
    let calls: Vec<_> = marked["hooks"].as_array().expect("a list").iter().map(|call| call["phase"].clone()).collect();
    assert_eq!(calls, ["freeze", "freeze", "thaw", "thaw"]);
    let about = fs::read_to_string(world.folder.path().join("about")).expect("traces");
    assert_eq!(about.lines().next(), Some("freeze noon office log"));
    let times = fs::read_to_string(world.folder.path().join("times")).expect("traces");
    let times: Vec<i64> = times.lines().map(|line| line.parse().expect("a number")).collect();
    let marked_at = narrowboat::units::parse_rfc3339(marked["time"].as_str().expect("a time")).expect("a time").0;
    assert!(times[1] - 1_000_000 <= marked_at && marked_at <= times[2], "{marked_at} is not in {times:?}");
    assert_eq!(worth(&world.data, "noon"), "application");
    assert_eq!(world.owed(), json!([]));
    assert!(fine(&world.data, &["mark", "office", "one", "--hook", "db"]).contains("application-consistent"));
    // What will be refused disturbs nobody.
    let before = world.trace();
    for (args, why) in [
        (vec!["mark", "office", "noon", "--hook", "db"], "noon"),
        (vec!["mark", "nobody", "two", "--hook", "db"], "nobody"),
        (vec!["mark", "office", "two", "--hook", "rm -rf /"], "knows db, web"),
        (vec!["mark", "office", "two", "--hook", "db", "--hook", "db"], "twice"),
        (vec!["thaw", "nothing"], "nothing"),
        (vec!["thaw", "db", "--forget"], "owed"),
    ] {
        let said = narrowboat(&world.data, &args);
        assert!(said.code == 1 && said.err.contains(why), "{args:?}: {said:?}");
    }
    assert_eq!(world.trace(), before);
}

#[test]
fn a_freeze_that_fails_makes_the_mark_one_of_a_crash_and_is_thawed() {
    let world = World::new(&(hook("db", "echo the disk is on fire >&2; exit 7", "exit 1") + &hook("web", "", "")));
    let _served = world.serve();
    let said = narrowboat(&world.data, &["mark", "office", "noon", "--hook", "db", "--hook", "web"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(
        said.out.contains("crash-consistent only") && said.out.contains("exit status 7: the disk is on fire"),
        "{said:?}"
    );
    assert_eq!(world.trace(), ["freeze db", "thaw db"], "nobody else is disturbed for it");
    assert_eq!(worth(&world.data, "noon"), "crash");
    assert!(fine(&world.data, &["timeline", "office"]).contains("mark  crash        noon"));
    assert_eq!(world.owed(), json!([]), "it said that it froze nothing, and so did its thaw");
    let gone = "[hook.db]\nfreeze = ['/nowhere/freeze']\nthaw = ['/nowhere/thaw']\n";
    world.set_hooks(gone);
    drop(_served);
    let _served = world.serve();
    let (code, marked) = world.mark(&["two", "--hook", "db"]);
    assert_eq!((code, &marked["quiet"], world.owed()), (5, &json!(false), json!([])), "nothing began: {marked:#}");
}

#[test]
fn a_freeze_that_hangs_is_ended_and_thawed_twice() {
    let world = World::new(
        &(hook("db", "trap '' TERM; sleep 60 & echo $! > TRACES/pid; wait", "") + "freeze_timeout = '1s'\n"),
    );
    let _served = world.serve();
    let begun = Instant::now();
    let (code, marked) = world.mark(&["noon", "--hook", "db"]);
    assert_eq!((code, &marked["consistency"]), (5, &json!("crash")), "{marked:#}");
    assert!(marked["hooks"][0]["problem"].as_str().expect("one").contains("too long"), "{marked:#}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // What it started is gone with it, and what may have come behind the first thaw is thawed again.
    let pid = fs::read_to_string(world.folder.path().join("pid")).expect("it began");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    assert_eq!(world.owed(), json!([]), "nothing to worry about");
    world.until_trace(&["freeze db", "thaw db", "thaw db"]);
}

#[test]
fn a_thaw_that_fails_is_tried_until_it_is_done_and_people_are_told() {
    let world = World::new(&hook("db", "", "test -e TRACES/mended || { echo cannot >&2; exit 9; }"));
    let served = world.serve();
    let (code, marked) = world.mark(&["noon", "--hook", "db"]);
    assert_eq!(
        (code, &marked["consistency"]),
        (5, &json!("crash")),
        "a thaw that says no may have found nothing frozen"
    );
    let owed = world.owed();
    assert_eq!((&owed[0]["hook"], &owed[0]["mark"]), (&json!("db"), &json!("noon")), "{owed:#}");
    assert!(owed[0]["problem"].as_str().expect("one").contains("exit status 9: cannot"), "{owed:#}");
    let status = fine(&world.data, &["status"]);
    assert!(
        status.contains("PROBLEM      db may be frozen since") && status.contains("narrowboat thaw db"),
        "{status}"
    );
    // As long as it is owed nothing else is frozen, but marks go on.
    let (code, marked) = world.mark(&["two", "--hook", "db"]);
    assert_eq!((code, &marked["quiet"], &marked["hooks"][0]["done"]), (5, &json!(false), &json!(false)), "{marked:#}");
    assert!(world.trace().iter().filter(|call| *call == "freeze db").count() == 1);
    assert_eq!(narrowboat(&world.data, &["thaw", "db"]).code, 5);
    // It outlives the box, too, which tries once more when it stops.
    let tries = world.trace().len();
    assert!(served.end_with(Signal::TERM).success());
    assert!(world.trace().len() > tries);
    let _served = world.serve();
    world.touch("mended");
    until("settled", || world.owed() == json!([]), || world.owed().to_string());
    let tries = world.trace().len();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.trace().len(), tries, "and then no more");
    assert!(world.mark(&["three", "--hook", "db"]).1["quiet"].as_bool().expect("an answer"));
}

#[test]
fn a_thaw_of_which_nobody_knows_the_end_leaves_the_mark_consistent() {
    let world = World::new(&(hook("db", "", "test -e TRACES/mended || sleep 60") + "thaw_timeout = '1s'\n"));
    let _served = world.serve();
    let (code, marked) = world.mark(&["noon", "--hook", "db"]);
    assert_eq!((code, &marked["consistency"]), (5, &json!("application")), "{marked:#}");
    assert_eq!(world.owed()[0]["hook"], "db");
    assert_eq!(narrowboat(&world.data, &["thaw", "db", "--forget"]).code, 0);
    assert_eq!(world.owed(), json!([]));
}

#[test]
fn a_mark_that_fails_is_thawed() {
    let off = format!("{} --data {{DATA}} window office --off", common::PROGRAM);
    let world = World::new("");
    world.set_hooks(&hook("db", &off.replace("{DATA}", world.data.to_str().expect("UTF-8")), ""));
    let _served = world.serve();
    let said = narrowboat(&world.data, &["mark", "office", "noon", "--hook", "db"]);
    assert!(said.code == 1 && said.err.contains("no window"), "{said:?}");
    assert_eq!(world.trace(), ["freeze db", "thaw db"]);
    assert_eq!(world.owed(), json!([]));
}

#[test]
fn what_stays_frozen_for_too_long_is_thawed_and_the_mark_is_one_of_a_crash() {
    let slow = "while test $(grep -c thaw TRACES/trace) = 0; do sleep 0.05; done";
    let world = World::new(&(hook("db", "", "") + "hold = '1s'\n" + &hook("slow", slow, "")));
    let _served = world.serve();
    let (code, marked) = world.mark(&["noon", "--hook", "db", "--hook", "slow"]);
    assert_eq!((code, &marked["consistency"]), (5, &json!("crash")), "{marked:#}");
    assert_eq!(world.trace(), ["freeze db", "freeze slow", "thaw db", "thaw slow"]);
}

/// Runs a mark on another thread, and returns once its hook says that it is frozen.
fn mark_until_frozen(world: &World) -> std::thread::JoinHandle<Said> {
    let data = world.data.clone();
    let marking = std::thread::spawn(move || narrowboat(&data, &["mark", "office", "noon", "--hook", "db"]));
    until("frozen", || world.has("frozen"), || format!("{:?}", world.trace()));
    marking
}

#[test]
fn a_box_that_is_killed_thaws_when_it_starts_again() {
    // While the freeze is under way, and while the thaw is.
    for (freeze, thaw) in [
        ("touch TRACES/frozen; while ! test -e TRACES/mended; do sleep 0.05; done", "rm -f TRACES/frozen"),
        ("", "touch TRACES/frozen; while ! test -e TRACES/mended; do sleep 0.05; done; rm TRACES/frozen"),
    ] {
        let world = World::new(&hook("db", freeze, thaw));
        let served = world.serve();
        fs::remove_file(world.folder.path().join("trace")).ok();
        let marking = mark_until_frozen(&world);
        served.kill();
        assert_eq!(marking.join().expect("a thread").code, 1);
        world.touch("mended");
        let begun = world.trace().len();
        let served = world.serve();
        until("thawed", || world.trace().len() > begun && !world.has("frozen"), || served.log());
        assert!(served.log().contains("an earlier run of the box owes a thaw"));
        until("settled", || world.owed() == json!([]), || world.owed().to_string());
        assert_ne!(worth(&world.data, "noon"), "application", "nobody knows how long it was frozen");
        assert!(world.mark(&["two"]).0 == 0);
    }
}

#[test]
fn a_box_that_is_stopped_thaws_before_it_ends() {
    let world = World::new(&hook("db", "touch TRACES/frozen; sleep 60", "rm TRACES/frozen"));
    let served = world.serve();
    let marking = mark_until_frozen(&world);
    assert!(served.end_with(Signal::TERM).success());
    assert_eq!(world.trace(), ["freeze db", "thaw db"], "before it ended");
    assert!(!world.has("frozen"));
    assert_ne!(marking.join().expect("a thread").code, 0);
    let _served = world.serve();
    // The freeze was cut off, so it might have come behind that thaw.
    world.until_trace(&["freeze db", "thaw db", "thaw db"]);
    assert_eq!(worth(&world.data, "noon"), Value::Null);
}
