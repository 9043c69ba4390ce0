# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of jobs: services of systemd that run once. Looked at without a program, by what they leave.

A job's folder is /var/lib/bulkhead/jobs/<id>: ``root`` (empty folders to mount things at), ``started`` when it is about
to run, ``result`` beside what it said once it has ended, which a service writes down.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD

HOME = "/var/lib/bulkhead/jobs"
RUN = "/run/bulkhead-jobs"
UNITS, INVOKED = "/run/systemd/system", "/run/systemd/units/invocation:"
# One for each way to end: how it ended is told to a unit that only one other can have set off.
ENDS = {"Success": "bulkhead-job-success@%s.service", "Failure": "bulkhead-job-failure@%s.service"}
MOMENT = 10.0  # seconds until its end is written down, once a service is gone
RANKS = {"part": 0, "prepared": 1, "running": 2, "done": 3, "lost": 3}
_RESULT = re.compile(r"([a-z-]+) ([a-z]+) ([A-Z0-9+]+)\n", re.ASCII)

Run = Callable[..., "tuple[int, bytes, bytes]"]


class Job:
    """Port ``job``: id -> ``{state}``: part, prepared, running, done, or lost, where the host went down with it.

    A job that is to run, and has run, is as it should be.
    """

    name, behind, slow = "job", False, True

    def __init__(self, run: Run, home: str = HOME) -> None:
        self.run, self.home = run, home
        self.asked: list[StorageError | None] = []  # what speaks against any job, once
        self.ending: dict[str, float] = {}  # since when nothing of it runs
        self.want_entries: set[str] = set()  # to be removed, however ended
        self.leaving: list[str] = []  # of those, not yet told to end
        self.devices: dict[str, str] = {}  # that the declared ones name in ``io``

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            try:
                targets = sorted(os.listdir(self.home))
            except FileNotFoundError:
                targets = []
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                row = self.row(target)
            except OSError as error:
                rows[target] = failure(error, "cannot look at job %s" % target)
            except StorageError as error:
                rows[target] = error
            else:
                if row is not None:
                    rows[target] = row
        return rows

    def row(self, target: str) -> dict[str, Any] | None:
        runs = os.path.lexists(INVOKED + unit(target))  # first: what is gone then has left its result before
        home = os.path.join(self.home, target)
        started = _when(home + "/started")
        ended = _when(home + "/result")
        if ended:
            return {"state": "done", "_started_at": started, "_finished_at": ended, **_said(home)}
        if runs:
            return {"state": "running", "_started_at": started}
        if os.path.lexists("%s/%s/output/stdout" % (RUN, target)):  # systemd made it: it ran, and has just ended
            self._patient(target)
            return {"state": "running", "_started_at": started}
        if os.path.lexists(os.path.join(UNITS, unit(target))):
            return {"state": "prepared"}
        if started:
            return {"state": "lost", "_started_at": started}
        return {"state": "part"} if os.path.lexists(home) else None

    def _patient(self, target: str) -> None:
        if target in self.want_entries or any(os.path.lexists(INVOKED + end % target) for end in ENDS.values()):
            self.ending.pop(target, None)
        elif time.monotonic() - self.ending.setdefault(target, time.monotonic()) > MOMENT:
            text = "job %s has ended, and how was not written down" % target
            raise StorageError("failed", text, "journalctl -u '%s', then remove it" % (ENDS["Failure"] % target))

    def resolve(self, target: str, declared: Any) -> Any:
        io = declared.get("_spec", {}).get("io") if declared else None
        if io and io["source"]:
            self.devices[target] = io["source"]
        return declared

    def unstable(self, target: str) -> StorageError | None:
        """What takes ``allow_unstable_device``."""
        if target not in self.devices:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobio

        return jobio.unstable(self.devices[target])

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return RANKS[now["state"]] >= RANKS[declared["state"]]

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None:
            self.leaving.append(target)
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobchange

        if not self.asked:
            self.asked.append(jobchange.refuse(self.run))
        return self.asked[0] or jobchange.unlimited(after)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobchange

        jobchange.put(self, target, before, after)


def unit(target: str) -> str:
    return "bulkhead-job-%s.service" % target


def _when(path: str) -> str | None:
    """When a file was written, in UTC; None where there is none."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise StorageError("conflict", "%s is no folder of a job" % os.path.dirname(path), "move it away") from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seen.st_mtime)) if stat.S_ISREG(seen.st_mode) else None


def _said(home: str) -> dict[str, Any]:
    """How it ended, and what it wrote, as far as that was kept."""
    with open(home + "/result", encoding="ascii") as stream:
        found = _RESULT.fullmatch(stream.read())
    if found is None:
        raise StorageError("unreadable", "%s/result is not what a job leaves" % home, "remove the job")
    result, how, status = found.groups()
    if how == "none":  # systemd did not hear of its end any more: what does not end by itself is killed
        status = "KILL"
    number = int(status) if status.isdigit() else getattr(signal, "SIG" + status, 0)
    said: dict[str, Any] = {"_result": result, "_rc": number if how == "exited" else 128 + number}  # as a shell has it
    said["_more"] = os.path.lexists(home + "/more")
    for name in ("stdout", "stderr"):
        try:
            with open(os.path.join(home, name), "rb") as stream:
                said["_" + name] = stream.read().decode("utf-8", "replace")
        except FileNotFoundError:
            said["_" + name] = ""
    return said
