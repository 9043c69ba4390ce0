# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets that this guest serves and logs in to itself: iscsiadm, blockdev, targetcli and targetctl judge."""

from __future__ import annotations

import glob
import json
import os
import random
import re
import subprocess
import sys

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_saved
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh, until

MIB = 1 << 20
IQN, ME, OTHER = "iqn.2026-01.org.example:disks", "iqn.2026-01.org.example:me", "iqn.2026-01.org.example:other"
CONFIGFS, SAVED = "/sys/kernel/config/target", "/etc/rtslib-fb-target/saveconfig.json"
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
IMAGES = "/srv/targets"
FILE = IMAGES + "/disk.img"
CHAP = {"username": "user", "password": "a secret of 12"}
MUTUAL = {"mutual_username": "target", "mutual_password": "another secret"}
LUN = {"lun": 0, "file": FILE, "size": "64MiB"}
ONE = {"target": IQN, "luns": [LUN], "initiators": [{"iqn": ME, "chap": CHAP}]}
AUTHORIZATION = 24  # iscsiadm(8): login failed due to authorization failure


def converge(check=False, unstable=False, **entry):
    return quotas.converge([], check, None, unstable, iscsi_targets=[{**ONE, **entry}])


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
    return [(each["verb"], each["port"]) for each in done["actions"]]


def quiet(**entry):
    again = converge(**entry)
    assert (codes(again), again["actions"]) == ([], []), again


def refused(code, **entry):
    """In check mode and in earnest, and nothing has changed."""
    before = picture()
    for check in (True, False):
        answer = converge(check, **entry)
        assert set(codes(answer)) == {code}, answer
        assert picture() == before
    return answer["refused"]


def shown(target=IQN):
    entries, errors = _kinds.entries(
        {"iscsi_targets": [{**ONE, "target": target}]}, {"allow_unstable_device": 0}, set()
    )
    assert not errors
    ports = _kinds.ports(["iscsi_targets"])
    return iscsi_target.show(entries[0].params, {"lio_target": ports["lio_target"].scan([target])})


def kernel():
    """Every attribute, folder and link beneath configfs that is not a counter."""
    found = {}
    for folder, folders, files in os.walk(CONFIGFS):
        folders[:] = sorted(name for name in folders if not name.endswith("statistics"))
        for name in folders:
            path = folder + "/" + name
            found[path] = os.readlink(path) if os.path.islink(path) else None
        for name in files:
            if name not in ("info", "members", "alua_tg_pt_status", "action") and "/param/" not in folder + "/":
                try:
                    with open(folder + "/" + name, "rb") as stream:
                        found[folder + "/" + name] = stream.read()
                except OSError:  # one that can only be written, or that says nothing now
                    found[folder + "/" + name] = None
    return found


def picture():
    saved = None
    if os.path.exists(SAVED):
        with open(SAVED, "rb") as stream:
            saved = (stream.read(), os.stat(SAVED).st_mode & 0o777)
    images = {path: os.stat(path).st_size for path in glob.glob(IMAGES + "/*")}
    return kernel() if os.path.isdir(CONFIGFS) else {}, saved, images


def theirs(where="/run/theirs.json"):
    """What rtslib says there is."""
    sh(["targetctl", "save", where])
    with open(where, encoding="utf-8") as stream:
        return json.load(stream)


def iscsiadm(*arguments, target=IQN, portal="127.0.0.1:3260"):
    argv = ["iscsiadm", "-m", "node", "-T", target, "-p", portal, *arguments]
    return subprocess.run(argv, check=False, capture_output=True, timeout=120).returncode


