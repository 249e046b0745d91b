//! A calendar against the clock on the wall, minute by minute, and what it refuses.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const MINUTE: i64 = 60_000_000_000;

fn zone(name: &str) -> TimeZone {
    zone_named(name).expect(name)
}

fn calendar(place: &str, text: &str) -> Calendar {
    Calendar::parse(text, &zone(place)).expect(text)
}

/// A moment: RFC 3339.
fn moment(text: &str) -> Timestamp {
    ours(text.parse().expect(text)).expect("in range")
}

fn utc(moment: Timestamp) -> String {
    Instant::from_nanosecond(i128::from(moment.0)).expect("in range").to_string()
}

/// The rate at a moment, as text, and until when.
fn says(calendar: &Calendar, at: &str) -> (String, Option<String>) {
    let holding = calendar.at(moment(at));
    (holding.rule.map_or("-".into(), |rule| print_limit(rule.limit)), holding.until.map(utc))
}

fn expect(calendar: &Calendar, at: &str, rate: &str, until: &str) {
    assert_eq!(says(calendar, at), (rate.to_owned(), Some(until.to_owned())), "at {at}");
}

const OFFICE: &str = "
# the office needs its line by day
mon-fri 12:00-13:00   8Mbit
mon-fri 08:00-18:00   4Mbit    # GMT or BST
sat-sun               unlimited
2026-12-25            20Mbit
2026-12-25 06:00-12:00 pause
";

#[test]
fn the_first_rule_that_holds_counts_and_says_until_when() {
    let office = calendar("Europe/London", OFFICE);
    // 2026-11-23 is a Monday.
    expect(&office, "2026-11-23T07:59:59Z", "-", "2026-11-23T08:00:00Z");
    expect(&office, "2026-11-23T08:00:00Z", "4Mbit", "2026-11-23T12:00:00Z");
    expect(&office, "2026-11-23T12:30:00Z", "8Mbit", "2026-11-23T13:00:00Z");
    expect(&office, "2026-11-23T17:59:59.999Z", "4Mbit", "2026-11-23T18:00:00Z");
    expect(&office, "2026-11-27T18:00:00Z", "-", "2026-11-28T00:00:00Z");
    expect(&office, "2026-11-28T00:00:00Z", "unlimited", "2026-11-30T00:00:00Z");
    expect(&office, "2026-07-06T07:30:00Z", "4Mbit", "2026-07-06T11:00:00Z");
}

#[test]
fn dates_outrank_the_week_and_stand_in_their_own_order() {
    let swapped = OFFICE.replace("2026-12-25            20Mbit\n", "") + "2026-12-25 20Mbit\n";
    let office = calendar("Europe/London", &swapped);
    expect(&office, "2026-12-25T00:00:00Z", "20Mbit", "2026-12-25T06:00:00Z");
    expect(&office, "2026-12-25T06:00:00Z", "pause", "2026-12-25T12:00:00Z");
    expect(&office, "2026-12-25T12:00:00Z", "20Mbit", "2026-12-26T00:00:00Z");
    // In the order of `OFFICE` the whole day stands first.
    expect(&calendar("Europe/London", OFFICE), "2026-12-25T07:00:00Z", "20Mbit", "2026-12-26T00:00:00Z");
}

#[test]
fn hours_of_a_date_go_on_into_the_next_day() {
    let night = calendar("UTC", "2026-12-24..2026-12-25 22:00-06:00 pause");
    expect(&night, "2026-12-01T00:00:00Z", "-", "2026-12-24T22:00:00Z");
    expect(&night, "2026-12-25T03:00:00Z", "pause", "2026-12-25T06:00:00Z");
    expect(&night, "2026-12-26T03:00:00Z", "pause", "2026-12-26T06:00:00Z");
    assert_eq!(says(&night, "2026-12-26T06:00:00Z"), ("-".into(), None), "and never again");
    assert_eq!(says(&night, "2027-12-24T23:00:00Z"), ("-".into(), None));
}

