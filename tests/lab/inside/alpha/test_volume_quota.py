# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems with quota, pools of directories and their volumes, on a kernel that enforces; other programs judge."""

from __future__ import annotations

import errno
import os
import re

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.tests.support import namespace, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import TENANT, as_tenant, converge, limits, project, sh

MIB = 1 << 20
FULL = {"xfs": errno.ENOSPC, "ext4": errno.EDQUOT}


@pytest.fixture(params=["xfs", "ext4"])
def fstype(request):
    return request.param


@pytest.fixture
def fs(arena, fstype):
    with quotas.own_catalogue():
        yield quotas.made(arena, fstype)


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def settle(**lists):
    """Foreseen, done as foreseen, and nothing left to do."""
    foreseen = converge([], check=True, **lists)
    done = converge([], **lists)
    assert codes(done) == [] and (done["actions"], done["digest"]) == (foreseen["actions"], foreseen["digest"]), done
    again = converge([], **lists)
    assert (again["actions"], codes(again)) == ([], []), again
    return done, again


def shown(answer, kind):
    return next(row for label, row in answer["shown"].items() if label.startswith(kind))


def volume(**more):
    return {"name": "data", "pool": "fast", "size": "8MiB", "owner": str(TENANT), "group": str(TENANT), **more}


def pool_at(path, **more):
    return {"name": "fast", "backend": "auto", "config": {"path": path}, **more}


# -- filesystem --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was", ["blank", "ext4 without quota"])
def test_an_ext4_with_quota_enforces(arena, was):
    image, at = arena + "/img", arena + "/m"
    namespace.image(image, 64 * MIB)
    if was != "blank":
        sh(["mkfs.ext4", "-q", image])
    with quotas.own_catalogue():
        done, _again = settle(filesystems=[{"device": image, "fstype": "ext4", "quota": ["project", "user", "group"]}])
        assert [action["verb"] for action in done["actions"]] == ["create" if was == "blank" else "change"]
        text = sh(["dumpe2fs", "-h", image])
        assert {"User", "Group", "Project"} == set(re.findall(r"(\w+) quota inode:", text))
        assert {"quota", "project"} <= set(re.findall(r"features: *(.*)", text)[0].split())
        os.mkdir(at)
        sh(["mount", "-o", "loop,usrquota,grpquota,prjquota", image, at])
        busy = converge([], filesystems=[{"device": image, "fstype": "ext4", "quota": ["project"]}])
        assert busy["actions"] == [] and codes(busy) == [], "mounted, it is as declared too"
        os.mkdir(at + "/blue")
        os.chown(at + "/blue", TENANT, TENANT)
        assert codes(converge([{"path": at + "/blue", "hard": "2MiB"}])) == []
        stored, error = as_tenant(at + "/blue/f", size=4 * MIB)
        print("%s: limit 2 MiB, stored %d, %s" % (was, stored, errno.errorcode[error]))
        assert error == errno.EDQUOT and stored <= 2 * MIB
        sh(["umount", at])
        sh(["e2fsck", "-fn", image])


# -- pool and volume ---------------------------------------------------------------------------------------------------


def test_a_volume_is_a_directory_with_a_project(fs, fstype):
    lists = {"pools": [pool_at(fs + "/p")], "volumes": [volume()]}
    done, again = settle(**lists)
    where = shown(done, "pools")
    assert (where["backend"], where["enforced_by"]) == ("directory", "project_quota")
    path = fs + "/p/default/data"
    number, inherits = project(path)
    assert inherits and limits(fstype, fs, "project", number)["hard"] == 8 * MIB
    assert [row["id"] for row in Record().ids("project").values()] == [number]
    stored, error = as_tenant(path + "/big", size=20 * MIB)
    print("%s: volume of 8 MiB, stored %d, errno %s" % (fstype, stored, errno.errorcode[error]))
    assert error == FULL[fstype] and 7 * MIB < stored <= 8 * MIB
    seen = shown(converge([], **lists), "volumes")
    judged = limits(fstype, fs, "project", number)
    assert seen["usage"] == {"bytes": judged["used"], "inodes": judged["inodes"]} and seen["path"] == path
    assert (seen["enforced_by"], seen["size_bytes"], seen["status"]) == ("project_quota", 8 * MIB, "ready")
    ports = _kinds.ports(["volumes", "pools", "quotas"])
    listed = _kinds.resource("volumes").gather(dict.fromkeys(("name", "namespace", "pool", "job", "labels")), ports)
    assert [row["usage"] for row in listed["volumes"]] == [seen["usage"]]
    assert [row["enforced_by"] for row in listed["volumes"]] == ["project_quota"]
    listed = _kinds.resource("pools").gather({"name": "fast"}, ports)["pools"][0]
    assert (listed["enforced_by"], listed["volumes"], listed["provisioned_bytes"]) == ("project_quota", 1, 8 * MIB)
    # grown
    lists["volumes"] = [volume(size="12MiB")]
    settle(**lists)
    assert limits(fstype, fs, "project", number)["hard"] == 12 * MIB and project(path) == (number, True)
    assert as_tenant(path + "/more", size=2 * MIB) == (2 * MIB, 0)
    # not below what it holds, and not unasked
    lists["volumes"] = [volume(size="9MiB")]
    assert codes(converge([], **lists)) == ["would_shrink"]
    lists["volumes"] = [volume(size="9MiB", allow_shrink=True)]
    assert codes(converge([], **lists)) == ["no_space"] and limits(fstype, fs, "project", number)["hard"] == 12 * MIB
    os.unlink(path + "/big")
    settle(**lists)
    assert limits(fstype, fs, "project", number)["hard"] == 9 * MIB
    # copied
    lists["volumes"] += [volume(name="copy", size="9MiB", source={"type": "clone", "name": "data"})]
    settle(**lists)
    copy, _inherits = project(fs + "/p/default/copy")
    assert copy not in (0, number) and project(fs + "/p/default/copy/more")[0] == copy
    assert limits(fstype, fs, "project", copy)["hard"] == 9 * MIB
    assert 2 * MIB <= limits(fstype, fs, "project", copy)["used"] <= 3 * MIB
    assert as_tenant(fs + "/p/default/copy/big", size=20 * MIB)[1] == FULL[fstype]
    sh(["cmp", path + "/more", fs + "/p/default/copy/more"])
    # gone: as it was
    settle(volumes=[volume(state="absent"), volume(name="copy", state="absent")])
    assert not os.path.exists(path) and Record().ids("project") == {}
    for each in (number, copy):
        assert not any(limits(fstype, fs, "project", each).values())


