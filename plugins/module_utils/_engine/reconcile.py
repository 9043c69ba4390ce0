# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration to the world: stages, order, walk back, settling. The only loop that calls ``put``."""

from __future__ import annotations

import threading
from typing import Any, Callable, ContextManager, List, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, Action, Key, Unit
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

    Raises ``Refusals`` before the first put; failures of puts are in the report.
    """
    times = {"scan": 0.0, "plan": 0.0, "apply": 0.0, "settle": 0.0}

    def look() -> Plan:
        start = clock()
        world = _Timed(ports, clock)
        units, errors = declare(world)
        found = plan(units, world)
        found.errors[:0] = errors
        times["scan"] += world.spent
        times["plan"] += clock() - start - world.spent
        return found

    first = look()
    if first.errors:
        raise Refusals(first.errors)
    if options.check or not first.actions:
        listed = render.rows(first.actions, first.units)
        summary = _summary(len(first.actions), Runner(ports, options))
        return Report(listed, render.digest(listed), summary, [], first.predicted(), "", times)
    if options.lock is None:
        return _apply(first, look, ports, options, clock, times)
    with options.lock():
        return _apply(look(), look, ports, options, clock, times)


def _apply(
    first: Plan,
    look: Callable[[], Plan],
    ports: dict[str, Any],
    options: Options,
    clock: Callable[[], float],
    times: dict[str, float],
) -> Report:
    if first.errors:
        raise Refusals(first.errors)
    listed = render.rows(first.actions, first.units)
    digest = render.digest(listed)
    runner = Runner(ports, options)
    path = options.journal.begin(listed, digest) if options.journal and listed else ""
    start = clock()
    now, openings = first, []
    while True:
        done_before = len(runner.done)
        runner.run(now)
        if not now.conditional:
            break
        openings.extend(runner.done[done_before:])
        progressed = len(runner.done) > done_before
        now = look()
        if now.errors:
            runner.close(openings)
            _finish(options, ports, runner, len(listed))
            raise Refusals(now.errors)
        if not progressed and now.conditional:
            break
    summary = _finish(options, ports, runner, len(listed))
    times["apply"] = clock() - start
    start = clock()
    last = look()
    times["settle"] = clock() - start
    errors = [error for _action, error in runner.failed]
    if not errors and (last.actions or last.errors):
        errors = last.errors or [_unsettled(last)]
    return Report(listed, digest, summary, errors, last.world.rows, path, times)


def _finish(options: Options, ports: dict[str, Any], runner: Runner, planned: int) -> dict[str, int]:
    for name in sorted({action.port for action in runner.done}):
        flush = getattr(ports[name], "flush", None)
        if flush is not None:
            flush()
    summary = _summary(planned, runner)
    if options.journal:
        options.journal.end(summary)
    return summary


def _summary(planned: int, runner: Runner) -> dict[str, int]:
    return {
        "planned": planned,
        "applied": len(runner.done) - runner.undone,
        "failed": len(runner.failed),
        "undone": runner.undone,
        "kept": runner.kept,
        "skipped": runner.skipped,
    }


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


class Runner:
    """Applies stages of plans; remembers across stages which units failed, so that nothing is built on them."""

    def __init__(self, ports: dict[str, Any], options: Options) -> None:
        self.ports = ports
        self.options = options
        self.done: list[Action] = []
        self.failed: list[tuple[Action, StorageError]] = []
        self.bad: set[Key] = set()
        self.mine: dict[Key, list[Action]] = {}
        self.undone = self.kept = self.skipped = 0
        self.guard = threading.RLock()

    def run(self, stage: Plan) -> None:
        """Tear down from the top, build up from the bottom; a failing unit is walked back, unrelated ones go on."""
        users: list[set[int]] = [set() for _ in stage.units]
        for index, needs in enumerate(stage.needs):
            for need in needs:
                users[need].add(index)
        build: list[Action] = []
        for action in stage.now:
            if self.ports[action.port].lowers(action.target, action.before, action.after):
                self._one(action, stage, users)
            else:
                build.append(action)
        if self.options.workers > 1 and any(self._slow(a) for a in build):
            self._together(build, stage, users)
        else:
            for action in build:
                self._one(action, stage, users)
        for index in range(len(stage.units) - 1, -1, -1):
            key = stage.units[index].key
            if key[0] == "implied" and self.mine.get(key) and all(stage.units[u].key in self.bad for u in users[index]):
                self._walk_back(key)

    def close(self, openings: list[Action]) -> None:
        """Close the doors again, newest first: what lay behind them was refused."""
        for action in reversed(openings):
            if action.risk != REVERSIBLE or not self._undo(action):
                return

    def _slow(self, action: Action) -> bool:
        return bool(getattr(self.ports[action.port], "slow", False))

    def _together(self, build: list[Action], stage: Plan, users: list[set[int]]) -> None:
        """Units that do not stand on each other run side by side where a port is slow; the order of needs holds."""
        from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

        work: dict[int, list[Action]] = {}
        for action in build:
            work.setdefault(action.unit, []).append(action)
        missing = [len(needs) for needs in stage.needs]
        ready = [index for index, count in enumerate(missing) if not count]
        flying: dict[Any, int] = {}

        def unit(actions: list[Action]) -> None:
            for action in actions:
                self._one(action, stage, users)

        def finish(index: int) -> None:
            for user in sorted(users[index]):
                missing[user] -= 1
                if not missing[user]:
                    ready.append(user)

        with ThreadPoolExecutor(self.options.workers) as pool:
            while ready or flying:
                while ready:
                    index = ready.pop(0)
                    mine = work.get(index, [])
                    if any(self._slow(action) for action in mine):
                        flying[pool.submit(unit, mine)] = index
                    else:
                        unit(mine)
                        finish(index)
                if flying:
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        future.result()
                        finish(flying.pop(future))

    def _one(self, action: Action, stage: Plan, users: list[set[int]]) -> None:
        unit = stage.units[action.unit]
        with self.guard:
            if unit.key in self.bad:
                self.skipped += 1
                return
            if action.risk != REVERSIBLE:
                self._note("begin", action, True)
        try:
            self._put(action, action.before, action.after)
        except StorageError as error:
            with self.guard:
                self._fail(action, error.at(unit.entry), stage, users)
            return
        with self.guard:
            self.done.append(action)
            self.mine.setdefault(unit.key, []).append(action)
            self._note("done", action, False)

    def _put(self, action: Action, before: Any, after: Any) -> None:
        """Only slow ports run beside each other; every other port sees one put at a time."""
        port = self.ports[action.port]
        try:
            if self._slow(action):
                port.put(action.target, before, after)
            else:
                with self.guard:
                    port.put(action.target, before, after)
        except StorageError:
            raise
        except Exception as error:  # even a defect of ours must walk back what was done
            where = "%s %s" % (action.port, render.target_text(action.target))
            raise StorageError("failed", "%s: %s: %s" % (where, type(error).__name__, error)) from error

    def _note(self, word: str, action: Action, sync: bool) -> None:
        if self.options.journal:
            self.options.journal.step(len(self.done), "%s %s %s" % (word, action.port, render.target_text(action.target)), sync)

    def _fail(self, action: Action, error: StorageError, stage: Plan, users: list[set[int]]) -> None:
        self.failed.append((action, error))
        index = action.unit
        standing = _reach(index, users)
        under = _reach(index, stage.needs) if self._lowering(action) else set()
        for other in sorted(standing | {index}):
            self.bad.add(stage.units[other].key)
        torn = {a.unit for a in stage.now if self._lowering(a)}
        for other in under & torn:
            self.bad.add(stage.units[other].key)
        left = self._walk_back(stage.units[index].key)
        for other in sorted(standing, key=lambda i: len(_reach(i, stage.needs))):
            left += self._walk_back(stage.units[other].key)
        if left:
            error.details["kept"] = left

    def _lowering(self, action: Action) -> bool:
        return bool(self.ports[action.port].lowers(action.target, action.before, action.after))

    def _walk_back(self, key: Key) -> list[str]:
        """Undo a unit's actions, newest first, up to the first that cannot be undone. Returns what was kept, in words."""
        mine = self.mine.get(key, [])
        while self.options.rollback and mine and mine[-1].risk == REVERSIBLE and self._undo(mine[-1]):
            mine.pop()
        left = ["%s %s %s (%s)" % (a.verb, a.port, render.target_text(a.target), a.risk) for a in mine]
        self.kept += len(mine)
        self.mine[key] = []
        return left

    def _undo(self, action: Action) -> bool:
        try:
            self._put(action, action.after, action.before)
        except StorageError as error:
            self._note("not undone (%s):" % error.code, action, False)
            return False
        self.undone += 1
        self._note("undone", action, False)
        return True


def _reach(index: int, edges: list[set[int]]) -> set[int]:
    found: set[int] = set()
    todo = [index]
    while todo:
        for other in edges[todo.pop()]:
            if other not in found:
                found.add(other)
                todo.append(other)
    return found
