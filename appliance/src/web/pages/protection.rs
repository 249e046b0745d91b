//! Whether what is backed up is safe: of each dataset a word, and of the box what somebody should do.

use crate::control::reports::{Dataset, Lag, Loss, Plan, Status};
use crate::disks::state::Health;
use crate::units::duration;
use crate::web::show;

/// How something is. Each has a colour, an icon and a word, so that no one has to see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Still,
    Good,
    Busy,
    Warn,
    Bad,
}

impl Mark {
    /// As styles and icons call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mark::Still => "still",
            Mark::Good => "good",
            Mark::Busy => "busy",
            Mark::Warn => "warn",
            Mark::Bad => "bad",
        }
    }
}

/// How a dataset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Protection {
    pub mark: Mark,
    pub word: &'static str,
    pub detail: String,
}

/// How old a copy may be beyond what its plan wants, before it counts as late.
const SLACK: f64 = 3600.0;
/// How old the newest copy may be where there is no plan.
const OLD: f64 = 2.0 * 86_400.0;

fn is(mark: Mark, word: &'static str, detail: impl Into<String>) -> Protection {
    Protection { mark, word, detail: detail.into() }
}

/// How a dataset is, as the status shows.
pub(super) fn of(status: &Status, dataset: &Dataset) -> Protection {
    if let Some(damage) = &dataset.damage {
        return is(Mark::Bad, "Damaged", damage.clone());
    }
    if dataset.read_only {
        return is(Mark::Still, "Copy", "kept here for another box");
    }
    let plans: Vec<&Plan> = status.plans.iter().filter(|plan| plan.dataset == dataset.name).collect();
    let best = plans.iter().map(|plan| by_plan(plan)).min_by_key(|protection| protection.mark);
    let without = || without_plan(status, dataset);
    best.unwrap_or_else(without)
}

fn by_plan(plan: &Plan) -> Protection {
    let peer = &plan.peer;
    let age = plan.behind_seconds.map(|age| show::coarse(&(age as u64)));
    let error = || plan.error.clone().unwrap_or_else(|| format!("{peer} was not reached"));
    let wanted = 2.0 * plan.every_seconds.unwrap_or_default() as f64 + SLACK;
    let late = plan.behind_seconds.is_some_and(|age| age > wanted);
    match (plan.state.as_str(), age) {
        ("failing", _) => is(Mark::Bad, "Failing", error()),
        ("paused", _) => is(Mark::Warn, "Paused", format!("nothing goes to {peer} until it is resumed")),
        ("retrying", _) => is(Mark::Warn, "Retrying", error()),
        (_, Some(age)) if late => is(Mark::Warn, "Late", format!("what {peer} has is {age} old")),
        ("sending" | "preparing" | "queued", _) => is(Mark::Busy, "Being copied", format!("to {peer}")),
        (_, Some(_)) if plan.behind_seconds == Some(0.0) => {
            is(Mark::Good, "Protected", format!("{peer} has everything"))
        }
        (_, Some(age)) => is(Mark::Good, "Protected", format!("what {peer} has is {age} old")),
        (_, None) => is(Mark::Busy, "Not copied yet", format!("the first copy goes to {peer} soon")),
    }
}

fn without_plan(status: &Status, dataset: &Dataset) -> Protection {
    let lags = status.peers.iter().flat_map(|peer| peer.lag.iter().map(move |lag| (peer, lag)));
    let newest =
        lags.filter(|(_, lag)| lag.dataset == dataset.name).min_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
    match newest {
        Some((peer, Lag { snapshots_behind: 0, seconds, .. })) if *seconds < OLD => {
            is(Mark::Good, "Copied", format!("{} has it as it was {} ago", peer.name, show::coarse(&(*seconds as u64))))
        }
        Some((peer, lag)) => {
            let age = show::coarse(&(lag.seconds as u64));
            is(
                Mark::Warn,
                "Out of date",
                format!("what {} has is {age} old, and nothing sends it by itself", peer.name),
            )
        }
        None => is(Mark::Warn, "Only here", "no other box has a copy"),
    }
}

