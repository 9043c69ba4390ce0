# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options, labels, features and sources that hold more than one thing: what a program or the kernel makes of them.

Each first does its harm where options are joined to one text or an argv is split from one, then meets ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.tests.support import attack, module, namespace, reconciling

TENANT = attack.TENANT
POINT = "/mnt/point"


@pytest.fixture(scope="module", autouse=True)
def point(attacked: None) -> None:
    os.mkdir(POINT)


def flags(point: str) -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", newline="\n") as stream:
        rows = [line.split(" ") for line in stream]
    return set(next(row[5] for row in rows if row[4] == point).split(","))


def room(point: str) -> int:
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize


def test_a11_more_options_in_one_value() -> None:
    """A bound, an owner, a label of a mount that would be a second option were they joined with commas."""
    data = b"size=65536,nr_inodes=" + b"64,size=1073741824"
    assert attack.libc.mount(b"naive", POINT.encode(), b"tmpfs", ctypes.c_ulong(0), data) == 0
    lost = int(room(POINT) == 1 << 30)
    attack.taken_down(POINT)
    for name in ("lower", "a", "secrets"):
        attack.make("/srv/" + name, 0)
    attack.write("/srv/secrets/key", uid=0)
    their = attack.make("/srv/a:") + "/srv"  # a tenant names its directory so that it reads as two
    os.makedirs(their + "/secrets")
    subprocess.run(
        ["mount", "-t", "overlay", "-o", "ro,lowerdir=/srv/lower:" + their + "/secrets", "x", POINT], check=True
    )
    lost += os.path.exists(POINT + "/key")
    attack.taken_down(POINT)
    port = Mounts()
    inert = 0
    for source in ("x,size=1073741824", "x\nsize=1073741824", "size=1073741824", "x\\054size=9g"):
        value = {"source": source, "fstype": "tmpfs", "o:size": 65536, "nosuid": True}
        port.put(POINT, None, port.merge(POINT, None, port.resolve(POINT, value)))
        inert += room(POINT) == 65536 and {"nosuid"} <= flags(POINT)
        attack.taken_down(POINT)
    assert inert == 4
    hostile: list[dict[str, Any]] = [{"owner": v} for v in ("0,size=1g", "0\nsize=1g", "\u00b2", "\u0663", "\0", "-1")]
    hostile += [{"mode": v} for v in ("0755,size=1g", "u+s", "0o17")]
    hostile += [{"options": [v]} for v in ("size=1g", "nr_inodes=0", "uid=0", "huge=always,size=1g", "mpol=x size=1g")]
    entries = [{"path": "/mnt/t%d" % i, "size": "64KiB", **more} for i, more in enumerate(hostile)]
    before = reconciling.snapshot(times=True)
    for check in (True, False):
        errors = attack.engine({"tmpfs": entries}, check=check)["errors"]
        assert len(errors) == len(entries) and {e["code"] for e in errors} <= {"invalid", "not_found"}, errors
    assert reconciling.snapshot(times=True) == before
    # A directory whose name is options, as a bind: all of it is a name.
    source = attack.make("/srv/b,rw:,suid=1")
    options = {"path": POINT, "source": source, "bind": True, "read_only": True, "options": ["nosuid"]}
    assert module.run("mount", options).rc == 0 and {"ro", "nosuid"} <= flags(POINT)
    assert module.run("mount", {"path": POINT, "state": "absent"}).rc == 0
    for path in (source, "/srv/a:", "/srv/a", "/srv/lower", "/srv/secrets"):
        shutil.rmtree(path)
    os.makedirs(POINT, exist_ok=True)
    print("A11: %d sources inert, %d texts refused, naive lost %d of 2, ours 0" % (inert, len(entries), lost))
    assert lost == 2


