# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying a plan: order, walk back, journal. Loaded only when something changes; the only place that calls ``put``."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Dict, Iterable, Mapping, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing, render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    REVERSIBLE,
    UNKNOWN,
    Action,
    Key,
    met,
    state_of,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.plan import predicted, reach
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import SUMMARY, Report
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Plan, World

Look = Callable[..., Plan]
Clock = Callable[[], float]
Ports = Mapping[str, Any]
Times = Dict[str, float]
Done = Tuple[int, Key, Action]  # its place in the order of puts, its unit


def proceed(first: Plan, look: Look, ports: Ports, options: Any, clock: Clock, times: Times) -> Report:
    """Refuse, foresee or apply. What looks wrong while another run is half way is looked at again when nobody is.

    Not so in check mode, which waits for nobody, nor wrong input, which no other look can mend.
    """
    mends = first.errors and not options.check and not any(error.code == "invalid" for error in first.errors)
    if mends and options.still:
        with options.still():
            first = look()
    first.errors.extend(options.ready() if options.ready is not None and first.actions else ())
    if options.check or first.errors or not first.actions:
        return _foreseen(first, times)
    with options.lock() if options.lock else contextlib.nullcontext():
        if options.lock:  # the world may have moved meanwhile
            first = look(first)
        if first.errors or not first.actions:
            return _foreseen(first, times)
        return apply(first, look, ports, options, clock, times)


def _foreseen(first: Plan, times: Times) -> Report:
    if first.errors:
        raise Refusals(first.errors)
    listed = listing.rows(first.actions, first.units)
    summary = {**dict.fromkeys(SUMMARY, 0), "planned": len(listed)}
    return Report(listed, listing.digest(listed), summary, [], predicted(first), "", times)


def apply(first: Plan, look: Look, ports: Ports, options: Any, clock: Clock, times: Times) -> Report:
    """The whole plan, a door at a time, until the world is as declared."""
    listed = listing.rows(first.actions, first.units)
    digest = listing.digest(listed)
    options = options._replace(journal=options.journal() if options.journal else None)
    path = options.journal.begin(listed, digest) if options.journal else ""
    runner = Runner(ports, options)
    start = clock()
    stage = first
    while stage.conditional and runner.run(stage, stage.now):
        stage = look()
        refused = [error for error in stage.errors if error.entry not in runner.lost()]
        if refused:
            errors = runner.errors + refused
            left = runner.close()
            if left:
                errors[0].details["kept"] = left
            return Report(listed, digest, runner.finish(len(listed)), errors, stage.world.rows, path, times)
    runner.run(stage, stage.actions)
    summary = runner.finish(len(listed))
    times["apply"] = clock() - start
    start = clock()
    last = look(first)
    times["settle"] = clock() - start
    errors = runner.errors
    if not errors and (last.actions or last.errors):
        errors = last.errors or [_unsettled(last)]
    return Report(listed, digest, summary, errors, last.world.rows, path, times)


def again(last: Plan, world: World) -> Plan | None:
    """Another look at what an earlier plan is about, with what is the same left as it was found; None: plan anew.

    What was declared without asking the world is declared no other way now, and a plan is pure: from equal rows
    comes an equal plan. What the world holds as declared needs none.
    """
    gathered = last.gathered
    if gathered is None:
        return None
    gathered.world, gathered.scanned, gathered.errors = world, set(), []
    gathered.scan()
    if not gathered.errors and world.rows == last.world.rows:
        return last._replace(world=world)
    return Plan(gathered.units, gathered.needs, [], [], [], world) if gathered.met() else None


def _unsettled(last: Plan) -> StorageError:
    rows = listing.rows(last.actions[:3], last.units)
    error = StorageError(
        "did_not_settle",
        "after every action the world still differs: %s" % "; ".join("%(verb)s %(port)s %(target)s" % r for r in rows),
        "something else changes it, or it cannot hold the declared value; see errors[].details",
        actions=rows,
    )
    return error.at(last.units[last.actions[0].unit].entry)


