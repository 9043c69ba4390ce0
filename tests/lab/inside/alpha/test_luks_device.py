# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS2 on disks of a guest. cryptsetup, dmsetup, blkid, findmnt and sha256sum tell every outcome."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
NAME, MAP = "secret", "/dev/mapper/secret"
CHEAP = {"pbkdf": "argon2id", "pbkdf_iterations": 4, "pbkdf_memory": "32MiB"}  # or an emulated guest takes 10 s each
# Before it is blank, its private mapping left open; and when only the catalogue lags behind.
POINTS = [("open", True), ("config", True)]
SIZE, HEAD, EDGE = 4 << 30, 16 << 20, 4 << 20


def clean():
    for path in sh(["findmnt", "-nro", "TARGET"]).split():
        if path.startswith("/mnt/luks"):
            sh(["umount", path])
    for name in sh(["dmsetup", "ls", "--target", "crypt"]).split("\n"):
        if "\t" in name:
            sh(["cryptsetup", "close", name.split("\t")[0]])
    zeroed(DISK)
    for file in ("/etc/crypttab",):
        if os.path.exists(file):
            os.unlink(file)


def zeroed(device):
    for at, count in ((0, HEAD), (SIZE - EDGE, EDGE)):
        places = ["seek=%d" % (at >> 20), "count=%d" % (count >> 20)]
        sh(["dd", "if=/dev/zero", "of=" + device, "bs=1M", "conv=fsync", *places])


@pytest.fixture
def keys():
    """Two key files, on a disk that is blank, with a host that knows nothing."""
    clean()
    with quotas.own_catalogue():
        for name in ("one", "two"):
            with open("/run/key-" + name, "wb") as stream:
                stream.write(os.urandom(32))
        yield "/run/key-one", "/run/key-two"
        clean()


def plain(**options):
    """Of what somebody else made."""
    return {"device": DISK, "name": NAME, "key_file": "/run/key-one", **options}


def entry(**options):
    return {"device": DISK, "name": NAME, "key_file": "/run/key-one", **CHEAP, **options}


def luks(check=False, **options):
    return converge([], check, luks_devices=[entry(**options)])


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def good(answer):
    assert codes(answer) == [], json.dumps(answer["refused"] + answer["errors"], default=repr)
    return answer["actions"]


def told(actions):
    return [(a["port"], a["verb"], a["risk"]) for a in actions]


def token(answer):
    (error,) = answer["refused"] + answer["errors"]
    assert error["code"] == "not_blank", answer
    return error["details"]["wipe_token"]


def opens(key):
    return not subprocess.run(
        ["cryptsetup", "open", "--test-passphrase", "--key-file", key, DISK], check=False
    ).returncode


def dump():
    return json.loads(sh(["cryptsetup", "luksDump", "--dump-json-metadata", DISK]))


def blank():
    """The header with its key slots, and the end. What lies between is noise without a key."""
    ends = ((0, HEAD), (SIZE - EDGE, EDGE))
    argv = ["cmp", DISK, "/dev/zero"]
    return all(subprocess.run([*argv, "-i", "%d:0" % at, "-n", str(n)], check=False).returncode == 0 for at, n in ends)


def digest():
    """Of the header with its key slots, and of the end."""
    found = []
    with open(DISK, "rb") as stream:
        for at, count in ((0, HEAD + EDGE), (SIZE - EDGE, EDGE)):
            stream.seek(at)
            found.append(hashlib.sha256(stream.read(count)).hexdigest())
    return found


def theirs(key="/run/key-one", luks="luks2"):
    """Somebody made it with another program."""
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    sh(["cryptsetup", "luksFormat", "-q", "--type", luks, *cheap, "--key-file", key, DISK])


def unchanged(expected, **lists):
    """Refused with these codes in check mode and in earnest, and not a byte of the device is another one."""
    before, said = digest(), None
    for check in (True, False):
        said = converge([], check, **lists)
        assert codes(said) == expected, (check, json.dumps(said["refused"] + said["errors"]))
    assert digest() == before
    assert not os.path.exists(MAP), "what was opened to look is closed again"
    return said


