//! What disks this machine has, and what is on them: `lsblk`'s JSON, taken apart.

use serde::{Deserialize, Serialize};

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
    mountpoints: Vec<Option<String>>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first half of its id.
    pub id: String,
    /// Its partitions that are here.
    pub partitions: Vec<String>,
    /// The id of the whole, as `mdadm` writes it, where a partition tells.
    pub uuid: Option<String>,
    /// The device that the kernel made of them, where it has.
    pub device: Option<OnArray>,
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

    /// The disk that a person means by its path or its serial number.
    pub fn disk(&self, named: &str) -> Option<&Device> {
        let short = named.strip_prefix("/dev/").unwrap_or(named);
        if let Some(disk) = self.disks.iter().find(|disk| disk.path.strip_prefix("/dev/") == Some(short)) {
            return Some(disk);
        }
        // Some docks give all their disks one number: that names none of them.
        let mut numbered = self.disks.iter().filter(|disk| disk.serial.as_deref().map(str::trim) == Some(named));
        numbered.next().filter(|_| numbered.next().is_none())
    }

    /// The arrays of ours that are on the disks.
    pub fn arrays(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for partition in self.disks.iter().flat_map(|disk| &disk.children) {
            let Some(id) = partition.array_id() else { continue };
            let place = found.iter().position(|array| array.id == id).unwrap_or_else(|| {
                found.push(Found { id: id.to_owned(), partitions: Vec::new(), uuid: None, device: None });
                found.len() - 1
            });
            let array = &mut found[place];
            array.partitions.push(partition.path.clone());
            if partition.holds.as_deref() == Some("linux_raid_member") {
                array.uuid = array.uuid.take().or_else(|| partition.uuid.clone());
            }
            array.device = array.device.take().or_else(|| partition.children.first().map(Device::on_array));
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
        };
        self.disks.iter().map(listed).collect()
    }
}

impl Found {
    /// Whether it was made to its end, as far as that can be seen: not before the kernel has put it together.
    pub fn made(&self) -> Option<bool> {
        self.device.as_ref().map(|device| device.label.as_deref() == Some(MADE))
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
