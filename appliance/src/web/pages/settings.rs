//! Settings of the config file: all that may be changed through the box, each with what it means, in which unit, and what counts where nothing is said.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Frame, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::config::settings::{Kind, Setting};
use crate::control::reports::{Acknowledged, Settings, Status};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

/// What stood in a field when the form was made: only what is another is changed.
const WAS: &str = "was:";

#[derive(Template)]
#[template(path = "settings.html")]
struct Page {
    frame: Frame,
    groups: Vec<Group>,
    pending: bool,
    /// Shares and volumes that may have rules of their own.
    datasets: Vec<String>,
    dataset: String,
    form: Form,
    rules: bool,
}

/// Settings about one thing.
struct Group {
    title: String,
    rows: Vec<Row>,
}

/// A setting as a field.
struct Row {
    key: String,
    label: String,
    means: String,
    kind: &'static str,
    /// What counts, as text.
    value: String,
    default: String,
    /// What counts where nothing is said is the machine's to know.
    unsaid: bool,
    unit: String,
}

pub(super) async fn page(signed: Signed) -> Response {
    let form = signed.form();
    whole(&signed, form).await
}

async fn whole(signed: &Signed, form: Form) -> Response {
    let asked = async {
        let settings: Settings = signed.request(Request::SettingList).await?;
        Ok::<_, Failed>((settings, signed.web.live.for_page(signed).await?))
    };
    let (mut settings, status) = match asked.await {
        Ok(known) => known,
        Err(failed) => return refused(&failed),
    };
    let dataset = Some(form.text("dataset")).filter(|name| !name.is_empty());
    let dataset = dataset.unwrap_or_else(|| signed.query.text("dataset")).to_owned();
    add_single(&mut settings.settings, &status, &dataset);
    let rows: Vec<Row> = settings.settings.iter().map(|setting| Row::of(setting, &settings.settings)).collect();
    let page = Page {
        frame: Frame::of(signed, "settings", "Settings"),
        groups: groups(rows),
        pending: settings.pending,
        datasets: status.datasets.iter().map(|dataset| dataset.name.clone()).collect(),
        dataset,
        rules: signed.may(Role::Administrator),
        form,
    };
    show_page(of_form(&page.form), &page)
}

/// Adds the rules that a share or volume could have.
fn add_single(settings: &mut Vec<Setting>, status: &Status, name: &str) {
    let Some(dataset) = status.datasets.iter().find(|dataset| dataset.name == name) else { return };
    let (group, keys): (_, &[_]) = match dataset.kind.as_str() {
        "share" => ("share", &["allow", "root_squash", "read_only"]),
        _ => ("volume", &["allow", "initiators"]),
    };
    for last in keys {
        let key = format!("{group}.{name}.{last}");
        if settings.iter().all(|setting| setting.key != key) {
            settings.push(Setting::of_one(&key));
        }
    }
}

/// By what they are about, in the order in which they came.
fn groups(rows: Vec<Row>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let title = title(&row.key);
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { title, rows: vec![row] }),
        }
    }
    groups
}

fn title(key: &str) -> String {
    let (first, rest) = key.split_once('.').unwrap_or(("", key));
    let name = rest.rsplit_once('.').map_or("", |(name, _)| name);
    match first {
        "" => "The box".into(),
        "nfs" => "Shares (NFS)".into(),
        "iscsi" => "Volumes (iSCSI)".into(),
        "share" => format!("The share {name}"),
        "volume" => format!("The volume {name}"),
        "wan" => "Peers".into(),
        "page" => "This page".into(),
        "store" => "Deduplication".into(),
        "scrub" => "Reading everything".into(),
        "recompress" => "Compressing what is old".into(),
        "retention" => "What was deleted".into(),
        other => show::capital(&other.replace('_', " ")),
    }
}

