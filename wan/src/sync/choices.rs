//! What a sending session chose by itself, and from what it did so: for whoever asks why a replication took the bytes that it took.

use super::effort::Compression;

/// What was chosen, and why. Known to the sender only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// What the config file says of packing.
    pub compression: Compression,
    /// Whether it allows differences.
    pub delta: bool,
    /// Whether it allows looking for what resembles elsewhere in the base.
    pub resemblance: bool,
    /// Chunks that were given something to be packed against which they resemble, and which does not lie in their place; also those that
    /// the receiver turned out to have.
    pub resembling: u64,
    /// False where the receiver takes objects one by one only: software of before bundles.
    pub bundles: bool,
    /// What was kept since the snapshot that the receiver had proved to have was sent without a question.
    pub unasked: bool,
    /// What the line was expected to take when it began, in bytes per second; none where nothing was known.
    pub rate_expected: Option<u64>,
    /// How often something packed waited for the line, so that the next group was packed harder.
    pub harder: u64,
    /// How often the line waited for packing, so that the next group was packed less hard.
    pub easier: u64,
    /// Bytes that went as they are, because packing made them no smaller.
    pub incompressible_bytes: u64,
}

impl Choices {
    /// Adds what a later attempt chose.
    pub(super) fn add(&mut self, later: &Choices) {
        let (harder, easier) = (self.harder + later.harder, self.easier + later.easier);
        let incompressible_bytes = self.incompressible_bytes + later.incompressible_bytes;
        let resembling = self.resembling + later.resembling;
        let unasked = self.unasked || later.unasked;
        *self = Choices { harder, easier, incompressible_bytes, unasked, resembling, ..*later };
    }
}
