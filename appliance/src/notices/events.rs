//! What of the audit log is worth a notice although nothing is wrong: a value that is shown each entry once, in order.
//!
//! | told | when |
//! | --- | --- |
//! | the box was claimed | always |
//! | a sign-in | from a network that this user never came from before |
//! | wrong passwords | [`WRONG_MANY`] of one name in an hour, once in that hour |
//! | an administrator more, a token that may do everything | always |
//! | a user less, a new password by somebody else, a second factor less | always |
//! | a dataset is deleted, or what was deleted is given up | always |
//! | many snapshots are deleted | [`DELETED_MANY`] in an hour, once in that hour |
//! | a lock stood in the way of a deletion | always |
//! | another box was paired with, or forgotten | always |
//! | settings of the notices themselves changed | always |
//! | the audit log was changed by somebody else | always |

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::core::{Item, Kind, Severity};
use super::text::plain;
use crate::accounts::audit::Entry;
use crate::units::parse_rfc3339;

/// So many wrong passwords are told of.
const WRONG_MANY: usize = 10;
/// So many deleted snapshots are told of.
const DELETED_MANY: usize = 10;
const HOUR: u64 = 3600;
/// Users and networks that are remembered.
const USERS_MAX: usize = 200;
const NETWORKS_MAX: usize = 50;
/// Requests under way that are remembered.
const ASKED_MAX: usize = 200;

/// What has to be known of older entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watcher {
    /// Where each user came from, the latest last.
    networks: BTreeMap<String, Vec<String>>,
    /// What is told of only where it is much, by what it is.
    counted: BTreeMap<String, Counted>,
    /// What requests said that have no outcome yet.
    asked: BTreeMap<u64, Value>,
}

/// How often something happened in the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    times: Vec<u64>,
    /// When it was told of last.
    told: Option<u64>,
}

impl Watcher {
    /// Looks at the next entry; what of it is to be told.
    pub fn look(&mut self, entry: &Entry) -> Option<Item> {
        let at = parse_rfc3339(&entry.at).map_or(0, |time| u64::try_from(time.seconds()).unwrap_or_default());
        if entry.what == "audit-damaged" {
            let what = "the audit log was changed by somebody else, or is damaged: it goes on in a new file";
            return Some(item(
                &entry.what,
                at,
                Severity::Problem,
                what,
                "Look at the files in the folder `audit`, and at who could change them.",
            ));
        }
        let Some(of) = entry.of else {
            self.asked.insert(entry.n, entry.with.clone());
            while self.asked.len() > ASKED_MAX {
                self.asked.pop_first();
            }
            return None;
        };
        let with = self.asked.remove(&of).unwrap_or_default();
        if entry.outcome.as_deref() == Some("done") {
            self.done(entry, &with, at)
        } else {
            self.refused(entry, &with, at)
        }
    }

    fn done(&mut self, entry: &Entry, with: &Value, at: u64) -> Option<Item> {
        let said = |key: &str| with[key].as_str().unwrap_or("?").to_owned();
        let by = by(entry);
        let (severity, what) = match entry.what.as_str() {
            "claim" => {
                self.is_new_network(entry);
                (
                    Severity::Warning,
                    format!("the box was claimed: {} is its first administrator{}", entry.who, from(entry)),
                )
            }
            "sign-in" if self.is_new_network(entry) => (
                Severity::Note,
                format!("the user {} signed in{}, for the first time from there", entry.who, from(entry)),
            ),
            "account-add" if with["role"] == "administrator" => {
                (Severity::Warning, format!("{by} made {} an administrator", said("user")))
            }
            "account-remove" => (Severity::Note, format!("{by} removed the user {}", said("user"))),
            "account-reset" => (
                Severity::Warning,
                format!("{by} gave {} a new password; his second factor, sessions and tokens are gone", said("user")),
            ),
            "password-change" => (Severity::Note, format!("{by} has a new password")),
            "totp-remove" => (Severity::Warning, format!("{by} has no second factor any more")),
            "token-add" if with["role"] == "administrator" => {
                (Severity::Warning, format!("{by} made a token that may do everything: {}", said("label")))
            }
            "dataset-delete" => (Severity::Warning, format!("{by} deleted the dataset {}", said("name"))),
            "snapshot-delete" if self.is_many("snapshot-delete", at, DELETED_MANY) => (
                Severity::Warning,
                format!("{DELETED_MANY} snapshots were deleted within an hour, the last by {by}: {}", said("snapshot")),
            ),
            "quarantine-empty" if with["dry_run"] != Value::Bool(true) => (
                Severity::Warning,
                format!(
                    "{by} gave up what was deleted before its time ({})",
                    with["what"].as_str().unwrap_or("all of it")
                ),
            ),
            "peer-join" => (Severity::Warning, format!("{by} paired this box with the one at {}", said("address"))),
            "peer-invite" => (Severity::Note, format!("{by} invited another box to pair with this one")),
            "peer-remove" => (Severity::Warning, format!("{by} had this box forget its peer {}", said("name"))),
            "setting-set" => {
                let keys = with["changes"].as_object()?.keys().filter(|key| key.starts_with("notices."));
                let keys: Vec<_> = keys.map(String::as_str).collect();
                if keys.is_empty() {
                    return None;
                }
                (Severity::Warning, format!("{by} changed who gets notices, and when: {}", keys.join(", ")))
            }
            _ => return None,
        };
        Some(item(&entry.what, at, severity, &what, remedy(&entry.what)))
    }

