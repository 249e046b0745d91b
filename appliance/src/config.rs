//! The one config file: TOML, every key optional, unknown keys refused so that a typing error is not overlooked.
//!
//! ```toml
//! name = "branch"                 # how this box calls itself towards people and peers
//! time_zone = "Europe/London"     # of the hours below; the system's where nothing is said
//!
//! [nfs]
//! listen = "0.0.0.0:2049"         # "" for off
//! portmap = "0.0.0.0:111"         # answers where NFS is; "" for off (the default)
//! allow = ["192.168.7.0/24"]      # client networks of new shares; loopback alone where nothing is said
//! root_squash = true              # a client's root is nobody
//! read_only = false
//! privileged_ports = false        # true: clients must call from a port below 1024
//!
//! [share.office]                  # what differs for one share: allow, root_squash, read_only, drain_hours
//! root_squash = false
//!
//! [iscsi]
//! listen = ["0.0.0.0:3260"]       # one or several portals; [] for off
//! allow = ["192.168.7.0/24"]      # networks of initiators; loopback alone where nothing is said
//! initiators = []                 # names of initiators that may log in; any where none is said
//! iqn = "iqn.2026-11.net.narrowboat" # what target names begin with; the volume's name follows behind a colon
//! threshold_percent = 90          # how full the disk may be before initiators are warned; 0 never warns
//!
//! [iscsi.user.server1]            # CHAP: with one user or more, everybody has to be one
//! secret_file = "/etc/narrowboat/server1.secret"      # at least 12 characters
//! mutual_name = "box"             # how this box proves itself, if initiators ask it to
//! mutual_secret_file = "/etc/narrowboat/box.secret"
//!
//! [volume.disk1]                  # what differs for one volume: allow, initiators, drain_hours, and how it looks to initiators:
//! block_bytes = 512               # or 4096
//! physical_block_bytes = 4096     # what initiators align to; 512 for software that takes no others
//! write_cache = true              # false: every write is on the disk when it is answered, for software that never flushes
//!
//! [target.database]               # several volumes as units 0, 1, … of one target instead of each in its own
//! volumes = ["data", "log"]       # a volume's place is its unit's number, also while others of them do not exist
//! allow = ["192.168.7.4/32"]      # what differs for this target: allow, initiators
//!
//! [wan]
//! listen = "0.0.0.0:4433"         # QUIC; "" for off
//! rate = "20Mbit"                 # cap of the whole box; absent for none. `narrowboat limit --rate` outranks it for good
//! calendar = """                  # what counts instead in some hours: the first line that holds; dates outrank the week
//! mon-fri 08:00-18:00    4Mbit
//! sat-sun                unlimited
//! 2026-12-24..2027-01-01 unlimited
//! 2026-12-31 00:00-12:00 pause
//! """
//! receive = "50Mbit"              # cap of what the box receives, which its peers keep; receive_calendar likewise
//! overhead_bytes = 0              # what the line adds to each datagram beyond IP and UDP headers: 18 for Ethernet, 26 for PPPoE
//! dscp = true                     # marks for routers: control CS2, restore AF21, urgent AF11, scavenger LE; or { normal = "CS1" }, or false
//! compression = "adaptive"        # as hard as the line is slow; or "stored" (spares the processor), or a zstd level "1" to "19"
//! delta = true                    # send what changed as its difference from what the peer has
//! resemblance = true              # look for what moved, too
//! require_proofs = true           # take snapshots only from peers that prove to have what they need not send; false for older ones
//!
//! [peer.head-office]              # cap of what is sent to one peer, below that of the box
//! rate = "10Mbit"
//! calendar = "22:00-06:00 unlimited"
//! receive = "5Mbit"               # cap of what it sends here, below that of the box; receive_calendar likewise
//! recovery_point = "24h"          # how old a snapshot may be when it is there; sent as slowly as that allows
//! forwards = true                 # take from it also what other boxes made and it keeps: the second link of a chain
//!
//! [page]
//! listen = "0.0.0.0:443"          # where people find the box, by TLS; 127.0.0.1:8443 where nothing is said, "" for off
//! certificate_file = "/etc/narrowboat/page.pem"       # one that browsers trust, and those that vouch for it; the box's own where nothing is said
//! key_file = "/etc/narrowboat/page.key"
//! announce = true                 # neighbours find it as NAME.local (mDNS), on private networks alone
//!
//! [page.acme]                     # in place of the two files: an authority that gives the certificate (docs/certificates.md)
//! directory = "https://acme-v02.api.letsencrypt.org/directory"
//! names = ["backup.bonn.example.org"]
//! agree = true                    # to the authority's terms
//! contact = "admin@example.org"
//! listen = "0.0.0.0:80"           # where its question is answered, while an order is under way
//! account_id = "kid-1"            # where it gives to customers alone; with account_key_file
//! account_key_file = "/etc/narrowboat/acme.key"
//! ca_file = "/etc/narrowboat/house.pem"   # who signs the directory's own certificate; whom the system trusts where nothing is said
//!
//! [network]                       # the network of the machine itself (docs/network.md)
//! manage = false                  # true: the box sets it up, by files of systemd-networkd that it owns
//! interface = "eth0"              # which; the one with the way to other networks where nothing is said
//! trial = "60s"                   # how long a change is tried before it goes back by itself
//!
//! [store]
//! chunk_bytes = 16384             # average; counts when the store is created
//! cache = "96MiB"                 # decompressed objects kept in memory
//! overlay = "160MiB"              # data that may wait for the drain; at least 16MiB
//! reserve = "256MiB"              # free space below which writes are refused
//! realm_key_file = "realm.key"    # 64 hexadecimal digits; counts when the store is created
//! drain_hours = "22:00-06:00"     # when datasets with `--dedup deferred` are deduplicated; "mon-fri 20:00-06:00, sat 00:00-24:00"
//! deferred = "16GiB"              # journal that may wait for these hours; beyond, they are treated as inline ones
//! reclaim_pace = "64MiB"          # what reclaim reads and moves in a second at most, when it runs by itself
//!
//! [scrub]                         # everything is read now and then, before somebody needs it
//! every = "30d"                   # so long after the last one, counted while the box runs; "" for never by itself
//! rate = "16MiB"                  # a second, at most
//! hours = "22:00-06:00"           # when it may run; any time where nothing is said
//!
//! [recompress]                    # what is old is compressed with zstd where that gives room back, by a quarter of one processor
//! after = "7d"                    # old is what was stored before the box ran for so long; "" for never
//! quiet = "5m"                    # it begins once nobody has read or written for so long, and stops when somebody does
//!
//! [retention]
//! quarantine_days = 7             # what is deleted can be had back until the box has run for so long; 0: it is gone at once
//! empty_quarantine_when_full = false # true: where less than 2 % of the disk are free, what was deleted gives way, oldest first
//!
//! [hook.postgres]                 # what quiets an application around a mark: `narrowboat mark disk1 noon --hook postgres`
//! ssh = "root@db1"                # where the commands run; on the box where nothing is said
//! ssh_key_file = "/etc/narrowboat/db1.key"            # what ssh finds by itself where nothing is said
//! freeze = ["fsfreeze", "--freeze", "/var/lib/postgresql"]
//! thaw = ["fsfreeze", "--unfreeze", "/var/lib/postgresql"]
//! freeze_timeout = "30s"          # these three are the defaults; at most an hour
//! thaw_timeout = "30s"
//! hold = "30s"                    # longest time between freeze and thaw
//!
//! [hook.erp]
//! freeze = "https://erp.example/backup/freeze"        # a POST; any answer of 2xx is a yes
//! thaw = "https://erp.example/backup/thaw"
//! token_file = "/etc/narrowboat/erp.token"            # sent as Authorization: Bearer
//! ca_file = "/etc/narrowboat/erp.pem"                 # who signs its certificate; whom the system trusts where nothing is said
//!
//! [notices]                       # what the box tells by itself (docs/notices.md)
//! after = "5m"                    # a problem that lasts for so long is told,
//! remind = "24h"                  # and told again after so long; its end is told, too
//! per_hour = 10                   # notices, at most: beyond that what is to be told waits
//! lost_percent = 50               # so much gone of what a snapshot held is told; 0: never
//! local = false                   # true: servers on this machine itself may be told
//!
//! [notices.mail]                  # off while `to` is empty
//! to = ["anna@example.org"]
//! from = "backup@example.org"
//! server = "mail.example.org:465" # TLS from the beginning; with any other port, STARTTLS
//! tls = "implicit"                # or "starttls", where the port does not say it
//! user = "backup"                 # who signs in there; nobody where nothing is said
//! password_file = "/etc/narrowboat/mail.password"     # nobody but its owner may read it
//! ca_file = "/etc/narrowboat/mail.pem"                # who signs its certificate; whom the system trusts where nothing is said
//!
//! [notices.webhook]               # off without an address
//! address = "https://alerts.example.org/narrowboat"   # docs/formats/webhook.md
//! secret_file = "/etc/narrowboat/webhook.secret"      # signs what is sent; nobody but its owner may read it
//!
//! [notices.syslog]                # off without a server
//! server = "log.example.org:514"
//! protocol = "udp"                # or "tcp"
//! audit = true                    # the audit log, too
//!
//! [log]
//! level = "info"
//! ```

