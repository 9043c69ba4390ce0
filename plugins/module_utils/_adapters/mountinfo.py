# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's table of mounts, /proc/self/mountinfo (Documentation/filesystems/proc.rst, 3.5), read as bytes.

Fields are split on the space and the newline only: CR, U+2028, 0xff and others come raw. Paths are text in UTF-8 with
``surrogateescape`` whatever the locale is, so that every byte string survives a round trip.
"""

from __future__ import annotations

import re
from bisect import bisect
from typing import NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors

_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")
NETWORK = frozenset(("nfs", "nfs4", "ceph", "cifs", "smb3", "9p", "afs"))
_SERVED = NETWORK | {"fuse", "fuseblk", "virtiofs"}
_OPTION = re.compile(rb'([^,=]+)(?:=("[^"]*"(?=,|$)|[^,]*))?')


class Mount(NamedTuple):
    """One row. ``root`` is the directory of the filesystem that is seen at ``path``; ``dev`` is ``major:minor``."""

    id: int
    parent: int
    dev: str
    root: str
    path: str
    options: frozenset[bytes]
    propagation: str
    fstype: str
    source: str
    super_options: bytes


def text(raw: bytes) -> str:
    """Decode the octal escapes (the kernel writes ``\\040 \\011 \\012 \\134``, and ``\\043`` in sources)."""
    if b"\\" in raw:
        raw = _ESCAPE.sub(lambda m: bytes((int(m.group(1), 8),)), raw)
    return raw.decode("utf-8", "surrogateescape")


def options(raw: bytes) -> dict[str, str | bool]:
    """``rw,size=1024k,context="a,b"`` as a dict; a bare word is True."""
    return {text(key): text(value) if value or key + b"=" in raw else True for key, value in _OPTION.findall(raw)}


def served(fstype: str) -> bool:
    """Does a program or another machine answer for it? Subtypes too: ``fuseblk.x``."""
    return fstype.partition(".")[0] in _SERVED


def _place(row: Mount) -> tuple[str, str]:
    """Which filesystem, and which directory of it: of NFS each row says /, and its source the directory."""
    if row.fstype in ("nfs", "nfs4"):
        server, _colon, path = row.source.partition(":/")
        return row.dev + server, "/" + path.rstrip("/")
    return row.dev + row.source * (row.fstype in NETWORK), row.root


def mount_id(fd: int) -> int:
    """The row that a descriptor lies in."""
    with open("/proc/self/fdinfo/%d" % fd, "rb") as f:
        return int(f.read().partition(b"mnt_id:")[2].split()[0])


def parse(data: bytes) -> list[Mount]:
    """Rows in the kernel's order; ``unreadable`` when a row is cut short or is not a row."""
    rows = []
    words: dict[bytes, frozenset[bytes]] = {}
    for line in data.split(b"\n")[:-1]:
        left, _dash, right = line.partition(b" - ")
        fields, about = left.split(b" "), right.split(b" ", 2)
        try:
            number, parent, dev, root, path, flags = fields[:6]
            fstype, source, super_options = about
            if flags not in words:
                words[flags] = frozenset(flags.split(b","))
            tags = [tag[:7] for tag in fields[6:]]
            alone = "unbindable" if b"unbinda" in tags else "private"
            spread = "shared" if b"shared:" in tags else "slave" if b"master:" in tags else alone
            ids = int(number), int(parent), dev.decode("ascii")
        except ValueError:
            raise StorageError("unreadable", "mountinfo holds a row that is not one: %.200r" % line) from None
        names = text(fstype), text(source)
        rows.append(Mount(*ids, text(root), text(path), words[flags], spread, *names, super_options))
    if data and not data.endswith(b"\n"):
        raise StorageError("unreadable", "mountinfo ends inside a row: %.200r" % data[-80:])
    return rows


def read() -> bytes:
    """The table as the kernel writes it; ``unreadable`` when it cannot be read."""
    try:
        with open("/proc/self/mountinfo", "rb", buffering=0) as f:
            return f.read() or b""
    except OSError as exc:
        raise StorageError("unreadable", "/proc/self/mountinfo: %s" % exc.strerror) from exc


class Table:
    """Rows and how they stand on each other. Paths are walked, since mounts hide mounts."""

    def __init__(self, rows: list[Mount]) -> None:
        self.rows = rows
        self.children: dict[int, list[Mount]] = {}
        self._on: dict[tuple[int, str], Mount] = {}
        self._roots: dict[tuple[str, str], list[Mount]] = {}
        self._sources: dict[tuple[str, str], dict[str, tuple[int, bool]]] = {}
        self.by_id = {row.id: row for row in rows}
        self._paths: list[str] = []
        for row in rows:
            parent = row.parent if row.parent in self.by_id and row.parent != row.id else 0
            self._on[parent, row.path] = row
            self.children.setdefault(parent, []).append(row)
            self._roots.setdefault(_place(row), []).append(row)

    def over(self, path: str) -> Mount | None:
        """The mount that a lookup of a path ends in: the top-most of a stack."""
        row, here = None, 0
        for step in [*reversed(list(ancestors(path))), path]:
            found = self._on.get((here, step))
            while found is not None:
                row, here = found, found.id
                found = self._on.get((here, step))
        return row

    def at(self, path: str) -> Mount | None:
        """The mount whose root a path is, or None: not a mount point."""
        row = self.over(path)
        return row if row is not None and row.path == path else None

    def first(self, row: Mount) -> bool:
        """True for the oldest mount of this directory of this filesystem; the others are its binds."""
        return self._roots[_place(row)][0] is row

    def sources(self, row: Mount) -> dict[str, tuple[int, bool]]:
        """Every path of the same directory: how many mounts lead to it, and does a lookup end there."""
        key = _place(row)
        if key not in self._sources:
            found: dict[str, tuple[int, bool]] = {}
            for base in [key[1], *ancestors(key[1])]:
                rest = key[1][len(base.rstrip("/")) :].rstrip("/")
                for other in self._roots.get((key[0], base), ()):
                    path = other.path.rstrip("/") + rest or "/"
                    count, seen = found.get(path, (0, False))
                    found[path] = count + 1, seen or self.over(path) is other
            self._sources[key] = found
        return self._sources[key]

    def mirrored(self, row: Mount, child: Mount) -> bool:
        """Did a recursive bind bring ``child`` along? Then the same is mounted at that place of its source."""
        rest = child.path[len(row.path.rstrip("/")) :]
        twins = (self.at(path.rstrip("/") + rest) for path in self.sources(row) if path != row.path)
        return any(twin is not None and _place(twin) == _place(child) for twin in twins)

    def beneath(self, path: str) -> list[str]:
        """Every mount point beneath a path, hidden ones too, in order."""
        self._paths = self._paths or sorted({row.path for row in self.rows})
        base = path.rstrip("/")
        return self._paths[bisect(self._paths, base + "/") : bisect(self._paths, base + "0")]  # what follows "/" is "0"
