//! Which volume is which unit of which target, from the config file and the store's list alone.

use narrowboat_storage::catalogue::DatasetRow;

use super::rules::is_plain;
use crate::config::Config;
use crate::ingest::iscsi::target::normal_name;

/// A target that is to be served.
pub(super) struct Planned<'a> {
    /// Its iSCSI name.
    pub name: String,
    /// What people call it.
    pub alias: &'a str,
    /// Its units by their numbers. Of the volumes that the config file lists, those that there are.
    pub units: Vec<(u16, &'a DatasetRow)>,
    /// Networks and initiators, where the config file says other ones than for all.
    pub allow: Option<&'a Vec<String>>,
    /// Names of initiators, likewise.
    pub initiators: Option<&'a Vec<String>>,
}

/// The targets of some volumes: those that the config file puts together first, then every other volume as one of its own.
pub(super) fn targets<'a>(config: &'a Config, volumes: &'a [DatasetRow]) -> Vec<Planned<'a>> {
    let grouped = config.target.iter().map(|(name, rules)| {
        let listed = (0u16..).zip(&rules.volumes);
        let units = listed.filter_map(|(lun, name)| Some((lun, volumes.iter().find(|row| row.name == *name)?)));
        Planned {
            name: full_name(config, name),
            alias: name,
            units: units.collect(),
            allow: rules.allow.as_ref(),
            initiators: rules.initiators.as_ref(),
        }
    });
    let alone = volumes.iter().filter(|row| group_of(config, row).is_none()).map(|row| {
        let rules = config.volume.get(&row.name);
        Planned {
            name: own_name(config, row),
            alias: &row.name,
            units: vec![(0, row)],
            allow: rules.and_then(|rules| rules.allow.as_ref()),
            initiators: rules.and_then(|rules| rules.initiators.as_ref()),
        }
    });
    grouped.chain(alone).collect()
}

/// The target of a volume and the volume's number there.
pub fn place_of(config: &Config, row: &DatasetRow) -> (String, u16) {
    match group_of(config, row) {
        Some((group, lun)) => (full_name(config, group), lun),
        None => (own_name(config, row), 0),
    }
}

/// The target in which the config file puts a volume, and its place there. The place stays whichever of the others exist.
fn group_of<'a>(config: &'a Config, row: &DatasetRow) -> Option<(&'a str, u16)> {
    config.target.iter().find_map(|(name, rules)| {
        let at = rules.volumes.iter().position(|volume| *volume == row.name)?;
        Some((name.as_str(), at as u16))
    })
}

/// The name of a volume's own target: with the volume's name, or with its id where that cannot stand there or is a group's.
fn own_name(config: &Config, row: &DatasetRow) -> String {
    let wished = full_name(config, &row.name);
    let stands = is_plain(&row.name) && normal_name(&wished).is_some() && !config.target.contains_key(&row.name);
    if stands { wished } else { full_name(config, &row.id.to_string()) }
}

fn full_name(config: &Config, name: &str) -> String {
    format!("{}:{name}", config.iscsi.iqn.to_ascii_lowercase())
}
