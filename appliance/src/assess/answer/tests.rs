use super::*;
use crate::assess::report;

const MINUTE: i64 = 60 * 1_000_000_000;
/// 2026-11-23, a Monday.
const MONDAY: i64 = 1_795_392_000_000_000_000;

fn at(minutes: i64) -> Timestamp {
    Timestamp(MONDAY + minutes * MINUTE)
}

fn row(dataset: &str, from: i64, until: i64, wire: u64) -> Row {
    let new = Row::new(dataset.into(), at(from), at(until));
    Row {
        logical: 50_000_000_000,
        files: 1000,
        changed: wire * 8,
        unique: wire * 3,
        unknown: wire * 3,
        compressed: wire * 2,
        packed: wire,
        wire,
        back: wire / 50,
        ..new
    }
}

/// So many days of an office that is looked at every five minutes: 2 MB each from 8 to 18 on working days, and 600 MB each night at 22.
fn office(days: i64) -> Rows {
    let mut rows = vec![row("/srv/office", 0, 0, 20_000_000_000)];
    for slot in 0..days * 288 {
        let (day, hour) = (slot / 288, slot % 288 / 12);
        let work = if day % 7 < 5 && (8..18).contains(&hour) { 2_000_000 + slot as u64 % 7 * 100_000 } else { 0 };
        let night = if slot % 288 == 22 * 12 { 600_000_000 } else { 0 };
        rows.push(row("/srv/office", slot * 5, slot * 5 + 5, work + night + 1200));
    }
    Rows { rows, ..Rows::default() }
}

fn question(line: Option<&str>) -> Question {
    Question {
        line: line.map(|line| line.parse().expect("a rate")),
        calendar: Calendar::empty(TimeZone::UTC),
        ..Question::new("Branch 7".into(), at(0))
    }
}

#[test]
fn two_weeks_of_an_office_are_answered_with_every_number() {
    let found = answer(&office(14), &question(Some("4Mbit")));
    assert!(
        found.sentence.starts_with("Branch 7 needs ") && found.sentence.contains("1 h behind, 99 %"),
        "{}",
        found.sentence
    );
    assert_eq!((found.days, found.coverage, found.coarseness), (14.0, 1.0, Some(300)));
    assert_eq!(found.needed.len(), 16);
    let bits = |age: u64, share: f64| {
        let found = found.needed.iter().find(|needed| needed.age_seconds == age && needed.share == share);
        found.and_then(|needed| needed.bits).expect("a line does it")
    };
    // Older costs less, and more of the time costs more.
    assert!(bits(900, 1.0) > bits(3600, 1.0) && bits(3600, 1.0) > bits(86_400, 1.0));
    assert!(bits(3600, 1.0) >= bits(3600, 0.99) && bits(3600, 0.99) >= bits(3600, 0.9));
    // 600 MB within 55 minutes.
    let always = bits(3600, 1.0) as f64;
    assert!((always / (600e6 * 8.0 / 3300.0 * 64.0 / 63.0) - 1.0).abs() < 0.02, "{always}");
    let band = found.needed.iter().find(|needed| needed.band.is_some()).expect("two weeks are enough");
    assert_eq!(band.share, 0.99);

    let given = found.given.as_ref().expect("a line was named");
    assert_eq!(given.kept.len(), 4);
    let kept = |age: u64| given.kept.iter().find(|(seconds, _)| *seconds == age).expect("asked").1;
    assert!(kept(900) < kept(3600) && kept(86_400) == 1.0, "{:?}", given.kept);
    // 600 MB at 3.9 Mbit/s take 20 minutes: each night one while without a quarter of an hour's recovery point, and none without an hour's.
    assert!(
        given.violations.iter().all(|violation| violation.age_seconds == 900 && violation.from.contains("T22:")),
        "{:?}",
        given.violations
    );
    assert_eq!(given.violations_total, 14);
    assert_eq!(given.backlog.iter().map(|(_, bytes)| bytes / 1_000_000).max(), Some(600));
    let felt: Vec<u64> = given.outages.iter().map(|outage| outage.catch_up_seconds.expect("it catches up")).collect();
    assert!(felt.len() == 3 && felt[0] < felt[1] && felt[1] < felt[2], "{felt:?}");

    let first = found.first_copy.as_ref().expect("the first copy was looked at");
    // 20 GB at 3.9 Mbit/s, half of the line while others want it, too.
    let alone = 20e9 * 8.0 / (4e6 * 63.0 / 64.0);
    let seconds = first.seconds.expect("it comes to an end") as f64;
    assert!(seconds > alone && seconds < alone * 1.5, "{seconds} {alone}");
    assert_eq!(first.break_even_bytes, Some(4_000_000 / 8 * 3 * 86_400));
    assert!(first.carried_seconds.is_some_and(|carried| carried > 3 * 86_400 && carried < 4 * 86_400), "{first:?}");
    assert_eq!(found.growth.a_month, None, "two weeks tell nothing");
    assert!(found.volume.as_ref().is_some_and(|volume| volume.bytes_a_month > 20_000_000_000 && volume.band.is_some()));
    assert_eq!(found.waterfall.iter().map(|step| step.bytes).collect::<Vec<_>>().len(), 7);
    assert!(found.hours[9].is_some_and(|rate| rate > 50_000.0) && found.hours[3].is_some_and(|rate| rate < 100.0));
}

