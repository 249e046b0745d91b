//! What the conformance suite pjdfstest expects, told at the level of the operations that a client turns it into. Each
//! test stands for one file of the suite; what only the client can get wrong (symlink loops, path lengths, bad pointers,
//! read-only mounts) is not here.

use super::model::Errno::{self, *};
use super::shell::Type::*;
use super::shell::{ALL, NOT_DIR, ROOT, Shell, mode, owner, size, times, user};
use crate::dataset::namespace::{self, Body, Key, LINKS_MAX, Record};
use crate::dataset::{Attributes, Create, Credentials, SetAttributes, SetTime};
use crate::units::{Inode, Timestamp};

const TOP: Inode = Inode::ROOT;
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789abcdef";

/// Which of access, modification and change time moved.
fn moved(before: &Attributes, after: &Attributes) -> (bool, bool, bool) {
    (before.accessed != after.accessed, before.modified != after.modified, before.changed != after.changed)
}

#[test]
fn chmod() {
    for of in [Regular, Dir, Fifo, Block, Char, Socket] {
        let mut shell = Shell::new();
        let file = shell.file("f", of);
        let before = shell.stat(file);
        let after = shell.set(ROOT, file, &mode(0o111)).expect("change_perm");
        assert_eq!((after.mode, moved(&before, &after)), (0o111, (false, false, true)), "update_ctime {of:?}");
        assert_eq!(shell.set(&user(7), file, &mode(0o111)), Err(EPERM));
        assert_eq!(shell.stat(file), after, "failed_chmod_unchanged_ctime {of:?}");
    }
    let mut shell = Shell::new();
    let file = shell.make(&user(7), TOP, "f", Regular, 0o755).expect("free");
    let set_mode =
        |shell: &mut Shell, who: &Credentials, bits| shell.set(who, file, &mode(bits)).map(|after| after.mode);
    assert_eq!(set_mode(&mut shell, &user(7), 0o2755), Ok(0o2755), "clear_isgid_bit: a member may");
    assert_eq!(set_mode(&mut shell, &user(7), 0o0755), Ok(0o0755));
    shell.set(ROOT, file, &owner(7, 9)).expect("root may");
    assert_eq!(set_mode(&mut shell, &user(7), 0o6755), Ok(0o4755), "clear_isgid_bit: not a member");
    assert_eq!(set_mode(&mut shell, ROOT, 0o6755), Ok(0o6755), "root may");
    let member = Credentials { groups: vec![3, 9], ..user(7) };
    assert_eq!(set_mode(&mut shell, &member, 0o2711), Ok(0o2711), "by a further group");
    assert_eq!(set_mode(&mut shell, ROOT, 0o100_644), Ok(0o644), "type bits are not mode bits");
}

#[test]
fn chown() {
    let mut shell = Shell::new();
    let file = shell.make(&user(7), TOP, "f", Regular, 0o6775).expect("free");
    let member = Credentials { groups: vec![9], ..user(7) };
    for (who, set, answer) in [
        (&user(7), owner(8, None), Err(EPERM)),
        (&user(8), owner(8, None), Err(EPERM)),
        (&user(7), owner(7, None), Ok(())),
        (&user(7), owner(None, 9), Err(EPERM)),
        (&user(8), owner(None, 8), Err(EPERM)),
        (&user(7), owner(None, 7), Ok(())),
        (&member, owner(7, 9), Ok(())),
        (&user(7), owner(None, 9), Ok(())),
        (ROOT, owner(8, 8), Ok(())),
    ] {
        assert_eq!(shell.set(who, file, &set).map(|_| ()), answer, "{who:?} {set:?}");
    }
    let mut set_ids_after = |who: &Credentials, bits, set: SetAttributes, of| {
        let file = shell.make(&user(7), TOP, "g", of, 0o755).expect("free");
        shell.set(ROOT, file, &mode(bits)).expect("root may");
        let after = shell.set(who, file, &set).expect("allowed").mode;
        if of == Dir { shell.rmdir(ROOT, TOP, "g") } else { shell.unlink(ROOT, TOP, "g") }.expect("root may");
        after
    };
    assert_eq!(set_ids_after(&user(7), 0o6555, owner(7, 7), Regular), 0o555, "an owner's chown clears both");
    assert_eq!(set_ids_after(ROOT, 0o6555, owner(8, 8), Regular), 0o555, "and root's, as Linux has it");
    assert_eq!(set_ids_after(&user(7), 0o6745, owner(7, 7), Regular), 0o2745, "a mark for locking stays");
    assert_eq!(set_ids_after(&user(7), 0o7777, owner(7, 7), Dir), 0o7777, "directories keep all");
    let with_mode = SetAttributes { mode: Some(0o6755), ..owner(7, 7) };
    assert_eq!(set_ids_after(&user(7), 0o755, with_mode.clone(), Regular), 0o755, "not smuggled in beside it");
    assert_eq!(set_ids_after(ROOT, 0o755, with_mode, Regular), 0o6755, "root means what it says");
}

