# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mounts, loop devices and fstab files for the port contract suite."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextmanager
def case_mount() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path:
        os.mkdir(path + "/m")
        flags = {"read_only": False, "nosuid": True, "nodev": True, "noexec": True, "nodiratime": False}
        first = {
            "source": "tmpfs",
            "fstype": "tmpfs",
            "bind": False,
            "propagation": "private",
            "atime": "relatime",
            **flags,
        }
        first.update({"o:size": 1 << 20, "o:nr_inodes": 100, "o:mode": 0o1777, "o:uid": 0, "o:gid": 0})
        yield Mounts(), path + "/m", first, {**first, "o:size": 2 << 20, "noexec": False, "o:mode": 0o755}
