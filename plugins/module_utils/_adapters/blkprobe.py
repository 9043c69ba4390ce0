# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a device or in an image file, by our own successful reads: no tool can prove that a device is blank."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from typing import Any, Callable, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

EDGE = 4 << 20  # bytes proved at each end
QUICK = 68 << 10  # holds the superblock of every filesystem we make
# closed sets: which word (ext4: compat, incompat, ro_compat; xfs: incompat, ro_compat) and bit of the superblock
FEATURES = {
    "ext4": {"quota": (2, 0x100), "project": (2, 0x2000), "metadata_csum": (2, 0x400), "mmp": (1, 0x100),
             "bigalloc": (2, 0x200), "large_dir": (1, 0x4000), "encrypt": (1, 0x10000), "casefold": (1, 0x20000),
             "verity": (2, 0x8000)},
    "xfs": {"bigtime": (0, 8), "finobt": (1, 1), "rmapbt": (1, 2), "reflink": (1, 4), "inobtcount": (1, 8)},
    "btrfs": {"no-holes": (0, 0x200), "free-space-tree": (1, 1), "block-group-tree": (1, 8)},
}  # fmt: skip
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
Reader = Callable[[int, int], bytes]


class Found(NamedTuple):
    """A filesystem's superblock. ``state``: valid; damaged; partial, which is what a killed mkfs leaves."""

    fstype: str
    uuid: str
    label: str
    size: int
    state: str = "valid"
    facts: Any = None  # slack: bytes its own rounding may leave unused at the end of its device; features; ...


class Content(NamedTuple):
    """``kind``: blank (every byte read is zero), known, ambivalent (several signatures) or unknown."""

    kind: str
    fstype: str
    uuid: str
    label: str
    size: int
    token: str
    detail: dict[str, Any]


