# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of I/O on a kernel that has them. dd's own clock, /sys/fs/cgroup and systemctl tell every outcome."""

from __future__ import annotations

import glob
import os
import re
import subprocess

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh, until

MIB = 1 << 20
ONE, TWO = ("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data%d" % n for n in (1, 2))
SLICE, CGROUP = "bulkhead-blue.slice", "/sys/fs/cgroup/bulkhead.slice/bulkhead-blue.slice"
DROPIN = "/etc/systemd/system/bulkhead-blue.slice.d/60-bulkhead-io-blue.conf"
MOUNT = "/run/io-limit"
EMPTY = {"read_bps": None, "write_bps": None, "read_iops": None, "write_iops": None, "weight": None}


def converge(check=False, unstable=False, ports=None, **entry):
    return quotas.converge([], check, ports, unstable, io_limits=[{"name": "blue", **entry}])


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def both(**entry):
    """Foreseen, done, and quiet then."""
    before = picture()
    foreseen = converge(True, **entry)
    assert (codes(foreseen), picture()) == ([], before), foreseen
    done = converge(**entry)
    assert (codes(done), done["actions"], done["digest"]) == ([], foreseen["actions"], foreseen["digest"]), done
    quiet(**entry)
    return done["actions"]


def quiet(**entry):
    again = converge(**entry)
    assert (codes(again), again["actions"]) == ([], []), again


def shown(**entry):
    """What the module would return."""
    entries, errors = _kinds.entries(
        {"io_limits": [{"name": "blue", **entry}]}, {"allow_unstable_device": False}, set()
    )
    assert not errors
    kind, params = entries[0].resource, entries[0].params
    ports = _kinds.ports(["io_limits"])
    target = (kind.unit_of(params), params["path"] or params["device"])
    ports["io_max"].resolve(target, dict.fromkeys(EMPTY))
    return kind.show(params, {"io_max": ports["io_max"].scan([target])})


def io_max(cgroup=CGROUP):
    """By number of the device, as the kernel shows it."""
    if not os.path.exists(cgroup + "/io.max"):
        return {}
    with open(cgroup + "/io.max", encoding="ascii") as stream:
        return dict(line.rstrip("\n").split(" ", 1) for line in stream)


def number(device):
    seen = os.stat(device).st_rdev
    return "%d:%d" % (os.major(seen), os.minor(seen))


def picture():
    files = {}
    for path in glob.glob("/etc/systemd/system/**/*", recursive=True) + glob.glob("/run/systemd/system/**/*"):
        if os.path.isfile(path):
            with open(path, "rb") as stream:
                files[path] = stream.read()
        else:
            files[path] = None
    return files, io_max()


def speed(path, mib=4, flags="direct", where=SLICE, way="of"):
    """Bytes each second of a dd in the slice, by dd's own clock."""
    other = "if=/dev/zero" if way == "of" else "of=/dev/null"
    argv = ["systemd-run", "-q", "--scope", "--slice=" + where, "dd", other, "%s=%s" % (way, path), "bs=64k"]
    argv += ["count=%d" % (mib * 16), "%sflag=%s" % (way[0], flags), "conv=notrunc,fsync"][: 3 if way == "of" else 2]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    copied, seconds = re.search(r"(\d+) bytes .* copied, ([0-9.e-]+) s", done.stderr).groups()
    rate = int(copied) / float(seconds)
    print("%s %s of %d MiB: %.0f bytes/s" % (path, way, mib, rate))
    return rate


def held(rate, limit):
    return 0.9 * limit <= rate <= 1.1 * limit


@pytest.fixture
def started():
    sh(["systemctl", "start", SLICE])
    yield
    sh(["systemctl", "stop", SLICE])


@pytest.fixture(autouse=True)
def clean():
    with quotas.own_catalogue():
        blank()
        yield
        for left in glob.glob("/*/systemd/system/*.d/60-bulkhead-io-*.conf"):
            os.unlink(left)
            os.rmdir(os.path.dirname(left))
        sh(["systemctl", "daemon-reload"])
        sh(["systemctl", "stop", "bulkhead.slice"])
        blank()


def blank():
    sh(["umount", MOUNT], check=False)
    for device in (ONE, TWO):
        sh(["wipefs", "-qaf", *sorted(glob.glob(device + "-part*")), device])
        sh(["udevadm", "settle"])
        assert until(
            lambda device=device: not subprocess.run(["blockdev", "--rereadpt", device], check=False).returncode
        )
    sh(["udevadm", "settle"])


