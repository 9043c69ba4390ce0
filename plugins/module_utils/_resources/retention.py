# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that hold a time, and which of what they name is kept, as restic and borg count it."""

from __future__ import annotations

import calendar
import re
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

STAMP = "%Y-%m-%dT%H:%M:%SZ"
# What two snapshots of one period have in common; a week begins on Monday, and belongs to the year of its Thursday.
PERIODS = {"hourly": "%Y-%m-%d %H", "daily": "%Y-%m-%d", "weekly": "%G %V", "monthly": "%Y-%m"}


def named(template: str, now: int) -> str:
    """The name that a template gives at a time in UTC. Raises ``invalid``."""
    if not re.fullmatch("(?:[^%]|%[YmdHMSjGVu])*", template):
        raise StorageError(
            "invalid", "name %.300r is not a template" % template, "%Y %m %d %H %M %S %j %G %V %u", option="name"
        )
    return names.identifier(time.strftime(template, time.gmtime(now)))


def rules(keep: dict[str, Any]) -> dict[str, int]:
    """``last`` and periods with how many are kept of each. Raises ``invalid``."""
    found = {rule: count for rule, count in keep.items() if count is not None}
    for rule, count in found.items():
        if not 0 <= count <= 100000:
            raise StorageError("invalid", "keep.%s %d is not in 0..100000" % (rule, count), option="keep")
    if not any(found.values()):
        raise StorageError("invalid", "keep would keep nothing", "say how many, for example last: 7", option="keep")
    return found


def kept(made: dict[str, int], wanted: dict[str, int]) -> set[str]:
    """Of names with the times that they were made at: those that any rule keeps.

    ``last`` keeps the newest. Each other rule keeps the newest one of each of so many periods, counting only periods
    that have one, the newest first.
    """
    newest = sorted(made, key=lambda name: (made[name], name), reverse=True)
    found = set(newest[: wanted.get("last", 0)])
    for rule, form in PERIODS.items():
        seen: set[str] = set()
        for name in newest:
            period = time.strftime(form, time.gmtime(made[name]))
            if period not in seen and len(seen) < wanted.get(rule, 0):
                seen.add(period)
                found.add(name)
    return found


def pruned(rows: dict[str, dict[str, Any]], key: str, now: int, keep: dict[str, Any]) -> list[str]:
    """Which of the rows of one template go once ``key`` is there."""
    made = {key: now}
    made.update((name, calendar.timegm(time.strptime(row["created_at"], STAMP))) for name, row in rows.items())
    staying = kept(made, rules(keep))
    return sorted(name for name in rows if name not in staying and name != key)
