# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some limits say: another slice or cgroup, a weight. What is refused, and what is left of an earlier one."""

from __future__ import annotations

import re
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.(slice|service|scope|socket|mount|swap)", re.ASCII)
_CGROUPS = "/sys/fs/cgroup"
_WHY_NOT = {
    "min": "the kernel has no floor for a rate, io.latency knows only a time and io.weight only a share",
    "burst": "io.max has no burst, the kernel evens out a rate over fractions of a second by itself",
}


def unit_of(p: dict[str, Any]) -> str:
    if p["slice"] is not None:
        return _named(p["slice"])
    path = names.path(p["cgroup"], "cgroup")
    if not names.within(path, _CGROUPS) or path == _CGROUPS:
        text = "cgroup %s is not beneath %s" % (path, _CGROUPS)
        raise StorageError("invalid", text, "for example %s/tenants.slice" % _CGROUPS, option="cgroup")
    *above, last = path[len(_CGROUPS) + 1 :].split("/")
    delegated = any(not each.endswith(".slice") for each in above)  # whose systemd is not the one of the host
    return path if delegated or not _UNIT.fullmatch(last) else _named(last)


def _named(name: str) -> str:
    if not _UNIT.fullmatch(name) or "@." in name:
        text = "slice %.200r is not a unit of systemd that can be limited" % name
        raise StorageError("invalid", text, "such as tenants.slice or backup.service", option="slice")
    if name == "-.slice":
        text = "%s is the root of all cgroups, which the kernel does not limit" % name
        raise StorageError("unsupported", text, "limit system.slice or another slice beneath", option="slice")
    stem = name[:-6]
    if name.endswith(".slice") and (stem[:1] == "-" or stem[-1:] == "-" or "--" in stem):
        text = "slice %.200r is not a name that systemd takes" % name
        raise StorageError("invalid", text, "a dash stands between a slice and one within it", option="slice")
    return name


def refuse(option: str, value: Any) -> None:
    """A count or weight that the kernel would not take, and what it has no such thing as."""
    why = _WHY_NOT.get(option.partition("_")[0])
    if why is not None:
        raise StorageError("unsupported", "%s: %s" % (option, why), "leave it out", option=option)
    most = 10000 if option == "weight" else 2**32 - 2
    if not 1 <= value <= most:
        text = "%s %d is not in 1..%d" % (option, value, most)
        raise StorageError("invalid", text, "leave it out for no limit" if "iops" in option else "", option=option)


def until_the_next_boot(path: str, p: dict[str, Any]) -> None:
    if p["persist"]:
        text = "%s is not the cgroup of a unit of this host's systemd, so nothing sets its limits again" % path
        raise StorageError("unsupported", text, "set persist: false, or name a slice", option="persist")


def removal(where: str, source: Any, kept: Any) -> Iterator[Cell]:
    """Everything that is kept under the name. A cgroup that is no unit's has nothing but its own limits."""
    for file, _unit, device in kept:
        yield Cell("io_dropin", (file, device), None)
    for unit, device in sorted({each[1:] for each in kept if each[2]}):
        yield Cell("io_max", (unit, device), None)
    if where[0] == "/":
        if source is None:
            text = "which device of %s shall not be limited any more?" % where
            raise StorageError("invalid", text, "name its device or a path on it", option="device")
        yield Cell("io_max", (where, source), None)


def left(file: str, where: str, source: str, kept: Any, look: Any) -> Iterator[Cell]:
    """What an earlier declaration of the name left in another place, or on the disk that it had then."""
    for other, _unit, device in kept:
        if other != file:
            yield Cell("io_dropin", (other, device), None)
    live = {each[1:] for each in kept if each[1] != where or io_limit.elsewhere(each[0], source, look)}
    for spot in sorted(each for each in live if each[1]):
        yield Cell("io_max", spot, None)
