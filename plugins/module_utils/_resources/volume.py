# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A named volume over a pool: its record stands at the bottom, so that whatever exists is always known."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, octal, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place, tmpfs

KIND, LIST = "volume", "volumes"
MEMORY = pool_place.BASE + "/memory"
# The least a backend can hold: a page of tmpfs, a file, an ext4 with its journal.
MINIMUM = {"memory": 4096, "directory": 4096, "btrfs": 65536}
FORMATTED = ("loop", *pool_place.GROUPS)  # they have a filesystem of their own, and are mounted while attached
IMAGE = {"ext4": 1 << 20, "xfs": 300 << 20, "btrfs": 109 << 20}
_SOURCE = {
    "type": {"type": "str", "choices": ["empty", "clone", "snapshot", "image", "url"], "default": "empty"},
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "url": {"type": "str"},
    "checksum": {"type": "str"},
}
_QOS: tuple[str, ...] = ("read_bps", "write_bps", "read_iops", "write_iops", "min_iops", "min_bps")
_QOS += ("burst_iops", "burst_bps", "burst_seconds")
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "pool": {"type": "str"},
    "type": {"type": "str", "choices": ["filesystem", "memory", "block"]},
    "size": {"type": "str"},
    "provisioning": {"type": "str", "choices": ["thin", "thick"]},
    "source": {"type": "dict", "options": _SOURCE},
    "fstype": {"type": "str", "choices": ["ext4", "xfs", "btrfs"]},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "labels": {"type": "dict"},
    "qos": {"type": "dict", "options": {name: {"type": "str"} for name in _QOS}},
    "encrypted": {"type": "bool"},
    "tenant": {"type": "str"},
    "sharing": {"type": "str", "choices": ["exclusive", "read_only", "read_write"]},
    "scope": {"type": "str", "choices": ["job", "host"]},
    "job": {"type": "str"},
    "target": {"type": "path"},
    "read_only": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "allow_shrink": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent", "attached", "detached"], "default": "present"},
}
FILTERS = {**{name: {"type": "str"} for name in ("name", "namespace", "pool", "job")}, "labels": {"type": "dict"}}
RULES: dict[str, Any] = {}


def label(p: dict[str, Any]) -> str:
    return "%s/%s" % (p["namespace"], p["name"])


def _words() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_words

    return volume_words


def _lvm() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_lvm

    return volume_lvm


def _nfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_nfs

    return volume_nfs


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    names.identifier(p["namespace"], "namespace")
    names.identifier(p["name"])
    home = names.identifier(p["pool"] or "default", "pool")
    wanted: list[tuple[str, Any]] = [("record", ("volume", label(p))), ("record", ("pool", home))]
    if p["state"] == "absent":
        wanted.append(("record", ("snapshots", label(p))))
    if (p["source"] or {}).get("name"):
        wanted.append(("record", _words().origin(p)))
    return wanted


def unit(p: dict[str, Any], look: Any) -> Unit:
    key = label(p)
    record = look.look("record", [("volume", key)]).get(("volume", key))
    if isinstance(record, StorageError):
        raise record
    gone = p["state"] in ("absent", "detached") or (p["state"] == "used" and not _used(p, {}))
    if gone and record is None:
        return Unit((KIND, key), (Cell("record", ("volume", key), None),), provides=(("volume", key),))
    before = (record or {}).get("attachments", {})
    if p["state"] == "absent":  # what it should have been like does not matter any more
        _fixed(p, record, "pool", "")
        _words().unburdened(key, look)
        users = sorted(_used(p, before))
        if users and not p["force"]:
            text = "the volume is attached to %s" % ", ".join(users)
            raise StorageError("in_use", text, "detach it, or force: true", users=users)
        row, after = record, {}
    else:
        row = recorded(p, record, look)
        after = row["attachments"]
    origin = [_words().clonable(p, row, look)] if record is None and clones(p) else []
    cells = [Cell("record", ("volume", key), None if p["state"] == "absent" else row)]
    cells += _body(p, record or row, row, key)
    if row["backend"] == "nfs":
        cells += _nfs().body(key, {**(record or {}), **row}, look, p["state"] == "absent")
    cells += _attachments(row, before, after, p)
    needs = [("pool", row["pool"])] + [("above", row["path"])] * bool(row["path"])
    if "device" in row:
        needs.append(("vg", row["device"].split("/")[2]))
    needs += origin
    targets = sorted({a["target"] for a in (*before.values(), *after.values()) if a["target"]})
    needs += [("above", target) for target in targets]
    provides = [("volume", key)] + [("path", path) for path in (row["path"], *targets, row.get("device")) if path]
    leaving = p["state"] in ("absent", "detached") or bool(set(before) - set(after))  # a job that lets go of it
    consents = {"absent": leaving, "allow_shrink": p["allow_shrink"], "replace": False}
    lent = p["state"] == "used" and bool(set(after) - set(before))  # to jobs that are to begin
    return Unit((KIND, key), tuple(cells), tuple(needs), tuple(provides), consents=consents, lent=lent)


