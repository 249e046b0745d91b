//! What counts of a setting where the config file says nothing, and what it is counted in, for people who change it.

use serde_json::{Value, json};

use super::Config;
use super::page::DEFAULT_ADDRESS;

/// What counts where nothing is said; nothing where that hangs on something else: a single share's is that of all shares. A `*` in a key stands for a name.
pub(super) fn default(key: &str) -> Option<Value> {
    let config = Config::default();
    Some(match key {
        // The machine's own name and zone.
        "name" | "time_zone" => return None,
        "nfs.listen" => json!(config.nfs.listen),
        "nfs.portmap" => json!(config.nfs.portmap),
        "nfs.allow" | "share.*.allow" => json!(config.nfs.allow),
        "nfs.root_squash" | "share.*.root_squash" => json!(config.nfs.root_squash),
        "nfs.read_only" | "share.*.read_only" => json!(config.nfs.read_only),
        "iscsi.listen" => json!(config.iscsi.listen),
        "iscsi.allow" | "volume.*.allow" => json!(config.iscsi.allow),
        "iscsi.initiators" | "volume.*.initiators" => json!(config.iscsi.initiators),
        "wan.listen" => json!(config.wan.listen),
        "page.listen" => json!(DEFAULT_ADDRESS),
        "page.announce" => json!(true),
        "notices.after" => json!("5m"),
        "notices.remind" => json!("24h"),
        "notices.per_hour" => json!(config.notices.rules().per_hour),
        "notices.lost_percent" => json!(config.notices.lost_percent()),
        "notices.mail.to" => json!(config.notices.mail.to),
        "notices.mail.from" | "notices.mail.server" | "notices.mail.tls" => json!(""),
        "notices.webhook.address" | "notices.syslog.server" => json!(""),
        "notices.syslog.protocol" => json!("udp"),
        "notices.syslog.audit" => json!(true),
        "store.drain_hours" => json!(narrowboat_wan::shape::Hours::nights().to_string()),
        "scrub.every" => json!(config.scrub.every),
        "scrub.hours" => json!(""),
        "recompress.after" => json!(config.recompress.after),
        "retention.quarantine_days" => json!(config.retention.quarantine_days),
        _ => return None,
    })
}

/// What a value is counted in, or how it is written; empty where there is nothing to say.
pub(super) fn unit(key: &str) -> &'static str {
    let last = key.rsplit('.').next().unwrap_or(key);
    match last {
        "listen" | "portmap" => "address:port",
        "allow" => "network/bits, one a line",
        "initiators" => "names, one a line",
        "drain_hours" | "hours" => "hours of the week",
        "to" => "mail addresses, one a line",
        "server" => "host:port",
        "every" | "after" | "remind" => "a length of time: 90s, 30min, 12h, 7d",
        "quarantine_days" => "a number of days",
        "time_zone" => "a place of the IANA database",
        _ => "",
    }
}
