# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file with a key, written and removed. Loaded only where one is not as it should be."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, ceph_keyring
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import named
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of


def put(port: Any, target: Any, before: Any, after: Any) -> None:
    """Private from its birth, whole or not at all, and with nothing of the one before."""
    user, path = target.access["of"], str(target)
    now = port.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    if (now is None) != (before is None) or (now is not None and now != state_of(before)):
        raise StorageError("moved", "%s is not as it was planned for" % path, "run it again")
    if after is None:
        _remove(path)
        return
    known = port.auth.read([user]).get(user)
    if known is None:
        raise StorageError("moved", "%s is not there any more" % named(user), "run it again")
    atomic.replace(path, ceph_keyring.text(named(user), known["key"].reveal()), 0o600, keep_from=None)


def _remove(path: str) -> None:
    try:
        with Walk() as walk:
            above, name, _trusted = walk.parent(path)
            at = openat2(above, b".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.unlink(name, dir_fd=at)
            os.fsync(at)
        finally:
            os.close(at)
    except OSError as error:
        raise refused(error, path) from error
