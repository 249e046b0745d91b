use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const RULES: Rules = Rules { after: 300, remind: DAY, per_hour: 10 };

fn seen(key: &str, severity: Severity) -> Seen {
    Seen { key: key.into(), severity, what: format!("{key} is wrong."), ..Seen::default() }
}

fn full() -> Seen {
    seen("disk-full", Severity::Problem)
}

fn event(key: &str, now: u64) -> Item {
    Item { kind: Kind::Event, key: key.into(), since: now, ..Item::default() }
}

/// Steps of a minute from one time to another; what was told, with when.
fn run(
    teller: &mut Teller,
    from: u64,
    to: u64,
    mut wrong: impl FnMut(u64) -> Vec<Seen>,
) -> Vec<(u64, Vec<(Kind, String)>)> {
    let steps = (from..to).step_by(60);
    let told = steps.filter_map(|now| teller.step(now, &RULES, Some(wrong(now)), Vec::new()));
    let said = |notice: Notice| {
        let items = notice.items.into_iter().map(|item| (item.kind, item.key));
        (notice.at, items.collect())
    };
    told.map(said).collect()
}

#[test]
fn what_lasts_is_told_once_reminded_of_daily_and_its_end_is_told() {
    let mut teller = Teller::default();
    let wrong = |now| if (600..600 + 3 * DAY).contains(&now) { vec![full()] } else { Vec::new() };
    let told = run(&mut teller, 0, 5 * DAY, wrong);
    let item = |kind| vec![(kind, "disk-full".to_owned())];
    assert_eq!(
        told,
        [
            (900, item(Kind::Began)),
            (900 + DAY, item(Kind::Still)),
            (900 + 2 * DAY, item(Kind::Still)),
            (900 + 3 * DAY, item(Kind::Over)),
        ]
    );
}

