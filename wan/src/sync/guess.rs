//! Asking below nodes before it is known whether the receiver lacks them.
//!
//! Where nothing is known of the receiver, it lacks what comes first; where a transfer broke off, it lacks what comes behind what it
//! acknowledged last: the *frontier*. There a walk asks several levels in the same breath, as far as two bandwidth-delay products of
//! data want, instead of one level a round trip. A guess that was wrong costs its names, and nothing else: so guesses are bounded, and get fewer
//! where they are wrong.

use std::collections::HashSet;
use std::sync::Arc;

use super::diff::Fresh;
use super::seam::Ref;

/// Guesses that are allowed again after one that would have been right.
const REGAINED: usize = 32;

/// Where a walk was broken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    /// What the receiver acknowledged last, the node that refers to it, and so on up to the root. Empty where it acknowledged
    /// nothing.
    pub nodes: Arc<[Ref]>,
    /// Objects that were sent and not acknowledged: the receiver may have them.
    pub under_way: usize,
}

impl Frontier {
    /// Goes on to where a later walk was broken off. One in which nothing was acknowledged leaves it where it was.
    pub(super) fn advance(&mut self, later: &Frontier) {
        if !later.nodes.is_empty() {
            *self = later.clone();
        }
        self.under_way = self.under_way.max(later.under_way);
    }
}

/// How much is guessed.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// Names that are to be asked ahead.
    max: usize,
    /// Names that may be asked by guess and unanswered: the maximum, or less where guesses were wrong.
    budget: usize,
    /// Names that are to be asked by guess, or were asked so and not answered.
    out: usize,
    frontier: HashSet<Ref>,
}

impl Guess {
    /// At most about `names`, and what may have arrived behind the frontier.
    pub fn new(names: usize, frontier: &Frontier) -> Self {
        let max = if names == 0 { 0 } else { names.saturating_add(frontier.under_way) };
        Guess { max, budget: max, out: 0, frontier: frontier.nodes.iter().copied().collect() }
    }

    /// True where one more node is to be expanded by guess, while `chunks` are between asked and shipped.
    pub fn is_due(&self, chunks: usize) -> bool {
        self.out < self.budget && chunks < self.max
    }

    /// So many more names are to be asked by guess.
    pub fn asked(&mut self, names: usize) {
        self.out += names;
    }

    /// So many were answered, or are not to be asked after all.
    pub fn answered(&mut self, names: usize) {
        self.out -= names;
    }

    /// A node where guesses are made was answered.
    pub fn learn(&mut self, lacking: bool) {
        self.budget = match lacking {
            true => self.max.min(self.budget + self.budget / 2 + REGAINED),
            false => self.budget / 2,
        };
    }

    /// How many of the first objects that a node refers to lie in front of the frontier.
    pub fn behind(&self, node: &Ref, fresh: &[Fresh]) -> usize {
        if !self.frontier.contains(node) {
            return 0;
        }
        fresh.iter().position(|fresh| self.frontier.contains(&fresh.at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    fn node(number: u8) -> Ref {
        (Kind::MapNode, Name([number; 32]))
    }

    #[test]
    fn guesses_end_where_they_are_wrong_and_begin_again() {
        let mut guess = Guess::new(1000, &Frontier::default());
        assert!(guess.is_due(0) && guess.is_due(999) && !guess.is_due(1000), "enough is asked");
        guess.asked(1000);
        assert!(!guess.is_due(0));
        guess.answered(1000);
        (0..10).for_each(|_| guess.learn(false));
        assert!(!guess.is_due(0));
        guess.learn(true);
        assert!(guess.is_due(0));
        (0..20).for_each(|_| guess.learn(true));
        assert_eq!(guess.budget, 1000);
        assert!(!Guess::new(0, &Frontier { nodes: Arc::new([]), under_way: 9 }).is_due(0), "switched off");
    }

    #[test]
    fn what_lies_in_front_of_the_frontier_is_behind() {
        let frontier = Frontier { nodes: [node(5), node(1)].into(), under_way: 70 };
        let guess = Guess::new(30, &frontier);
        assert_eq!(guess.max, 100);
        let fresh = |numbers: &[u8]| -> Vec<Fresh> {
            let fresh = |number: &u8| Fresh { at: node(*number), counterparts: Default::default(), is_new: false };
            numbers.iter().map(fresh).collect()
        };
        assert_eq!(guess.behind(&node(1), &fresh(&[3, 4, 5, 6])), 2);
        assert_eq!(guess.behind(&node(1), &fresh(&[3, 4])), 0, "nothing of it is known");
        assert_eq!(guess.behind(&node(2), &fresh(&[3, 4, 5])), 0);
    }
}
