# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import BtrfsLimits, Quota, QuotaEnabled
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, state_of

from .test_btrfs import code_of, filesystem, opened, progs, shown

MIB = 1 << 20
TENANT = 1000


def make(path, owner=0):
    subprocess.check_call(["btrfs", "-q", "subvolume", "create", path])
    os.chown(path, owner, owner)


def number(path):
    return int(progs("inspect-internal", "rootid", path))


def fill(folder, mib=40, name="f"):
    """Write until an error; (MiB that fsync accepted, errno or 0)."""
    done = 0
    fd = -1
    try:
        fd = os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for _block in range(mib):
            os.write(fd, os.urandom(MIB))
            os.fsync(fd)
            done += 1
    except OSError as error:
        return done, error.errno
    finally:
        if fd >= 0:
            os.close(fd)
    return done, 0


def as_tenant(call):
    """The result of ``call()`` in a child with the tenant's uid and no capability; 0..255."""
    child = os.fork()
    if not child:
        code = 255
        try:
            os.setgroups([])
            os.setgid(TENANT)
            os.setuid(TENANT)
            code = call()
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def create_charged_to(parent, name, groups):
    """What ``btrfs subvolume create -i`` does: name the groups of a new subvolume, with no privilege at all."""
    import ctypes

    inherit = struct.pack("=QQQQ40x%dQ" % len(groups), 0, len(groups), 0, 0, *groups)
    buffer = ctypes.create_string_buffer(inherit, len(inherit))
    data = struct.pack("=qQQQQ16x4040s", 0, 0, 4, len(inherit), ctypes.addressof(buffer), name.encode())
    with opened(parent) as fd:
        fcntl.ioctl(fd, 0x50009418, bytearray(data))


@pytest.fixture
def fs(private_mounts):
    with filesystem() as (mount, fd):
        make(mount + "/t", TENANT)
        yield mount, fd


@pytest.fixture(params=["simple", "full"])
def on(fs, request):
    QuotaEnabled().put(fs[0], None, {"mode": request.param})
    return fs[0]


@pytest.fixture
def simple(fs):
    QuotaEnabled().put(fs[0], None, {"on": True})
    return fs[0]


def limit(path, **declared):
    """Converge one limit as the engine would; the value then."""
    port, target = Quota(), ("project", path)
    before = port.scan([target]).get(target)
    port.put(target, before, port.merge(target, before, declared))
    return Quota().scan([target])[target]


# -- quota_enabled -------------------------------------------------------------------------------------------------


def test_enable(fs):
    port = QuotaEnabled()
    inside, later = fs[0] + "/t", fs[0] + "/t/not/yet"
    assert port.scan([inside, later, "/proc/none"]) == {}
    after = port.merge(inside, None, {"on": True})
    assert after == {"on": True, "mode": UNKNOWN}
    port.put(later, None, after)
    assert "0/5" in shown(fs[0])
    assert state_of(port.scan([inside])[inside]) == {"on": True, "mode": "simple"}
    port.put(inside, None, after)  # a hundred quotas imply it a hundred times
    assert code_of(port.put, inside, after, None) == "unsupported"
    assert "0/5" in shown(fs[0])
    assert code_of(port.put, inside, None, {"mode": "full"}) == "not_enforced"
    assert port.risk(inside, None, after) == "forward" and not port.lowers(inside, None, after)
    assert port.vanishes(inside, after, set()) is False


def test_enable_full_waits_for_the_count(fs):
    assert fill(fs[0] + "/t", 3) == (3, 0)
    QuotaEnabled().put(fs[0], None, {"mode": "full"})
    assert int(progs("qgroup", "show", "--raw", fs[0]).splitlines()[-1].split()[1]) > 3 * MIB
    assert QuotaEnabled().scan([fs[0]])[fs[0]] == {"on": True, "mode": "full", "_inconsistent": False}


