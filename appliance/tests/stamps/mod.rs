//! What one writer of `kill_volumes.rs` has written, and how it looks whether it is there.
//!
//! Every sector that is written bears a stamp: the moment at which its write was sent, counted over all writers, and the
//! sector's own number, with noise of both behind it. So each sector says which write it is from, and whether it is whole.
//! A writer has a range of sectors to itself and never has two changes of one sector under way, so that for each sector the
//! changes have one order.

mod verify;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::common::iscsi::{Answer, Initiator, synchronize, unmap, write};
use crate::common::seeded::Seeded;
pub use verify::{Wrong, kinds};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Sectors of one writer: 8 MiB.
pub const SECTORS: u64 = 16384;
/// Most commands of one writer under way.
const DEPTH: usize = 8;
/// The stamp of a sector of zeros: never written, or discarded.
const ZEROS: u64 = 0;

/// Counts moments, over all writers of a box.
pub type Moments = Arc<AtomicU64>;

/// A change of some sectors.
#[derive(Clone, Debug)]
struct Change {
    /// The first sector and how many, within the writer's range.
    first: u64,
    count: u64,
    /// What the sectors bear then.
    stamp: u64,
    /// When it was sent, and when its answer had come.
    sent: u64,
    answered: Option<u64>,
    /// It was answered with FUA, or before a SYNCHRONIZE CACHE was sent that was answered.
    stable: bool,
    /// It is to be stable when it is answered.
    forced: bool,
}

impl Change {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// A command that is under way.
enum UnderWay {
    /// A change, by its place in the history.
    Change(usize),
    /// SYNCHRONIZE CACHE, sent at a moment.
    Synchronize(u64),
}

/// What has been met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answered: u64,
    pub stable: u64,
    pub bytes: u64,
    pub cut_off: u64,
    pub cut_off_there: u64,
}

impl Counts {
    /// Both together.
    pub fn with(self, other: &Counts) -> Counts {
        Counts {
            answered: self.answered + other.answered,
            stable: self.stable + other.stable,
            bytes: self.bytes + other.bytes,
            cut_off: self.cut_off + other.cut_off,
            cut_off_there: self.cut_off_there + other.cut_off_there,
        }
    }
}

/// One writer: a range of sectors, and what must be in it.
#[derive(Clone)]
pub struct Writer {
    number: u64,
    random: Seeded,
    moments: Moments,
    /// What each sector bore when it was last looked at.
    base: Vec<u64>,
    /// What was sent since.
    history: Vec<Change>,
    pub counts: Counts,
}