/// Something that somebody should know, and mostly do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What it is, whatever its words are by now.
    pub key: String,
    pub mark: Mark,
    /// The name of what it is about; empty where it is the box.
    pub name: String,
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Where that is done on the page, and what the link says.
    pub link: Option<(String, &'static str)>,
}

fn problem(key: &str, mark: Mark, what: impl AsRef<str>, remedy: &str) -> Problem {
    let (what, remedy) = (show::sentence(what.as_ref()), remedy.to_owned());
    Problem { key: key.to_owned(), mark, name: String::new(), what, remedy, link: None }
}

/// A certificate that could not be had, once little is left of the one before, or nothing.
fn of_certificate(status: &Status) -> Option<Problem> {
    let certificate = status.certificate.as_ref()?;
    let authority = certificate.authority.as_ref().filter(|authority| authority.short)?;
    let why = authority.error.as_deref()?;
    let until = authority.until.as_deref().map(show::when).unwrap_or_default();
    let what = match (certificate.kind.as_str(), authority.until.is_some()) {
        ("authority", _) => format!("the page’s certificate ends {until}, and no other was had: {why}"),
        (_, true) => format!("the page’s certificate has ended, browsers ask, and no other was had: {why}"),
        (_, false) => format!("browsers ask, because the page has no certificate of its authority yet: {why}"),
    };
    let remedy = authority.remedy.as_deref().unwrap_or_default();
    let link = Some(("/system".to_owned(), "Look at the certificate"));
    Some(Problem { link, ..problem("certificate", Mark::Warn, what, remedy) })
}

/// All of that, the worst first.
pub(crate) fn problems(status: &Status) -> Vec<Problem> {
    let mut all: Vec<Problem> = of_disk(status).into_iter().chain(of_store(status)).collect();
    all.extend(status.datasets.iter().filter_map(|dataset| of_dataset(status, dataset)));
    all.extend(status.losses.iter().map(of_loss));
    all.extend(status.plans.iter().filter_map(|plan| of_plan(status, plan)));
    all.extend(status.peers.iter().filter(|peer| peer.connected_from.is_none()).filter_map(|peer| {
        let why = peer.last_error.as_deref()?;
        Some(Problem {
            name: peer.name.clone(),
            link: Some((format!("/peers/{}", show::part(&peer.name)), "Look at the peer")),
            ..problem(
                &format!("peer/{}", peer.name),
                Mark::Warn,
                format!("it was not reached: {why}"),
                "It is tried again by itself.",
            )
        })
    }));
    all.extend(status.owed_thaws.iter().map(|owed| {
        let what = format!("{} may stand still since {}: its thaw failed", owed.hook, show::when(&owed.since));
        let why = owed.problem.as_deref().map(show::sentence).unwrap_or_default();
        problem(&format!("thaw/{}", owed.hook), Mark::Bad, what, &format!("It is tried again and again. {why}"))
    }));
    all.extend(status.notices.iter().filter_map(|way| {
        let what = format!("notices can't be told by {}: {}", way.way, way.error.as_ref()?);
        let remedy = "It is tried again by itself; `narrowboat notice test` tries it now.";
        Some(problem(&format!("notices/{}", way.way), Mark::Warn, what, remedy))
    }));
    all.extend(of_certificate(status));
    all.sort_by_key(|problem| std::cmp::Reverse(problem.mark));
    all
}

