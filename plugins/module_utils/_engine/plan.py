# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning, pure: units and one look at the world in, the ordered list of actions and every refusal out."""

from __future__ import annotations

import gc
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any, Iterable, List, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import guard
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    UNKNOWN,
    Action,
    Cell,
    Key,
    Spot,
    Unit,
    merged,
    met,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import parent, within
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text

OPEN, EMPTY, SHUT = 0, 1, 2  # what a unit's cells see: the world, a fresh empty one, or a closed door
_HOOKS = (
    "canon resolve implies same merge replaces refuse opens vanishes lowers risk want_entries outlasts stands_for"
).split()
Wanted = Tuple[Spot, Any]
Placed = Tuple[Any, Any, List[Wanted]]  # a declared spot (None for an implied cell), its value, what it implies


class World:
    """One stage's look at the world. Every port is scanned at most once for the targets a plan needs."""

    def __init__(self, ports: dict[str, Any]) -> None:
        self.ports = ports
        self.rows: dict[str, dict[Hashable, Any]] = {name: {} for name in ports}
        self.seen: dict[str, set[Hashable]] = {name: set() for name in ports}
        self.failed: dict[str, StorageError] = {}
        self.declared: dict[tuple[str, str], dict[str, Any]] = {}  # options of every entry, by kind and name
        self.whole: set[str] = set()

    def everything(self, port: str) -> dict[Hashable, Any]:
        """Every row of a port that can list them."""
        if port not in self.whole:
            self.rows[port].update(self.ports[port].scan(None))
            self.whole.add(port)
        return self.rows[port]

    def look(self, port: str, targets: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Rows of a port; absent targets are left out, an unreadable one holds its StorageError."""
        if port not in self.ports:
            raise LookupError("no port %r was given, only: %s" % (port, " ".join(sorted(self.ports))))
        if port in self.failed:
            raise self.failed[port]
        seen = self.seen[port]
        new = [t for t in targets if t not in seen] if port not in self.whole else []
        if new:
            try:
                self.rows[port].update(self.ports[port].scan(new))
            except StorageError as error:
                self.failed[port] = error
                raise
            seen.update(new)
        return self.rows[port]


class Plan(NamedTuple):
    units: list[Unit]
    needs: list[set[int]]
    actions: list[Action]
    now: list[Action]  # what this stage may do; fewer than ``actions`` while a door is closed
    errors: list[StorageError]
    world: World

    @property
    def conditional(self) -> bool:
        return len(self.now) < len(self.actions)

    def row(self, port: str, target: Hashable) -> Any:
        return self.world.rows.get(port, {}).get(target)

    def predicted(self) -> dict[str, dict[Hashable, Any]]:
        """The world after the plan, as the next scan should find it."""
        rows = {port: dict(found) for port, found in self.world.rows.items()}
        for action in self.actions:
            if action.after is None:
                rows[action.port].pop(action.target, None)
            else:
                rows[action.port][action.target] = action.after
        return rows


def plan(units: list[Unit], world: World) -> Plan:
    """Compare declared and implied cells with the world. Pure but for the scans; same input, same plan."""
    collecting = gc.isenabled()
    gc.disable()  # a large plan makes no garbage, only much for the collector to walk over, which doubles the time
    try:
        return _Planner(list(units), world).run()
    finally:
        if collecting:
            gc.enable()


class _Planner:
    def __init__(self, units: list[Unit], world: World) -> None:
        self.units = units
        self.world = world
        self.hooks = {name: _hooks(port) for name, port in world.ports.items()}
        self.errors: list[StorageError] = []
        self.placed: list[list[Placed]] = []
        self.cells: list[list[Wanted]] = [[] for _unit in units]  # per unit: declared and implied cells, bottom first
        self.keys: dict[Key, str] = {}
        self.owner: dict[Spot, tuple[int, Any]] = {}
        self.stands: dict[Spot, int] = {}  # spots of one port that the declared cell of another stands for
        self.implied: dict[Spot, Any] = {}
        self.users: dict[Spot, list[int]] = {}  # the units that imply a spot
        self.released: dict[Spot, list[int]] = {}  # the units that no longer need it
        self.needs: list[set[int]] = [set() for _unit in units]
        self.view: list[int] = []

    def run(self) -> Plan:
        for index, unit in enumerate(self.units):
            self._declare(index, unit)
        for spot in self.released.keys() & (self.implied.keys() | self.owner.keys() | self.stands.keys()):
            for user in self.released.pop(spot):
                if spot in self.owner or spot in self.stands:
                    self.needs[user].add(self.owner[spot][0] if spot in self.owner else self.stands[spot])
        self._scan()
        self._stand_on_implied()
        self._stand_on_needs()
        order = self._order()
        down, build, now = self._differ(order)
        lower, gone = self._tear_down(order, down)
        actions = self._framed(lower, True) + self._framed(build, False)
        self._refuse(actions, gone)
        early = {id(action) for action in now or ()}
        chosen = actions if now is None else [a for a in actions if id(a) in early]
        return Plan(self.units, self.needs, actions, chosen, self.errors, self.world)

    # -- what is declared, and what that implies -------------------------------------------------------------------

    def _declare(self, index: int, unit: Unit) -> None:
        if unit.key in self.keys:
            self._conflict(unit, "%s %s is declared twice (%s)" % (*unit.key, self.keys[unit.key]))
        self.keys[unit.key] = unit.entry
        mine: list[Placed] = []
        for name, target, value, implied in unit.cells:
            hooks = self._hook(name)
            if hooks.canon is not None:
                target = hooks.canon(target)
            if hooks.resolve is not None and value is not None:
                value = self._resolved(hooks, target, value, unit)
            spot = (name, target)
            below = self._beneath(hooks, target, value) if hooks.implies else []
            if implied:
                below.append((spot, value))
            else:
                if spot in self.owner:
                    other = self.units[self.owner[spot][0]]
                    text = "%s %s is declared by %s too" % (name, target_text(target), other.entry or other.key)
                    self._conflict(unit, text)
                self.owner[spot] = (index, value)
                if hooks.stands_for:
                    self.stands[(hooks.stands_for, target)] = index
            for deeper, wanted in below:
                if value is None:
                    users = self.released.setdefault(deeper, [])
                    if not users or users[-1] != index:
                        users.append(index)
                else:
                    self._imply(deeper, wanted, index, unit)
            mine.append((None if implied else spot, value, below))
        self.placed.append(mine)

    def _hook(self, name: str) -> SimpleNamespace:
        return self.hooks.get(name) or self.world.look(name, ())  # type: ignore[return-value]  # it raises

    def _resolved(self, hooks: SimpleNamespace, target: Hashable, value: Any, unit: Unit) -> Any:
        try:
            return hooks.resolve(target, value)
        except StorageError as error:
            self.errors.append(error.at(unit.entry))
            return value

    def _beneath(self, hooks: SimpleNamespace, target: Hashable, value: Any) -> list[Wanted]:
        """Everything a cell implies, and what that implies in turn: before each thing what it stands on."""
        found: list[Wanted] = []
        todo = list(hooks.implies(target, value))
        while todo:
            name, deeper, wanted = todo.pop()
            hooks = self._hook(name)
            if hooks.canon is not None:
                deeper = hooks.canon(deeper)
            found.append(((name, deeper), wanted))
            if hooks.implies is not None:
                todo.extend(hooks.implies(deeper, wanted))
        found.reverse()
        return found

    def _imply(self, spot: Spot, value: Any, index: int, unit: Unit) -> None:
        users = self.users.setdefault(spot, [])
        if not users:
            self.implied[spot] = value
        elif self.implied[spot] != value:
            self.implied[spot] = self._joined(spot, self.implied[spot], value, unit)
        if not users or users[-1] != index:
            users.append(index)

    def _joined(self, spot: Spot, one: Any, two: Any, unit: Unit) -> Any:
        if isinstance(one, dict) and isinstance(two, dict) and all(one[k] == two[k] for k in one.keys() & two.keys()):
            return {**one, **two}
        self._conflict(unit, "%s %s is needed as %r and as %r" % (spot[0], target_text(spot[1]), one, two))
        return one

    def _conflict(self, unit: Unit, text: str) -> None:
        self.errors.append(StorageError("conflict", text, "declare it once").at(unit.entry))

    # -- the look --------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        wanted: dict[str, list[Hashable]] = {name: [] for name in self.hooks}
        leaving: dict[str, set[Hashable]] = {name: set() for name in self.hooks}
        for (name, target), (_unit, value) in self.owner.items():
            wanted[name].append(target)
            if value is None:
                leaving[name].add(target)
        for name, target in self.implied:
            wanted[name].append(target)
        for name, target in self.released:
            wanted[name].append(target)
            leaving[name].add(target)
        for name, targets in wanted.items():
            if self.hooks[name].want_entries is not None:
                self.world.ports[name].want_entries = leaving[name]
                self.world.seen[name] -= leaving[name]  # an earlier look did not ask for them
            try:
                if targets:
                    self.world.look(name, dict.fromkeys(targets))
            except StorageError as error:
                self.errors.append(error)

    # -- the order -------------------------------------------------------------------------------------------------

    def _stand_on_implied(self) -> None:
        """An implied cell joins the unit that alone needs it, else it becomes a unit that all of them stand on.

        What absent cells no longer need is placed alike, so that it goes after them and before what it lies behind.
        """
        givers: dict[Spot, int] = {}
        homes: dict[Spot, int] = {}
        for spot, users in [*self.users.items(), *self.released.items()]:
            if spot in self.owner:
                givers[spot] = self._meet_declared(spot)
            elif spot in self.stands:
                givers[spot] = self.stands[spot]
            elif len(users) == 1:
                homes[spot] = users[0]
            else:
                home = self._home(spot, users)
                givers[spot] = self._add_unit(spot, users) if home is None else home
                if home is not None:
                    homes[spot] = home
            for user in users if spot in givers else ():
                self.needs[user].add(givers[spot])
        for spot, index in givers.items():
            hooks = self.hooks[spot[0]]
            for deeper, _value in self._beneath(hooks, spot[1], self.implied.get(spot)) if hooks.implies else ():
                if deeper in givers:
                    self.needs[index].add(givers[deeper])
        for index, mine in enumerate(self.placed):
            cells = self.cells[index]
            for declared, value, below in mine:
                for spot, _value in below:
                    if homes.get(spot) == index:
                        del homes[spot]
                        cells.append((spot, self.implied.get(spot)))
                if declared is not None:
                    cells.append((declared, value))

    def _home(self, spot: Spot, users: list[int]) -> int | None:
        """The unit behind whose own door a shared spot lies: its mount comes before, its other cells after."""
        over = [
            (len(str(name)), user)
            for user in users
            for kind, name in self.units[user].provides
            if kind == "path" and name != spot[1] and within(str(spot[1]), str(name))
        ]
        return max(over)[1] if over else None

    def _add_unit(self, spot: Spot, users: list[int]) -> int:
        name, target = spot
        value = self.implied.get(spot)
        above: tuple[Spot, ...] = (("above", target),) if isinstance(target, str) and target.startswith("/") else ()
        key = ("implied", "%s %s" % (name, target_text(target)))
        cell = Cell(name, target, value, True)
        self.units.append(Unit(key, (cell,), needs=above, entry=self.units[users[0]].entry))
        self.cells.append([(spot, value)])
        self.needs.append(set())
        return len(self.units) - 1

    def _meet_declared(self, spot: Spot) -> int:
        owner, value = self.owner[spot]
        hooks, implied = self.hooks[spot[0]], self.implied[spot]
        if value is None:
            text = "%s %s is declared absent, but %s needs it"
            user = self.units[self.users[spot][0]]
            self._conflict(self.units[owner], text % (spot[0], target_text(spot[1]), user.entry or user.key))
        elif not (hooks.same(spot[1], value, implied) if hooks.same else met(value, implied)):
            self._joined(spot, value, self.implied[spot], self.units[owner])
        return owner

    def _stand_on_needs(self) -> None:
        givers: dict[Spot, list[int]] = {}
        for index, unit in enumerate(self.units):
            for spot in unit.provides:
                givers.setdefault(spot, []).append(index)
        above: dict[Hashable, list[int]] = {"/": []}
        for index, unit in enumerate(self.units):
            mine = self.needs[index]
            for kind, name in unit.needs:
                if kind in ("path", "above"):
                    mine.update(_over(str(name), givers, above))
                if kind != "above":
                    mine.update(givers.get((kind, name), ()))
            mine.discard(index)

    def _order(self) -> list[int]:
        """Units so that each comes after what it stands on; as declared where that leaves a choice."""
        users: list[list[int]] = [[] for _need in self.needs]
        missing = [len(need) for need in self.needs]
        for index, mine in enumerate(self.needs):
            for need in mine:
                users[need].append(index)
        order = [i for i, count in enumerate(missing) if not count]
        for index in order:  # grows while it is walked
            for user in users[index]:
                missing[user] -= 1
                if not missing[user]:
                    order.append(user)
        stuck = [i for i, count in enumerate(missing) if count]
        if stuck:
            names = ", ".join(u.entry or " ".join(u.key) for u in (self.units[i] for i in stuck[:10]))
            self._conflict(self.units[stuck[0]], "these stand on each other in a circle: %s" % names)
        return order + stuck

    # -- the difference --------------------------------------------------------------------------------------------

    def _differ(self, order: list[int]) -> tuple[dict[int, list[Action]], list[Action], list[Action] | None]:
        """What each unit tears down; what to build, bottom first; what may come first while a door is closed."""
        down: dict[int, list[Action]] = {}
        build: list[Action] = []
        self.view = [OPEN] * len(self.units)
        blind: set[int] = set()  # units with something UNKNOWN in them or beneath them
        made: dict[int, list[Action]] = {}
        doors: dict[int, int] = {}  # units that open one: how many of their actions come before what lies behind it
        for index in order:
            needs = self.needs[index]
            see = max([self.view[need] for need in needs], default=OPEN)
            if blind and not blind.isdisjoint(needs):
                blind.add(index)
            for spot, value in self.cells[index]:
                hooks = self.hooks[spot[0]]
                for action in self._cell(index, spot, value, see if hooks.behind else OPEN):
                    (down.setdefault(index, []) if self._lowers(action) else build).append(action)
                    made.setdefault(index, []).append(action)
                    if action.before is UNKNOWN:
                        blind.add(index)
                    elif hooks.opens is not None:
                        door = hooks.opens(spot[1], action.before, action.after)
                        if door == "empty":
                            see = max(see, EMPTY)
                        elif door:
                            see = SHUT
                            if index not in blind:
                                doors[index] = len(made[index])
            self.view[index] = see
        return down, build, self._first_stage(doors, made) if blind else None

    def _first_stage(self, doors: dict[int, int], made: dict[int, list[Action]]) -> list[Action]:
        """Open the doors on what they stand on. Nothing goes down whose top may lie behind one."""
        now: list[Action] = []
        for index in reach(doors, self.needs):
            mine = made.get(index, [])[: doors.get(index)]
            fresh = {(a.port, a.target) for a in mine if a.before is None}
            now.extend(a for a in mine if not self._lowers(a) or (a.port, a.target) in fresh)
        return now

    def _cell(self, index: int, spot: Spot, value: Any, see: int) -> list[Action]:
        name, target = spot
        if name in self.world.failed:
            return []
        rows = self.world.rows[name]
        if see == EMPTY:
            rows.pop(target, None)  # a fresh one will hide it, or took its place
        if spot in self.released and (see or isinstance(rows.get(target), StorageError)):
            return []
        if see == SHUT:
            return [self._action(index, spot, UNKNOWN, value)]
        before = rows.get(target)
        if before is None and value is None:
            return []
        if isinstance(before, StorageError):
            self.errors.append(before.at(self.units[index].entry))
            return []
        if value is None:
            return [self._action(index, spot, before, None)]
        hooks = self.hooks[name]
        if before is not None and (hooks.same(target, before, value) if hooks.same else met(before, value)):
            return []
        after = hooks.merge(target, before, value) if hooks.merge else merged(before, value)
        if before is not None and hooks.replaces is not None and hooks.replaces(target, before, after):
            unit = self.units[index]
            if unit.consents.get("replace") is False and unit.key[0] != name:
                text = "something else stands at %s %s" % (name, target_text(target))
                self.errors.append(StorageError("conflict", text, "remove it first").at(unit.entry))
                return []
            fresh = hooks.merge(target, None, value) if hooks.merge else value
            return [self._action(index, spot, before, None), self._action(index, spot, None, fresh)]
        return [self._action(index, spot, before, after)]

    def _action(self, index: int, spot: Spot, before: Any, after: Any) -> Action:
        name, target = spot
        risk = self.hooks[name].risk(target, None if before is UNKNOWN else before, after)
        return Action(index, name, target, before, after, risk)

    def _lowers(self, action: Action) -> bool:
        if action.before is UNKNOWN:
            return action.after is None
        return bool(self.hooks[action.port].lowers(action.target, action.before, action.after))

    def _tear_down(self, order: list[int], down: dict[int, list[Action]]) -> tuple[list[Action], set[Spot]]:
        """Top first. A released thing goes when its port agrees: it is ours, and empty once all above it is gone."""
        lower: list[Action] = []
        gone: set[Spot] = set()
        for index in reversed(order):
            for action in reversed(down.get(index, ())):
                spot = (action.port, action.target)
                vanishes = spot not in self.released or self.hooks[spot[0]].vanishes(spot[1], action.before, gone)
                if not vanishes:
                    continue
                lower.append(action)
                if action.after is None:
                    gone.add(spot)
        return lower, gone

    def _framed(self, actions: list[Action], down: bool) -> list[Action]:
        """Rows that say what exists outlast it: made before everything, gone after everything."""
        rows = [a for a in actions if self.hooks[a.port].outlasts and (down or a.before is None)]
        if not rows:
            return actions
        moved = {id(a) for a in rows}
        rest = [a for a in actions if id(a) not in moved]
        return rest + rows if down else rows + rest

    def _refuse(self, actions: list[Action], gone: set[Spot]) -> None:
        made = {action.target for action in actions if action.before is None and _missing(action) != action.target}
        for action in actions:
            if action.before is UNKNOWN:
                continue
            unit = self.units[action.unit]
            refuse = self.hooks[action.port].refuse
            error = refuse(action.target, action.before, action.after, gone) if refuse else None
            if error is None:
                error = guard.consented(action, unit, self.world.ports[action.port])
            missing = _missing(action)
            if error is None and missing and missing not in made and not self._stands_on_others(action.unit):
                error = StorageError(
                    "not_found", "%s does not exist" % missing, "make it, or declare what makes it too"
                )
            if error is not None:
                self.errors.append(error.at(unit.entry))

    def _stands_on_others(self, index: int) -> bool:
        return any(self.units[i].key[0] != "implied" for i in reach([index], self.needs) - {index})


def _missing(action: Action) -> Any:
    """What has to be there already, and is not."""
    return action.after.get("_missing") if isinstance(action.after, dict) else None


def _hooks(port: Any) -> SimpleNamespace:
    """What a port offers, looked up once."""
    return SimpleNamespace(behind=getattr(port, "behind", True), **{name: getattr(port, name, None) for name in _HOOKS})


def _over(name: str, givers: dict[Spot, list[int]], above: dict[Hashable, list[int]]) -> list[int]:
    """The units that provide a directory above a path; ``above`` remembers."""
    todo: list[str] = []
    while name not in above:
        todo.append(name)
        name = parent(name)
    for deeper in reversed(todo):
        above[deeper] = above[name] + givers.get(("path", name), [])
        name = deeper
    return above[name]


def reach(starts: Iterable[int], edges: list[set[int]]) -> set[int]:
    """The units that can be reached along ``edges``, with those it starts from."""
    found = set(starts)
    todo = list(found)
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo.extend(new)
    return found