def login(chap=None, target=IQN, portal="127.0.0.1:3260"):
    iscsiadm("-o", "delete", target=target, portal=portal)
    assert iscsiadm("-o", "new", target=target, portal=portal) == 0
    settings = {"node.session.initial_login_retry_max": "1", "node.conn[0].timeo.login_timeout": "10"}
    if chap:
        settings.update({"node.session.auth.authmethod": "CHAP", "node.session.auth.username": chap["username"]})
        settings["node.session.auth.password"] = chap["password"]
        if "mutual_username" in chap:
            settings["node.session.auth.username_in"] = chap["mutual_username"]
            settings["node.session.auth.password_in"] = chap["mutual_password"]
    for name, value in settings.items():
        assert iscsiadm("-o", "update", "-n", name, "-v", value, target=target, portal=portal) == 0
    return iscsiadm("--login", target=target, portal=portal)


def logout():
    subprocess.run(["iscsiadm", "-m", "node", "-u"], check=False, capture_output=True, timeout=120)
    assert until(lambda: not glob.glob("/sys/class/iscsi_session/*"))


def seen(target=IQN, lun=0):
    """The disk that the initiator has, by the name that is made of its serial number."""
    naa = "36001405" + iscsi_target.serial(target, str(lun))[:25]
    path = "/dev/disk/by-id/scsi-" + naa
    assert until(lambda: os.path.exists(path)), sh(["ls", "-l", "/dev/disk/by-id"])
    return path


def size(device):
    return int(sh(["blockdev", "--getsize64", device]))


@pytest.fixture(scope="module", autouse=True)
def initiator():
    with open("/etc/iscsi/initiatorname.iscsi", "w", encoding="ascii") as stream:
        stream.write("InitiatorName=%s\n" % ME)
    sh(["systemctl", "restart", "iscsid"])
    with quotas.own_catalogue():
        yield
    sh(["systemctl", "stop", "iscsid.socket", "iscsid.service"])


@pytest.fixture(autouse=True)
def clean():
    os.makedirs(IMAGES, mode=0o700, exist_ok=True)
    yield
    logout()
    if os.path.isdir(CONFIGFS):
        sh(["targetctl", "clear"])
    for path in [SAVED, *glob.glob(IMAGES + "/*"), *glob.glob("/etc/rtslib-fb-target/.b*")]:
        if os.path.exists(path):
            os.unlink(path)


# -- it serves -----------------------------------------------------------------------------------------------------


def test_from_nothing_to_a_filesystem_on_the_initiator():
    """Before any module is loaded, where this is the first test of a fresh guest."""
    assert both() == [("create", "lio_backing"), ("create", "lio_target"), ("create", "lio_saved")]
    assert (os.stat(FILE).st_size, os.stat(FILE).st_mode & 0o777, os.stat(FILE).st_blocks) == (64 * MIB, 0o600, 0)
    assert os.stat(SAVED).st_mode & 0o777 == 0o600
    assert login(CHAP) == 0
    disk = seen()
    assert size(disk) == 64 * MIB
    assert shown()["initiators"] == [{"iqn": ME, "chap": True, "logged_in": True}]
    quiet()
    sh(["mkfs.ext4", "-qF", disk])
    os.makedirs("/run/there", exist_ok=True)
    sh(["mount", disk, "/run/there"])
    with open("/run/there/x", "w", encoding="ascii") as stream:
        stream.write("kept")
    sh(["umount", "/run/there"])
    logout()
    assert shown()["initiators"] == [{"iqn": ME, "chap": True, "logged_in": False}]
    assert login(CHAP) == 0
    sh(["mount", seen(), "/run/there"])
    try:
        with open("/run/there/x", encoding="ascii") as stream:
            assert stream.read() == "kept"
    finally:
        sh(["umount", "/run/there"])
    quiet()


def test_who_may_not_log_in_does_not():
    both()
    assert login({**CHAP, "password": "a secret of 13"}) == AUTHORIZATION
    assert login({**CHAP, "username": "users"}) == AUTHORIZATION
    assert login() == AUTHORIZATION
    both(initiators=[{"iqn": OTHER, "chap": CHAP}])
    assert login(CHAP) != 0
    both(initiators=[{"iqn": ME + ":1"}, {"iqn": ME[:-1]}])
    assert login() != 0
    both(initiators=[])
    assert login() != 0
    both(initiators=[{"iqn": ME}])
    assert login() == 0


