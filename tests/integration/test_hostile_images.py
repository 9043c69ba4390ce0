# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files of tenants that are formatted, labelled and mounted: hard links, links to disks, fifos in their place.

Each trap first catches what a careful person writes by paths, then meets the modules and the engine doing the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter

import pytest

from ansible_collections.bulkhead.storage.tests.support import attack, module, namespace

TENANT, OTHER = attack.TENANT, attack.OTHER


pytestmark = pytest.mark.usefixtures("attacked")


def test_a03_an_image_that_is_a_hard_link_or_a_link_to_a_device(theirs: str) -> None:
    """Formatting it, or mounting it for the tenant, would be done to somebody else's file or to a disk of the host."""
    other = namespace.image("/srv/other.img", 64 << 20)
    full = namespace.image("/srv/full.img", 64 << 20, "ext4")
    for path in (other, full):
        os.chown(path, OTHER, OTHER)
        os.chmod(path, 0o666)
    disk, blank = (os.path.realpath("/dev/disk/by-id/virtio-" + name) for name in ("data-0001", "blank-0001"))
    for name, act, to in (
        ("hard", os.link, other), ("soft", os.symlink, other), ("raw", os.symlink, blank),
        ("full", os.link, full), ("disk", os.symlink, disk),
    ):  # fmt: skip
        assert attack.once(lambda a=act, t=to, n=name: a(t, theirs + "/" + n)) == 0  # type: ignore[misc]

    def fstype(path: str) -> str:
        argv = ["blkid", "-p", "-o", "value", "-s", "TYPE", path]
        return subprocess.run(argv, check=False, stdout=subprocess.PIPE).stdout.decode().strip()

    point = "/mnt/image"
    os.mkdir(point)
    codes = []
    for name in ("hard", "soft", "raw"):
        answer = module.run("filesystem", {"device": theirs + "/" + name, "fstype": "ext4"}).result
        codes.append(answer.get("code"))
    assert (fstype(other), fstype(blank)) == ("", "")
    for name in ("full", "disk"):
        options = {"path": point, "source": theirs + "/" + name, "fstype": "ext4", "persist": "none"}
        codes.append(module.run("mount", options).result.get("code"))
        assert attack.mounted(point) == []
    lost = 0
    for name, victim in (("hard", other), ("raw", blank)):
        subprocess.run(["mkfs.ext4", "-q", "-F", theirs + "/" + name, "8M"], check=True)
        lost += fstype(victim) == "ext4"
        with open(victim, "r+b") as stream:
            stream.write(bytes(8 << 20))
    for name in ("full", "disk"):
        subprocess.run(["mount", theirs + "/" + name, point], check=True)
        lost += os.path.isdir(point + "/lost+found")
        attack.taken_down(point)
    os.rmdir(point)
    print("A3 images: 5 links, naive lost %d of 4, ours 0: %s" % (lost, ", ".join(map(str, codes))))
    assert lost == 4 and codes == ["unsafe_path"] * 5


def test_a05_an_image_exchanged_for_a_link_to_a_disk_before_it_is_mounted(theirs: str) -> None:
    """Between the look and the mount: what the plan has seen was the tenant's own image."""
    path, point = theirs + "/data", "/mnt/image"
    os.chown(namespace.image(path, 16 << 20, "ext4"), TENANT, TENANT)
    os.unlink(theirs + "/link")
    os.symlink(os.path.realpath("/dev/disk/by-id/virtio-data-0001"), theirs + "/link")
    os.mkdir(point)
    with open("/proc/self/mountinfo") as stream:
        assert point not in stream.read()

    def size() -> int:
        found = os.statvfs(point) if os.path.ismount(point) else None
        return found.f_blocks * found.f_frsize if found else 0

    strange = 0

    def victims() -> int:
        nonlocal strange
        strange += size() > 16 << 20
        attack.taken_down(point)
        return strange

    def by_check() -> None:
        if os.path.isfile(path) and not os.path.islink(path):
            subprocess.run(["mount", "-t", "ext4", path, point], check=True, stderr=subprocess.DEVNULL)

    document = {"mounts": [{"path": point, "source": path, "fstype": "ext4", "persist": "none"}]}
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(path, theirs + "/link")) as them:
        naive = attack.lost(by_check, victims)
        end = time.monotonic() + 4
        while outcomes.total() < 200 or time.monotonic() < end:
            outcomes[attack.engine(document, quick=True)["code"]] += 1
            assert size() <= 16 << 20, "a disk of the host was mounted for the tenant"
            attack.taken_down(point)
        exchanges = them.count
    os.rmdir(point)
    line = "A5 image: %d mounts (%s), %d exchanges, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[::-1]))
    assert naive[1] and outcomes["ok"] and outcomes["unsafe_path"]


