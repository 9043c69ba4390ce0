# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""statmount(2) and mountinfo say the same of every kind of mount; a kernel that does not know it is none the worse."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
from typing import Any, Callable

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi, mountinfo, statmount
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace

OPTIONS = "nosuid nodev noexec noatime nodiratime,relatime strictatime nosymfollow ro sync dirsync lazytime".split()
OPTIONS += ["remount,bind,ro", "nosuid,nodev,noexec,nodiratime,noatime,sync,ro"]
NAMES = [b"a b", b"a\tb", b"a\nb", b"a\\040b", b"\xff\xfe", "\u2028".encode(), b"#x", b"\r", b"a,b=c", b"x" * 255]
TMPFS = {"source": "a b", "fstype": "tmpfs", "o:size": 1 << 20, "o:nr_inodes": 100, "nosuid": True, "noexec": True}
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def mount(*argv: str | bytes) -> None:
    subprocess.run(["mount", *argv], check=True)


def directory(path: str) -> str:
    os.makedirs(path, exist_ok=True)
    return path


def table() -> list[mountinfo.Mount]:
    return mountinfo.parse(mountinfo.read())


def asked(path: str) -> mountinfo.Mount | None:
    fd = os.open(os.fsencode(path), os.O_PATH)
    try:
        return statmount.row(fd)
    finally:
        os.close(fd)


def agreed(path: str) -> mountinfo.Mount:
    """What both say of the mount that a path leads to, whole."""
    found = asked(path)
    assert found is not None, "this kernel answers everything"
    assert found == mountinfo.Table(table()).at(path)
    return found


def test_every_mount_that_can_be_reached_is_the_same_both_ways(arena: str) -> None:
    rows = mountinfo.Table(table())
    seen = [agreed(row.path) for row in rows.rows if rows.at(row.path) is row]
    assert len(seen) > 5


@pytest.mark.parametrize("option", OPTIONS)
def test_options(arena: str, option: str) -> None:
    path = directory(arena + "/m")
    if "remount" in option:
        mount("-t", "tmpfs", "x", path)
    mount("-t", "tmpfs", "-o", option, "x", path)
    agreed(path)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_mount_point_source_and_root(arena: str, name: bytes) -> None:
    path = os.fsencode(arena) + b"/" + name
    os.mkdir(path)
    mount(b"-t", b"tmpfs", name, path)
    assert agreed(os.fsdecode(path)).source.encode("utf-8", "surrogateescape") == name
    os.mkdir(path + b"/" + name)
    to = directory(arena + "/to")
    mount(b"--bind", path + b"/" + name, to.encode())
    assert agreed(to).root.encode("utf-8", "surrogateescape") == b"/" + name


def test_propagation(arena: str) -> None:
    for name in ("a", "b", "c"):
        mount("-t", "tmpfs", name, directory("%s/%s" % (arena, name)))
    assert agreed(arena + "/a").propagation == "private"
    mount("--make-shared", arena + "/a")
    assert agreed(arena + "/a").propagation == "shared"
    mount("--bind", arena + "/a", arena + "/b")
    mount("--make-slave", arena + "/b")
    assert agreed(arena + "/b").propagation == "slave"
    mount("--make-shared", arena + "/b")
    assert agreed(arena + "/b").propagation == "shared", "both, and it passes on"
    mount("--make-unbindable", arena + "/c")
    assert agreed(arena + "/c").propagation == "unbindable"


def test_filesystems(arena: str) -> None:
    for name in ("ext4", "xfs", "btrfs"):
        image = namespace.image("%s/%s.img" % (arena, name), 320 << 20, name)
        mount("-o", "loop", image, directory("%s/%s" % (arena, name)))
        assert agreed("%s/%s" % (arena, name)).fstype == name
    os.chmod(arena + "/btrfs", 0o755)
    subprocess.run(["btrfs", "-q", "subvolume", "create", arena + "/btrfs/s"], check=True)
    mount("-o", "subvol=/s", agreed(arena + "/btrfs").source, directory(arena + "/s"))
    assert agreed(arena + "/s").root == "/s"
    for name in ("lower,a", "lower:b", "upper", "work", "over"):
        directory("%s/layers/%s" % (arena, name))
    layers = "lowerdir=%s/lower\\:b,upperdir=%s/upper,workdir=%s/work" % ((arena + "/layers",) * 3)
    mount("-t", "overlay", "-o", layers, "over lay", arena + "/layers/over")
    assert b"lowerdir=" in agreed(arena + "/layers/over").super_options
    mount("-t", "proc", "proc", directory(arena + "/proc"))
    agreed(arena + "/proc")


@pytest.mark.parametrize("of", ["everybody", "somebody else"])
def test_a_server_that_never_answers_is_not_asked(arena: str, of: str) -> None:
    """Its mount is known all the same. What is somebody else's alone tells root nothing: then the table does."""
    path = directory(arena + "/m")
    server = os.open("/dev/fuse", os.O_RDWR)
    try:
        about = "fd=%d,rootmode=40000,user_id=1000,group_id=0%s" % (server, ",allow_other" * (of == "everybody"))
        argv = ["mount", "-i", "-t", "fuse.probe", "-o", about, "x", path]
        subprocess.run(argv, check=True, pass_fds=(server,))
        found = mountinfo.Table(table()).at(path)
        assert found is not None and found.fstype == "fuse.probe"
        fd = os.open(path, os.O_PATH)
        try:
            assert statmount.row(fd) == (found if of == "everybody" else None)
            assert mountapi.mount_id(fd) == found.id
        finally:
            os.close(fd)
            subprocess.run(["umount", "-l", path], check=True)
    finally:
        os.close(server)


