# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount: block device, image or bind; declared, persisted and live are one declaration."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options

KIND, LIST = "mount", "mounts"
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "source": {"type": "str", "aliases": ["src"]},
    "fstype": {"type": "str"},
    "options": {"type": "list", "elements": "str", "aliases": ["opts"], "default": []},
    "bind": {"type": "bool", "default": False},
    "recursive": {"type": "bool", "default": False},
    "read_only": {"type": "bool"},
    "propagation": {"type": "str", "choices": ["private", "slave", "shared"]},
    "persist": {"type": "str", "choices": ["fstab", "none"], "default": "fstab"},
    "fstab": {"type": "path", "default": "/etc/fstab"},
    "dump": {"type": "int", "default": 0},
    "passno": {"type": "int", "default": 0, "no_log": False},
    "nofail": {"type": "bool", "default": False},
    "on_drift": {"type": "str", "choices": ["remount", "fail", "replace"], "default": "remount"},
    "state": {"type": "str", "choices": ["mounted", "unmounted", "present", "absent"], "default": "mounted"},
}
RULES: dict[str, Any] = {"required_if": [("state", "mounted", ["source"]), ("state", "present", ["source"])]}


def label(p: dict[str, Any]) -> str:
    return str(p["path"]).rstrip("/") or "/"


def unit(p: dict[str, Any], look: Any) -> Unit:
    path = names.path(p["path"])
    fstab = names.path(p["fstab"], "fstab")
    state = p["state"]
    live: Any = None
    line: Any = None
    needs = [("above", path)]
    if state in ("mounted", "present"):
        live, line = _declared(p)
        source = live["source"]
        needs += [("content", source), ("device", source)]
        needs += [("path", source)] if source.startswith("/") else []
    cells = []
    if p["persist"] == "fstab" and state != "unmounted":
        cells.append(Cell("fstab", (fstab, path), line))
    if state == "unmounted":
        cells.append(Cell("node", path, {"type": "directory"}, True))
    if state != "present":
        cells.append(Cell("mount", path, live))
    consents: dict[str, Any] = {"absent": True}
    if live is not None:
        consents = {"replace": p["on_drift"] == "replace", "change": p["on_drift"] != "fail"}
        consents["absent"] = consents["replace"]
    return Unit((KIND, path), tuple(cells), tuple(needs), (("path", path),), consents=consents)


def _declared(p: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    source = p["source"]
    if source.startswith("/"):
        source = names.path(source, "source")
    elif p["bind"] or any(c in source for c in " \t\n\\#"):
        raise StorageError("invalid", "source %.200r is not a path" % source, "write an absolute path, UUID= or LABEL=")
    fstype = "none" if p["bind"] else p["fstype"]
    if not fstype:
        raise StorageError(
            "invalid", "fstype is required for a mount that is no bind", "for example ext4", option="fstype"
        )
    if fstype == "tmpfs":
        raise StorageError("invalid", "a tmpfs has a module of its own", "use bulkhead.storage.tmpfs", option="fstype")
    fields, words = mount_options.parse(p["options"], fstype)
    if p["read_only"] is not None:
        fields["read_only"] = p["read_only"]
        words = [w for w in words if w not in ("ro", "rw")] + ["ro"] * p["read_only"]
    live = {"source": source, **fields}
    if p["bind"]:
        kind = "rbind" if p["recursive"] else "bind"
        live.update(bind=True, recursive=p["recursive"])
        words = [kind] + [w for w in words if w not in ("bind", "rbind")]
    else:
        live["fstype"] = fstype
    if p["propagation"] is not None:
        live["propagation"] = p["propagation"]
        words.append(p["propagation"])
    words += ["nofail"] * (p["nofail"] and "nofail" not in words)
    line = {"source": source, "fstype": fstype, "options": ",".join(words) or "defaults"}
    line.update(dump=p["dump"], passno=p["passno"])
    return live, line


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    path = names.path(p["path"])
    found = rows["mount"].get(path) or {}
    line = rows["fstab"].get((names.path(p["fstab"]), path))
    words = ["ro" if found.get("read_only") is True else "rw"] if found else []  # a bind's are UNKNOWN beforehand
    words += [name for name in ("nosuid", "nodev", "noexec", "nodiratime") if found.get(name) is True]
    words += [found["atime"]] if isinstance(found.get("atime"), str) else []
    words += [k[2:] if v is True else "%s=%s" % (k[2:], v) for k, v in sorted(found.items()) if k.startswith("o:")]
    return {
        "path": path,
        "source": found.get("source"),
        "fstype": found.get("fstype"),
        "options": words,
        "persisted": line is not None,
        "drift": [],
    }
