use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::{Store, StoreOptions};

use super::*;

struct Lab {
    folder: tempfile::TempDir,
    share: Arc<dyn FileTree>,
    _store: Store,
}

impl Lab {
    fn new() -> Lab {
        let options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
        let store = Store::open(Arc::new(SimDisk::new(1)) as Arc<dyn Media>, options).expect("a store").0;
        let made = store.create_share("path-1", Policy::Inline, Timestamp(1)).expect("a share");
        Lab {
            folder: tempfile::tempdir().expect("a folder"),
            share: store.tree(made.row.id).expect("a tree"),
            _store: store,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("room");
        fs::write(path, bytes).expect("room");
    }

    fn scan(&self) -> Found {
        scan(self.folder.path(), &*self.share, &mut |_| Ok(())).expect("it can be looked at")
    }

    /// Every file of the share by its path: its bytes, or where a symlink leads.
    fn held(&self) -> BTreeMap<String, Vec<u8>> {
        let mut held = BTreeMap::new();
        self.held_below(Inode::ROOT, "", &mut held);
        held
    }

    fn held_below(&self, dir: Inode, path: &str, held: &mut BTreeMap<String, Vec<u8>>) {
        let listing = self.share.read_dir(&OWNER, dir, 0, 10_000).expect("a folder");
        assert!(listing.end);
        for entry in listing.entries.into_iter().filter(|entry| entry.cookie > 2) {
            let name = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
            let inode = entry.attributes.inode;
            match entry.attributes.file_type {
                FileType::Directory => {
                    held.insert(name.clone(), Vec::new());
                    self.held_below(inode, &name, held);
                }
                FileType::Symlink => {
                    drop(held.insert(name, self.share.read_link(&OWNER, inode).expect("a link").to_vec()))
                }
                _ => {
                    let size = u32::try_from(entry.attributes.size).expect("a small file");
                    let read = self.share.read(&OWNER, inode, 0, size).expect("its bytes");
                    held.insert(name, read.pieces.concat());
                }
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn a_share_follows_its_path_look_by_look() {
    let lab = Lab::new();
    lab.write("a/deep/er/file", "one");
    lab.write("large", vec![7; 3 << 20]);
    lab.write("Büro 老师", "");
    symlink("nowhere/at all", lab.path("link")).expect("a link");
    let first = lab.scan();
    assert_eq!((first.files, first.changed_files, first.logical, first.changed), (3, 3, 3 + (3 << 20), 3 + (3 << 20)));
    let mut expected = BTreeMap::from([
        ("/a".to_owned(), vec![]),
        ("/a/deep".to_owned(), vec![]),
        ("/a/deep/er".to_owned(), vec![]),
        ("/a/deep/er/file".to_owned(), text("one")),
        ("/large".to_owned(), vec![7; 3 << 20]),
        ("/Büro 老师".to_owned(), vec![]),
        ("/link".to_owned(), text("nowhere/at all")),
    ]);
    assert_eq!(lab.held(), expected);
    let again = lab.scan();
    assert_eq!((again.changed_files, again.changed, again.files, again.logical), (0, 0, first.files, first.logical));

    // Shorter, longer, gone, and something else of the same name.
    lab.write("a/deep/er/file", "1");
    lab.write("Büro 老师", "now it says something");
    fs::remove_file(lab.path("large")).expect("it was there");
    lab.write("large/inside", "a folder now");
    fs::remove_file(lab.path("link")).expect("it was there");
    symlink("elsewhere", lab.path("link")).expect("a link");
    let changed = lab.scan();
    assert_eq!((changed.changed_files, changed.files), (3, 3));
    expected.insert("/a/deep/er/file".into(), text("1"));
    expected.insert("/Büro 老师".into(), text("now it says something"));
    expected.insert("/large".into(), vec![]);
    expected.insert("/large/inside".into(), text("a folder now"));
    expected.insert("/link".into(), text("elsewhere"));
    assert_eq!(lab.held(), expected);

    fs::remove_dir_all(lab.path("a")).expect("it was there");
    fs::remove_dir_all(lab.path("large")).expect("it was there");
    lab.write("large", "a file again");
    lab.scan();
    expected.retain(|name, _| !name.starts_with("/a") && !name.starts_with("/large"));
    expected.insert("/large".into(), text("a file again"));
    assert_eq!(lab.held(), expected);
}

#[test]
fn nothing_is_written_to_what_is_looked_at() {
    let lab = Lab::new();
    lab.write("a/file", "one");
    let seen = |path: PathBuf| {
        let metadata = fs::metadata(path).expect("it is there");
        (metadata.mtime_nsec(), metadata.ctime_nsec(), metadata.atime(), metadata.atime_nsec(), metadata.mode())
    };
    let before = ["", "a", "a/file"].map(|name| seen(lab.path(name)));
    lab.scan();
    let after = ["", "a", "a/file"].map(|name| seen(lab.path(name)));
    assert_eq!(before[2], after[2], "also not when it was read");
    assert_eq!(before.map(|seen| (seen.0, seen.1)), after.map(|seen| (seen.0, seen.1)));
}

#[test]
fn a_single_file_is_a_dataset_too() {
    let lab = Lab::new();
    lab.write("disk.img", vec![1; 100_000]);
    let look = |at: &str| scan(&lab.path(at), &*lab.share, &mut |_| Ok(()));
    assert_eq!(look("disk.img").expect("a file").changed, 100_000);
    assert_eq!(look("disk.img").expect("a file").changed, 0);
    // By a link that a person names.
    symlink("disk.img", lab.path("named")).expect("a link");
    assert!(look("named").is_ok());
    assert!(matches!(look("gone"), Err(Broken::Path(..))));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_looked_at() {
    let lab = Lab::new();
    // The memory of a process begins where nothing may be read.
    let found = scan(Path::new("/proc/self/mem"), &*lab.share, &mut |_| Ok(())).expect("it is there");
    assert_eq!((found.unread, found.files, found.told.len()), (1, 0, 1));
    assert!(found.told[0].contains("/mem: "), "{:?}", found.told);

    let deep: PathBuf = (0..DEPTH_MAX + 5).map(|_| "d").collect();
    fs::create_dir_all(lab.path("deep").join(deep)).expect("room");
    lab.write("beside", "x");
    let fifo = std::process::Command::new("mkfifo").arg(lab.path("pipe")).status().expect("mkfifo");
    assert!(fifo.success());
    let found = lab.scan();
    assert_eq!((found.unread, found.files, found.special), (1, 1, 1), "{found:?}");
    assert!(found.told[0].contains("too many folders"));
}

#[test]
fn a_look_that_is_stopped_goes_on_where_it_was() {
    let lab = Lab::new();
    (0..20).for_each(|nth| lab.write(&format!("file {nth}"), vec![nth; 2 << 20]));
    let stopped = scan(lab.folder.path(), &*lab.share, &mut |found: &Found| {
        if found.changed_files == 10 { Err(Broken::Stopped) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Broken::Stopped)));
    let rest = lab.scan();
    assert_eq!((rest.changed_files, rest.files), (10, 20));
    // In the middle of a file, that one is read again.
    lab.write("file 3", vec![9; 4 << 20]);
    let mut asked = 0;
    let stopped = scan(lab.folder.path(), &*lab.share, &mut |found: &Found| {
        asked += u32::from(found.changed > 1 << 20);
        if asked > 0 { Err(Broken::Stopped) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Broken::Stopped)));
    assert_eq!(lab.scan().changed_files, 1);
    assert_eq!(lab.held()["/file 3"], vec![9; 4 << 20]);
}
