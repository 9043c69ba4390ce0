# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A23: what lies nested in a limited tree and is charged to nobody, and what can be removed when nothing is left.

On Btrfs that is a subvolume. On XFS and ext4 it is a directory that was there before the limit: what is made in it, or
brought to it, inherits nothing. Each attack is run against limits as one sets them by hand first, where it succeeds.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import namespace, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import TENANT, as_tenant, converge, limits, project, sh

MIB = 1 << 20
LIMIT = 4 * MIB
FULL = {"xfs": errno.ENOSPC, "ext4": errno.EDQUOT, "btrfs": errno.EDQUOT}
NUMBER = "4242"
ATTACK = """
import errno, fcntl, json, os, subprocess, sys
path, outside, fstype = sys.argv[1:]
old = path + "/old"

def fill(fd, size=3 << 20):
    done = 0
    while done < size:
        done += os.write(fd, b"x" * min(1 << 16, size - done))
        os.fsync(fd)

def into(name):
    fill(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

def nested():
    os.makedirs(old + "/n/deep")
    into(old + "/n/deep/f")

def unnamed():
    fd = os.open(old, os.O_TMPFILE | os.O_WRONLY)
    fill(fd)
    os.link("/proc/self/fd/%d" % fd, old + "/unnamed", src_dir_fd=fd, follow_symlinks=True)

def cloned():
    fcntl.ioctl(os.open(old + "/cloned", os.O_CREAT | os.O_WRONLY), 0x40049409, os.open(outside + "/c", os.O_RDONLY))

def subvolume():
    subprocess.run(["btrfs", "-q", "subvolume", "create", old + "/s"], check=True, stdout=-3)
    into(old + "/s/f")

ways = {
    "old": lambda: into(old + "/f"),
    "nested": nested,
    "unnamed": unnamed,
    "brought": lambda: os.rename(outside + "/b", old + "/b"),
    "linked": lambda: os.link(outside + "/l", old + "/l"),
    "cloned": cloned,
}
if fstype == "ext4":
    del ways["cloned"]
if fstype == "btrfs":
    ways = {"old": ways["old"], "subvolume": subvolume, "nested": nested}
said = {}
for way, act in ways.items():
    try:
        act()
        said[way] = ""
    except OSError as caught:
        said[way] = errno.errorcode[caught.errno]
print(json.dumps(said))
"""


def attack(path, outside, fstype):
    """What stopped each way, "" where nothing did; and the bytes that lie in the tree afterwards."""
    argv = [sys.executable, "-S", "-c", ATTACK, path, outside, fstype]
    rights: dict[str, Any] = {"user": TENANT, "group": TENANT, "extra_groups": []}
    done = subprocess.run(argv, capture_output=True, check=False, timeout=120, **rights)
    assert done.returncode == 0, done.stderr
    sh(["sync", "-f", path])
    return json.loads(done.stdout), int(sh(["du", "-s", "--block-size=1", path]).split()[0])


def planted(fs, name):
    """A tenant's tree that was there before its limit, and files of its elsewhere."""
    path, outside = "%s/%s" % (fs, name), "%s/%s-outside" % (fs, name)
    os.makedirs(path + "/old")
    os.mkdir(outside)
    for file in ("b", "l", "c"):
        with open("%s/%s" % (outside, file), "wb") as stream:
            stream.write(b"x" * 3 * MIB)
    sh(["chown", "-R", "%d:%d" % (TENANT, TENANT), path, outside])
    sh(["sync", "-f", fs])
    return path, outside