def programs(document):
    """What a quiet run starts, by strace(1)."""
    status, text = quotas.traced(lambda: len(good(converge([], **document))), "-e", "trace=execve")
    assert status == 0, "it is not quiet"
    return [line for line in text.splitlines() if "execve(" in line]


def test_from_a_blank_disk_to_a_mount_and_back(keys):
    mount = "/mnt/luks"
    document = {
        "mounts": [{"path": mount, "source": MAP, "fstype": "ext4", "persist": "none"}],
        "filesystems": [{"device": MAP, "fstype": "ext4", "label": "vault"}],
        "luks_devices": [entry()],
    }
    foreseen = good(converge([], True, **document))
    ports = ["luks", "mapping", "crypttab", "superblock", "node", "mount"]
    assert [a["port"] for a in foreseen if a["port"] != "node"] == [p for p in ports if p != "node"], foreseen
    assert {a["before"] for a in foreseen} == {None}, "nothing lies behind a door that cannot be foreseen"
    assert blank(), "a prediction changes nothing"
    done = converge([], **document)
    assert good(done) == foreseen
    assert sh(["findmnt", "-no", "FSTYPE,SOURCE", mount]).split() == ["ext4", MAP]
    assert sh(["blkid", "-p", "-o", "value", "-s", "TYPE", DISK]).strip() == "crypto_LUKS"
    assert sh(["blkid", "-p", "-o", "value", "-s", "LABEL", MAP]).strip() == "vault"
    head = dump()
    assert head["keyslots"]["0"]["kdf"]["type"] == "argon2id" and opens(keys[0]) and not opens(keys[1])
    assert "(no subsystem)" in sh(["cryptsetup", "luksDump", DISK]), "the private mark is gone"
    uuid = sh(["cryptsetup", "luksUUID", DISK]).strip()
    backup = "/var/lib/bulkhead/luks/%s.img" % uuid
    assert oct(os.stat(backup).st_mode & 0o777) == "0o600"
    assert sh(["cryptsetup", "luksUUID", backup]).strip() == uuid
    with open("/etc/crypttab", encoding="utf-8") as stream:
        assert stream.read() == "%s %s /run/key-one luks\n" % (NAME, DISK)

    assert programs(document) == [], "a quiet run starts no program"

    gone = {name: [{**each, "state": "absent"} for each in rows] for name, rows in document.items()}
    refused = converge([], **gone)
    tokens = {e["entry"].split("[")[0]: e["details"]["wipe_token"] for e in refused["refused"]}
    assert set(codes(refused)) == {"not_blank"} and set(tokens) == {"filesystems", "luks_devices"}
    assert sh(["findmnt", "-no", "SOURCE", mount]).strip() == MAP, "nothing is torn down before all is agreed to"
    for name, consent in tokens.items():
        gone[name][0]["wipe_token"] = consent
    foreseen = good(converge([], True, **gone))
    done = converge([], **gone)
    assert good(done) == foreseen
    assert blank() and not os.path.exists(MAP) and not os.path.exists(backup)
    assert sh(["blkid", "-p", DISK], check=False) == ""
    assert good(converge([], **gone)) == []


def test_nothing_of_somebody_else_is_overwritten(keys):
    """D6, D9: ext4, bytes without a signature, a LUKS header that is damaged; a stale token is none."""
    sh(["mkfs.ext4", "-q", "-E", "nodiscard", DISK])
    first = token(unchanged(["not_blank"], luks_devices=[entry()]))
    sh(["e2label", DISK, "other"])
    assert token(unchanged(["not_blank"], luks_devices=[entry(wipe_token=first)])) != first
    assert good(luks(state="absent", persist="none")) == [], "what is no LUKS is nobody's business who wants none"
    clean()
    with open(DISK, "r+b") as stream:
        stream.seek(SIZE - 5000)
        stream.write(b"a database that starts with nothing")
    token(unchanged(["not_blank"], luks_devices=[entry()]))
    theirs(luks="luks1")
    unchanged(["unsupported"], luks_devices=[plain()])
    theirs()
    for at in (4200, 16384 + 4200):
        with open(DISK, "r+b") as stream:
            stream.seek(at)
            stream.write(b"\0" * 64)
    unchanged(["unreadable"], luks_devices=[plain()])
    consent = token(luks(state="absent", persist="none"))
    assert told(good(luks(state="absent", persist="none", wipe_token=consent))) == [("luks", "remove", "destroys")]


