//! What stays of a dataset's snapshots, and for how long: rules, with what they would do before they count; and locks for what is to come.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::dataset::{Head, find};
use super::{Frame, done, locks, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::reports::{Freeable, LockRule, Retention, Snapshot, Verdict};
use crate::control::{Failed, Request};
use crate::retention::Rules;
use crate::units::parse_duration;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// Snapshots in one table.
const ROWS_MAX: usize = 200;
/// Most of a kind that can be asked for.
const COUNT_MAX: u32 = 100_000;
/// Fields of counts: their names, and what people read.
const COUNTS: [(&str, &str, &str); 7] = [
    ("last", "The newest", "whatever their age"),
    ("hourly", "Hourly", "of so many hours"),
    ("daily", "Daily", "of so many days"),
    ("weekly", "Weekly", "of so many weeks"),
    ("monthly", "Monthly", "of so many months"),
    ("yearly", "Yearly", "of so many years"),
    ("least", "At least", "whatever else holds"),
];

/// A snapshot, and what becomes of it.
struct Row {
    verdict: Verdict,
    frees: Option<u64>,
    files: String,
}

#[derive(Template)]
#[template(path = "retention.html")]
struct Page {
    frame: Frame,
    head: Head,
    /// The rules that count now, in words.
    rules: Option<String>,
    /// Why those can't be read.
    unreadable: Option<String>,
    /// What the rules of the form would do, in words; none where they are those that count.
    preview: Option<String>,
    rows: Vec<Row>,
    goes: usize,
    stays: usize,
    more: usize,
    freeable: Option<Freeable>,
    /// The rule by which its new snapshots are locked.
    lock: Option<LockRule>,
    form: Form,
    operates: bool,
    governs: bool,
}

fn place(name: &str) -> String {
    format!("/datasets/{}/retention", show::part(name))
}

fn counts(rules: &mut Rules) -> [&mut u32; 7] {
    let Rules { last, hourly, daily, weekly, monthly, yearly, within: _, least } = rules;
    [last, hourly, daily, weekly, monthly, yearly, least]
}

/// The rules as they were typed; what is wrong stands beside its field.
fn rules_of(form: &mut Form) -> Option<Rules> {
    let mut rules = Rules::default();
    for (count, (field, ..)) in counts(&mut rules).into_iter().zip(COUNTS) {
        let text = form.text(field).to_owned();
        match text.parse::<u32>() {
            _ if text.is_empty() => {}
            Ok(typed) if typed <= COUNT_MAX => *count = typed,
            Ok(_) => form.wrong(field, format!("{} at most.", show::count(&COUNT_MAX.into()))),
            Err(_) => form.wrong(field, "Write a number, as in 7, or leave it empty."),
        }
    }
    if let Some(text) = form.some("within") {
        match parse_duration(&text) {
            Ok(seconds) => rules.within = Some(seconds),
            Err(why) => form.wrong("within", show::sentence(&why)),
        }
    }
    form.is_good().then_some(rules)
}

/// A form with the rules that count now.
fn filled(form: Form, rules: &Rules) -> Form {
    let mut rules = rules.clone();
    let within = rules.within.map(|seconds| show::length(&seconds)).unwrap_or_default();
    let shown = |count: &mut u32| if *count == 0 { String::new() } else { count.to_string() };
    let counts = counts(&mut rules).map(shown);
    counts
        .into_iter()
        .zip(COUNTS)
        .fold(form, |form, (count, (field, ..))| form.with(field, count))
        .with("within", within)
}

/// What stands on the page beside the form.
struct Preview {
    retention: Retention,
    counts_now: bool,
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    answer(&signed, &name, form, None).await
}

/// The page; with what the rules of the form would do, where somebody asked for that.
pub(super) async fn answer(signed: &Signed, name: &str, form: Form, preview: Option<Retention>) -> Response {
    gather(signed, name, form, preview).await.unwrap_or_else(|response| response)
}

async fn gather(signed: &Signed, name: &str, mut form: Form, asked: Option<Retention>) -> Result<Response, Response> {
    let failed = |failed: Failed| refused(&failed);
    let status = signed.web.live.for_page(signed).await.map_err(failed)?;
    let dataset = find(&status, name)?;
    let all: Vec<Retention> = signed.request(Request::RetentionList).await.map_err(failed)?;
    let counting = all.into_iter().find(|known| known.dataset == name);
    let typed = COUNTS.iter().any(|(field, ..)| form.has(field));
    if let Some(rules) = counting.as_ref().and_then(|known| known.as_set.as_ref()).filter(|_| !typed) {
        form = filled(form, rules);
    }
    let shown = match (&asked, &counting) {
        (Some(_), _) | (None, None) => None,
        (None, Some(_)) => {
            let request = Request::RetentionShow { dataset: name.to_owned() };
            Some(signed.request::<Retention>(request).await.map_err(failed)?)
        }
    };
    let preview = match (asked, shown) {
        (Some(retention), _) => Some(Preview { retention, counts_now: false }),
        (None, Some(retention)) => Some(Preview { retention, counts_now: true }),
        (None, None) => None,
    };
    let snapshots: Vec<Snapshot> =
        signed.request(Request::SnapshotList { dataset: Some(name.to_owned()) }).await.map_err(failed)?;
    let words = preview.as_ref().filter(|preview| !preview.counts_now).map(|preview| preview.retention.rules.clone());
    let verdicts = preview.map(|preview| preview.retention.snapshots).unwrap_or_default();
    let goes = verdicts.iter().filter(|verdict| !verdict.stays).count();
    let (stays, mut rows) = (verdicts.len() - goes, rows(name, verdicts, &snapshots));
    let more = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    let page = Page {
        frame: Frame::of(signed, "datasets", format!("What stays of {name}")),
        head: Head::of(signed, &status, dataset, "retention"),
        unreadable: counting.as_ref().and_then(|known| known.error.clone()),
        rules: counting.filter(|known| known.error.is_none()).map(|known| known.rules),
        preview: words,
        rows,
        goes,
        stays,
        more,
        freeable: status.freeable.clone(),
        lock: locks::rule_of(signed, dataset).await.map_err(failed)?,
        form,
        operates: signed.may(Role::Operator),
        governs: signed.may(Role::Administrator),
    };
    Ok(show_page(of_form(&page.form), &page))
}

/// What goes first, and of each the newest first.
fn rows(name: &str, verdicts: Vec<Verdict>, snapshots: &[Snapshot]) -> Vec<Row> {
    let frees = |verdict: &Verdict| snapshots.iter().find(|known| known.name == verdict.snapshot)?.frees_bytes;
    let row = |verdict: Verdict| Row {
        frees: frees(&verdict),
        files: super::files::place(name, &verdict.snapshot, ""),
        verdict,
    };
    let mut rows: Vec<Row> = verdicts.into_iter().rev().map(row).collect();
    rows.sort_by_key(|row| row.verdict.stays);
    rows
}

impl Page {
    fn counts(&self) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
        COUNTS.iter()
    }

    /// Why it stays or goes.
    fn why(&self, row: &Row) -> String {
        show::capital(&row.verdict.why.join("; "))
    }
}

