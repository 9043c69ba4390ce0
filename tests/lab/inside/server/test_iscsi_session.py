# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with targets that this guest serves itself: iscsiadm, sysfs, blockdev and the target judge."""

from __future__ import annotations

import functools
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_session, iscsi_target
from ansible_collections.bulkhead.storage.tests.support import crash, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh, until

crash.DEADLINE = 300.0  # an emulated guest on a busy host
MIB = 1 << 20
IQN, LONGER = "iqn.2026-01.org.example:vol1", "iqn.2026-01.org.example:vol10"
ME = "iqn.1993-08.org.debian:01:server"
HERE, ALSO = "10.77.0.13:3260", "127.0.0.1:3260"
IMAGES = "/srv/sessions"
CHAP = {"username": "user", "password": "a secret of 12"}
MUTUAL = {**CHAP, "mutual_username": "target", "mutual_password": "another secret"}
ONE = {"target": IQN, "portals": [HERE], "chap": CHAP, "luns": [0]}
NODES = "/var/lib/iscsi/nodes"


def converge(check=False, *, more=None, **entry):
    return quotas.converge([], check, iscsi_sessions=[{**ONE, **entry}], **(more or {}))


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def serve(target=IQN, luns=((0, 64),), **more):
    """A target of this guest, with images of so many MiB."""
    chap = more.pop("chap", CHAP)
    luns = [{"lun": n, "file": "%s/%s-%d.img" % (IMAGES, target[-5:], n), "size": "%dMiB" % size} for n, size in luns]
    entry = {"target": target, "luns": luns, "portals": [HERE, ALSO], "initiators": [{"iqn": ME, "chap": chap}]}
    made = quotas.converge([], iscsi_targets=[{**entry, **more}])
    assert codes(made) == [], made


def both(**entry):
    """Foreseen, done, and quiet then."""
    before = picture()
    foreseen = converge(True, **entry)
    assert (codes(foreseen), picture()) == ([], before), foreseen
    done = converge(**entry)
    assert (codes(done), done["actions"], done["digest"]) == ([], foreseen["actions"], foreseen["digest"]), done
    quiet(**entry)
    return [(each["verb"], each["port"]) for each in done["actions"]]


def quiet(**entry):
    before = picture()
    again = converge(**entry)
    assert (codes(again), again["actions"], picture()) == ([], [], before), again


def sessions():
    """Target and portal of each, as iscsiadm tells them."""
    done = subprocess.run(["iscsiadm", "-m", "session"], check=False, capture_output=True, text=True, timeout=60)
    words = [line.split() for line in done.stdout.splitlines()]
    return sorted((word[3], word[2].split(",")[0]) for word in words)


def picture():
    """Records and sessions."""
    files = {}
    for folder, _folders, names in os.walk(NODES):
        for name in names:
            with open(folder + "/" + name, "rb") as stream:
                files[folder + "/" + name] = stream.read(), os.stat(folder + "/" + name).st_ino
    return files, sessions()


def shown(**entry):
    entries, errors = _kinds.entries({"iscsi_sessions": [{**ONE, **entry}]}, {"allow_unstable_device": False}, set())
    assert not errors
    ports = _kinds.ports(["iscsi_sessions"])
    return iscsi_session.show(
        entries[0].params, {"iscsi_session": ports["iscsi_session"].scan([entries[0].params["target"]])}
    )


def by_id(target=IQN, lun=0):
    return "/dev/disk/by-id/scsi-36001405" + iscsi_target.serial(target, str(lun))[:25]


def size(device):
    return int(sh(["blockdev", "--getsize64", device]))


@pytest.fixture(scope="module", autouse=True)
def initiator():
    with open("/etc/iscsi/initiatorname.iscsi", "w", encoding="ascii") as stream:
        stream.write("InitiatorName=%s\n" % ME)
    crash.prepare(modules=False)
    sh(["systemctl", "restart", "iscsid"])
    with quotas.own_catalogue():
        yield
    sh(["systemctl", "stop", "iscsid.socket", "iscsid.service"])


