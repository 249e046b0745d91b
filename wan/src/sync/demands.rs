//! Proofs at either end of a session: what the sender has to prove, what the receiver waits for.

use std::collections::VecDeque;

use narrowboat_storage::name::{Kind, Name};

use super::failure::Failure;
use super::jobs::Request;
use super::proving::{Cost, Demand};
use super::report::Report;
use super::seam::Ref;
use crate::wire::{Message, Proof, Prove, ProveWays};

/// Most objects that wait for their proof. A receiver holds further answers back; a sender ends where one does not.
const WAITING_MAX: usize = 64 << 10;
/// Proofs that wait for the control stream; no more are computed meanwhile.
const READY_MAX: usize = 64;
/// Demands by way are numbered from here on, so that no proof is taken for another.
const WAYS_FROM: u64 = 1 << 63;

/// What one demand is about.
#[derive(Debug)]
enum What {
    Named(Vec<Ref>),
    Ways(Vec<Vec<u32>>),
}

impl What {
    fn len(&self) -> usize {
        match self {
            What::Named(objects) => objects.len(),
            What::Ways(ways) => ways.len(),
        }
    }
}

/// The sender's side.
#[derive(Debug, Default)]
pub(super) struct Prover {
    key: Option<[u8; 32]>,
    /// What the last answer called present.
    present: VecDeque<(u64, Ref)>,
    queue: VecDeque<(u64, What)>,
    queued: usize,
    running: Option<u64>,
    ready: VecDeque<Proof>,
    /// Bytes that were proved by way, and 1024 for each object.
    by_way_bytes: u64,
}

impl Prover {
    /// The receiver's challenge, once.
    pub fn challenged(&mut self, key: [u8; 32]) -> Result<(), Failure> {
        match self.key.replace(key) {
            None => Ok(()),
            Some(_) => Err(Failure::Protocol("it challenges twice".to_owned())),
        }
    }

    /// Objects that were just answered with "present", with their numbers.
    pub fn answered(&mut self, present: impl Iterator<Item = (u64, Ref)>) {
        self.present.clear();
        if self.key.is_some() {
            self.present.extend(present);
        }
    }

    /// The receiver wants proof of some of these; of each once.
    pub fn demanded(&mut self, prove: &Prove) -> Result<(), Failure> {
        let mut objects = Vec::new();
        for number in
            (0..).zip(&prove.which).filter(|(_, set)| **set).map(|(place, _)| prove.first.saturating_add(place))
        {
            while self.present.front().is_some_and(|(of, _)| *of < number) {
                self.present.pop_front();
            }
            match self.present.front() {
                Some((of, at)) if *of == number => objects.push(*at),
                _ => return Err(Failure::Protocol("it wants proof of what it did not call present".to_owned())),
            }
            self.present.pop_front();
        }
        self.enqueue(prove.first, What::Named(objects))
    }

    /// The receiver wants proof of what lies there.
    pub fn demanded_ways(&mut self, prove: ProveWays) -> Result<(), Failure> {
        if prove.first < WAYS_FROM {
            return Err(Failure::Protocol("it numbers a demand by way as one by name".to_owned()));
        }
        self.enqueue(prove.first, What::Ways(prove.ways))
    }

    fn enqueue(&mut self, first: u64, what: What) -> Result<(), Failure> {
        self.queued += what.len();
        if self.key.is_none() || what.len() == 0 || self.queued > 2 * WAITING_MAX {
            return Err(Failure::Protocol("it wants proof of nothing, or of too much".to_owned()));
        }
        self.queue.push_back((first, what));
        Ok(())
    }

    /// The next proof to be computed, one at a time.
    pub fn next_job(&mut self, root: Option<Name>) -> Option<Request> {
        if self.running.is_some() || self.ready.len() >= READY_MAX {
            return None;
        }
        let (first, what) = self.queue.pop_front()?;
        self.running = Some(first);
        self.queued -= what.len();
        let (key, root) = (self.key?, (Kind::MapNode, root?));
        Some(match what {
            What::Named(objects) => Request::Prove { key, first, objects },
            What::Ways(ways) => Request::ProveWays { key, first, root, ways },
        })
    }

    /// Takes a proof that was computed; none where it took more than any receiver may want. What lies in the places of a snapshot together has `all_bytes`
    /// at most: who wants proof of more by ways wants the same again and again.
    pub fn proved(
        &mut self,
        proof: Option<([u8; 32], Cost)>,
        all_bytes: u64,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let Some(first) = self.running.take() else { return Ok(()) };
        let Some((digest, cost)) = proof else {
            return Err(Failure::Protocol("it wants proof of more than there may be".to_owned()));
        };
        report.proved.add(cost);
        if first >= WAYS_FROM {
            // A small object is work, too.
            let bytes = cost.bytes.saturating_add(cost.objects.saturating_mul(1024));
            self.by_way_bytes = self.by_way_bytes.saturating_add(bytes);
            if self.by_way_bytes > all_bytes {
                return Err(Failure::Protocol("it wants proof of the same again and again".to_owned()));
            }
        }
        self.ready.push_back(Proof { first, digest });
        Ok(())
    }

