//! Healings over real connections: both ways over one line, from boxes that are too old, that lie, and whose line breaks in the middle.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::office::Office;
use common::rng::Rng;
use narrowboat_lines::relay::{Path, Relay};
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::Name;
use narrowboat_storage::pool::Stored;
use narrowboat_wan::heal::{Below, Healer, Need, Patient};
use narrowboat_wan::link::{Cancel, Host, Link, LinkError};
use narrowboat_wan::sync::seam::Codec;

fn below() -> Below {
    Below { dataset: DatasetId([1; 16]), snapshot: SnapshotId([2; 16]), root: Name([3; 32]) }
}

/// What lies at a way, of any length.
fn object(way: &[u32]) -> Stored {
    let bytes = Rng::new(u64::from(way[0])).bytes(way[1] as usize);
    Stored { codec: Codec::Raw, raw_len: bytes.len() as u32, bytes: bytes.into() }
}

/// Has every third object, and no way that begins beyond a thousand.
struct Third;

impl Healer for Third {
    fn may(&self, asked: &Below) -> Result<bool> {
        Ok(*asked == below())
    }
    fn at(&self, root: &Name, way: &[u32]) -> Result<Option<Stored>> {
        assert_eq!(*root, below().root);
        match way[0] {
            1000.. => Err(Refusal::Invalid("a way that leads nowhere".into()).into()),
            place => Ok(Some(object(way)).filter(|_| place % 3 == 0)),
        }
    }
}

/// Asks for so many objects of so many bytes, in questions of some.
struct Wants {
    below: Below,
    from: u32,
    upto: u32,
    bytes: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<bool>,
    next: u32,
    asked: Vec<Vec<u32>>,
    got: u32,
    ends: u32,
}

impl Wants {
    fn new(from: u32, upto: u32, bytes: u32) -> Arc<Wants> {
        Wants::below(below(), from, upto, bytes)
    }

    fn below(below: Below, from: u32, upto: u32, bytes: u32) -> Arc<Wants> {
        Arc::new(Wants { below, from, upto, bytes, state: Mutex::default() })
    }

    fn got(&self) -> u32 {
        self.state.lock().unwrap().got
    }
}

impl Patient for Wants {
    fn next(&self) -> Result<Need> {
        let mut state = self.state.lock().unwrap();
        match state.known {
            None => return Ok(Need::Below(self.below)),
            Some(false) => return Ok(Need::Nothing),
            Some(true) => {}
        }
        let first = self.from + state.next;
        let places = first..self.upto.min(first + 50);
        state.next += places.len() as u32;
        state.asked = places.rev().map(|place| vec![place, self.bytes]).collect();
        Ok(if state.asked.is_empty() { Need::Nothing } else { Need::Seek(state.asked.iter().rev().cloned().collect()) })
    }
    fn known(&self, known: bool) -> Result<()> {
        self.state.lock().unwrap().known = Some(known);
        Ok(())
    }
    fn took(&self, stored: Option<Stored>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        let way = state.asked.pop().unwrap();
        state.got += u32::from(stored.is_some());
        match stored {
            Some(stored) if stored != object(&way) => Err(Refusal::Invalid("something else".into()).into()),
            _ => Ok(()),
        }
    }
    fn end(&self) -> Result<()> {
        self.state.lock().unwrap().ends += 1;
        Ok(())
    }
}