def test_both_prove_who_they_are():
    both(initiators=[{"iqn": ME, "chap": {**CHAP, **MUTUAL}}])
    assert login({**CHAP, **MUTUAL, "mutual_password": "a third secret"}) != 0
    assert login({**CHAP, **MUTUAL}) == 0


def test_a_password_is_changed_in_place():
    both()
    assert login(CHAP) == 0
    new = {**CHAP, "password": "the next secret"}
    assert both(initiators=[{"iqn": ME, "chap": new}]) == [("change", "lio_target"), ("change", "lio_saved")]
    assert shown()["initiators"][0]["logged_in"], "who is logged in stays so"
    logout()
    assert login(CHAP) == AUTHORIZATION
    assert login(new) == 0


def test_it_grows_under_who_uses_it():
    both()
    assert login(CHAP) == 0
    disk = seen()
    larger = {**LUN, "size": "100MiB"}
    assert both(luns=[larger]) == [("change", "lio_backing"), ("change", "lio_target"), ("change", "lio_saved")]
    sh(["iscsiadm", "-m", "session", "--rescan"])
    assert until(lambda: size(disk) == 100 * MIB)
    refused("would_shrink", luns=[LUN])
    quiet(luns=[{"lun": 0, "file": FILE}])
    with open(FILE, "r+b") as stream:
        stream.truncate(120 * MIB)
    both(luns=[{"lun": 0, "file": FILE}])
    assert shown()["luns"][0]["size_bytes"] == 120 * MIB


def test_a_device():
    entry = {"luns": [{"lun": 7, "device": DISK}], "initiators": [{"iqn": ME}]}
    both(**entry)
    assert login() == 0
    assert size(seen(lun=7)) == size(DISK)
    logout()
    assert both(**entry, state="absent") == [("remove", "lio_saved"), ("remove", "lio_target")]
    sh(["mkfs.ext4", "-qF", DISK])
    os.makedirs("/run/there", exist_ok=True)
    sh(["mount", DISK, "/run/there"])
    try:
        refused("in_use", **entry)
    finally:
        sh(["umount", "/run/there"])
        sh(["wipefs", "-qa", DISK])
    real = os.path.realpath(DISK)
    refused("unstable_device", luns=[{"lun": 0, "device": real}])
    root = sh(["findmnt", "-no", "SOURCE", "/"]).strip()
    refused("protected", luns=[{"lun": 0, "device": root}], unstable=True)
    refused("not_found", luns=[{"lun": 0, "device": DISK + "-part9"}])
    refused("invalid", luns=[{"lun": 0, "device": "/dev/null"}])


def test_where_it_listens():
    entry = {"portals": ["127.0.0.1:3261", "[::1]:3261"], "initiators": [{"iqn": ME}]}
    both(**entry)
    assert set(os.listdir(CONFIGFS + "/iscsi/%s/tpgt_1/np" % IQN)) == {"127.0.0.1:3261", "[::1]:3261"}
    assert login() != 0
    for portal in entry["portals"]:
        assert login(portal=portal) == 0
        logout()
    quiet(**{**entry, "portals": None})
    both(**{**entry, "portals": ["[0:0::1]:3261"]})
    assert os.listdir(CONFIGFS + "/iscsi/%s/tpgt_1/np" % IQN) == ["[::1]:3261"]
    both(**{**entry, "portals": ["127.0.0.1"]})
    before = picture()
    answer = quotas.converge([], iscsi_targets=[{"target": OTHER, "luns": [], "portals": ["0.0.0.0:3260"]}])
    assert codes(answer) == ["in_use"], answer
    assert picture() == before
    new = {"lun": 0, "file": IMAGES + "/new.img", "size": "1MiB"}
    answer = quotas.converge([], iscsi_targets=[{"target": OTHER, "luns": [new], "portals": ["0.0.0.0:3260"]}])
    assert codes(answer) == ["in_use"], answer
    assert picture() == before, "what it had made is taken back"
    answer = converge(**{**entry, "luns": [LUN, {**new, "lun": 1}], "portals": ["127.0.0.1:3260", "0.0.0.0:3260"]})
    assert codes(answer) == ["in_use"], answer
    assert picture() == before


