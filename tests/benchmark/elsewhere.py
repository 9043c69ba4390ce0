# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hundred volumes of EBS on a double of EC2: one ``layout`` beside a loop over amazon.aws.ec2_vol.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.elsewhere`` measures plays that make all of them, then
plays that change nothing, of both ways in turn; with ``--keep`` it keeps the raw figures in ``results/lab``. Nothing is
extrapolated. CPU is that of the controller with its modules; what the double took is not in it. It answers in
milliseconds, where EC2 takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from typing import Any

from ansible_collections.bulkhead.storage.tests.benchmark import plays, xfs_quota
from ansible_collections.bulkhead.storage.tests.support import ec2

ZONE = ec2.REGION + "a"
AT_ONCE = dict.fromkeys(("creating", "attaching", "detaching", "deleting", "modifying", "optimizing"), 0)
PING = [{"ansible.builtin.ping": {}}]


def ours(count: int) -> list[dict[str, Any]]:
    each = {"availability_zone": ZONE, "size": "1GiB", "encrypted": False}
    return [{"bulkhead.storage.layout": {"ebs_volumes": [{"name": "v%03d" % n, **each} for n in range(count)]}}]


def theirs(count: int) -> list[dict[str, Any]]:
    """Their volumes are ``standard`` when nothing is said."""
    volume = {"name": "{{ item }}", "zone": ZONE, "volume_size": 1, "volume_type": "gp3"}
    return [{"amazon.aws.ec2_vol": volume, "loop": ["v%03d" % n for n in range(count)]}]


def measured(count: int, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"count": count, "firsts": [{}], "quiet": [{} for _round in range(rounds)]}
    with tempfile.TemporaryDirectory() as work, ec2.double() as cloud:
        runner = plays.Plays(work, os.environ["BENCHMARK_COLLECTIONS"])
        runner.configure("cloud", sys.executable)
        runner.env.update(cloud.environment(), AWS_URL=cloud.url)
        paths = {name: runner.play(name, tasks) for name, tasks in (("ping", PING), ("ours", ours(count)))}
        paths["theirs"] = runner.play("theirs", theirs(count))
        for which in ("theirs", "ours"):
            cloud.reset()
            cloud.settings(**AT_ONCE)
            found["firsts"][0][which], changed = runner.run(paths[which], "cloud")
            assert changed == 1 and len(cloud.volumes()) == count, "there was something to do"
            for quiet in found["quiet"]:
                quiet["ping"], _changed = runner.run(paths["ping"], "cloud")
                cloud.clear()
                quiet[which], changed = runner.run(paths[which], "cloud")
                assert changed == 0, "there was nothing to do"
                quiet["calls " + which] = {"calls": cloud.count()}
            print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Volumes of EBS, beside a loop of others.")
    parser.add_argument("--count", type=int, default=100, help="volumes (default: 100)")
    parser.add_argument("--rounds", type=int, default=2, help="plays of each way that change nothing (default: 2)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"ec2": measured(chosen.count, chosen.rounds)}
    found.update(date=datetime.date.today().isoformat(), load=os.getloadavg()[2])
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    if chosen.keep:
        (xfs_quota.RESULTS / (found["date"] + "-elsewhere.json")).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
