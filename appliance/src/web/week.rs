//! The week of a calendar as people paint it: hours with a rate each, or rows of days, hours and a rate; and as the text that the command line takes.
//!
//! A calendar is read into rows, one for each span of hours, in their order: the first that holds counts. Where all of them begin and end on whole hours it is also a
//! grid of 168 *cells*, and what was painted there becomes rows again that never overlap. Exceptions by date are lines of their own and stay as they are.

use jiff::tz::TimeZone;
use narrowboat_storage::error::Refusal;
use narrowboat_wan::shape::{Calendar, print_limit};

/// Hours of a week.
pub(super) const CELLS: usize = 168;
/// Different rates that can be painted with.
pub(super) const BRUSHES: usize = 6;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 1440;

/// Hours on some days, and what counts in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// On which days they begin, Monday first.
    pub days: [bool; 7],
    /// Minutes since midnight.
    pub from: u16,
    /// The same; at or before `from` it lies on the next day.
    pub until: u16,
    /// As in "20Mbit".
    pub rate: String,
}

/// A calendar without its time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Week {
    pub rows: Vec<Row>,
    /// Exceptions by date, a line each.
    pub dated: Vec<String>,
}

impl Row {
    fn holds(&self, minute_of_week: usize) -> bool {
        let (day, minute) = (minute_of_week / 1440, (minute_of_week % 1440) as u16);
        let over_midnight = self.until <= self.from;
        let begun = self.days[day] && minute >= self.from && (over_midnight || minute < self.until);
        begun || over_midnight && minute < self.until && self.days[(day + 6) % 7]
    }

    /// As a line of a calendar.
    fn line(&self) -> String {
        let times = match (self.from, self.until) {
            (0, DAY_MINUTES) => String::new(),
            (from, until) => format!("{}-{}", clock(from), clock(until)),
        };
        let spans = days_as_spans(&self.days);
        let hours: Vec<String> = match &spans[..] {
            [all] if all == "mon-sun" && !times.is_empty() => vec![times],
            spans => spans.iter().map(|days| format!("{days} {times}").trim_end().to_owned()).collect(),
        };
        format!("{} {}", hours.join(", "), self.rate)
    }
}

/// A minute of the day as "08:30".
pub(super) fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// "08:30" or "8" in minutes.
pub(super) fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| digits(text).then(|| text.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    Some(hours * 60 + minutes).filter(|total| minutes < 60 && *total <= DAY_MINUTES)
}

/// Days that follow one another as "mon-fri".
fn days_as_spans(days: &[bool; 7]) -> Vec<String> {
    let mut spans = Vec::new();
    let mut day = 0;
    while day < 7 {
        let length = days[day..].iter().take_while(|day| **day).count();
        match length {
            0 => day += 1,
            1 => spans.push(DAYS[day].to_owned()),
            _ => spans.push(format!("{}-{}", DAYS[day], DAYS[day + length - 1])),
        }
        day += length;
    }
    spans
}

impl Week {
    /// Reads the lines of a calendar, without its zone.
    pub(super) fn read(lines: &[String]) -> Result<Week, Refusal> {
        let calendar = Calendar::parse(&lines.join("\n"), &TimeZone::UTC)?;
        let mut week = Week::default();
        for rule in calendar.rules() {
            if rule.is_dated() {
                week.dated.push(rule.to_string());
                continue;
            }
            let rate = print_limit(rule.limit);
            week.rows.extend(rule.hours().spans().map(|(days, from, until)| Row {
                days,
                from,
                until,
                rate: rate.clone(),
            }));
        }
        week.forget_what_never_counts();
        Ok(week)
    }

    /// A rule of several spans may have some that never count, and lines that never do are refused.
    fn forget_what_never_counts(&mut self) {
        let mut held = vec![false; CELLS * 60];
        self.rows.retain(|row| {
            let mut counts = false;
            for (minute, held) in held.iter_mut().enumerate().filter(|(minute, _)| row.holds(*minute)) {
                counts |= !std::mem::replace(held, true);
                debug_assert!(minute < CELLS * 60, "a week has no more minutes");
            }
            counts
        });
    }

