//! A store in memory, small and quick to copy: it keeps what it is given, and can tell whether all of that is true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use narrowboat_storage::codec::Malformed;
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::tree::Span;
use narrowboat_storage::tree::node::NodeFault;
use narrowboat_wan::sync::seam::{Codec, Mark, Ref, SnapshotOffer, Stored};
use narrowboat_wan::sync::{Sink, Source};

/// A node here is a list of these: kind and name.
const ENTRY: usize = 33;

/// See the module.
#[derive(Default)]
pub struct Shelf(Mutex<Kept>);

#[derive(Clone, Default)]
struct Kept {
    objects: BTreeMap<(u8, Name), Bytes>,
    published: BTreeMap<SnapshotId, SnapshotOffer>,
}

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds a shelf")
    }

    pub fn copy(&self) -> Arc<Shelf> {
        Arc::new(Shelf(Mutex::new(self.kept().clone())))
    }

    pub fn put(&self, kind: Kind, bytes: &[u8]) -> Ref {
        let name = Realm::published().name(kind, bytes);
        self.kept().objects.insert((kind as u8, name), Bytes::copy_from_slice(bytes));
        (kind, name)
    }

    pub fn node(&self, kind: Kind, below: &[Ref]) -> Ref {
        let bytes: Vec<u8> = below.iter().flat_map(|(kind, name)| [&[*kind as u8][..], &name.0].concat()).collect();
        self.put(kind, &bytes)
    }

    fn get(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        let found = self.kept().objects.get(&(kind as u8, *name)).cloned();
        found.ok_or_else(|| Refusal::NotFound(format!("{kind:?} {name}")).into())
    }

    /// What has to hold whatever was said.
    pub fn check(&self) {
        let kept = self.kept();
        for ((kind, name), bytes) in &kept.objects {
            let kind = Kind::from_u8(*kind).expect("a kind");
            assert_eq!(Realm::published().name(kind, bytes), *name, "an object under another's name");
            if kind.is_node() {
                for span in spans(kind, bytes).expect("a node that was admitted") {
                    assert!(
                        kept.objects.contains_key(&(span.at.0 as u8, span.at.1)),
                        "a node before what it refers to"
                    );
                }
            }
        }
        for snapshot in kept.published.values() {
            let root = snapshot.root.map(|root| (Kind::MapNode as u8, root));
            assert!(root.is_none_or(|root| kept.objects.contains_key(&root)), "published without its root");
        }
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.kept().objects.len()
    }

    /// Whether a snapshot was published.
    pub fn shows_snapshot(&self, snapshot: &SnapshotId) -> bool {
        self.kept().published.contains_key(snapshot)
    }
}

/// What a node of a shelf refers to.
pub fn spans(kind: Kind, bytes: &Bytes) -> std::result::Result<Vec<Span>, NodeFault> {
    let malformed = || NodeFault::from(Malformed { what: "node", at: 0 });
    if !kind.is_node() || !bytes.len().is_multiple_of(ENTRY) {
        return if kind.is_node() { Err(malformed()) } else { Ok(Vec::new()) };
    }
    let entry = |(from, entry): (u64, &[u8])| {
        let kind = Kind::from_u8(entry[0]).ok_or_else(malformed)?;
        let name = Name(entry[1..].try_into().map_err(|_| malformed())?);
        Ok(Span { at: (kind, name), from, len: 1 })
    };
    (0..).zip(bytes.chunks_exact(ENTRY)).map(entry).collect()
}

impl Source for Shelf {
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        let bytes = self.get(kind, name)?;
        Ok(Stored { codec: Codec::Raw, raw_len: bytes.len() as u32, bytes })
    }
    fn kept_since(&self, _: &Mark, _: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Ok(vec![true; names.len()])
    }
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.get(kind, name)
    }
}

impl Sink for Shelf {
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let kept = self.kept();
        Ok(names.iter().map(|name| kept.objects.contains_key(&(kind as u8, *name))).collect())
    }
    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let kept = self.kept();
        let find = |prefix: &u64| {
            let mut found =
                kept.objects.keys().filter(|(kind, name)| *kind == Kind::Chunk as u8 && name.prefix() == *prefix);
            found.next().map(|(_, name)| *name)
        };
        Ok(prefixes.iter().map(find).collect())
    }
    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.get(kind, name)
    }
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()> {
        let unpacked =
            narrowboat_storage::container::codec::decompress(object.codec, object.raw_len as usize, &object.bytes);
        let bytes = unpacked.expect("the worker has unpacked it");
        self.kept().objects.insert((kind as u8, *name), bytes.into());
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn newest_shared(
        &self,
        _: &StoreId,
        _: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        let kept = self.kept();
        let here =
            |(id, root): &&(SnapshotId, Name)| kept.published.get(id).is_some_and(|known| known.root == Some(*root));
        Ok(offered.iter().find(here).copied())
    }
    fn shows(&self, _: &DatasetId, root: &Name) -> Result<bool> {
        Ok(self.kept().published.values().any(|snapshot| snapshot.root == Some(*root)))
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        match self.kept().published.insert(snapshot.snapshot, snapshot.clone()) {
            Some(known) if known != *snapshot => Err(Refusal::Exists("another snapshot".into()).into()),
            _ => Ok(()),
        }
    }
}
