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
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.tests.support import quotas
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
            sh(["losetup", "-d", "/dev/" + file.parts[3]])
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


def too_late(port: str, content: str, lists: Lists, event: Event, *wanted: str) -> Callable[[str], None]:
    """Something happens after the look, and the run refuses what it finds: all of the device is as that left it."""

    def run(dev: str) -> None:
        holds(dev, content)
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


# -- tests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_refused_and_not_a_byte_is_another(device: str, name: str) -> None:
    ROWS[name](device)


@pytest.mark.parametrize("what", [what for what, _path, _test in ELSEWHERE])
def test_what_is_a_test_elsewhere_is_one(what: str) -> None:
    ((path, name),) = [(path, name) for each, path, name in ELSEWHERE if each == what]
    tree = ast.parse((TESTS / path).read_bytes())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert name in names if name else len(names) > 5


def test_every_case_has_a_row() -> None:
    said = " ".join([*ROWS, *[what for what, _path, _test in ELSEWHERE]])
    named = set(re.findall(r"\b[DI]\d+\b", said + " ".join(filter(None, [each.__doc__ for each in ROWS.values()]))))
    assert {"D%d" % n for n in range(1, 12)} - named == set() and {"I%d" % n for n in range(1, 10)} - named == set()
