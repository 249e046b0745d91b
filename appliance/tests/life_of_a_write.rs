//! The life of one write, from a client's socket to another box: the running companion of the section of that name in
//! `ARCHITECTURE.md`. Read it from the top; each step shows what the page says, on a real folder.
//!
//! What a power cut would leave is shown by opening a copy of the data folder, taken while the box runs on.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::nfs::{Client, Stable};
use common::{ask, noise};
use narrowboat::config::Config;
use narrowboat::control::Request;
use narrowboat::control::reports::{Dataset, Invitation, Peer, Replication};
use narrowboat::node::{Node, Running, open_store};
use narrowboat_storage::Store;
use narrowboat_storage::dataset::{Credentials, FileTree};
use narrowboat_storage::name::Kind;
use narrowboat_storage::pool::PoolStats;
use narrowboat_storage::units::Inode;

const MIB: usize = 1 << 20;

fn config(name: &str) -> Config {
    toml::from_str(&common::CONFIG.replace("NAME", name).replace("overlay = '16MiB'", "")).expect("a config")
}

fn start(folder: &Path, name: &str) -> Running {
    Node::start(&folder.join(name), config(name)).expect("a new box")
}

fn objects(store: &Store) -> PoolStats {
    store.stats().expect("facts").pool
}

fn content(tree: &dyn FileTree, name: &str) -> Vec<u8> {
    let root = Credentials::ROOT;
    let file = tree.lookup(&root, Inode::ROOT, name.as_bytes()).expect("a file");
    let read = tree.read(&root, file.inode, 0, file.size as u32).expect("its content");
    read.pieces.concat()
}

/// The file as a box finds it that is started on what is in the folder now.
fn after_a_power_cut(folder: &Path, name: &str) -> Vec<u8> {
    let copy = tempfile::tempdir().expect("a folder");
    common::copy_folder(folder, copy.path());
    let (store, _) = open_store(copy.path(), &config("copy")).expect("it recovers");
    let share = store.dataset_named("office").expect("the share");
    content(&*store.tree(share.row.id).expect("its tree"), name)
}

