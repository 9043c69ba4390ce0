# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin volumes with what stands on them as one declaration; volumes that grow under a writer, and one that shrinks.

lvs(8), blkid(8), findmnt(8), statvfs(3), e2fsck(8) and sha256sum(1) tell what became of them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.lab.inside.alpha import test_volume_group as vg
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

MIB = vg.MIB
TOP = "/mnt/thin"
SIZES = {"ext4": 64, "xfs": 304, "btrfs": 256}  # MiB; about the least that mkfs.xfs(8) takes, and btrfs resizes to
clean = vg.clean


@pytest.fixture(autouse=True)
def unmounted(clean: None) -> Iterator[None]:
    yield
    for name in SIZES:
        while os.path.ismount("%s/%s" % (TOP, name)):
            sh(["umount", "%s/%s" % (TOP, name)])


def stack(
    pool: str = "", fstypes: tuple[str, ...] = tuple(SIZES), state: str = "mounted", **sizes: int
) -> dict[str, Any]:
    """A volume, a filesystem and a mount for each type; ``pool`` is the size of the thin pool that they are in."""
    lvs = [{"name": f, "size": "%dMiB" % sizes.get(f, SIZES[f])} for f in fstypes]
    group: dict[str, Any] = {"vg": "data", "pvs": [vg.DISK % 1], "lvs": lvs}
    if pool:
        group["thin_pools"] = [{"name": "pool", "size": pool, "overcommit": 2.0}]
        for each in lvs:
            each["thin_pool"] = "pool"
    return {
        "volume_groups": [group],
        "filesystems": [{"device": "/dev/data/" + f, "fstype": f} for f in fstypes],
        "mounts": [
            {"path": "%s/%s" % (TOP, f), "source": "/dev/data/" + f, "fstype": f, "persist": "none", "state": state}
            for f in fstypes
        ],
    }


def room(fstype: str) -> int:
    """MiB of a mounted filesystem, as statvfs(3) tells them."""
    found = os.statvfs("%s/%s" % (TOP, fstype))
    return found.f_blocks * found.f_frsize // MIB


def ports(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(a["port"], a["verb"]) for a in answer["actions"]]


def settled(declared: dict[str, Any]) -> None:
    """The next run does nothing, and asks LVM once and nobody else."""
    assert vg.programs(lambda: converge([], **declared)["actions"] == []) == ["/usr/sbin/lvm"]


def as_foreseen(declared: dict[str, Any]) -> dict[str, Any]:
    foreseen = vg.done(converge([], check=True, **declared))
    made = vg.done(converge([], **declared))
    assert (made["actions"], made["digest"]) == (foreseen["actions"], foreseen["digest"])
    return made


def test_thin_volumes_with_what_stands_on_them() -> None:
    declared = stack("512MiB")
    as_foreseen(declared)
    assert vg.lv("pool", "lv_size,lv_layout") == [str(512 * MIB), "thin,pool"]
    for fstype, size in SIZES.items():
        assert vg.lv(fstype, "lv_size,pool_lv") == [str(size * MIB), "pool"]
        where = sh(["findmnt", "-no", "SOURCE,FSTYPE", "%s/%s" % (TOP, fstype)]).split()
        assert where == ["/dev/data/" + fstype, fstype]
    settled(declared)
    # what is promised beyond 2.0 x 512 MiB, by one that grows and by those that are not declared any more
    before = vg.told("lvs", "lv_name,lv_size")
    for sizes, more in (({"ext4": 480}, {}), ({"ext4": 480}, {"fstypes": ("ext4",)})):
        vg.refused(converge([], **stack("512MiB", **sizes, **more)), "limit_exceeded")
    assert vg.told("lvs", "lv_name,lv_size") == before
    # with a larger pool in the same call it has room; both grow, and so does what is on the volume
    larger = stack("640MiB", ext4=480)
    assert ports(as_foreseen(larger)) == [("thin_pool", "change"), ("lv", "change"), ("superblock", "change")]
    assert vg.lv("pool") == [str(640 * MIB)] and vg.lv("ext4") == [str(480 * MIB)] and room("ext4") > 420
    settled(larger)


