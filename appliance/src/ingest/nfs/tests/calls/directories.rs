//! READDIR and READDIRPLUS.

use std::collections::BTreeSet;

use bytes::Bytes;
use narrowboat_storage::dataset::FileType;

use super::super::harness::*;
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::{Rules, Squash};

/// One listed name.
#[derive(Debug, PartialEq)]
struct Entry {
    inode: u64,
    name: Bytes,
    cookie: u64,
    plus: Option<(Option<Seen>, Option<Bytes>)>,
}

/// A reply's entries, whether it was the last, and its length behind the status.
fn list(
    client: &Client,
    dir: &Bytes,
    cookie: u64,
    verifier: u64,
    sizes: &[u32],
) -> Result<(Vec<Entry>, bool, usize), Status> {
    let plus = sizes.len() == 2;
    let mut results = client.call(if plus { procedure::READDIRPLUS } else { procedure::READDIR }, |out| {
        out.opaque(dir);
        out.u64(cookie);
        out.u64(verifier);
        sizes.iter().for_each(|size| out.u32(*size));
    });
    let status = results.status();
    let len = results.bytes.len();
    let own = results.post_attributes();
    if status != Status::Ok {
        results.end();
        return Err(status);
    }
    assert_eq!(own.unwrap().file_type, FileType::Directory);
    assert_eq!(results.u64(), 0, "one verifier for ever");
    let mut entries = Vec::new();
    while results.u32() == 1 {
        let (inode, name, cookie) = (results.u64(), results.opaque(), results.u64());
        let plus = plus.then(|| (results.post_attributes(), results.post_handle()));
        entries.push(Entry { inode, name, cookie, plus });
    }
    let end = results.u32() == 1;
    results.end();
    Ok((entries, end, len))
}

/// A directory with names of many lengths.
fn directory(client: &Client, files: usize) -> Bytes {
    let dir = client.mkdir(&client.root(), b"dir");
    for number in 0..files {
        client.create(&dir, format!("{number}{}", "x".repeat(number % 90)).as_bytes());
    }
    dir
}

#[test]
fn every_name_is_listed_once_whatever_the_sizes() {
    let client = Client::new();
    let dir = directory(&client, 300);
    for sizes in [&[400][..], &[1024], &[65_536], &[u32::MAX], &[200, 700], &[4096, 32_768], &[u32::MAX, u32::MAX]] {
        let mut names = BTreeSet::new();
        let mut cookie = 0;
        loop {
            let (entries, end, len) = list(&client, &dir, cookie, 0, sizes).unwrap();
            assert!(len <= *sizes.last().unwrap() as usize, "{len} bytes for {sizes:?}");
            for entry in &entries {
                assert!(names.insert(entry.name.clone()), "{:?} twice", entry.name);
                assert!(entry.cookie > cookie);
                cookie = entry.cookie;
                if let Some((seen, handle)) = &entry.plus {
                    let seen = seen.as_ref().unwrap();
                    assert_eq!(seen.inode.0, entry.inode);
                    assert_eq!(&client.getattr(handle.as_ref().unwrap()).unwrap(), seen);
                }
            }
            if end {
                break;
            }
            assert!(!entries.is_empty(), "a reply that is not the last has entries");
        }
        assert_eq!(names.len(), 302, "with . and .. for {sizes:?}");
        assert!(names.contains(&b"."[..]) && names.contains(&b".."[..]));
    }
}

