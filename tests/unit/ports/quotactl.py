# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XFS and ext4, where the kernel has their quotas: in a guest of the lab."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import QuotactlLimits
from ansible_collections.bulkhead.storage.tests.support import namespace, quotas

_numbers = itertools.count(20001)
_made: dict[str, str] = {}


@contextlib.contextmanager
def filesystems() -> Iterator[None]:
    """One of each for all that is tested meanwhile: to make one takes longer than a test."""
    with namespace.place() as base:
        for fstype in ("xfs", "ext4"):
            os.mkdir("%s/%s" % (base, fstype))
            _made[fstype] = quotas.made("%s/%s" % (base, fstype), fstype)
        try:
            yield
        finally:
            _made.clear()


@contextlib.contextmanager
def _on(fstype: str, kind: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """A directory, a number and a catalogue that no other test has."""
    number = next(_numbers)
    path = "%s/t%d" % (_made[fstype], number)
    os.makedirs(path + "/old")
    target = (kind if kind == "project" else "%s:%d" % (kind, number), path)
    with namespace.place() as base:
        yield (
            Quota(QuotactlLimits(Record(base + "/catalogue"))),
            target,
            {"hard": 16 << 20, "inodes_soft": 1000},
            {"hard": 32 << 20, "inodes_soft": 1000},
        )


def guest_case_xfs_project() -> Any:
    return _on("xfs", "project")


def guest_case_ext4_project() -> Any:
    return _on("ext4", "project")


def guest_case_xfs_user() -> Any:
    return _on("xfs", "user")


def guest_case_ext4_user() -> Any:
    return _on("ext4", "user")


def guest_case_xfs_group() -> Any:
    return _on("xfs", "group")


def guest_case_ext4_group() -> Any:
    return _on("ext4", "group")
