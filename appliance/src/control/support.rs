//! The support bundle: what somebody needs who is to find out from afar why a box does what it does, as one tar archive, and no secret.
//!
//! Secrets are kept out three times: nothing is asked for that holds any; of the config file only values of tables that have none are kept, without comments;
//! and whatever is written goes through a sieve that knows the contents of the files with secrets that the config names, and the claim code.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use tar::{EntryType, Header};
use toml::{Table, Value};

use super::door::Download;
use super::{Failed, scrub, status};
use crate::clock;
use crate::jobs::download::Frames;
use crate::node::Node;
use crate::recent;
use crate::trends::Span;
use crate::units::rfc3339;

/// Tables of the config file whose values are kept. What is new is left out until it is here.
const KEPT: [&str; 13] = [
    "nfs",
    "share",
    "iscsi",
    "volume",
    "target",
    "wan",
    "peer",
    "page",
    "store",
    "scrub",
    "recompress",
    "retention",
    "log",
];
/// Keys by which a value is left out wherever it stands.
const SECRET: [&str; 7] = ["secret", "password", "token", "key", "file", "user", "command"];
/// What stands in place of a value.
const LEFT_OUT: &str = "(left out)";
/// A shorter word is no secret, but part of others.
const SECRET_BYTES_MIN: usize = 6;
/// No file with a secret is longer.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// How a bundle of now is called.
pub(super) fn head(node: &Node) -> Download {
    let day: String = rfc3339(clock::wall()).chars().take(10).collect();
    Download { name: format!("narrowboat-{}-{day}.tar", node.name), bytes: None }
}

/// Writes it in frames; returns how many bytes that were.
pub(super) fn send(node: &Arc<Node>, out: impl Write) -> Result<u64, Failed> {
    let broken = |error: io::Error| Failed::environment(format!("it was broken off: {error}"));
    let config = fs::read_to_string(&node.config.file).unwrap_or_default();
    let sieve = Sieve::of(&[&config, &node.config.text], &node.data, node.accounts.claim_code());
    let mut bundle = Bundle { builder: tar::Builder::new(Frames::new(out)), sieve, time: clock::wall().seconds() };
    bundle.text("README.txt", ABOUT).map_err(broken)?;
    bundle.text("config.toml", &redacted(&config)).map_err(broken)?;
    bundle.text("config-at-start.toml", &redacted(&node.config.text)).map_err(broken)?;
    bundle.text("versions.txt", &versions(node)).map_err(broken)?;
    let status = status::status(node);
    bundle
        .json("disks.json", &json!({ "disk": status.disk, "array": status.array, "parts": status.parts }))
        .map_err(broken)?;
    bundle.text("mount.txt", &mount(&node.data)).map_err(broken)?;
    bundle.json("status.json", &status).map_err(broken)?;
    bundle.asked("scrub.json", scrub::show(node)).map_err(broken)?;
    for (name, span) in [("days", Span::Days), ("months", Span::Months), ("years", Span::Years)] {
        bundle.asked(&format!("trends-{name}.json"), node.trends.report(span)).map_err(broken)?;
    }
    let line =
        |line: recent::LogLine| format!("{} {} {} {} (x{})\n", line.time, line.level, line.part, line.text, line.times);
    bundle.text("log.txt", &recent::newest(u32::MAX).into_iter().map(line).collect::<String>()).map_err(broken)?;
    bundle.builder.into_inner().and_then(Frames::end).map_err(broken)
}

const ABOUT: &str = "What this box holds, how it is and was, what it has warned of lately, and how it is configured.\n\
    Left out: passwords, keys, codes and tokens; from the config file comments, paths of files with secrets, and all of tables that may have some.\n\
    In it, because it can't be understood without: names of datasets, snapshots and peers, addresses, and paths of files that are damaged.\n";

struct Bundle<W: Write> {
    builder: tar::Builder<W>,
    sieve: Sieve,
    time: i64,
}

impl<W: Write> Bundle<W> {
    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let text = self.sieve.through(text);
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.time).unwrap_or_default());
        header.set_size(text.len() as u64);
        self.builder.append_data(&mut header, Path::new("narrowboat-support").join(name), text.as_bytes())
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.text(name, &serde_json::to_string_pretty(value)?)
    }

    /// What was asked for, or why it could not be told.
    fn asked(&mut self, name: &str, asked: Result<impl Serialize, Failed>) -> io::Result<()> {
        match asked {
            Ok(value) => self.json(name, &value),
            Err(failed) => self.text(name, &format!("{failed}\n")),
        }
    }
}

fn versions(node: &Node) -> String {
    let kernel = fs::read_to_string("/proc/version").unwrap_or_default();
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let of = format!("narrowboat {}\nstore {}\n{kernel}\n{system}", env!("CARGO_PKG_VERSION"), node.store.id());
    format!("{of}\nprocessors {}\n", std::thread::available_parallelism().map_or(0, usize::from))
}

/// What the data folder lies on, as the kernel says.
fn mount(data: &Path) -> String {
    let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holds = |line: &&str| line.split(' ').nth(1).is_some_and(|place| data.starts_with(place));
    let longest = mounts.lines().filter(holds).max_by_key(|line| line.split(' ').nth(1).map_or(0, str::len));
    longest.map_or_else(String::new, |line| format!("{line}\n"))
}

