//! Who registered which key and who holds the reservation, as a value.

use std::collections::BTreeMap;

use crate::ingest::iscsi::scsi::{Nexus, Sense};

use super::REGISTRATIONS_MAX;

/// What a persistent reservation keeps others from (SPC-4 table 63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Others may read.
    WriteExclusive = 1,
    /// Others may do nothing.
    ExclusiveAccess = 3,
    /// Who is not registered may read.
    WriteExclusiveRegistrants = 5,
    /// Who is not registered may do nothing.
    ExclusiveAccessRegistrants = 6,
    /// As 5, and every registrant holds it.
    WriteExclusiveAll = 7,
    /// As 6, and every registrant holds it.
    ExclusiveAccessAll = 8,
}

impl Kind {
    /// The kind of a number.
    pub fn of(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::WriteExclusive,
            3 => Kind::ExclusiveAccess,
            5 => Kind::WriteExclusiveRegistrants,
            6 => Kind::ExclusiveAccessRegistrants,
            7 => Kind::WriteExclusiveAll,
            8 => Kind::ExclusiveAccessAll,
            _ => return None,
        })
    }

    /// Every registrant holds it.
    pub fn is_for_all(self) -> bool {
        matches!(self, Kind::WriteExclusiveAll | Kind::ExclusiveAccessAll)
    }

    /// Registrants may do what the holder may.
    pub fn is_for_registrants(self) -> bool {
        !matches!(self, Kind::WriteExclusive | Kind::ExclusiveAccess)
    }

    fn lets_read(self) -> bool {
        matches!(self, Kind::WriteExclusive | Kind::WriteExclusiveRegistrants | Kind::WriteExclusiveAll)
    }
}

/// Registrations and the reservation of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// Counts changes of registrations (PRGENERATION).
    pub generation: u32,
    /// The keys of registered ports. Never 0.
    pub registrations: BTreeMap<Nexus, u64>,
    /// Who reserved it, and how. For the kinds that all registrants hold, who reserved it first.
    pub holder: Option<(Nexus, Kind)>,
    /// Kept over power cuts.
    pub kept: bool,
}

/// What initiators other than the one that asked are to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub told: Vec<(Nexus, Sense)>,
    /// Whose tasks are to be aborted.
    pub removed: Vec<Nexus>,
}

