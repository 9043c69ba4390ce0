# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a device or in an image file, by our own successful reads: no tool can prove that a device is blank.

Imported only when a filesystem is not as declared: ``blkprobe`` recognises the others by one small read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import mmap
import os
import stat
from typing import Any, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.blkprobe import (
    Found,
    Reader,
    ours,
    slicer,
    text,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

EDGE = 4 << 20  # bytes proved at each end
_PIECE = 1 << 17  # bytes read at once
_MAGIC = (
    ("luks", 0, b"LUKS\xba\xbe"), ("qcow2", 0, b"QFI\xfb"), ("squashfs", 0, b"hsqs"), ("bitlocker", 3, b"-FVE-FS-"),
    ("bluestore", 0, b"bluestore block device"), ("vdo", 0, b"dmvdo001"), ("vmdk", 0, b"KDMV"),
    ("ntfs", 3, b"NTFS    "), ("exfat", 3, b"EXFAT   "), ("stratis", 516, b"!Stra0tis\x86\xff\x02^A"),
    ("gpt", 512, b"EFI PART"), ("gpt", 4096, b"EFI PART"), ("gpt", -512, b"EFI PART"), ("gpt", -4096, b"EFI PART"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"), ("erofs", 1024, b"\xe2\xe1\xf5\xe0"), ("gfs2", 65536, b"\x01\x16\x19\x70"),
    ("reiserfs", 65588, b"ReIsEr"), ("iso9660", 32769, b"CD001"), ("udf", 32769, b"BEA01"), ("ocfs2", 8192, b"OCFSV2"),
    ("bcache", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"), ("bcachefs", 4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    ("md", 0, b"\xfc\x4e\x2b\xa9"), ("md", 4096, b"\xfc\x4e\x2b\xa9"), ("hibernation", 4086, b"S1SUSPEND"),
    ("swap", 4086, b"SWAP-SPACE"),
    *(("lvm2", sector * 512, b"LABELONE") for sector in range(4)),
    *(("luks", 1 << shift, b"SKUL\xba\xbe") for shift in range(14, 23)),
)  # fmt: skip


class Content(NamedTuple):
    """``kind``: blank (every byte read is zero), known, ambivalent (several signatures) or unknown."""

    kind: str
    fstype: str
    uuid: str
    label: str
    size: int
    token: str
    detail: dict[str, Any]


def examine(fd: int, identity: str, live: bool = False) -> Content:
    """Read the first and last 4 MiB completely and say what is there; ``unreadable`` on EIO or a short read.

    The token dies with any change of these bytes. A ``live`` filesystem changes all the time: its token names it
    (identity, size, signatures, uuid) instead.
    """
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        with contextlib.nullcontext() if live else _uncached(fd):
            head = _region(fd, 0, min(EDGE, size))
            tail = head if size <= EDGE else _region(fd, size - EDGE, EDGE)
        found = parse(head, tail, size, lambda start, count: os.pread(fd, count, start))
    except OSError as error:
        raise StorageError("unreadable", "cannot read %s: %s" % (identity, error.strerror)) from error
    if not size:
        raise StorageError("unreadable", "%s holds no bytes at all" % identity, "attach or size it first")
    whole = [f for f in found if f.state == "valid"]
    names = sorted({f.fstype for f in whole})
    written = [edge for edge in (head, tail) if edge != _zeros(len(edge))]
    kind = "blank" if not written else "unknown" if not names else "known" if len(names) == 1 else "ambivalent"
    one = whole[0] if kind == "known" else Found("", "", "", 0)
    parts = [identity, str(size), *names] + [f.uuid for f in whole]
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
    for edge in () if live else (head, tail):
        digest.update(hashlib.sha256(edge).digest() if edge in written else b"zero")
    torn = sorted({f.fstype for f in found if f.state == "damaged"})
    partial = any(f.state == "partial" for f in found)
    # what an interrupted mkfs (or wipe) leaves: a marked superblock, or none yet and nothing where it goes
    begun = kind == "unknown" and not torn and (partial or not any(head[:2048]))
    detail = {"signatures": names, "damaged": torn, "begun": begun, "device_size": size, "found": one}
    return Content(kind, one.fstype, one.uuid, one.label, one.size, digest.hexdigest()[:16], detail)


def parse(head: bytes, tail: bytes, size: int, read: Reader | None = None) -> list[Found]:
    """Every signature in the two ends of ``size`` bytes. Pure (but for ``read``), total: any bytes are fine."""
    at = slicer(head, tail, size, read)
    found = list(ours(at))
    names = [name for name, place, magic in _MAGIC if at(place, len(magic)) == magic]
    # md 0.90 lies in the last 64 KiB aligned block, 1.0 at 8 to 12 KiB before the end (md(4), SUPERBLOCK)
    last = [(size & ~0xFFFF) - 0x10000, ((size >> 9) - 16 & ~7) << 9]
    names += ["md" for place in last if place > 0 and at(place, 4) in (b"\xfc\x4e\x2b\xa9", b"\xa9\x2b\x4e\xfc")]
    whole = size & ~0x3FFFF
    for label in (0, 0x40000, whole - 0x80000, whole - 0x40000):  # zfs: uberblocks in the upper half of each label
        ring = at(label + 0x20000, 0x20000) if label >= 0 else b""
        if ring == _zeros(len(ring)):
            continue
        if b"\x0c\xb1\xba\0\0\0\0\0" in ring or b"\0\0\0\0\0\xba\xb1\x0c" in ring:
            names.append("zfs")
    boot, entries = at(0, 512), [at(446 + 16 * i, 16) for i in range(4)]
    table = any(e[4:5] != b"\0" for e in entries) and all(e[:1] in (b"\0", b"\x80") for e in entries)
    if boot[510:] == b"\x55\xaa" and table and not names and not any(f.fstype == "vfat" for f in found):
        names.append("dos")
    uuids = {"luks": text(at(168, 40)), "lvm2": text(at(544, 32))}
    return found + [Found(name, uuids.get(name, ""), "", 0) for name in sorted(set(names))]


@functools.lru_cache(maxsize=16)
def _zeros(count: int) -> bytes:
    """Always the same ones: to compare with memory that is new each time costs more than to read a disk."""
    return bytes(count)


@contextlib.contextmanager
def _uncached(fd: int) -> Iterator[None]:
    """Read a device itself (O_DIRECT, open(2)) and not what was cached of it: another host may have written since.

    Nothing stays in the cache either, which costs more than to read. Of what is in use it would write back all that is
    still to be written.
    """
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        yield
        return
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)


def _region(fd: int, start: int, length: int) -> bytes:
    """All of it; a hole of an image file is zero because the kernel says so."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        try:
            if os.lseek(fd, start, os.SEEK_DATA) >= start + length:
                return _zeros(length)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return _zeros(length)
            if error.errno != errno.EINVAL:
                raise
    # Through one small buffer: memory that is new for each edge would cost more than to read it.
    parts, done = [], 0
    with mmap.mmap(-1, _PIECE) as buffer:  # aligned, as O_DIRECT wants it
        while done < length:
            with memoryview(buffer) as whole, whole[: length - done] as rest:
                count = os.preadv(fd, [rest], start + done)
            if not count:
                raise OSError(errno.EIO, "short read at byte %d" % (start + done))
            piece = buffer[:count]
            parts.append(_zeros(count) if piece == _zeros(count) else piece)
            done += count
    return _zeros(length) if all(part is _zeros(len(part)) for part in parts) else b"".join(parts)
