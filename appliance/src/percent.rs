//! Bytes as parts of an address: what is not plain is written as `%XX` (RFC 3986, section 2).

/// A name as one part of an address or path: letters, digits and `-._~` as they are, every other byte as `%XX`. So are the dots of a name
/// of dots alone, which would lead elsewhere.
pub fn part(name: impl AsRef<[u8]>) -> String {
    let name = name.as_ref();
    let dots = matches!(name, b"." | b"..");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || byte == b'.' && !dots;
    name.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The bytes that a part stands for; `None` where a `%` has no two digits behind it.
pub fn unescaped(part: &str) -> Option<Vec<u8>> {
    let mut bytes = part.bytes();
    let mut name = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_part_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescaped(&part(&all)), Some(all));
        assert_eq!(part("a/b?c#d e.1ü\"<"), "a%2Fb%3Fc%23d%20e.1%C3%BC%22%3C");
        assert_eq!(
            (part("."), part(".."), part("..."), part("")),
            ("%2E".into(), "%2E%2E".into(), "...".into(), String::new())
        );
        for wrong in ["%", "%4", "%zz", "%+1", "%ü"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