# -- it is not pulled away -----------------------------------------------------------------------------------------


def test_nothing_goes_from_under_who_uses_it():
    more = {"luns": [LUN, {"lun": 1, "file": IMAGES + "/two.img", "size": "1MiB"}]}
    more["initiators"] = [{"iqn": ME}, {"iqn": OTHER}]
    more["portals"] = ["127.0.0.1:3260", "127.0.0.1:3261"]
    both(**more)
    assert login() == 0
    (error,) = refused("in_use", state="absent")
    assert error["details"]["initiators"] == [ME]
    assert ME in refused("in_use", **{**more, "luns": [LUN]})[0]["message"]
    refused("in_use", **{**more, "initiators": [{"iqn": OTHER}]})
    refused("in_use", **{**more, "portals": ["127.0.0.1:3260"]})
    refused("conflict", **{**more, "luns": [{**LUN, "file": IMAGES + "/x.img"}, more["luns"][1]]})
    refused("conflict", **{**more, "luns": [{"lun": 0, "device": DISK}, more["luns"][1]]})
    both(**{**more, "initiators": [{"iqn": ME}]})
    logout()
    both(**{**more, "luns": [LUN]})
    assert os.path.exists(IMAGES + "/two.img"), "what was served stays"
    refused("conflict", luns=[{**LUN, "file": IMAGES + "/x.img"}], initiators=[])


def test_what_others_use_is_not_served():
    both()
    second = {"target": OTHER, "initiators": []}
    refused("in_use", **second)
    both(state="absent")
    loop = sh(["losetup", "--find", "--show", FILE]).strip()
    refused("in_use")
    sh(["losetup", "-d", loop])
    os.chmod(IMAGES, 0o777)
    try:
        refused("unsafe_path")
        refused("unsafe_path", luns=[{**LUN, "file": IMAGES + "/new.img"}])
        os.symlink("/etc/shadow", IMAGES + "/link.img")
        refused("unsafe_path", luns=[{"lun": 0, "file": IMAGES + "/link.img"}])
    finally:
        os.chmod(IMAGES, 0o700)
    os.unlink(IMAGES + "/link.img")
    refused("not_found", luns=[{"lun": 0, "file": IMAGES + "/none.img"}])
    refused("not_found", luns=[{**LUN, "file": IMAGES + "/none/none.img"}])


def test_an_image_that_is_lost_is_not_replaced_by_an_empty_one():
    """Its filesystem may just not be mounted, and an initiator would find its disk blank."""
    both()
    os.rename(FILE, FILE + ".away")
    refused("not_found")
    sh(["targetctl", "clear"])
    refused("not_found")
    os.rename(FILE + ".away", FILE)
    both()


def test_a_stack_goes_up_and_down_in_one_call():
    """A volume, and the target that serves it; what is served is known by its target."""
    volume = {"vg": "served", "pvs": [DISK.replace("data1", "data2")], "lvs": [{"name": "lv", "size": "16MiB"}]}
    target = {**ONE, "luns": [{"lun": 0, "device": "/dev/served/lv"}]}
    stack = {"iscsi_targets": [target], "volume_groups": [volume]}
    foreseen = quotas.converge([], True, **stack)
    done = quotas.converge([], **stack)
    assert (codes(done), done["actions"]) == ([], foreseen["actions"]), done
    assert quotas.converge([], **stack)["actions"] == []
    assert login(CHAP) == 0
    assert size(seen()) == 16 * MIB
    volume["lvs"][0]["size"] = "32MiB"
    assert codes(quotas.converge([], **stack)) == []
    sh(["iscsiadm", "-m", "session", "--rescan"])
    assert until(lambda: size(seen()) == 32 * MIB)
    logout()
    alone = quotas.converge([], volume_groups=[{**volume, "state": "absent"}])
    assert set(codes(alone)) == {"in_use"} and IQN in json.dumps(alone), alone
    gone = {name: [{**entry, "state": "absent"} for entry in entries] for name, entries in stack.items()}
    foreseen = quotas.converge([], True, **gone)
    done = quotas.converge([], **gone)
    assert (codes(done), done["actions"]) == ([], foreseen["actions"]), done
    assert sh(["vgs", "--noheadings"]) == "" and shown()["luns"] == []
    assert quotas.converge([], **gone)["actions"] == []