impl Row {
    fn of(setting: &Setting, all: &[Setting]) -> Row {
        let default = setting.default.clone().or_else(|| inherited(&setting.key, all));
        let written = |value: &Value| text(setting.kind, value);
        let value = setting.value.as_ref().or(default.as_ref()).map(written).unwrap_or_default();
        Row {
            label: label(&setting.key),
            means: show::sentence(&setting.means),
            kind: match setting.kind {
                Kind::Text => "text",
                Kind::Flag => "flag",
                Kind::Number => "number",
                Kind::List => "list",
            },
            unsaid: default.is_none(),
            default: default.as_ref().map(written).unwrap_or_default(),
            unit: setting.unit.clone(),
            key: setting.key.clone(),
            value,
        }
    }

    /// What counts where nothing is said, for people.
    fn default_shown(&self) -> String {
        match (self.kind, self.default.as_str()) {
            _ if self.unsaid => "what the machine has".into(),
            (_, "") => "none".into(),
            ("list", lines) => lines.lines().collect::<Vec<_>>().join(", "),
            (_, other) => other.to_owned(),
        }
    }
}

/// What counts where nothing is said and that hangs on something else.
fn inherited(key: &str, all: &[Setting]) -> Option<Value> {
    let of = |key: &str| all.iter().find(|setting| setting.key == key);
    let (first, last) = (key.split('.').next()?, key.rsplit('.').next()?);
    let above = match first {
        "share" => of(&format!("nfs.{last}"))?,
        "volume" => of(&format!("iscsi.{last}"))?,
        _ => return None,
    };
    above.value.clone().or_else(|| above.default.clone())
}

fn label(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    match last {
        "listen" => "Address".into(),
        "portmap" => "Address of the portmapper".into(),
        "allow" => "Networks that may".into(),
        "root_squash" => "A client’s root is nobody".into(),
        "read_only" => "Only to be read".into(),
        "drain_hours" => "Hours for what waits".into(),
        "every" => "How often".into(),
        "after" => "After how long".into(),
        "quarantine_days" => "Kept for".into(),
        other => show::capital(&other.replace('_', " ")),
    }
}

/// A value as it stands in a field.
fn text(kind: Kind, value: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (kind, value) {
        (Kind::Flag, _) => if value == &Value::Bool(true) { "yes" } else { "no" }.into(),
        (_, Value::Array(items)) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        _ => plain(value),
    }
}

/// A field's value as the setting takes it.
fn value(kind: Kind, typed: &str) -> Result<Value, &'static str> {
    let typed = typed.trim();
    match kind {
        Kind::Text => Ok(json!(typed)),
        Kind::Flag => Ok(json!(typed == "yes")),
        Kind::Number => typed.parse::<i64>().map(|number| json!(number)).map_err(|_| "Write a whole number."),
        Kind::List => Ok(typed.lines().map(str::trim).filter(|line| !line.is_empty()).map(Value::from).collect()),
    }
}

/// What was typed that is another than what stood there, as the box takes it. What is wrong is noted beside its field.
fn changes(form: &mut Form, rows: &[(Setting, Row)]) -> BTreeMap<String, Option<Value>> {
    let lines = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let mut changes = BTreeMap::new();
    for (setting, row) in rows {
        if !form.has(&row.key) {
            continue;
        }
        let typed = lines(form.value(&row.key));
        if typed == lines(form.value(&format!("{WAS}{}", row.key))) {
            continue;
        }
        match value(setting.kind, &typed) {
            // What would count anyway is not written down.
            Ok(_) if typed == lines(&row.default) => drop(changes.insert(row.key.clone(), None)),
            Ok(value) => drop(changes.insert(row.key.clone(), Some(value))),
            Err(sentence) => form.wrong(&row.key, sentence),
        }
    }
    changes
}

pub(super) async fn set(Change { signed, mut form }: Change) -> Response {
    let asked = async {
        let settings: Settings = signed.request(Request::SettingList).await?;
        Ok::<_, Failed>((settings, signed.web.live.for_page(&signed).await?))
    };
    let (mut settings, status) = match asked.await {
        Ok(known) => known,
        Err(failed) => return refused(&failed),
    };
    add_single(&mut settings.settings, &status, form.text("dataset"));
    let row = |setting: &Setting| (setting.clone(), Row::of(setting, &settings.settings));
    let rows: Vec<(Setting, Row)> = settings.settings.iter().map(row).collect();
    let changes = changes(&mut form, &rows);
    if form.is_good() && changes.is_empty() {
        form.wrong(WHOLE, "Nothing here is another than it was, so nothing was changed.");
    }
    if !form.is_good() {
        return whole(&signed, form).await;
    }
    match signed.request::<Acknowledged>(Request::SettingSet { changes }).await {
        Ok(_) => done(&signed, "/settings", "settings"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            whole(&signed, form).await
        }
        Err(failed) => refused(&failed),
    }
}