def test_a12_a_unit_of_too_long_a_name_is_refused_and_a_percent_sign_stays_in_fstab() -> None:
    """A line of fstab reads back as the very path, for libmount too. (What units are named: test_systemd_unit.)"""
    before = reconciling.snapshot(times=True)
    for name in ("n" * 250, "\u00e9" * 60):  # mnt-...mount: 260 bytes, and four for each byte of these letters
        answer = module.run("tmpfs", {"path": "/mnt/" + name, "size": "64KiB", "persist": "unit"}).result
        assert answer["code"] == "invalid" and reconciling.snapshot(times=True) == before
    count = 0
    for name in ("100%", "%n%s", "a-b", "a\\x2db", "$(id)", "n" * 250):
        path = "/mnt/" + name
        assert module.run("tmpfs", {"path": path, "size": "64KiB"}).rc == 0
        argv = ["findmnt", "--fstab", "-n", "-r", "-o", "TARGET", "--target", path]
        seen = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.strip()
        assert seen.replace(b"\\x5c", b"\\") == path.encode() and attack.mounted("/mnt") != []
        assert module.run("tmpfs", {"path": path, "state": "absent"}).rc == 0
        count += 1
    assert reconciling.snapshot()["fstab"] == before["fstab"]
    print("A12: units of more than 255 bytes refused before any change; %d paths through fstab and back" % count)


WORDS = [
    "nosuid,suid",
    "helper=x",
    "uhelper=/bin/x",
    "X-mount.mkdir",
    "x-mount.mkdir",
    "x-mount.mkdir=0777",
    "X-fstrim",
]
WORDS += ["comment=x", "context=x", 'context="a,b"', "fscontext=x", "defcontext=x", "rootcontext=x", "nobarrier"]
WORDS += ["barrier=0", "data=writeback", "x-systemd.makefs", "x-systemd.device-bound", "x-systemd.device-bound=yes"]
WORDS += ["a b", "a\nb", "a\tb", "", "=x", "a=b c", "\u00e9", "noatime\r", 'a="b', "a\\054suid"]
WORDS += ["user", "user=x", "users", "owner", "group"]
UNKNOWN = ["fsc", "offset=512", "loop=/dev/loop0", "sizelimit=1", "verity.hashdevice=/x", "bind"]
TYPES = ["fuse", "fuse.sh", "fuseblk", "ext4 suid", "../../x", "ext4,suid", "--help", "-o", "EXT4", "a\nb", "\u0435xt4"]


def test_a14_mount_options_of_a_stranger() -> None:
    """Closed sets: by our list, then by the kernel of that filesystem; nothing is left of what was refused."""
    image = namespace.image("/srv/a14.img", 16 << 20, "ext4")
    subprocess.run(["mount", "-o", "nosuid,suid", image, POINT], check=True)
    lost = int("nosuid" not in flags(POINT))
    attack.taken_down(POINT)
    subprocess.run(["mount", "-o", "X-mount.mkdir=0777", image, "/mnt/made"], check=True)
    lost += os.path.isdir("/mnt/made")
    attack.taken_down("/mnt/made")
    os.rmdir("/mnt/made")
    common = {"source": image, "fstype": "ext4"}
    entries: list[dict[str, Any]] = []
    for state in ("mounted", "present"):
        entries += [{**common, "options": [word], "state": state} for word in WORDS]
        entries += [
            {**common, "options": list(pair), "state": state} for pair in (("nosuid", "suid"), ("dev", "nodev"))
        ]
        entries += [{**common, "fstype": fstype, "state": state} for fstype in TYPES]
    for index, entry in enumerate(entries):
        entry["path"] = "/mnt/o%d" % index
    before = reconciling.snapshot()
    for check in (True, False):
        answer = attack.engine({"mounts": entries}, check=check)
        assert {e["code"] for e in answer["errors"]} == {"invalid"}
        missed = set(range(len(entries))) - {int(e["entry"].split("[")[1].split("]")[0]) for e in answer["errors"]}
        assert not missed, [entries[i] for i in missed]
    for word in UNKNOWN:  # the kernel says so, and the line of fstab goes again
        answer = attack.engine({"mounts": [{**common, "path": "/mnt/k", "options": [word]}]})
        assert answer["code"] in ("unsupported", "failed", "not_enforced", "invalid"), (word, answer)
    assert reconciling.snapshot()["mounts"] == before["mounts"] and reconciling.snapshot()["fstab"] == before["fstab"]
    os.unlink(image)
    print("A14: %d entries refused, %d left to the kernel, naive lost %d of 2" % (len(entries), len(UNKNOWN), lost))
    assert lost == 2


