//! The past of one dataset: the moments that have a name, on a line and in a table, and how far back any moment can be named.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::dataset::{Head, find};
use super::line::{Dot, Drawing, Range, To, draw, moment, second};
use super::{Confirm, Frame, done, files, of_form, refused, show_page, to};
use crate::accounts::Role;
use crate::clock;
use crate::control::reports::{Moment, Timeline, Window};
use crate::control::{Failed, Request};
use crate::percent;
use crate::web::form::{Form, WHICH, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// Moments in one table.
const ROWS_MAX: usize = 60;
/// How long a line can be chosen to be: the word in the address, its text, and seconds.
const SPANS: [(&str, &str, i64); 5] = [
    ("day", "A day", 86_400),
    ("week", "A week", 7 * 86_400),
    ("month", "A month", 31 * 86_400),
    ("year", "A year", 366 * 86_400),
    ("all", "All", 0),
];

/// A moment in the table.
struct Row {
    moment: Moment,
    /// What of it differs from the snapshot before it.
    changes: Option<String>,
}

#[derive(Template)]
#[template(path = "timeline.html")]
struct Page {
    frame: Frame,
    head: Head,
    drawing: Drawing,
    range: Range,
    /// The span that was chosen; none where somebody looks closer.
    span: &'static str,
    rows: Vec<Row>,
    /// Moments in the range.
    count: usize,
    /// Where those are that are older than the table's last.
    older: Option<String>,
    window: Option<Window>,
    form: Form,
    operates: bool,
    rules: bool,
}

fn place(name: &str) -> String {
    format!("/datasets/{}/timeline", show::part(name))
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    answer(&signed, &name, signed.form()).await
}

async fn answer(signed: &Signed, name: &str, form: Form) -> Response {
    gather(signed, name, form).await.unwrap_or_else(|response| response)
}

async fn gather(signed: &Signed, name: &str, mut form: Form) -> Result<Response, Response> {
    let failed = |failed: Failed| refused(&failed);
    let status = signed.web.live.for_page(signed).await.map_err(failed)?;
    let dataset = find(&status, name)?;
    let timeline: Timeline = signed.request(Request::Timeline { dataset: name.to_owned() }).await.map_err(failed)?;
    let (range, span) = chosen(&signed.query, &timeline, clock::wall().0 / 1_000_000_000);
    if let Some(window) = timeline.window.as_ref().filter(|_| !form.has("keep")) {
        form =
            form.with("keep", show::length(&window.asked_seconds)).with("most", show::exact_size(&window.asked_bytes));
    }
    let mut rows = rows(name, &timeline.moments);
    rows.retain(|row| second(&row.moment.time).is_some_and(|second| range.has(second)));
    let count = rows.len();
    rows.truncate(ROWS_MAX);
    let last = rows.last().and_then(|row| second(&row.moment.time)).filter(|_| count > rows.len());
    let page = Page {
        frame: Frame::of(signed, "datasets", format!("Timeline of {name}")),
        head: Head::of(signed, &status, dataset, "timeline"),
        drawing: draw(&timeline, range),
        older: last.map(|until| closer(name, Range { from: range.from, until })),
        range,
        span,
        rows,
        count,
        window: timeline.window,
        form,
        operates: signed.may(Role::Operator),
        rules: signed.may(Role::Administrator),
    };
    Ok(show_page(of_form(&page.form), &page))
}

/// From when to when somebody looks: what he asked for, or the shortest span with something to see.
fn chosen(query: &Form, timeline: &Timeline, now: i64) -> (Range, &'static str) {
    if let (Some(from), Some(until)) = (second(query.text("from")), second(query.text("until")))
        && from < until
    {
        return (Range { from, until }, "");
    }
    let seconds: Vec<i64> = timeline.moments.iter().filter_map(|moment| second(&moment.time)).collect();
    let first = seconds.iter().copied().chain(timeline.window.as_ref().and_then(|window| second(&window.first))).min();
    // What a clock that was ahead has left is behind now.
    let until = seconds.iter().copied().max().unwrap_or(now).max(now);
    let of = |word: &'static str, length: i64| {
        let from = if length == 0 { first.unwrap_or(now - 86_400).min(until - 3600) } else { until - length };
        (Range { from, until }, word)
    };
    let asked = SPANS.iter().find(|(word, ..)| query.is("span", word));
    let several = |length: i64| seconds.iter().filter(|second| **second > until - length).count() > 1;
    let fitting = || SPANS.iter().find(|(.., length)| *length > 86_400 && several(*length));
    asked.or_else(fitting).map_or_else(|| of("all", 0), |(word, _, length)| of(word, *length))
}

/// The newest first, each snapshot with the one before it.
fn rows(name: &str, moments: &[Moment]) -> Vec<Row> {
    let mut before: Option<&str> = None;
    let mut rows = Vec::with_capacity(moments.len());
    for moment in moments {
        let is_snapshot = moment.kind == "snapshot";
        let changes = before.filter(|_| is_snapshot).map(|before| {
            let (from, to) = (percent::part(before), percent::part(&moment.name));
            format!("/datasets/{}/changes?from={from}&to={to}", show::part(name))
        });
        rows.push(Row { moment: moment.clone(), changes });
        if is_snapshot {
            before = Some(&moment.name);
        }
    }
    rows.reverse();
    rows
}

fn closer(name: &str, range: Range) -> String {
    let part = |second| percent::part(moment(second));
    format!("{}?from={}&until={}", place(name), part(range.from), part(range.until))
}