def test_one_switch_for_one_filesystem(fs, arena):
    """Seen at two places it has two names; what is not limited at all keeps its own."""
    port = QuotaEnabled()
    for path in (fs[0], fs[0] + "/t", fs[0] + "/t/not/yet", fs[0] + "/t/"):
        assert port.canon(path) == fs[0]
    progs("subvolume", "create", fs[0] + "/t/inner")
    assert port.canon(fs[0] + "/t/inner/deeper") == fs[0]
    os.mkdir(arena + "/bind")
    subprocess.check_call(["mount", "--bind", fs[0] + "/t/inner", arena + "/bind"])
    assert port.canon(arena + "/bind/x") == arena + "/bind"
    subprocess.check_call(["umount", arena + "/bind"])
    for path in (arena + "/x/y", arena, "/proc/none", "/"):
        assert port.canon(path) == path
    os.mkdir(fs[0] + "/over")
    subprocess.check_call(["mount", "-t", "tmpfs", "none", fs[0] + "/over"])
    assert port.canon(fs[0] + "/over/x") == fs[0] + "/over/x"
    subprocess.check_call(["umount", fs[0] + "/over"])
    os.symlink(fs[0] + "/t", fs[0] + "/t/link")
    subprocess.check_call(["chown", "-h", str(TENANT), fs[0] + "/t/link"])
    assert port.canon(fs[0] + "/t/link/x") == fs[0] + "/t/link/x"


def test_enable_elsewhere(arena):
    assert QuotaEnabled().scan([arena]) == {}
    assert code_of(QuotaEnabled().put, arena, None, {"on": True}) == "not_enforced"


# -- quota: life of a limit ----------------------------------------------------------------------------------------


def test_absent_until_enabled_and_limited(fs):
    target = ("project", fs[0] + "/t")
    assert Quota().scan([target, ("project", fs[0] + "/no")]) == {}
    assert Quota().scan(None) == {}
    assert code_of(Quota().put, target, None, {"hard": MIB}) == "not_enforced"
    assert list(Quota().implies(target, {})) == [("quota_enabled", target[1], {"on": True})]
    QuotaEnabled().put(fs[0], None, {"on": True})
    port = Quota()
    assert port.scan([target]) == {} and "_missing" not in port.merge(target, None, {"hard": MIB})
    target = ("project", fs[0] + "/no")
    assert port.scan([target]) == {} and port.merge(target, None, {"hard": MIB})["_missing"] == fs[0] + "/no"


def test_life(on):
    path, target = on + "/t", ("project", on + "/t")
    me, port = number(path), Quota()
    first = port.merge(target, None, {"hard": 16 * MIB})
    port.put(target, None, first)
    assert shown(on)["1/%d" % me][0] == str(16 * MIB) and shown(on)["0/%d" % me][2] == "1/%d" % me
    now = port.scan([target])[target]
    assert (
        state_of(now)
        == first
        == {
            "hard": 16 * MIB,
            "soft": None,
            "inodes_hard": None,
            "inodes_soft": None,
            "parent": None,
            "nested": True,
        }
    )
    assert now["_id"] == me and now["_fs"] == "btrfs"
    simple = QuotaEnabled().scan([on])[on]["mode"] == "simple"
    assert now["_enforced_by"] == ("simple_quota" if simple else "qgroup") and now["_nested_escape"] is not simple
    assert port.same(target, now, {"hard": 16 * MIB}) and not port.same(target, now, {"hard": 17 * MIB})
    for writer in (lambda: fill(path, name="root")[1], lambda: as_tenant(lambda: fill(path)[1])):
        assert writer() == errno.EDQUOT
    used = Quota().scan([target])[target]["_used_bytes"]
    assert 14 * MIB < used <= 16 * MIB
    assert progs("qgroup", "show", "--sync", "--raw", "-F", path).split()[-1] != ""

    port.put(target, now, port.merge(target, now, {"hard": 32 * MIB}))
    assert fill(path, 4, "more") == (4, 0)
    now = port.scan([target])[target]
    port.put(target, now, port.merge(target, now, {"hard": 8 * MIB}))  # below use: blocks growth, takes nothing away
    assert fill(path, 1, "again")[1] == errno.EDQUOT and port.scan([target])[target]["_used_bytes"] > 16 * MIB
    now = port.scan([target])[target]
    port.put(target, now, port.merge(target, now, {"hard": None}))
    assert shown(on)["1/%d" % me][0] == "none" and fill(path, 4, "free") == (4, 0)
    port.put(target, port.scan([target])[target], None)
    assert port.scan([target]) == {} and "1/%d" % me not in shown(on)
    port.put(target, now, None)  # gone already