# -- the record ----------------------------------------------------------------------------------------------------


def recorded(p: dict[str, Any], record: Any, look: Any) -> dict[str, Any]:
    """What the catalogue will hold. Existing volumes are compared on declared options only."""
    old = record or {}
    for option, why in (("qos", "needs a cgroup v2 io controller"), ("encrypted", "needs LUKS")):
        if p[option]:
            raise StorageError(
                "unsupported", "%s of a volume is not supported yet: it %s" % (option, why), "leave it out"
            )
    kind = _fixed(p, old, "type", "filesystem")
    place: dict[str, Any] = {"backend": "memory", "path": ""}
    home = _fixed(p, old, "pool", "" if kind == "memory" else "default")
    if kind == "memory" and home:
        raise StorageError("invalid", "a memory volume has no pool", "leave pool out", option="pool")
    if kind == "memory" and clones(p):
        raise StorageError("unsupported", "a memory volume begins empty", "leave source out", option="source")
    if kind != "memory":
        place = pool_place.known(home, look)
        if place["backend"] == "memory":
            raise StorageError("unsupported", "pool %s holds memory volumes only" % home, "say type: memory")
    backend = old.get("backend") or place["backend"]
    if kind == "block" and backend not in pool_place.GROUPS:
        text = "volumes of type block are not supported yet by backend %s" % backend
        raise StorageError("unsupported", text, "use a pool with backend: lvm or iscsi, or type: filesystem")
    bytes_ = _size(p, old, place, backend)
    if old and bytes_ < old["size"] and backend in ("btrfs", "directory"):
        _words().fits(bytes_, ("project", old["path"]), look)
    scope = _fixed(p, old, "scope", "job")
    row: dict[str, Any] = {
        "pool": home,
        "backend": backend,
        "type": kind,
        "size": bytes_,
        "path": old.get("path", _path(p, place, kind, scope)),
        "attachments": _used(p, _holders(p, old), p["sharing"] or old.get("sharing", "read_write")),
        "mode": octal.mode(p["mode"]) if p["mode"] is not None else old.get("mode", 0o750),
        "scope": scope,
        "sharing": p["sharing"] or old.get("sharing", "read_write"),
        "labels": _labels(p["labels"]) if p["labels"] is not None else old.get("labels", {}),
    }
    for option in ("owner", "group"):
        row[option] = p[option] if p[option] is not None else old.get(option, "0")
    if backend in pool_place.GROUPS:
        row.update(_lvm().recorded(p, old, place, row, look))
    if backend == "nfs" and not old and clones(p):
        row["clone_of"] = _words().source(p, row)["source"]
    if backend in FORMATTED and kind != "block":
        row["fstype"] = _fixed(p, old, "fstype", "ext4")
        row["provisioning"] = _fixed(p, old, "provisioning", row.get("provisioning", "thin"))
        if old and bytes_ != old["size"] and row["fstype"] != "ext4":
            _words().resizable(row["fstype"], bytes_, old)
    elif p["fstype"]:
        raise StorageError("invalid", "fstype has no meaning for backend %s" % backend, "leave it out", option="fstype")
    elif p["provisioning"] == "thick":
        raise StorageError("unsupported", "backend %s has no thick provisioning" % backend, "leave it out")
    if kind != "memory" and bytes_ > old.get("size", 0):
        _words().room(p, place, home, look, record is None)
        if backend in pool_place.GROUPS:
            _lvm().roomy(row, bytes_ - old.get("size", 0), look)
    if record is None and backend in ("directory", "btrfs") and pool_place.choose(place["path"], look) != backend:
        text = "pool %s lies where the size of a %s volume cannot be enforced" % (home, backend)
        raise StorageError("not_enforced", text, "use a pool with backend: auto", pool=home)
    return row


