# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a pool."""

from __future__ import annotations

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool


def test_a_pool_whose_filesystem_answers_no_more_is_shown_in_error() -> None:
    row = {"path": "/srv/p", "backend": "directory", "_volume_count": 2, "_provisioned": 5}
    gone = pool.describe(
        "p", row, {"/srv/p": StorageError("unreadable", "/srv/p: Transport endpoint is not connected")}
    )
    assert (gone["phase"], gone["capacity_bytes"], gone["used_bytes"], gone["volumes"]) == ("error", None, None, 2)
    fine = pool.describe("p", row, {"/srv/p": {"total_bytes": 9, "free_bytes": 4}})
    assert (fine["phase"], fine["used_bytes"]) == ("ready", 5)
    assert pool.describe("p", None, {})["phase"] == "pending"
