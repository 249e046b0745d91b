//! What the box tells by itself: what was told, whom, and whether it arrives. For administrators.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Frame, done, of_form, refused, show_page};
use crate::control::Request;
use crate::control::reports::{Acknowledged, NoticeTried, Notices as Report, Settings};
use crate::notices::core::{Kind, Severity};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

/// Notices on the page.
const SHOWN: usize = 50;
/// What the form holds, by the settings that it changes; lists are written with commas.
const FIELDS: [(&str, &str); 7] = [
    ("to", "notices.mail.to"),
    ("from", "notices.mail.from"),
    ("server", "notices.mail.server"),
    ("tls", "notices.mail.tls"),
    ("log", "notices.syslog.server"),
    ("after", "notices.after"),
    ("remind", "notices.remind"),
];

#[derive(Template)]
#[template(path = "notices.html")]
struct Page {
    frame: Frame,
    report: Report,
    tried: Vec<NoticeTried>,
    /// The file says something else than the box knows.
    pending: bool,
    form: Form,
}

impl Page {
    fn mark(&self, kind: &Kind, severity: &Severity) -> &'static str {
        match (kind, severity) {
            (Kind::Over, _) => "good",
            (_, Severity::Problem) => "bad",
            (_, Severity::Warning) => "warn",
            (_, Severity::Note) => "still",
        }
    }
}

pub(super) async fn page(signed: Signed) -> Response {
    let settings = match signed.request::<Settings>(Request::SettingList).await {
        Ok(settings) => settings,
        Err(failed) => return refused(&failed),
    };
    let form = FIELDS.iter().fold(signed.form(), |form, (field, key)| {
        let value =
            settings.settings.iter().find(|setting| setting.key == *key).and_then(|setting| setting.value.as_ref());
        form.with(field, value.map(text).unwrap_or_default())
    });
    show(&signed, form, Vec::new(), settings.pending).await
}

async fn show(signed: &Signed, form: Form, tried: Vec<NoticeTried>, pending: bool) -> Response {
    match signed.request::<Report>(Request::NoticeList).await {
        Ok(mut report) => {
            report.notices.truncate(SHOWN);
            let frame = Frame::of(signed, "notices", "Notices");
            show_page(of_form(&form), &Page { frame, report, tried, pending, form })
        }
        Err(failed) => refused(&failed),
    }
}

/// Sees whether notices arrive.
pub(super) async fn test(Change { signed, mut form }: Change) -> Response {
    match signed.request::<Vec<NoticeTried>>(Request::NoticeTest { way: form.some("way") }).await {
        Ok(tried) => show(&signed, form, tried, false).await,
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            show(&signed, form, Vec::new(), false).await
        }
        Err(failed) => refused(&failed),
    }
}

/// Changes who is told, and when.
pub(super) async fn set(Change { signed, mut form }: Change) -> Response {
    let changes: BTreeMap<String, Option<Value>> =
        FIELDS.iter().map(|(field, key)| ((*key).to_owned(), value(key, form.text(field)))).collect();
    // What stays need not be sent: some of it is for the console where a password goes there.
    let settings = match signed.request::<Settings>(Request::SettingList).await {
        Ok(settings) => settings.settings,
        Err(failed) => return refused(&failed),
    };
    let is_new = |key: &String, value: &Option<Value>| {
        settings.iter().all(|setting| setting.key != *key || setting.value != *value)
    };
    let changes: BTreeMap<_, _> = changes.into_iter().filter(|(key, value)| is_new(key, value)).collect();
    if changes.is_empty() {
        return done(&signed, "/notices", "unchanged");
    }
    match signed.request::<Acknowledged>(Request::SettingSet { changes }).await {
        Ok(_) => done(&signed, "/notices", "notices"),
        Err(mut failed) if failed.kind == "refused" => {
            let field = FIELDS.iter().find(|(_, key)| failed.field.as_deref() == Some(key)).map(|(field, _)| *field);
            failed.field = field.map(str::to_owned);
            form.failed(WHOLE, &failed);
            show(&signed, form, Vec::new(), false).await
        }
        Err(failed) => refused(&failed),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What a field says; nothing where it is empty, so that the default counts.
fn value(key: &str, text: &str) -> Option<Value> {
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    match (text, key) {
        ("", _) => None,
        (_, "notices.mail.to") => Some(json!(words().collect::<Vec<_>>())),
        _ => Some(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_holds_is_what_a_setting_has() {
        for (key, value_of) in [("notices.mail.to", json!(["a@b.de", "Anna <c@d.de>"])), ("notices.after", json!("5m"))]
        {
            assert_eq!(value(key, &text(&value_of)), Some(value_of), "{key}");
        }
        assert_eq!(value("notices.mail.to", ""), None);
    }
}
