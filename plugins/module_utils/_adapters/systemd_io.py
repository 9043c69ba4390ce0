# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of drop-ins that hold limits of I/O for units of systemd (systemd.resource-control(5)): files of our own.

Those of others are never touched. One in /run/systemd/system lasts until the next boot.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable, Iterable, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import io_device, systemd_names
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, state_of

Target = Tuple[str, str]  # file, and a device or a path on one
FOLDERS = ("/run/systemd/system", "/etc/systemd/system")
LOADED = "/run/systemd/systemd-units-load"
SETTINGS = {
    "read_bps": "IOReadBandwidthMax",
    "write_bps": "IOWriteBandwidthMax",
    "read_iops": "IOReadIOPSMax",
    "write_iops": "IOWriteIOPSMax",
    "weight": "IODeviceWeight",
}
_HEAD = "# Of bulkhead.storage, which replaces this file as a whole: %s\n"
_FILE = re.compile(r"(.*)/(.*)\.d/60-bulkhead-io-(.*)\.conf", re.DOTALL)
EARLY = ("-.slice", "system.slice", "init.scope")  # udev itself runs in them: they cannot wait for a device


class Kept:
    """Port ``io_kept``: name of a limit -> ``((file, unit, device), ...)`` of its drop-ins. It is only looked at."""

    name, behind = "io_kept", False

    def __init__(self, folders: tuple[str, ...] = FOLDERS) -> None:
        self.folders = folders

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        folders = [folder + "/" + entry for folder in self.folders for entry in _entries(folder)]
        places = [folder for folder in folders if folder.endswith(".d")]
        rows: dict[str, Any] = {}
        for name in targets or ():
            found = []
            for place in places:
                file = "%s/60-bulkhead-io-%s.conf" % (place, name)
                text = read(file)
                if text is not None:
                    found.append((file, unit_of(file), str(record(text).get("device", ""))))
            if found:
                rows[name] = tuple(found)
        return rows


class Dropins:
    """Port ``io_dropin``: (file, device or path) -> the limits that it sets, and ``intact``.

    ``intact``: the file is as we write it, for the disk that the path lies on now, and systemd has read it.
    """

    name, behind, slow = "io_dropin", True, False

    def __init__(self, run: Callable[..., Any] | None = None, booted: str = FOLDERS[0], loaded: str = LOADED) -> None:
        self.run, self.booted, self.loaded = run, booted, loaded
        self.written: dict[str, dict[str, Any]] = {}  # what systemd has to be asked about, by file
        self.stale = False
        self.declared: set[Target] = set()
        self.missing: set[Target] = set()
        self.found: dict[Target, io_device.Found] = {}

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        if targets is None:
            raise StorageError("unsupported", "limits of I/O are looked up by slice and device only")
        devices = io_device.Devices()
        rows: dict[Target, Any] = {}
        for target in targets:
            try:
                row = self.row(target, devices)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def row(self, target: Target, devices: io_device.Devices) -> Any:
        text = read(target[0])
        self.missing.discard(target)
        self.found.pop(target, None)
        try:
            self.found[target] = devices.find(target[1])
        except StorageError as error:  # port io_max tells what is wrong with it, where it is declared
            if error.code == "not_found":
                self.missing.add(target)
        if text is None:
            return None
        kept = record(text)
        limits, device = kept.get("limits", {}), kept.get("device", "")
        now = self.found.get(target)
        here = now is not None and device and _number(devices, device) == now.number
        whole = bool(device) and text == render(unit_of(target[0]), device, limits) and self.heard(target[0])
        row = {key: limits.get(key) for key in SETTINGS}
        return {**row, "intact": bool(here and whole), "_elsewhere": not here, "_device": device, "_text": text}

    def heard(self, file: str) -> bool:
        """Has systemd read its files since? A run that was killed before it said so leaves one that does not count.

        The file that tells is touched by each daemon-reload, from systemd 250 on.
        """
        try:
            return self.stale or os.stat(self.loaded).st_mtime_ns > os.stat(file).st_mtime_ns
        except FileNotFoundError:
            return True

    def resolve(self, target: Target, declared: Any) -> Any:
        self.declared.add(target)
        return declared

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        return bool(state_of(now) == declared)

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        return {**declared, "_missing": target[1]} if target in self.missing else declared

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def unstable(self, target: Target) -> StorageError | None:
        """What takes ``allow_unstable_device``."""
        found = self.found.get(target) if target in self.declared else None
        return io_device.unstable(target[1], found) if found is not None else None

    def refuse(self, target: Target, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None or target not in self.found:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_iochange

        return systemd_iochange.refusal(self, target, before, after, gone)

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_iochange

        systemd_iochange.put(self, target, before, after)

    def flush(self) -> None:
        """systemd goes by what it has read: it must hear of it, and say the same."""
        if self.stale and os.path.isdir(self.booted):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_iochange

            systemd_iochange.reload(self)


def unit_of(file: str) -> str:
    found = _FILE.fullmatch(file)
    if found is None:
        raise StorageError("invalid", "%s is not a drop-in of ours" % file)
    return found.group(2)


def record(text: str) -> dict[str, Any]:
    """What the first line tells; {} where somebody wrote another."""
    first = text.partition("\n")[0]
    try:
        found = json.loads(first[len(_HEAD) - 3 :])
    except ValueError:
        return {}
    good = isinstance(found, dict) and isinstance(found.get("limits"), dict) and isinstance(found.get("device"), str)
    return found if good else {}


def render(unit: str, device: str, limits: dict[str, Any]) -> str:
    """``Requires=``: where the device is missing at boot, the unit does not start without its limit."""
    said = {key: limits[key] for key in SETTINGS if limits.get(key) is not None}
    lines = [_HEAD.rstrip("\n") % json.dumps({"device": device, "limits": said}, sort_keys=True)]
    if unit not in EARLY:
        node = systemd_names.escape(device) + ".device"
        lines += ["[Unit]", "Requires=" + node, "After=" + node]
    lines.append("[%s]" % unit.rpartition(".")[2].capitalize())
    lines += ["%s=%s %d" % (SETTINGS[key], device, value) for key, value in said.items()]
    return "\n".join(lines) + "\n"


def read(path: str) -> str | None:
    """None where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(error, "cannot read " + path) from error


def _number(devices: io_device.Devices, device: str) -> str:
    try:
        return devices.find(device).number
    except StorageError as error:
        if error.code == "not_found":
            return ""
        raise


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure(error, "cannot look into " + folder) from error