#[test]
fn an_exception_far_ahead_and_a_long_one_are_found() {
    let far = calendar("Europe/Berlin", "2031-05-01 pause\n2032-01-01..2032-12-31 4Mbit");
    expect(&far, "2026-11-22T00:00:00Z", "-", "2031-04-30T22:00:00Z");
    expect(&far, "2031-05-01T22:00:00Z", "-", "2031-12-31T23:00:00Z");
    expect(&far, "2032-02-01T00:00:00Z", "4Mbit", "2032-12-31T23:00:00Z");
    let odd = calendar("UTC", "2026-01-01..2026-12-31 sat 10:00-11:00 pause");
    expect(&odd, "2025-12-01T00:00:00Z", "-", "2026-01-03T10:00:00Z");
    expect(&odd, "2026-12-20T00:00:00Z", "-", "2026-12-26T10:00:00Z");
    assert_eq!(says(&odd, "2026-12-26T11:00:00Z"), ("-".into(), None));
}

#[test]
fn a_skipped_hour_is_not_there() {
    // Berlin, 29 March 2026: 01:59:59 is followed by 03:00:00, at 01:00 UTC.
    let within = calendar("Europe/Berlin", "02:00-03:00 pause");
    expect(&within, "2026-03-28T01:00:00Z", "pause", "2026-03-28T02:00:00Z");
    expect(&within, "2026-03-28T02:00:00Z", "-", "2026-03-30T00:00:00Z");
    let over = calendar("Europe/Berlin", "01:30-02:30 pause");
    expect(&over, "2026-03-29T00:30:00Z", "pause", "2026-03-29T01:00:00Z");
    let into = calendar("Europe/Berlin", "02:30-04:00 pause");
    expect(&into, "2026-03-29T00:59:59Z", "-", "2026-03-29T01:00:00Z");
    expect(&into, "2026-03-29T01:00:00Z", "pause", "2026-03-29T02:00:00Z");
    let night = calendar("Europe/Berlin", "22:00-06:00 pause");
    expect(&night, "2026-03-28T21:00:00Z", "pause", "2026-03-29T04:00:00Z");
}

#[test]
fn a_repeated_hour_is_there_twice() {
    // Berlin, 25 October 2026: 02:59:59 is followed by 02:00:00, at 01:00 UTC.
    let within = calendar("Europe/Berlin", "02:00-03:00 pause");
    expect(&within, "2026-10-25T00:00:00Z", "pause", "2026-10-25T02:00:00Z");
    let over = calendar("Europe/Berlin", "01:30-02:30 pause");
    expect(&over, "2026-10-24T23:30:00Z", "pause", "2026-10-25T00:30:00Z");
    expect(&over, "2026-10-25T00:30:00Z", "-", "2026-10-25T01:00:00Z");
    expect(&over, "2026-10-25T01:00:00Z", "pause", "2026-10-25T01:30:00Z");
    let night = calendar("Europe/Berlin", "22:00-06:00 pause");
    expect(&night, "2026-10-24T20:00:00Z", "pause", "2026-10-25T05:00:00Z");
}

#[test]
fn a_rule_whose_one_hour_is_skipped_waits_for_the_next_week() {
    let sunday = calendar("Europe/Berlin", "sun 02:00-03:00 pause");
    expect(&sunday, "2026-03-22T02:00:00Z", "-", "2026-04-05T00:00:00Z");
}

#[test]
fn a_day_may_begin_behind_midnight() {
    // Beirut, 29 March 2026: the clock goes from 23:59:59 to 01:00:00.
    let day = calendar("Asia/Beirut", "sun pause");
    expect(&day, "2026-03-28T12:00:00Z", "-", "2026-03-28T22:00:00Z");
    expect(&day, "2026-03-28T22:00:00Z", "pause", "2026-03-29T21:00:00Z");
}

/// What a person with a clock on the wall would find: looks at every minute.
fn next_change(calendar: &Calendar, from: Timestamp, minutes: i64) -> Option<Timestamp> {
    let place = calendar.place(from);
    let aligned = from.0 - from.0.rem_euclid(MINUTE);
    let moments = (1..=minutes).map(|minute| Timestamp(aligned + minute * MINUTE));
    moments.into_iter().find(|moment| calendar.place(*moment) != place)
}

