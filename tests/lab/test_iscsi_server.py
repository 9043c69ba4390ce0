# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role iscsi_server over ssh: a target that is logged in to, comes back with a boot, and goes again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

IQN, ME = "iqn.2026-01.org.example:disks", "iqn.2026-01.org.example:me"
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
SERVICE = "rtslib-fb-targetctl.service"
PASSWORD = "a secret of the lab"
LOGIN = """
import subprocess, sys, time, glob
def run(*argv):
    return subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
node = ("iscsiadm", "-m", "node", "-T", sys.argv[1], "-p", "127.0.0.1:3260")
with open("/etc/iscsi/initiatorname.iscsi", "w") as f:
    f.write("InitiatorName=%s\\n" % sys.argv[2])
run("systemctl", "restart", "iscsid")
run(*node, "-o", "new")
words = {"authmethod": "CHAP", "username": "me", "password": sys.argv[3]}
for word, value in words.items():
    run(*node, "-o", "update", "-n", "node.session.auth." + word, "-v", value)
status = run(*node, "--login")
end = time.monotonic() + 20
while len(glob.glob("/dev/disk/by-id/scsi-36001405*")) < 2 and status == 0 and time.monotonic() < end:
    time.sleep(0.2)
print(status, *sorted(glob.glob("/dev/disk/by-id/scsi-36001405*")))
run(*node, "--logout")
"""


@pytest.fixture
def server() -> Iterator[lab.Guest]:
    guest = lab.brought_up("server")
    guest.reset()
    yield guest
    guest.reset()


class Role:
    """Plays of the role on the guest, each with what the task answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        play = {
            "hosts": "server",
            "gather_facts": False,
            "roles": ["bulkhead.storage.iscsi_server"],
            "post_tasks": [{"ansible.builtin.debug": {"var": "iscsi_server_result"}}],
        }
        (folder / "play.json").write_text(json.dumps([play]), encoding="utf-8")

    def __call__(self, wanted: dict[str, Any], *more: str) -> dict[str, Any]:
        (self.folder / "vars.json").write_text(json.dumps(wanted), encoding="utf-8")
        argv = ["ansible-playbook", "play.json", "-vvv", "--diff", "-e", "@vars.json", *more]
        status, text = lab.ansible(self.folder, argv, ANSIBLE_STDOUT_CALLBACK="ansible.builtin.minimal")
        assert status == 0, text
        assert PASSWORD not in text, re.findall(".*%s.*" % PASSWORD, text)
        answer: dict[str, Any] = json.loads(text[text.rindex('"iscsi_server_result": ') - 6 :])["iscsi_server_result"]
        return answer


def booted(server: lab.Guest) -> None:
    """Until all that is enabled has started: an emulated guest answers long before."""
    server.reboot()
    server.run(["systemctl", "is-system-running", "--wait"], check=False)


def test_a_target_comes_back_with_a_boot(server: lab.Guest, tmp_path: Path) -> None:
    """The guest has the package, and no network to install one from; its service is enabled by hand."""
    role = Role(tmp_path)
    server.run(["systemctl", "unmask", "modprobe@configfs.service"])  # which the lab leaves out to be up sooner
    server.run(["systemctl", "enable", SERVICE])
    # It restores what it can, once, and the lab's short boot is done before udev has named every disk.
    settled = "[Unit]\\nWants=systemd-udev-settle.service\\nAfter=systemd-udev-settle.service\\n"
    folder = "/etc/systemd/system/%s.d" % SERVICE
    server.run(["sh", "-c", "mkdir %s && printf '%s' >%s/disks.conf" % (folder, settled, folder)])
    server.run(["mkdir", "-m", "0700", "/srv/images"])
    wanted: dict[str, Any] = {
        "iscsi_server_install": False,
        "iscsi_server_targets": [
            {
                "target": IQN,
                "luns": [{"lun": 0, "file": "/srv/images/a.img", "size": "16MiB"}, {"lun": 1, "device": DISK}],
                "initiators": [{"iqn": ME, "chap": {"username": "me", "password": PASSWORD}}],
            }
        ],
    }
    foreseen = role(wanted, "--check")
    assert server.run(["ls", "/srv/images"]).stdout == "", "check mode wrote"
    made = role(wanted)
    assert (made["plan_digest"], made["actions"]) == (foreseen["plan_digest"], foreseen["actions"])
    assert role(wanted)["changed"] is False
    (shown,) = made["resources"]["iscsi_targets"]
    names = ["/dev/disk/by-id/scsi-36001405" + lun["serial"][:25] for lun in shown["luns"]]
    assert server.python(LOGIN, IQN, ME, PASSWORD).split() == ["0", *sorted(names)]
    assert server.python(LOGIN, IQN, ME, PASSWORD + "s").split() == ["24"]
    assert server.python(LOGIN, IQN, ME + "s", PASSWORD).split()[0] != "0"
    booted(server)
    assert server.python(LOGIN, IQN, ME, PASSWORD).split() == ["0", *sorted(names)]
    again = role(wanted)
    assert (again["changed"], again["resources"]) == (False, made["resources"])
    assert role({**wanted, "iscsi_server_state": "absent"})["changed"] is True
    assert server.run(["ls", "/sys/kernel/config/target/iscsi"]).stdout.split() == [
        "cpus_allowed_list", "discovery_auth", "lio_version",
    ]  # fmt: skip
    assert server.run(["ls", "/srv/images"]).stdout.split() == ["a.img"]
    booted(server)
    assert server.python(LOGIN, IQN, ME, PASSWORD).split()[0] != "0"
    assert role({**wanted, "iscsi_server_state": "absent"})["changed"] is False