# -- drift, reboot, and others -------------------------------------------------------------------------------------


def test_drift_is_mended():
    two = {"luns": [LUN, {"lun": 1, "file": IMAGES + "/two.img", "size": "1MiB"}]}
    both(**two)
    sound = kernel()
    tpg = "/iscsi/%s/tpg1" % IQN
    for command in (
        tpg + "/luns delete lun1",
        "/backstores/fileio delete %s:lun1" % IQN,
        "%s/acls/%s set auth password=wrong" % (tpg, ME),
        "%s/acls delete %s" % (tpg, ME),
        "%s/acls/%s delete 0" % (tpg, ME),
        tpg + "/acls create %s" % OTHER,
        tpg + " set attribute generate_node_acls=1",
        tpg + " set attribute authentication=0",
        tpg + " disable",
        tpg + "/portals delete 0.0.0.0 3260",
        "%s/acls/%s set attribute authentication=0" % (tpg, ME),
        "/iscsi delete %s" % IQN,
    ):
        sh(["targetcli", *command.split(" ")])
        assert kernel() != sound, command
        done = [(each["verb"], each["port"]) for each in converge(True, **two)["actions"]]
        assert done and {port for _verb, port in done} == {"lio_target"}, (command, done)
        assert both(**two) == done, command
        mended = kernel()
        differ = {path for path in sound.keys() | mended.keys() if sound.get(path) != mended.get(path)}
        assert {path for path in differ if "/core/" not in path and "/alua" not in path} <= _links(differ), command
        assert login(CHAP) == 0, command
        logout()


def _links(paths):
    """Names of links and what counts targets: of no meaning."""
    return {path for path in paths if path.endswith(("/alias", "/rtpi", "/bulkhead", "/param/inst")) or "lun_" in path}


def test_what_a_reboot_brings_back_is_the_same():
    entry = {"luns": [LUN, {"lun": 12, "device": DISK}], "portals": ["127.0.0.1:3260", "[::1]:3260"]}
    entry["initiators"] = [{"iqn": ME, "chap": {**CHAP, **MUTUAL}}, {"iqn": OTHER, "chap": CHAP}]
    both(**entry)
    before, said = shown(), theirs()
    sh(["targetctl", "clear"])
    assert shown()["luns"] == []
    done = subprocess.run(["targetctl", "restore"], check=True, capture_output=True, timeout=120)
    assert done.stderr == b"", done
    assert shown() == before
    quiet(**entry)
    assert theirs() == said
    assert login({**CHAP, **MUTUAL}) == 0
    assert (size(seen()), size(seen(lun=12))) == (64 * MIB, size(DISK))


def test_what_targetcli_saves_is_as_declared_too():
    both()
    sh(["targetctl", "save", SAVED])
    quiet()
    larger = {**LUN, "size": "80MiB"}
    both(luns=[larger])
    sh(["targetctl", "clear"])
    sh(["targetctl", "restore"])
    quiet(luns=[larger])
    both(state="absent")


