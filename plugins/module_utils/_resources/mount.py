# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount: block device, image or bind; declared, persisted and live are one."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "mount", "mounts"
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "source": {"type": "raw", "aliases": ["src"]},
    "fstype": {"type": "str"},
    "options": {"type": "list", "elements": "str", "aliases": ["opts"]},
    "bind": {"type": "bool", "default": False},
    "recursive": {"type": "bool"},
    "read_only": {"type": "bool"},
    "propagation": {"type": "str", "choices": ["private", "slave", "shared"]},
    "persist": {"type": "str", "choices": ["fstab", "unit", "none"], "default": "fstab"},
    "fstab": {"type": "path", "default": "/etc/fstab"},
    "dump": {"type": "int"},
    "passno": {"type": "int", "no_log": False},
    "nofail": {"type": "bool"},
    "allow_unsafe_options": {"type": "list", "elements": "str"},
    "on_drift": {"type": "str", "choices": ["remount", "fail", "replace"], "default": "remount"},
    "state": {"type": "str", "choices": ["mounted", "unmounted", "present", "absent"], "default": "mounted"},
}
RULES: dict[str, Any] = {"required_if": [("state", "mounted", ["source"]), ("state", "present", ["source"])]}


def label(p: dict[str, Any]) -> str:
    return str(p["path"]).rstrip("/") or "/"


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    """The line; with ``present`` what is mounted."""
    path = names.path(p["path"])
    asked: list[tuple[str, Any]] = [("mount", path)] if p["state"] == "present" else []
    if p["persist"] != "none" and p["state"] != "unmounted":
        asked.append(("fstab", (names.path(p["fstab"], "fstab"), path)))
        asked += [("unit", path)] * (p["persist"] == "unit")
    return asked


def unit(p: dict[str, Any], look: Any, kind: str = KIND, said: Any = None) -> Unit:
    path = names.path(p["path"])
    fstab = names.path(p["fstab"], "fstab")
    state = p["state"]
    live: Any = None
    line: Any = None
    needs = [("above", path)]
    seen = look.look("mount", ()).get(path) if state == "present" else None
    if isinstance(seen, Exception):
        raise seen
    kept = p["persist"] != "none" and state != "unmounted"
    before = look.look("fstab", ()).get((fstab, path)) if kept else None
    unit_too = kept and (p["persist"] == "unit" or before is None or state == "absent")
    if unit_too:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_record

        before = mount_record.before(path, before, look)
    if state in ("mounted", "present"):
        live, line = (said or declared)(p, before)
        source = live["source"]
        needs += [("content", source), ("device", source)]
        needs += [("path", source)] if source.startswith("/") else []
        if p["recursive"] or (p["bind"] and names.within(source, path)):
            from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_line

            needs += mount_line.along(p, source, path, look.declared)
    elif str(p["source"]).startswith("/"):  # it goes before what it is of
        needs += [(kind, names.path(p["source"], "source")) for kind in ("content", "device", "path")]
    cells = []
    if kept:
        cells.append(Cell("fstab", (fstab, path), line))
    if unit_too:
        cells = mount_record.cells(p["persist"], path, cells[0], before, look)
    if state == "unmounted":
        cells.append(Cell("node", path, {"type": "directory"}, True))
    if state != "present":
        cells.append(Cell("mount", path, live))
    consents: dict[str, Any] = {"absent": True}
    if live is not None:
        consents = {"replace": p["on_drift"] == "replace", "change": p["on_drift"] != "fail"}
        consents.update(absent=consents["replace"], drift="mount")
    return Unit((kind, path), tuple(cells), tuple(needs), (("path", path),), consents=consents)


def declared(p: dict[str, Any], before: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The live mount, and its line. What is not declared stays."""
    source = str(p["source"])
    plain = source.startswith("/")
    if plain:
        source = names.path(source, "source")
    fstype = "none" if p["bind"] else p["fstype"]
    if fstype in (None, "", "tmpfs") or (
        not plain and (p["bind"] or source[:1] in "-" or any(c in source for c in " \t\n\\#"))
    ):
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_line

        raise mount_line.refused(source, fstype)
    live: dict[str, Any] = {"source": source, **({"bind": True} if p["bind"] else {"fstype": fstype})}
    # Options of another filesystem, or of a bind, mean nothing to this one.
    options = before["options"] if isinstance(before, dict) and before["fstype"] in (fstype, "auto") else ""
    own = ("options", "read_only", "propagation", "nofail", "recursive")
    if not options or any(p[option] is not None for option in own) or p["bind"] != ("bind" in options):
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_line

        fields, options = mount_line.of_mount(p, fstype, options)
        live.update(fields)
    if p["bind"]:
        live["recursive"] = "rbind" in options.split(",")
    line = {"source": source, "fstype": fstype, "options": options}
    line.update({field: p[field] for field in ("dump", "passno") if p[field] is not None})
    return live, line


def show(p: dict[str, Any], rows: Any, said: Any = None) -> dict[str, Any]:
    path = names.path(p["path"])
    found = rows["mount"].get(path) or {}
    found = found if p["bind"] else {**found, **found.get("_fs", {})}
    drift: list[str] = []
    done = rows["done"].get(("mount", path), [])
    if found and (done or p["state"] == "present"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_drift

        drift = mount_drift.named(found, (said or declared)(p)[0] if p["state"] == "present" else {}, done)
    line = rows["unit"].get(path) if p["persist"] == "unit" else rows["fstab"].get((names.path(p["fstab"]), path))
    read_only = found.get("read_only")  # of a bind it is its source's: UNKNOWN
    words = ["ro"] if read_only is True else ["rw"] if read_only is False else []
    words += [name for name in ("nosuid", "nodev", "noexec", "nodiratime") if found.get(name) is True]
    words += [found["atime"]] if isinstance(found.get("atime"), str) else []
    words += [k[2:] if v is True else "%s=%s" % (k[2:], v) for k, v in sorted(found.items()) if k.startswith("o:")]
    bound = found and p["bind"] and p["state"] == "mounted"  # that of a subvolume looks like a mount of its filesystem
    return {
        "path": path,
        "source": p["source"] if bound else found.get("source"),
        "fstype": None if bound else found.get("fstype"),
        "options": words,
        "persisted": line is not None,
        "drift": drift,
    }
