//! Paths to a peer as values: which address is tried when, when a path counts as silent, when a better one is tried again.
//!
//! A peer's record holds up to eight addresses, best first. Names are resolved anew for each round of dialling. What is
//! promised, in numbers that `docs/decisions/0020-several-addresses.md` gives reasons for:
//!
//! * dialling tries the address that worked last, then the others in their order, each a little after the one before it and
//!   beside it, as in RFC 8305 ("happy eyeballs"); the first that proves the peer's key is used;
//! * a path is silent when nothing has come over it for [`Silence::patience`] since something was sent that is to be acknowledged;
//!   then the other addresses are dialled, and the first that answers is used;
//! * as long as a path is used that is not the first of the list, whichever side has dialled it, those before it are tried again
//!   after [`Patience`]; where the two boxes would have different paths, each moves less and less often.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::Connection;
use tokio::time::Instant;

use crate::peer::PeerAddress;

/// How often a path is asked for a sign of life over which nothing else goes, where there are other paths: who only receives
/// would not notice that nothing comes any more.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(5);

/// Where a connection goes, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The entry of the peer's record that was dialled; none where the peer has called.
    pub address: Option<PeerAddress>,
    /// Why.
    pub why: Why,
}

/// Why a path is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The peer has called; nothing was dialled here.
    Called,
    /// It is the first address of the record.
    First,
    /// Those before it in the record did not answer, or later.
    Faster,
    /// The path that was used before fell silent.
    OtherSilent,
    /// It answers again and comes before the one that was used.
    Better,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Called => "it called",
            Why::First => "the preferred address",
            Why::Faster => "no address before it answered sooner",
            Why::OtherSilent => "the path before it fell silent",
            Why::Better => "it answers again, and comes before the others",
        })
    }
}

/// An address to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The entry of the record.
    pub of: PeerAddress,
    /// Its place in the record.
    pub rank: usize,
    /// What it was resolved to.
    pub address: SocketAddr,
}

/// In which order candidates are dialled: those of the entry that worked last, then by rank; families by turns within a rank,
/// beginning with the one that the resolver put first (RFC 8305, section 4).
pub(super) fn in_order(found: Vec<Vec<Candidate>>, last: Option<&PeerAddress>) -> Vec<Candidate> {
    let mut ranks: Vec<Vec<Candidate>> = found.into_iter().map(by_turns).collect();
    ranks.sort_by_key(|rank| rank.first().is_none_or(|first| Some(&first.of) != last));
    let mut ordered: Vec<Candidate> = Vec::new();
    for candidate in ranks.into_iter().flatten() {
        if ordered.iter().all(|known| known.address != candidate.address) {
            ordered.push(candidate);
        }
    }
    ordered
}

fn by_turns(found: Vec<Candidate>) -> Vec<Candidate> {
    let Some(first) = found.first().map(|first| first.address.is_ipv6()) else { return found };
    let (mut one, mut other): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.address.is_ipv6() == first);
    let mut turns = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.drain(..), other.drain(..));
    loop {
        let before = turns.len();
        turns.extend(one.next().into_iter().chain(other.next()));
        if turns.len() == before {
            return turns;
        }
    }
}

/// How long after one address the next one is dialled as well (RFC 8305, section 5, allows up to two seconds): so long that an
/// address whose round trip is known would have answered.
pub(super) fn head_start(round_trip: Option<Duration>) -> Duration {
    let answer = round_trip.map_or(Duration::from_secs(1), |known| known * 2 + Duration::from_millis(50));
    answer.clamp(Duration::from_millis(250), Duration::from_secs(2))
}

/// What went over a path so far, as far as it shows whether the path is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Frames that the other end acknowledges (RFC 9000, section 13.2.1). Acknowledgements are none of them: the last one after a
    /// transfer is answered by nobody, and says nothing about the path.
    pub asked: u64,
    /// Datagrams that came.
    pub received: u64,
}

impl Traffic {
    /// Of one connection.
    pub(super) fn of(connection: &Connection) -> Traffic {
        let stats = connection.stats();
        let frames = stats.frame_tx;
        // All but ACK, CONNECTION_CLOSE, and HANDSHAKE_DONE, of which there is one.
        let asked = [
            frames.ack_frequency,
            frames.crypto,
            frames.data_blocked,
            frames.datagram,
            frames.immediate_ack,
            frames.max_data,
            frames.max_stream_data,
            frames.max_streams_bidi,
            frames.max_streams_uni,
            frames.new_connection_id,
            frames.new_token,
            frames.path_challenge,
            frames.path_response,
            frames.ping,
            frames.reset_stream,
            frames.retire_connection_id,
            frames.stop_sending,
            frames.stream,
            frames.stream_data_blocked,
            frames.streams_blocked_bidi,
            frames.streams_blocked_uni,
        ];
        Traffic { asked: asked.into_iter().sum(), received: stats.udp_rx.datagrams }
    }
}

impl std::ops::Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        Traffic { asked: self.asked + other.asked, received: self.received + other.received }
    }
}

