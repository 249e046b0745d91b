//! What is packed of a rehearsal, and what is only taken to be packed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use narrowboat_storage::container::codec::Codec;

use crate::sync::seam::Ref;
use crate::sync::{Arrival, Done, Group, Job, Order, Parcel, Reply, Request, Source, Worker};
use crate::wire::{Bundle, Packing};

/// How much is packed to see how small it gets: everything up to so many bytes, and behind that one group in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Bytes that are packed in any case, before compression.
    pub whole_bytes: u64,
    /// Of what comes behind them, each so many-th group; 1 for all.
    pub one_in: u32,
}

impl Sampling {
    /// Everything is packed.
    pub const ALL: Sampling = Sampling { whole_bytes: u64::MAX, one_in: 1 };
}

/// What was packed, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Bytes that were packed, before.
    pub packed_raw: u64,
    /// And after.
    pub packed: u64,
    /// Bytes that were not packed, before.
    pub estimated_raw: u64,
    /// What they were taken to become.
    pub estimated: u64,
    /// Two standard errors of `estimated`.
    pub error: u64,
}

/// Runs the jobs of both sides.
pub(super) struct Packer {
    source: Arc<dyn Source>,
    sampling: Sampling,
    /// Groups that were asked for behind the bytes that are packed in any case.
    nth: [u64; 2],
    sampled: Sampled,
    /// How small groups got: those without anything to be packed against, and those with.
    seen: [Seen; 2],
    /// What was estimated from each, in bytes as stored.
    by_seen: [u64; 2],
    /// Objects of groups that were not packed, by the number that is in front of their bytes.
    unpacked: HashMap<u64, Vec<Ref>>,
    next: u64,
    /// In front of the bytes of a group that was not packed, which nothing else begins with.
    magic: [u8; 16],
}

/// How small groups of one sort got, of what may get smaller.
#[derive(Default)]
struct Seen {
    groups: u64,
    before: f64,
    after: f64,
    /// Sums of before², before × after, and after².
    squares: [f64; 3],
}

impl Seen {
    fn add(&mut self, before: u64, after: u64) {
        let (before, after) = (before as f64, after as f64);
        self.groups += 1;
        self.before += before;
        self.after += after;
        let squares = [before * before, before * after, after * after];
        squares.iter().zip(&mut self.squares).for_each(|(add, sum)| *sum += add);
    }

    /// How small something becomes; as large as it is while nothing is known.
    fn ratio(&self) -> f64 {
        if self.before > 0.0 { self.after / self.before } else { 1.0 }
    }

    /// Two standard errors of the ratio, as a ratio estimate has them (Cochran, Sampling Techniques, section 6.4). All of it, while nothing is known.
    fn error(&self) -> f64 {
        if self.groups < 2 || self.before <= 0.0 {
            return 1.0;
        }
        let (ratio, groups) = (self.ratio(), self.groups as f64);
        let [before2, both, after2] = self.squares;
        let variance = (after2 - 2.0 * ratio * both + ratio * ratio * before2).max(0.0) / (groups - 1.0);
        2.0 * (variance / groups).sqrt() / (self.before / groups)
    }
}

/// What an order holds, before it is packed.
#[derive(Default)]
struct Content {
    lens: Vec<u32>,
    raw: u64,
    stored: u64,
    /// Of what is stored, the part that did not get smaller then and won't now.
    stiff: u64,
}

impl Content {
    fn of(source: &dyn Source, order: &Order, objects_max: usize) -> narrowboat_storage::error::Result<Content> {
        let mut content = Content::default();
        for ((kind, name), _) in order.objects.iter().take(objects_max) {
            let stored = source.stored(*kind, name)?;
            let (raw, len) = (u64::from(stored.raw_len), stored.bytes.len() as u64);
            if !content.lens.is_empty() && content.raw + raw > order.bytes_max as u64 {
                break;
            }
            content.lens.push(stored.raw_len);
            content.raw += raw;
            content.stored += len;
            content.stiff += if stored.codec == Codec::Raw { len } else { 0 };
        }
        Ok(content)
    }

    /// What may get smaller: all of it, where there is something to pack it against.
    fn supple(&self, has_bases: bool) -> u64 {
        if has_bases { self.stored } else { self.stored - self.stiff }
    }
}

/// What is done with a group.
enum Turn {
    /// It is packed, as ever.
    Pack,
    /// It is packed, and others are taken to be like it.
    Learn,
    /// It is taken to be like others.
    Estimate,
}

fn has_bases(order: &Order) -> bool {
    order.delta && order.objects.iter().any(|(_, counterparts)| !counterparts.all.is_empty())
}

impl Packer {
    pub fn new(source: Arc<dyn Source>, sampling: Sampling) -> Packer {
        Packer {
            source,
            sampling,
            nth: [0; 2],
            sampled: Sampled::default(),
            seen: Default::default(),
            by_seen: [0; 2],
            unpacked: HashMap::new(),
            next: 0,
            magic: rand::random(),
        }
    }

