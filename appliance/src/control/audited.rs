//! What is done between two entries of the audit log.

use serde_json::Value;

use super::{Failed, Request};
use crate::accounts::audit::Entry;
use crate::clock;
use crate::node::Node;
use crate::units::rfc3339;

/// What is said of something before and after it is done.
pub(super) struct Told {
    pub(super) what: String,
    pub(super) with: Value,
    pub(super) who: String,
    pub(super) by: String,
    pub(super) from: String,
    /// It is not done where the log can't take it.
    pub(super) strictly: bool,
}

impl Told {
    /// A request of whoever has the control socket.
    pub(super) fn of_console(request: &Request) -> Told {
        let (what, with) = request_told(request);
        let console = || "console".to_owned();
        Told { what, with, who: console(), by: console(), from: String::new(), strictly: !helps_a_full_disk(request) }
    }
}

/// Has something done between two entries. What the log can't take is not done, unless it is what makes room for the log.
pub(super) fn audited<T>(node: &Node, told: &Told, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let entry = || Entry {
        at: rfc3339(clock::now()),
        who: told.who.clone(),
        by: told.by.clone(),
        from: told.from.clone(),
        what: told.what.clone(),
        ..Entry::default()
    };
    let of = match node.audit.add(Entry { with: told.with.clone(), ..entry() }) {
        Ok(number) => Some(number),
        Err(error) if told.strictly => {
            return Err(Failed::environment(format!(
                "nothing was done, because the audit log can't be written: {error}"
            )));
        }
        Err(error) => {
            tracing::error!(%error, what = told.what, who = told.who, "the audit log can't be written");
            None
        }
    };
    let outcome = work();
    let said = outcome.as_ref().err().map_or("done", |failed| &failed.message).to_owned();
    if of.is_some()
        && let Err(error) = node.audit.add(Entry { of, outcome: Some(said), ..entry() })
    {
        tracing::error!(%error, of, "an outcome could not be written to the audit log");
    }
    outcome
}

/// What a full disk needs: it must not be refused because the log has no room.
pub(super) fn helps_a_full_disk(request: &Request) -> bool {
    matches!(
        request,
        Request::DatasetDelete { .. }
            | Request::SnapshotDelete { .. }
            | Request::SnapshotHold { .. }
            | Request::QuarantineEmpty { .. }
            | Request::Reclaim { .. }
            | Request::ReclaimBegin
            | Request::RetentionSet { .. }
            | Request::Restart
            | Request::Stop
    )
}

/// A request as it is asked, but for what is secret in it.
pub(super) fn request_told(request: &Request) -> (String, Value) {
    let mut with = serde_json::to_value(request).unwrap_or_default();
    forget_secrets(&mut with);
    let what = with.as_object_mut().and_then(|fields| fields.remove("request"));
    (what.and_then(|what| what.as_str().map(str::to_owned)).unwrap_or_default(), with)
}

/// Takes out what peers pair by, and what people sign in with, however deep it stands.
fn forget_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["code", "password", "password_hash", "secret"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_secrets),
        // Behind the host may stand all that protects who is called there.
        Value::String(text) if text.starts_with("https://") => {
            let host = text.split('/').nth(2).unwrap_or_default();
            *text = format!("https://{host}/…");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_the_log_can_not_take_is_not_done_but_what_makes_room_is() {
        let data = tempfile::tempdir().expect("a folder");
        let config = "[nfs]\nlisten=''\n[iscsi]\nlisten=[]\n[wan]\nlisten=''\n[page]\nlisten=''\n";
        std::fs::write(data.path().join("narrowboat.toml"), config).expect("written");
        let running = Node::start(data.path(), Config::load(None, data.path()).expect("sound")).expect("sound");
        let node = running.node();
        let ask = |request: &Request| {
            let mut done = false;
            let outcome = audited(node, &Told::of_console(request), || {
                done = true;
                Ok(())
            });
            (outcome.is_ok(), done)
        };
        let (harmless, freeing) = (Request::ScrubStart, Request::SnapshotDelete { snapshot: "a@b".into() });
        assert_eq!((ask(&harmless), ask(&freeing)), ((true, true), (true, true)));
        let file = node.audit.fill(None);
        assert_eq!((ask(&harmless), ask(&freeing)), ((false, false), (true, true)));
        node.audit.fill(Some(file));
        assert_eq!(ask(&harmless), (true, true));
        let whats: Vec<_> = node.audit.newest(None, 9).expect("readable").into_iter().map(|entry| entry.what).collect();
        assert_eq!(
            whats,
            ["scrub-start", "scrub-start", "snapshot-delete", "snapshot-delete", "scrub-start", "scrub-start"]
        );
        running.stop().expect("in order");
    }

    #[test]
    fn no_secret_is_told() {
        let join = Request::PeerJoin { code: "77-apple-boat".into(), address: "hub:4433".into() };
        let (what, with) = request_told(&join);
        assert_eq!((what.as_str(), with.to_string()), ("peer-join", r#"{"address":"hub:4433"}"#.into()));
        let user = "anna".to_owned();
        let reset = Request::AccountReset { user, password: "Tram 12 smells of rye bread".into() };
        assert!(!request_told(&reset).1.to_string().contains("Tram"));
        let text = "set_up = 1\nname = 'bonn'\n[head_office]\naddress = 'hub:4433'\ncode = '417-528-361'\n";
        let set_up = Box::new(crate::setup::SetUp::read(text).expect("sound"));
        let told = request_told(&Request::SetUpApply { set_up, typed: false }).1.to_string();
        assert!(!told.contains("528") && told.contains("hub:4433"), "{told}");
        let text = "set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.d.de:465'\nuser = 'c'\npassword = 'seven barges'\n\
                    [notices.webhook]\naddress = 'https://alerts.example.org/hidden/path'\nsecret = 'by which it is signed'\n";
        let set_up = Box::new(crate::setup::SetUp::read(text).expect("sound"));
        let told = request_told(&Request::SetUpApply { set_up, typed: false }).1.to_string();
        assert!(["seven", "hidden", "by which"].iter().all(|secret| !told.contains(secret)), "{told}");
        assert!(told.contains("mail.d.de:465") && told.contains("https://alerts.example.org/"), "{told}");
    }
}