#[test]
fn link() {
    for of in NOT_DIR {
        let mut shell = Shell::new();
        let file = shell.file("f", of);
        let (top, before) = (shell.stat(TOP), shell.stat(file));
        shell.link(ROOT, file, TOP, "g").expect("share_metadata");
        let (top_after, after) = (shell.stat(TOP), shell.stat(file));
        assert_eq!((after.links, moved(&before, &after)), (2, (false, false, true)), "changed_ctime_success {of:?}");
        assert_eq!(moved(&top, &top_after), (false, true, true));
        assert_eq!(shell.look(TOP, "g"), Ok(file));
        shell.set(ROOT, TOP, &mode(0o755)).expect("root may");
        let (top, before) = (shell.stat(TOP), shell.stat(file));
        assert_eq!(shell.link(&user(7), file, TOP, "h"), Err(EACCES));
        assert_eq!((shell.stat(TOP), shell.stat(file)), (top, before), "unchanged_ctime_fails {of:?}");
        shell.unlink(ROOT, TOP, "f").expect("remove_link");
        assert_eq!(shell.stat(file).links, 1);
        shell.unlink(ROOT, TOP, "g").expect("remove_link");
        assert_eq!(namespace::attributes(&shell.table, file).map_err(|error| Errno::of(&error)), Err(ESTALE));
        let link_gone = shell.link(ROOT, file, TOP, "g");
        assert_eq!(link_gone, Err(ESTALE), "enoent_source_not_exists");
    }
    let mut shell = Shell::new();
    let (file, dir) = (shell.file("f", Regular), shell.file("d", Dir));
    for of in ALL {
        shell.file(&format!("{of:?}"), of);
        assert_eq!(shell.link(ROOT, file, TOP, &format!("{of:?}")), Err(EEXIST), "eexist_dest_exists");
    }
    assert_eq!(shell.link(ROOT, dir, TOP, "e"), Err(EPERM));
    assert_eq!(shell.link(ROOT, file, file, "e"), Err(ENOTDIR));
    assert_eq!(shell.link(ROOT, file, TOP, LONG), Err(ENAMETOOLONG));
    assert_eq!(shell.link(ROOT, file, TOP, "."), Err(EEXIST));
}

#[test]
fn link_counts_end_somewhere() {
    let mut shell = Shell::new();
    let (file, dir) = (shell.file("f", Regular), shell.file("d", Dir));
    let sub = shell.file("s", Dir);
    for inode in [file, dir] {
        let mut record = Record::load(&shell.table, inode).expect("it is there");
        record.links = LINKS_MAX;
        shell.table.pairs.insert(Key::Record(inode).encode().into(), record.encode().into());
    }
    let call = crate::dataset::Call { caller: ROOT, now: Timestamp(9), tag: None };
    let too_many = |result: crate::Result<()>| {
        assert!(matches!(result, Err(crate::Error::Refused(crate::error::Refusal::TooManyLinks))), "{result:?}");
    };
    too_many(shell.table.run(|table| namespace::link(table, &call, file, TOP, b"g").map(|_| ())));
    too_many(shell.table.run(|table| namespace::make_dir(table, &call, dir, b"e", &mode(0)).map(|_| ())));
    too_many(shell.table.run(|table| namespace::rename(table, &call, (TOP, b"s"), (dir, b"s")).map(|_| ())));
    assert_eq!(shell.look(TOP, "s"), Ok(sub));
}

