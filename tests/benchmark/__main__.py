# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make benchmark``: measure, keep the raw figures beside this file, and write the page of the documentation.

With ``--quick`` everything runs once at small sizes and nothing is kept: does it still work? With ``--page`` nothing is
measured: the page is written again from the newest figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

from ansible_collections.bulkhead.storage.tests.benchmark import costs, declarations, measure, page, plays, world
from ansible_collections.bulkhead.storage.tests.support import namespace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "docsite" / "rst" / "performance.rst"
DEAR = ("filesystems",)  # kinds that are left out at 1,000: minutes of mkfs


def newest() -> Path:
    return max((HERE / "results").glob("*.json"))


def kept() -> dict[str, Any]:
    """The newest figures, and those that other modules of this folder measured in guests of the lab."""
    found: dict[str, Any] = json.loads(newest().read_text(encoding="utf-8"))
    for part, name in (
        ("guest", "xfs-quota"),
        ("thin", "thin"),
        ("jobs", "jobs"),
        ("network", "network"),
        ("elsewhere",) * 2,
    ):
        inside = sorted((HERE / "results" / "lab").glob("*-%s.json" % name))
        found.update({part: json.loads(inside[-1].read_text(encoding="utf-8"))} if inside else {})
    return found


def machine() -> dict[str, Any]:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        found = re.search(r"^model name\s*: (.*)$", stream.read(), re.MULTILINE)
    python = subprocess.run([plays.TARGET, "--version"], check=True, stdout=subprocess.PIPE).stdout.decode().split()[1]
    versions = {name: metadata.version(name) for name in ("ansible-core", "ansible")}
    return {
        "cpu": found.group(1) if found else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "controller_python": platform.python_version(),
        "target_python": python,
        "load_before": os.getloadavg()[0],
        **versions,
    }


def measured(work: str, quick: bool, strategies: str) -> dict[str, Any]:
    """Everything, with the seconds that each part took."""
    runner = plays.Plays(work, os.environ["BENCHMARK_COLLECTIONS"])
    sizes = (10,) if quick else (10, 100, 1000)
    peers = {10: 1} if quick else {10: 2, 100: 1}
    many = 10 if quick else 1000
    found: dict[str, Any] = {"machine": machine(), "left_out": [], "failed": {}, "seconds": {}}

    def timed(name: str, run: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What one part found, if it did: one that fails does not spoil the others."""
        start = time.monotonic()
        try:
            result = [run(runner, *arguments)]
        except costs.Failed as error:
            result = []
            found["failed"][name] = str(error)[-2000:]
        found["seconds"][name] = round(time.monotonic() - start, 1)
        print("%7.1f s  %s%s" % (found["seconds"][name], name, "" if result else ": FAILED"), flush=True)
        return result

    found["module"] = timed("module process", measure.module_process, many, 2 if quick else 15)
    found["plays"] = timed("whole plays", measure.whole_plays, many, 1 if quick else 7)
    found["fleet"] = timed("further hosts", measure.fleet, many, 2 if quick else 10, 1 if quick else 3)
    found["floor"] = []
    for kind in declarations.KINDS:
        for count in sizes:
            if kind in DEAR and count > 100:
                found["left_out"].append([kind, count])
                continue
            name = "floor of %d %s" % (count, kind)
            found["floor"] += timed(name, measure.floor, kind, count, 2 if quick or kind in DEAR else 3)
    found["loops"] = []
    for count, rounds in peers.items():
        for kind in declarations.KINDS[:5]:
            name = "loops over %d %s" % (count, kind)
            found["loops"] += timed(name, measure.loops, kind, count, rounds)
    if strategies:
        counts = [10] if quick else [10, 100, 1000]
        found["mitogen"] = timed("mitogen", measure.with_mitogen, strategies, counts, 3)
    for name in ("module", "plays", "fleet", "mitogen"):  # there is one of each
        found[name] = next(iter(found.get(name, ())), None)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the collection costs.")
    parser.add_argument("--quick", action="store_true", help="run everything once at small sizes, keep nothing")
    parser.add_argument("--page", action="store_true", help="write the page again from the newest figures")
    parser.add_argument("--mitogen", default="", help="the folder of mitogen's strategy plugins")
    chosen = parser.parse_args()
    if not chosen.page:
        namespace.enter()
        with world.host() as work:
            found = measured(work, chosen.quick, chosen.mitogen)
        found["date"] = datetime.date.today().isoformat()
        for name, text in found["failed"].items():
            print("%s: %s" % (name, text), file=sys.stderr)
        if not (found["module"] and found["plays"]):
            return 1
        if chosen.quick:
            print(page.written(found))
            return bool(found["failed"])
        raw = HERE / "results" / ("%s-%s.json" % (found["date"], _short(found["machine"])))
        raw.parent.mkdir(exist_ok=True)
        raw.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print("raw figures: %s" % raw)
    found = kept()
    PAGE.write_text(page.written(found), encoding="utf-8")
    print("page: %s" % PAGE)
    return bool(found["failed"])


def _short(found: dict[str, Any]) -> str:
    words = re.sub(r"\(.*?\)|processor|cpu|@.*", " ", found["cpu"].lower())
    return "-".join([*re.findall("[a-z0-9]+", words)[:3], "%d-cores" % found["cores"]])


if __name__ == "__main__":
    sys.exit(main())
