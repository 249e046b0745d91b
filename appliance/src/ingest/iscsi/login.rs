//! The login phase (RFC 7143 section 6.3): who is it, what is agreed on, and into which session it leads.
//!
//! ```text
//!          ┌──────────┐  T    ┌─────────────┐  T    ┌──────────────┐
//!  ───────▶│ security ├──────▶│ operational ├──────▶│ full feature │
//!          └────┬─────┘       └──────▲──────┘       └───────▲──────┘
//!               └────────────────────┼──────────────────────┘
//!  ──────────────────────────────────┘  where nobody has to prove anything
//! ```
//!
//! One request in, one response out. Nobody reaches the full-feature phase whose name or network the target does not
//! admit, or who did not prove itself where the target has accounts. What was negotiated before that is worth nothing, and
//! nothing of it outlives the connection.

use std::net::SocketAddr;
use std::sync::Arc;

use super::chap::{Account, Algorithm, Challenge, Claim};
use super::params::{Answer, Params, RECEIVE_BYTES_MAX};
use super::registry::{Registry, Seat};
use super::scsi::Nexus;
use super::session::Share;
use super::target::{PORTAL_GROUP, Target, Targets, normal_name};
use super::text::{Collector, Writer, binary, number, to_hex};
use super::wire::{Bhs, Frame, Pdu, opcode};