/// mkdir, mkfifo, mknod, symlink and open with O_CREAT have their expectations in common.
#[test]
fn making_files_of_every_type() {
    for of in ALL {
        let mut shell = Shell::new();
        let top = shell.stat(TOP);
        let file = shell.file("f", of);
        let (top_after, made) = (shell.stat(TOP), shell.stat(file));
        assert_eq!(moved(&top, &top_after), (false, true, true), "changed_time_fields_success {of:?}");
        let now = Timestamp(shell.now);
        assert_eq!((made.accessed, made.modified, made.changed), (now, now, now));
        assert_eq!(made.mode, if of == Symlink { 0o777 } else { 0o755 }, "permission_bits_from_mode {of:?}");
        assert_eq!(made.device, if matches!(of, Block | Char) { (1, 2) } else { (0, 0) }, "device_files");
        let as_user = |shell: &mut Shell, name: &str| shell.make(&user(7), TOP, name, of, 0o151);
        if matches!(of, Block | Char) {
            assert_eq!(as_user(&mut shell, "g"), Err(EPERM));
        } else {
            let made = as_user(&mut shell, "g").expect("the directory is open");
            assert_eq!((shell.stat(made).uid, shell.stat(made).gid), (7, 7), "uid_gid_eq_euid_egid {of:?}");
        }
        for existing in ALL {
            shell.make(ROOT, TOP, &format!("{existing:?}"), existing, 0).expect("free");
            assert_eq!(as_user(&mut shell, &format!("{existing:?}")), Err(EEXIST), "eexist {of:?} over {existing:?}");
        }
        for dots in [".", ".."] {
            assert_eq!(as_user(&mut shell, dots), Err(EEXIST));
        }
        assert_eq!(as_user(&mut shell, LONG), Err(ENAMETOOLONG), "enametoolong_component {of:?}");
        assert_eq!(as_user(&mut shell, ""), Err(EINVAL));
        let plain = shell.file("plain", Regular);
        assert_eq!(shell.make(ROOT, plain, "x", of, 0), Err(ENOTDIR), "enotdir_component {of:?}");
        shell.set(ROOT, TOP, &mode(0o755)).expect("root may");
        assert_eq!(as_user(&mut shell, "f"), Err(EEXIST), "EEXIST comes before EACCES");
        assert_eq!(as_user(&mut shell, "new"), Err(EACCES));
        shell.set(ROOT, TOP, &mode(0o766)).expect("root may");
        assert_eq!(as_user(&mut shell, LONG), Err(EACCES), "EACCES of the search comes before all");
    }
}

#[test]
fn set_group_id_directories_give_their_group() {
    let mut shell = Shell::new();
    let dir = shell.dir("d", 0o2777, (0, 9));
    let group_and_mode = |shell: &Shell, inode| (shell.stat(inode).gid, shell.stat(inode).mode);
    let sub = shell.make(&user(7), dir, "sub", Dir, 0o755).expect("open");
    assert_eq!(group_and_mode(&shell, sub), (9, 0o2755));
    let file = shell.make(&user(7), dir, "file", Regular, 0o2755).expect("open");
    assert_eq!(group_and_mode(&shell, file), (9, 0o755), "not as a group that the creator is not in");
    let member = Credentials { groups: vec![9], ..user(7) };
    let file = shell.make(&member, dir, "by-member", Regular, 0o2755).expect("open");
    assert_eq!(group_and_mode(&shell, file), (9, 0o2755));
    let file = shell.make(&user(7), dir, "marked", Regular, 0o2745).expect("open");
    assert_eq!(group_and_mode(&shell, file), (9, 0o2745));
    let sub = shell.file("plain", Dir);
    let inner = shell.make(ROOT, sub, "inner", Dir, 0o6755).expect("root may");
    assert_eq!(group_and_mode(&shell, inner), (0, 0o755), "mkdir takes no set-id bits from its caller");
}

