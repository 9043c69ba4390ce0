# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A22: what a tenant can do about its project limit, in a unit of its own user namespace and outside of one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess

import pytest

from ansible_collections.bulkhead.storage.tests.support import namespace, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import TENANT, as_tenant, converge, project, sh

MIB = 1 << 20
PLACE = "/mnt/quota-tenant"
FULL = {"xfs": errno.ENOSPC, "ext4": errno.EDQUOT}
UNIT = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "-p", "User=tenant-7", "-p", "NoNewPrivileges=yes"]
ATTACKS = {
    "chattr": ["chattr", "-p", "0", "-P", PLACE + "/m/blue/own"],
    "chproj": ["xfs_io", "-c", "chproj 0", PLACE + "/m/blue/own"],
}
WRITE = ["dd", "if=/dev/zero", "of=" + PLACE + "/m/blue/own/big", "bs=1M", "count=20", "conv=fsync"]


@pytest.fixture(scope="module")
def outside():
    """Where units run: not in the mount namespace of the tests."""
    namespace.enter()
    mine = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    theirs = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    os.setns(theirs, os.CLONE_NEWNS)
    sh(["useradd", "--uid", str(TENANT), "--no-create-home", "--shell", "/bin/sh", "tenant-7"], check=False)
    try:
        yield
    finally:
        os.setns(mine, os.CLONE_NEWNS)
        os.close(mine)
        os.close(theirs)


@pytest.fixture(params=["xfs", "ext4"])
def fstype(request):
    return request.param


@pytest.fixture
def limited(outside, fstype):
    os.makedirs(PLACE)
    sh(["mount", "-t", "tmpfs", "-o", "mode=0755,size=600m", "quota-tenant", PLACE])
    try:
        with quotas.own_catalogue():
            blue = quotas.made(PLACE, fstype) + "/blue"
            os.mkdir(blue)
            os.mkdir(blue + "/own")
            sh(["chown", "-R", "%d:%d" % (TENANT, TENANT), blue])
            done = converge([{"path": blue, "hard": "8MiB", "inodes_hard": "100"}])
            assert (done["refused"], done["errors"]) == ([], [])
            yield blue, done["resources"][0]["id"]
    finally:
        namespace.take_down(PLACE)
        shutil.rmtree(PLACE)


def unit(argv, *more):
    done = subprocess.run([*UNIT, *more, "--", *argv], check=False, capture_output=True, timeout=120)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_tenant_in_a_user_namespace_cannot_leave_its_project(limited, fstype, attack):
    blue, number = limited
    status, text = unit(ATTACKS[attack], "-p", "PrivateUsers=yes")
    print("%s, %s with PrivateUsers=yes: status %d, %s" % (fstype, attack, status, text.strip()))
    assert "Invalid argument" in text and project(blue + "/own") == (number, True)
    status, text = unit(WRITE, "-p", "PrivateUsers=yes")
    assert status != 0 and os.strerror(FULL[fstype]) in text, text
    assert os.path.getsize(blue + "/own/big") <= 8 * MIB


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_the_same_attack_outside_of_one_succeeds(limited, fstype, attack):
    """Should a kernel close this hole one day, the documentation may say so."""
    blue, number = limited
    assert as_tenant(blue + "/own/first", size=20 * MIB)[1] == FULL[fstype]
    os.unlink(blue + "/own/first")
    status, text = unit(ATTACKS[attack])
    print("%s, %s without PrivateUsers: status %d, %s" % (fstype, attack, status, text.strip()))
    assert project(blue + "/own")[0] == 0
    status, text = unit(WRITE)
    assert status == 0 and os.path.getsize(blue + "/own/big") == 20 * MIB, text
    # as the guide says: the next run does not see it, these commands do, and what goes and comes again is whole
    entry = {"path": blue, "hard": "8MiB", "inodes_hard": "100"}
    again = converge([entry])
    assert (again["actions"], again["refused"], again["errors"]) == ([], [], [])
    assert left(blue, number) == {blue + "/own", blue + "/own/big"}
    if fstype == "xfs":
        text = sh(["xfs_quota", "-x", "-c", "project -c -p %s %d" % (blue, number), PLACE + "/m"])
        assert re.findall(r"(?m)^(\S+) - project identifier is not set", text) == [blue + "/own", blue + "/own/big"], (
            text
        )
    for one in ({"path": blue, "state": "absent"}, entry):
        done = converge([one])
        assert (done["refused"], done["errors"]) == ([], []), done
    assert left(blue, done["resources"][0]["id"]) == set()
    assert as_tenant(blue + "/own/more", size=MIB)[1] == FULL[fstype]


def left(path, number):
    """What carries another id than that of the project."""
    lines = sh(["find", path, "-xdev", "(", "-type", "f", "-o", "-type", "d", ")", "-exec", "lsattr", "-pd", "{}", "+"])
    return {line.split()[2] for line in lines.splitlines() if line.split()[0] != str(number)}


def test_what_is_moved_linked_deleted_or_sparse(limited, fstype):
    """The rest of A22: what is moved or linked out of a project stays charged to it, and nothing uncharged comes in."""
    blue, number = limited
    other = PLACE + "/m/other"
    os.mkdir(other)
    os.chmod(other, 0o1777)
    assert as_tenant(blue + "/own/f", size=MIB) == as_tenant(other + "/in", size=MIB) == (MIB, 0)
    code = (
        "import os, sys\n"
        "for call, there, here in ((os.link, 'linked', 'l'), (os.rename, 'moved', 'm')):\n"
        "    call(sys.argv[1] + '/f', '%s/%s' % (sys.argv[2], there))\n"
        "    try: call(sys.argv[2] + '/in', '%s/%s' % (sys.argv[1], here))\n"
        "    except OSError as caught: print(caught.errno)\n"
    )
    argv = ["python3", "-S", "-c", code, blue + "/own", other]
    done = subprocess.run(argv, check=True, capture_output=True, user=TENANT)
    assert list(map(int, done.stdout.split())) == [errno.EXDEV, errno.EXDEV]
    assert project(other + "/moved")[0] == project(other + "/linked")[0] == number

    def used():
        return converge([{"path": blue, "hard": "8MiB"}])["resources"][0]["used_bytes"]

    assert used() >= MIB
    os.unlink(other + "/linked")
    with open(other + "/moved", "rb"):
        os.unlink(other + "/moved")
        assert used() >= MIB, "what is deleted but open is charged until it is closed"
    sh(["truncate", "-s", "100G", blue + "/own/sparse"])
    assert quotas.until(lambda: used() < MIB)
