//! What both sides of a session have in common: greeting, outbox, patience, end.

use std::collections::VecDeque;
use std::time::Duration;

use super::failure::Failure;
use super::limits::Limits;
use super::report::Report;
use crate::wire::{FEATURE_PROOFS, FEATURES_MET, Hello, Message, Role, StopCode};

/// A side that is at work says so as often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Core {
    pub hello: Hello,
    pub peer: Option<Hello>,
    pub limits: Limits,
    pub report: Report,
    pub outcome: Option<Result<(), Failure>>,
    /// Messages that are due whatever else happens. Short: at most the greeting, an offer, and an end.
    outbox: VecDeque<Message>,
    started: Duration,
    /// When the peer last said something, or began to owe something.
    heard: Duration,
    /// When this side last said something.
    pub said: Duration,
    now: Duration,
}

impl Core {
    pub fn new(hello: Hello, limits: Limits, now: Duration) -> Self {
        let outbox = VecDeque::from([Message::Hello(hello.clone())]);
        let report = Report::default();
        Core { hello, peer: None, limits, report, outcome: None, outbox, started: now, heard: now, said: now, now }
    }

    pub fn say(&mut self, message: Message) {
        self.outbox.push_back(message);
    }

    pub fn next_said(&mut self) -> Option<Message> {
        self.outbox.pop_front()
    }

    pub fn outbox_is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    pub fn succeed(&mut self) {
        self.report.published = true;
        self.outcome = Some(Ok(()));
    }

    /// Ends the session; what was not said yet is replaced by the reason. The greeting goes out in any case, so that
    /// the reason is understood.
    pub fn fail(&mut self, failure: Failure) {
        self.outbox.retain(|message| matches!(message, Message::Hello(_)));
        if let Some(stop) = failure.stop() {
            self.outbox.push_back(Message::Stop(stop));
        }
        self.outcome = Some(Err(failure));
    }

    pub fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// When a side that is at work says so, lest the other take it for gone. Only where both know what that means.
    pub fn sign_of_life(&self) -> Option<Duration> {
        let patience = self.limits.patience.filter(|_| self.in_force(FEATURE_PROOFS))?;
        Some(self.said.saturating_add(SIGN_OF_LIFE.min(patience / 4)))
    }

    /// When a peer that owes something has been silent for too long.
    pub fn deadline(&self) -> Option<Duration> {
        self.limits.patience.map(|patience| self.heard.saturating_add(patience))
    }

    /// The time of the last input.
    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn advance(&mut self, now: Duration) {
        self.now = now;
        self.report.seconds = now.saturating_sub(self.started).as_secs_f64();
    }
}

pub(super) fn misplaced(message: &Message) -> Failure {
    let what = match message {
        Message::Hello(_) => "a greeting",
        Message::Offer(_) => "an offer",
        Message::Begin(_) => "a begin",
        Message::Ask(_) => "a question",
        Message::AskPrefixes(_) => "a question by prefix",
        Message::Answer(_) => "an answer",
        Message::Ack(_) => "an acknowledgement",
        Message::Commit(_) => "a commit",
        Message::Published(_) => "a proof",
        Message::Stop(_) => "a stop",
        Message::Challenge(_) => "a challenge",
        Message::Prove(_) => "a demand of proof",
        Message::ProveWays(_) => "a demand of proof by way",
        Message::Proof(_) => "a proof of possession",
        Message::Working => "a sign of life",
        Message::Object(_) => "an object",
        Message::Bundle(_) => "a bundle",
    };
    Failure::Protocol(format!("{what} has no place here"))
}

impl Core {
    /// True where both sides named a feature that is only used where both know it.
    pub fn in_force(&self, feature: u64) -> bool {
        let peer = self.peer.as_ref().map_or(0, |peer| peer.features_ignore);
        self.hello.features_ignore & peer & feature != 0
    }
}

/// Whether two greetings can make a session. Both sides ask it, each with its own greeting first.
pub(crate) fn incompatible(here: &Hello, there: &Hello) -> Result<(), Failure> {
    let no = |code, sentence: String| Err(Failure::Incompatible { code, sentence });
    if there.role == here.role {
        return Err(Failure::Protocol("both sides have the same role".to_owned()));
    }
    let versions = there.version_min.max(here.version_min)..=there.version_max.min(here.version_max);
    if versions.is_empty() {
        let sentence = format!(
            "this box speaks replication versions {} to {}, the peer {} to {}: update the older box",
            here.version_min, here.version_max, there.version_min, there.version_max
        );
        return no(StopCode::Version, sentence);
    }
    let mut required = there.features_refuse;
    if here.role == Role::Sender {
        required |= there.features_read_only;
    }
    let missing = required & !FEATURES_MET;
    if missing != 0 {
        let sentence = format!("the peer requires features that this box lacks ({missing:#x}): update this box");
        return no(StopCode::Version, sentence);
    }
    let lacking = here.features_read_only & !there.features_ignore;
    if here.role == Role::Receiver && lacking != 0 {
        let sentence = format!(
            "this box takes snapshots only from boxes with features that the peer lacks ({lacking:#x}): update it"
        );
        return no(StopCode::Version, sentence);
    }
    if there.realm != here.realm {
        let sentence = "the two boxes belong to different realms, so neither understands the other's names".to_owned();
        return no(StopCode::Realm, sentence);
    }
    Ok(())
}
