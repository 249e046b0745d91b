//! Whether packing against bases pays, group by group.
//!
//! Content that was written anew, and encrypted or compressed content, has counterparts all the same, and reading and searching them
//! costs the processor and the receiver much for nothing. So now and then a group is packed both ways. Where bases save
//! little again and again, they are left out for a while, and then tried once more.

/// One group in so many is packed both ways, while bases pay.
const COMPARE_EVERY: u32 = 8;
/// So many comparisons in a row that did not pay, and bases are left out.
const MISSES_MAX: u32 = 4;
/// For so many groups.
const REST: u32 = 32;

/// What to do with a group that has counterparts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Pack it against them.
    With,
    /// Pack it both ways, and tell what that gave.
    Compare,
    /// Pack it alone.
    Without,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Thrift {
    misses: u32,
    /// Groups until the next comparison.
    wait: u32,
}

impl Thrift {
    /// What to do with the next group.
    pub fn turn(&mut self) -> Turn {
        if self.wait == 0 {
            return Turn::Compare;
        }
        self.wait -= 1;
        if self.misses < MISSES_MAX { Turn::With } else { Turn::Without }
    }

    /// A group took `with` bytes against its bases and `without` bytes alone. True where the bases paid: they saved a tenth.
    pub fn learn(&mut self, with: usize, without: usize) -> bool {
        let paid = with <= without - without / 10;
        if paid {
            *self = Thrift { misses: 0, wait: COMPARE_EVERY - 1 };
        } else {
            self.misses = (self.misses + 1).min(MISSES_MAX);
            self.wait = if self.misses < MISSES_MAX { 0 } else { REST };
        }
        paid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_pays_is_left_alone_and_tried_again_now_and_then() {
        let mut thrift = Thrift::default();
        let mut turns = [0; 3];
        for _ in 0..4 + 10 * 33 {
            let turn = thrift.turn();
            turns[turn as usize] += 1;
            if turn == Turn::Compare {
                assert!(!thrift.learn(95, 100));
            }
        }
        assert_eq!(turns, [0, 4 + 10, 320]);
        while thrift.turn() != Turn::Compare {}
        assert!(thrift.learn(10, 100), "it pays again");
        assert_eq!(thrift.turn(), Turn::With);
    }

    #[test]
    fn what_pays_is_compared_rarely() {
        let mut thrift = Thrift::default();
        let mut compared = 0;
        for _ in 0..80 {
            if thrift.turn() == Turn::Compare {
                compared += 1;
                thrift.learn(1, 100);
            }
        }
        assert_eq!(compared, 10);
    }
}
