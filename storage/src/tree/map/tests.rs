//! Map trees against a `BTreeMap`, against keys chosen to hurt, and by counted reads.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::Error;
use crate::name::Kind;
use crate::tree::builder::Layout;
use crate::tree::testing::{TestObjects, cases};

type Model = BTreeMap<Bytes, Bytes>;

fn build(objects: &TestObjects, model: &Model) -> Option<Name> {
    let edits = model.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    merge(objects, objects.realm(), None, edits).unwrap()
}

fn all(objects: &TestObjects, root: Option<&Name>) -> Model {
    range::<&[u8]>(objects, root, ..).map(Result::unwrap).collect()
}

/// Keys in the shape of a share's: an inode number, a letter, sometimes a name.
fn key(rng: &mut SmallRng, inodes: u64) -> Bytes {
    let mut key = rng.random_range(0..inodes).to_be_bytes().to_vec();
    match rng.random_range(0..3u8) {
        2 => {
            key.push(2);
            let len = rng.random_range(1..20);
            key.extend((0..len).map(|_| rng.random_range(b'a'..b'd')));
        }
        kind => key.push(kind),
    }
    key.into()
}

fn value(rng: &mut SmallRng) -> Bytes {
    let mut value = vec![0; if rng.random_bool(0.01) { VALUE_BYTES_MAX } else { rng.random_range(0..60) }];
    rng.fill_bytes(&mut value);
    value.into()
}

fn model(rng: &mut SmallRng, len: usize) -> Model {
    (0..len).map(|_| (key(rng, len as u64 / 2 + 1), value(rng))).collect()
}

/// Some edits, near one another or scattered, and what they make of `model`.
fn edit(rng: &mut SmallRng, model: &Model, count: usize) -> (BTreeMap<Bytes, Option<Bytes>>, Model) {
    let mut edits = BTreeMap::new();
    let keys: Vec<&Bytes> = model.keys().collect();
    let remove_run = rng.random_bool(0.3) && !keys.is_empty();
    if remove_run {
        let from = rng.random_range(0..keys.len());
        let to = rng.random_range(from..=keys.len());
        edits.extend(keys[from..to].iter().map(|key| ((*key).clone(), None)));
    }
    for _ in 0..count {
        let known = !keys.is_empty() && rng.random_bool(0.5);
        let key = if known { keys[rng.random_range(0..keys.len())].clone() } else { key(rng, keys.len() as u64 + 3) };
        edits.insert(key, if rng.random_bool(0.4) { None } else { Some(value(rng)) });
    }
    let mut after = model.clone();
    for (key, value) in &edits {
        match value {
            Some(value) => after.insert(key.clone(), value.clone()),
            None => after.remove(key),
        };
    }
    (edits, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    #[test]
    fn any_order_of_edits_gives_the_root_of_its_result(seed: u64, len in 0usize..6000, rounds in 1usize..6) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let mut model = model(&mut rng, len);
        let mut root = build(&objects, &model);
        for _ in 0..rounds {
            let count = [0, 1, 3, 50, 2000][rng.random_range(0..5)];
            let (edits, after) = edit(&mut rng, &model, count);
            root = merge(&objects, objects.realm(), root.as_ref(), edits).unwrap();
            model = after;
            prop_assert_eq!(root, build(&objects, &model), "edited and built from scratch differ");
            prop_assert_eq!(root.is_none(), model.is_empty());
            prop_assert!(all(&objects, root.as_ref()) == model);
        }
        for _ in 0..50 {
            let key = key(&mut rng, len as u64 + 1);
            prop_assert_eq!(get(&objects, root.as_ref(), &key).unwrap(), model.get(&key).cloned());
        }
        for (key, value) in model.iter().step_by(1 + model.len() / 50) {
            prop_assert_eq!(get(&objects, root.as_ref(), key).unwrap(), Some(value.clone()));
        }
    }

    #[test]
    fn ranges_are_those_of_the_model(seed: u64, len in 0usize..3000) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let model = model(&mut rng, len);
        let root = build(&objects, &model);
        for _ in 0..30 {
            let bound = |rng: &mut SmallRng| match rng.random_range(0..3u8) {
                0 => Bound::Unbounded,
                1 => Bound::Included(key(rng, len as u64 + 1)),
                _ => Bound::Excluded(key(rng, len as u64 + 1)),
            };
            let bounds = (bound(&mut rng), bound(&mut rng));
            let want: Vec<_> = model.iter().filter(|(key, _)| bounds.contains(*key)).map(|(k, v)| (k.clone(), v.clone())).collect();
            let got: Vec<_> = range(&objects, root.as_ref(), bounds).map(Result::unwrap).collect();
            prop_assert!(got == want);
            let start = key(&mut rng, len as u64 + 1).slice(..rng.random_range(0..9));
            let want: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&start)).map(|(k, v)| (k.clone(), v.clone())).collect();
            let got: Vec<_> = prefix(&objects, root.as_ref(), &start).map(Result::unwrap).collect();
            prop_assert!(got == want);
        }
    }

    #[test]
    fn differences_are_those_of_the_models(seed: u64, len in 0usize..4000, count in 0usize..300) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let old = model(&mut rng, len);
        let (_, new) = edit(&mut rng, &old, count);
        let (old_root, new_root) = (build(&objects, &old), build(&objects, &new));
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
        let want: Vec<Change> = keys
            .into_iter()
            .map(|key| Change { old: old.get(&key).cloned(), new: new.get(&key).cloned(), key })
            .filter(|change| change.old != change.new)
            .collect();
        let got: Vec<Change> = diff(&objects, old_root.as_ref(), new_root.as_ref()).map(Result::unwrap).collect();
        prop_assert!(got == want);
    }

    #[test]
    fn bytes_that_are_no_node_are_told(seed: u64, len in 1usize..200, harm in 0u8..4) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let root = build(&objects, &model(&mut rng, len)).unwrap();
        let mut bytes = crate::tree::Objects::read(&objects, Kind::MapNode, &root).unwrap().to_vec();
        match harm {
            0 => bytes.truncate(rng.random_range(0..bytes.len())),
            1 => { let at = rng.random_range(0..bytes.len()); bytes[at] = rng.random(); }
            2 => { let at = rng.random_range(0..bytes.len()); bytes.insert(at, rng.random()); }
            _ => { bytes.truncate(12); bytes.extend((0..400).map(|_| rng.random::<u8>() & 0x1F)); }
        }
        // Never a panic; and what is accepted is what would be written.
        if let Ok(node) = Node::decode(&Bytes::from(bytes.clone())) {
            prop_assert_eq!(encode_again(&objects, &node)[12..].to_vec(), bytes[12..].to_vec());
        }
    }
}