def test_moved(simple):
    target, port = ("project", simple + "/t"), Quota()
    limit(simple + "/t", hard=5 * MIB)
    assert code_of(port.put, target, None, {"hard": 6 * MIB}) == "moved"
    assert code_of(port.put, target, port.merge(target, None, {"hard": 4 * MIB}), {"hard": 6 * MIB}) == "moved"
    assert code_of(port.put, target, port.merge(target, None, {"hard": 4 * MIB}), None) == "moved"
    assert shown(simple)["1/%d" % number(simple + "/t")][0] == str(5 * MIB)
    port.put(target, None, port.merge(target, None, {"hard": 5 * MIB}))  # somebody did just that
    assert code_of(port.put, ("project", simple + "/no"), None, {"hard": 1}) == "moved"


def test_refusals(simple, arena):
    os.mkdir(simple + "/dir")
    os.symlink(simple + "/t", simple + "/t/link")
    os.chown(simple + "/t/link", TENANT, TENANT, follow_symlinks=False)
    cases = {
        ("user", simple + "/t"): "unsupported",
        ("project", simple + "/dir"): "unsupported",
        ("project", arena): "not_enforced",
        ("project", "/proc"): "not_enforced",
        ("project", simple + "/t/link"): "unsafe_path",
    }
    found = Quota().scan(cases)
    assert {target: error.code for target, error in found.items()} == cases
    assert all(error.hint for error in found.values() if error.code != "unsafe_path")
    target, port = ("project", simple + "/t"), Quota()
    for field in ("soft", "inodes_hard", "inodes_soft"):
        assert code_of(port.put, target, None, {"hard": MIB, field: 5}) == "unsupported"
        port.scan([target])
        assert port.refuse(target, None, {"hard": MIB, field: 5}, set()).code == "unsupported"
    assert port.refuse(target, None, {"hard": MIB, "soft": None}, set()) is None
    assert port.refuse(target, {}, None, set()) is None
    assert port.scan([target]) == {}
    assert (
        port.lowers(target, {}, None)
        and not port.lowers(target, None, {})
        and port.risk(target, None, {}) == "reversible"
    )


def test_read_only(simple):
    subprocess.check_call(["mount", "-o", "remount,ro", simple])
    target = ("project", simple + "/t")
    assert Quota().scan([target]) == {}
    assert code_of(Quota().put, target, None, {"hard": MIB}) == "denied"


def test_limit_set_by_hand_is_seen_taken_over_and_given_back(on):
    path, target, port = on + "/t", ("project", on + "/t"), Quota()
    subprocess.check_call(["btrfs", "qgroup", "limit", "9M", path])
    before = port.scan([target])[target]
    assert before["hard"] == 9 * MIB and before["nested"] is False
    assert not port.same(target, before, {"hard": 9 * MIB})  # what is nested escapes it
    after = port.merge(target, before, {"hard": 12 * MIB})
    assert after["nested"] is True and not [k for k in after if k.startswith("_")]
    port.put(target, before, after)
    me = number(path)
    assert shown(on)["0/%d" % me][0] == "none" and shown(on)["1/%d" % me][0] == str(12 * MIB)
    port.put(target, before=after, after=before)
    assert shown(on)["0/%d" % me][0] == str(9 * MIB) and "1/%d" % me not in shown(on)
    assert port.scan([target])[target] == before


def test_lower_limit_by_hand_beside_ours_is_drift(simple):
    limit(simple + "/t", hard=16 * MIB)
    subprocess.check_call(["btrfs", "qgroup", "limit", "2M", simple + "/t"])
    target = ("project", simple + "/t")
    assert Quota().scan([target])[target]["hard"] == 2 * MIB
    assert limit(simple + "/t", hard=16 * MIB)["hard"] == 16 * MIB
    assert shown(simple)["0/%d" % number(simple + "/t")][0] == "none"


# -- A23: a tenant nests subvolumes --------------------------------------------------------------------------------


def test_tenant_cannot_escape_by_nesting(simple):
    path = simple + "/t"
    limit(path, hard=16 * MIB)

    def attack():
        os.mkdir(path + "/d")
        with opened(path + "/d") as fd:
            btrfschange.subvolume_create(fd, "n1")
        first = fill(path + "/d/n1", 6)
        with opened(path + "/d/n1") as fd, opened(path) as top:
            btrfschange.subvolume_create(fd, "n2")
            btrfschange.snapshot(fd, top, "snap")
        return (
            1
            if first == (6, 0) and fill(path + "/d/n1/n2", 6) == (6, 0) and fill(path + "/snap")[1] == errno.EDQUOT
            else 2
        )

    assert as_tenant(attack) == 1
    value = Quota().scan([("project", path)])[("project", path)]
    assert value["nested"] is True and 12 * MIB < value["_used_bytes"] <= 16 * MIB
    total = sum(
        os.stat(os.path.join(at, f)).st_blocks * 512 for at, _d, fs in os.walk(path) for f in fs if "snap" not in at
    )
    assert total <= 16 * MIB