#[test]
fn the_answer_keeps_its_recovery_point_and_nine_tenths_of_it_do_not() {
    let rows = office(14);
    let found = answer(&rows, &question(None));
    let measured = filled(rows.measured().expect("changes"));
    let snapshots = measured.snapshots(narrowboat_wan::assess::SLOT, 0);
    for needed in found.needed {
        let bits = needed.bits.expect("a line does it");
        let kept = |bits: u64| {
            let line =
                question(None).ceiling(measured.start, measured.end()).of(Rate::from_bits(bits).expect("a rate"));
            narrowboat_wan::assess::needed::kept(&line, &snapshots, Duration::from_secs(needed.age_seconds))
        };
        assert!(kept(bits * 105 / 100) >= needed.share && kept(bits * 9 / 10) < needed.share, "{needed:?}");
    }
}

#[test]
fn what_is_not_known_is_said_and_not_made_up() {
    let nothing = answer(&Rows::default(), &question(None));
    assert_eq!(nothing.sentence, "Nothing is known of Branch 7 yet.");
    assert!(
        nothing.missing[0].contains("Nothing was looked at") && nothing.needed.is_empty() && nothing.volume.is_none()
    );

    let one = answer(&Rows { rows: vec![row("/a", 0, 0, 1_000_000)], ..Rows::default() }, &question(Some("2Mbit")));
    assert!(one.sentence.contains("sends 976.6 KiB once"), "{}", one.sentence);
    assert!(
        one.missing[0].contains("looked at once")
            && one.needed.is_empty()
            && one.given.is_none()
            && one.volume.is_none()
    );
    assert!(one.first_copy.as_ref().is_some_and(|first| first.seconds == Some(4)), "{:?}", one.first_copy);

    let hourly = (0..48).map(|hour| row("/a", hour * 60, hour * 60 + 60, 5_000_000)).collect();
    let coarse = answer(&Rows { rows: hourly, strange: 2, backwards: 1 }, &question(None));
    assert!(coarse.needed.iter().all(|needed| needed.age_seconds > 3600) && !coarse.needed.is_empty());
    for part in ["Only 2.0 days", "shorter recovery points", "2 lines", "set back"] {
        assert!(coarse.missing.iter().any(|line| line.contains(part)), "{part}: {:?}", coarse.missing);
    }
    assert!(coarse.needed.iter().all(|needed| needed.band.is_none()), "two days tell nothing of other weeks");

    let mut gaps = office(14);
    gaps.rows.retain(|row| row.is_first() || !(100..1500).contains(&((row.from.0 - MONDAY) / MINUTE)));
    let found = answer(&gaps, &question(None));
    assert!(
        (found.coverage - (1.0 - 1400.0 / (14.0 * 1440.0))).abs() < 0.001 && found.hours.iter().all(Option::is_some)
    );
    assert!(
        found.assumptions.iter().any(|line| line.contains("6.9 % of the time was not looked at")),
        "{:?}",
        found.assumptions
    );

    let unread = Row { unread: 7, ..row("/a", 0, 5, 1000) };
    let found = answer(&Rows { rows: vec![unread], ..Rows::default() }, &question(None));
    assert!(found.missing.iter().any(|line| line.contains("7 files could not be read")));
}

