//! Harm to a table: `check` finds every contradiction, and no operation panics or runs for ever on it.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::shell::Type::*;
use super::shell::{ROOT, Shell, mode, size};
use super::table::Ram;
use crate::dataset::namespace::{self, Body, Entry, Key, Listed, Record};
use crate::dataset::{Call, Create, SetAttributes};
use crate::error::Error;
use crate::units::{Inode, Timestamp};

const TOP: Inode = Inode::ROOT;

/// A share with something of everything: `file` (two names), `dir/sub/inner`, a long symlink.
fn share() -> (Shell, Inode, Inode, Inode) {
    let mut shell = Shell::new();
    let file = shell.file("file", Regular);
    shell.write(ROOT, file, 0, 100).expect("root may");
    let dir = shell.file("dir", Dir);
    shell.link(ROOT, file, dir, "again").expect("root may");
    let sub = shell.make(ROOT, dir, "sub", Dir, 0o755).expect("root may");
    shell.make(ROOT, sub, "inner", Fifo, 0).expect("root may");
    let none = SetAttributes::default();
    shell
        .run(ROOT, |table, call| namespace::make_symlink(table, call, TOP, b"long", &[b'x'; 3000], &none))
        .expect("root may");
    (shell, file, dir, sub)
}

/// Inodes whose keys differ, as `storage::check` finds them; a key that is none is told there.
fn touched(old: &Ram, new: &Ram) -> Option<BTreeSet<Inode>> {
    let keys = old.pairs.keys().chain(new.pairs.keys());
    let differ = keys.filter(|key| old.pairs.get(*key) != new.pairs.get(*key));
    differ
        .map(|key| namespace::owner_of(key).ok())
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// Whoever looks at the whole table finds the harm, and whoever looks at what differs from the sound one.
#[track_caller]
fn finds(sound: &Ram, table: &Ram, what: &str) {
    match namespace::check(table) {
        Err(Error::Damage(_)) => {}
        other => panic!("{what}: {other:?}"),
    }
    let Some(touched) = touched(sound, table) else { return };
    match namespace::check_changed(sound, table, touched) {
        Err(Error::Damage(_)) => {}
        other => panic!("{what}, by what differs: {other:?}"),
    }
}

#[test]
fn no_key_can_go_unnoticed() {
    let (shell, ..) = share();
    for key in shell.table.pairs.keys() {
        let mut harmed = shell.table.clone();
        harmed.pairs.remove(key);
        finds(&shell.table, &harmed, &format!("without {:?}", Key::parse(key)));
    }
}

#[test]
fn no_key_can_be_added_unnoticed() {
    let (shell, file, dir, sub) = share();
    let entry = Entry { inode: file, cookie: 3 }.encode();
    let listed = Listed::encode(file, b"ghost");
    let record = shell.table.pairs[&Bytes::from(Key::Record(file).encode())].to_vec();
    for (key, value) in [
        (Key::Record(Inode(99)).encode(), record),
        (Key::Entry(dir, b"ghost").encode(), entry.clone()),
        (Key::Entry(dir, b"..").encode(), entry.clone()),
        (Key::Entry(file, b"ghost").encode(), entry.clone()),
        (Key::Entry(Inode(99), b"ghost").encode(), entry),
        (Key::Listed(dir, 50).encode(), listed.clone()),
        (Key::Listed(dir, 1).encode(), listed.clone()),
        (Key::Listed(file, 3).encode(), listed),
        (Key::Content(dir).encode(), vec![0xC0]),
        (Key::Content(Inode(99)).encode(), vec![0xC0]),
        (Key::Target(file, 0).encode(), vec![4, b'x']),
        (Key::Target(sub, 200).encode(), vec![4, b'x']),
        (vec![0; 9], vec![1]),
        (vec![1], vec![1]),
        ([file.0.to_be_bytes().as_slice(), &[0x77]].concat(), vec![1]),
    ] {
        let mut harmed = shell.table.clone();
        harmed.pairs.insert(key.clone().into(), value.into());
        finds(&shell.table, &harmed, &format!("with {key:02x?}"));
    }
}

#[test]
fn values_that_contradict_each_other_are_found() {
    let (shell, file, dir, sub) = share();
    let alter = |inode: Inode, change: &dyn Fn(&mut Record)| {
        let mut harmed = shell.table.clone();
        let mut record = Record::load(&harmed, inode).expect("it is there");
        change(&mut record);
        harmed.pairs.insert(Key::Record(inode).encode().into(), record.encode().into());
        harmed
    };
    finds(&shell.table, &alter(file, &|record| record.links = 3), "one link too many");
    finds(&shell.table, &alter(file, &|record| record.links = 1), "one link too few");
    finds(&shell.table, &alter(file, &|record| record.size = 101), "a size that is not in the totals");
    finds(&shell.table, &alter(dir, &|record| record.size = 1), "an entry too few");
    finds(&shell.table, &alter(dir, &|record| record.links = 2), "a subdirectory too few");
    let parent = |to| move |record: &mut Record| record.body = Body::Directory { parent: to, next_cookie: 10 };
    finds(&shell.table, &alter(sub, &parent(TOP)), "a wrong parent");
    finds(&shell.table, &alter(sub, &parent(sub)), "a second root");
    finds(&shell.table, &alter(dir, &parent(sub)), "a loop");
    finds(&shell.table, &alter(TOP, &parent(dir)), "a root below");
    finds(
        &shell.table,
        &alter(sub, &|record| record.body = Body::Directory { parent: dir, next_cookie: 3 }),
        "a cookie given twice",
    );

    let inner = shell.look(sub, "inner").expect("made");
    let mut swapped = shell.table.clone();
    let entry = Entry::decode(TOP, &swapped.pairs[&Bytes::from(Key::Entry(TOP, b"file").encode())]).expect("sound");
    let other = Entry { inode: inner, ..entry };
    swapped.pairs.insert(Key::Entry(TOP, b"file").encode().into(), other.encode().into());
    finds(&shell.table, &swapped, "by name another file than by cookie");
    swapped.pairs.insert(Key::Listed(TOP, entry.cookie).encode().into(), Listed::encode(inner, b"file").into());
    match namespace::check(&swapped) {
        Err(Error::Damage(damage)) => assert_eq!((&*damage.expected, &*damage.found), ("2 names", "1"), "{damage}"),
        other => panic!("names and link counts disagree: {other:?}"),
    }
}

#[test]
fn moving_in_a_loop_of_directories_ends() {
    let (mut shell, _, dir, sub) = share();
    let mut record = Record::load(&shell.table, dir).expect("it is there");
    record.body = Body::Directory { parent: sub, next_cookie: 10 };
    shell.table.pairs.insert(Key::Record(dir).encode().into(), record.encode().into());
    let call = Call { caller: ROOT, now: Timestamp(9), tag: None };
    let other = shell.table.run(|table| namespace::make_dir(table, &call, TOP, b"other", &mode(0o755)));
    assert!(other.is_ok(), "elsewhere all is well: {other:?}");
    let moved = shell.table.run(|table| namespace::rename(table, &call, (TOP, b"other"), (sub, b"other")));
    assert!(matches!(moved, Err(Error::Damage(_))), "{moved:?}");
}

#[test]
fn no_harm_makes_an_operation_panic() {
    let (shell, file, dir, sub) = share();
    let names: [&[u8]; 5] = [b"file", b"again", b"sub", b"long", b"new"];
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..3000 {
        let mut table = shell.table.clone();
        for _ in 0..rng.random_range(1..4) {
            let keys: Vec<Bytes> = table.pairs.keys().cloned().collect();
            let key = keys.choose(&mut rng).expect("not empty").clone();
            let mut value = table.pairs[&key].to_vec();
            match rng.random_range(0..4) {
                0 => drop(value.pop()),
                1 => {
                    table.pairs.remove(&key);
                    continue;
                }
                _ => {
                    let at = rng.random_range(0..value.len());
                    value[at] = *[0, 1, 2, 3, 0x7f, 0xff, rng.random()].choose(&mut rng).expect("not empty");
                }
            }
            table.pairs.insert(key, value.into());
        }
        let call = Call { caller: ROOT, now: Timestamp(9), tag: None };
        let whole = namespace::check(&table);
        if let Some(touched) = touched(&shell.table, &table) {
            let changed = namespace::check_changed(&shell.table, &table, touched);
            assert_eq!(whole.is_ok(), changed.is_ok(), "{whole:?} or {changed:?}");
        }
        for inode in [TOP, file, dir, sub] {
            let _ = namespace::read_dir(&table, ROOT, inode, 0, 100);
            let _ = namespace::read_link(&table, inode);
            let _ = table.run(|table| namespace::set_attributes(table, &call, inode, &size(7), None));
            let _ = table.run(|table| namespace::wrote(table, &call, inode, (50, 70), &|from, to| Ok(to - from)));
            for name in names {
                let _ = namespace::lookup(&table, ROOT, inode, name);
                let other = names.choose(&mut rng).expect("not empty");
                let _ = table.run(|table| namespace::rename(table, &call, (inode, name), (TOP, other)));
                let _ = table.run(|table| namespace::remove(table, &call, inode, name));
                let _ = table.run(|table| namespace::remove_dir(table, &call, inode, name));
                let _ = table.run(|table| namespace::link(table, &call, file, inode, name));
                let how = Create::Unchecked(size(0));
                let _ = table.run(|table| namespace::create(table, &call, inode, name, &how));
            }
        }
    }
}
