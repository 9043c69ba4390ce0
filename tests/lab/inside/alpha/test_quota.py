# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quota on XFS and ext4, on a kernel that has it. Other programs tell every outcome, or a write of a tenant does."""

from __future__ import annotations

import errno
import os
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import TENANT, as_tenant, converge, limits, project, sh

MIB = 1 << 20
FULL = {"xfs": errno.ENOSPC, "ext4": errno.EDQUOT}  # what a project's limit is answered with


@pytest.fixture(params=["xfs", "ext4"])
def fstype(request):
    return request.param


@pytest.fixture
def fs(arena, fstype):
    with quotas.own_catalogue():
        yield quotas.made(arena, fstype)


@pytest.fixture
def blue(fs):
    """A tenant's directory with something in it already."""
    path = fs + "/blue"
    os.makedirs(path + "/old/deep")
    for name in ("old/f", "old/deep/g"):
        with open("%s/%s" % (path, name), "w", encoding="ascii") as stream:
            stream.write("x" * 5000)
    os.symlink("/etc/passwd", path + "/old/link")
    sh(["chown", "-R", "%d:%d" % (TENANT, TENANT), path])
    return path


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def quiet(entry):
    again = converge([entry] if isinstance(entry, dict) else entry)
    assert (again["actions"], codes(again)) == ([], []), again
    return again


def test_life_of_a_project(fs, fstype, blue):
    entry = {"path": blue, "hard": "10MiB", "soft": "8MiB", "inodes_hard": "50", "inodes_soft": "40", "name": "blue"}
    foreseen = converge([entry], check=True)
    assert project(blue) == (0, False) and not os.path.exists("/var/lib/bulkhead/catalogue.sqlite")
    done = converge([entry])
    assert codes(done) == [] and (done["actions"], done["digest"]) == (foreseen["actions"], foreseen["digest"])
    number = done["resources"][0]["id"]
    for name, inherits in (("", True), ("/old", True), ("/old/deep", True), ("/old/f", False), ("/old/deep/g", False)):
        assert project(blue + name) == (number, inherits), name
    os.mkdir(blue + "/new")
    assert project(blue + "/new") == (number, True)
    seen = limits(fstype, fs, "project", number)
    assert (seen["hard"], seen["soft"], seen["inodes_hard"], seen["inodes_soft"]) == (10 * MIB, 8 * MIB, 50, 40)
    again = quiet(entry)["resources"][0]
    shown = {"soft": 8 * MIB, "hard": 10 * MIB, "inodes_soft": 40, "inodes_hard": 50}
    assert again["limits"] == shown and again["name"] == "blue" and again["enforced_by"] == "project_quota"
    seen = limits(fstype, fs, "project", number)
    assert (again["used_bytes"], again["used_inodes"]) == (seen["used"], seen["inodes"])
    converge([{"path": blue, "hard": "12MiB", "soft": "none"}])
    seen = limits(fstype, fs, "project", number)
    assert (seen["hard"], seen["soft"], seen["inodes_hard"]) == (12 * MIB, 0, 50)
    gone = converge([{"path": blue, "state": "absent"}])
    assert codes(gone) == [] and len(gone["actions"]) == 1
    for name in ("", "/old", "/old/deep", "/old/f", "/old/deep/g", "/new"):
        assert project(blue + name) == (0, False), name
    assert limits(fstype, fs, "project", number).get("hard", 0) == 0
    assert Record().ids("project") == {}
    quiet({"path": blue, "state": "absent"})


def test_a_tenant_is_stopped(fs, fstype, blue):
    entry = {"path": blue, "hard": "8MiB", "inodes_hard": "30"}
    assert codes(converge([entry])) == []
    stored, error = as_tenant(blue + "/big", size=20 * MIB)
    print("%s: project limit 8 MiB, stored %d, errno %s" % (fstype, stored, errno.errorcode[error]))
    assert error == FULL[fstype] and 7 * MIB < stored <= 8 * MIB
    os.unlink(blue + "/big")
    stored, error = as_tenant(blue + "/n", files=60)
    print("%s: 30 inodes, made %d, errno %s" % (fstype, stored, errno.errorcode[error]))
    assert error == FULL[fstype] and stored <= 30 and quiet(entry)["resources"][0]["used_inodes"] == 30
    assert converge([{"path": blue, "inodes_hard": "none"}])["errors"] == []
    assert as_tenant(blue + "/m", files=60) == (60, 0)


