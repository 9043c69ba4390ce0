# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration to the world: look, plan, refuse, apply stage by stage, look again."""

from __future__ import annotations

import hashlib
from typing import Any, Callable, ContextManager, List, Mapping, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Plan, World, compare

Declare = Callable[[World], Tuple[List[Unit], List[StorageError]]]
SUMMARY = ("planned", "applied", "failed", "undone", "kept", "skipped")


class Options(NamedTuple):
    check: bool = False
    rollback: bool = True
    workers: int = 4
    lock: Callable[[], ContextManager[Any]] | None = None
    still: Callable[[], ContextManager[Any]] | None = None  # while nobody has the lock; changes nothing itself
    journal: Callable[[], Any] | None = None
    ready: Callable[[], list[StorageError]] | None = None  # why nothing could begin, whatever the plan


class Report(NamedTuple):
    """What was planned and what became of it. ``rows`` is the world as it stands, in check mode as it would stand."""

    listed: list[dict[str, Any]]
    digest: str
    summary: dict[str, int]
    errors: list[StorageError]
    rows: dict[str, dict[Any, Any]]
    journal: str
    timings: dict[str, float]


def converge(declare: Declare, ports: Mapping[str, Any], options: Options, clock: Callable[[], float]) -> Report:
    """One reconciliation: plan, refuse, apply stage by stage, settle.

    Raises ``Refusals`` before the first put; what is refused behind a door, or fails, is in the report.
    """
    times = {"scan": 0.0, "plan": 0.0, "apply": 0.0, "settle": 0.0}

    def look(last: Plan | None = None) -> Plan:
        start = clock()
        world = _Timed(ports, clock)
        found = runner.again(last, world) if last is not None else None
        if found is None:
            try:
                units, errors = declare(world)
            except StorageError as error:  # it could not look
                units, errors = [], [error]
            found = compare(units, world)
            found.errors[:0] = [error for error in errors if error not in found.errors]
        times["scan"] += world.spent
        times["plan"] += clock() - start - world.spent
        return found

    first = look()
    if first.actions or first.errors:
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import runner

        return runner.proceed(first, look, ports, options, clock, times)
    summary = dict.fromkeys(SUMMARY, 0)
    return Report([], hashlib.sha256().hexdigest(), summary, [], first.world.rows, "", times)


class _Timed(World):
    def __init__(self, ports: Mapping[str, Any], clock: Callable[[], float]) -> None:
        super().__init__(ports)
        self.clock, self.spent = clock, 0.0

    def look(self, port: str, targets: Any) -> Any:
        start = self.clock()
        try:
            return super().look(port, targets)
        finally:
            self.spent += self.clock() - start
