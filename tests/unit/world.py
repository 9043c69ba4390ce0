# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake of every port: ``Rows``, a dict that obeys the port contract, and the ground that its rows share.

A plain dict would not see a wrong order, so the ground knows stacking (nothing is made before what it stands on or
goes while something stands on it, a top is never larger than what holds it) and doors (what lies behind a closed one
is not seen, and nobody may touch it). It fails or kills at the n-th put, and lets a stranger in before it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Hashable
from typing import Any, Callable, Iterable, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
    Cell,
    Secret,
    Spot,
    Unit,
    merged,
    state_of,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors, parent


class Killed(BaseException):
    """The process ends here: nothing of ours may catch it."""


class Broken(BaseException):
    """The engine did what it never may; no test is to survive this."""


class Ground:
    """The world beneath all ports of a test. Spots lie behind the door that ``lies`` names, None for the open."""

    def __init__(self, lies: Callable[[Spot], Spot | None] = lambda spot: None) -> None:
        self.lies = lies
        self.ports: dict[str, Rows] = {}
        self.rows: dict[Spot, Any] = {}
        self.under: dict[Spot, Any] = {}  # what is seen at a spot while its door is closed
        self.puts = 0
        self.scans: list[str] = []
        self.log: list[tuple[Spot, Any, Any]] = []  # every put that had its effect
        self.before_put: Callable[[int, Spot], None] = lambda count, spot: None  # raises a fault, or drifts
        self.after_put: Callable[[int, Spot], None] = lambda count, spot: None  # raises Killed
        self.guard = threading.RLock()

    def seen(self, spot: Spot, rows: dict[Spot, Any] | None = None) -> bool:
        """Is every door before it open?"""
        rows = self.rows if rows is None else rows
        door = self.lies(spot)
        while door is not None:
            if door not in rows:
                return False
            door = self.lies(door)
        return True

    def row(self, spot: Spot) -> Any:
        return (self.rows if self.seen(spot) else self.under).get(spot)

    def snapshot(self, observations: bool = False) -> dict[Spot, Any]:
        """The whole world, doors open or not; without observations and what a server chose."""
        return {
            spot: value if observations or not isinstance(value, dict) else {**state_of(value), "id": 0}
            for spot, value in self.rows.items()
        }

    def fallen(self, rows: dict[Spot, Any]) -> Spot | None:
        """Something that would stand on nothing, or on something smaller than itself."""
        for spot, value in rows.items():
            if self.seen(spot, rows):
                for below in self.ports[spot[0]].stands(spot[1], value):
                    held = rows.get(below) if self.seen(below, rows) else None
                    if held is None or _size(value) > _size(held, 1 << 62):
                        return spot
        return None

    def put(self, spot: Spot, before: Any, after: Any) -> None:
        with self.guard:
            self.puts += 1
            self.before_put(self.puts, spot)
            if not self.seen(spot):
                raise Broken("put behind a closed door: %r" % (spot,))
            now = self.rows.get(spot)
            if state_of(now) != state_of(before) or state_of(now) == state_of(after):
                raise StorageError("moved", "%r is %r, not %r" % (spot, now, before))
            port = self.ports[spot[0]]
            rows = {s: v for s, v in self.rows.items() if s != spot}
            if after is None or (before is None and port.door == "empty"):
                rows = {s: v for s, v in rows.items() if not port.holds(spot, s)}
            if after is not None:
                rows[spot] = self.chosen(after)
            fallen = self.fallen(rows)
            if fallen is not None:
                raise StorageError("not_found" if fallen == spot else "in_use", "%r: %r would fall" % (spot, fallen))
            self.rows = rows
            self.log.append((spot, before, after))
            self.after_put(self.puts, spot)

    def chosen(self, value: Any) -> Any:
        """The server's choice where it is left to it."""
        if not isinstance(value, dict):
            return value
        return {k: "id-%d" % self.puts if v is UNKNOWN else v for k, v in value.items()}