def test_a_soft_limit_holds_after_its_grace(fs, fstype, blue):
    entry = {"path": blue, "soft": "1MiB", "hard": "9MiB", "grace": "3"}
    assert codes(converge([entry])) == []
    assert quiet(entry)["resources"][0]["grace"] == 3
    assert as_tenant(blue + "/a", size=2 * MIB) == (2 * MIB, 0)
    time.sleep(5)
    stored, error = as_tenant(blue + "/b", size=2 * MIB)
    assert stored < MIB and error == FULL[fstype], "beyond its grace a soft limit is a hard one"
    said = converge(
        [{"path": blue, "hard": "9MiB", "grace": "1h"}, {"path": fs + "/old", "hard": "1MiB", "grace": "2h"}]
    )
    assert "conflict" in codes(said), said


def test_users_and_groups(fs, fstype, blue):
    entries = [
        {"path": fs, "kind": "user", "id": TENANT, "hard": "5MiB", "inodes_hard": "20"},
        {"path": fs, "kind": "group", "name": "daemon", "hard": "6MiB"},
    ]
    done = converge(entries)
    assert codes(done) == [] and [r["id"] for r in done["resources"]] == [TENANT, 1]
    assert limits(fstype, fs, "user", TENANT)["hard"] == 5 * MIB
    assert limits(fstype, fs, "group", 1)["hard"] == 6 * MIB
    os.mkdir(fs + "/open")
    os.chmod(fs + "/open", 0o1777)
    stored, error = as_tenant(fs + "/open/big", size=20 * MIB)
    assert error == errno.EDQUOT and 4 * MIB < stored <= 5 * MIB
    os.unlink(fs + "/open/big")
    stored, error = as_tenant(fs + "/open/n", files=40)
    assert error == errno.EDQUOT and stored < 20
    quiet(entries)
    assert codes(converge([{**entry, "state": "absent"} for entry in entries])) == []
    assert limits(fstype, fs, "user", TENANT)["hard"] == 0 and as_tenant(fs + "/open/m", files=40) == (40, 0)
    assert codes(converge([{"path": fs, "kind": "user", "name": "nobody-such", "hard": "1MiB"}])) == ["not_found"]
    both = [{"path": fs, "kind": "group", "name": "daemon", "hard": "6MiB"}]
    assert "conflict" in codes(converge([*both, {"path": fs, "kind": "group", "id": 1, "hard": "7MiB"}]))


def test_never_more_than_was_asked_for_and_quiet(fs, fstype, blue):
    unit = os.statvfs(fs).f_frsize if fstype == "xfs" else 1024
    entry = {"path": blue, "hard": "1000001"}
    assert converge([entry])["resources"][0]["limits"]["hard"] == 1000001 // unit * unit
    number = quiet(entry)["resources"][0]["id"]
    assert limits(fstype, fs, "project", number)["hard"] == 1000001 // unit * unit


def test_an_unknown_id_is_a_conflict_and_can_be_adopted(fs, fstype, blue):
    sh(["chattr", "-p", "4242", blue + "/old/f", blue])
    assert codes(converge([{"path": blue, "hard": "5MiB"}])) == ["conflict"]
    assert codes(converge([{"path": blue, "hard": "5MiB", "id": 4243}])) == ["conflict"]
    assert codes(converge([{"path": blue, "state": "absent"}])) == ["conflict"]
    assert project(blue)[0] == 4242
    entry = {"path": blue, "hard": "5MiB", "id": 4242}
    assert codes(converge([entry])) == [] and project(blue + "/old/deep/g") == (4242, False)
    quiet(entry)


def test_ids_are_never_shared_nor_reused_too_early(fs, fstype, blue):
    for name in "abc":
        os.mkdir("%s/%s" % (fs, name))
    one, two = {"path": fs + "/a", "hard": "1MiB", "name": "a"}, {"path": fs + "/b", "hard": "1MiB", "name": "b"}
    ids = [r["id"] for r in converge([one, two])["resources"]]
    assert len(set(ids)) == 2
    assert codes(converge([one, {"path": fs + "/c", "hard": "1MiB", "id": ids[0]}])) == ["conflict"]
    assert codes(converge([{"path": fs + "/c", "hard": "1MiB", "name": "b"}])) == ["conflict"]
    assert codes(converge([{"path": fs + "/a", "hard": "2MiB", "name": "other"}])) == ["conflict"]
    with open(fs + "/stray", "w", encoding="ascii") as stream:
        stream.write("x" * 9000)
    sh(["chattr", "-p", str(ids[0]), fs + "/stray"])  # it still carries the id once the project is gone
    assert codes(converge([{"path": fs + "/a", "state": "absent"}])) == []
    third = converge([{"path": fs + "/c", "hard": "1MiB"}])["resources"][0]["id"]
    assert third not in ids
    os.unlink(fs + "/stray")
    assert converge([{"path": fs + "/a", "hard": "1MiB"}])["resources"][0]["id"] == ids[0]