#[test]
fn open() {
    let mut shell = Shell::new();
    let create = |shell: &mut Shell, who: &Credentials, name: &str, how: Create| {
        shell.run(who, |table, call| namespace::create(table, call, TOP, name.as_bytes(), &how))
    };
    let none = SetAttributes::default;
    let made = create(&mut shell, &user(7), "f", Create::Unchecked(mode(0o644))).expect("free").file;
    shell.write(&user(7), made.inode, 0, 4).expect("owner");
    let (top, before) = (shell.stat(TOP), shell.stat(made.inode));
    let again = create(&mut shell, &user(8), "f", Create::Unchecked(none())).expect("it is there");
    assert_eq!((again.file, shell.stat(TOP)), (before.clone(), top.clone()), "exists_no_update");
    assert_eq!(create(&mut shell, &user(8), "f", Create::Unchecked(size(0))).map(|_| ()), Err(EACCES));
    let cut = create(&mut shell, &user(7), "f", Create::Unchecked(size(0))).expect("owner").file;
    assert_eq!((cut.size, moved(&before, &cut)), (0, (false, true, true)), "open_trunc");
    assert_eq!(shell.stat(TOP), top);
    assert_eq!(create(&mut shell, &user(7), "f", Create::Guarded(none())).map(|_| ()), Err(EEXIST));

    let exclusive = |value: u8| Create::Exclusive([value; 8]);
    let first = create(&mut shell, &user(7), "x", exclusive(1)).expect("free").file;
    let repeated = create(&mut shell, &user(7), "x", exclusive(1)).expect("the same call").file;
    assert_eq!(first, repeated);
    assert_eq!(create(&mut shell, &user(7), "x", exclusive(2)).map(|_| ()), Err(EEXIST));
    shell.set(&user(7), first.inode, &mode(0o600)).expect("owner");
    assert_eq!(create(&mut shell, &user(7), "x", exclusive(1)).map(|_| ()), Err(EEXIST), "the answer was seen");
    assert_eq!(create(&mut shell, &user(7), "f", exclusive(0)).map(|_| ()), Err(EEXIST), "never made exclusively");

    for of in ALL.into_iter().filter(|of| *of != Regular) {
        shell.file(&format!("{of:?}"), of);
        for how in [Create::Unchecked(none()), Create::Guarded(none()), exclusive(1)] {
            assert_eq!(create(&mut shell, ROOT, &format!("{of:?}"), how).map(|_| ()), Err(EEXIST), "{of:?}");
        }
    }
    let refused = |result: crate::Result<Attributes>| Errno::of(&result.expect_err("refused"));
    let dir = shell.look(TOP, "Dir").expect("made");
    let fifo = shell.look(TOP, "Fifo").expect("made");
    assert_eq!(refused(namespace::allow_write(&shell.table, ROOT, dir, 0)), EISDIR, "eisdir");
    assert_eq!(refused(namespace::allow_read(&shell.table, ROOT, dir)), EISDIR);
    assert_eq!(refused(namespace::allow_read(&shell.table, ROOT, fifo)), ETYPE, "socket_error, fifo_nonblock_wronly");
    let end = (2 << 30) + 5;
    assert_eq!(shell.write(&user(7), made.inode, end - 4, 4).map(|after| after.size), Ok(end), "interact_2gb");
}

#[test]
fn data_of_a_file_is_its_owners_whatever_the_mode() {
    let mut shell = Shell::new();
    let file = shell.make(&user(7), TOP, "f", Regular, 0).expect("affected_create_flags_only");
    assert_eq!(shell.set(&user(7), file, &size(1)).map(|after| after.size), Ok(1), "posix_fallocate, ftruncate");
    shell.write(&user(7), file, 0, 1).expect("owner");
    namespace::allow_read(&shell.table, &user(7), file).expect("owner");
    assert_eq!(shell.write(&user(8), file, 0, 1), Err(EACCES));
    let other =
        |shell: &Shell| namespace::allow_read(&shell.table, &user(8), file).map(|_| ()).map_err(|e| Errno::of(&e));
    assert_eq!(other(&shell), Err(EACCES));
    shell.set(&user(7), file, &mode(0o711)).expect("owner");
    assert_eq!(other(&shell), Ok(()), "a program is read to be executed");
    shell.set(ROOT, file, &mode(0o6777)).expect("root may");
    assert_eq!(shell.write(ROOT, file, 0, 1).map(|after| after.mode), Ok(0o6777), "root's writes leave set-id bits");
    assert_eq!(shell.write(&user(8), file, 0, 0).map(|after| after.mode), Ok(0o6777), "so does a write of nothing");
    assert_eq!(shell.write(&user(8), file, 0, 1).map(|after| after.mode), Ok(0o777), "others' do not");
}

#[test]
fn truncate() {
    let mut shell = Shell::new();
    let file = shell.file("f", Regular);
    for to in [1_234_567, 567, 567, 0] {
        let before = shell.stat(file);
        let after = shell.set(ROOT, file, &size(to)).expect("extend_file_shrink_sparse");
        assert_eq!((after.size, moved(&before, &after)), (to, (false, true, true)), "update_ctime_success");
    }
    let before = shell.stat(file);
    assert_eq!(shell.set(&user(7), file, &size(123)), Err(EACCES));
    assert_eq!(shell.set(ROOT, file, &size((1 << 44) + 1)), Err(EFBIG));
    assert_eq!(shell.stat(file), before, "unchanged_ctime_failed");
    assert_eq!(shell.set(ROOT, file, &size(1 << 44)).map(|after| after.size), Ok(1 << 44));
    let dir = shell.file("d", Dir);
    assert_eq!(shell.set(ROOT, dir, &size(0)), Err(EISDIR), "eisdir");
    let fifo = shell.file("p", Fifo);
    assert_eq!(shell.set(ROOT, fifo, &size(0)), Err(ETYPE));
}

