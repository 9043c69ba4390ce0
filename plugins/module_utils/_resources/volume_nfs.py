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
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume, volume_words


def proven(key: str, row: dict[str, Any], look: Any, gone: bool) -> list[Cell]:
    """``not_found`` where its pool is not mounted: whatever is in the bare directory is no volume."""
    home = row["path"][: -len("/" + key)]
    _mounted(row["pool"], home, look)
    if gone:  # what was begun with it is no consent for whatever bears its name later
        return [Cell("record", ("intent", row["path"]), None)]
    value: dict[str, Any] = {"total_bytes": row["size"]}
    others = volume_words.sizes(row["pool"], look)
    if any(other != key and size == row["size"] for other, size in others.items()):
        value["own"] = True  # the limit of the whole export may be the same, and would be shared
    return [Cell("fsinfo", row["path"], value)]


def cloned(p: dict[str, Any], record: Any, row: dict[str, Any], look: Any) -> list[Cell]:
    """What fills it, as its directory may be there already: of a new one, or one whose copy a killed run has begun."""
    path = row["path"]
    begun = look.look("record", [("intent", path)]).get(("intent", path)) or {}
    if isinstance(begun, StorageError):
        raise begun
    source = begun.get("from")
    if record is None:
        source = volume_words.source(p, row)["source"] if volume.clones(p) else None
    elif begun.get("phase") == "done":
        source = None
    if source is None:
        return []
    said = {"from": source}
    return [Cell("record", ("intent", path), said), Cell("copied", path, {**said, "phase": "done"})]


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
