# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real drop-in, and a real cgroup of the guest, for the port contract suite."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_io import IoMax
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_io import Dropins
from ansible_collections.bulkhead.storage.tests.support import namespace

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data2"
FIRST = {"read_bps": None, "write_bps": 1 << 20, "read_iops": 100, "write_iops": None, "weight": None}
SECOND = {"read_bps": 4096, "write_bps": None, "read_iops": 100, "write_iops": 7, "weight": None}


@contextmanager
def guest_case_io_dropin() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        target = (path + "/x.slice.d/60-bulkhead-io-x.conf", DISK)
        yield (
            Dropins(booted=path + "/no", loaded=path + "/no"),
            target,
            {**FIRST, "intact": True},
            {**SECOND, "intact": True},
        )


@contextmanager
def guest_case_io_max() -> Iterator[tuple[Any, Any, Any, Any]]:
    with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as stream:
        stream.write("+io")
    os.mkdir("/sys/fs/cgroup/contract")
    try:
        yield IoMax(), ("/sys/fs/cgroup/contract", DISK), FIRST, SECOND
    finally:
        os.rmdir("/sys/fs/cgroup/contract")