fn of_disk(status: &Status) -> Vec<Problem> {
    let mut all = Vec::new();
    if let Some(why) = &status.disk.stopped {
        all.push(problem(
            "disk-stopped",
            Mark::Bad,
            format!("nothing is written any more: {why}"),
            "Look at the disk, then restart the box.",
        ));
    }
    if let Some(waits) = &status.disk.waits {
        let what = format!(
            "the disk has not answered for {} ({} of {})",
            duration(waits.seconds),
            waits.operation,
            waits.file
        );
        all.push(problem("disk-waits", Mark::Bad, what, "Look at its cables and its health."));
    }
    if let Some(fault) = &status.disk.last_fault {
        let what = format!(
            "the disk failed {} times, last {} ago: {}",
            status.disk.faults,
            duration(fault.seconds_ago),
            fault.error
        );
        all.push(problem("disk-faults", Mark::Warn, what, "Have it replaced before it fails for good."));
    }
    if let Some(slow) = &status.disk.slow {
        let what = format!(
            "the disk is slow: {} on average for each of {} operations",
            duration(slow.mean_seconds),
            slow.operations
        );
        all.push(problem("disk-slow", Mark::Warn, what, "Look at its health, and at what else uses it."));
    }
    if let Some(array) = &status.array {
        let mark = match array.health {
            Health::Broken => Mark::Bad,
            Health::Degraded | Health::Rebuilding if array.degraded > 0 => Mark::Warn,
            _ => Mark::Still,
        };
        all.extend(array.advice.iter().map(|advice| problem("array", mark, advice, "")));
    }
    if status.full {
        let remedy = "Writes are refused until there is room: delete what nobody needs, or give the box a larger disk.";
        all.push(Problem {
            link: Some(("/datasets".into(), "Look at the datasets")),
            ..problem("disk-full", Mark::Bad, "the disk is full, or nearly", remedy)
        });
    }
    all
}

fn of_store(status: &Status) -> Vec<Problem> {
    let mut all = Vec::new();
    if status.damaged_objects > 0 {
        let what = format!("{} are damaged", show::many(&status.damaged_objects, "object"));
        all.push(problem(
            "damaged",
            Mark::Bad,
            what,
            "Peers are asked for them; narrowboat scrub show tells whom it hits.",
        ));
    }
    if let Some(why) = &status.unreclaimed {
        all.push(problem("unreclaimed", Mark::Bad, format!("what is deleted gives no room back: {why}"), ""));
    }
    if let Some(why) = &status.stalled {
        all.push(problem("stalled", Mark::Bad, why, "What was written is safe, but is not deduplicated."));
    }
    if let Some(why) = &status.unsplit {
        all.push(problem("unsplit", Mark::Bad, format!("the journal grows: {why}"), ""));
    }
    if let Some(ahead) = status.ahead_seconds {
        let what = format!("the clock was set back by {}", duration(ahead));
        all.push(problem(
            "clock",
            Mark::Warn,
            what,
            "The times of what is written are ahead of it until it has caught up.",
        ));
    }
    if let Some(why) = &status.unmeasured {
        let age = status.age_seconds.map(duration).unwrap_or_default();
        all.push(problem("unmeasured", Mark::Warn, format!("these figures are {age} old: {why}"), ""));
    }
    all
}

/// Much of a dataset is gone: what, and the way back.
fn of_loss(loss: &Loss) -> Problem {
    let files = match loss.lost_files {
        0 => String::new(),
        lost => format!(", {} of {} files", show::count(&lost), show::count(&loss.held_files)),
    };
    let encrypted = match loss.looks_encrypted {
        true => ". What is there now looks encrypted, and what was there before did not",
        false => "",
    };
    let what = format!(
        "{} % of what the snapshot {} of {} held is gone or was written over ({}{files}){encrypted}",
        loss.percent,
        loss.snapshot,
        show::when(&loss.time),
        show::size(&loss.lost_bytes)
    );
    let (name, href) = (&loss.dataset, format!("/datasets/{}", show::part(&loss.dataset)));
    let (back, link) = match loss.copy {
        true => (
            "it is another box that lost it, and the copy here still has that snapshot".into(),
            (href, "Look at the dataset"),
        ),
        false => (
            format!("`narrowboat rewind {} --to {}` takes it back", show::quoted(name), show::quoted(&loss.snapshot)),
            (format!("{href}/rewind?at={}", show::part(&loss.snapshot)), "Take it back"),
        ),
    };
    let remedy = format!(
        "If nobody meant that: stop whoever writes there, hold that snapshot, and {back}. If it was meant, say so on the page of the dataset."
    );
    let mark = if loss.looks_encrypted { Mark::Bad } else { Mark::Warn };
    Problem { name: name.clone(), link: Some(link), ..problem(&format!("lost/{name}"), mark, what, &remedy) }
}