def _size(value: Any, default: int = 0) -> int:
    return value.get("size", default) if isinstance(value, dict) else default


class Rows:
    """One port on a ground of its own, or on one that it shares. The rules say what is special about it."""

    def __init__(
        self,
        name: str,
        ground: Ground | None = None,
        behind: bool = True,
        slow: float = 0.0,
        forward: bool = False,
        destroys: str = "",
        door: str = "",
        replaced: tuple[str, ...] = (),
        strict: bool = False,
        stands: Callable[[Any, Any], Iterable[Spot]] = lambda target, value: (),
        holds: Callable[[Spot, Spot], bool] = lambda mine, other: False,
        broken: StorageError | None = None,
    ) -> None:
        self.name = name
        self.ground = ground or Ground()
        self.ground.ports[name] = self
        self.behind, self.slow, self.pause = behind, slow > 0, slow
        self.forward, self.destroys, self.door, self.replaced, self.strict = forward, destroys, door, replaced, strict
        self.stands, self.holds = stands, holds
        self.broken = broken  # the whole port cannot be scanned
        self.unreadable: dict[Any, StorageError] = {}
        self.flushes = 0

    def scan(self, targets: Iterable[Hashable] | None) -> dict[Hashable, Any]:
        self.ground.scans.append(self.name)
        if self.broken is not None:
            raise self.broken
        if targets is None:
            targets = [target for name, target in self.ground.rows if name == self.name]
        found = {t: self.unreadable.get(t) or self.ground.row((self.name, t)) for t in targets}
        return {target: value for target, value in found.items() if value is not None}

    def put(self, target: Hashable, before: Any, after: Any) -> None:
        if self.pause:
            time.sleep(random.random() * self.pause)
        self.ground.put((self.name, target), before, after)

    def lowers(self, target: Hashable, before: Any, after: Any) -> bool:
        return after is None or self._shrinks(before, after)

    def risk(self, target: Hashable, before: Any, after: Any) -> str:
        if after is None:
            return DESTROYS if self.destroys else REVERSIBLE
        if self._shrinks(before, after):
            return SHRINKS
        return FORWARD if before is None and self.forward else REVERSIBLE

    def consent(self, target: Hashable, before: Any, after: Any) -> tuple[str, Any] | None:
        if after is not None:
            return ("allow_shrink", True)
        if self.destroys == "wipe_token":
            return ("wipe_token", "token of %s" % (target,))
        return (self.destroys, True) if self.destroys != "never" else None

    def refuse(self, target: Hashable, before: Any, after: Any, gone: set[Spot]) -> StorageError | None:
        if self.strict and after is None:
            for top, value in self.ground.rows.items():
                stands = self.ground.ports[top[0]].stands(top[1], value)
                if (self.name, target) in stands and self.ground.seen(top) and top not in gone:
                    return StorageError("in_use", "%s %s holds %s %s" % (self.name, target, *top))
        return None

    def replaces(self, target: Hashable, before: Any, after: Any) -> bool:
        return after is not None and any(before.get(k) != after.get(k) for k in self.replaced)

    def opens(self, target: Hashable, before: Any, after: Any) -> str | None:
        return self.door if self.door and before is None and after is not None else None

    def flush(self) -> None:
        self.flushes += 1

    @staticmethod
    def _shrinks(before: Any, after: Any) -> bool:
        return isinstance(before, dict) and isinstance(after, dict) and _size(after) < _size(before)


class Nodes(Rows):
    """Directories: each implies its parent, which goes again when only we wanted it."""

    def canon(self, target: str) -> str:
        return target.rstrip("/") or "/"

    def implies(self, target: str, value: Any) -> Iterator[tuple[str, str, Any]]:
        if parent(target) != "/":
            yield (self.name, parent(target), {"type": "directory"})

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        if now is None and declared == {"type": "directory"}:
            return {"type": "directory", "_made": True}
        return merged(now, declared)

    def vanishes(self, target: str, value: Any, gone: set[Spot]) -> bool:
        tops = [
            top
            for top, found in self.ground.rows.items()
            if self.ground.seen(top) and (self.name, target) in self.ground.ports[top[0]].stands(top[1], found)
        ]
        return bool(value.get("_made")) and set(tops) <= gone


