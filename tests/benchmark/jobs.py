# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to attach a volume and to start a job in a guest of the lab, and how much of it is systemd's.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.jobs`` runs the engine in the guest, without Ansible
before it; beside it the commands that an administrator would type: mount(8) twice, and a service of systemd with and
without the walls of a job. Each round does all of them in turn. With ``--keep`` the raw figures are kept in
``results/lab``. The guest is taken down.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys

from ansible_collections.bulkhead.storage.tests.benchmark import xfs_quota
from ansible_collections.bulkhead.storage.tests.support import lab

_INSIDE = """
import json, os, subprocess, sys, time
from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program
from ansible_collections.bulkhead.storage.tests.support.quotas import converge

IMAGE, TARGET = "/var/lib/bulkhead/volumes/default/data", "/srv/bench"
PLAIN = ["systemd-run", "--quiet", "--collect", "--service-type=exec"]

def timed(call, *arguments):
    start = time.monotonic()
    answer = call(*arguments)
    return time.monotonic() - start, answer

def good(**lists):
    spent = [0.0]
    def run(argv, *more, **options):
        took, answer = timed(lambda: program.execute(argv, *more, **options))
        if argv[:2] == ["systemctl", "start"]:
            spent[0] += took
        return answer
    ports = _kinds.ports([name for name in ("volumes", "jobs") if name in lists])
    if "jobs" in lists:
        ports["job"].run = run
    took, done = timed(lambda: converge([], ports=ports, **lists))
    assert not done["refused"] and not done["errors"], done
    return took, spent[0]

def sh(*argv):
    return timed(lambda: subprocess.run(argv, check=True, stdout=-3))[0]

os.makedirs(TARGET, exist_ok=True)
os.makedirs("/srv/bench-own", exist_ok=True)
good(volumes=[{"name": "data", "size": "16MiB", "owner": "65534"}])
attached = {"name": "data", "state": "attached", "job": "bench", "target": TARGET}
detached = {"name": "data", "state": "detached", "job": "bench"}
rounds = []
for n in range(int(sys.argv[1]) + 1):
    took = {"attach": good(volumes=[attached])[0], "detach": good(volumes=[detached])[0]}
    took["mounts"] = sh("mount", "-o", "loop,nosuid,nodev", IMAGE + ".img", "/srv/bench-own")
    took["mounts"] += sh("mount", "--bind", "-o", "nosuid,nodev", "/srv/bench-own", TARGET)
    sh("umount", TARGET)
    sh("umount", "/srv/bench-own")
    job = {"id": "j%d" % n, "command": ["sleep", "1000"], "volumes": [{"name": "data"}]}
    took["start"], took["systemd"] = good(jobs=[job])
    took["again"] = good(jobs=[job])[0]
    unit = "/run/systemd/system/bulkhead-job-j%d.service" % n
    with open(unit) as stream:
        text = "".join(line for line in stream if not line.startswith("On"))
    with open("/run/systemd/system/bench-%d.service" % n, "w") as stream:
        stream.write(text.replace("/output/std", "/output/bench-std"))
    took["walled"] = sh("systemctl", "start", "bench-%d.service" % n)
    sh("systemctl", "stop", "bench-%d.service" % n)
    took["service"] = sh(*PLAIN, "--unit=plain-%d" % n, "sleep", "1000")
    sh("systemctl", "stop", "plain-%d.service" % n)
    took["end"] = good(jobs=[{"id": "j%d" % n, "state": "absent"}])[0]
    rounds.append(took)
good(volumes=[{"name": "data", "state": "absent"}])
print(json.dumps(rounds[1:]))  # the first one loads our code
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Attaching a volume and starting a job in a guest.")
    parser.add_argument("--rounds", type=int, default=10, help="how often each is done (default: 10)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    guest = lab.brought_up("alpha")
    try:
        found = {"rounds": json.loads(guest.python(_INSIDE, str(chosen.rounds), timeout=1800.0))}
        found["kernel"] = guest.run(["uname", "-r"]).stdout.strip()
        found["systemd"] = guest.run(["systemctl", "--version"]).stdout.split()[1]
    finally:
        lab.lab("down", "alpha")
    found.update(date=datetime.date.today().isoformat(), load=os.getloadavg()[2])
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    if chosen.keep:
        (xfs_quota.RESULTS / (found["date"] + "-jobs.json")).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
