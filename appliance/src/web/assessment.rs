//! The report of an assessment as a page of its own: everything that it needs is in it, so that it can be sent, kept, and printed.

use askama::Template;

use super::chart::{Bound, Fold, Line, Plot, Unit};
use super::show;
use crate::assess::answer::{Answer, Needed, SHARES, Step};
use crate::units::{bit_rate, duration};

/// Depths of the week's picture.
const DEPTHS: f64 = 5.0;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One step of a waterfall, with the length of its bar.
struct Fall<'a> {
    name: &'a str,
    meaning: &'a str,
    bytes: &'a u64,
    width: f64,
}

/// One hour of the week.
struct Cell {
    depth: u8,
    mark: &'static str,
    text: String,
}

/// A row of a table: what it is of, and its cells.
type Rates = (String, Vec<(String, String)>);

#[derive(Template)]
#[template(path = "assessment.html")]
struct Page<'a> {
    answer: &'a Answer,
    style: &'static str,
    version: &'static str,
    rate_chart: Option<String>,
    backlog_chart: Option<String>,
    shares: Vec<String>,
    shares_of_points: Vec<String>,
    needed: Vec<Rates>,
    has_bands: bool,
    waterfalls: Vec<(&'static str, Vec<Fall<'a>>)>,
    week: Vec<(&'static str, Vec<Cell>)>,
    most: String,
    speed_bytes: u64,
}

/// The whole report.
///
/// # Errors
/// Where the template can't be filled in.
pub fn html(answer: &Answer) -> Result<String, askama::Error> {
    let percent = |share: &f64| if *share >= 1.0 { "always".to_owned() } else { format!("{:.0} %", share * 100.0) };
    let points = answer.given.as_ref().and_then(|given| given.points.first());
    let most = answer.hours.iter().flatten().copied().fold(0.0, f64::max);
    let waterfalls = [
        ("From what changes to the wire", &answer.waterfall),
        ("The first copy, step by step", &answer.first_waterfall),
    ];
    Page {
        answer,
        style: concat!(include_str!("assets/page.css"), include_str!("assets/report.css")),
        version: env!("CARGO_PKG_VERSION"),
        rate_chart: rate_chart(answer)?,
        backlog_chart: backlog_chart(answer)?,
        shares: SHARES.iter().map(percent).collect(),
        shares_of_points: points
            .map(|(_, points)| points.iter().map(|(share, _)| percent(share)).collect())
            .unwrap_or_default(),
        needed: rates(&answer.needed),
        has_bands: answer.needed.iter().any(|needed| needed.band.is_some()),
        waterfalls: waterfalls
            .into_iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(title, steps)| (title, falls(steps)))
            .collect(),
        week: week(answer),
        most: bit_rate(most),
        speed_bytes: answer.packed_a_second.unwrap_or_default() as u64,
    }
    .render()
}

fn rates(needed: &[Needed]) -> Vec<Rates> {
    let cell = |needed: &Needed| {
        let rate = match (needed.bits, needed.no_line) {
            (Some(bits), _) => bit_rate(bits as f64),
            (None, Some(share)) => format!("none ({:.0} % at best)", share * 100.0),
            (None, None) => "–".into(),
        };
        let high = |bits: u64| if bits == u64::MAX { "no line".into() } else { bit_rate(bits as f64) };
        let band =
            needed.band.map_or(String::new(), |[low, most]| format!("{} – {}", bit_rate(low as f64), high(most)));
        (rate, band)
    };
    let rows = needed.chunk_by(|a, b| a.age_seconds == b.age_seconds);
    rows.map(|row| (duration(row[0].age_seconds as f64), row.iter().map(cell).collect())).collect()
}

fn falls(steps: &[Step]) -> Vec<Fall<'_>> {
    let most = steps.iter().map(|step| step.bytes).max().unwrap_or_default().max(1) as f64;
    fn fall(step: &Step, most: f64) -> Fall<'_> {
        let Step { name, meaning, bytes } = step;
        // What is there is seen, however little it is.
        let width = if *bytes == 0 { 0.0 } else { (*bytes as f64 / most * 100.0).max(0.3) };
        Fall { name, meaning, bytes, width }
    }
    steps.iter().map(|step| fall(step, most)).collect()
}

fn week(answer: &Answer) -> Vec<(&'static str, Vec<Cell>)> {
    // By rank: one dump at night would leave everything else white.
    let mut rates: Vec<f64> = answer.hours.iter().flatten().copied().filter(|rate| *rate > 0.0).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let depth = |rate: f64| {
        let below = rates.partition_point(|other| *other < rate);
        (below as f64 / rates.len().max(1) as f64 * DEPTHS) as u8 + 1
    };
    let cell = |rate: &Option<f64>| match rate {
        None => Cell { depth: 0, mark: "–", text: "never looked at".into() },
        Some(rate) => Cell { depth: if *rate > 0.0 { depth(*rate) } else { 0 }, mark: "", text: bit_rate(*rate) },
    };
    let days = DAYS.into_iter().zip(answer.hours.chunks(24));
    days.map(|(day, hours)| (day, hours.iter().map(cell).collect())).collect()
}

fn rate_chart(answer: &Answer) -> Result<Option<String>, askama::Error> {
    let values: Vec<(u64, f64)> =
        answer.hourly.iter().filter_map(|(begun, bytes)| Some((*begun, (*bytes)? as f64 * 8.0 / 3600.0))).collect();
    let (Some((from, _)), Some((to, _))) = (values.first().copied(), values.last().copied()) else { return Ok(None) };
    let wanted = answer.needed.iter().find(|needed| needed.age_seconds == 3600 && needed.share == 0.99);
    let bound = wanted
        .and_then(|needed| needed.bits)
        .map(|bits| Bound { name: "Needed for 1 h, 99 % of the time", value: bits as f64 });
    let lines = vec![Line { name: "On the wire, by hour", fold: Fold::Most, values }];
    let plot = Plot {
        title: "What the line has to carry",
        id: "rate",
        unit: Unit::BitsPerSecond,
        from,
        to: to + 3600,
        step: 3600,
        lines,
        bound,
    };
    plot.draw().render().map(Some)
}

fn backlog_chart(answer: &Answer) -> Result<Option<String>, askama::Error> {
    let Some(given) = &answer.given else { return Ok(None) };
    let values: Vec<(u64, f64)> = given.backlog.iter().map(|(at, bytes)| (*at, *bytes as f64)).collect();
    let (Some((from, _)), Some((to, _))) = (values.first().copied(), values.last().copied()) else { return Ok(None) };
    let step = values.get(1).map_or(300, |second| second.0.saturating_sub(from)).max(1);
    let lines = vec![Line { name: "Waiting for the line", fold: Fold::Most, values }];
    let plot = Plot { title: "What waits", id: "backlog", unit: Unit::Bytes, from, to, step, lines, bound: None };
    plot.draw().render().map(Some)
}