def _fixed(p: dict[str, Any], old: dict[str, Any], option: str, default: str) -> str:
    """An option that is chosen at creation; asking for another one later is a conflict."""
    if p[option] is not None and old and p[option] != old.get(option):
        text = "%s of the volume is %r and cannot become %r" % (option, old.get(option), p[option])
        raise StorageError("conflict", text, "make a new volume with source: {type: clone}", option=option)
    return str(old.get(option, default) if p[option] is None else p[option])


def _size(p: dict[str, Any], old: dict[str, Any], place: dict[str, Any], backend: str) -> int:
    if p["size"] is None:
        if not old and p["state"] in ("attached", "used"):
            raise StorageError("not_found", "there is no such volume", "declare its size to create it")
        if not old:
            raise StorageError("invalid", "size is required to create a volume", "for example 10GiB", option="size")
        return int(old["size"])
    bare = backend not in FORMATTED or (p["type"] or old.get("type")) == "block"
    least = MINIMUM.get(backend, 4096) if bare else IMAGE[_fixed(p, old, "fstype", "ext4")]
    bytes_ = size.parse(p["size"], minimum=least, unit=place.get("extent", 4096))
    most = place.get("max_volume_size")
    if most and bytes_ > most and bytes_ > old.get("size", 0):
        text = "size %s is more than the pool's max_volume_size %s" % (size.human(bytes_), size.human(most))
        raise StorageError(
            "limit_exceeded", text, "ask for less, or raise max_volume_size of the pool", max_volume_size=most
        )
    if old and bytes_ < old["size"] and not p["allow_shrink"]:
        text = "size would shrink from %s to %s" % (size.human(old["size"]), size.human(bytes_))
        raise StorageError("would_shrink", text, "set allow_shrink: true once the content is known to fit")
    return bytes_


def _path(p: dict[str, Any], place: dict[str, Any], kind: str, scope: str) -> str:
    if kind == "memory":
        return names.join(MEMORY, p["namespace"], p["name"]) if scope == "host" else ""
    if kind == "block":
        return ""
    return names.join(place["path"], p["namespace"], p["name"])


def _labels(labels: dict[str, Any]) -> dict[str, str]:
    for name, value in labels.items():
        if not isinstance(name, str) or len(name) > 63 or not isinstance(value, (str, int)) or len(str(value)) > 255:
            raise StorageError(
                "invalid", "label %.80r: %.80r is not text" % (name, value), "at most 63 and 255 characters"
            )
    return {name: str(value) for name, value in labels.items()}