    fn refused(&mut self, entry: &Entry, with: &Value, at: u64) -> Option<Item> {
        let outcome = entry.outcome.as_deref().unwrap_or_default();
        match entry.what.as_str() {
            "sign-in" | "claim" if self.is_many(&format!("{}/{}", entry.what, entry.who), at, WRONG_MANY) => {
                let tried = if entry.what == "claim" {
                    "codes to claim the box".to_owned()
                } else {
                    format!("passwords of {}", entry.who)
                };
                let what = format!("{WRONG_MANY} wrong {tried} were tried within an hour, the last{}", from(entry));
                Some(item(
                    "guessing",
                    at,
                    Severity::Warning,
                    &what,
                    "Each further try waits longer. Find out who that is.",
                ))
            }
            "dataset-delete" | "snapshot-delete" if outcome.contains(" is locked: ") => {
                let name = with["snapshot"].as_str().or(with["name"].as_str()).unwrap_or("?");
                let what = format!("{} tried to delete {name}, which is locked: nothing was done", by(entry));
                Some(item(
                    "lock-refused",
                    at,
                    Severity::Warning,
                    &what,
                    "If that was nobody of yours: change passwords, and look at the audit log.",
                ))
            }
            _ => None,
        }
    }

    /// Whether this user never came from there before; from now on he has. What he does at the console is from nowhere.
    fn is_new_network(&mut self, entry: &Entry) -> bool {
        let Some(network) = network(&entry.from) else { return false };
        if !self.networks.contains_key(&entry.who) && self.networks.len() >= USERS_MAX {
            self.networks.pop_first();
        }
        let known = self.networks.entry(entry.who.clone()).or_default();
        let before = known.len();
        known.retain(|known| *known != network);
        let is_new = known.len() == before;
        known.push(network);
        let too_many = known.len().saturating_sub(NETWORKS_MAX);
        known.drain(..too_many);
        is_new
    }

    /// Counts; true where it were so many within an hour, at most once an hour.
    fn is_many(&mut self, what: &str, at: u64, many: usize) -> bool {
        if !self.counted.contains_key(what) && self.counted.len() >= USERS_MAX {
            self.counted.pop_first();
        }
        let Counted { times, told } = self.counted.entry(what.to_owned()).or_default();
        times.push(at);
        let too_many = times.len().saturating_sub(many);
        times.drain(..too_many);
        times.retain(|time| at.saturating_sub(*time) < HOUR);
        let is_new = told.is_none_or(|told| at.saturating_sub(told) >= HOUR);
        if times.len() < many || !is_new {
            return false;
        }
        *told = Some(at);
        true
    }
}

/// That the audit log ends before an entry that was there.
pub(super) fn shorter(known: u64, last: u64, at: u64) -> Item {
    let what =
        format!("the audit log ends with entry {last}, and entry {known} was there: somebody removed or exchanged it");
    item("audit-shorter", at, Severity::Problem, &what, "Compare it with what a log server has of it.")
}

fn item(key: &str, at: u64, severity: Severity, what: &str, remedy: &str) -> Item {
    let what = plain(&crate::web::sentence(what));
    Item { kind: Kind::Event, severity, key: key.into(), what, remedy: remedy.into(), since: at }
}

fn remedy(what: &str) -> &'static str {
    match what {
        "dataset-delete" | "snapshot-delete" => {
            "If that was a mistake: what is deleted can be had back for some days (`narrowboat dataset list --deleted`)."
        }
        "sign-in" | "token-add" | "account-add" | "totp-remove" | "password-change" => {
            "If that was nobody of yours: remove the user, and look at the audit log."
        }
        _ => "",
    }
}

/// Who did it, as a sentence begins.
fn by(entry: &Entry) -> String {
    match entry.who.as_str() {
        "console" => "somebody at the console".into(),
        "" => "somebody".into(),
        who => format!("the user {who}{}", from(entry)),
    }
}

fn from(entry: &Entry) -> String {
    if entry.from.is_empty() { String::new() } else { format!(" (from {})", entry.from) }
}

