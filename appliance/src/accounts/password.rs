//! Passwords: which are good enough, and how they are kept (argon2id; RFC 9106).

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use crate::control::Failed;
use crate::control::door::Strength;

/// Fewest characters of a password.
const CHARACTERS_MIN: usize = 10;
/// Most bytes: what is longer only costs time.
const BYTES_MAX: usize = 256;
/// What zxcvbn has to think of it, of 4: "safely unguessable: moderate protection from offline slow-hash scenario".
const SCORE_MIN: u8 = 3;
/// So much of it is looked at.
const JUDGED_CHARACTERS: usize = 64;

/// How good a password is. `beside`: words that whoever guesses tries first, such as the user's name.
pub fn strength(password: &str, beside: &[String]) -> Strength {
    let judged: String = password.chars().take(JUDGED_CHARACTERS).collect();
    let beside: Vec<&str> = beside.iter().map(String::as_str).chain(["narrowboat", "backup"]).take(16).collect();
    let judgement = zxcvbn::zxcvbn(&judged, &beside);
    let score = u8::from(judgement.score());
    let characters = password.chars().count();
    let advice = if characters < CHARACTERS_MIN {
        format!(
            "At least {CHARACTERS_MIN} characters, please; this has {characters}. Three or four words that do not belong together are easy to keep in mind."
        )
    } else if password.len() > BYTES_MAX {
        format!("At most {BYTES_MAX} bytes, please.")
    } else if score < SCORE_MIN {
        let warning = judgement.feedback().and_then(|feedback| feedback.warning()).map(|warning| warning.to_string());
        let warning = warning.unwrap_or_else(|| "This would be guessed too soon.".into());
        format!("{warning} Three or four words that do not belong together are easy to keep in mind.")
    } else {
        String::new()
    };
    Strength { score, enough: advice.is_empty(), advice }
}

/// What is kept of a password. Refused where it is not good enough.
pub fn hash(password: &str, beside: &[String]) -> Result<String, Failed> {
    let strength = strength(password, beside);
    if !strength.enough {
        return Err(Failed::refused(strength.advice));
    }
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| Failed::environment(format!("the password could not be hashed: {error}")))
}

/// True where a hash is of this password. Takes as long where there is no hash, so that nobody learns which users there are.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    // Of random bytes that nobody kept.
    const NOBODYS: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIG5vbmU$2u5ZbEbMxHd1vPBvHfCx5kPxv2l1yHMnoGYjIVWpQ0Y";
    let parsed = PasswordHash::new(hash.unwrap_or(NOBODYS));
    let right = parsed.is_ok_and(|parsed| {
        password.len() <= BYTES_MAX && Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
    });
    right && hash.is_some()
}

/// True where this is a hash as [`hash`] makes them, of no less work.
pub fn is_sound(hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    let cost =
        |name: &str, least: u32| parsed.params.get_decimal(name).is_some_and(|cost| cost >= least && cost <= 8 * least);
    parsed.algorithm.as_str() == "argon2id"
        && parsed.hash.is_some()
        && cost("m", argon2::Params::DEFAULT_M_COST)
        && cost("t", argon2::Params::DEFAULT_T_COST)
        && cost("p", argon2::Params::DEFAULT_P_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_refused_with_a_sentence() {
        for (password, beside) in [
            ("", ""),
            ("short", ""),
            ("password123", ""),
            ("qwertyuiop", ""),
            ("narrowboat1", ""),
            ("Head-Office-Bonn", "Head-Office-Bonn"),
            ("aaaaaaaaaaaaaaaa", ""),
        ] {
            let strength = strength(password, &[beside.into()]);
            assert!(!strength.enough && strength.advice.len() > 20, "{password}: {strength:?}");
            assert!(hash(password, &[beside.into()]).is_err());
        }
        let long = "x9".repeat(200);
        assert!(!strength(&long, &[]).enough);
        for password in ["correct horse battery staple", "日本語のとても長い合言葉です", "Tram 12 smells of rye bread"]
        {
            assert!(strength(password, &[]).enough, "{password}: {:?}", strength(password, &[]));
        }
    }

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let kept = hash("Tram 12 smells of rye bread", &[]).expect("good enough");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify("Tram 12 smells of rye bread", Some(&kept)));
        assert!(!verify("Tram 12 smells of rye bread ", Some(&kept)));
        assert!(!verify("Tram 12 smells of rye bread", None) && !verify("", None) && !verify("x", Some("nonsense")));
        assert_ne!(kept, hash("Tram 12 smells of rye bread", &[]).expect("good enough"), "salted");
    }

    #[test]
    fn who_is_nobody_takes_as_long() {
        // That the stand-in is a hash at all: otherwise it would be answered at once.
        assert!(
            PasswordHash::new(
                "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIG5vbmU$2u5ZbEbMxHd1vPBvHfCx5kPxv2l1yHMnoGYjIVWpQ0Y"
            )
            .is_ok()
        );
    }
}