mod acme;
mod defaults;
mod dscp;
mod hook;
mod iscsi;
mod network;
mod nfs;
pub mod notices;
mod page;
mod recompress;
mod retention;
mod scrub;
pub mod settings;
mod wan;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use narrowboat_storage::chunk::ChunkSizes;
use narrowboat_wan::peer::PeerName;
use narrowboat_wan::shape::{Hours, zone_named};
use serde::{Deserialize, Deserializer};

use crate::ingest::exports::check_networks;
use crate::units::{ByteSize, parse_duration};

pub use acme::Acme;
pub use dscp::Marking;
pub use hook::{Call, Hook};
pub use iscsi::{Iscsi, IscsiUser, TargetRules, Volume};
pub use network::Network;
pub use nfs::{Nfs, ShareRules};
pub use notices::Notices;
pub use page::Page;
pub use recompress::Recompress;
pub use retention::Retention;
pub use scrub::Scrub;
pub use wan::{CapRules, Wan};

/// Least memory for data that waits for the drain: below it each drain would move less than it costs.
pub const OVERLAY_BYTES_MIN: u64 = 16 << 20;

/// Least journal that may wait for hours: below it, waiting would be over before it began.
pub const DEFERRED_BYTES_MIN: u64 = 64 << 20;

/// What the config file may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file that it was read from, or would be.
    #[serde(skip)]
    pub file: PathBuf,
    /// What was read.
    #[serde(skip)]
    pub text: String,
    /// How this box calls itself; the host name where nothing is said.
    pub name: Option<String>,
    /// The time zone of hours, as in "Europe/London"; the system's where nothing is said.
    pub time_zone: Option<String>,
    /// The NFS server.
    pub nfs: Nfs,
    /// The page for people.
    pub page: Page,
    /// The network of the machine.
    pub network: Network,
    /// Replication.
    pub wan: Wan,
    /// The store.
    pub store: Store,
    /// How often everything is read.
    pub scrub: Scrub,
    /// When what is old is compressed once more.
    pub recompress: Recompress,
    /// How long what is deleted can be had back.
    pub retention: Retention,
    /// What the box tells by itself.
    pub notices: Notices,
    /// What is logged.
    pub log: Log,
    /// Rules of single shares, by name; they override those of `[nfs]`.
    pub share: BTreeMap<String, ShareRules>,
    /// The iSCSI target.
    pub iscsi: Iscsi,
    /// Rules of single volumes, by name; they override those of `[iscsi]`.
    pub volume: BTreeMap<String, Volume>,
    /// Targets with several volumes, by name.
    pub target: BTreeMap<String, TargetRules>,
    /// Caps of what is sent to single peers, by name.
    pub peer: BTreeMap<String, CapRules>,
    /// What quiets applications around a mark, by name.
    pub hook: BTreeMap<String, Hook>,
}