def test_a_name_that_begins_with_another_is_another():
    """The objects of both begin alike."""
    longer = {"target": IQN + ":lun7", "luns": [{"lun": 0, "file": IMAGES + "/two.img", "size": "1MiB"}]}
    longer["portals"] = ["127.0.0.1:3260"]
    answer = quotas.converge([], iscsi_targets=[{**ONE, "portals": ["127.0.0.1:3260"]}, longer])
    assert codes(answer) == [], answer
    before = picture()
    refused("in_use", luns=[LUN, {"lun": 7, "file": IMAGES + "/two.img"}], portals=["127.0.0.1:3260"])
    quiet(portals=["127.0.0.1:3260"])
    both(state="absent")
    after = picture()
    assert {path: text for path, text in before[0].items() if "lun7" in path} == {
        path: text for path, text in after[0].items() if "lun7" in path
    }
    assert [each["name"] for each in lio_saved.load(SAVED)["storage_objects"]] == [IQN + ":lun7:lun0"]


def test_others_stay_as_they_are():
    """In the kernel and, byte for byte, in the file."""
    both()
    both(state="absent")
    with open(IMAGES + "/theirs.img", "wb") as stream:
        stream.truncate(MIB)
    name = IQN + ":lun"  # as ours begin
    for command in (
        "/backstores/fileio create %s %s/theirs.img" % (name, IMAGES),
        "/iscsi create %s:0" % IQN,
        "/iscsi/%s:0/tpg1/luns create /backstores/fileio/%s" % (IQN, name),
        "/iscsi/%s:0/tpg1/acls create %s" % (IQN, ME),
        "saveconfig",
    ):
        sh(["targetcli", *command.split(" ")])
    before = picture()
    own = {"portals": ["127.0.0.1:3262"]}
    both(**own)
    after = kernel()
    assert {path for path, text in before[0].items() if after.get(path, 0) != text} == set()
    with open(SAVED, encoding="utf-8") as stream:
        saved = json.load(stream)
    assert [each["wwn"] for each in saved["targets"]] == [IQN + ":0", IQN]
    assert both(**own, state="absent") == [("remove", "lio_saved"), ("remove", "lio_target")]
    both(state="absent", target=IQN + ":none")
    assert (kernel(), picture()[1]) == before[:2]


def test_one_that_targetcli_made_is_taken_over():
    """With its names and serial numbers: initiators know it by those."""
    with open(FILE, "wb") as stream:
        stream.truncate(64 * MIB)
    for command in (
        "/backstores/fileio create disk0 %s" % FILE,
        "/iscsi create %s" % IQN,
        "/iscsi/%s/tpg1/luns create /backstores/fileio/disk0" % IQN,
    ):
        sh(["targetcli", *command.split(" ")])
    serial = theirs()["storage_objects"][0]["wwn"]
    assert both() == [("change", "lio_target"), ("create", "lio_saved")]
    assert shown()["luns"][0]["serial"] == serial
    sh(["targetctl", "clear"])
    assert both() == [("create", "lio_target")]
    assert shown()["luns"][0]["serial"] == serial


def test_a_file_that_is_not_understood_is_not_written_over():
    for text in (b"{", b"[]", b'{"targets": 1}', b'{"targets": ["a secret"]}', b"\xff"):
        with open(SAVED, "wb") as stream:
            stream.write(text)
        errors = refused("unreadable")
        assert "secret" not in json.dumps(errors)


# -- secrets, and kills --------------------------------------------------------------------------------------------


