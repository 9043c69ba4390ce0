# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fifty thin volumes with filesystems and mounts in a guest of the lab: one ``layout`` beside the bare commands, and
beside loops over community.general.lvol, community.general.filesystem and ansible.posix.mount.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.thin`` measures both from a blank disk of a guest that
was just restored, in turn, then plays over ssh that change nothing; with ``--keep`` it keeps the raw figures in
``results/lab``. Their loops are measured at 2 and 10 and extrapolated along the straight line through both. The guest
is taken down. CPU is that of the controller and of the whole emulator: what the guest's programs, its kernel and its
udev took. It says more than wall time where others work on the same host.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import tempfile
import time
from typing import Any

from ansible_collections.bulkhead.storage.tests.benchmark import page, xfs_quota
from ansible_collections.bulkhead.storage.tests.benchmark.figures import middle, ratio
from ansible_collections.bulkhead.storage.tests.support import lab

TOP = "/srv/thin"
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
POOL, SIZE = "3g", "128m"  # LVM's and lvol's letters: powers of 1024
# as an administrator types it; the seconds of each program, and of all
_BARE = """
import json, os, subprocess, sys, time
top, disk, pool, size, count = sys.argv[1:5] + [int(sys.argv[5])]
spent, start = {}, time.monotonic()
def run(*argv):
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=-3, stderr=-3)
    spent[argv[0]] = spent.get(argv[0], 0) + time.monotonic() - began
run("vgcreate", "thin", disk)
run("lvcreate", "--type", "thin-pool", "-n", "pool", "-L", pool, "thin")
for n in range(count):
    name = "v%02d" % n
    run("lvcreate", "-n", name, "-V", size, "--thinpool", "pool", "thin")
    run("mkfs.ext4", "-q", "/dev/thin/" + name)
    os.makedirs(top + "/" + name)
    with open("/etc/fstab", "a") as fstab:
        fstab.write("/dev/thin/%s %s/%s ext4 defaults 0 0\\n" % (name, top, name))
    run("mount", top + "/" + name)
print(json.dumps({"all": time.monotonic() - start, **spent}))
"""
# both ways lead there
_COUNT = """
import os, subprocess, sys
top, count = sys.argv[1], int(sys.argv[2])
lvs = subprocess.run(["lvs", "--noheadings", "-o", "lv_name", "-S", "pool_lv=pool"], check=True, stdout=-1).stdout
assert len(lvs.split()) == count, lvs
assert all(os.path.ismount("%s/v%02d" % (top, n)) for n in range(count))
"""


def ours(count: int) -> dict[str, Any]:
    names = ["v%02d" % n for n in range(count)]
    lvs = [{"name": name, "size": SIZE, "thin_pool": "pool"} for name in names]
    group = {"vg": "thin", "pvs": [DISK], "thin_pools": [{"name": "pool", "size": POOL}], "lvs": lvs}
    mounts = [{"path": "%s/%s" % (TOP, n), "source": "/dev/thin/" + n, "fstype": "ext4"} for n in names]
    filesystems = [{"device": "/dev/thin/" + n, "fstype": "ext4"} for n in names]
    return {"bulkhead.storage.layout": {"volume_groups": [group], "filesystems": filesystems, "mounts": mounts}}


def theirs(count: int) -> list[dict[str, Any]]:
    loop = ["v%02d" % n for n in range(count)]
    device = "/dev/thin/{{ item }}"
    lvol = {"vg": "thin", "lv": "{{ item }}", "size": SIZE, "thinpool": "pool"}
    mount = {"path": TOP + "/{{ item }}", "src": device, "fstype": "ext4", "state": "mounted"}
    tasks = {
        "community.general.lvol": lvol,
        "community.general.filesystem": {"dev": device, "fstype": "ext4"},
        "ansible.posix.mount": mount,
    }
    return [{name: options, "loop": loop} for name, options in tasks.items()]


def emulated() -> float:
    """Seconds of CPU that the guest took so far."""
    (pid,) = (line.split()[2] for line in lab.lab("status").stdout.splitlines() if line.startswith("alpha "))
    with open("/proc/%s/stat" % pid, encoding="utf-8") as stream:
        user, system = stream.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def played(plays: xfs_quota.Plays, task: dict[str, Any], *more: str) -> tuple[dict[str, float], int]:
    """(seconds, how many tasks changed something)."""
    start = emulated()
    wall, changed = plays.run(task, *more)
    return {"wall": wall, "cpu": plays.cost["cpu"] + emulated() - start}, changed