/// `[store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Average chunk size of a new store, in bytes.
    pub chunk_bytes: Option<usize>,
    /// Memory for decompressed objects.
    pub cache: Option<ByteSize>,
    /// Memory for data that waits for the drain.
    pub overlay: Option<ByteSize>,
    /// Free disk space below which writes are refused.
    pub reserve: Option<ByteSize>,
    /// File with the 32-byte realm key of a new store, as 64 hexadecimal digits.
    pub realm_key_file: Option<PathBuf>,
    /// When datasets are deduplicated that wait for it; every night where nothing is said.
    #[serde(deserialize_with = "hours")]
    pub drain_hours: Option<Hours>,
    /// Bytes of journal that may wait for these hours.
    pub deferred: Option<ByteSize>,
    /// What reclaim reads and moves in a second at most, when it runs by itself.
    pub reclaim_pace: Option<ByteSize>,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// error, warn, info, debug, trace; or a filter as `tracing` takes it.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into() }
    }
}

/// A config file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("can't read the config file {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that makes no sense.
    #[error("the config file {path} is wrong: {why}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What and where.
        why: String,
    },
}

/// A length of time, where none is said "never".
fn seconds_or_never(key: &str, text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    parse_duration(text).map(Some).map_err(|refusal| format!("{key}: {refusal}"))
}

