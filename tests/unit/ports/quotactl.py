# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""XFS and ext4, where the kernel has their quotas: in a guest of the lab."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import QuotactlLimits
from ansible_collections.bulkhead.storage.tests.support import namespace, quotas


@contextlib.contextmanager
def _on(fstype: str, kind: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as base:
        path = quotas.made(base, fstype)
        os.mkdir(path + "/t")
        os.mkdir(path + "/t/old")
        target = (kind, path + "/t")
        port = Quota(QuotactlLimits(Record(base + "/catalogue")))
        yield port, target, {"hard": 16 << 20, "inodes_soft": 1000}, {"hard": 32 << 20, "inodes_soft": 1000}


if quotas.supported():

    def case_xfs_project() -> Any:
        return _on("xfs", "project")

    def case_ext4_project() -> Any:
        return _on("ext4", "project")

    def case_xfs_user() -> Any:
        return _on("xfs", "user:20001")

    def case_ext4_group() -> Any:
        return _on("ext4", "group:20001")