def by_hand(fs, fstype, path):
    if fstype == "btrfs":
        sh(["btrfs", "quota", "enable", fs])
        sh(["btrfs", "qgroup", "limit", str(LIMIT), path])
        return
    sh(["chattr", "+P", "-p", NUMBER, path])
    if fstype == "xfs":
        sh(["xfs_quota", "-x", "-c", "limit -p bhard=%d %s" % (LIMIT, NUMBER), fs])
    else:
        sh(["setquota", "-P", NUMBER, "0", str(LIMIT // 1024), "0", "0", fs])


def mounted(base, fstype):
    if fstype != "btrfs":
        return quotas.made(base, fstype)
    namespace.image(base + "/img", 256 * MIB, "btrfs")
    os.mkdir(base + "/m")
    sh(["mount", "-o", "loop", base + "/img", base + "/m"])
    return base + "/m"


def tree(fs, fstype, name):
    if fstype == "btrfs":
        sh(["btrfs", "subvolume", "create", "%s/%s" % (fs, name)])
    return planted(fs, name)


@pytest.mark.parametrize("fstype", ["xfs", "ext4", "btrfs"])
def test_what_is_nested_is_charged(arena, fstype):
    with quotas.own_catalogue():
        fs = mounted(arena, fstype)
        path, outside = tree(fs, fstype, "naive")
        by_hand(fs, fstype, path)
        stored, error = as_tenant(path + "/direct", size=8 * MIB)
        assert error == FULL[fstype] and stored <= LIMIT, "by hand, it does hold what it was tried with"
        os.unlink(path + "/direct")
        sh(["sync", "-f", fs])
        said, lies = attack(path, outside, fstype)
        print("%s, a limit of %d by hand: %d lie there, stopped: %s" % (fstype, LIMIT, lies, said))
        escaped = {way for way, what in said.items() if what == ""}
        if fstype == "btrfs":
            sh(["btrfs", "quota", "disable", fs])
            assert "subvolume" in escaped and lies > LIMIT
        else:
            assert escaped == set(said) and lies > 3 * LIMIT
        path, outside = tree(fs, fstype, "ours")
        done = converge([{"path": path, "hard": str(LIMIT)}])
        assert (done["refused"], done["errors"]) == ([], []), done
        said, lies = attack(path, outside, fstype)
        print("%s, a limit of %d by quota: %d lie there, stopped: %s" % (fstype, LIMIT, lies, said))
        assert lies <= LIMIT
        full = errno.errorcode[FULL[fstype]]
        assert {what for way, what in said.items() if way not in ("old", "brought", "linked")} == {full}
        assert {said.get(way, "EXDEV") for way in ("brought", "linked")} == {"EXDEV"}
        if fstype != "btrfs":
            number, inherits = project(path + "/old/n/deep")
            assert inherits and limits(fstype, fs, "project", number)["used"] <= LIMIT
        again = converge([{"path": path, "hard": str(LIMIT)}])
        assert (again["actions"], again["errors"]) == ([], [])


@pytest.mark.parametrize("fstype", ["xfs", "ext4"])
def test_what_is_full_can_be_emptied(arena, fstype):
    """To put things aside first, as some removals do, takes what is not there any more."""
    with quotas.own_catalogue():
        fs = quotas.made(arena, fstype)
        lists = {
            "pools": [{"name": "fast", "backend": "directory", "config": {"path": fs + "/p"}}],
            "volumes": [{"name": "data", "pool": "fast", "size": "4MiB", "owner": str(TENANT)}],
        }
        done = converge([], **lists)
        assert (done["refused"], done["errors"]) == ([], []), done
        path = fs + "/p/default/data"
        number = project(path)[0]
        done = converge([{"path": path, "hard": str(LIMIT), "inodes_hard": "20"}])
        assert (done["refused"], done["errors"]) == ([], []), done
        assert as_tenant(path + "/big", size=8 * MIB)[1] == as_tenant(path + "/n", files=30)[1] == FULL[fstype]
        aside = "import os, sys; os.mkdir(sys.argv[1] + '/.trash')"
        tenant = {"user": TENANT, "group": TENANT, "extra_groups": [], "capture_output": True}
        naive = subprocess.run([sys.executable, "-S", "-c", aside, path], check=False, **tenant)
        assert os.strerror(FULL[fstype]) in naive.stderr.decode(), naive
        subprocess.run(["rm", path + "/big"], check=True, **tenant)
        assert as_tenant(path + "/n0", size=2 * MIB) == (2 * MIB, 0), "room at once"
        assert as_tenant(path + "/n1", size=8 * MIB)[1] == FULL[fstype]
        done = converge([], volumes=[{"name": "data", "state": "absent"}])
        assert (done["refused"], done["errors"]) == ([], []), done
        assert os.listdir(fs + "/p") == [], "nothing is put aside for later"
        assert not any(limits(fstype, fs, "project", number).values())
