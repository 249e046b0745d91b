//! Does what a set-up says: settings first, and, where they count only from the next start on, the rest after that start. What is to be done is
//! kept in the store, so that neither a restart nor a power cut leaves half of it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use narrowboat_storage::catalogue::DatasetKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::Every;
use super::kept::Kept;
use super::secrets::Secrets;
use super::{Administrator, Dataset, HeadOffice, Line, Notices, SetUp};
use crate::config::settings::By;
use crate::control::dataset::volume_bytes;
use crate::control::reports::{Peer, Settings};
use crate::control::{Failed, Request, api, setting};
use crate::node::Node;

/// One at a time.
static GOING_ON: Mutex<()> = Mutex::new(());

/// What became of a part of a set-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "SetUpPart")]
pub struct Outcome {
    /// Which part, as its field is called.
    pub part: String,
    /// What it was about, for people.
    pub what: String,
    /// Why it could not be done; nothing where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Takes the set-up that a new box is started with: once, and only while nobody has claimed the box.
pub fn take(node: &Arc<Node>, set_up: &SetUp) -> Result<(), Failed> {
    let hash = blake3::hash(set_up.write()?.as_bytes()).to_hex().to_string();
    if node.accounts.claimed() || Kept::of(&node.store)?.taken.as_deref() == Some(&hash) {
        tracing::info!("the set-up file is passed over: this box has an owner, or has taken it already");
        return Ok(());
    }
    start(node, set_up, false, true)?;
    Kept::change(&node.store, |kept| {
        kept.taken = Some(hash);
        Ok(())
    })
}

/// Begins to apply a set-up, `typed` with the secrets that were typed for it. True where the box starts again for it, and does the rest after that.
pub fn begin(node: &Arc<Node>, set_up: &SetUp, typed: bool) -> Result<bool, Failed> {
    start(node, set_up, typed, false)
}

fn start(node: &Arc<Node>, set_up: &SetUp, typed: bool, unseen: bool) -> Result<bool, Failed> {
    let secrets = Secrets::of(&node.data);
    let typed = |secret| Some(secret).filter(|_| typed).and_then(|secret| secrets.typed(secret));
    let notices = set_up.notices.clone().map(|notices| notices.with_typed(typed));
    let set_up = &SetUp { notices, ..set_up.clone() };
    set_up.check()?;
    if set_up.administrator.is_some() && node.accounts.claimed() {
        let sentence = "this box has an owner, and takes no first administrator from a file: leave `administrator` out";
        return Err(Failed::about("administrator.user", sentence));
    }
    let settings = settings(node, set_up)?;
    Kept::change(&node.store, |kept| {
        let notices = set_up.notices.clone().map(Notices::without_secrets);
        (kept.applying, kept.unseen, kept.outcomes) = (Some(SetUp { notices, ..set_up.clone() }), unseen, Vec::new());
        Ok(())
    })?;
    let brought = set_up.notices.iter().flat_map(Notices::secrets).collect::<Vec<_>>();
    let laid_down = brought.iter().try_for_each(|(secret, text)| secrets.bring(*secret, text));
    let changed = laid_down.and_then(|()| change(node, settings)).inspect_err(|_| {
        let forgotten = Kept::change(&node.store, |kept| {
            kept.applying = None;
            Ok(())
        });
        let taken_back = brought.iter().try_for_each(|(secret, _)| secrets.take_back(*secret));
        if let Err(failed) = forgotten.and(taken_back) {
            tracing::error!(%failed, "a set-up that was refused is still taken for one that is to be done");
        }
    })?;
    if changed {
        node.ask_to_restart();
        return Ok(true);
    }
    go_on(node)?;
    Ok(false)
}

/// What it changes in the config file. A door that the file speaks of stays where it is.
fn settings(node: &Arc<Node>, set_up: &SetUp) -> Result<BTreeMap<String, Option<Value>>, Failed> {
    let mut settings = set_up.all_settings();
    let known: Settings = read(ask(node, Request::SettingList)?)?;
    for (key, value) in set_up.doors() {
        let said = known.settings.iter().any(|setting| setting.key == key && setting.value.is_some());
        if !said && !settings.contains_key(key) {
            settings.insert(key.to_owned(), Some(value));
        }
    }
    let secrets = Secrets::of(&node.data);
    let files = set_up.notices.iter().flat_map(|notices| notices.with_secrets(|secret| secrets.file(secret)));
    settings.extend(files.map(|(key, value)| (key.to_owned(), Some(value))));
    Ok(settings)
}

/// Changes settings; true where the box has to start again for them.
fn change(node: &Arc<Node>, changes: BTreeMap<String, Option<Value>>) -> Result<bool, Failed> {
    if changes.is_empty() {
        return Ok(false);
    }
    setting::set_by(By::SetUp, node, &changes)?;
    let settings: Settings = read(ask(node, Request::SettingList)?)?;
    Ok(settings.pending)
}

/// Has the box do something as the command line would.
fn ask(node: &Arc<Node>, request: Request) -> Result<Value, Failed> {
    let _tasks = node.enter();
    api::handle(node, request, &AtomicBool::new(false), &mut |_| {})
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failed> {
    serde_json::from_value(value).map_err(|error| Failed::environment(error.to_string()))
}

/// Goes on with a set-up whose settings count by now, if there is one.
pub fn go_on(node: &Arc<Node>) -> Result<(), Failed> {
    let _one = GOING_ON.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = Kept::of(&node.store)?;
    let Some(set_up) = kept.applying else { return Ok(()) };
    Secrets::of(&node.data).settle()?;
    let mut outcomes = Vec::new();
    let mut note = |part: &str, what: String, outcome: Result<(), Failed>| {
        if let Err(failed) = &outcome {
            tracing::warn!(part, %failed, "a part of the set-up could not be done");
        }
        let problem = outcome.err().map(|failed| failed.message);
        outcomes.push(Outcome { part: part.into(), what, problem });
    };
    if !set_up.all_settings().is_empty() {
        note("settings", "name, clock, who may back up, and who gets notices".into(), Ok(()));
    }
    for dataset in &set_up.dataset {
        note("dataset", dataset.what(), make(node, dataset));
    }
    let mut peer = None;
    if let Some(head) = &set_up.head_office {
        let paired = pair(node, head);
        let outcome = paired.map(|name| peer = Some(name));
        note("head_office", format!("pairing with {}", head.address), outcome);
    }
    for (dataset, every) in copies(&set_up) {
        let outcome = peer.as_deref().ok_or_else(no_head_office).and_then(|peer| copy(node, dataset, every, peer));
        note("copies", format!("copies of {}", dataset.name), outcome);
    }
    if let Some(line) = &set_up.line {
        note("line", "what copies may take of the line".into(), cap(node, line));
    }
    if let Some(Administrator { user, password_hash }) = &set_up.administrator {
        note("administrator", format!("the account of {user}"), node.accounts.first(user, password_hash));
    }
    // The last: whatever else needs the network has it as it was.
    if let Some(wanted) = &set_up.network {
        let (what, outcome) = match kept.unseen {
            true => ("the network", node.network.keep(node, wanted.clone())),
            false => (
                "the network, which is tried: keep it at its new address, or by `narrowboat network confirm`",
                node.network.set(node, wanted.clone()),
            ),
        };
        note("network", what.into(), outcome.map(drop));
    }
    Kept::change(&node.store, |kept| {
        (kept.applying, kept.outcomes) = (None, outcomes);
        // A code counts once; what is kept of it would only be a secret that lies about.
        if peer.is_some() {
            kept.typed.remove("head_office_code");
        }
        Ok(())
    })
}

/// Datasets that are copied, and how often.
fn copies(set_up: &SetUp) -> impl Iterator<Item = (&Dataset, Every)> {
    set_up.dataset.iter().filter_map(|dataset| Some((dataset, dataset.every().ok()??)))
}

fn no_head_office() -> Failed {
    Failed::refused(
        "there is no head office to copy it to yet: pair with it, and then say on the page of the dataset how often it is copied",
    )
}

impl Dataset {
    fn what(&self) -> String {
        match &self.size {
            Some(size) => format!("the volume {} of {size}", self.name),
            None => format!("the share {}", self.name),
        }
    }
}

/// Makes a dataset, unless it is there as it is to be.
fn make(node: &Arc<Node>, dataset: &Dataset) -> Result<(), Failed> {
    let bytes = dataset.bytes()?;
    match node.store.dataset_named(&dataset.name) {
        Ok(there) => {
            let (kind, size) = (there.row.kind, there.row.size);
            let same = match bytes {
                None => kind == DatasetKind::Share,
                Some(bytes) => kind == DatasetKind::Volume && size == volume_bytes(bytes),
            };
            if !same {
                let name = &dataset.name;
                return Err(Failed::about("dataset.name", format!("there is another dataset called {name} already")));
            }
        }
        Err(_) => {
            let (name, dedup) = (dataset.name.clone(), dataset.dedup.clone().unwrap_or_else(|| "inline".into()));
            ask(
                node,
                match bytes {
                    None => Request::ShareCreate { name, dedup },
                    Some(size) => Request::VolumeCreate { name, size, dedup },
                },
            )?;
        }
    }
    let Some(rules) = dataset.keep.clone() else { return Ok(()) };
    ask(node, Request::RetentionSet { dataset: dataset.name.clone(), rules, dry_run: false }).map(drop)
}

/// Pairs with head office, unless that was done already; the name of its box.
fn pair(node: &Arc<Node>, head: &HeadOffice) -> Result<String, Failed> {
    let known: Vec<Peer> = read(ask(node, Request::PeerList)?)?;
    if let Some(peer) = known.into_iter().find(|peer| peer.addresses.contains(&head.address)) {
        return Ok(peer.name);
    }
    let join = Request::PeerJoin { code: head.code.clone(), address: head.address.clone() };
    Ok(read::<Peer>(ask(node, join)?)?.name)
}

fn copy(node: &Arc<Node>, dataset: &Dataset, every: Every, peer: &str) -> Result<(), Failed> {
    let seconds = match every {
        Every::Change => None,
        Every::Seconds(seconds) => Some(seconds),
    };
    let (dataset, peer, follow) = (dataset.name.clone(), peer.to_owned(), seconds.is_none());
    ask(node, Request::PlanSet { dataset, peer, seconds, follow, hours: None, class: None }).map(drop)
}

fn cap(node: &Arc<Node>, line: &Line) -> Result<(), Failed> {
    let cap = Request::Limit {
        peer: None,
        rate: line.rate.clone(),
        seconds: None,
        calendar: line.calendar.clone(),
        resume: false,
        as_configured: false,
        receive: false,
    };
    ask(node, cap).map(drop)
}
