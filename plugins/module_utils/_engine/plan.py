# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs, ordered: tear down from the top, build up from the bottom; and every refusal. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import guard
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    SHRINKS,
    UNKNOWN,
    Action,
    Cell,
    Spot,
    Unit,
    merged,
    met,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors, parent, within
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Gathering, Plan, Wanted

OPEN, EMPTY, SHUT = 0, 1, 2  # what a unit's cells see: the world, a fresh empty one, or a closed door

_HOOKS = "merge replaces refuse opens vanishes lowers risk outlasts fresh tells resizes resized".split()


class Planner:
    def __init__(self, gathered: Gathering) -> None:
        gathered.ask_proven()
        gathered.scan()
        self.gathered = gathered
        for name, hooks in gathered.hooks.items():
            vars(hooks).update((hook, getattr(gathered.world.ports[name], hook, None)) for hook in _HOOKS)
        self.units, self.world, self.hooks = gathered.units, gathered.world, gathered.hooks
        self.owner, self.stands, self.implied = gathered.owner, gathered.stands, gathered.implied
        self.users, self.released, self.needs = gathered.users, gathered.released, gathered.needs
        self.errors = gathered.errors
        self.cells: list[list[Wanted]] = [[] for _unit in self.units]  # per unit: declared and implied, bottom first
        self.view: list[int] = []
        self.far: list[int] = []  # the same, of doors that are no places: who knows what lies behind those?
        self.openers: dict[str, int] = {}
        self.doors: dict[str, int] = {}  # those that are: what lies behind them lies beneath them
        self.buried: dict[int, str] = {}  # what a unit stands on, and would not find
        self.fresh: dict[str, Any] = {}  # those that open on nothing
        self.resized: dict[str, int] = {}  # devices that this plan makes larger or smaller: to how many bytes

    def run(self) -> Plan:
        self._stand_on_implied()
        self._stand_on_needs()
        order = self._order()
        down, build, now = self._differ(order)
        if len(self.units) > 1:
            from ansible_collections.bulkhead.storage.plugins.module_utils._engine import cover

            self.errors.extend(cover.refusals(self, order))
        lower, gone = self._tear_down(order, down)
        actions = self._framed(lower, True) + self._framed(build, False)
        self._refuse(actions, gone)
        early = {id(action) for action in now or ()}
        chosen = actions if now is None else [a for a in actions if id(a) in early]
        kept = None if self.gathered.asked else self.gathered
        return Plan(self.units, self.needs, actions, chosen, self.errors, self.world, kept)

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
                if spot in self.gathered.leaving and spot in self.implied:
                    self._needed(spot, givers[spot])
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
            for deeper, _value in (
                self.gathered.beneath(hooks, spot[1], self.implied.get(spot)) if hooks.implies else ()
            ):
                if deeper in givers:
                    self.needs[index].add(givers[deeper])
        for index, mine in enumerate(self.gathered.placed):
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
            self._needed(spot, owner)
        elif not (hooks.same(spot[1], value, implied) if hooks.same else met(value, implied)):
            self.gathered.joined(spot, value, self.implied[spot], self.units[owner])
        return owner

    def _needed(self, spot: Spot, owner: int) -> None:
        text = "%s %s is declared absent, but %s needs it"
        user = self.units[self.users[spot][0]]
        self.gathered.conflict(self.units[owner], text % (spot[0], target_text(spot[1]), user.entry or user.key))

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
            self.gathered.conflict(self.units[stuck[0]], "these stand on each other in a circle: %s" % names)
        return order + stuck

    # -- the difference --------------------------------------------------------------------------------------------

    def _differ(self, order: list[int]) -> tuple[dict[int, list[Action]], list[Action], list[Action] | None]:
        """What each unit tears down; what to build, bottom first; what may come first while a door is closed."""
        down: dict[int, list[Action]] = {}
        build: list[Action] = []
        self.view = [OPEN] * len(self.units)
        self.far = self.view[:]
        blind: set[int] = set()  # units with something UNKNOWN in them or beneath them: they wait for a second look
        made: dict[int, list[Action]] = {}
        doors: dict[int, int] = {}  # units that open one: how many of their actions come before what lies behind it
        for index in order:
            needs, hidden = self.needs[index], self.units[index].behind
            see = SHUT if hidden else max([self.view[need] for need in needs], default=OPEN)
            far = max([self.far[need] for need in needs], default=OPEN) if see else OPEN
            if see == SHUT or (blind and not blind.isdisjoint(needs)):
                blind.add(index)  # what it is made of may lie behind a door, even where no cell does
            for spot, value in self.cells[index]:
                hooks = self.hooks[spot[0]]
                declared = spot in self.owner  # else it is a directory or the like, and its path tells
                behind = self._behind(spot[1], far if declared else OPEN, see) if see and hooks.behind else OPEN
                for action in self._cell(index, spot, value, SHUT if hidden and declared else behind):
                    (down.setdefault(index, []) if self._lowers(action) else build).append(action)
                    made.setdefault(index, []).append(action)
                    unseen = action.before is UNKNOWN
                    if unseen:
                        blind.add(index)
                    resized = hooks.resizes and not unseen and hooks.resizes(spot[1], action.before, action.after)
                    if resized:
                        self.resized[path_of(spot[1])] = resized
                    if hooks.opens is not None and (hidden or not unseen):
                        door = hooks.opens(spot[1], None if unseen else action.before, action.after)
                        kind = SHUT if door and (unseen or door != "empty") else EMPTY if door else OPEN
                        see, place = max(see, kind), path_of(spot[1])
                        if kind and place:
                            self.doors[place], self.openers[place] = kind, index
                        if kind == EMPTY:
                            self.fresh[place] = action.after
                        far = far if place else max(far, kind)
                        if kind == SHUT and index not in blind:
                            doors[index] = len(made[index])
            self.view[index], self.far[index] = see, far
        return down, build, self._first_stage(doors, made) if blind else None

    def _behind(self, target: Hashable, far: int, see: int) -> int:
        place = path_of(target)
        return max(far, *(self.doors.get(up, OPEN) for up in (place, *ancestors(place)))) if place else see

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
            seen = self._fresh(name, target)
            if seen is not None:
                rows[target] = seen
        elsewhere = isinstance(rows.get(target), StorageError) and rows[target].code != "unreadable"
        if spot in self.released and (see or elsewhere):  # in nobody's way; but a failing disk is told
            return []
        if see == SHUT:
            return [self._action(index, spot, UNKNOWN, value)]
        before = rows.get(target)
        hooks = self.hooks[name]
        if hooks.resized and isinstance(before, dict) and path_of(target) in self.resized:
            before = hooks.resized(target, before, self.resized[path_of(target)])  # as it will be found then
        if before is None and value is None:
            return []
        if isinstance(before, StorageError):
            entry = self.units[index].entry
            if not any((other.entry, other.message) == (entry, before.message) for other in self.errors):
                self.errors.append(before.at(entry))
            return []
        if value is None:
            return [self._action(index, spot, before, None)]
        if before is not None and (hooks.same(target, before, value) if hooks.same else met(before, value)):
            return []
        after = hooks.merge(target, before, value) if hooks.merge else merged(before, value)
        if before is not None and hooks.replaces is not None and hooks.replaces(target, before, after):
            unit = self.units[index]
            if unit.consents.get("replace") is False and unit.consents.get("drift") != name:
                text = "something else stands at %s %s" % (name, target_text(target))
                self.errors.append(StorageError("conflict", text, "remove it first").at(unit.entry))
                return []
            fresh = hooks.merge(target, None, value) if hooks.merge else value
            return [self._action(index, spot, before, None), self._action(index, spot, None, fresh)]
        return [self._action(index, spot, before, after)]

    def _fresh(self, name: str, target: Hashable) -> Any:
        """What a port sees in a fresh mount."""
        fresh, place = self.hooks[name].fresh, path_of(target)
        above = next((up for up in (place, *ancestors(place)) if up in self.fresh), "")
        if above not in (place, "") and "_theirs" in self.fresh[above]:
            text = "%s would lie in a mount at %s, where others can write" % (place, above)
            return StorageError("unsafe_path", text, "mount it elsewhere")
        return fresh(target, above, self.fresh[above]) if fresh is not None and above else None

    def _action(self, index: int, spot: Spot, before: Any, after: Any) -> Action:
        name, target = spot
        risk = self.hooks[name].risk(target, None if before is UNKNOWN else before, after)
        return Action(index, name, target, before, after, risk)

    def _lowers(self, action: Action) -> bool:
        if action.before is UNKNOWN:
            return action.after is None
        return bool(self.hooks[action.port].lowers(action.target, action.before, action.after))

    def _tear_down(self, order: list[int], down: dict[int, list[Action]]) -> tuple[list[Action], set[Spot]]:
        """Top first. A released thing goes when its port agrees: it is ours, and empty once all above it is gone.

        What shrinks before what is beneath it does is told too, as ``("smaller <port>", target)``.
        """
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
                elif action.risk == SHRINKS:
                    gone.add(("smaller " + action.port, action.target))
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
        new = [a for a in actions if a.before is None and _missing(a) != a.target]
        made = {a.target for a in new if (a.port, a.target) in self.owner}
        told: set[int] = set()  # which units
        implied = {a.target for a in new}  # in no order, but for who stands on the unit that provides them
        for action in actions:
            if action.before is UNKNOWN:
                continue
            unit = self.units[action.unit]
            refuse = self.hooks[action.port].refuse
            error = refuse(action.target, action.before, action.after, gone) if refuse else None
            if error is None:
                error = guard.consented(action, unit, self.world.ports[action.port])
            missing = _missing(action) or self.buried.get(action.unit, "")
            brought = missing in made or (missing in implied and self._stands_on(action.unit, ("path", missing)))
            brought = brought or self.openers.get(missing) == action.unit  # opened by what is beneath it in its unit
            if error is None and missing and not (brought or action.unit in told or self._behind_doors(action.unit)):
                told.add(action.unit)
                error = StorageError(
                    "not_found", "%s does not exist" % missing, "make it, or declare what makes it too"
                )
            if error is not None:
                self.errors.append(error.at(unit.entry))

    def _stands_on(self, index: int, spot: Spot) -> bool:
        return any(spot in self.units[need].provides for need in self.needs[index])

    def _behind_doors(self, index: int) -> bool:
        """What opens beneath it may bring more than anybody can see yet."""
        return any(self.view[need] == SHUT for need in self.needs[index])


def predicted(plan: Plan) -> dict[str, dict[Hashable, Any]]:
    """The world after the plan, as the next scan should find it."""
    rows = {port: dict(found) for port, found in plan.world.rows.items()}
    for action in plan.actions:
        if action.after is None:
            rows[action.port].pop(action.target, None)
        else:
            rows[action.port][action.target] = action.after
        tells = getattr(plan.world.ports[action.port], "tells", None)
        if tells is not None and isinstance(action.after, dict):
            port, target, fields = tells(action.target, action.after)
            row = rows.get(port, {}).get(target)
            if row is not None:
                rows[port][target] = {**row, **{k: v for k, v in fields.items() if k in row}}
    for name in {action.port for action in plan.actions}:
        foresee = getattr(plan.world.ports[name], "foresee", None)
        if foresee is not None:
            foresee(rows[name], [action for action in plan.actions if action.port == name])
    return rows


def path_of(target: Hashable) -> str:
    """The path that a target is, or is about."""
    last = target[-1] if isinstance(target, tuple) and target else target
    return last if isinstance(last, str) and last.startswith("/") else ""


def _missing(action: Action) -> Any:
    """What has to be there already, and is not."""
    return action.after.get("_missing") if isinstance(action.after, dict) else None


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
