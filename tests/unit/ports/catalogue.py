# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.tests.support import namespace


@contextlib.contextmanager
def case_record():
    with namespace.place() as base:
        first = {"pool": "default", "size": 1 << 30, "id": "0" * 32, "created_at": "2026-01-01T00:00:00Z"}
        yield Record(base + "/lib"), ("volume", "default/data"), first, {**first, "size": 2 << 30}
