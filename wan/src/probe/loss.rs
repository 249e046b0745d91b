//! Loss, and whether it comes in bursts, from the numbers that are missing.

/// Of the normal distribution: 95 % are within.
const Z: f64 = 1.96;

/// What was lost of a row of numbered packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Packets that were sent.
    pub sent: u32,
    /// Of these, those that never came.
    pub lost: u32,
    /// Runs of losses without a packet between that came.
    pub bursts: u32,
    /// The longest of them.
    pub longest: u32,
}

impl Loss {
    /// Of a row of `sent` packets, numbered from 0, of which these came, in any order.
    pub fn of(sent: u32, came: impl Iterator<Item = u32>) -> Loss {
        let mut here = vec![false; sent as usize];
        for number in came {
            if let Some(slot) = here.get_mut(number as usize) {
                *slot = true;
            }
        }
        let runs = || here.chunk_by(|one, next| one == next).filter(|run| run.first() == Some(&false));
        let longest = runs().map(|run| run.len() as u32).max().unwrap_or(0);
        let lost = runs().map(|run| run.len() as u32).sum();
        Loss { sent, lost, bursts: runs().count() as u32, longest }
    }

    /// Could this be so? What a peer tells may not.
    pub fn is_sound(&self) -> bool {
        self.lost <= self.sent
            && self.bursts <= self.lost
            && self.longest <= self.lost
            && (self.lost == 0 || self.longest > 0)
    }

    /// The share that was lost, from 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.sent.max(1))
    }

    /// Packets lost in a row, on average; 0 where none was.
    pub fn mean_burst(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.bursts.max(1))
    }

    /// Between which shares the line's own loss is, with 95 % confidence: the interval of Wilson (1927), made wider where losses
    /// come in bursts, since a burst says hardly more than one loss. A Gilbert line whose bursts last `L` packets is taken for
    /// as many independent packets as have the same variance. Bursts so rare that the row met none are not in it.
    pub fn between(&self) -> (f64, f64) {
        if self.sent == 0 {
            return (0.0, 1.0);
        }
        let share = self.share();
        let recovers = 1.0 / self.mean_burst().max(1.0);
        let worsens = share * recovers / (1.0 - share).max(1e-9);
        let kept = (1.0 - recovers - worsens).clamp(0.0, 0.95);
        let count = (f64::from(self.sent) * (1.0 - kept) / (1.0 + kept)).max(1.0);
        let middle = share + Z * Z / (2.0 * count);
        let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        let over = 1.0 + Z * Z / count;
        (((middle - half) / over).max(0.0), ((middle + half) / over).min(1.0))
    }
}
