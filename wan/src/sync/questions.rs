//! The receiver's side of questions: what was asked, what was found, what is awaited.

use std::collections::{HashMap, VecDeque};

use super::failure::Failure;
use super::jobs::{Expected, Request};
use super::proving::{Demand, Finding};
use super::report::Report;
use super::seam::Ref;
use crate::wire::{ASK_NAMES_MAX, Answer};

/// Questions whose answers are looked up at a time.
const LOOKUPS_MAX: usize = 4;

/// What one message asks.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// Objects by their names.
    Names(Vec<Ref>),
    /// Chunks by the first bytes of theirs.
    Prefixes(Vec<u64>),
}

impl Asked {
    fn len(&self) -> usize {
        match self {
            Asked::Names(names) => names.len(),
            Asked::Prefixes(prefixes) => prefixes.len(),
        }
    }

    fn expected(&self, place: usize) -> Option<Expected> {
        match self {
            Asked::Names(names) => names.get(place).copied().map(Expected::Named),
            Asked::Prefixes(prefixes) => prefixes.get(place).copied().map(Expected::Prefixed),
        }
    }

    /// In parts of as many as one answer answers.
    fn split(self) -> Vec<Asked> {
        match self {
            Asked::Names(names) => vec![Asked::Names(names)],
            Asked::Prefixes(all) => all.chunks(ASK_NAMES_MAX).map(|part| Asked::Prefixes(part.to_vec())).collect(),
        }
    }
}

#[derive(Debug)]
struct Question {
    first: u64,
    asked: Asked,
    state: Lookup,
}

#[derive(Debug, PartialEq, Eq)]
enum Lookup {
    Due,
    UnderWay(u64),
    Found { lacking: Vec<bool>, demands: Vec<(u64, Demand)> },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Questions {
    /// What was answered with "lacking", by the number of its question.
    wanted: HashMap<u64, Expected>,
    next: u64,
    /// In order: looked up or not yet.
    open: VecDeque<Question>,
    unanswered: usize,
    took_prefixes: bool,
    /// Whether the sender is to prove what it has.
    proving: bool,
}

impl Questions {
    /// `root` counts as asked under number 0 and lacking.
    pub fn new(root: Expected, proving: bool) -> Self {
        let wanted = HashMap::from([(0, root)]);
        Questions { wanted, next: 1, open: VecDeque::new(), unanswered: 0, took_prefixes: false, proving }
    }

    /// Takes a question; at most `max` names may be unanswered, or lacking and not here.
    pub fn asked(&mut self, first: u64, asked: Asked, max: usize) -> Result<(), Failure> {
        if first != self.next {
            return Err(Failure::Protocol("its questions are not in order".to_owned()));
        }
        self.next += asked.len() as u64;
        self.unanswered += asked.len();
        if self.unanswered + self.wanted.len() > max {
            return Err(Failure::Protocol("it asks more than its window allows".to_owned()));
        }
        let mut first = first;
        for part in asked.split() {
            let len = part.len() as u64;
            self.open.push_back(Question { first, asked: part, state: Lookup::Due });
            first += len;
        }
        Ok(())
    }

    /// The next question to be looked up.
    pub fn lookup(&mut self, id: u64) -> Option<Request> {
        let under_way = |question: &&Question| matches!(question.state, Lookup::UnderWay(_));
        if self.open.iter().filter(under_way).count() >= LOOKUPS_MAX {
            return None;
        }
        let question = self.open.iter_mut().find(|question| question.state == Lookup::Due)?;
        question.state = Lookup::UnderWay(id);
        Some(match (&question.asked, self.proving) {
            (Asked::Names(names), false) => Request::Has(names.clone()),
            (Asked::Names(names), true) => Request::Find(names.clone()),
            (Asked::Prefixes(prefixes), false) => Request::NamedByPrefix(prefixes.clone()),
            (Asked::Prefixes(prefixes), true) => Request::FindByPrefix(prefixes.clone()),
        })
    }

    /// Takes what was found of the question that job `id` looked up.
    pub fn found(&mut self, id: u64, present: &[bool], report: &mut Report) {
        let Some(question) = self.open.iter_mut().find(|question| question.state == Lookup::UnderWay(id)) else {
            return;
        };
        assert_eq!(present.len(), question.asked.len(), "one answer for each name");
        for (place, present) in present.iter().enumerate() {
            let Some(expected) = question.asked.expected(place) else { continue };
            let tally = report.tally(expected.kind());
            tally.offered += 1;
            tally.known += u64::from(*present);
            self.took_prefixes |= *present && matches!(expected, Expected::Prefixed(_));
            if !present {
                self.wanted.insert(question.first + place as u64, expected);
            }
        }
        self.unanswered -= present.len();
        let lacking = present.iter().map(|present| !present).collect();
        question.state = Lookup::Found { lacking, demands: Vec::new() };
    }

    /// Takes the same, and what is to be proved.
    pub fn found_out(&mut self, id: u64, findings: &[Finding], report: &mut Report) {
        let present: Vec<bool> = findings.iter().map(|finding| *finding != Finding::Lacking).collect();
        let place = self.open.iter().position(|question| question.state == Lookup::UnderWay(id));
        self.found(id, &present, report);
        let Some(question) = place.and_then(|place| self.open.get_mut(place)) else { return };
        if let Lookup::Found { demands, .. } = &mut question.state {
            demands.extend((question.first..).zip(findings).filter_map(|(number, finding)| match finding {
                Finding::Unproven(demand) => Some((number, *demand)),
                _ => None,
            }));
        }
    }

    /// The next answer, in the order of asking, and what of it is to be proved.
    pub fn next_answer(&mut self) -> Option<(Answer, Vec<(u64, Demand)>)> {
        if !matches!(self.open.front()?.state, Lookup::Found { .. }) {
            return None;
        }
        let Question { first, state: Lookup::Found { lacking, demands }, .. } = self.open.pop_front()? else {
            return None;
        };
        Some((Answer { first, lacking }, demands))
    }

    /// What was asked under a number and is lacking; each once.
    pub fn asked_for(&mut self, number: u64) -> Result<Expected, Failure> {
        let lacking = self.wanted.remove(&number);
        lacking.ok_or_else(|| Failure::Protocol("it sends what was not lacking, or twice".to_owned()))
    }

    /// True where nothing is to be answered.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// True where a chunk was taken for known by the first bytes of its name.
    pub fn took_prefixes(&self) -> bool {
        self.took_prefixes
    }
}
