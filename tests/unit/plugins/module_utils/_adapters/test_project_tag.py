# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.project_tag import ProjectTag, tag_tree
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

from .test_fsinfo import mounted


def seen(path):
    """(project id, inherits) by xfs_io."""
    project = subprocess.check_output(["xfs_io", "-r", "-c", "lsproj", path]).decode()
    flags = subprocess.check_output(["xfs_io", "-r", "-c", "lsattr", path]).decode("utf-8", "replace")
    return int(re.search(r"projid = (\d+)", project).group(1)), "P" in flags.split(" ", maxsplit=1)[0]


def code_of(call, *args, **kwargs):
    with pytest.raises(StorageError) as caught:
        call(*args, **kwargs)
    return caught.value.code


@pytest.fixture
def xfs(arena):
    return mounted(arena, "xfs")


@pytest.fixture
def tree(xfs):
    fd = os.open(xfs, os.O_RDONLY)
    yield xfs, fd
    os.close(fd)


def test_life(xfs):
    path, port = xfs + "/d", ProjectTag()
    assert port.scan([path]) == {}
    os.mkdir(path)
    subprocess.check_call(["xfs_io", "-c", "chattr +d", path])  # another flag, to be kept
    assert port.scan([path]) == {}
    port.put(path, None, {"id": 4294967294, "inherit": True})
    assert seen(path) == (4294967294, True)
    now = port.scan([path])
    assert now == {path: {"id": 4294967294, "inherit": True}}
    os.mkdir(path + "/child")
    assert seen(path + "/child") == (4294967294, True)
    port.put(path, now[path], {"id": 7, "inherit": False})
    assert seen(path) == (7, False)
    assert code_of(port.put, path, now[path], {"id": 8, "inherit": True}) == "moved"
    assert code_of(port.put, path, None, {"id": 8, "inherit": True}) == "moved"
    port.put(path, None, {"id": 7, "inherit": False})
    port.put(path, {"id": 7, "inherit": False}, None)
    assert seen(path) == (0, False) and port.scan([path]) == {}
    out = subprocess.check_output(["xfs_io", "-r", "-c", "lsattr", path]).decode()
    assert "d" in out.split(" ", maxsplit=1)[0]
    assert port.lowers(path, {}, None) and not port.lowers(path, None, {}) and port.risk(path, None, {}) == "reversible"
    assert port.scan(None) == {}


def test_unsupported_and_unsafe(arena, xfs):
    os.mkdir(xfs + "/t")
    os.chown(xfs + "/t", 1000, 1000)
    os.symlink(xfs, xfs + "/t/link")
    found = ProjectTag().scan(["/proc", xfs + "/t/link"])
    assert found["/proc"].code == "unsupported" and found[xfs + "/t/link"].code == "unsafe_path"
    assert code_of(ProjectTag().put, "/proc", None, {"id": 1, "inherit": True}) == "unsupported"
    assert code_of(ProjectTag().put, xfs + "/no", None, {"id": 1, "inherit": True}) == "not_found"
    assert seen(xfs) == (0, False)


def test_ext4_without_the_feature_says_unsupported(arena):
    path = mounted(arena, "ext4", size=64 << 20)
    assert code_of(ProjectTag().put, path, None, {"id": 5, "inherit": True}) == "unsupported"


def test_tree(tree):
    xfs, fd = tree
    os.makedirs(xfs + "/a/b\n/c")
    for name in ("a/f", "a/b\n/\udcff", "a/b\n/c/g"):
        open(os.fsencode("%s/%s" % (xfs, name)), "w").close()
    os.mkfifo(xfs + "/a/fifo")
    os.mknod(xfs + "/a/null", 0o20666, os.makedev(1, 3))
    os.symlink("/etc/passwd", xfs + "/a/link")
    open(xfs + "/a/h1", "w").close()
    os.link(xfs + "/a/h1", xfs + "/h2")
    os.mkdir(xfs + "/skip")
    open(xfs + "/skip/h3", "w").close()
    os.link(xfs + "/skip/h3", xfs + "/a/h4")
    before = len(os.listdir("/proc/self/fd"))
    done = tag_tree(fd, 77, skip={"skip"})
    assert (done.tagged, done.right) == (7, 0), "two names of one file are one"
    assert sorted(done.left) == ["a/fifo", "a/h4", "a/link", "a/null"] and done.shared == ["a/h4"]
    assert seen(xfs + "/skip") == (0, False)
    for name in ("a", "a/b\n", "a/b\n/c"):
        assert seen("%s/%s" % (xfs, name)) == (77, True)
    assert seen(xfs + "/a/f")[0] == seen(xfs + "/a/b\n/c/g")[0] == 77
    assert seen(xfs + "/a/h1")[0] == 77 and seen(xfs)[0] == 0 and seen(xfs + "/a/h4")[0] == 0
    again = tag_tree(fd, 77, skip={"skip"})
    assert (again.tagged, again.right, len(again.left)) == (0, 7, 4)
    away = tag_tree(fd, 0, inherit=False)
    assert (away.tagged, len(away.left)) == (7, 3) and seen(xfs + "/a") == (0, False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_tree_is_bounded(tree):
    xfs, fd = tree
    os.makedirs(xfs + "/" + "/".join("d" * 9))
    before = len(os.listdir("/proc/self/fd"))
    assert code_of(tag_tree, fd, 5, depth=8) == "limit_exceeded"
    assert code_of(tag_tree, fd, 5, limit=8) == "limit_exceeded"
    assert tag_tree(fd, 5, limit=9, depth=9).left == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_tree_stays_on_its_mount(tree):
    xfs, fd = tree
    os.makedirs(xfs + "/in")
    os.makedirs(xfs + "/out/x")
    subprocess.check_call(["mount", "--bind", xfs + "/out", xfs + "/in"])
    assert code_of(tag_tree, fd, 5) == "unsafe_path"
    subprocess.check_call(["umount", xfs + "/in"])
    assert tag_tree(fd, 5).left == []


def test_tree_that_its_owner_swaps_for_links(tree):
    """A1: whatever the race does, nothing outside is tagged."""
    xfs, fd = tree
    os.makedirs(xfs + "/victim")
    os.makedirs(xfs + "/t/data")
    os.symlink("../victim", xfs + "/t/link")
    code = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "a, b = (p.encode() for p in sys.argv[1:])\n"
        "while True: libc.renameat2(-100, a, -100, b, 2)\n"
    )
    racer = subprocess.Popen([sys.executable, "-S", "-c", code, xfs + "/t/data", xfs + "/t/link"])
    inside = os.open(xfs + "/t", os.O_RDONLY)
    codes = set()
    try:
        for number in range(2000):
            try:
                tag_tree(inside, 100 + number)
                codes.add("")
            except StorageError as error:
                codes.add(error.code)
    finally:
        racer.kill()
        racer.wait()
        os.close(inside)
    assert codes <= {"", "unsafe_path"} and "" in codes
    assert seen(xfs + "/victim") == (0, False)