@pytest.fixture(autouse=True)
def clean():
    os.makedirs(IMAGES, mode=0o700, exist_ok=True)
    yield
    subprocess.run(["iscsiadm", "-m", "node", "-u"], check=False, capture_output=True, timeout=120)
    assert until(lambda: not glob.glob("/sys/class/iscsi_session/*"))
    sh(["targetctl", "clear"])
    for path in (IMAGES, NODES, "/etc/rtslib-fb-target/saveconfig.json"):
        shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)


def test_in_and_out():
    serve()
    assert both() == [("create", "iscsi_record"), ("create", "iscsi_session")]
    assert sessions() == [(IQN, HERE)]
    assert shown() == {
        "target": IQN,
        "sessions": [{"portal": HERE, "state": "LOGGED_IN"}],
        "devices": [{"lun": 0, "path": by_id(), "by_id": by_id(), "multipath": False, "size_bytes": 64 * MIB}],
    }
    assert size(by_id()) == 64 * MIB
    assert both(state="disconnected") == [("remove", "iscsi_session")]
    assert sessions() == [] and os.path.isdir("%s/%s" % (NODES, IQN))
    assert both() == [("create", "iscsi_session")]
    assert both(state="absent") == [("remove", "iscsi_session"), ("remove", "iscsi_record")]
    assert sessions() == [] and not os.path.exists("%s/%s" % (NODES, IQN))
    assert not os.path.exists(by_id())


def refused(code, *, leaves=True, **entry):
    """Tried in earnest, and nothing of it is left."""
    before, start = picture(), time.monotonic()
    done = converge(**entry)
    assert codes(done) == [code], done
    assert time.monotonic() - start < 25
    if leaves:
        assert picture()[1] == before[1] and {k: v[0] for k, v in picture()[0].items()} == {
            k: v[0] for k, v in before[0].items()
        }
    return done["errors"][0]


def test_a_secret_that_is_wrong():
    serve(chap=MUTUAL)
    wrong = {**MUTUAL, "password": "not the secret"}
    assert "0201" in refused("denied", chap=wrong)["message"]
    refused("denied", chap={**MUTUAL, "mutual_password": "not the mutual one"})
    refused("denied", chap={**MUTUAL, "username": "somebody"})
    refused("denied", chap=None)
    assert both(chap=MUTUAL) == [("create", "iscsi_record"), ("create", "iscsi_session")]


def test_who_is_not_let_in():
    serve(initiators=[{"iqn": ME + "x"}])
    refused("denied", chap=None)


def test_a_name_that_begins_like_another():
    serve(LONGER)
    refused("not_found")
    assert both(target=LONGER) == [("create", "iscsi_record"), ("create", "iscsi_session")]
    refused("not_found")
    serve(IQN)
    both()
    assert sessions() == [(IQN, HERE), (LONGER, HERE)]
    both(state="absent")
    assert sessions() == [(LONGER, HERE)]
    quiet(target=LONGER)


def asked(enforce):
    """Who asks this portal what it serves has to say who they are."""
    for name, text in (("userid", "asker"), ("password", "of whom all ask"), ("enforce_discovery_auth", str(enforce))):
        with open("/sys/kernel/config/target/iscsi/discovery_auth/" + name, "w", encoding="ascii") as stream:
            stream.write(text)


def test_discovery_says_what_is_there():
    serve(LONGER)
    asked(1)
    discovery = {"username": "asker", "password": "of whom all ask"}
    try:
        assert "does not offer" in refused("not_found", discovery_chap=discovery)["message"]
        refused("denied", target=LONGER, discovery_chap={**discovery, "password": "not that one"})
        both(target=LONGER, discovery_chap=discovery)
    finally:
        asked(0)


def test_portals_that_do_not_answer():
    serve()
    refused("unreachable", portals=["127.0.0.1:3999"])
    with socket.create_server(("127.0.0.1", 3998)):
        start = time.monotonic()
        refused("unreachable", portals=["127.0.0.1:3998"])
        assert time.monotonic() - start < 15
    refused("unreachable", portals=["10.77.0.99:3260"])