def extents(path):
    """(bytes that are shared with another file, bytes in all), as filefrag(8) tells."""
    rows = re.findall(r"(?m)^ *\d+: .*?: *\d+\.\. *\d+: +(\d+):(.*)$", sh(["filefrag", "-v", "-b4096", path]))
    sizes = [(int(length) * 4096, "shared" in flags) for length, flags in rows]
    return sum(size for size, shared in sizes if shared), sum(size for size, _shared in sizes)


@pytest.mark.parametrize("fstype", ["xfs"])
def test_a_clone_shares_blocks_in_its_namespace_only_and_is_charged_for_all(fs):
    assert "reflink=1" in sh(["xfs_info", fs])
    pools, source = [pool_at(fs + "/p")], {"type": "clone", "name": "data", "namespace": "default"}
    settle(pools=pools, volumes=[volume()])
    assert as_tenant(fs + "/p/default/data/f", size=4 * MIB) == (4 * MIB, 0)

    def cloned(namespace):
        before = os.statvfs(fs).f_bfree
        settle(pools=pools, volumes=[volume(name="copy", namespace=namespace, source=source)])
        sh(["sync", "-f", fs])
        path = "%s/p/%s/copy" % (fs, namespace)
        number, inherits = project(path)
        assert inherits and project(path + "/f")[0] == number
        judged = limits("xfs", fs, "project", number)
        assert judged["hard"] == 8 * MIB and 4 * MIB <= judged["used"] < 5 * MIB
        taken = (before - os.statvfs(fs).f_bfree) * 4096
        print(
            "clone in %s: %d bytes taken, charged %d, shared %s"
            % (namespace, taken, judged["used"], extents(path + "/f"))
        )
        return path, taken

    path, taken = cloned("blue")
    assert extents(path + "/f") == extents(fs + "/p/default/data/f") == (0, 4 * MIB) and taken >= 4 * MIB
    path, taken = cloned("default")
    assert extents(path + "/f") == extents(fs + "/p/default/data/f") == (4 * MIB, 4 * MIB) and taken < MIB
    assert as_tenant(path + "/f", size=MIB) == (MIB, 0) and sh(["cmp", path + "/f", fs + "/p/default/data/f"]) == ""
    sh(["sync", "-f", fs])
    assert extents(path + "/f") == (3 * MIB, 4 * MIB), "what one writes is its own"
    stored, error = as_tenant(path + "/more", size=20 * MIB)
    assert error == FULL["xfs"] and 3 * MIB <= stored <= 4 * MIB, "what is shared counts against the clone's own limit"


def test_attached_by_a_bind_it_is_held_as_well(fs, fstype, arena):
    lists = {"pools": [pool_at(fs + "/p")], "volumes": [volume(state="attached", target=arena + "/t", job="j1")]}
    settle(**lists)
    stored, error = as_tenant(arena + "/t/big", size=20 * MIB)
    assert error == FULL[fstype] and 7 * MIB < stored <= 8 * MIB
    settle(volumes=[volume(state="absent", force=True)])
    assert not os.path.ismount(arena + "/t") and Record().ids("project") == {}


@pytest.mark.parametrize("backend", ["auto", "directory"])
def test_where_nothing_enforces(arena, fstype, backend):
    with quotas.own_catalogue():
        at = quotas.made(arena, fstype, options="rw")
        answer = converge([], check=True, pools=[pool_at(at + "/p", backend=backend)])
        assert codes(answer) == ([] if backend == "auto" else ["not_enforced"])
        if backend == "auto":
            assert next(a for a in answer["actions"] if a["port"] == "record")["after"]["backend"] == "loop"


