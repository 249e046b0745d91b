//! Notices and the audit log to a log server: RFC 5424 over UDP (RFC 5426) or TCP (RFC 6587, counted octets).
//!
//! Whoever is root on the box can write its audit log anew. What a log server has by then he can't: each entry goes there with its place
//! in the chain, so that a log that was written anew shows.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::{Telling, Trouble, reach};
use crate::accounts::audit::Chained;
use crate::config;
use crate::config::notices::host_and_port;
use crate::notices::core::{Item, Kind, Severity};
use crate::notices::text::{self, Speaker, plain};

/// How long a server may take to answer, or to take what it is sent.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is waited for a word that nobody listens.
const ECHO: Duration = Duration::from_millis(200);
/// How long a server has to say that it got the end of a stream.
const FAREWELL: Duration = Duration::from_secs(5);
/// What a receiver should take in any case (RFC 5424, 6.1).
const MESSAGE_BYTES_MAX: usize = 2048;
/// Longest value of structured data, in bytes: all of them have room in a message, also where each byte has another one before it.
const VALUE_BYTES_MAX: usize = 256;
/// The enterprise number of examples (RFC 5612): the project has none of its own.
const ENTERPRISE: &str = "32473";

const DAEMON: u8 = 3;
const AUDIT: u8 = 13;

/// A log server.
#[derive(Clone, Debug)]
pub(in crate::notices) struct Syslog {
    server: String,
    is_tcp: bool,
    local: bool,
    pub audit: bool,
}

impl Syslog {
    pub fn of(config: &config::Notices) -> Option<Syslog> {
        let syslog = &config.syslog;
        let server = syslog.server.clone().filter(|server| !server.is_empty())?;
        Some(Syslog { server, is_tcp: syslog.is_tcp(), local: config.local, audit: syslog.audit.unwrap_or(true) })
    }

    pub fn target(&self) -> String {
        format!("{} by {}", self.server, if self.is_tcp { "TCP" } else { "UDP" })
    }

    pub fn tell(&self, speaker: &Speaker, telling: &Telling) -> Result<(), Trouble> {
        let notice = &telling.notice;
        let mut messages: Vec<String> = notice.items.iter().map(|item| of_item(speaker, telling, item)).collect();
        if notice.more > 0 || telling.skipped > 0 || notice.held.is_some() {
            let held = notice.held.map(|held| text::held_back(&held, &speaker.zone)).unwrap_or_default();
            let what = format!("{} more items, {} earlier notices were not told. {held}", notice.more, telling.skipped);
            let data = format!(
                "[held@{ENTERPRISE} n=\"{}\" more=\"{}\" skipped=\"{}\"]",
                notice.n, notice.more, telling.skipped
            );
            messages.push(message((DAEMON, 4), &text::rfc3339(notice.at), speaker, "held", &data, &what));
        }
        self.send(&messages)
    }

    pub fn pass_on(&self, speaker: &Speaker, entries: &[Chained]) -> Result<(), Trouble> {
        self.send(&entries.iter().map(|entry| of_entry(speaker, entry)).collect::<Vec<_>>())
    }

    fn send(&self, messages: &[String]) -> Result<(), Trouble> {
        let (host, port) = host_and_port(&self.server).map_err(Trouble::of)?;
        let mut last = Trouble::of("its host has no address");
        for address in reach::addresses(host, port, self.local)? {
            let sent = if self.is_tcp { by_tcp(address, messages) } else { by_udp(address, messages) };
            match sent {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    last = Trouble::of("nobody listens there")
                }
                Err(error) => last = Trouble::of(error.to_string()),
            }
        }
        Err(last)
    }
}

fn by_udp(address: SocketAddr, messages: &[String]) -> std::io::Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    for message in messages {
        socket.send(message.as_bytes())?;
    }
    // Nobody says that it arrived; that nobody listens there is said.
    socket.set_read_timeout(Some(ECHO))?;
    match socket.recv(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}