def test_luns_come_and_grow_and_go():
    serve()
    refused("not_found", luns=[0, 5], wait=3)
    both()
    refused("not_found", luns=[0, 5], wait=3)
    serve(luns=((0, 64), (5, 32)))
    assert both(luns=[0, 5]) == [("change", "iscsi_session")]
    assert size(by_id(lun=5)) == 32 * MIB
    serve(luns=((0, 128), (5, 32)))
    assert size(by_id()) == 64 * MIB
    assert both(luns=[0, 5]) == [("change", "iscsi_session")]
    assert size(by_id()) == 128 * MIB
    sh(["targetcli", "/iscsi/%s/tpg1/luns" % IQN, "delete", "lun5"])
    start = time.monotonic()
    assert codes(converge(luns=[0, 5], wait=3)) == ["not_found"]
    assert time.monotonic() - start < 15
    quiet()
    assert [each["lun"] for each in shown()["devices"]] == [0]


def test_what_is_in_use_stays():
    serve()
    both()
    sh(["mkfs.ext4", "-q", by_id()])
    os.makedirs("/run/there", exist_ok=True)
    sh(["mount", by_id(), "/run/there"])
    try:
        for state in ("disconnected", "absent"):
            for check in (True, False):
                assert codes(converge(check, state=state)) == ["in_use"]
        assert codes(converge(portals=[ALSO])) == ["in_use"], "the one path would go"
        assert sessions() == [(IQN, HERE)]
    finally:
        sh(["umount", "/run/there"])
    both(state="absent")


def test_secrets_that_change_while_a_disk_is_in_use():
    """The target knows only the new ones, so the old would never get in again."""
    serve()
    both()
    sh(["mkfs.ext4", "-q", by_id()])
    os.makedirs("/run/there", exist_ok=True)
    sh(["mount", by_id(), "/run/there"])
    try:
        new = {"username": "user2", "password": "another of 12!"}
        refused("denied", chap=new)
        serve(chap=new)
        assert both(chap=new) == [("change", "iscsi_record"), ("change", "iscsi_session")]
        with open("/run/there/x", "w", encoding="ascii") as stream:
            stream.write("kept")
        sh(["sync", "-f", "/run/there/x"])
        before = sh(["sh", "-c", "cat /sys/class/iscsi_connection/*/local_port"])
        sh(["ss", "-K", "dport", "=", "3260"])  # the connection is lost, and comes back with the new ones
        assert until(lambda: sh(["sh", "-c", "cat /sys/class/iscsi_connection/*/local_port"], False) != before, 30)
        assert until(lambda: shown()["sessions"] == [{"portal": HERE, "state": "LOGGED_IN"}], 30)
        with open("/run/there/y", "w", encoding="ascii") as stream:
            stream.write("kept")
        sh(["sync", "-f", "/run/there/y"])
    finally:
        sh(["umount", "/run/there"])
    both(chap=new, state="absent")


def test_a_target_that_is_killed():
    """The portal refuses, and the session that stands does not answer."""
    serve()
    both()
    sh(["targetctl", "clear"])
    start = time.monotonic()
    done = converge()
    assert codes(done) in (["unreachable"], ["not_found"]), done
    assert time.monotonic() - start < 40
    serve()
    assert until(lambda: shown()["sessions"] == [{"portal": HERE, "state": "LOGGED_IN"}], 60)
    quiet()
    both(state="absent")