class Mounts(Rows):
    """Mounts of both kinds: each implies its mount point, and stands for its being there."""

    proves = "node"

    def implies(self, target: str, value: Any) -> Iterator[tuple[str, str, Any]]:
        yield ("node", target, {"type": "directory"})


# -- generated worlds ------------------------------------------------------------------------------------------------


class Thing(NamedTuple):
    """Something that may be in a generated world, in the order in which things stand on each other."""

    spot: Spot
    fields: dict[str, tuple[Any, ...]]  # each field and what it may hold


class Scenario(NamedTuple):
    seed: int
    ground: Ground
    ports: dict[str, Rows]
    things: list[Thing]
    units: list[Unit]


def _over(path: str, points: list[str]) -> str | None:
    return next((up for up in ancestors(path) if up in points), None)


def _lies(points: dict[str, str]) -> Callable[[Spot], Spot | None]:
    listed = list(points)

    def lies(spot: Spot) -> Spot | None:
        name, target = spot
        if name == "fs" and str(target).startswith("crypt-"):
            return ("crypt", target)
        if name in ("node", "quota"):
            point = _over(target[0] + "/." if name == "quota" else str(target), listed)  # type: ignore[index]
            return (points[point], point) if point else None
        if name in ("mount", "tmpfs"):
            point = _over(str(target), listed)
            return (points[point], point) if point else None
        return None

    return lies


def _on_device(target: Any, value: Any) -> list[Spot]:
    name = str(target)
    return [("crypt" if name.startswith("crypt-") else "lv", name)]


def _on_parent(target: Any, value: Any) -> list[Spot]:
    return [] if parent(target) == "/" else [("node", parent(target))]


def build_ports(ground: Ground, points: dict[str, str], strict: bool, slow: float = 0.0) -> dict[str, Rows]:
    """vg, lv, crypt (a door), fs, mount (a door), tmpfs (an empty one), node, quota, fstab."""
    backs = {"/srv/m%s" % name.rpartition("lv")[2]: name for name in _devices(points)}

    def content(mine: Spot, other: Spot) -> bool:
        """Is the other one on the file system, or in the tmpfs?"""
        door = ground.lies(other)
        while door is not None:
            if door == mine or mine[0] == "fs" and door[0] == "mount" and backs.get(str(door[1])) == mine[1]:
                return True
            door = ground.lies(door)
        return False

    return {
        "vg": Rows("vg", ground, strict=strict, destroys="absent"),
        "lv": Rows(
            "lv", ground, strict=strict, destroys="absent", replaced=("stripes",),
            stands=lambda target, value: [("vg", "vg" + target[2])],
        ),
        "crypt": Rows(
            "crypt", ground, strict=strict, door="unknown", slow=slow,
            stands=lambda target, value: [("lv", target[len("crypt-") :])],
        ),
        "fs": Rows(
            "fs", ground, strict=strict, forward=True, destroys="wipe_token", slow=slow,
            stands=_on_device, holds=content,
        ),
        "mount": Mounts(
            "mount", ground, strict=strict, door="unknown", behind=False,
            stands=lambda target, value: [("fs", value["device"]), ("node", target)],
        ),
        "tmpfs": Mounts(
            "tmpfs", ground, strict=strict, door="empty", behind=False, destroys="absent", replaced=("inodes",),
            stands=lambda target, value: [("node", target)], holds=content,
        ),
        "node": Nodes("node", ground, strict=strict, stands=_on_parent),
        "quota": Rows("quota", ground, strict=strict, stands=lambda target, value: [("node", target[0])]),
        "fstab": Rows("fstab", ground, strict=strict, behind=False),
    }  # fmt: skip


