# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries that a task waits for: made, waited for without the lock, and looked at once more when they have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Mapping

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry

if TYPE_CHECKING:
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Report

SOON, LATE = 0.02, 0.5  # seconds between two looks, first and in the end


def to_the_end(
    awaited: list[Entry],
    ports: Mapping[str, Any],
    first: Report,
    converged: Callable[[], Report],
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """What was done until then and after it, as one report, with what each entry says that failed."""
    pause, left = SOON, list(awaited)
    while True:
        left = [entry for entry in left if not entry.resource.over(entry.params, ports)]
        if not left:
            break
        sleep(pause)
        pause = min(pause * 1.5, LATE)
    second = converged()
    failed = []
    for entry in awaited:
        error = entry.resource.verdict(entry.params, second.rows)
        if error is not None:
            failed.append(error.at(entry.label))
    leaving = [entry for entry in awaited if entry.resource.leaves(entry.params)]
    third = None
    if leaving and not second.errors:
        for entry in leaving:
            entry.params["state"] = "absent"
        third = converged()
    return _joined([report for report in (first, second, third) if report is not None], second.rows, failed)


def _joined(reports: list[Report], rows: dict[str, dict[Any, Any]], failed: list[StorageError]) -> Report:
    """The digest is that of the first with anything to do: what came after its end could not be foreseen."""
    telling = [report for report in reports if report.listed] or reports
    return telling[0]._replace(
        listed=[action for report in reports for action in report.listed],
        summary={name: sum(report.summary[name] for report in reports) for name in telling[0].summary},
        errors=[error for report in reports for error in report.errors],
        ended=failed,
        rows=rows,
        timings={name: sum(report.timings[name] for report in reports) for name in telling[0].timings},
    )
