//! How fast peers may send to this box: the cap of what it receives, dealt out among those who send.
//!
//! Nobody can hold back what is already on its way, so a cap of what arrives has to be kept by who sends. Each peer is *granted* a rate,
//! which its own shaped socket keeps like a cap of its own, and what is granted to all together never exceeds the cap of the box:
//! what one peer is to have more of, another gives up first, and until that is sure to count ([`SETTLES`]) nobody else gets it.
//!
//! Peers that use what they are granted (*wanting* ones) share equally, each under its own cap; the others keep a little, enough to show that
//! they want more. Where there is less than the lowest rate for each, they take turns at it, those that have waited longest first.
//! A value: the time and what was seen come in, grants come out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rate::Rate;

/// A grant that was lowered counts, for the others, as what it was for so long: a second of the sender's memory, and a round trip of a second.
pub const SETTLES: Duration = Duration::from_secs(2);
/// Who does not want keeps this part of an equal share, as a divisor.
const LITTLE: u64 = 4;
/// Where there is not enough for all at once, each that wants has it for so long at a time: of which the next one waits [`SETTLES`].
const TURN: Duration = Duration::from_secs(10);
/// And who does not want, for so long: to show that it does after all.
const SHORT_TURN: Duration = Duration::from_secs(5);
/// Who has used less than it wants for so long does not want any more.
const BORED: Duration = Duration::from_secs(3);

/// What is granted to peers, named by `K`.
#[derive(Clone, Debug)]
pub struct Receive<K> {
    whole: Option<Rate>,
    lines: BTreeMap<K, Line>,
    /// How many turns there were.
    turns: u64,
}

#[derive(Clone, Debug, Default)]
struct Line {
    own: Option<Rate>,
    connected: bool,
    /// In bits per second; None before the first look, and where there is no cap.
    granted: Option<u64>,
    /// What it may still send by a grant that was lowered.
    held: Option<(u64, Duration)>,
    /// When it was last seen to use most of its grant.
    wanted: Option<Duration>,
    /// Since when it has its turn.
    turn: Option<Duration>,
    /// The number of its last turn, from 1 on.
    last_turn: u64,
}

impl<K> Default for Receive<K> {
    fn default() -> Self {
        Receive { whole: None, lines: BTreeMap::new(), turns: 0 }
    }
}

impl<K: Ord + Copy> Receive<K> {
    /// Changes the cap of everything that the box receives; counts from the next look on.
    pub fn set_whole(&mut self, limit: Option<Rate>) {
        self.whole = limit;
    }

    /// Changes the cap of what is received from one peer.
    pub fn set_own(&mut self, key: K, limit: Option<Rate>) {
        self.lines.entry(key).or_default().own = limit;
    }

    /// The cap of the box (`None`), or of one peer.
    pub fn limit(&self, of: Option<K>) -> Option<Rate> {
        of.map_or(self.whole, |key| self.lines.get(&key).and_then(|line| line.own))
    }

    /// There are these peers and no others.
    pub fn keep(&mut self, keys: impl Iterator<Item = K>) {
        let mut before = std::mem::take(&mut self.lines);
        self.lines = keys.map(|key| (key, before.remove(&key).unwrap_or_default())).collect();
    }

    /// What a peer is granted by the last look; `None` is no cap.
    pub fn granted(&self, key: K) -> Option<Rate> {
        let line = self.lines.get(&key)?;
        line.granted.map(rate_of)
    }

    /// Deals out anew. `seen` tells of each peer whether it is connected, and how many bits have come from it in the second that ends
    /// now.
    pub fn look(&mut self, now: Duration, seen: impl Fn(K) -> Option<u64>) {
        for (key, line) in &mut self.lines {
            line.notice(now, seen(*key));
        }
        match self.whole {
            None => self.lines.values_mut().for_each(|line| {
                line.granted = line.own.map(Rate::bits);
                line.held = None;
            }),
            Some(whole) => self.deal(now, whole),
        }
    }

