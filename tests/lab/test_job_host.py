# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs by the role and the playbook, over ssh: with volumes, over a boot, and with what a survey answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

MOUNTS = """
for line in open("/proc/self/mountinfo"):
    print(*line.split()[2:])
"""

HOLDERS = """
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
rows = Record().scan(None)
print({key[8:]: sorted(row["attachments"]) for (kind, key), row in sorted(rows.items()) if kind == "volume"})
"""


@pytest.fixture
def guest(guest: lab.Guest) -> Any:
    yield guest
    guest.reset()


class Playbooks:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        role = {"hosts": "alpha", "gather_facts": False, "roles": ["bulkhead.storage.job_host"]}
        result = {
            "hosts": "alpha",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.debug": {"var": "job_host_result"}}],
        }
        (folder / "role.json").write_text(json.dumps([role, result]), encoding="utf-8")

    def __call__(self, name: str, values: dict[str, Any], *more: str) -> tuple[int, str]:
        (self.folder / "vars.json").write_text(json.dumps(values), encoding="utf-8")
        argv = ["ansible-playbook", name, "-e", "@vars.json", *more]
        return lab.ansible(self.folder, argv, ANSIBLE_STDOUT_CALLBACK="ansible.builtin.minimal")

    def role(self, values: dict[str, Any], *more: str) -> dict[str, Any]:
        """What the role answered."""
        status, text = self("role.json", values, *more)
        assert status == 0, text
        answer: dict[str, Any] = json.loads(text[text.rindex('"job_host_result": ') - 6 :])["job_host_result"]
        return answer


def test_a_play_makes_two_volumes_and_runs_a_job_with_both(guest: lab.Guest, tmp_path: Path) -> None:
    """Then it is known what the job said, also after a boot; one that ran when the host went down is lost."""
    play = Playbooks(tmp_path)
    before = guest.python(MOUNTS)
    script = "echo kept > /volumes/data/file; echo gone > /cache/file; cat /volumes/data/file /cache/file"
    script += "; ls /var/lib || true"
    jobs = [{"id": "one", "command": script, "volumes": "data,fast:/cache", "state": "finished"}]
    volumes = [{"name": "data", "size": "8MiB", "owner": "65534"}]
    volumes += [{"name": "fast", "type": "memory", "size": "1MiB", "owner": "65534"}]
    disk = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
    wanted = {"job_host_volumes": volumes, "job_host_jobs": jobs}
    wanted["job_host_io_limits"] = [{"name": "slow", "device": disk, "write_bps": "1MiB"}]
    limit = ["systemctl", "show", "--property=IOWriteBandwidthMax", "bulkhead-slow.slice"]
    foreseen = play.role(wanted, "--check")
    made = play.role(wanted)
    assert made["plan_digest"] == foreseen["plan_digest"] and foreseen["changed"]
    assert made["actions"][: len(foreseen["actions"])] == foreseen["actions"]
    said = made["resources"]["jobs"][0]
    assert (said["rc"], said["stdout"]) == (0, "kept\ngone\n") and "No such file" in said["stderr"]
    assert guest.python(MOUNTS) == before
    assert guest.run(limit).stdout == "IOWriteBandwidthMax=%s 1048576\n" % disk
    assert play.role(wanted)["changed"] is False
    # started, and the host goes down
    jobs.append({"id": "two", "command": "sleep 1000", "volumes": "data"})
    assert play.role(wanted)["resources"]["jobs"][1]["state"] == "started"
    assert "bulkhead-job-two.service" in guest.run(["systemctl", "list-units", "--plain", "bulkhead-job-*"]).stdout
    guest.reboot()
    after = play.role(wanted)["resources"]
    assert after["jobs"][0] == said
    assert after["jobs"][1]["state"] == "lost" and after["volumes"][0]["job_ids"] == []
    assert play.role(wanted)["changed"] is False
    gone = play.role({**wanted, "job_host_state": "absent"})
    assert guest.run(limit).stdout == ""
    assert gone["changed"] and play.role({**wanted, "job_host_state": "absent"})["changed"] is False
    assert guest.run(["find", "/var/lib/bulkhead/jobs", "/var/lib/bulkhead/volumes", "-type", "f"]).stdout == ""


def test_a_timer_cleans_up(guest: lab.Guest, tmp_path: Path) -> None:
    """A job that nobody waits for ends: its volume is let go of, and the memory that nobody uses is gone."""
    play = Playbooks(tmp_path)
    volumes = [{"name": "data", "size": "8MiB", "owner": "65534"}, {"name": "fast", "type": "memory", "size": "1MiB"}]
    wanted: dict[str, Any] = {"job_host_volumes": volumes}
    wanted["job_host_jobs"] = [{"id": "one", "command": "sleep 2", "volumes": "data"}]
    wanted["job_host_cleanup"] = {"interval": "30s", "memory_volume_timeout": "1s"}
    status, text = play("role.json", wanted, "--check")
    assert status == 0, text
    there = ["find", "/usr/local/lib", "/etc/systemd/system", "-name", "bulkhead*"]
    assert guest.run(there).stdout == ""
    play.role(wanted)
    assert len(guest.run(there).stdout.split()) == 4  # three files, and the link that enables the timer
    for _attempt in range(240):
        if guest.python(HOLDERS) == "{'data': []}\n":
            break
        time.sleep(0.5)
    said = guest.run(["journalctl", "-u", "bulkhead-cleanup", "--no-pager", "-o", "cat"]).stdout
    assert guest.python(HOLDERS) == "{'data': []}\n", said
    assert "job (one) (volume default/data): remove mount /run/bulkhead-jobs/one/default/data\n" in said
    assert "volume (default/fast): remove record volume default/fast\n" in said
    del volumes[1]
    status, text = play("role.json", wanted)
    assert status == 0 and "CHANGED" not in text, text
    guest.reboot()
    assert guest.run(["systemctl", "is-active", "bulkhead-cleanup.timer"]).stdout == "active\n"
    wanted["job_host_cleanup"] = {"interval": "none"}
    play.role(wanted)
    assert guest.run(there).stdout == ""
    assert guest.run(["systemctl", "is-active", "bulkhead-cleanup.timer"], check=False).stdout == "inactive\n"


def test_a_job_from_a_survey(guest: lab.Guest, tmp_path: Path) -> None:
    play = Playbooks(tmp_path)
    answers = {"job_run_hosts": "alpha", "job_run_id": "survey-1", "job_run_command": "echo $JOB_ID; exit $((40 + 2))"}
    answers.update(job_run_volumes="", job_run_user="", job_run_timeout="60", job_run_memory_max="64MiB")
    status, text = play("bulkhead.storage.job_run", answers)
    assert status == 2 and "the job ended with 42 (exit-code)" in text and '"stdout": "survey-1\\n"' in text, text
    answers.update(job_run_id="survey-2", job_run_command="echo $JOB_ID", job_run_timeout="")
    status, text = play("bulkhead.storage.job_run", answers)
    assert status == 0 and '"msg": "survey-2\\n"' in text, text
