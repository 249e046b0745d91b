//! What was written when, as a chart of text: a row for each piece of the window, with the moments in it that have names.

use narrowboat_storage::units::Timestamp;

use crate::cli::show::size;
use crate::control::reports::Timeline;
use crate::units::{parse_rfc3339, rfc3339};

/// Rows, at most.
const ROWS_MAX: i64 = 20;
/// Columns of the longest bar: with what stands before it, a row has 80 at the most.
const BAR_COLUMNS: f64 = 40.0;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// How long a row may stand for; beyond the last, whole multiples of it.
const STEPS: [i64; 18] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    24 * HOUR,
];

/// One row of the chart.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    /// When it begins, in nanoseconds since 1970.
    from: i64,
    bytes_per_second: f64,
    snapshots: usize,
    marks: usize,
    crash_marks: usize,
}

/// Shows the chart of a dataset that has a window.
pub(super) fn show(timeline: &Timeline) {
    let (rows, step) = rows(timeline);
    let most = rows.iter().map(|row| row.bytes_per_second).fold(0.0, f64::max);
    let named = rows.iter().any(|row| row.snapshots + row.marks + row.crash_marks > 0);
    if most == 0.0 && !named {
        return;
    }
    say!();
    say!("written, UTC (s snapshot, M mark, m mark that is like a crash):");
    for row in &rows {
        let columns =
            if row.bytes_per_second > 0.0 { (row.bytes_per_second / most * BAR_COLUMNS).max(1.0) } else { 0.0 };
        let bar = "#".repeat(columns.round() as usize);
        let rate =
            if row.bytes_per_second > 0.0 { format!("{}/s", size(row.bytes_per_second as u64)) } else { String::new() };
        say!("  {}  {rate:>12}  {:<3}  {bar}", label(row.from, step), signs(row));
    }
}

/// The time at which a row begins, in 14 columns.
fn label(from: i64, step: i64) -> String {
    let text = rfc3339(Timestamp(from));
    let (day, time) = (text.get(5..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    if step < MINUTE { format!("{day} {time}") } else { format!("{day} {}   ", time.get(..5).unwrap_or_default()) }
}

/// At most one sign of each kind.
fn signs(row: &Row) -> String {
    [(row.snapshots, 's'), (row.marks, 'M'), (row.crash_marks, 'm')]
        .into_iter()
        .filter_map(|(count, sign)| (count > 0).then_some(sign))
        .collect()
}

/// Divides the window into rows. What was written in a step of the drain is spread evenly over it.
fn rows(timeline: &Timeline) -> (Vec<Row>, i64) {
    let at = |text: &str| parse_rfc3339(text).map_or(0, |time| time.0);
    let Some(window) = &timeline.window else { return (Vec::new(), SECOND) };
    let (first, last) = (at(&window.first), at(&window.last));
    let span = last.saturating_sub(first).max(0);
    let fits = |step: &i64| span / step + 2 <= ROWS_MAX;
    let day = 24 * HOUR;
    let step = STEPS.into_iter().find(|step| fits(step)).unwrap_or((span / ROWS_MAX / day + 1).saturating_mul(day));
    let start = first - first.rem_euclid(step);
    let count = usize::try_from((last - start) / step + 1).unwrap_or(1);
    let mut rows: Vec<Row> = (0..count).map(|nth| Row { from: start + nth as i64 * step, ..Row::default() }).collect();
    for written in &timeline.written {
        let (from, until) = (at(&written.from).max(start), at(&written.until).max(start));
        let whole = (until - from).max(1) as f64;
        for row in &mut rows {
            let shared = (until.max(from + 1).min(row.from + step) - from.max(row.from)).max(0);
            row.bytes_per_second += written.bytes as f64 * (shared as f64 / whole) / (step as f64 / SECOND as f64);
        }
    }
    for moment in &timeline.moments {
        let time = at(&moment.time);
        let Some(row) = rows.iter_mut().find(|row| time >= row.from && time < row.from + step) else { continue };
        match moment.quiet {
            None => row.snapshots += 1,
            Some(true) => row.marks += 1,
            Some(false) => row.crash_marks += 1,
        }
    }
    (rows, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reports::{Moment, Window, Written};

    fn timeline(first: &str, last: &str, written: &[(&str, &str, u64)], moments: &[(&str, Option<bool>)]) -> Timeline {
        let window = Window {
            asked_seconds: 0,
            asked_bytes: 0,
            first: first.into(),
            last: last.into(),
            seconds: 0.0,
            journal_bytes: 0,
            history_bytes: 0,
            limit: "age".into(),
        };
        let step = |(from, until, bytes): &(&str, &str, u64)| Written {
            from: (*from).into(),
            until: (*until).into(),
            bytes: *bytes,
            bytes_per_second: 0.0,
        };
        let moment = |(time, quiet): &(&str, Option<bool>)| Moment {
            kind: String::new(),
            name: String::new(),
            time: (*time).into(),
            quiet: *quiet,
            consistency: None,
        };
        Timeline {
            dataset: "disk".into(),
            window: Some(window),
            moments: moments.iter().map(moment).collect(),
            written: written.iter().map(step).collect(),
        }
    }

    #[test]
    fn what_was_written_is_spread_over_rows_and_none_of_it_is_lost() {
        let written = [
            ("2026-11-22T08:00:10Z", "2026-11-22T08:10:00Z", 590_000),
            ("2026-11-22T08:30:00Z", "2026-11-22T08:30:00Z", 6_000),
        ];
        let moments = [("2026-11-22T08:05:00Z", Some(true)), ("2026-11-22T08:31:00Z", None)];
        let (rows, step) = rows(&timeline("2026-11-22T08:00:10Z", "2026-11-22T08:34:59Z", &written, &moments));
        assert_eq!((rows.len(), step), (18, 2 * MINUTE));
        assert_eq!(label(rows[0].from, step), "11-22 08:00   ");
        let sum: f64 = rows.iter().map(|row| row.bytes_per_second * 120.0).sum();
        assert!((sum - 596_000.0).abs() < 1.0, "{sum}");
        assert!((rows[1].bytes_per_second - 1000.0).abs() < 0.1 && rows[6].bytes_per_second == 0.0, "{rows:?}");
        assert!((rows[15].bytes_per_second - 50.0).abs() < 0.1, "{rows:?}");
        assert_eq!((rows[2].marks, rows[15].snapshots), (1, 1));
        assert_eq!(signs(&Row { snapshots: 2, crash_marks: 9, ..Row::default() }), "sm");
    }

    #[test]
    fn windows_of_a_moment_and_of_years_have_a_few_rows() {
        for (first, last) in [
            ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"),
            ("2026-11-22T08:00:00.9Z", "2026-11-22T08:00:18.8Z"),
            ("2026-11-22T08:00:00Z", "2026-11-23T08:00:00Z"),
            ("1970-01-01T00:00:00Z", "2026-11-22T08:00:00Z"),
            ("2026-11-22T08:00:00Z", "1970-01-01T00:00:00Z"),
            ("out of range", "2026-11-22T08:00:00Z"),
        ] {
            let (rows, step) = rows(&timeline(first, last, &[(first, last, 10)], &[]));
            assert!(
                !rows.is_empty() && rows.len() as i64 <= ROWS_MAX + 1,
                "{first} to {last}: {} rows of {step}",
                rows.len()
            );
        }
    }
}
