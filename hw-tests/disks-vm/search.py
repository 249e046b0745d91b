"""Looks at a disk as who has stolen it would: for known words, for the beginnings of known formats, and for anything that is not like noise."""

import collections
import math

#: What begins the product's own files, and those of the file system below them.
FORMATS = {
    "store header": "NARROW\0S",
    "journal": "NBjournl",
    "array description": '"member_bytes"',
    "name of a file of the store": "store.format",
    "folder of the file system": "lost+found",
}

#: Where partition tables, the superblock of the array and the header of the encryption lie, which say what they are: the front of
#: the disk, and its last MiB. Words are looked for there, too; only noise is not.
FRONT = 24 << 20
BLOCK = 4096


def search(path, words):
    """The names of those words that are on a disk, in any of the ways that programs write text, and how many bits a byte of what was written there carries."""
    forms = {}
    for name, word in words.items():
        for encoding in ("utf-8", "utf-16-le"):
            forms[word.encode(encoding)] = name
    longest = max(map(len, forms))
    found, counts = set(), collections.Counter()
    end = path.stat().st_size - (1 << 20)
    at, tail = 0, b""
    with open(path, "rb") as disk:
        while piece := disk.read(1 << 20):
            seen = tail + piece
            found |= {name for form, name in forms.items() if form in seen}
            tail = seen[-longest:]
            if FRONT <= at < end:
                for start in range(0, len(piece), BLOCK):
                    block = piece[start:start + BLOCK]
                    # What was never written is zeros.
                    if block.count(0) != len(block):
                        counts.update(block)
            at += len(piece)
    total = sum(counts.values())
    bits = -sum(count / total * math.log2(count / total) for count in counts.values()) if total else 0.0
    return [name for name in words if name in found], bits