    /// What was packed so far, and what was not.
    pub fn sampled(&self) -> Sampled {
        let errors = self.seen.iter().zip(self.by_seen).map(|(seen, bytes)| (seen.error() * bytes as f64).powi(2));
        Sampled { error: errors.sum::<f64>().sqrt() as u64, ..self.sampled }
    }

    /// Runs a job of either side.
    pub fn run(&mut self, worker: &Worker, job: Job) -> Done {
        let id = job.id;
        let reply = match job.request {
            Request::Pack(order) => match self.turn(&order) {
                Turn::Pack => worker.run(Job { id, request: Request::Pack(order) }).reply,
                Turn::Learn => self.learn(worker, id, order),
                Turn::Estimate => self.estimate(&order).unwrap_or_else(Reply::Failed),
            },
            Request::Admit(arrivals) if !self.unpacked.is_empty() => self.admit(worker, arrivals),
            request => worker.run(Job { id, request }).reply,
        };
        if let Reply::Packed(Parcel::Group(group)) = &reply
            && !self.is_unpacked(&group.bytes)
        {
            self.sampled.packed_raw += group.lens.iter().map(|len| u64::from(*len)).sum::<u64>();
            self.sampled.packed += group.bytes.len() as u64;
        }
        Done { id, reply }
    }

    /// What happens with the next group.
    fn turn(&mut self, order: &Order) -> Turn {
        if order.level.is_none() || self.sampled.packed_raw < self.sampling.whole_bytes || self.sampling.one_in < 2 {
            return Turn::Pack;
        }
        let nth = &mut self.nth[usize::from(has_bases(order))];
        *nth += 1;
        // The first two of each sort, so that something is known.
        let learns = *nth <= 2 || nth.is_multiple_of(self.sampling.one_in.into());
        if learns { Turn::Learn } else { Turn::Estimate }
    }

    fn learn(&mut self, worker: &Worker, id: u64, order: Order) -> Reply {
        let reply = worker.run(Job { id, request: Request::Pack(order.clone()) }).reply;
        let Reply::Packed(Parcel::Group(group)) = &reply else { return reply };
        let has_bases = has_bases(&order);
        match Content::of(&*self.source, &order, group.lens.len()) {
            Ok(content) => {
                let stiff = content.stored - content.supple(has_bases);
                let after = (group.bytes.len() as u64).saturating_sub(stiff);
                self.seen[usize::from(has_bases)].add(content.supple(has_bases), after);
                reply
            }
            Err(error) => Reply::Failed(error),
        }
    }

    /// A group as large as those that were packed let expect.
    fn estimate(&mut self, order: &Order) -> narrowboat_storage::error::Result<Reply> {
        let content = Content::of(&*self.source, order, usize::MAX)?;
        let has_bases = has_bases(order);
        let supple = content.supple(has_bases);
        let after = (supple as f64 * self.seen[usize::from(has_bases)].ratio()) as u64;
        let expected = (content.stored - supple + after).min(content.raw);
        let number = self.next;
        self.next += 1;
        let packed = (expected as usize).max(self.magic.len() + size_of::<u64>());
        let mut bytes = BytesMut::with_capacity(packed);
        bytes.put_slice(&self.magic);
        bytes.put_u64_le(number);
        bytes.resize(packed, 0);
        self.unpacked.insert(number, order.objects.iter().take(content.lens.len()).map(|(at, _)| *at).collect());
        self.sampled.estimated_raw += content.raw;
        self.sampled.estimated += packed as u64;
        self.by_seen[usize::from(has_bases)] += supple;
        let group = Group {
            lens: content.lens,
            stored_bytes: content.stored,
            bases: Vec::new(),
            based: 0,
            level: order.level.unwrap_or_default(),
            packing: Packing::Zstd,
            bytes: bytes.freeze(),
        };
        Ok(Reply::Packed(Parcel::Group(group)))
    }

    /// Admits in order: what was packed as ever, what was not by its names.
    fn admit(&mut self, worker: &Worker, arrivals: Vec<Arrival>) -> Reply {
        for arrival in arrivals {
            let objects = match &arrival {
                Arrival::Bundle(_, bundle) => self.number_of(bundle).and_then(|number| self.unpacked.remove(&number)),
                Arrival::Object(..) => None,
            };
            let reply = match objects {
                Some(objects) => worker.admit_unpacked(&objects, &*self.source),
                None => worker.run(Job { id: 0, request: Request::Admit(vec![arrival]) }).reply,
            };
            if !matches!(reply, Reply::Admitted) {
                return reply;
            }
        }
        Reply::Admitted
    }

    fn number_of(&self, bundle: &Bundle) -> Option<u64> {
        let rest = bundle.bytes.strip_prefix(&self.magic[..])?;
        Some(u64::from_le_bytes(*rest.first_chunk()?))
    }

    fn is_unpacked(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.magic)
    }
}
