# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded memory filesystem: bytes and inodes, never unlimited."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, octal, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options

KIND, LIST = "tmpfs", "tmpfs"
PAGE = 4096
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "size": {"type": "str"},
    "inodes": {"type": "int"},
    "mode": {"type": "raw"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "noexec": {"type": "bool", "default": True},
    "noswap": {"type": "bool"},
    "options": {"type": "list", "elements": "str"},
    "persist": {"type": "str", "choices": ["fstab", "unit", "none"], "default": "fstab"},
    "state": {"type": "str", "choices": ["mounted", "unmounted", "absent"], "default": "mounted"},
}
RULES: dict[str, Any] = {"required_if": [("state", "mounted", ["size"])]}


def label(p: dict[str, Any]) -> str:
    return str(p["path"]).rstrip("/") or "/"


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    path = names.path(p["path"])
    kept = p["persist"] != "none" and p["state"] != "unmounted"
    unit_too = kept and p["persist"] == "unit"
    return [("mount", path)] + [("fstab", ("/etc/fstab", path))] * kept + [("unit", path)] * unit_too


def unit(p: dict[str, Any], look: Any) -> Unit:
    path = names.path(p["path"])
    seen = look.look("mount", [path]).get(path)
    there = seen if isinstance(seen, dict) else {}
    if there and there.get("fstype") != "tmpfs":
        text = "%s is a mount of %s, not a tmpfs" % (path, there.get("fstype", there.get("source")))
        raise StorageError("conflict", text, "unmount it with the mount module first")
    other = [each for each in there.get("over", ()) if not each.startswith("tmpfs ")]
    if other and p["state"] != "mounted":
        text = "%s is mounted over something that is no tmpfs: %s" % (path, ", ".join(other))
        raise StorageError("conflict", text, "unmount both with the mount module")
    line: Any = None
    live: Any = None
    kept = p["persist"] != "none" and p["state"] != "unmounted"
    before = look.look("fstab", ()).get(("/etc/fstab", path)) if kept else None
    unit_too = kept and (p["persist"] == "unit" or before is None or p["state"] == "absent")
    if unit_too:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_record

        before = mount_record.before(path, before, look)
    if p["state"] == "mounted":
        live, words = bounds(p)
        if kept:
            options = _line(p, live, words, there, before if isinstance(before, dict) else {})
            line = {"source": "tmpfs", "fstype": "tmpfs", "options": options}
    cells = [Cell("mount", path, live)]
    if kept:
        cells.insert(0, Cell("fstab", ("/etc/fstab", path), line))
    if unit_too:
        cells[:1] = mount_record.cells(p["persist"], path, cells[0], before, look)
    if p["state"] == "unmounted":
        cells.insert(0, Cell("node", path, {"type": "directory"}, True))
    return Unit(
        (KIND, path),
        tuple(cells),
        needs=(("above", path),),
        provides=(("path", path),),
        consents={"absent": p["state"] != "mounted"},
    )


def bounds(p: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The live mount, and the words of ``options``: every bound is digits, never text of the user's."""
    room = size.parse(p["size"], minimum=PAGE, unit=PAGE)
    inodes = p.get("inodes")
    if inodes is None:
        inodes = max(64, room // 16384)
    if not 2 <= inodes <= 2**31:
        raise StorageError("invalid", "inodes %r is not in 2..2147483648" % inodes, "leave it out for one per 16 KiB")
    fields, extra = mount_options.parse(p.get("options") or [], "tmpfs")
    for word in ("nosuid", "nodev"):
        if fields.get(word) is False:
            raise StorageError("invalid", "a tmpfs is always %s" % word, "leave the option out")
    live = {
        "source": "tmpfs", "fstype": "tmpfs", "nosuid": True, "nodev": True, "noexec": bool(p.get("noexec", True)),
        "o:size": room, "o:nr_inodes": inodes,
    }  # fmt: skip
    if p.get("mode") is not None:
        live["o:mode"] = octal.mode(p["mode"])
    for option, key in (("owner", "o:uid"), ("group", "o:gid")):
        if p.get(option) is not None:
            live[key] = p[option]
    if p.get("noswap"):
        live["o:noswap"] = True
    live.update(fields)
    return live, extra


def _line(p: dict[str, Any], live: dict[str, Any], extra: list[str], there: Any, before: dict[str, Any]) -> str:
    """Options of the line. What is not declared stays as it has it; a new line says how the mount stands, or begins."""
    old = before["options"] if before.get("fstype") == "tmpfs" else ""
    said = dict(live)
    if not old:
        stands = {k: v for k, v in there.items() if k in ("o:uid", "o:gid", "o:noswap") and v}
        said = {"o:mode": there.get("o:mode", 0o1777), **stands, **live}
    own: list[tuple[str, str | None]] = [("(no)?suid", "nosuid"), ("(no)?dev", "nodev")]
    own += [("(no)?exec", "noexec" if live["noexec"] else "")]
    for key, form in (("size", "%d"), ("nr_inodes", "%d"), ("mode", "%04o"), ("uid", "%s"), ("gid", "%s")):
        own.append((key + "=.*", key + "=" + form % said["o:" + key] if "o:" + key in said else None))
    own.append(("noswap", "noswap" if said.get("o:noswap") else None if p["noswap"] is None else ""))
    return mount_options.line(old, None if p["options"] is None else extra, own, ())


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    path = names.path(p["path"])
    found = rows["mount"].get(path) or {}
    return {
        "path": path,
        "size_bytes": found.get("o:size"),
        "inodes": found.get("o:nr_inodes"),
        "used_bytes": found.get("_used_bytes", 0) if found else None,
        "used_inodes": found.get("_used_inodes", 0) if found else None,
        "options": words_of(found),
    }


def words_of(found: dict[str, Any]) -> list[str]:
    """A live mount's options as words, in a stable order."""
    words = ["ro" if found.get("read_only") else "rw"] if found else []
    words += [name for name in ("nosuid", "nodev", "noexec", "nodiratime") if found.get(name)]
    words += [found["atime"]] if found.get("atime") else []
    for key in sorted(k for k in found if k.startswith("o:")):
        value = "%04o" % found[key] if key == "o:mode" and isinstance(found[key], int) else found[key]
        words.append(key[2:] if value is True else "%s=%s" % (key[2:], value))
    return words