class Runner:
    """Applies stages of plans; remembers which units failed, so that nothing is built on them."""

    def __init__(self, ports: Ports, options: Any) -> None:
        self.ports = ports
        self.options = options
        self.done: dict[Key, list[Done]] = {}  # what stands
        self.touched: set[tuple[Any, ...]] = set()
        self.skipped: set[tuple[Any, ...]] = set()
        self.failed: list[tuple[int, StorageError]] = []
        self.bad: set[Key] = set()
        self.firm: set[Key] = set()  # kept, and what is beneath
        self.count = self.undone = self.kept = self.half = 0
        self.guard, self.turn = threading.RLock(), threading.RLock()  # of our own books; of ports that are not slow

    @property
    def errors(self) -> list[StorageError]:
        """In the order of the declaration, however the threads ran."""
        return [error for _index, error in sorted(self.failed, key=lambda pair: pair[0])]

    def lost(self) -> set[str]:
        """The entries that failed, or stand on one that did."""
        return {unit.entry for unit in self.stage.units if unit.key in self.bad}

    def run(self, stage: Plan, actions: list[Action]) -> bool:
        """Tear down from the top, build up from the bottom. False when nothing was tried that was not tried before.

        A failing unit is walked back, what stands on it is skipped, unrelated ones go on. An action whose ``before``
        is still UNKNOWN lies behind a door that could not be opened: its unit counts as failed.
        """
        before = len(self.touched)
        self.stage = stage
        self.users: list[set[int]] = [set() for _unit in stage.units]
        for index, needs in enumerate(stage.needs):
            for need in needs:
                self.users[need].add(index)
        lower = [a for a in actions if self._lowers(a)]
        build = [a for a in actions if not self._lowers(a)]
        self.torn, self.built = {a.unit for a in lower}, {a.unit for a in build}
        self.lowering = True
        for index in {a.unit for a in actions if a.before is UNKNOWN}:
            self._condemn(index)
        for action in lower:
            self._one(action)
        self.lowering = False
        if self.options.workers > 1 and any(self._slow(a) for a in build):
            from ansible_collections.bulkhead.storage.plugins.module_utils._engine import parallel

            parallel.build(build, stage.needs, self.users, self.options.workers, self._slow, self._one)
        else:
            for action in build:
                self._one(action)
        self._abandon()
        return len(self.touched) > before

    def close(self) -> list[str]:
        """Close the doors again, newest first. Returns what had to stay, in words."""
        left = [action for _count, _key, action in self._newest(self.done)]
        while left and left[0].risk == REVERSIBLE and self._undo(left[0]):
            del left[0]
        self.kept += len(left)
        return list(map(_words, left))

    def finish(self, planned: int) -> dict[str, int]:
        for name in sorted({step[1] for step in self.touched}):
            flush = getattr(self.ports[name], "flush", None)
            try:
                if flush is not None:
                    flush()
            except StorageError as error:  # what was done stands, and is told with it
                self.failed.append((len(self.stage.units), error))
        summary = {
            "planned": planned,
            "applied": self.count - self.undone - self.half,
            "failed": len(self.failed),
            "undone": self.undone,
            "kept": self.kept,
            "skipped": len(self.skipped),
        }
        if self.options.journal:
            self.options.journal.end(summary)
        return summary

    # -- one action ------------------------------------------------------------------------------------------------

    def _one(self, action: Action) -> None:
        unit = self.stage.units[action.unit]
        with self.guard:
            step = (unit.key, action.port, action.target, action.after is None)
            if unit.key in self.bad:
                self.skipped |= {step} - self.touched
                return
            self.touched.add(step)
        try:
            if action.risk != REVERSIBLE:
                self._note("begin", action, True)
            self._put(action, action.before, action.after)
        except StorageError as error:
            with self.guard:
                if error.code != "moved":  # else it is another's
                    self._left_behind(action)
                self._fail(action.unit, error.at(unit.entry))
            return
        with self.guard:
            self._stands(action)

    def _stands(self, action: Action, word: str = "done") -> None:
        key = self.stage.units[action.unit].key
        self.count += 1
        self.done.setdefault(key, []).append((self.count, key, action))
        self._note(word, action, False)

    def _left_behind(self, action: Action) -> None:
        """A put that failed may have had its effect, or half of one.

        Half of what cannot be walked back stops the walk: what it stands on must stay beneath it.
        """
        port = self.ports[action.port]
        try:
            with self.turn:
                row = port.scan([action.target]).get(action.target)
        except StorageError as error:
            row = error
        if not isinstance(row, StorageError):
            if state_of(row) == state_of(action.before):
                return
            same = getattr(port, "same", None) or (lambda target, row, value: met(row, value))
            gone = row is None or action.after is None
            if row is action.after if gone else same(action.target, row, action.after):
                self._stands(action)
                return
        if action.risk != REVERSIBLE:
            self.half += 1
            self._stands(action, "half done")

    def _put(self, action: Action, before: Any, after: Any) -> None:
        """Only slow ports run beside each other; every other port sees one put at a time."""
        port = self.ports[action.port]
        try:
            if self._slow(action):
                port.put(action.target, before, after)
            else:
                with self.turn:  # whoever waits for it may hold ``guard``, never the other way round
                    port.put(action.target, before, after)
        except StorageError:
            raise
        except Exception as error:  # even a defect of ours must walk back what was done
            where = "%s %s" % (action.port, render.target_text(action.target))
            raise StorageError("failed", "%s: %s: %s" % (where, type(error).__name__, error)) from error

    def _note(self, word: str, action: Action, sync: bool) -> None:
        if self.options.journal:
            text = "%s %s %s" % (word, action.port, render.target_text(action.target))
            with self.guard:
                self.options.journal.step(self.count, text, sync)

    def _slow(self, action: Action) -> bool:
        return bool(getattr(self.ports[action.port], "slow", False))

    def _lowers(self, action: Action) -> bool:
        if action.before is UNKNOWN:
            return action.after is None
        return bool(self.ports[action.port].lowers(action.target, action.before, action.after))

    # -- failing ---------------------------------------------------------------------------------------------------

    def _fail(self, index: int, error: StorageError) -> None:
        self.failed.append((index, error))
        left = self._walk_back(self._condemn(index))
        if left:
            error.details["kept"] = left

    def _condemn(self, index: int) -> set[Key]:
        """Nothing is built on a unit that failed; what it stands on is not torn down beneath it, or is put back.

        Returns the units to walk back. A unit beneath that was yet to be torn down is only passed over: what it did
        in an earlier stage (a door) others may stand on.
        """
        lost = reach([index], self.users)
        spared: set[int] = set()
        if index in self.torn:
            for under in reach([index], self.stage.needs) & self.torn:
                if self.lowering:
                    spared.add(under)
                    lost |= reach([under], self.users) - {under} if under in self.built else set()
                elif under not in self.built:
                    lost.add(under)
        fresh = {self.stage.units[i].key for i in lost} - self.bad
        self.bad |= fresh | {self.stage.units[i].key for i in spared}
        return fresh

    def _abandon(self) -> None:
        """What was there only for what failed goes again."""
        units, again = self.stage.units, True
        while again:
            again = False
            for index in reversed(range(len(units))):
                key, users = units[index].key, self.users[index]
                if key in self.bad or key in self.firm or not (key[0] == "implied" or (units[index].lent and users)):
                    continue
                if all(units[user].key in self.bad for user in users):
                    again = True
                    self.bad.add(key)
                    self._walk_back({key})

    def _walk_back(self, keys: set[Key]) -> list[str]:
        """Undo what units did, newest first, each up to its first action that cannot be undone.

        What lies beneath something kept is kept too, and nothing is put back on what stays gone. Returns what was
        kept, in words.
        """
        left: list[str] = []
        stopped: set[Key] = set()
        for count, key, action in self._newest(keys):
            if key not in stopped:
                if self.options.rollback and action.risk == REVERSIBLE and self._undo(action):
                    continue
                kept = [older for place, _key, older in self.done[key] if place <= count]
                at = [index for index, unit in enumerate(self.stage.units) if unit.key == key]
                stays = reach(at, self.stage.needs) if any(a.after is not None for a in kept) else set(at)
                gone = reach(at, self.users) if any(a.after is None for a in kept) else set()
                stopped.update(self.stage.units[index].key for index in stays | gone)
                self.firm.update(self.stage.units[index].key for index in stays)
            left.append(_words(action))
        for key in keys:
            self.done.pop(key, None)
        self.kept += len(left)
        return left

    def _newest(self, keys: Iterable[Key]) -> list[Done]:
        found = [done for key in keys for done in self.done.get(key, ())]
        return sorted(found, key=lambda done: done[0], reverse=True)

    def _undo(self, action: Action) -> bool:
        try:
            after = action.after
            if isinstance(after, dict) and UNKNOWN in after.values():  # chosen by the world meanwhile
                after = self.ports[action.port].scan([action.target]).get(action.target)
            self._put(action, after, action.before)
        except StorageError as error:
            self._note("not undone (%s):" % error.code, action, False)
            return False
        self.undone += 1
        self._note("undone", action, False)
        return True


def _words(action: Action) -> str:
    return "%s %s %s (%s)" % (action.verb, action.port, render.target_text(action.target), action.risk)