def test_enforcement_that_is_switched_off_is_told(fs, fstype):
    lists = {"pools": [pool_at(fs + "/p", backend="directory")], "volumes": [volume()]}
    settle(**lists)
    sh(["xfs_quota", "-x", "-c", "disable -p", fs] if fstype == "xfs" else ["quotaoff", "-P", fs])
    assert codes(converge([], **lists)) == ["not_enforced"]
    assert as_tenant(fs + "/p/default/data/big", size=12 * MIB) == (12 * MIB, 0), "it does not hold indeed"
    more = {**lists, "volumes": [volume(name="other")]}
    assert set(codes(converge([], **more))) == {"not_enforced"} and not os.path.exists(fs + "/p/default/other")
    assert codes(converge([], pools=[pool_at(fs + "/q", name="slow", backend="directory")])) == ["not_enforced"]


def test_all_from_a_blank_image_in_one_declaration(arena, fstype):
    image, at = arena + "/img", arena + "/m"
    namespace.image(image, 320 * MIB)
    with quotas.own_catalogue():
        done, again = settle(
            filesystems=[{"device": image, "fstype": fstype, "quota": ["project"]}],
            mounts=[{"path": at, "source": image, "fstype": fstype, "options": ["prjquota"], "persist": "none"}],
            pools=[pool_at(at + "/p")],
            volumes=[volume()],
        )
        number, inherits = project(at + "/p/default/data")
        assert inherits and limits(fstype, at, "project", number)["hard"] == 8 * MIB
        assert shown(again, "pools")["backend"] == "directory"
        assert as_tenant(at + "/p/default/data/big", size=20 * MIB)[1] == FULL[fstype]
        sh(["umount", at])


def test_a_directory_pool_on_btrfs_has_subvolumes(arena):
    image, at = arena + "/img", arena + "/m"
    namespace.image(image, 256 * MIB)
    sh(["mkfs.btrfs", "-q", image])
    os.mkdir(at)
    sh(["mount", "-o", "loop", image, at])
    with quotas.own_catalogue():
        lists = {"pools": [pool_at(at + "/p", backend="directory")], "volumes": [volume()]}
        _done, again = settle(**lists)
        where, seen = shown(again, "pools"), shown(again, "volumes")
        assert (where["backend"], where["enforced_by"], seen["enforced_by"]) == ("btrfs", "qgroup", "simple_quota")
        assert "Subvolume ID" in sh(["btrfs", "subvolume", "show", at + "/p/default/data"])
        stored, error = as_tenant(at + "/p/default/data/big", size=20 * MIB)
        print("btrfs: volume of 8 MiB, stored %d, errno %s" % (stored, errno.errorcode[error]))
        assert error == errno.EDQUOT and stored <= 8 * MIB
        settle(volumes=[volume(state="absent")])
        assert not os.path.exists(at + "/p/default/data")


CHANGING = ("mkdirat", "quotactl_fd", "ioctl", "renameat2", "unlinkat", "fdatasync")


@pytest.mark.parametrize("going", [False, True], ids=["coming", "going"])
def test_killed_in_the_middle_the_next_run_converges(fs, fstype, going):
    pools, path = [pool_at(fs + "/p")], fs + "/p/default/data"
    settle(pools=pools, volumes=[volume(name="other")])
    there, gone = {"pools": pools, "volumes": [volume()]}, {"volumes": [volume(state="absent")]}
    wanted, start = (gone, there) if going else (there, gone)

    def run():
        return len(codes(converge([], **wanted)))

    def begin():
        assert codes(converge([], **start)) == []
        if going:
            assert as_tenant(path + "/f", size=MIB) == (MIB, 0)

    begin()
    _status, counted = quotas.traced(run, "-c", "-U", "name,calls", "-e", "trace=" + ",".join(CHANGING))
    rows = [line.split() for line in counted.splitlines()]
    calls = {row[0]: int(row[1]) for row in rows if row and row[0] in CHANGING}
    for name in [name for name in ("quotactl_fd", "unlinkat" if going else "ioctl") if name in calls]:
        begin()
        when = (calls[name] + 1) // 2
        inject = ["-e", "trace=" + name, "-e", "inject=%s:signal=KILL:when=%d" % (name, when)]
        status, _said = quotas.traced(run, *inject)
        assert os.WIFSIGNALED(status), (name, when)
        print("%s %s: killed at %s %d of %d" % (fstype, "going" if going else "coming", name, when, calls[name]))
        last = converge([], **wanted)
        assert codes(last) == [], (name, last)
        again = converge([], **wanted)
        assert (again["actions"], codes(again)) == ([], []), (name, again)
        if going:
            assert not os.path.exists(path) and os.listdir(fs + "/p/default") == ["other"]
            assert list(Record().ids("project")) == [fs + "/p/default/other"]
        else:
            number, inherits = project(path)
            assert inherits and limits(fstype, fs, "project", number)["hard"] == 8 * MIB
            stored, error = as_tenant(path + "/big", size=20 * MIB)
            assert error == FULL[fstype] and stored <= 8 * MIB
