# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of NFS and iSCSI and two clients, built by one playbook over ssh from hosts on which nothing is."""

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
    "trees": [
        {"root": "/srv/data/blue", "entries": [{"path": ".", "mode": "0770", "owner": "1001", "group": "1001"}]},
        {"root": "/srv/data/volumes", "entries": [{"path": "default/" + name} for name in ("alpha", "beta")]},
    ],
    "quotas": [
        {"path": "/srv/data/blue", "hard": "16MiB", "name": "blue"},
        *({"path": "/srv/data/volumes/default/" + name, "hard": "8MiB", "name": name} for name in ("alpha", "beta")),
    ],
    "nfs_exports": [
        {"path": "/srv/data/blue", "clients": [{"host": "10.77.0.0/24", "options": ["rw", "mp=/srv/data"]}]},
        {
            "path": "/srv/data/volumes",
            "clients": [{"host": "10.77.0.0/24", "options": ["rw", "mp=/srv/data", "no_root_squash"]}],
        },
    ],
}
MOUNTS = [{"path": "/mnt/blue", "server": SERVER, "export": "/srv/data/blue", "rsize": "1MiB", "wsize": "1MiB"}]
PASSWORD = "a secret of the lab"
IQN = "iqn.2026-01.org.example:%s"
TARGETS = [
    {
        "target": IQN % name,
        "luns": [
            {"lun": n, "file": "/srv/%s-%d.img" % (name, n), "size": size} for n, size in ((0, "64MiB"), (1, "400MiB"))
        ],
        "initiators": [{"iqn": "iqn.1993-08.org.debian:01:" + name, "chap": {"username": name, "password": PASSWORD}}],
    }
    for name in ("alpha", "beta")
]
NAME = IQN % "{{ inventory_hostname }}"
LUNS = [{"iscsi": NAME, "lun": 0}, {"iscsi": NAME, "lun": 1}]
ON_CLIENT = {
    "iscsi_sessions": [
        {
            "target": NAME,
            "portals": [SERVER],
            "chap": {"username": "{{ inventory_hostname }}", "password": PASSWORD},
            "luns": [0, 1],
        }
    ],
    "filesystems": [{"device": LUNS[0], "fstype": "ext4"}, {"device": LUNS[1], "fstype": "xfs"}],
    "mounts": [
        {"path": "/mnt/own", "source": LUNS[0], "fstype": "ext4", "nofail": True},
        {"path": "/mnt/more", "source": LUNS[1], "fstype": "xfs", "options": ["prjquota"], "nofail": True},
    ],
    "trees": [{"root": "/mnt/more/blue", "entries": [{"path": ".", "mode": "0700", "owner": "1001"}]}],
    "quotas": [{"path": "/mnt/more/blue", "hard": "16MiB", "name": "blue"}],
}
VOLUMES = {
    "pools": [{"name": "far", "backend": "nfs", "config": {"server": SERVER, "export": "/srv/data/volumes"}}],
    "volumes": [{"name": "{{ inventory_hostname }}", "pool": "far", "size": "8MiB", "owner": "1001"}],
}


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
        {
            "ansible.builtin.include_role": {"name": "bulkhead.storage.iscsi_server"},
            "vars": {"iscsi_server_install": False, "iscsi_server_targets": TARGETS},
        },
        {"ansible.builtin.set_fact": {"targets": "{{ iscsi_server_result }}"}},
        kept("targets"),
    ]
    on_client = [{layout: {"nfs_mounts": MOUNTS, "return_resources": True}, "register": "mounted"}, kept("mounted")]
    on_client += [{layout: {**ON_CLIENT, "return_resources": True}, "register": "disks"}, kept("disks")]
    on_client += [{layout: {**VOLUMES, "return_resources": True}, "register": "volumes"}, kept("volumes")]
    plays = [
        {"hosts": "server", "gather_facts": False, "tasks": on_server},
        {"hosts": "alpha:beta", "gather_facts": False, "tasks": on_client},
    ]
    (folder / "play.json").write_text(json.dumps(plays), encoding="utf-8")
    status, text = lab.ansible(folder, ["ansible-playbook", "play.json", *more])
    assert status == 0, text
    assert PASSWORD not in text
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*-*")}


def test_one_play_builds_a_server_and_two_clients(guests: dict[str, lab.Guest], tmp_path: Path) -> None:
    server = guests["server"]
    server.run(["systemctl", "unmask", "modprobe@configfs.service"])  # which the lab leaves out to be up sooner
    server.run(["systemctl", "enable", "rtslib-fb-targetctl.service"])  # as the role has it, where it may install
    foreseen = play(tmp_path, "--check")
    assert not server.run(["ls", "/srv"]).stdout and "/mnt" not in guests["alpha"].run(["findmnt"]).stdout
    made = play(tmp_path, "-vvvv", "--diff")
    digests = [{name: answer["plan_digest"] for name, answer in answers.items()} for answers in (made, foreseen)]
    assert digests[0] == digests[1] and len(digests[0]) == 8
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

    for name in ("alpha", "beta"):
        (volume,) = made[name + "-volumes"]["resources"]["volumes"]
        assert (volume["status"], volume["enforced_by"]) == ("ready", "project_quota")
        much = "dd if=/dev/zero of=%s/much bs=1M count=16 conv=fsync" % volume["path"]
        full = guests[name].run(["sh", "-c", much], check=False)
        taken = server.run(["du", "-s", "--block-size=1", "/srv/data/volumes/default/" + name]).stdout.split()[0]
        assert full.returncode and 4 << 20 < int(taken) <= 8 << 20
        (session,) = made[name + "-disks"]["resources"]["iscsi_sessions"]
        assert [(each["lun"], each["size_bytes"] >> 20) for each in session["devices"]] == [(0, 64), (1, 400)]
        guests[name].run(["sh", "-c", "echo of %s >/mnt/own/told && sync /mnt/own/told" % name])
        full = guests[name].run([*as_blue, "dd if=/dev/zero of=/mnt/more/blue/much bs=1M count=32"], check=False)
        taken = guests[name].run(["du", "-s", "--block-size=1", "/mnt/more/blue"]).stdout.split()[0]
        assert full.returncode and int(taken) <= 16 << 20

    awaited = "for turn in $(seq 60); do findmnt -n /mnt/blue && exit; sleep 1; done"  # nofail: no boot waits for it
    for name in ("alpha", "beta"):
        wanted = ["remote-fs.target", "open-iscsi.service", "iscsid.socket"]
        guests[name].run(["systemctl", "enable", *wanted])  # as Debian has it, and the lab's image has not
        guests[name].reboot()
        assert "nfs4" in guests[name].run(["sh", "-c", awaited]).stdout
        assert "ext4" in guests[name].run(["sh", "-c", awaited.replace("blue", "own")]).stdout
        assert guests[name].run(["cat", "/mnt/own/told"]).stdout == "of %s\n" % name
    server.reboot()
    server.run(["systemctl", "is-system-running", "--wait"], check=False)
    assert [name for name, answer in play(tmp_path).items() if answer["changed"]] == []
    assert guests["alpha"].run([*as_blue, "cat /mnt/blue/told"], timeout=200).stdout == "of alpha\n"
    assert guests["beta"].run([*as_blue, "cat /mnt/blue/told"], timeout=200).stdout == "of alpha\n"
    for name in ("alpha", "beta"):
        guests[name].run(["sh", "-c", "echo again >>/mnt/own/told && sync /mnt/own/told"], timeout=200)
        assert guests[name].run(["cat", "/mnt/own/told"]).stdout == "of %s\nagain\n" % name
