# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroupchange import outside
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace


def progs(*argv):
    return subprocess.check_output(["btrfs", *argv], stderr=subprocess.DEVNULL).decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def filesystem():
    """A fresh btrfs: (mount point, descriptor of its root)."""
    with namespace.place() as base, namespace.loop_device(namespace.image(base + "/img", 512 << 20, "btrfs")) as device:
        os.mkdir(base + "/m")
        subprocess.check_call(["mount", device, base + "/m"])
        fd = os.open(base + "/m", os.O_RDONLY)
        try:
            yield base + "/m", fd
        finally:
            os.close(fd)
            namespace.take_down(base + "/m")


@pytest.fixture
def fs(private_mounts):
    with filesystem() as found:
        yield found


@contextlib.contextmanager
def opened(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def code_of(call, *args):
    with pytest.raises(StorageError) as caught:
        call(*args)
    return caught.value.code


def shown(mount):
    """{qgroup: (max_rfer, max_excl, parents)} by btrfs-progs."""
    rows = {}
    for line in progs("qgroup", "show", "--sync", "-pcre", "--raw", mount).splitlines()[2:]:
        f = line.split()
        rows[f[0]] = (f[3], f[4], f[5])
    return rows


@pytest.mark.parametrize("name", ["a", "a b", "a\nb", "-rf", "\udcff", "é", "x" * 255])
def test_subvolume_there_and_gone(fs, name):
    mount, fd = fs
    btrfschange.subvolume_create(fd, name)
    raw = os.fsencode(name)
    listed = subprocess.check_output(["btrfs", "subvolume", "list", mount])
    assert listed.endswith(b"path " + raw + b"\n")
    number = int(listed.split()[1])
    with opened(os.path.join(mount, name)) as sub:
        assert btrfs.is_subvolume(sub)
        assert btrfs.subvolume_id(sub) == number
        assert btrfs.subvolume_path(sub, number) == name
    assert code_of(btrfschange.subvolume_create, fd, name) == "moved"
    btrfschange.subvolume_destroy(fd, name)
    assert not os.path.lexists(os.path.join(mount, name))
    assert code_of(btrfschange.subvolume_destroy, fd, name) == "not_found"
    assert code_of(btrfs.subvolume_path, fd, 99999) == "not_found"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256, "../m"])
def test_names_that_leave_are_refused(fs, name):
    assert code_of(btrfschange.subvolume_create, fs[1], name) == "invalid"
    assert code_of(btrfschange.subvolume_destroy, fs[1], name) == "invalid"


def test_a_directory_is_not_a_subvolume(fs):
    mount, fd = fs
    os.mkdir(mount + "/d")
    with opened(mount + "/d") as folder, opened("/proc") as other:
        assert not btrfs.is_subvolume(folder) and not btrfs.is_subvolume(other)
        assert btrfs.is_subvolume(fd) and btrfs.subvolume_path(fd, btrfs.TOP) == ""
        assert btrfs.subvolume_id(folder) == btrfs.TOP
        assert code_of(btrfschange.subvolume_create, other, "x") in ("failed", "unsupported")
    with pytest.raises(StorageError):
        btrfschange.subvolume_destroy(fd, "d")
    assert os.path.isdir(mount + "/d")


def test_a_link_is_not_followed(fs):
    mount, fd = fs
    btrfschange.subvolume_create(fd, "victim")
    os.symlink("victim", mount + "/link")
    with pytest.raises(StorageError):
        btrfschange.subvolume_destroy(fd, "link")
    assert os.path.isdir(mount + "/victim") and os.path.islink(mount + "/link")


def test_snapshot_and_read_only(fs):
    mount, fd = fs
    btrfschange.subvolume_create(fd, "s")
    with open(mount + "/s/f", "w") as f:
        f.write("hi")
    with opened(mount + "/s") as source:
        btrfschange.snapshot(source, fd, "ro", read_only=True)
        btrfschange.snapshot(source, fd, "rw")
        assert code_of(btrfschange.snapshot, source, fd, "rw") == "moved"
    assert progs("property", "get", mount + "/ro", "ro") == "ro=true\n"
    assert progs("property", "get", mount + "/rw", "ro") == "ro=false\n"
    with open(mount + "/ro/f") as f:
        assert f.read() == "hi"
    btrfschange.subvolume_destroy(fd, "ro")
    assert "path ro" not in progs("subvolume", "list", mount)