fn encode_again(objects: &TestObjects, node: &Node) -> Vec<u8> {
    use super::format::{Item, MapLayout, Payload};
    let items: Vec<Item> = (0..node.len())
        .map(|index| Item {
            key: node.key(index),
            payload: if node.level() == 0 {
                Payload::Value(node.value(index))
            } else {
                Payload::Child(node.child(index))
            },
        })
        .collect();
    MapLayout { realm: objects.realm() }.encode(node.level(), &items)
}

#[test]
fn one_edit_among_many_entries_reads_and_writes_a_path() {
    let (mut rng, objects) = (SmallRng::seed_from_u64(1), TestObjects::new());
    let entries = model(&mut rng, 60_000);
    let root = build(&objects, &entries);
    let nodes = objects.count();
    assert!((500..2000).contains(&nodes), "{nodes} nodes");
    for key in entries.keys().step_by(997) {
        objects.take_tally();
        get(&objects, root.as_ref(), key).unwrap();
        assert!(objects.take_tally().node_reads <= 4);
        for value in [Some(Bytes::from_static(b"new")), None] {
            let edited = merge(&objects, objects.realm(), root.as_ref(), [(key.clone(), value)]).unwrap();
            let tally = objects.take_tally();
            assert!(tally.node_reads <= 14 && tally.node_puts <= 12, "{tally:?}");
            assert_eq!(diff(&objects, root.as_ref(), edited.as_ref()).count(), 1);
            let tally = objects.take_tally();
            assert!(tally.node_reads <= 20, "{tally:?}");
        }
    }
    // A thousand edits side by side cost about what they fill, not a path each.
    let edits: Vec<_> = entries.keys().skip(20_000).take(1000).map(|key| (key.clone(), Some(Bytes::new()))).collect();
    merge(&objects, objects.realm(), root.as_ref(), edits).unwrap();
    assert!(objects.take_tally().node_reads < 50);
}

/// Keys whose hash, on the lowest `levels` levels, always says "end here" or never does.
fn picked_keys(realm: &crate::name::Realm, count: usize, ends: bool) -> Vec<Bytes> {
    let hits = |key: &[u8]| realm.boundary(key).trailing_zeros() >= 6;
    (0u64..).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).filter(|key| hits(key) == ends).take(count).collect()
}

#[test]
fn keys_picked_to_hurt_keep_nodes_and_height_bounded() {
    let objects = TestObjects::new();
    for ends in [true, false] {
        let keys = picked_keys(objects.realm(), 3000, ends);
        let entries: Model = keys.iter().map(|key| (key.clone(), Bytes::from(vec![7; VALUE_BYTES_MAX]))).collect();
        let root = build(&objects, &entries);
        assert!(all(&objects, root.as_ref()) == entries);
        let top = objects.map_node(root.as_ref().unwrap()).unwrap();
        assert!(top.level() <= 4, "level {}", top.level());
        // Taking every second away, in two ways, ends in one root.
        let half: Model = entries.iter().step_by(2).map(|(key, value)| (key.clone(), value.clone())).collect();
        let removed = keys.iter().skip(1).step_by(2).map(|key| (key.clone(), None::<Bytes>));
        assert_eq!(merge(&objects, objects.realm(), root.as_ref(), removed).unwrap(), build(&objects, &half));
    }
}

