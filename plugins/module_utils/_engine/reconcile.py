# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration to the world: look, plan, refuse, apply stage by stage, look again."""

from __future__ import annotations

import hashlib
from time import monotonic
from typing import Any, Callable, ContextManager, List, Mapping, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Plan, World, compare

Declare = Callable[[World], Tuple[List[Unit], List[StorageError]]]
SUMMARY = ("planned", "applied", "failed", "undone", "kept", "skipped")


class Options(NamedTuple):
    check: bool = False
    rollback: bool = True
    workers: int = 4
    lock: Callable[[], ContextManager[Any]] | None = None
    still: Callable[[], ContextManager[Any]] | None = None  # while nobody has the lock
    journal: Callable[[], Any] | None = None
    ready: Callable[[], list[StorageError]] | None = None  # why nothing could begin


class Report(NamedTuple):
    """What was planned and what became of it. ``rows`` is the world as it stands, or in check mode would stand."""

    listed: list[dict[str, Any]]
    digest: str
    summary: dict[str, int]
    errors: list[StorageError]
    rows: dict[str, dict[Any, Any]]
    journal: str
    timings: dict[str, float]
    ended: list[StorageError] = []  # as declared, but not well


def converge(declare: Declare, ports: Mapping[str, Any], options: Options, clock: Callable[[], float]) -> Report:
    """Raises ``Refusals`` before the first put; what is refused behind a door, or fails, is in the report."""
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


def fulfil(entries: list[Entry], errors: list[StorageError], ports: Mapping[str, Any], options: Options) -> Report:
    """``converge``, until who is waited for has ended."""

    def converged() -> Report:
        return converge(lambda world: declare(world, entries, errors), ports, options, monotonic)

    report = converged()
    for kind in {entry.resource for entry in entries if hasattr(entry.resource, "to_the_end")}:
        if not (options.check or report.errors):
            report = kind.to_the_end(entries, ports, report, converged)
    return report


def declare(world: World, entries: list[Entry], errors: list[StorageError]) -> tuple[list[Unit], list[StorageError]]:
    """Entries as units, and what is wrong with them. What they want to know is asked at once."""
    found = list(errors)
    for kind in {entry.resource for entry in entries if hasattr(entry.resource, "beside")}:
        entries = kind.beside(entries, world)
    world.declared = {(e.resource.KIND, e.resource.label(e.params)): e.params for e in entries}
    wanted: dict[str, list[Any]] = {}
    good = []
    for entry in entries:
        facts = getattr(entry.resource, "facts", None)
        try:
            for port, target in facts(entry.params, world) if facts else ():
                wanted.setdefault(port, []).append(target)
        except StorageError as error:  # nothing is looked for under a name that is none
            found.append(error.at(entry.label))
        else:
            good.append(entry)
    for port, targets in wanted.items():
        world.look(port, targets)
    units = []
    for entry in good:
        try:
            units.append(entry.resource.unit(entry.params, world)._replace(entry=entry.label))
        except StorageError as error:
            found.append(error.at(entry.label))
    return units, found


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
