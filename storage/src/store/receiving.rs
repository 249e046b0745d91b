//! What arrives for a snapshot is named by nothing before the snapshot is shown, which over a thin line may take weeks and many
//! broken sessions. So the catalogue knows from which container on something arrives; what lies there stays.

use super::Store;
use crate::catalogue::Change;
use crate::error::Result;
use crate::id::{ContainerId, DatasetId};
use crate::units::Timestamp;

/// Settings that say from which container on something arrives, by dataset.
const PREFIX: &str = "receiving/";
/// Who began and was not heard of for so long has given up: what arrived is garbage then. Counts only while the box runs.
const PATIENCE_NANOSECONDS: u64 = 30 * 86_400 * 1_000_000_000;
/// Datasets that something may arrive for at one time.
const RECEIVING_MAX: usize = 1024;
/// How finely it is remembered when somebody was heard of last.
const STEP_NANOSECONDS: u64 = 3_600 * 1_000_000_000;

/// That something arrives for a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Receiving {
    /// It lies in this container or a later one.
    from: ContainerId,
    /// When a session for it began last.
    heard: Timestamp,
}

impl Receiving {
    fn encode(self) -> String {
        format!("{} @{}", self.from.0, self.heard.0)
    }

    fn decode(value: &[u8]) -> Option<Receiving> {
        let (from, heard) = std::str::from_utf8(value).ok()?.split_once(" @")?;
        Some(Receiving { from: ContainerId(from.parse().ok()?), heard: Timestamp(heard.parse().ok()?) })
    }
}

fn setting(dataset: DatasetId) -> String {
    format!("{PREFIX}{dataset}")
}

impl Store {
    /// To be called when a session begins that brings a snapshot of a dataset: what arrives from the first such session on stays until
    /// a snapshot of it is shown ([`Store::publish`]), or no session began for 30 days.
    pub fn begin_receiving(&self, dataset: DatasetId, now: Timestamp) -> Result<()> {
        let name = setting(dataset);
        let known = || self.stages.catalogue.setting(&name).and_then(|value| Receiving::decode(&value));
        let recent = |known: &Receiving| known.heard.0.abs_diff(now.0) < STEP_NANOSECONDS;
        if known().is_some_and(|known| recent(&known)) {
            return Ok(());
        }
        let _administration = self.administration();
        let from = known().filter(|known| self.is_awaited(known)).map(|known| known.from);
        let receiving = Receiving { from: from.unwrap_or_else(|| self.stages.pool.next_place()), heard: now };
        let mut changes = self.given_up(&name);
        changes.push(Change::setting(&name, Some(receiving.encode().as_bytes())));
        self.administer(&changes, now)
    }

    /// Forgets those that nobody waits for, and where there are very many, whoever was not heard of the longest: a peer that begins
    /// with a new dataset again and again must not grow the catalogue.
    fn given_up(&self, but: &str) -> Vec<Change> {
        let all = self.stages.catalogue.settings(PREFIX).into_iter().filter(|(name, _)| name != but);
        let mut known: Vec<_> = all.map(|(name, value)| (Receiving::decode(&value), name)).collect();
        known.sort_unstable_by_key(|(receiving, _)| receiving.map(|receiving| receiving.heard));
        let many = known.len().saturating_sub(RECEIVING_MAX - 1);
        let gone = known.into_iter().enumerate().filter(|(nth, (receiving, _))| {
            *nth < many || !receiving.is_some_and(|receiving| self.is_awaited(&receiving))
        });
        gone.map(|(_, (_, name))| Change::setting(&name, None)).collect()
    }

    /// The change that says that all of it has arrived.
    pub(super) fn received(&self, dataset: DatasetId) -> Option<Change> {
        let name = setting(dataset);
        self.stages.catalogue.setting(&name).map(|_| Change::setting(&name, None))
    }

    fn is_awaited(&self, receiving: &Receiving) -> bool {
        self.passed_nanoseconds(receiving.heard, self.time()) < PATIENCE_NANOSECONDS
    }

    /// The first container in which something lies that is still arriving.
    pub(crate) fn receiving_from(&self) -> Option<ContainerId> {
        let all = self.stages.catalogue.settings(PREFIX);
        let known = all.iter().filter_map(|(_, value)| Receiving::decode(value));
        known.filter(|receiving| self.is_awaited(receiving)).map(|receiving| receiving.from).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let receiving = Receiving { from: ContainerId(77), heard: Timestamp(-5) };
        assert_eq!(Receiving::decode(receiving.encode().as_bytes()), Some(receiving));
        for odd in ["", "77", "77 @", "x @5", "77 @5 "] {
            assert_eq!(Receiving::decode(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
