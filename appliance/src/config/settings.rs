//! Settings of the config file that may be changed through the box: which there are, and how the file is changed so that all
//! else in it stays as somebody wrote it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::{Config, defaults};
use crate::control::Failed;

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "SettingKind")]
pub enum Kind {
    /// Text.
    Text,
    /// Yes or no.
    Flag,
    /// A whole number.
    Number,
    /// Several texts.
    List,
}

/// A setting that may be changed. A `*` in its key stands for the name of a share or volume.
#[derive(Debug)]
struct Known {
    key: &'static str,
    kind: Kind,
    means: &'static str,
}

const fn known(key: &'static str, kind: Kind, means: &'static str) -> Known {
    Known { key, kind, means }
}

/// Those that have to do with secrets, or run commands, are the console's: they are not here.
const KNOWN: [Known; 35] = [
    known("name", Kind::Text, "how the box calls itself towards people and peers"),
    known("time_zone", Kind::Text, "the time zone of hours and calendars, as in Europe/London"),
    known("nfs.listen", Kind::Text, "where NFS is served, as in 0.0.0.0:2049; empty for off"),
    known("nfs.portmap", Kind::Text, "where portmapper calls are answered, as in 0.0.0.0:111; empty for off"),
    known("nfs.allow", Kind::List, "networks of clients of new shares, as in 192.168.7.0/24"),
    known("nfs.root_squash", Kind::Flag, "whether a client's root is nobody"),
    known("nfs.read_only", Kind::Flag, "whether clients may only read"),
    known("share.*.allow", Kind::List, "networks of clients of this share"),
    known("share.*.root_squash", Kind::Flag, "whether a client's root is nobody on this share"),
    known("share.*.read_only", Kind::Flag, "whether clients may only read this share"),
    known("iscsi.listen", Kind::List, "where iSCSI is served, as in 0.0.0.0:3260; none for off"),
    known("iscsi.allow", Kind::List, "networks of initiators"),
    known("iscsi.initiators", Kind::List, "names of initiators that may log in; any where there is none"),
    known("volume.*.allow", Kind::List, "networks of initiators of this volume"),
    known("volume.*.initiators", Kind::List, "names of initiators of this volume"),
    known("wan.listen", Kind::Text, "where peers are answered, as in 0.0.0.0:4433; empty for off"),
    known("page.listen", Kind::Text, "where this page is, as in 0.0.0.0:443; empty for off"),
    known("page.announce", Kind::Flag, "whether neighbours find the page by its name (mDNS)"),
    known("notices.after", Kind::Text, "how long a problem lasts before it is told, as in 5m"),
    known("notices.remind", Kind::Text, "after how long it is told again, as in 24h"),
    known("notices.per_hour", Kind::Number, "how many notices there are in an hour at most"),
    known(
        "notices.lost_percent",
        Kind::Number,
        "what part of what a snapshot held has to be gone for a notice, in percent; 0 for never",
    ),
    known("notices.mail.to", Kind::List, "who gets notices by mail; nobody where there is none"),
    known("notices.mail.from", Kind::Text, "from whom they are"),
    known("notices.mail.server", Kind::Text, "which server takes mail, as in mail.example.org:465"),
    known("notices.mail.tls", Kind::Text, "implicit or starttls; what the port means where nothing is said"),
    known(
        "notices.webhook.address",
        Kind::Text,
        "which address is called with notices, as in https://alerts.example.org/box",
    ),
    known(
        "notices.syslog.server",
        Kind::Text,
        "which log server gets notices and the audit log, as in log.example.org:514",
    ),
    known("notices.syslog.protocol", Kind::Text, "udp or tcp"),
    known("notices.syslog.audit", Kind::Flag, "whether the log server gets the audit log, too"),
    known("store.drain_hours", Kind::Text, "when data sets are deduplicated that wait for it, as in 22:00-06:00"),
    known("scrub.every", Kind::Text, "how often everything is read, as in 30d; empty for never by itself"),
    known("scrub.hours", Kind::Text, "when it may be read, as in 22:00-06:00"),
    known(
        "recompress.after",
        Kind::Text,
        "after how long what was stored is compressed once more, as in 7d; empty for never",
    ),
    known("retention.quarantine_days", Kind::Number, "for how many days what was deleted can be had back"),
];

/// Those that a set-up writes beside them, when it brought what lies in these files.
const OF_SET_UP: [Known; 3] = [
    known("notices.mail.user", Kind::Text, "who signs in at the server that takes mail"),
    known("notices.mail.password_file", Kind::Text, "the file with his password"),
    known("notices.webhook.secret_file", Kind::Text, "the file with the secret by which calls are signed"),
];

