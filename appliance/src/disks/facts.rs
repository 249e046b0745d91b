//! What disks this machine has, and what is on them: `lsblk`'s JSON, taken apart.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::smart::Smart;

/// What `lsblk` is asked for.
pub const LSBLK: [&str; 5] = [
    "--json",
    "--bytes",
    "--paths",
    "--output",
    "NAME,TYPE,SIZE,MODEL,SERIAL,ROTA,RO,FSTYPE,LABEL,UUID,PARTLABEL,MOUNTPOINTS,TRAN",
];

/// A partition of an array carries this name, with the first half of the array's id behind it.
pub const PARTITION: &str = "narrowboat-";

/// The label of what lies directly on the disks' array once it is made to its end.
pub const MADE: &str = "narrowboat";

/// The same while it is not made to its end yet.
pub const BEGUN: &str = "narrowboat-new";

/// A block device as `lsblk` shows it, with all that lies on it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Device {
    /// The path of its node.
    #[serde(rename = "name")]
    pub path: String,
    /// What it is: disk, part, raid1, crypt, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its size.
    #[serde(rename = "size", default)]
    pub size_bytes: u64,
    /// What its maker calls it.
    #[serde(default)]
    pub model: Option<String>,
    /// Its own number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Whether it turns.
    #[serde(rename = "rota", default)]
    pub rotational: bool,
    /// Whether it can't be written.
    #[serde(rename = "ro", default)]
    pub read_only: bool,
    /// What is on it, where that is known.
    #[serde(rename = "fstype", default)]
    pub holds: Option<String>,
    /// The label of that.
    #[serde(default)]
    pub label: Option<String>,
    /// The UUID of that.
    #[serde(default)]
    pub uuid: Option<String>,
    /// The partition's name.
    #[serde(rename = "partlabel", default)]
    pub partition_name: Option<String>,
    #[serde(default)]
    pub(super) mountpoints: Vec<Option<String>>,
    /// How it is connected.
    #[serde(rename = "tran", default)]
    pub transport: Option<String>,
    /// What lies on it.
    #[serde(default)]
    pub children: Vec<Device>,
}

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

/// What is known of this machine's disks.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its disks.
    pub disks: Vec<Device>,
}

/// An array that was found on the disks, whole or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first half of its id.
    pub id: String,
    /// Its partitions that are here.
    pub partitions: Vec<String>,
    /// The disks that these are on, by serial number or path.
    pub disks: Vec<String>,
    /// The id of the whole, as `mdadm` writes it, where a partition tells.
    pub uuid: Option<String>,
    /// The device that the kernel made of them, where it has.
    pub device: Option<OnArray>,
    /// The device that it has begun to make of them: it holds them, and waits for others.
    pub held: Option<String>,
}

/// What lies on the kernel's device of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnArray {
    /// Its path.
    pub path: String,
    /// What is on it.
    pub holds: Option<String>,
    /// The label of that.
    pub label: Option<String>,
    /// The decrypted device on it, where it is open.
    pub opened: Option<String>,
    /// Where it is mounted.
    pub mounted: Option<String>,
}

/// A disk as a command prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedDisk {
    /// The path of its node.
    pub path: String,
    /// Its own number, by which a person finds it.
    pub serial: Option<String>,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it turns.
    pub rotational: bool,
    /// How it is connected.
    pub transport: Option<String>,
    /// Whether an array may be made of it without anything being lost.
    pub free: bool,
    /// What is on it, in words.
    pub used: String,
    /// What it says of itself.
    #[serde(default)]
    pub health: Smart,
}

impl Facts {
    /// Takes apart what `lsblk` said.
    pub fn parse(json: &[u8]) -> Result<Facts, serde_json::Error> {
        let listing: Listing = serde_json::from_slice(json)?;
        let real = |device: &Device| {
            let memory = ["/dev/zram", "/dev/ram"].iter().any(|prefix| device.path.starts_with(prefix));
            device.kind == "disk" && device.size_bytes > 0 && !memory
        };
        Ok(Facts { disks: listing.blockdevices.into_iter().filter(real).collect() })
    }

    /// The disk that a person means by its path or its serial number; else a sentence on why it is none.
    pub fn disk(&self, named: &str) -> Result<&Device, String> {
        if let Some(disk) = self.at(named) {
            return Ok(disk);
        }
        let has_number = |disk: &&Device| disk.serial.as_deref().map(str::trim) == Some(named.trim());
        let numbered: Vec<&Device> = self.disks.iter().filter(has_number).collect();
        match numbered.as_slice() {
            [disk] => Ok(disk),
            [] => Err(format!("there is no disk {named}; `narrowboat disks list` shows those that there are")),
            // Some docks give all their disks one number: that names none of them.
            several => {
                let paths: Vec<&str> = several.iter().map(|disk| disk.path.as_str()).collect();
                Err(format!(
                    "{} disks have the serial number {named} ({}), as some docks give it to all of theirs: name the one that you mean by its path",
                    paths.len(),
                    paths.join(", ")
                ))
            }
        }
    }

