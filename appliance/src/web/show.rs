//! Numbers, times and sentences as pages show them, and addresses of pages.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::clock;
use crate::percent;
use crate::units::{ByteSize, bit_rate, duration};

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// Reads which clock hangs on the wall here. Later there are no files to read it from.
pub(super) fn know_zone() {
    ZONE.get_or_init(TimeZone::system);
}

/// The name of that clock.
pub(super) fn zone() -> String {
    ZONE.get().and_then(TimeZone::iana_name).unwrap_or("UTC").to_owned()
}

/// A size.
pub(super) fn size(bytes: &u64) -> String {
    ByteSize(*bytes).to_string()
}

/// A rate in bits per second.
pub(super) fn rate(bits: &u64) -> String {
    bit_rate(*bits as f64)
}

/// A cap: none, a stop, or a rate.
pub(super) fn cap(bits: &Option<u64>) -> String {
    match bits {
        None => "no limit".into(),
        Some(0) => "paused".into(),
        Some(bits) => rate(bits),
    }
}

/// How long something takes.
pub(super) fn lasting(seconds: &f64) -> String {
    duration(*seconds)
}

/// The same of whole seconds.
pub(super) fn long(seconds: &u64) -> String {
    duration(*seconds as f64)
}

/// A moment by the clock on the wall: "23 Nov 2026, 14:05". What is no moment stays as it is.
pub(super) fn when(rfc3339: &str) -> String {
    stamped(&clock_here(), rfc3339, "%-d %b %Y, %H:%M", true)
}

/// The same to the second, and as a browser's own field has it: "2026-11-23T14:05:06".
pub(super) fn local(rfc3339: &str) -> String {
    stamped(&clock_here(), rfc3339, "%Y-%m-%dT%H:%M:%S", false)
}

/// The same to the second, for people.
pub(super) fn precisely(rfc3339: &str) -> String {
    stamped(&clock_here(), rfc3339, "%-d %b %Y, %H:%M:%S", true)
}

/// As `format` has it; an hour that is there twice, because the clocks were set back in it, is told from the other by its offset where it is to be `told`.
fn stamped(zone: &TimeZone, rfc3339: &str, format: &str, told: bool) -> String {
    let Ok(moment) = rfc3339.parse::<Timestamp>() else { return rfc3339.to_owned() };
    let moment = moment.to_zoned(zone.clone());
    let twice = told && matches!(zone.to_ambiguous_timestamp(moment.datetime()).offset(), AmbiguousOffset::Fold { .. });
    let offset = if twice { moment.strftime(" (%:z)").to_string() } else { String::new() };
    format!("{}{offset}", moment.strftime(format))
}

/// What somebody typed for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// This one, in RFC 3339.
    At(String),
    /// One of these two: the clock showed that twice, when it was set back. With the offset of each.
    Twice([(String, String); 2]),
    /// The clock never showed that, for it was set forward.
    Never,
    /// It is none.
    No,
}

/// The moment that somebody typed by the clock on the wall, or with an offset of its own.
pub(super) fn instant(typed: &str) -> Moment {
    instant_in(&clock_here(), typed)
}

fn instant_in(zone: &TimeZone, typed: &str) -> Moment {
    if let Ok(moment) = typed.parse::<Timestamp>() {
        return Moment::At(moment.to_string());
    }
    let Ok(time) = typed.parse::<DateTime>() else { return Moment::No };
    let by = |offset: Offset| offset.to_timestamp(time).map(|moment| moment.to_string());
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => by(offset).map_or(Moment::No, Moment::At),
        AmbiguousOffset::Gap { .. } => Moment::Never,
        AmbiguousOffset::Fold { before, after } => match (by(before), by(after)) {
            (Ok(first), Ok(second)) => Moment::Twice([(first, format!("{before}")), (second, format!("{after}"))]),
            _ => Moment::No,
        },
    }
}

fn clock_here() -> TimeZone {
    ZONE.get().cloned().unwrap_or(TimeZone::UTC)
}

