//! Whose connection makes room for a newcomer's, as a value: no host keeps others out, however many connections it holds.
//!
//! * While there is room nobody makes any: a host alone may have every slot.
//! * Where there is none, the idle connection of the host that holds the most goes, the one that was idle longest; but never one
//!   of a host that holds no more than the newcomer's. NFS clients come back by themselves.
//! * Where none is idle but what others hold as their only one, a host that holds more than [`HOST_AT_WORK_MAX`] loses the
//!   quietest of those at work; only then idle ones of hosts that hold one go.
//! * Strangers, hosts that the program has nothing for, have few slots, and make room first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// Connections at work that a host may keep however many others wait: as many as a Linux client makes at most (`nconnect=16`).
const HOST_AT_WORK_MAX: usize = 16;

/// Who is counted as one: an IPv4 address, or the /64 network that an IPv6 host can take its addresses from as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host(IpAddr);

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Host(match address.to_canonical() {
            IpAddr::V6(long) => IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() >> 64 << 64)),
            short => short,
        })
    }
}

impl Host {
    /// The address, or the first of its network.
    pub(super) fn address(self) -> IpAddr {
        self.0
    }
}

/// A connection, as far as this goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Names it.
    pub id: u64,
    /// Whose it is.
    pub host: Host,
    /// The program has something for that host.
    pub known: bool,
    /// Nothing is owed to it.
    pub idle: bool,
    /// When bytes last moved.
    pub stirred: Instant,
}

/// Most connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of everybody.
    pub all: usize,
    /// Of strangers, within those.
    pub strangers: usize,
}

/// What a newcomer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// A slot that nobody has.
    Free,
    /// The slot of the connection with this id, which is to be closed.
    Of(u64),
    /// Nothing.
    Nowhere,
}

/// Finds room for a newcomer's connection beside `slots`.
pub(super) fn room(slots: &[Slot], newcomer: Host, known: bool, bounds: Bounds) -> Room {
    let strangers: Vec<&Slot> = slots.iter().filter(|slot| !slot.known).collect();
    if slots.len() < bounds.all && (known || strangers.len() < bounds.strangers) {
        return Room::Free;
    }
    let pushed_out = if !known {
        longest_of_greediest(&strangers, newcomer)
    } else if let Some(stranger) = strangers.iter().min_by_key(|slot| (!slot.idle, slot.stirred)) {
        Some(*stranger)
    } else {
        longest_of_greediest(&slots.iter().collect::<Vec<_>>(), newcomer)
    };
    pushed_out.map_or(Room::Nowhere, |slot| Room::Of(slot.id))
}