#[test]
fn unlink() {
    for of in NOT_DIR {
        let mut shell = Shell::new();
        let dir = shell.file("d", Dir);
        let file = shell.make(ROOT, dir, "f", of, 0o644).expect("root may");
        shell.link(ROOT, file, TOP, "other").expect("root may");
        let before = (shell.stat(dir), shell.stat(file));
        assert_eq!(shell.unlink(&user(7), dir, "f"), Err(EACCES));
        assert_eq!((shell.stat(dir), shell.stat(file)), before, "unchanged_ctime_failed {of:?}");
        shell.unlink(ROOT, dir, "f").expect("remove_type");
        assert_eq!(moved(&before.0, &shell.stat(dir)), (false, true, true), "update_mtime_ctime_success_folder");
        assert_eq!(moved(&before.1, &shell.stat(file)), (false, false, true), "update_ctime_success");
        assert_eq!(shell.look(dir, "f"), Err(ENOENT));
        assert_eq!(shell.unlink(ROOT, dir, "f"), Err(ENOENT));
        assert_eq!(shell.unlink(ROOT, file, "f"), Err(ENOTDIR));
        assert_eq!(shell.unlink(ROOT, TOP, LONG), Err(ENAMETOOLONG));
        assert_eq!(shell.unlink(ROOT, TOP, "d"), Err(EISDIR));
    }
}

#[test]
fn sticky_directories() {
    for of in ALL {
        let mut shell = Shell::new();
        let dir = shell.dir("d", 0o1777, (5, 5));
        let take = |shell: &mut Shell, who: &Credentials, name: &str| {
            if of == Dir { shell.rmdir(who, dir, name) } else { shell.unlink(who, dir, name) }
        };
        for (who, answer) in [(7, Ok(())), (8, Err(EPERM)), (5, Ok(())), (0, Ok(()))] {
            let file = shell.make(ROOT, dir, "f", of, 0o777).expect("root may");
            shell.set(ROOT, file, &owner(7, 7)).expect("root may");
            assert_eq!(take(&mut shell, &user(who), "f"), answer, "{of:?} by {who}");
            if answer.is_err() {
                assert_eq!(shell.rename(&user(who), (dir, "f"), (dir, "g")), answer, "{of:?} renamed by {who}");
                shell.make(&user(who), dir, "own", Regular, 0o777).expect("anybody may make files");
                let over = if of == Dir { "own-dir" } else { "own" };
                shell.make(&user(who), dir, "own-dir", Dir, 0o777).expect("anybody may make files");
                assert_eq!(shell.rename(&user(who), (dir, over), (dir, "f")), answer, "{of:?} replaced by {who}");
                take(&mut shell, ROOT, "f").expect("root may");
            }
        }
        shell.set(ROOT, dir, &mode(0o1755)).expect("root may");
        let file = shell.make(ROOT, dir, "f", of, 0o777).expect("root may");
        shell.set(ROOT, file, &owner(7, 7)).expect("root may");
        assert_eq!(take(&mut shell, &user(8), "f"), Err(EACCES), "EACCES comes before EPERM");
        assert_eq!(take(&mut shell, &user(7), "f"), Err(EACCES));
    }
}

