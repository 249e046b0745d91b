//! Classes: what traffic of one peer is for, and how much of what the peer gets each may count on.
//!
//! Shares are guaranteed, not reserved: what a class does not use, the others get in proportion to theirs. A class that begins to
//! send is served next, and has its share from then on. None can be starved, since none has no share.
//!
//! | class | of what its peer gets, while all want | against normal alone | for |
//! | --- | --- | --- | --- |
//! | control | 32 % | 86 % | pairing, greetings, what people wait for at a prompt |
//! | restore | 48 % | 91 % | data that comes back because something was lost |
//! | urgent | 14 % | 74 % | a replication that a person or a deadline has put first |
//! | normal | 5 % | | replication |
//! | scavenger | 1 % | 17 % | first copies, and whatever has all the time in the world |
//!
//! Reasons: `docs/decisions/0012-classes.md`.

use std::fmt;
use std::str::FromStr;

use narrowboat_storage::error::Refusal;

/// What traffic is for; the most pressing first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Small and waited for.
    Control,
    /// Data that comes back because something was lost.
    Restore,
    /// Replication that was put first.
    Urgent,
    /// Replication.
    #[default]
    Normal,
    /// What may always wait.
    Scavenger,
}

impl Class {
    /// All of them, in their order.
    pub const ALL: [Class; 5] = [Class::Control, Class::Restore, Class::Urgent, Class::Normal, Class::Scavenger];

    /// The share of what its peer gets that it may count on, in percent. All of them together are 100.
    pub const fn share_percent(self) -> u64 {
        match self {
            Class::Control => 32,
            Class::Restore => 48,
            Class::Urgent => 14,
            Class::Normal => 5,
            Class::Scavenger => 1,
        }
    }

    /// Its place in [`Class::ALL`].
    pub(super) const fn place(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Class::Control => "control",
            Class::Restore => "restore",
            Class::Urgent => "urgent",
            Class::Normal => "normal",
            Class::Scavenger => "scavenger",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Class, Refusal> {
        let known = Class::ALL.into_iter().find(|class| class.name() == text.trim());
        let names = "control, restore, urgent, normal, scavenger";
        known.ok_or_else(|| Refusal::Invalid(format!("{text:?} is no class: there are {names}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_and_names_read_back() {
        assert_eq!(Class::ALL.map(Class::share_percent).iter().sum::<u64>(), 100);
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!((class.place(), class.to_string().parse()), (place, Ok(class)));
            assert!(class.share_percent() > 0, "nobody starves");
        }
        assert!("fast".parse::<Class>().is_err());
    }
}
