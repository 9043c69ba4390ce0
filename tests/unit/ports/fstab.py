# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real fstab file for the port contract suite."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextmanager
def case_fstab() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        with open(path + "/fstab", "wb") as f:
            f.write(b"# head\n/dev/sda1\t/\text4 errors=remount-ro 0 1\n")
        first = {"source": "tmpfs", "fstype": "tmpfs", "options": "nosuid,size=4096", "dump": 0, "passno": 0}
        yield Fstab(), (path + "/fstab", "/srv/with space"), first, {**first, "options": "nosuid,size=8192"}