def test_several_portals_are_one_disk():
    serve()
    sh(["systemctl", "stop", "multipathd.socket", "multipathd.service"], check=False)
    for check in (True, False):
        assert codes(converge(check, portals=[HERE, ALSO])) == ["unsupported"]
    sh(["systemctl", "start", "multipathd.service"])
    try:
        assert both(portals=[HERE, ALSO]) == [("create", "iscsi_record"), ("create", "iscsi_session")]
        assert sessions() == [(IQN, HERE), (IQN, ALSO)]
        (disk,) = shown()["devices"]
        assert disk["multipath"] and "/dm-uuid-mpath-" in disk["path"] and size(disk["path"]) == 64 * MIB
        serve(luns=((0, 128),))
        both(portals=[HERE, ALSO])
        assert size(disk["path"]) == 128 * MIB
        sh(["mkfs.ext4", "-q", disk["path"]])
        both(portals=[HERE, ALSO], state="absent")
        assert sessions() == [] and not os.path.exists(disk["path"])
    finally:
        sh(["systemctl", "stop", "multipathd.socket", "multipathd.service"])


def test_a_second_path_to_a_disk_in_use():
    """It cannot become part of a map, and a second name of the same bytes is not left behind."""
    serve()
    both()
    sh(["mkfs.ext4", "-q", by_id()])
    os.makedirs("/run/there", exist_ok=True)
    sh(["mount", by_id(), "/run/there"])
    sh(["systemctl", "start", "multipathd.service"])
    try:
        before = picture()
        assert codes(converge(portals=[HERE, ALSO], wait=3)) == ["unsupported"]
        assert picture() == before or sessions() == [(IQN, HERE)]
        with open("/run/there/x", "w", encoding="ascii") as stream:
            stream.write("kept")
        sh(["sync", "-f", "/run/there/x"])
    finally:
        sh(["umount", "/run/there"])
        sh(["systemctl", "stop", "multipathd.socket", "multipathd.service"])
    quiet()


def test_one_of_two_portals_is_cut():
    """Told as it is; what stands on the disk goes on by the other path, and the path comes back by itself."""
    serve()
    sh(["systemctl", "start", "multipathd.service"])
    try:
        both(portals=[HERE, ALSO])
        (disk,) = shown()["devices"]
        sh(["mkfs.ext4", "-q", disk["path"]])
        os.makedirs("/run/there", exist_ok=True)
        sh(["mount", disk["path"], "/run/there"])
        os.rmdir("/sys/kernel/config/target/iscsi/%s/tpgt_1/np/%s" % (IQN, ALSO))
        sh(["ss", "-K", "dst", "127.0.0.1", "dport", "=", "3260"])
        assert until(lambda: states() != ["LOGGED_IN"] * 2, 30)
        start = time.monotonic()
        done = converge(portals=[HERE, ALSO])
        assert codes(done) == ["unreachable"] and time.monotonic() - start < 20, done
        with open("/run/there/x", "w", encoding="ascii") as stream:
            stream.write("kept")
        sh(["sync", "-f", "/run/there/x"])
        serve()
        assert until(lambda: states() == ["LOGGED_IN"] * 2, 60)
        quiet(portals=[HERE, ALSO])
        with open("/run/there/x", encoding="ascii") as stream:
            assert stream.read() == "kept"
        sh(["umount", "/run/there"])
        both(portals=[HERE, ALSO], state="absent")
    finally:
        sh(["umount", "/run/there"], check=False)
        sh(["systemctl", "stop", "multipathd.socket", "multipathd.service"])


def test_a_target_that_falls_silent():
    """Whoever reads such a disk waits for two minutes. What stands on it is declared, and nobody waits so long."""
    serve()
    both()
    stack = {
        "filesystems": [{"device": by_id(), "fstype": "ext4"}],
        "mounts": [{"path": "/run/there", "source": by_id(), "fstype": "ext4", "persist": "none"}],
    }
    assert codes(converge(more=stack)) == []
    with open("/run/there/x", "w", encoding="ascii") as stream:
        stream.write("kept")
    sh(["sync", "-f", "/run/there/x"])
    before = children()
    sh(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "100%"])
    try:
        for _time in range(2):  # before the kernel knows, and when it does
            start = time.monotonic()
            answer = converge(True, more=stack)
            assert codes(answer) and set(codes(answer)) == {"unreachable"}, answer
            assert time.monotonic() - start < 20
            assert until(lambda: states() != ["LOGGED_IN"], 20)
        assert children() == before
        for check in (True, False):
            assert codes(converge(check, state="absent")) == ["in_use"], "also when nobody answers"
    finally:
        sh(["tc", "qdisc", "del", "dev", "lo", "root"])
    assert until(lambda: states() == ["LOGGED_IN"], 60)
    assert converge(more=stack)["actions"] == []
    with open("/run/there/x", encoding="ascii") as stream:
        assert stream.read() == "kept"
    gone = {"mounts": [{"path": "/run/there", "state": "absent"}]}
    done = converge(more=gone, state="absent")
    assert codes(done) == [] and sessions() == [], done


