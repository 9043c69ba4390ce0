# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no kernel with quota; the rest is in ``tests/lab/inside``."""

from __future__ import annotations

import os

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import cataloguewrite, quotactl
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import (
    Projects,
    QuotactlLimits,
    Spot,
    rounded,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import quotas

from .test_fsinfo import mounted


@pytest.fixture
def record(arena):
    return Record(arena + "/catalogue")


def claim(record, name, paths, whole=True, number=None):
    value = {"paths": paths, "whole": whole}
    return cataloguewrite.claim(record, "project", name, number, value, (100000, 100009), None)


def test_ids_are_the_lowest_free_usable_ones(record):
    assert [claim(record, name, ["/" + name]) for name in "abc"] == [100000, 100001, 100002]
    assert claim(record, "b", ["/b"], whole=False) == 100001, "a name keeps its id"
    assert record.ids("project")["b"] == {"id": 100001, "paths": ["/b"], "whole": False} and record.ids("uid") == {}
    cataloguewrite.release(record, "project", "b")

    def usable(number):
        return number != 100001

    assert cataloguewrite.claim(record, "project", "d", None, {}, (100000, 100009), usable) == 100003
    with pytest.raises(StorageError, match="belongs to another") as caught:
        claim(record, "e", ["/e"], number=100000)
    assert caught.value.code == "conflict"
    with pytest.raises(StorageError) as caught:
        cataloguewrite.claim(record, "project", "f", None, {}, (100000, 100009), lambda _number: False)
    assert caught.value.code == "limit_exceeded" and "f" not in record.ids("project")


def test_a_directory_belongs_to_whom_the_catalogue_says(record):
    claim(record, "outer", ["/srv/a", "/srv/z"])
    claim(record, "inner", ["/srv/a/in"], whole=False)
    known = Projects(record)
    assert known.find("/srv/a", Spot("project", 100000)) == Spot("project", 100000, True)
    assert known.find("/srv/a", Spot("project", 7)) == Spot("project", 100000, False), "it was taken out"
    assert known.find("/srv/a/other", Spot("project", 100000)).id == 0, "it lies in another project"
    assert known.find("/srv/ab", Spot("project", 100000)).id == 100000, "it only looks as if it did"
    assert known.about("/srv/a/in", Spot("project", 100001)) == ("inner", ["/srv/a/in"], False)
    assert known.about("/srv/a", Spot("project", 100000)) == ("outer", ["/srv/a", "/srv/z"], True)
    assert known.about("/srv/q", Spot("project", 9))[0] is None
    assert known.beneath("/srv/a") == ["/srv/a/in"] and known.beneath("/srv") == ["/srv/a", "/srv/a/in", "/srv/z"]
    known.set("inner", None)
    known.set("outer", {"id": 100000, "paths": ["/srv/z"], "whole": True})
    assert known.beneath("/srv") == ["/srv/z"] and known.find("/srv/a", Spot("project", 5)).id == 5


def test_bytes_are_rounded_down_and_never_up():
    value = {"hard": 1000001, "soft": 4096, "inodes_hard": 4097, "name": "x"}
    assert rounded(value, 4096) == {"hard": 999424, "soft": 4096, "inodes_hard": 4097, "name": "x"}
    assert rounded({"hard": None, "soft": 5000}, 65536) == {"hard": None, "soft": 0}


def test_somebody_by_number_or_name():
    assert (quotactl.number("user", "20001"), quotactl.number("user", "root"), quotactl.number("group", "root")) == (
        20001,
        0,
        0,
    )
    with pytest.raises(StorageError) as caught:
        quotactl.number("group", "no-such-group")
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("fstype", ["xfs", "ext4"])
def test_where_quota_is_off_nothing_is_promised(arena, record, fstype):
    path = mounted(arena, fstype)
    os.mkdir(path + "/t")
    port, target = Quota(QuotactlLimits(record)), ("project", path + "/t")
    assert port.scan([target]) == {}
    after = port.merge(target, None, {"hard": 1 << 20})
    error = port.refuse(target, None, after, set())
    assert error.code == "not_enforced" and "prjquota" in error.hint and "quota is off" in error.message
    with pytest.raises(StorageError) as caught:
        port.put(target, None, after)
    assert caught.value.code == "not_enforced" and record.ids("project") == {}
    if fstype == "xfs":
        assert quotas.sh(["xfs_io", "-r", "-c", "lsproj", path + "/t"]).strip() == "projid = 0"