impl Writer {
    pub fn new(seed: u64, number: u64, moments: Moments) -> Writer {
        Writer {
            number,
            random: Seeded::new(seed * 100 + number),
            moments,
            base: vec![ZEROS; SECTORS as usize],
            history: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The port of the writer's session, which tells it from the others.
    pub fn port(&self) -> u8 {
        self.number as u8 + 1
    }

    /// The volume's sector with the writer's first one.
    fn origin(&self) -> u64 {
        self.number * SECTORS
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, SeqCst) + 1
    }

    /// Changes sectors as fast as it can, until the connection ends.
    pub fn work(&mut self, mut session: Initiator) {
        let mut under_way = BTreeMap::new();
        // A connection that ends is the way in which this ends.
        let _ = self.go_on(&mut session, &mut under_way);
    }

    fn go_on(&mut self, session: &mut Initiator, under_way: &mut BTreeMap<u32, UnderWay>) -> io::Result<()> {
        session.greet(0)?;
        loop {
            if under_way.len() == DEPTH {
                let answer = session.next()?;
                self.answered(under_way, &answer);
            }
            if self.random.one_in(12) {
                let sent = self.moment();
                let tag = session.submit(0, &synchronize(), Vec::new(), 0)?;
                under_way.insert(tag, UnderWay::Synchronize(sent));
                continue;
            }
            let change = self.roll();
            while self.is_touched(under_way, &change) {
                let answer = session.next()?;
                self.answered(under_way, &answer);
            }
            // In the history before it is on its way: the connection may end at any byte of it.
            let place = self.history.len();
            self.history.push(Change { sent: self.moment(), ..change });
            let tag = self.send(session, place)?;
            under_way.insert(tag, UnderWay::Change(place));
        }
    }

    /// Another change: mostly small, now and then so long that it is cut and stored before it is answered.
    fn roll(&mut self) -> Change {
        let count = match self.random.below(20) {
            0..=8 => 8,
            9..=13 => 1 + self.random.below(24),
            14..=17 => 8 * (1 + self.random.below(64)),
            _ => 256 + self.random.below(4096),
        };
        let mut first = self.random.below(SECTORS - count + 1);
        if self.random.one_in(2) {
            first -= first % 8;
        }
        let discards = self.random.one_in(10);
        let forced = !discards && self.random.one_in(12);
        let stamp = if discards { ZEROS } else { 1 };
        Change { first, count, stamp, sent: 0, answered: None, stable: false, forced }
    }

    fn is_touched(&self, under_way: &BTreeMap<u32, UnderWay>, change: &Change) -> bool {
        under_way.values().any(|command| match command {
            UnderWay::Change(place) => {
                let other = &self.history[*place];
                other.first < change.end() && change.first < other.end()
            }
            UnderWay::Synchronize(_) => false,
        })
    }

    /// Sends a change; its stamp is the moment at which it is sent.
    fn send(&mut self, session: &mut Initiator, place: usize) -> io::Result<u32> {
        let origin = self.origin();
        let change = &mut self.history[place];
        let (block, blocks) = (origin + change.first, change.count as usize);
        if change.stamp == ZEROS {
            let (cdb, list) = unmap(block, blocks);
            return session.submit(0, &cdb, list, 0);
        }
        change.stamp = change.sent;
        let stamp = change.stamp;
        let data: Vec<u8> = (block..block + change.count).flat_map(|sector| content(stamp, sector)).collect();
        session.submit(0, &write(block, blocks, change.forced), data, 0)
    }

    fn answered(&mut self, under_way: &mut BTreeMap<u32, UnderWay>, answer: &Answer) {
        assert!(answer.is_good(), "writer {}: {answer:?}", self.number);
        let now = self.moment();
        match under_way.remove(&answer.tag).expect("a command that is under way") {
            UnderWay::Change(place) => {
                let change = &mut self.history[place];
                (change.answered, change.stable) = (Some(now), change.forced);
                self.counts.answered += 1;
                self.counts.bytes += change.count * SECTOR as u64;
            }
            UnderWay::Synchronize(sent) => {
                let before = |change: &&mut Change| change.answered.is_some_and(|answered| answered < sent);
                self.history.iter_mut().filter(before).for_each(|change| change.stable = true);
            }
        }
    }

    /// For canaries: the last change counts as answered, or synchronised, although it never was sent.
    pub fn claim(&mut self, first: u64, count: u64, stable: bool) {
        let sent = self.moment();
        let answered = Some(self.moment());
        self.history.push(Change { first, count, stamp: sent, sent, answered, stable, forced: stable });
    }

    /// For canaries: one change that is sent, answered and synchronised. What it puts there is returned.
    pub fn change(&mut self, session: &mut Initiator, first: u64, count: u64) -> Vec<u8> {
        let sent = self.moment();
        self.history.push(Change { first, count, stamp: 1, sent, answered: None, stable: false, forced: true });
        let place = self.history.len() - 1;
        let tag = self.send(session, place).expect("it serves");
        let answer = session.next().expect("it answers");
        self.answered(&mut BTreeMap::from([(tag, UnderWay::Change(place))]), &answer);
        let (stamp, from) = (self.history[place].stamp, self.origin() + first);
        (from..from + count).flat_map(|sector| content(stamp, sector)).collect()
    }
}

/// The bytes of a sector with a stamp: both, and noise of both, again and again, so that a sector takes little room on a disk.
fn content(stamp: u64, sector: u64) -> [u8; SECTOR] {
    let mut noise = Seeded::new(stamp << 32 ^ sector);
    let words = [stamp, sector, noise.next(), noise.next()].map(u64::to_le_bytes);
    let mut bytes = [0; SECTOR];
    bytes.chunks_exact_mut(8).zip(words.iter().cycle()).for_each(|(piece, word)| piece.copy_from_slice(word));
    bytes
}