def _holders(p: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Who has it attached, and where."""
    holders = dict(old.get("attachments", {}))
    holder = names.identifier(p["job"], "job") if p["job"] is not None else "host"
    if p["job"] == "host":
        raise StorageError("invalid", "job 'host' is the host itself", "leave job out", option="job")
    target = names.path(p["target"], "target") if p["target"] is not None else ""
    if p["state"] == "attached":
        scoped = (p["type"] or old.get("type"), p["scope"] or old.get("scope", "job"))
        if scoped == ("memory", "job") and not target:
            text = "a memory volume of scope job needs a target"
            raise StorageError("invalid", text, "where to mount it", option="target")
        holders[holder] = {"target": target, "read_only": p["read_only"]}
    elif p["state"] == "detached":
        if p["job"] is None and p["target"] is None:
            holders = {}
        elif p["job"] is not None:
            holders.pop(holder, None)
        else:
            holders = {name: held for name, held in holders.items() if held["target"] != target}
    if p["state"] == "attached" or p["sharing"]:
        _share(p["sharing"] or old.get("sharing", "read_write"), holders, holder if p["state"] == "attached" else "")
    return holders


def _used(p: dict[str, Any], holders: dict[str, Any], sharing: str = "") -> dict[str, Any]:
    """Who has it attached, with the jobs that are declared beside it: how each has it, or None where it lets go."""
    jobs = p.get("_jobs", {})
    found = {name: held for name, held in {**holders, **jobs}.items() if held is not None}
    for name in jobs if sharing else ():
        if name in found:
            _share(sharing, found, name)
    return found


def _share(sharing: str, holders: dict[str, Any], comes: str) -> None:
    """Whoever will have it counts, not only who comes now."""
    others = sorted(set(holders) - {comes})
    if sharing == "exclusive" and len(holders) > 1:
        text = "the volume is exclusive and attached to %s" % ", ".join(others)
        raise StorageError("in_use", text, "detach it first", users=others)
    writers = sorted(name for name, held in holders.items() if not held["read_only"])
    if sharing == "read_only" and comes in writers:
        raise StorageError("denied", "the volume is shared read-only", "attach it with read_only: true")
    if sharing == "read_only" and writers:
        text = "the volume is shared read-only, and %s may write" % ", ".join(writers)
        raise StorageError("in_use", text, "detach it, or attach it with read_only: true", users=writers)


# -- the body ------------------------------------------------------------------------------------------------------


def _body(p: dict[str, Any], old: dict[str, Any], row: dict[str, Any], key: str) -> list[Cell]:
    """What holds the bytes, bottom first."""
    if row["backend"] == "memory":
        return []
    path, gone = row["path"], p["state"] == "absent"
    cells = pool_place.base(path)
    if pool_place.DEFAULT["path"] != path and names.within(path, pool_place.DEFAULT["path"]):
        cells.append(Cell("node", pool_place.DEFAULT["path"], {"type": "directory", "mode": 0o711}, True))
    source = _words().source(p, row) if not gone and clones(p) and row["backend"] != "nfs" else {}
    if row["backend"] in pool_place.GROUPS:
        return [*cells, *_lvm().body(row, source, gone)]
    if row["backend"] == "loop":
        image = path + ".img"
        body = {"type": "file", "size": row["size"], "owner": "0", "group": "0", "mode": 0o600}
        body.update(thick=row["provisioning"] == "thick", **source)
        block = {"fstype": row["fstype"], "size": row["size"]}
        cells.append(Cell("node", image, None if gone else body))
        # What a killed run had begun to do with an image is no consent for whatever bears its name later.
        return cells + [Cell("record", ("intent", image), None) if gone else Cell("superblock", image, block)]
    kind = "subvolume" if row["backend"] == "btrfs" else "directory"
    body = {"type": kind, "owner": row["owner"], "group": row["group"], "mode": row["mode"], **source}
    cells.append(Cell("data", path, None if gone else body))
    if row["backend"] == "nfs":
        return cells
    cells.append(Cell("quota", ("project", path), None if gone else {"hard": row["size"]}))
    return cells


def clones(p: dict[str, Any]) -> bool:
    return bool((p["source"] or {}).get("type", "empty") != "empty")


# -- the mounts ----------------------------------------------------------------------------------------------------


def _attachments(row: dict[str, Any], before: Any, after: Any, p: dict[str, Any]) -> list[Cell]:
    """Mounts: the volume's own while anybody has it, and a bind for each target."""
    cells: list[Cell] = []
    path, memory = row["path"], row["backend"] == "memory"
    own: Any = None
    if after and (memory or row["backend"] in FORMATTED):
        source = row.get("device") or path + ".img"
        own = {"source": source, "fstype": row.get("fstype"), "nosuid": True, "nodev": True}
        if row.get("nouuid"):
            own["o:nouuid"] = True
        if memory:
            bounds = {
                "size": str(row["size"]),
                "mode": "%04o" % row["mode"],
                "owner": row["owner"],
                "group": row["group"],
            }
            own = tmpfs.bounds({**bounds, "noexec": False})[0]
    targets = sorted({held["target"] for held in after.values()} - {""})
    if any(names.within(target, pool_place.JOBS) for target in targets):
        cells.append(pool_place.shelf())
    # Their folders first: they lie elsewhere than behind the mounts of this volume, which would hide them.
    cells += [Cell("node", target, {"type": "directory"}, True) for target in targets]
    if path and (memory or row["backend"] in FORMATTED):
        cells.append(Cell("mount", path, {**own, "_bare": True} if own else None))  # nobody named that path
        if own and not memory:
            cells.append(
                Cell(
                    "mounted",
                    path,
                    {"type": "directory", "owner": row["owner"], "group": row["group"], "mode": row["mode"]},
                )
            )
    for holder in sorted(set(before) | set(after)):
        old, new = before.get(holder, {}), after.get(holder, {})
        for target in sorted({old.get("target"), new.get("target")} - {None, ""}):
            bind: Any = None
            if new.get("target") == target:
                bind = {"source": path, "bind": True, "read_only": new["read_only"], "nosuid": True, "nodev": True}
                if memory and not path:
                    bind = {**own, "read_only": new["read_only"]}
            cells.append(Cell("mount", target, bind))
    return cells


# -- what is shown -------------------------------------------------------------------------------------------------


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    return describe(p["namespace"], p["name"], rows["record"].get(("volume", label(p))), rows)


def describe(namespace: str, name: str, row: Any, rows: Any) -> dict[str, Any]:
    row = row or {}
    path = row.get("path") or ""
    holders = row.get("attachments", {})
    limit = rows.get("quota", {}).get(("project", path)) or {}
    mount = rows.get("mount", {}).get(path or next((h["target"] for h in holders.values()), "")) or {}
    usage = limit if limit else mount
    if "device" in row:
        usage = _lvm().usage(row, rows.get("lv", {}))
    if row.get("backend") == "nfs":
        usage = _nfs().usage(rows.get("fsinfo", {}).get(path))
    backend = row.get("backend", "")
    enforced = None if backend in ("directory", "btrfs") else pool_place.ENFORCED.get(backend)
    status = ("in_use" if holders else "ready") if row else "absent"
    if any(not rows.get("mount", {}).get(place) for place in _places(row)):
        status = "error"  # as after a reboot: whoever has it would write into the bare directory
    return {
        "name": name,
        "namespace": namespace,
        "id": row.get("id"),
        "pool": row.get("pool"),
        "type": row.get("type"),
        "size_bytes": row.get("size"),
        "path": path or mount.get("path") or next((h["target"] for h in holders.values()), None) or None,
        "device": row.get("device") or mount.get("_device"),
        "status": status,
        "labels": row.get("labels", {}),
        "created_at": row.get("created_at"),
        "last_used": row.get("last_used"),
        "job_ids": sorted(holder for holder in holders if holder != "host"),
        "usage": {"bytes": usage.get("_used_bytes"), "inodes": usage.get("_used_inodes")},
        "enforced_by": enforced or (limit.get("_enforced_by") if limit else None),
    }


def _places(row: dict[str, Any]) -> set[str]:
    """Where an attached volume is mounted."""
    holders = row.get("attachments", {})
    own = {row["path"]} if holders and row["backend"] in ("memory", *FORMATTED) else set()
    return (own | {held["target"] for held in holders.values()}) - {""}


def gather(p: dict[str, Any], ports: Any) -> dict[str, Any]:
    """Recorded volumes that match, and what the kernel says of each."""
    found: dict[str, Any] = _words().gather(p, ports)
    return found