    /// The text of the calendar. A zone stands in front where it is not the box's own.
    pub(super) fn text(&self, zone: Option<&str>) -> String {
        let zone = zone.map(|zone| format!("zone {zone}"));
        let lines = zone.into_iter().chain(self.dated.iter().cloned()).chain(self.rows.iter().map(Row::line));
        lines.map(|line| line + "\n").collect()
    }

    /// Each hour's rate by its place among the rates, from 1 on (0: no row holds), and the rates; nothing where a grid of hours can't show it.
    pub(super) fn cells(&self) -> Option<(String, Vec<String>)> {
        let mut rates: Vec<String> = Vec::new();
        for row in &self.rows {
            if row.from % 60 != 0 || row.until % 60 != 0 {
                return None;
            }
            if !rates.contains(&row.rate) {
                rates.push(row.rate.clone());
            }
        }
        let cell = |hour: usize| {
            let row = self.rows.iter().find(|row| row.holds(hour * 60));
            let place = row.and_then(|row| rates.iter().position(|rate| *rate == row.rate));
            place.map_or('0', |place| char::from(b'1' + place as u8))
        };
        let cells: String = (0..CELLS).map(cell).collect();
        (rates.len() <= BRUSHES).then_some((cells, rates))
    }

    /// The rows of what was painted. `rates` are those of the brushes. Nothing where that is no grid.
    pub(super) fn painted(cells: &str, rates: &[String]) -> Option<Vec<Row>> {
        let cells: Vec<usize> =
            cells.chars().map(|cell| cell.to_digit(10).map(|cell| cell as usize)).collect::<Option<_>>()?;
        if cells.len() != CELLS || cells.iter().any(|cell| *cell > rates.len()) {
            return None;
        }
        let mut rows: Vec<Row> = Vec::new();
        for (day, from, until, brush) in joined(runs(&cells)) {
            let rate = &rates[brush - 1];
            let found = rows.iter_mut().find(|row| (row.from, row.until, &row.rate) == (from, until, rate));
            match found {
                Some(row) => row.days[day] = true,
                None => {
                    let mut days = [false; 7];
                    days[day] = true;
                    rows.push(Row { days, from, until, rate: rate.clone() });
                }
            }
        }
        Some(rows)
    }
}

/// A day, from when until when, and a brush.
type Run = (usize, u16, u16, usize);

/// Hours of a day that follow one another and were painted alike.
fn runs(cells: &[usize]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (day, hours) in cells.chunks(24).enumerate() {
        let mut hour = 0;
        for alike in hours.chunk_by(|a, b| a == b) {
            let (from, until) = (hour, hour + alike.len());
            if alike[0] > 0 {
                runs.push((day, from as u16 * 60, until as u16 * 60, alike[0]));
            }
            hour = until;
        }
    }
    runs
}

