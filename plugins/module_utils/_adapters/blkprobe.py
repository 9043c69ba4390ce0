# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filesystems that we make, recognised by one small read. What else a device may hold: signatures."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import struct
from typing import Any, Callable, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import remote_disk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

QUICK = 68 << 10  # holds the superblock of every filesystem we make
# closed sets: which word (ext4: compat, incompat, ro_compat; xfs: incompat, ro_compat) and bit of the superblock
FEATURES = {
    "ext4": {"quota": (2, 0x100), "project": (2, 0x2000), "metadata_csum": (2, 0x400), "mmp": (1, 0x100),
             "bigalloc": (2, 0x200), "large_dir": (1, 0x4000), "encrypt": (1, 0x10000), "casefold": (1, 0x20000),
             "verity": (2, 0x8000)},
    "xfs": {"bigtime": (0, 8), "finobt": (1, 1), "rmapbt": (1, 2), "reflink": (1, 4), "inobtcount": (1, 8)},
    "btrfs": {"no-holes": (0, 0x200), "free-space-tree": (1, 1), "block-group-tree": (1, 8)},
}  # fmt: skip
Reader = Callable[[int, int], bytes]


class Found(NamedTuple):
    """A filesystem's superblock. ``state``: valid; damaged; partial, which is what a killed mkfs leaves."""

    fstype: str
    uuid: str
    label: str
    size: int
    state: str = "valid"
    facts: Any = None  # slack: bytes its own rounding may leave unused at the end of its device; features; ...


def opened(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a block device or regular file; anything else is ``invalid``, a tenant's link ``unsafe_path``."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk

    with Walk() as walk:
        return _judged(remote_disk.answered(walk.content(path, flags), path), path)


def glanced(path: str) -> int:
    """The same for a first look, after which nothing is done unless ``opened`` finds it too: links are followed."""
    try:
        return _judged(remote_disk.opened(path), path)
    except OSError as error:
        raise failure(error, "cannot open " + path) from error


def _judged(fd: int, path: str) -> int:
    mode = os.fstat(fd).st_mode
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
            return None  # signatures.examine() says why
        found = [f for f in ours(slicer(head, b"", 0)) if f.fstype in MAKES]
        if not any(f.state == "damaged" for f in found):
            break
    return found[0] if len(found) == 1 and found[0].state == "valid" else None


def crc32c(data: bytes, crc: int = 0xFFFFFFFF) -> int:
    """CRC-32C (Castagnoli) without the final inversion; the standard library has none."""
    table = _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc


@functools.lru_cache(maxsize=None)
def _crc_table() -> list[int]:
    """Whole or not at all: filesystems are made and looked at in several threads."""
    table = []
    for value in range(256):
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def ours(at: Reader) -> Iterator[Found]:
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
    return Found(name, _uuid(sb[104:120]), text(sb[120:136]), blocks * block, _state(good), facts)


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
    return Found("xfs", _uuid(sb[32:48]), text(sb[108:120]), block * blocks, state, facts)


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
    return Found("btrfs", _uuid(sb[32:48]), text(sb[299:555]), size, _state(good), facts)


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
    serial, label = sb[where : where + 4][::-1].hex().upper(), text(sb[where + 4 : where + 15]).rstrip()
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
            return Found("swap", _uuid(at(1036, 16)), text(at(1052, 16)), (last + 1) * page, _state(good), facts)
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


def text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def slicer(head: bytes, tail: bytes, size: int, read: Reader | None = None) -> Reader:
    """Bytes at an offset (negative: from the end) out of the two ends, b"" for what was not read."""

    def at(start: int, count: int) -> bytes:
        start = start if start >= 0 else size + start
        if start >= 0 and start + count <= len(head):
            return head[start : start + count]
        if start >= size - len(tail) >= 0:
            start -= size - len(tail)
            return tail[start : start + count]
        return read(start, count) if read and 0 <= start < size else b""

    return at