impl Config {
    /// Reads `file`, or `narrowboat.toml` in the data folder where there is one, or uses the defaults.
    pub fn load(file: Option<&Path>, data: &Path) -> Result<Config, ConfigError> {
        let default = data.join("narrowboat.toml");
        let path = match file {
            Some(file) => file.to_owned(),
            None if default.exists() => default,
            None => return Ok(Config { file: default, ..Config::default() }),
        };
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let read = Config::read(&text).map_err(|why| ConfigError::Wrong { path: path.clone(), why });
        Ok(Config { file: path, text, ..read? })
    }

    /// Reads the text of a config file; refused with what is wrong.
    pub fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate()?;
        check_networks(&config)?;
        Ok(config)
    }

    /// Finds what TOML's types alone do not.
    fn validate(&self) -> Result<(), String> {
        for (key, text) in
            [("nfs.listen", &self.nfs.listen), ("nfs.portmap", &self.nfs.portmap), ("wan.listen", &self.wan.listen)]
        {
            listen_address(key, text)?;
        }
        for text in &self.iscsi.listen {
            text.parse::<SocketAddr>().map_err(|_| {
                format!("iscsi.listen = [{text:?}]: expected addresses and ports such as \"0.0.0.0:3260\"")
            })?;
        }
        if let Some(name) = &self.time_zone {
            zone_named(name).map_err(|refusal| format!("time_zone: {refusal}"))?;
        }
        self.wan.caps().validate("wan", &self.zone())?;
        for (name, rules) in &self.peer {
            name.parse::<PeerName>().map_err(|refusal| format!("peer.{name}: {refusal}"))?;
            rules.validate(&format!("peer.{name}"), &self.zone())?;
        }
        self.page.check()?;
        self.network.check()?;
        self.notices.check()?;
        self.wan.compression()?;
        self.scrub.check()?;
        self.recompress.check()?;
        self.retention.check()?;
        self.wan.dscp.marks()?;
        if let Some(bytes) = self.store.chunk_bytes {
            ChunkSizes::around(bytes).map_err(|error| format!("store.chunk_bytes = {bytes}: {error}"))?;
        }
        if let Some(name) = &self.name {
            name.parse::<PeerName>().map_err(|refusal| format!("name = {name:?}: {refusal}"))?;
        }
        if self.store.deferred.is_some_and(|bytes| bytes.0 < DEFERRED_BYTES_MIN) {
            return Err(format!("store.deferred: at least {}", ByteSize(DEFERRED_BYTES_MIN)));
        }
        for (name, hook) in &self.hook {
            hook.validate(&format!("hook.{name}"))?;
        }
        if let Some(overlay) = self.store.overlay.filter(|overlay| overlay.0 < OVERLAY_BYTES_MIN) {
            return Err(format!("store.overlay = {:?}: at least {}", overlay.to_string(), ByteSize(OVERLAY_BYTES_MIN)));
        }
        Ok(())
    }

    /// The time zone of hours and calendars; a name that is not known was refused when the config was read.
    pub fn zone(&self) -> TimeZone {
        let named = self.time_zone.as_deref().and_then(|name| zone_named(name).ok());
        named.unwrap_or_else(TimeZone::system)
    }

    /// Where NFS listens, if it does.
    pub fn nfs_address(&self) -> Option<SocketAddr> {
        self.nfs.listen.parse().ok()
    }

    /// Where iSCSI is served: the portals.
    pub fn iscsi_addresses(&self) -> Vec<SocketAddr> {
        self.iscsi.listen.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Where portmapper calls are answered, if they are.
    pub fn portmap_address(&self) -> Option<SocketAddr> {
        self.nfs.portmap.parse().ok()
    }

    /// Where QUIC listens, if it does.
    pub fn wan_address(&self) -> Option<SocketAddr> {
        self.wan.listen.parse().ok()
    }
}

