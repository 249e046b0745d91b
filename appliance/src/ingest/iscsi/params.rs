//! Operational parameters: what the two sides agree on (RFC 7143 section 13).
//!
//! [`Params::negotiate`] takes one key and gives the answer. Keys are of three kinds: the smaller, the larger, "and" or
//! "or" of both sides' wishes; lists of which the first that both know is taken; declarations, which each side makes for
//! itself. A value outside its range is answered `Reject`, a key that nobody knows `NotUnderstood`.

use super::text::number;
use super::wire::Digests;

/// Longest data segment that this target takes after login.
pub const RECEIVE_BYTES_MAX: u32 = 1 << 20;
/// Longest data segment that either side takes during login, and where nothing was declared (section 13.12).
pub const RECEIVE_BYTES_DEFAULT: u32 = 8192;
/// Longest data segment that is sent, whatever the initiator would take: one write to a socket stays moderate.
pub const SEND_BYTES_MAX: u32 = 1 << 20;
/// Longest burst of data that one R2T asks for.
const BURST_BYTES_MAX: u32 = 1 << 20;
/// Most data that comes unasked with one command.
const FIRST_BURST_BYTES_MAX: u32 = 256 << 10;
/// Most R2Ts of one task that are unanswered: with a slow line, one alone would cap a write at a burst a round trip.
const R2T_MAX: u32 = 16;

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Digests.
    pub digests: Digests,
    /// No Data-Out comes before the first R2T.
    pub initial_r2t: bool,
    /// Commands may carry data.
    pub immediate_data: bool,
    /// Longest data segment that the initiator takes.
    pub send_bytes: u32,
    /// Longest sequence of Data-In, and of Data-Out that answers one R2T.
    pub burst_bytes: u32,
    /// Most data that comes unasked with one command.
    pub first_burst_bytes: u32,
    /// Most unanswered R2Ts a task.
    pub r2t_max: u32,
    /// Seconds that an initiator is to wait before it comes back.
    pub time_to_wait: u16,
    /// Seconds that tasks would be kept for it: none are.
    pub time_to_retain: u16,
    /// What both sides know of later additions (RFC 7144): 1 is RFC 7143.
    pub protocol_level: u32,
}

impl Default for Params {
    /// What holds where nothing is said (section 13).
    fn default() -> Self {
        Params {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            send_bytes: RECEIVE_BYTES_DEFAULT,
            burst_bytes: BURST_BYTES_MAX.min(262_144),
            first_burst_bytes: 65_536,
            r2t_max: 1,
            time_to_wait: 2,
            time_to_retain: 0,
            protocol_level: 1,
        }
    }
}

/// The answer to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `key=value`.
    Value(String),
    /// Nothing is said to a declaration.
    Silence,
}

impl Answer {
    fn of(value: impl ToString) -> Self {
        Answer::Value(value.to_string())
    }

    /// `Reject`.
    pub fn reject() -> Self {
        Answer::of("Reject")
    }
}

/// Longest data segment with one that may be declared or negotiated (section 13).
const LENGTH_RANGE: std::ops::RangeInclusive<u32> = 512..=0xff_ffff;

impl Params {
    /// Takes one key of the operational stage. `discovery` sessions move no data, so that keys about it are irrelevant.
    pub fn negotiate(&mut self, key: &str, value: &str, discovery: bool) -> Answer {
        if value == "NotUnderstood" || value == "Reject" || value == "Irrelevant" {
            return Answer::Silence;
        }
        match key {
            "HeaderDigest" => digest(value, &mut self.digests.header),
            "DataDigest" => digest(value, &mut self.digests.data),
            "MaxRecvDataSegmentLength" => match number(value).filter(|len| LENGTH_RANGE.contains(len)) {
                Some(len) => {
                    self.send_bytes = len.min(SEND_BYTES_MAX);
                    Answer::Silence
                }
                None => Answer::reject(),
            },
            "DefaultTime2Wait" => smaller_or_larger(value, 0..=3600, |theirs| {
                self.time_to_wait = theirs.max(2) as u16;
                self.time_to_wait.into()
            }),
            "DefaultTime2Retain" => smaller_or_larger(value, 0..=3600, |_| 0),
            "ErrorRecoveryLevel" => smaller_or_larger(value, 0..=2, |_| 0),
            "iSCSIProtocolLevel" => smaller_or_larger(value, 0..=31, |theirs| {
                self.protocol_level = theirs.min(1);
                self.protocol_level
            }),
            "IFMarker" | "OFMarker" => Answer::of("No"),
            "IFMarkInt" | "OFMarkInt" => Answer::reject(),
            "InitiatorAlias" | "TargetAlias" | "TargetAddress" => Answer::Silence,
            "TaskReporting" => list(value, &["RFC3720"]),
            _ => self.about_data(key, value, discovery),
        }
    }