/// A branch and a head office that know one another, with a line between them that the branch dials.
async fn paired() -> (Arc<Office>, Link, Arc<Office>, Link, Relay) {
    let (branch, head) = (Office::new(1), Office::new(2));
    head.pin(&branch.record(Vec::new())).unwrap();
    let head_link = head.open_anywhere().await;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let there = head_link.local_address().unwrap();
    let relay = Relay::start(anywhere, there, Path::PLAIN, Path::PLAIN, 5).unwrap();
    branch.pin(&head.record(vec![relay.address.into()])).unwrap();
    let branch_link = branch.open_anywhere().await;
    while branch_link.peers()[0].connected_from.is_none() || head_link.peers()[0].connected_from.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (branch, branch_link, head, head_link, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_is_healed_over_one_line() {
    let (branch, branch_link, head, head_link, _relay) = paired().await;
    for office in [&branch, &head] {
        *office.healer.lock().unwrap() = Some(Arc::new(Third));
    }
    let (here, there) = (Wants::new(0, 300, 20_000), Wants::new(0, 120, 4 << 20 >> 3));
    let cancel = Cancel::new();
    let (first, second) =
        tokio::join!(branch_link.heal("box-2", here.clone(), &cancel), head_link.heal("box-1", there.clone(), &cancel));
    assert_eq!((first.is_ok(), second.is_ok()), (true, true), "{first:?} {second:?}");
    assert_eq!((here.got(), there.got()), (100, 40));
    assert_eq!(here.state.lock().unwrap().ends, 1);
    // What is not known, or not allowed, is no offence.
    let other = Wants::below(Below { root: Name([9; 32]), ..below() }, 0, 9, 9);
    branch_link.heal("box-2", other.clone(), &cancel).await.unwrap();
    assert_eq!((other.got(), other.state.lock().unwrap().known), (0, Some(false)));
    assert!(branch.refused.lock().unwrap().is_empty() && head.refused.lock().unwrap().is_empty());
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_box_is_told_and_nothing_else_comes_of_it() {
    let (branch, branch_link, head, head_link, _relay) = paired().await;
    let outcome = branch_link.heal("box-2", Wants::new(0, 9, 9), &Cancel::new()).await;
    assert!(outcome.as_ref().is_err_and(|error| error.to_string().contains("heals nobody")), "{outcome:?}");
    assert!(branch_link.peers()[0].connected_from.is_some());
    assert!(branch.refused.lock().unwrap().is_empty() && head.refused.lock().unwrap().is_empty());
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

/// Says yes to everything and gives zeros.
struct Liar;

impl Healer for Liar {
    fn may(&self, _: &Below) -> Result<bool> {
        Ok(true)
    }
    fn at(&self, _: &Name, _: &[u32]) -> Result<Option<Stored>> {
        Ok(Some(Stored { codec: Codec::Raw, raw_len: 9, bytes: Bytes::from_static(&[0; 9]) }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_and_ways_that_lead_nowhere_are_refused_and_noted() {
    let (branch, branch_link, head, head_link, _relay) = paired().await;
    *head.healer.lock().unwrap() = Some(Arc::new(Liar));
    let patient = Wants::new(0, 100, 9);
    let outcome = branch_link.heal("box-2", patient.clone(), &Cancel::new()).await;
    assert!(matches!(&outcome, Err(LinkError::Replication(failure)) if failure.is_refusal()), "{outcome:?}");
    assert_eq!((patient.got(), patient.state.lock().unwrap().ends), (1, 1), "one lie is enough");
    assert!(branch.refused.lock().unwrap()[0].starts_with("it was asked for what is damaged here: "));

    *head.healer.lock().unwrap() = Some(Arc::new(Third));
    let outcome = branch_link.heal("box-2", Wants::new(999, 2000, 9), &Cancel::new()).await;
    assert!(matches!(&outcome, Err(LinkError::Replication(_))), "{outcome:?}");
    while head.refused.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(head.refused.lock().unwrap()[0].starts_with("it asked to be healed: "));
    // And an honest question is answered as ever.
    let patient = Wants::new(0, 30, 9);
    branch_link.heal("box-2", patient.clone(), &Cancel::new()).await.unwrap();
    assert_eq!(patient.got(), 10);
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_in_the_middle_ends_the_healing_and_another_one_goes_on() {
    let (_branch, branch_link, head, head_link, _relay) = paired().await;
    *head.healer.lock().unwrap() = Some(Arc::new(Third));
    let patient = Wants::new(0, 900, 100_000);
    let cancel = Cancel::new();
    let asking = branch_link.heal("box-2", patient.clone(), &cancel);
    let breaking = async {
        while patient.got() < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        head_link.shutdown().await;
    };
    let (outcome, ()) = tokio::join!(asking, breaking);
    assert!(outcome.is_err() && patient.got() >= 20, "{outcome:?}");
    assert_eq!(patient.state.lock().unwrap().ends, 1, "what came is made durable");
    let port = head_link.local_address().unwrap();
    drop(head_link);
    let head_link = head.open(port).await;
    while branch_link.peers()[0].connected_from.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let patient = Wants::new(0, 90, 1000);
    while branch_link.heal("box-2", patient.clone(), &Cancel::new()).await.is_err() {
        // The connection of before may still be there for a moment.
        *patient.state.lock().unwrap() = State::default();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(patient.got(), 30);
    branch_link.shutdown().await;
    head_link.shutdown().await;
}
