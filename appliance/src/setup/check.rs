//! What of a set-up makes no sense, before any of it is done.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use narrowboat_wan::link::Code;
use narrowboat_wan::peer::PeerAddress;
use narrowboat_wan::shape::{Calendar, parse_limit, zone_named};

use serde_json::Value;

use super::{Dataset, SetUp};
use crate::accounts::password_hash_is_sound;
use crate::config::settings;
use crate::control::Failed;
use crate::plans::SECONDS_MIN;
use crate::units::{ByteSize, parse_duration};

/// Most datasets in one set-up.
const DATASETS_MAX: usize = 100;

/// How often a dataset is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Every {
    /// Every change.
    Change,
    /// So many seconds.
    Seconds(u64),
}

impl SetUp {
    /// Refuses what makes no sense; the field says what it is about.
    pub fn check(&self) -> Result<(), Failed> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that makes no sense, by its field.
    pub fn problems(&self) -> Vec<Failed> {
        // Those of notices make sense together, or not at all.
        let (together, alone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.all_settings().into_iter().partition(|(key, _)| key.starts_with("notices."));
        let each = alone.into_iter().filter_map(|(key, value)| self.setting(key, value).err());
        let mut problems: Vec<Failed> = each.collect();
        // What stands in two settings is wrong once.
        problems.dedup_by(|one, other| one.field == other.field);
        let mut note = |outcome: Result<(), Failed>| problems.extend(outcome.err());
        if let Some(administrator) = &self.administrator
            && !password_hash_is_sound(&administrator.password_hash)
        {
            let sentence = "this is no argon2id hash as the page writes it";
            note(Err(Failed::about("administrator.password_hash", sentence)));
        }
        note(self.notices.clone().unwrap_or_default().check(together));
        if self.dataset.len() > DATASETS_MAX {
            note(Err(Failed::about("dataset", format!("a set-up has at most {DATASETS_MAX} datasets"))));
        }
        self.dataset.iter().for_each(|dataset| dataset.checks().into_iter().for_each(&mut note));
        if let Some(head) = &self.head_office {
            note(about("head_office.address", head.address.parse::<PeerAddress>()).map(drop));
            note(about("head_office.code", head.code.parse::<Code>()).map(drop));
        }
        if let Some(network) = &self.network {
            network.problems().into_iter().for_each(|failed| note(Err(failed)));
        }
        if let Some(line) = &self.line {
            let zone = self.time_zone.as_deref().and_then(|zone| zone_named(zone).ok()).unwrap_or(TimeZone::UTC);
            note(line.rate.as_deref().map_or(Ok(()), |rate| about("line.rate", parse_limit(rate)).map(drop)));
            let calendar = |text| about("line.calendar", Calendar::parse(text, &zone)).map(drop);
            note(line.calendar.as_deref().map_or(Ok(()), calendar));
        }
        problems
    }

    /// Refuses a setting that the reader of the config file would refuse. It wants a file, and has an empty one.
    fn setting(&self, key: String, value: Option<Value>) -> Result<(), Failed> {
        let said = key.clone();
        let refused = settings::changed("", &[(key, value)].into()).err();
        refused.map_or(Ok(()), |failed| {
            // Networks are two settings, and one thing that somebody typed.
            let networks = ["nfs.allow", "iscsi.allow"].contains(&said.as_str()) && !self.networks.is_empty();
            let field = if networks { "networks".into() } else { said };
            Err(Failed { field: Some(field), ..failed })
        })
    }
}

impl Dataset {
    fn checks(&self) -> [Result<(), Failed>; 4] {
        [self.check_name(), self.bytes().map(drop), self.every().map(drop), self.check_dedup()]
    }

    fn check_name(&self) -> Result<(), Failed> {
        if self.name.trim().is_empty() || self.name.contains(|c: char| c == '@' || c == ':' || c.is_control()) {
            let sentence = format!(
                "{:?} can't be the name of a dataset: 1 to 255 bytes, no '@', ':' or control characters",
                self.name
            );
            return Err(Failed::about("dataset.name", sentence));
        }
        Ok(())
    }

    fn check_dedup(&self) -> Result<(), Failed> {
        match self.dedup.as_deref() {
            None | Some("inline" | "deferred" | "off") => Ok(()),
            Some(other) => Err(Failed::about("dataset.dedup", format!("{other:?}: write inline, deferred or off"))),
        }
    }

    /// The size of a volume.
    pub(super) fn bytes(&self) -> Result<Option<u64>, Failed> {
        let Some(size) = &self.size else { return Ok(None) };
        let ByteSize(bytes) = about("dataset.size", size.replace([',', ' '], "").parse::<ByteSize>())?;
        match bytes {
            0 => Err(Failed::about("dataset.size", "a volume of no bytes holds nothing: write its size as in 500GB")),
            bytes => Ok(Some(bytes)),
        }
    }

    /// How often it is copied.
    pub(super) fn every(&self) -> Result<Option<Every>, Failed> {
        match self.every.as_deref() {
            None => Ok(None),
            Some("change") => Ok(Some(Every::Change)),
            Some(text) => {
                let seconds = about("dataset.every", parse_duration(text))?;
                if seconds < SECONDS_MIN {
                    let sentence = format!("every {seconds} s is too often: {SECONDS_MIN} s is the least");
                    return Err(Failed::about("dataset.every", sentence));
                }
                Ok(Some(Every::Seconds(seconds)))
            }
        }
    }
}

fn about<T>(field: &str, outcome: Result<T, impl ToString>) -> Result<T, Failed> {
    outcome.map_err(|why| Failed::about(field, why.to_string()))
}