def mounted(device, fstype="ext4"):
    sh(["mkfs." + fstype, "-q", {"ext4": "-F"}.get(fstype, "-f"), device])
    os.makedirs(MOUNT, exist_ok=True)
    sh(["mount", device, MOUNT])
    sh(["udevadm", "settle"])
    return MOUNT


def parted():
    subprocess.run(["sfdisk", "-q", ONE], input=b"label: gpt\nsize=1GiB\nsize=1GiB\n", check=True)
    sh(["udevadm", "settle"])
    return ONE + "-part1", ONE + "-part2"


def test_a_limit_holds_is_read_back_and_goes(started):
    place = mounted(TWO)
    free = speed(place + "/f", 8)
    assert free > 8 * MIB
    limit = {"path": place, "write_bps": "1MiB", "read_iops": 64}
    actions = both(**limit)
    assert [(a["port"], a["verb"]) for a in actions] == [("io_dropin", "create"), ("io_max", "create")], actions
    line = "rbps=max wbps=1048576 riops=64 wiops=max"
    assert io_max() == {number(TWO): line}
    said = sh(["systemctl", "show", "-p", "IOWriteBandwidthMax,IOReadIOPSMax,DropInPaths", SLICE]).split("\n")
    assert "IOWriteBandwidthMax=%s 1048576" % TWO in said and "IOReadIOPSMax=%s 64" % TWO in said, said
    assert shown(**limit) == {
        "name": "blue", "device": number(TWO), "slice": SLICE, "cgroup": CGROUP,
        "applied": {**EMPTY, "write_bps": MIB, "read_iops": 64},
    }  # fmt: skip
    assert held(speed(place + "/f", 8), MIB)
    assert held(speed(place + "/buffered", 8, "nonblock"), MIB)
    assert held(speed(place + "/f", 4, way="if"), 64 * 65536)
    assert speed(place + "/f", 8, where="other.slice") > 8 * MIB  # nobody else is held

    # written behind the back of systemd, by somebody: put right
    with open(CGROUP + "/io.max", "w", encoding="ascii") as stream:
        stream.write("%s wbps=max" % number(TWO))
    with open(CGROUP + "/io.max", "w", encoding="ascii") as stream:
        stream.write("%s rbps=5000000" % number(ONE))
    assert [a["port"] for a in both(**limit)] == ["io_max"] and io_max()[number(TWO)] == line
    # systemd sets it anew, and says the same
    sh(["systemctl", "set-property", "--runtime", SLICE, "TasksMax=100"])
    sh(["systemctl", "daemon-reload"])
    assert io_max()[number(TWO)] == line
    quiet(**limit)
    changed = both(path=place, write_bps="2MiB")
    assert [(a["port"], a["verb"]) for a in changed] == [("io_dropin", "change"), ("io_max", "change")]
    assert io_max()[number(TWO)] == "rbps=max wbps=2097152 riops=max wiops=max"
    assert held(speed(place + "/f", 8), 2 * MIB)

    gone = both(state="absent")
    assert [(a["port"], a["verb"]) for a in gone] == [("io_max", "remove"), ("io_dropin", "remove")]
    assert io_max() == {number(ONE): "rbps=5000000 wbps=max riops=max wiops=max"}  # somebody's, not ours
    assert not os.path.exists(os.path.dirname(DROPIN))
    assert "IOWriteBandwidthMax" not in sh(["systemctl", "show", "-p", "IOWriteBandwidthMax", SLICE])
    assert speed(place + "/f", 8) > 8 * MIB


def test_what_does_not_run_has_its_limit_when_it_starts():
    limit = {"device": TWO, "write_bps": "1MiB"}
    assert [a["port"] for a in both(**limit)] == ["io_dropin"] and not os.path.exists(CGROUP)
    assert (shown(**limit)["applied"], shown(**limit)["device"]) == (None, number(TWO))
    assert held(speed(TWO), MIB)
    quiet(**limit)
    assert io_max() == {number(TWO): "rbps=max wbps=1048576 riops=max wiops=max"}
    sh(["systemctl", "stop", SLICE])
    assert held(speed(TWO), MIB)
    # until the next boot only: the file that was there goes
    runtime = DROPIN.replace("/etc/", "/run/")
    assert {a["target"].split()[0] for a in both(persist=False, **limit)} == {runtime, DROPIN}
    assert os.path.exists(runtime) and not os.path.exists(DROPIN) and held(speed(TWO), MIB)
    # another disk under the same name
    both(device=ONE, write_bps="1MiB")
    assert io_max() == {number(ONE): "rbps=max wbps=1048576 riops=max wiops=max"} and speed(TWO) > 8 * MIB
    # a run that was killed before systemd heard of it
    os.utime(DROPIN)
    assert [(a["port"], a["verb"]) for a in both(device=ONE, write_bps="1MiB")] == [("io_dropin", "change")]
    # and another slice
    both(device=ONE, write_bps="1MiB", slice="green.slice")
    assert io_max() == {} and not os.path.exists(os.path.dirname(DROPIN))
    assert held(speed(ONE, where="green.slice"), MIB)
    both(state="absent")
    assert io_max("/sys/fs/cgroup/green.slice") == {} and not glob.glob("/*/systemd/system/*.d/60-bulkhead-*")
    quiet(state="absent")
    sh(["systemctl", "stop", "green.slice"])


