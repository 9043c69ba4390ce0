# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of NFS and two clients, built by one playbook over ssh from hosts on which nothing is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
SERVER = "10.77.0.13"
HOSTS = ("server", "alpha", "beta")
ON_SERVER = {
    "filesystems": [{"device": DISK, "fstype": "xfs"}],
    "mounts": [
        {
            "path": "/srv/data",
            "source": DISK,
            "fstype": "xfs",
            "options": ["prjquota", "nosuid", "nodev"],
            "nofail": True,
        }
    ],
    "trees": [{"root": "/srv/data/blue", "entries": [{"path": ".", "mode": "0770", "owner": "1001", "group": "1001"}]}],
    "quotas": [{"path": "/srv/data/blue", "hard": "16MiB", "name": "blue"}],
    "nfs_exports": [
        {"path": "/srv/data/blue", "clients": [{"host": "10.77.0.0/24", "options": ["rw", "mp=/srv/data"]}]}
    ],
}
MOUNTS = [{"path": "/mnt/blue", "server": SERVER, "export": "/srv/data/blue", "rsize": "1MiB", "wsize": "1MiB"}]


@pytest.fixture
def guests() -> Iterator[dict[str, lab.Guest]]:
    found = {name: lab.brought_up(name) for name in HOSTS}
    yield found
    for guest in found.values():
        guest.reset()


def play(folder: Path, *more: str) -> dict[str, dict[str, Any]]:
    """What each host answered, by its name."""

    def kept(what: str) -> dict[str, Any]:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        dest = "%s/{{ inventory_hostname }}-%s" % (folder, what)
        copy = {"content": "{{ %s | to_json }}" % what, "dest": dest, "mode": "0600"}
        return {"ansible.builtin.copy": copy, "delegate_to": "localhost", "vars": local, "check_mode": False}

    layout = "bulkhead.storage.layout"
    role = {"name": "bulkhead.storage.nfs_server"}
    served = {"nfs_server_install": False}  # the service; what is exported stands on the disks
    on_server = [
        {layout: ON_SERVER, "register": "disks"},
        kept("disks"),
        {"ansible.builtin.include_role": role, "vars": served},
    ]
    on_client = [{layout: {"nfs_mounts": MOUNTS, "return_resources": True}, "register": "mounted"}, kept("mounted")]
    plays = [
        {"hosts": "server", "gather_facts": False, "tasks": on_server},
        {"hosts": "alpha:beta", "gather_facts": False, "tasks": on_client},
    ]
    (folder / "play.json").write_text(json.dumps(plays), encoding="utf-8")
    status, text = lab.ansible(folder, ["ansible-playbook", "play.json", *more])
    assert status == 0, text
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*-*")}


def test_one_play_builds_a_server_and_two_clients(guests: dict[str, lab.Guest], tmp_path: Path) -> None:
    foreseen = play(tmp_path, "--check")
    assert not guests["server"].run(["ls", "/srv"]).stdout and "/mnt" not in guests["alpha"].run(["findmnt"]).stdout
    made = play(tmp_path)
    assert {name: answer["plan_digest"] for name, answer in made.items() if "alpha" in name or "beta" in name} == {
        name: answer["plan_digest"] for name, answer in foreseen.items() if "alpha" in name or "beta" in name
    }
    assert made["server-disks"]["plan_digest"] == foreseen["server-disks"]["plan_digest"]
    assert all(answer["changed"] for answer in made.values())
    (shown,) = made["alpha-mounted"]["resources"]["nfs_mounts"]
    assert (shown["server"], shown["export"], shown["persisted"]) == (SERVER, "/srv/data/blue", True)
    again = play(tmp_path)
    assert [name for name, answer in again.items() if answer["changed"]] == []

    as_blue = ["setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", "sh", "-c"]
    guests["alpha"].run([*as_blue, "echo of alpha >/mnt/blue/told && sync /mnt/blue/told"])
    assert guests["beta"].run([*as_blue, "cat /mnt/blue/told"]).stdout == "of alpha\n"
    size = guests["beta"].run(["stat", "-f", "-c", "%b %S", "/mnt/blue"]).stdout.split()
    assert int(size[0]) * int(size[1]) == 16 << 20, "the server's project quota, as a client sees it"
    full = guests["alpha"].run([*as_blue, "dd if=/dev/zero of=/mnt/blue/much bs=1M count=32 conv=fsync"], check=False)
    taken = guests["server"].run(["du", "-s", "--block-size=1", "/srv/data/blue"]).stdout.split()[0]
    assert full.returncode and int(taken) <= 16 << 20
    guests["alpha"].run([*as_blue, "rm /mnt/blue/much"])

    awaited = "for turn in $(seq 60); do findmnt -n /mnt/blue && exit; sleep 1; done"  # nofail: no boot waits for it
    for name in ("alpha", "beta"):
        guests[name].run(["systemctl", "enable", "remote-fs.target"])  # as Debian has it, and the lab's image has not
        guests[name].reboot()
        assert "nfs4" in guests[name].run(["sh", "-c", awaited]).stdout
    guests["server"].reboot()
    assert [name for name, answer in play(tmp_path).items() if answer["changed"]] == []
    assert guests["alpha"].run([*as_blue, "cat /mnt/blue/told"], timeout=200).stdout == "of alpha\n"
    assert guests["beta"].run([*as_blue, "cat /mnt/blue/told"], timeout=200).stdout == "of alpha\n"
