//! link, unlink, rmdir, rename, and what listings show meanwhile.

use super::{LONG, TOP, moved};
use crate::dataset::namespace::tests::model::Errno::{self, *};
use crate::dataset::namespace::tests::shell::Type::*;
use crate::dataset::namespace::tests::shell::{ALL, NOT_DIR, ROOT, Shell, mode, owner, user};
use crate::dataset::namespace::{self, Body, Key, LINKS_MAX, Record};
use crate::dataset::{Attributes, Credentials};
use crate::units::Timestamp;

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
