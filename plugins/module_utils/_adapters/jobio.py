# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a job may read and write: settings of its service, and whether the kernel goes by them.

systemd starts a service whose limit it could not set (systemd.resource-control(5)), with a word in its log. So what can
be known is asked before, and what the kernel says is read once it has started.
"""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cgroup_io, io_device, systemd_io
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_iochange import weightless
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import UNITS, unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

TMPFS = 0x01021994  # linux/magic.h
SLICE = io_device.CGROUPS + "/bulkhead.slice/bulkhead-jobs.slice/"
_LINE = re.compile(r"^(IO[A-Za-z]+)=(\S+) ([0-9]+)$", re.MULTILINE)


def refuse(io: dict[str, Any]) -> StorageError | None:
    """What speaks against it before anything is made. A path that is not there yet may come with the plan."""
    problem = cgroup_io.unusable(io_device.CGROUPS)
    if problem is not None or io["source"] is None:
        return problem
    try:
        found = io_device.Devices().find(io["source"])
    except StorageError as error:
        return error if error.code != "not_found" else None
    return weightless(io_device.CGROUPS, found.number, io["limits"])


def unstable(source: str) -> StorageError | None:
    try:
        return io_device.unstable(source, io_device.Devices().find(source))
    except StorageError:
        return None  # ``refuse`` tells


def lines(io: dict[str, Any], volumes: list[dict[str, Any]]) -> list[str]:
    """Of its unit, once its volumes are attached: for the disk that is named, or for those that they lie on."""
    devices = io_device.Devices()
    places = [io["source"]] if io["source"] else [volume["at"] for volume in volumes]
    if not io["source"]:
        places = [place for place in places if io_device.filesystem(place) != TMPFS]
    numbers = dict.fromkeys(devices.find(place).number for place in places)
    if not numbers:
        text = "no volume of the job lies on a disk, so nothing would be limited"
        raise StorageError("not_enforced", text, "name a path or a device in io, or leave it out", option="io")
    for number in numbers:
        error = weightless(io_device.CGROUPS, number, io["limits"])
        if error is not None:
            raise error
    said = [
        (setting, io["limits"][key])
        for key, setting in systemd_io.SETTINGS.items()
        if io["limits"].get(key) is not None
    ]
    return ["%s=%s %d" % (setting, devices.path(number), value) for number in numbers for setting, value in said]


def held(target: str) -> StorageError | None:
    """Does the kernel hold a job that runs to what its unit says? One that has ended has no cgroup any more."""
    try:
        with open(os.path.join(UNITS, unit(target)), encoding="utf-8") as stream:
            said = _LINE.findall(stream.read())
    except FileNotFoundError:
        return None
    text = cgroup_io.read(SLICE + unit(target) + "/io.max") if said else None
    names = {setting: key for key, setting in systemd_io.SETTINGS.items() if key in cgroup_io.KEYS}
    rows = cgroup_io.parse(text or "")
    for setting, path, value in said:
        number = io_device.Devices().find(path).number
        now = rows.get(number, {}).get(names.get(setting, ""))
        if setting in names and now != int(value) and os.path.isdir(SLICE + unit(target)):
            problem = "%s of job %s for %s is %s, not %s" % (setting, target, path, now or "without a limit", value)
            return StorageError("not_enforced", problem, "journalctl -u " + unit(target))
    return None