/// What is wrong with one of several copies, where another one is well.
fn of_plan(status: &Status, plan: &Plan) -> Option<Problem> {
    let dataset = status.datasets.iter().find(|dataset| dataset.name == plan.dataset)?;
    let (own, key) = (by_plan(plan), format!("copy/{}/{}", plan.dataset, plan.peer));
    (own.mark >= Mark::Warn && of(status, dataset).mark < Mark::Warn).then(|| Problem {
        name: dataset.name.clone(),
        link: Some((format!("/datasets/{}#copies", show::part(&dataset.name)), "Look at the dataset")),
        ..problem(&key, Mark::Warn, format!("its copy at {}: {}", plan.peer, own.detail), "Another copy is well.")
    })
}

fn of_dataset(status: &Status, dataset: &Dataset) -> Option<Problem> {
    let protection = of(status, dataset);
    if protection.mark < Mark::Warn {
        return None;
    }
    let (remedy, link) = match (protection.word, status.peers.is_empty()) {
        ("Only here", true) => {
            ("Pair this box with the one at head office.", ("/peers".into(), "Pair with another box"))
        }
        (word, _) => {
            let remedy = match word {
                "Only here" | "Out of date" => "Say where it is copied, and how often.",
                "Damaged" => "Its journal is kept. Peers may have what is missing.",
                "Late" => "The line may be too slow for what changes, or its hours too short.",
                _ => "",
            };
            (remedy, (format!("/datasets/{}#copies", show::part(&dataset.name)), "Look at the dataset"))
        }
    };
    // It may begin with the name of a peer, which is written as it is.
    let what = format!("{}.", protection.detail.trim_end_matches('.'));
    // That nobody else has it is how the box was set up, as long as there is no peer.
    let kind = if (protection.word, status.peers.is_empty()) == ("Only here", true) { "only-here" } else { "dataset" };
    let key = format!("{kind}/{}", dataset.name);
    Some(Problem {
        key,
        mark: protection.mark,
        name: dataset.name.clone(),
        what,
        remedy: remedy.into(),
        link: Some(link),
    })
}

#[cfg(test)]
mod tests {
    use crate::control::reports::Peer;

    use super::*;

    fn dataset(name: &str) -> Dataset {
        let value = serde_json::json!({
            "name": name, "id": "00", "kind": "share", "dedup": "inline", "read_only": false, "origin": null, "created": "", "logical_bytes": 0,
            "used_bytes": null, "files": 0, "directories": 0, "snapshots": 0, "newest_snapshot": null, "export": null, "target": null, "lun": null,
            "damage": null, "window": null, "deferred": null
        });
        serde_json::from_value(value).expect("a dataset")
    }

    fn peer(lag: &[Lag]) -> Peer {
        let value = serde_json::json!({
            "name": "hub", "id": "ab", "addresses": [], "paired": "", "connected_from": null, "last_error": null, "limit": null,
            "round_trip_ms": null, "wire_bytes_sent": 0, "wire_bytes_received": 0, "lag": lag
        });
        serde_json::from_value(value).expect("a peer")
    }

    fn plan(state: &str, behind: Option<f64>) -> Plan {
        Plan {
            dataset: "d".into(),
            peer: "hub".into(),
            state: state.into(),
            behind_seconds: behind,
            every_seconds: Some(3600),
            ..Plan::default()
        }
    }

