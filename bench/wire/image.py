"""Disk images: a server's ext4, whose pages are written over here and there, or which is upgraded in place.

They are made and changed with the file system's own tools, without mounting, so that no privilege is needed.
"""

import os
import pathlib
import random
import stat

import data
import debian
import measure

TIMES = {1: 1_760_000_000, 2: 1_760_086_400}
UUID = "00000001-6e62-4000-8000-000000000001"


def make_image(tree, image, megabytes):
    """An ext4 of that size with the tree in it. Nothing in it is random or the time of day."""
    measure.run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-E", f"hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0",
        "-d", tree, image, f"{megabytes}M", env={"E2FSPROGS_FAKE_TIME": str(TIMES[1])},
    )
    check(image)


def check(image):
    """The image must hold a sound file system: else what was measured is not what was meant."""
    measure.run("e2fsck", "-f", "-n", image)


def server(folder, megabytes):
    """A server's ext4 before the upgrade, at day1/disk.img, and its trees, which the caller removes."""
    before, after = folder / "before", folder / "after"
    debian.trees(before, after, kernel=False)
    (folder / "day1").mkdir()
    (folder / "day2").mkdir()
    make_image(before, folder / "day1/disk.img", megabytes)
    return before, after


def scattered_pages(folder, megabytes, percent, seed):
    """The data set: pages of 4 KiB at random places, each written over with a page of a real file that is not on the disk: of
    the kernel and its modules."""
    before, after = server(folder, megabytes)
    kernel = folder / "kernel"
    for package in debian.kernel_packages():
        measure.run("dpkg-deb", "--extract", package, kernel)
    donors = [path for path in data.regular_files(kernel) if path.lstat().st_size >= data.PAGE]
    image = folder / "day2/disk.img"
    data.copy_tree(folder / "day1/disk.img", image)
    dice = random.Random(seed)
    pages = megabytes * 2**20 // data.PAGE
    chosen = dice.sample(range(pages), pages * percent // 100)
    with open(image, "r+b") as disk:
        for page in chosen:
            disk.seek(page * data.PAGE)
            disk.write(donated(donors, dice))
    measure.run("rm", "-rf", before, after, kernel)
    return data.DataSet(
        "pages", "scattered pages", "volume",
        f"a server's ext4 of {megabytes} MiB; day 2: {len(chosen):,} pages of 4 KiB ({percent} %) at random places, each "
        "written over with a page of a kernel module", paged=True,
    )


def donated(donors, dice):
    """A page of one of these files that is not all zeros."""
    while True:
        path = dice.choice(donors)
        with open(path, "rb") as file:
            file.seek(dice.randrange(path.stat().st_size // data.PAGE) * data.PAGE)
            page = file.read(data.PAGE)
        if len(page) == data.PAGE and page.strip(b"\0"):
            return page


def upgraded_in_place(folder, megabytes):
    """The data set: the same server's ext4 after the upgrade, done in it as dpkg does it."""
    before, after = server(folder, megabytes)
    image = folder / "day2/disk.img"
    data.copy_tree(folder / "day1/disk.img", image)
    changed = debugfs(image, differences(before, after))
    check(image)
    measure.run("rm", "-rf", before, after)
    return data.DataSet(
        "os-image", "OS upgrade, ext4 image", "volume",
        f"a server's ext4 of {megabytes} MiB without a kernel; day 2: upgraded in place as dpkg does it, "
        f"{changed:,} files and links written anew", paged=True,
    )


def differences(before, after):
    """What debugfs has to do to make of `before` what `after` is: a new file is written beside the old one and takes its name
    then, so that it never lies where the old one lay."""
    for below, folders, names in os.walk(after):
        folders.sort()
        folder = pathlib.Path(below)
        for name in sorted(folders):
            path = folder / name
            inside = path.relative_to(after)
            if not path.is_symlink() and not os.path.lexists(before / inside):
                yield f'mkdir "/{inside}"'
                yield from attributes(inside, path.lstat())
        for name in sorted([*names, *(name for name in folders if (folder / name).is_symlink())]):
            path = folder / name
            inside = path.relative_to(after)
            old, new = before / inside, path.lstat()
            if os.path.lexists(old) and same(old, path):
                continue
            # A further name of a file that has one already would need its link count changed: it is written as a file.
            if stat.S_ISLNK(new.st_mode):
                if os.path.lexists(old):
                    yield f'rm "/{inside}"'
                yield f'symlink "/{inside}" "{os.readlink(path)}"'
            elif stat.S_ISREG(new.st_mode):
                yield f'write "{path}" "/{inside}.dpkg-new"'
                yield from attributes(f"{inside}.dpkg-new", new)
                if os.path.lexists(old):
                    yield f'rm "/{inside}"'
                # Neither changes the count of links, so it is right again afterwards.
                yield f'ln "/{inside}.dpkg-new" "/{inside}"'
                yield f'unlink "/{inside}.dpkg-new"'
    for path in data.regular_files(before):
        inside = path.relative_to(before)
        if not os.path.lexists(after / inside):
            yield f'rm "/{inside}"'


def attributes(inside, status):
    yield f'set_inode_field "/{inside}" mode 0{status.st_mode:o}'
    for field, value in (("uid", status.st_uid), ("gid", status.st_gid), ("mtime", f"@{int(status.st_mtime)}")):
        yield f'set_inode_field "/{inside}" {field} {value}'


def same(one, other):
    """Whether two paths are the same link, or files with the same bytes and time."""
    a, b = one.lstat(), other.lstat()
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(one) == os.readlink(other)
    return a.st_size == b.st_size and int(a.st_mtime) == int(b.st_mtime) and one.read_bytes() == other.read_bytes()


def debugfs(image, requests):
    """Runs the requests on the image and returns how many files and links they wrote."""
    requests = list(requests)
    script = image.with_suffix(".debugfs")
    script.write_text("\n".join(requests) + "\n")
    measure.run("debugfs", "-w", "-f", script, image, env={"E2FSPROGS_FAKE_TIME": str(TIMES[2])})
    script.unlink()
    return sum(request.startswith(("write ", "symlink ")) for request in requests)
