# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What destroyed data elsewhere does not here: D1 to D11 are defects of other modules, I1 to I10 what must always hold.

Each row is refused with its code in check mode and in earnest, and the SHA-256 of the whole device is what it was. The
last test removes each guard in turn, and a row must notice.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.tests.support import guards, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh

SIZE, MIB, EDGE = 32 << 20, 1 << 20, 4 << 20
KEY, OTHER_KEY, MAP, VG = "/run/torn-key", "/run/torn-key-2", "/dev/mapper/torn", "torn"
BLKRRPART = 0x125F  # linux/fs.h
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
CHEAP = {"pbkdf": "pbkdf2", "pbkdf_iterations": 1000}
TESTS = Path(__file__).resolve().parents[4]

# Rows that are tests elsewhere already: what, and which test.
ELSEWHERE = [
    ("D5 a table of somebody's", "tests/lab/inside/alpha/test_block_device.py", "test_what_others_made_stays"),
    ("D8 snapshots of a volume", "tests/integration/test_snapshots.py",
     "test_a_volume_does_not_go_before_its_snapshots"),
    ("D8 a pool of thin volumes", "tests/lab/inside/alpha/test_volume_group.py", "test_a_thin_pool"),
    ("I4 of another host", "tests/lab/inside/alpha/test_volume_group.py", "test_what_is_not_blank_is_not_taken"),
    ("I5 a filesystem", "tests/unit/plugins/module_utils/_adapters/test_mkfs.py",
     "test_ext4_shrinks_offline_to_what_it_can_hold"),
    ("I9 a quota that nothing enforces", "tests/lab/inside/alpha/test_quota.py", "test_where_nothing_enforces"),
    ("I8 fstab", "tests/unit/plugins/module_utils/_adapters/test_fstab.py", ""),
    ("I8 crypttab", "tests/unit/plugins/module_utils/_adapters/test_crypttab.py", ""),
    ("a closed LV", "tests/lab/inside/alpha/test_volume_group.py",
     "test_a_closed_volume_is_opened_and_looked_at_before_anything_is_done"),
    ("a closed LUKS", "tests/lab/inside/alpha/test_luks_device.py",
     "test_behind_a_door_is_looked_at_before_anything_is_done"),
    ("a LUN that an initiator uses", "tests/lab/inside/server/test_iscsi_target.py",
     "test_nothing_goes_from_under_who_uses_it"),
    ("a device that is served", "tests/lab/inside/server/test_iscsi_target.py",
     "test_a_stack_goes_up_and_down_in_one_call"),
    ("a closed partition", "tests/lab/inside/alpha/test_block_device.py",
     "test_a_partition_the_kernel_was_not_told_of_is_a_door"),
]  # fmt: skip


# -- the device ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def device() -> Iterator[str]:
    """32 MiB, so that all of it can be read."""
    with quotas.own_catalogue():
        image = "/run/torn.img"
        with open(image, "wb") as stream:
            stream.truncate(SIZE)
        for path in (KEY, OTHER_KEY):
            Path(path).write_bytes(os.urandom(32))
        loop = sh(["losetup", "--partscan", "--find", "--show", image]).strip()
        try:
            yield loop
        finally:
            clean(loop)
            fill(loop, {})
            sh(["losetup", "-d", loop])
            os.unlink(image)


def clean(dev: str) -> None:
    """Nothing stands on it, nothing of it is remembered."""
    with open("/proc/mounts", encoding="ascii") as stream:
        for _mount in re.findall(" /mnt/torn ", stream.read()):
            sh(["umount", "/mnt/torn"])
    with open("/proc/swaps", encoding="ascii") as stream:
        for line in stream.read().splitlines()[1:]:
            sh(["swapoff", line.split()[0]])
    for _turn in range(3):
        for name in [name for name in os.listdir("/dev/mapper") if name.startswith("torn")]:
            subprocess.run(["dmsetup", "remove", "--retry", name], check=False, capture_output=True)
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        if "torn" in file.read_text("utf-8") and "/dev/" + file.parts[3] != dev:
            subprocess.run(["losetup", "-d", "/dev/" + file.parts[3]], check=False, capture_output=True)
    for path in Path("/var/lib/bulkhead").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(dev: str, chunks: dict[int, bytes]) -> None:
    with open(dev, "r+b", buffering=0) as stream:
        data = bytearray(SIZE)
        for at, chunk in chunks.items():
            data[at : at + len(chunk)] = chunk
        stream.write(data)
        os.fsync(stream.fileno())
        with contextlib.suppress(OSError):
            fcntl.ioctl(stream.fileno(), BLKRRPART)
    sh(["udevadm", "settle"])


