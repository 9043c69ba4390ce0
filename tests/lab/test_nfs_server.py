# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nfs_server over ssh: a directory is served, stays it over a boot, and is served no more."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

PATH, HOST, FILE = "/srv/served", "10.77.0.13", "/etc/exports.d/bulkhead.exports"
READ = "mkdir -p /mnt/seen && mount -t nfs4 -o vers=4.2,retry=0 %s:%s /mnt/seen && cat /mnt/seen/file; umount /mnt/seen"


@pytest.fixture
def server() -> Iterator[lab.Guest]:
    guest = lab.brought_up("server")
    guest.run(["sh", "-c", "mkdir -p %s && echo there > %s/file" % (PATH, PATH)])
    yield guest
    guest.reset()


def play(folder: Path, wanted: dict[str, Any], *more: str) -> dict[str, Any]:
    keep = {
        "content": "{{ nfs_server_result | default({}) | to_json }}",
        "dest": str(folder / "result"),
        "mode": "0600",
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    tasks = [
        {"ansible.builtin.include_role": {"name": "bulkhead.storage.nfs_server"}},
        {"ansible.builtin.copy": keep, "delegate_to": "localhost", "vars": local, "check_mode": False},
    ]
    plays = [{"hosts": "server", "gather_facts": False, "tasks": tasks}]
    (folder / "play.json").write_text(json.dumps(plays), encoding="utf-8")
    (folder / "vars.json").write_text(json.dumps(wanted), encoding="utf-8")
    status, text = lab.ansible(folder, ["ansible-playbook", "play.json", "-e", "@vars.json", *more])
    if status:
        return {"failed": text}
    answer: dict[str, Any] = json.loads((folder / "result").read_text(encoding="utf-8"))
    return answer


def seen(guest: lab.Guest) -> str:
    return guest.run(["sh", "-c", READ % (HOST, PATH)], check=False).stdout


def test_a_directory_is_served_over_a_boot_and_then_no_more(server: lab.Guest, tmp_path: Path) -> None:
    exports = [{"path": PATH, "clients": [{"host": "10.77.0.0/24", "options": ["rw", "fsid=7"]}]}]
    wanted = {"nfs_server_exports": exports, "nfs_server_install": False}
    foreseen = play(tmp_path, wanted, "--check")
    assert not foreseen["failed"], foreseen
    assert server.run(["ls", "/etc/exports.d"], check=False).returncode != 0, "check mode wrote"
    made = play(tmp_path, wanted)
    assert (made["plan_digest"], made["changed"]) == (foreseen["plan_digest"], True)
    (shown,) = made["resources"]["nfs_exports"]
    assert shown["clients"][0]["host"] == "10.77.0.0/24" and "fsid=7" in shown["clients"][0]["options"]
    assert play(tmp_path, wanted)["changed"] is False
    assert server.run(["systemctl", "is-enabled", "nfs-server"]).stdout.strip() == "enabled"
    assert seen(server) == "there\n"
    server.reboot()
    assert server.run(["systemctl", "is-active", "nfs-server"]).stdout.strip() == "active"
    assert seen(server) == "there\n"
    assert play(tmp_path, wanted)["changed"] is False, "the run after the boot has nothing to do"
    wrong = [{"path": PATH, "clients": [{"host": "10.77.0.13/24"}]}]
    refused = play(tmp_path, {**wanted, "nfs_server_exports": wrong})
    assert "write 10.77.0.0/24, or the address alone" in refused["failed"]
    gone = play(tmp_path, {**wanted, "nfs_server_state": "absent"})
    assert gone["changed"] is True and seen(server) == ""
    assert server.run(["cat", FILE], check=False).returncode != 0
    assert play(tmp_path, {**wanted, "nfs_server_state": "absent"})["changed"] is False
