//! The examples of `docs/formats/sequence-tree.md` are what is written.

use bytes::Bytes;

use super::tests::build;
use super::{Child, entries, splice};
use crate::chunk::{ChunkSizes, Cutter};
use crate::name::Kind;
use crate::tree::testing::{TestObjects, hex_of_example};
use crate::tree::{Objects, sequence::Content};

const PAGE: &str = include_str!("../../../../docs/formats/sequence-tree.md");

#[test]
fn examples_of_the_page_are_what_is_written() {
    let (objects, cutter) = (TestObjects::new(), Cutter::new(ChunkSizes::around(16 << 10).unwrap()));
    let mut bytes = b"hello, boat".to_vec();
    bytes.resize(11 + 10_000, 0);
    bytes.extend(b"end");
    let embedded = build(&objects, &cutter, &bytes);
    assert_eq!(hex_of_example(PAGE, "embedded content"), embedded.encode(), "{}", hex(&embedded.encode()));

    let bytes: Vec<u8> = (1..=120).flat_map(|n| [n; 5000]).collect();
    let tree = build(&objects, &cutter, &bytes);
    assert_eq!(hex_of_example(PAGE, "content with a tree"), tree.encode(), "{}", hex(&tree.encode()));
    let leaf = objects.read(Kind::SequenceNode, &tree.root().unwrap()).unwrap();
    assert_eq!(hex_of_example(PAGE, "leaf"), leaf, "{}", hex(&leaf));
    assert_eq!(Content::decode(&Bytes::from(hex_of_example(PAGE, "content with a tree"))), Ok(tree));
}

#[test]
fn a_content_of_a_newer_version_is_read_and_not_changed() {
    let objects = TestObjects::new();
    let sound = Content::decode(&Bytes::from(hex_of_example(PAGE, "content with a tree"))).unwrap();
    for (at, readable) in [(8, true), (9, true), (10, false)] {
        let mut leaf = hex_of_example(PAGE, "leaf");
        leaf[at] = 1;
        let name = objects.put(Kind::SequenceNode, &leaf).unwrap();
        let newer = Content::tree(&Child { len: sound.len(), data_len: sound.data_len(), name });
        let read = entries(&objects, &newer, 0).collect::<crate::Result<Vec<_>>>();
        assert_eq!(read.is_ok_and(|entries| entries.len() == 10), readable);
        let cutter = Cutter::new(ChunkSizes::around(16 << 10).unwrap());
        let put = &mut |chunks: &[&[u8]]| objects.put_chunks(chunks);
        let cut_off = splice(&objects, &cutter, put, &newer, [], 65_536);
        // Cutting off at a cut reads no chunk, so that none needs to be here.
        let refused =
            |error: crate::Error| matches!(error, crate::Error::Refused(crate::error::Refusal::Unsupported(_)));
        assert!(if at == 8 { cut_off.is_ok() } else { cut_off.is_err_and(refused) }, "byte {at}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