/// A night is one run and not two, where it may be written so.
fn joined(mut runs: Vec<Run>) -> Vec<Run> {
    let evenings: Vec<Run> = runs.iter().copied().filter(|run| run.2 == DAY_MINUTES && run.1 > 0).collect();
    for (day, from, until, brush) in evenings {
        let next = (day + 1) % 7;
        let morning = runs.iter().position(|run| (run.0, run.1, run.3) == (next, 0, brush) && run.2 < from);
        let evening = runs.iter().position(|run| *run == (day, from, until, brush));
        if let (Some(morning), Some(evening)) = (morning, evening) {
            runs[evening].2 = runs[morning].2;
            runs.remove(morning);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_office_is_painted_and_written_as_somebody_would_write_it() {
        let text = "2026-12-24..2027-01-01 unlimited\nmon-fri 08:00-18:00 4Mbit\nmon-sun 22:00-06:00 unlimited\nsat-sun pause\n";
        let week = Week::read(&lines(text)).expect("sound");
        assert_eq!(
            (week.rows.len(), week.dated.as_slice()),
            (3, &["2026-12-24..2027-01-01 00:00-24:00 unlimited".to_owned()][..])
        );
        let (cells, rates) = week.cells().expect("whole hours");
        assert_eq!(rates, ["4Mbit", "unlimited", "pause"]);
        assert_eq!((&cells[..24], &cells[120..144]), ("222222001111111111000022", "222222333333333333333322"));
        let again = Week { rows: Week::painted(&cells, &rates).expect("a grid"), dated: week.dated.clone() };
        let text = again.text(Some("Europe/London"));
        assert!(
            text.starts_with("zone Europe/London\n2026-12-24") && text.contains("\nmon-fri 08:00-18:00 4Mbit\n"),
            "{text}"
        );
        assert!(text.contains("\n22:00-06:00 unlimited\n") && text.contains("\nsat-sun 06:00-22:00 pause\n"), "{text}");
    }

    #[test]
    fn whatever_is_painted_reads_back_as_it_was_painted() {
        let mut rng = SmallRng::seed_from_u64(7);
        let rates: Vec<String> =
            ["4Mbit", "512kbit", "unlimited", "pause", "1Gbit", "20Mbit"].map(String::from).to_vec();
        for round in 0..300 {
            // Some in long runs, some hour by hour, some all alike.
            let longest = [1, 5, 30, 200][round % 4];
            let mut cells = String::new();
            while cells.len() < CELLS {
                let brush = char::from(b'0' + rng.random_range(0..=rates.len()) as u8);
                (0..rng.random_range(1..=longest)).for_each(|_| cells.push(brush));
            }
            cells.truncate(CELLS);
            let week = Week { rows: Week::painted(&cells, &rates).expect("a grid"), dated: Vec::new() };
            let text = week.text(None);
            // The box takes it, and it means the same.
            Calendar::parse(&text, &TimeZone::UTC).unwrap_or_else(|why| panic!("{why}\n{text}"));
            let again = Week::read(&lines(&text)).expect("sound");
            let (read, names) = again.cells().expect("whole hours");
            let named = |cells: &str, rates: &[String]| -> Vec<String> {
                let name = |cell: char| {
                    cell.to_digit(10)
                        .filter(|cell| *cell > 0)
                        .map_or(String::new(), |cell| rates[cell as usize - 1].clone())
                };
                cells.chars().map(name).collect()
            };
            assert_eq!(named(&read, &names), named(&cells, &rates), "{text}");
        }
    }

    #[test]
    fn rows_keep_their_order_and_their_minutes() {
        let text = "mon-fri 12:00-13:00 8Mbit\nmon-fri 08:30-18:00, sat 10:00-12:00 4Mbit\nmon 09:00-10:00, sun 20:00-04:00 pause\n";
        let week = Week::read(&lines(text)).expect("sound");
        assert_eq!(week.cells(), None, "half an hour is no cell");
        assert_eq!(
            week.rows.iter().map(|row| row.rate.as_str()).collect::<Vec<_>>(),
            ["8Mbit", "4Mbit", "4Mbit", "pause"],
            "what never counts is left out"
        );
        let again = Week::read(&lines(&week.text(None))).expect("sound");
        assert_eq!(again, week);
        for odd in [[true, false, true, false, false, true, true], [false; 7]] {
            let row = Row { days: odd, from: 0, until: DAY_MINUTES, rate: "pause".into() };
            assert_eq!(row.line(), if odd[0] { "mon, wed, sat-sun pause" } else { " pause" });
        }
        assert_eq!(
            (minutes("8"), minutes(" 08:30 "), minutes("24:00"), minutes("24:01")),
            (Some(480), Some(510), Some(1440), None)
        );
        for absurd in ["", ":", "8:5:0", "٨", "-1", "008", "8:60"] {
            assert_eq!(minutes(absurd), None, "{absurd}");
        }
        for absurd in ["", "0", &"9".repeat(168), &"x".repeat(168), &"0".repeat(169)] {
            assert_eq!(Week::painted(absurd, &["4Mbit".to_owned()]), None, "{absurd}");
        }
    }
}
