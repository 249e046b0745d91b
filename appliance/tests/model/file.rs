//! The content of one file as its only writer may rely on it.

use crate::common::nfs::{Client, Handle, Stable, Trouble};

/// A file: bytes that are stable, and writes that may or may not survive.
#[derive(Clone)]
pub struct File {
    pub handle: Handle,
    stable: Vec<u8>,
    /// Offset and bytes, in the order in which they were written.
    pending: Vec<(u64, Vec<u8>)>,
}

impl File {
    pub fn new(handle: Handle) -> File {
        File { handle, stable: Vec::new(), pending: Vec::new() }
    }

    /// How long it is for those who read it now.
    pub fn visible_len(&self) -> u64 {
        let ends = self.pending.iter().map(|(offset, data)| offset + data.len() as u64);
        ends.chain([self.stable.len() as u64]).max().unwrap_or_default()
    }

    /// Writes; true where the answer says that it is stable.
    pub fn write(
        &mut self,
        client: &mut Client,
        offset: u64,
        data: &[u8],
        stable: Stable,
        verifier: &mut Option<[u8; 8]>,
    ) -> Result<bool, Trouble> {
        self.pending.push((offset, data.to_vec()));
        let (level, seen) = client.write(&self.handle, offset, data, stable)?;
        assert!(level >= stable as u32, "at least as stable as was asked for");
        *verifier = Some(seen);
        if level > 0 {
            self.became_stable(offset, data);
        }
        Ok(level > 0)
    }

    /// The newest write is stable: older pending bytes below it can't come back.
    fn became_stable(&mut self, offset: u64, data: &[u8]) {
        self.pending.pop();
        let end = offset + data.len() as u64;
        for (at, bytes) in std::mem::take(&mut self.pending) {
            let until = at + bytes.len() as u64;
            let cut = |from: u64, to: u64| bytes[(from - at) as usize..(to - at) as usize].to_vec();
            if at < offset.min(until) {
                self.pending.push((at, cut(at, offset.min(until))));
            }
            if end.max(at) < until {
                self.pending.push((end.max(at), cut(end.max(at), until)));
            }
        }
        self.put(offset, data);
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        let (from, to) = (offset as usize, offset as usize + data.len());
        if self.stable.len() < to {
            self.stable.resize(to, 0);
        }
        self.stable[from..to].copy_from_slice(data);
    }

    /// Commits; how many bytes became stable by it.
    pub fn commit(&mut self, client: &mut Client, verifier: &mut Option<[u8; 8]>) -> Result<u64, Trouble> {
        *verifier = Some(client.commit(&self.handle)?);
        let bytes = self.pending.iter().map(|(_, data)| data.len() as u64).sum();
        self.committed();
        Ok(bytes)
    }

    /// All that is pending is stable.
    pub fn committed(&mut self) {
        for (offset, data) in std::mem::take(&mut self.pending) {
            self.put(offset, &data);
        }
    }

    /// It was cut off, or made longer by a hole, when nothing was pending.
    pub fn truncated(&mut self, size: u64) {
        assert!(self.pending.is_empty());
        self.stable.resize(size as usize, 0);
    }

    /// Reads it: every byte is a stable one, or one of those that were pending there. Returns how many pending writes have
    /// left no byte.
    pub fn verify(&mut self, client: &mut Client) -> Result<u64, String> {
        let found = client.read_all(&self.handle).map_err(|why| format!("{why:?}"))?;
        let stable = self.stable.len();
        let ends = self.pending.iter().map(|(offset, data)| *offset as usize + data.len());
        if found.len() != stable && !ends.filter(|end| *end > stable).any(|end| end == found.len()) {
            return Err(format!("it has {} bytes, of {stable} stable ones", found.len()));
        }
        let mut good: Vec<bool> =
            found.iter().enumerate().map(|(at, byte)| *byte == self.stable.get(at).copied().unwrap_or(0)).collect();
        let mut lost = 0;
        for (offset, data) in &self.pending {
            let mut left = false;
            for ((good, byte), written) in good.iter_mut().zip(&found).skip(*offset as usize).zip(data) {
                if byte == written {
                    left |= !*good;
                    *good = true;
                }
            }
            lost += u64::from(!left);
        }
        if let Some(at) = good.iter().position(|good| !good) {
            let wrong = good.iter().filter(|good| !**good).count();
            return Err(format!("byte {at} of {} is wrong, and {wrong} in all; {stable} were stable", found.len()));
        }
        self.stable = found;
        self.pending.clear();
        Ok(lost)
    }
}
