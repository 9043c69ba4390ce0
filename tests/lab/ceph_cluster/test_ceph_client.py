# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role ceph_client: pools, users and keyrings of a real cluster by plays, judged by the ``ceph`` program."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import trees

from ansible_collections.bulkhead.storage.tests.lab import ceph

POOLS: list[dict[str, Any]] = [
    {"name": "images", "size": 2, "application": ["rbd"], "quota_bytes": "1GiB", "namespaces": ["blue"]},
    {"name": "scratch", "pg_num": 8, "autoscale": "off"},
]
CAPS = {"mon": "profile rbd", "osd": "profile rbd pool=images namespace=blue"}


def played(cluster: ceph.Cluster, folder: Path, variables: dict[str, Any], *arguments: str) -> tuple[str, Any]:
    """What the play said, and the result of the role."""
    kept = folder / "result.json"
    copy = {"content": "{{ ceph_client_result | to_json }}", "dest": str(kept), "mode": "0600"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ceph_client_install": False, "ansible_python_interpreter": "/usr/bin/python3", **variables},
        "roles": ["bulkhead.storage.ceph_client"],
        "post_tasks": [{"ansible.builtin.copy": copy, "check_mode": False, "diff": False, "no_log": True}],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    argv = [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "-i", "localhost,", "-c", "local"]
    home = {"HOME": str(folder), "ANSIBLE_COLLECTIONS_PATH": str(trees.linked()), "ANSIBLE_NOCOLOR": "true"}
    done = cluster.run([*argv, *arguments, str(folder / "play.yml")], timeout=300, **home)
    return done.stdout, json.loads(kept.read_text())


def test_pools_users_and_keyrings(cluster: ceph.Cluster, tmp_path: Path) -> None:
    """Foreseen, made, quiet, and gone; the key of the user is in its file and nowhere else."""
    keyring = cluster.user("client.bulkhead", mon="allow *", osd="allow *", mgr="allow *")
    mine = tmp_path / "client.blue.keyring"
    wanted = {
        "ceph_client_access": {"user": "bulkhead", "conf": str(cluster.conf), "keyring": str(keyring)},
        "ceph_client_pools": POOLS,
        "ceph_client_users": [{"name": "blue", "caps": CAPS, "keyring_path": str(mine)}],
    }
    _text, foreseen = played(cluster, tmp_path, wanted, "--check", "--diff")
    assert foreseen["changed"] and cluster.ceph("osd", "pool", "ls") == [] and not mine.exists()
    text, done = played(cluster, tmp_path, wanted, "-vvvv", "--diff")
    assert (done["changed"], done["plan_digest"]) == (True, foreseen["plan_digest"])
    pools = {pool["pool_name"]: pool for pool in cluster.ceph("osd", "pool", "ls", "detail")}
    assert (pools["images"]["size"], pools["images"]["quota_max_bytes"]) == (2, 1 << 30)
    assert (pools["scratch"]["pg_num"], pools["scratch"]["size"]) == (8, 3)
    (told,) = cluster.ceph("auth", "get", "client.blue")
    assert told["caps"] == CAPS
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600 and told["key"] in mine.read_text()
    assert done["resources"]["ceph_pools"][0]["namespaces"] == ["blue"]
    secrets = [told["key"], *re.findall(r"key = (\S+)", keyring.read_text())]
    assert len(secrets) == 2 and "ceph_auth" in text and not any(secret in text for secret in secrets)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != mine]
    assert not any(secret.encode() in path.read_bytes() for path in left for secret in secrets)

    _text, again = played(cluster, tmp_path, wanted)
    assert (again["changed"], again["actions"]) == (False, [])
    goes = {**wanted, "ceph_client_state": "absent"}
    goes["ceph_client_pools"] = [{**pool, "confirm": pool["name"]} for pool in POOLS]
    _text, gone = played(cluster, tmp_path, goes)
    assert gone["changed"] and cluster.ceph("osd", "pool", "ls") == [] and not mine.exists()
    assert "client.blue" not in [row["entity"] for row in cluster.ceph("auth", "ls")["auth_dump"]]
    assert played(cluster, tmp_path, goes)[1]["changed"] is False
