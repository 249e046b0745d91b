//! Finding runs of zeros without looking at every byte.

/// The shortest run of zero bytes that becomes a hole, in bytes.
pub const ZERO_RUN_BYTES: usize = 4096;

/// A run of [`ZERO_RUN_BYTES`] holds a whole word at one of these distances, wherever it begins.
const SAMPLE_EVERY: usize = ZERO_RUN_BYTES / 2;
const WORD: usize = size_of::<u64>();

/// How many zero bytes `bytes` begins with. Stops at the first other byte; reads zeros at memory speed.
pub fn leading_zeros(bytes: &[u8]) -> usize {
    const BLOCK: usize = 128;
    let mut zeros = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(0, |any, byte| any | byte) != 0 {
            break;
        }
        zeros += BLOCK;
    }
    zeros + bytes[zeros..].iter().take_while(|byte| **byte == 0).count()
}

/// Where the first run of at least [`ZERO_RUN_BYTES`] zeros begins that lies within `bytes`. Touches one word in every
/// 2 KiB, and the surroundings of those that are zero.
pub(super) fn first_run(bytes: &[u8]) -> Option<usize> {
    let mut sample = 0;
    while let Some(word) = bytes.get(sample..sample + WORD) {
        if word.iter().any(|byte| *byte != 0) {
            sample += SAMPLE_EVERY;
            continue;
        }
        let before = bytes[..sample].iter().rev().take_while(|byte| **byte == 0).count();
        let start = sample - before;
        let run = before + leading_zeros(&bytes[sample..]);
        if run >= ZERO_RUN_BYTES {
            return Some(start);
        }
        // The run ends before start + run; a later one lies behind the byte that ended it.
        sample += SAMPLE_EVERY.max((run - before).next_multiple_of(SAMPLE_EVERY));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the two functions mean, said plainly.
    fn plain_first_run(bytes: &[u8]) -> Option<usize> {
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            run = if *byte == 0 { run + 1 } else { 0 };
            if run == ZERO_RUN_BYTES {
                return Some(at + 1 - ZERO_RUN_BYTES);
            }
        }
        None
    }

    #[test]
    fn runs_are_found_wherever_they_begin() {
        for len in [0, 1, 127, 128, 2047, 4095, 4096, 4097, 6143, 9000] {
            for start in (0..3 * SAMPLE_EVERY).step_by(61).chain([2047, 2048, 2049, 4095, 4096]) {
                let mut bytes = vec![7; 20_000];
                bytes[start..start + len].fill(0);
                assert_eq!(first_run(&bytes), plain_first_run(&bytes), "{len} zeros at {start}");
                assert_eq!(leading_zeros(&bytes[start..]), len);
                assert_eq!(first_run(&bytes[..start + len]), plain_first_run(&bytes[..start + len]));
            }
        }
    }

    #[test]
    fn a_short_run_before_a_long_one_hides_nothing() {
        for gap in 1..40 {
            let mut bytes = vec![0; 4095];
            bytes.extend(vec![1; gap]);
            bytes.extend(vec![0; 4096]);
            assert_eq!(first_run(&bytes), Some(4095 + gap));
        }
    }
}
