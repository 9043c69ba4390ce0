# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning, pure: units and one look at the world in, the ordered list of actions and every refusal out."""

from __future__ import annotations

from typing import Any, Callable, Hashable, Iterable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import guard
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    UNKNOWN,
    Action,
    Cell,
    Spot,
    Unit,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors

OPEN, EMPTY, SHUT = 0, 1, 2  # what a unit's cells see: the world, a fresh empty one, or a closed door


class World:
    """One stage's look at the world. Every port is scanned at most once for the targets a plan needs."""

    def __init__(self, ports: dict[str, Any]) -> None:
        self.ports = ports
        self.rows: dict[str, dict[Hashable, Any]] = {name: {} for name in ports}
        self.seen: dict[str, set[Hashable]] = {name: set() for name in ports}

    def look(self, port: str, targets: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Rows of a port; absent targets are left out, an unreadable one holds its StorageError."""
        seen = self.seen[port]
        new = [t for t in targets if t not in seen]
        if new:
            self.rows[port].update(self.ports[port].scan(new))
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


class _Implied:
    __slots__ = ("value", "by", "label")

    def __init__(self, value: Any, unit: int, label: str) -> None:
        self.value, self.by, self.label = value, [unit], label


def plan(units: list[Unit], world: World) -> Plan:
    """Compare declared and implied cells with the world. Pure but for the scans; same input, same plan."""
    return _Planner(list(units), world).run()


class _Planner:
    def __init__(self, units: list[Unit], world: World) -> None:
        self.units = units
        self.world = world
        self.ports = world.ports
        self.errors: list[StorageError] = []
        self.cells: list[list[tuple[Cell, Any]]] = []  # per unit: the cell and its declared value, resolved
        self.owner: dict[Spot, tuple[int, Any]] = {}
        self.implied: dict[Spot, _Implied] = {}
        self.released: dict[Spot, int] = {}
        self.below: dict[tuple[int, int], list[tuple[Spot, Any]]] = {}

    def run(self) -> Plan:
        self._index()
        self._imply()
        self._scan()
        self._stand_on_implied()
        needs, order = self._graph()
        lower, build, now = self._differ(needs, order)
        gone = {(a.port, a.target) for a in lower if a.after is None}
        actions = lower + self._release(gone) + build
        early = {id(action) for action in now or ()}
        chosen = actions if now is None else [a for a in actions if id(a) in early]
        self._refuse(actions, gone)
        return Plan(self.units, needs, actions, chosen, self.errors, self.world)

    # -- what is declared ------------------------------------------------------------------------------------------

    def _index(self) -> None:
        keys: dict[Any, str] = {}
        for index, unit in enumerate(self.units):
            if unit.key in keys:
                self._conflict(unit, "%s %s is declared twice (%s)" % (unit.key[0], unit.key[1], keys[unit.key]))
            keys[unit.key] = unit.entry
            mine: list[tuple[Cell, Any]] = []
            self.cells.append(mine)
            for cell in unit.cells:
                port = self.ports[cell.port]
                canon = getattr(port, "canon", None)
                if canon is not None:
                    cell = cell._replace(target=canon(cell.target))
                value = self._resolve(port, cell, unit)
                if cell.implied:
                    self._add_implied((cell.port, cell.target), value, index, len(mine), unit)
                    continue
                spot = (cell.port, cell.target)
                other = self.owner.get(spot)
                if other is not None:
                    named = self.units[other[0]]
                    self._conflict(unit, "%s %s is declared by %s too" % (cell.port, _text(cell.target), named.entry or named.key))
                self.owner[spot] = (index, value)
                mine.append((cell, value))

    def _resolve(self, port: Any, cell: Cell, unit: Unit) -> Any:
        resolve = getattr(port, "resolve", None)
        if resolve is None or cell.value is None:
            return cell.value
        try:
            return resolve(cell.target, cell.value)
        except StorageError as error:
            self.errors.append(error.at(unit.entry))
            return cell.value

    def _conflict(self, unit: Unit, text: str) -> None:
        self.errors.append(StorageError("conflict", text, "declare it once").at(unit.entry))

    # -- what is implied -------------------------------------------------------------------------------------------

    def _imply(self) -> None:
        implying = {name: port.implies for name, port in self.ports.items() if hasattr(port, "implies")}
        for index, mine in enumerate(self.cells):
            for place, (cell, value) in enumerate(mine):
                implies = implying.get(cell.port)
                if implies is None:
                    continue
                todo = list(implies(cell.target, value))
                while todo:
                    port, target, wanted = todo.pop()
                    spot = (port, target)
                    if value is None:
                        self.released.setdefault(spot, index)
                    else:
                        self._add_implied(spot, wanted, index, place, self.units[index])
                    if port in implying:
                        todo.extend(implying[port](target, wanted))

    def _add_implied(self, spot: Spot, value: Any, index: int, place: int, unit: Unit) -> None:
        known = self.implied.get(spot)
        if known is None:
            self.implied[spot] = _Implied(value, index, unit.entry)
        else:
            if known.by[-1] != index:
                known.by.append(index)
            if known.value != value:
                known.value = self._merged(spot, known.value, value, unit)
        self.below.setdefault((index, place), []).append((spot, value))

    def _merged(self, spot: Spot, one: Any, two: Any, unit: Unit) -> Any:
        if isinstance(one, dict) and isinstance(two, dict) and all(one[k] == two[k] for k in one.keys() & two.keys()):
            return {**one, **two}
        self._conflict(unit, "%s %s is needed as %r and as %r" % (spot[0], _text(spot[1]), one, two))
        return one

    # -- the look --------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        wanted: dict[str, list[Hashable]] = {}
        leaving: dict[str, set[Hashable]] = {}
        for (port, target), (_unit, value) in self.owner.items():
            wanted.setdefault(port, []).append(target)
            if value is None:
                leaving.setdefault(port, set()).add(target)
        for port, target in self.implied:
            wanted.setdefault(port, []).append(target)
        for port, target in self.released:
            wanted.setdefault(port, []).append(target)
            leaving.setdefault(port, set()).add(target)
        for name, targets in wanted.items():
            port = self.ports[name]
            if hasattr(port, "want_entries"):
                port.want_entries = leaving.get(name, set())
            try:
                self.world.look(name, targets)
            except StorageError as error:
                self.errors.append(error)

    def _stand_on_implied(self) -> None:
        """An implied cell that must be made joins its only implier, or becomes a unit that its impliers stand on."""
        self.extra: list[set[int]] = [set() for _unit in self.units]
        own: dict[Spot, int] = {}
        alone: set[Spot] = set()
        for spot, implied in list(self.implied.items()):
            declared = self.owner.get(spot)
            if declared is not None:
                self._meet_declared(spot, implied, declared)
                continue
            row = self.world.rows[spot[0]].get(spot[1])
            if row is not None and not isinstance(row, StorageError) and self._same(spot, row, implied.value):
                continue
            if len(implied.by) == 1:
                alone.add(spot)
                continue
            own[spot] = index = len(self.units)
            cell = Cell(spot[0], spot[1], implied.value, True)
            self.units.append(Unit(("implied", "%s %s" % (spot[0], _text(spot[1]))), (cell,), entry=implied.label))
            self.cells.append([(cell, implied.value)])
            self.extra.append(set())
            for user in implied.by:
                self.extra[user].add(index)
        for spot, index in own.items():
            implies = getattr(self.ports[spot[0]], "implies", None)
            for port, target, _value in implies(spot[1], self.implied[spot].value) if implies else ():
                deeper = own.get((port, target))
                if deeper is not None:
                    self.extra[index].add(deeper)
        if alone:
            self._insert(alone)

    def _meet_declared(self, spot: Spot, implied: _Implied, declared: tuple[int, Any]) -> None:
        owner, value = declared
        for user in implied.by:
            if user != owner:
                self.extra[user].add(owner)
        if value is None:
            text = "%s %s is declared absent, but %s needs it" % (spot[0], _text(spot[1]), implied.label)
            self._conflict(self.units[owner], text)
        elif value != implied.value:
            self._merged(spot, value, implied.value, self.units[owner])

    def _insert(self, alone: set[Spot]) -> None:
        """Put each implied cell right below the cell that first implied it, the deepest first."""
        touched: dict[int, dict[int, list[Spot]]] = {}
        placed: set[Spot] = set()
        for (index, place), spots in self.below.items():
            for spot, _value in spots:
                if spot in alone and spot not in placed:
                    placed.add(spot)
                    touched.setdefault(index, {}).setdefault(place, []).append(spot)
        for index, places in touched.items():
            cells: list[tuple[Cell, Any]] = []
            old = self.cells[index]
            for place in range(len(old) + 1):
                for spot in reversed(places.get(place, ())):
                    cells.append((Cell(spot[0], spot[1], self.implied[spot].value, True), self.implied[spot].value))
                cells.extend(old[place : place + 1])
            self.cells[index] = cells

    # -- the order -------------------------------------------------------------------------------------------------

    def _graph(self) -> tuple[list[set[int]], list[int]]:
        givers: dict[Spot, list[int]] = {}
        for index, unit in enumerate(self.units):
            for spot in unit.provides:
                givers.setdefault(spot, []).append(index)
        needs = self.extra
        above: dict[Hashable, list[int]] = {}
        for index, unit in enumerate(self.units):
            mine = needs[index]
            for kind, name in unit.needs:
                if kind in ("path", "above"):
                    if name not in above:
                        above[name] = [g for up in ancestors(str(name)) for g in givers.get(("path", up), ())]
                    mine.update(above[name])
                if kind != "above":
                    mine.update(givers.get((kind, name), ()))
            mine.discard(index)
        return needs, self._topological(needs)

    def _topological(self, needs: list[set[int]]) -> list[int]:
        users: list[list[int]] = [[] for _ in needs]
        missing = [len(n) for n in needs]
        for index, mine in enumerate(needs):
            for need in mine:
                users[need].append(index)
        ready = [i for i, count in enumerate(missing) if not count]
        order: list[int] = []
        at = 0
        while at < len(ready):
            index = ready[at]
            at += 1
            order.append(index)
            for user in users[index]:
                missing[user] -= 1
                if not missing[user]:
                    ready.append(user)
        if len(order) < len(needs):
            stuck = [self.units[i] for i, count in enumerate(missing) if count]
            names = ", ".join(u.entry or " ".join(u.key) for u in stuck[:10])
            self._conflict(stuck[0], "these stand on each other in a circle: %s" % names)
            order.extend(i for i, count in enumerate(missing) if count)
        return order

    # -- the difference --------------------------------------------------------------------------------------------

    def _differ(
        self, needs: list[set[int]], order: list[int]
    ) -> tuple[list[Action], list[Action], list[Action] | None]:
        lower: list[Action] = []
        build: list[Action] = []
        view = [OPEN] * len(self.units)
        doors: set[int] = set()
        early: dict[int, list[Action]] = {}
        waiting = False
        for index in order:
            see = max([view[n] for n in needs[index]], default=OPEN)
            mine: list[Action] = []
            down: list[Action] = []
            open_until: int | None = None
            for cell, value in self.cells[index]:
                shut = see if see and getattr(self.ports[cell.port], "behind", True) else OPEN
                made = self._cell(index, cell, value, shut)
                waiting = waiting or any(a.before is UNKNOWN for a in made)
                for action in made:
                    (down if self._lowers(action) else mine).append(action)
                    early.setdefault(index, []).append(action)
                    opens = getattr(self.ports[cell.port], "opens", None)
                    kind = opens(cell.target, action.before, action.after) if opens and action.before is not UNKNOWN else None
                    if kind:
                        see = max(see, SHUT if kind == "unknown" else EMPTY)
                        if kind == "unknown":
                            doors.add(index)
                            open_until = len(early[index])
            if open_until is not None:
                early[index] = early[index][:open_until]
            view[index] = see
            lower[0:0] = reversed(down)
            build.extend(mine)
        if not waiting:
            return lower, build, None
        first: set[int] = set()
        todo = list(doors)
        while todo:
            index = todo.pop()
            if index not in first:
                first.add(index)
                todo.extend(needs[index])
        return lower, build, [a for i in first for a in early.get(i, ()) if a.before is not UNKNOWN]

    def _cell(self, index: int, cell: Cell, value: Any, shut: int) -> list[Action]:
        port = self.ports[cell.port]
        spot = (cell.port, cell.target)
        if shut == SHUT:
            return [self._action(index, cell, UNKNOWN, value)]
        before = None if shut == EMPTY else self.world.rows[cell.port].get(cell.target)
        if isinstance(before, StorageError):
            self.errors.append(before.at(self.units[index].entry))
            return []
        if value is None:
            return [] if before is None else [self._action(index, cell, before, None)]
        if before is not None and self._same(spot, before, value):
            return []
        merge = getattr(port, "merge", None)
        if merge is not None:
            after = merge(cell.target, before, value)
        elif isinstance(value, dict) and isinstance(before, dict):
            after = {**before, **value}
        else:
            after = value
        replaces = getattr(port, "replaces", None)
        if before is not None and replaces is not None and replaces(cell.target, before, after):
            fresh = merge(cell.target, None, value) if merge else value
            return [self._action(index, cell, before, None), self._action(index, cell, None, fresh)]
        return [self._action(index, cell, before, after)]

    def _action(self, index: int, cell: Cell, before: Any, after: Any) -> Action:
        known = None if before is UNKNOWN else before
        return Action(index, cell.port, cell.target, before, after, self.ports[cell.port].risk(cell.target, known, after))

    def _same(self, spot: Spot, row: Any, value: Any) -> bool:
        same: Callable[..., bool] | None = getattr(self.ports[spot[0]], "same", None)
        if same is not None:
            return same(spot[1], row, value)
        if isinstance(value, dict) and isinstance(row, dict):
            return all(k in row and row[k] == v for k, v in value.items() if not k.startswith("_"))
        return bool(row == value)

    def _lowers(self, action: Action) -> bool:
        if action.before is UNKNOWN:
            return action.after is None
        return bool(self.ports[action.port].lowers(action.target, action.before, action.after))

    def _release(self, gone: set[Spot]) -> list[Action]:
        """An implied thing goes again when its port agrees (ours, and empty once ``gone`` is gone) and nobody needs it."""
        out: list[Action] = []
        for spot in sorted(self.released, key=lambda s: (s[0], str(s[1])), reverse=True):
            port, row = self.ports[spot[0]], self.world.rows[spot[0]].get(spot[1])
            if spot in self.implied or spot in self.owner or row is None or isinstance(row, StorageError):
                continue
            if port.vanishes(spot[1], row, gone):
                cell = Cell(spot[0], spot[1], None, True)
                out.append(self._action(self.released[spot], cell, row, None))
                gone.add(spot)
        return out

    def _refuse(self, actions: list[Action], gone: set[Spot]) -> None:
        for action in actions:
            if action.before is UNKNOWN:
                continue
            unit = self.units[action.unit]
            refuse = getattr(self.ports[action.port], "refuse", None)
            error = refuse(action.target, action.before, action.after, gone) if refuse else None
            if error is None:
                error = guard.consented(action, unit, self.ports[action.port])
            if error is not None:
                self.errors.append(error.at(unit.entry))


def _text(target: Hashable) -> str:
    return target if isinstance(target, str) else " ".join(str(part) for part in target)  # type: ignore[attr-defined]
