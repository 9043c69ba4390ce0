# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every line of the page that says Joblet's verbs in ours, run as it stands there, over ssh."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any, Iterator

import pytest
import trees
import yaml

from ansible_collections.bulkhead.storage.tests.support import lab

PAGE = Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst" / "guide_joblet.rst"
VERBS = ["rnx volume create", "rnx volume list", "rnx volume list --filter", "rnx volume inspect", "rnx volume remove"]
VERBS += [
    "--force",
    "rnx run --volume=data:/data --volume=cache:/cache",
    "rnx list",
    "rnx status",
    "rnx log",
    "rnx stop",
]
VERBS += ["CreateVolume", "ListVolumes", "GetVolume", "DeleteVolume", "AttachVolume", "DetachVolume"]
VERBS += ["PrepareVolumes", "CleanupVolumes", "cleanupInterval", "memoryVolumeTimeout"]


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^\.\. code-block:: %s\n\n((?:   .*\n|\n)+)" % language, text, re.MULTILINE)
    return [textwrap.dedent(each).strip() + "\n" for each in found]


@pytest.fixture
def guest(guest: lab.Guest) -> Iterator[lab.Guest]:
    yield guest
    guest.reset()


def called(folder: Path, argv: list[str]) -> str:
    (folder / "workers.ini").write_text("[workers]\nalpha\n", encoding="utf-8")
    both = "%s,%s" % (trees.CACHE / "lab" / "inventory.json", folder / "workers.ini")
    status, text = lab.ansible(folder, argv, ANSIBLE_INVENTORY=both)
    assert status == 0, text
    return text


def test_every_verb_is_on_the_page() -> None:
    words = re.findall(r"``([^`]+)``", PAGE.read_text(encoding="utf-8"))
    assert [verb for verb in VERBS if not any(word.startswith(verb) for word in words)] == []


def test_every_task_does_what_its_verb_says(guest: lab.Guest, tmp_path: Path) -> None:
    tasks = [task for block in blocks("yaml") for task in yaml.safe_load(block)]
    names = [task["register"] for task in tasks if "register" in task]
    answer = {"ansible.builtin.copy": {"dest": str(tmp_path / "said.json"), "content": "{{ said | to_json }}"}}
    said = {"vars": {"said": "{{ dict(names | zip(names | map('extract', vars))) }}", "names": names}}
    tasks.append({**answer, **said, "delegate_to": "localhost", "connection": "local"})
    tasks[-1]["vars"]["ansible_python_interpreter"] = sys.executable
    play = {"hosts": "workers", "gather_facts": False, "tasks": tasks}
    (tmp_path / "page.json").write_text(json.dumps([play]), encoding="utf-8")
    called(tmp_path, ["ansible-playbook", "page.json"])
    told: dict[str, Any] = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert told["created"]["resource"]["size_bytes"] == 8 << 20
    assert [volume["name"] for volume in told["listed"]["volumes"]] == ["cache", "data"]
    assert [volume["name"] for volume in told["filtered"]["volumes"]] == ["data"]
    assert told["inspected"]["volumes"][0]["labels"] == {"team": "blue"}
    assert told["attached"]["resource"]["job_ids"] == ["build-1"] and told["attached"]["resource"]["status"] == "in_use"
    assert told["detached"]["resource"]["job_ids"] == []
    assert (told["ran"]["resource"]["rc"], told["ran"]["resource"]["stdout"]) == (0, "2\n")
    states = {job["id"]: (job["state"], job["volumes"]) for job in told["jobs"]["jobs"]}
    assert states == {
        "job-1": ("finished", ["default/cache", "default/data"]), "job-2": ("started", ["default/data"])
    }  # fmt: skip
    assert "job-2" in told["refused"]["msg"]
    assert guest.run(["find", "/var/lib/bulkhead/jobs", "/var/lib/bulkhead/volumes", "-type", "f"]).stdout == ""
    assert guest.run(["systemctl", "is-active", "bulkhead-cleanup.timer"]).stdout == "active\n"


def test_every_command_does_what_its_verb_says(guest: lab.Guest, tmp_path: Path) -> None:
    lines = [line for block in blocks("shell") for line in block.splitlines()]
    said = [called(tmp_path, shlex.split(line)) for line in lines]
    assert len(said) == 4 and '"size_bytes": 8388608' in said[1]
    assert '"msg": "lost+found\\n"' in said[2]
    assert guest.run(["find", "/var/lib/bulkhead/volumes", "-type", "f"]).stdout == ""
