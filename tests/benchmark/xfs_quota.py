# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Project quotas on XFS in a guest of the lab: one ``layout`` of 1,000 beside a loop over community.general.xfs_quota.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.xfs_quota`` measures plays over ssh that change
nothing, counts what the module does there with strace(1), and with ``--keep`` keeps the raw figures in ``results/lab``.
Their loop is measured at 5 and 20 and extrapolated along the straight line through both. The guest is taken down.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trees

from ansible_collections.bulkhead.storage.tests.benchmark import costs
from ansible_collections.bulkhead.storage.tests.benchmark.figures import extrapolated
from ansible_collections.bulkhead.storage.tests.support import lab

RESULTS = Path(__file__).resolve().parent / "results" / "lab"
TOP = "/srv/quotas"
_PREPARE = """
import os, subprocess, sys
top, many, few = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
disk = "/dev/disk/by-id/" + next(n for n in sorted(os.listdir("/dev/disk/by-id")) if n.endswith("data1"))
subprocess.check_call(["mkfs.xfs", "-qf", disk])
os.makedirs(top, exist_ok=True)
subprocess.check_call(["mount", "-o", "prjquota", disk, top])
for n in range(many): os.mkdir("%s/t%04d" % (top, n))
with open("/etc/projid", "w") as ids, open("/etc/projects", "w") as projects:
    for n in range(few):
        os.mkdir("%s/p%02d" % (top, n))
        ids.write("p%02d:%d\\n" % (n, n + 1)); projects.write("%d:%s/p%02d\\n" % (n + 1, top, n))
"""
KEEPER = """
import os
with open("/root/keeper", "w") as keeper:
    keeper.write("#!/bin/sh\\ncat > /root/kept\\nexec /usr/bin/python3 < /root/kept\\n")
os.chmod("/root/keeper", 0o755)
"""
COUNT = """
import json, subprocess
with open("/root/kept") as kept:
    subprocess.run(["strace", "-f", "-qq", "-o", "/root/trace", "/usr/bin/python3"], stdin=kept, check=True, stdout=-3)
lines = [line.split(None, 1)[1] for line in open("/root/trace", errors="replace")]
calls = [line for line in lines if line.startswith(("quotactl(", "quotactl_fd("))]
print(json.dumps({
    "programs": sum(line.startswith(("execve(", "execveat(")) for line in lines) - 1,
    "quotactl": len(calls),
    "next": sum("GETNEXTQUOTA" in line for line in calls),
    "set": sum("SETQLIM" in line or "SETQUOTA" in line or "SETINFO" in line for line in calls),
    "all": len(lines),
}))
"""


class Plays:
    """Plays of one task on the guest, from a folder of their own."""

    def __init__(self, work: str) -> None:
        lab.lab("inventory")
        self.work, self.inventory = work, str(trees.CACHE / "lab" / "inventory.json")
        more = {"ANSIBLE_COLLECTIONS_PATH": str(trees.linked()), "ANSIBLE_PIPELINING": "1", "HOME": work}
        self.env = costs.clean({**more, "ANSIBLE_GATHERING": "explicit"})
        self.playbook = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")

    def run(self, task: dict[str, Any], *more: str, host: str = "alpha") -> tuple[float, int]:
        """(seconds of the whole play, how many of its tasks changed something); more in ``cost`` and ``text``."""
        path = self.work + "/play.json"
        with open(path, "w", encoding="utf-8") as stream:
            json.dump([{"hosts": host, "gather_facts": False, "tasks": [task]}], stream)
        start = time.monotonic()
        self.cost, self.text = costs.child([self.playbook, "-i", self.inventory, path, *more], self.env)
        found = re.search(rb"changed=(\d+)", self.text)
        return time.monotonic() - start, int(found.group(1)) if found else -1


def ours(count: int) -> dict[str, Any]:
    quotas = [{"path": "%s/t%04d" % (TOP, n), "hard": "1GiB", "inodes_hard": "10000"} for n in range(count)]
    return {"bulkhead.storage.layout": {"quotas": quotas}}


def theirs(count: int) -> dict[str, Any]:
    options = {"type": "project", "name": "{{ item }}", "mountpoint": TOP, "bhard": "1g", "ihard": 10000}
    return {"community.general.xfs_quota": options, "loop": ["p%02d" % n for n in range(count)]}


def measured(count: int, peers: list[int], rounds: int) -> dict[str, Any]:
    guest = lab.brought_up("alpha")
    guest.python(_PREPARE, TOP, str(count), str(peers[-1]))
    found: dict[str, Any] = {"count": count, "kernel": guest.run(["uname", "-r"]).stdout.strip()}
    with tempfile.TemporaryDirectory() as work:
        plays = Plays(work)
        found["ping"] = [plays.run({"ansible.builtin.ping": {}})[0] for _round in range(rounds)]
        found["first"], changed = plays.run(ours(count))
        assert changed == 1, "there was something to do"
        quiet = [plays.run(ours(count)) for _round in range(rounds)]
        assert not any(changed for _wall, changed in quiet), "and then nothing"
        found["layout"] = [wall for wall, _changed in quiet]
        guest.python(KEEPER)
        plays.run(ours(count), "-e", "ansible_python_interpreter=/root/keeper")
        found["calls"] = json.loads(guest.python(COUNT))
        plays.run(theirs(peers[-1]))
        found["loops"] = {str(few): plays.run(theirs(few))[0] for few in peers}
    points = [(few, found["loops"][str(few)]) for few in peers]
    found["extrapolated"] = extrapolated(points, count)
    found["ratio"] = found["extrapolated"] / statistics.median(found["layout"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Project quotas in a guest, beside a loop of others.")
    parser.add_argument("--count", type=int, default=1000, help="quotas of ours (default: 1000)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    try:
        found = measured(chosen.count, [5, 20], 3)
    finally:
        lab.lab("down", "alpha")
    found["date"] = datetime.date.today().isoformat()
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    if chosen.keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / (found["date"] + "-xfs-quota.json")).write_text(text, encoding="utf-8")
    return found["calls"]["programs"] > 0 or found["calls"]["next"] > chosen.count + 1


if __name__ == "__main__":
    sys.exit(main())
