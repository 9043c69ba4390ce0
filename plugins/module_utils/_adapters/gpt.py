# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of a disk's GUID partition table and of its partitions, by our own reading. The effects: gptchange.

Both copies of the table are read and compared (UEFI 2.10, section 5.3). No program runs to look.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import zlib
from typing import Any, Callable, Iterable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import programs, remote_disk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import partition
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
)

BLKSSZGET = 0x1268  # linux/fs.h
MIB = 1 << 20  # what partitions are aligned to
MBR = "the protective MBR is missing, or a hybrid one"
ENTRIES = 16384  # bytes, the least that a table reserves for them
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
Reader = Callable[[int, int], bytes]


class Entry(NamedTuple):
    """A partition as the table tells it; ``first`` and ``last`` are sectors, both its own."""

    type: str
    uuid: str
    first: int
    last: int
    attributes: int
    name: str


class Table(NamedTuple):
    """``whole``: does it span the disk? ``problem``: what is wrong with it, "" for nothing."""

    sector: int
    size: int
    first: int
    entries: dict[int, Entry]
    whole: bool = True
    problem: str = ""
    disk: str = ""  # its GUID

    @property
    def begin(self) -> int:
        """The first byte that a partition of ours may have."""
        return max(MIB, -(-self.first * self.sector // MIB) * MIB)

    @property
    def end(self) -> int:
        """The byte after the last one, when the table spans the disk."""
        return (self.size - self.sector - ENTRIES) // MIB * MIB

    def limit(self, number: int) -> int:
        """The byte that a partition could grow to."""
        after = [e.first for e in self.entries.values() if e.first > self.entries[number].first]
        return min(after) * self.sector // MIB * MIB if after else self.end


class _Copy(NamedTuple):
    other: int
    first: int
    last: int
    disk: bytes
    size: int
    data: bytes


def parse(at: Reader, size: int, sector: int) -> Table | None:
    """The table in ``size`` bytes, None where there is none. Pure but for ``at``, total: any bytes are fine."""
    last = size // sector - 1
    one = _copy(at, 1, last, sector)
    two = _copy(at, one.other if isinstance(one, _Copy) and 1 < one.other < last else last, last, sector)
    good = one if isinstance(one, _Copy) else two
    if not isinstance(good, _Copy):
        if one is None and two is None:
            return None
        return Table(sector, size, 34, {}, True, "both copies of the table are damaged")
    problem = ""
    if not isinstance(one, _Copy):
        problem = "the first copy of the table is " + ("damaged" if one is False else "missing")
    elif not isinstance(two, _Copy):
        problem = "the backup copy of the table is " + ("damaged" if two is False else "missing")
    elif one[1:] != two[1:]:
        problem = "the two copies of the table disagree"
    boot = at(0, 512)
    kinds = sorted(boot[446 + 16 * i + 4] for i in range(4)) if len(boot) == 512 else []
    if not problem and (boot[510:] != b"\x55\xaa" or kinds != [0, 0, 0, 0xEE]):
        problem = MBR
    entries = {}
    for index in range(len(good.data) // good.size):
        kind, uuid, first, end, attributes, name = _ENTRY.unpack_from(good.data, index * good.size)
        if kind != bytes(16):
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            entries[index + 1] = Entry(_guid(kind), _guid(uuid), first, end, attributes, text)
    at_end = isinstance(one, _Copy) and one.other == last
    return Table(sector, size, good.first, entries, at_end, problem, _guid(good.disk))


def _copy(at: Reader, lba: int, last: int, sector: int) -> Any:
    """A copy that is what it says; False: damaged; None: there is none."""
    raw = at(lba * sector, sector)
    if len(raw) < 92 or raw[:8] != b"EFI PART":
        return None
    _magic, _rev, length, crc, _0, here, other, first, end, disk, table, count, size, sum_ = _HEADER.unpack_from(raw)
    if not 92 <= length <= sector or zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != crc or here != lba:
        return False
    if size not in (128, 256, 512, 1024, 2048, 4096) or not 0 < count * size <= 1 << 20 or not 2 <= table <= last:
        return False
    data = at(table * sector, count * size)
    return _Copy(other, first, end, disk, size, data) if zlib.crc32(data) == sum_ else False


def _guid(raw: bytes) -> str:
    low = "%08x-%04x-%04x" % struct.unpack_from("<IHH", raw)
    return "%s-%s-%s" % (low, raw[8:10].hex(), raw[10:].hex())


def load(fd: int, path: str) -> Table | None:
    """The table of an open disk. ``unreadable``, or ``invalid`` for what is no block device."""
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        raise StorageError("invalid", "%s is not a block device" % path, "an image file takes a filesystem, no table")
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        sector = struct.unpack("I", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))[0]
        if size < 4 * MIB:
            raise StorageError("unreadable", "%s holds only %d bytes" % (path, size), "attach it, or take a larger one")
        return parse(lambda start, count: _pread(fd, start, count, size), size, sector)
    except OSError as error:
        raise StorageError("unreadable", "cannot read %s: %s" % (path, error.strerror)) from error


def _pread(fd: int, start: int, count: int, size: int) -> bytes:
    data = os.pread(fd, count, start) if start < size else b""
    if len(data) < min(count, size - start):
        raise OSError(5, "short read at byte %d" % start)
    return data


def opened(path: str) -> int:
    try:
        return remote_disk.opened(path)
    except OSError as error:
        raise failure(error, "cannot open " + path) from error


class _Port:
    behind = True

    def __init__(self, run: Any, intents: Callable[[], Any], look: Callable[[], Any] | None = None) -> None:
        """``intents`` makes what remembers the tables that we began to write, see ``catalogue.Intents``."""
        self.run, self.intents, self.new_look = run, intents, look or _sysfs
        self.wanted: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, Table] = {}  # of the last scan; an empty one stands for what has none
        self.seen: dict[str, dict[str, Any]] = {}  # what else was seen of a disk that is not as declared

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        self.wanted[target] = value
        return value

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "partitions are scanned by disk only")
        rows: dict[str, Any] = {}
        disks: dict[str, list[str]] = {}
        for target in targets:
            disks.setdefault(self.disk(target), []).append(target)
        for disk, mine in disks.items():
            self.tables.pop(disk, None)
            self.seen.pop(disk, None)
            try:
                programs.unasked(disk)
                found = self._look(disk, mine) if os.path.lexists(disk) else {}
            except StorageError as error:
                found = dict.fromkeys(mine, error)
            rows.update(found)
        return rows

    def disk(self, target: str) -> str:
        return target

    def _look(self, disk: str, targets: list[str]) -> dict[str, Any]:
        fd = opened(disk)
        try:
            table = load(fd, disk)
            if table is not None and not table.problem:
                self.tables[disk] = table
                rows = {target: self._row(disk, fd, table, target) for target in targets}
                if all(self._met(target, row) for target, row in rows.items()):
                    return {target: row for target, row in rows.items() if row is not None}
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

            return gptchange.examine(self, self.new_look(), disk, fd, table, targets)
        finally:
            os.close(fd)

    def _met(self, target: str, row: Any) -> bool:
        want = self.wanted.get(target)
        return row is not None and want is not None and self.same(target, row, want)

    def _row(self, disk: str, fd: int, table: Table, target: str) -> Any:
        raise NotImplementedError

    def same(self, target: str, now: Any, declared: Any) -> bool:
        raise NotImplementedError

    def unstable(self, target: str) -> StorageError | None:
        seen = self.seen.get(self.disk(target))
        if seen is None or seen["_stable"]:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import sysfs_block

        return sysfs_block.unstable(self.disk(target), seen["_by_id"])