/// Networks are told apart by 24 bits of an IPv4 address, 64 of an IPv6 address.
fn network(from: &str) -> Option<String> {
    match from.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Some(format!("{a}.{b}.{c}.0/24"))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A log of so many seconds, each request with its outcome.
    struct Log(Watcher, u64);

    impl Log {
        fn ask(&mut self, who: &str, from: &str, what: &str, with: Value, outcome: &str) -> Option<String> {
            self.1 += 2;
            let entry = Entry {
                n: self.1,
                at: crate::units::rfc3339(narrowboat_storage::units::Timestamp(self.1 as i64 * 1_000_000_000)),
                who: who.into(),
                from: from.into(),
                what: what.into(),
                ..Entry::default()
            };
            assert_eq!(self.0.look(&Entry { with, ..entry.clone() }), None, "it was not done yet");
            let answer = Entry { n: self.1 + 1, of: Some(self.1), outcome: Some(outcome.into()), ..entry };
            self.0.look(&answer).map(|item| item.what)
        }
    }

    #[test]
    fn a_sign_in_is_told_from_where_nobody_came_from_before() {
        let mut log = Log(Watcher::default(), 0);
        assert!(log.ask("anna", "192.168.7.4", "claim", Value::Null, "done").is_some_and(|said| said.contains("anna")));
        let mut sign_in = |who: &str, from: &str| log.ask(who, from, "sign-in", Value::Null, "done");
        assert_eq!(sign_in("anna", "192.168.7.99"), None, "the same network");
        assert!(sign_in("anna", "203.0.113.9").is_some_and(|said| said.contains("203.0.113.9")));
        assert_eq!(sign_in("anna", "203.0.113.9"), None);
        assert!(sign_in("otto", "203.0.113.9").is_some(), "another user");
        assert!(sign_in("anna", "2001:db8::1").is_some() && sign_in("anna", "2001:db8::ffff").is_none());
        (0..200).for_each(|number| drop(sign_in("anna", &format!("10.0.{number}.1"))));
        assert_eq!(log.0.networks["anna"].len(), NETWORKS_MAX);
    }

    #[test]
    fn what_a_careful_owner_wants_to_know_is_told_and_the_rest_is_not() {
        let mut log = Log(Watcher::default(), 0);
        let mut ask = |what: &str, with: Value, outcome: &str| log.ask("anna", "", what, with, outcome);
        for (what, with, word) in [
            ("account-add", json!({ "user": "eve", "role": "administrator" }), "eve"),
            ("account-reset", json!({ "user": "eve" }), "eve"),
            ("token-add", json!({ "label": "all", "role": "administrator", "days": 5 }), "all"),
            ("dataset-delete", json!({ "name": "films" }), "films"),
            ("quarantine-empty", json!({ "what": null, "dry_run": false }), "all of it"),
            ("peer-join", json!({ "address": "hub:4433" }), "hub:4433"),
            ("peer-remove", json!({ "name": "hub" }), "hub"),
            ("setting-set", json!({ "changes": { "notices.mail.to": [], "name": "x" } }), "notices.mail.to"),
        ] {
            assert!(ask(what, with, "done").is_some_and(|said| said.contains(word)), "{what}");
        }
        let locked = "b is locked: nobody can delete it before the box has run for 3 days";
        let said = ask("snapshot-delete", json!({ "snapshot": "films@b" }), locked);
        assert!(said.is_some_and(|said| said.contains("films@b")));
        for (what, with, outcome) in [
            ("account-add", json!({ "user": "vera", "role": "viewer" }), "done"),
            ("account-add", json!({ "user": "eve", "role": "administrator" }), "there is one"),
            ("dataset-delete", json!({ "name": "films" }), "films does not exist"),
            ("setting-set", json!({ "changes": { "name": "x" } }), "done"),
            ("snapshot-create", json!({ "dataset": "films" }), "done"),
            ("scrub-start", Value::Null, "done"),
        ] {
            assert_eq!(ask(what, with, outcome), None, "{what}");
        }
    }

    #[test]
    fn many_are_told_of_once_an_hour() {
        let mut log = Log(Watcher::default(), 0);
        let mut told = 0;
        for number in 0..200 {
            let with = json!({ "snapshot": format!("films@{number}") });
            told += u32::from(log.ask("anna", "", "snapshot-delete", with, "done").is_some());
        }
        assert_eq!(told, 1);
        // Ten an hour, for a day.
        let slowly = |log: &mut Log| {
            log.1 += 350;
            log.ask("anna", "", "snapshot-delete", json!({ "snapshot": "films@slow" }), "done").is_some()
        };
        let told = (0..240).filter(|_| slowly(&mut log)).count();
        assert!((20..=24).contains(&told), "{told}");
        let wrong = |log: &mut Log| {
            (0..50).filter(|_| log.ask("anna", "203.0.113.9", "sign-in", Value::Null, "wrong").is_some()).count()
        };
        assert_eq!(wrong(&mut log), 1);
        log.1 += 4000;
        assert_eq!(wrong(&mut log), 1);
    }

    #[test]
    fn what_was_asked_before_a_restart_is_known_after_it() {
        let mut watcher = Watcher::default();
        let ask = Entry { n: 7, what: "dataset-delete".into(), with: json!({ "name": "films" }), ..Entry::default() };
        watcher.look(&ask);
        let mut watcher: Watcher = serde_json::from_value(json!(watcher)).expect("the same");
        let done = Entry { n: 8, of: Some(7), outcome: Some("done".into()), with: Value::Null, ..ask };
        assert!(watcher.look(&done).is_some_and(|item| item.what.contains("films")));
        assert!(watcher.asked.is_empty());
    }
}
