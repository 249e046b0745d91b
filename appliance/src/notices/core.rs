//! Which notices there are to be: a value that is given the time, what is wrong now and what happened, and gives notices. It asks nobody for anything.
//!
//! ```text
//!            lasts `after`               gone `after` (longer each time it came back)
//!   seen ──────────────────► told ──────────────────────────────────────────────► over, told
//!    │                        │ ▲                                                   │
//!    │ gone `after`: nothing  └─┘ every `remind`                                    │ seen again within a day: it came back
//!    ▼                                                                              ▼
//!   forgotten                                                                      seen
//! ```
//!
//! - What is told at once is one notice. Where `per_hour` of them were made in the last hour, everything waits, and the next one says so.
//! - What was waiting and is over meanwhile is told as such; of events beyond [`WAITING_MAX`] their number is.
//! - All of it is kept (docs/formats/notices.md): who is started again tells nothing twice, and forgets nothing.
//! - A clock that was set back makes nothing wait: what seems to lie in the future is taken for now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most things that one notice says.
pub const ITEMS_MAX: usize = 50;
/// Most events that wait to be told.
const WAITING_MAX: usize = 200;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// However often a problem came back: gone for so long, it is over.
const GONE_MAX: u64 = 6 * HOUR;

/// How much it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "NoticeSeverity")]
pub enum Severity {
    /// Good to know.
    #[default]
    Note,
    /// Somebody should look at it some day.
    Warning,
    /// Somebody should do something.
    Problem,
}

/// Something that is wrong now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What it is, whatever its words are by now: "disk-full", "peer/hub".
    pub key: String,
    /// How much it matters.
    pub severity: Severity,
    /// A sentence.
    pub what: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// Told once, and never reminded of: it is how the box was set up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

/// What an item of a notice tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "NoticeKind")]
pub enum Kind {
    /// Something is wrong.
    #[default]
    Began,
    /// Something happened.
    Event,
    /// It is well again.
    Over,
    /// It is still wrong.
    Still,
}

/// One thing that a notice tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What of it.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// Of a problem its key, of an event its name.
    pub key: String,
    /// A sentence.
    pub what: String,
    /// What to do about it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Since when it is, or was, so; when it happened. Seconds since 1970.
    pub since: u64,
}

/// What was not told when it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Events that are not in the notice: there were too many.
    pub lost: u64,
}

/// What is told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number: one more than that of the one before.
    pub n: u64,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// What it tells, what matters most first.
    pub items: Vec<Item>,
    /// How many more items there were than one notice has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Whether some of it had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

impl Notice {
    /// How much the most important part of it matters.
    pub fn severity(&self) -> Severity {
        let told = self.items.iter().filter(|item| item.kind != Kind::Over);
        told.map(|item| item.severity).max().unwrap_or_default()
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// When what is told.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A problem that lasts for so many seconds is told.
    pub after: u64,
    /// After so many more, again.
    pub remind: u64,
    /// Notices an hour, at most.
    pub per_hour: u32,
}

/// A problem that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    seen: Seen,
    since: u64,
    /// When it was told last, and as how severe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<(u64, Severity)>,
    /// Since when it was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
    /// Its end was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over: bool,
    /// How often it came back within a day.
    #[serde(default)]
    returns: u32,
}

/// What was told and what is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Teller {
    /// Notices that were made.
    made: u64,
    /// When those of the last hour were.
    lately: Vec<u64>,
    open: BTreeMap<String, Open>,
    waiting: Vec<Item>,
    held: Option<Held>,
}

impl Teller {
    /// What is to be told now, if anything. `seen`: all that is wrong; nothing where nobody knows it.
    pub fn step(&mut self, now: u64, rules: &Rules, seen: Option<Vec<Seen>>, events: Vec<Item>) -> Option<Notice> {
        self.not_beyond(now);
        if let Some(seen) = seen {
            self.look(now, rules, seen);
        }
        for event in events {
            self.wait(now, event);
        }
        if !self.is_due(now, rules) {
            return None;
        }
        self.lately.retain(|made| now - made < HOUR);
        if self.lately.len() >= rules.per_hour as usize {
            self.held.get_or_insert(Held { since: now, lost: 0 });
            return None;
        }
        Some(self.tell(now, rules))
    }

    /// What was told and is still so, or was not told yet.
    pub fn open(&self) -> impl Iterator<Item = (&Seen, u64, bool)> {
        self.open.values().filter(|open| !open.over).map(|open| (&open.seen, open.since, open.told.is_some()))
    }

