# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine with the real adapters in a process of its own, which can be told to die at a step; and what stands then.

``snapshot`` looks with its own eyes: no adapter of ours is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from typing import Any

from ansible_collections.bulkhead.storage.tests.support import namespace

OWN = ("/srv", "/mnt", "/var/lib/bulkhead")
_RUN = """
import json, os, signal, sys, time
from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError

job = json.load(sys.stdin)

class Mortal:
    # The journal hears of every step of the engine: it is where a run is killed, by a signal nobody can catch.
    def __init__(self):
        self.inner, self.steps = Journal(), 0
    def heard(self):
        self.steps += 1
        if self.steps == job.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
    def begin(self, listed, digest):
        path = self.inner.begin(listed, digest)
        self.heard()
        return path
    def step(self, index, outcome, sync):
        self.inner.step(index, outcome, sync)
        self.heard()
    def end(self, summary):
        self.inner.end(summary)
        self.heard()

entries, errors = _kinds.entries(job["document"], {"allow_unstable_device": False}, set())
ports = _kinds.ports([n for n in _kinds.LISTS if job["document"].get(n)])
journal = Mortal()
wait = job.get("lock_timeout", 30)
options = reconcile.Options(check=job.get("check", False), lock=lambda: _shell._lock(wait),
                            still=lambda: _shell._lock(wait, True), journal=lambda: journal,
                            workers=job.get("workers", 1))
if job.get("unlocked"):
    options = options._replace(lock=None)
try:
    report = reconcile.fulfil(entries, errors, ports, options)
    out = {"summary": report.summary, "errors": [e.as_dict() for e in report.errors], "actions": report.listed,
           "digest": report.digest}
except Refusals as refused:
    out = {"refused": [e.as_dict() for e in refused.errors]}
except StorageError as error:
    out = {"refused": [error.as_dict()]}
out["steps"] = journal.steps
print(json.dumps(out, default=str))
"""


def start(document: dict[str, Any], **more: Any) -> subprocess.Popen[bytes]:
    """A run of the engine as a process; ``kill=n`` ends it by SIGKILL at its n-th step."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as job:
        job.write(json.dumps({"document": document, **more}).encode())
        job.seek(0)
        return subprocess.Popen(
            [sys.executable, "-c", _RUN], stdin=job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )


def finish(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = child.communicate(timeout=120)
    if child.returncode == -9:
        return {"killed": True}
    if child.returncode != 0:
        raise RuntimeError(err.decode())
    answer: dict[str, Any] = json.loads(out)
    return answer


def run(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return finish(start(document, **more))


def snapshot(times: bool = False) -> dict[str, Any]:
    """Everything that stands: trees, mounts, loop devices, fstab's bytes, rows of the catalogue."""
    seen: dict[str, Any] = {"mounts": [], "tree": {}, "rows": {}}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            fields = line.split()
            dash = fields.index("-")
            if any(fields[4].startswith(own + "/") for own in OWN):
                seen["mounts"].append((fields[4], fields[5], fields[dash + 1], fields[dash + 3]))
    seen["mounts"].sort()
    for own in OWN:
        for folder, folders, files in os.walk(own):
            for name in [*folders, *files] if "/journal" not in folder else []:
                path = os.path.join(folder, name)
                found = os.lstat(path)
                row: list[Any] = [stat.filemode(found.st_mode), found.st_uid, found.st_gid]
                row += [found.st_size] if stat.S_ISREG(found.st_mode) and not name.startswith("catalogue") else []
                row += [found.st_mtime_ns, found.st_ctime_ns] if times else []
                keys = [key for key in os.listxattr(path) if key.startswith("system.")]
                row += [sorted((key, os.getxattr(path, key)) for key in keys)]
                seen["tree"][path] = row
    seen["loops"] = sum(len(namespace.loop_devices(own)) for own in OWN)
    with open("/etc/fstab", "rb") as stream:
        seen["fstab"] = stream.read()
    if os.path.exists("/var/lib/bulkhead/catalogue.sqlite"):
        with contextlib.closing(sqlite3.connect("file:/var/lib/bulkhead/catalogue.sqlite?mode=ro", uri=True)) as db:
            for kind, key, value in db.execute("SELECT kind, key, value FROM rows ORDER BY kind, key"):
                row = json.loads(value)
                seen["rows"][kind, key] = {k: v for k, v in row.items() if k not in ("id", "created_at", "last_used")}
    return seen