@pytest.mark.parametrize("fstype", ["btrfs", "xfs"])
def test_other_filesystems(started, fstype):
    place = mounted(TWO, fstype)
    both(path=place, write_bps="1MiB")
    assert list(io_max()) == [number(TWO)]
    assert held(speed(place + "/f"), MIB) and held(speed(place + "/b", 8, "nonblock"), MIB)
    if fstype == "btrfs":
        sh(["btrfs", "subvolume", "create", place + "/s"])
        quiet(path=place + "/s", write_bps="1MiB")
    both(state="absent")


def test_through_a_partition(started):
    first, _second = parted()
    both(device=first, write_bps="1MiB")
    assert list(io_max()) == [number(ONE)] and held(speed(first), MIB)
    place = mounted(first)
    quiet(path=place, write_bps="1MiB")
    both(state="absent", path=place)


def test_through_luks(started):
    first, _second = parted()
    word = b"no secret"
    subprocess.run(
        ["cryptsetup", "-q", "luksFormat", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", first, "-"],
        input=word, check=True,
    )  # fmt: skip
    subprocess.run(["cryptsetup", "open", first, "io-limit", "-"], input=word, check=True)
    try:
        both(device="/dev/mapper/io-limit", write_bps="1MiB")
        assert list(io_max()) == [number(ONE)] and held(speed("/dev/mapper/io-limit"), MIB)
        sh(["systemctl", "set-property", "--runtime", SLICE, "TasksMax=100"])
        assert list(io_max()) == [number(ONE)]
    finally:
        sh(["cryptsetup", "close", "io-limit"])
    both(state="absent")
    assert io_max() == {}


def test_through_logical_volumes(started):
    first, second = parted()
    sh(["pvcreate", "-q", first, second])
    try:
        sh(["vgcreate", "-q", "iolimit", first, second])
        sh(["lvcreate", "-qy", "-i", "2", "-L", "64M", "-n", "striped", "iolimit"])
        sh(["lvcreate", "-qy", "-T", "-L", "256M", "-V", "128M", "-n", "thin", "iolimit/pool"])
        for name in ("striped", "thin"):
            both(device="/dev/iolimit/" + name, write_bps="1MiB")
            assert list(io_max()) == [number(ONE)]
            assert held(speed("/dev/iolimit/" + name, 8), MIB)  # 4 MiB are few for a busy host: a new chunk is work
        sh(["vgextend", "-q", "iolimit", TWO])
        sh(["lvcreate", "-qy", "-i", "2", "-L", "64M", "-n", "wide", "iolimit", first, TWO])
        both(device="/dev/iolimit/wide", write_bps="1MiB")
        assert list(io_max()) == [number("/dev/iolimit/wide")] and held(speed("/dev/iolimit/wide"), MIB)
        sh(["systemctl", "stop", SLICE])  # and what systemd makes of it is the same
        assert held(speed("/dev/iolimit/wide"), MIB)
        assert list(io_max()) == [number("/dev/iolimit/wide")]
        quiet(device="/dev/iolimit/wide", write_bps="1MiB")
    finally:
        both(state="absent")
        sh(["vgremove", "-qf", "iolimit"], check=False)
        sh(["pvremove", "-qffy", first, second, TWO], check=False)


def test_a_loop_device_is_a_disk(started):
    place = mounted(TWO)
    image = place + "/image"
    with open(image, "wb") as stream:
        os.ftruncate(stream.fileno(), 256 * MIB)
    sh(["mkfs.ext4", "-qF", image])
    loop = sh(["losetup", "-f", "--show", image]).strip()
    try:
        sh(["udevadm", "settle"])
        refused = converge(device=loop, write_bps="1MiB")
        assert set(codes(refused)) == {"unstable_device"} and picture()[1] == {}, refused
        (link,) = refused["refused"][0]["details"]["links"]
        both(device=link, write_bps="1MiB")
        assert list(io_max()) == [number(loop)] and held(speed(loop), MIB)
        assert speed(place + "/beneath") > 8 * MIB
        both(state="absent")
    finally:
        sh(["losetup", "-d", loop])


WRONG = [
    ({"write_bps": "0"}, "invalid"), ({"write_bps": "-1"}, "invalid"), ({"write_bps": "1e6"}, "invalid"),
    ({"read_bps": str(2**64)}, "invalid"), ({"read_bps": "100"}, "invalid"), ({"read_bps": "max"}, "invalid"),
    ({"read_iops": 0}, "invalid"), ({"write_iops": -1}, "invalid"), ({"write_iops": 2**64}, "invalid"),
    ({"write_iops": "1e6"}, "invalid"), ({}, "invalid"), ({"weight": 0}, "invalid"), ({"weight": 10001}, "invalid"),
    ({"weight": 50}, "not_enforced"), ({"min_iops": 5}, "unsupported"), ({"burst_bps": "1GiB"}, "unsupported"),
    ({"slice": "tenants", "write_bps": "1MiB"}, "invalid"), ({"slice": "-.slice", "write_bps": "1MiB"}, "unsupported"),
    ({"slice": "a--b.slice", "write_bps": "1MiB"}, "invalid"),
    ({"slice": "../x.slice", "write_bps": "1MiB"}, "invalid"),
    ({"slice": "no-such.service", "write_bps": "1MiB"}, "not_found"),
    ({"cgroup": "/sys/fs/cgroup", "write_bps": "1MiB"}, "invalid"),
    ({"cgroup": "/sys/fs/cgroup/mine", "write_bps": "1MiB"}, "unsupported"),
    ({"cgroup": "/sys/fs/cgroup/mine", "persist": False, "write_bps": "1MiB"}, "conflict"),
    ({"device": "/dev/sdb", "write_bps": "1MiB"}, "unstable_device"),
    ({"device": "/dev/x", "write_bps": "1MiB"}, "not_found"),
    ({"path": "/dev/shm", "write_bps": "1MiB"}, "not_enforced"),
    ({"path": "/proc", "write_bps": "1MiB"}, "not_enforced"),
    ({"path": "relative", "write_bps": "1MiB"}, "invalid"), ({"name": "../x", "write_bps": "1MiB"}, "invalid"),
]  # fmt: skip


def test_what_is_wrong_is_refused_before_anything_changes(started):
    before = picture()
    for wrong, code in WRONG:
        entry = {**({} if "path" in wrong or "device" in wrong else {"device": TWO}), **wrong}
        for check in (True, False):
            answer = converge(check, **entry)
            assert set(codes(answer)) == {code} and answer["actions"] == [], (wrong, answer)
    good = {"name": "green", "device": ONE, "write_bps": "1MiB"}
    bad = [{"name": "blue", "device": TWO, "write_bps": "0"}, {"name": "red", "device": TWO, "write_iops": -1}]
    answer = quotas.converge([], io_limits=[good, *bad])
    assert codes(answer) == ["invalid", "invalid"]
    assert picture() == before


def test_one_limit_for_a_disk_of_a_slice(started):
    first, second = parted()
    entries = [{"name": n, "slice": SLICE, "device": d, "write_bps": "1MiB"} for n, d in (("a", first), ("b", second))]
    answer = quotas.converge([], io_limits=entries)
    assert codes(answer) == ["conflict"], answer
    assert codes(quotas.converge([], io_limits=entries[:1])) == []
    answer = quotas.converge([], io_limits=entries[1:])
    assert codes(answer) == ["conflict"], answer
    assert codes(quotas.converge([], io_limits=[{"name": "a", "state": "absent"}])) == []
    # by somebody else, under another name of the disk
    sh(["systemctl", "set-property", "--runtime", SLICE, "IOReadIOPSMax=/dev/sda 77"])
    before = picture()
    answer = quotas.converge([], io_limits=entries[:1])
    assert codes(answer) == ["conflict"] and picture() == before, answer
    sh(["systemctl", "revert", SLICE])
    # and under the same one, in a drop-in that comes later
    later = os.path.dirname(DROPIN)
    os.makedirs(later)
    with open(later + "/99-mine.conf", "w", encoding="ascii") as stream:
        stream.write("[Slice]\nIOWriteBandwidthMax=%s 5000000\n" % ONE)
    try:
        answer = converge(device=first, write_bps="1MiB")
        assert set(codes(answer)) == {"not_enforced"}, answer
    finally:
        os.unlink(later + "/99-mine.conf")
    both(device=first, write_bps="1MiB")
    both(state="absent")


def test_a_weight_where_the_disk_has_such_a_thing(started):
    def weights(file):
        with open(CGROUP + file, encoding="ascii") as stream:
            return [line.rstrip("\n") for line in stream if not line.startswith("default")]

    with open("/sys/fs/cgroup/io.cost.qos", "w", encoding="ascii") as stream:
        stream.write(number(TWO) + " enable=1")
    try:
        both(device=TWO, weight=50, write_bps="1MiB")
        assert weights("/io.weight") == [number(TWO) + " 50"] and number(TWO) in io_max()
        both(device=TWO, weight=55)
        assert weights("/io.weight") == [number(TWO) + " 55"] and io_max() == {}
        both(device=TWO, write_iops=1000)
        assert weights("/io.weight") == []
        both(device=TWO, weight=10000)
        both(state="absent")
        assert weights("/io.weight") == [] and io_max() == {}
    finally:
        with open("/sys/fs/cgroup/io.cost.qos", "w", encoding="ascii") as stream:
            stream.write(number(TWO) + " enable=0")
    sh(["modprobe", "bfq"])
    scheduler = "/sys/block/%s/queue/scheduler" % os.path.basename(os.path.realpath(TWO))
    with open(scheduler, "w", encoding="ascii") as stream:
        stream.write("bfq")
    try:
        both(device=TWO, weight=300)
        assert weights("/io.bfq.weight") == [number(TWO) + " 118"]
        sh(["systemctl", "set-property", "--runtime", SLICE, "TasksMax=100"])
        quiet(device=TWO, weight=300)
        both(state="absent")
        assert weights("/io.bfq.weight") == []
    finally:
        with open(scheduler, "w", encoding="ascii") as stream:
            stream.write("none")


def test_a_cgroup_that_is_no_units(started):
    mine = "/sys/fs/cgroup/mine"
    os.mkdir(mine)
    try:
        limit = {"cgroup": mine, "device": TWO, "write_bps": "1MiB", "persist": False}
        control = "/sys/fs/cgroup/cgroup.subtree_control"
        with open(control, "r+", encoding="ascii") as stream:
            had = "io" in stream.read().split()
            if not had:
                answer = converge(**limit)
                assert set(codes(answer)) == {"unsupported"}, answer
                stream.write("+io")
        both(**limit)
        assert io_max(mine) == {number(TWO): "rbps=max wbps=1048576 riops=max wiops=max"}
        both(state="absent", cgroup=mine, device=TWO)
        assert (
            io_max(mine) == {}
            and shown(cgroup=CGROUP, **{k: limit[k] for k in ("device", "write_bps")})["slice"] == SLICE
        )
    finally:
        os.rmdir(mine)


def test_a_service(started):
    unit = "/run/systemd/system/io-limit-test.service"
    with open(unit, "w", encoding="ascii") as stream:
        stream.write("[Service]\nExecStart=sleep infinity\n")
    sh(["systemctl", "daemon-reload"])
    sh(["systemctl", "start", "io-limit-test"])
    try:
        both(slice="io-limit-test.service", device=TWO, write_bps="1MiB")
        cgroup = "/sys/fs/cgroup/system.slice/io-limit-test.service"
        assert io_max(cgroup) == {number(TWO): "rbps=max wbps=1048576 riops=max wiops=max"}
        sh(["systemctl", "restart", "io-limit-test"])
        assert io_max(cgroup) == {number(TWO): "rbps=max wbps=1048576 riops=max wiops=max"}
        quiet(slice="io-limit-test.service", device=TWO, write_bps="1MiB")
        both(state="absent")
        assert io_max(cgroup) == {}
    finally:
        sh(["systemctl", "stop", "io-limit-test"])
        os.unlink(unit)


def test_in_one_call_with_the_mount_that_it_is_for(started):
    sh(["mkfs.ext4", "-qF", TWO])
    os.makedirs(MOUNT, exist_ok=True)
    lists = {
        "mounts": [{"path": MOUNT, "source": TWO, "fstype": "ext4", "persist": "none", "state": "mounted"}],
        "io_limits": [{"name": "blue", "path": MOUNT, "write_bps": "1MiB"}],
    }
    foreseen = quotas.converge([], True, **lists)
    done = quotas.converge([], **lists)
    assert (codes(foreseen), codes(done)) == ([], []), (foreseen, done)
    assert list(io_max()) == [number(TWO)] and held(speed(MOUNT + "/f"), MIB)
    again = quotas.converge([], **lists)
    assert (codes(again), again["actions"]) == ([], [])
    lists["mounts"][0]["state"] = lists["io_limits"][0]["state"] = "absent"
    gone = quotas.converge([], **lists)
    assert codes(gone) == [] and not os.path.ismount(MOUNT) and io_max() == {} and not os.path.exists(DROPIN), gone
