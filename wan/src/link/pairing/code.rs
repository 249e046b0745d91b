//! The spoken code: eight random digits and a check digit, in threes.

use std::fmt;
use std::str::FromStr;

use narrowboat_storage::error::Refusal;
use rand::{CryptoRng, RngExt};

/// Random digits of a code.
const DIGITS: usize = 8;

/// Nine digits, read out as `482-915-307`. Digits are the same over every telephone and in every language. The last one
/// is a check (Damm), so that a slip of the tongue is found at the joiner's keyboard and burns no attempt.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; DIGITS + 1]);

/// Damm's quasigroup of order 10 (H. M. Damm, 2004): finds every wrong digit and every swap of neighbours.
const DAMM: [[u8; 10]; 10] = [
    [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
    [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
    [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
    [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
    [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
    [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
    [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
    [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
    [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
    [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
];

fn damm(digits: &[u8]) -> u8 {
    digits.iter().fold(0, |state, digit| DAMM[usize::from(state)][usize::from(*digit % 10)])
}

impl Code {
    /// A fresh code, each of a hundred million as likely as any other.
    pub fn random(rng: &mut impl CryptoRng) -> Code {
        let mut digits = [0; DIGITS + 1];
        for digit in &mut digits[..DIGITS] {
            *digit = rng.random_range(0..10);
        }
        digits[DIGITS] = damm(&digits[..DIGITS]);
        Code(digits)
    }

    /// The password of the key exchange.
    pub(super) fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digit) in self.0.iter().enumerate() {
            if index > 0 && index % 3 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    /// Not the digits: codes do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

impl FromStr for Code {
    type Err = Refusal;

    /// Reads nine digits; spaces, dashes and dots between them do not matter.
    fn from_str(text: &str) -> Result<Code, Refusal> {
        let typed = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '.'));
        let mut digits = Vec::with_capacity(DIGITS + 1);
        for symbol in typed.take(DIGITS + 2) {
            let digit = symbol.to_digit(10).ok_or_else(|| wrong("it has nine digits and nothing else"))?;
            digits.push(digit as u8);
        }
        let digits: [u8; DIGITS + 1] = digits.try_into().map_err(|_| wrong("it has nine digits"))?;
        if damm(&digits) != 0 {
            return Err(wrong("a digit is wrong or two are swapped; no attempt was used up"));
        }
        Ok(Code(digits))
    }
}

fn wrong(why: &str) -> Refusal {
    Refusal::Invalid(format!("this is not a pairing code: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn every_slip_is_found() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let code = Code::random(&mut rng);
            let shown = code.to_string();
            assert_eq!(shown.len(), 11);
            assert_eq!(shown.replace('-', " ").parse::<Code>(), Ok(code.clone()));
            for place in 0..9 {
                for digit in (0..10).filter(|digit| *digit != code.0[place]) {
                    let mut typed = code.clone();
                    typed.0[place] = digit;
                    assert!(typed.to_string().parse::<Code>().is_err(), "{code} typed as {typed}");
                }
                let mut typed = code.clone();
                typed.0.swap(place, (place + 1).min(8));
                assert!(typed == code || typed.to_string().parse::<Code>().is_err(), "{code} typed as {typed}");
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "123", "482-915-30x", "4829153071", "４８２９１５３０７"] {
            assert!(text.parse::<Code>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_code_is_not_printed_into_logs() {
        let code = Code::random(&mut StdRng::seed_from_u64(2));
        assert_eq!(format!("{code:?}"), "Code(…)");
    }
}
