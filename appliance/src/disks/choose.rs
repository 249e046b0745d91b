//! Which array is the box's own. Disks of another box may be plugged in beside its own, to be read or to be made anew; neither `open` at boot nor anything else may
//! take one array for the other.
//!
//! In this order: the one that is named; the one that is mounted as the data folder; the one whose id lies in the folder that it is mounted on
//! (docs/formats/array.md); the only one there is; the only one that is open. Where none of that decides, all are listed, and nothing is done.

use std::fs;
use std::path::{Path, PathBuf};

use super::facts::{Facts, Found};
use super::{NOT_OPEN, OPENED};
use crate::control::Failed;

/// In the file of the folder that an array is mounted on: which one that is.
const NOTE: &str = "array ";

/// What is known of which array is the box's own.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The data folder.
    pub data: PathBuf,
    /// The id that a person named, or the beginning of it.
    pub named: Option<String>,
    /// The id that was noted when the array was mounted last.
    pub noted: Option<String>,
    /// Whether the folder says that an array belongs there, whichever that is.
    pub expected: bool,
}

impl Own {
    /// What a data folder tells, and a person.
    pub fn of(data: &Path, named: Option<&str>) -> Own {
        let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        let note = fs::read_to_string(data.join(NOT_OPEN));
        let expected = note.is_ok();
        let noted =
            note.unwrap_or_default().lines().find_map(|line| line.strip_prefix(NOTE)).map(|id| id.trim().to_owned());
        Own { named: named.map(str::to_owned), noted: noted.filter(|id| !id.is_empty()), expected, data }
    }

    /// Whether an array that is not here is worth waiting for: one that is known by its id, or any where none is here and one belongs into the folder.
    pub fn may_still_come(&self, facts: &Facts) -> bool {
        self.named.is_some() || self.noted.is_some() || (self.expected && facts.arrays().is_empty())
    }

    /// The box's own array.
    pub fn choose(&self, facts: &Facts) -> Result<Found, Failed> {
        self.chosen(facts.arrays()).map_err(Failed::refused)
    }

    fn chosen(&self, arrays: Vec<Found>) -> Result<Found, String> {
        if arrays.is_empty() {
            return Err(
                "there is no array on the disks of this machine: `narrowboat disks list` shows them, `narrowboat disks make` makes one"
                    .into(),
            );
        }
        if let Some(id) = &self.named {
            return named(&arrays, id).map_err(|why| self.refused(&why, &arrays));
        }
        if let Some(array) = only(&arrays, |array| array.is_mounted_at(&self.data)) {
            return Ok(array);
        }
        if let Some(noted) = &self.noted {
            let why = format!("the array of this box, {noted}, is not on the disks that are here");
            return only(&arrays, |array| is(array, noted)).ok_or_else(|| self.refused(&why, &arrays));
        }
        let open = |array: &Found| array.device.as_ref().is_some_and(|on| on.opened.is_some() || on.mounted.is_some());
        let chosen = only(&arrays, |_| true).or_else(|| only(&arrays, open));
        chosen.ok_or_else(|| self.refused("it is not known which array is this box's", &arrays))
    }

    fn refused(&self, why: &str, arrays: &[Found]) -> String {
        let listed: Vec<String> =
            arrays.iter().map(|array| format!("{} (disks {})", array.id, array.disks.join(", "))).collect();
        format!("{why}; there is {}. `--array ID` says which one is meant", listed.join(", and "))
    }
}

/// The array that `fits`, where it is the only one.
fn only(arrays: &[Found], fits: impl Fn(&Found) -> bool) -> Option<Found> {
    let mut fitting = arrays.iter().filter(|array| fits(array));
    fitting.next().filter(|_| fitting.next().is_none()).cloned()
}

/// The array that is meant by an id or the beginning of one: never one of several.
pub fn named(arrays: &[Found], id: &str) -> Result<Found, String> {
    let meant: Vec<&Found> = arrays.iter().filter(|array| is(array, id)).collect();
    match meant.as_slice() {
        [array] => Ok((*array).clone()),
        [] => Err(format!("there is no array {id} on the disks of this machine")),
        _ => Err(format!("{id} is the beginning of several arrays' ids")),
    }
}

/// Whether an id, or the beginning of one, however it is written, is that of an array.
fn is(array: &Found, named: &str) -> bool {
    let digits = |text: &str| text.chars().filter(|c| !":-".contains(*c)).collect::<String>().to_ascii_lowercase();
    let named = digits(named);
    let whole = array.uuid.as_deref().map_or_else(|| array.id.clone(), digits);
    named.len() >= 4 && (whole.starts_with(&named) || array.id == named)
}

/// What is written into the folder that an array is mounted on, below it.
pub fn note(id: &str) -> String {
    format!("The array is not open: `narrowboat disks open`\n{NOTE}{id}\n")
}