fn hours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Hours>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn listen_address(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{key} = {text:?}: expected an address and a port such as \"0.0.0.0:2049\", or \"\" for off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("narrowboat.toml"), text).expect("written");
        Config::load(None, folder.path())
    }

    #[test]
    fn nothing_is_required() {
        let config = parse("").expect("sound");
        assert!(config.nfs.root_squash);
        assert!(config.nfs_address().expect("on").ip().is_loopback(), "nothing is open that need not be");
    }

    #[test]
    fn keys_are_read_and_wrong_ones_refused() {
        let config = parse("name='b'\n[nfs]\nlisten=''\n[store]\ncache='64MiB'\n[share.backup]\nroot_squash=false")
            .expect("sound");
        assert_eq!(config.nfs_address(), None);
        assert_eq!(config.store.cache, Some(ByteSize(64 << 20)));
        assert_eq!(config.share["backup"].root_squash, Some(false));
        for (wrong, key) in [
            ("[nfs]\nlisten='nowhere'", "nfs.listen"),
            ("[nfs]\nroot_squish=true", "root_squish"),
            ("[store]\ncache='many'", "cache"),
            ("[store]\noverlay='1MiB'", "store.overlay"),
            ("[store]\nchunk_bytes=7", "store.chunk_bytes"),
            ("[page]\nlisten='here'", "page.listen"),
            ("[page]\nkey_file='a'", "page.key_file"),
            ("[notices]\nafter='soon'", "notices.after"),
            ("[notices]\nremind='0s'", "notices.remind"),
            ("[notices]\nper_hour=0", "notices.per_hour"),
            ("[notices]\nlost_percent=5", "notices.lost_percent"),
            ("[notices.mail]\nto=['anna']", "notices.mail.to"),
            ("[notices.mail]\nto=['a@b.de\\r\\nBcc: c@d.de']", "notices.mail.to"),
            ("[notices.mail]\nto=['a@b.de']\nserver='m:25'", "notices.mail.from"),
            ("[notices.mail]\nto=['a@b.de']\nfrom='c@d.de'", "notices.mail.server"),
            ("[notices.mail]\nserver='m'", "notices.mail.server"),
            ("[notices.mail]\ntls='none'", "notices.mail.tls"),
            ("[notices.mail]\nuser='a'", "notices.mail.password_file"),
            ("[notices.mail]\npassword='a'", "password"),
            ("[notices.webhook]\naddress='http://a/'", "notices.webhook.address"),
            ("[notices.webhook]\naddress='https://a:b@c/'", "notices.webhook.address"),
            ("[notices.syslog]\nserver='log'", "notices.syslog.server"),
            ("[notices.syslog]\nprotocol='tls'", "notices.syslog.protocol"),
            ("[page]\ncertificate_file='a'", "page.certificate_file"),
            ("[wan]\nrate='fast'", "wan.rate"),
            ("[wan]\ncompression='25'", "wan.compression"),
            ("[wan]\ncalendar='night 4Mbit'", "wan.calendar"),
            ("[wan]\nreceive='fast'", "wan.receive"),
            ("[peer.office]\nreceive_calendar='night 4Mbit'", "peer.office.receive_calendar"),
            ("[peer.office]\nrate='20MB'", "peer.office.rate"),
            ("[peer.office]\ncalendar='mon pause\\nnever'", "peer.office.calendar"),
            ("[peer.office]\nrecovery_point='soon'", "peer.office.recovery_point"),
            ("[peer.office]\nrecovery_point='1s'", "peer.office.recovery_point"),
            ("[peer.'a b']\nrate='20Mbit'", "peer.a b"),
            ("name='a b/c@d'", "name"),
            ("time_zone='Atlantis/Capital'", "time_zone"),
            ("[store]\ndrain_hours='at night'", "drain_hours"),
            ("[scrub]\nevery='often'", "scrub.every"),
            ("[scrub]\nrate='0'", "scrub.rate"),
            ("[recompress]\nafter='old'", "recompress.after"),
            ("[recompress]\nquiet=''", "recompress.quiet"),
            ("[retention]\nquarantine_days=400", "retention.quarantine_days"),
            ("[retention]\nquarantine_days=-1", "quarantine_days"),
            ("[volume.disk]\ndrain_hours='22-6'", "drain_hours"),
            ("[store]\ndeferred='1MiB'", "store.deferred"),
            ("[hook.db]\nfreeze=['a']", "thaw"),
            ("[hook.db]\nfreeze=[]\nthaw=['b']", "hook.db.freeze"),
            ("[hook.db]\nfreeze='ftp://x'\nthaw=['b']", "hook.db.freeze"),
            ("[hook.db]\nfreeze=['a']\nthaw=['b']\nhold='2h'", "hook.db.hold"),
            ("[hook.db]\nfreeze=['a']\nthaw=['b']\nthaw_timeout='0s'", "hook.db.thaw_timeout"),
            ("[hook.db]\nssh='-oProxyCommand=x'\nfreeze=['a']\nthaw=['b']", "hook.db.ssh"),
            ("[hook.db]\nssh='a@b'\nfreeze='http://x/'\nthaw=['b']", "hook.db.ssh"),
        ] {
            let error = parse(wrong).expect_err(wrong);
            assert!(matches!(error, ConfigError::Wrong { .. }) && error.to_string().contains(key), "{error}");
        }
    }
}