def test_a14_a_setuid_program_on_what_is_given_to_a_tenant() -> None:
    """Volumes and tmpfs are nosuid and nodev, read back here; the program runs, and is nobody's but the tenant's."""
    content = attack.make("/srv/content", 0)
    shutil.copy("/usr/bin/id", content + "/id")
    os.chmod(content + "/id", 0o4755)
    image = namespace.image("/srv/tools.img", 32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", content, image], check=True)
    spaces = ["setpriv", "--reuid=%d" % TENANT, "--regid=%d" % TENANT, "--clear-groups"]

    def euid(point: str) -> bytes:
        return subprocess.run([*spaces, point + "/id", "-u"], check=True, stdout=subprocess.PIPE).stdout.strip()

    subprocess.run(["mount", image, POINT], check=True)
    lost = int(euid(POINT) == b"0")
    attack.taken_down(POINT)
    options = {"path": POINT, "source": image, "fstype": "ext4", "options": ["nosuid", "nodev"], "persist": "none"}
    assert module.run("mount", options).rc == 0
    ran = [euid(POINT)]
    assert flags(POINT) >= {"nosuid", "nodev"}
    assert module.run("mount", {"path": POINT, "state": "absent", "persist": "none"}).rc == 0
    attached = []
    document: dict[str, Any] = {
        "pools": [{"name": "img", "backend": "loop", "config": {"path": "/srv/pool-img"}}],
        "tmpfs": [{"path": "/mnt/v/tmpfs", "size": "4MiB", "noexec": False, "mode": "0755"}],
        "volumes": [
            {"name": "a", "size": "16MiB", "pool": "img", "state": "attached", "target": "/mnt/v/loop", "job": "j"},
            {"name": "b", "size": "16MiB", "state": "attached", "target": "/mnt/v/plain", "job": "j"},
            {"name": "c", "size": "4MiB", "type": "memory", "state": "attached", "target": "/mnt/v/memory", "job": "j"},
        ],
    }
    assert attack.engine(document)["errors"] == []
    for point in attack.mounted("/mnt/v"):
        attached.append(point)
        assert flags(point) >= {"nosuid", "nodev"}, point
        os.chmod(point, 0o755)
        shutil.copy("/usr/bin/id", point + "/id")
        os.chmod(point + "/id", 0o4755)
        with contextlib.suppress(PermissionError, subprocess.CalledProcessError):  # noexec
            ran.append(euid(point))
        os.unlink(point + "/id")
    gone = {name: [{**entry, "state": "absent"} for entry in entries] for name, entries in document.items()}
    gone["volumes"] = [{"name": name, "state": "absent", "force": True} for name in "abc"]
    gone["pools"] = [{"name": "img", "state": "absent", "confirm": "img"}]
    assert attack.engine(gone)["errors"] == []
    assert attack.mounted("/mnt/v") == []
    shutil.rmtree(content)
    os.unlink(image)
    print(
        "A14 setuid: %d mounts read back, %d runs of the program, naive root %d of 1, ours 0"
        % (len(attached) + 1, len(ran), lost)
    )
    assert lost and len(attached) == 4 and len(ran) >= 2 and set(ran) == {str(TENANT).encode()}


def strangers() -> list[tuple[str, dict[str, Any]]]:
    """Kinds and options in which a text begins like an option or holds several words."""
    image = {"device": "/srv/a15.img", "fstype": "ext4"}
    found: list[tuple[str, dict[str, Any]]] = []
    for text in ("--help", "-F", "-o", "x -d /etc", "$(id)", "`id`", "a;b", "a\nb", "-", "a\0b", "x" * 17, "\u202e"):
        found.append(("filesystems", {**image, "label": text}))
        found.append(("filesystems", {**image, "uuid": text}))
        found.append(("filesystems", {**image, "features": [text]}))
        if text not in ("a;b", "$(id)", "`id`", "x" * 17):
            found.append(("filesystems", {**image, "device": text}))
            found.append(("pools", {"name": "p", "backend": "loop", "config": {"path": text}}))
    for text in (
        "^has_journal",
        "64bit,^metadata_csum",
        "root_owner=1000:1000",
        "-d",
        "encoding=utf8",
        "mmp -F",
        "MMP",
    ):
        found.append(("filesystems", {**image, "features": [text]}))
    for text in ("-o", "--bind", "h:/x -o suid", "1.2.3.4,1 -I", "iqn -o", "a\\040b", "LABEL=..", "#x"):
        found.append(("mounts", {"path": POINT, "source": text, "fstype": "ext4"}))
    return found


def test_a15_what_begins_like_an_option_is_none() -> None:
    """Devices, labels, UUIDs, sources. iSCSI and NFS are not here yet; neither is anything that asks a remote host."""
    namespace.image("/srv/a15.img", 64 << 20)
    before = reconciling.snapshot(times=True)
    asked = 0
    for check in (True, False):
        for kind, entry in strangers():
            answer = attack.engine({kind: [entry]}, check=check)
            assert answer["code"] in ("invalid", "not_found", "unstable_device"), (kind, entry, answer)
            assert all(text.isprintable() for text in (answer["errors"][0]["message"], answer["errors"][0]["hint"]))
            asked += 1
    assert reconciling.snapshot(times=True) == before
    label = "x -d /srv/images"  # an argv that is split from one text
    argv = shlex.split("mkfs.ext4 -q -F -L %s /srv/a15.img" % label)
    subprocess.run(argv, check=True)
    listed = subprocess.run(
        ["debugfs", "-R", "ls", "/srv/a15.img"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    lost = b"tools.img" in listed.stdout
    os.unlink("/srv/a15.img")
    print("A15: %d entries refused, naive lost %d of 1, ours 0" % (asked, lost))
    assert lost


def test_a16_mkfs_is_never_forced_and_gets_only_words_of_ours(tmp_path: Path) -> None:
    """Its arguments as the kernel saw them, by strace(1)."""
    log, wrapper = tmp_path / "log", tmp_path / "python"
    wrapper.write_text('#!/bin/sh\nexec strace -f -qq -s 4096 -e trace=execve -o %s %s "$@"\n' % (log, sys.executable))
    wrapper.chmod(0o755)
    seen = []
    for fstype, size, more in (
        ("ext4", 64, {"label": "a b", "features": ["mmp"], "quota": ["project"]}),
        ("xfs", 320, {"label": "a_b", "features": ["bigtime"]}),
        ("btrfs", 128, {"label": "a b", "features": ["no-holes"]}),
        ("vfat", 16, {"label": "AB"}),
        ("swap", 16, {"label": "ab"}),
    ):  # fmt: skip
        image = namespace.image("/srv/a16.img", size << 20)
        options = {"device": image, "fstype": fstype, **more}
        answer = module.run("filesystem", options, python=str(wrapper))
        assert answer.rc == 0, answer.result
        calls = [
            line.split("execve(", 1)[1] for line in log.read_text().splitlines() if " = 0" in line and "/mk" in line
        ]
        assert len(calls) == 1
        argv = calls[0].split("[", 1)[1].split("], ")[0].split(", ")
        assert not {'"-F"', '"-f"', '"-d"', '"--force"', '"-c"'} & set(argv), argv
        assert "/sh" not in argv[0] and argv[-1].startswith('"/proc/') and image not in calls[0]
        seen.append(argv[0])
        other = {"device": image, "fstype": "vfat" if fstype == "ext4" else "ext4"}
        again = module.run("filesystem", other)
        assert again.result["code"] == "not_blank", "no option formats what is there"
        os.unlink(image)
    print("A16: %d programs, none forced, no word of a stranger's: %s" % (len(seen), " ".join(seen)))
    assert len(seen) == 5
