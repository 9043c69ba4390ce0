# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems looked at for errors by their own programs: nothing of them is another byte afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import Any, Callable

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fsck, program
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.namespace import image, loop_device

MIB = 1 << 20
SIZES = {"ext4": 64 * MIB, "xfs": 300 * MIB, "btrfs": 128 * MIB, "vfat": 64 * MIB}
HEALTH = fsck.Health(program.execute)


def poke(path: str, at: int, data: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(data)


def root_of_btrfs(path: str) -> None:
    """Both copies of the root of the root tree."""
    text = quotas.sh(["btrfs", "inspect-internal", "dump-super", path])
    logical = next(line.split()[1] for line in text.splitlines() if line.startswith("root\t"))
    said = quotas.sh(["btrfs-map-logical", "-l", logical, path])
    for line in said.splitlines():
        poke(path, int(line.split("physical ")[1].split()[0]), b"\xff" * 4096)


DAMAGES: dict[str, Callable[[str], None]] = {
    "ext4": lambda path: poke(path, 4096 * 2 + 10, b"\xff" * 600),  # what the group descriptors say
    "xfs": lambda path: poke(path, 512 + 28, b"\xff" * 16),  # the free space of the first group
    "btrfs": root_of_btrfs,
    "vfat": lambda path: poke(path, 4 * 512 + 8, b"\x05\x00\x05\x00"),  # two chains that cross, in one of two tables
}


def digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def seen(path: str, health: fsck.Health = HEALTH) -> Any:
    found = health.scan([path]).get(path)
    return found if found is None or isinstance(found, StorageError) else found["health"]


@pytest.mark.parametrize("fstype", fsck.READS)
def test_clean_in_use_and_damaged(arena: str, fstype: str) -> None:
    path = image(arena + "/i", SIZES[fstype], fstype)
    before = digest(path)
    assert (seen(path), digest(path)) == ("clean", before)
    with loop_device(path) as device:
        assert seen(device) == "clean"
        held = os.open(device, os.O_RDONLY | os.O_EXCL)  # as a mount has it, and not every kernel mounts each of them
        try:
            assert (seen(device), seen(path)) == ("in_use", "in_use")
        finally:
            os.close(held)
    DAMAGES[fstype](path)
    before = digest(path)
    found = seen(path)
    assert isinstance(found, StorageError) and found.code == "checksum" and fstype in found.message, found
    assert digest(path) == before
    kind = "vfat" if fstype == "vfat" else fstype
    answer = quotas.converge([], filesystems=[{"device": path, "fstype": kind, "check": True, "label": "OTHER"}])
    assert [error["code"] for error in answer["refused"]] == ["checksum"] and digest(path) == before, answer


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_journal_that_was_not_replayed_is_no_damage(arena: str, fstype: str) -> None:
    path = image(arena + "/i", SIZES[fstype], fstype)
    os.mkdir(arena + "/m")
    subprocess.run(["mount", "-o", "loop", path, arena + "/m"], check=True)
    try:
        for number in range(200):
            os.mkdir(arena + "/m/%d" % number)
        subprocess.run(["sync", "-f", arena + "/m"], check=True)
        shutil.copyfile(path, arena + "/copy")
    finally:
        subprocess.run(["umount", arena + "/m"], check=True)
    before = digest(arena + "/copy")
    assert (seen(arena + "/copy"), digest(arena + "/copy")) == ("dirty", before)
    assert seen(path) == "clean"


def test_what_is_no_filesystem_of_ours(arena: str) -> None:
    blank = image(arena + "/blank", MIB)
    swap = image(arena + "/swap", MIB)
    subprocess.run(["mkswap", "-q", swap], check=True)
    assert HEALTH.scan([blank, swap, arena + "/none"]) == {} and HEALTH.scan(None) == {}


def test_a_program_that_is_missing_or_fails(arena: str) -> None:
    path = image(arena + "/i", 8 * MIB, "ext4")
    missing = seen(path, fsck.Health(program.execute, "/nowhere"))
    assert (missing.code, missing.hint) == ("missing_tool", "install e2fsprogs (same name on Debian and RHEL)")
    failed = seen(path, fsck.Health(lambda argv, stdin, timeout: (8, b"", b"no memory")))
    assert failed.code == "failed" and "no memory" in failed.message, "an error of the program is no damage"
    assert seen(arena + "/i", HEALTH) == "clean"


def test_nothing_repairs() -> None:
    for argv, _package in fsck.READS.values():
        assert {"-n", "--readonly"} & set(argv) and not {"-y", "-p", "-a", "-L", "--repair", "--force"} & set(argv)


def test_it_is_asked_for_and_told(arena: str) -> None:
    """A run that changes nothing looks too, and says what it saw; where nothing was asked no program runs."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import filesystem

    path = image(arena + "/i", 8 * MIB, "ext4")
    given = {"device": path, "state": "present", "check": True, "fstype": "ext4"}
    assert filesystem.facts(given, None) == [("health", path)]
    assert (
        filesystem.facts({**given, "state": "absent"}, None) == filesystem.facts({**given, "check": False}, None) == []
    )
    rows = {"superblock": {}, "health": HEALTH.scan([path])}
    assert filesystem.show(given, rows)["health"] == "clean"
    assert filesystem.show({**given, "check": False}, {"superblock": {}})["health"] is None
    for check in (True, False):
        answer = quotas.converge([], check, filesystems=[{"device": path, "fstype": "ext4", "check": True}])
        assert (answer["refused"], answer["actions"]) == ([], [])
