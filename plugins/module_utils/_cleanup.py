# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a timer runs on a job host, without Ansible: volumes of jobs that ended are detached, idle memory volumes go.

A composition root like ``layout``, over the same engine: it plans, has the lock, and writes the journal.
"""

from __future__ import annotations

import argparse
import calendar
import os
import sys
import time
from typing import Any, Iterator, Sequence

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job, pool_place

AGAIN = 75  # sysexits.h, EX_TEMPFAIL: another run has the lock, and the next time comes


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Detach volumes of jobs that have ended, remove idle memory volumes.")
    parser.add_argument("--memory-volume-timeout", type=int, metavar="SECONDS", help="how long one may lie unused")
    parser.add_argument("--lock-timeout", type=int, metavar="SECONDS", default=30, help="how long to wait for others")
    said = parser.parse_args(words)
    errors: list[StorageError] = []
    try:
        if _wanted(said.memory_volume_timeout):
            with Lock(timeout=said.lock_timeout):  # what looked left behind may be another run's, half way
                for document in _wanted(said.memory_volume_timeout):
                    errors += _done(document)
    except StorageError as caught:
        errors.append(caught)
    for error in errors:
        sys.stderr.write("%s: %s\n" % (error.code, error))
    if any(error.code != "locked" for error in errors):
        return 1
    return AGAIN if errors else 0


def _wanted(idle: int | None) -> list[dict[str, Any]]:
    return list(wanted(_ports(), idle, time.time()))


def wanted(ports: Any, idle: int | None, now: float) -> Iterator[dict[str, Any]]:
    """Declarations for ``layout``: first of all that is known, then of each job that only a volume knows of."""
    record = ports["record"]
    rows = record.scan(None)
    volumes = {key: row for (kind, key), row in rows.items() if kind == "volume"}
    held = {
        (holder, key)
        for key, row in volumes.items()
        for holder, how in row["attachments"].items()
        if names.within(how["target"], names.join(pool_place.JOBS, holder))  # else nobody told us whose job it is
    }
    found = ports["job"].scan(sorted({holder for holder, _key in held} | _folders()))
    over = [key for key, row in found.items() if isinstance(row, StorageError) or row["state"] in job.OVER]
    unused = [key for key, row in volumes.items() if idle is not None and _idle(row) and now - _seen(row) >= idle]
    document = {
        "jobs": [{"id": key} for key in over if ("job", key) in rows],
        "volumes": [{**_named(key), "state": "absent"} for key in unused],
    }
    if any(document.values()):
        yield document
    for holder, key in sorted(held):
        if holder not in found and ("job", holder) not in rows:
            yield {"volumes": [{**_named(key), "state": "detached", "job": holder}]}


def _idle(row: dict[str, Any]) -> bool:
    return row["type"] == "memory" and not row["attachments"]


def _seen(row: dict[str, Any]) -> float:
    """When it was last attached or detached, or made."""
    return calendar.timegm(time.strptime(row.get("last_used") or row["created_at"], "%Y-%m-%dT%H:%M:%SZ"))


def _named(key: str) -> dict[str, Any]:
    namespace, _slash, name = key.partition("/")
    return {"namespace": namespace, "name": name}


def _folders() -> set[str]:
    """Jobs of this boot whose output is still mounted, or was not unmounted to the end."""
    try:
        return {name for name in os.listdir(pool_place.JOBS) if not name.startswith(".")}
    except FileNotFoundError:
        return set()


def _ports() -> Any:
    return _kinds.ports(["jobs", "volumes"])


def _done(document: dict[str, Any]) -> list[StorageError]:
    """What went wrong. Where one thing speaks against it, the others are done one by one."""
    # An unstable name is no reason to keep what was attached under it.
    entries, errors = _kinds.entries(document, {"allow_unstable_device": True}, set())
    entries = [
        each._replace(label="%s (%s)" % (each.resource.KIND, each.resource.label(each.params))) for each in entries
    ]
    options = reconcile.Options(journal=Journal)  # the lock is ours already
    try:
        report = reconcile.fulfil(entries, errors, _ports(), options)
    except StorageError as error:
        return [error]
    except Refusals as refused:
        single = [{name: [each]} for name, listed in document.items() for each in listed]
        if len(single) == 1:
            return refused.errors
        return [error for each in single for error in _done(each)]
    for action in report.listed:
        sys.stdout.write("%s: %s %s %s\n" % (action["entry"], action["verb"], action["port"], action["target"]))
    return report.errors