    /// Since when something waits because enough was told in the last hour.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    fn not_beyond(&mut self, now: u64) {
        let times = self.lately.iter_mut().chain(self.held.iter_mut().map(|held| &mut held.since));
        let of_open = self.open.values_mut().flat_map(|open| {
            let told = open.told.as_mut().map(|(at, _)| at);
            [Some(&mut open.since), told, open.gone.as_mut()].into_iter().flatten()
        });
        times.chain(of_open).for_each(|time| *time = (*time).min(now));
    }

    /// Notes what is wrong, and what no longer is.
    fn look(&mut self, now: u64, rules: &Rules, all: Vec<Seen>) {
        let keys: Vec<String> = all.iter().map(|seen| seen.key.clone()).collect();
        for seen in all {
            let new = Open { seen: seen.clone(), since: now, told: None, gone: None, over: false, returns: 0 };
            let open = self.open.entry(seen.key.clone()).or_insert(new);
            open.seen = seen;
            open.gone = None;
            if open.over {
                (open.over, open.since, open.told, open.returns) = (false, now, None, open.returns + 1);
            }
        }
        for (key, open) in &mut self.open {
            if !keys.contains(key) {
                open.gone.get_or_insert(now);
            }
        }
        // Those of whom nobody was told, and those whose end is long ago.
        let forgotten = |open: &Open| {
            let gone = open.gone.map_or(0, |gone| now - gone);
            if open.over { gone >= DAY } else { open.told.is_none() && open.gone.is_some() && gone >= rules.after }
        };
        let missed: Vec<Item> = match self.held {
            None => Vec::new(),
            Some(_) => {
                let missed = self.open.values().filter(|open| {
                    let lasted = open.gone.map_or(0, |gone| gone - open.since);
                    forgotten(open) && !open.over && lasted >= rules.after
                });
                missed.map(|open| open.item(Kind::Over)).collect()
            }
        };
        self.open.retain(|_, open| !forgotten(open));
        for item in missed {
            self.wait(now, item);
        }
    }

    fn wait(&mut self, now: u64, item: Item) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(item);
        } else {
            self.held.get_or_insert(Held { since: now, lost: 0 }).lost += 1;
        }
    }

    fn is_due(&self, now: u64, rules: &Rules) -> bool {
        !self.waiting.is_empty() || self.open.values().any(|open| open.due(now, rules).is_some())
    }

    fn tell(&mut self, now: u64, rules: &Rules) -> Notice {
        let mut items = std::mem::take(&mut self.waiting);
        // What is nearly due goes along: it would be a notice of its own soon.
        let soon = Rules { after: rules.after / 2, remind: rules.remind / 2, ..*rules };
        let reminds = self.open.values().any(|open| open.due(now, rules) == Some(Kind::Still));
        for open in self.open.values_mut() {
            let kind = match open.due(now, rules) {
                None => open.due(now, &soon).filter(|kind| match kind {
                    Kind::Began => true,
                    Kind::Still => reminds,
                    Kind::Over | Kind::Event => false,
                }),
                due => due,
            };
            let Some(kind) = kind else { continue };
            items.push(open.item(kind));
            open.told = Some((now, open.seen.severity));
            open.over = kind == Kind::Over;
        }
        items.sort_by_key(|item| (item.kind, std::cmp::Reverse(item.severity), item.since));
        let more = items.len().saturating_sub(ITEMS_MAX) as u64;
        items.truncate(ITEMS_MAX);
        self.made += 1;
        self.lately.push(now);
        Notice { n: self.made, at: now, items, more, held: self.held.take() }
    }
}

impl Open {
    /// What is to be told of it.
    fn due(&self, now: u64, rules: &Rules) -> Option<Kind> {
        if self.over {
            return None;
        }
        match (self.told, self.gone) {
            (None, None) => (now - self.since >= rules.after).then_some(Kind::Began),
            (None, Some(_)) => None,
            (Some((_, as_severe)), None) if self.seen.severity > as_severe => Some(Kind::Began),
            (Some((at, _)), None) => (!self.seen.once && now - at >= rules.remind).then_some(Kind::Still),
            (Some(_), Some(gone)) => {
                let enough = (rules.after << self.returns.min(10)).min(GONE_MAX.max(rules.after));
                (now - gone >= enough).then_some(Kind::Over)
            }
        }
    }

    fn item(&self, kind: Kind) -> Item {
        Item {
            kind,
            severity: self.seen.severity,
            key: self.seen.key.clone(),
            what: self.seen.what.clone(),
            remedy: if kind == Kind::Over { String::new() } else { self.seen.remedy.clone() },
            since: self.since,
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
