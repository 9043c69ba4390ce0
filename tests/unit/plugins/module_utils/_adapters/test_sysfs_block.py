# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a device is and who uses it: on this kernel's loop devices, and on trees laid out as in sysfs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.block import Block
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, busy, is_stable_name
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.namespace import (
    image,
    loop_device,
)

MIB = 1 << 20


def said(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode().strip()


@contextlib.contextmanager
def mounted(device: str, at: str, *options: str) -> Iterator[str]:
    os.makedirs(at, exist_ok=True)
    subprocess.run(["mount", *options, device, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.parametrize(
    ("path", "stable"),
    [
        ("/dev/disk/by-id/wwn-0x5000", True), ("/dev/disk/by-uuid/0-1", True), ("/dev/disk/by-partuuid/0-1", True),
        ("/dev/disk/by-label/data", False), ("/dev/disk/by-path/pci-0", False), ("/dev/mapper/vg-lv", True),
        ("/dev/mapper/control", False), ("/dev/vg/lv", True), ("/dev/sda", False), ("/dev/vdb1", False),
        ("/dev/nvme0n1", False), ("/dev/loop0", False), ("/dev/dm-0", False), ("/dev/block/7:0", False),
        ("/dev/md/data", True), ("/dev/md0", False), ("/dev/rbd/pool/image", True), ("/srv/images/a.img", True),
        ("/dev/disk/by-id/a/b", False), ("/device/x", True),
    ],
)  # fmt: skip
def test_names_that_stay_after_a_reboot(path: str, stable: bool) -> None:
    assert is_stable_name(path) is stable


def test_a_loop_device_is_known_by_its_file(arena: str) -> None:
    path = image(arena + "/a b\u00e9.img", 5 * MIB + 512)
    look = Sysfs()
    assert look.resolve(path) == ""
    with loop_device(path) as device:
        dev = look.resolve(device)
        seen = os.stat(device)
        assert dev == "%d:%d" % (os.major(seen.st_rdev), os.minor(seen.st_rdev))
        assert "/dev/" + look.name(dev) == device
        assert look.size(dev) == int(said("blockdev", "--getsize64", device)) == 5 * MIB + 512
        assert look.logical_block_size(dev) == int(said("blockdev", "--getss", device))
        assert look.identity(dev) == path
        assert look.diskseq(dev) == said("cat", "/sys/block/%s/diskseq" % look.name(dev))
        assert look.loops(path) == look.in_use(path, "") == [device]
        assert look.in_use(device, dev) == []
        first = look.diskseq(dev)
    assert Sysfs().in_use(path, "") == []
    with loop_device(path) as again:
        assert look.diskseq(look.resolve(again)) != first


@pytest.mark.parametrize(("path", "code"), [("/nowhere/x", "not_found"), ("/tmp", "invalid"), ("/dev/null", "invalid")])
def test_only_block_devices_and_files(path: str, code: str) -> None:
    with pytest.raises(StorageError) as caught:
        Sysfs().resolve(path)
    assert caught.value.code == code


def test_a_mount_is_named_whatever_its_path(arena: str) -> None:
    with loop_device(image(arena + "/i", 64 * MIB, "ext4")) as device, mounted(device, arena + "/a b\n#"):
        dev = Sysfs().resolve(device)
        assert Sysfs().in_use(device, dev) == [arena + "/a b\n#"]
        assert busy(device)


def test_btrfs_counts_for_each_of_its_devices(arena: str) -> None:
    with loop_device(image(arena + "/a", 128 * MIB)) as a, loop_device(image(arena + "/b", 128 * MIB)) as b:
        subprocess.run(["mkfs.btrfs", "-q", a, b], check=True)
        with mounted(a, arena + "/m"):
            look = Sysfs()
            for device in (a, b):
                assert look.in_use(device, look.resolve(device)) == [arena + "/m"]


def test_a_mount_in_another_namespace_is_in_use(arena: str) -> None:
    with loop_device(image(arena + "/i", 64 * MIB, "ext4")) as device:
        os.mkdir(arena + "/m")
        script = 'mount "$1" "$2" && echo up && read x'
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", device, arena + "/m"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout and other.stdout.readline() == b"up\n"
            look = Sysfs()
            assert arena + "/m" not in said("cat", "/proc/self/mountinfo")
            assert look.in_use(device, look.resolve(device)) == ["another program or mount namespace"]
            other.communicate(b"\n")


def test_swap_is_in_use_and_protected(arena: str) -> None:
    with loop_device(image(arena + "/i", 16 * MIB)) as device:
        subprocess.run(["mkswap", device], check=True, stdout=subprocess.DEVNULL)
        assert Sysfs().protected(Sysfs().resolve(device)) == ""
        if subprocess.run(["swapon", device], check=False, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("this kernel takes no swap on a loop device over tmpfs")
        try:
            look = Sysfs()
            dev = look.resolve(device)
            assert (look.in_use(device, dev), look.protected(dev)) == (["swap"], "swap")
        finally:
            subprocess.run(["swapoff", device], check=True)


def test_the_device_of_the_root_is_protected() -> None:
    seen = os.stat("/")
    dev = "%d:%d" % (os.major(seen.st_dev), os.minor(seen.st_dev))
    if dev.startswith("0:"):
        dev = Sysfs().resolve(said("findmnt", "-nvo", "SOURCE", "/"))
    assert Sysfs().protected(dev) == "/"


def test_what_lies_beneath_a_vital_mount_is_protected(arena: str) -> None:
    """A loop device mounted over /var of the private namespace protects itself; its neighbour stays free."""
    outer = image(arena + "/outer", 200 * MIB, "ext4")
    with loop_device(outer) as under, mounted(under, arena + "/m"):
        inner = image(arena + "/m/inner", 128 * MIB, "btrfs")
        with loop_device(inner) as over, loop_device(image(arena + "/free", MIB)) as free, mounted(over, "/var"):
            look = Sysfs()
            found = {name: look.protected(look.resolve(d)) for name, d in (("o", over), ("u", under), ("f", free))}
    assert found == {"o": "/var", "u": "/var", "f": ""}


# -- a tree as the kernel shows it for what this host lacks ------------------------------------------------------------


def plant(root: str, files: dict[str, str], links: dict[str, str]) -> Sysfs:
    for path, text in files.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        with open(root + path, "w", encoding="utf-8") as f:
            f.write(text + "\n")
    for path, goal in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(goal, root + path)
    return Sysfs(root)


@pytest.fixture
def stack(tmp_path: Any) -> Sysfs:
    """NVMe disk with an ESP and a second partition; SCSI disk; a volume group over both, LUKS on its volume."""
    nvme = "/sys/devices/pci0/nvme/nvme0/nvme0n1"
    sda, dm = "/sys/devices/pci0/ata1/block/sda", "/sys/devices/virtual/block"
    files = {
        nvme + "/dev": "259:0", nvme + "/size": "2097152", nvme + "/diskseq": "9", nvme + "/wwid": "eui.0025",
        nvme + "/device/serial": "S4EV ", nvme + "/nvme0n1p1/dev": "259:1", nvme + "/nvme0n1p1/partition": "1",
        nvme + "/nvme0n1p2/dev": "259:2", nvme + "/nvme0n1p2/partition": "2", nvme + "/queue/scheduler": "[none]",
        sda + "/dev": "8:0", sda + "/device/wwid": "naa.5000c5", sda + "/device/vpd_pg80": "\0\x80\0\4ZDH1",
        dm + "/dm-0/dev": "253:0", dm + "/dm-0/dm/name": "vg--a-lv", dm + "/dm-0/dm/uuid": "LVM-abc",
        dm + "/dm-1/dev": "253:1", dm + "/dm-1/dm/name": "secret", dm + "/dm-1/dm/uuid": "CRYPT-LUKS2-x",
        "/proc/self/mountinfo": "30 1 253:1 / /srv/data rw - ext4 /dev/mapper/secret rw",
        "/proc/swaps": "Filename Type Size Used Priority",
        "/run/udev/data/b259:1": "E:ID_PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    }  # fmt: skip
    devices = {
        "259:0": nvme, "259:1": nvme + "/nvme0n1p1", "259:2": nvme + "/nvme0n1p2", "8:0": sda,
        "253:0": dm + "/dm-0", "253:1": dm + "/dm-1",
    }  # fmt: skip
    root = str(tmp_path)
    links = {"/sys/dev/block/" + dev: root + path for dev, path in devices.items()}
    for low, high in (("259:2", "253:0"), ("8:0", "253:0"), ("253:0", "253:1")):
        links[devices[low] + "/holders/" + os.path.basename(devices[high])] = root + devices[high]
        links[devices[high] + "/slaves/" + os.path.basename(devices[low])] = root + devices[low]
    return plant(root, files, links)


def test_partitions_holders_slaves_and_all_of_them(stack: Sysfs) -> None:
    assert stack.partitions("259:0") == ["259:1", "259:2"]
    assert stack.holders("259:2") == ["253:0"] and stack.slaves("253:0") == ["259:2", "8:0"]
    assert stack.beneath("253:1") == {"253:0", "259:2", "259:0", "8:0"}
    assert stack.above("259:0") == {"259:1", "259:2", "253:0", "253:1"}
    assert stack.above("8:0") == {"253:0", "253:1"}
    assert stack.disk("259:2") == "259:0" and stack.disk("8:0") == "8:0"
    assert stack.size("259:0") == 1 << 30 and stack.diskseq("259:2") == "9"


def test_identities(stack: Sysfs) -> None:
    assert stack.identity("259:0") == "eui.0025" and stack.identity("259:2") == "eui.0025-part2"
    assert stack.serial("259:1") == "S4EV" and stack.serial("8:0") == "ZDH1"
    assert stack.identity("8:0") == "naa.5000c5"
    assert stack.identity("253:0") == "LVM-abc" and stack.name("253:0") == "dm-0"
    assert stack.identity("1:2") == ""


def test_a_logical_volume_is_stable_only_under_its_own_name(stack: Sysfs) -> None:
    assert stack.stable("/dev/vg-a/lv", "253:0")
    assert not stack.stable("/dev/vg/a-lv", "253:0") and not stack.stable("/dev/vg-a/lv", "8:0")
    assert stack.stable("/dev/vg-a/lv", ""), "not there yet: its name is all there is"


def test_what_stands_on_a_disk_uses_it(stack: Sysfs) -> None:
    assert stack.in_use("/x", "8:0") == ["/dev/dm-0", "/dev/dm-1", "/srv/data"]
    assert "/srv/data" in stack.in_use("/x", "259:0")


def test_a_boot_partition_is_protected_and_so_is_its_disk(stack: Sysfs) -> None:
    assert stack.protected("259:1") == stack.protected("259:0") == "boot partition"
    assert stack.protected("259:2") == stack.protected("") == ""


def test_an_attribute_that_cannot_be_read_is_not_absent(tmp_path: Any) -> None:
    os.makedirs(str(tmp_path / "sys/dev/block/8:0/size"))
    with pytest.raises(StorageError):
        Sysfs(str(tmp_path)).read("8:0", "size")


# -- the port of settings ----------------------------------------------------------------------------------------------


def test_settings_are_read_and_written(arena: str) -> None:
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = Block()
        now = port.scan([device])[device]
        assert now["read_only"] is False and now["_size"] == 8 * MIB and now["_stable"] is False
        assert now["read_ahead"] == 512 * int(said("blockdev", "--getra", device))
        after = {**now, "scheduler": "mq-deadline", "read_ahead": 64 << 10, "read_only": True}
        port.put(device, now, after)
        assert said("blockdev", "--getra", "--getro", device).split() == ["128", "1"]
        queue = "/sys/block/%s/queue/" % os.path.basename(device)
        assert "[mq-deadline]" in said("cat", queue + "scheduler")
        with pytest.raises(StorageError) as caught:
            port.put(device, now, after)
        assert caught.value.code == "moved"
        with pytest.raises(StorageError) as caught:
            port.put(device, after, {**after, "scheduler": "no-such"})
        assert caught.value.code == "failed"
        with pytest.raises(StorageError) as caught:
            port.put(device, after, {**after, "read_ahead": (64 << 10) + 512})
        assert caught.value.code == "not_enforced"
        port.put(device, after, now)
        assert said("blockdev", "--getro", device) == "0"


def test_what_is_still_mounted_stays_writable(arena: str) -> None:
    """As when another action of the same plan was to unmount it, and failed."""
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = Block()
        said("mkfs.ext4", "-q", device)
        now = port.scan([device])[device]
        with mounted(device, arena + "/m"), pytest.raises(StorageError, match="is mounted at .*/m") as caught:
            port.put(device, now, {**now, "read_only": True})
        assert caught.value.code == "in_use" and said("blockdev", "--getro", device) == "0"
        port.put(device, now, {**now, "read_only": True})
        with mounted(device, arena + "/m"):
            sealed = {**now, "read_only": True}
            port.put(device, sealed, {**sealed, "read_ahead": 64 << 10})  # what is read-only already may be in use
        said("blockdev", "--setrw", device)  # a loop device keeps it for whoever has it next


def test_settings_of_what_is_no_device(arena: str) -> None:
    port, path = Block(), image(arena + "/i", MIB)
    rows = port.scan([arena + "/none", path])
    assert list(rows) == [path] and rows[path].code == "invalid"
    for before, after in ((None, {}), ({}, None)):
        with pytest.raises(StorageError) as caught:
            port.put(path, before, after)
        assert caught.value.code == "not_found"
    with pytest.raises(StorageError):
        port.scan(None)


def test_refusals_of_settings() -> None:
    port = Block()
    now = {"read_only": False, "read_ahead": 4096, "scheduler": "none", "_mounts": [], "_protected": ""}
    now["_schedulers"] = ["none", "mq-deadline"]

    def code(seen: dict[str, Any], after: dict[str, Any], gone: Any = frozenset()) -> str | None:
        error = port.refuse("/dev/sdb", {**now, **seen}, {**now, **after}, set(gone))
        return error and error.code

    assert port.refuse("/dev/sdb", None, now, set()).code == "not_found"  # type: ignore[union-attr]
    assert code({}, {"read_only": True}) is None
    port.seen = {"/dev/sdb": {"_stable": False, "_by_id": ["/dev/disk/by-id/x"]}, "/dev/sdc": {"_stable": True}}
    assert port.unstable("/dev/sdb").code == "unstable_device"  # type: ignore[union-attr]
    assert port.unstable("/dev/sdc") is port.unstable("/dev/sdd") is None
    assert code({}, {"scheduler": "mq-deadline"}) is None
    assert code({}, {"scheduler": "no-such"}) == "unsupported"
    assert code({"_protected": "/"}, {"read_only": True}) == "protected"
    assert code({"_mounts": ["/a"]}, {"read_only": True}) == "in_use"
    assert code({"_mounts": ["/a"]}, {"read_only": True}, {("mount", "/a")}) is None
    assert code({"_mounts": ["/a"], "_protected": "/"}, {}) is None
    assert code({}, {"read_ahead": 5000}) == "invalid"
    assert (port.lowers("x", now, now), port.risk("x", now, now)) == (False, "reversible")
