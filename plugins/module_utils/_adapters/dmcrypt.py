# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of opened LUKS devices, read from sysfs (dm/name, dm/uuid). The effects: dmcryptchange."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import luksheader
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.luks import Luks
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE, UNKNOWN

FOLDER = "/dev/mapper/"
_SYS = "/sys/dev/block/%d:%d/"


class Mapping:
    """Target: ``/dev/mapper/<name>``. Value: ``{"device", "uuid", "fills", "discards"}``; a door onto what is in it."""

    name, behind, slow = "mapping", True, True

    def __init__(self, luks: Luks) -> None:
        self.luks, self.run, self.search = luks, luks.run, luks.search
        self.wanted: dict[str, dict[str, Any]] = {}

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        self.wanted[target] = value
        return value

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        return all(now.get(k) == v for k, v in declared.items() if k[0] != "_")

    def merge(self, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        return {**(now or {"uuid": UNKNOWN, "discards": UNKNOWN}), **declared}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        """Closed, it takes a key to open it again, which nobody has told; grown, it is in use."""
        return FORWARD if after is None or (before and not before["fills"]) else REVERSIBLE

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        if before is not None or after is None:
            return None
        return "empty" if after["device"] in self.luks.making else "unknown"

    def unstable(self, target: str) -> StorageError | None:
        device = self.wanted.get(target, {}).get("device")
        if device is None or not os.path.exists(device):
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, unstable

        look = Sysfs()
        dev = look.resolve(device)
        return None if look.stable(device, dev) else unstable(device, look.links(dev))

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import dmcryptchange

        return dmcryptchange.refuse(self, target, before, after, gone)

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "mappings are looked for by name only")
        rows = {}
        for target in targets:
            try:
                row = self.look(target)
            except StorageError as error:
                row = error
            except OSError as error:
                row = failure(error, "cannot look at " + target)
            if row is not None:
                rows[target] = row
        return rows

    def look(self, target: str) -> Any:
        dev = device_of(target)
        if dev is None:
            return None
        here, want = _SYS % dev, self.wanted.get(target) or {}
        kind, uuid = (_file(here + "dm/uuid").split("-") + ["", ""])[:3:2]
        slaves = os.listdir(here + "slaves")
        beneath = _file("%sslaves/%s/dev" % (here, slaves[0])) if len(slaves) == 1 else ""
        row: dict[str, Any] = {"device": "/dev/" + slaves[0] if beneath else "", "uuid": uuid, "fills": True}
        row.update(discards=None, _crypt=kind == "CRYPT")
        device = want.get("device")
        if device is None or kind != "CRYPT" or beneath != _number(device):
            return row
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            head, size = luksheader.read(fd), os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)
        if head is None or head.uuid.replace("-", "") != uuid:
            return row
        discards = "allow-discards" in head.meta.get("config", {}).get("flags", [])
        rest = size - head.offset - int(_file(here + "size")) * 512
        fills = rest < 4096 or any(s.get("size") != "dynamic" for s in head.meta["segments"].values())
        return {**row, "device": device, "uuid": head.uuid, "fills": fills, "discards": discards}

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import dmcryptchange

        dmcryptchange.put(self, target, before, after)


def device_of(target: str) -> tuple[int, int] | None:
    """The number of a mapping, by the kernel's own list where its link is not there or leads elsewhere."""
    name = target[len(FOLDER) :]
    try:
        seen = os.stat(target)
        if stat.S_ISBLK(seen.st_mode) and _file(_SYS % _split(seen.st_rdev) + "dm/name") == name:
            return _split(seen.st_rdev)
    except FileNotFoundError:
        pass  # perhaps udev has not yet come to it
    for entry in os.listdir("/sys/block"):
        if entry.startswith("dm-") and _file("/sys/block/%s/dm/name" % entry) == name:
            major, minor = _file("/sys/block/%s/dev" % entry).split(":")
            return int(major), int(minor)
    return None


def _number(path: str) -> str:
    try:
        return "%d:%d" % _split(os.stat(path).st_rdev)
    except FileNotFoundError:
        return "-"


def _split(rdev: int) -> tuple[int, int]:
    return os.major(rdev), os.minor(rdev)


def _file(path: str) -> str:
    """Text of a small file, "" when it is not there."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().rstrip("\n")
    except FileNotFoundError:
        return ""