fn longest_of_greediest<'a>(slots: &[&'a Slot], newcomer: Host) -> Option<&'a Slot> {
    let mut held: BTreeMap<Host, usize> = BTreeMap::new();
    slots.iter().for_each(|slot| *held.entry(slot.host).or_default() += 1);
    let of = |host: Host| held.get(&host).copied().unwrap_or_default();
    let own = of(newcomer);
    let greediest = |may_go: &dyn Fn(&Slot) -> bool| {
        let willing = slots.iter().filter(|slot| may_go(slot));
        willing.max_by_key(|slot| (of(slot.host), Reverse(slot.stirred))).copied()
    };
    greediest(&|slot| slot.idle && (slot.host == newcomer || of(slot.host) > own.max(1)))
        .or_else(|| greediest(&|slot| of(slot.host) > own.max(HOST_AT_WORK_MAX)))
        .or_else(|| greediest(&|slot| slot.idle && of(slot.host) > own))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { all: 40, strangers: 4 };

    fn host(number: u8) -> Host {
        Host::from(IpAddr::from([10, 0, 0, number]))
    }

    /// Connections of one host each, numbered in the order in which they fell quiet.
    struct World {
        began: Instant,
        slots: Vec<Slot>,
    }

    impl World {
        fn new() -> Self {
            World { began: Instant::now(), slots: Vec::new() }
        }
        fn with(mut self, count: usize, host: Host, known: bool, idle: bool) -> Self {
            for _ in 0..count {
                let id = self.slots.len() as u64;
                self.slots.push(Slot { id, host, known, idle, stirred: self.began + Duration::from_secs(id) });
            }
            self
        }
        fn room(&self, newcomer: Host, known: bool) -> Room {
            room(&self.slots, newcomer, known, BOUNDS)
        }
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let host = |text: &str| Host::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(host("fd00::1"), host("fd00::ffff:0:0:7"));
        assert_ne!(host("fd00::1"), host("fd00:0:0:1::1"));
        assert_eq!(host("::ffff:10.0.0.1"), host("10.0.0.1"));
        assert_ne!(host("10.0.0.1"), host("10.0.0.2"));
    }

    #[test]
    fn a_host_alone_may_have_every_slot_and_then_takes_from_itself() {
        assert_eq!(World::new().with(39, host(1), true, false).room(host(1), true), Room::Free);
        assert_eq!(World::new().with(40, host(1), true, true).room(host(1), true), Room::Of(0));
        assert_eq!(World::new().with(40, host(1), true, false).room(host(1), true), Room::Nowhere, "all are at work");
    }

    #[test]
    fn the_greediest_makes_room_idle_or_not() {
        let crowd = |idle| World::new().with(16, host(2), true, true).with(24, host(1), true, idle);
        assert_eq!(crowd(true).room(host(3), true), Room::Of(16), "the one idle longest of the greediest");
        assert_eq!(crowd(true).room(host(2), true), Room::Of(16), "also for one that has some");
        assert_eq!(crowd(true).room(host(1), true), Room::Of(16), "the greediest itself takes from nobody else");
        assert_eq!(crowd(false).room(host(3), true), Room::Of(0), "idle ones go first");
        let at_work = World::new().with(16, host(2), true, false).with(24, host(1), true, false);
        assert_eq!(at_work.room(host(3), true), Room::Of(16), "beyond what a host may keep at work");
        assert_eq!(at_work.room(host(1), true), Room::Nowhere);
        let only = World::new().with(1, host(2), true, true).with(39, host(1), true, false);
        assert_eq!(only.room(host(3), true), Room::Of(1), "at work, rather than another's only one");
        let shares = World::new().with(1, host(5), true, true);
        let shares = (1..4).fold(shares, |world, number| world.with(13, host(number), true, false));
        assert_eq!(shares.room(host(6), true), Room::Of(0), "the only one after all");
        let fair =
            World::new().with(16, host(2), true, false).with(16, host(1), true, false).with(8, host(4), true, false);
        assert_eq!(fair.room(host(3), true), Room::Nowhere, "sixteen each may stay at work");
    }

    #[test]
    fn nobody_takes_from_a_host_that_holds_no_more() {
        let equal = World::new().with(20, host(1), true, true).with(20, host(2), true, true);
        assert_eq!(equal.room(host(2), true), Room::Of(20), "its own");
        let mine_at_work = World::new().with(20, host(1), true, true).with(20, host(2), true, false);
        assert_eq!(mine_at_work.room(host(2), true), Room::Nowhere);
    }

    #[test]
    fn strangers_have_few_slots_and_go_first() {
        let full = |idle| World::new().with(4, host(9), false, idle).with(1, host(1), true, true);
        assert_eq!(full(true).room(host(8), false), Room::Of(0));
        assert_eq!(full(true).room(host(1), true), Room::Free);
        assert_eq!(full(false).room(host(8), false), Room::Nowhere, "who is being answered will be gone soon");
        let crowded = World::new().with(36, host(1), true, true).with(4, host(9), false, false);
        assert_eq!(crowded.room(host(2), true), Room::Of(36), "also while they are being answered");
        assert_eq!(World::new().with(40, host(1), true, true).room(host(9), false), Room::Nowhere);
    }
}