/// A moment by that clock, in seconds since 1970, as `format` has it (`strftime`).
pub(super) fn at(seconds: u64, format: &str) -> String {
    let zone = ZONE.get().cloned().unwrap_or(TimeZone::UTC);
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(String::new, |moment| moment.to_zoned(zone).strftime(format).to_string())
}

/// The hour and minute of a moment.
pub(super) fn time_of_day(rfc3339: &str) -> String {
    stamped(&clock_here(), rfc3339, "%H:%M", true)
}

/// The day of a moment, or its month where that is enough.
pub(super) fn day(rfc3339: &str, coarsely: bool) -> String {
    stamped(&clock_here(), rfc3339, if coarsely { "%b %Y" } else { "%-d %b" }, false)
}

/// A length of time as it is typed: "7d", "36h".
pub(super) fn length(seconds: &u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let whole = UNITS.iter().find(|(_, unit)| *seconds > 0 && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(name, unit)| format!("{}{name}", seconds / unit))
}

/// A size as it is typed, to the byte: "32GiB".
pub(super) fn exact_size(bytes: &u64) -> String {
    const UNITS: [(&str, u64); 7] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
    ];
    let whole = UNITS.iter().find(|(_, unit)| *bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A snapshot's name; the moment where it was named by it, as the box does (`2026-11-23T13-00-00.000Z`).
pub(super) fn snapshot(name: &str) -> String {
    let moment = name.split_once('T').map(|(day, time)| format!("{day}T{}", time.replace('-', ":")));
    let moment = moment.filter(|moment| moment.ends_with('Z') && moment.parse::<Timestamp>().is_ok());
    moment.map_or_else(|| name.to_owned(), |moment| when(&moment))
}

/// A number with thousands apart.
pub(super) fn count(number: &u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(String::from_utf8_lossy);
    let head = Some(digits[..first].into()).filter(|_| first > 0);
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// How long ago that was: "3 min ago".
pub(super) fn ago(rfc3339: &str) -> String {
    let Ok(moment) = rfc3339.parse::<Timestamp>() else { return rfc3339.to_owned() };
    match (clock::wall().0 / 1_000_000_000).saturating_sub(moment.as_second()) {
        ..=-60 => when(rfc3339),
        -59..=59 => "just now".into(),
        seconds => format!("{} ago", coarse(&seconds.unsigned_abs())),
    }
}

/// A length of time without what nobody needs of it.
pub(super) fn coarse(seconds: &u64) -> String {
    let many = |count: u64, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    match *seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => many(seconds / 86_400, "day", "days"),
    }
}

/// Some part of a whole, in percent, never above 100.
pub(super) fn percent(part: &u64, whole: &u64) -> u64 {
    (u128::from(*part) * 100 / u128::from((*whole).max(1))).min(100) as u64
}

/// One, or many: "1 snapshot", "3 snapshots".
pub(super) fn many(count: &usize, noun: &str) -> String {
    format!("{count} {noun}{}", if *count == 1 { "" } else { "s" })
}

/// With a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    first + letters.as_str()
}

/// A sentence as it stands by itself: with a capital, and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut sentence = capital(text.trim());
    if !sentence.ends_with(['.', '!', '?', '`']) {
        sentence.push('.');
    }
    sentence
}

/// A name as a part of an address.
pub(super) fn part(name: &str) -> String {
    percent::part(name)
}

