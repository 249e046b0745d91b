//! Fingerprints, addresses, names and records.

use super::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

fn record() -> PeerRecord {
    PeerRecord {
        name: "head-office".parse().expect("a name"),
        id: PeerId(std::array::from_fn(|index| index as u8)),
        addresses: vec![
            "backup.example.org:7420".parse().expect("an address"),
            "[2001:db8::1]:7420".parse().expect("v6"),
        ],
        realm: [0x11; 16],
        store: StoreId([0x22; 16]),
        paired_at: Timestamp::new(1_790_000_000, 5),
        limit: Some("20Mbit".parse().expect("a rate")),
    }
}

#[test]
fn a_record_reads_back() {
    assert_eq!(PeerRecord::decode(&record().encode()).expect("sound"), record());
    let bare = PeerRecord { addresses: Vec::new(), limit: None, ..record() };
    assert_eq!(PeerRecord::decode(&bare.encode()).expect("sound"), bare);
}

#[test]
fn the_page_shows_a_record() {
    let page = include_str!("../../docs/formats/peer-record.md");
    let example = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let digits: String = example.split_whitespace().collect();
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).expect("hexadecimal"))
        .collect();
    assert_eq!(PeerRecord::decode(&bytes).expect("sound"), record());
    assert_eq!(record().encode(), bytes);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let bytes = record().encode();
    for bit in 0..bytes.len() * 8 {
        let mut harmed = bytes.clone();
        harmed[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(PeerRecord::decode(&harmed), Err(Error::Damage(_))), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(matches!(PeerRecord::decode(&bytes[..len]), Err(Error::Damage(_))), "cut at {len}");
    }
}

/// The record with other bytes at one place, and a checksum that fits them.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = record().encode();
    record.truncate(record.len() - 4);
    record[at..at + bytes.len()].copy_from_slice(bytes);
    let check = crc32c::crc32c(&record);
    record.put_u32(check);
    record
}

#[test]
fn newer_records_are_refused_and_what_may_be_ignored_is() {
    assert!(matches!(PeerRecord::decode(&with(4, &[2, 0])), Err(Error::Refused(Refusal::Unsupported(_)))));
    assert!(matches!(PeerRecord::decode(&with(12, &[1])), Err(Error::Refused(Refusal::Unsupported(_)))));
    assert!(matches!(PeerRecord::decode(&with(16, &[1])), Err(Error::Refused(Refusal::Unsupported(_)))));
    assert_eq!(PeerRecord::decode(&with(8, &[1])).expect("ignorable"), record());
}

#[test]
fn lengths_that_lie_are_damage_even_under_a_good_checksum() {
    let name_at = HEADER_LEN + 32 + 16 + 16 + 8 + 8;
    for length in [0_u32, 10, 64, 1 << 20, u32::MAX] {
        assert!(matches!(PeerRecord::decode(&with(name_at, &length.to_le_bytes())), Err(Error::Damage(_))), "{length}");
    }
    let count_at = name_at + 4 + 11;
    for count in [0_u32, 1, 3, 9, u32::MAX] {
        assert!(matches!(PeerRecord::decode(&with(count_at, &count.to_le_bytes())), Err(Error::Damage(_))), "{count}");
    }
}

#[test]
fn a_fingerprint_finds_every_wrong_symbol() {
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..50 {
        let id = PeerId(rng.random());
        let shown = id.to_string();
        assert_eq!(shown.len(), 19);
        assert_eq!(id.matches(&shown), Ok(true));
        assert_eq!(id.matches(&shown.to_uppercase().replace('-', " ").replace('0', "o")), Ok(true));
        assert_eq!(PeerId(rng.random()).matches(&shown), Ok(false));
        let place = (0..19).filter(|place| place % 5 != 4).nth(rng.random_range(0..16)).expect("a place");
        for symbol in SYMBOLS.iter().map(|symbol| char::from(*symbol)) {
            let mut typed: Vec<char> = shown.chars().collect();
            if typed[place] == symbol {
                continue;
            }
            typed[place] = symbol;
            assert!(id.matches(&typed.iter().collect::<String>()).is_err(), "{shown}: {place} as {symbol}");
        }
    }
}

#[test]
fn the_whole_key_reads_back() {
    assert_eq!(PeerId::from_hex(&record().id.to_hex()), Ok(record().id));
    assert!(PeerId::from_hex("00").is_err());
}

#[test]
fn addresses_and_names_have_bounds() {
    for good in ["10.0.0.1:7420", "branch-7.example.org:1", "[::1]:65535"] {
        assert!(good.parse::<PeerAddress>().is_ok(), "{good}");
    }
    for bad in ["", "host", "host:", "host:0", "host:65536", ":1", "a b:1", "[::1:1", "::1:7420", "[10.0.0.1]:1"] {
        assert!(bad.parse::<PeerAddress>().is_err(), "{bad}");
    }
    assert!(format!("{}:1", "a".repeat(300)).parse::<PeerAddress>().is_err());
    for good in ["a", "Büro-7", "head.office_2"] {
        assert!(good.parse::<PeerName>().is_ok(), "{good}");
    }
    for bad in ["", "-a", ".a", "a/b", "a b", "a\n", &"a".repeat(64)] {
        assert!(bad.parse::<PeerName>().is_err(), "{bad}");
    }
}
