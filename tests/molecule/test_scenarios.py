# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of molecule, as contributors run them. All at once: each has guests of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest
import trees
import yaml

from ansible_collections.bulkhead.storage.tests.support import lab

FOLDER = trees.ROOT / "extensions" / "molecule"
SCENARIOS = sorted(path.parent.name for path in FOLDER.glob("*/molecule.yml"))
STEPS = "destroy create prepare verify converge idempotence verify destroy".split()
DEADLINE = 1200.0  # seconds; 105 on two cores at a load of 3, 584 at a load of 12


class Run(NamedTuple):
    process: subprocess.Popen[bytes]
    log: Path


def guests(scenario: str) -> list[str]:
    text = (FOLDER / scenario / "molecule.yml").read_text(encoding="utf-8")
    return [platform["name"] for platform in yaml.safe_load(text)["platforms"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    programs = os.path.dirname(sys.executable)
    env = {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "ANSIBLE_COLLECTIONS_PATH": str(trees.linked()),
        "NO_COLOR": "1",
    }
    started: dict[str, Run] = {}
    for scenario in SCENARIOS:
        log = tmp_path_factory.mktemp(scenario) / "log"
        argv = ["setpriv", "--pdeathsig", "KILL", programs + "/molecule", "test", "--scenario-name", scenario]
        with open(log, "wb") as stream:
            process = subprocess.Popen(argv, cwd=trees.ROOT, env=env, stdin=-3, stdout=stream, stderr=stream)
        started[scenario] = Run(process, log)
    try:
        yield started
    finally:
        for scenario, (process, _log) in started.items():
            if process.poll() is None:
                process.kill()
                process.wait()
                lab.lab("down", *guests(scenario))


# Plays of the site, and of its report, for which no scenario has a host; their roles are played by tests/lab.
ELSEWHERE = {
    "Servers of NFS",
    "Servers of iSCSI",
    "Nodes of shards",
    "Clients of Ceph",
    "Compare disks that several hosts have",
}


def test_each_scenario_has_its_own_guests() -> None:
    names = [name for scenario in SCENARIOS for name in guests(scenario)]
    assert SCENARIOS == ["default", "job_host", "tenant"] and len(set(names)) == len(names)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(runs: dict[str, Run], scenario: str) -> None:
    start = time.monotonic()
    process, log = runs[scenario]
    status = process.wait(DEADLINE)
    text = log.read_text(encoding="utf-8")
    print("waited %.0f s" % (time.monotonic() - start))
    assert status == 0, text
    # molecule calls a step successful that it skipped, or that has no playbook
    assert re.findall(r"\[%s > (\w+)\] Executed: Successful" % scenario, text) == STEPS, text
    skipped = re.findall(r"PLAY \[([^\]\n]*)\] \*+\s+skipping: no hosts matched", text)
    assert text.count("skipping: no hosts matched") == len(skipped) and ELSEWHERE.issuperset(skipped), text
    assert "failed=0" in text