    /// The disk with that path, with or without `/dev/`.
    pub fn at(&self, path: &str) -> Option<&Device> {
        let short = path.strip_prefix("/dev/").unwrap_or(path);
        self.disks.iter().find(|disk| disk.path.strip_prefix("/dev/") == Some(short))
    }

    /// The arrays of ours that are on the disks.
    pub fn arrays(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let partitions = self.disks.iter().flat_map(|disk| disk.children.iter().map(move |child| (disk, child)));
        for (disk, partition) in partitions {
            let Some(id) = partition.array_id() else { continue };
            let place = found.iter().position(|array| array.id == id).unwrap_or_else(|| {
                found.push(Found { id: id.to_owned(), ..Found::default() });
                found.len() - 1
            });
            let array = &mut found[place];
            array.partitions.push(partition.path.clone());
            array.disks.push(disk.called().to_owned());
            if partition.holds.as_deref() == Some("linux_raid_member") {
                array.uuid = array.uuid.take().or_else(|| partition.uuid.clone());
            }
            // One that the kernel has only begun has no size yet: nothing can be read there, so it tells nothing of what the array holds.
            let (held, on): (Vec<&Device>, Vec<&Device>) = partition.children.iter().partition(|on| on.size_bytes == 0);
            array.device = array.device.take().or_else(|| on.first().map(|on| on.on_array()));
            array.held = array.held.take().or_else(|| held.first().map(|on| on.path.clone()));
        }
        found
    }

    /// All disks, as a command prints them.
    pub fn listed(&self) -> Vec<ListedDisk> {
        let listed = |disk: &Device| ListedDisk {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
            model: disk.model.as_deref().map(str::trim).map(str::to_owned),
            size_bytes: disk.size_bytes,
            rotational: disk.rotational,
            transport: disk.transport.clone(),
            free: disk.used().is_none() && !disk.read_only,
            used: disk.used().unwrap_or_else(|| "nothing".into()),
            health: Smart::default(),
        };
        self.disks.iter().map(listed).collect()
    }
}

impl Found {
    /// Whether it was made to its end, as far as that can be seen: not before the kernel has put it together. Only what bears the mark of it was begun, or
    /// what holds nothing; what has another label was given it by somebody.
    pub fn made(&self) -> Option<bool> {
        let device = self.device.as_ref()?;
        match (device.label.as_deref(), &device.holds) {
            (Some(MADE), _) => Some(true),
            (Some(BEGUN), _) | (None, None) => Some(false),
            _ => None,
        }
    }

    /// Whether what is on it is mounted there.
    pub fn is_mounted_at(&self, folder: &Path) -> bool {
        let mounted = self.device.as_ref().and_then(|on| on.mounted.as_ref());
        mounted.is_some_and(|at| Path::new(at) == folder)
    }
}

impl Device {
    /// The first half of the id of the array that this partition belongs to.
    pub fn array_id(&self) -> Option<&str> {
        let id = self.partition_name.as_deref()?.strip_prefix(PARTITION)?;
        (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    }

    /// Where it, or anything on it, is mounted (or swapped to).
    pub fn mounted(&self) -> Option<&str> {
        let here = self.mountpoints.iter().flatten().map(String::as_str).next();
        here.or_else(|| self.children.iter().find_map(Device::mounted))
    }

    /// What a person calls it: its serial number, or its path where it shows none.
    pub fn called(&self) -> &str {
        let serial = self.serial.as_deref().map(str::trim).filter(|serial| !serial.is_empty());
        serial.unwrap_or(&self.path)
    }

    /// What is on it, in words; nothing where it is empty.
    pub fn used(&self) -> Option<String> {
        if let Some(at) = self.mounted() {
            return Some(format!("mounted at {at}"));
        }
        if let Some(id) = self.children.iter().find_map(Device::array_id) {
            return Some(format!("part of the array {id}"));
        }
        match (&self.holds, self.children.len()) {
            (Some(holds), _) => Some(holds.clone()),
            (None, 0) => None,
            (None, 1) => Some("1 partition".into()),
            (None, partitions) => Some(format!("{partitions} partitions")),
        }
    }

    fn on_array(&self) -> OnArray {
        let opened = self.children.iter().find(|child| child.kind == "crypt");
        OnArray {
            path: self.path.clone(),
            holds: self.holds.clone(),
            label: self.label.clone(),
            opened: opened.map(|child| child.path.clone()),
            mounted: self.mounted().map(str::to_owned),
        }
    }
}