#[test]
fn what_does_not_last_is_not_told_and_what_flickers_is() {
    assert_eq!(run(&mut Teller::default(), 0, DAY, |now| if now < 240 { vec![full()] } else { Vec::new() }), []);
    // On and off each minute: it was there again before it was gone for long.
    let told =
        run(&mut Teller::default(), 0, HOUR, |now| if now.is_multiple_of(120) { vec![full()] } else { Vec::new() });
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn what_comes_back_again_and_again_is_over_only_when_it_stays_away() {
    // Ten minutes wrong, ten minutes well, for a day.
    let wrong = |now: u64| if now < DAY && (now / 600).is_multiple_of(2) { vec![full()] } else { Vec::new() };
    let told = run(&mut Teller::default(), 0, 2 * DAY, wrong);
    assert!((3..=6).contains(&told.len()), "{told:?}");
    assert_eq!(told.last().map(|(_, items)| items[0].0), Some(Kind::Over));
}

#[test]
fn many_at_once_are_one_notice_and_what_is_nearly_due_goes_along() {
    let peers = |count: u64| (0..count).map(|peer| seen(&format!("peer/{peer}"), Severity::Warning));
    // One more each ten seconds.
    let mut teller = Teller::default();
    let told: Vec<Notice> = (0..2 * HOUR)
        .step_by(10)
        .filter_map(|now| teller.step(now, &RULES, Some(peers((now / 10).min(40)).collect()), Vec::new()))
        .collect();
    assert!(told.len() <= 4, "{} notices", told.len());
    assert_eq!(told.iter().map(|notice| notice.items.len()).sum::<usize>(), 40);
}

#[test]
fn what_gets_worse_is_told_at_once() {
    let mut teller = Teller::default();
    let worse = |now| vec![seen("array", if now < 1200 { Severity::Warning } else { Severity::Problem })];
    let told = run(&mut teller, 0, HOUR, worse);
    let item = || vec![(Kind::Began, "array".to_owned())];
    assert_eq!(told, [(300, item()), (1200, item())]);
}

#[test]
fn what_is_set_up_so_is_told_once() {
    let only_here = Seen { once: true, ..seen("only-here/films", Severity::Warning) };
    assert_eq!(run(&mut Teller::default(), 0, 30 * DAY, |_| vec![only_here.clone()]).len(), 1);
}

#[test]
fn no_more_than_so_many_an_hour_and_nothing_of_it_is_lost() {
    let mut teller = Teller::default();
    let mut told = Vec::new();
    for now in 0..2 * HOUR {
        // An event each second, and a problem that is over before there is room for it.
        let wrong = if (600..1200).contains(&now) { vec![full()] } else { Vec::new() };
        let events = if now < 150 { vec![event("sign-in", now)] } else { Vec::new() };
        told.extend(teller.step(now, &RULES, Some(wrong), events));
    }
    assert_eq!(told.len(), 11);
    let (last, before) = told.split_last().expect("some");
    assert!(before.iter().all(|notice| notice.at < 10 && notice.held.is_none()));
    assert_eq!((last.at, last.held), (HOUR, Some(Held { since: 10, lost: 0 })));
    let said: usize = told.iter().map(|notice| notice.items.len()).sum();
    assert_eq!(said as u64 + last.more, 150 + 1, "the events, and what was over before there was room");
    assert!(last.items.len() == ITEMS_MAX && last.more > 0);
}

#[test]
fn what_was_over_before_there_was_room_is_told_as_such() {
    let mut teller = Teller::default();
    let rules = Rules { per_hour: 1, ..RULES };
    let mut told = Vec::new();
    for now in (0..2 * HOUR).step_by(60) {
        let wrong = if (600..1200).contains(&now) { vec![full()] } else { Vec::new() };
        let events = if now == 300 { vec![event("claimed", now)] } else { Vec::new() };
        told.extend(teller.step(now, &rules, Some(wrong), events));
    }
    let items: Vec<_> = told.iter().flat_map(|notice| &notice.items).map(|item| (item.kind, item.since)).collect();
    assert_eq!(items, [(Kind::Event, 300), (Kind::Over, 600)]);
    assert!(told[1].held.is_some());
}

#[test]
fn events_beyond_all_bounds_are_counted() {
    let mut teller = Teller::default();
    let flood = (0..1000).map(|n| event("sign-in", n)).collect();
    let notice = teller.step(1000, &RULES, None, flood).expect("a notice");
    assert_eq!((notice.items.len() as u64, notice.more), (50, 150));
    assert_eq!(notice.held.map(|held| held.lost), Some(800));
}

#[test]
fn where_nobody_knows_what_is_wrong_nothing_is_over() {
    let mut teller = Teller::default();
    run(&mut teller, 0, 600, |_| vec![full()]);
    let told = (600..2 * HOUR).filter_map(|now| teller.step(now, &RULES, None, Vec::new()));
    assert_eq!(told.count(), 0);
    assert_eq!(teller.open().count(), 1);
}

#[test]
fn a_clock_that_jumps_makes_no_storm_and_nothing_wait() {
    let mut teller = Teller::default();
    run(&mut teller, 50 * DAY, 50 * DAY + 600, |_| vec![full()]);
    let told = run(&mut teller, DAY, 3 * DAY, |_| vec![full()]);
    assert_eq!(told.len(), 1, "reminded a day after the clock was set back: {told:?}");
    let told = run(&mut teller, 900 * DAY, 900 * DAY + HOUR, |_| vec![full()]);
    assert_eq!(told.len(), 1, "{told:?}");
}

/// Whatever happens, restarts between any two steps included: no more notices in any hour than are allowed, numbers without gaps, each
/// event told or counted once, each end after its beginning, and in the end everything is told that is so.
fn world(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let rules = Rules { after: chance.random_range(1..600), remind: chance.random_range(600..2 * DAY), per_hour: 6 };
    let mut teller = Teller::default();
    let (mut told, mut events, mut now) = (Vec::<Notice>::new(), 0u64, 1_000_000u64);
    let mut wrong = [false; 6];
    for _ in 0..3000 {
        now += chance.random_range(1..240);
        let one = chance.random_range(0..wrong.len());
        if chance.random_bool(0.05) {
            wrong[one] = !wrong[one];
        }
        if chance.random_bool(0.1) {
            teller = serde_json::from_str(&serde_json::to_string(&teller).expect("JSON")).expect("the same");
        }
        let happened: Vec<Item> =
            (0..chance.random_range(0..20usize) / 18).map(|n| event(&format!("e{n}"), now)).collect();
        events += happened.len() as u64;
        told.extend(teller.step(now, &rules, chance.random_bool(0.9).then(|| all(&wrong)), happened));
    }
    // Then all stays as it is.
    for _ in 0..600 {
        now += 60;
        told.extend(teller.step(now, &rules, Some(all(&wrong)), Vec::new()));
    }
    for (index, notice) in told.iter().enumerate() {
        assert_eq!(notice.n, index as u64 + 1);
        let in_hour = told[index..].iter().take_while(|later| later.at - notice.at < HOUR).count();
        assert!(in_hour <= rules.per_hour as usize, "seed {seed}: {in_hour} in the hour after {}", notice.at);
        assert!(!notice.items.is_empty());
    }
    let items = || told.iter().flat_map(|notice| &notice.items);
    let hidden: u64 = told.iter().map(|notice| notice.more + notice.held.map_or(0, |held| held.lost)).sum();
    assert_eq!(items().filter(|item| item.kind == Kind::Event).count() as u64 + hidden, events, "seed {seed}");
    for (one, is_wrong) in wrong.iter().enumerate() {
        let last = items().filter(|item| item.key == format!("p{one}")).map(|item| item.kind).next_back();
        let expected = if *is_wrong {
            matches!(last, Some(Kind::Began | Kind::Still))
        } else {
            matches!(last, None | Some(Kind::Over))
        };
        assert!(expected, "seed {seed}: p{one} wrong: {is_wrong}, told last: {last:?}");
    }
}

fn all(wrong: &[bool]) -> Vec<Seen> {
    let numbered = wrong.iter().enumerate().filter(|(_, wrong)| **wrong);
    numbered.map(|(one, _)| seen(&format!("p{one}"), Severity::Warning)).collect()
}

#[test]
fn one_seed_is_one_world() {
    (0..200).for_each(world);
}