def test_a_root_that_was_removed_a_stack_and_a_detached_mount(arena: str) -> None:
    gone, path = directory(arena + "/gone"), directory(arena + "/m")
    mount("--bind", gone, path)
    os.rmdir(gone)
    assert agreed(path).root.endswith("//deleted")
    path = directory(arena + "/stack")
    for source in ("under", "over"):
        mount("-t", "tmpfs", source, path)
    assert agreed(path).source == "over"
    fd = os.open(path, os.O_PATH)
    subprocess.run(["umount", "-l", path], check=True)
    try:
        assert statmount.row(fd) is None, "it is nowhere any more"
        with pytest.raises(StorageError) as caught:
            mountapi.look(fd, path)
        assert caught.value.code == "moved"
    finally:
        os.close(fd)


def test_more_than_one_answer_holds_is_left_to_the_table(arena: str) -> None:
    """The options of many layers do not fit, and a mount without a source has no answer for it."""
    names = ["%s/layers/%s%03d" % (arena, "l" * 100, i) for i in range(90)]
    for name in names:
        directory(name)
    over = directory(arena + "/over")
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(430, b"overlay", 1)
    for name in names:
        assert libc.syscall(431, context, 1, b"lowerdir+", name.encode(), 0) == 0
    assert libc.syscall(431, context, 6, None, None, 0) == 0
    tree = libc.syscall(432, context, 1, 0)
    assert tree >= 0 and libc.syscall(429, tree, b"", -100, over.encode(), 4) == 0
    os.close(context)
    os.close(tree)
    assert asked(over) is None
    fd = os.open(over, os.O_PATH)
    try:
        assert len(mountapi.look(fd, over)["_row"].super_options) > 8192
    finally:
        os.close(fd)


def test_numbers_are_those_of_the_table(arena: str) -> None:
    path = directory(arena + "/m")
    mount("-t", "tmpfs", "x", path)
    fd = os.open(path, os.O_PATH)
    try:
        assert mountapi.mount_id(fd) == statmount.number(fd, statmount.OLD_ID) == agreed(path).id
        with open("/proc/self/fdinfo/%d" % fd, encoding="ascii") as stream:
            assert "mnt_id:\t%d\n" % mountapi.mount_id(fd) in stream.read()
        assert statmount.number(fd, statmount.UNIQUE_ID) != agreed(path).id
    finally:
        os.close(fd)


# -- older kernels -----------------------------------------------------------------------------------------------------


def without(calls: set[int], run: Callable[[], Any]) -> None:
    """``run`` in a child whose kernel answers ENOSYS to some system calls (a seccomp filter, linux/seccomp.h)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            rows = [(0x20, 0, 0, 0)]  # load the number of the call
            for left, call in enumerate(sorted(calls)):
                rows.append((0x15, len(calls) - left, 0, call))
            rows += [(0x06, 0, 0, _ALLOW), (0x06, 0, 0, _ERROR | errno.ENOSYS)]
            program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            told = struct.pack("=H6xQ", len(rows), ctypes.addressof(program))
            assert libc.prctl(_SECCOMP, _FILTER, told, 0, 0) == 0, os.strerror(ctypes.get_errno())
            run()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def made_changed_and_taken(target: str) -> None:
    port = Mounts()
    port.put(target, None, TMPFS)
    now = port.scan([target])[target]
    assert now["nosuid"] is True and now["o:size"] == 1 << 20
    with pytest.raises(StorageError) as caught:
        port.put(target, None, TMPFS)
    assert caught.value.code == "moved"
    port.put(target, now, {**now, "nodev": True})
    with pytest.raises(StorageError) as caught:
        port.put(target, now, None)
    assert caught.value.code == "moved"
    port.put(target, port.scan([target])[target], None)
    with pytest.raises(StorageError) as caught:
        port.put(target, None, {**TMPFS, "o:size": 1 << 64})
    assert port.scan([target]) == {}


@pytest.mark.parametrize("missing", ["statmount", "statx", "nothing"])
def test_mounts_are_made_changed_and_taken_away_on_any_kernel(arena: str, missing: str) -> None:
    target = directory(arena + "/m")
    statx = {"x86_64": 332, "aarch64": 291}[os.uname().machine]

    def run() -> None:
        fd = os.open(arena, os.O_PATH)
        assert (statmount.row(fd) is None) == (missing != "nothing")
        assert (statmount.number(fd, statmount.OLD_ID) is None) == (missing == "statx")
        os.close(fd)
        made_changed_and_taken(target)

    if missing == "nothing":
        run()
    else:
        without({"statmount": {457}, "statx": {statx}}[missing], run)