#[test]
fn what_is_assumed_is_marked_wherever_it_counts() {
    let rows = Rows { rows: vec![row("/a", 0, 0, 1_000_000_000)], ..Rows::default() };
    let asked = Question { change: Some(1_000_000_000), growth: Some(0.05), ..question(Some("20Mbit")) };
    let found = answer(&rows, &asked);
    assert!(found.growth.is_assumed && found.growth.line_full.is_some());
    assert_eq!(found.assumptions.iter().filter(|line| line.starts_with("ASSUMED")).count(), 2);
    assert!(report::text(&found).contains("ASSUMED") && report::html(&found).expect("a page").contains("ASSUMED"));
    // A gigabyte a day, most of it in ten hours.
    let hour = found.needed.iter().find(|needed| needed.age_seconds == 3600 && needed.share == 1.0).expect("asked");
    assert!(hour.bits.is_some_and(|bits| (200_000..400_000).contains(&bits)), "{hour:?}");
    assert!(found.needed.iter().all(|needed| needed.band.is_none()));
}

#[test]
fn growth_is_read_from_weeks() {
    let mut rows = office(8 * 7);
    for row in rows.rows.iter_mut().skip(1) {
        let week = (row.from.0 - MONDAY) / MINUTE / 1440 / 7;
        row.wire = row.wire * (100 + 2 * week as u64) / 100;
    }
    let found = answer(&rows, &question(Some("4Mbit")));
    let growth = found.growth;
    // Two percent of the first week a week, of the mean week's 107 percent, are 8.1 a month.
    assert!(growth.a_month.is_some_and(|a_month| (a_month - 0.0813).abs() < 0.003), "{growth:?}");
    assert!(growth.error.is_some_and(|error| error < 0.01) && !growth.is_assumed);
    let (Some(full), Some(earliest)) = (growth.line_full, growth.line_full_earliest) else {
        panic!("a line was named")
    };
    assert!(earliest <= full && full.as_str() > "2027", "{earliest} {full}");
    // Weeks that differ by more than they grow tell no date.
    let mut uneven = office(8 * 7);
    for row in uneven.rows.iter_mut().skip(1) {
        let week = (row.from.0 - MONDAY) / MINUTE / 1440 / 7;
        row.wire = row.wire * [100, 140, 70, 130, 80, 150, 60, 120][week as usize] / 100;
    }
    let unclear = answer(&uneven, &question(Some("4Mbit"))).growth;
    assert!(!unclear.is_clear && unclear.a_month.is_some() && unclear.line_full.is_none(), "{unclear:?}");
}

#[test]
fn a_calendar_that_forbids_it_is_told() {
    let calendar = Calendar::parse("08:00-18:00 pause", &TimeZone::UTC).expect("sound");
    let asked = Question { calendar, calendar_text: "08:00-18:00 pause".into(), ..question(None) };
    let found = answer(&office(14), &asked);
    let hour = found.needed.iter().find(|needed| needed.age_seconds == 3600 && needed.share == 0.99).expect("asked");
    assert!(hour.bits.is_none() && hour.no_line.is_some_and(|share| (0.55..0.65).contains(&share)), "{hour:?}");
    assert!(found.sentence.starts_with("No line keeps Branch 7 within 1 h"), "{}", found.sentence);
}

#[test]
fn all_forms_say_the_same() {
    let rows = office(14);
    let found = answer(&rows, &question(Some("4Mbit")));
    let page = report::html(&found).expect("a page");
    let json: serde_json::Value = serde_json::from_str(&report::json(&found).expect("JSON")).expect("JSON");
    assert_eq!(json["sentence"].as_str(), Some(found.sentence.as_str()));
    assert!(page.contains(&found.sentence) && report::text(&found).starts_with(&found.sentence));
    for needed in found.needed.iter().filter_map(|needed| needed.bits) {
        let rate = crate::units::bit_rate(needed as f64);
        assert!(page.contains(&rate) && report::text(&found).contains(&rate), "{rate}");
    }
    // Offline: it asks for nothing, and runs nothing.
    for part in ["http:", "https:", "src=", "<script", "<link", "url(", "NaN", ">inf"] {
        assert!(!page.contains(part), "{part}");
    }
    let csv = report::csv(&rows);
    assert_eq!(
        (csv.lines().count(), csv.lines().next().map(|line| line.split(',').count())),
        (rows.rows.len() + 1, Some(15))
    );
}

#[test]
fn names_do_nothing_to_a_report() {
    let odd = "=cmd|' /C calc'!A0\"<script>alert(1)</script>";
    let rows = Rows { rows: vec![row(odd, 0, 0, 5), row(odd, 0, 5, 5)], ..Rows::default() };
    let mut asked = question(None);
    asked.office = odd.into();
    let page = report::html(&answer(&rows, &asked)).expect("a page");
    assert!(!page.contains("<script>") && page.contains("&#60;script&#62;"));
    assert!(report::csv(&rows).contains("\"'=cmd|' /C calc'!A0\"\"<script>"));
}
