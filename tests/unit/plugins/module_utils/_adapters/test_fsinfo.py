# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace


def mounted(base, fstype, *options, size=512 << 20):
    """A fresh filesystem at ``<base>/<fstype>``; its loop device goes with the mount."""
    path = "%s/%s" % (base, fstype)
    os.mkdir(path)
    namespace.image(path + ".img", size, fstype)
    subprocess.check_call(["mount", "-o", ",".join(["loop", *options]), path + ".img", path])
    return path


def findmnt(path, column):
    return subprocess.check_output(["findmnt", "-nbo", column, "--target", path]).decode().strip()


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_facts(arena, fstype):
    path = arena if fstype == "tmpfs" else mounted(arena, fstype)
    asked = path + "/not/yet"
    facts = FsInfo().scan([asked])[asked]
    assert facts["fstype"] == findmnt(path, "FSTYPE") == fstype
    assert facts["mount"] == findmnt(path, "TARGET") == path
    assert facts["qgroup"] is (fstype == "btrfs") and facts["project_quota"] is False
    total, free = map(int, subprocess.check_output(["stat", "-fc", "%b %a", path]).split())
    block = int(subprocess.check_output(["stat", "-fc", "%S", path]))
    assert facts["total_bytes"] == total * block and abs(facts["free_bytes"] - free * block) < 1 << 20
    assert facts["loop"] is os.path.exists("/dev/loop-control")
    with open(path + "/a", "wb") as f:
        f.write(b"x" * 65536)
    clone = subprocess.call(["cp", "--reflink=always", path + "/a", path + "/b"], stderr=subprocess.DEVNULL)
    assert facts["reflink"] is (clone == 0)


def test_xfs_without_reflink(arena):
    os.mkdir(arena + "/m")
    namespace.image(arena + "/i", 512 << 20)
    subprocess.check_call(["mkfs.xfs", "-q", "-m", "reflink=0", arena + "/i"])
    subprocess.check_call(["mount", "-o", "loop", arena + "/i", arena + "/m"])
    assert FsInfo().scan([arena + "/m"])[arena + "/m"]["reflink"] is False


def test_innermost_mount_and_hostile_names(arena):
    inner = arena + "/a b\\040é/in"
    os.makedirs(inner)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=1m", "prjquota,x", inner])
    facts = FsInfo().scan([inner + "/x", arena])
    assert facts[inner + "/x"]["mount"] == inner and facts[inner + "/x"]["total_bytes"] == 1 << 20
    assert facts[arena]["mount"] == arena and facts[inner + "/x"]["project_quota"] is False


def test_each_path_for_itself(arena):
    os.mkdir(arena + "/theirs")
    os.chown(arena + "/theirs", 1000, 1000)
    os.symlink("/etc", arena + "/theirs/link")
    found = FsInfo().scan([arena, arena + "/theirs/link/x"])
    assert found[arena]["fstype"] == "tmpfs"
    assert found[arena + "/theirs/link/x"].code == "unsafe_path"
    assert FsInfo().scan(None) == {}


def test_root():
    assert FsInfo().scan(["/"])["/"]["mount"] == "/"


def test_facts_cannot_be_wished(arena):
    port = FsInfo()
    with pytest.raises(StorageError) as caught:
        port.put(arena, None, {"reflink": True})
    assert caught.value.code == "unsupported"
    assert port.lowers(arena, {}, None) is False and port.risk(arena, {}, {}) == "reversible"


SERVED = {"total_bytes": 16 << 20, "free_bytes": 0, "block_bytes": 1 << 20, "own": True}


@pytest.mark.parametrize(
    ("declared", "holds"),
    [
        ({"total_bytes": 16 << 20}, True),
        ({"total_bytes": (15 << 20) + 1}, True),
        ({"total_bytes": 15 << 20}, False),
        ({"total_bytes": (16 << 20) + 1}, False),
        ({"total_bytes": 16 << 20, "own": True}, True),
    ],
    ids=str,
)
def test_a_limit_is_rounded_up_to_blocks_of_the_server(declared, holds):
    assert FsInfo().same("/pool/a", SERVED, declared) is holds


def test_what_cannot_be_made_true_is_refused():
    port, shared = FsInfo(), {**SERVED, "own": False}
    assert not port.same("/pool/a", shared, {"total_bytes": 16 << 20, "own": True})
    error = port.refuse("/pool/a", shared, {**shared, "own": True}, set())
    assert error.code == "not_enforced" and "other volumes would share it" in error.message
    error = port.refuse("/pool/a", SERVED, {**SERVED, "total_bytes": 8 << 20}, set())
    assert (error.code, error.details) == ("not_enforced", {"total_bytes": 16 << 20})
    assert "shows 16MiB for /pool/a, so nothing holds it to 8MiB" in error.message
    with pytest.raises(StorageError, match="a fact, not a wish"):
        port.put("/pool/a", SERVED, shared)