impl Page {
    fn spans(&self) -> impl Iterator<Item = &'static (&'static str, &'static str, i64)> {
        SPANS.iter()
    }

    /// Whether this is the span that is shown.
    fn is_span(&self, word: &str) -> bool {
        self.span == word
    }

    /// Where a dot leads.
    fn leads(&self, dot: &Dot) -> String {
        match &dot.to {
            To::Moment(name) => files::place(&self.head.name, name, ""),
            To::Closer(range) => closer(&self.head.name, *range),
        }
    }

    fn files(&self, at: &str) -> String {
        files::place(&self.head.name, at, "")
    }

    /// A page about one moment.
    fn about(&self, page: &str, at: &str) -> String {
        format!("{}/{page}?at={}", self.head.href, percent::part(at))
    }

    fn day(&self, second: &i64) -> String {
        show::when(&moment(*second))
    }
}

/// Asks for something, and goes back to the line; what is refused stands beside `field`.
async fn ask(
    signed: Signed,
    name: &str,
    mut form: Form,
    request: Request,
    field: &str,
    word: &'static str,
) -> Response {
    match signed.request::<Value>(request).await {
        Ok(_) => done(&signed, &place(name), word),
        Err(failed) if failed.kind == "signed-out" || failed.kind == "forbidden" => refused(&failed),
        Err(failed) => {
            form.failed(field, &failed);
            answer(&signed, name, form).await
        }
    }
}

/// Sends somebody on to what he wants with a moment that he typed.
pub(super) async fn go(Path(name): Path<String>, signed: Signed) -> Response {
    let when = signed.query.text("when").to_owned();
    let page = ["files", "clone", "rewind"].into_iter().find(|page| signed.query.is("do", page)).unwrap_or("files");
    let mut form = signed.form().with("when", when.as_str()).with(WHICH, signed.query.text(WHICH));
    match form.moment("when", "Say which, as in 2026-11-22 07:30.") {
        Some(at) => to(&format!("/datasets/{}/{page}?at={}", show::part(&name), percent::part(at))),
        None => answer(&signed, &name, form).await,
    }
}

pub(super) async fn mark(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let label = form.needs("mark", "Give the moment a name.");
    if !form.is_good() {
        return answer(&signed, &name, form).await;
    }
    let quiet = form.is("quiet", "yes");
    let request = Request::Mark { datasets: vec![name.clone()], name: label, quiet, hooks: Vec::new() };
    ask(signed, &name, form, request, "mark", "marked").await
}

pub(super) async fn set_window(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let seconds = form.length("keep", "Say how long, as in 24h or 7d.");
    let bytes = if form.some("most").is_some() { form.size("most", "") } else { None };
    if !form.is_good() {
        return answer(&signed, &name, form).await;
    }
    let request = Request::Window { dataset: name.clone(), seconds, bytes, off: false };
    ask(signed, &name, form, request, "keep", "window").await
}

pub(super) async fn off_page(Path(name): Path<String>, signed: Signed) -> Response {
    confirm_off(&signed, &name, signed.form())
}

fn confirm_off(signed: &Signed, name: &str, form: Form) -> Response {
    Confirm {
        frame: Frame::of(signed, "datasets", format!("Keep no moments of {name} any more?")),
        says: vec![
            "Then it can be taken back to its snapshots alone. Moments between them, and marks, are lost at once; their room comes back.".into(),
            "This can’t be undone.".into(),
        ],
        action: format!("/datasets/{}/window/off", show::part(name)),
        button: "Keep snapshots alone",
        back: place(name),
        typed: None,
        form,
    }
    .show()
}

pub(super) async fn off(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let request = Request::Window { dataset: name.clone(), seconds: None, bytes: None, off: true };
    match signed.request::<Value>(request).await {
        Ok(_) => done(&signed, &place(&name), "unwindowed"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            confirm_off(&signed, &name, form)
        }
        Err(failed) => refused(&failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_as_long_as_there_is_something_to_see() {
        let at = |second| Moment {
            kind: "snapshot".into(),
            name: "a".into(),
            time: moment(second),
            quiet: None,
            consistency: None,
        };
        let timeline = |seconds: &[i64]| Timeline {
            dataset: "office".into(),
            window: None,
            moments: seconds.iter().map(|second| at(*second)).collect(),
            written: Vec::new(),
        };
        const DAY: i64 = 86_400;
        let now = 20_000 * DAY;
        let span = |query: &str, seconds: &[i64]| chosen(&Form::read(query.as_bytes()), &timeline(seconds), now);
        assert_eq!(span("", &[now - 3 * DAY, now - DAY]).1, "week");
        assert_eq!(span("", &[now - 300 * DAY, now - 20 * DAY]).1, "year");
        assert_eq!(span("", &[now - 900 * DAY]), (Range { from: now - 900 * DAY, until: now }, "all"));
        assert_eq!(span("", &[]).0, Range { from: now - DAY, until: now });
        assert_eq!(span("span=day", &[]).0, Range { from: now - DAY, until: now });
        assert_eq!(span("", &[now + 5]).0.until, now + 5, "a clock that was ahead");
        let near = "from=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z";
        assert_eq!((span(near, &[]).0.until - span(near, &[]).0.from, span(near, &[]).1), (DAY, ""));
        for odd in ["from=x&until=y", "from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "span=%00"] {
            assert_eq!(span(odd, &[]).1, "all", "{odd}");
        }
    }
}