@pytest.mark.parametrize("victim", [False, True])
def test_escape_by_naming_other_groups_is_seen_and_ended(simple, victim):
    """Linux lets anybody say what a new subvolume is charged to. Nothing can forbid it; the next run brings it home."""
    path, other = simple + "/t", simple + "/other"
    limit(path, hard=16 * MIB)
    make(other)
    limit(other, hard=64 * MIB)
    groups = [btrfs.LEVEL | number(other)] if victim else []
    assert (
        as_tenant(lambda: create_charged_to(path, "esc", groups) or (1 if fill(path + "/esc", 20) == (20, 0) else 2))
        == 1
    )
    assert as_tenant(lambda: (create_charged_to(path + "/esc", "deep", []), 1)[1]) == 1
    value = Quota().scan([("project", path)])[("project", path)]
    assert value["nested"] is False and value["hard"] == 16 * MIB
    assert not Quota().same(("project", path), value, {"hard": 16 * MIB})
    assert limit(path, hard=16 * MIB)["nested"] is True
    rows = shown(simple)
    assert Quota().scan([("project", path)])[("project", path)]["_used_bytes"] > 20 * MIB
    for inside in ("/esc", "/esc/deep"):
        assert rows["0/%d" % number(path + inside)][2] == "1/%d" % number(path)
        assert as_tenant(lambda at=path + inside: fill(at, 1, "g")[1]) == errno.EDQUOT
    os.sync()
    assert Quota().scan([("project", other)])[("project", other)]["_used_bytes"] < MIB


def test_what_was_nested_before_the_limit_counts(on):
    path = on + "/t"
    make(path + "/old", TENANT)
    make(path + "/old/deep", TENANT)
    assert fill(path + "/old/deep", 5) == (5, 0)
    os.sync()
    value = limit(path, hard=16 * MIB)
    assert value["nested"] is True and value["_used_bytes"] > 5 * MIB
    assert fill(path + "/old", 20)[1] == errno.EDQUOT
    target = ("project", path)
    Quota().put(target, value, None)
    assert {row[2] for row in shown(on).values()} == {"-"} and Quota().scan([target]) == {}


def test_full_quota_lets_it_escape_until_the_next_run_and_says_so(fs):
    QuotaEnabled().put(fs[0], None, {"mode": "full"})
    path = fs[0] + "/t"
    assert limit(path, hard=16 * MIB)["_nested_escape"] is True
    make(path + "/n", TENANT)
    assert fill(path + "/n", 20) == (20, 0)
    assert Quota().scan([("project", path)])[("project", path)]["nested"] is False
    assert limit(path, hard=16 * MIB)["nested"] is True
    assert fill(path + "/n", 1)[1] == errno.EDQUOT
    assert not btrfs.quota_status(fs[1]).inconsistent


def test_groups_made_by_hand_are_left_alone(simple):
    path = simple + "/t"
    limit(path, hard=16 * MIB)
    make(path + "/n")
    subprocess.check_call(["btrfs", "qgroup", "create", "1/7", simple])
    subprocess.check_call(["btrfs", "qgroup", "assign", "0/%d" % number(path + "/n"), "1/7", simple])
    target = ("project", path)
    value = Quota().scan([target])[target]
    assert value["nested"] is True
    Quota().put(target, value, Quota().merge(target, value, {"hard": 17 * MIB}))
    assert "1/7" in shown(simple)["0/%d" % number(path + "/n")][2]


# -- parents -------------------------------------------------------------------------------------------------------


