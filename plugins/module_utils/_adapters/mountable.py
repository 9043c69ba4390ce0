# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can a source that is there be mounted? What a run would find out when it is too late, check mode says by this."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Table
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def refuse(wanted: dict[str, dict[str, Any]], target: str, after: dict[str, Any]) -> StorageError | None:
    """Why a source that is there cannot be mounted, unless this declaration mounts something over it first."""
    source, bind = after["source"], after.get("bind")
    if any(names.within(source, path) for path in wanted if path != target):
        return None
    try:
        with Walk() as walk:
            fd = walk.open(source, os.O_PATH) if bind else walk.content(source, os.O_RDONLY)
    except StorageError as error:
        return error if error.code != "not_found" else None
    sealed = os.fstatvfs(fd).f_flag & os.ST_RDONLY and bind and after.get("read_only") is False
    os.close(fd)
    return _sealed(wanted, target, source) if sealed else None


def _sealed(wanted: dict[str, dict[str, Any]], target: str, source: str) -> StorageError | None:
    """A filesystem that nobody can write to stays so through a bind, unless this declaration opens it."""
    table = Table(mountinfo.parse(mountinfo.read()))
    row = table.over(source)
    if row is None or b"ro" not in row.super_options.split(b","):
        return None
    opened = [table.at(path) for path, said in wanted.items() if said.get("read_only") is False and path != target]
    if any(other is not None and other.dev == row.dev for other in opened):
        return None
    text = "%s: read_only is True instead of False" % target
    return StorageError("not_enforced", text, "%s is mounted read-only for everybody" % row.path, fields=["read_only"])