fn by_tcp(address: SocketAddr, messages: &[String]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let frames: String = messages.iter().map(|message| format!("{} {message}", message.len())).collect();
    stream.write_all(frames.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // Whoever closes in order has read it all. Who says nothing may have; who breaks off has not.
    let begun = Instant::now();
    let mut said = [0; 1024];
    loop {
        let left = FAREWELL.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut said) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn of_item(speaker: &Speaker, telling: &Telling, item: &Item) -> String {
    let notice = &telling.notice;
    let (word, severity) = match (item.kind, item.severity) {
        _ if telling.test => ("test", 5),
        (Kind::Over, _) => ("over", 5),
        (Kind::Event, Severity::Note) => ("event", 5),
        (Kind::Event, _) => ("event", 4),
        (Kind::Began, Severity::Problem) => ("problem", 3),
        (Kind::Began, _) => ("problem", 4),
        (Kind::Still, Severity::Problem) => ("still", 3),
        (Kind::Still, _) => ("still", 4),
    };
    let data = structured(
        "notice",
        &[
            ("n", &notice.n.to_string()),
            ("store", &speaker.store),
            ("key", &item.key),
            ("since", &text::rfc3339(item.since)),
            ("remedy", &item.remedy),
        ],
    );
    message((DAEMON, severity), &text::rfc3339(notice.at), speaker, word, &data, &item.what)
}

fn of_entry(speaker: &Speaker, chained: &Chained) -> String {
    let entry = &chained.entry;
    let (of, with) =
        (entry.of.map(|of| of.to_string()), if entry.with.is_null() { None } else { Some(entry.with.to_string()) });
    let data = structured(
        "audit",
        &[
            ("n", &entry.n.to_string()),
            ("chain", &chained.chain),
            ("store", &speaker.store),
            ("who", &entry.who),
            ("by", &entry.by),
            ("from", &entry.from),
            ("what", &entry.what),
            ("of", of.as_deref().unwrap_or_default()),
            ("outcome", entry.outcome.as_deref().unwrap_or_default()),
            ("with", with.as_deref().unwrap_or_default()),
        ],
    );
    let who = if entry.who.is_empty() { "nobody" } else { &entry.who };
    let what = match &entry.outcome {
        Some(outcome) => format!("{who}: {}: {outcome}", entry.what),
        None => format!("{who}: {}", entry.what),
    };
    let at = if entry.at.is_ascii() && entry.at.parse::<jiff::Timestamp>().is_ok() { entry.at.as_str() } else { "-" };
    message((AUDIT, 6), at, speaker, "audit", &data, &what)
}

/// An element of structured data; what is empty is left out.
fn structured(name: &str, values: &[(&str, &str)]) -> String {
    let mut data = format!("[{name}@{ENTERPRISE}");
    for (key, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        let mut value = plain(value);
        cut(&mut value, VALUE_BYTES_MAX);
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        data.push_str(&format!(" {key}=\"{value}\""));
    }
    data + "]"
}

/// A message (RFC 5424, 6).
fn message((facility, severity): (u8, u8), at: &str, speaker: &Speaker, kind: &str, data: &str, what: &str) -> String {
    let host: String = speaker.name.chars().filter(|c| c.is_ascii_graphic()).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let what = plain(what);
    // UTF-8 has to be said (6.4); what is ASCII is that, too.
    let mark = if what.is_ascii() { "" } else { "\u{feff}" };
    let process = std::process::id();
    let mut text =
        format!("<{}>1 {at} {host} narrowboat {process} {kind} {data} {mark}{what}", facility * 8 + severity);
    cut(&mut text, MESSAGE_BYTES_MAX);
    text
}

/// Leaves so many bytes at most, and no half letter.
fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::accounts::audit::Entry;

    fn speaker(name: &str) -> Speaker {
        Speaker { name: name.into(), store: "ab".into(), zone: TimeZone::UTC }
    }

    #[test]
    fn an_entry_of_the_audit_log_is_one_message_whatever_is_in_it() {
        let entry = Entry {
            n: 7,
            at: "2026-11-23T14:00:00.000Z".into(),
            who: "anna".into(),
            by: "session".into(),
            from: "192.168.7.4".into(),
            what: "dataset-delete".into(),
            with: json!({ "name": "a\"]\n<13>1 - - evil" }),
            ..Entry::default()
        };
        let message = of_entry(&speaker("bonn"), &Chained { entry, chain: "c0ffee".into() });
        let expected = format!(
            "<110>1 2026-11-23T14:00:00.000Z bonn narrowboat {} audit [audit@32473 n=\"7\" chain=\"c0ffee\" store=\"ab\" who=\"anna\" by=\"session\" from=\"192.168.7.4\" what=\"dataset-delete\" with=\"{{\\\"name\\\":\\\"a\\\\\\\"\\]\\\\n<13>1 - - evil\\\"}}\"] anna: dataset-delete",
            std::process::id()
        );
        assert_eq!(message, expected);
    }

    #[test]
    fn no_message_is_longer_than_receivers_take_nor_cut_in_a_letter() {
        let item = Item { what: "ß".repeat(5000), remedy: "]".repeat(5000), key: "k".into(), ..Item::default() };
        let telling = Telling { notice: Default::default(), skipped: 0, test: false };
        let message = of_item(&speaker("an office, größer"), &telling, &item);
        assert!(
            message.len() <= MESSAGE_BYTES_MAX
                && message.starts_with("<28>1 1970-01-01T00:00:00Z anoffice,grer narrowboat "),
            "{message}"
        );
        assert!(message.contains("\"] \u{feff}ß"), "{message}");
    }
}