/// Most requests of one login: real ones have at most seven.
const REQUESTS_MAX: u32 = 32;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Why a login fails: status class and detail (RFC 7143 section 11.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Failure {
    /// The initiator did something that may not be.
    InitiatorError = 0x0200,
    /// It did not prove who it is.
    Authentication = 0x0201,
    /// It may not use the target.
    Authorization = 0x0202,
    /// There is no such target.
    NotFound = 0x0203,
    /// It speaks another version.
    Version = 0x0205,
    /// A second connection of a session.
    TooManyConnections = 0x0206,
    /// A key that has to be there is not.
    MissingParameter = 0x0207,
    /// No such type of session.
    SessionType = 0x0209,
    /// No such session.
    NoSession = 0x020a,
    /// The target is short of something.
    OutOfResources = 0x0302,
}

/// What a connection knows of itself and of the box.
pub struct Context {
    /// What is served.
    pub targets: Arc<dyn Targets>,
    /// All sessions.
    pub registry: Arc<Registry>,
    /// The connection's number, never used twice.
    pub connection: u64,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The address that it came to.
    pub local: SocketAddr,
    /// Random bytes that nobody can guess, for a challenge.
    pub random: [u8; 17],
}

/// What a login led to.
pub struct Established {
    /// The target, its place in the registry and the initiator port; `None` for a discovery session.
    pub normal: Option<(Arc<Target>, Seat, Nexus)>,
    /// What was agreed on.
    pub params: Params,
    /// The number of the connection within its session, as the initiator counts.
    pub cid: u16,
    /// The number of the first command.
    pub cmd_sn: u32,
    /// The number of the next response.
    pub stat_sn: u32,
}

/// What is to be done about a login request.
pub enum Outcome {
    /// Send it and wait for more.
    Continue(Frame),
    /// Send it and close the connection.
    Refuse(Frame),
    /// Send it; the session stands.
    Established(Frame, Box<Established>),
    /// Close: whoever this is does not speak iSCSI.
    Close,
}

/// Who has to prove what.
enum Proving {
    /// Nothing was said of it yet.
    Open,
    /// CHAP was agreed on.
    Chap,
    /// The challenge is out.
    Challenged(Challenge),
    /// Proved, or nothing to prove.
    Done,
}

/// A login under way.
pub struct Login {
    text: Collector,
    requests: u32,
    begun: Option<Begun>,
    stage: u8,
    proving: Proving,
    params: Params,
    stat_sn: u32,
    declared: bool,
    memory: Share,
}

/// What the first request said.
struct Begun {
    bhs: Bhs,
    initiator: String,
    target: Option<Arc<Target>>,
    accounts: Vec<Account>,
}

impl Login {
    /// At the start of a connection. `memory` is what the session will use.
    pub fn new(memory: Share) -> Self {
        Login {
            text: Collector::default(),
            requests: 0,
            begun: None,
            stage: SECURITY,
            proving: Proving::Open,
            params: Params::default(),
            stat_sn: 0,
            declared: false,
            memory,
        }
    }

    /// What the session will use.
    pub fn memory(&self) -> Share {
        self.memory.clone()
    }

    /// Takes one request.
    pub fn receive(&mut self, context: &Context, pdu: &Pdu) -> Outcome {
        if pdu.bhs.opcode() != opcode::LOGIN_REQUEST || !pdu.bhs.is_immediate() {
            // Section 6.3: anything else before the login has ended closes the connection.
            return Outcome::Close;
        }
        self.requests += 1;
        if self.requests == 1 {
            self.stat_sn = pdu.bhs.word(28);
        }
        match self.answer(context, pdu) {
            Ok(outcome) => outcome,
            Err(failure) => {
                let bhs = self.response(&pdu.bhs, 0).with_bytes(36, &(failure as u16).to_be_bytes());
                Outcome::Refuse(Frame::new(bhs))
            }
        }
    }

    fn answer(&mut self, context: &Context, pdu: &Pdu) -> Result<Outcome, Failure> {
        let bhs = &pdu.bhs;
        let (transit, more) = (bhs.is_final(), bhs.0[1] & 0x40 != 0);
        let (stage, next) = (bhs.0[1] >> 2 & 3, bhs.0[1] & 3);
        if bhs.0[3] > 0 {
            return Err(Failure::Version);
        }
        let begun_elsewhere = self.begun.as_ref().is_some_and(|begun| {
            // ISID, TSIH, task tag and connection number stay the same.
            begun.bhs.bytes::<8>(8) != bhs.bytes::<8>(8) || begun.bhs.bytes::<6>(16) != bhs.bytes::<6>(16)
        });
        if begun_elsewhere || self.requests > REQUESTS_MAX || (transit && more) || stage > OPERATIONAL {
            return Err(Failure::InitiatorError);
        }
        self.text.push(&pdu.data).map_err(|_| Failure::InitiatorError)?;
        if more {
            return Ok(Outcome::Continue(Frame::new(self.response(bhs, bhs.0[1] & 0x0c))));
        }
        let pairs = self.text.finish().map_err(|_| Failure::InitiatorError)?;
        let mut out = Writer::default();
        if self.begun.is_none() {
            self.begun = Some(begin(context, bhs, &pairs)?);
            self.stage = stage;
            self.introduce(&mut out);
        }
        if stage != self.stage {
            return Err(Failure::InitiatorError);
        }
        let proved = match stage {
            SECURITY => self.security(context, &pairs, &mut out)?,
            _ => self.operational(&pairs, &mut out)?,
        };
        let mut flags = stage << 2;
        if transit && proved {
            let forward = next > stage && (next == OPERATIONAL || next == FULL_FEATURE);
            if !forward {
                return Err(Failure::InitiatorError);
            }
            flags |= 0x80 | next;
            self.stage = next;
        }
        let established = if self.stage == FULL_FEATURE { Some(self.establish(context, bhs)?) } else { None };
        let mut response = self.response(bhs, flags);
        let data = out.finish().into();
        Ok(match established {
            None => Outcome::Continue(Frame::with_data(response, data)),
            Some(mut established) => {
                let tsih = established.normal.as_ref().map_or(DISCOVERY_TSIH, |(_, seat, _)| seat.tsih);
                response = response.with_bytes(14, &tsih.to_be_bytes());
                established.stat_sn = self.stat_sn;
                Outcome::Established(Frame::with_data(response, data), Box::new(established))
            }
        })
    }

    /// What the target says of itself in its first response.
    fn introduce(&self, out: &mut Writer) {
        if let Some(target) = self.begun.as_ref().and_then(|begun| begun.target.as_ref()) {
            out.pair("TargetPortalGroupTag", PORTAL_GROUP);
            if !target.alias.is_empty() {
                out.pair("TargetAlias", &target.alias);
            }
        }
    }

    /// One request of the security stage. True where there is nothing left to prove.
    fn security(&mut self, context: &Context, pairs: &[(String, String)], out: &mut Writer) -> Result<bool, Failure> {
        let required = self.begun.as_ref().is_some_and(|begun| !begun.accounts.is_empty());
        let mut claim = Claim::default();
        let (mut identifier, mut challenge) = (None, None);
        for (key, value) in pairs.iter().filter(|(key, _)| !is_introduction(key)) {
            match (key.as_str(), &self.proving) {
                ("AuthMethod", Proving::Open) => {
                    let known = if required { "CHAP" } else { "None" };
                    if !value.split(',').any(|method| method == known) {
                        return Err(Failure::Authentication);
                    }
                    out.pair("AuthMethod", known);
                    self.proving = if required { Proving::Chap } else { Proving::Done };
                }
                ("CHAP_A", Proving::Chap) => {
                    let algorithm = Algorithm::choose(value).ok_or(Failure::Authentication)?;
                    let [identifier, bytes @ ..] = context.random;
                    out.pair("CHAP_A", algorithm.number());
                    out.pair("CHAP_I", identifier);
                    out.pair("CHAP_C", to_hex(&bytes));
                    self.proving = Proving::Challenged(Challenge { algorithm, identifier, bytes });
                }
                ("CHAP_N", Proving::Challenged(_)) => claim.name.clone_from(value),
                ("CHAP_R", Proving::Challenged(_)) => claim.response = binary(value).ok_or(Failure::Authentication)?,
                ("CHAP_I", Proving::Challenged(_)) => identifier = number(value).and_then(|id| u8::try_from(id).ok()),
                ("CHAP_C", Proving::Challenged(_)) => challenge = binary(value),
                (key, _) if key == "AuthMethod" || key.starts_with("CHAP_") => return Err(Failure::InitiatorError),
                // Operational keys may not come before their stage.
                (key, _) => out.pair(key, "NotUnderstood"),
            }
        }
        if let (Proving::Challenged(asked), false) = (&self.proving, claim.response.is_empty()) {
            claim.counter = match (identifier, challenge) {
                (Some(identifier), Some(challenge)) => Some((identifier, challenge)),
                (None, None) => None,
                _ => return Err(Failure::Authentication),
            };
            let accounts = self.begun.as_ref().map_or(&[][..], |begun| &begun.accounts);
            let proof = asked.judge(&claim, accounts).ok_or(Failure::Authentication)?;
            if let Some(proof) = proof {
                out.pair("CHAP_N", proof.name);
                out.pair("CHAP_R", to_hex(&proof.response));
            }
            self.proving = Proving::Done;
        }
        Ok(match self.proving {
            Proving::Done => true,
            Proving::Open => !required,
            Proving::Chap | Proving::Challenged(_) => false,
        })
    }

    /// One request of the operational stage.
    fn operational(&mut self, pairs: &[(String, String)], out: &mut Writer) -> Result<bool, Failure> {
        let begun = self.begun.as_ref().ok_or(Failure::InitiatorError)?;
        if !begun.accounts.is_empty() && !matches!(self.proving, Proving::Done) {
            // It went past the stage in which it would have had to prove itself.
            return Err(Failure::Authentication);
        }
        let discovery = begun.target.is_none();
        for (key, value) in pairs.iter().filter(|(key, _)| !is_introduction(key)) {
            if let Answer::Value(answer) = self.params.negotiate(key, value, discovery) {
                out.pair(key, answer);
            }
        }
        if !std::mem::replace(&mut self.declared, true) {
            out.pair("MaxRecvDataSegmentLength", RECEIVE_BYTES_MAX);
        }
        Ok(true)
    }

    fn establish(&mut self, context: &Context, bhs: &Bhs) -> Result<Established, Failure> {
        let begun = self.begun.as_ref().ok_or(Failure::InitiatorError)?;
        let proved = begun.accounts.is_empty() || matches!(self.proving, Proving::Done);
        if !proved {
            return Err(Failure::Authentication);
        }
        self.params.settle();
        let nexus = Nexus { initiator: begun.initiator.clone(), isid: begun.bhs.bytes::<6>(8) };
        let normal = begun.target.clone().map(|target| {
            let seat = context.registry.enter(&target.name, nexus.clone(), context.connection);
            (target, seat, nexus)
        });
        Ok(Established { normal, params: self.params.clone(), cid: bhs.half(20), cmd_sn: bhs.word(24), stat_sn: 0 })
    }

    /// A response to a request, with a status of success.
    fn response(&mut self, request: &Bhs, flags: u8) -> Bhs {
        let stat_sn = self.stat_sn;
        self.stat_sn = self.stat_sn.wrapping_add(1);
        let cmd_sn = request.word(24);
        // Version 0x00 is the only one there is. One command may come: the first.
        Bhs::new(opcode::LOGIN_RESPONSE, flags)
            .with_bytes(8, &request.bytes::<12>(8))
            .with_word(24, stat_sn)
            .with_word(28, cmd_sn)
            .with_word(32, cmd_sn)
    }
}

/// Discovery sessions have no second connection to name them by, so that one handle does for all.
const DISCOVERY_TSIH: u16 = 1;

/// Keys that say who is there and what is wanted: only the first request's count.
fn is_introduction(key: &str) -> bool {
    matches!(key, "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias")
}

/// Reads who is there and what is wanted.
fn begin(context: &Context, bhs: &Bhs, pairs: &[(String, String)]) -> Result<Begun, Failure> {
    let value = |key: &str| pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    let initiator =
        normal_name(value("InitiatorName").ok_or(Failure::MissingParameter)?).ok_or(Failure::InitiatorError)?;
    let (target, accounts) = match value("SessionType") {
        Some("Discovery") => (None, context.targets.discovery_accounts()),
        None | Some("Normal") => {
            let name = value("TargetName").ok_or(Failure::MissingParameter)?;
            let target = context.targets.by_name(name).ok_or(Failure::NotFound)?;
            if !target.access.admits(&initiator, context.peer.ip()) {
                return Err(Failure::Authorization);
            }
            let accounts = target.access.accounts.clone();
            (Some(target), accounts)
        }
        Some(_) => return Err(Failure::SessionType),
    };
    let tsih = bhs.half(14);
    if tsih != 0 {
        // Another connection for a session (MaxConnections is 1), or one of a session that is gone.
        let nexus = Nexus { initiator, isid: bhs.bytes::<6>(8) };
        let known = target.is_some_and(|target| context.registry.knows(&target.name, &nexus, tsih));
        return Err(if known { Failure::TooManyConnections } else { Failure::NoSession });
    }
    Ok(Begun { bhs: *bhs, initiator, target, accounts })
}