def test_nested(fs):
    mount, fd = fs
    for path in ("a", "a/dir/b", "a/dir/b/c", "d"):
        folder, _slash, name = path.rpartition("/")
        os.makedirs(os.path.join(mount, folder), exist_ok=True)
        with opened(os.path.join(mount, folder)) as at:
            btrfschange.subvolume_create(at, name)
    ids = {row.split()[-1]: int(row.split()[1]) for row in progs("subvolume", "list", mount).splitlines()}
    a, b, c, d = (ids[p] for p in ("a", "a/dir/b", "a/dir/b/c", "d"))
    assert btrfs.nested(fd) == {btrfs.TOP: [a, d], a: [b], b: [c]}
    assert btrfs.nested(fd, a) == {a: [b], b: [c], c: []}
    assert btrfs.subvolume_path(fd, c) == "a/dir/b/c"
    assert code_of(btrfschange.subvolume_destroy, fd, "a") == "in_use"


def test_resize(fs):
    mount, fd = fs
    size = os.statvfs(mount).f_blocks * os.statvfs(mount).f_frsize
    btrfschange.resize(fd, 384 << 20)
    assert os.statvfs(mount).f_blocks * os.statvfs(mount).f_frsize == 384 << 20
    btrfschange.resize(fd, None)
    assert os.statvfs(mount).f_blocks * os.statvfs(mount).f_frsize == size
    assert code_of(btrfschange.resize, fd, 1 << 50) == "limit_exceeded"


def test_filesystem_id(fs):
    assert os.path.isdir("/sys/fs/btrfs/" + btrfs.filesystem_id(fs[1]))
    assert btrfs.filesystem_id(fs[1]) in progs("filesystem", "show", fs[0])


@pytest.mark.parametrize("mode", ["simple", "full"])
def test_quota_groups(fs, mode):
    mount, fd = fs
    assert btrfs.quota_status(fd) is None and btrfs.qgroups(fd) == {}
    btrfschange.subvolume_create(fd, "s")
    with open(mount + "/s/f", "wb") as f:
        f.write(os.urandom(1 << 20))
        os.fsync(f.fileno())
    btrfschange.quota_enable(fd, simple=mode == "simple")
    if mode == "full":
        btrfschange.rescan(fd, 60)
    status = btrfs.quota_status(fd)
    assert status == (mode, False, False)
    with open("/sys/fs/btrfs/%s/qgroups/mode" % btrfs.filesystem_id(fd)) as f:
        assert f.read() == {"simple": "squota\n", "full": "qgroup\n"}[mode]
    with opened(mount + "/s") as sub:
        me = btrfs.subvolume_id(sub)
    own = btrfs.LEVEL | me
    btrfschange.qgroup_create(fd, own)
    btrfschange.qgroup_create(fd, own)
    btrfschange.qgroup_limit(fd, own, 5 << 20, mark=7)
    btrfschange.qgroup_limit(fd, me, None, 3 << 20)
    btrfschange.qgroup_assign(fd, me, own)
    btrfschange.qgroup_assign(fd, me, own)
    rows = shown(mount)
    assert rows["1/%d" % me] == (str(5 << 20), "none", "-")
    assert rows["0/%d" % me] == ("none", str(3 << 20), "1/%d" % me)
    groups = btrfs.qgroups(fd)
    assert groups == {**btrfs.qgroups(fd, groups)}  # one pass and point reads agree
    assert groups[own].max_rfer == 5 << 20 and groups[own].max_excl is None and groups[own].mark == 7
    assert groups[me].max_rfer is None and groups[me].max_excl == 3 << 20 and groups[me].mark == 0
    assert groups[me].parents == (own,) and groups[own].members == (me,)
    if mode == "full":
        assert groups[me].rfer > 1 << 20 and groups[me].excl > 1 << 20
    assert btrfs.qgroups(fd, [12345]) == {}
    assert code_of(btrfschange.qgroup_destroy, fd, own) == "in_use"
    btrfschange.qgroup_assign(fd, me, own, remove=True)
    btrfschange.qgroup_assign(fd, me, own, remove=True)
    btrfschange.qgroup_limit(fd, own, None)
    assert shown(mount)["1/%d" % me] == ("none", "none", "-") and btrfs.qgroups(fd, [own])[own].mark == 0
    btrfschange.qgroup_destroy(fd, own)
    btrfschange.qgroup_destroy(fd, own)
    assert "1/%d" % me not in shown(mount)


