# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS2 on disks of a guest. cryptsetup, dmsetup, blkid, findmnt and sha256sum tell every outcome."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
NAME, MAP = "secret", "/dev/mapper/secret"
CHEAP = {"pbkdf": "argon2id", "pbkdf_iterations": 4, "pbkdf_memory": "32MiB"}  # or an emulated guest takes 10 s each
SIZE, HEAD, EDGE = 4 << 30, 16 << 20, 4 << 20


def clean():
    for path in sh(["findmnt", "-nro", "TARGET"]).split():
        if path.startswith("/mnt/luks"):
            sh(["umount", path])
    for name in sh(["dmsetup", "ls", "--target", "crypt"]).split("\n"):
        if "\t" in name:
            sh(["cryptsetup", "close", name.split("\t")[0]])
    for at, count in ((0, HEAD), (SIZE - EDGE, EDGE)):
        places = ["seek=%d" % (at >> 20), "count=%d" % (count >> 20)]
        sh(["dd", "if=/dev/zero", "of=" + DISK, "bs=1M", "conv=fsync", *places])
    for file in ("/etc/crypttab",):
        if os.path.exists(file):
            os.unlink(file)


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


def programs(document):
    """What a run of its own process starts, by strace(1), and what it says."""
    log = "/run/luks-strace"
    code = (
        "import json, sys\n"
        "from ansible_collections.bulkhead.storage.tests.support.quotas import converge\n"
        "print(json.dumps(converge([], **json.loads(sys.argv[1])), default=repr))\n"
    )
    argv = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", log, "python3", "-c", code, json.dumps(document)]
    said = json.loads(sh(argv).splitlines()[-1])
    with open(log, encoding="utf-8") as stream:
        return said, [line for line in stream if "execve(" in line][1:]


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

    said, started = programs(document)
    assert (codes(said), said["actions"], started) == ([], [], []), "a quiet run starts no program"

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
