# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written down for the next boot is there after a real one, as it was declared."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data%d"
PREPARE = (
    """
import os, subprocess
os.makedirs("/etc/systemd/system.conf.d", exist_ok=True)
with open("/etc/systemd/system.conf.d/slow.conf", "w") as f:  # an emulated guest finds its disks late
    f.write("[Manager]\\nDefaultDeviceTimeoutSec=280\\n")
for number in (1, 2):
    subprocess.run(["mkfs.ext4", "-q", "-F", "%s" %% number], check=True)
os.makedirs("/srv/images")
for name in ("fstab", "unit"):
    path = "/srv/images/%%s.img" %% name
    with open(path, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    os.makedirs("/srv/data/" + name)
    open("/srv/data/%%s/mark" %% name, "w").close()
"""
    % DISK
)
RUN = """
import json, sys
from ansible_collections.bulkhead.storage.tests.support.quotas import converge
said = converge([], **json.loads(sys.argv[1]))
print(json.dumps({key: said[key] for key in ("refused", "errors", "actions")}, default=repr))
"""
EYES = """
import glob, json, os, subprocess
disks = {os.path.realpath(path): path for path in sorted(glob.glob("/dev/disk/by-id/*"))}  # sdb may be sdc after a boot
argv = ["findmnt", "--json", "--list", "--output", "TARGET,SOURCE,FSTYPE,OPTIONS"]
rows = json.loads(subprocess.run(argv, check=True, stdout=-1).stdout)["filesystems"]
rows = {row["target"]: row for row in rows if row["target"].startswith(("/mnt/", "/srv/"))}
for row in rows.values():
    device, bracket, root = row["source"].partition("[")
    device = os.path.realpath(device) if device.startswith("/") else device  # by whichever name it was mounted
    device = disks.get(device, device)
    if device.startswith("/dev/loop"):  # another number after a boot
        device = subprocess.run(["losetup", "-nO", "BACK-FILE", device], check=True, stdout=-1).stdout.decode().strip()
    row["source"] = device + bracket + root
print(json.dumps(rows))
"""


def declaration() -> dict[str, Any]:
    """Of each record a disk, an image, a bind and a tmpfs; the binds lie on a disk of the other record."""
    document: dict[str, Any] = {"mounts": [], "tmpfs": []}
    for number, persist in enumerate(("fstab", "unit"), 1):
        top = "/mnt/by-" + persist
        said = {"persist": persist}
        document["mounts"] += [
            {
                "path": top,
                "source": DISK % number,
                "fstype": "ext4",
                "options": ["noatime", "nosuid"],
                "passno": 2,
                **said,
            },
            {
                "path": top + "/image",
                "source": "/srv/images/%s.img" % persist,
                "fstype": "ext4",
                "read_only": True,
                **said,
            },
            {"path": top + "/b ind-é%i", "source": "/srv/data/" + persist, "bind": True, "options": ["nodev"], **said},
            {"path": "/srv/again-" + persist, "source": top + "/deep", "bind": True, "nofail": True, **said},
        ]
        document["tmpfs"].append({"path": top + "/scratch", "size": "1MiB", "mode": "0700", "owner": "1000", **said})
    document["trees"] = [
        {"root": "/mnt/by-" + persist, "entries": [{"path": "deep", "mode": "0711"}]} for persist in ("fstab", "unit")
    ]
    return document


def converged(guest: lab.Guest, document: dict[str, Any]) -> list[Any]:
    said = json.loads(guest.python(RUN, json.dumps(document)))
    assert (said["refused"], said["errors"]) == ([], [])
    return [(action["verb"], action["port"], action["target"]) for action in said["actions"]]


def standing(guest: lab.Guest) -> dict[str, Any]:
    """What findmnt(8) sees of it."""
    found: dict[str, Any] = json.loads(guest.python(EYES))
    return found


@pytest.fixture
def clean(guest: lab.Guest) -> Any:
    yield guest
    guest.reset()


def test_all_of_it_stands_after_a_boot_and_nothing_is_left_to_do(clean: lab.Guest) -> None:
    guest = clean
    guest.python(PREPARE)
    document = declaration()
    assert len(converged(guest, document)) >= 20
    assert converged(guest, document) == []
    before = standing(guest)
    assert len(before) == 10, sorted(before)
    boot = guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    start = time.monotonic()
    guest.reboot()
    print("reboot: %.1f s" % (time.monotonic() - start))
    assert guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot
    after = standing(guest)
    print("\n".join("%(target)s %(source)s %(fstype)s %(options)s" % row for row in after.values()))
    assert after == before
    assert guest.run(["systemctl", "--failed", "--no-legend", "--plain"]).stdout == ""
    assert guest.run(["systemctl", "is-active", "local-fs.target"]).stdout == "active\n"
    assert converged(guest, document) == [], "the run after the boot has nothing to do"
    checked = "systemd-fsck@%s.service" % (DISK % 2)[1:].replace("-", "\\x2d").replace("/", "-")
    assert guest.run(["systemctl", "is-active", "--", checked]).stdout == "active\n", (
        "it was checked before it was mounted"
    )
    # gone from both records, it stays gone
    gone = {
        name: [{"path": entry["path"], "state": "absent"} for entry in document[name]] for name in ("mounts", "tmpfs")
    }
    converged(guest, gone)
    assert standing(guest) == {} and converged(guest, gone) == []
    left = guest.run(["find", "/etc/systemd/system", "-name", "*by*unit*"]).stdout
    assert left == "" and "by-fstab" not in guest.run(["cat", "/etc/fstab"]).stdout


def test_a_disk_that_was_divided_is_as_declared_after_a_boot(clean: lab.Guest) -> None:
    """Partitions, what stands on them, and settings that only a rule of udev brings back."""
    guest, disk = clean, DISK % 3
    part = disk + "-part2"
    document = {
        "block_devices": [
            {
                "device": disk,
                "partitions": [{"number": 1, "size": "64MiB"}, {"number": 2}],
                "scheduler": "none",
                "read_ahead": "1MiB",
            }
        ],
        "filesystems": [{"device": part, "fstype": "ext4"}],
        "mounts": [{"path": "/mnt/divided", "source": part, "fstype": "ext4", "nofail": True}],
        "io_limits": [{"name": "divided", "path": "/mnt/divided", "write_bps": "1MiB"}],
    }
    assert len(converged(guest, document)) >= 8 and converged(guest, document) == []
    guest.reboot()
    kernel = guest.run(["readlink", "-f", disk]).stdout.strip().rpartition("/")[2]
    assert guest.run(["cat", "/sys/class/block/%s/queue/read_ahead_kb" % kernel]).stdout == "1024\n"
    assert "[none]" in guest.run(["cat", "/sys/class/block/%s/queue/scheduler" % kernel]).stdout
    assert guest.run(["findmnt", "-no", "FSTYPE", "/mnt/divided"]).stdout == "ext4\n"
    argv = ["systemd-run", "-q", "--scope", "--slice=bulkhead-divided.slice", "dd", "if=/dev/zero", "of=/mnt/divided/f"]
    said = guest.run([*argv, "bs=64k", "count=128", "oflag=direct"]).stderr
    copied = re.search(r"copied, ([0-9.]+) s", said)
    assert copied and 8 / 1.1 <= float(copied[1]) <= 8 / 0.9, "8 MiB under 1 MiB/s, in a slice that starts now: " + said
    print("8 MiB under 1 MiB/s after the boot: %s s" % copied[1])
    assert converged(guest, document) == [], "the run after the boot has nothing to do"
