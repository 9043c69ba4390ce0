# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files of mounts in /etc/systemd/system, and the links that enable them (systemd.unit(5), systemctl(1)).

A unit that is there and was not made here is treated as a line of fstab is: it is what the host goes by, so it is taken
over, and only what differs of source, type and options is changed in it. What an administrator adds belongs into a
drop-in, which is never touched. A masked unit is an administrator's word against it: ``conflict``.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_names
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

FOLDER = "/etc/systemd/system"
_FRESH = {"source": "", "fstype": "auto", "options": "defaults", "fsck": False}


class Units:
    """Port ``unit``: mount point -> ``{source, fstype, options, fsck, enabled, intact}`` of its unit file.

    ``enabled``: the links are those that the options ask for. ``fsck``: it is checked before it is mounted at boot.
    """

    name = "unit"
    behind = False
    slow = False

    def __init__(self, fstab: Any, folder: str = FOLDER, runtime: str = "/run/systemd/system") -> None:
        self.fstab = fstab  # systemd hears of both at once
        self.folder = folder
        self.runtime = runtime  # masks until the next boot
        self.refusals: dict[str, StorageError] = {}
        self.was: dict[str, Any] = {}

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "units are not scanned as a whole", "name the mount points")
        files: dict[str, bytes] = {}
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                data = self.read(target)
            except OSError as exc:
                rows[target] = unreadable(exc, target)
            except StorageError as error:
                rows[target] = error
            else:
                if data is not None:
                    files[target] = data
        if files:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_mount

            try:
                links = self.links()
            except OSError as exc:
                return {**rows, **{target: unreadable(exc, target) for target in files}}
            for target, data in files.items():
                rows[target] = systemd_mount.row(target, data, links.get(self.unit(target), []))
        return rows

    def unit(self, target: str) -> str:
        return systemd_names.escape(target) + ".mount"

    def read(self, target: str) -> bytes | None:
        """The file as it is; None where there is none. OSError, or ``conflict`` for what is no plain file."""
        self.refusals.pop(target, None)
        name = self.unit(target)
        path = os.path.join(self.folder, name)
        try:
            if len(name) > systemd_names.UNIT_NAME_MAX:
                return None  # there cannot be one
            seen = os.lstat(path)
        except FileNotFoundError:
            if not os.path.isdir(self.folder):
                text = "%s does not exist, so systemd does not run this system" % self.folder
                self.refusals[target] = StorageError("unsupported", text, "use persist: fstab")
            elif os.path.islink(os.path.join(self.runtime, name)):
                self.refusals[target] = masked(os.path.join(self.runtime, name))
            return None
        if stat.S_ISLNK(seen.st_mode) and os.readlink(path) != "/dev/null":
            raise StorageError("conflict", "%s is a link" % path, "systemctl disable %s" % name)
        if not stat.S_ISREG(seen.st_mode) or not seen.st_size:
            raise masked(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            return stream.read()

    def links(self) -> dict[str, list[str]]:
        """By unit, the folders of ``.wants`` and ``.requires`` that name it."""
        found: dict[str, list[str]] = {}
        for folder in os.listdir(self.folder):
            if folder.endswith((".wants", ".requires")):
                for name in os.listdir(os.path.join(self.folder, folder)):
                    found.setdefault(name, []).append(folder)
        return found

    # -- what is declared ------------------------------------------------------------------------------------------

    def resolve(self, target: str, declared: Any) -> Any:
        """A line of fstab as a unit says it. Raises ``invalid`` or ``unsupported`` for what no unit can say."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_mount

        return systemd_mount.resolve(target, declared)

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return all(_plain(k, now[k]) == _plain(k, v) for k, v in declared.items() if not k.startswith("_"))

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        value = {**(now or _FRESH), **declared}
        return {**value, "fsck": value["fsck"] and systemd_names.is_device(value["source"])}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        if before is None:
            return self.refusals.get(target)
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_mount

        return systemd_mount.refuse(self.unit(target), before, after)

    # -- effects ---------------------------------------------------------------------------------------------------

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_unitchange

        systemd_unitchange.put(self, target, before, after)
        self.fstab.stale = True

    def flush(self) -> None:
        self.fstab.flush()


def unreadable(exc: OSError, target: str) -> StorageError:
    return StorageError("unreadable", failure(exc, "cannot read the unit of %s" % target).message)


def masked(path: str) -> StorageError:
    hint = "systemctl unmask %s, if it shall be mounted" % os.path.basename(path)
    return StorageError("conflict", "%s is masked" % path, hint)


def _plain(key: str, value: Any) -> Any:
    return ([part for part in value.split(",") if part] or ["defaults"]) if key == "options" else value
