# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run against a cluster, in its namespace, as Ansible runs them; what they say is judged from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import ansible
import trees

from ansible_collections.bulkhead.storage.tests.lab import ceph, network
from ansible_collections.bulkhead.storage.tests.support import module

BY_CLI = "ansible_collections.bulkhead.storage.tests.lab.ceph_cluster.by_cli"
WAYS = ("librados", "cli")
Call = Callable[..., module.Done]


@contextlib.contextmanager
def entered(cluster: ceph.Cluster) -> Iterator[None]:
    """This thread, and whatever it starts, is where the cluster is."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        network.enter(cluster.space)
        yield
    finally:
        network.enter(home)
        os.close(home)


def access(cluster: ceph.Cluster, user: str = "bulkhead", **caps: str) -> dict[str, Any]:
    """How a module gets there, as a user with no more than it needs."""
    least = {"mon": "allow rwx", "osd": "allow rwx", "mgr": "allow r"}
    cluster.user("client." + user, **(caps or least))
    return {"conf": str(cluster.conf), "user": user}


def environment() -> dict[str, str]:
    """Debian's Python finds us and Ansible, and nothing of another Python."""
    return {"PYTHONPATH": "%s:%s" % (trees.linked(), Path(ansible.__file__).parent.parent)}


def through(cluster: ceph.Cluster, how: str, way: dict[str, Any]) -> Call:
    """Calls a module by its name with options: ``librados`` as it is shipped, ``cli`` without Python's bindings.

    Its process is killed after ``timeout_`` seconds.
    """

    def call(
        kind: str, /, check: bool = False, diff: bool = False, timeout_: float = 120.0, **options: Any
    ) -> module.Done:
        said = {**way, **options}
        if how == "cli":
            kind, said = BY_CLI, {**said, "kind": kind}
        with entered(cluster):
            return module.run(kind, said, check, diff, ceph.PYTHON, environment(), timeout_)

    return call


def ansible_says(cluster: ceph.Cluster, folder: Path, words: list[str]) -> str:
    """What ``ansible`` prints for a task on this host, in the cluster's namespace."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON"))}
    env.update(ANSIBLE_COLLECTIONS_PATH=str(trees.linked()), HOME=str(folder), ANSIBLE_PIPELINING="1")
    argv = [os.path.join(os.path.dirname(sys.executable), "ansible"), "localhost", "-c", "local", *words]
    argv += ["-e", "ansible_python_interpreter=" + ceph.PYTHON]
    with entered(cluster):
        done = subprocess.run(argv, env=env, cwd=folder, stdin=-3, stdout=-1, stderr=-2, text=True, check=False)
    return done.stdout
