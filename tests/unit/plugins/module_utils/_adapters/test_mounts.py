# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts on the real kernel, in a private namespace; what came of them is told by findmnt, losetup and stat."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo, mountsource
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount_options
from ansible_collections.bulkhead.storage.tests.support import namespace
from ansible_collections.bulkhead.storage.tests.support.namespace import image

PORT = Mounts()
TMPFS = {
    "source": "tmpfs", "fstype": "tmpfs", "o:size": 1 << 20, "o:nr_inodes": 100, "nosuid": True, "nodev": True,
    "noexec": True, "propagation": "private",
}  # fmt: skip
FILESYSTEMS = ["ext4", "xfs", "btrfs"]


def reconcile(target, declared):
    """What the engine does with one cell. Returns what the next scan sees; it must be what was predicted."""
    if declared is not None:
        declared = PORT.resolve(target, declared)
    now = PORT.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    if declared is None:
        if now is not None:
            PORT.put(target, now, None)
        assert PORT.scan([target]) == {}
        return None
    if now is None or not PORT.same(target, now, declared):
        after = PORT.merge(target, now, declared)
        if now is not None and PORT.replaces(target, now, after):
            PORT.put(target, now, None)
            now, after = None, PORT.merge(target, None, declared)
        PORT.put(target, now, after)
        seen = PORT.scan([target])[target]
        assert PORT.same(target, seen, declared)
        shown = {**seen.get("_silent", {}), **seen}
        for key, value in state_of(after).items():
            if value not in (UNKNOWN, False) and (key, value) != ("propagation", "slave") and key[:10] != "o:compress":
                assert shown.get(key) == value, key
            assert value is not False or not shown.get(key), key
    return PORT.scan([target])[target]


