//! Status and sense data: how a command ended, and why (SAM-5 section 5.3, SPC-4 section 4.5).

use narrowboat_storage::error::{Environment, Error, Refusal};

/// How a command ended (SAM-5 section 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It did what was asked.
    #[default]
    Good = 0x00,
    /// Sense data says why not.
    CheckCondition = 0x02,
    /// Not now; the initiator tries again.
    Busy = 0x08,
    /// Another initiator has the unit reserved.
    ReservationConflict = 0x18,
    /// No room for another task.
    TaskSetFull = 0x28,
    /// Another initiator had it aborted.
    TaskAborted = 0x40,
}

/// Sense keys (SPC-4 table 48).
mod key {
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const COPY_ABORTED: u8 = 0xa;
    pub const ABORTED_COMMAND: u8 = 0xb;
    pub const MISCOMPARE: u8 = 0xe;
}

/// Why a command did not end well: sense key, additional sense code with its qualifier, and the information field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The family.
    pub key: u8,
    /// Additional sense code and qualifier.
    pub code: u16,
    /// What the code says of it: mostly a block address or an offset.
    pub information: Option<u64>,
    /// Which byte of the command is impossible, where that helps (SPC-4 section 4.5.2.4.2).
    pub field: Option<u8>,
    /// The status that goes with it: CHECK CONDITION, but for conflicts, which have no sense data.
    pub status: Status,
}

/// Sense key specific bytes are valid, and name a byte of the command.
const FIELD_IN_COMMAND: u8 = 0xc0;

