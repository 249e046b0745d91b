use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A small tree with one of everything.
fn sample(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/one"), b"first content").unwrap();
    fs::write(root.join("a/b/two"), vec![7; 300_000]).unwrap();
    fs::hard_link(root.join("a/b/two"), root.join("again two")).unwrap();
    symlink("a/one", root.join("pointer")).unwrap();
    fs::write(root.join("per%cent and\nnewline"), b"").unwrap();
    for path in ["a/one", "a/b/two", "pointer", "per%cent and\nnewline", "a/b", "a", ""] {
        tree::set_modified(&root.join(path), day_time(1)).unwrap();
    }
}

#[test]
fn a_manifest_survives_writing_and_reading() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    sample(&root);
    let scanned = Manifest::scan(&root).unwrap();
    let file = dir.path().join("manifest");
    scanned.write(&mut fs::File::create(&file).unwrap()).unwrap();
    assert_eq!(Manifest::of(&file).unwrap(), scanned);
    assert!(scanned.summary().starts_with("4 files (1 of them further names), 3 folders, 1 symlinks"));
}

#[test]
fn every_kind_of_difference_is_found() {
    type Harm = fn(&Path);
    let harms: [(Aspect, Harm); 8] = [
        (Aspect::Content, |root| {
            fs::write(root.join("a/one"), b"First content").unwrap();
            tree::set_modified(&root.join("a/one"), day_time(1)).unwrap();
        }),
        (Aspect::Mode, |root| fs::set_permissions(root.join("a/one"), PermissionsExt::from_mode(0o4755)).unwrap()),
        (Aspect::Time, |root| {
            tree::set_modified(&root.join("pointer"), day_time(1) + Duration::from_nanos(1)).unwrap()
        }),
        (Aspect::Links, |root| {
            fs::remove_file(root.join("again two")).unwrap();
            fs::copy(root.join("a/b/two"), root.join("again two")).unwrap();
        }),
        (Aspect::Target, |root| {
            fs::remove_file(root.join("pointer")).unwrap();
            symlink("a/0ne", root.join("pointer")).unwrap();
        }),
        (Aspect::Type, |root| {
            fs::remove_file(root.join("a/one")).unwrap();
            fs::create_dir(root.join("a/one")).unwrap();
        }),
        (Aspect::Presence, |root| fs::remove_file(root.join("a/one")).unwrap()),
        (Aspect::Presence, |root| fs::write(root.join("a/three"), b"").unwrap()),
    ];
    for (aspect, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        sample(&a);
        sample(&b);
        let expected = Manifest::scan(&a).unwrap();
        assert!(expected.compare(&Manifest::scan(&b).unwrap(), &[]).is_equal());
        harm(&b);
        let difference = expected.compare(&Manifest::scan(&b).unwrap(), &[]);
        assert!(!difference.is_equal());
        assert!(difference.json().contains(&format!("{aspect:?}").to_lowercase()), "{aspect:?}: {difference}");
    }
}

/// Every day is made whole, the same each time, and a second day differs from the first only a little.
#[test]
fn days_follow_from_the_seed() {
    // In memory where there is some: the file system's tools sync after every step.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let order =
        |name: &str| Order { dir: dir.path().join(name), from: "/usr/share".into(), size_bytes: 24_000_000, seed: 5 };
    for name in ["x", "y"] {
        make_day1(&order(name)).unwrap();
        make_day2(&order(name)).unwrap();
    }
    let load = |name: &str, day: u8| Manifest::of(&dir.path().join(format!("{name}/day{day}.manifest"))).unwrap();
    for day in [1, 2] {
        let difference = load("x", day).compare(&load("y", day), &[]);
        assert!(difference.is_equal(), "day {day}: {difference}");
    }
    assert_eq!(load("x", 2), Manifest::scan(&dir.path().join("x/day2")).unwrap());
    let (one, two) = (load("x", 1), load("x", 2));
    let difference = one.compare(&two, &[]);
    for aspect in ["content", "presence", "time"] {
        assert!(difference.json().contains(aspect), "{difference}");
    }
}
