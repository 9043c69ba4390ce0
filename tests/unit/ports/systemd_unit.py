# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real unit files in a folder of their own for the port contract suite: made here, and taken over from somebody."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units
from ansible_collections.bulkhead.storage.tests.support import namespace

TARGET = "/srv/with space-and %i"
LINE = {"source": "/dev/vg/da%ta", "fstype": "ext4", "options": "nosuid,nofail", "fsck": True}


@contextmanager
def case_units() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        os.mkdir(path + "/units")
        port = Units(Fstab(booted=path + "/no"), path + "/units", path + "/no")
        first = {**LINE, "enabled": True, "intact": True}
        yield port, TARGET, first, {**first, "options": "nosuid", "fsck": False}