def test_parent_beside(on):
    for name in ("total", "total2", "b"):
        make("%s/%s" % (on, name))
    total, total2, a, b = (on + "/" + name for name in ("total", "total2", "t", "b"))
    make(a + "/n")
    limit(total, hard=16 * MIB)
    assert limit(a, hard=12 * MIB, parent=total)["parent"] == total
    limit(b, hard=12 * MIB, parent=total)
    rows = shown(on)
    assert set(rows["0/%d" % number(a)][2].split(",")) == {"1/%d" % number(x) for x in (a, total)}
    assert rows["0/%d" % number(a + "/n")][2] == rows["0/%d" % number(a)][2]
    assert fill(a, 11) == (11, 0) and fill(b, 11)[1] == errno.EDQUOT and fill(b, 11)[0] <= 5
    together = [("project", path) for path in (a, b, total)]
    found = Quota().scan(together)
    assert found[together[0]]["parent"] == total and found[together[2]]["parent"] is None
    assert found[together[2]]["_used_bytes"] > 12 * MIB
    # its limit may go while others are charged to it; the group stays for them
    Quota().put(together[2], found[together[2]], None)
    assert shown(on)["1/%d" % number(total)][0] == "none" and together[2] not in Quota().scan(together)
    # to another parent, made on the way; then to none
    assert limit(a, parent=total2)["parent"] == total2
    assert set(shown(on)["0/%d" % number(a + "/n")][2].split(",")) == {"1/%d" % number(x) for x in (a, total2)}
    assert limit(a, parent=None)["parent"] is None
    assert shown(on)["0/%d" % number(a + "/n")][2] == "1/%d" % number(a)


def test_parent_around(simple):
    path, inner = simple + "/t", simple + "/t/n"
    limit(path, hard=16 * MIB)
    make(inner)
    value = limit(inner, hard=8 * MIB, parent=path)
    assert value["parent"] == path and value["nested"] is True
    make(inner + "/deep")
    assert fill(inner + "/deep")[0] <= 8 and fill(path, 9, "rest")[1] == errno.EDQUOT
    both = Quota().scan([("project", path), ("project", inner)])
    assert both[("project", path)]["nested"] is True and both[("project", inner)]["nested"] is True
    # the outer limit goes: the inner one stays whole
    Quota().put(("project", path), both[("project", path)], None)
    assert shown(simple)["0/%d" % number(inner + "/deep")][2] == "1/%d" % number(inner)
    assert Quota().scan([("project", inner)])[("project", inner)]["nested"] is True


def test_limits_are_changed_within_what_is_full(simple):
    path, inner = simple + "/t", simple + "/t/n"
    limit(path, hard=8 * MIB)
    make(inner)
    assert fill(path)[1] == errno.EDQUOT
    assert limit(inner, hard=4 * MIB, parent=path)["hard"] == 4 * MIB and limit(inner, hard=6 * MIB)["hard"] == 6 * MIB
    assert shown(simple)["1/%d" % number(inner)][0] == str(6 * MIB)
    target = ("project", inner)
    Quota().put(target, Quota().scan([target])[target], None)
    assert "1/%d" % number(inner) not in shown(simple)
    assert limit(path, hard=9 * MIB)["hard"] == 9 * MIB


def test_parent_that_is_none(simple, arena):
    os.mkdir(simple + "/dir")
    for bad in (simple + "/dir", arena, simple + "/t/../t"):
        assert code_of(Quota().put, ("project", simple + "/t"), None, {"hard": MIB, "parent": bad}) == "invalid"
    assert code_of(Quota().put, ("project", simple + "/t"), None, {"hard": MIB, "parent": "/nope"}) == "not_found"


def test_path_of_a_parent_that_was_not_asked_for(simple):
    """Through the mount of a subvolume, the paths are those that are seen there."""
    make(simple + "/t/total")
    make(simple + "/t/a")
    limit(simple + "/t/a", hard=MIB, parent=simple + "/t/total")
    other = os.path.dirname(simple) + "/m2"
    os.mkdir(other)
    source = subprocess.check_output(["findmnt", "-no", "SOURCE", simple]).decode().strip()
    subprocess.check_call(["mount", "-o", "subvol=t", source, other])
    assert Quota().scan([("project", other + "/a")])[("project", other + "/a")]["parent"] == other + "/total"


# -- many, gone, killed --------------------------------------------------------------------------------------------