pub(super) async fn set(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let Some(rules) = rules_of(&mut form) else { return answer(&signed, &name, form, None).await };
    if rules.keep_nothing() {
        form.wrong(WHOLE, "Such rules keep nothing but the newest snapshot: fill in what stays.");
        return answer(&signed, &name, form, None).await;
    }
    // Only what somebody has seen before counts: what would go is gone within seconds.
    let dry_run = !form.is("seen", &rules.to_string());
    let request = Request::RetentionSet { dataset: name.clone(), rules, dry_run };
    match signed.request::<Retention>(request).await {
        Ok(preview) if dry_run => answer(&signed, &name, form, Some(preview)).await,
        Ok(_) => done(&signed, &place(&name), "rules"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            answer(&signed, &name, form, None).await
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn remove(Path(name): Path<String>, Change { signed, .. }: Change) -> Response {
    match signed.request::<Value>(Request::RetentionRemove { dataset: name.clone() }).await {
        Ok(_) => done(&signed, &place(&name), "unruled"),
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn count(Path(name): Path<String>, Change { signed, .. }: Change) -> Response {
    match signed.request::<Freeable>(Request::Freeable { again: true }).await {
        Ok(_) => done(&signed, &place(&name), "counted"),
        Err(failed) => refused(&failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_rules_or_a_sentence_beside_its_field() {
        let mut form = Form::read(b"last=3&hourly=&daily=%2007&within=30d&least=2");
        let rules = rules_of(&mut form).expect("rules");
        assert_eq!(rules, Rules { last: 3, daily: 7, within: Some(30 * 86_400), least: 2, ..Rules::default() });
        let form = filled(Form::new(""), &rules);
        assert_eq!((form.value("daily"), form.value("hourly"), form.value("within")), ("7", "", "30d"));
        for (field, typed) in [
            ("daily", "-1"),
            ("daily", "٧"),
            ("weekly", "many"),
            ("last", "4294967296"),
            ("last", "100001"),
            ("within", "30"),
            ("within", "'; drop"),
        ] {
            let mut form = Form::default().with(field, typed);
            assert!(rules_of(&mut form).is_none() && form.problem(field).is_some(), "{field}={typed}");
            assert_eq!(form.value(field), typed);
        }
    }
}