def _devices(points: dict[str, str]) -> list[str]:
    return [name for point, kind in points.items() if kind == "mount" for name in _names(point)]


def _names(point: str) -> list[str]:
    number = point[len("/srv/m") :]
    return ["lv%s" % number, "crypt-lv%s" % number]


def scenario(seed: int, slow: float = 0.0, chains: int = 3, empty: bool = False) -> Scenario:
    """A consistent one: what is declared present stands on what is there or declared, absent only beneath absent."""
    rng = random.Random(seed)
    things: list[Thing] = []
    points: dict[str, str] = {}
    groups: list[list[Thing]] = []  # what one unit declares together

    def add(spot: Spot, group: list[Thing], **fields: tuple[Any, ...]) -> None:
        thing = Thing(spot, fields)
        things.append(thing)
        group.append(thing)

    def tree(base: str, together: list[Thing]) -> None:
        for path in rng.sample(["a", "a/b", "c/d", "c/e/f"], rng.randint(0, 3)):
            group = together if rng.random() < 0.2 else []
            full = base + "/" + path
            add(("node", full), group, type=("directory",), mode=(0o700, 0o750, 0o755), owner=(0, 7))
            if rng.random() < 0.5:
                add(("quota", (full, 7)), group, bytes=(10, 20), inodes=(5, 6))
            if group is not together:
                groups.append(group)

    for number in range(rng.randint(1, chains)):
        kind = rng.choice(("lv", "crypt", "tmpfs", "tree"))
        point = "/srv/m%d" % number
        base = point
        group: list[Thing] = []
        if kind in ("lv", "crypt"):
            device = "lv%d" % number
            points[point] = "mount"
            split = rng.random() < 0.6
            for each in ("vg", "lv", "crypt", "fs", "mount", "fstab"):
                if each == "vg":
                    add(("vg", "vg%d" % number), group, tag=(1, 2))
                elif each == "lv":
                    add(("lv", device), group, size=(50, 70, 90), stripes=(1, 1, 2), tag=(1, 2), id=(UNKNOWN,))
                elif each == "crypt" and kind == "crypt":
                    device = "crypt-" + device
                    add(("crypt", device), group, key=(Secret("first"), Secret("second")))
                elif each == "fs":
                    sizes: tuple[Any, ...] = (40, 50) if kind == "lv" else ()
                    add(("fs", device), group, label=("x", "y"), id=(UNKNOWN,), **({"size": sizes} if sizes else {}))
                elif each == "mount":
                    add(("mount", point), group, device=(device,), atime=(True, False))
                elif each == "fstab":
                    add(("fstab", point), group, line=("one", "two"))
                if split and group:
                    groups.append(group)
                    group = []
        elif kind == "tmpfs":
            points[point] = "tmpfs"
            add(("tmpfs", point), group, size=(4, 8), inodes=(16, 16, 32))
        else:
            base = rng.choice((point, "/srv/shared"))
        if group:
            groups.append(group)
        tree(base, group)

    seen: set[Spot] = set()
    groups = [[t for t in group if not (t.spot in seen or seen.add(t.spot))] for group in groups]  # type: ignore[func-returns-value]
    unique = {t.spot: t for t in things}
    ground = Ground(_lies(points))
    ports = build_ports(ground, points, rng.random() < 0.5, slow)
    if not empty:
        _populate(rng, ground, ports, list(unique.values()))
    units = _declarations(rng, ground, ports, [g for g in groups if g], unique)
    return Scenario(seed, ground, ports, list(unique.values()), units)


def _beneath(ground: Ground, ports: dict[str, Rows], thing: Thing) -> list[Spot]:
    value = {k: v[0] for k, v in thing.fields.items()}
    door = ground.lies(thing.spot)
    return [*ports[thing.spot[0]].stands(thing.spot[1], value), *([door] if door else [])]