def bare(guest: lab.Guest, count: int) -> dict[str, float]:
    guest.python("pass")
    start, began = time.monotonic(), emulated()
    parts: dict[str, float] = json.loads(guest.python(_BARE, TOP, DISK, POOL, SIZE, str(count), timeout=1800.0))
    return {"wall": time.monotonic() - start, "cpu": emulated() - began, **parts}


def first(plays: xfs_quota.Plays, count: int) -> dict[str, float]:
    """Seconds of the whole play that makes all of it, and what the module itself took of them."""
    plays.run({"ansible.builtin.ping": {}})
    cost, changed = played(plays, ours(count), "-v")
    assert changed == 1, "there was something to do"
    timings = re.search(rb'"timings": \{([^}]*)\}', plays.text)
    assert timings is not None
    parts = {name.decode(): float(ms) / 1000 for name, ms in re.findall(rb'"(\w+)": ([\d.]+)', timings.group(1))}
    return {**cost, **parts}


def measured(count: int, peers: list[int], firsts: int, rounds: int) -> dict[str, Any]:
    guest = lab.brought_up("alpha")
    found: dict[str, Any] = {"count": count, "kernel": guest.run(["uname", "-r"]).stdout.strip(), "firsts": []}
    found["lvm"] = guest.run(["lvm", "version"]).stdout.split("\n")[0].split()[2]
    with tempfile.TemporaryDirectory() as work:
        plays = xfs_quota.Plays(work)
        for number in range(firsts):
            pair: dict[str, Any] = {}
            for which in ("bare", "ours") if number % 2 == 0 else ("ours", "bare"):
                guest.reset()
                pair[which] = bare(guest, count) if which == "bare" else first(plays, count)
                guest.python(_COUNT, TOP, str(count))
            found["firsts"].append(pair)
            print(json.dumps(pair), file=sys.stderr, flush=True)
        if which == "bare":
            guest.reset()
            first(plays, count)
        found["quiet"] = []
        for _round in range(rounds):
            ping, _changed = played(plays, {"ansible.builtin.ping": {}})
            layout, changed = played(plays, ours(count))
            assert changed == 0, "there was nothing to do"
            found["quiet"].append({"ping": ping, "layout": layout})
            print(json.dumps(found["quiet"][-1]), file=sys.stderr, flush=True)
        guest.python(xfs_quota.KEEPER)
        plays.run(ours(count), "-e", "ansible_python_interpreter=/root/keeper")
        found["programs"] = json.loads(guest.python(xfs_quota.COUNT))["programs"]
        plays.run(theirs(peers[-1])[-1])  # its own words in fstab
        found["loops"] = {str(few): [played(plays, task)[0] for task in theirs(few)] for few in peers}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Thin volumes in a guest, beside bare commands and loops of others.")
    parser.add_argument("--count", type=int, default=50, help="volumes (default: 50)")
    parser.add_argument("--firsts", type=int, default=2, help="how often each way makes all of them (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="plays that change nothing (default: 5)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    try:
        found = measured(chosen.count, [2, 10], chosen.firsts, chosen.rounds)
    finally:
        lab.lab("down", "alpha")
    found["date"] = datetime.date.today().isoformat()
    found["load"] = os.getloadavg()[2]
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    for what in ("wall", "cpu"):
        print("%s: first %.2f, quiet %.2f, loops %.0f" % (what, *ratios(found, what)), file=sys.stderr)
    if chosen.keep:
        xfs_quota.RESULTS.mkdir(parents=True, exist_ok=True)
        (xfs_quota.RESULTS / (found["date"] + "-thin.json")).write_text(text, encoding="utf-8")
    return found["programs"] != 1


def ratios(found: dict[str, Any], what: str) -> tuple[float, float, float]:
    """The play that makes all of it beside the bare commands, no-op beside ping, their loops beside no-op."""
    quiet = middle(found["quiet"], "layout", what)
    loops = page.looped(found, what)
    return ratio(found["firsts"], "ours", "bare", what), ratio(found["quiet"], "layout", "ping", what), loops / quiet


if __name__ == "__main__":
    sys.exit(main())