def test_a07_an_image_exchanged_for_a_fifo_before_it_is_mounted(theirs: str) -> None:
    """To open it for reading would wait for a writer, for ever."""
    path, fifo, point = theirs + "/data", theirs + "/fifo", "/mnt/image"
    os.chown(namespace.image(path, 16 << 20, "ext4"), TENANT, TENANT)
    assert attack.once(lambda: os.mkfifo(fifo)) == 0
    os.mkdir(point)

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError("it waits")

    def by_check() -> None:
        if os.path.isfile(path):
            os.close(os.open(path, os.O_RDONLY))

    document = {"mounts": [{"path": point, "source": path, "fstype": "ext4", "persist": "none", "read_only": True}]}
    outcomes: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, late)
    hung = 0
    try:
        with attack.tenant(attack.exchange(path, fifo)) as them:
            end = time.monotonic() + 10
            while not hung and time.monotonic() < end:
                signal.setitimer(signal.ITIMER_REAL, 0.5)
                try:
                    by_check()
                except TimeoutError:
                    hung += 1
            end = time.monotonic() + 2
            while outcomes.total() < 200 or time.monotonic() < end:
                signal.setitimer(signal.ITIMER_REAL, 5)
                outcomes[attack.engine(document, quick=True)["code"]] += 1
                attack.taken_down(point)
            exchanges = them.count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.rmdir(point)
    line = "A7 image: %d mounts (%s), %d exchanges, naive hung %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, hung))
    assert hung and outcomes["ok"] and outcomes.keys() <= {"ok", "unsafe_path", "invalid", "did_not_settle", "in_use"}


def test_a05_an_image_exchanged_for_a_link_to_a_disk_while_it_is_labelled(theirs: str) -> None:
    """Programs are given what was opened and looked at, never the name of it."""
    path, disk = theirs + "/data", os.path.realpath("/dev/disk/by-id/virtio-data-0001")
    os.chown(namespace.image(path, 16 << 20, "ext4"), TENANT, TENANT)
    os.unlink(theirs + "/link")
    os.symlink(disk, theirs + "/link")

    def label() -> bytes:
        with open(disk, "rb") as stream:  # of ext4, at 120 of its superblock
            return os.pread(stream.fileno(), 16, 1024 + 120)

    def by_check() -> None:
        if os.path.isfile(path) and not os.path.islink(path):
            subprocess.run(["e2label", path, "n%d" % (time.monotonic_ns() % 97)], check=True, stderr=subprocess.DEVNULL)

    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(path, theirs + "/link")) as them:
        naive = attack.lost(by_check, label)
        before = label()
        end = time.monotonic() + 3
        while outcomes.total() < 150 or time.monotonic() < end:
            entry = {"device": path, "fstype": "ext4", "label": "ours%d" % (outcomes.total() % 2)}
            outcomes[attack.engine({"filesystems": [entry]}, quick=True)["code"]] += 1
            assert label() == before
        exchanges = them.count
    line = "A5 label: %d changes (%s), %d exchanges, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[::-1]))
    assert naive[1] and outcomes["ok"] and outcomes["unsafe_path"]
