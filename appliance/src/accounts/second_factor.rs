//! Second factors: six digits that change every thirty seconds (TOTP, RFC 6238), each of which counts once.

use totp_rs::{Algorithm, Builder, Secret, Totp};

use crate::percent;

/// A new secret, in base 32, as programs that show codes take it.
pub fn new_secret(random: [u8; 20]) -> String {
    Secret::from(&random[..]).to_base32()
}

/// The same for a picture that such programs read: the format that all of them take ("Key Uri Format").
pub fn url(secret: &str, user: &str, name: &str) -> String {
    let (user, name) = (percent::part(user), percent::part(name));
    format!("otpauth://totp/{name}:{user}?secret={secret}&issuer={name}")
}

/// The step at which these six digits are right, `seconds` after 1970, up to a step before and behind; `None` where they are wrong, or
/// of a step that is not behind `used`.
pub fn step(secret: &str, code: &str, seconds: u64, used: Option<u64>) -> Option<u64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).take(7).collect();
    let step = totp(secret)?.check(&code, seconds)?;
    used.is_none_or(|used| step > used).then_some(step)
}

fn totp(secret: &str) -> Option<Totp> {
    let secret = Secret::try_from_base32(secret).ok()?;
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(30)
        .with_secret(secret)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the secret, moments, and the last six of the eight digits there.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = new_secret(*b"12345678901234567890");
        assert_eq!(secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(step(&secret, code, seconds, None), Some(seconds / 30), "{seconds}");
            assert!(
                step(&secret, code, seconds + 30, None).is_some() && step(&secret, code, seconds - 30, None).is_some()
            );
            assert_eq!(step(&secret, code, seconds + 90, None), None, "too late");
            assert_eq!(step(&secret, code, seconds, Some(seconds / 30)), None, "it was used");
        }
        assert!(step(&secret, " 287 082 ", 59, None).is_some());
        for code in ["", "287083", "2870820", "28708", "٢٨٧٠٨٢", "abcdef"] {
            assert_eq!(step(&secret, code, 59, None), None, "{code}");
        }
        assert_eq!(step("no secret", "287082", 59, None), None);
    }

    #[test]
    fn names_can_not_change_the_address() {
        let url = url("ABC", "a&secret=X:é", "Bonn/Süd");
        assert_eq!(url, "otpauth://totp/Bonn%2FS%C3%BCd:a%26secret%3DX%3A%C3%A9?secret=ABC&issuer=Bonn%2FS%C3%BCd");
    }
}
