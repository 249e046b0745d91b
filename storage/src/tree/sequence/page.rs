//! The examples of `docs/formats/sequence-tree.md` are what is written.

use bytes::Bytes;

use super::tests::build;
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
