# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mountinfo against hostile bytes, and against the kernel's own table of stacked and hidden mounts."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Table, parse, text
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

ROW = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"  # proc.rst, 3.5


def kernel_escape(raw: bytes) -> bytes:
    """seq_escape(m, s, " \\t\\n\\\\") of the kernel, written here a second time."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in raw)


def test_the_example_of_the_kernel_document():
    (row,) = parse(ROW)
    assert row[:5] == (36, 35, "98:0", "/mnt1", "/mnt2")
    assert row.options == {b"rw", b"noatime"}
    assert row[6:] == ("slave", "ext3", "/dev/root", b"rw,errors=continue")
    assert mountinfo.options(row.super_options) == {"rw": True, "errors": "continue"}


@given(st.binary(min_size=1).filter(lambda b: b"\0" not in b))
def test_every_byte_of_a_path_survives(raw):
    line = b"1 0 0:1 / /" + kernel_escape(raw) + b" rw shared:3 master:1 - tmpfs " + kernel_escape(raw) + b" rw\n"
    (row,) = parse(line)
    assert encode(row.path) == b"/" + raw
    assert encode(row.source) == raw
    assert row.propagation == "shared"


@pytest.mark.parametrize("raw", [b"\r", b"\x0b", b"\x0c", b"\x85", "\u2028".encode(), b"\xff", b"#"])
def test_only_space_and_newline_split(raw):
    assert len(parse(b"1 0 0:1 / /a" + raw + b"b rw - tmpfs x rw\n")) == 1


@pytest.mark.parametrize(
    "data",
    [
        ROW[:-1],
        ROW + b"37 35 98:0 /m",
        b"\n",
        b"x 35 98:0 / / rw - ext3 /dev/root rw\n",
        b"36 35 98:0 / / rw ext3 /dev/root rw\n",
        b"36 35 98:0 / - ext3 /dev/root rw\n",
        b"36 35 98:0 / / rw - ext3 /dev/root\n",
        b"36 35 \xff:0 / / rw - ext3 /dev/root rw\n",
    ],
)
def test_a_cut_or_senseless_table_is_unreadable_never_shorter(data):
    with pytest.raises(StorageError) as caught:
        parse(data)
    assert caught.value.code == "unreadable"


def test_an_empty_source_and_an_empty_table():
    assert parse(b"") == []
    assert parse(b"1 0 0:1 / /a rw - tmpfs  rw\n")[0].source == ""


@pytest.mark.parametrize(
    "raw, expected",
    [
        (b"rw", {"rw": True}),
        (b"rw,size=1024k,mode=755", {"rw": True, "size": "1024k", "mode": "755"}),
        (b'rw,context="a:b:c0,c1",seclabel', {"rw": True, "context": '"a:b:c0,c1"', "seclabel": True}),
        (b"rw,lowerdir=/a\\054b:/c,upperdir=/d\\075e", {"rw": True, "lowerdir": "/a,b:/c", "upperdir": "/d=e"}),
        (b"rw,lowerdir=a=b,x=", {"rw": True, "lowerdir": "a=b", "x": ""}),
        (b'rw,a=b"c,d', {"rw": True, "a": 'b"c', "d": True}),
    ],
)
def test_options(raw, expected):
    assert mountinfo.options(raw) == expected


def test_escapes_beyond_a_byte_stay():
    assert text(b"a\\777\\08\\0401") == "a\\777\\08 1"


def test_two_thousand_rows_take_milliseconds():
    row = b"%d 20 0:%d / /srv/tenants/%d/data rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=10k\n"
    data = b"".join(row % (i, i, i) for i in range(100, 2100))
    best = min(_timed(data) for _round in range(5))
    assert best < 0.05, "%.1f ms" % (best * 1000)


def _timed(data):
    start = time.perf_counter()
    assert Table(parse(data)).at("/srv/tenants/1500/data").id == 1500
    return time.perf_counter() - start


def mount(*argv):
    subprocess.run(["mount", *argv], check=True)


def table():
    return Table(parse(mountinfo.read()))


def mount_id(path):
    """What the kernel says a lookup of a path ends in: statx through findmnt would walk text, fdinfo does not."""
    fd = os.open(path, os.O_PATH)
    try:
        with open("/proc/self/fdinfo/%d" % fd, encoding="ascii") as f:
            return int(f.read().partition("mnt_id:")[2].split()[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "name", [b"a b", b"a\tb", b"a\nb", b"a\\040b", b"a\\", b"\xff\xfe", "\u2028".encode(), b"#x", b"\r"]
)
def test_the_kernel_writes_what_we_read(arena, name):
    path = os.fsencode(arena) + b"/" + name
    os.mkdir(path)
    subprocess.run([b"mount", b"-t", b"tmpfs", b"na me", path], check=True)
    row = table().at(mountinfo.text(path.replace(b"\\", b"\\134")))
    assert row is not None and row.id == mount_id(path)
    assert row.source == "na me"


def test_top_most_and_hidden_mounts_are_told_apart(arena):
    deep = arena + "/a/b"
    os.makedirs(deep)
    mount("-t", "tmpfs", "one", deep)
    mount("-t", "tmpfs", "two", deep)
    assert table().at(deep).source == "two"
    assert table().at(deep).id == mount_id(deep)
    mount("-t", "tmpfs", "cover", arena + "/a")
    os.mkdir(deep)
    assert table().at(deep) is None, "the mount that is still in the table is hidden by the cover"
    assert table().over(deep).source == "cover"
    assert table().over(deep).id == mount_id(deep)
    mount("-t", "tmpfs", "three", deep)
    assert table().at(deep).source == "three"


def test_a_root_that_is_no_mount_is_walked_too(arena):
    """In a chroot to a plain directory no row is ``/``; mounts beneath it still have to be found."""
    os.makedirs(arena + "/jail/m")
    mount("-t", "tmpfs", "inside", arena + "/jail/m")
    os.mkdir(arena + "/jail/proc")
    mount("-t", "proc", "proc", arena + "/jail/proc")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chroot(arena + "/jail")
            code = 0 if table().at("/m").source == "inside" and table().at("/") is None else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_sources_of_a_bind(arena):
    for name in ("src/in", "dst", "other", "self"):
        os.makedirs(arena + "/" + name)
    mount("--bind", arena + "/src/in", arena + "/dst")
    mount("--bind", arena, arena + "/other")
    mount("--bind", arena + "/self", arena + "/self")
    now = table()
    found = now.sources(now.at(arena + "/dst"))
    assert {path for path, (_count, seen) in found.items() if seen} == {
        arena + "/src/in",
        arena + "/dst",
        arena + "/other/src/in",
    }
    assert now.sources(now.at(arena + "/self"))[arena + "/self"] == (2, True)
    mount("-t", "tmpfs", "cover", arena + "/src")
    now = table()
    assert not now.sources(now.at(arena + "/dst"))[arena + "/src/in"][1], "the path leads elsewhere now"


NFS = """\
1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:40 / /m rw - nfs4 nas:/srv/out rw
3 1 0:40 / /bind rw - nfs4 nas:/srv/out/a/b rw
4 1 0:40 / /other rw - nfs4 nas:/srv/outer rw
5 1 0:40 / /v6 rw - nfs4 [fd00::1]:/ rw
6 1 0:41 / /ceph rw - ceph mon:6789:/x rw
"""


def test_which_directory_of_a_server_is_seen():
    """Each row says that it is the root; a bind of a directory beneath a mount differs in its source only."""
    now = Table(parse(NFS.encode()))
    assert set(now.sources(now.at("/bind"))) == {"/bind", "/m/a/b"}
    assert set(now.sources(now.at("/m"))) == {"/m"} and set(now.sources(now.at("/other"))) == {"/other"}
    assert set(now.sources(now.at("/v6"))) == {"/v6"} and set(now.sources(now.at("/ceph"))) == {"/ceph"}
    assert all(now.first(now.at(path)) for path in ("/m", "/bind", "/other", "/v6", "/ceph"))