    /// The next proof to be said.
    pub fn next_said(&mut self) -> Option<Message> {
        self.ready.pop_front().map(Message::Proof)
    }

    /// True while there is something to be proved.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.queue.is_empty() || !self.ready.is_empty()
    }
}

/// What one proof is about.
#[derive(Clone, Debug)]
struct Wanted {
    first: u64,
    demands: Vec<Demand>,
}

/// The receiver's side.
#[derive(Debug, Default)]
pub(super) struct Demands {
    to_say: VecDeque<Message>,
    /// Said or about to be, in order.
    wanted: VecDeque<Wanted>,
    arrived: VecDeque<(Wanted, [u8; 32])>,
    verifying: bool,
    waiting: usize,
    ways_said: u64,
}

impl Demands {
    /// Demands proofs of objects that an answer calls present: their numbers, and what they take. Cut so that no proof takes more than one
    /// node may, and some.
    pub fn add(&mut self, demands: Vec<(u64, Demand)>) {
        self.waiting += demands.len();
        let mut cost = Cost::default();
        let mut part: Vec<(u64, Demand)> = Vec::new();
        for (number, demand) in demands {
            cost.add(demand.cost);
            part.push((number, demand));
            if cost.objects > super::proving::OBJECTS_MAX / 16 || cost.bytes > super::proving::BYTES_MAX / 16 {
                self.say(std::mem::take(&mut part));
                cost = Cost::default();
            }
        }
        self.say(part);
    }

    /// Demands proofs of what was not asked about.
    pub fn add_ways(&mut self, mut demands: Vec<(Vec<u32>, Demand)>) {
        self.waiting += demands.len();
        while !demands.is_empty() {
            let mut cost = Cost::default();
            let much = demands.iter().position(|(_, demand)| {
                cost.add(demand.cost);
                cost.objects > super::proving::OBJECTS_MAX / 16 || cost.bytes > super::proving::BYTES_MAX / 16
            });
            let rest = demands.split_off(much.map_or(demands.len(), |place| place + 1));
            let first = WAYS_FROM + self.ways_said;
            self.ways_said += demands.len() as u64;
            let (ways, wanted) = demands.into_iter().unzip();
            self.to_say.push_back(Message::ProveWays(ProveWays { first, ways }));
            self.wanted.push_back(Wanted { first, demands: wanted });
            demands = rest;
        }
    }

    fn say(&mut self, part: Vec<(u64, Demand)>) {
        let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { return };
        let (first, mut which) = (*first, vec![false; (last - first + 1) as usize]);
        for (number, _) in &part {
            which[(number - first) as usize] = true;
        }
        self.to_say.push_back(Message::Prove(Prove { first, which }));
        self.wanted.push_back(Wanted { first, demands: part.into_iter().map(|(_, demand)| demand).collect() });
    }

    /// The next demand to be said; before any further answer.
    pub fn next_said(&mut self) -> Option<Message> {
        self.to_say.pop_front()
    }

    /// Takes a proof.
    pub fn arrived(&mut self, proof: Proof) -> Result<(), Failure> {
        // What was not demanded yet cannot be proved.
        match self.wanted.pop_front() {
            Some(wanted) if wanted.first == proof.first && self.wanted.len() >= self.to_say.len() => {
                self.arrived.push_back((wanted, proof.digest));
                Ok(())
            }
            _ => Err(Failure::Protocol("it proves what it was not asked to".to_owned())),
        }
    }

    /// The next proof to be verified, one at a time.
    pub fn next_job(&mut self) -> Option<Request> {
        if self.verifying {
            return None;
        }
        let (Wanted { first, demands }, digest) = self.arrived.pop_front()?;
        self.verifying = true;
        self.waiting -= demands.len();
        Some(Request::Verify { first, demands, digest })
    }

    /// A proof was right.
    pub fn verified(&mut self, cost: Cost, report: &mut Report) {
        self.verifying = false;
        report.proved.add(cost);
    }

    /// True where no further questions are to be looked up for now.
    pub fn is_full(&self) -> bool {
        self.waiting >= WAITING_MAX
    }

    /// True while proofs are verified here.
    pub fn is_busy(&self) -> bool {
        self.verifying || !self.arrived.is_empty() || !self.to_say.is_empty()
    }

    /// True once everything that was demanded was proved.
    pub fn is_settled(&self) -> bool {
        !self.is_busy() && self.wanted.is_empty()
    }
}