def test_what_cannot_be_read_is_not_blank_and_what_the_host_needs_is_left_alone(keys):
    sh(["dmsetup", "create", "bad", "--table", "0 262144 error"])
    try:
        for check in (True, False):
            assert codes(luks(check, device="/dev/mapper/bad")) == ["unreadable"]
    finally:
        sh(["dmsetup", "remove", "bad"])
    root = sh(["findmnt", "-nvo", "SOURCE", "/"]).strip()
    assert codes(luks(device=root))[0] == "protected"
    assert "unstable_device" in codes(luks(device=os.path.realpath(DISK)))
    assert codes(luks(key_file="/run/none")) == ["not_found"]
    ports = _kinds.ports(["luks_devices"])
    ports["luks"].search = ["/nowhere"]
    assert set(codes(converge([], True, ports=ports, luks_devices=[entry()]))) == {"missing_tool"}
    assert blank()


def test_behind_a_door_is_looked_at_before_anything_is_done(keys):
    theirs()
    wrong = unchanged(["denied"], luks_devices=[plain(key_file="/run/key-two")])
    assert "key" in wrong["refused"][0]["message"]
    sh(["cryptsetup", "open", "--key-file", keys[0], DISK, NAME])
    sh(["mkfs.ext4", "-q", "-L", "theirs", "-E", "nodiscard", MAP])
    sh(["cryptsetup", "close", NAME])
    stack = {"luks_devices": [plain()], "filesystems": [{"device": MAP, "fstype": "xfs"}]}
    foreseen = good(converge([], True, **stack))
    assert [(a["port"], a["before"]) for a in foreseen if a["port"] == "superblock"] == [("superblock", "UNKNOWN")]
    before = digest()
    assert codes(converge([], **stack)) == ["not_blank"]
    assert digest() == before and not os.path.exists(MAP) and not os.path.exists("/etc/crypttab")
    stack["filesystems"][0]["fstype"] = "ext4"
    stack["mounts"] = [{"path": "/mnt/luks", "source": MAP, "fstype": "ext4", "persist": "none"}]
    assert good(converge([], **stack)) != []
    assert sh(["blkid", "-p", "-o", "value", "-s", "LABEL", MAP]).strip() == "theirs"
    # in use it is not closed, nor erased
    for state in ("closed", "absent"):
        error = converge([], luks_devices=[plain(state=state)])["refused"][0]
        assert error["code"] == "in_use" and "/mnt/luks" in error["message"], error
    sh(["umount", "/mnt/luks"])
    sh(["dmsetup", "create", "above", "--table", "0 2048 linear %s 0" % MAP])
    try:
        (error,) = luks(state="closed")["refused"]
        assert error["code"] == "in_use" and "/dev/mapper/above" in error["message"], error
    finally:
        sh(["dmsetup", "remove", "above"])
    assert told(good(luks(state="closed"))) == [("mapping", "remove", "forward")]
    assert not os.path.exists(MAP) and opens(keys[0])


def test_a_mapping_grows_and_lets_discards_pass(keys):
    theirs()
    sh(["cryptsetup", "open", "--key-file", keys[0], DISK, NAME])
    sh(["cryptsetup", "resize", "--key-file", keys[0], "--size", "200000", NAME])
    answer = converge([], luks_devices=[plain(discards=True, nofail=True)])
    assert told(good(answer)) == [("mapping", "change", "forward"), ("crypttab", "create", "reversible")]
    assert sh(["blockdev", "--getsize64", MAP]).strip() == str(SIZE - HEAD)
    assert "allow_discards" in sh(["dmsetup", "table", NAME])
    assert "allow-discards" in sh(["cryptsetup", "luksDump", DISK])
    with open("/etc/crypttab", encoding="utf-8") as stream:
        assert stream.read().split()[3] == "luks,discard,nofail"
    assert good(converge([], luks_devices=[plain(discards=True, nofail=True)])) == []
    assert told(good(converge([], luks_devices=[plain(discards=False)])))[0] == (
        "mapping",
        "change",
        "reversible",
    )
    assert "allow" not in sh(["dmsetup", "table", NAME]) + sh(["cryptsetup", "luksDump", DISK])