def test_a_password_is_nowhere_but_where_it_must_be():
    canary, second = ("canary-%s" % os.urandom(8).hex() for _each in range(2))
    chap = {"username": "user", "password": canary, "mutual_username": "t", "mutual_password": second}
    document = {"iscsi_targets": [{**ONE, "initiators": [{"iqn": ME, "chap": chap}]}]}
    code = (
        "import json, sys\n"
        "from ansible_collections.bulkhead.storage.tests.support import quotas\n"
        "print(json.dumps(quotas.converge([], **json.loads(sys.stdin.read()))))\n"
    )
    log = "/run/lio-strace"
    argv = ["strace", "-f", "-qq", "-s", "9999", "-v", "-e", "trace=execve,openat,mkdir,symlink,rename", "-o", log]
    argv += [sys.executable, "-c", code]
    given = [document, document, {"iscsi_targets": [{**document["iscsi_targets"][0], "initiators": []}]}]
    for each in given:
        done = subprocess.run(argv, input=json.dumps(each).encode(), check=True, capture_output=True, timeout=300)
        answer = json.loads(done.stdout)
        assert codes(answer) == [], answer
        assert not any(word.encode() in done.stdout + done.stderr for word in (canary, second))
        with open(log, encoding="utf-8", errors="replace") as stream:
            traced = stream.read()
        assert "saveconfig" in traced and canary not in traced and second not in traced
        if each is given[0]:
            files = sh(
                ["grep", "-rlE", canary + "|" + second, "/var/lib/bulkhead", "/etc", "/tmp", "/run", "/srv"], False
            )
            assert files.split() == [SAVED], "and the kernel has it"
            assert login(chap) == 0
            logout()
            subprocess.run(["iscsiadm", "-m", "node", "-o", "delete"], check=True, capture_output=True)
    files = sh(["grep", "-rlE", canary + "|" + second, "/var/lib/bulkhead", "/etc", "/tmp", "/run", "/srv"], False)
    assert files.split() == []
    assert canary not in sh(["journalctl", "-b", "--no-pager", "-q"])


def test_killed_anywhere_the_next_run_converges():
    """SIGKILL at a system call that changes something; the kernel and the file are then made as declared, or empty."""
    entry = {"luns": [LUN, {"lun": 1, "device": DISK}], "initiators": [{"iqn": ME, "chap": CHAP}, {"iqn": OTHER}]}
    entry["initiators"][1]["chap"] = CHAP
    both(**entry)
    both(**entry, state="absent")
    os.unlink(FILE)
    empty = picture()
    calls = "mkdir,rmdir,symlink,unlink,unlinkat,rename,renameat,renameat2,ftruncate,write"
    points = []  # (state, call, which one of them)
    for state in ("present", "absent"):
        _status, said = quotas.traced(lambda s=state: _quietly(s, entry), "-qq", "-e", "trace=" + calls)
        made = [match.group(1) for match in re.finditer(r"^(?:\[pid +\d+\] )?(\w+)\(", said, re.M)]
        points += [(state, call, made[: at + 1].count(call)) for at, call in enumerate(made)]
    os.unlink(FILE)
    assert picture() == empty
    print("%d points, of which %d are in absent" % (len(points), sum(state == "absent" for state, *_rest in points)))
    chosen = points if os.environ.get("BULKHEAD_SOAK") else random.Random(20261122).sample(points, 12)
    killed = 0
    for state, call, at in chosen:
        if state == "absent":
            assert codes(converge(**entry)) == []
        inject = "inject=%s:signal=SIGKILL:when=%s" % (call, at)
        status, _said = quotas.traced(lambda s=state: _quietly(s, entry), "-qq", "-e", "trace=" + calls, "-e", inject)
        killed += os.WIFSIGNALED(status)
        print("%s, %s %s: status %s" % (state, call, at, status))
        done = converge(**entry, state=state)
        assert codes(done) == [], (state, call, at, done)
        quiet(**entry, state=state)
        if state == "present":
            assert shown()["luns"][0]["serial"] == iscsi_target.serial(IQN, "0"), (call, at)
            assert [lio_saved.load(SAVED)["targets"][0]["wwn"], len(lio_saved.load(SAVED)["storage_objects"])] == [
                IQN,
                2,
            ]
            assert codes(converge(**entry, state="absent")) == []
        os.unlink(FILE)
        for hba in glob.glob(CONFIGFS + "/core/*_*"):
            assert set(os.listdir(hba)) == {"hba_info", "hba_mode"}
            os.rmdir(hba)  # serves nothing, and would be taken by the next
        assert picture() == empty, (state, call, at)
    assert killed >= len(chosen) * 3 // 4


def _quietly(state, entry):
    converge(**entry, state=state)
    return 0