def refused(code, call, *args):
    with pytest.raises(StorageError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    return caught.value


def directory(path):
    os.makedirs(path, exist_ok=True)
    return path


def sh(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def options(target):
    """findmnt's words: those of the mount and those of the filesystem."""
    return set(sh("findmnt", "-n", "-o", "OPTIONS", "--mountpoint", target).split(","))


def mounted(path):
    return namespace.mount_points(path)


# -- tmpfs -------------------------------------------------------------------------------------------------------------


def test_tmpfs_from_the_first_instant_to_the_end(arena):
    target = directory(arena + "/m")
    assert PORT.scan([target]) == {}
    seen = reconcile(target, {**TMPFS, "o:mode": 0o750, "o:uid": "1000", "o:gid": 7, "o:noswap": True})
    assert options(target) >= {"nosuid", "nodev", "noexec", "relatime", "size=1024k", "nr_inodes=100", "noswap", "rw"}
    assert sh("stat", "-c", "%a %u %g", target) == "750 1000 7"
    assert seen["_used_bytes"] == 0
    with open(target + "/f", "wb") as f:
        f.write(b"x" * 10000)
    seen = PORT.scan([target])[target]
    assert (seen["_used_bytes"], seen["_used_inodes"]) == (12288, 2)
    assert str(seen["_id"]) == sh("findmnt", "-n", "-o", "ID", target)
    reconcile(target, None)
    assert mounted(target) == []
    assert os.listdir(target) == []


def test_a_size_is_whole_pages_before_and_after(arena):
    target = directory(arena + "/m")
    assert reconcile(target, {**TMPFS, "o:size": 5000})["o:size"] == 8192
    assert PORT.same(target, PORT.scan([target])[target], {**TMPFS, "o:size": 4097})


def test_defaults_are_seen_though_mountinfo_omits_them(arena):
    target = directory(arena + "/m")
    sh("mount", "-t", "tmpfs", "anything", target)
    seen = PORT.scan([target])[target]
    assert (seen["o:mode"], seen["o:uid"], seen["o:gid"]) == (0o1777, 0, 0)
    assert seen["o:size"] == os.statvfs(target).f_blocks * 4096 > 0
    assert PORT.same(target, seen, {"source": "tmpfs", "fstype": "tmpfs"}), "the source of a tmpfs is a mere label"


@pytest.mark.parametrize("size", [1 << 64, (1 << 64) - 1, 0, "16E", "4294967296T", "101%", "050"])
def test_sizes_that_wrap_never_stand(arena, size):
    target = directory(arena + "/m")
    if size == 0:
        seen = reconcile(target, {**TMPFS, "o:size": 0})
        assert seen["o:size"] == 0, "no limit is what was asked for; the resource never asks"
        return
    with pytest.raises(StorageError) as caught:
        PORT.put(target, None, {**TMPFS, "o:size": size})
    assert caught.value.code in ("not_enforced", "failed")
    assert mounted(target) == []


@pytest.mark.parametrize("text", ["a,size=9g", "a\nb / ext4", "a b", "\\040", "x" * 200])
def test_a_source_is_inert(arena, text):
    target = directory(arena + "/m")
    reconcile(target, {**TMPFS, "source": text})
    assert os.statvfs(target).f_blocks * 4096 == 1 << 20
    assert mounted(arena) == [arena, target]


def test_an_option_cannot_carry_another(arena):
    target = directory(arena + "/m")
    error = refused("failed", PORT.put, target, None, {**TMPFS, "o:mode": "1777,size=9g"})
    assert "mode" in error.message, "the kernel's own words are in the message"
    assert mounted(target) == []


def test_unknown_filesystem_and_option_are_unsupported(arena):
    target = directory(arena + "/m")
    assert "nosuchfs" in refused("unsupported", PORT.put, target, None, {"source": "x", "fstype": "nosuchfs"}).message
    assert "frobnicate" in refused("unsupported", PORT.put, target, None, {**TMPFS, "o:frobnicate": True}).message
    assert mounted(target) == []


def test_change_in_place_keeps_the_content(arena):
    target = directory(arena + "/m")
    first = reconcile(target, TMPFS)
    with open(target + "/kept", "wb") as f:
        f.write(b"x")
    more = {"o:size": 4 << 20, "noexec": False, "atime": "noatime", "nodiratime": True, "o:mode": 0o700, "o:uid": 55}
    seen = reconcile(target, {**TMPFS, **more})
    assert seen["_id"] == first["_id"]
    assert os.path.exists(target + "/kept")
    assert options(target) >= {"noatime", "nodiratime", "size=4096k", "nr_inodes=100", "nosuid", "nodev"}
    assert "noexec" not in options(target)
    assert sh("stat", "-c", "%a %u", target) == "700 55"
    PORT.put(target, seen, {**state_of(first)})
    assert state_of(PORT.scan([target])[target]) == state_of(first), "undo is the same action, swapped"


def test_a_swapless_tmpfs_grows(arena):
    target = directory(arena + "/m")
    reconcile(target, {**TMPFS, "o:noswap": True})
    reconcile(target, {**TMPFS, "o:size": 2 << 20})
    assert options(target) >= {"noswap", "size=2048k", "nr_inodes=100"}


def test_owner_and_read_only_change_together_both_ways(arena):
    target = directory(arena + "/m")
    reconcile(target, TMPFS)
    reconcile(target, {**TMPFS, "read_only": True, "o:uid": 9})
    assert sh("stat", "-c", "%u", target) == "9"
    assert "ro" in options(target)
    reconcile(target, {**TMPFS, "read_only": False, "o:uid": 10})
    assert sh("stat", "-c", "%u", target) == "10"


@pytest.mark.parametrize("limit, value, used", [("o:size", 8192, 300000), ("o:nr_inodes", 5, 300000)])
def test_a_shrink_below_use_changes_nothing(arena, limit, value, used):
    target = directory(arena + "/m")
    now = reconcile(target, TMPFS)
    for number in range(10):
        with open("%s/%d" % (target, number), "wb") as f:
            f.write(b"x" * 30000)
    before = options(target)
    after = {**state_of(now), limit: value, "noexec": False, "o:mode": 0o700, "atime": "noatime"}
    error = refused("in_use", PORT.put, target, now, after)
    assert error.details["wanted"] == value and error.details["used"] >= 10
    assert options(target) == before
    assert sh("stat", "-c", "%a", target) == "1777"
    now = PORT.scan([target])[target]
    assert PORT.refuse(target, now, after, set()).code == "in_use", "said before anything is done"
    assert PORT.lowers(target, now, after)


def test_read_only_under_a_writer_changes_nothing(arena):
    target = directory(arena + "/m")
    now = reconcile(target, TMPFS)
    before = options(target)
    with open(target + "/f", "wb"):
        after = {**state_of(now), "read_only": True, "o:mode": 0o700, "o:size": 2 << 20}
        refused("in_use", PORT.put, target, now, after)
    assert options(target) == before
    assert sh("stat", "-c", "%a", target) == "1777"


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_the_whole_table_is_not_read_for_each_mount(arena, kind):
    source = directory(arena + "/source")
    after = TMPFS if kind == "tmpfs" else {"source": source, "bind": True, "nosuid": True}
    targets = [directory("%s/%d" % (arena, number)) for number in range(20)]
    read = 0

    def count(frame, event, _argument):
        nonlocal read
        read += event == "call" and frame.f_code is mountinfo.read.__code__

    sys.setprofile(count)
    try:
        for target in targets:
            PORT.put(target, None, after)
    finally:
        sys.setprofile(None)
    assert read == 0, "statmount(2) answers"
    assert mounted(arena) == [arena, *targets]


# -- stale, busy, stacked ----------------------------------------------------------------------------------------------


def test_a_source_is_looked_up_among_the_mounts_to_come_and_not_compared_with_each(arena):
    """A thousand binds were a million comparisons."""

    class Asked(dict):
        def __iter__(self):
            raise AssertionError("walked from end to end")

    port = Mounts()
    port.wanted = Asked({arena + "/m": {}, arena + "/t": {}, arena: {}})
    bind = {"bind": True, "source": arena + "/nowhere/x"}
    os.symlink("link", arena + "/link")
    linked = {"bind": True, "source": arena + "/link"}
    assert port.refuse(arena + "/t", None, bind, set()) is None
    assert port.refuse(arena + "/t", None, linked, set()) is None, "the mount over the folder comes first"
    del port.wanted[arena]
    assert port.refuse(arena + "/t", None, linked, set()) is not None
    assert port.refuse(arena + "/t", None, {**linked, "source": arena + "/m/link"}, set()) is None


def test_stale_plans_are_moved(arena):
    target = directory(arena + "/m")
    now = reconcile(target, TMPFS)
    refused("moved", PORT.put, target, None, TMPFS)
    assert len(mounted(target)) == 1, "nothing was stacked"
    refused("moved", PORT.put, target, {**now, "noexec": False}, None)
    refused("moved", PORT.put, target, {**now, "o:size": 1 << 21}, {**now, "o:size": 1 << 22})
    sh("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,size=1m,nr_inodes=100", "tmpfs", target)
    refused("moved", PORT.put, target, now, None)
    assert len(mounted(target)) == 2, "A6: the other, equal mount on top was left alone"
    sh("umount", target)
    PORT.put(target, state_of(now), None)
    refused("moved", PORT.put, target, now, None)
    refused("moved", PORT.put, target, now, {**now, "noexec": False})


def test_busy_is_in_use_and_names_who(arena):
    target = directory(arena + "/m")
    now = reconcile(target, TMPFS)
    sleeper = subprocess.Popen(["sleep", "60"], cwd=target)
    try:
        error = refused("in_use", PORT.put, target, now, None)
        assert {"pid": sleeper.pid, "command": "sleep", "by": "cwd"} in error.details["holders"]
        assert mounted(target) == [target], "never lazily"
    finally:
        sleeper.kill()
        sleeper.wait()
    PORT.put(target, now, None)


def test_a_mount_beneath_is_in_use_unless_it_goes_too(arena):
    target = directory(arena + "/m")
    reconcile(target, TMPFS)
    inner = directory(target + "/inner")
    reconcile(inner, TMPFS)
    now = PORT.scan([target])[target]
    assert PORT.refuse(target, now, None, set()).details["mounts"] == [inner]
    assert PORT.refuse(target, now, None, {("mount", inner)}) is None
    refused("in_use", PORT.put, target, now, None)


def test_only_visible_mounts_are_listed(arena):
    inner = directory(arena + "/a/inner")
    sh("mount", "-t", "tmpfs", "hidden", inner)
    sh("mount", "-t", "tmpfs", "cover", arena + "/a")
    rows = PORT.scan()
    assert inner not in rows
    assert rows[arena + "/a"]["source"] == "cover"
    assert {p for p in rows if p.startswith(arena)} == {arena, arena + "/a"}


# -- paths -------------------------------------------------------------------------------------------------------------


def test_roots_own_links_above_are_followed(arena):
    directory(arena + "/real/m")
    os.symlink("real", arena + "/link")
    reconcile(arena + "/link/m", TMPFS)
    assert mounted(arena) == [arena, arena + "/real/m"]
    reconcile(arena + "/link/m", TMPFS)
    assert len(mounted(arena)) == 2, "no second mount on top"
    reconcile(arena + "/link/m", None)
    assert mounted(arena) == [arena]


def test_a_link_as_mount_point_is_refused_in_the_scan(arena):
    directory(arena + "/real")
    os.symlink("real", arena + "/link")
    assert PORT.scan([arena + "/link"])[arena + "/link"].code == "unsafe_path"
    refused("unsafe_path", PORT.put, arena + "/link", None, TMPFS)
    assert mounted(arena) == [arena]


def test_a_tenants_link_above_is_refused(arena):
    directory(arena + "/victim/m")
    os.chown(directory(arena + "/tenant"), 1000, 1000)
    os.symlink("../victim", arena + "/tenant/link")
    assert PORT.scan([arena + "/tenant/link/m"])[arena + "/tenant/link/m"].code == "unsafe_path"
    refused("unsafe_path", PORT.put, arena + "/tenant/link/m", None, TMPFS)
    assert mounted(arena) == [arena]


def test_nothing_there_is_absent_and_cannot_be_mounted_on(arena):
    assert PORT.scan([arena + "/no/such"]) == {}
    refused("not_found", PORT.put, arena + "/no/such", None, TMPFS)


def test_what_lies_beneath_nothing_is_absent_and_its_neighbours_are_seen(arena):
    os.symlink("real/deep", arena + "/link")
    inner = directory(arena + "/real/deep/m")
    os.symlink("nowhere", arena + "/dangling")
    sh("mount", "-t", "tmpfs", "x", inner)
    there = [arena + "/link/m", inner]
    absent = ["%s/%s" % (arena, name) for name in ("no", "no-b", "no/a", "no/a/b", "no/b", "link/no/a", "real/no")]
    seen = PORT.scan([*absent[:4], *there, *absent[4:], arena + "/link", arena + "/dangling/x"])
    assert {path for path, row in seen.items() if isinstance(row, dict)} == set(there)
    assert {path for path, row in seen.items() if not isinstance(row, dict)} == {arena + "/link"}


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\\040b", "\udcff", "-rf", "%n", "e\u0301", "\u2028", "x" * 255])
def test_hostile_names(arena, name):
    target = arena + "/" + name
    os.mkdir(target.encode("utf-8", "surrogateescape"))
    reconcile(target, TMPFS)
    assert mounted(target) == [target]
    reconcile(target, None)


def test_a_mount_point_swapped_for_a_link_redirects_nothing(arena):
    """A5, A6: a tenant exchanges its directory with a link to a victim while root mounts and unmounts."""
    victim = directory(arena + "/victim")
    tenant = directory(arena + "/tenant")
    directory(tenant + "/data")
    os.symlink(victim, tenant + "/link")
    os.chown(tenant, 1000, 1000)
    code = "import ctypes, os, sys; os.chdir(sys.argv[1]); os.setuid(1000); c = ctypes.CDLL(None)\n"
    code += "while True: c.renameat2(-100, b'data', -100, b'link', 2)"
    attacker = subprocess.Popen([sys.executable, "-c", code, tenant])
    done = failed = 0
    try:
        time.sleep(0.2)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                PORT.put(tenant + "/data", None, TMPFS)
                done += 1
            except StorageError as error:
                failed += 1
                assert error.code in ("unsafe_path", "moved", "not_found", "failed"), error
            points = mounted(arena)
            assert not [p for p in points if p.startswith(victim)]
            assert len(points) <= 2
            for point in points[1:]:
                sh("umount", point)
    finally:
        attacker.kill()
        attacker.wait()
    assert done > 10 and failed > 10, (done, failed)


# -- binds -------------------------------------------------------------------------------------------------------------


def test_bind_with_its_flags(arena):
    source, target = directory(arena + "/src"), directory(arena + "/m")
    declared = {"source": source, "bind": True, "read_only": True, "nosuid": True, "nodev": True}
    seen = reconcile(target, declared)
    assert options(target) >= {"ro", "nosuid", "nodev"}
    assert seen["source"] == source and seen["bind"] is True and "fstype" not in seen
    seen = reconcile(target, {**declared, "read_only": False})
    assert options(target) >= {"rw", "nosuid", "nodev"}, "a remount of one flag clears no other"
    assert seen["_id"] == PORT.scan([target])[target]["_id"]
    reconcile(target, None)


def test_what_is_not_declared_a_bind_keeps_from_its_source(arena):
    source, target = directory(arena + "/src"), directory(arena + "/m")
    reconcile(source, TMPFS)
    reconcile(target, {"source": source, "bind": True})
    assert options(target) >= {"nosuid", "nodev", "noexec"}
    assert PORT.scan([source])[source]["bind"] is False, "the first is the filesystem, the second its bind"
    assert reconcile(source, TMPFS)["bind"] is False


def test_a_bind_of_another_directory_is_replaced(arena):
    one, two, target = (directory(arena + "/" + name) for name in ("one", "two", "m"))
    reconcile(target, {"source": one, "bind": True})
    now = PORT.scan([target])[target]
    assert not PORT.same(target, now, {"source": two, "bind": True})
    reconcile(target, {"source": two, "bind": True, "nosuid": True})
    assert sh("findmnt", "-n", "-o", "FSROOT", target) == "/two"
    assert len(mounted(target)) == 1


def test_a_bind_through_any_equal_path_is_met(arena):
    directory(arena + "/src/in")
    other, target = directory(arena + "/other"), directory(arena + "/m")
    sh("mount", "--bind", arena, other)
    now = reconcile(target, {"source": arena + "/src/in", "bind": True})
    assert PORT.same(target, now, {"source": other + "/src/in", "bind": True})
    assert not PORT.same(target, now, {"source": other + "/src", "bind": True})
    sh("mount", "-t", "tmpfs", "cover", arena + "/src")
    now = PORT.scan([target])[target]
    assert not PORT.same(target, now, {"source": arena + "/src/in", "bind": True}), "that path leads elsewhere now"


def test_self_bind(arena):
    target = directory(arena + "/m")
    declared = {"source": target, "bind": True, "propagation": "private", "nosuid": True}
    reconcile(target, declared)
    assert mounted(target) == [target]
    assert PORT.same(target, PORT.scan([target])[target], declared)
    reconcile(target, None)
    sh("mount", "-t", "tmpfs", "other", target)
    assert not PORT.same(target, PORT.scan([target])[target], declared)


def test_bind_of_a_file(arena):
    for name in ("src", "m"):
        with open(arena + "/" + name, "w", encoding="ascii") as f:
            f.write(name)
    declared = {"source": arena + "/src", "bind": True, "read_only": True}
    reconcile(arena + "/m", declared)
    with open(arena + "/m", encoding="ascii") as f:
        assert f.read() == "src"
    assert list(PORT.implies(arena + "/m", PORT.resolve(arena + "/m", declared))) == []
    reconcile(arena + "/m", None)


def test_recursive_flags_reach_the_mounts_beneath_and_all_goes_again(arena):
    source, target = directory(arena + "/src"), directory(arena + "/m")
    reconcile(directory(source + "/sub"), {**TMPFS, "nosuid": False})
    reconcile(directory(source + "/sub/deep"), {**TMPFS, "nosuid": False})
    now = reconcile(target, {"source": source, "bind": True, "recursive": True, "nosuid": True, "read_only": True})
    for path in (target, target + "/sub", target + "/sub/deep"):
        assert options(path) >= {"ro", "nosuid"}
    assert now["_below"] == [] and PORT.refuse(target, now, None, set()) is None
    reconcile(target, None)
    assert mounted(arena) == [arena, source + "/sub", source + "/sub/deep"]


def test_taking_down_a_shared_recursive_bind_spares_its_source(arena):
    """The source's mounts are peers: a plain umount beneath the bind would take them down too."""
    sh("mount", "--make-shared", arena)
    source, target = directory(arena + "/src"), directory(arena + "/m")
    reconcile(directory(source + "/sub"), {**TMPFS, "propagation": "shared"})
    reconcile(target, {"source": source, "bind": True, "recursive": True, "propagation": "shared"})
    assert target + "/sub" in mounted(arena)
    reconcile(target, None)
    assert mounted(arena) == [arena, source + "/sub"]


def tree(path):
    """Every mount at or beneath a path with its propagation, as findmnt tells."""
    rows = [line.split() for line in sh("findmnt", "-rn", "-o", "TARGET,PROPAGATION").splitlines()]
    return sorted(tuple(row) for row in rows if (row[0] + "/").startswith(path + "/"))


def peers(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        rows = [line.split(" - ")[0].split() for line in f]
    return next(row[6:] for row in reversed(rows) if row[4] == path)


@pytest.mark.parametrize("spread", ["private", "shared", "slave"])
@pytest.mark.parametrize("busy", ["", "/sub"])
def test_a_recursive_bind_that_is_in_use_stays_whole(arena, spread, busy):
    """Refused, all of it is there again: every mount at its place, with the peers it had, and the source whole."""
    sh("mount", "--make-shared", arena)
    source, target = directory(arena + "/src"), directory(arena + "/m")
    for path in ("/sub", "/sub/deep", "/other"):
        reconcile(directory(source + path), {**TMPFS, "propagation": "shared"})
    now = reconcile(target, {"source": source, "bind": True, "recursive": True, "propagation": spread})
    places = [target, target + "/sub", target + "/sub/deep", target + "/other"]
    before = tree(arena), [peers(place) for place in places]
    sleeper = subprocess.Popen(["sleep", "60"], cwd=target + busy)
    try:
        assert refused("in_use", PORT.put, target, now, None).details["holders"][0]["pid"] == sleeper.pid
        assert (tree(arena), [peers(place) for place in places]) == before
        assert PORT.same(target, PORT.scan([target])[target], {"source": source, "bind": True, "recursive": True})
        reconcile(directory(source + "/late"), TMPFS)
        assert (target + "/late" in mounted(arena)) is (spread != "private"), "what is mounted later still spreads"
        reconcile(source + "/late", None)
    finally:
        sleeper.kill()
        sleeper.wait()
    reconcile(target, None)
    assert sorted(mounted(arena)) == [arena, source + "/other", source + "/sub", source + "/sub/deep"]


@pytest.mark.parametrize("spread", ["private", "shared"])
def test_what_a_recursive_bind_lacks_is_brought(arena, spread):
    sh("mount", "--make-" + spread, arena)
    source, target = directory(arena + "/src"), directory(arena + "/m")
    reconcile(directory(source + "/sub"), {**TMPFS, "nosuid": False})
    reconcile(directory(source + "/sub/deep"), {**TMPFS, "nosuid": False})
    with open(source + "/sub/deep/seen", "wb"):
        pass
    plain = {"source": source, "bind": True, "nosuid": True, "propagation": spread}
    first = reconcile(target, plain)
    assert first["recursive"] is False and PORT.same(target, first, plain)
    assert not PORT.same(target, first, {**plain, "recursive": True})
    seen = reconcile(target, {**plain, "recursive": True})
    assert (seen["_id"], seen["recursive"], seen["propagation"]) == (first["_id"], True, spread)
    assert os.path.exists(target + "/sub/deep/seen") and "nosuid" in options(target + "/sub/deep")
    assert sorted(mounted(arena)) == [
        arena,
        target,
        target + "/sub",
        target + "/sub/deep",
        source + "/sub",
        source + "/sub/deep",
    ]
    assert "nosuid" not in options(source + "/sub"), "the source is as it was"
    after = PORT.merge(target, first, {**plain, "recursive": True})
    PORT.put(target, after, first)
    assert sorted(mounted(arena)) == [arena, target, source + "/sub", source + "/sub/deep"], (
        "undo is the same action, swapped"
    )
    assert PORT.scan([target])[target]["propagation"] == spread
    reconcile(target, {**plain, "recursive": True})
    reconcile(target, None)
    assert sorted(mounted(arena)) == [arena, source + "/sub", source + "/sub/deep"]


def test_a_recursive_bind_over_its_own_source_lacks_nothing(arena):
    source, inner = directory(arena + "/src"), directory(arena + "/src/in/m")
    reconcile(directory(source + "/sub"), TMPFS)
    sh("mount", "-t", "tmpfs", "-o", "size=4k", "alone", directory(source + "/alone"))
    sh("mount", "--make-unbindable", source + "/alone")
    assert PORT.scan([source + "/alone"])[source + "/alone"]["propagation"] == "unbindable"
    declared = {"source": source, "bind": True, "recursive": True}
    assert reconcile(inner, declared)["recursive"] is True
    assert reconcile(inner, declared)["recursive"] is True


# -- stacks ------------------------------------------------------------------------------------------------------------


def test_everything_at_a_mount_point_goes(arena):
    target = directory(arena + "/m")
    for label in ("lowest", "middle", "top"):
        sh("mount", "-t", "tmpfs", "-o", "size=64k", label, target)
    now = PORT.scan([target])[target]
    assert (now["source"], now["over"]) == ("top", ["tmpfs middle", "tmpfs lowest"])
    assert PORT.risk(target, now, None) == "destroys"
    PORT.put(target, now, {**now, "noexec": True})
    assert "noexec" in options(target) and len(mounted(target)) == 3, "a change is one of what is seen"
    reconcile(target, None)
    assert mounted(arena) == [arena]


def test_a_stack_of_binds_goes_and_its_loss_is_said(arena):
    one, two, target = (directory(arena + "/" + name) for name in ("one", "two", "m"))
    sh("mount", "--bind", one, target)
    sh("mount", "--bind", two, target)
    now = PORT.scan([target])[target]
    assert now["over"] == ["bind /one"] and PORT.risk(target, now, None) == "forward", "it would not come back"
    assert PORT.risk(target, now, now) == "reversible"
    reconcile(target, None)
    assert mounted(arena) == [arena]


def test_what_lies_beneath_a_lower_mount_is_named_before_anything_is_done(arena):
    target = directory(arena + "/m")
    sh("mount", "-t", "tmpfs", "lower", target)
    sh("mount", "-t", "tmpfs", "deep", directory(target + "/deep"))
    sh("mount", "-t", "tmpfs", "upper", target)
    now = PORT.scan([target])[target]
    assert PORT.refuse(target, now, None, set()).details["mounts"] == [target + "/deep"]
    error = refused("in_use", PORT.put, target, now, None)
    assert "1 mounts over it are gone already" in error.message


def test_a_foreign_mount_beneath_a_bind_is_in_use(arena):
    source, target = directory(arena + "/src"), directory(arena + "/m")
    directory(source + "/sub")
    reconcile(target, {"source": source, "bind": True, "recursive": True})
    reconcile(target + "/sub", TMPFS)
    now = PORT.scan([target])[target]
    assert PORT.refuse(target, now, None, set()).code == "in_use"
    refused("in_use", PORT.put, target, now, None)
    assert mounted(target) == [target, target + "/sub"]


def test_a_removed_source_is_not_mistaken(arena):
    """A10: the kernel shows ``//deleted``, which no path can be called."""
    source, target = directory(arena + "/src"), directory(arena + "/m")
    declared = {"source": source, "bind": True}
    reconcile(target, declared)
    os.rmdir(source)
    now = PORT.scan([target])[target]
    assert now["source"].endswith("//deleted")
    directory(source)
    assert not PORT.same(target, PORT.scan([target])[target], declared), "a new directory of the same name"
    reconcile(target, declared)
    with open(source + "/seen", "wb"):
        pass
    assert os.path.exists(target + "/seen")


def test_sources_are_checked_when_planned(arena):
    directory(arena + "/real")
    os.symlink("real", arena + "/link")
    target = directory(arena + "/m")
    refused("unsafe_path", PORT.resolve, target, {"source": arena + "/link", "bind": True})
    refused("invalid", PORT.resolve, target, {"source": arena + "/real"})
    refused("invalid", PORT.resolve, target, {"source": "real", "bind": True})
    refused("invalid", PORT.resolve, target, {"source": "/dev/null", "fstype": "ext4"})
    later = {"source": arena + "/later", "bind": True}
    assert PORT.resolve(target, later) == {**later, "_missing": arena + "/later"}
    refused("not_found", PORT.put, target, None, PORT.merge(target, None, later))


def test_a_tenants_link_as_source_is_refused_at_the_last_moment(arena):
    tenant, target = directory(arena + "/tenant"), directory(arena + "/m")
    os.symlink("/etc", tenant + "/data")
    os.chown(tenant, 1000, 1000)
    refused("unsafe_path", PORT.put, target, None, {"source": tenant + "/data", "bind": True})
    assert mounted(target) == []


# -- propagation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["private", "shared"])
@pytest.mark.parametrize("wanted", ["private", "shared", "slave"])
def test_propagation_whatever_surrounds_it(arena, parent, wanted):
    sh("mount", "--make-" + parent, arena)
    target, bind = directory(arena + "/m"), directory(arena + "/b")
    reconcile(target, {**TMPFS, "propagation": wanted})
    expected = "private" if wanted == "slave" else wanted  # a slave of nobody
    assert sh("findmnt", "-n", "-o", "PROPAGATION", target) == expected
    reconcile(bind, {"source": directory(arena + "/s"), "bind": True, "propagation": wanted})
    if wanted == "slave" and parent == "shared":
        expected = "private,slave"
    assert sh("findmnt", "-n", "-o", "PROPAGATION", bind) == expected
    reconcile(bind, {"source": arena + "/s", "bind": True, "propagation": "private"})
    assert sh("findmnt", "-n", "-o", "PROPAGATION", bind) == "private"


# -- block devices and images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fstype", FILESYSTEMS)
def test_an_image_through_a_loop_device(arena, fstype):
    file, target = image(arena + "/image", 300 << 20, fstype), directory(arena + "/m")
    declared = {"source": file, "fstype": fstype, "nosuid": True, "nodev": True, "atime": "noatime"}
    first = reconcile(target, declared)
    (device,) = namespace.loop_devices(arena)
    assert first["source"] == file and first["_device"] == device
    assert sh("losetup", "-n", "-O", "AUTOCLEAR,RO", device).split() == ["1", "0"]
    assert options(target) >= {"rw", "nosuid", "nodev", "noatime"}
    reconcile(target, {**declared, "read_only": True})
    assert "ro" in options(target)
    reconcile(target, {**declared, "read_only": False})
    assert "rw" in options(target)
    now = PORT.scan([target])[target]
    PORT.put(target, now, None)
    assert namespace.loop_devices(arena) == [], "put returns when the device is gone"
    PORT.put(target, None, state_of(now))
    assert state_of(PORT.scan([target])[target]) == state_of(now), "undo of an unmount"
    reconcile(target, None)


def test_a_read_only_image_becomes_writable_by_a_fresh_mount(arena):
    file, target = image(arena + "/image", 64 << 20, "ext4"), directory(arena + "/m")
    reconcile(target, {"source": file, "read_only": True})
    assert sh("losetup", "-n", "-O", "RO", namespace.loop_devices(arena)[0]) == "1"
    reconcile(target, {"source": file, "read_only": False})
    assert "rw" in options(target)
    assert len(namespace.loop_devices(arena)) == 1


def test_an_unread_journal_is_never_made_writable_in_place(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        declared = {"source": device, "fstype": "ext4"}
        now = reconcile(target, {**declared, "read_only": True, "o:noload": True})
        assert "norecovery" in options(target)
        after = PORT.merge(target, now, {**declared, "read_only": False})
        assert PORT.replaces(target, now, after)
        assert reconcile(target, {**declared, "read_only": False})["_id"] is not None
        assert "rw" in options(target) and "norecovery" not in options(target)
        reconcile(target, None)


def test_a_device_by_any_of_its_names_is_met(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        os.symlink(device, arena + "/by-id")
        seen = reconcile(target, {"source": device, "fstype": "ext4"})
        assert seen["source"] == arena + "/image"
        assert seen["_rdev"] == sh("lsblk", "-nd", "-o", "MAJ:MIN", device)
        alias = PORT.resolve(target, {"source": arena + "/by-id", "fstype": "ext4"})
        assert PORT.same(target, seen, alias)
        other = {"source": "/dev/loop-control", "fstype": "ext4"}
        assert not PORT.same(target, seen, {**other, "_rdev": "1:1"})
        PORT.put(target, seen, None)
        assert namespace.loop_devices(arena) == [device], "a device that somebody else attached stays"


def test_one_image_has_one_loop_device(arena):
    file = image(arena + "/image", 64 << 20, "ext4")
    one, two = directory(arena + "/one"), directory(arena + "/two")
    reconcile(one, {"source": file, "fstype": "ext4"})
    declared = PORT.resolve(two, {"source": file, "fstype": "ext4"})
    PORT.put(two, None, PORT.merge(two, None, declared))
    assert PORT.same(two, PORT.scan([two])[two], declared), "the table cannot tell it from a bind; it is both"
    assert len(namespace.loop_devices(arena)) == 1
    reconcile(one, None)
    assert len(namespace.loop_devices(arena)) == 1
    assert reconcile(two, {"source": file, "fstype": "ext4"})["bind"] is False
    reconcile(two, None)
    assert namespace.loop_devices(arena) == []


def test_options_that_are_dropped_silently_are_a_failure(arena):
    """A second mount of a filesystem shares it: the kernel takes its options and ignores them."""
    one, two = directory(arena + "/one"), directory(arena + "/two")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        reconcile(one, {"source": device, "fstype": "ext4"})
        value = PORT.merge(two, None, {"source": device, "fstype": "ext4", "o:errors": "remount-ro"})
        assert refused("not_enforced", PORT.put, two, None, value).details["fields"] == ["o:errors"]
        assert mounted(two) == [], "unmounted again"
        assert mounted(one) == [one]
        reconcile(one, {"source": device, "fstype": "ext4", "o:errors": "remount-ro", "o:data": "ordered"})
        assert "errors=remount-ro" in options(one)
        reconcile(one, None)


SPELLED = {
    "btrfs": ["compress=zstd", "compress", "compress=lzo", "compress=no", "compress-force=zstd:2", "nodiscard"],
    "ext4": ["async", "sync", "nodiscard", "nolazytime", "barrier=1"],
    "xfs": ["allocsize=64m", "logbsize=262144", "nolargeio"],
}


@pytest.mark.parametrize("fstype, words", SPELLED.items())
def test_options_that_the_kernel_shows_otherwise_are_met(arena, fstype, words):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 310 << 20, fstype), stays=True) as device:
        for word in words:
            declared = {"source": device, "fstype": fstype, **mount_options.parse([word], fstype)[0]}
            seen = reconcile(target, declared)
            assert PORT.same(target, seen, PORT.resolve(target, declared)), word
            reconcile(target, None)


@pytest.mark.parametrize("word", ["barrier=0", "nobarrier", "nobh", "data=writeback"])
def test_what_loses_data_is_mounted_where_it_was_accepted(arena, word):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        declared = {"source": device, "fstype": "ext4", **mount_options.parse([word], "ext4", accepted=[word])[0]}
        seen = reconcile(target, declared)
        assert PORT.same(target, seen, PORT.resolve(target, declared))
        shown = {"barrier=0": {"nobarrier"}, "nobh": set()}.get(word, {word})
        assert options(target) & {"nobarrier", "data=writeback"} == shown
        if "barrier" in word:  # and is lifted in place
            on = {"source": device, "fstype": "ext4", **mount_options.parse(["barrier=1"], "ext4")[0]}
            assert reconcile(target, on)["_id"] == seen["_id"] and "nobarrier" not in options(target)
        reconcile(target, None)


def test_what_is_on_is_lifted_by_the_word_for_it(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        declared = {"source": device, "fstype": "ext4"}
        first = reconcile(target, {**declared, **mount_options.parse(["sync", "lazytime", "discard"], "ext4")[0]})
        assert options(target) >= {"sync", "lazytime", "discard"}
        off = mount_options.parse(["async", "nolazytime", "nodiscard"], "ext4")[0]
        assert reconcile(target, {**declared, **off})["_id"] == first["_id"], "in place"
        assert not options(target) & {"sync", "lazytime", "discard"}
        reconcile(target, None)


def test_a_subvolume_by_a_relative_name(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 200 << 20, "btrfs"), stays=True) as device:
        reconcile(target, {"source": device, "fstype": "btrfs"})
        sh("btrfs", "-q", "subvolume", "create", target + "/sv")
        reconcile(target, None)
        declared = {"source": device, "fstype": "btrfs", **mount_options.parse(["subvol=sv"], "btrfs")[0]}
        assert reconcile(target, declared)["bind"] is False
        assert sh("findmnt", "-n", "-o", "FSROOT", target) == "/sv"
        reconcile(target, None)


def test_any_level_of_what_was_asked_for_without_one(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 200 << 20, "btrfs"), stays=True) as device:
        declared = PORT.resolve(target, {"source": device, "fstype": "btrfs", "o:compress": "zstd:9"})
        seen = reconcile(target, declared)
        assert PORT.same(target, seen, {**declared, "o:compress": "zstd"})
        assert not PORT.same(target, seen, {**declared, "o:compress": "zlib"})
        assert not PORT.same(target, seen, {**declared, "o:compress": "zstd:3"})
        assert not PORT.same(target, seen, {**declared, "o:compress": "no"})
        reconcile(target, {**declared, "o:compress": "lzo"})
        assert "compress=lzo" in options(target)
        reconcile(target, None)


def test_the_filesystem_is_recognised_by_its_magic(arena):
    target = directory(arena + "/m")
    for fstype in [*FILESYSTEMS, "vfat"]:
        file = image(arena + "/" + fstype, 300 << 20, fstype)
        assert PORT.resolve(target, {"source": file, "fstype": "auto"})["fstype"] == fstype
    blank = image(arena + "/blank", 1 << 20)
    assert "fstype" not in PORT.resolve(target, {"source": blank})
    error = refused("invalid", PORT.put, target, None, PORT.merge(target, None, {"source": blank}))
    assert "fstype" in error.hint
    assert namespace.loop_devices(arena) == []
    with open(arena + "/ext4", "r+b") as f:
        f.write(b"XFSB")
    assert "fstype" not in PORT.resolve(target, {"source": arena + "/ext4"}), "two signatures: nobody guesses"


def test_a_damaged_filesystem_leaves_no_loop_device(arena):
    file, target = image(arena + "/image", 64 << 20, "ext4"), directory(arena + "/m")
    with open(file, "r+b") as f:
        f.seek(0x400)
        f.write(b"\xff" * 0x38)
    with pytest.raises(StorageError):
        PORT.put(target, None, PORT.merge(target, None, {"source": file, "fstype": "ext4"}))
    assert mounted(target) == []
    deadline = time.monotonic() + 5
    while namespace.loop_devices(arena) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert namespace.loop_devices(arena) == []


@pytest.mark.parametrize(
    "text, path",
    [
        ("UUID=0a-1b", "/dev/disk/by-uuid/0a-1b"),
        ('LABEL="my disk/\u00e9"', "/dev/disk/by-label/my\\x20disk\\x2f\u00e9"),
        ("PARTUUID=1", "/dev/disk/by-partuuid/1"),
        ("PARTLABEL=a\\b", "/dev/disk/by-partlabel/a\\x5cb"),
    ],
)
def test_tags_become_paths(text, path):
    assert mountsource.resolve({"source": text})["source"] == path


def test_a_tag_leads_to_the_device(arena):
    """In a namespace of its own with its own /dev, where a udev link can be made without a trace outside."""
    file, target = image(arena + "/image", 64 << 20, "ext4"), directory(arena + "/m")
    with namespace.loop_device(file) as device:
        number = os.stat(device).st_rdev
        child = os.fork()
        if child == 0:
            code = 1
            try:
                namespace._call("unshare", namespace.CLONE_NEWNS)
                subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "dev", "/dev"], check=True)
                os.makedirs("/dev/disk/by-label")
                os.mknod(device, 0o60600, number)
                os.symlink(device, "/dev/disk/by-label/data")
                reconcile(target, {"source": "LABEL=data", "fstype": "ext4"})
                code = 0 if sh("findmnt", "-n", "-o", "SOURCE", target) == device else 2
                now = PORT.scan([target])[target]
                code = code or (0 if PORT.same(target, now, {"source": "/dev/x", "_rdev": now["_rdev"]}) else 3)
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