impl Page {
    /// What stands in a field: what was typed, or else what counts.
    fn shown(&self, row: &Row) -> String {
        if self.form.has(&row.key) { self.form.value(&row.key).to_owned() } else { row.value.clone() }
    }

    /// What stood there when the form was made first.
    fn was(&self, row: &Row) -> String {
        let name = format!("{WAS}{}", row.key);
        if self.form.has(&name) { self.form.value(&name).to_owned() } else { row.value.clone() }
    }

    /// How high a field for lines is.
    fn lines(&self, row: &Row) -> usize {
        self.shown(row).lines().count().clamp(2, 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, kind: Kind, value: Option<Value>, default: Option<Value>) -> (Setting, Row) {
        let setting = Setting { kind, value, default, ..Setting::of_one(key) };
        let row = Row::of(&setting, &[]);
        (setting, row)
    }

    #[test]
    fn only_what_somebody_changed_is_changed() {
        let rows = [
            setting("nfs.listen", Kind::Text, Some(json!("0.0.0.0:2049")), Some(json!("127.0.0.1:2049"))),
            setting("nfs.allow", Kind::List, None, Some(json!(["127.0.0.0/8", "::1/128"]))),
            setting("nfs.read_only", Kind::Flag, None, Some(json!(false))),
            setting("retention.quarantine_days", Kind::Number, Some(json!(7)), Some(json!(7))),
        ];
        let form = |pairs: &[(&str, &str, &str)]| {
            pairs.iter().fold(Form::new(""), |form, (key, was, typed)| {
                form.with(&format!("{WAS}{key}"), *was).with(key, *typed)
            })
        };
        let mut same = form(&[
            ("nfs.listen", "0.0.0.0:2049", " 0.0.0.0:2049 "),
            ("nfs.allow", "127.0.0.0/8\n::1/128", "127.0.0.0/8\r\n::1/128\r\n"),
        ]);
        assert!(changes(&mut same, &rows).is_empty() && same.is_good());
        // Somebody else changed it meanwhile: what was not touched here stays his.
        let mut old = form(&[("nfs.listen", "1.2.3.4:5", "1.2.3.4:5"), ("nfs.read_only", "no", "yes")]);
        assert_eq!(changes(&mut old, &rows), BTreeMap::from([("nfs.read_only".to_owned(), Some(json!(true)))]));
        let mut changed = form(&[
            ("nfs.listen", "0.0.0.0:2049", "127.0.0.1:2049"),
            ("nfs.allow", "127.0.0.0/8\n::1/128", " 10.0.0.0/8 \n\n"),
        ]);
        let expected = [("nfs.allow".to_owned(), Some(json!(["10.0.0.0/8"]))), ("nfs.listen".to_owned(), None)];
        assert_eq!(changes(&mut changed, &rows), BTreeMap::from(expected), "what counts anyway is taken out");
        let mut off = form(&[("nfs.listen", "0.0.0.0:2049", "")]);
        assert_eq!(
            changes(&mut off, &rows),
            BTreeMap::from([("nfs.listen".to_owned(), Some(json!("")))]),
            "off is not the default"
        );
        for absurd in ["", "many", "7.5", "９", "-"] {
            let mut form = form(&[("retention.quarantine_days", "7", absurd)]);
            changes(&mut form, &rows);
            assert_eq!(form.problem("retention.quarantine_days"), Some("Write a whole number."), "{absurd}");
        }
    }

    #[test]
    fn a_group_is_named_by_what_it_is_about() {
        assert_eq!(title("name"), "The box");
        assert_eq!(title("share.a.b <i>.allow"), "The share a.b <i>");
        assert_eq!((title("some_thing.x"), label("some_thing.an_odd_one")), ("Some thing".into(), "An odd one".into()));
    }
}
