//! Who is signed in. In memory alone: a restart signs everybody out, and no backup of the disk has a session in it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use narrowboat_storage::units::Timestamp;

/// A session ends when it was not used for so long,
const IDLE: Duration = Duration::from_secs(3600);
/// and after so long in any case.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one user at once; the oldest makes room.
const OF_ONE_MAX: usize = 20;

/// Sessions by the hash of what proves them.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<[u8; 32], Session>);

/// One of them. Moments are of a clock that nobody can set; `since` and `seen` are for people.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: String,
    pub(super) from: IpAddr,
    pub(super) since: Timestamp,
    pub(super) seen: Timestamp,
    begun: Duration,
    used: Duration,
}

/// What a browser keeps: 256 random bits, in hexadecimal digits.
pub(super) fn proof(random: [u8; 32]) -> String {
    blake3::Hash::from_bytes(random).to_hex().to_string()
}

fn key(proof: &str) -> [u8; 32] {
    *blake3::hash(proof.as_bytes()).as_bytes()
}

/// What people see of a session: it proves nothing.
fn id(key: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*key).to_hex()[..12].to_owned()
}

/// The id of the session that `proof` is of.
pub(super) fn id_of(proof: &str) -> String {
    id(&key(proof))
}

impl Sessions {
    /// Begins one that `proof` stands for.
    pub(super) fn begin(&mut self, proof: &str, user: &str, from: IpAddr, now: Duration, time: Timestamp) {
        self.0.retain(|_, session| session.lives(now));
        let of_one = || self.0.iter().filter(|(_, session)| session.user == user);
        if of_one().count() >= OF_ONE_MAX
            && let Some(oldest) = of_one().min_by_key(|(_, session)| session.used).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        let session = Session { user: user.to_owned(), from, since: time, seen: time, begun: now, used: now };
        self.0.insert(key(proof), session);
    }

    /// Whose session this is the proof of, which keeps it alive where it is used, at `time`.
    pub(super) fn user(&mut self, proof: &str, now: Duration, time: Option<Timestamp>) -> Option<String> {
        let key = key(proof);
        let session = self.0.get_mut(&key)?;
        if !session.lives(now) {
            self.0.remove(&key);
            return None;
        }
        if let Some(time) = time {
            (session.used, session.seen) = (now, time);
        }
        Some(session.user.clone())
    }

    /// Ends the one that this is the proof of.
    pub(super) fn end(&mut self, proof: &str) {
        self.0.remove(&key(proof));
    }

    /// Ends those of which `wanted` says so, by id; returns how many.
    pub(super) fn end_where(&mut self, wanted: impl Fn(&str, &Session) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|key, session| !wanted(&id(key), session));
        before - self.0.len()
    }

    /// Those that live, by id, and whether `proof` is of it.
    pub(super) fn all(&self, proof: Option<&str>, now: Duration) -> Vec<(String, Session, bool)> {
        let own = proof.map(key);
        let living = self.0.iter().filter(|(_, session)| session.lives(now));
        living.map(|(key, session)| (id(key), session.clone(), own == Some(*key))).collect()
    }
}

impl Session {
    fn lives(&self, now: Duration) -> bool {
        now.saturating_sub(self.used) < IDLE && now.saturating_sub(self.begun) < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const TIME: Timestamp = Timestamp(0);
    const USED: Option<Timestamp> = Some(TIME);

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_session_ends_by_itself() {
        let mut sessions = Sessions::default();
        sessions.begin("a", "anna", HERE, at(0), TIME);
        assert_eq!(sessions.user("a", at(59), USED).as_deref(), Some("anna"));
        assert_eq!(sessions.user("a", at(118), USED).as_deref(), Some("anna"), "it was used meanwhile");
        assert_eq!(sessions.user("b", at(118), USED), None);
        assert_eq!(sessions.user("a", at(178), USED), None, "idle for an hour");
        assert_eq!(sessions.user("a", at(178), USED), None);
        sessions.begin("a", "anna", HERE, at(0), TIME);
        for minutes in (0..720).step_by(30) {
            assert!(sessions.user("a", at(minutes), USED).is_some(), "{minutes}");
        }
        assert_eq!(sessions.user("a", at(720), USED), None, "half a day is enough");
    }

    #[test]
    fn a_page_that_only_stands_open_keeps_no_session_alive() {
        let mut sessions = Sessions::default();
        sessions.begin("a", "anna", HERE, at(0), TIME);
        for minutes in 0..60 {
            assert_eq!(sessions.user("a", at(minutes), None).as_deref(), Some("anna"), "{minutes}");
        }
        assert_eq!(sessions.user("a", at(60), None), None);
    }

    #[test]
    fn sessions_are_bounded_and_can_be_ended() {
        let mut sessions = Sessions::default();
        sessions.begin("of bert", "bert", HERE, at(0), TIME);
        for nth in 0..30 {
            sessions.begin(&format!("{nth}"), "anna", HERE, at(nth), TIME);
        }
        assert_eq!(sessions.all(None, at(30)).len(), OF_ONE_MAX + 1);
        assert!(sessions.user("9", at(30), USED).is_none() && sessions.user("29", at(30), USED).is_some());
        let own = sessions.all(Some("29"), at(30)).into_iter().find(|(.., own)| *own).expect("its own");
        assert_eq!(sessions.end_where(|id, _| id == own.0), 1);
        assert!(sessions.user("29", at(30), USED).is_none());
        sessions.end("28");
        assert_eq!(sessions.end_where(|_, session| session.user == "anna"), 18);
        assert_eq!(sessions.user("of bert", at(30), USED).as_deref(), Some("bert"));
    }
}