def test_several_directories_and_one_inside_another(fs, fstype, blue):
    os.makedirs(fs + "/two/sub")
    entry = {"path": fs, "paths": [blue, fs + "/two"], "hard": "5MiB", "name": "pair"}
    inner = {"path": fs + "/two/sub", "hard": "1MiB"}
    done = converge([entry, inner])
    assert codes(done) == []
    pair, sub = (r["id"] for r in done["resources"])
    assert project(blue) == project(fs + "/two") == (pair, True) and project(fs + "/two/sub") == (sub, True)
    quiet([entry, inner])
    sh(["chattr", "-p", "0", "-P", fs + "/two"])
    assert len(converge([entry])["actions"]) == 1 and project(fs + "/two") == (pair, True)
    assert project(fs + "/two/sub") == (sub, True), "a project within stays its own"
    assert codes(converge([{**inner, "state": "absent"}])) == []
    assert project(fs + "/two/sub") == (pair, True), "it is charged to what is around it"
    smaller = {"path": blue, "hard": "5MiB", "name": "pair", "paths": [blue]}
    assert codes(converge([{**entry, "state": "absent"}])) == []
    assert project(blue) == project(fs + "/two") == project(fs + "/two/sub") == (0, False)
    assert codes(converge([smaller])) == []


def test_hard_links(fs, fstype, blue):
    os.link(blue + "/old/f", blue + "/old/deep/same")
    assert codes(converge([{"path": blue, "hard": "5MiB"}])) == []
    assert project(blue + "/old/f")[0] == project(blue + "/old/deep/same")[0] != 0
    assert codes(converge([{"path": blue, "state": "absent"}])) == []
    os.link(blue + "/old/f", fs + "/outside")
    before = project(fs + "/outside")
    said = converge([{"path": blue, "hard": "5MiB"}])
    assert codes(said) == ["not_enforced"] and "old/f" in str(said) and project(fs + "/outside") == before


def test_enforcement_that_is_switched_off(fs, fstype, blue):
    entry, user = {"path": blue, "hard": "4MiB"}, {"path": fs, "kind": "user", "id": TENANT, "hard": "100MiB"}
    assert codes(converge([entry, user])) == []
    assert as_tenant(blue + "/one", size=8 * MIB)[1] == FULL[fstype]
    if fstype == "xfs":
        sh(["xfs_quota", "-x", "-c", "disable -p", fs])
    else:
        sh(["quotaoff", "-P", fs])
    stored, error = as_tenant(blue + "/two", size=8 * MIB)
    print("%s: enforcement off, 4 MiB limit, stored %d, errno %d" % (fstype, stored, error))
    assert (stored, error) == (8 * MIB, 0)
    said = converge([entry])
    assert codes(said) == ["not_enforced"] and "prjquota" in said["refused"][0]["hint"]
    assert codes(converge([entry], check=True)) == ["not_enforced"]
    quiet(user)  # each kind for itself
    sh(["xfs_quota", "-x", "-c", "enable -p", fs] if fstype == "xfs" else ["quotaon", "-P", fs])
    quiet(entry)


@pytest.mark.parametrize(
    ("kind", "options", "features", "hint"),
    [
        ("xfs", "noatime", (), "the option prjquota"),
        ("xfs", "pqnoenforce", (), "prjquota instead of pqnoenforce"),
        ("xfs", "uquota", (), "the option prjquota"),
        ("ext4", "noatime", (), "mkfs.ext4 -O quota,project"),
        ("ext4", "noatime", quotas.FEATURES, "with the option prjquota"),
    ],
)
def test_where_nothing_enforces(arena, kind, options, features, hint):
    with quotas.own_catalogue():
        path = quotas.made(arena, kind, options, features)
        os.mkdir(path + "/a")
        for entry in ({"path": path + "/a", "hard": "1MiB"}, {"path": path + "/new", "hard": "1MiB"}):
            said = converge([entry])
            assert codes(said)[0] == "not_enforced", said
            assert hint in said["refused"][0]["hint"], said
        assert project(path + "/a") == (0, False) and Record().ids("project") == {}
        quiet({"path": path + "/a", "state": "absent"})


