# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role storage_host over ssh: two blank disks become what is mounted, stay it over a boot, and are blank again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data%d"
SLOW = """
import os
os.makedirs("/etc/systemd/system.conf.d", exist_ok=True)
with open("/etc/systemd/system.conf.d/slow.conf", "w") as f:  # an emulated guest finds its disks late
    f.write("[Manager]\\nDefaultDeviceTimeoutSec=280\\n")
with open(os.open("/root/key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
    f.write(os.urandom(64))
"""
BLANK = """
import sys
for disk in sys.argv[1:]:
    with open(disk, "rb") as f:
        head = f.read(4 << 20)
        f.seek(-(4 << 20), 2)
        print(not any(head) and not any(f.read()))
"""


def stack(size: str = "512MiB") -> dict[str, Any]:
    return {
        "storage_host_block_devices": [{"device": DISK % 1, "partitions": [{"number": 1, "type": "lvm"}]}],
        "storage_host_luks_devices": [
            {"device": DISK % 2, "name": "safe", "key_file": "/root/key", "pbkdf": "pbkdf2"},
        ],
        "storage_host_volume_groups": [
            {"vg": "data", "pvs": [DISK % 1 + "-part1"], "lvs": [{"name": "srv", "size": size}]}
        ],
        "storage_host_filesystems": [
            {"device": "/dev/data/srv", "fstype": "xfs", "quota": ["project"]},
            {"device": "/dev/mapper/safe", "fstype": "ext4"},
        ],
        "storage_host_mounts": [
            {"path": "/srv/data", "source": "/dev/data/srv", "fstype": "xfs", "options": ["prjquota"]},
            {"path": "/srv/safe", "source": "/dev/mapper/safe", "fstype": "ext4"},
        ],
    }


class Role:
    """Plays of the role on the guest, each with what the task answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keep = {"content": "{{ storage_host_result | default(failure | default({})) | to_json }}"}
        task = {
            "block": [{"ansible.builtin.include_role": {"name": "bulkhead.storage.storage_host"}}],
            "rescue": [{"ansible.builtin.set_fact": {"failure": "{{ ansible_failed_result }}"}}],
            "always": [
                {
                    "ansible.builtin.copy": {**keep, "dest": str(folder / "result"), "mode": "0600"},
                    "delegate_to": "localhost",
                    "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
                    "check_mode": False,
                }
            ],
        }
        play = [{"hosts": "alpha", "gather_facts": False, "tasks": [task]}]
        (folder / "play.json").write_text(json.dumps(play), encoding="utf-8")

    def __call__(self, wanted: dict[str, Any], *more: str) -> dict[str, Any]:
        (self.folder / "vars.json").write_text(json.dumps(wanted), encoding="utf-8")
        status, text = lab.ansible(self.folder, ["ansible-playbook", "play.json", "-e", "@vars.json", *more])
        assert status == 0, text
        answer: dict[str, Any] = json.loads((self.folder / "result").read_text(encoding="utf-8"))
        return answer

    def done(self, wanted: dict[str, Any], *more: str) -> dict[str, Any]:
        answer = self(wanted, *more)
        assert not answer.get("failed"), [error["message"] for error in answer["errors"]]
        return answer


@pytest.fixture
def clean(guest: lab.Guest) -> Any:
    yield guest
    guest.reset()


def mounted(guest: lab.Guest, path: str) -> list[str]:
    found = guest.run(["findmnt", "--raw", "-no", "SOURCE,FSTYPE,SIZE", "--bytes", path], check=False)
    return found.stdout.split()


def test_two_blank_disks_become_the_stack_and_are_blank_again(clean: lab.Guest, tmp_path: Path) -> None:
    guest, role = clean, Role(tmp_path)
    guest.python(SLOW)
    foreseen = role.done(stack(), "--check")
    assert guest.python(BLANK, DISK % 1, DISK % 2).split() == ["True", "True"], "check mode wrote"
    made = role.done(stack())
    assert (made["plan_digest"], made["actions"]) == (foreseen["plan_digest"], foreseen["actions"])
    assert mounted(guest, "/srv/data")[0] in ("/dev/data/srv", "/dev/mapper/data-srv")
    assert mounted(guest, "/srv/data")[1] == "xfs"
    assert mounted(guest, "/srv/safe")[:2] == ["/dev/mapper/safe", "ext4"]
    assert "prjquota" in guest.run(["findmnt", "-no", "OPTIONS", "/srv/data"]).stdout
    assert guest.run(["cryptsetup", "isLuks", DISK % 2], check=False).returncode == 0
    guest.run(["touch", "/srv/data/mark", "/srv/safe/mark"])
    assert role.done(stack())["changed"] is False
    guest.reboot()
    assert guest.run(["ls", "/srv/data/mark", "/srv/safe/mark"]).stdout.split() == ["/srv/data/mark", "/srv/safe/mark"]
    assert role.done(stack())["changed"] is False, "the run after the boot has nothing to do"
    # raised from the bottom to the top, under what is mounted
    before = int(mounted(guest, "/srv/data")[2])
    assert role.done(stack("1GiB"))["changed"] is True
    assert int(mounted(guest, "/srv/data")[2]) > before * 3 // 2 and guest.run(["ls", "/srv/data/mark"]).stdout
    assert role.done(stack("1GiB"))["changed"] is False
    # nothing goes without its token
    gone = {**stack("1GiB"), "storage_host_state": "absent"}
    refused = role(gone)
    assert {error["code"] for error in refused["errors"]} == {"not_blank"}
    assert guest.run(["ls", "/srv/data/mark", "/srv/safe/mark"]).stdout.split() == ["/srv/data/mark", "/srv/safe/mark"]
    tokens = sorted({error["details"]["wipe_token"] for error in refused["errors"]})
    print("tokens:", tokens, [error["entry"] for error in refused["errors"]])
    for error in refused["errors"]:
        name, _bracket, rest = error["entry"].partition("[")
        entry = gone["storage_host_" + name][int(rest.partition("]")[0])]
        given = error["details"]["wipe_token"]
        entry["wipe_token"] = [*entry.get("wipe_token", []), given] if name == "volume_groups" else given
    role.done(gone)
    assert guest.python(BLANK, DISK % 1, DISK % 2).split() == ["True", "True"]
    assert role.done(gone)["changed"] is False
    assert "safe" not in guest.run(["cat", "/etc/crypttab", "/etc/fstab"], check=False).stdout
