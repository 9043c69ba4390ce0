# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration to the world: look, plan, refuse, apply stage by stage, look again."""

from __future__ import annotations

from typing import Any, Callable, ContextManager, List, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    Unit,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.plan import Plan, World, plan

Declare = Callable[[World], Tuple[List[Unit], List[StorageError]]]


class Options(NamedTuple):
    check: bool = False
    rollback: bool = True
    workers: int = 4
    lock: Callable[[], ContextManager[Any]] | None = None
    journal: Any = None


class Report(NamedTuple):
    """What was planned and what became of it. ``rows`` is the world as it stands, in check mode as it would stand."""

    listed: list[dict[str, Any]]
    digest: str
    summary: dict[str, int]
    errors: list[StorageError]
    rows: dict[str, dict[Any, Any]]
    journal: str
    timings: dict[str, float]


def converge(declare: Declare, ports: dict[str, Any], options: Options, clock: Callable[[], float]) -> Report:
    """One reconciliation: plan, refuse, apply stage by stage, settle.

    Raises ``Refusals`` before the first put, or before the first behind a door; failures of puts are in the report.
    """
    times = {"scan": 0.0, "plan": 0.0, "apply": 0.0, "settle": 0.0}

    def look() -> Plan:
        start = clock()
        world = _Timed(ports, clock)
        try:
            units, errors = declare(world)
        except StorageError as error:  # it could not look
            units, errors = [], [error]
        found = plan(units, world)
        found.errors[:0] = [error for error in errors if error not in found.errors]
        times["scan"] += world.spent
        times["plan"] += clock() - start - world.spent
        return found

    first = look()
    if first.errors or options.check or not first.actions:
        return _foreseen(first, times)
    if options.lock is None:
        return _apply(first, look, ports, options, clock, times)
    with options.lock():
        first = look()
        if first.errors or not first.actions:
            return _foreseen(first, times)
        return _apply(first, look, ports, options, clock, times)


def _foreseen(first: Plan, times: dict[str, float]) -> Report:
    if first.errors:
        raise Refusals(first.errors)
    listed = render.rows(first.actions, first.units)
    summary = dict.fromkeys(("planned", "applied", "failed", "undone", "kept", "skipped"), 0)
    summary["planned"] = len(listed)
    return Report(listed, render.digest(listed), summary, [], first.predicted(), "", times)


def _apply(
    first: Plan,
    look: Callable[[], Plan],
    ports: dict[str, Any],
    options: Options,
    clock: Callable[[], float],
    times: dict[str, float],
) -> Report:
    listed = render.rows(first.actions, first.units)
    digest = render.digest(listed)
    path = options.journal.begin(listed, digest) if options.journal else ""
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine.runner import Runner

    runner = Runner(ports, options)
    start = clock()
    stage = first
    while stage.conditional and runner.run(stage, stage.now):
        stage = look()
        if stage.errors:
            errors = runner.errors + stage.errors
            left = runner.close()
            if left:
                errors[0].details["kept"] = left
            runner.finish(len(listed))
            raise Refusals(errors)
    runner.run(stage, stage.actions)
    summary = runner.finish(len(listed))
    times["apply"] = clock() - start
    start = clock()
    last = look()
    times["settle"] = clock() - start
    errors = runner.errors
    if not errors and (last.actions or last.errors):
        errors = last.errors or [_unsettled(last)]
    return Report(listed, digest, summary, errors, last.world.rows, path, times)


def _unsettled(last: Plan) -> StorageError:
    rows = render.rows(last.actions[:3], last.units)
    error = StorageError(
        "did_not_settle",
        "after every action the world still differs: %s" % "; ".join("%(verb)s %(port)s %(target)s" % r for r in rows),
        "something else changes it, or it cannot hold the declared value; see errors[].details",
        actions=rows,
    )
    return error.at(last.units[last.actions[0].unit].entry)


class _Timed(World):
    def __init__(self, ports: dict[str, Any], clock: Callable[[], float]) -> None:
        super().__init__(ports)
        self.clock, self.spent = clock, 0.0

    def look(self, port: str, targets: Any) -> Any:
        start = self.clock()
        try:
            return super().look(port, targets)
        finally:
            self.spent += self.clock() - start
