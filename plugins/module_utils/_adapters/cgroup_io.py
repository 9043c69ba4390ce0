# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of what the kernel holds processes to: io.max and io.weight (Documentation/admin-guide/cgroup-v2.rst).

Measured with systemd 257: of a unit that runs, a new drop-in and daemon-reload change nothing until something starts
there. What is written to io.max stays until then, so both are written, and say the same.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Iterable, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import io_device
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

Target = Tuple[str, str]  # unit of systemd or path of a cgroup, and a device or a path on one

KEYS = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
_GONE = (errno.ENOENT, errno.ENODEV)  # of a cgroup that is removed while we look


class IoMax:
    """Port ``io_max``: (unit or cgroup, device or path) -> ``{read_bps, write_bps, read_iops, write_iops, weight}``.

    Bytes and operations per second, None for no limit. Of a unit that does not run, what is kept counts (``_idle``).
    """

    name, behind, slow = "io_max", True, False

    def __init__(self, root: str = io_device.CGROUPS) -> None:
        self.root = root
        self.declared: dict[Target, Any] = {}
        self.missing: set[Target] = set()
        self.found: dict[Target, io_device.Found] = {}
        self.seen: dict[Target, dict[str, Any]] = {}
        self.units: dict[str, str] | None = None  # where those that are no slices run

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        if targets is None:
            raise StorageError("unsupported", "limits of I/O are looked up by slice and device only")
        self.units = None
        problem = unusable(self.root)
        devices = io_device.Devices()
        rows: dict[Target, Any] = {}
        taken: dict[tuple[str, str], Target] = {}
        for target in targets:
            try:
                if problem is not None:
                    if target in self.declared:
                        raise problem
                    continue
                row = self.row(target, devices)
                if row is not None:
                    rows[target] = row
            except StorageError as error:
                if error.code != "not_found":
                    rows[target] = error
            if target in self.declared and target in self.found:
                spot = (target[0], self.found[target].number)
                if taken.setdefault(spot, target) != target:
                    text = "%s and %s are one disk, %s, and %s has one limit for it" % (
                        target[1], taken[spot][1], devices.path(spot[1]), target[0],
                    )  # fmt: skip
                    rows[target] = StorageError("conflict", text, "declare it once, or in different slices")
        return rows

    def row(self, target: Target, devices: io_device.Devices) -> Any:
        self.missing.discard(target)
        self.found.pop(target, None)
        try:
            found = self.found[target] = devices.find(target[1])
        except StorageError as error:
            if error.code == "not_found":
                self.missing.add(target)
            raise
        seen: dict[str, Any] = {"_device": found.number, "_cgroup": None}
        self.seen[target] = seen
        seen["_bfq"] = "[bfq]" in io_device.attribute(found.number, "queue/scheduler")
        folder = self.folder(target[0])
        text = read(folder + "/io.max") if folder else None
        if text is None and not os.path.isdir(folder):
            if target[0][0] == "/":
                if target not in self.declared:
                    return None
                text = "cgroup %s does not exist" % target[0]
                raise StorageError("conflict", text, "make it, or name a slice, which may start later")
            return {**self.declared[target], **seen, "_idle": True} if target in self.declared else None
        limits = {**parse(text or "").get(found.number, dict.fromkeys(KEYS)), "weight": None}
        weights = folder + ("/io.bfq.weight" if seen["_bfq"] else "/io.weight")
        for line in (read(weights) or "").splitlines():
            if line.split()[0] == found.number:
                weight = int(line.split()[1])
                limits["weight"] = 100 + (weight - 100) * 11 if seen["_bfq"] and weight > 100 else weight
        seen["_cgroup"] = folder
        return {**limits, **seen} if any(limits.values()) else None

    def folder(self, where: str) -> str:
        """Of a unit the cgroup, "" where it can be known only once the unit runs."""
        if where[0] == "/":
            return where
        if where.endswith(".slice"):
            parts = where[:-6].split("-")
            return self.root + "".join("/%s.slice" % "-".join(parts[: n + 1]) for n in range(len(parts)))
        if self.units is None:
            self.units = {}
            todo = [self.root]
            while todo:
                here = todo.pop()
                for entry in _folders(here):
                    if entry.endswith(".slice"):
                        todo.append(here + "/" + entry)
                    else:
                        self.units[entry] = here + "/" + entry
        return self.units.get(where, "")

    # -- what is declared ------------------------------------------------------------------------------------------

    def resolve(self, target: Target, declared: Any) -> Any:
        self.declared[target] = declared
        return declared

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        if now.get("_idle"):
            return True
        if now["_bfq"]:
            now, declared = ({**each, "weight": bfq(each["weight"])} for each in (now, declared))
        return all(now[key] == declared[key] for key in (*KEYS, "weight"))

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        if target in self.missing:
            return {**declared, "_missing": target[1]}
        return {**self.seen[target], **declared} if target in self.seen else declared

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def unstable(self, target: Target) -> StorageError | None:
        """What takes ``allow_unstable_device``."""
        found = self.found.get(target) if target in self.declared else None
        return io_device.unstable(target[1], found) if found is not None else None

    def refuse(self, target: Target, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None or target not in self.found or target[0][0] != "/":
            return None  # of a unit its drop-in is asked, which there is before it runs
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cgroup_iochange

        return cgroup_iochange.weightless(self.root, self.found[target].number, after)

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cgroup_iochange

        cgroup_iochange.put(self, target, before, after)


def unusable(root: str) -> StorageError | None:
    """Why nothing can be limited. On a host of cgroup v1 a file io.max can be made, and means nothing."""
    hint = "boot with systemd.unified_cgroup_hierarchy=1"
    if not os.path.isdir(root) or io_device.filesystem(root) != io_device.CGROUP2:
        return StorageError("unsupported", "%s is not cgroup v2" % root, hint)
    if "io" not in (read(root + "/cgroup.controllers") or "").split():
        return StorageError("unsupported", "this kernel has no io controller in cgroup v2", hint)
    return None


def parse(text: str) -> dict[str, dict[str, Any]]:
    """``8:0 rbps=max wbps=1048576 riops=max wiops=max``, a line for each device that has a limit."""
    rows: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        number, *words = line.split()
        said = dict(word.partition("=")[::2] for word in words)
        rows[number] = {key: None if said[k] == "max" else int(said[k]) for key, k in KEYS.items()}
    return rows


def bfq(weight: int | None) -> int | None:
    """As systemd gives it to BFQ, which has one for several of ours above 100."""
    return weight if weight is None or weight <= 100 else 100 + (weight - 100) // 11


def read(path: str) -> str | None:
    """None where there is no such file."""
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise failure(error, "cannot read " + path) from error


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