# -- killed ------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import threading
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
port, (target, source) = Mounts(), sys.argv[1:3]
declared = port.resolve(target, {"source": source, "fstype": "ext4", "nosuid": True, "nodev": True})
now = port.scan([target]).get(target)
print("begin", flush=True)
if now is None:
    port.put(target, None, port.merge(target, None, declared))
else:
    port.put(target, now, None)
"""
CALLS = ["ioctl", "fsopen", "fsconfig", "fsmount", "move_mount", "umount2"]


def test_killed_at_every_step_nothing_stays_half_made(arena):
    """SIGKILL at each call that changes the world: mounted with all its flags or not at all, and no loop device."""
    file, target = image(arena + "/image", 64 << 20, "ext4"), directory(arena + "/m")
    run = [sys.executable, "-c", SCRIPT, target, file]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    tried = 0
    for call in CALLS:
        for down in (False, True):
            if down:
                reconcile(target, {"source": file, "fstype": "ext4", "nosuid": True, "nodev": True})
            else:
                reconcile(target, None)
            trace = ["strace", "-f", "-qq", "-o", arena + "/trace", "-e", "trace=" + call]
            subprocess.run([*trace, *run], check=True, env=environment, stdout=subprocess.DEVNULL)
            with open(arena + "/trace", "rb") as f:
                made = [line for line in f if b" %s(" % call.encode() in line]  # others it may have no names for
            mine = [line for line in made if line.split()[0] == made[0].split()[0]]  # each thread is counted by itself
            for number in [n for n, line in enumerate(mine, 1) if b"TCGETS" not in line]:
                reconcile(target, {"source": file, "fstype": "ext4", "nosuid": True, "nodev": True} if down else None)
                inject = ["-e", "inject=%s:signal=KILL:when=%d" % (call, number)]
                done = subprocess.run([*trace, *inject, *run], check=False, env=environment, stdout=subprocess.DEVNULL)
                assert done.returncode != 0 or call == "ioctl", "it was not killed"
                if done.returncode == 0:
                    continue  # loop devices of others are gone that were there when it was counted
                tried += 1
                settled(arena, target)
                reconcile(target, None if down else {"source": file, "fstype": "ext4", "nosuid": True, "nodev": True})
                assert mounted(target) == ([] if down else [target])
                settled(arena, target)
    assert tried >= 12, "only %d points" % tried


def settled(arena, target):
    if mounted(target):
        assert options(target) >= {"nosuid", "nodev"}
        assert len(namespace.loop_devices(arena)) == 1
        return
    deadline = time.monotonic() + 5
    while namespace.loop_devices(arena):
        assert time.monotonic() < deadline, "a loop device was left"
        time.sleep(0.01)


# -- pure --------------------------------------------------------------------------------------------------------------


def test_what_is_pure():
    value = {**TMPFS, "read_only": False, "bind": False}
    block = {**value, "fstype": "ext4", "source": "/dev/x"}
    bind = {"source": "/a", "bind": True}
    assert PORT.risk("/m", value, None) == "destroys" and PORT.consent("/m", value, None) == ("absent", True)
    assert PORT.risk("/m", block, None) == "reversible" and PORT.consent("/m", block, None) is None
    assert PORT.risk("/m", bind, None) == PORT.risk("/m", None, value) == "reversible"
    assert PORT.lowers("/m", value, None) and not PORT.lowers("/m", None, value)
    assert PORT.lowers("/m", {**value, "o:size": 0}, value), "no limit is the largest"
    assert not PORT.lowers("/m", value, {**value, "o:size": 0})
    assert not PORT.lowers("/m", value, {**value, "o:size": 1 << 30})
    assert PORT.lowers("/m", value, {**value, "o:nr_inodes": 2})
    assert [PORT.opens("/m", None, v) for v in (value, block, bind)] == ["empty", "unknown", "unknown"]
    assert PORT.opens("/m", value, None) is PORT.opens("/m", value, value) is None
    assert list(PORT.implies("/m", value)) == list(PORT.implies("/m", None)) == [("node", "/m", {"type": "directory"})]
    assert list(PORT.implies("/", value)) == []
    assert PORT.replaces("/m", value, {**value, "fstype": "ramfs"}) and not PORT.replaces("/m", value, value)


def test_owners_by_name():
    assert PORT.resolve("/m", {**TMPFS, "o:uid": "root", "o:gid": "12"})["o:gid"] == 12
    refused("not_found", PORT.resolve, "/m", {**TMPFS, "o:uid": "no-such-user"})
    refused("not_found", PORT.resolve, "/m", {**TMPFS, "o:gid": "\u00b2"})


def test_many_mounts_are_one_read_of_the_table(arena):
    libc = ctypes.CDLL(None, use_errno=True)
    targets = [directory("%s/%d" % (arena, number)) for number in range(400)]
    for target in targets:
        assert libc.mount(b"tmpfs", target.encode(), b"tmpfs", 6, b"size=4k,nr_inodes=10") == 0
    best = min(_timed(targets) for _round in range(3))
    assert best < 0.2, "%.0f ms for 400" % (best * 1000)


def _timed(targets):
    start = time.perf_counter()
    rows = PORT.scan(targets)
    assert all(PORT.same(t, rows[t], {"fstype": "tmpfs", "o:size": 4096, "nosuid": True}) for t in targets)
    return time.perf_counter() - start


# -- what a line less would break --------------------------------------------------------------------------------------


def test_an_unmount_waits_for_its_loop_device(arena):
    file, target = image(arena + "/image", 64 << 20, "ext4"), directory(arena + "/m")
    now = reconcile(target, {"source": file, "fstype": "ext4"})
    fd = os.open(now["_device"], os.O_RDONLY)
    timer = threading.Timer(0.3, os.close, [fd])
    timer.start()
    PORT.put(target, now, None)
    timer.join()
    assert namespace.loop_devices(arena) == [], "it was held for 0.3 s after the unmount"


def test_a_change_that_is_dropped_silently_is_a_failure(arena):
    """XFS takes any known option when it is reconfigured and heeds only a few."""
    file, target = image(arena + "/image", 300 << 20, "xfs"), directory(arena + "/m")
    now = reconcile(target, {"source": file, "fstype": "xfs"})
    before = options(target)
    refused("not_enforced", PORT.put, target, now, {**state_of(now), "o:logbufs": "4", "noexec": True})
    assert options(target) == before, "the flags were put back"


def test_a_resized_tmpfs_is_told_both_limits(arena):
    target = directory(arena + "/m")
    reconcile(target, TMPFS)
    code = "import sys\nfrom ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts\n"
    code += "p, t = Mounts(), sys.argv[1]; now = p.scan([t])[t]; p.put(t, now, {**now, 'o:size': 2097152})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    trace = ["strace", "-qq", "-s", "64", "-o", arena + "/trace", "-e", "trace=fsconfig"]
    subprocess.run([*trace, sys.executable, "-c", code, target], check=True, env=environment)
    with open(arena + "/trace", encoding="utf-8") as f:
        said = f.read()
    assert '"size", "2097152"' in said and '"nr_inodes", "100"' in said


def test_a_read_only_superblock_becomes_writable_in_place(arena):
    target = directory(arena + "/m")
    with namespace.loop_device(image(arena + "/image", 64 << 20, "ext4"), stays=True) as device:
        declared = {"source": device, "fstype": "ext4"}
        first = reconcile(target, {**declared, "read_only": True})
        assert sh("findmnt", "-n", "-o", "FS-OPTIONS", target).split(",")[0] == "ro"
        assert reconcile(target, {**declared, "read_only": False})["_id"] == first["_id"]
        assert sh("findmnt", "-n", "-o", "FS-OPTIONS", target).split(",")[0] == "rw"
        with open(target + "/f", "wb"):
            pass
        reconcile(target, None)


def test_no_more_than_ten_holders_are_named(arena):
    target = directory(arena + "/m")
    now = reconcile(target, TMPFS)
    sleepers = [subprocess.Popen(["sleep", "60"], cwd=target) for _number in range(12)]
    try:
        assert len(refused("in_use", PORT.put, target, now, None).details["holders"]) == 10
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


OVER_ITSELF = """
import os, sys
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node
assert ".zip/" in mountapi.__file__, mountapi.__file__
port, target = Mounts(), sys.argv[1]
port.put(target, None, port.merge(target, None, {"source": "tmpfs", "fstype": "tmpfs", "o:mode": 0o755}))
assert not os.path.exists(sys.path[0])
node, made = Node(), target + "/made"
node.put(made, None, node.merge(made, None, {"type": "directory", "mode": 0o710}))
"""


def test_what_hides_the_archive_it_runs_from_hides_no_code(arena):
    """Ansible ships modules as an archive, often in /tmp: what making a directory takes is loaded before the mount."""
    target = directory(arena + "/m")
    utils = os.path.dirname(os.path.dirname(mountsource.__file__))
    with zipfile.ZipFile(target + "/payload.zip", "w") as archive:
        package = "ansible_collections/bulkhead/storage/plugins/module_utils"
        for folder in [package.rsplit("/", depth)[0] for depth in range(4, 0, -1)] + [package]:
            archive.writestr(folder + "/__init__.py", "")
        for folder in ("_engine", "_adapters"):
            archive.writestr("%s/%s/__init__.py" % (package, folder), "")
            for name in os.listdir(os.path.join(utils, folder)):
                if name.endswith(".py") and name != "__init__.py":
                    archive.write(os.path.join(utils, folder, name), "%s/%s/%s" % (package, folder, name))
    code = "import sys; sys.path.insert(0, %r)\n%s" % (target + "/payload.zip", OVER_ITSELF)
    subprocess.run([sys.executable, "-I", "-c", code, target], check=True)
    assert sh("findmnt", "-n", "-o", "FSTYPE", target) == "tmpfs"
    assert sh("stat", "-c", "%a %F", target + "/made") == "710 directory"
    subprocess.run(["umount", target], check=True)
