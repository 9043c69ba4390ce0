# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real crypttab file for the port contract suite."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.crypttab import Crypttab
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextmanager
def case_crypttab() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        with open(path + "/crypttab", "wb") as f:
            f.write(b"# <name> <device> <key>\nroot\tUUID=1\tnone\tluks,x-initrd.attach\n")
        device = {"device": "/dev/disk/by-id/a", "key_file": "/etc/key"}
        first = {**device, "options": "luks", "discards": False, "nofail": False, "network": False}
        second = {**device, "options": "luks,nofail", "discards": False, "nofail": True, "network": False}
        yield Crypttab(booted=path + "/no"), (path + "/crypttab", "vault"), first, second
