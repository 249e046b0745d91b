//! Plans as they are kept: one setting of the store for each dataset and peer.

use std::collections::BTreeMap;

use narrowboat_storage::catalogue::DatasetRow;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::{Store, units::Timestamp};
use narrowboat_wan::peer::PeerRecord;

use super::decide::Plan;

const PREFIX: &str = "plan/";

/// A plan and what it is about.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name of its setting.
    pub setting: String,
    pub row: DatasetRow,
    pub peer: PeerRecord,
    pub plan: Plan,
}

/// The name of the setting of a plan: both ids, so that new names do not matter.
pub(super) fn setting(dataset: DatasetId, peer: &PeerRecord) -> String {
    format!("{PREFIX}{dataset}/{}", peer.id)
}

/// What the settings of all plans of a dataset begin with.
pub(super) fn of(dataset: DatasetId) -> String {
    format!("{PREFIX}{dataset}/")
}

/// The plan of a setting, if there is one. One that can't be read does nothing and says why.
pub(super) fn find(store: &Store, setting: &str) -> Option<Plan> {
    store.setting(setting).map(|text| read(&text))
}

/// Keeps a plan durably, or drops it.
pub(super) fn keep(store: &Store, setting: &str, plan: Option<&Plan>, now: Timestamp) -> Result<()> {
    if plan.is_none() && store.setting(setting).is_none() {
        return Ok(());
    }
    let text = plan.map(|plan| serde_json::to_string(plan).unwrap_or_default());
    store.set_setting(setting, text.as_deref().map(str::as_bytes), now)
}

/// Drops all plans of a dataset that is there no more.
pub(super) fn forget(store: &Store, dataset: DatasetId, now: Timestamp) -> Result<()> {
    for (setting, _) in store.settings(&of(dataset)) {
        store.set_setting(&setting, None, now)?;
    }
    Ok(())
}

/// All plans whose dataset and peer are there, in the order of datasets and peers.
pub(super) fn entries(store: &Store, peers: impl Iterator<Item = PeerRecord>) -> Vec<Entry> {
    let settings = store.settings(PREFIX);
    if settings.is_empty() {
        return Vec::new();
    }
    let rows: BTreeMap<String, DatasetRow> =
        store.dataset_rows().into_iter().map(|row| (row.id.to_string(), row)).collect();
    let peers: BTreeMap<String, PeerRecord> = peers.map(|peer| (peer.id.to_string(), peer)).collect();
    let entry = |(setting, text): (String, bytes::Bytes)| {
        let (dataset, peer) = setting.strip_prefix(PREFIX)?.split_once('/')?;
        let (row, peer) = (rows.get(dataset)?.clone(), peers.get(peer)?.clone());
        Some(Entry { row, peer, plan: read(&text), setting })
    };
    let mut entries: Vec<Entry> = settings.into_iter().filter_map(entry).collect();
    entries.sort_by(|one, other| (&one.row.name, &one.peer.name).cmp(&(&other.row.name, &other.peer.name)));
    entries
}

fn read(text: &[u8]) -> Plan {
    serde_json::from_slice(text).unwrap_or_else(|error| Plan::unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_does_nothing_and_says_why() {
        let plan = read(b"{\"class\": 7}");
        assert!(plan.paused && plan.unreadable.is_some_and(|why| why.contains("string")));
        let plan = Plan { every: Some(60), ..Plan::default() };
        assert_eq!(read(&serde_json::to_vec(&plan).unwrap()), plan);
    }
}
