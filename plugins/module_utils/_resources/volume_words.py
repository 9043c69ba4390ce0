# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some volumes need: what their pool has room for, another size, a volume to copy. And a look."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place, volume


def resizable(fstype: str, bytes_: int, old: dict[str, Any]) -> None:
    """The kernel changes their size only while they are mounted, and never to a Btrfs of less than 256 MiB."""
    if not old["attachments"]:
        raise StorageError("unsupported", "%s changes its size only while it is attached" % fstype, "attach it first")
    if fstype == "btrfs" and bytes_ < 256 << 20:
        raise StorageError("unsupported", "btrfs is not resized to less than 256MiB", "ask for 256MiB or more")


def fits(bytes_: int, target: tuple[str, str], look: Any) -> None:
    """A limit below what is there already would be no smaller volume, only a full one."""
    limit = look.look("quota", [target]).get(target)
    used = limit.get("_used_bytes", 0) if isinstance(limit, dict) else 0
    if used > bytes_:
        text = "the volume holds %s, more than %s" % (size.human(used), size.human(bytes_))
        raise StorageError("no_space", text, "remove files first", used_bytes=used)


def room(p: dict[str, Any], place: dict[str, Any], home: str, look: Any, fresh: bool) -> None:
    """What the pool allows: volumes a namespace, and bytes promised, over recorded and declared volumes together."""
    most, ratio = place.get("max_volumes_per_namespace"), place.get("overcommit")
    if not most and not ratio:
        return
    there = look.memo.get(("room", home))
    if there is None:
        there = look.memo["room", home] = _promised(home, look)
    count = sum(1 for key in there if key.startswith(p["namespace"] + "/")) if fresh and most else 0
    if most and count > most:
        text = "namespace %s would hold %d volumes in pool %s" % (p["namespace"], count, home)
        raise StorageError("limit_exceeded", text, "the pool allows %d" % most, max_volumes_per_namespace=most)
    if ratio and place["backend"] in pool_place.GROUPS:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_lvm

        pool_lvm.promised(place, sum(there.values()), ratio, look)
        return
    info = look.look("fsinfo", [place["path"]]).get(place["path"]) if ratio else None
    if isinstance(info, StorageError):
        raise info
    if info and sum(there.values()) > info["total_bytes"] * ratio:
        promised, total = size.human(sum(there.values())), size.human(info["total_bytes"])
        text = "pool %s would promise %s of %s" % (home, promised, total)
        raise StorageError("limit_exceeded", text, "the pool's overcommit is %s" % ratio, overcommit=ratio)


def _promised(home: str, look: Any) -> dict[str, int]:
    """The bytes of all volumes of a pool, recorded and declared."""
    rows = look.everything("record")
    there = {k[1]: row["size"] for k, row in rows.items() if k[0] == "volume" and row.get("pool") == home}
    for (kind, key), other in look.declared.items():
        if kind != volume.KIND:
            continue
        known = rows.get((volume.KIND, key)) or {}
        lies = known.get("pool", "" if other["type"] == "memory" else other["pool"] or "default")
        if other["state"] == "absent":
            there.pop(key, None)
        elif lies == home and other["size"] is not None:
            there[key] = size.parse(other["size"])
    return there


def origin(p: dict[str, Any]) -> tuple[str, str]:
    """Kind and key of what is to be copied: a volume, or as ``<volume>/<snapshot>`` one of its snapshots."""
    source = p["source"]
    kind = "snapshot" if source["type"] == "snapshot" else "volume"
    if source["type"] not in ("empty", "clone", "snapshot"):
        text = "source %s is not supported yet" % source["type"]
        raise StorageError("unsupported", text, "use type: clone, snapshot or empty")
    if not source["name"]:
        raise StorageError("invalid", "source.name is required for a clone", "the volume to clone", option="source")
    parts = source["name"].split("/") if kind == "snapshot" else [source["name"]]
    if kind == "snapshot" and len(parts) != 2:
        text = "source.name %.300r does not name a snapshot" % source["name"]
        raise StorageError("invalid", text, "write <volume>/<snapshot>", option="source")
    space = names.identifier(source["namespace"] or p["namespace"], "source.namespace")
    return kind, "/".join([space, *(names.identifier(part, "source.name") for part in parts)])


