# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume that is a directory of an NFS server, which holds it to its size.

No client can set the limit of a directory. It sees it: statfs(2) shows the project quota of the directory that it is
asked about as if that were the whole filesystem, over NFS too. That is the proof, and without it there is no volume.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume


def body(key: str, row: dict[str, Any], look: Any, gone: bool) -> list[Cell]:
    """What stands on its directory: the proof, and what fills a clone. ``not_found`` where its pool is not mounted."""
    path = row["path"]
    _mounted(row["pool"], path[: -len("/" + key)], look)
    if gone:
        return [Cell("record", ("intent", path), None)]
    value: dict[str, Any] = {"total_bytes": row["size"]}
    held = _held(row["pool"], look)
    if len(held) > (key in held):
        value["own"] = True  # the limit of the whole export would be shared
    cells = [Cell("fsinfo", path, value)]
    if row.get("clone_of"):
        cells.append(Cell("copied", path, {"from": row["clone_of"], "phase": "done", "_volume": key}))
    return cells


def _held(home: str, look: Any) -> set[str]:
    """The volumes that a pool will hold; of very many, some."""
    found: set[str] | None = look.memo.get(("held", home))
    if found is None:
        row = look.look("record", [("pool", home)]).get(("pool", home)) or {}
        beside = {key: said for (kind, key), said in look.declared.items() if kind == volume.KIND}
        found = {key for key in row.get("_volumes", ()) if (beside.get(key) or {}).get("state") != "absent"}
        for key, said in beside.items():
            lies = "" if said["type"] == "memory" else said["pool"] or "default"
            if said["state"] not in ("absent", "detached") and lies == home:
                found.add(key)
        look.memo["held", home] = found
    return found


def _mounted(home: str, path: str, look: Any) -> None:
    for spot, state in ((("pool", home), "present"), (("nfs_mount", path), "mounted")):
        if (look.declared.get(spot) or {}).get("state") == state:
            return  # what lies in it comes after it
    found = look.look("fsinfo", [path])[path]
    if isinstance(found, StorageError):
        raise found
    if (found["mount"], found["fstype"]) != (path, "nfs4"):
        text = "the export of pool %s is not mounted at %s" % (home, path)
        raise StorageError("not_found", text, "declare the pool beside it, or mount(8) the path", pool=home)


def usage(found: Any) -> dict[str, Any]:
    """What its server counts, where it answers; in check mode of a volume that is not there nobody does."""
    known = isinstance(found, dict) and "free_bytes" in found
    return {"_used_bytes": found["total_bytes"] - found["free_bytes"]} if known else {}