#[test]
fn rmdir() {
    let mut shell = Shell::new();
    let dir = shell.file("d", Dir);
    let before = shell.stat(TOP);
    for of in ALL {
        let inner = shell.make(ROOT, dir, "f", of, 0).expect("root may");
        assert_eq!(shell.rmdir(ROOT, TOP, "d"), Err(ENOTEMPTY), "eexist_enotempty_non_empty_dir {of:?}");
        if of == Dir {
            assert_eq!(shell.rmdir(ROOT, inner, "."), Err(EINVAL), "einval_dot");
            assert_eq!(shell.rmdir(ROOT, inner, ".."), Err(ENOTEMPTY), "eexist_enotempty_dotdot");
            shell.rmdir(ROOT, dir, "f").expect("empty");
        } else {
            assert_eq!(shell.rmdir(ROOT, dir, "f"), Err(ENOTDIR));
            shell.unlink(ROOT, dir, "f").expect("root may");
        }
    }
    shell.rmdir(ROOT, TOP, "d").expect("remove_dir");
    assert_eq!(moved(&before, &shell.stat(TOP)), (false, true, true), "changed_time_parent_success");
    assert_eq!(shell.stat(TOP).links, 2);
    assert_eq!(shell.rmdir(ROOT, TOP, "d"), Err(ENOENT));
    assert_eq!(shell.rmdir(ROOT, TOP, LONG), Err(ENAMETOOLONG));
    assert_eq!(shell.make(ROOT, dir, "f", Regular, 0), Err(ESTALE), "nothing is made in what is gone");
}

#[test]
fn rename_keeps_what_it_moves() {
    for of in ALL {
        let mut shell = Shell::new();
        let file = shell.file("old", of);
        let (top, before) = (shell.stat(TOP), shell.stat(file));
        shell.rename(ROOT, (TOP, "old"), (TOP, "new")).expect("preserve_metadata");
        let after = shell.stat(file);
        assert_eq!(moved(&before, &after), (false, false, true), "changed_ctime_success {of:?}");
        assert_eq!(Attributes { changed: before.changed, ..after }, before);
        assert_eq!(moved(&top, &shell.stat(TOP)), (false, true, true));
        assert_eq!((shell.look(TOP, "old"), shell.look(TOP, "new")), (Err(ENOENT), Ok(file)));
        shell.set(ROOT, TOP, &mode(0o755)).expect("root may");
        let before = shell.stat(file);
        assert_eq!(shell.rename(&user(7), (TOP, "new"), (TOP, "old")), Err(EACCES));
        assert_eq!(shell.stat(file), before, "unchanged_ctime_failed {of:?}");
        if of != Dir {
            shell.link(ROOT, file, TOP, "link").expect("root may");
            let (top, before) = (shell.stat(TOP), shell.stat(file));
            shell.rename(ROOT, (TOP, "new"), (TOP, "link")).expect("two names of one file: nothing happens");
            assert_eq!((shell.stat(TOP), shell.stat(file)), (top, before));
            assert_eq!(shell.look(TOP, "new"), Ok(file));
            let other = shell.file("other", of);
            shell.rename(ROOT, (TOP, "other"), (TOP, "link")).expect("to_multiply_linked");
            assert_eq!((shell.stat(file).links, shell.look(TOP, "link")), (1, Ok(other)));
            assert_eq!(shell.stat(file).changed, Timestamp(shell.now));
        }
    }
}

#[test]
fn rename_of_directories() {
    let mut shell = Shell::new();
    let (from, to) = (shell.file("from", Dir), shell.file("to", Dir));
    let src = shell.make(ROOT, from, "src", Dir, 0o755).expect("root may");
    assert_eq!((shell.stat(from).links, shell.stat(to).links), (3, 2));
    shell.rename(ROOT, (from, "src"), (to, "dst")).expect("updates_link_parent");
    assert_eq!((shell.stat(from).links, shell.stat(to).links), (2, 3));
    assert_eq!(shell.look(src, ".."), Ok(to));

    let deep = shell.make(ROOT, src, "deep", Dir, 0o755).expect("root may");
    assert_eq!(shell.rename(ROOT, (TOP, "to"), (to, "x")), Err(EINVAL), "einval_parent_from_subdir_to");
    assert_eq!(shell.rename(ROOT, (TOP, "to"), (deep, "x")), Err(EINVAL));
    assert_eq!(shell.rename(ROOT, (src, "deep"), (TOP, "to")), Err(ENOTEMPTY), "over an ancestor");
    for dots in [".", ".."] {
        assert_eq!(shell.rename(ROOT, (src, dots), (TOP, "x")), Err(EINVAL), "einval_ebusy_dot_dotdot");
        assert_eq!(shell.rename(ROOT, (TOP, "to"), (from, dots)), Err(EINVAL));
    }
    shell.rename(ROOT, (TOP, "from"), (src, "deep")).expect("an empty directory is replaced");
    assert_eq!((shell.stat(TOP).links, shell.stat(src).links, shell.look(from, "..")), (3, 3, Ok(src)));
    assert_eq!(namespace::attributes(&shell.table, deep).map_err(|error| Errno::of(&error)), Err(ESTALE));

    for of in NOT_DIR {
        shell.file("f", of);
        let empty = shell.file("empty", Dir);
        assert_eq!(shell.rename(ROOT, (TOP, "to"), (TOP, "f")), Err(ENOTDIR), "enotdir_from_dir_to_not_dir {of:?}");
        assert_eq!(shell.rename(ROOT, (TOP, "f"), (TOP, "empty")), Err(EISDIR), "eisdir_to_dir_from_not_dir {of:?}");
        shell.rename(ROOT, (TOP, "f"), (empty, "f")).expect("root may");
        assert_eq!(shell.rename(ROOT, (TOP, "to"), (TOP, "empty")), Err(ENOTEMPTY), "eexist_enotempty {of:?}");
        shell.unlink(ROOT, empty, "f").expect("root may");
        shell.rmdir(ROOT, TOP, "empty").expect("root may");
    }
    assert_eq!(shell.rename(ROOT, (TOP, "none"), (TOP, "x")), Err(ENOENT));
    assert_eq!(shell.rename(ROOT, (TOP, LONG), (TOP, "x")), Err(ENAMETOOLONG));
    assert_eq!(shell.rename(ROOT, (TOP, "to"), (TOP, LONG)), Err(ENAMETOOLONG));
    let plain = shell.file("plain", Regular);
    assert_eq!(shell.rename(ROOT, (plain, "a"), (TOP, "x")), Err(ENOTDIR));
    assert_eq!(shell.rename(ROOT, (TOP, "to"), (plain, "x")), Err(ENOTDIR));
}