def _populate(rng: random.Random, ground: Ground, ports: dict[str, Rows], things: list[Thing]) -> None:
    full = rng.choice((0.0, 0.5, 0.9))
    for thing in things:
        if rng.random() >= full:
            continue
        value = {k: "id-0" if v == (UNKNOWN,) else rng.choice(v) for k, v in thing.fields.items()}
        todo, wanted = [thing.spot], []
        while todo:  # missing parents come along, anything else must be there
            for below in ports[todo[0][0]].stands(todo[0][1], value):
                if below[0] == "node" and below not in ground.rows:
                    wanted.append(below)
                    todo.append(below)
            del todo[0]
        rows = dict(ground.rows)
        rows.update({spot: {"type": "directory", "mode": 0o755, "owner": 0} for spot in wanted})
        rows[thing.spot] = value
        if ground.fallen(rows) is None and all(ground.seen(spot, rows) for spot in rows):
            ground.rows = rows
    for thing in reversed(things):  # close some doors; what is in a tmpfs is lost, nothing else
        if thing.spot in ground.rows and ports[thing.spot[0]].door and rng.random() < 0.4:
            rows = {s: v for s, v in ground.rows.items() if s != thing.spot}
            if ports[thing.spot[0]].door == "empty":
                rows = {s: v for s, v in rows.items() if not ports["tmpfs"].holds(thing.spot, s)}
            if ground.fallen(rows) is None:
                ground.rows = rows


def _declarations(
    rng: random.Random,
    ground: Ground,
    ports: dict[str, Rows],
    groups: list[list[Thing]],
    things: dict[Spot, Thing],
) -> list[Unit]:
    absent_all = rng.random() < 0.25
    declared: dict[Spot, Any] = {}
    standing = {spot for spot in things if ground.seen(spot) and spot in ground.rows}
    for spot, thing in things.items():
        below = _beneath(ground, ports, thing)
        gone = [b for b in below if declared.get(b, 0) is None]
        held = all(b in standing or b in declared or (b[0] == "node" and b not in things) for b in below)
        if gone or absent_all or (rng.random() < 0.15 and not _topped(rng, ground, ports, spot, things)):
            declared[spot] = None
        elif held and rng.random() < 0.85:
            partial = {
                k: rng.choice(v)
                for k, v in thing.fields.items()
                if k in ("device", "type", "size", "key", "line") or rng.random() < 0.6
            }
            declared[spot] = partial
    # only what was there before may be left alone beneath something declared absent
    units: list[Unit] = []
    for number, group in enumerate(groups):
        cells: list[Cell] = []
        needs: list[Any] = []
        provides: list[Any] = []
        consents: dict[str, Any] = {"allow_shrink": True, "absent": True} if rng.random() < 0.9 else {}
        for thing in group:
            spot = thing.spot
            if spot in declared:
                cells.append(Cell(spot[0], spot[1], declared[spot]))
            if spot[0] == "fs" and rng.random() < 0.9:
                consents["wipe_token"] = "token of %s" % (spot[1],)
            provides.append(("thing", spot))
            needs.extend(("thing", below) for below in _beneath(ground, ports, thing))
            if spot[0] in ("node", "mount", "tmpfs"):
                provides.append(("path", spot[1]))
                needs.append(("above", spot[1]))
            if spot[0] == "quota":
                needs.append(("path", spot[1][0]))  # type: ignore[index]
        if cells:
            key = ("group", str(number))
            entry = "groups[%d]" % number
            units.append(Unit(key, tuple(cells), tuple(needs), tuple(provides), entry, consents))
    rng.shuffle(units)
    return units


def _topped(rng: random.Random, ground: Ground, ports: dict[str, Rows], spot: Spot, things: dict[Spot, Thing]) -> bool:
    """Does something stand on it that is not sure to be declared absent too? Everything above follows it down."""
    return rng.random() < 0.5 and any(spot in _beneath(ground, ports, thing) for thing in things.values())