impl Reservations {
    /// True where nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.registrations.is_empty()
    }

    /// True where a port may read, or write.
    pub fn admits(&self, nexus: &Nexus, writes: bool) -> bool {
        match &self.holder {
            None => true,
            Some((holder, kind)) => {
                let own = holder == nexus && !kind.is_for_all();
                let registered = kind.is_for_registrants() && self.registrations.contains_key(nexus);
                own || registered || (!writes && kind.lets_read())
            }
        }
    }

    /// True where a port holds the reservation, alone or with the others.
    pub fn holds(&self, nexus: &Nexus) -> bool {
        self.holder.as_ref().is_some_and(|(holder, kind)| {
            if kind.is_for_all() { self.registrations.contains_key(nexus) } else { holder == nexus }
        })
    }

    /// Registers, changes or (with key 0) takes back a registration.
    pub(super) fn register(&mut self, nexus: &Nexus, key: u64, news: &mut News) -> Result<(), Sense> {
        if key == 0 {
            if self.registrations.contains_key(nexus) {
                self.remove(nexus, news);
                self.generation = self.generation.wrapping_add(1);
            }
            return Ok(());
        }
        if self.registrations.len() >= REGISTRATIONS_MAX && !self.registrations.contains_key(nexus) {
            return Err(Sense::NO_REGISTRATION_RESOURCES);
        }
        self.registrations.insert(nexus.clone(), key);
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// Takes a registration away, and the reservation with it where nobody holds it any more.
    fn remove(&mut self, nexus: &Nexus, news: &mut News) {
        self.registrations.remove(nexus);
        let Some((holder, kind)) = &self.holder else { return };
        let (kind, held) = (*kind, holder == nexus);
        let ends = if kind.is_for_all() { self.registrations.is_empty() } else { held };
        if ends {
            self.holder = None;
            if kind.is_for_registrants() {
                self.tell_registrants(nexus, Sense::RESERVATIONS_RELEASED, news);
            }
        } else if held && let Some(next) = self.registrations.keys().next() {
            self.holder = Some((next.clone(), kind));
        }
    }

    fn tell_registrants(&self, but: &Nexus, sense: Sense, news: &mut News) {
        let others = self.registrations.keys().filter(|other| *other != but);
        news.told.extend(others.map(|other| (other.clone(), sense)));
    }

    /// RESERVE.
    pub(super) fn reserve(&mut self, nexus: &Nexus, kind: Kind) -> Result<(), Sense> {
        match &self.holder {
            None => self.holder = Some((nexus.clone(), kind)),
            Some((_, same)) if *same == kind && self.holds(nexus) => {}
            Some(_) => return Err(Sense::CONFLICT),
        }
        Ok(())
    }

    /// RELEASE.
    pub(super) fn release(&mut self, nexus: &Nexus, kind: Kind, news: &mut News) -> Result<(), Sense> {
        let Some((_, held)) = self.holder.clone().filter(|_| self.holds(nexus)) else { return Ok(()) };
        if held != kind {
            return Err(Sense::INVALID_RELEASE);
        }
        self.holder = None;
        if kind.is_for_registrants() {
            self.tell_registrants(nexus, Sense::RESERVATIONS_RELEASED, news);
        }
        Ok(())
    }

    /// CLEAR.
    pub(super) fn clear(&mut self, nexus: &Nexus, news: &mut News) {
        self.tell_registrants(nexus, Sense::RESERVATIONS_PREEMPTED, news);
        self.registrations.clear();
        self.holder = None;
        self.generation = self.generation.wrapping_add(1);
    }

    /// PREEMPT (SPC-4 section 5.13.11.2.4): takes away every registration of `victim`, and the reservation where it is
    /// theirs.
    pub(super) fn preempt(&mut self, nexus: &Nexus, victim: u64, kind: Kind, news: &mut News) -> Result<(), Sense> {
        let before = self.holder.clone();
        let for_all = before.as_ref().is_some_and(|(_, kind)| kind.is_for_all());
        let takes = match &before {
            Some((_, held)) if held.is_for_all() => victim == 0,
            Some((holder, _)) => self.registrations.get(holder) == Some(&victim),
            None => false,
        };
        if victim == 0 && !for_all {
            return Err(Sense::INVALID_PARAMETER);
        }
        let hit = |other: &Nexus, key: u64| key == victim || (victim == 0 && other != nexus);
        let victims: Vec<Nexus> = self
            .registrations
            .iter()
            .filter(|(other, key)| hit(other, **key))
            .map(|(other, _)| other.clone())
            .collect();
        if victims.is_empty() && !takes {
            return Err(Sense::CONFLICT);
        }
        for other in victims.iter().filter(|other| *other != nexus || !takes) {
            self.registrations.remove(other);
            if other != nexus {
                news.told.push((other.clone(), Sense::REGISTRATIONS_PREEMPTED));
                news.removed.push(other.clone());
            }
        }
        if takes {
            self.holder = Some((nexus.clone(), kind));
            let changed = before.is_some_and(|(_, held)| held != kind);
            if changed {
                self.tell_registrants(nexus, Sense::RESERVATIONS_RELEASED, news);
            }
        } else if let Some((holder, kind)) = before
            && !self.registrations.contains_key(&holder)
        {
            // Only where all registrants hold it can the first of them be gone without its having been taken.
            self.holder = self.registrations.keys().next().map(|next| (next.clone(), kind));
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// REGISTER AND MOVE: registers another port and gives it the reservation.
    pub(super) fn hand_over(&mut self, from: &Nexus, to: &Nexus, key: u64, stay: bool) -> Result<(), Sense> {
        let Some((_, kind)) = self.holder.clone().filter(|(_, kind)| self.holds(from) && !kind.is_for_all()) else {
            return Err(Sense::CONFLICT);
        };
        self.register(to, key, &mut News::default())?;
        self.holder = Some((to.clone(), kind));
        if !stay {
            self.registrations.remove(from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(last: u8) -> Nexus {
        Nexus { initiator: "iqn.a".into(), isid: [0, 0, 0, 0, 0, last] }
    }

    fn registered(kind: Option<Kind>) -> Reservations {
        let mut all = Reservations::default();
        for number in 1..=3 {
            all.register(&nexus(number), number.into(), &mut News::default()).unwrap();
        }
        if let Some(kind) = kind {
            all.reserve(&nexus(1), kind).unwrap();
        }
        all
    }

    #[test]
    fn each_kind_lets_in_whom_the_standard_says() {
        // Holder, registrant, stranger; each may read, may write.
        let table = [
            (1, [(true, true), (true, false), (true, false)]),
            (3, [(true, true), (false, false), (false, false)]),
            (5, [(true, true), (true, true), (true, false)]),
            (6, [(true, true), (true, true), (false, false)]),
            (7, [(true, true), (true, true), (true, false)]),
            (8, [(true, true), (true, true), (false, false)]),
        ];
        for (number, expected) in table {
            let all = registered(Kind::of(number));
            let found = [1, 2, 9].map(|who| (all.admits(&nexus(who), false), all.admits(&nexus(who), true)));
            assert_eq!(found, expected, "type {number}");
        }
        assert!([0, 2, 4, 9, 15].into_iter().all(|number| Kind::of(number).is_none()));
    }

    #[test]
    fn a_reservation_ends_with_its_holder() {
        let mut news = News::default();
        let mut all = registered(Some(Kind::WriteExclusiveRegistrants));
        all.register(&nexus(1), 0, &mut news).unwrap();
        assert_eq!((all.holder, news.told.len()), (None, 2));
        let mut all = registered(Some(Kind::ExclusiveAccessAll));
        for number in 1..=2 {
            all.register(&nexus(number), 0, &mut news).unwrap();
            assert!(all.holder.is_some() && all.holds(&nexus(3)));
        }
        all.register(&nexus(3), 0, &mut news).unwrap();
        assert_eq!(all.holder, None);
    }

    #[test]
    fn preempting_takes_keys_and_the_reservation() {
        let mut news = News::default();
        let mut all = registered(Some(Kind::WriteExclusive));
        assert_eq!(all.preempt(&nexus(2), 99, Kind::WriteExclusive, &mut news), Err(Sense::CONFLICT));
        assert_eq!(all.preempt(&nexus(2), 0, Kind::WriteExclusive, &mut news), Err(Sense::INVALID_PARAMETER));
        all.preempt(&nexus(2), 3, Kind::WriteExclusive, &mut news).unwrap();
        assert!(all.holds(&nexus(1)) && !all.registrations.contains_key(&nexus(3)));
        all.preempt(&nexus(2), 1, Kind::ExclusiveAccess, &mut news).unwrap();
        assert_eq!(all.holder, Some((nexus(2), Kind::ExclusiveAccess)));
        assert_eq!(news.removed, [nexus(3), nexus(1)]);

        let mut all = registered(Some(Kind::WriteExclusiveAll));
        all.preempt(&nexus(2), 1, Kind::WriteExclusive, &mut news).unwrap();
        assert!(all.holder.as_ref().is_some_and(|(holder, kind)| *holder == nexus(2) && kind.is_for_all()));
        all.preempt(&nexus(2), 0, Kind::WriteExclusive, &mut news).unwrap();
        assert_eq!((all.registrations.len(), all.holder), (1, Some((nexus(2), Kind::WriteExclusive))));
    }

    #[test]
    fn only_the_holder_releases_and_only_as_it_reserved() {
        let mut all = registered(Some(Kind::WriteExclusive));
        let mut news = News::default();
        all.release(&nexus(2), Kind::WriteExclusive, &mut news).unwrap();
        assert!(all.holder.is_some());
        assert_eq!(all.release(&nexus(1), Kind::ExclusiveAccess, &mut news), Err(Sense::INVALID_RELEASE));
        all.release(&nexus(1), Kind::WriteExclusive, &mut news).unwrap();
        assert!(all.holder.is_none() && news.told.is_empty());
    }

    #[test]
    fn a_reservation_is_handed_over() {
        let mut all = registered(Some(Kind::WriteExclusive));
        assert_eq!(all.hand_over(&nexus(2), &nexus(9), 9, true), Err(Sense::CONFLICT));
        all.hand_over(&nexus(1), &nexus(9), 9, false).unwrap();
        assert!(all.holds(&nexus(9)) && !all.registrations.contains_key(&nexus(1)));
    }
}
