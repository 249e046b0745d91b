//! What the config file says of volumes and their initiators, checked once and then believed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Config, IscsiUser};
use crate::ingest::iscsi::Access;
use crate::ingest::iscsi::chap::{Account, Secret};
use crate::ingest::iscsi::scsi::{LUN_MAX, Shape};
use crate::ingest::iscsi::target::normal_name;
use crate::ingest::nfs::Network;

/// Secrets of CHAP that are shorter can be guessed from one exchange that was listened to (RFC 7143 section 9.2.1: 96 bits).
const SECRET_BYTES_MIN: usize = 12;

/// Says which key makes no sense, if one does.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let volumes = config.volume.iter().map(|(name, rules)| (format!("volume.{name}"), &rules.allow, &rules.initiators));
    let targets = config.target.iter().map(|(name, rules)| (format!("target.{name}"), &rules.allow, &rules.initiators));
    check_access("iscsi", &config.iscsi.allow, &config.iscsi.initiators)?;
    for (key, allow, initiators) in volumes.chain(targets) {
        check_access(&key, allow.as_deref().unwrap_or_default(), initiators.as_deref().unwrap_or_default())?;
    }
    if normal_name(&format!("{}:x", config.iscsi.iqn)).is_none() {
        return Err(format!("iscsi.iqn = {:?}: expected one such as iqn.2026-01.org.example", config.iscsi.iqn));
    }
    if config.iscsi.threshold_percent > 100 {
        return Err("iscsi.threshold_percent: 0 to 100".into());
    }
    for (name, rules) in &config.volume {
        if !matches!(rules.block_bytes, None | Some(512 | 4096)) {
            return Err(format!("volume.{name}.block_bytes: blocks have 512 or 4096 bytes"));
        }
        let physical = rules.physical_block_bytes;
        if !matches!(physical, None | Some(512 | 4096)) || physical.is_some() && physical < rules.block_bytes {
            return Err(format!(
                "volume.{name}.physical_block_bytes: 512 or 4096, and not less than those of block_bytes"
            ));
        }
    }
    check_targets(config)
}

fn check_access(key: &str, allow: &[String], initiators: &[String]) -> Result<(), String> {
    for text in allow {
        text.parse::<Network>().map_err(|refusal| format!("{key}.allow = [{text:?}]: {refusal}"))?;
    }
    for text in initiators {
        normal_name(text).ok_or_else(|| {
            format!("{key}.initiators = [{text:?}]: expected a name such as iqn.2026-01.org.example:host")
        })?;
    }
    Ok(())
}

/// A volume is a unit of one target, so that whoever may use it is said in one place.
fn check_targets(config: &Config) -> Result<(), String> {
    let mut grouped = BTreeMap::new();
    for (name, rules) in &config.target {
        if !is_plain(name) || normal_name(&format!("{}:{name}", config.iscsi.iqn)).is_none() {
            return Err(format!("target.{name}: a name has lower-case letters, digits, '-' and '.'"));
        }
        if rules.volumes.len() > usize::from(LUN_MAX) + 1 {
            return Err(format!("target.{name}.volumes: a target has at most {} units", usize::from(LUN_MAX) + 1));
        }
        for volume in &rules.volumes {
            if let Some(other) = grouped.insert(volume, name) {
                return Err(format!("target.{name}.volumes: {volume:?} is in target.{other}.volumes already"));
            }
            let own = config.volume.get(volume);
            if own.is_some_and(|own| own.allow.is_some() || own.initiators.is_some()) {
                return Err(format!(
                    "volume.{volume}: allow and initiators belong to target.{name}, whose unit this volume is"
                ));
            }
        }
    }
    Ok(())
}

/// True where a name can stand in an iSCSI name as it is: those are compared without case, and know few characters.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

/// Who may use a target: its own lists where there are some, else those of `[iscsi]`.
pub(super) fn access(
    config: &Config,
    allow: Option<&Vec<String>>,
    initiators: Option<&Vec<String>>,
    accounts: &[Account],
) -> Access {
    let (allow, initiators) = (allow.unwrap_or(&config.iscsi.allow), initiators.unwrap_or(&config.iscsi.initiators));
    Access {
        initiators: initiators.iter().filter_map(|name| normal_name(name)).collect(),
        networks: allow.iter().filter_map(|text| text.parse().ok()).collect(),
        accounts: accounts.to_vec(),
    }
}

/// How a volume's blocks are presented: 512 bytes, eight of them in a physical block, where nothing else is said.
pub(super) fn shape(config: &Config, volume: &str) -> Shape {
    let rules = config.volume.get(volume).cloned().unwrap_or_default();
    let block_bytes = rules.block_bytes.unwrap_or(512);
    let physical = rules.physical_block_bytes.unwrap_or(4096).max(block_bytes);
    let physical_exponent = (physical / block_bytes).trailing_zeros() as u8;
    let (threshold_percent, write_cache) = (config.iscsi.threshold_percent, rules.write_cache.unwrap_or(true));
    Shape { block_bytes, physical_exponent, threshold_percent, write_cache }
}