#[test]
fn rename_write_access_to_the_moved_directory() {
    let mut shell = Shell::new();
    let (dir, new) = (shell.dir("dir", 0o777, (0, 0)), shell.dir("new", 0o777, (0, 0)));
    shell.make(ROOT, dir, "sub", Dir, 0o700).expect("root may");
    shell.make(ROOT, dir, "file", Regular, 0o600).expect("root may");
    shell.rename(&user(7), (dir, "sub"), (dir, "other")).expect("its .. does not change");
    assert_eq!(shell.rename(&user(7), (dir, "other"), (new, "sub")), Err(EACCES), "write_access_required_subdir");
    shell.rename(&user(7), (dir, "file"), (new, "file")).expect("a file has no ..");
}

#[test]
fn utimensat() {
    let (early, late) =
        (SetTime::To(Timestamp(100_000_000_100_000_000)), SetTime::To(Timestamp(200_000_000_200_000_000)));
    for of in ALL {
        let mut shell = Shell::new();
        let file = shell.file("f", of);
        let after = shell.set(ROOT, file, &times(early, late)).expect("changes_timestamps");
        assert_eq!((SetTime::To(after.accessed), SetTime::To(after.modified)), (early, late), "subsecond {of:?}");
        assert_eq!(after.changed, Timestamp(shell.now));
        let after = shell.set(ROOT, file, &times(late, None)).expect("utime_omit");
        assert_eq!((SetTime::To(after.accessed), SetTime::To(after.modified)), (late, late));
        let after = shell.set(ROOT, file, &times(SetTime::Now, SetTime::Now)).expect("utime_now");
        assert_eq!((after.accessed, after.modified), (Timestamp(shell.now), Timestamp(shell.now)));
        for far in [i64::MIN, i64::MAX] {
            let far = SetTime::To(Timestamp(far));
            let after = shell.set(ROOT, file, &times(far, far)).expect("y2038");
            assert_eq!(SetTime::To(after.accessed), far);
        }
    }
    let mut shell = Shell::new();
    let file = shell.make(&user(7), TOP, "f", Regular, 0o444).expect("free");
    let mut as_user = |who: u32, bits: u32, set: SetAttributes| {
        shell.set(ROOT, file, &mode(bits)).expect("root may");
        shell.set(&user(who), file, &set).map(|_| ())
    };
    assert_eq!(as_user(8, 0o644, times(SetTime::Now, SetTime::Now)), Err(EACCES), "utime_now_nobody");
    assert_eq!(as_user(7, 0o444, times(SetTime::Now, SetTime::Now)), Ok(()), "utime_now_owner");
    assert_eq!(as_user(8, 0o666, times(SetTime::Now, SetTime::Now)), Ok(()), "utime_now_write_perm");
    assert_eq!(as_user(8, 0o666, times(None, None)), Ok(()), "utime_now_write_perm");
    for bits in [0o644, 0o666] {
        for set in [times(None, late), times(early, None), times(early, late), times(early, SetTime::Now)] {
            assert_eq!(as_user(8, bits, set), Err(EPERM), "nobody, write_perm");
        }
    }
    assert_eq!(as_user(7, 0o444, times(early, late)), Ok(()), "owner");
    assert_eq!(as_user(0, 0o444, times(early, late)), Ok(()), "root");
}