/// Who changes settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever may change settings.
    Anybody,
    /// A set-up that brings the secrets that belong to them.
    SetUp,
}

/// A setting, and what the file says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// What it takes.
    pub kind: Kind,
    /// What it means.
    pub means: String,
    /// What the file says; nothing where that is the default.
    pub value: Option<Json>,
    /// What counts where nothing is said; nothing where that hangs on something else.
    #[serde(default)]
    pub default: Option<Json>,
    /// What it is counted in, or how it is written; empty where there is nothing to say.
    #[serde(default)]
    pub unit: String,
}

impl Setting {
    /// The setting of this key, of which the file says nothing.
    pub fn of_one(key: &str) -> Setting {
        let known = known_as(key);
        Setting {
            key: key.to_owned(),
            kind: known.map_or(Kind::Text, |known| known.kind),
            means: known.map_or("", |known| known.means).to_owned(),
            value: None,
            default: known.and_then(|known| defaults::default(known.key)),
            unit: defaults::unit(key).to_owned(),
        }
    }
}

/// All settings that a file has, or could have; those of single shares and volumes only where it has them.
pub fn settings(text: &str) -> Result<Vec<Setting>, Failed> {
    let document = read(text)?;
    let mut found = Vec::new();
    for known in &KNOWN {
        let of = |key: String, item: Option<&Item>| Setting {
            value: item.and_then(Item::as_value).map(json).map(|value| shown(known.key, value)),
            ..Setting::of_one(&key)
        };
        match known.key.split_once(".*.") {
            None => found.push(of(known.key.into(), at(&document, known.key))),
            Some((group, key)) => {
                let named = document.get(group).and_then(Item::as_table_like);
                for (name, rules) in named.into_iter().flat_map(|named| named.iter()) {
                    let item = rules.get(key);
                    found.extend(item.map(|item| of(format!("{group}.{name}.{key}"), Some(item))));
                }
            }
        }
    }
    Ok(found)
}

/// What everybody may see of a value: of an address that is called its host alone, for the rest of it may be all that protects who answers there.
fn shown(key: &str, value: Json) -> Json {
    let host = value.as_str().filter(|_| key == "notices.webhook.address").and_then(|text| text.split('/').nth(2));
    host.map_or_else(|| value.clone(), |host| Json::from(format!("https://{host}/…")))
}

/// The text of a config file in which some settings are others, or not there any more (where there is no value). Refused where that
/// would be no sound config.
pub fn changed(text: &str, changes: &BTreeMap<String, Option<Json>>) -> Result<String, Failed> {
    changed_by(By::Anybody, text, changes)
}

/// The same, by whom it is.
pub fn changed_by(by: By, text: &str, changes: &BTreeMap<String, Option<Json>>) -> Result<String, Failed> {
    let mut document = read(text)?;
    // Who may change settings need not be told the password that lies in that file.
    let brings_password = by == By::SetUp && changes.contains_key("notices.mail.password_file");
    if let Some((key, value)) = changes.get_key_value("notices.mail.server")
        && !brings_password
        && at(&document, "notices.mail.password_file").is_some()
        && at(&document, key).and_then(Item::as_value).map(json) != *value
    {
        let sentence = format!(
            "{key}: the password in notices.mail.password_file goes there: it is changed in the config file alone"
        );
        return Err(Failed::about(key, sentence));
    }
    for (key, value) in changes {
        let (path, kind) = path_of(by, key)?;
        let value = value.as_ref().map(|value| toml(key, kind, value)).transpose()?;
        set(&mut document, key, &path, value)?;
    }
    let text = document.to_string();
    // The reader of the start says what is wrong, and begins with the key.
    Config::read(&text).map_err(|why| {
        let key = changes.keys().find(|key| why.contains(key.as_str())).or_else(|| changes.keys().next());
        Failed { field: key.cloned(), ..Failed::refused(why) }
    })?;
    Ok(text)
}

fn read(text: &str) -> Result<DocumentMut, Failed> {
    text.parse().map_err(|error| Failed::refused(format!("the config file can't be read: {error}")))
}

fn at<'d>(document: &'d DocumentMut, key: &str) -> Option<&'d Item> {
    key.split('.').try_fold(document.as_item(), |item, part| item.get(part))
}