#[test]
fn sizes_are_kept_to_the_byte() {
    let client = Client::new();
    let dir = directory(&client, 40);
    let (_, end, whole) = list(&client, &dir, 0, 0, &[u32::MAX]).unwrap();
    assert!(end);
    assert!(list(&client, &dir, 0, 0, &[whole as u32]).unwrap().1, "it fits exactly");
    let (entries, end, _) = list(&client, &dir, 0, 0, &[whole as u32 - 1]).unwrap();
    assert!(!end && entries.len() == 41, "one byte less is one entry less");
    let (_, end, whole) = list(&client, &dir, 0, 0, &[u32::MAX, u32::MAX]).unwrap();
    assert!(end);
    assert!(list(&client, &dir, 0, 0, &[u32::MAX, whole as u32]).unwrap().1);
    assert!(!list(&client, &dir, 0, 0, &[u32::MAX, whole as u32 - 1]).unwrap().1);

    let (entries, _, _) = list(&client, &dir, 0, 0, &[28 + 28, u32::MAX]).unwrap();
    assert_eq!(entries.len(), 2, "dircount bounds ids, names and cookies: . and .. take 28 bytes each");
    assert_eq!(list(&client, &dir, 0, 0, &[1, u32::MAX]).unwrap().0.len(), 1, "but one entry always goes");
    for sizes in [&[0][..], &[103], &[104 + 27], &[u32::MAX, 0], &[u32::MAX, 104 + 27 + 152]] {
        assert_eq!(list(&client, &dir, 0, 0, sizes), Err(Status::TooSmall), "{sizes:?}");
    }
    assert_eq!(list(&client, &dir, 0, 0, &[104 + 28]).unwrap().0.len(), 1);
    assert_eq!(list(&client, &dir, 0, 0, &[u32::MAX, 104 + 28 + 152]).unwrap().0.len(), 1);
}

#[test]
fn cookies_outlive_changes() {
    let client = Client::new();
    let dir = directory(&client, 20);
    let (entries, ..) = list(&client, &dir, 0, 0, &[u32::MAX]).unwrap();
    let behind = entries[10].cookie;
    client.call(procedure::REMOVE, |out| {
        out.opaque(&dir);
        out.opaque(&entries[10].name);
    });
    let (rest, end, _) = list(&client, &dir, behind, 0, &[u32::MAX]).unwrap();
    assert!(end && rest == entries[11..], "going on behind a name that is gone");
    assert_eq!(list(&client, &dir, behind, 7, &[u32::MAX]), Err(Status::BadCookie), "another server's verifier");
    assert!(list(&client, &dir, 0, 7, &[u32::MAX]).is_ok(), "from the start it does not matter");
    let last = entries.last().unwrap().cookie;
    assert_eq!(list(&client, &dir, last, 0, &[u32::MAX]).unwrap().0, []);
    assert_eq!(list(&client, &dir, u64::MAX, 0, &[u32::MAX]).unwrap().0, []);
}

#[test]
fn what_is_no_directory_is_not_listed() {
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    for sizes in [&[4096][..], &[4096, 4096]] {
        assert_eq!(list(&client, &file, 0, 0, sizes), Err(Status::NotDirectory));
        assert_eq!(list(&client, &Bytes::new(), 0, 0, sizes), Err(Status::BadHandle));
    }
}

#[test]
fn the_snapshot_directory_is_listed_where_the_export_says_so() {
    let names = |client: &Client, sizes: &[u32]| -> Vec<Bytes> {
        let root = client.root();
        list(client, &root, 0, 0, sizes).unwrap().0.into_iter().map(|entry| entry.name).collect()
    };
    let shown = Client::with(Rules { show_snapshots: true, squash: Squash::None, ..Rules::default() });
    shown.create(&shown.root(), b"file");
    assert_eq!(names(&shown, &[9999]), [&b"."[..], b"..", b"file", b".snapshot"]);
    assert_eq!(names(&shown, &[9999, 9999]), [&b"."[..], b"..", b"file", b".snapshot"]);
    let root = shown.root();
    let mut cookie = 0;
    let mut count = 0;
    loop {
        let (entries, end, _) = list(&shown, &root, cookie, 0, &[150]).unwrap();
        count += entries.len();
        if end {
            break;
        }
        cookie = entries.last().unwrap().cookie;
    }
    assert_eq!(count, 4, "one at a time as well");
    assert_eq!(names(&Client::new(), &[9999]), [&b"."[..], b".."]);
}
