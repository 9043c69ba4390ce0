# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables and partitions made, grown and removed by sfdisk(8) under a lock, each step from our own proof.

Imported by the ports in ``gpt`` only when something is not as declared. sfdisk writes the table and nothing else; the
kernel is told of each partition by itself (BLKPG, linux/blkpg.h), so that those in use beside it are never in the way.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import time
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blank, blkprobe, gpt, signatures
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.gpt import (
    MIB,
    Entry,
    Partitions,
    Table,
    Tables,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import BOOT, Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import partition
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import SHRINKS, UNKNOWN, state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.size import human

BLKPG, ADD, DELETE, RESIZE = 0x1269, 1, 2, 3
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
WAIT = 30.0  # seconds, for a lock of udev's, and for its links
_SFDISK = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", "--wipe-partitions", "never"]
UDEV = "/run/udev/control"
_PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_LOST = "both copies can be told apart by 'sgdisk --verify'; mend it yourself, for nothing here guesses which is right"


# -- looking -----------------------------------------------------------------------------------------------------------


def examine(port: Any, look: Sysfs, disk: str, fd: int, table: Table | None, targets: list[str]) -> dict[str, Any]:
    """The rows of a scan, with what else was seen of the disk in ``port.seen``."""
    dev = look.resolve(disk)
    if look.read(dev, "partition"):
        raise StorageError("invalid", "%s is a partition itself" % disk, "name the whole disk")
    if look.read(dev, "dm/uuid", "dm/name"):
        raise StorageError("unsupported", "%s is a device-mapper device" % disk, "divide it by a volume group instead")
    ours = bool(table is None or table.problem) and port.intents().is_ours(disk, device=look.identity(dev))
    torn = table is not None and table.problem and not table.entries  # nothing is lost when that is made again
    headless = table is not None and gpt.MBR in table.problem and table.entries  # sfdisk would not know it
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # partitions have page caches of their own
    content, seen = blank.seen(look, disk, fd)
    ours = ours and _begun(fd, content, table, port.intents().is_ours(disk, wiped=True))
    if table is not None and table.problem and (headless or not ours):
        raise StorageError("checksum", "the partition table of %s: %s" % (disk, table.problem), _LOST)
    seen["_no_tool"] = not any(os.access(place + "/sfdisk", os.X_OK) for place in _PLACES)
    seen["_standing"] = standing(look, dev)
    port.seen[disk] = seen
    if isinstance(port, Tables):
        if table is not None and not torn:
            whole = table.whole and not table.problem
            return {disk: {"label": "gpt", "whole": whole, "_table": table, **seen}}
        if content.kind == "blank" and not ours:
            return {}
        row = {"label": content.fstype or None, "whole": False, **seen}
        if ours:
            row.update(label=None, unfinished=True)
        return {disk: row}
    if table is None or torn:  # what partitions another kind of table has go with it
        port.tables[disk] = Table(_sector(fd), os.lseek(fd, 0, os.SEEK_END), 34, {})
        return {}
    port.tables[disk] = table
    rows = {target: _row(port, look, dev, disk, fd, table, target) for target in targets}
    return {target: row for target, row in rows.items() if row is not None}


def _begun(fd: int, content: signatures.Content, table: Table | None, wiped: bool) -> bool:
    """Can a run of ours that was killed have left that: a wipe from the front, or half of a table and nothing else?

    That it once began something there is no consent to what came later. ``wiped``: it was past the wipe, if there was
    one. A run that is killed after all was done leaves that for good, and half of a table is all it may have left.
    """
    sector, size = _sector(fd), os.lseek(fd, 0, os.SEEK_END)
    head, tail = os.pread(fd, signatures.EDGE, 0), os.pread(fd, signatures.EDGE, size - signatures.EDGE)
    end = 2 * sector + gpt.ENTRIES
    if set(content.detail["signatures"]) - {"gpt"} or len(head) + len(tail) < 2 * signatures.EDGE:
        return False
    tabled = not any(head[sector:end]) or head[sector : sector + 8] == b"EFI PART"
    if table is not None and table.entries:  # a whole copy of it, and where the other one goes nothing else
        return tabled
    return (not wiped and not any(head[:2048])) or (
        tabled and not any(head[end:]) and not any(tail[: -sector - gpt.ENTRIES])
    )


def _row(port: Partitions, look: Sysfs, dev: str, disk: str, fd: int, table: Table, target: str) -> Any:
    number = partition.split(target)[1]
    row = port._row(disk, fd, table, target)
    held = kernel(look, dev).get(number)
    if row is None:
        if held is None:
            return None  # else the table has forgotten it, the kernel has not
        row = {"start": held[0], "size": held[1], "type": None, "name": None, "live": True, "unlisted": True}
        row["_limit"] = held[0] + held[1]
    row["_in_use"] = look.in_use("/dev/" + held[2], held[3]) if held else []
    if port.wanted.get(target) is None and not row.get("unlisted"):
        if row["live"]:
            part = gpt.opened(target)
            try:
                content, seen = blank.seen(look, target, part)
            finally:
                os.close(part)
            row.update(seen, _blank=content.kind == "blank")
        else:
            row.update(_blank=_edges_blank(fd, row["start"], row["size"], target), _token=None)
    return row


def kernel(look: Sysfs, dev: str) -> dict[int, tuple[int, int, str, str]]:
    """The partitions of a disk that the kernel has: number -> (start, size, name, major:minor), in bytes."""
    found = {}
    for part in look.partitions(dev):
        number, start = look.read(part, "partition"), look.read(part, "start")
        if number and start:  # else it went meanwhile
            found[int(number)] = (int(start) * 512, look.size(part), look.name(part), part)
    return found


def standing(look: Sysfs, dev: str) -> list[str]:
    """Who uses the whole disk itself, not a partition of it."""
    return look.mounts().get(dev, []) + ["/dev/" + look.name(holder) for holder in look.holders(dev)]


def _sector(fd: int) -> int:
    return int(struct.unpack("I", fcntl.ioctl(fd, gpt.BLKSSZGET, bytes(4)))[0])


def _edges_blank(fd: int, start: int, size: int, target: str) -> bool:
    edge = min(signatures.EDGE, size)
    try:
        return not any(any(os.pread(fd, edge, at)) for at in (start, start + size - edge))
    except OSError as error:
        raise StorageError("unreadable", "cannot read %s: %s" % (target, error.strerror)) from error


# -- planning (pure) ---------------------------------------------------------------------------------------------------


def merge(port: Partitions, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
    disk, number = partition.split(target)
    if now is None or now.get("unlisted"):
        now = {"start": UNKNOWN, "size": UNKNOWN, "type": LINUX, "name": ""}
    after = {**now, **{k: declared[k] for k in ("type", "name") if k in declared}, "live": True}
    table = port.tables.get(disk)
    if table is None:
        return {**after, **{k: declared[k] for k in ("start", "size") if k in declared}}
    span = place(table, declared["_among"])[number]
    if isinstance(span, StorageError):
        return {**after, "_error": span}
    return {**after, "start": span[0], "size": span[1] - span[0]}


def place(table: Table, among: Any) -> dict[int, Any]:
    """(start, end) in bytes, or the error, of each declared partition. One without a size takes what others leave."""
    spans = {n: (e.first * table.sector, (e.last + 1) * table.sector) for n, e in table.entries.items()}
    for number, _start, _size, absent in among:
        if absent:
            spans.pop(number, None)
    placed: dict[int, Any] = {}
    for rest in (False, True):
        for number, start, size, absent in sorted(among, key=lambda one: (one[0] not in spans, one[0])):
            if not absent and (size is None) is rest:
                try:
                    spans[number] = placed[number] = _span(table, spans, number, start, size)
                except StorageError as error:
                    placed[number] = error
    return placed


def _span(table: Table, spans: dict[int, tuple[int, int]], number: int, start: Any, size: Any) -> tuple[int, int]:
    mine = spans.get(number)
    others = sorted(span for n, span in spans.items() if n != number)
    if mine is not None:
        if start not in (None, mine[0]):
            text = "partition %d begins at byte %d" % (number, mine[0])
            raise StorageError("unsupported", text, "a partition is never moved", option="partitions")
        room = min([begin for begin, _end in others if begin > mine[0]], default=table.end) // MIB * MIB
        end = max(room, mine[1]) if size is None else mine[0] + size
        if 0 <= mine[1] - end < MIB:
            end = mine[1]
        if end > max(room, mine[1]):
            raise _full("partition %d can grow to %s" % (number, human(room - mine[0])))
        return mine[0], end
    gaps, at = [], table.begin
    for begin, end in [*others, (table.end, table.end)]:
        if begin // MIB * MIB > at:
            gaps.append((at, begin // MIB * MIB))
        at = max(at, -(-end // MIB) * MIB)
    if start is not None:
        gaps = [(start, end) for begin, end in gaps if begin <= start < end]
        if not gaps:
            raise _full("there is no room at byte %d for partition %d" % (start, number))
    gap = max(gaps, key=lambda one: one[1] - one[0], default=(0, 0))
    if size is None and gap[1] > gap[0]:
        return gap
    for begin, end in gaps if size is not None else []:
        if end - begin >= size:
            return begin, begin + size
    raise _full("the largest room for partition %d is %s" % (number, human(gap[1] - gap[0])))


def _full(text: str) -> StorageError:
    return StorageError("no_space", text, "declare a smaller one, or make room", option="partitions")


def refuse(port: Partitions, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    disk, number = partition.split(target)
    seen = port.seen.get(disk)
    if seen is None:
        return None  # the disk is not there: its table says so
    error = blank.vital(disk, seen) or (_no_tool(disk) if seen["_no_tool"] else None)
    if error is None and after is not None:
        error = after.get("_error")
        if error is None and before is None:
            error = blank.in_use(disk, seen["_standing"]) or _without_udev(target)
        if error is None and before is not None and port.risk(target, before, after) == SHRINKS:
            text = "partition %d of %s has %s" % (number, disk, human(before["size"]))
            error = StorageError("would_shrink", text, "a partition is never made smaller; declare what it has")
    elif error is None:
        error = blank.in_use(target, blank.staying(before["_in_use"], gone))
        if error is None and not before["live"] and not before["_blank"]:
            text = "the kernel does not know partition %d of %s, so nobody can tell what is on it" % (number, disk)
            error = StorageError("unreadable", text, "declare it present first")
    return error


def refuse_table(port: Tables, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    seen = port.seen.get(target)
    if seen is None:
        return None
    error = blank.vital(target, seen) or (_no_tool(target) if seen["_no_tool"] and after is not None else None)
    kept = before is not None and after is not None and before["label"] == "gpt"
    if error is None and not kept:
        error = blank.in_use(target, blank.staying(seen["_in_use"], gone))
    return error


def _without_udev(target: str) -> StorageError | None:
    if not target.startswith("/dev/disk/") or os.path.exists(UDEV):
        return None
    text = "udev does not run here, so that %s would not appear" % target
    return StorageError("unsupported", text, "name the disk as the kernel does, with allow_unstable_device: true")


def _no_tool(disk: str) -> StorageError:
    return StorageError("missing_tool", "sfdisk is not installed", "install fdisk (Debian) or util-linux", device=disk)


# -- doing -------------------------------------------------------------------------------------------------------------


class _Held:
    """A disk for one ``put``: under the lock that udev and partitioning programs respect, its table read under it."""

    def __init__(self, port: Any, disk: str) -> None:
        self.port, self.disk, self.look = port, disk, port.new_look()
        self.dev = self.look.resolve(disk)
        needed = self.look.protected(self.dev)
        if needed not in ("", BOOT):  # one that this plan made just now may be
            raise StorageError("protected", "%s holds %s" % (disk, needed))
        self.fd = blkprobe.opened(disk)
        try:
            lock(self.fd, disk)
            self.table = self.load()
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def ours(self) -> bool:
        """Was it begun here, and on this disk? What is begun on one is not begun on another one of that name."""
        return bool(self.port.intents().is_ours(self.disk, device=self.look.identity(self.dev)))

    def load(self) -> Table:
        table = gpt.load(self.fd, self.disk)
        if table is None or (table.problem and not self.ours()):
            raise StorageError("moved", "%s has no intact partition table any more" % self.disk, "run it again")
        return table

    def write(self, arguments: list[str], script: str, wanted: Callable[[dict[int, Entry]], bool]) -> None:
        """One run of sfdisk. ``wanted`` judges the table that it leaves, of which both copies must be intact."""
        intents = self.port.intents()
        intents.begin(self.disk, token=self.table.disk, device=self.look.identity(self.dev), wiped=True)
        sfdisk(self.port.run, self.fd, self.disk, arguments, script)
        table = gpt.load(self.fd, self.disk)
        if table is None or table.problem or not table.whole or not wanted(table.entries):
            raise StorageError("not_enforced", "%s does not hold the table that was written" % self.disk)
        self.table = table
        intents.end(self.disk)


def lock(fd: int, disk: str) -> None:
    end = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                text = "somebody else holds the lock of %s" % disk
                raise StorageError("in_use", text, "another partitioning program works on it") from error
        time.sleep(0.02)


def sfdisk(run: Any, fd: int, disk: str, arguments: list[str], script: str) -> None:
    path = "/proc/%d/fd/%d" % (os.getpid(), fd)  # the very same disk, whatever its name leads to now
    argv = _SFDISK + [path if argument == "DISK" else argument for argument in arguments]
    rc, out, err = run(argv, script.encode(), 60.0)
    if rc:
        said = (err.strip() or out.strip()).decode("utf-8", "backslashreplace")
        raise StorageError("failed", "sfdisk %s on %s: rc %d: %s" % (arguments[0], disk, rc, said[-600:]), rc=rc)


def blkpg(held: _Held, op: int, number: int, start: int = 0, size: int = 0) -> None:
    part = ctypes.create_string_buffer(struct.pack("=qqi64s64s4x", start, size, number, b"", b""))
    argument = struct.pack("@iiiP", op, 0, len(part.raw), ctypes.addressof(part))
    try:
        fcntl.ioctl(held.fd, BLKPG, argument)
    except OSError as error:
        raise failure(error, "cannot tell the kernel of partition %d of %s" % (number, held.disk)) from error


def told(held: _Held, number: int, span: tuple[int, int] | None) -> None:
    """Have the kernel know a partition as (start, size), or not at all."""
    now = kernel(held.look, held.dev).get(number)
    if now is not None and (span is None or now[0] != span[0]):
        blkpg(held, DELETE, number)
        now = None
    if span is not None and now is None:
        blkpg(held, ADD, number, *span)
    elif span is not None and now is not None and now[1] != span[1]:
        blkpg(held, RESIZE, number, *span)


def put(port: Partitions, target: str, before: Any, after: Any) -> None:
    disk, number = partition.split(target)
    with _Held(port, disk) as held:
        now = _row(port, held.look, held.dev, disk, held.fd, held.table, target)
        if state_of(now) != state_of(before):
            raise StorageError("moved", "partition %d of %s changed since it was looked at" % (number, disk))
        if after is None:
            _remove(port, held, target, number, before)
        else:
            if before is None:
                _create(held, target, number, after)
            else:
                _change(held, number, before, after)
            told(held, number, (after["start"], after["size"]) if after["live"] else None)
        if held.ours():  # of a run that was killed when the table was written, which is whole
            port.intents().end(disk)
    settled(port.run, target, disk, (after["start"], after["size"]) if after is not None and after["live"] else None)


def _create(held: _Held, target: str, number: int, after: dict[str, Any]) -> None:
    """In free space, which is made blank before it has a name: what stands on it need not fear what lay there."""
    start, size = after["start"], after["size"]
    if UNKNOWN in (start, size):
        raise StorageError("moved", "%s was not there when this was planned" % held.disk, "run it again")
    sector, table = held.table.sector, held.table
    spans = [(e.first * sector, (e.last + 1) * sector) for e in table.entries.values()]
    spans += [(held[0], held[0] + held[1]) for held in kernel(held.look, held.dev).values()]
    if start < table.begin or start + size > table.end or any(b < start + size and start < e for b, e in spans):
        raise StorageError("moved", "the room for partition %d of %s is taken" % (number, held.disk), "run it again")
    fd = os.open("/proc/self/fd/%d" % held.fd, os.O_RDWR | os.O_CLOEXEC)
    try:
        blank.zero(fd, size, target, start)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # or it would stay here what it was, once it is written to
    finally:
        os.close(fd)
    text = '%d : start=%d, size=%d, type=%s, name="%s"\n'
    script = text % (number, start // sector, size // sector, after["type"].upper(), after["name"])

    def wanted(entries: dict[int, Entry]) -> bool:
        others = {n: e for n, e in entries.items() if n != number}
        return others == table.entries and _as_declared(entries.get(number), after, sector)

    held.write(["--append", "DISK"], script, wanted)


def _change(held: _Held, number: int, before: dict[str, Any], after: dict[str, Any]) -> None:
    old, sector = held.table.entries, held.table.sector
    fields = []
    if after["size"] != before["size"]:
        fields.append("size=%d" % (after["size"] // sector))
    if after["type"] != before["type"]:
        fields.append("type=%s" % after["type"].upper())
    if after["name"] != before["name"]:
        fields.append('name="%s"' % after["name"])

    def wanted(entries: dict[int, Entry]) -> bool:
        others = all(entries.get(n) == e for n, e in old.items() if n != number) and entries.keys() == old.keys()
        return others and _as_declared(entries.get(number), after, sector) and entries[number].uuid == old[number].uuid

    if fields:
        held.write(["-N", str(number), "DISK"], ", ".join(fields) + "\n", wanted)


def _as_declared(entry: Entry | None, after: dict[str, Any], sector: int) -> bool:
    if entry is None:
        return False
    span = entry.first * sector, (entry.last + 1 - entry.first) * sector
    return (*span, entry.type, entry.name) == (after["start"], after["size"], after["type"], after["name"])


def _remove(port: Partitions, held: _Held, target: str, number: int, before: dict[str, Any]) -> None:
    """Blank first: what the table still names, the next run sees as it is."""
    if not before.get("unlisted"):
        if before["live"]:
            with taken(port, target, before) as part:
                part.wipe()
                if part.again().kind != "blank":
                    raise StorageError("not_enforced", "%s is not blank after it was wiped" % target)
        elif not _edges_blank(held.fd, before["start"], before["size"], target):
            raise StorageError("moved", "the content of %s changed since it was looked at" % target)
        rest = {n: e for n, e in held.table.entries.items() if n != number}
        held.write(["--delete", "DISK", str(number)], "", lambda entries: entries == rest)
    told(held, number, None)


def taken(port: Any, target: str, before: Any) -> blank.Taken:
    """What was seen before, or blank by now: what stood on it was wiped in the same run."""
    try:
        return blank.Taken(port.new_look(), target, None)
    except StorageError as error:
        if error.code != "moved" or before is None:
            raise
    return blank.Taken(port.new_look(), target, before)


def put_table(port: Tables, target: str, before: Any, after: Any) -> None:
    if before is not None and after is not None and before["label"] == "gpt":
        with _Held(port, target) as held:
            rest = held.table.entries
            held.write(["--relocate", "gpt-bak-std", "DISK"], "", lambda entries: entries == rest)
    else:
        _remake(port, target, before, after)
    settled(port.run, target, "", None)


def _remake(port: Tables, target: str, before: Any, after: Any) -> None:
    """Wipe, then write an empty table if one is declared."""
    if before is not None and before["label"] == "gpt":
        before = _emptied(port, target, before)
    with taken(port, target, before) as disk:
        lock(disk.hold, target)
        intents = port.intents()
        known = {"token": disk.content.token, "device": disk.look.identity(disk.dev)}
        intents.begin(target, wiped=False, **known)
        disk.wipe()
        intents.begin(target, wiped=True, **known)
        os.posix_fadvise(disk.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        disk.let()
        held = _Bare(disk.hold, target, disk.look, disk.dev)
        for number in kernel(disk.look, disk.dev):
            blkpg(held, DELETE, number)  # type: ignore[arg-type]
        if after is None:
            if disk.again().kind != "blank":
                raise StorageError("not_enforced", "%s is not blank after it was wiped" % target)
        else:
            sfdisk(port.run, disk.hold, target, ["DISK"], "label: gpt\n")
            table = gpt.load(disk.hold, target)
            disk.again()
            if table is None or table.problem or not table.whole or table.entries:
                raise StorageError("not_enforced", "%s does not hold the table that was written" % target)
        intents.end(target)


class _Bare:
    def __init__(self, fd: int, disk: str, look: Sysfs, dev: str) -> None:
        self.fd, self.disk, self.look, self.dev = fd, disk, look, dev


def _emptied(port: Tables, target: str, before: dict[str, Any]) -> dict[str, Any]:
    """A table whose partitions went in this run holds nothing that its token could have been typed for."""
    fd = blkprobe.opened(target)
    try:
        table = gpt.load(fd, target)
        if table is None or table.problem or table.entries or table.disk != before["_table"].disk:
            return before
        return {**before, "_token": blank.seen(port.new_look(), target, fd)[0].token, "_live": False}
    finally:
        os.close(fd)


def settled(run: Any, target: str, disk: str, span: tuple[int, int] | None) -> None:
    """Wait until udev is done with it: closing a disk after a write makes udev read it, and drop partitions on the way.

    With ``span`` until the path leads to the partition, without until it leads nowhere (``disk`` "": no matter).
    """
    if os.path.exists(UDEV):
        run(["udevadm", "settle", "--timeout=%d" % WAIT], b"", WAIT + 5)
    end = time.monotonic() + WAIT
    while disk and gpt.in_kernel(target, os.stat(disk).st_rdev) != span:
        if time.monotonic() > end:
            text = "%s did not %s" % (target, "appear" if span else "go")
            raise StorageError("timeout", text, "does udev run?")
        time.sleep(0.02)
