//! What the box has warned of lately, kept in memory for who can't read its log: the newest lines, bounded, and gone with the next start.
//!
//! What looks like a password or token in an address is not kept: `//user:password@` and what stands behind a `?`.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::units::rfc3339;

/// Lines that are kept.
const LINES_MAX: usize = 500;
/// Bytes that are kept of a line, about.
const LINE_BYTES_MAX: usize = 2000;

static LINES: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLine {
    /// When (RFC 3339); of several that are alike, the last.
    pub time: String,
    /// "warn" or "error".
    pub level: String,
    /// The part of the program.
    pub part: String,
    /// What it said.
    pub text: String,
    /// How often in a row.
    pub times: u64,
}

/// Notes what is warned of.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Notes.with_filter(LevelFilter::WARN)
}

/// At most so many lines, the newest first.
pub fn newest(limit: u32) -> Vec<LogLine> {
    lines().iter().rev().take(limit as usize).cloned().collect()
}

struct Notes;

impl<S: Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let of = event.metadata();
        let level = if *of.level() == Level::ERROR { "error" } else { "warn" };
        note(LogLine {
            time: rfc3339(clock::wall()),
            level: level.into(),
            part: of.target().to_owned(),
            text: text.whole(),
            times: 1,
        });
    }
}

fn note(line: LogLine) {
    let mut lines = lines();
    if let Some(last) = lines.back_mut()
        && (&last.level, &last.part, &last.text) == (&line.level, &line.part, &line.text)
    {
        (last.time, last.times) = (line.time, last.times.saturating_add(1));
        return;
    }
    if lines.len() >= LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line);
}

fn lines() -> MutexGuard<'static, VecDeque<LogLine>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an event says: its message, and its fields behind.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(self) -> String {
        let mut text = without_credentials(&format!("{}{}", self.message, self.fields));
        if text.len() > LINE_BYTES_MAX {
            let end = (0..=LINE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            text.push('…');
        }
        text
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

/// A text in which addresses show neither who signs in there, nor what stands behind their `?`.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "\"'`<>()[]{},;".contains(c)).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let (host, path) = address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        out.push_str(host.rsplit_once('@').map_or(host, |(_, host)| host));
        match path.find(['?', '#']) {
            Some(query) => {
                out.push_str(&path[..query]);
                out.push_str("?…");
            }
            None => out.push_str(path),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn addresses_show_no_secrets() {
        for (text, shown) in [
            (
                "POST https://erp:s3cret@erp.example/freeze?token=abc failed: 403",
                "POST https://erp.example/freeze?… failed: 403",
            ),
            ("\"https://a@b@c/x\" and http://d?e, ssh://f", "\"https://c/x\" and http://d?…, ssh://f"),
            ("no address: a://", "no address: a://"),
            ("mail anna@example.org", "mail anna@example.org"),
            ("a://é@ü/ß?ö#ä end", "a://ü/ß?… end"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn warnings_are_kept_and_bounded_and_nothing_else_is() {
        let log = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(log, || {
            tracing::info!("nothing to see");
            for _ in 0..3 {
                tracing::warn!(peer = "hub", error = %std::io::Error::other("https://u:p@h/"), "not reached");
            }
            tracing::error!("{}", "ü".repeat(5000));
        });
        let newest = newest(2);
        assert_eq!(
            (newest[0].level.as_str(), newest[0].text.len() < 2100, newest[0].text.ends_with('…')),
            ("error", true, true)
        );
        assert_eq!((newest[1].text.as_str(), newest[1].times), ("not reached peer=hub error=https://h/", 3));
        (0..2000).for_each(|number| note(LogLine { text: number.to_string(), ..newest[1].clone() }));
        assert_eq!(super::newest(u32::MAX).len(), LINES_MAX);
    }
}
