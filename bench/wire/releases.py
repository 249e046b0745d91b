"""Successive releases of sources, as trees and as tar files: what a mirror or a build server keeps."""

import gzip
import shutil
import tarfile

import data
import measure

# Name, earlier and later release. They are fetched from Python's package index, which keeps every release for ever.
RELEASES = [("Django", "5.1.1", "5.1.2"), ("sympy", "1.13.1", "1.13.3")]


def fetch(name, version):
    """The source archive of a release."""
    folder = data.LAB / "releases"
    folder.mkdir(parents=True, exist_ok=True)

    def found():
        return [path for path in folder.iterdir() if path.name.lower() == f"{name}-{version}.tar.gz".lower()]

    if not found():
        data.say(f"   fetching {name} {version}")
        measure.run("python3", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder,
                    f"{name}=={version}")
    if not found():
        raise measure.Failed(f"pip fetched {name} {version}, and did not leave it as a .tar.gz")
    return found()[0]


def archives(number, releases):
    """(name, archive) of a day's releases."""
    return [(name, fetch(name, versions[number - 1])) for name, *versions in releases]


def about(releases):
    return "sources of " + ", ".join(f"{name} {old} → {new}" for name, old, new in releases)


def trees(folder, releases):
    """The data set of unpacked sources; each lies at the same place on both days."""
    for number in (1, 2):
        day = folder / f"day{number}"
        for name, archive in archives(number, releases):
            with tarfile.open(archive) as tar:
                tar.extractall(day / "unpacked", filter="tar")
            (top,) = (day / "unpacked").iterdir()
            top.rename(day / name.lower())
            shutil.rmtree(day / "unpacked")
    return data.DataSet("release-trees", "releases, trees", "share", about(releases) + ", unpacked")


def tars(folder, releases):
    """The data set of tar files, one for each project, under the same name on both days."""
    for number in (1, 2):
        day = folder / f"day{number}"
        day.mkdir()
        for name, archive in archives(number, releases):
            with open(day / f"{name.lower()}.tar", "wb") as tar:
                tar.write(gzip.decompress(archive.read_bytes()))
    return data.DataSet("release-tars", "releases, tar", "share", about(releases) + ", as tar files")
