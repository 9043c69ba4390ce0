# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role shard_node over ssh: the double of EC2 says who has the volume, and QEMU gives those guests the disk, late.

It is late by as much as a task that looks for it has to fail once. One file of this host is the disk of all, as the
volume is one. What holds is asked of the guests and of the double.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest
import trees

from ansible_collections.bulkhead.storage.tests.lab import guest as machine
from ansible_collections.bulkhead.storage.tests.lab.places import DISKS, RUN
from ansible_collections.bulkhead.storage.tests.support import ec2, lab

NODES = ("alpha", "beta")
PATH = "/shards-1"
# As udev names the disk of a volume on the Nitro System; there it is NVMe, which QEMU cannot add to these guests.
RULE = (
    'KERNEL=="sd*", ENV{DEVTYPE}=="disk", ENV{ID_SERIAL_SHORT}=="vol*",'
    ' SYMLINK+="disk/by-id/nvme-Amazon_Elastic_Block_Store_$env{ID_SERIAL_SHORT}"\n'
)


class Hypervisor:
    """What stands between EC2 and the guests: whoever the volume is attached to has its disk, when that was missed."""

    def __init__(self, cloud: ec2.EC2, names: dict[str, str], log: Path) -> None:
        self.cloud, self.names, self.log = cloud, names, log
        self.file = DISKS / "shards-1.raw"
        self.plugged: set[str] = set()
        self.ended = threading.Event()
        self.wrong: list[BaseException] = []

    def volume(self) -> dict[str, Any]:
        (row,) = (row for row in self.cloud.volumes().values() if row.get("Tags"))
        return row

    def watch(self) -> None:
        try:
            while not self.ended.wait(0.5):
                for row in self.cloud.volumes().values():
                    if row.get("Tags"):  # a root device has none
                        self.follow(row)
        except BaseException as error:  # shown by the test's own thread
            self.wrong.append(error)

    def follow(self, row: dict[str, Any]) -> None:
        serial = row["VolumeId"].replace("-", "")
        has = {self.names[each["InstanceId"]] for each in row["Attachments"] if each["State"] == "attached"}
        said = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        for name in has - self.plugged:
            if "FAILED - RETRYING: [%s]: " % name in said:
                self.plug(name, serial)
                self.plugged.add(name)

    def plug(self, name: str, serial: str) -> None:
        if not self.file.exists():
            with open(self.file, "wb") as f:
                f.truncate(4 << 30)
        # several QEMUs: no lock of theirs, and no page of the host between them
        cache = {"cache": {"direct": True}}
        file = {"driver": "file", "filename": str(self.file), "locking": "off", **cache}
        disk: dict[str, Any] = {"drive": serial, "serial": serial, "device_id": serial, "id": serial, "share-rw": True}
        with machine.Monitor(RUN / name) as monitor:
            monitor("blockdev-add", **{"node-name": serial, "driver": "raw", "file": file, **cache})
            monitor("device_add", driver="scsi-hd", bus="scsi.0", **disk)


@pytest.fixture
def nodes() -> Iterator[dict[str, lab.Guest]]:
    found = {name: lab.brought_up(name) for name in NODES}
    for guest in found.values():
        guest.reset()
        guest.run(["sh", "-c", "cat >/etc/udev/rules.d/61-ebs.rules && udevadm control --reload"], input=RULE)
    yield found
    for guest in found.values():
        guest.reset()  # without the disk


@pytest.fixture
def hypervisor(nodes: dict[str, lab.Guest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hypervisor]:
    with ec2.double() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        made = Hypervisor(cloud, dict(zip(cloud.instances(2), nodes)), tmp_path / "log")
        thread = threading.Thread(target=made.watch)
        thread.start()
        try:
            yield made
        finally:
            made.ended.set()
            thread.join()
            made.file.unlink(missing_ok=True)
    assert made.wrong == []


class Role:
    """Plays of the role on both nodes, with what each of its tasks answered there."""

    def __init__(self, folder: Path, hypervisor: Hypervisor) -> None:
        self.folder, self.log = folder, hypervisor.log
        own = {name: {"instance_id": instance} for instance, name in hypervisor.names.items()}
        (folder / "nodes.json").write_text(json.dumps({"shard_nodes": {"hosts": own}}), encoding="utf-8")
        results = {
            name: {what: "{{ hostvars.%s.shard_node_%s }}" % (name, what) for what in ("result", "demoted", "promoted")}
            for name in own
        }
        copy = {"content": "{{ results | to_json }}", "dest": str(folder / "results"), "mode": "0600"}
        keep = {"ansible.builtin.copy": copy, "vars": {"results": results}, "check_mode": False}
        plays = [
            {"hosts": "shard_nodes", "gather_facts": False, "roles": ["bulkhead.storage.shard_node"]},
            {"hosts": "localhost", "gather_facts": False, "tasks": [keep]},
        ]
        (folder / "play.json").write_text(json.dumps(plays), encoding="utf-8")

    def __call__(self, primary: str, backup: str, *more: str) -> tuple[int, str, Any]:
        ebs = {"availability_zone": ec2.REGION + "a", "size": "4GiB", "iops": 400}
        volume = {"name": "shards-1", "ebs": ebs, "primary": primary, "backups": [backup], "path": PATH}
        (self.folder / "vars.json").write_text(json.dumps({"shard_node_volumes": [volume]}), encoding="utf-8")
        own = ["-i", str(trees.CACHE / "lab" / "inventory.json"), "-i", "nodes.json", "-e", "@vars.json"]
        (self.folder / "results").unlink(missing_ok=True)
        argv = ["ansible-playbook", "play.json", *own, *more]
        status, text = lab.ansible(self.folder, argv, ANSIBLE_LOG_PATH=str(self.log))
        kept = self.folder / "results"  # not where all hosts have failed
        return status, text, json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}

    def good(self, *how: str) -> tuple[str, Any]:
        status, text, results = self(*how)
        assert status == 0, text
        return text, results