/// The name of the share or volume that a key is about, where it is one of these.
fn name_in<'k>(known: &Known, key: &'k str) -> Option<&'k str> {
    let (group, last) = known.key.split_once(".*.")?;
    let name = key.strip_prefix(group)?.strip_prefix('.')?.strip_suffix(last)?.strip_suffix('.')?;
    Some(name).filter(|name| !name.is_empty())
}

fn known_as(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.key == key || name_in(known, key).is_some())
}

/// Refuses a key that not everybody may change who may change settings.
pub fn for_anybody(key: &str) -> Result<(), Failed> {
    path_of(By::Anybody, key).map(drop)
}

/// The parts of a key that may be changed, and what it takes.
fn path_of(by: By, key: &str) -> Result<(Vec<String>, Kind), Failed> {
    let of_set_up = || OF_SET_UP.iter().find(|known| by == By::SetUp && known.key == key);
    let known = known_as(key).or_else(of_set_up).ok_or_else(|| {
        Failed::about(key, format!("{key}: there is no such setting, or it is changed in the config file alone"))
    })?;
    let parts = match (name_in(known, key), known.key.split_once(".*.")) {
        (Some(name), Some((group, last))) => [group, name, last].map(str::to_owned).to_vec(),
        _ => key.split('.').map(str::to_owned).collect(),
    };
    Ok((parts, known.kind))
}

fn toml(key: &str, kind: Kind, value: &Json) -> Result<Value, Failed> {
    let list =
        |items: &Vec<Json>| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let value = match kind {
        Kind::Text => value.as_str().map(Value::from),
        Kind::Flag => value.as_bool().map(Value::from),
        Kind::Number => value.as_i64().map(Value::from),
        Kind::List => value.as_array().and_then(list).map(|items| Value::from(items.into_iter().collect::<Array>())),
    };
    let wants = match kind {
        Kind::Text => "a text",
        Kind::Flag => "true or false",
        Kind::Number => "a whole number",
        Kind::List => "a list of texts",
    };
    value.ok_or_else(|| Failed::about(key, format!("{key}: expected {wants}")))
}