def states():
    return sh(["sh", "-c", "cat /sys/class/iscsi_session/*/state"]).split()


def children():
    """Processes of this one."""
    with open("/proc/self/task/%d/children" % os.getpid(), encoding="ascii") as stream:
        return stream.read().split()


def test_a_stack_on_luns_in_one_call():
    """The disks are not there yet: check mode says what the run does, twice, and all of it goes in one call again."""
    serve(luns=((0, 64), (1, 32)))
    session = {**ONE, "luns": [0, 1]}
    lun = {"iscsi": IQN, "lun": 0}
    stack = {
        "iscsi_sessions": [session],
        "filesystems": [{"device": lun, "fstype": "ext4"}],
        "mounts": [{"path": "/run/there", "source": lun, "fstype": "ext4"}],
        "trees": [{"root": "/run/there", "entries": [{"path": "a", "mode": "0700"}]}],
    }
    before = picture()
    foreseen = quotas.converge([], True, **stack)
    assert (codes(foreseen), picture()) == ([], before), foreseen
    done = quotas.converge([], **stack)
    assert (codes(done), done["digest"]) == ([], foreseen["digest"]), done
    assert sh(["findmnt", "-no", "SOURCE,FSTYPE", "/run/there"]).split()[1] == "ext4"
    with open("/etc/fstab", encoding="utf-8") as stream:
        (line,) = [line.split() for line in stream if "/run/there" in line]
    assert (line[0], "_netdev" in line[3].split(",")) == (by_id(), True)
    assert quotas.converge([], **stack)["actions"] == []
    serve(luns=((0, 128), (1, 32)))
    foreseen = quotas.converge([], True, **stack)
    done = quotas.converge([], **stack)
    assert (codes(done), done["digest"]) == ([], foreseen["digest"]), done
    assert os.statvfs("/run/there").f_blocks * os.statvfs("/run/there").f_frsize > 100 * MIB
    assert quotas.converge([], **stack)["actions"] == []
    gone = {"mounts": [{**stack["mounts"][0], "state": "absent"}], "iscsi_sessions": [{**session, "state": "absent"}]}
    foreseen = quotas.converge([], True, **gone)
    done = quotas.converge([], **gone)
    assert (codes(done), done["digest"]) == ([], foreseen["digest"]), done
    assert sessions() == [] and not os.path.ismount("/run/there")