/// Whether a letter turns the direction of those behind it: with it one name looks like another.
pub(super) fn turns(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name out of a share, which may hold anything: what can't be seen, or would turn the rest of it, is written out.
pub(super) fn visible(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter.is_control() || turns(letter) {
            true => text.extend(letter.escape_default()),
            false => text.push(letter),
        }
    }
    text
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@%+=,[]".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_what_it_hides() {
        assert_eq!(visible("a\u{202e}fdp.exe"), "a\\u{202e}fdp.exe");
        assert_eq!(visible("a\nb\u{1b}[m"), "a\\nb\\u{1b}[m");
        assert_eq!(visible("مكتب Zoë 支店"), "مكتب Zoë 支店");
    }

    #[test]
    fn a_shell_takes_a_name_as_one_word() {
        assert_eq!(quoted("iqn.2026-01.example:box"), "iqn.2026-01.example:box");
        assert_eq!(quoted("it's; rm -rf /"), r"'it'\''s; rm -rf /'");
    }

    #[test]
    fn sentences_and_times_are_for_people() {
        assert_eq!(sentence("the name is taken"), "The name is taken.");
        assert_eq!((coarse(&59), coarse(&7300), coarse(&200_000)), ("59 s".into(), "2 h".into(), "2 days".into()));
        assert_eq!((percent(&3, &2), percent(&0, &0), percent(&u64::MAX, &u64::MAX)), (100, 0, 100));
        assert_eq!((count(&0), count(&1000), count(&12_345_678)), ("0".into(), "1,000".into(), "12,345,678".into()));
        assert_eq!(snapshot("2026-11-23T13-00-00.000Z"), "23 Nov 2026, 13:00");
        assert_eq!((snapshot("before the move"), snapshot("T-Z")), ("before the move".into(), "T-Z".into()));
        assert_eq!(when("yesterday"), "yesterday");
        for seconds in [0, 1, 90, 3600, 129_600, 604_800, u64::MAX] {
            assert_eq!(crate::units::parse_duration(&length(&seconds)), Ok(seconds));
        }
        for bytes in [0, 1, 1000, 1024, 32 << 30, 50_000_000_000, u64::MAX] {
            assert_eq!(exact_size(&bytes).parse(), Ok(ByteSize(bytes)));
        }
        assert_eq!((length(&604_800), exact_size(&(32 << 30))), ("7d".into(), "32GiB".into()));
        for typed in ["2026-11-23T14:05", "2026-11-23 14:05:00", "2026-11-23T15:05:00+01:00"] {
            assert_eq!(instant(typed), Moment::At("2026-11-23T14:05:00Z".into()), "{typed}");
        }
        for wrong in ["", "yesterday", "2026-13-01T00:00", "99999-01-01T00:00", "14:05", "٢٠٢٦-11-23T14:05"] {
            assert_eq!(instant(wrong), Moment::No, "{wrong}");
        }
        assert_eq!(when("2026-11-23T14:05:06Z"), "23 Nov 2026, 14:05");
    }

    #[test]
    fn an_hour_that_is_there_twice_is_two_hours_and_one_that_is_skipped_is_none() {
        let berlin = TimeZone::get("Europe/Berlin").expect("a zone");
        let shown = |moment: &str| stamped(&berlin, moment, "%H:%M", true);
        assert_eq!(
            [shown("2026-10-25T00:30:00Z"), shown("2026-10-25T01:30:00Z"), shown("2026-10-25T02:30:00Z")],
            ["02:30 (+02:00)", "02:30 (+01:00)", "03:30"]
        );
        assert_eq!(stamped(&berlin, "2026-10-25T01:30:00Z", "%-d %b", false), "25 Oct");
        let Moment::Twice([first, second]) = instant_in(&berlin, "2026-10-25T02:30") else {
            panic!("it was there twice")
        };
        assert_eq!((first.0.as_str(), second.0.as_str()), ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"));
        assert_eq!((first.1.as_str(), second.1.as_str()), ("+02", "+01"));
        assert_eq!(instant_in(&berlin, "2026-03-29T02:30"), Moment::Never);
        assert_eq!(instant_in(&berlin, "2026-03-29T03:30"), Moment::At("2026-03-29T01:30:00Z".into()));
        // With an offset it is said which.
        assert_eq!(instant_in(&berlin, "2026-10-25T02:30+01:00"), Moment::At("2026-10-25T01:30:00Z".into()));
        let kolkata = TimeZone::get("Asia/Kolkata").expect("a zone");
        assert_eq!(instant_in(&kolkata, "2026-10-25T02:30"), Moment::At("2026-10-24T21:00:00Z".into()));
    }
}