def changes(results: Any) -> dict[str, set[str]]:
    """Which tasks change something, by node."""
    return {name: {what for what, answer in said.items() if answer["changed"]} for name, said in results.items()}


def digests(results: Any) -> list[str]:
    return [answer["plan_digest"] for _name, said in sorted(results.items()) for _what, answer in sorted(said.items())]


def read_only(guest: lab.Guest, disk: str) -> str:
    return guest.run(["blockdev", "--getro", disk]).stdout.strip()


@contextlib.contextmanager
def observed(old: lab.Guest, new: lab.Guest, disk: str) -> Iterator[list[tuple[str, str]]]:
    """Whether the disk is read-only, on the old primary and on the new one, again and again.

    The new one is asked first: where both are seen writable, the old one was so after the new one.
    """
    seen: list[tuple[str, str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            later = read_only(new, disk)
            seen.append((read_only(old, disk), later))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_one_node_writes_and_the_other_one_stands_by(
    nodes: dict[str, lab.Guest], hypervisor: Hypervisor, tmp_path: Path
) -> None:
    role, cloud = Role(tmp_path, hypervisor), hypervisor.cloud
    alpha, beta = nodes["alpha"], nodes["beta"]
    before = cloud.volumes()
    _text, foreseen = role.good("alpha", "beta", "--check")
    assert {call["action"][:8] for call in cloud.calls()} == {"Describe"} and cloud.volumes() == before
    _text, made = role.good("alpha", "beta")
    assert made["alpha"]["result"]["plan_digest"] == foreseen["alpha"]["result"]["plan_digest"]
    assert hypervisor.plugged == set(NODES)
    row = hypervisor.volume()
    assert {each["InstanceId"]: each["State"] for each in row["Attachments"]} == dict.fromkeys(
        hypervisor.names, "attached"
    )
    assert row["MultiAttachEnabled"] is True
    disk = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + row["VolumeId"].replace("-", "")
    assert (read_only(alpha, disk), read_only(beta, disk)) == ("0", "1")
    for guest in (alpha, beta):
        assert guest.run(["findmnt", "--source", disk], check=False).stdout == ""
        assert guest.run(["wipefs", "--noheadings", disk]).stdout == "", "nothing is formatted"
    cloud.clear()
    _text, again = role.good("alpha", "beta")
    assert changes(again) == {"alpha": set(), "beta": set()}
    assert [call["action"] for call in cloud.calls()] == ["DescribeVolumes"]

    # by hand, as long as promotion is no part of the role
    prepare = "mkfs.ext4 -q -F {0} && mkdir {1} && echo '{0} {1} ext4 nofail 0 0' >>/etc/fstab && mount {1}"
    alpha.run(["sh", "-c", (prepare + " && echo of alpha >{1}/told").format(disk, PATH)])
    fstab = alpha.run(["cat", "/etc/fstab"]).stdout
    _text, foreseen = role.good("beta", "alpha", "--check")
    assert (read_only(alpha, disk), read_only(beta, disk)) == ("0", "1")
    alpha.run(["systemd-run", "--unit=user", "--working-directory=" + PATH, "sleep", "10000"])
    status, text, _results = role("beta", "alpha")
    assert status == 2 and '"code": "in_use"' in text, text
    assert "shards-1: nothing shows that the backup alpha has the disk read-only" in text, text
    assert (read_only(alpha, disk), read_only(beta, disk)) == ("0", "1")
    assert alpha.run(["cat", PATH + "/told", "/etc/fstab"]).stdout == "of alpha\n" + fstab
    alpha.run(["systemctl", "stop", "user"])

    with observed(alpha, beta, disk) as seen:
        _text, exchanged = role.good("beta", "alpha")
    assert digests(exchanged) == digests(foreseen)
    assert changes(exchanged) == {"alpha": {"demoted"}, "beta": {"promoted"}}
    assert ("0", "0") not in seen and (seen[0], ("1", "0")) == (("0", "1"), seen[-1]), seen
    assert alpha.run(["findmnt", PATH], check=False).stdout == ""
    assert PATH not in alpha.run(["cat", "/etc/fstab"]).stdout
    denied = alpha.run(["dd", "if=/dev/zero", "of=" + disk, "count=1", "conv=notrunc"], check=False)
    assert denied.returncode and "Operation not permitted" in denied.stderr
    assert beta.run(["sh", "-c", "mount %s /mnt && cat /mnt/told && umount /mnt" % disk]).stdout == "of alpha\n"
    _text, again = role.good("beta", "alpha")
    assert changes(again) == {"alpha": set(), "beta": set()}
