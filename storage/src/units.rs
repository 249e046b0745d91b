//! Quantities with a meaning: mixing two of them does not compile.

use std::fmt;

/// Log sequence number: the place of one record in the store's single journal. Grows by one a record, never reused.
/// `Lsn(0)` is before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A moment: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Reaches from 1677 to 2262.
/// Always handed in from outside: this crate never asks for the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Builds from whole seconds and nanoseconds; out of range saturates.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanoseconds)))
    }
    /// Whole seconds since the epoch, rounded towards the past.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with all nine digits of the second: what is written names exactly this moment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.seconds().div_euclid(86_400), self.seconds().rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", self.subsec_nanos())
    }
}

/// Year, month and day of the month in the Gregorian calendar, of a day counted from 1970-01-01. Years are counted from March
/// on, so that the leap day is their last: then the days before a month follow one line, 153 in each five months, and the
/// days before a year repeat every 400 years (146,097 days).
fn civil(day: i64) -> (i64, i64, i64) {
    // From 0000-03-01 on.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    // Days that leap years have added so far do not count.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (of_month, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month, of_month)
}

/// Inode number, unique within a dataset for ever: numbers never go back, not even after a rewind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub u64);

impl Inode {
    /// The root directory of every share, and the content of every volume.
    pub const ROOT: Inode = Inode(1);
}

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system that holds the data folder.
    pub total_bytes: u64,
    /// What may still be written to it.
    pub free_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339_says() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_795_352_884, 437_299_654, "2026-11-22T13:08:04.437299654Z"),
            (4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (-1, 5, "1969-12-31T23:59:59.000000005Z"),
        ] {
            assert_eq!(Timestamp::new(seconds, nanoseconds).to_string(), text);
        }
        assert_eq!(Timestamp(i64::MIN).to_string(), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "2262-04-11T23:47:16.854775807Z");
    }
}