    #[test]
    fn what_a_plan_came_to_is_what_counts() {
        let cases = [
            ("up to date", Some(0.0), "Protected"),
            ("waiting", Some(3000.0), "Protected"),
            ("waiting", Some(90_000.0), "Late"),
            ("sending", Some(90_000.0), "Late"),
            ("sending", Some(30.0), "Being copied"),
            ("sending", None, "Being copied"),
            ("waiting", None, "Not copied yet"),
            ("paused", Some(0.0), "Paused"),
            ("failing", Some(0.0), "Failing"),
        ];
        for (state, behind, word) in cases {
            let status = Status { plans: vec![plan(state, behind)], ..Status::default() };
            assert_eq!(of(&status, &dataset("d")).word, word, "{state} {behind:?}");
            assert_eq!(of(&status, &dataset("other")).word, "Only here");
        }
    }

    #[test]
    fn without_a_plan_the_newest_copy_counts() {
        let lag = |seconds: f64, behind| Lag {
            dataset: "d".into(),
            newest_there: "s".into(),
            time: String::new(),
            seconds,
            snapshots_behind: behind,
        };
        for (lags, word) in [
            (vec![], "Only here"),
            (vec![lag(60.0, 0)], "Copied"),
            (vec![lag(60.0, 1)], "Out of date"),
            (vec![lag(9e9, 0)], "Out of date"),
        ] {
            let status = Status { peers: vec![peer(&lags)], ..Status::default() };
            assert_eq!(of(&status, &dataset("d")).word, word);
        }
        let damaged = Dataset { damage: Some("torn".into()), ..dataset("d") };
        assert_eq!(of(&Status::default(), &damaged).mark, Mark::Bad);
        assert_eq!(of(&Status::default(), &Dataset { read_only: true, ..dataset("d") }).mark, Mark::Still);
    }

    #[test]
    fn the_worst_stands_first_and_what_is_well_is_no_problem() {
        let status =
            Status { full: true, datasets: vec![dataset("d")], ahead_seconds: Some(60.0), ..Status::default() };
        let marks: Vec<_> = problems(&status).iter().map(|problem| problem.mark).collect();
        assert_eq!(marks, [Mark::Bad, Mark::Warn, Mark::Warn]);
        let well =
            Status { datasets: vec![dataset("d")], plans: vec![plan("up to date", Some(0.0))], ..Status::default() };
        assert_eq!(problems(&well), []);
    }

    #[test]
    fn a_certificate_is_a_problem_once_little_is_left_and_no_other_can_be_had() {
        use crate::control::reports::{Authority, PageCertificate};
        let with = |kind: &str, until: Option<&str>, short: bool, error: Option<&str>| {
            let authority = Authority {
                until: until.map(str::to_owned),
                short,
                error: error.map(str::to_owned),
                remedy: Some("Do it.".into()),
                ..Authority::default()
            };
            let certificate =
                PageCertificate { kind: kind.into(), authority: Some(authority), ..PageCertificate::default() };
            let all = problems(&Status { certificate: Some(certificate), ..Status::default() });
            all.into_iter().find(|problem| problem.key == "certificate").map(|problem| (problem.what, problem.remedy))
        };
        let until = Some("2026-12-20T09:14:02Z");
        assert_eq!(with("authority", until, false, Some("no")), None, "there is time");
        assert_eq!(with("authority", until, true, None), None, "nothing has failed");
        let (what, remedy) = with("authority", until, true, Some("no")).expect("one");
        assert!(what.contains("ends") && what.contains("no") && remedy == "Do it.", "{what}");
        assert!(with("own", until, true, Some("no")).expect("one").0.contains("has ended"));
        assert!(with("own", None, true, Some("no")).expect("one").0.contains("Browsers ask"));
    }
}