#[test]
fn removing_all_but_the_last_entries_leaves_no_lone_children() {
    let (mut rng, objects) = (SmallRng::seed_from_u64(3), TestObjects::new());
    let entries = model(&mut rng, 9000);
    let root = build(&objects, &entries);
    for keep in [1, 5, 100, 400, 2000] {
        let kept: Model = entries.iter().skip(entries.len() - keep).map(|(k, v)| (k.clone(), v.clone())).collect();
        let removed = entries.keys().take(entries.len() - keep).map(|key| (key.clone(), None::<Bytes>));
        assert_eq!(merge(&objects, objects.realm(), root.as_ref(), removed).unwrap(), build(&objects, &kept), "{keep}");
    }
}

#[test]
fn edits_outside_the_bounds_are_refused() {
    let objects = TestObjects::new();
    let refused = |edits: Vec<(Vec<u8>, Option<Vec<u8>>)>| {
        matches!(merge(&objects, objects.realm(), None, edits), Err(Error::Refused(crate::error::Refusal::Invalid(_))))
    };
    assert!(refused(vec![(vec![], Some(vec![]))]));
    assert!(refused(vec![(vec![1; KEY_BYTES_MAX + 1], Some(vec![]))]));
    assert!(refused(vec![(vec![1], Some(vec![0; VALUE_BYTES_MAX + 1]))]));
    assert!(refused(vec![(vec![1], None), (vec![1], None)]));
    assert!(refused(vec![(vec![2], Some(vec![])), (vec![1], Some(vec![]))]));
    assert!(!refused(vec![(vec![1; KEY_BYTES_MAX], Some(vec![0; VALUE_BYTES_MAX]))]));
}

#[test]
fn a_child_that_is_not_what_its_parent_says_is_damage() {
    let (mut rng, objects) = (SmallRng::seed_from_u64(4), TestObjects::new());
    let entries = model(&mut rng, 3000);
    let root = build(&objects, &entries).unwrap();
    let top = objects.map_node(&root).unwrap();
    assert!(top.level() >= 1 && top.len() > 2);
    let other = crate::tree::Objects::read(&objects, Kind::MapNode, &top.child(1)).unwrap();
    let whole = crate::tree::Objects::read(&objects, Kind::MapNode, &root).unwrap();
    for wrong in [other, whole, Bytes::from_static(b"NBmn")] {
        objects.corrupt(Kind::MapNode, &top.child(0), wrong);
        let error = get(&objects, Some(&root), entries.keys().next().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Damage(_)), "{error}");
        let results: Vec<_> = range::<&[u8]>(&objects, Some(&root), ..).collect();
        assert!(matches!(results[..], [Err(Error::Damage(_))]), "an error ends the listing");
    }
    assert!(objects.forget(Kind::MapNode, &top.child(0)));
    assert!(get(&objects, Some(&root), entries.keys().next().unwrap()).is_err());
}

#[test]
fn a_map_of_a_newer_version_is_read_and_not_changed() {
    let objects = TestObjects::new();
    let page = include_str!("../../../../docs/formats/map-tree.md");
    for (at, readable, writable) in [(8, true, true), (9, true, false), (10, false, false)] {
        let mut leaf = crate::tree::testing::hex_of_example(page, "leaf");
        leaf[at] = 1;
        let root = crate::tree::Objects::put(&objects, Kind::MapNode, &leaf).unwrap();
        let found = get(&objects, Some(&root), b"boat/bow");
        assert_eq!(found.is_ok_and(|value| value.as_deref() == Some(b"wood")), readable);
        let edit = [(Bytes::from("boat/bow"), Some(Bytes::from("iron")))];
        let merged = merge(&objects, objects.realm(), Some(&root), edit);
        assert_eq!(merged.is_ok(), writable);
        assert!(writable || matches!(merged, Err(Error::Refused(crate::error::Refusal::Unsupported(_)))));
    }
}

#[test]
fn examples_of_the_page_are_what_is_written() {
    let objects = TestObjects::new();
    let page = include_str!("../../../../docs/formats/map-tree.md");
    let entries: Model = [("boat/bow", "wood"), ("boat/hull", "steel"), ("boat/tiller", "")]
        .into_iter()
        .map(|(key, value)| (Bytes::from(key), Bytes::from(value)))
        .collect();
    let root = build(&objects, &entries).unwrap();
    let leaf = crate::tree::Objects::read(&objects, Kind::MapNode, &root).unwrap();
    assert_eq!(crate::tree::testing::hex_of_example(page, "leaf"), leaf, "{leaf:02x?}");
    assert!(page.contains(&root.to_string()), "the page lacks the root {root}");

    let many: Model = (0u64..200).map(|n| (Bytes::copy_from_slice(&n.to_be_bytes()), Bytes::new())).collect();
    let root = build(&objects, &many).unwrap();
    let inner = crate::tree::Objects::read(&objects, Kind::MapNode, &root).unwrap();
    assert_eq!(crate::tree::testing::hex_of_example(page, "inner node"), inner, "{inner:02x?}");
    assert!(page.contains(&root.to_string()), "the page lacks the root {root}");
}