macro_rules! senses {
    ($($(#[$doc:meta])* $name:ident = $key:ident, $code:literal;)*) => {
        impl Sense { $($(#[$doc])* pub const $name: Sense = Sense::new(key::$key, $code);)* }
    };
}

senses! {
    /// Nothing to say.
    POWER_ON = UNIT_ATTENTION, 0x2900;
    /// A reset of the logical unit or target.
    DEVICE_RESET = UNIT_ATTENTION, 0x2903;
    /// The session was lost and made again.
    NEXUS_LOSS = UNIT_ATTENTION, 0x2907;
    /// Another initiator changed mode pages.
    MODE_CHANGED = UNIT_ATTENTION, 0x2a01;
    /// Another initiator took the reservation away.
    RESERVATIONS_PREEMPTED = UNIT_ATTENTION, 0x2a03;
    /// The reservation that mattered to this initiator is gone.
    RESERVATIONS_RELEASED = UNIT_ATTENTION, 0x2a04;
    /// Another initiator took the registration away.
    REGISTRATIONS_PREEMPTED = UNIT_ATTENTION, 0x2a05;
    /// The access state of the target port group is another.
    ACCESS_CHANGED = UNIT_ATTENTION, 0x2a06;
    /// The size is another.
    CAPACITY_CHANGED = UNIT_ATTENTION, 0x2a09;
    /// Another initiator had tasks of this one aborted.
    COMMANDS_CLEARED = UNIT_ATTENTION, 0x2f00;
    /// Room on the disk is getting short.
    SOFT_THRESHOLD = UNIT_ATTENTION, 0x3807;
    /// Logical units came or went.
    LUNS_CHANGED = UNIT_ATTENTION, 0x3f0e;
    /// No such command.
    INVALID_OPCODE = ILLEGAL_REQUEST, 0x2000;
    /// A field of the command is impossible.
    INVALID_FIELD = ILLEGAL_REQUEST, 0x2400;
    /// Beyond the last block.
    OUT_OF_RANGE = ILLEGAL_REQUEST, 0x2100;
    /// No such logical unit.
    NO_SUCH_UNIT = ILLEGAL_REQUEST, 0x2500;
    /// A field of the parameter list is impossible.
    INVALID_PARAMETER = ILLEGAL_REQUEST, 0x2600;
    /// The parameter list is cut off.
    PARAMETER_LENGTH = ILLEGAL_REQUEST, 0x1a00;
    /// A reservation that is not the caller's to release that way.
    INVALID_RELEASE = ILLEGAL_REQUEST, 0x2604;
    /// EXTENDED COPY: more target descriptors than are taken.
    TOO_MANY_TARGETS = ILLEGAL_REQUEST, 0x2606;
    /// EXTENDED COPY: a target of a type that is not known.
    UNSUPPORTED_TARGET = ILLEGAL_REQUEST, 0x2607;
    /// EXTENDED COPY: more segment descriptors than are taken.
    TOO_MANY_SEGMENTS = ILLEGAL_REQUEST, 0x2608;
    /// EXTENDED COPY: a segment of a type that is not known.
    UNSUPPORTED_SEGMENT = ILLEGAL_REQUEST, 0x2609;
    /// No room for another registration.
    NO_REGISTRATION_RESOURCES = ILLEGAL_REQUEST, 0x5504;
    /// EXTENDED COPY: a run does not fit one of its sides.
    COPY_FAILED = COPY_ABORTED, 0x0000;
    /// EXTENDED COPY: one side is not there.
    COPY_UNREACHABLE = COPY_ABORTED, 0x0d02;
    /// The unit was stopped.
    STOPPED = NOT_READY, 0x0402;
    /// Reached through a port in standby.
    STANDBY = NOT_READY, 0x040b;
    /// Reached through a port that is unavailable.
    UNAVAILABLE = NOT_READY, 0x040c;
    /// Stored bytes are damaged.
    UNREADABLE = MEDIUM_ERROR, 0x1100;
    /// The machine below failed.
    INTERNAL = HARDWARE_ERROR, 0x4400;
    /// The unit takes no writes.
    WRITE_PROTECTED = DATA_PROTECT, 0x2700;
    /// The disk below is full.
    NO_SPACE = DATA_PROTECT, 0x2707;
    /// What is there is not what was expected; the information says from which byte on.
    MISCOMPARED = MISCOMPARE, 0x1d00;
    /// Data came that was not to come.
    UNEXPECTED_DATA = ABORTED_COMMAND, 0x0c0c;
    /// Data did not come in order.
    DATA_PHASE = ABORTED_COMMAND, 0x4b00;
    /// Fewer bytes came than the command needs.
    SHORT_DATA = ABORTED_COMMAND, 0x0e02;
}

impl Sense {
    /// Another initiator has the unit reserved: a status without sense data.
    pub const CONFLICT: Sense =
        Sense { key: 0, code: 0, information: None, field: None, status: Status::ReservationConflict };
    /// Not now: a status without sense data.
    pub const BUSY: Sense = Sense { key: 0, code: 0, information: None, field: None, status: Status::Busy };
    /// Another initiator had the task aborted: a status without sense data.
    pub const ABORTED: Sense = Sense { key: 0, code: 0, information: None, field: None, status: Status::TaskAborted };

    const fn new(key: u8, code: u16) -> Self {
        Sense { key, code, information: None, field: None, status: Status::CheckCondition }
    }

    /// With the information field.
    pub fn with(self, information: u64) -> Self {
        Sense { information: Some(information), ..self }
    }

    /// With the byte of the command that is impossible.
    pub fn at(self, field: u8) -> Self {
        Sense { field: Some(field), ..self }
    }

    /// What an error of storage is to an initiator; `block` is the first block that was asked for.
    pub fn of_error(error: &Error, block: u64) -> Sense {
        match error {
            Error::Damage(_) => Sense::UNREADABLE.with(block),
            Error::Environment(Environment::Full) => Sense::NO_SPACE,
            Error::Environment(other) if other.may_pass() => Sense::BUSY,
            Error::Environment(_) => Sense::INTERNAL,
            Error::Refused(Refusal::ReadOnly) => Sense::WRITE_PROTECTED,
            Error::Refused(Refusal::Busy) => Sense::BUSY,
            Error::Refused(Refusal::Stale | Refusal::NotFound(_)) => Sense::NO_SUCH_UNIT,
            // Commands are checked before the disk sees them: it has become smaller meanwhile.
            Error::Refused(Refusal::Invalid(_)) => Sense::OUT_OF_RANGE,
            Error::Refused(_) => Sense::INTERNAL,
        }
    }

    /// The bytes, in descriptor format (SPC-4 section 4.5.2) or fixed format (section 4.5.3).
    pub fn encode(&self, descriptors: bool) -> Vec<u8> {
        let [asc, ascq] = self.code.to_be_bytes();
        if descriptors {
            let mut bytes = vec![0x72, self.key, asc, ascq, 0, 0, 0, 0];
            if let Some(information) = self.information {
                bytes[7] = 12;
                bytes.extend([0x00, 0x0a, 0x80, 0x00]);
                bytes.extend(information.to_be_bytes());
            }
            if let Some(field) = self.field {
                bytes[7] += 8;
                bytes.extend([0x02, 0x06, 0, 0, FIELD_IN_COMMAND, 0, field, 0]);
            }
            return bytes;
        }
        let mut bytes = vec![0; 18];
        (bytes[0], bytes[2], bytes[7], bytes[12], bytes[13]) = (0x70, self.key, 10, asc, ascq);
        // Without the valid bit the field says nothing: larger numbers do not fit it.
        if let Some(information) = self.information.and_then(|information| u32::try_from(information).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(field) = self.field {
            bytes[15..].copy_from_slice(&[FIELD_IN_COMMAND, 0, field]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::error::Damage;

    #[test]
    fn both_formats_carry_the_same() {
        let sense = Sense::MISCOMPARED.with(0x1234);
        assert_eq!(sense.encode(false), [0xf0, 0, 0x0e, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0]);
        assert_eq!(
            sense.encode(true),
            [0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34]
        );
        assert_eq!(Sense::UNREADABLE.with(1 << 40).encode(false)[0], 0x70);
        assert_eq!(Sense::INVALID_FIELD.encode(true).len(), 8);
        assert_eq!(Sense::INVALID_FIELD.at(2).encode(false)[15..], [0xc0, 0, 2]);
        assert_eq!(Sense::INVALID_FIELD.at(2).encode(true)[7..], [8, 2, 6, 0, 0, 0xc0, 0, 2, 0]);
    }

    #[test]
    fn each_family_of_errors_has_its_own_answer() {
        assert_eq!(Sense::of_error(&Damage::new("f", 0, "a", "b").into(), 9), Sense::UNREADABLE.with(9));
        assert_eq!(Sense::of_error(&Environment::Full.into(), 9), Sense::NO_SPACE);
        assert_eq!(Sense::of_error(&Environment::Poisoned("x".into()).into(), 9), Sense::INTERNAL);
        assert_eq!(Sense::of_error(&Environment::InUse("x".into()).into(), 9), Sense::BUSY);
        assert_eq!(Sense::of_error(&Refusal::ReadOnly.into(), 9), Sense::WRITE_PROTECTED);
        assert_eq!(Sense::of_error(&Refusal::Busy.into(), 9), Sense::BUSY);
        assert_eq!(Sense::of_error(&Refusal::Invalid("x".into()).into(), 9), Sense::OUT_OF_RANGE);
    }
}
