//! The audit log. For administrators.

use std::collections::HashMap;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::{Frame, refused, show_page};
use crate::control::Request as BoxRequest;
use crate::control::reports::AuditEntry;
use crate::web::show;
use crate::web::visitor::Signed;

/// Entries on a page. What was asked and what came of it are two.
const ENTRIES: u32 = 200;

/// Something that was asked, with what came of it as far as this page reaches.
#[derive(Debug, PartialEq)]
struct Row {
    number: u64,
    time: String,
    who: String,
    from: String,
    what: String,
    /// What it said, a line.
    with: String,
    outcome: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    rows: Vec<Row>,
    /// Before which number the next page begins.
    before: Option<u64>,
}

pub(super) async fn page(signed: Signed) -> Response {
    let before = signed.query.text("before").parse().ok();
    match signed.request::<Vec<AuditEntry>>(BoxRequest::Audit { before, limit: ENTRIES }).await {
        Ok(entries) => {
            let full = entries.len() >= ENTRIES as usize;
            let before = entries.last().map(|entry| entry.n).filter(|_| full);
            let frame = Frame::of(&signed, "audit", "Audit log");
            show_page(StatusCode::OK, &Audit { frame, rows: rows(entries), before })
        }
        Err(failed) => refused(&failed),
    }
}

/// What was asked, the newest first; an outcome stands with what it is of, or for itself where that is on an older page.
fn rows(entries: Vec<AuditEntry>) -> Vec<Row> {
    let mut outcomes: HashMap<u64, String> = HashMap::new();
    for entry in &entries {
        if let (Some(of), Some(outcome)) = (entry.of, &entry.outcome) {
            outcomes.insert(of, outcome.clone());
        }
    }
    let asked: Vec<u64> = entries.iter().filter(|entry| entry.of.is_none()).map(|entry| entry.n).collect();
    let shown = entries.into_iter().filter(|entry| entry.of.is_none_or(|of| !asked.contains(&of)));
    shown
        .map(|entry| Row {
            outcome: entry.outcome.or_else(|| outcomes.get(&entry.n).cloned()).unwrap_or_default(),
            number: entry.n,
            time: entry.at,
            who: entry.who,
            from: entry.from,
            what: entry.what,
            with: line(&entry.with),
        })
        .collect()
}

/// What a request said, without its braces: `name: office, size: 5`.
fn line(with: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match with {
        Value::Null => String::new(),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| format!("{name}: {}", text(value))).collect::<Vec<_>>().join(", ")
        }
        value => text(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outcome_stands_with_what_was_asked() {
        let entry = |n: u64, of: Option<u64>, outcome: Option<&str>| {
            let value = json!({
                "n": n, "at": "2026-11-23T13:00:00Z", "who": "admin", "by": "session", "from": "192.0.2.1", "what": "share-create",
                "with": { "name": "office", "size": 5, "new": null }, "of": of, "outcome": outcome
            });
            serde_json::from_value::<AuditEntry>(value).expect("an entry")
        };
        let found = rows(vec![
            entry(9, Some(3), Some("refused")),
            entry(8, Some(7), Some("done")),
            entry(7, None, None),
            entry(6, None, None),
        ]);
        let short: Vec<_> = found.iter().map(|row| (row.number, row.outcome.as_str())).collect();
        assert_eq!(short, [(9, "refused"), (7, "done"), (6, "")]);
        assert_eq!((found[1].with.as_str(), line(&Value::Null)), ("name: office, size: 5", String::new()));
    }
}