def test_wrong_values(fs, fstype, blue):
    for entry, code in (
        ({"path": blue, "soft": "2MiB", "hard": "1MiB"}, "invalid"),
        ({"path": blue, "hard": "1MiB", "parent": fs}, "unsupported"),
        ({"path": blue, "hard": "1MiB", "id": 0}, "invalid"),
        ({"path": blue, "hard": "1MiB", "grace": "soon"}, "invalid"),
        ({"path": blue, "hard": "1MiB", "paths": [blue, blue]}, "invalid"),
        ({"path": fs, "hard": "1MiB", "kind": "user"}, "invalid"),
        ({"path": fs, "hard": "1MiB", "kind": "user", "id": 0}, "invalid"),
    ):
        assert codes(converge([entry])) == [code], entry
    overlap = [{"path": blue, "hard": "1MiB"}, {"path": fs, "paths": [fs + "/x", blue], "hard": "2MiB", "name": "x"}]
    os.mkdir(fs + "/x")
    assert "conflict" in codes(converge(overlap))
    assert project(blue) == (0, False)


def test_the_directory_is_made_by_the_same_declaration(fs, fstype):
    entry = {"path": fs + "/new", "hard": "1MiB"}
    tree = [{"root": fs, "entries": [{"path": "new", "mode": "0750"}]}]
    assert codes(converge([entry], check=True, trees=tree)) == []
    done = converge([entry], trees=tree)
    assert codes(done) == [] and project(fs + "/new") == (done["resources"][0]["id"], True), done
    assert codes(converge([{"path": fs + "/other", "hard": "1MiB"}])) == ["not_found"]


def test_beneath_a_mount_that_is_declared_with_it(arena, fs, fstype):
    sh(["umount", fs])
    device = sh(["losetup", "--find", "--show", arena + "/img"]).strip()
    mount = {"path": fs, "source": device, "fstype": fstype, "options": ["prjquota"], "persist": "none"}
    entry, tree = {"path": fs + "/t", "hard": "1MiB"}, [{"root": fs, "entries": [{"path": "t"}]}]
    foreseen = converge([entry], check=True, mounts=[mount], trees=tree)
    done = converge([entry], mounts=[mount], trees=tree)
    assert codes(foreseen) == [] and codes(done) == [], (foreseen, done)
    assert project(fs + "/t")[0] >= 100000
    again = converge([entry], mounts=[mount], trees=tree)
    assert (again["actions"], codes(again)) == ([], [])


def traced(entry, *strace):
    return quotas.traced(lambda: len(codes(converge([entry]))), *strace)


def test_without_quotactl_fd(fs, fstype, blue):
    entry = {"path": blue, "hard": "2MiB"}
    status, seen = traced(entry, "-e", "trace=quotactl,quotactl_fd", "-e", "inject=quotactl_fd:error=ENOSYS")
    assert status == 0 and seen.count("quotactl(") > 5 and "INJECTED" in seen, seen
    number = quiet(entry)["resources"][0]["id"]
    assert limits(fstype, fs, "project", number)["hard"] == 2 * MIB


CHANGING = ("quotactl_fd", "ioctl", "fdatasync", "unlink")


@pytest.mark.parametrize("going", [False, True], ids=["coming", "going"])
def test_killed_at_each_changing_call(fs, fstype, blue, going):
    """Whatever a killed run left, the next one brings to the same end."""
    there, gone = {"path": blue, "hard": "6MiB", "inodes_hard": "90"}, {"path": blue, "state": "absent"}
    entry, start = (gone, there) if going else (there, gone)
    converge([there])
    converge([start])
    _status, counted = traced(entry, "-c", "-U", "name,calls", "-e", "trace=" + ",".join(CHANGING))
    rows = [line.split() for line in counted.splitlines()]
    calls = {row[0]: int(row[1]) for row in rows if row and row[0] in CHANGING}
    points = [(name, at) for name, count in calls.items() for at in range(1, count + 1)]
    if "BULKHEAD_SOAK" not in os.environ:
        points = points[os.getpid() % 6 :: 6]  # each takes a second and a half
    killed = 0
    for name, at in points:
        converge([start])
        status, _said = traced(entry, "-e", "trace=" + name, "-e", "inject=%s:signal=KILL:when=%d" % (name, at))
        killed += os.WIFSIGNALED(status)
        last = converge([entry])
        assert codes(last) == [], (name, at, last)
        number = quiet(entry)["resources"][0]["id"]
        for path in ("", "/old", "/old/deep", "/old/f", "/old/deep/g"):
            assert project(blue + path) == (number or 0, bool(number) and os.path.isdir(blue + path)), (name, at, path)
        if number:
            assert limits(fstype, fs, "project", number)["hard"] == 6 * MIB, (name, at)
        else:
            assert Record().ids("project") == {}
    print("%s: killed at %d of %d calls: %s" % (fstype, killed, len(points), calls))
    assert killed == len(points) >= 8, (killed, calls)