    fn about_data(&mut self, key: &str, value: &str, discovery: bool) -> Answer {
        let known = [
            "InitialR2T",
            "ImmediateData",
            "MaxBurstLength",
            "FirstBurstLength",
            "MaxOutstandingR2T",
            "MaxConnections",
            "DataPDUInOrder",
            "DataSequenceInOrder",
        ];
        if discovery && known.contains(&key) {
            return Answer::of("Irrelevant");
        }
        match key {
            "MaxConnections" => smaller_or_larger(value, 1..=65_535, |_| 1),
            "InitialR2T" => yes_or_no(value, |theirs| {
                // "Or" of both wishes: this target does not insist.
                self.initial_r2t = theirs;
                theirs
            }),
            "ImmediateData" => yes_or_no(value, |theirs| {
                self.immediate_data = theirs;
                theirs
            }),
            "MaxBurstLength" => smaller_or_larger(value, LENGTH_RANGE, |theirs| {
                self.burst_bytes = theirs.min(BURST_BYTES_MAX);
                self.first_burst_bytes = self.first_burst_bytes.min(self.burst_bytes);
                self.burst_bytes
            }),
            "FirstBurstLength" => smaller_or_larger(value, LENGTH_RANGE, |theirs| {
                self.first_burst_bytes = theirs.min(FIRST_BURST_BYTES_MAX);
                self.first_burst_bytes
            }),
            "MaxOutstandingR2T" => smaller_or_larger(value, 1..=65_535, |theirs| {
                self.r2t_max = theirs.min(R2T_MAX);
                self.r2t_max
            }),
            "DataPDUInOrder" | "DataSequenceInOrder" => yes_or_no(value, |_| true),
            _ => Answer::of("NotUnderstood"),
        }
    }

    /// Ends the negotiation: `FirstBurstLength` never exceeds `MaxBurstLength` (section 13.14).
    pub fn settle(&mut self) {
        self.first_burst_bytes = self.first_burst_bytes.min(self.burst_bytes);
    }
}

fn digest(value: &str, on: &mut bool) -> Answer {
    let answer = list(value, &["CRC32C", "None"]);
    *on = answer == Answer::of("CRC32C");
    answer
}

/// The first of the initiator's list that is known here.
fn list(value: &str, known: &[&str]) -> Answer {
    value.split(',').find(|wish| known.contains(wish)).map_or_else(Answer::reject, Answer::of)
}

fn yes_or_no(value: &str, settle: impl FnOnce(bool) -> bool) -> Answer {
    match value {
        "Yes" | "No" => Answer::of(if settle(value == "Yes") { "Yes" } else { "No" }),
        _ => Answer::reject(),
    }
}

fn smaller_or_larger(value: &str, range: std::ops::RangeInclusive<u32>, settle: impl FnOnce(u32) -> u32) -> Answer {
    number(value)
        .filter(|number| range.contains(number))
        .map_or_else(Answer::reject, |number| Answer::of(settle(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(keys: &[(&str, &str)], discovery: bool) -> (Params, Vec<String>) {
        let mut params = Params::default();
        let said = keys.iter().map(|(key, value)| match params.negotiate(key, value, discovery) {
            Answer::Value(value) => value,
            Answer::Silence => String::new(),
        });
        let said = said.collect();
        params.settle();
        (params, said)
    }

    #[test]
    fn what_open_iscsi_offers_is_taken() {
        let (params, said) = answers(
            &[
                ("HeaderDigest", "CRC32C,None"),
                ("DataDigest", "None"),
                ("DefaultTime2Wait", "2"),
                ("DefaultTime2Retain", "0"),
                ("IFMarker", "No"),
                ("OFMarker", "No"),
                ("ErrorRecoveryLevel", "0"),
                ("InitialR2T", "No"),
                ("ImmediateData", "Yes"),
                ("MaxBurstLength", "16776192"),
                ("FirstBurstLength", "262144"),
                ("MaxOutstandingR2T", "1"),
                ("MaxConnections", "1"),
                ("DataPDUInOrder", "Yes"),
                ("DataSequenceInOrder", "Yes"),
                ("MaxRecvDataSegmentLength", "262144"),
                ("X-com.example.wish", "1"),
            ],
            false,
        );
        let expected = "CRC32C None 2 0 No No 0 No Yes 1048576 262144 1 1 Yes Yes  NotUnderstood";
        assert_eq!(said, expected.split(' ').collect::<Vec<_>>());
        assert_eq!(params.digests, Digests { header: true, data: false });
        assert!(!params.initial_r2t && params.immediate_data);
        assert_eq!((params.send_bytes, params.burst_bytes, params.first_burst_bytes), (262_144, 1 << 20, 262_144));
    }

    #[test]
    fn impossible_values_are_rejected_and_change_nothing() {
        let (params, said) = answers(
            &[
                ("HeaderDigest", "MD5"),
                ("InitialR2T", "yes"),
                ("MaxBurstLength", "511"),
                ("MaxRecvDataSegmentLength", "16777216"),
                ("MaxConnections", "0"),
                ("MaxOutstandingR2T", "many"),
            ],
            false,
        );
        assert!(said.iter().all(|said| said == "Reject"), "{said:?}");
        assert_eq!(params, Params::default());
    }

    #[test]
    fn bursts_fit_one_another_in_any_order() {
        for keys in [
            [("FirstBurstLength", "262144"), ("MaxBurstLength", "4096")],
            [("MaxBurstLength", "4096"), ("FirstBurstLength", "262144")],
        ] {
            assert_eq!(answers(&keys, false).0.first_burst_bytes, 4096);
        }
        assert_eq!(answers(&[("MaxBurstLength", "4096")], true).1, ["Irrelevant"]);
    }
}
