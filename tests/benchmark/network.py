# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty mounts of NFS, and twenty LUNs with filesystems and mounts, in a guest of the lab that another one serves: one
``layout`` beside loops over ansible.posix.mount, community.general.open_iscsi and community.general.filesystem.

``python -m ansible_collections.bulkhead.storage.tests.benchmark.network`` measures both ways from a guest that was just
restored and LUNs that are blank, in turn, then plays over ssh that change nothing; with ``--keep`` it keeps the raw
figures in ``results/lab``. Nothing is extrapolated. The guests are taken down. CPU is that of the controller and of the
emulator of the client, see ``thin``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target
from ansible_collections.bulkhead.storage.tests.benchmark import thin, xfs_quota
from ansible_collections.bulkhead.storage.tests.support import lab

SERVER, CLIENT = "10.77.0.13", "iqn.1993-08.org.debian:01:alpha"
IQN, CHAP = "iqn.2026-01.org.example:bench", {"username": "alpha", "password": "a secret of 12"}
EXPORTS, IMAGES, MOUNTS = "/srv/exports", "/srv/images", "/mnt"
SIZE = "16MiB"
_BLANK = """
import glob, os
for path in glob.glob("/srv/images/*"):
    size = os.stat(path).st_size
    os.truncate(path, 0)
    os.truncate(path, size)
"""
_COUNT = """
import os, sys
kind, count = sys.argv[1], int(sys.argv[2])
with open("/proc/mounts") as table:
    types = [line.split()[2] for line in table if line.split()[1].startswith("/mnt/")]
assert types == [kind] * count, types
with open("/etc/fstab") as stream:
    assert sum(" /mnt/" in line for line in stream) == count
"""


def served(count: int) -> dict[str, Any]:
    names = ["%02d" % n for n in range(count)]
    luns = [{"lun": n, "file": "%s/%s" % (IMAGES, name), "size": SIZE} for n, name in enumerate(names)]
    return {
        "bulkhead.storage.layout": {
            "trees": [
                {"root": EXPORTS, "entries": [{"path": name} for name in [".", *names]]},
                {"root": IMAGES, "entries": [{"path": ".", "mode": "0700"}]},
            ],
            "nfs_exports": [
                {"path": "%s/%s" % (EXPORTS, name), "clients": [{"host": "10.77.0.0/24", "options": ["rw"]}]}
                for name in names
            ],
            "iscsi_targets": [{"target": IQN, "luns": luns, "initiators": [{"iqn": CLIENT, "chap": CHAP}]}],
        }
    }


def ours(kind: str, count: int) -> list[dict[str, Any]]:
    names = ["%02d" % n for n in range(count)]
    if kind == "nfs4":
        mounts = [{"path": MOUNTS + "/" + n, "server": SERVER, "export": EXPORTS + "/" + n} for n in names]
        return [{"bulkhead.storage.layout": {"nfs_mounts": mounts}}]
    luns = [{"iscsi": IQN, "lun": n} for n in range(count)]
    session = {"target": IQN, "portals": [SERVER], "chap": CHAP, "luns": list(range(count))}
    stack = {
        "iscsi_sessions": [session],
        "filesystems": [{"device": lun, "fstype": "ext4"} for lun in luns],
        "mounts": [{"path": MOUNTS + "/" + n, "source": lun, "fstype": "ext4"} for n, lun in zip(names, luns)],
    }
    return [{"bulkhead.storage.layout": stack}]


def theirs(kind: str, count: int) -> list[dict[str, Any]]:
    names = ["%02d" % n for n in range(count)]
    if kind == "nfs4":
        source = {"src": "%s:%s/{{ item }}" % (SERVER, EXPORTS), "opts": "vers=4.2,nosuid,nodev,nofail,_netdev"}
        options = {"path": MOUNTS + "/{{ item }}", "fstype": "nfs4", "state": "mounted", **source}
        return [{"ansible.posix.mount": options, "loop": names}]
    disks = ["/dev/disk/by-id/scsi-36001405" + iscsi_target.serial(IQN, str(n))[:25] for n in range(count)]
    login = {"portal": SERVER, "target": IQN, "login": True, "discover": True, "node_auth": "CHAP"}
    login.update(node_user=CHAP["username"], node_pass=CHAP["password"], auto_node_startup=True)
    mount = {"path": MOUNTS + "/{{ item.0 }}", "src": "{{ item.1 }}", "fstype": "ext4", "opts": "_netdev"}
    return [
        {"community.general.open_iscsi": login},
        {"community.general.filesystem": {"dev": "{{ item }}", "fstype": "ext4"}, "loop": disks},
        {"ansible.posix.mount": {**mount, "state": "mounted"}, "loop": [list(pair) for pair in zip(names, disks)]},
    ]


def played(plays: xfs_quota.Plays, tasks: list[dict[str, Any]]) -> tuple[dict[str, float], int]:
    """What all of them cost, each a play of its own, and how many changed something."""
    found = [thin.played(plays, task) for task in tasks]
    return {what: sum(cost[what] for cost, _changed in found) for what in ("wall", "cpu")}, sum(
        changed for _cost, changed in found
    )


def measured(count: int, firsts: int, rounds: int) -> dict[str, Any]:
    alpha, server = lab.brought_up("alpha"), lab.brought_up("server")
    found: dict[str, Any] = {"count": count, "kernel": alpha.run(["uname", "-r"]).stdout.strip()}
    with tempfile.TemporaryDirectory() as work:
        plays = xfs_quota.Plays(work)
        server.run(["systemctl", "start", "nfs-server"])
        plays.run(served(count), host="server")
        for kind in ("nfs4", "ext4"):
            told: dict[str, Any] = {"firsts": [], "quiet": []}
            for number in range(firsts):
                pair: dict[str, Any] = {}
                for which in ("theirs", "ours") if number % 2 == 0 else ("ours", "theirs"):
                    alpha.reset()
                    server.python(_BLANK)
                    plays.run({"ansible.builtin.ping": {}})
                    pair[which], changed = played(plays, (ours if which == "ours" else theirs)(kind, count))
                    assert changed > 0, "there was something to do"
                    alpha.python(_COUNT, kind, str(count))
                    if number == 0:
                        told["quiet"] += [{} for _round in range(rounds - len(told["quiet"]))]
                        for quiet in told["quiet"]:
                            quiet["ping"], _changed = played(plays, [{"ansible.builtin.ping": {}}])
                            quiet[which], changed = played(plays, (ours if which == "ours" else theirs)(kind, count))
                            assert which == "theirs" or changed == 0, "there was nothing to do"
                told["firsts"].append(pair)
                print(kind, json.dumps(told), file=sys.stderr, flush=True)
            found[kind] = told
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="NFS and iSCSI in a guest, beside loops of others.")
    parser.add_argument("--count", type=int, default=20, help="mounts, and LUNs (default: 20)")
    parser.add_argument("--firsts", type=int, default=1, help="how often each way makes all of them (default: 1)")
    parser.add_argument("--rounds", type=int, default=2, help="plays of each way that change nothing (default: 2)")
    parser.add_argument("--keep", action="store_true", help="keep the raw figures")
    chosen = parser.parse_args()
    try:
        found = measured(chosen.count, chosen.firsts, chosen.rounds)
    finally:
        lab.lab("down", "alpha", "server")
    found.update(date=datetime.date.today().isoformat(), load=os.getloadavg()[2])
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    print(text, end="")
    if chosen.keep:
        (xfs_quota.RESULTS / (found["date"] + "-network.json")).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