/// Why an array can't be opened at a folder now: another one is open there, or in its place. One is open at a time.
pub fn in_the_way(facts: &Facts, data: &Path, but: impl Fn(&Found) -> bool) -> Result<(), Failed> {
    let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let opened = format!("/dev/mapper/{OPENED}");
    let open = |array: &Found| {
        let named_so = array.device.as_ref().is_some_and(|on| on.opened.as_deref() == Some(&opened));
        named_so || array.is_mounted_at(&data)
    };
    match facts.arrays().into_iter().find(|array| !but(array) && open(array)) {
        None => Ok(()),
        Some(other) => Err(Failed::refused(format!(
            "the array {} (disks {}) is open, and one is at a time: `narrowboat disks close --array {}` closes it",
            other.id,
            other.disks.join(", "),
            other.id
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::OnArray;
    use super::*;

    fn array(id: &str, opened: Option<&str>, mounted: Option<&str>) -> Found {
        let device = OnArray {
            path: format!("/dev/md-{id}"),
            holds: None,
            label: None,
            opened: opened.map(str::to_owned),
            mounted: mounted.map(str::to_owned),
        };
        let device = (opened.is_some() || mounted.is_some()).then_some(device);
        let held = None;
        let uuid = Some(format!("{}-{}-{}-ba98-76543210fedc", &id[..8], &id[8..12], &id[12..16]));
        Found { id: id.into(), partitions: Vec::new(), disks: vec![format!("S-{}", &id[..2])], uuid, device, held }
    }

    const A: &str = "aaaa000011112222";
    const B: &str = "bbbb000011112222";

    fn own(named: Option<&str>, noted: Option<&str>) -> Own {
        let (named, noted) = (named.map(str::to_owned), noted.map(str::to_owned));
        Own { data: "/srv/box".into(), expected: noted.is_some(), named, noted }
    }

    fn id(own: &Own, arrays: &[Found]) -> Result<String, String> {
        own.chosen(arrays.to_vec()).map(|array| array.id)
    }

    #[test]
    fn another_boxs_array_does_not_stop_the_own_one() {
        let both = [array(B, None, None), array(A, None, None)];
        assert_eq!(id(&own(None, Some(A)), &both).as_deref(), Ok(A), "the one that was mounted here last");
        assert_eq!(id(&own(Some("bbbb"), Some(A)), &both).as_deref(), Ok(B), "who names one means it");
        assert_eq!(id(&own(None, None), &both[..1]).as_deref(), Ok(B), "there is only one");
        let open = [array(B, None, Some("/mnt")), array(A, None, Some("/srv/box"))];
        assert_eq!(id(&own(None, None), &open).as_deref(), Ok(A), "the one that is mounted as the data folder");
        let open = [array(B, Some("/dev/mapper/narrowboat"), None), array(A, None, None)];
        assert_eq!(id(&own(None, None), &open).as_deref(), Ok(B), "the only one that is open");
    }

    #[test]
    fn where_nothing_decides_all_are_listed() {
        let both = [array(A, None, None), array(B, None, None)];
        let refused = |own: &Own, arrays: &[Found]| id(own, arrays).expect_err("refused");
        let why = refused(&own(None, None), &both);
        assert!(
            why.contains("not known which") && why.contains(A) && why.contains("S-bb") && why.contains("--array ID"),
            "{why}"
        );
        assert!(refused(&own(Some("cccc"), None), &both).contains("no array cccc"));
        let alike = [array(A, None, None), array("aaaa999911112222", None, None)];
        assert!(refused(&own(Some("aaaa"), None), &alike).contains("aaaa is the beginning of several"));
        assert_eq!(id(&own(Some("aaaa9"), None), &alike).as_deref(), Ok("aaaa999911112222"));
        assert!(refused(&own(None, None), &[]).contains("`narrowboat disks make` makes one"));
        // Another box's array is not taken because the own one is not here.
        let why = refused(&own(None, Some(A)), &both[1..]);
        assert!(why.contains(&format!("the array of this box, {A}, is not")) && why.contains(B), "{why}");
    }

    #[test]
    fn an_id_is_known_however_it_is_written() {
        let a = array(A, None, None);
        for named in [A, "aaaa0000", "AAAA0000:1111", "aaaa0000-1111-2222-ba98", "aaaa"] {
            assert!(is(&a, named), "{named}");
        }
        for named in [B, "aaa", "", "aaaa1"] {
            assert!(!is(&a, named), "{named}");
        }
        let unmade = Found { uuid: None, ..a };
        assert!(is(&unmade, A));
    }

    #[test]
    fn the_folder_below_an_array_keeps_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Own::of(folder.path(), None).noted, None);
        assert!(!Own::of(folder.path(), None).may_still_come(&Facts::default()), "none was ever mounted here");
        fs::write(folder.path().join(NOT_OPEN), "The array is not open: `narrowboat disks open`\n").expect("written");
        let own = Own::of(folder.path(), None);
        assert_eq!(own.noted, None, "as earlier versions wrote it");
        assert!(own.may_still_come(&Facts::default()), "none is here, and one belongs here");
        fs::write(folder.path().join(NOT_OPEN), note(A)).expect("written");
        assert_eq!(Own::of(folder.path(), None).noted.as_deref(), Some(A));
    }
}
