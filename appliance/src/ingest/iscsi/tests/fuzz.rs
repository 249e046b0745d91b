//! Bytes that nobody would send.

use proptest::prelude::*;

use super::harness::Served;
use super::initiator::World;
use crate::ingest::iscsi::Access;
use crate::ingest::iscsi::scsi::Shape;
use crate::ingest::iscsi::wire::Bhs;

/// A PDU that is nearly one: mostly known operations, small numbers, flags of all kinds.
fn pdu() -> impl Strategy<Value = (Bhs, Vec<u8>)> {
    let known = prop::sample::select(vec![0x00u8, 0x01, 0x02, 0x04, 0x05, 0x06, 0x40, 0x41, 0x42, 0x44, 0x46, 0x10]);
    let small = || prop_oneof![4 => 0u32..6, 1 => Just(u32::MAX), 1 => any::<u32>()];
    let cdb = prop_oneof![
        Just([0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
        Just([0x28, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
        Just([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        any::<[u8; 10]>()
    ];
    let words = (small(), small(), small(), small(), small());
    let data = prop::collection::vec(any::<u8>(), 0..600);
    (known, any::<u8>(), words, cdb, data, any::<bool>()).prop_map(|(opcode, flags, words, cdb, data, command)| {
        let (tag, at20, number, at36, at40) = words;
        let bhs =
            Bhs::new(opcode, flags).with_word(16, tag).with_word(20, at20).with_word(24, number.wrapping_add(100));
        let bhs = bhs.with_word(36, at36).with_word(40, at40);
        (if command { bhs.with_bytes(32, &cdb) } else { bhs }, data)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn any_conversation_ends_well(pdus in prop::collection::vec(pdu(), 1..40), seconds in 0u64..20, digest: bool) {
        let world = World::new(Served::new(1 << 20, Shape::EMULATED_512, Access::default()));
        let keys = if digest { &[("HeaderDigest", "CRC32C")][..] } else { &[] };
        let mut initiator = world.login(1, keys);
        for (number, (bhs, data)) in pdus.into_iter().enumerate() {
            initiator.send(bhs, &data);
            if number % 3 == 0 {
                initiator.run_tasks();
            }
            if number % 7 == 0 {
                initiator.wait(seconds);
            }
            initiator.hear();
            prop_assert!(world.memory.used() <= 80 << 20);
        }
        initiator.run_tasks();
        initiator.hear();
        drop(initiator);
        prop_assert_eq!(world.memory.used(), 0);
        prop_assert_eq!(world.registry.count(), 0);
    }

    #[test]
    fn any_bytes_before_a_login_end_well(bytes in prop::collection::vec(any::<u8>(), 0..400), login: bool) {
        let world = World::new(Served::new(1 << 20, Shape::EMULATED_512, Access::default()));
        let mut initiator = world.connect(1);
        let mut bytes = bytes;
        if let (true, Some(first)) = (login, bytes.first_mut()) {
            *first = 0x43;
        }
        let _ = initiator.send_bytes(&bytes);
        initiator.hear();
    }
}
