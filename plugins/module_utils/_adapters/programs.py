# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths by name: not where another user's program (FUSE) may answer, or nobody."""

from __future__ import annotations

import functools
import os
import re


@functools.lru_cache(maxsize=None)
def _mounted() -> bool:
    with open("/proc/self/mountinfo", "rb") as f:
        return re.search(rb" - fuse(blk)?[. ]", f.read()) is not None


def unasked(path: str) -> None:
    """``unsafe_path`` if the way to a path leads through one, or is a tenant's to choose while there is any."""
    if _mounted():
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign

        foreign.unasked(path)


def opened(path: str) -> int:
    """To look at; ``unreachable`` if a target is gone."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    dev = os.fstat(fd).st_rdev
    if re.search("/session|/dm-", os.path.realpath("/sys/dev/block/%d:%d" % (os.major(dev), os.minor(dev)))):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import remote_disk

        return remote_disk.answering(fd, path)
    return fd
