//! What the conformance suite pjdfstest expects, told at the level of the operations that a client turns it into. Each
//! test stands for one file of the suite; what only the client can get wrong (symlink loops, path lengths, bad pointers,
//! read-only mounts) is not here.

mod names;

use super::model::Errno::{self, *};
use super::shell::Type::*;
use super::shell::{ALL, ROOT, Shell, mode, owner, size, times, user};
use super::table::Ram;
use crate::dataset::namespace;
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
fn in_the_root_of_a_new_share_everybody_may_write_and_nobody_removes_what_is_anothers() {
    let mut shell = Shell { table: Ram::new(Timestamp(1)), now: 1 };
    shell.make(&user(7), TOP, "of-seven", Dir, 0o755).expect("open to everybody");
    shell.make(&user(8), TOP, "of-eight", Regular, 0o644).expect("open to everybody");
    assert_eq!(shell.unlink(&user(7), TOP, "of-eight"), Err(EPERM));
    assert_eq!(shell.rename(&user(8), (TOP, "of-seven"), (TOP, "mine")), Err(EPERM));
    assert_eq!(shell.set(&user(7), TOP, &mode(0o777)).err(), Some(EPERM));
    shell.unlink(&user(8), TOP, "of-eight").expect("its own");
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