#[test]
fn the_life_of_a_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let branch = start(folder.path(), "branch");
    let node: Arc<Node> = branch.node().clone();
    let (store, data) = (&node.store, &node.data);
    let share: Dataset =
        ask(data, &Request::ShareCreate { name: "office".into(), dedup: "inline".into() }).expect("a share");
    assert_eq!(share.export.as_deref(), Some("/office"));
    let address = node.nfs_address.expect("NFS is on").to_string();
    let mut client = Client::connect(&address).expect("it serves");
    let mut reader = Client::connect(&address).expect("it serves").numbered_from(1 << 30);
    let root = client.mount("/office").expect("it may be mounted");
    let file = client.create(&root, b"backup.tar").expect("a new file");
    let written = noise(1, MIB);
    let empty = store.dataset_named("office").expect("the share").head;
    let before = objects(store);

    // 1. Arrival. A WRITE, UNSTABLE: the answer says so, and carries the verifier of this run of the box.
    let (level, verifier) = client.write(&file, 0, &written[..MIB / 2], Stable::Unstable).expect("taken");
    assert_eq!(level, Stable::Unstable as u32);

    // 2. Layer. Every reader sees it, over whatever connection; it waits in memory, nothing of it is an object yet, and
    //    a power cut now would take it.
    assert_eq!(reader.attributes(&file).expect("the file").size, MIB as u64 / 2);
    assert!(reader.read_all(&file).expect("its bytes") == written[..MIB / 2]);
    assert!(store.stats().expect("facts").overlay_bytes >= MIB as u64 / 2);
    assert_eq!(objects(store).objects, before.objects);
    assert!(after_a_power_cut(data, "backup.tar").is_empty(), "it was never said to be stable");

    // 3. Cut. The next WRITE makes the run a MiB long, and the thread that brought it cuts it before it answers. What is
    //    behind the last cut, less than the largest chunk, waits for what will follow.
    client.write(&file, MIB as u64 / 2, &written[MIB / 2..], Stable::Unstable).expect("taken");
    let cut = objects(store);
    let waiting = MIB as u64 - (cut.raw_bytes - before.raw_bytes);
    assert!(cut.objects > before.objects + 10, "chunks of 16 KiB on average: {cut:?}");
    assert!(waiting < 256 << 10, "{waiting} bytes wait for the next cut");

    // 4. Name. All of these names were surely new, which the filter knew without reading the disk. The same bytes
    //    in another file are known chunks: they cost their hash, and no object.
    assert!(cut.lookups.filter_new > before.lookups.filter_new);
    let again = client.create(&root, b"the same again.tar").expect("a new file");
    client.write(&again, 0, &written, Stable::Unstable).expect("taken");
    assert_eq!(objects(store).raw_bytes, cut.raw_bytes, "not one byte is kept twice");

    // 5. Container. The chunks lie in the open container, and the layer refers to them there: of the two MiB that were
    //    written, what memory still holds are the ends behind the last cuts.
    assert!(objects(store).containers > 0 && objects(store).stored_bytes >= cut.raw_bytes / 2);
    assert!(store.stats().expect("facts").overlay_bytes < MIB as u64);
    assert!(reader.read_all(&file).expect("its bytes") == written, "read back through the container");

    // 6. Commit. Stable when it is answered, under the same verifier: a power cut now takes nothing. No tree was made for
    //    it, the head is where it was; the journal alone says so.
    assert_eq!(client.commit(&file).expect("stable"), verifier);
    assert!(after_a_power_cut(data, "backup.tar") == written, "every byte is there");
    assert_eq!(store.dataset_named("office").expect("the share").head, empty);

    // 7. Drain. A snapshot asks for it: the layer is frozen, and merged into the trees. What is written from here on
    //    goes into the next layer.
    let monday = store.create_snapshot("office", "monday", narrowboat::clock::now()).expect("instant");
    client.write(&file, 0, b"tuesday", Stable::File).expect("stable");
    let sealed = store.seal(monday.id).expect("drained");

    // 8. Head. It is the root that the drain made, and names everything below it: presence implies closure.
    let head = store.dataset_named("office").expect("the share").head;
    assert_eq!(head.root, sealed.root);
    assert!(head.root != empty.root && head.lsn > empty.lsn);
    assert!(store.pool().contains(Kind::MapNode, &sealed.root.expect("a root")).expect("the index"));
    assert_eq!((sealed.files, sealed.logical_bytes), (2, 2 * MIB as u64));

    // 9. Snapshot. It has that root and never changes again, whatever is written.
    let frozen = store.snapshot_tree(monday.id).expect("its tree");
    assert!(content(&*frozen, "backup.tar") == written);
    assert!(reader.read_all(&file).expect("its bytes").starts_with(b"tuesday"));

    // 10. Peer. Another box, paired by a code. It shows the snapshot once it has all of it, under an equal root.
    let head_office = start(folder.path(), "head-office");
    let there = head_office.node().clone();
    let invitation: Invitation = ask(&there.data, &Request::PeerInvite { name: None }).expect("a code");
    let join = Request::PeerJoin { code: invitation.code, address: invitation.listen };
    let peer: Peer = ask(data, &join).expect("paired");
    let send = |snapshot: &str| -> Replication {
        let (source, peer) = (format!("office@{snapshot}"), peer.name.clone());
        let request = Request::Replicate { source, peer, wait: true, class: None };
        ask(data, &request).expect("replicated")
    };
    let first = send("monday");
    assert!(first.proved && first.root_there == sealed.root.map(|root| root.to_string()), "{first:?}");
    assert!(first.chunks.sent > 10, "all of it is new there");
    let replica = there.store.snapshot_named("branch/office", "monday").expect("shown whole");
    assert_eq!(replica.sealed.expect("whole").root, sealed.root, "equal roots, equal trees");
    assert!(content(&*there.store.snapshot_tree(replica.id).expect("its tree"), "backup.tar") == written);
    // The next day's snapshot: seven bytes changed, and only the chunk around them travels.
    store.create_snapshot("office", "tuesday", narrowboat::clock::now()).expect("instant");
    let second = send("tuesday");
    assert!(second.proved && second.chunks.sent <= 2, "{second:?}");

    // In the end both boxes stop in order, and the next start has nothing to apply again.
    drop((frozen, node, there));
    head_office.stop().expect("drained");
    branch.stop().expect("drained");
    let (store, opened) = open_store(&folder.path().join("branch"), &config("branch")).expect("sound");
    assert_eq!(opened.replayed, 0);
    let found = store.check(true, &mut |_| true).expect("readable");
    assert!(found.is_sound(), "{:?}", found.problems);
}