/// The accounts of the config file, with their secrets read.
pub(super) fn accounts(config: &Config) -> Result<Vec<Account>, String> {
    let accounts: Vec<Account> =
        config.iscsi.user.iter().map(|(name, user)| account(name, user)).collect::<Result<_, _>>()?;
    for Account { name, mutual, .. } in &accounts {
        let own = mutual.as_ref().map(|(_, own)| own);
        if let Some(other) = accounts.iter().find(|other| own == Some(&other.secret)) {
            // Whoever has it could pose as the box, and have the box answer challenges for it (RFC 7143 section 12.1.3).
            return Err(format!(
                "iscsi.user.{name}.mutual_secret_file: the box has the same secret as iscsi.user.{}, which proves nothing",
                other.name
            ));
        }
    }
    Ok(accounts)
}

fn account(name: &str, user: &IscsiUser) -> Result<Account, String> {
    let key = format!("iscsi.user.{name}");
    let secret = read_secret(&format!("{key}.secret_file"), &user.secret_file)?;
    let mutual = match (&user.mutual_name, &user.mutual_secret_file) {
        (Some(own), Some(file)) => Some((own.clone(), read_secret(&format!("{key}.mutual_secret_file"), file)?)),
        (None, None) => None,
        _ => return Err(format!("{key}: mutual_name and mutual_secret_file belong together")),
    };
    Ok(Account { name: name.to_owned(), secret, mutual })
}

fn read_secret(key: &str, file: &Path) -> Result<Secret, String> {
    let text = std::fs::read(file).map_err(|error| format!("{key} {}: {error}", file.display()))?;
    let secret = text.trim_ascii();
    match secret.len() {
        SECRET_BYTES_MIN..=255 => Ok(Secret::new(secret)),
        len => Err(format!("{key} {}: a secret has {SECRET_BYTES_MIN} to 255 characters, not {len}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).expect("TOML of the right keys")
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_key() {
        check(&config("[target.db]\nvolumes=['a','b']\nallow=['10.0.0.0/8']\n[volume.a]\nblock_bytes=4096"))
            .expect("sound");
        for (text, key) in [
            ("[iscsi]\nallow=['everybody']", "iscsi.allow"),
            ("[iscsi]\niqn='disk'", "iscsi.iqn"),
            ("[iscsi]\nthreshold_percent=101", "iscsi.threshold_percent"),
            ("[volume.a]\ninitiators=['host']", "volume.a.initiators"),
            ("[volume.a]\nblock_bytes=1024", "volume.a.block_bytes"),
            ("[volume.a]\nphysical_block_bytes=8192", "volume.a.physical_block_bytes"),
            ("[volume.a]\nblock_bytes=4096\nphysical_block_bytes=512", "volume.a.physical_block_bytes"),
            ("[target.Db]\nvolumes=[]", "target.Db"),
            ("[target.db]\nvolumes=['a']\nallow=['10.0.0.0/99']", "target.db.allow"),
            ("[target.x]\nvolumes=['a']\n[target.y]\nvolumes=['a']", "target.y.volumes"),
            ("[target.x]\nvolumes=['a','a']", "target.x.volumes"),
            ("[target.x]\nvolumes=['a']\n[volume.a]\nallow=['::/0']", "volume.a"),
        ] {
            let wrong = check(&config(text)).expect_err(text);
            assert!(wrong.contains(key), "{text}: {wrong}");
        }
    }

    #[test]
    fn blocks_are_presented_as_the_file_says() {
        let shapes =
            "[volume.a]\nblock_bytes=4096\n[volume.b]\nphysical_block_bytes=512\n[volume.d]\nwrite_cache=false";
        let of = |name: &str| shape(&config(shapes), name);
        assert_eq!(of("a"), Shape::NATIVE_4096);
        assert_eq!(of("b"), Shape { physical_exponent: 0, ..Shape::EMULATED_512 });
        assert_eq!(of("c"), Shape::EMULATED_512);
        assert_eq!(of("d"), Shape { write_cache: false, ..Shape::EMULATED_512 });
    }

    #[test]
    fn the_box_has_no_secret_that_an_initiator_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let user = |name: &str, secret: &str, mutual: &str| {
            let file = |secret: &str| {
                let path = folder.path().join(secret);
                std::fs::write(&path, secret).expect("written");
                path.display().to_string()
            };
            let (secret, mutual) = (file(secret), file(mutual));
            format!("[iscsi.user.{name}]\nsecret_file='{secret}'\nmutual_name='box'\nmutual_secret_file='{mutual}'\n")
        };
        let of = |users: [String; 2]| accounts(&config(&users.concat()));
        let sound =
            [user("a", "secret of host a", "secret of the box"), user("b", "secret of host b", "secret of the box")];
        assert_eq!(of(sound).map(|accounts| accounts.len()), Ok(2));
        let same =
            [user("a", "secret of host a", "secret of host a"), user("b", "secret of host b", "secret of the box")];
        let of_another =
            [user("a", "secret of host a", "secret of host b"), user("b", "secret of host b", "secret of the box")];
        for (users, key) in [(same, "iscsi.user.a,"), (of_another, "iscsi.user.b,")] {
            let wrong = of(users).expect_err("refused");
            assert!(wrong.contains(key) && wrong.starts_with("iscsi.user.a.mutual_secret_file"), "{wrong}");
        }
    }
}