def test_use_is_live(fs):
    mount, fd = fs
    btrfschange.quota_enable(fd, simple=True)
    btrfschange.subvolume_create(fd, "s")
    with opened(mount + "/s") as sub:
        me = btrfs.subvolume_id(sub)
    with open(mount + "/s/f", "wb") as f:
        f.write(os.urandom(1 << 20))
    os.sync()
    assert 1 << 20 <= btrfs.used(btrfs.filesystem_id(fd), me) < 2 << 20
    assert btrfs.used(btrfs.filesystem_id(fd), 99999) is None


def test_rescan_deadline(fs):
    mount, fd = fs
    btrfschange.quota_enable(fd, simple=False)
    btrfschange.rescan(fd, 60)
    btrfschange.rescan(fd, 60)
    assert not btrfs.quota_status(fd).inconsistent


def test_more_than_one_page(fs):
    mount, fd = fs
    btrfschange.quota_enable(fd, simple=True)
    for number in range(1000, 3000):
        btrfschange.qgroup_create(fd, btrfs.LEVEL | number)
    groups = btrfs.qgroups(fd)
    assert {n % btrfs.LEVEL for n in groups if n >> 48} == set(range(1000, 3000))
    assert len(shown(mount)) == len(groups)


def source_of(mount):
    return subprocess.check_output(["findmnt", "-no", "SOURCE", mount]).decode().strip()


def test_top_is_seen_by_nobody_and_keeps_nothing(fs):
    mount, fd = fs
    btrfschange.subvolume_create(fd, "s")
    os.mkdir(mount + "/../inner")
    source = source_of(mount)
    subprocess.check_call(["mount", "-o", "subvol=s", source, mount + "/../inner"])
    table, descriptors = subprocess.check_output(["findmnt"]), len(os.listdir("/proc/self/fd"))
    with opened(mount + "/../inner") as sub, outside(sub) as top:
        assert os.listdir(top) == ["s"] and btrfs.subvolume_id(top) == btrfs.TOP
        assert subprocess.check_output(["findmnt"]) == table
        assert not os.get_inheritable(top)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    subprocess.check_call(["mount", "-o", "remount,ro", mount + "/../inner"])
    subprocess.check_call(["mount", "-o", "remount,ro", mount])
    with opened(mount + "/../inner") as sub:
        with pytest.raises(StorageError) as caught, outside(sub):
            pass
        assert caught.value.code == "denied"
    assert "ro" in subprocess.check_output(["findmnt", "-no", "FS-OPTIONS", mount]).decode().split(",")