/// Notices when nothing comes any more, though something was asked.
#[derive(Debug, Default)]
pub(super) struct Silence {
    seen: Option<Traffic>,
    unanswered_since: Option<Instant>,
}

impl Silence {
    const LEAST: Duration = Duration::from_secs(3);
    const MOST: Duration = Duration::from_secs(15);

    /// For how long nothing may come: six round trips, from 3 s to 15 s. QUIC asks again after about one and a half round trips,
    /// then after twice that; so two questions went unanswered by then.
    pub(super) fn patience(round_trip: Duration) -> Duration {
        (round_trip * 6).clamp(Self::LEAST, Self::MOST)
    }

    /// Is it silent? To be asked about twice a second.
    pub(super) fn look(&mut self, now: Instant, traffic: Traffic, round_trip: Duration) -> bool {
        let seen = *self.seen.get_or_insert(traffic);
        if traffic.received != seen.received {
            self.seen = Some(traffic);
            self.unanswered_since = None;
            return false;
        }
        if traffic.asked == seen.asked {
            return false;
        }
        now.duration_since(*self.unanswered_since.get_or_insert(now)) >= Self::patience(round_trip)
    }
}

/// How long a better path is left alone after it was left: 30 s, and twice as long each time that it fails again within ten
/// minutes of being used, or that the peer calls over another one while it works, up to an hour.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { wait: Self::FIRST }
    }
}

impl Patience {
    const FIRST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(3600);
    const LASTING: Duration = Duration::from_secs(600);

    /// Until better paths are tried again.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// A path was lost that had been used for so long.
    pub(super) fn lost(&mut self, why: Why, used: Duration) {
        self.wait = match used < Self::LASTING && why == Why::Better {
            true => Self::longer(self.wait),
            false if used < Self::LASTING => self.wait,
            false => Self::FIRST,
        };
    }

    /// The peer has called over another path while the better one worked: it would rather have that one.
    pub(super) fn overruled(&mut self) {
        self.wait = Self::longer(self.wait);
    }

    /// Twice as long, up to an hour.
    pub(super) fn longer(wait: Duration) -> Duration {
        (wait * 2).min(Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(rank: usize, address: &str) -> Candidate {
        let of = format!("rank-{rank}:1").parse().expect("an address");
        Candidate { of, rank, address: address.parse().expect("an address") }
    }

    #[test]
    fn families_take_turns_and_what_worked_comes_first() {
        let first = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"].map(|address| candidate(0, address));
        let second = ["198.51.100.1:1", "192.0.2.1:1"].map(|address| candidate(1, address));
        let found = || vec![first.to_vec(), Vec::new(), second.to_vec()];
        let order = |last: Option<&PeerAddress>| {
            in_order(found(), last).into_iter().map(|found| found.address.to_string()).collect::<Vec<_>>()
        };
        let by_rank = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "198.51.100.1:1"];
        assert_eq!(order(None), by_rank);
        assert_eq!(order(Some(&"rank-0:1".parse().unwrap_or_else(|_| unreachable!()))), by_rank);
        let other = ["198.51.100.1:1", "192.0.2.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1"];
        assert_eq!(order(Some(&second[0].of)), other);
    }

    #[test]
    fn an_address_has_time_to_answer_before_the_next_is_dialled() {
        let milli = Duration::from_millis;
        let starts = [None, Some(milli(0)), Some(milli(300)), Some(milli(5000))].map(head_start);
        assert_eq!(starts, [milli(1000), milli(250), milli(650), milli(2000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_what_is_not_answered_and_not_what_is_not_asked() {
        let mut silence = Silence::default();
        let round_trip = Duration::from_millis(100);
        let mut look = |asked, received| silence.look(Instant::now(), Traffic { asked, received }, round_trip);
        assert!(!look(5, 5));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(!look(5, 5), "nobody asked");
        assert!(!look(6, 5));
        tokio::time::advance(Duration::from_millis(2900)).await;
        assert!(!look(9, 5));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(look(9, 5) && !look(9, 6), "an answer ends it");
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(!look(9, 6));
        let second = Duration::from_secs(1);
        assert_eq!([second / 5, second, 4 * second].map(Silence::patience), [3, 6, 15].map(Duration::from_secs));
    }

    #[test]
    fn a_path_that_fails_again_and_again_is_tried_less_often() {
        let mut patience = Patience::default();
        let minute = Duration::from_secs(60);
        let mut waits = Vec::new();
        for (why, used) in [
            (Why::First, minute),
            (Why::Better, minute),
            (Why::Better, minute),
            (Why::OtherSilent, minute),
            (Why::Better, 20 * minute),
        ] {
            patience.lost(why, used);
            waits.push(patience.wait().as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 120, 30]);
        // Two boxes that want different paths: so often each moves, until somebody changes the addresses.
        let waits: Vec<u64> = std::iter::repeat_with(|| {
            patience.overruled();
            patience.wait().as_secs()
        })
        .take(8)
        .collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }
}