def test_a_key_is_replaced_whenever_the_run_dies(keys):
    """After each program that changes the header: some key opens it, and the next run goes on."""
    theirs()
    with open(DISK, "rb") as stream:
        head = stream.read(HEAD)
    wanted = plain(new_key_file=keys[1], state="present", pbkdf="pbkdf2", pbkdf_iterations=1000)  # as ``theirs``
    foreseen = good(converge([], True, luks_devices=[wanted]))
    assert told(foreseen) == [("luks", "change", "forward"), ("crypttab", "create", "reversible")]
    assert (foreseen[0]["before"]["opened_by"], foreseen[0]["after"]["opened_by"]) == ("key_file", "new_key_file")
    # before the next one is the same as after the last
    for verb in ("luksAddKey", "luksKillSlot", "token") if "BULKHEAD_SOAK" in os.environ else ("luksKillSlot",):
        with open(DISK, "r+b") as stream:
            stream.write(head)
            os.fsync(stream.fileno())
        killed({"luks_devices": [wanted]}, verb, True)
        assert any(map(opens, keys)), verb
        good(converge([], luks_devices=[wanted]))
        assert (opens(keys[0]), opens(keys[1])) == (False, True), verb
    assert good(converge([], luks_devices=[wanted])) == []
    (backup,) = os.listdir("/var/lib/bulkhead/luks")
    argv = [
        "cryptsetup",
        "open",
        "--test-passphrase",
        "--header",
        "/var/lib/bulkhead/luks/" + backup,
        DISK,
        "--key-file",
    ]
    assert [subprocess.run([*argv, key], check=False).returncode == 0 for key in keys] == [False, True]
    assert programs({"luks_devices": [wanted]}) == []
    os.unlink(keys[0])
    assert good(converge([], luks_devices=[wanted])) == [], "the old key's file may go"
    os.utime(keys[1])
    assert good(converge([], luks_devices=[wanted])) == [], "tried again, and found to be as declared"


def killed(document, verb, late):
    """A run that is killed at its first program of that name: before it starts, or when it has ended."""
    pid = os.fork()
    if not pid:
        status = 7
        try:
            ports = _kinds.ports(list(document))

            def run(argv, stdin=b"", timeout=60.0):
                mine = argv[1] == verb
                if mine and not late:
                    os.kill(os.getpid(), signal.SIGKILL)
                said = program.execute(argv, stdin, timeout)
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)
                return said

            ports["luks"].run = ports["mapping"].run = run
            converge([], ports=ports, **document)
            status = 8
        finally:
            os._exit(status)
    _pid, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), (verb, late, os.waitstatus_to_exitcode(status))


def test_disks_that_do_not_stand_on_each_other_are_made_at_the_same_time(keys):
    ports = _kinds.ports(["luks_devices"])
    both = threading.Barrier(2, timeout=120.0)  # who comes alone waits in vain, and fails

    def run(argv, stdin=b"", timeout=60.0):
        if argv[1] == "luksFormat":
            both.wait()
        return program.execute(argv, stdin, timeout)

    ports["luks"].run = run
    other = DISK[:-1] + "2"
    zeroed(other)  # it may bear what another test has left
    rows = [entry(persist="none", state="present"), entry(persist="none", state="present", device=other, name="two")]
    try:
        good(converge([], ports=ports, workers=2, luks_devices=rows))
        assert not both.broken
    finally:
        sh(["cryptsetup", "erase", "-q", other], check=False)
        zeroed(other)


