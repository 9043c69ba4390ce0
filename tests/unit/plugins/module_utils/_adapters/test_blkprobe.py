# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a device: real output of every tool, foreign content, damage, errors of the disk, mutated bytes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe, signatures
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    image,
    loop_device,
)

MIB = 1 << 20
UUID = "0a1b2c3d-0000-4000-8000-1234567890ab"


def content(path: str, live: bool = False) -> signatures.Content:
    fd = blkprobe.opened(path)
    try:
        return signatures.examine(fd, "disk-1", live)
    finally:
        os.close(fd)


def quick(path: str) -> blkprobe.Found | None:
    fd = blkprobe.opened(path)
    try:
        return blkprobe.quick(fd)
    finally:
        os.close(fd)


def write(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def blkid(path: str, tag: str) -> str:
    argv = ["blkid", "-p", "-s", tag, "-o", "value", path]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=False).stdout.decode().strip()


MADE = {
    "ext2": (["mkfs.ext2", "-q", "-L", "data"], 64),
    "ext3": (["mkfs.ext3", "-q", "-L", "data"], 64),
    "ext4": (["mkfs.ext4", "-q", "-L", "data", "-U", UUID], 64),
    "ext4 1k, no csum, no 64bit": (["mkfs.ext4", "-q", "-b", "1024", "-O", "^metadata_csum,^64bit", "-L", "data"], 64),
    "xfs": (["mkfs.xfs", "-q", "-L", "data", "-m", "uuid=" + UUID], 320),
    "xfs v4": (["mkfs.xfs", "-q", "-L", "data", "-m", "crc=0,finobt=0,rmapbt=0,reflink=0"], 320),
    "xfs 4k sectors": (["mkfs.xfs", "-q", "-L", "data", "-s", "size=4096"], 320),
    "btrfs": (["mkfs.btrfs", "-q", "-L", "data", "-U", UUID], 128),
    "btrfs sha256": (["mkfs.btrfs", "-q", "-L", "data", "--csum", "sha256"], 128),
    "btrfs blake2": (["mkfs.btrfs", "-q", "-L", "data", "--csum", "blake2"], 128),
    "btrfs xxhash": (["mkfs.btrfs", "-q", "-L", "data", "--csum", "xxhash"], 128),
    "vfat 12": (["mkfs.vfat", "-F", "12", "-n", "DATA"], 8),
    "vfat 16": (["mkfs.vfat", "-F", "16", "-n", "DATA"], 64),
    "vfat 32": (["mkfs.vfat", "-F", "32", "-n", "DATA", "-i", "ABCD1234"], 128),
    "swap": (["mkswap", "-L", "data", "-U", UUID], 16),
    "swap 64k pages": (["mkswap", "-p", "65536", "-L", "data"], 16),
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_tool_makes_is_recognised_with_what_blkid_says(arena: str, name: str) -> None:
    argv, mib = MADE[name]
    path = image(arena + "/i", mib * MIB)
    subprocess.run([*argv, path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = content(path)
    assert (found.kind, found.fstype) == ("known", name.split()[0])
    assert found.fstype == blkid(path, "TYPE")
    assert found.label == blkid(path, "LABEL") == ("DATA" if found.fstype == "vfat" else "data")
    assert found.uuid == blkid(path, "UUID")
    assert 0 <= mib * MIB - found.size <= found.detail["found"].facts["slack"]
    one = quick(path)
    assert (one and one[:4]) == (found.detail["found"][:4] if found.fstype not in ("ext2", "ext3") else None)


def test_a_quick_look_is_one_small_read(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB, "ext4")
    script = (
        "import sys; from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe as b;"
        "fd = b.opened(sys.argv[1]); print(b.quick(fd).fstype)"
    )
    code, out, trace = traced(arena, script, path)
    calls = [line for line in trace if path in line]
    assert out == "ext4\n"
    assert [c.split("(")[0].split()[-1] for c in calls] == ["pread64"]  # opened by its directory, see openat2
    assert ", 69632, 0)" in calls[0]


def traced(arena: str, script: str, path: str, *inject: str) -> tuple[int, str, list[str]]:
    """Run python -c under strace -y; its descriptors are shown with their paths."""
    log = arena + "/trace"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = ["strace", "-f", "-y", "-o", log, "-e", "trace=openat,pread64,read", "-P", path, *inject]
    done = subprocess.run(
        [*argv, sys.executable, "-c", script, path],
        env=env,
        capture_output=True,
        check=False,
    )
    with open(log, encoding="utf-8", errors="replace") as f:
        return done.returncode, done.stdout.decode(), [li for li in f.read().splitlines() if "+++" not in li]


# -- blank -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [512, 4096, 4 * MIB - 1, 4 * MIB + 512, 6 * MIB, 64 * MIB])
@pytest.mark.parametrize("written", [False, True])
def test_zero_bytes_are_blank_whether_stored_or_a_hole(arena: str, size: int, written: bool) -> None:
    path = image(arena + "/i", size)
    if written:
        write(path, 0, bytes(size))
    found = content(path)
    assert (found.kind, found.fstype, found.detail["signatures"]) == ("blank", "", [])
    assert found.token == content(image(arena + "/other", size)).token


@pytest.mark.parametrize("offset", [0, 511, 4 * MIB - 1, 60 * MIB, 64 * MIB - 512, 64 * MIB - 1])
def test_one_byte_at_either_end_is_not_blank(arena: str, offset: int) -> None:
    path = image(arena + "/i", 64 * MIB)
    write(path, offset, b"\1")
    assert content(path).kind == "unknown"


def test_random_data_at_one_mebibyte_is_unknown_and_never_ours_to_finish(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB)
    write(path, MIB, os.urandom(4096))
    assert content(path).kind == "unknown"
    write(path, 0, os.urandom(4096))
    assert content(path).detail["begun"] is False


def test_an_empty_file_proves_nothing(arena: str) -> None:
    with pytest.raises(StorageError) as caught:
        content(image(arena + "/i", 0))
    assert caught.value.code == "unreadable"


def test_a_loop_device_shows_what_its_file_holds(arena: str) -> None:
    with loop_device(image(arena + "/i", 64 * MIB)) as device:
        assert content(device).kind == "blank"
        write(device, 64 * MIB - 1, b"\1")
        assert content(device).kind == "unknown"


# -- foreign -----------------------------------------------------------------------------------------------------------


def _md(major: int, minor: int, size: int) -> tuple[int, bytes]:
    magic = struct.pack("<I", 0xA92B4EFC)
    place = {(0, 90): (size & ~0xFFFF) - 0x10000, (1, 0): size - 8192, (1, 1): 0, (1, 2): 4096}[major, minor]
    return place, magic + struct.pack("<I", major)


def _planted(name: str, size: int) -> tuple[int, bytes]:
    return {
        "luks": (0, b"LUKS\xba\xbe\0\2"),
        "luks secondary": (16384, b"SKUL\xba\xbe\0\2"),
        "lvm2 without a checksum": (512, b"LABELONE" + bytes(16) + b"LVM2 001"),
        "lvm2 in sector 3": (1536, b"LABELONE" + bytes(16) + b"LVM2 001"),
        "md 0.90": _md(0, 90, size), "md 1.0": _md(1, 0, size), "md 1.1": _md(1, 1, size), "md 1.2": _md(1, 2, size),
        "zfs": (0x20000 + 1024, struct.pack("<Q", 0xBAB10C)),
        "zfs at the end": (size - 0x40000 + 0x20000, struct.pack(">Q", 0xBAB10C)),
        "bcache": (4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
        "squashfs": (0, b"hsqs"), "iso9660": (32769, b"CD001"), "qcow2": (0, b"QFI\xfb"),
        "bluestore": (0, b"bluestore block device\n"), "f2fs": (1024, b"\x10\x20\xf5\xf2"),
        "ntfs": (3, b"NTFS    "), "hibernation": (4086, b"S1SUSPEND\0"), "bitlocker": (3, b"-FVE-FS-"),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["luks", "luks secondary", "lvm2 without a checksum", "lvm2 in sector 3", "md 0.90", "md 1.0", "md 1.1", "md 1.2",
     "zfs", "zfs at the end", "bcache", "squashfs", "iso9660", "qcow2", "bluestore", "f2fs", "ntfs", "hibernation",
     "bitlocker"],
)  # fmt: skip
def test_a_planted_signature_is_named(arena: str, name: str) -> None:
    path = image(arena + "/i", 64 * MIB)
    write(path, *_planted(name, 64 * MIB))
    found = content(path)
    assert (found.kind, found.fstype) == ("known", name.split()[0])
    assert found.detail["begun"] is False
    assert quick(path) is None


def run(*argv: str, stdin: bytes = b"") -> None:
    subprocess.run(argv, input=stdin, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_what_foreign_tools_really_write_is_known(arena: str) -> None:
    path = image(arena + "/gpt", 64 * MIB)
    run("sgdisk", "-n", "1:0:0", path)
    assert content(path)[:2] == ("known", "gpt")
    write(path, 0, bytes(MIB))
    assert content(path)[:2] == ("known", "gpt"), "the backup at the end alone"
    path = image(arena + "/dos", 64 * MIB)
    run("sfdisk", path, stdin=b"label: dos\n2048,,83\n")
    assert content(path)[:2] == ("known", "dos")
    path = image(arena + "/luks", 64 * MIB)
    run("cryptsetup", "luksFormat", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", path, "-",
        stdin=b"secret")  # fmt: skip
    found = content(path)
    assert found[:2] == ("known", "luks")
    assert found.uuid == blkid(path, "UUID")
    write(path, 0, bytes(512))
    assert content(path)[:2] == ("known", "luks"), "its second header alone"
    os.mkdir(arena + "/tree")
    run("mksquashfs", arena + "/tree", arena + "/sq", "-noappend")
    assert content(arena + "/sq")[:2] == ("known", "squashfs")


def test_two_signatures_are_ambivalent_and_both_are_named(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB, "ext4")
    write(path, *_planted("md 1.0", 64 * MIB))
    found = content(path)
    assert (found.kind, found.fstype, found.detail["signatures"]) == ("ambivalent", "", ["ext4", "md"])
    write(path, *_planted("luks", 64 * MIB))
    assert content(path).detail["signatures"] == ["ext4", "luks", "md"]


# -- damage and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("ext4", 1024 + 0x20),
        ("xfs", 60),
        ("btrfs", 65536 + 0x50),
        ("btrfs sha256", 65536 + 0x50),
        ("vfat 32", 32 * 512),
    ],
)
def test_a_damaged_superblock_is_unknown_never_blank_never_begun(arena: str, name: str, offset: int) -> None:
    argv, mib = MADE[name]
    path = image(arena + "/i", mib * MIB)
    subprocess.run([*argv, path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, "rb") as f:
        f.seek(offset)
        byte = f.read(1)
    write(path, offset, bytes((byte[0] ^ 0x15,)))
    found = content(path)
    assert (found.kind, found.detail["damaged"], found.detail["begun"]) == ("unknown", [name.split()[0]], False)
    assert quick(path) is None


@pytest.mark.parametrize("call", ["1", "2", "32", "33", "64"])  # 32 pieces of each end
def test_an_error_of_the_disk_is_unreadable(arena: str, call: str) -> None:
    path = image(arena + "/i", 64 * MIB)
    write(path, 0, bytes(4 * MIB))
    write(path, 60 * MIB, bytes(4 * MIB))
    _code, said, calls = traced(arena, EXAMINE, path, "-e", "trace=preadv,preadv2")
    assert said == "blank\n" and len(calls) == 64
    for what in ("error=EIO", "retval=0"):
        inject = ["-e", "trace=preadv,preadv2", "-e", "inject=preadv,preadv2:%s:when=%s" % (what, call)]
        assert traced(arena, EXAMINE, path, *inject)[1] == "unreadable\n", what


EXAMINE = """
import sys
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe, signatures
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
try:
    print(signatures.examine(blkprobe.opened(sys.argv[1]), "x").kind)
except StorageError as error:
    print(error.code)
"""


def test_a_device_that_lost_its_end_is_unreadable(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB)
    with loop_device(path) as device:
        os.truncate(path, 32 * MIB)
        with pytest.raises(StorageError) as caught:
            content(device)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "character"])
def test_what_is_no_device_is_refused_without_hanging(arena: str, kind: str) -> None:
    path = {"directory": arena, "character": "/dev/null"}.get(kind, arena + "/x\n-rf")
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(StorageError) as caught:
        content(path)
    assert caught.value.code == ("not_found" if kind == "missing" else "invalid")


# -- token -------------------------------------------------------------------------------------------------------------


def test_the_token_dies_with_any_change_of_what_was_read(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB, "ext4")
    tokens = {content(path).token}
    assert content(path).token in tokens and all(len(t) == 16 for t in tokens)
    for offset, data in ((3 * MIB, b"x"), (64 * MIB - 1, b"y"), (0, b"z")):
        write(path, offset, data)
        tokens.add(content(path).token)
    os.truncate(path, 65 * MIB)
    tokens.add(content(path).token)
    fd = blkprobe.opened(path)
    tokens.add(signatures.examine(fd, "disk-2").token)
    os.close(fd)
    assert len(tokens) == 6


def test_the_token_of_a_live_filesystem_names_it_and_not_its_bytes(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB, "ext4")
    before = content(path, live=True).token
    write(path, 3 * MIB, b"written by its user")
    assert content(path, live=True).token == before != content(path).token
    run("mkfs.ext4", "-q", path)
    assert content(path, live=True).token != before, "another uuid"


# -- parsers are total -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heads(private_mounts: None, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    found, folder = [], str(tmp_path_factory.mktemp("heads"))
    for name in ("ext4", "xfs", "btrfs", "vfat 16", "vfat 32", "swap"):
        argv, mib = MADE[name]
        path = image(folder + "/i", mib * MIB)
        subprocess.run([*argv, path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(path, "rb") as f:
            found.append(f.read(68 << 10))
        os.unlink(path)
    shutil.rmtree(folder)
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_superblocks_raise_nothing(heads: list[bytes], data: st.DataObject) -> None:
    head = bytearray(data.draw(st.sampled_from(heads)))
    places = [*range(600), *range(1024, 2048), *range(4080, 4096), *range(65536, 66200)]
    for _place in range(data.draw(st.integers(1, 8))):
        head[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(head), 0, 1, 511, 512, 1100, 2000, 4096, 65600]))
    head = head[:cut]
    size = data.draw(st.sampled_from([len(head), 1 << 26, 0, 512]))
    found = signatures.parse(bytes(head), bytes(head[-512:]), size)
    assert all(f.state in ("valid", "damaged", "partial") and isinstance(f.label, str) for f in found)


@settings(max_examples=200, deadline=None)
@given(head=st.binary(max_size=5000), tail=st.binary(max_size=5000), size=st.integers(0, 1 << 40))
def test_any_bytes_raise_nothing(head: bytes, tail: bytes, size: int) -> None:
    assert isinstance(signatures.parse(head, tail, size), list)


def test_crc32c_has_its_published_check_value() -> None:
    assert blkprobe.crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


RACED = """
import importlib, sys, threading
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe
sys.setswitchinterval(1e-6)
for _again in range(50):
    importlib.reload(blkprobe)
    start, found = threading.Barrier(4), []
    def one():
        start.wait()
        found.append(blkprobe.crc32c(b"123456789") ^ 0xFFFFFFFF)
    threads = [threading.Thread(target=one) for _each in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [0xE3069283] * 4, found
"""


def test_crc32c_is_right_for_all_threads_that_begin_with_it_at_once() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", RACED], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-600:]


def test_holes_are_proved_without_memory_for_their_zeros(arena: str) -> None:
    path = image(arena + "/i", 64 * MIB)
    assert content(path).kind == "blank"
    tracemalloc.start()
    try:
        assert content(path).kind == "blank"
        assert tracemalloc.get_traced_memory()[1] < signatures.EDGE // 2
    finally:
        tracemalloc.stop()