def digest(dev: str) -> str:
    with open(dev, "rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what the disk holds, not what we have read
        return hashlib.sha256(stream.read()).hexdigest()


def poke(dev: str, at: int, data: bytes) -> None:
    with open(dev, "r+b", buffering=0) as stream:
        stream.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        stream.write(data)
        os.fsync(stream.fileno())


def by_sfdisk(dev: str, script: str) -> None:
    subprocess.run(["sfdisk", "-q", dev], input=script.encode(), check=True, capture_output=True)


def theirs_in_luks(dev: str) -> None:
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    sh(["cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, "--key-file", KEY, dev])


def a_group(dev: str) -> None:
    sh(["vgcreate", "-qq", "--setautoactivation", "n", VG, dev])
    sh(["lvcreate", "-qq", "-Wn", "-L", "12m", "-n", "home", VG])
    sh(["mkfs.ext4", "-qF", "/dev/torn/home"])
    sh(["vgchange", "-qqan", VG])


def in_part(dev: str) -> None:
    sh(["udevadm", "settle"])
    sh(["mkfs.ext4", "-qF", dev + "p1"])


def head_of_xfs(dev: str) -> None:
    image = "/run/torn-xfs"
    with open(image, "wb") as stream:
        stream.truncate(300 * MIB)
    sh(["mkfs.xfs", "-q", image])
    with open(image, "rb") as stream:
        poke(dev, 0, stream.read(512))
    os.unlink(image)


def backup_alone(dev: str) -> None:
    by_sfdisk(dev, "label: gpt\nsize=8MiB\n")
    poke(dev, 0, bytes(34 * 512))


# What somebody else's program, or somebody, has written. Made once, written again for each row.
CONTENTS: dict[str, Callable[[str], Any]] = {
    "nothing": lambda dev: None,
    "ext4": lambda dev: sh(["mkfs.ext4", "-qF", "-L", "theirs", dev]),
    "swap": lambda dev: sh(["mkswap", "-q", dev]),
    "MBR": lambda dev: by_sfdisk(dev, "label: dos\nsize=8MiB\n"),
    "GPT": lambda dev: by_sfdisk(dev, 'label: gpt\nsize=8MiB, name="theirs", type=linux\n'),
    "backup GPT": backup_alone,
    "XFS and ext4": lambda dev: (sh(["mkfs.ext4", "-qF", dev]), head_of_xfs(dev)),
    "damaged XFS": lambda dev: (head_of_xfs(dev), poke(dev, 200, b"\xff")),
    "physical volume": lambda dev: sh(["pvcreate", "-qq", dev]),
    "group": a_group,
    "LUKS": theirs_in_luks,
    "damaged LUKS": lambda dev: (theirs_in_luks(dev), poke(dev, 4200, bytes(64)), poke(dev, 16384 + 4200, bytes(64))),
    "LUKS of another host": lambda dev: (
        theirs_in_luks(dev),
        sh(["cryptsetup", "config", "--subsystem", "bulkhead:0011223344556677", dev]),
    ),
    "GPT with ext4": lambda dev: (by_sfdisk(dev, "label: gpt\nsize=8MiB\n"), in_part(dev)),
    "bare group": lambda dev: sh(["vgcreate", "-qq", "--setautoactivation", "n", VG, dev]),
    "second LUKS header": lambda dev: (theirs_in_luks(dev), poke(dev, 0, bytes(4096))),
    "bytes at the head": lambda dev: poke(dev, EDGE - 9, b"a record"),
    "bytes at the end": lambda dev: poke(dev, -EDGE, b"a record"),
}
_made: dict[str, tuple[dict[int, bytes], str]] = {}


def holds(dev: str, content: str) -> str:
    """Have it hold that, and the SHA-256 of it."""
    clean(dev)
    if content not in _made:
        fill(dev, {})
        CONTENTS[content](dev)
        with open(dev, "rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            parts = {at: stream.read(65536) for at in range(0, SIZE, 65536)}
        _made[content] = {at: part for at, part in parts.items() if any(part)}, digest(dev)
    chunks, known = _made[content]
    fill(dev, chunks)
    return known


# -- what is declared ----------------------------------------------------------------------------------------------


def declared(kind: str, dev: str, tokens: Any = (), **more: Any) -> dict[str, Any]:
    one = (list(tokens) or [None])[0]
    if kind == "block_device":
        rows = {"block_devices": [{"device": dev, "label": "gpt", "wipe_token": list(tokens), **more}]}
    elif kind == "partition":
        rows = {"block_devices": [{"device": dev, "partitions": [{"number": 1}], "wipe_token": list(tokens), **more}]}
    elif kind == "luks_device":
        own = {} if more.get("state") == "absent" else {"key_file": KEY}
        rows = {"luks_devices": [
            {"device": dev, "name": "torn", "persist": "none", "wipe_token": one, **CHEAP, **own, **more}
        ]}  # fmt: skip
    elif kind == "volume_group":
        rows = {"volume_groups": [{"vg": VG, "pvs": [dev], "wipe_token": list(tokens), **more}]}
    else:
        rows = {"filesystems": [{"device": dev, "fstype": kind, "wipe_token": one, **more}]}
    return rows


KINDS = ("block_device", "partition", "luks_device", "volume_group", "vfat", "swap")
PORTS = {"block_device": "gpt", "partition": "gpt", "luks_device": "luks", "volume_group": "pv"}
PORTS.update(dict.fromkeys(("vfat", "swap", "ext4"), "superblock"))


def converge(check: bool, lists: dict[str, Any], ports: Any = None) -> dict[str, Any]:
    return quotas.converge([], check, ports, unstable=True, **lists)


def codes(answer: dict[str, Any]) -> list[str]:
    return sorted({error["code"] for error in answer["refused"] + answer["errors"]})


def tokens(answer: dict[str, Any]) -> list[str]:
    return [e["details"]["wipe_token"] for e in answer["refused"] if "wipe_token" in e["details"]]


def refused(lists: dict[str, Any], *wanted: str) -> dict[str, Any]:
    """Before anything was done, with the same code in check mode and in earnest."""
    for check in (True, False):
        answer = converge(check, lists)
        assert codes(answer) == sorted(wanted) and answer["actions"] == [], (check, lists, answer)
        assert answer["errors"] == [] and (wanted != ("not_blank",) or tokens(answer)), answer
    return answer


def quiet(lists: dict[str, Any]) -> None:
    for check in (True, False):
        answer = converge(check, lists)
        assert (codes(answer), answer["actions"]) == ([], []), (lists, answer)


def good(answer: dict[str, Any]) -> dict[str, Any]:
    assert codes(answer) == [], answer
    return answer


# -- the rows ------------------------------------------------------------------------------------------------------

ROWS: dict[str, Callable[[str], Any]] = {}


def row(name: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    return lambda function: ROWS.setdefault(name, function)


# name: (content, kinds that would write, those that would remove); all of them say not_blank
FOUR = ("block_device", "luks_device", "volume_group", "vfat")
WRITTEN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "D1 D5 a disk with an MBR": ("MBR", ("partition", *FOUR), ("block_device",)),
    "D1 D11 a disk with a GPT": ("GPT", FOUR[1:], ("block_device", "vfat")),
    "D2 two superblocks": ("XFS and ext4", FOUR, ()),
    "D4 D6 D9 D11 ext4": ("ext4", (*FOUR, "swap"), ("block_device", "ext4")),
    "D9 a physical volume": ("physical volume", ("block_device", "luks_device", "vfat"), ()),
    "D9 D11 LUKS": ("LUKS", ("block_device", "volume_group", "vfat"), ("luks_device",)),
    "D9 D11 swap": ("swap", FOUR, ("swap",)),
    "I1 no signature, at the head": ("bytes at the head", FOUR, ("vfat",)),
    "I1 no signature, at the end": ("bytes at the end", FOUR, ("vfat",)),
    "I1 a superblock that is damaged": ("damaged XFS", ("luks_device", "vfat"), ()),
}


def _not_blank(name: str) -> Callable[[str], None]:
    content, coming, going = WRITTEN[name]

    def run(dev: str) -> None:
        before = holds(dev, content)
        for kind in coming:
            refused(declared(kind, dev), "not_blank")
        for kind in going:
            refused(declared(kind, dev, state="absent"), "not_blank")
        assert digest(dev) == before

    return run


for _name in WRITTEN:
    ROWS[_name] = _not_blank(_name)


@row("D1 I1 one copy of a table, or of a LUKS header")
def _half(dev: str) -> None:
    """Not blank, and for its own kind something to be mended by hand."""
    before = holds(dev, "backup GPT")
    for kind in ("block_device", "partition"):
        refused(declared(kind, dev), "checksum")
    for kind in KINDS[2:]:
        refused(declared(kind, dev), "not_blank")
    assert digest(dev) == before
    before = holds(dev, "second LUKS header")
    for kind in ("block_device", "volume_group", "vfat"):
        refused(declared(kind, dev), "not_blank")
    good(converge(True, declared("luks_device", dev, state="present")))  # it is whole enough to be opened
    assert digest(dev) == before


@row("D3 D10 what is there already stays as it is")
def _kept(dev: str) -> None:
    """With a token of its own even; what is not declared of it is not compared."""
    for content, kind, more in (
        ("ext4", "ext4", {}), ("GPT", "block_device", {}), ("swap", "swap", {}),
        ("GPT", "partition", {"partitions": [{"number": 1, "size": "8MiB"}]}),
        ("group", "volume_group", {"lvs": [{"name": "home", "size": "12MiB", "active": False}]}),
        ("LUKS", "luks_device", {"state": "present"}),
    ):  # fmt: skip
        before = holds(dev, content)
        other = "vfat" if kind != "vfat" else "swap"
        given = tokens(converge(True, declared(other, dev))) if content != "group" else ["0" * 16]
        assert given
        quiet(declared(kind, dev, given, **more))
        assert digest(dev) == before, kind


@row("I1 D2 what cannot be read")
def _unreadable(dev: str) -> None:
    """EIO at the head, or at the end alone, is neither blank nor absent."""
    before = holds(dev, "nothing")
    last = SIZE // 512 - 64
    for table in ("0 64 error\n64 65472 linear %s 64" % dev, "0 %d linear %s 0\n%d 64 error" % (last, dev, last)):
        subprocess.run(["dmsetup", "create", "torn-ill"], input=table.encode(), check=True)
        sh(["udevadm", "settle"])
        for kind in FOUR[1:]:
            refused(declared(kind, "/dev/mapper/torn-ill"), "unreadable")
        refused(declared("swap", "/dev/mapper/torn-ill", state="absent"), "unreadable")
        loop = sh(["losetup", "--find", "--show", "/dev/mapper/torn-ill"]).strip()
        refused(declared("block_device", loop), "unreadable")
        refused(declared("partition", loop, state="absent"), "unreadable")
        sh(["losetup", "-d", loop])
        sh(["dmsetup", "remove", "--retry", "torn-ill"])
    assert digest(dev) == before


@row("I1 I7 a token dies with what it was printed for")
def _stale(dev: str) -> None:
    holds(dev, "ext4")
    given = {kind: tokens(converge(True, declared(kind, dev))) for kind in KINDS}
    assert len({token for each in given.values() for token in each}) == 1, "one content, one token"
    (token,) = given["vfat"]
    for at in (EDGE - 1, -EDGE):
        poke(dev, at, b"x")
        before = digest(dev)
        for kind in FOUR:
            assert token not in tokens(refused(declared(kind, dev, [token]), "not_blank"))
        assert digest(dev) == before
    # the same bytes on another device
    with open(dev, "rb") as stream, open("/run/torn-copy.img", "wb") as copy:
        copy.write(stream.read())
    here = tokens(converge(True, declared("vfat", dev)))
    loop = sh(["losetup", "--find", "--show", "/run/torn-copy.img"]).strip()
    try:
        assert digest(loop) == digest(dev)
        refused(declared("vfat", loop, here), "not_blank")
    finally:
        sh(["losetup", "-d", loop])
        os.unlink("/run/torn-copy.img")


@contextlib.contextmanager
def used(dev: str, how: str) -> Iterator[None]:
    os.makedirs("/mnt/torn", exist_ok=True)
    child = None
    try:
        if how == "mounted":
            sh(["mount", "-o", "ro,noload", dev, "/mnt/torn"])
        elif how == "mounted elsewhere":
            code = "mount -o ro,noload %s /mnt/torn && echo ready && read x; umount /mnt/torn" % dev
            argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", code]
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        elif how == "beneath another device":
            sh(["dmsetup", "create", "torn-above", "--table", "0 2048 linear %s 0" % dev])
            sh(["udevadm", "settle"])
        elif how == "let go of lazily":
            sh(["mount", "-o", "ro,noload", dev, "/mnt/torn"])
            child = subprocess.Popen(["sh", "-c", "exec <&0; exec 3</mnt/torn; cat"], stdin=subprocess.PIPE)
            assert quotas.until(lambda: os.path.exists("/proc/%d/fd/3" % child.pid))
            sh(["umount", "-l", "/mnt/torn"])
        elif how == "swapped to":
            sh(["swapon", dev])
        yield
    finally:
        if child is not None:
            child.communicate(b"\n")
        if how == "mounted":
            sh(["umount", "/mnt/torn"])
        if how == "beneath another device":
            sh(["dmsetup", "remove", "--retry", "torn-above"])
        if how == "swapped to":
            sh(["swapoff", dev])


@row("I2 I6 what somebody uses")
def _in_use(dev: str) -> None:
    """With the token that would do if nobody did, and to remove it as to make another one of it."""
    before = holds(dev, "ext4")
    token = tokens(converge(True, declared("vfat", dev)))
    for how in ("mounted", "mounted elsewhere", "beneath another device", "let go of lazily"):
        with used(dev, how):
            for kind in FOUR if how in ("mounted", "let go of lazily") else FOUR[::3]:
                refused(declared(kind, dev, token), "in_use")
            refused(declared("ext4", dev, token, state="absent"), "in_use")
    assert digest(dev) == before


@row("I2 I3 what is swapped to")
def _swapped(dev: str) -> None:
    before = holds(dev, "swap")
    token = tokens(converge(True, declared("vfat", dev)))
    with used(dev, "swapped to"):
        for kind in FOUR:
            refused(declared(kind, dev, token), "protected")
        refused(declared("swap", dev, token, state="absent"), "protected")
    assert digest(dev) == before


@row("I3 what the host stands on")
def _vital(dev: str) -> None:
    root = sh(["findmnt", "-nvo", "SOURCE", "/"]).strip()
    for kind in KINDS:
        for check in (True, False):
            assert "protected" in codes(converge(check, declared(kind, root))), kind
    holds(dev, "nothing")
    by_sfdisk(dev, "label: gpt\nsize=8MiB, type=%s\n" % ESP)
    sh(["udevadm", "settle"])
    before, part = digest(dev), dev + "p1"
    for kind in KINDS[2:]:
        refused(declared(kind, part), "protected")
    for kind in ("luks_device", "volume_group", "vfat"):
        refused(declared(kind, dev), "protected")
    refused(declared("block_device", dev, state="absent"), "protected")
    refused(declared("partition", dev, partitions=[{"number": 1, "state": "absent"}]), "protected")
    assert digest(dev) == before


@row("I2 I6 a volume, and what stands on it")
def _volumes(dev: str) -> None:
    """D7: never smaller than what is on it. D8: no snapshot goes with its origin. D11: no content without its token."""
    holds(dev, "group")
    sh(["vgchange", "-qqay", VG])
    home = "/dev/torn/home"
    sh(["dd", "if=/dev/urandom", "of=" + home, "bs=1M", "seek=8", "count=1", "conv=fsync"])
    before = digest(dev)
    small = {"lvs": [{"name": "home", "size": "4MiB"}]}
    refused(declared("volume_group", dev, **small), "would_shrink")
    refused(declared("volume_group", dev, allow_shrink=True, **small), "would_shrink")
    gone = {"lvs": [{"name": "home", "state": "absent"}]}
    token = tokens(refused(declared("volume_group", dev, **gone), "not_blank"))
    whole = tokens(refused({"volume_groups": [{"vg": VG, "state": "absent"}]}, "not_blank"))
    off = {"lvs": [{"name": "home", "active": False}]}
    os.makedirs("/mnt/torn", exist_ok=True)
    sh(["mount", "-o", "ro,noload", home, "/mnt/torn"])
    refused(declared("volume_group", dev, token, **gone), "in_use")
    refused({"volume_groups": [{"vg": VG, "state": "absent", "wipe_token": whole}]}, "in_use")
    refused(declared("volume_group", dev, **off), "in_use")
    refused(declared("vfat", home, tokens(converge(True, declared("vfat", home)))), "in_use")
    sh(["umount", "/mnt/torn"])
    refused(declared("vfat", home), "not_blank")
    refused({"volume_groups": [{"vg": "another", "pvs": [dev]}]}, "in_use")
    assert digest(dev) == before
    sh(["lvcreate", "-qq", "-s", "-L", "4m", "-n", "then", "torn/home"])
    before = digest(dev)
    refused(declared("volume_group", dev, token, **gone), "in_use")
    sh(["vgchange", "-qqan", VG])
    refused(declared("volume_group", dev, token, lvs=[{"name": "then", "state": "absent"}]), "unreadable")
    assert digest(dev) == before


@row("I2 I6 what is open by a key")
def _opened(dev: str) -> None:
    holds(dev, "LUKS")
    sh(["cryptsetup", "open", "--key-file", KEY, dev, "torn"])
    sh(["mkfs.ext4", "-qF", MAP])
    token = tokens(converge(True, declared("luks_device", dev, state="absent")))
    sh(["mount", "-o", "ro,noload", MAP, "/mnt/torn"])
    before = digest(dev)
    for state in ("closed", "absent"):
        refused(declared("luks_device", dev, token, state=state), "in_use")
    refused(declared("vfat", MAP), "in_use")
    sh(["umount", "/mnt/torn"])
    # another name for what is open, and another thing of that name
    refused(declared("luks_device", dev, name="torn-2"), "in_use")
    sh(["cryptsetup", "close", "torn"])
    refused(declared("luks_device", dev, key_file=OTHER_KEY), "denied")
    sh(["dmsetup", "create", "torn", "--table", "0 2048 zero"])
    refused(declared("luks_device", dev), "conflict")
    refused(declared("luks_device", dev, state="closed"), "conflict")
    sh(["dmsetup", "remove", "--retry", "torn"])
    behind = converge(False, {**declared("luks_device", dev), **declared("vfat", MAP)})
    assert codes(behind) == ["not_blank"] and not os.path.exists(MAP) and digest(dev) == before, behind


# What may happen between the look and the deed.
Event = Callable[[str], Any]
Lists = Callable[[str, Any], Any]


def meanwhile(lists: dict[str, Any], name: str, event: Callable[[], Any]) -> tuple[dict[str, Any], str]:
    """What a run says in whose midst something happens, before the port ``name`` does anything, and the digest then."""
    ports = _kinds.ports(list(lists))
    port, after = ports[name], []
    put = port.put

    def late(*arguments: Any) -> None:
        if not after:
            after.append(event())
        put(*arguments)

    port.put = late
    answer = converge(False, lists, ports)
    assert answer["refused"] == [] and len(after) == 1, answer
    return answer, after[0]


def too_late(
    port: str, content: str, lists: Lists, event: Event, *wanted: str, prepare: Event = lambda dev: None
) -> Callable[[str], None]:
    """Something happens after the look, and the run refuses what it finds: all of the device is as that left it."""

    def run(dev: str) -> None:
        holds(dev, content)
        prepare(dev)
        given = tokens(converge(True, lists(dev, ())))
        os.makedirs("/mnt/torn", exist_ok=True)

        def happens() -> str:
            event(dev)
            return digest(dev)

        answer, before = meanwhile(lists(dev, given), port, happens)
        assert codes(answer) == [*wanted] and answer["errors"] and digest(dev) == before, answer

    return run


def above(dev: str) -> None:
    sh(["dmsetup", "create", "torn-above", "--table", "0 2048 linear %s 0" % dev])


def mounts(dev: str) -> None:
    sh(["mount", "-o", "ro,noload", dev, "/mnt/torn"])


for _kind in ("block_device", "luks_device", "volume_group", "swap"):
    _port, _lists = PORTS[_kind], functools.partial(declared, _kind)
    for _event, _what, _content, _code in (
        (lambda dev: poke(dev, EDGE - 9, b"a record"), "written to at its head", "nothing", "moved"),
        (lambda dev: poke(dev, -9, b"a record"), "written to at its end", "ext4", "moved"),
        (above, "used by another device", "nothing", "in_use"),
        (mounts, "mounted", "ext4", "in_use"),
    ):
        ROWS["I1 I2 %s that is %s since: %s" % (_content, _what, _kind)] = too_late(
            _port, _content, _lists, _event, _code
        )


def part(number: int, **more: Any) -> Lists:
    return lambda dev, given: declared("partition", dev, given, partitions=[{"number": number, **more}])


def volume(name: str, **more: Any) -> Lists:
    return lambda dev, given: declared("volume_group", dev, given, lvs=[{"name": name, **more}])


def forgotten(dev: str) -> None:
    """The kernel does not know the partition any more."""
    sh(["partx", "-d", "--nr", "1", dev])
    sh(["udevadm", "settle"])


def active(dev: str) -> None:
    sh(["vgchange", "-qqay", VG])


def another_key(dev: str) -> None:
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    sh(["cryptsetup", "luksAddKey", "-q", *cheap, "--key-file", KEY, dev, OTHER_KEY])


def made_anew(dev: str) -> None:
    sh(["mkfs.ext4", "-qF", dev])


def appended(dev: str) -> None:
    """As number 3, where number 2 is to be; something is in it already."""
    script = b"3 : start=9MiB, size=4MiB\n"
    subprocess.run(["sfdisk", "-q", "--append", dev], input=script, check=True, capture_output=True)
    poke(dev, 10 * MIB, b"a record")
    sh(["udevadm", "settle"])


def written_and_forgotten(dev: str) -> None:
    """udev has the kernel look for partitions anew when a writer closes the disk."""
    poke(dev, MIB, b"x")
    assert quotas.until(lambda: os.path.exists(dev + "p1"))
    forgotten(dev)


def a_small_filesystem(dev: str) -> None:
    active(dev)
    sh(["mkfs.ext4", "-qF", "/dev/torn/home", "4096k"])


def swapping(dev: str) -> None:
    sh(["mkswap", "-q", dev + "p1"])
    sh(["swapon", dev + "p1"])


GONE = {"state": "absent"}
SMALLER: dict[str, Any] = {"allow_shrink": True, "lvs": [{"name": "home", "size": "8MiB"}]}
NEW_KEY = {"state": "present", "new_key_file": OTHER_KEY}


def in_luks(**more: Any) -> Lists:
    return lambda dev, given: declared("luks_device", dev, given, **more)


CLOSED, ROTATED, OPENED = in_luks(**GONE), in_luks(**NEW_KEY), in_luks()
HOME_GONE = volume("home", **GONE)
LATE: dict[str, tuple[str, str, Lists, Event, str, Event]] = {
    "room that is taken": ("partition", "GPT", part(2, size="4MiB"), appended, "moved", lambda dev: None),
    "a table that is damaged": (
        "partition", "GPT", part(2, size="4MiB"), lambda dev: poke(dev, 552, b"\xff"), "moved", lambda dev: None),
    "swap that is used": ("partition", "GPT", part(2, size="4MiB"), swapping, "protected", lambda dev: None),
    "a partition that is renamed": (
        "partition", "GPT with ext4", part(1, **GONE), lambda dev: sh(["sfdisk", "-q", "--part-label", dev, "1", "x"]),
        "moved", lambda dev: None),
    "a partition that is written to": (
        "partition", "GPT with ext4", part(1, **GONE), lambda dev: poke(dev, 9 * MIB - 9, b"x"), "moved",
        lambda dev: None),
    "a forgotten partition that is written to": (
        "partition", "GPT", part(1, **GONE), written_and_forgotten, "moved", forgotten),
    "LUKS that is written to": ("luks", "LUKS", CLOSED, lambda dev: poke(dev, -9, b"x"), "moved", lambda dev: None),
    "LUKS that gets another key": ("luks", "LUKS", ROTATED, another_key, "moved", lambda dev: None),
    "LUKS that loses its header": (
        "luks", "LUKS", ROTATED, lambda dev: poke(dev, 0, bytes(32768)), "moved", lambda dev: None),
    "LUKS that is opened": (
        "mapping", "LUKS", OPENED, lambda dev: sh(["cryptsetup", "open", "--key-file", KEY, dev, "torn"]), "moved",
        lambda dev: None),
    "a volume that grows": (
        "lv", "group", volume("home", size="16MiB"), lambda dev: sh(["lvextend", "-qq", "-L", "20m", "torn/home"]),
        "moved", active),
    "a filesystem that grows": (
        "lv", "group", lambda dev, given: declared("volume_group", dev, **SMALLER),
        lambda dev: sh(["resize2fs", "/dev/torn/home"]), "would_shrink", a_small_filesystem),
    "a volume that is written to": (
        "lv", "group", HOME_GONE, lambda dev: poke("/dev/torn/home", -9, b"x"), "moved", active),
    "a filesystem that is made anew": (
        "superblock", "ext4", lambda dev, given: declared("ext4", dev, label="ours"), made_anew, "moved",
        lambda dev: None),
}  # fmt: skip
for _name, (_port, _content, _lists, _event, _code, _before) in LATE.items():
    ROWS["I1 %s since" % _name] = too_late(_port, _content, _lists, _event, _code, prepare=_before)


@row("I2 I5 D11 a partition")
def _partition(dev: str) -> None:
    before = holds(dev, "GPT with ext4")
    token = tokens(refused(part(1, **GONE)(dev, ()), "not_blank"))
    refused(part(1, size="4MiB")(dev, ()), "would_shrink")
    os.makedirs("/mnt/torn", exist_ok=True)
    mounts(dev + "p1")
    refused(part(1, **GONE)(dev, token), "in_use")
    sh(["umount", "/mnt/torn"])
    forgotten(dev)
    refused(part(1, **GONE)(dev, token), "unreadable")
    above(dev)
    refused(part(2, size="4MiB")(dev, ()), "in_use")
    sh(["dmsetup", "remove", "--retry", "torn-above"])
    assert digest(dev) == before
    sh(["partx", "-a", "--nr", "1", dev])
    sh(["udevadm", "settle"])
    mounts(dev + "p1")
    sh(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", "--delete", dev, "1"])
    before = digest(dev)
    for more in (GONE, {"size": "4MiB"}):  # the kernel alone knows it
        refused(part(1, **more)(dev, ()), "in_use")
    sh(["umount", "/mnt/torn"])
    assert digest(dev) == before
    tiny = "/run/torn-tiny.img"
    sh(["truncate", "-s", "2M", tiny])
    loop = sh(["losetup", "--find", "--show", tiny]).strip()
    try:
        refused(declared("block_device", loop), "unreadable")
    finally:
        sh(["losetup", "-d", loop])
        os.unlink(tiny)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """By a process of somebody else's."""
    child = subprocess.Popen(["flock", "-o", path, "cat"], stdin=subprocess.PIPE)
    try:
        assert quotas.until(lambda: " %d " % child.pid in Path("/proc/locks").read_text("ascii"))
        yield
    finally:
        child.communicate(b"")


@row("I2 a lock, and what is held while it is wiped")
def _held(dev: str) -> None:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gptchange

    waits = gptchange.WAIT
    for content, lists in (("GPT", part(2, size="4MiB")), ("nothing", functools.partial(declared, "block_device"))):
        before = holds(dev, content)
        with locked(dev):
            gptchange.WAIT = 0.5
            answer = converge(False, lists(dev, ()))
            gptchange.WAIT = waits
        assert "in_use" in codes(answer) and digest(dev) == before, (content, answer)
    holds(dev, "ext4")
    given = tokens(converge(True, declared("swap", dev)))
    lists = declared("swap", dev, given)
    ports, tried = _kinds.ports(list(lists)), []
    begin = ports["superblock"].intents.begin

    def begun(*arguments: Any, **more: Any) -> None:
        tried.append(subprocess.run(["mount", "-o", "ro", dev, "/mnt/torn"], check=False, capture_output=True))
        begin(*arguments, **more)

    ports["superblock"].intents.begin = begun
    good(converge(False, lists, ports))
    assert [each.returncode for each in tried] == [32], tried
    assert sh(["blkid", "-p", "-o", "value", "-s", "TYPE", dev]).strip() == "swap", "its token is enough"


def elsewhere(kind: str) -> Callable[[str], None]:
    """While our program works on it the name comes to mean another one, which is not touched."""
    last = {"luks_device": "close", "volume_group": "vgcreate", "block_device": "DISK"}.get(kind, "")

    def run(dev: str) -> None:
        holds(dev, "nothing")
        name, other = "/dev/mapper/torn-a", "/dev/mapper/torn-b"
        if kind == "volume_group":  # which knows no link of ours
            for path, at in ((name, 0), (other, 32768)):
                table = "0 32768 linear %s %d" % (dev, at)
                sh(["dmsetup", "create", os.path.basename(path), "--table", table])
        else:
            name, image = "/dev/torn-link", "/run/torn-other.img"
            sh(["truncate", "-s", "32M", image])
            other = sh(["losetup", "--find", "--show", image]).strip()
            sh(["ln", "-sfn", dev, name])
        sh(["udevadm", "settle"])
        before, moves = digest_of(other), []
        lists = declared(kind, name)
        ports = _kinds.ports(list(lists))
        port = ports[PORTS[kind]]
        owner = port.lvm if kind == "volume_group" else port
        execute = owner.run

        def moving(argv: list[str], *more: Any) -> Any:
            said = execute(argv, *more)
            if last in ("", *argv) or (last == "DISK" and "sfdisk" in argv[0]):
                moves.append(argv)
                if kind == "volume_group":
                    sh(["dmsetup", "rename", "torn-a", "torn-c"])
                    sh(["dmsetup", "rename", "torn-b", "torn-a"])
                    sh(["udevadm", "settle"])
                else:
                    sh(["ln", "-sfn", other, name])
            return said

        owner.run = moving
        answer = converge(False, lists, ports)
        assert len(moves) == 1 and codes(answer) == ["moved"], (moves, answer)
        assert digest_of(name) == before
        if kind == "volume_group":
            sh(["dmsetup", "remove", "--retry", "torn-a"])
            sh(["dmsetup", "remove", "--retry", "torn-c"])
        else:
            os.unlink(name)
            sh(["losetup", "-d", other])

    return run


for _kind in ("block_device", "luks_device", "swap", "volume_group"):
    ROWS["I7 a name that leads elsewhere meanwhile: %s" % _kind] = elsewhere(_kind)


def begun_elsewhere(kind: str, program: str, theirs: Event, code: str) -> Callable[[str], None]:
    """A run is killed, and its name leads to another disk since: what was begun is no consent to what is there."""

    def run(dev: str) -> None:
        holds(dev, "nothing")
        name, image = "/dev/torn-link", "/run/torn-other.img"
        sh(["rm", "-f", image])
        sh(["truncate", "-s", "32M", image])
        other = sh(["losetup", "--find", "--show", image]).strip()
        theirs(other)
        sh(["udevadm", "settle"])
        sh(["ln", "-sfn", dev, name])
        lists = declared(kind, name)
        child = os.fork()
        if child == 0:
            try:
                ports = _kinds.ports(list(lists))
                port = ports[PORTS[kind]]
                execute = port.run

                def struck(argv: list[str], *more: Any) -> Any:
                    if program in " ".join(argv):
                        os._exit(9)
                    return execute(argv, *more)

                port.run = struck
                converge(False, lists, ports)
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        good(converge(True, lists))
        sh(["ln", "-sfn", other, name])
        before = digest_of(other)
        refused(lists, code)
        assert digest_of(other) == before
        os.unlink(name)
        sh(["losetup", "-d", other])

    return run


for _kind, _program, _event, _code in (
    ("block_device", "sfdisk", backup_alone, "checksum"),
    ("luks_device", "luksFormat", lambda dev: poke(dev, -EDGE, b"a record"), "not_blank"),
    ("swap", "mkswap", lambda dev: poke(dev, -EDGE, b"a record"), "not_blank"),
):
    ROWS["I1 I7 what was begun on another disk of that name: %s" % _kind] = begun_elsewhere(
        _kind, _program, _event, _code
    )


def digest_of(dev: str) -> str:
    return sh(["sha256sum", dev]).split()[0]


def image_since(event: str, code: str) -> Callable[[str], None]:
    def run(_dev: str) -> None:
        image = "/run/torn-image.img"
        sh(["rm", "-f", image])
        sh(["truncate", "-s", "8M", image])
        with contextlib.ExitStack() as stack:

            def happens() -> str:
                if event == "attached":
                    loop = sh(["losetup", "--find", "--show", image]).strip()
                    stack.callback(sh, ["losetup", "-d", loop])
                elif event == "locked":
                    stack.enter_context(locked(image))
                else:
                    poke(image, 5 * MIB, b"a record")
                return digest_of(image)

            answer, before = meanwhile(declared("swap", image), "superblock", happens)
            assert codes(answer) == [code] and digest_of(image) == before, answer

    return run


for _name, _code in (("attached", "in_use"), ("locked", "in_use"), ("written to", "moved")):
    ROWS["I1 I2 an image file that is %s since" % _name] = image_since(_name, _code)


@row("I6 LUKS of others, and behind its door")
def _luks(dev: str) -> None:
    before = holds(dev, "damaged LUKS")
    refused(declared("luks_device", dev, state="present"), "unreadable")
    refused(CLOSED(dev, ()), "not_blank")
    assert digest(dev) == before
    before = holds(dev, "LUKS of another host")
    quiet(declared("luks_device", dev, state="present"))
    refused(CLOSED(dev, ()), "not_blank")
    assert digest(dev) == before
    holds(dev, "LUKS")
    sh(["cryptsetup", "open", "--key-file", KEY, dev, "torn"])
    sh(["mkfs.ext4", "-qF", MAP])
    mounts(MAP)
    before = digest(dev)
    refused({**CLOSED(dev, ()), "mounts": [{"path": "/mnt/torn", "state": "absent", "persist": "none"}]}, "not_blank")
    sh(["umount", "/mnt/torn"])
    refused(CLOSED(dev, ()), "not_blank")
    assert digest(dev) == before


@row("I3 I4 I5 a volume of another host, a blank one, one that is swapped to")
def _groups(dev: str) -> None:
    holds(dev, "bare group")
    sh(["lvcreate", "-qq", "-Wn", "-L", "8m", "-n", "home", VG])
    with open("/dev/torn/home", "r+b", buffering=0) as stream:
        stream.write(bytes(8 * MIB))
    before = digest(dev)
    refused(volume("home", size="4MiB")(dev, ()), "would_shrink")
    sh(["mkfs.ext4", "-qF", "/dev/torn/home", "4096k"])
    before = digest(dev)
    refused(volume("home", size="4MiB")(dev, ()), "would_shrink")
    good(converge(True, declared("volume_group", dev, allow_shrink=True, lvs=[{"name": "home", "size": "4MiB"}])))
    assert digest(dev) == before
    sh(["mkswap", "-q", "/dev/torn/home"])
    token = tokens(converge(True, volume("home", **GONE)(dev, ())))
    sh(["swapon", "/dev/torn/home"])
    refused(volume("home", **GONE)(dev, token), "protected")
    sh(["swapoff", "/dev/torn/home"])
    sh(["lvchange", "-qq", "--addtag", "bulkhead.new", "torn/home"])
    before = digest(dev)
    answer = converge(False, volume("home", size="8MiB")(dev, ()))
    assert codes(answer) == ["not_blank"] and digest(dev) == before, answer


@row("I6 a pool of thin volumes")
def _thin(dev: str) -> None:
    holds(dev, "bare group")
    sh(["lvcreate", "-qq", "--type", "thin-pool", "-L", "8m", "--poolmetadatasize", "4m", "-n", "pool", VG])
    gone = declared("volume_group", dev, thin_pools=[{"name": "pool", **GONE}])
    larger = declared("volume_group", dev, thin_pools=[{"name": "pool", "size": "12MiB"}])

    def filled() -> str:
        sh(["lvcreate", "-qq", "-V", "4m", "--thinpool", "pool", "-n", "one", VG])
        return digest(dev)

    answer, before = meanwhile(gone, "thin_pool", filled)
    assert codes(answer) == ["moved"] and digest(dev) == before, answer
    before = digest(dev)
    refused(gone, "in_use")
    assert digest(dev) == before
    sh(["lvremove", "-qqy", "torn/one"])

    def removed() -> str:
        sh(["lvremove", "-qqy", "torn/pool"])
        sh(["lvcreate", "-qq", "-Wn", "-L", "4m", "-n", "pool", VG])
        return digest(dev)

    answer, before = meanwhile(larger, "thin_pool", removed)
    assert codes(answer) == ["moved"] and digest(dev) == before, answer


@row("I6 volumes of a pool")
def _pooled(dev: str) -> None:
    """What takes the name of one is none: neither cloned, nor called a volume."""
    holds(dev, "bare group")
    for pool in ("pool", "other"):
        sh(["lvcreate", "-qq", "--type", "thin-pool", "-L", "8m", "--poolmetadatasize", "4m",
            "--poolmetadataspare", "n", "-n", pool, VG])  # fmt: skip
    at = {"name": "torn", "backend": "lvm", "config": {"vg": VG, "thin_pool": "pool"}}
    one = {"name": "one", "pool": "torn", "type": "block", "size": "4MiB"}
    good(converge(False, {"pools": [at], "volumes": [one]}))
    copy = {**one, "name": "two", "source": {"type": "clone", "name": "one"}}

    def another() -> str:
        sh(["lvremove", "-qqy", "torn/v+default+one"])
        sh(["lvcreate", "-qq", "-V", "4m", "--thinpool", "other", "-n", "v+default+one", VG])
        return digest(dev)

    answer, before = meanwhile({"volumes": [copy]}, "lv", another)
    assert codes(answer) == ["moved"] and digest(dev) == before, answer
    sh(["lvremove", "-qqy", "torn/v+default+one"])
    sh(["lvcreate", "-qq", "-V", "4m", "--thinpool", "pool", "-n", "v+default+one", VG])
    before = digest(dev)
    refused({"volumes": [one]}, "conflict")
    assert digest(dev) == before


@row("I2 quota for an ext4 that is mounted")
def _quota(dev: str) -> None:
    before = holds(dev, "ext4")
    os.makedirs("/mnt/torn", exist_ok=True)
    mounts(dev)
    refused(declared("ext4", dev, quota=["user"]), "in_use")
    assert digest(dev) == before


# -- tests ---------------------------------------------------------------------------------------------------------


def chosen() -> list[str]:
    """The table, and a seeded sample of the others: a minute in an emulated guest. All of it with BULKHEAD_SOAK."""
    if "BULKHEAD_SOAK" in os.environ:
        return list(ROWS)
    late = [name for name in ROWS if " since" in name or "meanwhile" in name]
    early = [name for name in ROWS if name not in late and name not in WRITTEN]
    some = [*WRITTEN, *random.Random(20261).sample(early, 5), *random.Random(20261).sample(late, 4)]
    return [name for name in ROWS if name in some]


@pytest.mark.parametrize("name", chosen())
def test_refused_and_not_a_byte_is_another(device: str, name: str) -> None:
    ROWS[name](device)


@pytest.mark.parametrize("what", [what for what, _path, _test in ELSEWHERE])
def test_what_is_a_test_elsewhere_is_one(what: str) -> None:
    ((path, name),) = [(path, name) for each, path, name in ELSEWHERE if each == what]
    tree = ast.parse((TESTS / path).read_bytes())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert name in names if name else len(names) > 5


# Which row notices that a guard is gone: file, function and text of it as regular expressions.
USED, SWAPPED, VITAL = "I2 I6 what somebody uses", "I2 I3 what is swapped to", "I3 what the host stands on"
LATE_END, LATE_HEAD = (
    "I1 I2 ext4 that is written to at its end since: ",
    "I1 I2 nothing that is written to at its head since: ",
)
PART, LOCK, KEY_ROW = (
    "I2 I5 D11 a partition",
    "I2 a lock, and what is held while it is wiped",
    "I2 I6 what is open by a key",
)
THEIRS, GROUP = "I6 LUKS of others, and behind its door", "I2 I6 a volume, and what stands on it"
GROUPS, THIN = "I3 I4 I5 a volume of another host, a blank one, one that is swapped to", "I6 a pool of thin volumes"
POOLED = "I6 volumes of a pool"
NOTICES = [
    (r"blank \| seen .*in_use", USED), (r"blank \| seen .*protected", SWAPPED), (r"blank \| vital", SWAPPED),
    (r"blank \| in_use", USED), (r"blank .*__init__ .*look\.in_use", "I1 I2 an image file that is attached since"),
    (r"blank .*__init__ .*raise .*users", "I1 I2 an image file that is attached since"),
    (r"blank .*__init__ .*O_EXCL", LOCK), (r"blank .*(claim|wait until)", "I1 I2 an image file that is locked since"),
    (r"blank .*__init__ .*-> self\.content\.kind", LOCK),
    (r"blank .*__init__ .*-> self\.content\.token", LATE_HEAD + "swap"),
    (r"blank .*__init__ .*raise", LATE_END + "swap"),
    (r"blank .*(again|steady)", "I7 a name that leads elsewhere meanwhile: swap"),
    (r"gpt \| load .*only", PART), (r"gpt \| Tables.risk .*\(2\)", "D1 D5 a disk with an MBR"),
    (r"gpt \| Tables.risk", "D1 D11 a disk with a GPT"), (r"gpt \| Partitions.risk", PART),
    (r"gptchange \| examine", "D1 I1 one copy of a table, or of a LUKS header"), (r"gptchange \| (_row|_edges)", PART),
    (r"gptchange \| refuse .*vital", VITAL),
    (r"gptchange \| refuse \|", PART), (r"gptchange \| refuse_table .*vital", VITAL),
    (r"gptchange \| refuse_table", USED), (r"gptchange .*lock\(|gptchange \| lock", LOCK),
    (r"gptchange \| _Held.__init__", "I1 swap that is used since"),
    (r"gptchange \| _Held", "I1 a table that is damaged since"),
    (r"gptchange \| put", "I1 a partition that is renamed since"),
    (r"gptchange \| _create .*room", "I1 room that is taken since"),
    (r"gptchange \| _remove", "I1 a forgotten partition that is written to since"),
    (r"gptchange \| taken .*None\) ->", LATE_HEAD + "block_device"), (r"gptchange \| taken", LATE_END + "block_device"),
    (r"gptchange .*again", "I7 a name that leads elsewhere meanwhile: block_device"),
    (r"luks \| .*\(2\)", "D4 D6 D9 D11 ext4"), (r"luks \|", "D9 D11 LUKS"),
    (r"lukschange \| examine .*ours\(target,", "I1 no signature, at the end"),
    (r"lukschange \| (examine|_hollow)", THEIRS),
    (r"lukschange \| denied", KEY_ROW), (r"lukschange \| _refuse .*vital", SWAPPED), (r"lukschange \| _refuse", USED),
    (r"lukschange \| _format .*Taken", LATE_END + "luks_device"),
    (r"lukschange .*again", "I7 a name that leads elsewhere meanwhile: luks_device"),
    (r"lukschange \| _rotate", "I1 LUKS that gets another key since"),
    (r"lukschange \| _header", "I1 LUKS that loses its header since"),
    (r"lukschange \| _erase", "I1 LUKS that is written to since"),
    (r"dmcryptchange \| put", "I1 LUKS that is opened since"), (r"dmcryptchange", KEY_ROW),
    (r"lvm2 \| Phys", "D4 D6 D9 D11 ext4"), (r"lvm2 \| Log.*DESTROYS", GROUP), (r"lvm2 \| Log.*SHRINKS", GROUPS),
    (r"lvm2change \| examine", "I1 no signature, at the end"), (r"lvm2change \| refuse_pv .*belongs", GROUP),
    (r"lvm2change \| refuse_pv .*vital", SWAPPED), (r"lvm2change \| refuse_pv .*in_use", USED),
    (r"lvm2change \| put_pv .*Taken", LATE_END + "volume_group"),
    (r"lvm2change \| put_pv .*again\(", "I7 a name that leads elsewhere meanwhile: volume_group"),
    (r"lvm2change .*thin_pool", THIN), (r"lvm2change \| refuse_lv .*declaration|lvm2change \| _clone", POOLED),
    (r"lvm2change \| refuse_lv .*vital", GROUPS), (r"lvm2change \| (content|refuse_lv)", GROUP),
    (r"lvm2change \| put_lv .*raise error", "I1 a filesystem that grows since"),
    (r"lvm2change \| put_lv", "I1 a volume that grows since"), (r"lvm2change \| _finish", GROUPS),
    (r"lvm2change \| (_remove|_leaving)", "I1 a volume that is written to since"),
    (r"lvm2change \| _held", GROUP),
    (r"mkfs \| .*DESTROYS", "D4 D6 D9 D11 ext4"),
    (r"mkfschange \| examine", "I1 I7 what was begun on another disk of that name: swap"),
    (r"mkfschange \| refuse .*vital", SWAPPED), (r"mkfschange \| refuse ", USED),
    (r"mkfschange \| _quota", "I2 quota for an ext4 that is mounted"), (r"mkfschange .*Taken", LATE_END + "swap"),
    (r"mkfschange \| _change .*raise", "I1 a filesystem that is made anew since"),
]  # fmt: skip
# Those whose absence no row sees, each with the reason.
ACCEPTED = {
    r"blank .*__init__ .*look\.protected": "not covered: what the host needs is in use too, but for a boot partition",
    r"blank \| _stamp": "two numbers that change together in all that can be made here; test_blank.py takes one away",
    r"gpt \| load .*cannot read": "what is read there is read again by what looks for blank: unreadable too",
    r"gptchange \| examine .*wiped": "a wipe that is done allows less; tests/unit: test_gpt.py",
    r"gptchange \| _edges_blank .*raise": "what is not blank there is refused as unreadable too",
    r"gptchange \| _create .*was not there": "only for a disk that appears between the plan and the deed",
    r"gptchange \| taken .*before\) ->": "blank is tried first, and fails by the same error",
    r"lukschange \| _blank": "of a mapping under a private random name",
    r"lukschange \| _backup": "a device that becomes shorter while it is read",
    r"lvm2 \| Lvm2.report": "tests/unit: test_lvm2.py",
    r"lvm2change \| volume .*rc": "tests/unit: test_lvm2.py",
    r"lvm2change \| refuse_pv .*twice": "not covered",
    r"lvm2change \| _recorded": "test_volume_lvm.py: a group does not take the volume of a pool with it",
    r"mkfs \| .*SHRINKS": "tests/unit: test_mkfs.py shrinks filesystems",
    r"mkfschange \| _remake .*declared are": "sizes are declared by volumes only",
    r"mkfschange \| _change .*claim": "tests/unit: test_mkfs.py",
}


def first_of(table: Any, guard: guards.Guard) -> str:
    return next((text for pattern, text in table if re.search(pattern, guard.key)), "")


def noticed(guard: guards.Guard, name: str, dev: str) -> bool:
    """Does the row fail without the guard? In a process of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            guards.install(guard)
            ROWS[name](dev)
            os._exit(0)
        finally:
            os._exit(7)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 7
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def test_each_guard_removed_turns_a_row_red(device: str) -> None:
    """A seeded sample of them, and all with BULKHEAD_SOAK."""
    soak = "BULKHEAD_SOAK" in os.environ
    files = guards.FILES if soak else random.Random(20262).sample(guards.FILES, 3)
    every = [guard for file in files for guard in guards.removed(file)]
    found = [guard for guard in every if not first_of(ACCEPTED.items(), guard)]
    if not soak:
        found = random.Random(20262).sample(found, 3)
    survived = []
    for guard in found:
        start, name = time.monotonic(), first_of(NOTICES, guard)
        red = noticed(guard, name, device)
        print("%-8s %4.1f s  %-60s %s" % (red, time.monotonic() - start, name, guard.key), flush=True)
        if not red:
            survived.append(guard.key)
    print("%d guards, %d tried, %d noticed" % (len(every), len(found), len(found) - len(survived)))
    assert survived == []


def test_every_case_has_a_row() -> None:
    said = " ".join([*ROWS, *[what for what, _path, _test in ELSEWHERE]])
    named = set(re.findall(r"\b[DI]\d+\b", said + " ".join(filter(None, [each.__doc__ for each in ROWS.values()]))))
    assert {"D%d" % n for n in range(1, 12)} - named == set() and {"I%d" % n for n in range(1, 10)} - named == set()
