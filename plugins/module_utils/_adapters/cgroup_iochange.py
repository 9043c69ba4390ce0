# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing io.max and io.weight, and reading back what the kernel made of it. Loaded only where a limit differs."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cgroup_io, io_device
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of


def weightless(root: str, number: str, after: dict[str, Any]) -> StorageError | None:
    """A weight is a number in a file unless BFQ schedules the disk or io.cost accounts for it."""
    if after.get("weight") is None or "[bfq]" in io_device.attribute(number, "queue/scheduler"):
        return None
    costs = cgroup_io.read(root + "/io.cost.qos") or ""
    if re.search(r"^%s .*\benable=1\b" % re.escape(number), costs, re.MULTILINE):
        return None
    text = "the kernel shares out disk %s by no weight, neither by BFQ nor by io.cost" % number
    hint = "block_device with scheduler: bfq, or io.cost.qos with enable=1"
    return StorageError("not_enforced", text, hint, option="weight")


def put(port: Any, target: Any, before: Any, after: Any) -> None:
    devices = io_device.Devices()
    now = port.row(target, devices)
    if (now and state_of(now)) != (before and state_of(before)):
        raise StorageError("moved", "the limit of %s for %s changed since it was read" % target, "run it again")
    found, folder = port.found[target], port.folder(target[0])
    if after is None:
        _write(folder, found.number, {**dict.fromkeys(cgroup_io.KEYS), "weight": None}, now)
        left = port.row(target, devices)
        if left is not None:
            raise StorageError("not_enforced", "the kernel keeps %r for %s" % (state_of(left), target[1]))
        return
    if not os.path.exists(folder + "/io.max"):
        _turn_on(target[0], folder)
    if not os.path.isdir(folder):
        return  # the unit ended meanwhile, and finds its limit when it starts
    _write(folder, found.number, after, port.seen[target] if now is None else now)
    seen = port.row(target, devices)
    if seen is None or not port.same(target, seen, after):
        text = "%s shows %r for disk %s" % (folder, seen and state_of(seen), found.number)
        raise StorageError("not_enforced", text, "does something else write there?")


def _turn_on(where: str, folder: str) -> None:
    """Of a unit that runs systemd has been told, but turns the controller on only when it starts something there.

    What it wants from then on is what is done here, so it never turns it off behind our back.
    """
    if where[0] != "/":
        above = io_device.CGROUPS
        for part in folder[len(above) + 1 :].split("/"):
            if "io" not in (cgroup_io.read(above + "/cgroup.subtree_control") or "").split():
                _one(above + "/cgroup.subtree_control", "+io")
            above += "/" + part
    if os.path.isdir(folder) and not os.path.exists(folder + "/io.max"):
        text = "the io controller is not turned on for %s" % folder
        raise StorageError("unsupported", text, "who owns the cgroup above writes +io to cgroup.subtree_control")


def _write(folder: str, number: str, limits: dict[str, Any], now: dict[str, Any]) -> None:
    words = ["%s=%s" % (k, "max" if limits[key] is None else limits[key]) for key, k in cgroup_io.KEYS.items()]
    _one(folder + "/io.max", " ".join([number, *words]))
    weight = cgroup_io.bfq(limits["weight"]) if now["_bfq"] else limits["weight"]
    if weight is not None or now.get("weight") is not None:
        file = "/io.bfq.weight" if now["_bfq"] else "/io.weight"
        _one(folder + file, "%s %s" % (number, "default" if weight is None else weight))


def _one(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise failure(error, "cannot write %s to %s" % (text, path)) from error