fn set(document: &mut DocumentMut, key: &str, path: &[String], value: Option<Value>) -> Result<(), Failed> {
    let odd = || Failed::about(key, format!("{key}: the config file has something else there"));
    let Some((last, groups)) = path.split_last() else { return Err(odd()) };
    let mut table = document.as_table_mut() as &mut dyn toml_edit::TableLike;
    for group in groups {
        if !table.contains_key(group) {
            if value.is_none() {
                return Ok(());
            }
            let mut new = Table::new();
            // `[share.office]` alone, without an empty `[share]` above it.
            new.set_implicit(true);
            table.insert(group, Item::Table(new));
        }
        table = table.get_mut(group).and_then(Item::as_table_like_mut).ok_or_else(odd)?;
    }
    match (value, table.get_mut(last).and_then(Item::as_value_mut)) {
        (Some(mut value), Some(old)) => {
            // Where it stood, with the comment behind it.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        (Some(value), None) => drop(table.insert(last, Item::Value(value))),
        (None, _) => drop(table.remove(last)),
    }
    Ok(())
}

fn json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.value().as_str()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Float(number) => Json::from(*number.value()),
        Value::Boolean(flag) => Json::from(*flag.value()),
        Value::Array(items) => items.iter().map(json).collect(),
        other => Json::from(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "# of the office in Bonn\nname = \"bonn\" # its sign says so\n\n[nfs]\n  listen = \"0.0.0.0:2049\"   # everywhere\nallow = [ \"10.0.0.0/8\" ]\n\n[hook.db]\nfreeze = [\"a\"]\nthaw = [\"b\"]\n";

    fn with(text: &str, changes: &[(&str, Json)]) -> Result<String, Failed> {
        let change =
            |(key, value): &(&str, Json)| ((*key).to_owned(), Some(value.clone()).filter(|value| !value.is_null()));
        changed(text, &changes.iter().map(change).collect())
    }

    #[test]
    fn what_is_changed_is_changed_and_all_else_stays() {
        let text = with(
            TEXT,
            &[("name", json!("a b/c@d")), ("nfs.listen", json!("")), ("share.films.root_squash", json!(false))],
        )
        .map(drop);
        assert_eq!(text.expect_err("a name is one of a peer").field.as_deref(), Some("name"));
        let text = with(
            TEXT,
            &[("name", json!("koeln")), ("nfs.listen", json!("")), ("share.films.root_squash", json!(false))],
        );
        let expected = TEXT.replace("\"bonn\"", "\"koeln\"").replace("\"0.0.0.0:2049\"", "\"\"")
            + "\n[share.films]\nroot_squash = false\n";
        assert_eq!(text.expect("sound"), expected);
        let text = with(
            &expected,
            &[("share.films.root_squash", Json::Null), ("name", Json::Null), ("scrub.every", Json::Null)],
        );
        let text = text.expect("sound");
        assert!(!text.contains("koeln") && !text.contains("root_squash") && !text.contains("scrub"), "{text}");
        assert!(text.contains("# everywhere") && text.contains("[hook.db]"), "{text}");
        assert_eq!(
            with("", &[("nfs.allow", json!(["10.0.0.0/8", "::1/128"]))]).expect("sound"),
            "[nfs]\nallow = [\"10.0.0.0/8\", \"::1/128\"]\n"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (key, value) in [
            ("nfs.listen", json!("here")),
            ("nfs.listen", json!(5)),
            ("nfs.root_squash", json!("no")),
            ("nfs.allow", json!("10.0.0.0/8")),
            ("nfs.allow", json!([1])),
            ("time_zone", json!("Atlantis/Capital")),
            ("retention.quarantine_days", json!(400)),
            ("scrub.every", json!("often")),
            ("hook.db.freeze", json!(["rm", "-rf", "/"])),
            ("store.realm_key_file", json!("/etc/shadow")),
            ("notices.mail.password_file", json!("/etc/shadow")),
            ("notices.webhook.secret_file", json!("/etc/shadow")),
            ("notices.local", json!(true)),
            ("notices.webhook.address", json!("http://a/")),
            ("page.key_file", json!("/etc/shadow")),
            ("share..allow", json!([])),
            ("name\n[hook.x]", json!("x")),
            ("nfs", json!("x")),
            ("", json!("x")),
        ] {
            let failed = with(TEXT, &[(key, value.clone())]).expect_err(key);
            assert_eq!(failed.field.as_deref(), Some(key), "{key} = {value}: {failed}");
        }
        assert!(
            with("name = 'a'\nnfs = 5\n", &[("nfs.listen", json!(""))]).is_err(),
            "what stands there is not written over"
        );
        let quoted = with(TEXT, &[("share.a\"]\n[hook.x.allow", json!(["10.0.0.0/8"]))]).expect("a name as any other");
        assert_eq!(Config::read(&quoted).expect("sound").hook.len(), 1, "{quoted}");
    }

    #[test]
    fn all_settings_are_told_with_what_the_file_says() {
        let all = settings(&format!("{TEXT}[share.films]\nallow = [\"10.1.0.0/16\"]\n")).expect("sound");
        let value = |key: &str| all.iter().find(|setting| setting.key == key).and_then(|setting| setting.value.clone());
        assert_eq!(value("name"), Some(json!("bonn")));
        assert_eq!(value("nfs.allow"), Some(json!(["10.0.0.0/8"])));
        assert_eq!(value("share.films.allow"), Some(json!(["10.1.0.0/16"])));
        assert_eq!(value("scrub.every"), None);
        let default = |key: &str| all.iter().find(|setting| setting.key == key).and_then(|one| one.default.clone());
        assert_eq!(
            (default("scrub.every"), default("share.films.allow")),
            (Some(json!("30d")), Some(json!(["127.0.0.0/8", "::1/128"])))
        );
        for setting in all.iter().filter(|one| !["name", "time_zone"].contains(&&*one.key)) {
            assert!(setting.default.is_some(), "{} has no default", setting.key);
        }
        assert!(all.iter().any(|setting| setting.key == "scrub.every"), "it could be there");
        assert!(settings("[nfs").is_err());
        let hook =
            settings("[notices.webhook]\naddress = 'https://alerts.example.org:444/a/key?b=secret'\n").expect("sound");
        let shown = hook
            .iter()
            .find(|setting| setting.key == "notices.webhook.address")
            .and_then(|setting| setting.value.clone());
        assert_eq!(shown, Some(json!("https://alerts.example.org:444/…")));
        assert!(
            with("", &[("notices.webhook.address", shown.expect("there"))]).is_err(),
            "what is shown is not what was meant"
        );
    }

    #[test]
    fn a_password_does_not_go_where_a_setting_says() {
        let open = "[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.example.org:465'\n";
        let change = [("notices.mail.server", json!("elsewhere.example.org:465"))];
        assert!(with(open, &change).is_ok());
        let failed = with(&format!("{open}user = 'a'\npassword_file = '/etc/p'\n"), &change).expect_err("secret");
        assert_eq!(failed.field.as_deref(), Some("notices.mail.server"));
    }
}