#[test]
fn until_is_exact_in_every_zone() {
    let seeds: u64 = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let places = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "America/Santiago",
        "Africa/Casablanca",
    ];
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    for seed in 0..seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut text = String::new();
        for _ in 0..rng.random_range(1..5) {
            let (from, length) = (rng.random_range(0..96) * 15, rng.random_range(1..96) * 15);
            let until = (from + length) % 1440;
            let (first, last) = (days[rng.random_range(0..7)], days[rng.random_range(0..7)]);
            if rng.random_range(0..3) == 0 {
                let (day, long) = (rng.random_range(1..10), rng.random_range(0..15));
                text += &format!("2026-{:02}-{day:02}..2026-{:02}-{:02} ", seed % 12 + 1, seed % 12 + 1, day + long);
            }
            text += &format!(
                "{first}-{last} {:02}:{:02}-{:02}:{:02} 4Mbit\n",
                from / 60,
                from % 60,
                until / 60,
                until % 60
            );
        }
        let Ok(calendar) = Calendar::parse(&text, &zone(places[seed as usize % places.len()])) else { continue };
        // Around the changes of either half of the year, and anywhere.
        for _ in 0..8 {
            let day = [80, 90, 99, 245, 297, 304, rng.random_range(0..365)][rng.random_range(0..7)];
            let from = moment("2026-01-01T00:00:00Z").0 + (day * 1440 + rng.random_range(0..1440 * 3)) * MINUTE;
            let from = Timestamp(from + rng.random_range(0..MINUTE));
            let look = 3 * 1440;
            let until =
                calendar.at(from).until.filter(|until| until.0 <= from.0 - from.0.rem_euclid(MINUTE) + look * MINUTE);
            let seen = next_change(&calendar, from, look);
            assert_eq!(until.map(utc), seen.map(utc), "seed {seed} from {} in\n{calendar}", utc(from));
        }
    }
}

#[test]
fn texts_are_refused_with_line_and_reason() {
    for (text, says) in [
        ("mon-fri 4Mbit\nnight 4Mbit", "line 2"),
        ("fast", "dates, hours or both"),
        ("22:00-06:00 20MB", "counts bytes"),
        ("22:00-06:00 quick", "not a rate"),
        ("2026-02-30 pause", "no date"),
        ("3026-02-20 pause", "no date"),
        ("2026-12-24..2026-12-20 pause", "ends before"),
        ("24.12.2026..01.01.2027 pause", "no date"),
        ("zone Atlantis/Capital", "no time zone"),
        ("mon pause\nzone UTC", "stands once"),
        ("mon-fri 4Mbit\ntue 12:00-13:00 8Mbit", "would never count"),
    ] {
        let error = Calendar::parse(text, &TimeZone::UTC).expect_err(text).to_string();
        assert!(error.contains("line ") && error.contains(says), "{text:?}: {error}");
    }
    let many = "2026-01-01 pause\n".repeat(RULES_MAX + 1);
    assert!(Calendar::parse(&many, &TimeZone::UTC).is_err());
}

#[test]
fn what_is_printed_reads_back() {
    let calendar = Calendar::parse(&format!("zone Asia/Kathmandu\n{OFFICE}"), &TimeZone::UTC).expect("sound");
    assert_eq!(Calendar::parse(&calendar.to_string(), &TimeZone::UTC), Ok(calendar.clone()));
    assert_eq!(calendar.rules()[0].to_string(), "2026-12-25 00:00-24:00 20Mbit");
    assert_eq!(calendar.zone().iana_name(), Some("Asia/Kathmandu"));
}

#[test]
fn an_empty_calendar_says_nothing_for_ever() {
    let empty = Calendar::empty(TimeZone::UTC);
    assert_eq!(empty.at(moment("2026-11-22T00:00:00Z")), Holding { rule: None, until: None });
    let always = calendar("UTC", "00:00-24:00 4Mbit");
    assert_eq!(says(&always, "2026-11-22T00:00:00Z"), ("4Mbit".into(), None));
}

#[test]
fn a_moment_that_no_calendar_names_is_borne() {
    let office = calendar("Europe/London", OFFICE);
    for moment in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        let _ = office.at(Timestamp(moment));
    }
}