def test_a_pool_on_a_lun_in_one_call():
    """Its volumes are logical volumes, and the disk that they lie on comes with the session.

    It is a disk of its own: LVM takes none that multipathd was told of, as other tests have those of theirs.
    """
    san = IQN[:-4] + "san"
    serve(san, luns=((0, 256),))
    stack = {
        "iscsi_sessions": [{**ONE, "target": san}],
        "volume_groups": [
            {"vg": "san", "pvs": [{"iscsi": san, "lun": 0}], "thin_pools": [{"name": "t", "size": "128MiB"}]}
        ],
        "pools": [{"name": "san", "backend": "iscsi", "config": {"vg": "san", "thin_pool": "t"}}],
        "volumes": [
            {"name": "a", "pool": "san", "size": "32MiB", "state": "attached", "target": "/run/volume"},
            {"name": "b", "pool": "san", "size": "16MiB", "type": "block"},
        ],
    }
    foreseen = quotas.converge([], True, **stack)
    assert (codes(foreseen), sessions()) == ([], []), foreseen
    done = quotas.converge([], **stack)
    assert (codes(done), done["digest"]) == ([], foreseen["digest"]), done
    assert size("/dev/san/v+default+b") == 16 * MIB
    assert sh(["pvs", "--noheadings", "-o", "vg_name", by_id(san)]).strip() == "san"
    space = os.statvfs("/run/volume")
    assert 24 * MIB < space.f_blocks * space.f_frsize <= 32 * MIB
    with open("/run/volume/kept", "w", encoding="ascii") as stream:
        stream.write("kept")
    for lists in stack, {"pools": stack["pools"]}, {"volumes": stack["volumes"]}:
        assert quotas.converge([], **lists)["actions"] == []
    assert codes(converge(target=san, state="absent")) == ["in_use"]
    sh(["truncate", "-s", "64M", IMAGES + "/local.img"])
    local = sh(["losetup", "--find", "--show", IMAGES + "/local.img"]).strip()
    try:
        sh(["vgcreate", "near", local])
        near = {"name": "near", "backend": "iscsi", "config": {"vg": "near"}}
        done = quotas.converge([], pools=[near])
        assert codes(done) == ["conflict"] and local in str(done["refused"]), done
        sh(["vgremove", "-f", "near"])
    finally:
        sh(["losetup", "-d", local])
    volumes = [{**each, "state": "absent", "force": True, "target": None} for each in stack["volumes"]]
    pool = {"name": "san", "state": "absent", "confirm": "san"}
    done = quotas.converge([], volumes=volumes, pools=[pool])
    assert codes(done) == [] and not os.path.ismount("/run/volume"), done
    assert sh(["lvs", "--noheadings", "-o", "lv_name", "san"]).split() == ["t"]
    sh(["vgremove", "-f", "san"])
    both(target=san, state="absent")


def test_a_lun_that_carries_something():
    serve()
    both()
    sh(["mkfs.vfat", by_id()])
    both(state="absent")
    before = picture()[1]
    done = quotas.converge(
        [], iscsi_sessions=[ONE], filesystems=[{"device": {"iscsi": IQN, "lun": 0}, "fstype": "ext4"}]
    )
    assert codes(done) == ["not_blank"], done
    assert picture()[1] == before and not os.path.exists(by_id()), "logged out again"
    both()
    assert sh(["blkid", "-o", "value", "-s", "TYPE", by_id()]).strip() == "vfat"


def test_whoever_else_is_logged_in_stays():
    serve(LONGER, chap=None)
    argv = ["iscsiadm", "-m", "node", "-T", LONGER, "-p", ALSO]
    sh([*argv, "-o", "new"])
    sh([*argv, "--login"])
    before = picture()
    serve()
    both()
    both(state="absent")
    assert picture() == before


def test_what_was_done_by_hand_is_mended():
    serve()
    both()
    sh(["iscsiadm", "-m", "node", "-T", IQN, "--logout"])
    assert both() == [("create", "iscsi_session")]
    for name in ("node.startup", "node.conn[0].startup"):  # either is enough for the boot
        sh(["iscsiadm", "-m", "node", "-T", IQN, "-o", "update", "-n", name, "-v", "manual"])
    assert both(startup="automatic") == [("change", "iscsi_record")]
    sh(["iscsiadm", "-m", "node", "-T", IQN, "-p", ALSO, "-o", "new"])
    for name, value in (("authmethod", "CHAP"), ("username", "user"), ("password", CHAP["password"])):
        text = ["-n", "node.session.auth." + name, "-v", value]
        sh(["iscsiadm", "-m", "node", "-T", IQN, "-p", ALSO, "-o", "update", *text])
    sh(["iscsiadm", "-m", "node", "-T", IQN, "-p", ALSO, "--login"])
    assert sessions() == [(IQN, HERE), (IQN, ALSO)]
    assert both() == [("change", "iscsi_record"), ("change", "iscsi_session")]
    assert sessions() == [(IQN, HERE)]