@pytest.mark.parametrize("point", POINTS)
def test_a_device_is_made_whenever_the_run_dies(keys, point):
    verb, late = point
    wanted = entry(persist="none")
    killed({"luks_devices": [wanted]}, verb, late)
    good(converge([], luks_devices=[wanted]))
    assert opens(keys[0]) and os.path.exists(MAP)
    assert "(no subsystem)" in sh(["cryptsetup", "luksDump", DISK])
    assert sh(["dmsetup", "ls", "--target", "crypt"]).count("\t") == 1, "the private mapping is gone"
    argv = ["cmp", "-n", str(EDGE), MAP, "/dev/zero"]
    assert subprocess.run(argv, check=False).returncode == 0, "it reads as blank"
    assert good(converge([], luks_devices=[wanted])) == []


def test_a_group_stands_on_it_and_is_found_again_when_all_was_closed(keys):
    mount, lv = "/mnt/luks", "/dev/vault/data"
    document = {
        "luks_devices": [entry(persist="none")],
        "volume_groups": [{"vg": "vault", "pvs": [MAP], "lvs": [{"name": "data", "size": "64MiB"}]}],
        "filesystems": [{"device": lv, "fstype": "ext4"}],
        "mounts": [{"path": mount, "source": lv, "fstype": "ext4", "persist": "none"}],
    }
    try:
        foreseen = good(converge([], True, **document))
        assert "UNKNOWN" not in [a["before"] for a in foreseen], "all of it is made, so all of it is known"
        assert good(converge([], **document)) == foreseen
        assert sh(["findmnt", "-no", "FSTYPE", mount]).strip() == "ext4"
        assert sh(["pvs", "--noheadings", "-o", "pv_name"]).split() == [MAP]
        assert good(converge([], **document)) == []
        sh(["umount", mount])
        sh(["vgchange", "-qan", "vault"])
        sh(["cryptsetup", "close", NAME])
        good(converge([], **document))  # as after a boot
        assert sh(["findmnt", "-no", "FSTYPE", mount]).strip() == "ext4"
        gone = {name: [{**each, "state": "absent"} for each in rows] for name, rows in document.items()}
        for entries, error in ((gone[e["entry"].split("[")[0]], e) for e in converge([], **gone)["refused"]):
            assert error["code"] == "not_blank", error
            consent = error["details"]["wipe_token"]
            entries[0]["wipe_token"] = [consent] if entries is gone["volume_groups"] else consent
        good(converge([], **gone))
        assert blank() and not os.path.exists(MAP) and sh(["pvs", "--noheadings"]) == ""
    finally:
        subprocess.run(["umount", mount], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["vgchange", "-qan", "vault"], check=False, stderr=subprocess.DEVNULL)


def test_a_key_is_seen_by_nobody(keys):
    """In no argument of any program, no file, no result, and not in the journal of the host."""
    canary = "canary-%s" % os.urandom(8).hex()
    document = {"luks_devices": [{"device": DISK, "name": NAME, "passphrase": canary, **CHEAP}]}
    code = (
        "import json, sys\n"
        "from ansible_collections.bulkhead.storage.tests.support.quotas import converge\n"
        "print(json.dumps(converge([], **json.load(sys.stdin)), default=repr))\n"
    )
    log = "/run/luks-strace"
    argv = ["strace", "-f", "-qq", "-s", "99999", "-v", "-e", "trace=execve,open,openat,rename,symlink", "-o", log]
    done = subprocess.run(
        [*argv, "python3", "-c", code], input=json.dumps(document).encode(), capture_output=True, check=True
    )
    assert codes(json.loads(done.stdout.splitlines()[-1])) == [] and os.path.exists(MAP)
    with open(log, encoding="utf-8", errors="replace") as stream:
        traced = stream.read()
    assert "luksFormat" in traced and canary not in traced
    assert canary.encode() not in done.stdout + done.stderr
    assert canary not in sh(["journalctl", "-b", "--no-pager", "-q"])
    found = sh(["grep", "-rlF", canary, "/var/lib/bulkhead", "/run", "/etc", "/tmp"], check=False)
    assert found == ""