class Tables(_Port):
    """Port ``gpt``: path of a disk -> ``{"label": "gpt", "whole": bool}``; label None for what is no table of ours."""

    name = "gpt"

    def _row(self, disk: str, fd: int, table: Table, target: str) -> Any:
        return {"label": "gpt", "whole": table.whole, "_table": table}

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return bool(now["label"] == "gpt" and now["whole"])

    def merge(self, target: str, now: Any, declared: Any) -> dict[str, Any]:
        after = {"label": "gpt", "whole": True}
        return after if target in self.seen else {**after, "_missing": target}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None or before.get("unfinished"):
            return FORWARD
        if before["label"] == "gpt":
            return FORWARD if after is not None or not before["_table"].entries else DESTROYS
        return DESTROYS

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        return "wipe_token", before["_token"]

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

        return gptchange.refuse_table(self, target, before, after, gone)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

        gptchange.put_table(self, target, before, after)


class Partitions(_Port):
    """Port ``partition``: path of a partition -> ``{"start", "size", "type", "name", "live"}``, bytes.

    ``live``: the kernel has it, of this size and under this path. A declared value may leave out each of them, and
    tells in ``_among`` all that is declared of the disk: ``(number, start, size, absent)``.
    """

    name = "partition"

    def disk(self, target: str) -> str:
        return partition.split(target)[0]

    def _row(self, disk: str, fd: int, table: Table, target: str) -> Any:
        number = partition.split(target)[1]
        entry = table.entries.get(number)
        if entry is None:
            return None
        start, size = entry.first * table.sector, (entry.last - entry.first + 1) * table.sector
        live = in_kernel(target, os.fstat(fd).st_rdev) == (start, size)
        row = {"start": start, "size": size, "type": entry.type, "name": entry.name, "live": live}
        return {**row, "_limit": table.limit(number)}

    def same(self, target: str, now: Any, declared: Any) -> bool:
        if not now["live"] or now.get("unlisted"):
            return False
        if any(declared.get(field, now[field]) not in (now[field], UNKNOWN) for field in ("start", "type", "name")):
            return False
        if "size" not in declared:
            return bool(now["_limit"] - now["start"] - now["size"] < MIB)
        return declared["size"] is UNKNOWN or bool(0 <= now["size"] - declared["size"] < MIB)

    def merge(self, target: str, now: Any, declared: Any) -> dict[str, Any]:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

        return gptchange.merge(self, target, now, declared)

    def replaces(self, target: str, before: Any, after: Any) -> bool:
        return bool(before.get("unlisted"))

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None:
            return FORWARD
        if after is None:
            return FORWARD if before.get("_blank") or before.get("unlisted") else DESTROYS
        if UNKNOWN in (before["size"], after["size"]) or after["size"] == before["size"]:
            return REVERSIBLE
        return FORWARD if after["size"] > before["size"] else SHRINKS

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        return "wipe_token", before.get("_token")

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        if after is None or (before is not None and before["live"]):
            return None
        return "empty" if before is None else "unknown"

    def resizes(self, target: str, before: Any, after: Any) -> int | None:
        """What it is large afterwards, in bytes, should what stands on it want to know."""
        changes = before is not None and after is not None and after["size"] != before["size"]
        return after["size"] if changes else None

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

        return gptchange.refuse(self, target, before, after, gone)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

        gptchange.put(self, target, before, after)


def in_kernel(path: str, disk: int) -> tuple[int, int] | None:
    """(start, size) in bytes of the partition of a disk that a path leads to; None: to nothing, or something else."""
    try:
        rdev = os.stat(path).st_rdev
    except (FileNotFoundError, NotADirectoryError):
        return None
    here = "/sys/dev/block/%d:%d/" % (os.major(rdev), os.minor(rdev))
    if _text(here + "../dev") != "%d:%d" % (os.major(disk), os.minor(disk)):
        return None
    return int(_text(here + "start") or -1) * 512, int(_text(here + "size") or 0) * 512


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except (FileNotFoundError, NotADirectoryError):  # it may go at any moment
        return ""


def _sysfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs

    return Sysfs()


def _intents() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record

    return Intents(Record())


def _run(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

    return execute(argv, stdin, timeout)


def tables() -> Tables:
    """The port on this host."""
    return Tables(_run, _intents)


def partitions() -> Partitions:
    return Partitions(_run, _intents)


def block() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.block import Block

    return Block()