/// A config file without what is, or may be, a secret; comments are gone.
fn redacted(text: &str) -> String {
    let Ok(table) = text.parse::<Table>() else { return "(it can't be read)\n".into() };
    let kept = table.into_iter().map(|(key, value)| {
        let plain = matches!(&*key, "name" | "time_zone") || KEPT.contains(&&*key);
        let value = if plain { cleaned(&key, value) } else { emptied(value) };
        (key, value)
    });
    toml::to_string_pretty(&kept.collect::<Table>()).unwrap_or_default()
}

fn cleaned(key: &str, value: Value) -> Value {
    match value {
        Value::Table(table) if key != "user" => {
            Value::Table(table.into_iter().map(|(key, value)| (key.clone(), cleaned(&key, value))).collect())
        }
        value if SECRET.iter().any(|word| key.contains(word)) => emptied(value),
        Value::String(text) => Value::String(recent::without_credentials(&text)),
        other => other,
    }
}

/// What was there, without saying it.
fn emptied(value: Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(table.into_iter().map(|(key, value)| (key, emptied(value))).collect()),
        _ => Value::String(LEFT_OUT.into()),
    }
}

/// What must not pass: secrets that the box knows of.
struct Sieve(Vec<String>);

impl Sieve {
    fn of(configs: &[&str], data: &Path, claim_code: Option<String>) -> Sieve {
        let mut words: Vec<String> = claim_code.into_iter().collect();
        for table in configs.iter().filter_map(|text| text.parse::<Table>().ok()) {
            words_of(&Value::Table(table), false, data, &mut words);
        }
        words.retain(|word| word.len() >= SECRET_BYTES_MIN);
        // The longest first: another one may be part of it.
        words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        Sieve(words)
    }

    fn through(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in &self.0 {
            // As it is, and as JSON writes it.
            let quoted = serde_json::to_string(word).unwrap_or_default();
            for form in [word.as_str(), quoted.trim_matches('"')] {
                if !form.is_empty() && text.contains(form) {
                    text = text.replace(form, LEFT_OUT);
                }
            }
        }
        text
    }
}

/// The lines of files with secrets that a config names, and what its commands and addresses may say.
fn words_of(value: &Value, secret: bool, data: &Path, words: &mut Vec<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let commands = matches!(&**key, "freeze" | "thaw");
                match value {
                    Value::String(path) if key.ends_with("_file") => {
                        words.extend(lines_of(&data.join(PathBuf::from(path))))
                    }
                    value => words_of(value, commands || SECRET.contains(&&**key) && value.is_str(), data, words),
                }
            }
        }
        // What a command begins with is a program, and stands in many a sentence.
        Value::Array(items) => items.iter().skip(1).for_each(|item| words_of(item, secret, data, words)),
        Value::String(text) if secret => words.push(text.clone()),
        _ => {}
    }
}

fn lines_of(path: &Path) -> Vec<String> {
    let short = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= SECRET_FILE_BYTES_MAX);
    let text = short.then(|| fs::read(path).ok()).flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "bonn" # the password is hunter22
        [nfs]
        listen = "0.0.0.0:2049"
        [iscsi.user.server1]
        secret_file = "chap.secret"
        mutual_name = "box"
        [page]
        listen = "https://u:hidden-in-address@x/"
        key_file = "page.key"
        [hook.erp]
        freeze = "https://erp:hidden-in-hook@erp.example/freeze?token=hidden-token"
        thaw = ["curl", "--user", "hidden-in-command"]
        [brand_new]
        anything = "hidden-in-what-is-new"
    "#;

    #[test]
    fn a_config_is_told_without_secrets_and_with_all_else() {
        let text = redacted(TEXT);
        assert!(!text.contains("hidden") && !text.contains("hunter22") && !text.contains("chap.secret"), "{text}");
        let table: Table = text.parse().expect("still a config file");
        assert_eq!((table["name"].as_str(), table["nfs"]["listen"].as_str()), (Some("bonn"), Some("0.0.0.0:2049")));
        assert_eq!(table["hook"]["erp"]["freeze"].as_str(), Some(LEFT_OUT), "that there is one is told");
        assert!(!redacted("name = 'a' [").contains('a') || redacted("name = 'a' [") == "(it can't be read)\n");
    }

    #[test]
    fn what_is_in_files_with_secrets_passes_nowhere() {
        let data = tempfile::tempdir().expect("a folder");
        fs::write(data.path().join("chap.secret"), "quote\"and\\more 12\n").expect("written");
        fs::write(
            data.path().join("page.key"),
            "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG\n-----END PRIVATE KEY-----\n",
        )
        .expect("written");
        let sieve = Sieve::of(&[TEXT], data.path(), Some("BOAT-7Q2M-KX41-ZP".into()));
        let json = serde_json::to_string(&json!({ "why": "quote\"and\\more 12" })).expect("JSON");
        for text in [
            "it said quote\"and\\more 12",
            &json,
            "MIIBVgIBADANBgkqhkiG",
            "claim BOAT-7Q2M-KX41-ZP now",
            "curl hidden-in-command",
        ] {
            let through = sieve.through(text);
            assert!(through.contains(LEFT_OUT), "{text}");
        }
        assert_eq!(sieve.through("nothing secret here: curl"), "nothing secret here: curl");
    }
}
