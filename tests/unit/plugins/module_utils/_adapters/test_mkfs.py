# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems made, grown, shrunk, labelled and wiped on real images and loop devices; never over something."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator
from uuid import uuid4

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, state_of
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    image,
    loop_device,
)

MIB = 1 << 20
UUID = "0a1b2c3d-0000-4000-8000-1234567890ab"
SIZE = {"ext4": 64, "xfs": 320, "btrfs": 256, "vfat": 64, "swap": 16}
ALL = sorted(SIZE)


class Intents:
    """What was begun: a folder with one file for each, so that a killed process leaves it to the next."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def _path(self, what: str) -> str:
        return self.folder + "/" + hashlib.sha256(os.fsencode(what)).hexdigest()

    def begin(self, what: str, **details: Any) -> None:
        with open(self._path(what) + ".new", "w", encoding="utf-8") as f:
            json.dump(details, f)
        os.rename(f.name, self._path(what))

    def begun(self, whats: Any) -> set[str]:
        return {what for what in whats if os.path.exists(self._path(what))}

    def is_ours(self, what: str, **details: Any) -> bool:
        if not os.path.exists(self._path(what)):
            return False
        with open(self._path(what), encoding="utf-8") as f:
            return {**details, **json.load(f)}.items() >= details.items()

    def end(self, what: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(what))


def run(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
    done = subprocess.run(argv, input=stdin, timeout=timeout, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, (argv, done.stdout[-300:], done.stderr[-300:])
    return done.stdout.decode()


def blkid(path: str, tag: str) -> str:
    return run(["blkid", "-p", "-s", tag, "-o", "value", path])[1].decode().strip()


@contextlib.contextmanager
def mounted(device: str, at: str) -> Iterator[str]:
    os.makedirs(at, exist_ok=True)
    said("mount", device, at)
    try:
        yield at
    finally:
        said("umount", at)


@pytest.fixture
def port(arena: str) -> Superblock:
    return Superblock(run, Intents(arena + "/intents"))


def plan(port: Superblock, target: str, gone: Any = (), **declared: Any) -> tuple[Any, Any, StorageError | None]:
    """What the engine does with one cell: resolve, scan, compare, merge, refuse."""
    value = port.resolve(target, declared) if declared else None
    if not declared:
        port.wanted.pop(target, None)
    before = port.scan([target]).get(target)
    if isinstance(before, StorageError):
        return before, None, before
    if value is None:
        after = None
    elif before is not None and port.same(target, before, value):
        return before, before, None
    else:
        after = port.merge(target, before, value)
    return before, after, port.refuse(target, before, after, set(gone)) if before != after else None


def converge(port: Superblock, target: str, gone: Any = (), **declared: Any) -> tuple[Any, Any]:
    before, after, refused = plan(port, target, gone, **declared)
    if refused:
        raise refused
    if before is not after:
        port.put(target, before, after)
    return before, after


def code(port: Superblock, target: str, gone: Any = (), **declared: Any) -> str | None:
    error = plan(port, target, gone, **declared)[2]
    return error and error.code


def row(port: Superblock, target: str) -> Any:
    port.wanted.clear()
    return port.scan([target]).get(target)


def check(path: str, fstype: str) -> None:
    """Another program says that the filesystem is whole."""
    argv = {
        "ext4": ["e2fsck", "-fn", path], "xfs": ["xfs_repair", "-n", *["-f"] * os.path.isfile(path), path],
        "btrfs": ["btrfs", "check", "--readonly", path], "vfat": ["fsck.vfat", "-n", path], "swap": ["swaplabel", path],
    }[fstype]  # fmt: skip
    said(*argv)


def digest(path: str) -> str:
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


# -- made and removed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fstype", ALL)
@pytest.mark.parametrize("device", [False, True])
def test_made_on_blank_as_declared_and_predicted(arena: str, port: Superblock, fstype: str, device: bool) -> None:
    # mkfs.btrfs refuses a uuid that any device of the host has: a run beside this one must have another
    uuid = "ABCD-1234" if fstype == "vfat" else str(uuid4())
    with contextlib.ExitStack() as held:
        path = image(arena + "/i", SIZE[fstype] * MIB)
        target = held.enter_context(loop_device(path)) if device else path
        want = {"fstype": fstype, "label": "DATA 1", "uuid": uuid, "fills": True}
        before, after = converge(port, target, **want)
        assert before is None and after["size"] == SIZE[fstype] * MIB
        assert [blkid(target, tag) for tag in ("TYPE", "LABEL", "UUID")] == [fstype, "DATA 1", uuid]
        check(target, fstype)
        found = row(port, target)
        for field, value in state_of(after).items():
            assert value is UNKNOWN or found[field] == value, field
        assert converge(port, target, **want)[0] is not None, "the second run has nothing to do"
        assert not port.intents.is_ours(target)
        assert port.consent(target, found, None) == ("wipe_token", found["_token"])
        assert port.risk(target, found, None) == "destroys" and port.lowers(target, found, None)
        port.put(target, found, None)
        assert run(["blkid", "-p", target])[0] == 2
        with open(target, "rb") as f:
            assert not any(f.read(4 * MIB))
            f.seek(-4 * MIB, 2)
            assert not any(f.read())
        assert row(port, target) is None


@pytest.mark.parametrize(
    ("fstype", "features", "quota"),
    [("ext4", ("mmp", "casefold"), ("project", "user")), ("ext4", (), ("group",)),
     ("xfs", ("bigtime", "rmapbt"), ("project",)), ("btrfs", ("no-holes",), ("project",))],
)  # fmt: skip
def test_features_and_quota(arena: str, port: Superblock, fstype: str, features: Any, quota: Any) -> None:
    target = image(arena + "/i", SIZE[fstype] * MIB)
    want = {"fstype": fstype, "features": features, "quota": quota}
    converge(port, target, **want)
    found = row(port, target)
    assert set(features) <= set(found["features"]) and set(quota) <= set(found["quota"])
    assert converge(port, target, **want)[1] is not None
    if fstype == "ext4":
        shown = said("dumpe2fs", "-h", target)
        words = next(li for li in shown.splitlines() if li.startswith("Filesystem features")).split()
        assert {"quota", *features} <= set(words) and ("project" in words) == ("project" in quota)
        assert ("User quota inode" in shown, "Group quota inode" in shown) == ("user" in quota, "group" in quota)
    check(target, fstype)


def test_a_filesystem_that_is_there_costs_one_small_read(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 64 * MIB)
    converge(port, target, fstype="ext4", label="x")
    port.resolve(target, {"fstype": "ext4", "label": "x", "fills": True})
    assert "_token" not in port.scan([target])[target], "no proof was needed"
    port.resolve(target, {"fstype": "ext4", "label": "y"})
    assert "_token" in port.scan([target])[target]


# -- never over something ----------------------------------------------------------------------------------------------


def foreign(path: str, kind: str) -> None:
    if kind in SIZE:
        subprocess.run(
            {"swap": ["mkswap"], "xfs": ["mkfs.xfs", "-q"]}.get(kind, ["mkfs." + kind]) + [path], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return
    offset, data = {
        "luks": (0, b"LUKS\xba\xbe\0\2"), "lvm2": (512, b"LABELONE" + bytes(16) + b"LVM2 001"),
        "data": (MIB, os.urandom(512)), "last byte": (os.path.getsize(path) - 1, b"\1"),
        "gpt backup": (os.path.getsize(path) - 512, b"EFI PART"), "damaged ext4": (1080, b"\x53\xef"),
    }[kind]  # fmt: skip
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


@pytest.mark.parametrize("kind", ["luks", "lvm2", "data", "last byte", "gpt backup", "damaged ext4", "xfs", "swap"])
def test_nothing_is_written_over_without_its_token(arena: str, port: Superblock, kind: str) -> None:
    target = image(arena + "/i", 320 * MIB)
    foreign(target, kind)
    before, after, refused = plan(port, target, fstype="ext4")
    assert refused is None and port.risk(target, before, after) == "destroys"
    assert port.consent(target, before, after) == ("wipe_token", before["_token"])
    assert before["fstype"] == {"luks": "luks", "lvm2": "lvm2", "gpt backup": "gpt", "xfs": "xfs", "swap": "swap"}.get(
        kind
    )
    kept = digest(target)
    with pytest.raises(StorageError) as caught:
        port.put(target, None, after)
    assert (caught.value.code, digest(target)) == ("moved", kept), "a plan made when it was blank"
    with open(target, "r+b") as f:
        f.seek(2 * MIB)
        f.write(b"changed since the token was printed")
    kept = digest(target)
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    assert (caught.value.code, digest(target)) == ("moved", kept)
    before, after, _none = plan(port, target, fstype="ext4")
    port.put(target, before, after)
    assert blkid(target, "TYPE") == "ext4"
    check(target, "ext4")


def test_two_signatures_are_no_filesystem_of_ours(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 64 * MIB, "ext4")
    foreign(target, "luks")
    found = row(port, target)
    assert found["fstype"] is None and found["_content"]["detail"]["signatures"] == ["ext4", "luks"]


def test_what_cannot_be_read_is_an_error_of_its_own_row(arena: str, port: Superblock) -> None:
    path = image(arena + "/i", 64 * MIB)
    with loop_device(path) as device:
        os.truncate(path, 32 * MIB)
        rows = port.scan([device, arena + "/none", arena, path])
    assert rows[device].code == "unreadable" and rows[arena].code == "invalid"
    assert arena + "/none" not in rows
    with pytest.raises(StorageError):
        port.scan(None)


# -- in use, protected, unstable ---------------------------------------------------------------------------------------


def test_in_use_is_refused_by_name_unless_its_users_go(arena: str, port: Superblock) -> None:
    path = image(arena + "/i", 64 * MIB)
    with loop_device(path) as device:
        assert code(port, path, fstype="ext4") == "in_use"
        assert code(port, path, {("loop", path)}, fstype="ext4") is None
        before = row(port, path)
        with pytest.raises(StorageError) as caught:
            port.put(path, before, port.merge(path, before, {"fstype": "ext4"}))
        assert caught.value.code == "in_use"
        said("mkfs.ext4", "-q", device)
        with mounted(device, arena + "/m"):
            before, after, refused = plan(port, device)
            assert refused is not None and refused.code == "in_use" and arena + "/m" in refused.message
            assert code(port, device, {("mount", arena + "/m")}) is None
            assert code(port, device, fstype="xfs") == "in_use"
            with pytest.raises(StorageError) as caught:
                port.put(device, before, None)
            assert caught.value.code == "in_use"
            with open(arena + "/m/f", "w", encoding="ascii") as f:
                f.write("used between the look and the wipe")
        port.put(device, before, None)  # the same filesystem, unmounted meanwhile by the same plan
        assert row(port, device) is None


def test_an_unstable_name_takes_consent(arena: str, port: Superblock) -> None:
    with loop_device(image(arena + "/i", 64 * MIB)) as device:
        assert code(port, device, fstype="ext4") is None
        error = port.unstable(device)
        assert error is not None and error.code == "unstable_device" and device in error.message
        said("mkfs.ext4", "-q", device)
        assert code(port, device) is None and port.unstable(device) is not None
    path = image(arena + "/j", 64 * MIB)
    assert code(port, path, fstype="ext4") is None and port.unstable(path) is None


def test_a_device_beneath_a_vital_mount_is_protected(arena: str, port: Superblock) -> None:
    with loop_device(image(arena + "/i", 64 * MIB, "ext4")) as device, mounted(device, "/usr/local/games"):
        assert code(port, device) == "in_use"
    with loop_device(image(arena + "/j", 64 * MIB, "ext4")) as device, mounted(device, "/var"):
        before = row(port, device)
        gone = {("mount", "/var")}
        assert code(port, device, gone) == code(port, device, gone, fstype="ext4", label="x") == "protected"
        with pytest.raises(StorageError):
            port.put(device, before, None)


def test_a_missing_program_is_named_with_its_package(arena: str) -> None:
    port = Superblock(run, Intents(arena + "/intents"), search=arena)
    target = image(arena + "/i", 64 * MIB)
    before, after, refused = plan(port, target, fstype="xfs")
    assert refused and refused.code == "missing_tool" and "xfsprogs" in refused.hint
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    assert caught.value.code == "missing_tool" and not port.intents.is_ours(target)


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"fstype": "ntfs"}, {"fstype": "ext4", "label": "-F"}, {"fstype": "ext4", "label": "a" * 17},
        {"fstype": "xfs", "label": "a" * 13}, {"fstype": "ext4", "label": "a\n"}, {"fstype": "ext4", "label": "é"},
        {"fstype": "vfat", "label": "lower"}, {"fstype": "ext4", "label": 7}, {"fstype": "ext4", "uuid": "clear"},
        {"fstype": "vfat", "uuid": UUID}, {"fstype": "ext4", "uuid": UUID + "\n"},
        {"fstype": "xfs", "features": ["mmp"]},
        {"fstype": "ext4", "features": ["^has_journal"]}, {"fstype": "ext4", "quota": ["everybody"]}, {},
    ],
)  # fmt: skip
def test_what_must_never_reach_a_command_line(port: Superblock, value: dict[str, Any]) -> None:
    with pytest.raises(StorageError) as caught:
        port.resolve("/x", value)
    assert caught.value.code == "invalid"
    assert "/x" not in port.wanted


def test_case_of_identifiers_is_that_of_the_disk(port: Superblock) -> None:
    assert port.resolve("/x", {"fstype": "ext4", "uuid": UUID.upper()})["uuid"] == UUID
    assert port.resolve("/x", {"fstype": "vfat", "uuid": "abcd-12ef"})["uuid"] == "ABCD-12EF"


@pytest.mark.parametrize(
    ("fstype", "declared", "expected"),
    [
        ("ext4", {"uuid": UUID}, "unsupported"), ("ext4", {"features": ["mmp"]}, "unsupported"),
        ("ext4", {"quota": ["project"]}, None), ("xfs", {"size": 200 * MIB}, "unsupported"),
        ("vfat", {"size": 32 * MIB}, "unsupported"), ("swap", {"size": 400 * MIB}, "unsupported"),
        ("ext4", {"size": 32 * MIB}, None), ("btrfs", {"size": 200 * MIB}, None),
    ],
)  # fmt: skip
def test_what_an_existing_filesystem_cannot_become(
    arena: str,
    port: Superblock,
    fstype: str,
    declared: dict[str, Any],
    expected: str | None,
) -> None:
    target = image(arena + "/i", SIZE[fstype] * MIB)
    converge(port, target, fstype=fstype)
    before, after, refused = plan(port, target, fstype=fstype, **declared)
    assert (refused.code if refused else None) == expected
    if "size" in declared and before is not after and refused is None:
        assert port.risk(target, before, after) == "shrinks" and port.lowers(target, before, after)
        assert port.consent(target, before, after) == ("allow_shrink", True)


def quota_of(target: str) -> tuple[set[str], set[str]]:
    """(kinds, features that belong to quota) of an ext4, as dumpe2fs tells them."""
    shown = said("dumpe2fs", "-h", target).splitlines()
    kinds = {line.split()[0].lower() for line in shown if " quota inode:" in line}
    words = next(line for line in shown if line.startswith("Filesystem features")).split()
    return kinds, {"quota", "project"} & set(words)


@pytest.mark.parametrize(
    ("had", "wanted"),
    [([], ["project"]), ([], ["group", "user"]), (["user"], ["project"]), (["project"], ["user"])],
)
@pytest.mark.parametrize("device", [False, True])
def test_quota_is_added_to_an_ext4_that_is_not_mounted(
    arena: str, port: Superblock, device: bool, had: list[str], wanted: list[str]
) -> None:
    with contextlib.ExitStack() as held:
        path = image(arena + "/i", 64 * MIB)
        target = held.enter_context(loop_device(path)) if device else path
        converge(port, target, fstype="ext4", quota=had)
        start, whole = quota_of(target), {*had, *wanted}
        Path(arena, "file").write_bytes(b"x" * 100000)
        if not had:  # something is in it, which is counted and stays; this kernel may not know quota
            said("debugfs", "-w", "-R", "write %s/file file" % arena, target)
        before, after = converge(port, target, fstype="ext4", quota=wanted)
        words = {"quota", *(["project"] if "project" in whole else [])}
        assert quota_of(target) == (whole, words)
        found = row(port, target)
        assert state_of(found) == state_of(after), "as predicted"
        before_again, after_again = converge(port, target, fstype="ext4", quota=wanted)
        assert before_again is after_again, "the second run has nothing to do"
        check(target, "ext4")
        assert port.risk(target, before, after) == "reversible"
        port.put(target, found, before)  # undone
        assert quota_of(target) == start and state_of(row(port, target)) == state_of(before)
        check(target, "ext4")
        assert had or said("debugfs", "-R", "cat file", target) == "x" * 100000


def test_where_quota_cannot_be_added(arena: str, port: Superblock) -> None:
    small = image(arena + "/small", 64 * MIB)
    said("mkfs.ext4", "-q", "-I", "128", small)
    assert code(port, small, fstype="ext4", quota=["project"]) == "unsupported", "an inode has no room for its id"
    assert code(port, small, fstype="ext4", quota=["user"]) is None
    path = image(arena + "/i", 64 * MIB)
    with loop_device(path) as device:
        converge(port, device, fstype="ext4")
        with mounted(device, arena + "/m"):
            refused = plan(port, device, fstype="ext4", quota=["project"])[2]
            assert refused and refused.code == "in_use" and "unmount" in refused.hint
        before = plan(port, device, fstype="ext4", quota=["project"])[0]
        with mounted(device, arena + "/m"), pytest.raises(StorageError) as caught:  # meanwhile
            port.put(device, before, {**before, "quota": ("project",)})
        assert caught.value.code == "in_use" and quota_of(device) == (set(), set())
    port.search = []
    assert code(port, path, fstype="ext4", quota=["project"]) == "missing_tool"


@pytest.mark.parametrize("fstype", ["vfat", "swap"])
def test_quota_where_nothing_accounts_it(arena: str, port: Superblock, fstype: str) -> None:
    assert code(port, image(arena + "/i", 64 * MIB), fstype=fstype, quota=["user"]) == "not_enforced"


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fstype", ALL)
def test_a_label_changes_and_can_be_undone(arena: str, port: Superblock, fstype: str) -> None:
    target = image(arena + "/i", SIZE[fstype] * MIB)
    converge(port, target, fstype=fstype, label="OLD")
    before, after = converge(port, target, fstype=fstype, label="NEW")
    assert port.risk(target, before, after) == "reversible" and not port.lowers(target, before, after)
    assert blkid(target, "LABEL") == "NEW"
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    assert caught.value.code == "moved"
    port.put(target, after, before)
    assert blkid(target, "LABEL") == "OLD"
    if fstype != "swap":
        now = row(port, target)
        port.put(target, now, {**now, "label": ""})  # as a label that was given to none is taken back
        assert blkid(target, "LABEL") == ""
    check(target, fstype)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_a_mounted_filesystem_takes_a_label(arena: str, port: Superblock, fstype: str) -> None:
    with loop_device(image(arena + "/i", SIZE[fstype] * MIB)) as device:
        converge(port, device, fstype=fstype, label="old")
        with mounted(device, arena + "/m"):
            converge(port, device, fstype=fstype, label="new")
        assert blkid(device, "LABEL") == "new"


# -- growth and shrinking ----------------------------------------------------------------------------------------------


def span(path: str, fstype: str, at: str = "") -> int:
    """Bytes of a filesystem, by its own program."""
    if fstype == "ext4":
        shown = dict(li.split(":", 1) for li in said("dumpe2fs", "-h", path).splitlines() if ":" in li)
        return int(shown["Block count"]) * int(shown["Block size"])
    if fstype == "xfs":
        return int(said("xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks", path).split()[2]) * 4096
    shown = dict(
        li.split(None, 1) for li in said("btrfs", "inspect-internal", "dump-super", path).splitlines() if li.split()[1:]
    )
    return int(shown["total_bytes"])


class Writer(threading.Thread):
    """Writes and reads back while a filesystem changes its size."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder, self.going, self.rounds, self.wrong = folder, True, 0, 0

    def run(self) -> None:
        while self.going or not self.rounds:
            data = os.urandom(65536)
            with open(self.folder + "/w", "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            with open(self.folder + "/w", "rb") as f:
                self.wrong += f.read() != data
            self.rounds += 1

    def stop(self) -> None:
        self.going = False
        self.join()
        assert self.rounds and not self.wrong


def may_resize_ext4() -> bool:
    """EXT4_IOC_RESIZE_FS takes CAP_SYS_RESOURCE (24), which a guest may lack even as root."""
    with open("/proc/self/status", encoding="ascii") as f:
        mask = next(int(line.split()[1], 16) for line in f if line.startswith("CapEff"))
    return bool(mask >> 24 & 1)


@contextlib.contextmanager
def expected(failing: bool) -> Iterator[None]:
    if not failing:
        yield
        return
    with pytest.raises(StorageError) as caught:
        yield
    assert "Permission denied" in caught.value.message


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("how", ["mounted", "attached"])
@pytest.mark.parametrize("target", ["device", "image"])
def test_growth_online_under_a_writer_and_offline(
    arena: str, port: Superblock, fstype: str, how: str, target: str
) -> None:
    path, new = image(arena + "/i", SIZE[fstype] * MIB), (SIZE[fstype] + 512) * MIB
    with loop_device(path) as device, contextlib.ExitStack() as held:
        where = device if target == "device" else path
        want = {"fstype": fstype}
        converge(port, device, **want)
        if how == "mounted":
            writer = Writer(held.enter_context(mounted(device, arena + "/m")))
            writer.start()
        before, after, refused = plan(port, where, **want, size=new)
        assert (
            refused is None and port.risk(where, before, after) == "forward" and not port.lowers(where, before, after)
        )
        with pytest.raises(StorageError) as caught:
            port.put(where, before, after)
        assert caught.value.code == "failed", "the device has not grown yet"
        os.truncate(path, new)
        if target == "device":
            said("losetup", "-c", device)
        try:
            with expected(how == "mounted" and fstype == "ext4" and not may_resize_ext4()):
                port.put(where, before, after)
        finally:
            if how == "mounted":
                writer.stop()
        if how == "mounted":
            if fstype == "ext4" and not may_resize_ext4():
                return  # what this host's kernel refuses is seen to be said; the lab shows the rest
            free = os.statvfs(arena + "/m")
            assert free.f_blocks * free.f_frsize > (SIZE[fstype] + 400) * MIB
        held.close()
        assert new - 16 * MIB < span(device, fstype) <= new
        found = row(port, where)
        assert (found["size"], found["fills"]) == (new, True)
        assert plan(port, where, **want, size=new, fills=True)[2] is None
        check(device, fstype)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_fills_means_the_whole_device(arena: str, port: Superblock, fstype: str) -> None:
    path = image(arena + "/i", SIZE[fstype] * MIB)
    with loop_device(path) as device:
        converge(port, device, fstype=fstype)
        os.truncate(path, SIZE[fstype] * MIB + 300 * MIB + 512)
        said("losetup", "-c", device)
        found = row(port, device)
        assert (found["fills"], found["size"]) == (False, span(device, fstype))
        converge(port, device, fstype=fstype, fills=True)
        assert row(port, device)["fills"] is True
        assert span(device, fstype) > (SIZE[fstype] + 280) * MIB
        check(device, fstype)


@pytest.mark.parametrize("extra", [0, 512, 4096, 5 * MIB + 512, 7 * MIB, 128 * MIB, 129 * MIB, 136 * MIB])
@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_what_was_just_made_fills_any_device(arena: str, port: Superblock, fstype: str, extra: int) -> None:
    size = SIZE[fstype] * 2 * MIB + extra
    target = image(arena + "/i", size)
    converge(port, target, fstype=fstype, fills=True, size=size)
    found = row(port, target)
    assert (found["fills"], found["size"]) == (True, size)


def test_ext4_shrinks_offline_to_what_it_can_hold(arena: str, port: Superblock) -> None:
    with loop_device(image(arena + "/i", 1024 * MIB)) as device:
        want = {"fstype": "ext4"}
        converge(port, device, **want)
        with mounted(device, arena + "/m"):
            with open(arena + "/m/big", "wb") as f:
                f.write(os.urandom(100 * MIB))
            kept = digest(arena + "/m/big")
            assert code(port, device, **want, size=512 * MIB) == "in_use"
        before, after, refused = plan(port, device, **want, size=64 * MIB)
        assert refused is None
        with pytest.raises(StorageError) as caught:
            port.put(device, before, after)
        assert caught.value.code == "would_shrink" and span(device, "ext4") == 1024 * MIB
        converge(port, device, **want, size=512 * MIB)
        assert span(device, "ext4") == 512 * MIB
        check(device, "ext4")
        assert row(port, device)["size"] == 512 * MIB
        with mounted(device, arena + "/m"):
            assert digest(arena + "/m/big") == kept


@pytest.mark.parametrize("online", [False, True])
def test_btrfs_shrinks_while_mounted_or_not(arena: str, port: Superblock, online: bool) -> None:
    with loop_device(image(arena + "/i", 512 * MIB)) as device, contextlib.ExitStack() as held:
        want = {"fstype": "btrfs"}
        converge(port, device, **want)
        if online:
            held.enter_context(mounted(device, arena + "/m"))
        converge(port, device, **want, size=300 * MIB)
        held.close()
        assert span(device, "btrfs") == 300 * MIB
        check(device, "btrfs")


def test_a_dirty_ext4_is_not_resized_offline(arena: str, port: Superblock) -> None:
    path = image(arena + "/i", 64 * MIB)
    with loop_device(path) as device:
        converge(port, device, fstype="ext4")
        with mounted(device, arena + "/m"):
            os.sync()
            said("cp", "--sparse=always", path, arena + "/copy")
    os.truncate(arena + "/copy", 128 * MIB)
    kept = digest(arena + "/copy")
    with pytest.raises(StorageError) as caught:
        converge(port, arena + "/copy", fstype="ext4", size=128 * MIB)
    assert (caught.value.code, digest(arena + "/copy")) == ("failed", kept)


def test_a_change_meets_only_the_filesystem_that_was_seen(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 64 * MIB)
    converge(port, target, fstype="ext4")
    before, after, _refused = plan(port, target, fstype="ext4", label="x")
    said("mkfs.ext4", "-q", target)
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    assert caught.value.code == "moved"


# -- programs that fail, and death in the middle -----------------------------------------------------------------------


def test_a_program_that_fails_says_why_and_leaves_it_ours(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 300 << 20)
    before, after, refused = plan(port, target, fstype="xfs")
    assert refused is None
    broken = Path(arena, "bin", "mkfs.xfs")
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    broken.chmod(0o755)
    port.search = [str(broken.parent)]
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    assert caught.value.code == "failed" and "mkfs.xfs" in caught.value.message and caught.value.details["rc"] == 3
    assert port.intents.is_ours(target)


def test_a_program_that_does_nothing_is_found_out(arena: str) -> None:
    port = Superblock(lambda argv, stdin=b"", timeout=60.0: (0, b"", b""), Intents(arena + "/intents"))
    for fstype in ALL:
        target = image(arena + "/" + fstype, SIZE[fstype] * MIB)
        with pytest.raises(StorageError) as caught:
            converge(port, target, fstype=fstype)
        assert caught.value.code == "not_enforced"
    target = image(arena + "/made", 64 * MIB, "ext4")
    with pytest.raises(StorageError) as caught:
        converge(port, target, fstype="ext4", label="new")
    assert caught.value.code == "not_enforced"


def test_an_ext4_without_its_root_is_found_out(arena: str) -> None:
    target = image(arena + "/i", 64 * MIB)

    def lossy(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        answer = run(argv, stdin, timeout)
        said("debugfs", "-w", "-R", "clri <2>", target)
        return answer

    port = Superblock(lossy, Intents(arena + "/intents"))
    with pytest.raises(StorageError) as caught:
        converge(port, target, fstype="ext4")
    assert caught.value.code == "not_enforced" and port.intents.is_ours(target)


def test_a_device_swapped_while_it_is_made_is_found_out(arena: str) -> None:
    target, other = image(arena + "/i", 64 * MIB), image(arena + "/precious", 64 * MIB)

    def swap(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        os.rename(target, arena + "/moved")
        os.symlink(other, target)
        return run(argv, stdin, timeout)

    port = Superblock(swap, Intents(arena + "/intents"))
    kept = digest(other)
    with pytest.raises(StorageError) as caught:
        converge(port, target, fstype="ext4")
    assert (caught.value.code, digest(other)) == ("moved", kept)


SCANNED = """
import sys
sys.path.insert(0, {tests!r})
import test_mkfs as t
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
port = t.Superblock(t.run, t.Intents({folder!r}))
targets = [{folder!r} + "/%d" % i for i in range({count})]
for target in targets:
    t.image(target, 16 << 20)
    port.resolve(target, {{"fstype": "ext4"}})
rows = port.scan(targets)
assert rows == {{}} and sorted(port.seen) == sorted(targets)
asked = [path for path in opened if path == "/sys/block/{loop}/loop/backing_file"]
print(len(asked))
"""


def test_loop_devices_are_asked_once_a_scan_however_many_images(arena: str) -> None:
    path = "PYTHONPATH=" + os.pathsep.join(sys.path)
    with loop_device(image(arena + "/other", MIB)) as device:
        words = {"tests": os.path.dirname(__file__), "loop": os.path.basename(device)}
        few, many = (SCANNED.format(folder=arena + "/%d" % count, count=count, **words) for count in (1, 9))
        asked = [int(said("env", path, sys.executable, "-c", s)) for s in (few, many)]
    assert 1 <= asked[0] == asked[1] <= 2


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import test_mkfs as t
port = t.Superblock(t.run, t.Intents({folder!r}))
t.converge(port, {target!r}, fstype={fstype!r}, label="DATA", fills=True)
"""
POINTS = {"ext4": 10, "xfs": 10, "btrfs": 10, "vfat": 10, "swap": 3}


@pytest.mark.parametrize("fstype", ALL)
def test_killed_at_any_write_the_next_run_converges(arena: str, port: Superblock, fstype: str) -> None:
    """mkfs dies at its Nth write, whichever; nobody's consent is needed for what we began ourselves."""
    target, tried, log = arena + "/i", 0, arena + "/log"
    script = KILLED.format(
        tests=os.path.dirname(__file__), folder=arena + "/intents", target=target, fstype=fstype
    )  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    calls = "trace=pwrite64,write,fsync,fallocate,ftruncate"

    def traced(*inject: str) -> list[str]:
        image(target, SIZE[fstype] * MIB)
        port.intents.end(target)
        argv = ["strace", "-f", "-o", log, "-e", calls, *inject, "-P", target, sys.executable, "-c", script]
        subprocess.run(argv, env=env, capture_output=True, check=False)
        with open(log, encoding="utf-8", errors="replace") as f:
            return f.read().splitlines()

    counts: dict[str, int] = {}
    for line in traced():
        if "(" in line and "+++" not in line and "---" not in line:
            counts[line.split()[0]] = counts.get(line.split()[0], 0) + 1
    whole = max(counts.values())  # strace counts the calls of each process by itself
    assert blkid(target, "TYPE") == fstype and not port.intents.is_ours(target)
    for point in range(1, whole + 1, max(1, whole // POINTS[fstype])):
        traced("-e", "inject=pwrite64,write,fsync,fallocate,ftruncate:signal=KILL:when=%d" % point)
        finish(port, target, fstype, point)
        tried += 1
    print("%s: %d crash points of %d writes" % (fstype, tried, whole))
    assert tried >= min(whole, POINTS[fstype] // 2)


def finish(port: Superblock, target: str, fstype: str, point: int) -> None:
    """After a kill: planned without any consent, done, whole, and nothing left to do."""
    before, after, refused = plan(port, target, fstype=fstype, label="DATA", fills=True)
    assert refused is None, point
    if before is not after:
        assert before is None or port.risk(target, before, after) in ("forward", "reversible"), (point, before)
        port.put(target, before, after)
    assert [blkid(target, tag) for tag in ("TYPE", "LABEL")] == [fstype, "DATA"], point
    check(target, fstype)
    assert not port.intents.is_ours(target), point
    before, after, _refused = plan(port, target, fstype=fstype, label="DATA", fills=True)
    assert before is after is not None, point


@pytest.mark.parametrize("start", ["blank", "luks"])
def test_our_own_process_killed_at_any_call_about_the_device(arena: str, port: Superblock, start: str) -> None:
    """Over foreign content (with its token) a kill leaves either that content or what we may finish without asking."""
    target, tried, log = arena + "/i", 0, arena + "/log"
    script = KILLED.format(tests=os.path.dirname(__file__), folder=arena + "/intents", target=target, fstype="ext4")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    calls = "openat,pread64,pwrite64,fsync,unlink,write,lseek"
    intent = port.intents._path(target)

    def traced(*inject: str) -> int:
        image(target, 64 * MIB)
        if start == "luks":
            foreign(target, "luks")
        port.intents.end(target)
        argv = [
            "strace",
            "-o",
            log,
            "-e",
            "trace=" + calls,
            *inject,
            "-P",
            target,
            "-P",
            intent,
            sys.executable,
            "-c",
            script,
        ]
        subprocess.run(argv, env=env, capture_output=True, check=False)
        with open(log, encoding="utf-8", errors="replace") as f:
            return sum("(" in line and "+++" not in line and "---" not in line for line in f)

    whole = traced()
    assert blkid(target, "TYPE") == "ext4"
    for point in range(1, whole + 1):
        traced("-e", "inject=%s:signal=KILL:when=%d" % (calls, point))
        found = row(port, target)
        if start == "luks" and not (found or {}).get("unfinished"):
            assert found is None or found["fstype"] in ("luks", "ext4"), point
            if found and found["fstype"] == "luks":
                before, after, _refused = plan(port, target, fstype="ext4", label="DATA")
                assert port.risk(target, before, after) == "destroys"
                port.put(target, before, after)
        finish(port, target, "ext4", point)
        tried += 1
    print("%s: %d crash points" % (start, tried))
    assert tried >= 12


@pytest.mark.parametrize("kind", ["luks", "lvm2", "last byte", "gpt backup", "damaged ext4", "xfs"])
def test_an_old_intent_gives_no_right_to_foreign_content(arena: str, port: Superblock, kind: str) -> None:
    target = image(arena + "/i", 320 * MIB)
    foreign(target, kind)
    if kind == "last byte":
        with open(target, "r+b") as f:
            f.write(b"data where the superblock would be")
    port.intents.begin(target, token="")
    before, after, _refused = plan(port, target, fstype="ext4")
    assert port.risk(target, before, after) == "destroys"
    assert port.risk(target, before, None) == "destroys"


def test_a_finished_filesystem_closes_its_intent_without_being_touched(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 64 * MIB)
    converge(port, target, fstype="ext4")
    port.intents.begin(target, token="killed before its end")
    kept = digest(target)
    before, after = converge(port, target, fstype="ext4")
    assert before["unfinished"] and "unfinished" not in after and port.risk(target, before, after) == "forward"
    assert not port.intents.is_ours(target) and digest(target) == kept
    assert port.risk(target, before, None) == "destroys", "somebody may have used it"


def test_an_interrupted_wipe_is_finished(arena: str, port: Superblock) -> None:
    target = image(arena + "/i", 64 * MIB, "ext4")
    with open(target, "r+b") as f:
        f.seek(-512, 2)
        f.write(b"x")
        f.seek(0)
        f.write(bytes(4 * MIB))
    assert row(port, target)["fstype"] is None
    port.intents.begin(target, token="")
    before, after, refused = plan(port, target)
    assert refused is None and port.risk(target, before, after) == "forward"
    port.put(target, before, None)
    assert row(port, target) is None and not port.intents.is_ours(target)


@pytest.mark.parametrize("declared", [None, {"fstype": "ext4"}])
def test_a_wipe_killed_at_its_end_leaves_no_consent(arena: str, port: Superblock, declared: dict[str, Any]) -> None:
    """All is zero, only the intent is left: were it to stay, raw data written there later would be no one's."""
    target = image(arena + "/i", 64 * MIB)
    port.intents.begin(target, token="")
    before, after, refused = plan(port, target, **(declared or {}))
    assert refused is None and before["unfinished"] and port.risk(target, before, after) == "forward"
    port.put(target, before, after)
    assert not port.intents.is_ours(target) and blkid(target, "TYPE") == (declared or {}).get("fstype", "")
