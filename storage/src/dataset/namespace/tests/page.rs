//! `docs/formats/namespace.md` says what the code does: its example share is made here and compared byte for byte.

use bytes::Bytes;

use super::shell::{ROOT, Shell, mode, user};
use super::table::Ram;
use crate::dataset::namespace::{self, Entry, Key, Listed, Record, Totals};
use crate::dataset::{Call, Create, Node, SetAttributes};
use crate::units::{Inode, Timestamp};

const PAGE: &str = include_str!("../../../../../docs/formats/namespace.md");

/// The share of the page: a file, an empty one that was made exclusively, a directory with a long symlink and a device.
fn example() -> Ram {
    let mut shell = Shell { table: Ram::new(Timestamp(1_700_000_000_000_000_000)), now: 1_700_000_001_000_000_000 };
    let none = SetAttributes::default();
    let file = shell
        .run(ROOT, |table, call| namespace::create(table, call, Inode::ROOT, b"a.txt", &Create::Guarded(mode(0o640))));
    let file = file.expect("free").file.inode;
    shell.write(ROOT, file, 0, 4660).expect("root may");
    let dir = shell.run(ROOT, |table, call| namespace::make_dir(table, call, Inode::ROOT, b"d", &mode(0o1777)));
    let dir = dir.expect("free").file.inode;
    let verifier = Create::Exclusive(*b"verifier");
    shell.run(&user(1000), |table, call| namespace::create(table, call, dir, b"new", &verifier)).expect("free");
    shell
        .run(ROOT, |table, call| namespace::make_symlink(table, call, dir, b"short", b"../a.txt", &none))
        .expect("free");
    let long = [b'x'; 256];
    shell.run(ROOT, |table, call| namespace::make_symlink(table, call, dir, b"long", &long, &none)).expect("free");
    let node = Node::CharDevice(1, 3);
    shell.run(ROOT, |table, call| namespace::make_node(table, call, dir, b"null", node, &mode(0o666))).expect("free");
    shell.table
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines `KEY = VALUE` of the page, in hexadecimal digits; spaces in between are for the reader.
fn examples() -> Vec<(Bytes, Bytes)> {
    let bytes = |text: &str| -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let block = PAGE.split("## Example").nth(1).and_then(|rest| rest.split("```").nth(1)).expect("an example");
    block.lines().filter_map(|line| line.split_once(" = ")).map(|(key, value)| (bytes(key), bytes(value))).collect()
}

#[test]
fn the_page_shows_the_share_that_the_code_makes() {
    let table = example();
    let shown = examples();
    let made: Vec<(Bytes, Bytes)> = table.pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let text: Vec<String> = made.iter().map(|(key, value)| format!("{} = {}", hex(key), hex(value))).collect();
    assert_eq!(shown, made, "the page should show:\n{}", text.join("\n"));
}

#[test]
fn what_the_page_shows_is_read_as_it_says() -> crate::Result<()> {
    let mut table = Ram::new(Timestamp(0));
    table.pairs = examples().into_iter().collect();
    assert_eq!(namespace::check(&table)?, Totals { files: 5, directories: 2, logical_bytes: 4660 });
    for (key, value) in &table.pairs {
        match Key::parse(key).expect("a key") {
            Key::Totals => assert_eq!(Totals::decode(value)?.encode(), value[..]),
            Key::Record(inode) => assert_eq!(Record::decode(inode, value)?.encode(), value[..]),
            Key::Entry(dir, _) => assert_eq!(Entry::decode(dir, value)?.encode(), value[..]),
            Key::Listed(dir, _) => {
                let Listed { inode, name } = Listed::decode(dir, value)?;
                assert_eq!(Listed::encode(inode, &name), value[..]);
            }
            Key::Content(_) | Key::Target(..) => {}
        }
    }
    let text = namespace::lookup(&table, ROOT, Inode::ROOT, b"a.txt")?;
    assert_eq!((text.mode, text.size, text.used), (0o640, 4660, 4660));
    let dir = namespace::lookup(&table, ROOT, Inode::ROOT, b"d")?;
    assert_eq!((dir.mode, dir.links, dir.size), (0o1777, 2, 4));
    let long = namespace::lookup(&table, ROOT, dir.inode, b"long")?;
    assert_eq!(namespace::read_link(&table, long.inode)?, [b'x'; 256].as_slice());
    // The verifier of the exclusive creation still answers a repetition.
    let call = Call { caller: ROOT, now: Timestamp(0), tag: None };
    let verifier = Create::Exclusive(*b"verifier");
    let repeated = table.run(|table| namespace::create(table, &call, dir.inode, b"new", &verifier))?;
    assert_eq!(repeated.value.file.uid, 1000);
    Ok(())
}
