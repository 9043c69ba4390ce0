# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hundred volumes of EBS on a double of EC2, and fifty pools of a Ceph cluster that runs here: one ``layout`` beside
loops over amazon.aws.ec2_vol, and over the ``ceph`` program.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.elsewhere`` measures plays that make all of them, then
plays that change nothing, of both ways in turn; with ``--keep`` it keeps the raw figures in ``results/lab``. Nothing is
extrapolated. CPU is that of the controller with its modules; what the double took is not in it. It answers in
milliseconds, where EC2 takes a tenth of a second. Of the pools the loop only asks for one figure of each, as an
administrator would write it, so it is measured where nothing is to be changed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.bulkhead.storage.tests.benchmark import plays, xfs_quota
from ansible_collections.bulkhead.storage.tests.lab import ceph, network
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


def pooled(count: int, rounds: int) -> dict[str, Any]:
    """In the namespaces of the cluster, where the system's Python has librados."""
    names = ["p%02d" % n for n in range(count)]
    found: dict[str, Any] = {"count": count, "firsts": [{}], "quiet": [{} for _round in range(rounds)]}
    with contextlib.ExitStack() as held:
        work, space = held.enter_context(tempfile.TemporaryDirectory()), network.made()
        held.callback(os.close, space)
        cluster = held.enter_context(ceph.Cluster(Path(work, "cluster"), space))
        runner = plays.Plays(work, os.environ["BENCHMARK_COLLECTIONS"])
        access = {"user": "admin", "conf": str(cluster.conf)}
        each = {"size": 2, "pg_num": 1, "autoscale": "off", "application": ["rbd"], **access}
        ask = " ".join(["ceph", "--conf", str(cluster.conf), "osd", "pool", "get", "{{ item }}", "size"])
        tasks: dict[str, Any] = {
            "ping": PING,
            "ours": [{"bulkhead.storage.layout": {"ceph_pools": [{"name": name, **each} for name in names]}}],
            "theirs": [{"ansible.builtin.command": ask, "loop": names, "changed_when": False}],
        }
        paths = {name: runner.play(name, task) for name, task in tasks.items()}

        def play(name: str) -> tuple[dict[str, float], int]:
            argv = [runner.playbook, "--inventory", work + "/bare/hosts", "--connection", "local", paths[name]]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            text = cluster.run(argv, timeout=600, **{**runner.env, "ANSIBLE_CONFIG": work + "/plain.cfg"}).stdout
            after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return {"wall": wall, "cpu": cpu}, text.count("changed=1")

        found["firsts"][0]["ours"], changed = play("ours")
        assert changed == 1 and len(cluster.ceph("osd", "pool", "ls")) == count, "there was something to do"
        for quiet in found["quiet"]:
            for which in ("ping", "theirs", "ours"):
                quiet[which], changed = play(which)
                assert changed == 0, "there was nothing to do"
        print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Volumes of EBS, beside a loop of others.")
    parser.add_argument("--count", type=int, default=100, help="volumes (default: 100)")
    parser.add_argument("--pools", type=int, default=50, help="pools (default: 50)")
    parser.add_argument("--rounds", type=int, default=2, help="plays of each way that change nothing (default: 2)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"ec2": measured(chosen.count, chosen.rounds)}
    found["ceph"] = pooled(chosen.pools, chosen.rounds)
    found.update(date=datetime.date.today().isoformat(), load=os.getloadavg()[2])
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    if chosen.keep:
        (xfs_quota.RESULTS / (found["date"] + "-elsewhere.json")).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