    fn deal(&mut self, now: Duration, whole: Rate) {
        self.take_turns(now, whole);
        let targets = self.targets(now, whole);
        for (line, target) in self.lines.values_mut().zip(&targets) {
            // Who was told nothing yet has nothing.
            let before = line.granted.unwrap_or(0);
            if *target < before {
                line.held = Some((before.max(line.held_bits(now)), now + SETTLES));
            }
            line.granted = Some(before.min(*target));
        }
        let taken: u64 = self.lines.values().map(|line| line.taken(now)).sum();
        let mut room = whole.bits().saturating_sub(taken);
        for (line, target) in self.lines.values_mut().zip(&targets) {
            let granted = line.granted.unwrap_or(0);
            // What is held for it already is no one else's.
            let more = target.saturating_sub(granted).min(room + line.taken(now) - granted);
            room -= (granted + more).saturating_sub(line.taken(now));
            line.granted = Some(granted + more);
        }
    }

    /// Says whose turn it is: everybody's, where the lowest rate is there for each.
    fn take_turns(&mut self, now: Duration, whole: Rate) {
        let places = usize::try_from(whole.bits() / Rate::MIN.bits()).unwrap_or(usize::MAX);
        let crowded = self.lines.values().filter(|line| line.may_have()).count() > places;
        for line in self.lines.values_mut() {
            let lasts = if line.wants(now) { TURN } else { SHORT_TURN };
            let is_over = crowded && line.turn.is_some_and(|began| now >= began + lasts);
            line.turn = line.turn.filter(|_| line.may_have() && !is_over);
        }
        let taken = self.lines.values().filter(|line| line.turn.is_some()).count();
        let mut waiting: Vec<_> =
            self.lines.values_mut().filter(|line| line.may_have() && line.turn.is_none()).collect();
        waiting.sort_by_key(|line| line.last_turn);
        for line in waiting.into_iter().take(places.saturating_sub(taken)) {
            self.turns += 1;
            line.turn = Some(now);
            line.last_turn = self.turns;
        }
        // Where it was not crowded, more may have a turn than there are places now: the latest come again first.
        let mut having: Vec<_> = self.lines.values_mut().filter(|line| line.turn.is_some()).collect();
        having.sort_by_key(|line| line.last_turn);
        having.into_iter().skip(places).for_each(|line| line.turn = None);
    }

    /// What each would have, were it not for what others still have.
    fn targets(&self, now: Duration, whole: Rate) -> Vec<u64> {
        let own = |line: &Line| line.own.map_or(u64::MAX, Rate::bits);
        if whole.is_paused() {
            return vec![0; self.lines.len()];
        }
        let connected = self.lines.values().filter(|line| line.connected).count().max(1) as u64;
        let somebody = self.lines.values().any(|line| line.wants(now));
        let little = (whole.bits() / connected / LITTLE).max(Rate::MIN.bits());
        // The least first: what it leaves is the others'.
        let most = |line: &Line| match line {
            line if line.turn.is_none() => 0,
            line if line.wants(now) || !somebody => own(line),
            line => own(line).min(little),
        };
        let mut order: Vec<(usize, u64)> = self.lines.values().map(most).enumerate().collect();
        order.sort_by_key(|(_, most)| *most);
        let mut targets = vec![0; order.len()];
        order.retain(|(_, most)| *most > 0);
        // No share is less than the lowest rate: there are no more turns than that.
        let (mut left, mut others) = (whole.bits(), order.len() as u64);
        for (place, most) in order {
            let target = most.min(left / others.max(1));
            targets[place] = target;
            left -= target;
            others = others.saturating_sub(1);
        }
        targets
    }
}

impl Line {
    fn notice(&mut self, now: Duration, seen: Option<u64>) {
        self.connected = seen.is_some();
        let bits = seen.unwrap_or(0);
        if self.granted.is_none_or(|granted| bits >= granted / 10 * 6) && bits > 0 {
            self.wanted = Some(now);
        }
        if self.held.is_some_and(|(_, until)| now >= until) {
            self.held = None;
        }
    }

    /// May it be granted anything?
    fn may_have(&self) -> bool {
        self.connected && self.own.is_none_or(|own| !own.is_paused())
    }

    fn wants(&self, now: Duration) -> bool {
        self.connected && self.wanted.is_some_and(|wanted| now < wanted + BORED)
    }

    fn held_bits(&self, now: Duration) -> u64 {
        self.held.filter(|(_, until)| now < *until).map_or(0, |(bits, _)| bits)
    }

    /// What it may send at most, as far as that is known here.
    fn taken(&self, now: Duration) -> u64 {
        self.granted.unwrap_or(0).max(self.held_bits(now))
    }
}

fn rate_of(bits: u64) -> Rate {
    // What lies between is never granted.
    Rate::from_bits(bits.min(Rate::MAX.bits())).unwrap_or(Rate::PAUSED)
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