def source(p: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A clone shares blocks inside one namespace only: across, nobody's bytes are charged to somebody else."""
    kind, key = origin(p)
    if row["backend"] in pool_place.GROUPS:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_lvm

        return volume_lvm.source(row, kind, key)
    home = row["path"][: -len("/%s/%s" % (p["namespace"], p["name"]))]
    home = names.join(home, pool_place.SNAPSHOTS) if kind == "snapshot" else home
    found: dict[str, Any] = {"source": names.join(home, key) + (".img" if row["backend"] == "loop" else "")}
    if key.partition("/")[0] != p["namespace"]:
        found["copy"] = True
    return found


def clonable(p: dict[str, Any], row: dict[str, Any], look: Any) -> tuple[str, str]:
    """What to copy, which is recorded or (a volume) declared beside, and can be copied whole."""
    kind, key = spot = origin(p)
    if spot == (volume.KIND, volume.label(p)):
        raise StorageError("invalid", "volume %s cannot be cloned from itself" % key, "name another", option="source")
    record = look.look("record", [spot]).get(spot)
    beside = look.declared.get(spot) or {}
    if isinstance(record, StorageError):
        raise record
    made = kind == volume.KIND and beside.get("state") in ("present", "attached")
    if beside.get("state") == "absent" or not (record or made):
        raise StorageError("not_found", "there is no %s %s to clone" % spot, "declare it, or name another one")
    found = record or volume.recorded(beside, None, look)
    if (found["pool"], found["backend"]) != (row["pool"], row["backend"]):
        text = "%s %s lies in pool %s, its clone would lie in %s" % (kind, key, found["pool"], row["pool"])
        raise StorageError("unsupported", text, "a clone stays in the pool and backend of its source")
    if found["size"] > row["size"]:
        had, asked = size.human(found["size"]), size.human(row["size"])
        text = "%s %s has %s, its clone would have %s" % (kind, key, had, asked)
        raise StorageError("would_shrink", text, "declare a size that holds all of it")
    if row["backend"] in pool_place.GROUPS:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_lvm

        volume_lvm.clonable(p, row, kind, key, found)
    if row["backend"] == "loop":
        if (found["fstype"], row["fstype"]) != ("ext4", "ext4"):
            text = "a clone of %s would have its UUID, and two such %s cannot be mounted" % (key, found["fstype"])
            raise StorageError("unsupported", text, "clone ext4, or copy the files")
        if found.get("attachments") or beside.get("state") == "attached":
            raise StorageError("in_use", "volume %s is attached: its image changes" % key, "detach it to clone it")
    return spot


def unburdened(key: str, look: Any) -> None:
    """A volume does not go before its snapshots: those that stay are named."""
    rows = look.look("record", [("snapshots", key)])
    held = {k[1]: row for k, row in rows.items() if k[0] == "snapshot" and k[1].startswith(key + "/")}
    said = {k[1] for k, entry in look.declared.items() if k[0] == "snapshot" and entry["state"] == "absent"}
    left = [name for name, row in sorted(held.items()) if not {name, "%s/%s" % (key, row.get("template"))} & said]
    if left:
        shown = ", ".join(name[len(key) + 1 :] for name in left[:10])
        text = "the volume has %d snapshots: %s" % (len(left), shown)
        raise StorageError("in_use", text, "remove the snapshots first", snapshots=left[:32])


def gather(p: dict[str, Any], ports: dict[str, Any]) -> dict[str, Any]:
    """Recorded volumes that match, and what the kernel says of each: one scan a port for all."""
    picked = []
    for (kind, key), row in sorted(ports["record"].scan(None).items()):
        namespace, _slash, name = key.partition("/")
        if kind == "volume" and _matches(p, namespace, name, row):
            picked.append((namespace, name, row))
    body = {row["path"] + (".img" if row["backend"] == "loop" else "") for _s, _n, row in picked if row["path"]}
    body -= {row["path"] for _s, _n, row in picked if row["backend"] in ("memory", *pool_place.GROUPS)}
    devices = {row["device"] for _s, _n, row in picked if "device" in row}
    limits = [("project", row["path"]) for _s, _n, row in picked if row["backend"] in ("btrfs", "directory")]
    mounts = {row["path"] for _s, _n, row in picked} | {
        h["target"] for r in picked for h in r[2]["attachments"].values()
    }
    there = ports["node"].scan(body)
    rows = {"quota": ports["quota"].scan(limits), "mount": ports["mount"].scan(mounts - {""})}
    rows["lv"] = ports["lv"].scan(devices) if devices else {}
    served = {row["path"] for _s, _n, row in picked if row["backend"] == "nfs"}
    rows["fsinfo"] = ports["fsinfo"].scan(served) if served else {}
    bad = {
        target for found in (*rows.values(), there) for target, row in found.items() if isinstance(row, StorageError)
    }
    bad |= (body - set(there)) | (devices - set(rows["lv"]))
    seen = {port: {t: row for t, row in found.items() if t not in bad} for port, found in rows.items()}
    out = []
    for namespace, name, row in picked:
        shown = volume.describe(namespace, name, row, seen)
        if {row["path"], row["path"] + ".img", ("project", row["path"]), row.get("device")} & bad:
            shown["status"] = "error"
        out.append(shown)
    return {"volumes": out}


def _matches(p: dict[str, Any], namespace: str, name: str, row: dict[str, Any]) -> bool:
    labels = {label: str(value) for label, value in (p["labels"] or {}).items()}
    return (
        p["name"] in (None, name)
        and p["namespace"] in (None, namespace)
        and p["pool"] in (None, row["pool"])
        and (p["job"] is None or p["job"] in row["attachments"])
        and labels.items() <= row["labels"].items()
    )
