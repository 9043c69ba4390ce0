# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mount says of its options, live and in its line of fstab, and what it may not say. Loaded where it does."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options


def of_mount(p: dict[str, Any], fstype: str, before: str) -> tuple[dict[str, Any], str]:
    """Fields and line of a mount, where ``before`` are the options that a line has already."""
    fields, words = mount_options.parse(p["options"] or [], fstype, "options", p["allow_unsafe_options"] or ())
    fields.update({option: p[option] for option in ("read_only", "propagation") if p[option] is not None})
    kind: str | None = ""
    if p["bind"]:
        kind = {True: "rbind", False: "bind", None: None if "bind" in before else "bind"}[p["recursive"]]
    tail = (
        ("ro|rw", {True: "ro", False: "", None: None}[p["read_only"]]),
        ("r?(private|slave|shared|unbindable)", p["propagation"]),
        ("nofail", {True: "nofail", False: "", None: None}[p["nofail"]]),
    )
    return fields, mount_options.line(before, None if p["options"] is None else words, (("r?bind", kind),), tail)


def along(p: dict[str, Any], source: str, path: str, others: Any) -> list[tuple[str, str]]:
    """What a bind stands on besides its source: what is mounted beneath that comes along."""
    if p["bind"] and source != path and names.within(source, path):
        text = "source %s lies beneath its own mount point, which would hide it" % source
        raise StorageError("unsupported", text, "mount it somewhere else")
    over = [where for kind, where in others if kind in ("mount", "tmpfs", "nfs_mount") and where != path]
    return [("path", where) for where in over if p["recursive"] and names.within(where, source)]


def refused(source: str, fstype: Any) -> StorageError:
    if not source.startswith("/") and (fstype == "none" or any(c in source for c in " \t\n\\#")):
        return StorageError(
            "invalid", "source %.200r is not a path" % source, "write an absolute path, UUID= or LABEL="
        )
    if fstype == "tmpfs":
        text, hint = "a tmpfs has a module of its own", "use bulkhead.storage.tmpfs"
    else:
        text, hint = "fstype is required for a mount that is no bind", "for example ext4"
    return StorageError("invalid", text, hint, option="fstype")
