"""A small server as Debian installs and upgrades it: the packages of a point release, and what `apt-get upgrade` makes of
them with all security updates that there are.

The packages are the distribution's own; they are unpacked and no script of theirs is run. So there is no initial RAM disk, no
cache and no log; what is there is what the packages hold, and dpkg's lists and checksums of it. As apt does it, a new
kernel comes beside the old one.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import data
import measure

# What a server in a branch office runs; without postgresql, whose LLVM alone would be a third of it.
WANTED = ["ca-certificates", "curl", "nginx", "apache2", "openssh-server", "openssl", "python3", "systemd-sysv", "locales"]
KERNEL = ["linux-image-amd64"]


def packages(kernel):
    """Names and versions of both days, as [{name: version}, {name: version}]: resolved by apt and kept, so that the sets
    stay the same when the archive goes on."""
    folder = data.LAB / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    facts = folder / f"versions-{'kernel' if kernel else 'base'}.json"
    if not facts.exists():
        release = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)
        if not release:
            raise measure.Failed("this data set is made of Debian's packages, and this machine is not a Debian")
        first = resolve(kernel, ["-o", f"APT::Default-Release={release[1]}"])
        upgraded = resolve(kernel, [])
        # An upgrade removes nothing: the old kernel stays beside the new one.
        second = {**first, **upgraded}
        if first == second:
            raise measure.Failed("apt knows of no updates: run `apt-get update`, or look at its sources for security updates")
        facts.write_text(json.dumps([first, second], indent=1))
    return json.loads(facts.read_text())


def resolve(kernel, options):
    """What apt would install on an empty machine."""
    empty = data.LAB / "packages/status"
    empty.touch()
    essential = [
        line.split()[0] for line in measure.run("dpkg-query", "-W", "-f", "${Package} ${Essential} ${Priority}\\n")[1].splitlines()
        if line.split()[1] == "yes" or line.split()[-1] == "required"
    ]
    _, said = measure.run(
        "apt-get", "--simulate", "-o", f"Dir::State::status={empty}", "-o", "APT::Install-Recommends=false", *options,
        "install", *essential, *WANTED, *(KERNEL if kernel else []), env={"LC_ALL": "C"},
    )
    return dict(re.findall(r"^Inst (\S+) \((\S+) ", said, re.M))


def fetch(wanted):
    """The package files of {name: version}, as {name: path}."""
    folder = data.LAB / "packages"

    def path(name, version):
        found = list(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
        return found[0] if found else None

    missing = [f"{name}={version}" for name, version in wanted.items() if not path(name, version)]
    if missing:
        data.say(f"   fetching {len(missing)} packages")
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.getuid() == 0 else []
        measure.run("apt-get", "-qq", *sandbox, "download", *missing, cwd=folder)
    found = {name: path(name, version) for name, version in wanted.items()}
    absent = [name for name, file in found.items() if file is None]
    if absent:
        raise measure.Failed(f"apt fetched, and did not leave as a file: {' '.join(absent)}")
    return found


def kernel_packages():
    """The package files of the first day's kernel."""
    first, _ = packages(kernel=True)
    return fetch({name: version for name, version in first.items() if name.startswith("linux-image-") and name not in KERNEL}).values()


def trees(day1, day2, kernel):
    """Fills both folders, and returns how many packages there are and how many were upgraded or new."""
    first, second = packages(kernel)
    files = fetch(first)
    updates = {name: version for name, version in second.items() if first.get(name) != version}
    newer = fetch(updates)
    day1.mkdir()
    for name in sorted(files):
        unpack(files[name], day1, name)
    data.copy_tree(day1, day2)
    for name in sorted(newer):
        remove(day2, name)
        unpack(newer[name], day2, name)
    return len(first), len(updates)


def unpack(package, root, name):
    """Unpacks a package, and leaves what dpkg would note of it."""
    measure.run("dpkg-deb", "--extract", package, root)
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    control = root.parent / "control"
    measure.run("dpkg-deb", "--control", package, control)
    for file in sorted(control.iterdir()):
        if file.name != "control":
            shutil.copy2(file, info / f"{name}.{file.name}")
    listed = subprocess.run(
        ["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -t', str(package)], capture_output=True, text=True, check=True
    )
    (info / f"{name}.list").write_text("".join(f"{line.removeprefix('.').rstrip('/')}\n" for line in listed.stdout.splitlines()))
    # The data base of packages is one text; here it is in the order of unpacking.
    with open(root / "var/lib/dpkg/status", "a", encoding="utf-8") as status:
        status.write((control / "control").read_text(encoding="utf-8") + "\n")
    shutil.rmtree(control)


def remove(root, name):
    """Removes a package's files, where it was installed."""
    listed = root / f"var/lib/dpkg/info/{name}.list"
    if not listed.exists():
        return
    for line in listed.read_text().splitlines():
        path = root / line.lstrip("/")
        if path.is_symlink() or path.is_file():
            path.unlink()
    for file in (root / "var/lib/dpkg/info").glob(f"{name}.*"):
        file.unlink()
    status = root / "var/lib/dpkg/status"
    entries = status.read_text(encoding="utf-8").split("\n\n")
    kept = [entry for entry in entries if not entry.startswith(f"Package: {name}\n")]
    status.write_text("\n\n".join(kept), encoding="utf-8")


def upgrade_tree(folder, kernel):
    """The data set: the server's tree before and after the upgrade."""
    count, updated = trees(folder / "day1", folder / "day2", kernel)
    return data.DataSet(
        "os-tree", "OS upgrade, tree", "share",
        f"{count} packages of Debian 12, unpacked; day 2: {updated} of them upgraded or new by security updates"
        + (", a kernel among them, which comes beside the old one" if kernel else ""),
    )