def test_one_pass_for_many(simple, arena):
    targets = []
    for n in range(30):
        make("%s/s%d" % (simple, n))
        limit("%s/s%d" % (simple, n), hard=(n + 1) * MIB)
        targets.append(("project", "%s/s%d" % (simple, n)))
    open_before = len(os.listdir("/proc/self/fd"))
    with opened(simple) as fd, opened(simple) as _other:
        assert fd
    passes = []

    class Counted(BtrfsLimits):
        def read(self, fd, wanted):
            passes.append(len(wanted))
            return super().read(fd, wanted)

    found = Quota(Counted()).scan(targets)
    assert [found[t]["hard"] for t in targets] == [(n + 1) * MIB for n in range(30)]
    assert passes == [30] and len(os.listdir("/proc/self/fd")) == open_before


def test_groups_of_a_vanished_subvolume_are_swept(simple):
    path = simple + "/gone"
    make(path)
    make(path + "/n")
    value = limit(path, hard=MIB)
    me = number(path)
    subprocess.check_call(["btrfs", "-q", "qgroup", "create", "1/999", simple])
    subprocess.check_call(["btrfs", "-q", "subvolume", "delete", "-c", path + "/n"])
    subprocess.check_call(["btrfs", "-q", "subvolume", "delete", "-c", path])
    subprocess.check_call(["btrfs", "subvolume", "sync", simple], stdout=subprocess.DEVNULL)
    subprocess.check_call(["btrfs", "filesystem", "sync", simple])
    assert "1/%d" % me in shown(simple)
    Quota().put(("project", path), value, None)
    rows = shown(simple)
    assert "1/%d" % me not in rows and "0/%d" % me not in rows
    assert "1/999" in rows  # made by hand


@pytest.mark.parametrize("after", [True, False])
def test_killed_before_any_change_the_next_run_converges(simple, after, arena):
    path, target = simple + "/t", ("project", simple + "/t")
    make(path + "/n")
    me, inner = number(path), number(path + "/n")
    code = (
        "import sys\n"
        "from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota\n"
        "q, t = Quota(), ('project', sys.argv[1])\n"
        "now = q.scan([t]).get(t)\n"
        "q.put(t, now, q.merge(t, now, {'hard': 5 << 20}) if sys.argv[2] == 'True' else None)\n"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    run = [sys.executable, "-B", "-S", "-c", code, path, str(after)]
    strace = ["strace", "-f", "-qq", "-o", arena + "/trace", "-e", "trace=ioctl"]

    def start_over():
        if not after:
            limit(path, hard=5 * MIB)
        elif target in Quota().scan([target]):
            Quota().put(target, Quota().scan([target])[target], None)

    def ioctls():
        """A strace that does not know a call by name shows it whatever it was told to trace."""
        with open(arena + "/trace") as f:
            return [line for line in f if " ioctl(" in line]

    start_over()
    subprocess.check_call([*strace, *run], env=env)
    changes = [n for n, line in enumerate(ioctls(), 1) if "QGROUP_" in line]
    assert len(changes) >= 6
    for point in changes:
        start_over()
        killed = subprocess.call([*strace, "-e", "inject=ioctl:signal=KILL:when=%d" % point, *run], env=env)
        assert killed == -signal.SIGKILL and len(ioctls()) == point and "QGROUP_" in ioctls()[-1]
        subprocess.check_call(run, env=env)
        rows = shown(simple)
        if after:
            assert rows["1/%d" % me][0] == str(5 * MIB)
            assert rows["0/%d" % me][2] == rows["0/%d" % inner][2] == "1/%d" % me
        else:
            assert rows["0/%d" % me][2] == rows["0/%d" % inner][2] == "-"


def test_another_filesystem_can_be_added(arena):
    class Fake:
        magics = (0x01021994,)  # tmpfs

        def place(self, fd, target):
            return "fs", target[0]

        def read(self, fd, wanted):
            return {target: {"hard": 5, "_kind": place} for target, place in wanted.items()}

    found = Quota(BtrfsLimits(), Fake()).scan([("user", arena)])
    assert found == {("user", arena): {"hard": 5, "_kind": "user"}}


def test_a_failing_filesystem_fails_its_targets_only(simple, arena):
    class Broken:
        magics = (0x01021994,)

        def place(self, fd, target):
            return "fs", 1

        def read(self, fd, wanted):
            raise StorageError("unreadable", "broken")

    limit(simple + "/t", hard=MIB)
    found = Quota(BtrfsLimits(), Broken()).scan([("user", arena), ("project", simple + "/t")])
    assert found[("user", arena)].code == "unreadable" and found[("project", simple + "/t")]["hard"] == MIB