#[test]
fn a_guard_that_does_not_match_refuses_the_change() {
    let mut shell = Shell::new();
    let file = shell.file("f", Regular);
    let changed = shell.stat(file).changed;
    let guarded = |shell: &mut Shell, guard| {
        shell
            .run(ROOT, |table, call| namespace::set_attributes(table, call, file, &mode(0o600), Some(guard)))
            .map(|_| ())
    };
    assert_eq!(guarded(&mut shell, Timestamp(0)), Err(ENOTSYNC));
    assert_eq!(guarded(&mut shell, changed), Ok(()));
    assert_eq!(guarded(&mut shell, changed), Err(ENOTSYNC));
}

#[test]
fn symlinks_of_every_length_come_back() {
    let mut shell = Shell::new();
    let symlink = |shell: &mut Shell, name: &str, target: &[u8]| {
        let set = SetAttributes::default();
        shell.run(ROOT, |table, call| namespace::make_symlink(table, call, TOP, name.as_bytes(), target, &set))
    };
    for len in [1, 254, 255, 256, 999, 1000, 1001, 2000, 4095, 4096] {
        let target: Vec<u8> = (0..len).map(|at| (at % 255 + 1) as u8).collect();
        let file = symlink(&mut shell, &len.to_string(), &target).expect("it fits").file;
        assert_eq!(file.size, len as u64);
        assert_eq!(namespace::read_link(&shell.table, file.inode).expect("a symlink"), target);
    }
    assert_eq!(symlink(&mut shell, "x", &[1; 4097]).map(|_| ()), Err(ENAMETOOLONG));
    assert_eq!(symlink(&mut shell, "x", b"").map(|_| ()), Err(EINVAL));
    assert_eq!(symlink(&mut shell, "x", b"a\0b").map(|_| ()), Err(EINVAL));
    shell
        .list(TOP)
        .iter()
        .for_each(|name| shell.unlink(ROOT, TOP, std::str::from_utf8(name).expect("digits")).expect("root may"));
    assert_eq!(shell.table.pairs.len(), 2, "nothing is left but the root and the totals");
}

#[test]
fn listings_go_on_where_they_stopped_whatever_happened_between() {
    let mut shell = Shell::new();
    for name in ["a", "b", "c", "d", "e"] {
        shell.file(name, Regular);
    }
    let page =
        |shell: &Shell, cookie, max| namespace::read_dir(&shell.table, ROOT, TOP, cookie, max).expect("root may");
    let first = page(&shell, 0, 4);
    let names: Vec<_> = first.entries.iter().map(|entry| (&entry.name[..], entry.cookie)).collect();
    assert_eq!(names, [(&b"."[..], 1), (b"..", 2), (b"a", 3), (b"b", 4)]);
    shell.unlink(ROOT, TOP, "b").expect("the cookie's own entry");
    shell.rename(ROOT, (TOP, "a"), (TOP, "d")).expect("a name that was not seen yet");
    let inode = shell.file("f", Fifo);
    let rest = page(&shell, 4, 10);
    let names: Vec<_> = rest.entries.iter().map(|entry| (&entry.name[..], entry.cookie)).collect();
    assert_eq!(names, [(&b"c"[..], 5), (b"d", 6), (b"e", 7), (b"f", 8)], "each name once; d keeps its cookie");
    assert!(rest.end && !first.end && rest.entries[3].attributes.inode == inode);
    assert!(page(&shell, 8, 10).end && !page(&shell, 4, 3).end && page(&shell, 4, 4).end);
    for unknown in [9, u64::MAX] {
        let error = namespace::read_dir(&shell.table, ROOT, TOP, unknown, 10).expect_err("never given out");
        assert_eq!(Errno::of(&error), EBADCOOKIE);
    }
    assert!(matches!(Record::load(&shell.table, TOP).expect("root").body, Body::Directory { next_cookie: 9, .. }));
}
