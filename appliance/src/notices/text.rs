//! Notices in words: a subject, and a text for people.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::core::{Held, Item, Kind, Notice, Severity};

/// Longest sentence, in characters.
const PLAIN_MAX: usize = 600;
/// Longest subject of a mail, in characters.
const SUBJECT_MAX: usize = 120;

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// How the box calls itself.
    pub name: String,
    /// Its store's id: what stays when it is called otherwise.
    pub store: String,
    /// The clock on its wall.
    pub zone: TimeZone,
}

/// One line of what others may have chosen: names of datasets, peers and users, and what servers said. No controls, no ends of
/// lines, nothing that can't be seen or turns the direction of writing; and an end.
pub fn plain(text: &str) -> String {
    let mut line = String::new();
    let mut space = false;
    for character in text.chars() {
        match character {
            ' ' | '\u{2028}' | '\u{2029}' => space = true,
            _ if character.is_control() => space = true,
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{ad}'
            | '\u{61c}' => {}
            _ => {
                if std::mem::take(&mut space) && !line.is_empty() {
                    line.push(' ');
                }
                line.push(character);
            }
        }
    }
    if let Some((end, _)) = line.char_indices().nth(PLAIN_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// What a mail is called: "bonn: PROBLEM The disk is full, or nearly."
pub fn subject(speaker: &Speaker, notice: &Notice) -> String {
    let began: Vec<&Item> = notice.items.iter().filter(|item| item.kind == Kind::Began).collect();
    let said = match (notice.items.as_slice(), began.as_slice()) {
        ([one], _) => format!("{} {}", word(one), one.what),
        (_, [one]) => format!("{} {} (and {} more)", word(one), one.what, notice.items.len() as u64 - 1 + notice.more),
        _ => counts(notice),
    };
    let whole = plain(&format!("{}: {said}", speaker.name));
    match whole.char_indices().nth(SUBJECT_MAX) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// "3 new problems, 1 is over".
fn counts(notice: &Notice) -> String {
    let count = |kind| notice.items.iter().filter(|item| item.kind == kind).count();
    let mut said = Vec::new();
    for (kind, one, many) in [
        (Kind::Began, "1 new problem", "new problems"),
        (Kind::Still, "1 problem lasts", "problems last"),
        (Kind::Over, "1 problem is over", "problems are over"),
        (Kind::Event, "1 thing happened", "things happened"),
    ] {
        match count(kind) {
            0 => {}
            1 => said.push(one.to_owned()),
            number => said.push(format!("{number} {many}")),
        }
    }
    said.join(", ")
}

/// What an item is, in one word.
pub fn word(item: &Item) -> &'static str {
    match (item.kind, item.severity) {
        (Kind::Began, Severity::Problem) => "PROBLEM",
        (Kind::Began, _) => "WARNING",
        (Kind::Still, _) => "STILL",
        (Kind::Over, _) => "OVER",
        (Kind::Event, Severity::Note) => "NOTE",
        (Kind::Event, _) => "ATTENTION",
    }
}

/// The text of a mail.
pub fn body(speaker: &Speaker, notice: &Notice) -> String {
    let mut text =
        format!("This is {}, a backup box (narrowboat {}).\n", plain(&speaker.name), env!("CARGO_PKG_VERSION"));
    for item in &notice.items {
        let _ = write!(text, "\n{}  {}\n", word(item), item.what);
        let since = moment(item.since, &speaker.zone);
        let _ = match item.kind {
            Kind::Event => writeln!(text, "    When: {since}"),
            Kind::Over => writeln!(text, "    It was so since {since}, and is not any more."),
            Kind::Began | Kind::Still => writeln!(text, "    Since: {since}"),
        };
        if !item.remedy.is_empty() {
            let _ = writeln!(text, "    What to do: {}", item.remedy);
        }
    }
    if notice.more > 0 {
        let _ = writeln!(
            text,
            "\nThere are {} more: `narrowboat status` on the box, or its page, shows them all.",
            notice.more
        );
    }
    if let Some(held) = notice.held {
        let _ = writeln!(text, "\n{}", held_back(&held, &speaker.zone));
    }
    let at = moment(notice.at, &speaker.zone);
    let _ = write!(
        text,
        "\n`narrowboat status` on the box, or its page, shows how it is now.\nThis is notice {} of this box, made {at}. Who gets them, and when, stands below [notices] in its config file.\n",
        notice.n
    );
    text
}

/// That some of it had to wait.
pub fn held_back(held: &Held, zone: &TimeZone) -> String {
    let since = moment(held.since, zone);
    let lost = match held.lost {
        0 => String::new(),
        lost => format!(" {lost} more things happened than are told here: the audit log has them."),
    };
    format!("Nothing was told since {since}, because as many notices as an hour may have had been sent.{lost}")
}

/// A moment by the clock on the wall, with the zone.
pub fn moment(seconds: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let at = at.unwrap_or_default().to_zoned(zone.clone());
    at.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A moment for programs (RFC 3339).
pub fn rfc3339(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: Kind, what: &str) -> Item {
        Item {
            kind,
            severity: Severity::Problem,
            key: "k".into(),
            what: what.into(),
            remedy: "Look.".into(),
            since: 60,
        }
    }

    fn speaker() -> Speaker {
        Speaker { name: "bonn".into(), store: "00".into(), zone: TimeZone::UTC }
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(plain("a\r\nBcc: x\u{202e}y \0 z\u{2028}"), "a Bcc: xy z");
        assert_eq!(plain(&"x".repeat(9000)).chars().count(), PLAIN_MAX + 1);
        let subject =
            subject(&speaker(), &Notice { items: vec![item(Kind::Began, &"ß".repeat(600))], ..Notice::default() });
        assert_eq!(subject.chars().count(), SUBJECT_MAX + 1);
    }

    #[test]
    fn a_mail_says_who_what_and_what_to_do() {
        let mut notice =
            Notice { n: 3, at: 120, items: vec![item(Kind::Began, "The disk is full.")], ..Notice::default() };
        assert_eq!(subject(&speaker(), &notice), "bonn: PROBLEM The disk is full.");
        notice.items.push(item(Kind::Over, "The peer hub was not reached."));
        assert_eq!(subject(&speaker(), &notice), "bonn: PROBLEM The disk is full. (and 1 more)");
        notice.items.push(item(Kind::Began, "Films is late."));
        (notice.more, notice.held) = (7, Some(Held { since: 0, lost: 5 }));
        assert_eq!(subject(&speaker(), &notice), "bonn: 2 new problems, 1 problem is over");
        let text = body(&speaker(), &notice);
        for part in [
            "This is bonn",
            "PROBLEM  The disk is full.",
            "Look.",
            "OVER",
            "1970-01-01 00:01:00 UTC",
            "7 more",
            "5 more things",
            "notice 3",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
