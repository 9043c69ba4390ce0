# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared, what that implies, and one look at all of it. Where nothing differs, this is all that runs."""

from __future__ import annotations

import gc
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Action, Key, Spot, Unit, met
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text

_HOOKS = "canon resolve implies proves covers same want_entries stands_for".split()
Wanted = Tuple[Spot, Any]
Placed = Tuple[Any, Any, List[Wanted]]  # a declared spot (None for an implied cell), its value, what it implies


class Ports(Mapping[str, Any]):
    """Ports by name, each made when first asked for. ``away``: see ``_adapters/worlds.py``."""

    def __init__(self, makers: dict[str, Callable[[], Any]], away: Any = None) -> None:
        self.makers, self.away = makers, away
        self.made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.made:
            self.made[name] = self.makers[name]()
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


class World:
    """One stage's look at the world. Every port is scanned at most once for the targets a plan needs."""

    def __init__(self, ports: Mapping[str, Any]) -> None:
        self.ports = ports
        self.rows: dict[str, dict[Hashable, Any]] = {name: {} for name in ports}
        self.seen: dict[str, set[Hashable]] = {name: set() for name in ports}
        self.failed: dict[str, StorageError] = {}
        self.memo: dict[Hashable, Any] = {}  # what resources work out from all of it, once a look
        self.declared: dict[tuple[str, str], dict[str, Any]] = {}  # options of every entry, by kind and name
        self.whole: set[str] = set()
        self.asked = False
        self.leaving: dict[str, set[Hashable]] = {}

    def port(self, name: str) -> Any:
        if name not in self.rows:
            raise LookupError("no port %r was given, only: %s" % (name, " ".join(sorted(self.rows))))
        return self.ports[name]

    def everything(self, port: str) -> dict[Hashable, Any]:
        """Every row of a port that can list them."""
        self.asked = True
        if port not in self.whole:
            self.rows[port].update(self.ports[port].scan(None))
            self.whole.add(port)
        return self.rows[port]

    def look(self, port: str, targets: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Rows of a port; absent targets are left out, an unreadable one holds its StorageError."""
        asked, self.asked = self.port(port), True
        if port in self.failed:
            raise self.failed[port]
        seen = self.seen[port]
        new = [t for t in targets if t not in seen] if port not in self.whole else []
        if new:
            try:
                self.rows[port].update(asked.scan(new))
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
    gathered: Gathering | None = None

    @property
    def conditional(self) -> bool:
        return len(self.now) < len(self.actions)


def compare(units: list[Unit], world: World) -> Plan:
    """Declared and implied cells against the world: a plan, pure but for the scans."""
    collecting = gc.isenabled()
    gc.disable()  # a large plan makes no garbage, only much for the collector to walk over, which doubles the time
    try:
        gathered = Gathering(list(units), world)
        if gathered.met():
            return Plan(gathered.units, gathered.needs, [], [], [], world)
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import plan

        return plan.Planner(gathered).run()
    finally:
        if collecting:
            gc.enable()


class Gathering:
    """Every cell of the units, declared and implied, and what the world shows of them.

    What a port ``proves`` is not asked for while its own rows are as declared: what is mounted has a mount point.
    """

    def __init__(self, units: list[Unit], world: World) -> None:
        self.units = units
        self.world = world
        self.hooks: dict[str, SimpleNamespace] = {}
        self.errors: list[StorageError] = []
        self.placed: list[list[Placed]] = []
        self.keys: dict[Key, str] = {}
        self.owner: dict[Spot, tuple[int, Any]] = {}
        self.stands: dict[Spot, int] = {}  # spots of one port that the declared cell of another stands for
        self.leaving: set[Spot] = set()  # those of them that are declared absent
        self.implied: dict[Spot, Any] = {}
        self.users: dict[Spot, list[int]] = {}  # the units that imply a spot
        self.released: dict[Spot, list[int]] = {}  # the units that no longer need it
        self.needs: list[set[int]] = [set() for _unit in units]
        self.proven: list[tuple[int, SimpleNamespace, Hashable, Any, list[Wanted]]] = []
        self.scanned: set[str] = set()
        self.covered: dict[Spot, tuple[int, str]] = {}  # by which unit, and the port through which others see it then
        for index, unit in enumerate(units):
            self._cover(index, unit)
        for index, unit in enumerate(units):
            self._declare(index, unit)
        self.asked = world.asked or self.proven  # then what is declared may depend on what is seen
        if any(hooks.proves in self.hooks for _index, hooks, *_cell in self.proven):
            self.ask_proven()  # the port is asked anyway, and every port is asked once
        self.scan()

    def met(self) -> bool:
        """Is every cell as it should be? Then there is nothing to order, refuse or do."""
        if self.errors:
            return False
        rows = self.world.rows
        for (name, target), (_index, value) in self.owner.items():
            if not self._holds(name, target, rows[name].get(target), value):
                return False
        for (name, target), value in self.implied.items():
            if not self._holds(name, target, rows[name].get(target), value):
                return False
        return not any(rows[name].get(target) is not None for name, target in self.released)

    def _holds(self, name: str, target: Hashable, row: Any, value: Any) -> bool:
        if row is None or value is None or isinstance(row, StorageError):
            return row is None and value is None
        same = self.hooks[name].same
        return bool(same(target, row, value) if same else met(row, value))

    def ask_proven(self) -> None:
        for index, hooks, target, value, below in self.proven:
            below[:] = self.beneath(hooks, target, value)
            for spot, wanted in below:
                self._imply(spot, wanted, index, self.units[index])
        self.proven = []

    # -- what is declared, and what that implies -------------------------------------------------------------------

    def _cover(self, index: int, unit: Unit) -> None:
        for name, target, value, implied in unit.cells:
            hooks = self._hook(name)
            if hooks.covers is not None and not implied:
                below, above = hooks.covers if value is not None else hooks.covers[:1] * 2  # seen again once it is gone
                self.covered[below, target] = index, above

    def _seen_as(self, name: str, target: Hashable, value: Any, index: int, unit: Unit) -> str:
        """Who stands on a mount means what is mounted; who makes its mount point has no say about that.

        "" when nothing is meant: the root of what is mounted cannot go, and its mount point is the mount's own matter.
        """
        by, other = self.covered.get((name, target), (index, name))
        if by == index:
            return name
        if ("path", target) in unit.needs:
            return other if value is not None else ""
        if value is not None and value.keys() - {"type"}:
            from ansible_collections.bulkhead.storage.plugins.module_utils._engine import cover

            self.errors.append(cover.hidden(target, target).at(unit.entry))
        return name

    def _declare(self, index: int, unit: Unit) -> None:
        if unit.key in self.keys:
            self.conflict(unit, "%s %s is declared twice (%s)" % (*unit.key, self.keys[unit.key]))
        self.keys[unit.key] = unit.entry
        mine: list[Placed] = []
        for name, target, value, implied in unit.cells:
            hooks = self._hook(name)
            if hooks.canon is not None:
                target = hooks.canon(target)
            if self.covered and not implied:
                name = self._seen_as(name, target, value, index, unit)
                if not name:
                    continue
                hooks = self._hook(name)
            if hooks.resolve is not None and value is not None:
                value = self._resolved(hooks, target, value, unit)
            spot = (name, target)
            below: list[Wanted] = []
            if hooks.proves is not None and value is not None and not implied:
                self.proven.append((index, hooks, target, value, below))
            elif hooks.implies:
                below = self.beneath(hooks, target, value)
            if implied:
                below.append((spot, value))
            else:
                if spot in self.owner:
                    other = self.units[self.owner[spot][0]]
                    text = "%s %s is declared by %s too" % (name, target_text(target), other.entry or other.key)
                    self.conflict(unit, text)
                self.owner[spot] = (index, value)
                if hooks.stands_for:
                    self.stands[(hooks.stands_for, target)] = index
                    if value is None:
                        self.leaving.add((hooks.stands_for, target))
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
        found = self.hooks.get(name)
        if found is None:
            port = self.world.port(name)
            hooks = {hook: getattr(port, hook, None) for hook in _HOOKS}
            found = self.hooks[name] = SimpleNamespace(behind=getattr(port, "behind", True), **hooks)
        return found

    def _resolved(self, hooks: SimpleNamespace, target: Hashable, value: Any, unit: Unit) -> Any:
        try:
            return hooks.resolve(target, value)
        except StorageError as error:
            self.errors.append(error.at(unit.entry))
            return value

    def beneath(self, hooks: SimpleNamespace, target: Hashable, value: Any) -> list[Wanted]:
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
            self.implied[spot] = self.joined(spot, self.implied[spot], value, unit)
        if not users or users[-1] != index:
            users.append(index)

    def joined(self, spot: Spot, one: Any, two: Any, unit: Unit) -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import agree

        return agree.joined(self, spot, one, two, unit)

    def conflict(self, unit: Unit, text: str) -> None:
        self.errors.append(StorageError("conflict", text, "declare it once").at(unit.entry))

    # -- the look --------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        for spot in self.released.keys() & (self.implied.keys() | self.owner.keys() | self.stands.keys()):
            for user in self.released.pop(spot):
                if spot in self.owner or spot in self.stands:
                    self.needs[user].add(self.owner[spot][0] if spot in self.owner else self.stands[spot])
        wanted: dict[str, list[Hashable]] = {name: [] for name in self.hooks if name not in self.scanned}
        leaving: dict[str, set[Hashable]] = {name: set() for name in wanted}
        for (name, target), (_unit, value) in self.owner.items():
            if name in wanted:
                wanted[name].append(target)
                if value is None:
                    leaving[name].add(target)
        for name, target in self.implied:
            if name in wanted:
                wanted[name].append(target)
        for name, target in self.released:
            if name in wanted:
                wanted[name].append(target)
                leaving[name].add(target)
        for name, targets in wanted.items():
            self.scanned.add(name)
            if self.hooks[name].want_entries is not None:
                self.world.ports[name].want_entries = leaving[name]
                self.world.seen[name] -= leaving[name] - self.world.leaving.get(name, set())
                self.world.leaving[name] = leaving[name]
            try:
                if targets:
                    self.world.look(name, dict.fromkeys(targets))
            except StorageError as error:
                self.errors.append(error)
