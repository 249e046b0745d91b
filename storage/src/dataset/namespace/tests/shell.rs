//! A share in memory and short commands on it, for tests that read like a table.

use bytes::Bytes;

use super::model::Errno;
use super::table::Ram;
use crate::dataset::namespace::{self, Outcome, Table};
use crate::dataset::{Attributes, Call, Create, Credentials, Node, SetAttributes, SetTime};
use crate::error::Result;
use crate::units::{Inode, Timestamp};

pub const ROOT: &Credentials = &Credentials::ROOT;

/// An ordinary user, alone in a group of the same number.
pub const fn user(id: u32) -> Credentials {
    Credentials { uid: id, gid: id, groups: Vec::new() }
}

/// Only a mode.
pub fn mode(mode: u32) -> SetAttributes {
    SetAttributes { mode: Some(mode), ..SetAttributes::default() }
}
/// Only an owner and a group.
pub fn owner(uid: impl Into<Option<u32>>, gid: impl Into<Option<u32>>) -> SetAttributes {
    SetAttributes { uid: uid.into(), gid: gid.into(), ..SetAttributes::default() }
}
/// Only a size.
pub fn size(size: u64) -> SetAttributes {
    SetAttributes { size: Some(size), ..SetAttributes::default() }
}
/// Only times.
pub fn times(accessed: impl Into<Option<SetTime>>, modified: impl Into<Option<SetTime>>) -> SetAttributes {
    SetAttributes { accessed: accessed.into(), modified: modified.into(), ..SetAttributes::default() }
}

/// The types of files that the suite tries everything with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Regular,
    Dir,
    Fifo,
    Block,
    Char,
    Socket,
    Symlink,
}
use Type::*;

pub const ALL: [Type; 7] = [Regular, Dir, Fifo, Block, Char, Socket, Symlink];
pub const NOT_DIR: [Type; 6] = [Regular, Fifo, Block, Char, Socket, Symlink];

/// The share. Its time moves on with every command, so that every change shows.
pub struct Shell {
    pub table: Ram,
    pub now: i64,
}

impl Shell {
    /// A share whose root everybody may change.
    pub fn new() -> Self {
        let mut shell = Shell { table: Ram::new(Timestamp(1)), now: 1 };
        shell.set(ROOT, Inode::ROOT, &mode(0o777)).expect("root may");
        shell
    }

    /// Runs one operation; one that fails must leave the table as it was.
    pub fn run<T>(
        &mut self,
        who: &Credentials,
        operation: impl FnOnce(&mut dyn Table, &Call) -> Result<Outcome<T>>,
    ) -> Result<T, Errno> {
        self.now += 1;
        let call = Call { caller: who, now: Timestamp(self.now), tag: None };
        let before = self.table.pairs.clone();
        let result = self.table.run(|table| operation(table, &call));
        if result.is_err() {
            assert_eq!(before, self.table.pairs);
        }
        namespace::check(&self.table).expect("every promise holds");
        result.map(|outcome| outcome.value).map_err(|error| Errno::of(&error))
    }

    pub fn stat(&self, inode: Inode) -> Attributes {
        namespace::attributes(&self.table, inode).expect("it is there")
    }
    pub fn look(&self, dir: Inode, name: &str) -> Result<Inode, Errno> {
        let found = namespace::lookup(&self.table, ROOT, dir, name.as_bytes());
        found.map(|found| found.inode).map_err(|error| Errno::of(&error))
    }
    pub fn set(&mut self, who: &Credentials, inode: Inode, set: &SetAttributes) -> Result<Attributes, Errno> {
        self.run(who, |table, call| namespace::set_attributes(table, call, inode, set, None)).map(|change| change.after)
    }
    /// Makes a file of any type, as its user would.
    pub fn make(&mut self, who: &Credentials, dir: Inode, name: &str, of: Type, mode: u32) -> Result<Inode, Errno> {
        let (name, set) = (name.as_bytes(), self::mode(mode));
        let node = match of {
            Fifo => Node::Fifo,
            Socket => Node::Socket,
            Block => Node::BlockDevice(1, 2),
            _ => Node::CharDevice(1, 2),
        };
        let made = self.run(who, |table, call| match of {
            Regular => namespace::create(table, call, dir, name, &Create::Guarded(set)),
            Dir => namespace::make_dir(table, call, dir, name, &set),
            Symlink => namespace::make_symlink(table, call, dir, name, b"test", &set),
            _ => namespace::make_node(table, call, dir, name, node, &set),
        });
        made.map(|made| made.file.inode)
    }
    /// As [`Shell::make`], by root in the root, where nothing can go wrong.
    pub fn file(&mut self, name: &str, of: Type) -> Inode {
        self.make(ROOT, Inode::ROOT, name, of, 0o755).expect("root may")
    }
    pub fn dir(&mut self, name: &str, mode: u32, (uid, gid): (u32, u32)) -> Inode {
        let dir = self.file(name, Dir);
        let set = SetAttributes { mode: Some(mode), ..owner(uid, gid) };
        self.set(ROOT, dir, &set).expect("root may");
        dir
    }
    pub fn link(&mut self, who: &Credentials, inode: Inode, dir: Inode, name: &str) -> Result<(), Errno> {
        self.run(who, |table, call| namespace::link(table, call, inode, dir, name.as_bytes())).map(|_| ())
    }
    pub fn unlink(&mut self, who: &Credentials, dir: Inode, name: &str) -> Result<(), Errno> {
        self.run(who, |table, call| namespace::remove(table, call, dir, name.as_bytes())).map(|_| ())
    }
    pub fn rmdir(&mut self, who: &Credentials, dir: Inode, name: &str) -> Result<(), Errno> {
        self.run(who, |table, call| namespace::remove_dir(table, call, dir, name.as_bytes())).map(|_| ())
    }
    pub fn rename(&mut self, who: &Credentials, from: (Inode, &str), to: (Inode, &str)) -> Result<(), Errno> {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        self.run(who, |table, call| namespace::rename(table, call, from, to)).map(|_| ())
    }
    pub fn write(&mut self, who: &Credentials, inode: Inode, offset: u64, len: u64) -> Result<Attributes, Errno> {
        self.run(who, |table, call| namespace::wrote(table, call, inode, (offset, len), &|from, to| Ok(to - from)))
            .map(|change| change.after)
    }
    /// All names of a directory, in the order of their cookies.
    pub fn list(&self, dir: Inode) -> Vec<Bytes> {
        let listing = namespace::read_dir(&self.table, ROOT, dir, 2, usize::MAX).expect("root may");
        listing.entries.into_iter().map(|entry| entry.name).collect()
    }
}