def test_a_killed_run_leaves_no_mount_of_its_own(fs):
    mount, fd = fs
    btrfschange.subvolume_create(fd, "s")
    source, inner = source_of(mount), mount + "/../inner"
    os.mkdir(inner)
    subprocess.check_call(["mount", "-o", "subvol=s", source, inner])
    child = os.fork()
    if not child:
        with opened(inner) as sub, outside(sub) as top:
            os.kill(os.getpid(), signal.SIGKILL if mount_of(top) != mount_of(sub) else signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    subprocess.check_call(["umount", inner])
    with opened(source):
        os.close(fd)
        subprocess.check_call(["umount", mount])
        for _try in range(100):  # a killed process is gone a moment before its mounts are
            with contextlib.suppress(OSError):
                os.close(os.open(source, os.O_RDONLY | os.O_EXCL))
                break
            time.sleep(0.05)
        else:
            pytest.fail("%s is still held" % source)
        os.dup2(os.open("/dev/null", os.O_RDONLY), fd)  # the fixture closes it


def mount_of(fd):
    with open("/proc/self/fdinfo/%d" % fd) as f:
        return next(line for line in f if line.startswith("mnt_id:"))


@pytest.mark.parametrize("mode", ["off", "simple", "full"])
def test_what_is_around_saves_a_mount_unless_it_is_limited(fs, mode):
    mount, fd = fs
    if mode != "off":
        btrfschange.quota_enable(fd, simple=mode == "simple")
    for path in ("pool", "pool/a", "pool/a/dir/b"):
        os.makedirs(os.path.dirname(mount + "/" + path), exist_ok=True)
        with opened(os.path.dirname(mount + "/" + path)) as at:
            btrfschange.subvolume_create(at, path.rpartition("/")[2])
    source = source_of(mount)
    os.mkdir(mount + "/../inner")
    subprocess.check_call(["mount", "-o", "subvol=pool", source, mount + "/../inner"])
    table, descriptors = subprocess.check_output(["findmnt"]), len(os.listdir("/proc/self/fd"))

    def reached(path):
        with opened(path) as below, outside(below) as found:
            assert subprocess.check_output(["findmnt"]) == table and not os.get_inheritable(found)
            return btrfs.subvolume_path(found, btrfs.subvolume_id(found)), mount_of(found) == mount_of(below)

    inner = mount + "/../inner"
    assert reached(mount + "/pool/a/dir/b") == ("pool/a", True) and reached(mount + "/pool/a/dir") == ("pool/a", True)
    assert reached(mount + "/pool") == ("", True) and reached(inner + "/a") == ("pool", True)
    assert reached(inner) == ("", False) and reached(mount) == ("", False)  # nothing is around what is mounted
    if mode != "off":
        with opened(mount + "/pool/a") as a:
            me = btrfs.subvolume_id(a)
        progs("qgroup", "limit", "16M", mount + "/pool/a")
        assert reached(mount + "/pool/a/dir/b") == ("pool", True)
        progs("qgroup", "limit", "none", mount + "/pool/a")
        for group in ("1/%d" % me, "2/7"):
            progs("qgroup", "create", group, mount)
        progs("qgroup", "assign", "--no-rescan", "1/%d" % me, "2/7", mount)
        progs("qgroup", "assign", "--no-rescan", "0/%d" % me, "1/%d" % me, mount)
        assert reached(mount + "/pool/a/dir/b") == ("pool/a", True)
        progs("qgroup", "limit", "16M", "2/7", mount)  # a limit two groups up counts as well
        assert reached(mount + "/pool/a/dir/b") == ("pool", True)
        progs("qgroup", "limit", "-e", "16M", mount + "/pool")
        assert reached(mount + "/pool/a/dir/b") == ("", True) and reached(inner + "/a/dir/b") == ("", False)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_no_program_is_run():
    for module in (btrfs, btrfschange):
        with open(sys.modules[module.__name__].__file__) as f:
            assert not re.search("subprocess|os.system|popen", f.read())


def test_errors(fs):
    os.close(os.open(fs[0] + "/x", os.O_CREAT))
    with opened(fs[0] + "/x") as file:
        assert code_of(btrfschange.subvolume_create, file, "y") in ("failed", "unsafe_path")
    assert code_of(btrfschange.qgroup_create, fs[1], btrfs.LEVEL | 9) == "failed"  # quota is off
    btrfschange.quota_enable(fs[1], simple=True)
    subprocess.check_call(["mount", "-o", "remount,ro", fs[0]])
    assert code_of(btrfschange.subvolume_create, fs[1], "y") == "denied"
    assert code_of(btrfschange.quota_enable, fs[1], True) == "denied"
    assert code_of(btrfschange.qgroup_create, fs[1], btrfs.LEVEL | 9) == "denied"
