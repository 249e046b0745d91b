//! Volumes as raw images: equal to what was written, holes kept, nothing left behind where it fails.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use narrowboat::jobs::image::restore_image;
use narrowboat::jobs::restore::RestoreError;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::BlockDevice;
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Store, StoreOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SIZE: u64 = 64 << 20;

/// A volume with some runs of noise and some of zeros on it, and what it holds.
fn written(folder: &std::path::Path) -> (Store, Arc<dyn BlockDevice>, Vec<u8>) {
    let media = FileMedia::open(folder).expect("a folder");
    let (store, _) = Store::open(Arc::new(media), StoreOptions::default()).expect("a store");
    let volume = store.create_volume("disk", SIZE, Policy::Inline, Timestamp(1)).expect("room");
    let device = store.volume(volume.row.id).expect("a volume");
    let mut model = vec![0; SIZE as usize];
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..40 {
        let (at, len) = (random.random_range(0..SIZE / 2), random.random_range(1..1 << 20));
        let at = at as usize;
        if round % 4 == 3 {
            device.discard(Timestamp(2), &[(at as u64, len)]).expect("discarded");
            model[at..at + len as usize].fill(0);
        } else {
            random.fill(&mut model[at..at + len as usize]);
            let data = Bytes::copy_from_slice(&model[at..at + len as usize]);
            device.write(Timestamp(2), at as u64, data).expect("room");
        }
    }
    device.flush().expect("stable");
    (store, device, model)
}

#[test]
fn an_image_is_equal_and_has_its_holes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, live, model) = written(&folder.path().join("box"));
    let snapshot = store.create_snapshot("disk", "s", Timestamp(3)).expect("room");
    live.write(Timestamp(4), 0, Bytes::from_static(b"later")).expect("room");
    let of_snapshot = store.snapshot_volume(snapshot.id).expect("sealed");
    let dest = folder.path().join("deep/down/disk.img");
    let mut told = 0;
    let stop = AtomicBool::new(false);
    let report = restore_image(&*of_snapshot, &dest, &stop, &mut |progress| told = progress.done).expect("room");
    assert!(fs::read(&dest).expect("whole") == model, "the image is the snapshot");
    let metadata = fs::metadata(&dest).expect("there");
    assert!(
        metadata.blocks() * 512 < SIZE * 3 / 4,
        "what was never written takes no room: {}",
        metadata.blocks() * 512
    );
    assert_eq!((report.files, report.logical_bytes), (1, SIZE));
    assert!(report.written_bytes < SIZE * 3 / 4 && told <= SIZE);
    assert_eq!(fs::read_dir(dest.parent().expect("a folder")).expect("a folder").count(), 1, "nothing else is there");

    let live_image = folder.path().join("live.img");
    restore_image(&*live, &live_image, &stop, &mut |_| ()).expect("room");
    assert_eq!(fs::read(&live_image).expect("whole")[..5], *b"later", "the present, too");
}

#[test]
fn what_is_there_is_kept_and_half_an_image_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, device, _) = written(&folder.path().join("box"));
    let dest = folder.path().join("disk.img");
    fs::write(&dest, "mine").expect("room");
    let refused = restore_image(&*device, &dest, &AtomicBool::new(false), &mut |_| ());
    assert!(matches!(refused, Err(RestoreError::Destination(_))), "{refused:?}");
    assert_eq!(fs::read(&dest).expect("there"), b"mine");
    let other = folder.path().join("other.img");
    let stopped = restore_image(&*device, &other, &AtomicBool::new(true), &mut |_| ());
    assert!(matches!(stopped, Err(RestoreError::Stopped)), "{stopped:?}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "the box and mine");
}
