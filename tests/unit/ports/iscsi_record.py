# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database of open-iscsi of its own, the guest's iscsiadm, and a target, for the port contract suite."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import FOLDERS, IscsiRecord
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret
from ansible_collections.bulkhead.storage.tests.support import namespace

IQN = "iqn.2026-01.org.example:contract"


@contextmanager
def guest_case_iscsi_record() -> Iterator[tuple[Any, Any, Any, Any]]:
    """Beside a target whose name begins alike."""
    namespace.enter()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "database", FOLDERS[0]], check=True)
    try:
        argv = ["iscsiadm", "-m", "node", "-o", "new", "-T", IQN + "0", "-p", "192.0.2.1:3260,1"]
        subprocess.run(argv, check=True, capture_output=True)
        first = {
            "portals": ("192.0.2.1:3260", "[2001:db8::1]:3261"),
            "startup": "automatic",
            "username": "user",
            "password": Secret("a secret"),
            "mutual_username": None,
            "mutual_password": None,
        }
        mutual = {"mutual_username": "me", "mutual_password": Secret("=#' x")}
        second = {**first, "portals": ("192.0.2.1:3260", "192.0.2.2:3260"), "startup": "manual", **mutual}
        yield IscsiRecord(), IQN, first, second
    finally:
        subprocess.run(["umount", FOLDERS[0]], check=True)