@contextlib.contextmanager
def writer(path: str) -> Iterator[None]:
    """Writes and syncs without a pause; the first error ends it."""
    loop = "while :; do dd if=/dev/zero of=%s/f bs=64k count=16 conv=fsync 2>/dev/null || exit 9; done" % path
    child = subprocess.Popen(["sh", "-c", loop])
    try:
        yield
        assert child.poll() is None, "the writer met an error"
    finally:
        child.kill()
        child.wait()


def test_xfs_and_btrfs_grow_with_their_volume_under_a_writer() -> None:
    vg.done(converge([], **stack(fstypes=("xfs", "btrfs"))))
    with writer(TOP + "/xfs"), writer(TOP + "/btrfs"):
        grown = stack(fstypes=("xfs", "btrfs"), xfs=400, btrfs=400)
        assert ports(as_foreseen(grown)) == [("lv", "change"), ("lv", "change")] + [("superblock", "change")] * 2
    assert room("xfs") > 300 and room("btrfs") == 400
    settled(grown)


def shrunk(state: str, *allowed: str, fstype: str = "ext4", size: int = 64) -> dict[str, Any]:
    """The volume made smaller; ``allowed``: the lists whose entry says ``allow_shrink``."""
    declared = stack(fstypes=(fstype,), state=state, **{fstype: size})
    for name in allowed:
        declared[name][0]["allow_shrink"] = True
    return declared


def test_a_volume_and_the_ext4_on_it_shrink_together_the_filesystem_first() -> None:
    both = ("volume_groups", "filesystems")
    vg.done(converge([], **stack(fstypes=("ext4",), ext4=96)))
    with open(TOP + "/ext4/f", "wb") as stream:
        stream.write(os.urandom(20 * MIB))
    before = sh(["sha256sum", TOP + "/ext4/f"])
    vg.refused(converge([], **shrunk("mounted", *both)), "in_use")
    vg.refused(converge([], **shrunk("unmounted", "volume_groups")), "would_shrink")
    vg.refused(converge([], **shrunk("unmounted", "filesystems")), "would_shrink")
    lone = {"volume_groups": shrunk("mounted", "volume_groups")["volume_groups"]}
    vg.refused(converge([], **lone), "would_shrink")
    assert vg.lv("ext4") == [str(96 * MIB)] and os.path.ismount(TOP + "/ext4") and room("ext4") > 80
    # what does not fit is found by resize2fs(8) before anything was cut off
    answer = converge([], **shrunk("unmounted", *both, size=16))
    assert vg.codes(answer) == ["would_shrink"] and vg.lv("ext4") == [str(96 * MIB)], answer
    down = as_foreseen(shrunk("unmounted", *both))
    assert ports(down) == [("mount", "remove"), ("superblock", "change"), ("lv", "change")]
    assert vg.lv("ext4") == [str(64 * MIB)]
    sh(["e2fsck", "-fn", "/dev/data/ext4"])
    settled(shrunk("unmounted", *both))
    vg.done(converge([], **stack(fstypes=("ext4",), ext4=64)))
    assert sh(["sha256sum", TOP + "/ext4/f"]) == before and 45 < room("ext4") < 64
    port = _kinds.ports(["volume_groups"])["lv"]
    row = port.scan(["/dev/data/ext4"])["/dev/data/ext4"]
    with pytest.raises(StorageError, match="bytes, more than"):  # whatever the plan says, it is looked at again
        port.put("/dev/data/ext4", row, {**row, "size": 32 * MIB})
    # killed between the two: it is not smaller yet, what stands on it is, and may be mounted
    sh(["lvextend", "-L", "96m", "data/ext4"])
    assert ports(as_foreseen(shrunk("mounted", *both))) == [("lv", "change")]
    assert vg.lv("ext4") == [str(64 * MIB)] and sh(["sha256sum", TOP + "/ext4/f"]) == before


def test_an_xfs_does_not_shrink_nor_does_what_it_is_on() -> None:
    vg.done(converge([], **stack(fstypes=("xfs",), xfs=320)))
    before = vg.told("lvs", "lv_name,lv_size")
    for state in ("mounted", "unmounted"):
        answer = converge([], **shrunk(state, "volume_groups", "filesystems", fstype="xfs", size=304))
        vg.refused(answer, "unsupported")
    assert vg.told("lvs", "lv_name,lv_size") == before and room("xfs") > 200
