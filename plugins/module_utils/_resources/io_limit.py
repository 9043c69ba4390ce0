# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the processes of a slice, a unit or a cgroup may read and write one disk."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "io_limit", "io_limits"
BYTES, COUNTS = ("read_bps", "write_bps"), ("read_iops", "write_iops")
UNKNOWN_TO_THE_KERNEL = ("min_bps", "min_iops", "burst_bps", "burst_iops", "burst_seconds")
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "path": {"type": "path"},
    "device": {"type": "raw"},
    "slice": {"type": "str"},
    "cgroup": {"type": "path"},
    "read_bps": {"type": "str"},
    "write_bps": {"type": "str"},
    "read_iops": {"type": "int"},
    "write_iops": {"type": "int"},
    "weight": {"type": "int"},
    "min_bps": {"type": "str"},
    "min_iops": {"type": "int"},
    "burst_bps": {"type": "str"},
    "burst_iops": {"type": "int"},
    "burst_seconds": {"type": "int"},
    "persist": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {
    "mutually_exclusive": [("path", "device"), ("slice", "cgroup")],
    "required_if": [
        ("state", "present", ["path", "device"], True),
        ("state", "present", [*BYTES, *COUNTS, "weight", *UNKNOWN_TO_THE_KERNEL], True),
    ],
}
KEPT = ("/run/systemd/system", "/etc/systemd/system")  # until the next boot, and for good


def label(p: dict[str, Any]) -> str:
    return str(p["name"])


def _words() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit_words

    return io_limit_words


def unit_of(p: dict[str, Any]) -> str:
    """The unit of systemd that is limited, or the path of a cgroup that is none's.

    A dash in the name of a slice means a slice within another: in a name of ours it means nothing.
    """
    if p["slice"] is None and p["cgroup"] is None:
        return "bulkhead-%s.slice" % names.identifier(p["name"]).replace("-", "\\x2d")
    found: str = _words().unit_of(p)
    return found


def file_of(name: str, unit: str, persist: bool) -> str:
    return "%s/%s.d/60-bulkhead-io-%s.conf" % (KEPT[persist], unit, name)


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    return [("io_kept", names.identifier(p["name"]))]


def unit(p: dict[str, Any], look: Any) -> Unit:
    name = names.identifier(p["name"])
    kept = look.look("io_kept", [name]).get(name, ())
    source = None
    if p["path"] is not None or p["device"] is not None:
        source = names.path(p["path"] or p["device"], "path" if p["path"] else "device")
    needs: tuple[Any, ...] = () if source is None else (("device", source), ("path", source))
    where = unit_of(p)
    if p["state"] == "absent":
        return Unit((KIND, name), tuple(_words().removal(where, source, kept)), needs)
    value = {each: size.parse(p[each], each, 4096) if p[each] is not None else None for each in BYTES}
    value.update((each, p[each]) for each in (*COUNTS, "weight"))
    for each in (*COUNTS, "weight", *UNKNOWN_TO_THE_KERNEL):
        if p[each] is not None:
            _words().refuse(each, p[each])
    cells = [Cell("io_max", (where, source), value)]
    if where[0] == "/":
        _words().until_the_next_boot(where, p)
    else:
        file = file_of(name, where, p["persist"])
        cells.insert(0, Cell("io_dropin", (file, source), {**value, "intact": True}))
        if any(each[0] != file or elsewhere(each[0], source, look) for each in kept):
            cells += _words().left(file, where, source, kept, look)
    consents = {"allow_unstable_device": bool(p.get("allow_unstable_device"))}
    return Unit((KIND, name), tuple(cells), needs, consents=consents)


def elsewhere(file: str, source: Any, look: Any) -> bool:
    """Is what a drop-in limits another disk than the declared one is now?"""
    row = look.look("io_dropin", [(file, source)]).get((file, source))
    return isinstance(row, dict) and bool(row["_elsewhere"])


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    where, source = unit_of(p), p["path"] or p["device"]
    spot = (where, source and names.path(source))
    found = rows.get("io_max", {}).get(spot) or {}
    live = found and not found.get("_idle")
    applied = {each: found.get(each) for each in (*BYTES, *COUNTS, "weight")} if live else None
    return {
        "name": p["name"],
        "device": found.get("_device"),
        "slice": None if where[0] == "/" else where,
        "cgroup": found.get("_cgroup"),
        "applied": applied,
    }