def opened(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a block device or regular file; anything else is ``invalid``."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(fd).st_mode
    except OSError as error:
        raise failure(error, "cannot open " + path) from error
    if not stat.S_ISBLK(mode) and not stat.S_ISREG(mode):
        os.close(fd)
        raise StorageError("invalid", "%s is neither a block device nor an image file" % path)
    return fd


def quick(fd: int) -> Found | None:
    """The one intact filesystem of ours in the first 68 KiB, by one read; None says nothing at all."""
    found: list[Found] = []
    for _try in range(3):  # a mounted ext4 is seen for an instant between a change and its checksum
        try:
            head = os.pread(fd, QUICK, 0)
        except OSError:
            return None  # examine() says why
        found = [f for f in _ours(_slicer(head, b"", 0)) if f.fstype in MAKES]
        if not any(f.state == "damaged" for f in found):
            break
    return found[0] if len(found) == 1 and found[0].state == "valid" else None


def examine(fd: int, identity: str, live: bool = False) -> Content:
    """Read the first and last 4 MiB completely and say what is there; ``unreadable`` on EIO or a short read.

    The token dies with any change of these bytes. A ``live`` filesystem changes all the time: its token names it
    (identity, size, signatures, uuid) instead.
    """
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        head = _region(fd, 0, min(EDGE, size))
        tail = head if size <= EDGE else _region(fd, size - EDGE, EDGE)
        found = parse(head, tail, size, lambda start, count: os.pread(fd, count, start))
    except OSError as error:
        raise StorageError("unreadable", "cannot read %s: %s" % (identity, error.strerror)) from error
    if not size:
        raise StorageError("unreadable", "%s holds no bytes at all" % identity, "attach or size it first")
    whole = [f for f in found if f.state == "valid"]
    names = sorted({f.fstype for f in whole})
    zero = not any(_nonzero(edge) for edge in (head, tail))
    kind = "blank" if zero else "unknown" if not names else "known" if len(names) == 1 else "ambivalent"
    one = whole[0] if kind == "known" else Found("", "", "", 0)
    parts = [identity, str(size), *names] + [f.uuid for f in whole]
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
    for edge in () if live else (head, tail):
        digest.update(hashlib.sha256(edge).digest() if _nonzero(edge) else b"zero")
    torn = sorted({f.fstype for f in found if f.state == "damaged"})
    partial = any(f.state == "partial" for f in found)
    # what an interrupted mkfs (or wipe) leaves: a marked superblock, or none yet and nothing where it goes
    begun = kind == "unknown" and not torn and (partial or not _nonzero(head[:2048]))
    detail = {"signatures": names, "damaged": torn, "begun": begun, "device_size": size, "found": one}
    return Content(kind, one.fstype, one.uuid, one.label, one.size, digest.hexdigest()[:16], detail)


def parse(head: bytes, tail: bytes, size: int, read: Reader | None = None) -> list[Found]:
    """Every signature in the two ends of ``size`` bytes. Pure (but for ``read``), total: any bytes are fine."""
    at = _slicer(head, tail, size, read)
    found = list(_ours(at))
    names = [name for name, place, magic in _MAGIC if at(place, len(magic)) == magic]
    # md 0.90 lies in the last 64 KiB aligned block, 1.0 at 8 to 12 KiB before the end (md(4), SUPERBLOCK)
    last = [(size & ~0xFFFF) - 0x10000, ((size >> 9) - 16 & ~7) << 9]
    names += ["md" for place in last if place > 0 and at(place, 4) in (b"\xfc\x4e\x2b\xa9", b"\xa9\x2b\x4e\xfc")]
    whole = size & ~0x3FFFF
    for label in (0, 0x40000, whole - 0x80000, whole - 0x40000):  # zfs: uberblocks in the upper half of each label
        ring = at(label + 0x20000, 0x20000) if label >= 0 else b""
        if b"\x0c\xb1\xba\0\0\0\0\0" in ring or b"\0\0\0\0\0\xba\xb1\x0c" in ring:
            names.append("zfs")
    boot, entries = at(0, 512), [at(446 + 16 * i, 16) for i in range(4)]
    table = any(e[4:5] != b"\0" for e in entries) and all(e[:1] in (b"\0", b"\x80") for e in entries)
    if boot[510:] == b"\x55\xaa" and table and not names and not any(f.fstype == "vfat" for f in found):
        names.append("dos")
    uuids = {"luks": _text(at(168, 40)), "lvm2": _text(at(544, 32))}
    return found + [Found(name, uuids.get(name, ""), "", 0) for name in sorted(set(names))]


def crc32c(data: bytes, crc: int = 0xFFFFFFFF) -> int:
    """CRC-32C (Castagnoli) without the final inversion; the standard library has none."""
    if not _table:
        for value in range(256):
            for _bit in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
            _table.append(value)
    for byte in data:
        crc = _table[(crc ^ byte) & 255] ^ crc >> 8
    return crc


_table: list[int] = []


def _ours(at: Reader) -> Iterator[Found]:
    for parser in (_ext, _xfs, _btrfs, _vfat, _swap):
        found = parser(at)
        if found:
            yield found


def _ext(at: Reader) -> Found | None:
    """Documentation/filesystems/ext4/super.rst."""
    sb = at(1024, 1024).ljust(1024, b"\0")
    if sb[56:58] != b"\x53\xef":
        return None
    blocks, free, first, log, per_group, ipg = struct.unpack_from("<I4xI4xII4xI4xI", sb, 4)
    words = struct.unpack_from("<III", sb, 92)
    compat, incompat, ro = words
    blocks |= struct.unpack_from("<I", sb, 0x150)[0] << 32 if incompat & 0x80 else 0
    good = log <= 6 and blocks > 0 and per_group and ipg
    if ro & 0x400:
        good = good and crc32c(sb[:1020]) == struct.unpack_from("<I", sb, 1020)[0]
    # the kernel's and libblkid's way: ext4 has a feature that ext3 lacks, ext3 is ext2 with a journal
    name = "ext4" if incompat & ~0x16 or ro & ~7 else "ext3" if compat & 4 else "ext2"
    block = 1024 << min(log, 6)
    inode, reserved = struct.unpack_from("<H", sb, 88)[0], struct.unpack_from("<H", sb, 0xCE)[0]
    groups = -(-blocks // max(per_group, 1))
    # mke2fs and resize2fs drop a last group too small to hold its own tables and 50 blocks
    last = 53 + ipg * inode // block + reserved + groups * 64 // block + 1
    slack = max(block, 4096) - 1 + (last * block if per_group and (blocks - first) % per_group == 0 else 0)
    quotas = [q for q, place in (("group", 0x244), ("project", 0x26C), ("user", 0x240)) if any(sb[place : place + 4])]
    facts = {"slack": slack, "block": block, "features": _features("ext4", words),
             "quota": quotas if ro & 0x100 else [],
             "dirty": bool(incompat & 4) or not sb[58] & 1, "first": first, "wide": incompat & 0x80,
             "inode": inode}  # fmt: skip
    name = "jbd" if incompat & 8 else name
    return Found(name, _uuid(sb[104:120]), _text(sb[120:136]), blocks * block, _state(good), facts)


def _xfs(at: Reader) -> Found | None:
    """xfs_dsb, Linux fs/xfs/libxfs/xfs_format.h."""
    sb = at(0, 512)
    if sb[:4] != b"XFSB" or len(sb) < 512:
        return None
    block, blocks = struct.unpack_from(">IQ", sb, 4)
    per_group, version, sector = struct.unpack_from(">I12xHH", sb, 84)
    good = block in _POWERS and sector in _POWERS and blocks > 0 and per_group
    if good and version & 15 == 5:
        raw = at(0, sector) or sb
        good = crc32c(raw[:224] + bytes(4) + raw[228:]) ^ 0xFFFFFFFF == struct.unpack_from("<I", raw, 224)[0]
    ro, incompat = struct.unpack_from(">II", sb, 212)
    # mkfs.xfs drops a last allocation group below 16 MiB
    slack = block - 1 + ((16 << 20) if good and blocks % per_group == 0 else 0)
    facts = {"slack": slack, "block": block, "features": _features("xfs", (incompat, ro)), "imaxpct": sb[127]}
    state = "partial" if good and sb[126] else _state(good)
    return Found("xfs", _uuid(sb[32:48]), _text(sb[108:120]), block * blocks, state, facts)


def _btrfs(at: Reader) -> Found | None:
    """struct btrfs_super_block, linux/btrfs_tree.h; mkfs.btrfs writes another magic until all is there."""
    sb = at(65536, 4096)
    if sb[64:72] == b"!BHRfS_M":
        return Found("btrfs", "", "", 0, "partial")
    if sb[64:72] != b"_BHRfS_M" or len(sb) < 4096:
        return None
    sector, ro, incompat, kind = struct.unpack_from("<I32xQQH", sb, 144)
    devid, size = struct.unpack_from("<QQ", sb, 201)
    sums = {
        0: lambda: struct.pack("<I", crc32c(sb[32:]) ^ 0xFFFFFFFF),
        2: lambda: hashlib.sha256(sb[32:]).digest(),
        3: lambda: hashlib.blake2b(sb[32:], digest_size=32).digest(),
    }
    good = sector in _POWERS and size > 0 and (kind not in sums or sb.startswith(sums[kind]()))
    features = _features("btrfs", (incompat, ro))
    facts = {"slack": sector - 1, "block": sector, "devid": devid, "features": features}
    return Found("btrfs", _uuid(sb[32:48]), _text(sb[299:555]), size, _state(good), facts)


def _vfat(at: Reader) -> Found | None:
    """Microsoft FAT specification 1.03; the tables come after the boot sector, so it alone is a killed mkfs.fat."""
    sb = at(0, 512)
    if sb[510:] != b"\x55\xaa" or sb[:1] not in (b"\xeb", b"\xe9"):
        return None
    sector, cluster, reserved, copies, _roots, small, media, table = struct.unpack_from("<HBHBHHBH", sb, 11)
    large, wide, _flags, _version, root = struct.unpack_from("<IIHHI", sb, 32)
    where = 39 if table else 67
    good = sector in (512, 1024, 2048, 4096) and cluster and reserved and copies
    if sb[where + 15 : where + 18] != b"FAT" or not good:
        return None
    firsts = [at((reserved + copy * (table or wide)) * sector, 2) for copy in range(min(copies, 2))]
    tables = [first for first in firsts if len(first) == 2]  # a quick look does not reach the second one
    state = "valid" if all(first == bytes((media, 255)) for first in tables) else "damaged"
    start = (reserved + copies * (table or wide) + (0 if table else max(root - 2, 0) * cluster)) * sector
    # mkfs.fat writes the tables after the boot sector, and last the root directory with the label
    unlabelled = sb[where + 4 : where + 15] != b"NO NAME    " and at(start, 1) == b"\0"
    if b"\0\0" in tables or state == "valid" and unlabelled:
        state = "partial"
    serial, label = sb[where : where + 4][::-1].hex().upper(), _text(sb[where + 4 : where + 15]).rstrip()
    facts = {"slack": max(sector * cluster, 64 << 10), "block": sector}
    label = "" if label == "NO NAME" else label
    return Found("vfat", serial[:4] + "-" + serial[4:], label, (small or large) * sector, state, facts)


def _swap(at: Reader) -> Found | None:
    """union swap_header, linux/swap.h; the magic ends the first page."""
    for page in (4096, 16384, 65536):
        if at(page - 10, 10) == b"SWAPSPACE2":
            version, last = struct.unpack_from("<II", at(1024, 8).ljust(8, b"\0"))
            good = version == 1 and last > 0
            facts = {"slack": page - 1, "block": page}
            return Found("swap", _uuid(at(1036, 16)), _text(at(1052, 16)), (last + 1) * page, _state(good), facts)
    return None


MAKES = ("ext4", "xfs", "btrfs", "vfat", "swap")
_POWERS = frozenset(1 << n for n in range(9, 17))


def _features(fstype: str, words: tuple[int, ...]) -> list[str]:
    return [name for name, (word, bit) in FEATURES[fstype].items() if words[word] & bit]


def _state(good: Any) -> str:
    return "valid" if good else "damaged"


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _slicer(head: bytes, tail: bytes, size: int, read: Reader | None = None) -> Reader:
    """Bytes at an offset (negative: from the end) out of the two ends, b"" for what was not read."""

    def at(start: int, count: int) -> bytes:
        start = start if start >= 0 else size + start
        if start >= 0 and start + count <= len(head):
            return head[start : start + count]
        if start >= size - len(tail) >= 0:
            return tail[start - size + len(tail) :][:count]
        return read(start, count) if read and 0 <= start < size else b""

    return at


def _nonzero(edge: bytes) -> bool:
    return edge != bytes(len(edge))


def _region(fd: int, start: int, length: int) -> bytes:
    """All of it; a hole of an image file is zero because the kernel says so."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        try:
            if os.lseek(fd, start, os.SEEK_DATA) >= start + length:
                return bytes(length)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return bytes(length)
            if error.errno != errno.EINVAL:
                raise
    parts, done = [], 0
    while done < length:
        part = os.pread(fd, length - done, start + done)
        if not part:
            raise OSError(errno.EIO, "short read at byte %d" % (start + done))
        parts.append(part)
        done += len(part)
    return b"".join(parts)