def test_a_portal_of_ipv6():
    sh(["ip", "address", "add", "fd00:77::13/64", "dev", "lo", "nodad"])
    try:
        serve(portals=["[fd00:77::13]:3260"])
        both(portals=["[FD00:77:0::13]"])
        assert sessions() == [(IQN, "[fd00:77::13]:3260")]
        both(portals=["[fd00:77::13]"], state="absent")
    finally:
        sh(["ip", "address", "del", "fd00:77::13/64", "dev", "lo"])


def test_a_password_is_nowhere_but_where_it_must_be():
    """In no argument of a program, no answer, no journal; in the record, which only root reads."""
    words = ["canary-%s" % os.urandom(8).hex() for _each in range(3)]
    chap = {"username": "user", "password": words[0], "mutual_username": "t", "mutual_password": words[1]}
    serve(chap=chap)
    sh(["rm", "-rf", "/var/lib/bulkhead/journal"])
    code = (
        "import json, sys\n"
        "from ansible_collections.bulkhead.storage.tests.support import quotas\n"
        "print(json.dumps(quotas.converge([], **json.loads(sys.stdin.read()))))\n"
    )
    log = "/run/lab-strace"
    argv = ["strace", "-f", "-qq", "-s", "9999", "-v", "-e", "trace=execve,openat,rename", "-o", log]
    entry = {**ONE, "chap": chap}
    planted = [sys.executable, "-c", "import subprocess; subprocess.run(['true', %r])" % words[2]]
    subprocess.run([*argv, *planted], check=True, timeout=60)
    with open(log, encoding="utf-8", errors="replace") as stream:
        assert words[2] in stream.read(), "what is on a command line would be seen"
    for each in (entry, {**entry, "wait": 29}, {"target": IQN, "state": "absent"}):
        text = json.dumps({"iscsi_sessions": [each]}).encode()
        done = subprocess.run(
            [*argv, sys.executable, "-c", code], input=text, check=True, capture_output=True, timeout=300
        )
        assert codes(json.loads(done.stdout)) == [], done.stdout
        assert not any(word.encode() in done.stdout + done.stderr for word in words)
        with open(log, encoding="utf-8", errors="replace") as stream:
            traced = stream.read()
        assert "iscsi" in traced and not any(word in traced for word in words)
        places = ["/var/lib/bulkhead", "/var/lib/iscsi", "/etc", "/tmp", "/run", "/var/log"]
        files = sh(["grep", "-rlE", "|".join(words), *places, "--exclude=saveconfig.json"], False).split()
        assert files == ([] if "state" in each else ["%s/%s/%s" % (NODES, IQN, HERE.replace(":", ","))])
        assert all(os.stat(path).st_mode & 0o777 == 0o600 for path in files)
    assert not any(word in sh(["journalctl", "-b", "--no-pager", "-q"]) for word in words[:2])


def test_killed_anywhere_the_next_run_converges():
    """SIGKILL when a program starts or ends, or a file is written; then it is logged in, or nothing is left."""
    serve()
    both()
    both(state="absent")
    empty = picture()
    step = 1 if "BULKHEAD_SOAK" in os.environ else 9
    tried = {}
    for name, entry, other in (("in", {}, {"state": "absent"}), ("out", {"state": "absent"}, {})):
        number = step
        while True:
            assert codes(converge(**other)) == []
            count = 0

            def decide(call, last=number):
                nonlocal count
                if call.own or call.name in ("execve", "exit_group"):
                    count += 1
                    if count == last:
                        return crash.Kill(caller=not call.own)
                return None

            ended = crash.forked(functools.partial(_told, entry), decide, within=False)
            if ended.result is not None:
                break
            assert ended.status == -9, ended.output
            done = converge(**entry)
            assert codes(done) == [], (name, number, done)
            assert picture() == empty if name == "out" else sessions() == [(IQN, HERE)], (name, number)
            quiet(**entry)
            number += step
        tried[name] = number // step - 1
    print("killed", tried)
    assert min(tried.values()) >= (20 if step == 1 else 1), tried


def _told(entry):
    print(json.dumps(converge(**entry), default=repr))
