# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a pool."""

from __future__ import annotations

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool, pool_lvm


def test_a_pool_whose_filesystem_answers_no_more_is_shown_in_error() -> None:
    row = {"path": "/srv/p", "backend": "directory", "_volume_count": 2, "_provisioned": 5}
    gone = pool.describe(
        "p", row, {"/srv/p": StorageError("unreadable", "/srv/p: Transport endpoint is not connected")}
    )
    assert (gone["phase"], gone["capacity_bytes"], gone["used_bytes"], gone["volumes"]) == ("error", None, None, 2)
    fine = pool.describe("p", row, {"/srv/p": {"total_bytes": 9, "free_bytes": 4}})
    assert (fine["phase"], fine["used_bytes"]) == ("ready", 5)
    assert pool.describe("p", None, {})["phase"] == "pending"


def test_a_pool_of_iscsi_takes_no_group_of_disks_that_is_only_declared() -> None:
    """Nothing tells of a path, before there is a group, whether it is a LUN: only what is named so is."""
    local, lun = "/dev/disk/by-id/a", {"iscsi": "iqn.2026-01.org.example:a", "lun": 0}
    beside = {"pvs": [lun, local]}
    with pytest.raises(StorageError, match="by-id/a of volume group data is no LUN") as error:
        pool_lvm._on_luns("data", None, beside, {})
    assert (error.value.code, error.value.details["devices"]) == ("conflict", [local])
    pool_lvm._on_luns("data", None, {"pvs": [lun]}, {})


def test_what_is_unlocked_from_a_lun_is_as_good_as_one() -> None:
    beside = {"pvs": ["/dev/mapper/secret"]}
    lun = {"iscsi": "iqn.2026-01.org.example:a", "lun": 0}
    pool_lvm._on_luns("data", None, beside, {("luks_device", "secret"): {"device": lun}})
    for declared in ({}, {("luks_device", "secret"): {"device": "/dev/sda"}}, {("luks_device", "x"): {"device": lun}}):
        with pytest.raises(StorageError, match="/dev/mapper/secret of volume group data is no LUN"):
            pool_lvm._on_luns("data", None, beside, declared)
