//! How many connections may be logging in at once, as a value: who says hello and nothing more takes no one's place.
//!
//! Each address has a few places, all together have more. A newcomer takes the place of the oldest of its own address, or
//! where everything is full of the oldest of the address that has the most: a login takes milliseconds, so that an honest
//! one is through before it is pushed out.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections that are logging in.
#[derive(Debug)]
pub struct Gate {
    /// By address, in the order in which they came.
    waiting: BTreeMap<IpAddr, Vec<u64>>,
    count: usize,
    address_max: usize,
    all_max: usize,
}

impl Gate {
    /// At most `address_max` of one address and `all_max` altogether, at least one each.
    pub fn new(address_max: usize, all_max: usize) -> Self {
        Gate { waiting: BTreeMap::new(), count: 0, address_max: address_max.max(1), all_max: all_max.max(1) }
    }

    /// Takes a connection in, and says which other is to be closed for it.
    pub fn enter(&mut self, connection: u64, address: IpAddr) -> Option<u64> {
        let address = address.to_canonical();
        let own = self.waiting.get(&address).map_or(0, Vec::len);
        let crowded = if own >= self.address_max {
            Some(address)
        } else if self.count >= self.all_max {
            self.waiting.iter().max_by_key(|(_, all)| all.len()).map(|(address, _)| *address)
        } else {
            None
        };
        let pushed_out = crowded.and_then(|address| self.waiting.get(&address)?.first().copied());
        if let (Some(address), Some(other)) = (crowded, pushed_out) {
            self.leave(other, address);
        }
        self.waiting.entry(address).or_default().push(connection);
        self.count += 1;
        pushed_out
    }

    /// A connection has logged in, or is gone.
    pub fn leave(&mut self, connection: u64, address: IpAddr) {
        let address = address.to_canonical();
        let Some(all) = self.waiting.get_mut(&address) else { return };
        if let Some(at) = all.iter().position(|own| *own == connection) {
            all.remove(at);
            self.count -= 1;
        }
        if all.is_empty() {
            self.waiting.remove(&address);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_makes_room_and_nobody_else() {
        let [crowd, honest]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let mut gate = Gate::new(3, 4);
        assert_eq!(gate.enter(100, honest), None);
        let pushed: Vec<_> = (0..10_000).map(|id| gate.enter(id + 1000, crowd)).collect();
        assert_eq!(pushed[..4], [None, None, None, Some(1000)]);
        assert_eq!(gate.count(), 4);
        assert_eq!(gate.enter(101, honest), Some(10_997), "the crowd's oldest, not the honest one's");
        gate.leave(100, honest);
        gate.leave(100, honest);
        gate.leave(101, honest);
        assert_eq!((gate.count(), gate.waiting.len()), (2, 1));
    }
}
