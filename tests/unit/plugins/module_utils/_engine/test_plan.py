# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning: who owns a cell, what is implied, what a closed door hides, every refusal at once, how long it takes."""

from __future__ import annotations

import gc
import sys
import time
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    SHRINKS,
    UNKNOWN,
    Cell,
    Unit,
    merged,
    met,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.plan import predicted
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Options, converge
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Plan, Ports, World
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import compare as plan
from ansible_collections.bulkhead.storage.tests.unit.world import Ground, Mounts, Nodes, Rows

DIRECTORY = {"type": "directory"}
FIRST_CALLS, IDLE_CALLS = 340, 65  # of functions, ours and C's, for a unit


def unit(name: str, *cells: Any, **more: Any) -> Unit:
    return Unit(("thing", name), tuple(c if isinstance(c, Cell) else Cell(*c) for c in cells), entry=name, **more)


def codes(found: Plan) -> list[tuple[str, str]]:
    return [(error.code, error.entry) for error in found.errors]


def listed(found: Plan) -> list[Any]:
    return [(a.port, a.target, a.before, a.after) for a in found.actions]


@pytest.fixture
def ground() -> Ground:
    ground = Ground()
    Rows("a", ground)
    Nodes("node", ground, stands=lambda target, value: [("node", up)] if (up := target.rpartition("/")[0]) else [])
    Mounts("mount", ground, behind=False, stands=lambda target, value: [("node", target)])
    return ground


def planned(ground: Ground, *units: Unit) -> Plan:
    return plan(list(units), World(ground.ports))


# -- E1: scans and canonical targets


def test_e1_a_port_is_scanned_once_for_all_units(ground: Ground) -> None:
    planned(ground, *[unit("u%d" % i, ("a", i, {"x": 1}), ("node", "/s/%d" % i, DIRECTORY)) for i in range(50)])
    assert sorted(ground.scans) == ["a", "node"]


def test_e1_a_look_remembers(ground: Ground) -> None:
    ground.rows["a", 1] = {"x": 1}
    world = World(ground.ports)
    assert world.look("a", [1, 2]) == {1: {"x": 1}} and world.look("a", (2, 1)) == {1: {"x": 1}}
    assert ground.scans == ["a"]
    world.look("a", [3])
    assert ground.scans == ["a", "a"]


def test_e1_targets_are_canonical_before_they_are_compared(ground: Ground) -> None:
    found = planned(ground, unit("one", ("node", "/s/a/", DIRECTORY)), unit("two", ("node", "/s/a", DIRECTORY)))
    assert codes(found) == [("conflict", "two")] and "one" in found.errors[0].message
    ground.rows["node", "/s"] = ground.rows["node", "/s/a"] = DIRECTORY
    assert not planned(ground, unit("one", ("node", "/s/a/", DIRECTORY))).actions


def test_e1_implied_targets_are_canonical_too(ground: Ground) -> None:
    found = planned(ground, unit("one", ("mount", "/m/", {"x": 1})))
    assert [(a.port, a.target) for a in found.actions] == [("node", "/m"), ("mount", "/m/")]


def test_e1_a_port_that_was_not_given_is_a_defect(ground: Ground) -> None:
    with pytest.raises(LookupError, match="no port 'b' was given, only: a mount node"):
        World(ground.ports).look("b", [1])
    with pytest.raises(LookupError, match="no port 'b'"):
        planned(ground, unit("one", ("b", 1, None)))
    del ground.ports["node"]
    with pytest.raises(LookupError, match="no port 'node'"):
        planned(ground, unit("one", ("mount", "/m", {})))


def test_e1_a_port_that_cannot_be_scanned_is_told_once_beside_every_other_refusal(ground: Ground) -> None:
    broken = ground.ports["a"].broken = StorageError("unreachable", "no answer")
    ground.ports["node"].unreadable["/s"] = StorageError("unreadable", "EIO")
    units = [unit("u%d" % i, ("a", i, {"x": 1})) for i in range(3)]
    found = planned(ground, *units, unit("two", ("node", "/s", DIRECTORY)), unit("two", ("mount", "/m", None)))
    assert codes(found) == [("conflict", "two"), ("unreachable", ""), ("unreadable", "two")]
    assert not [a for a in found.actions if a.port == "a"], "not to be seen is not to be absent"
    world = World(ground.ports)
    for _again in range(2):
        with pytest.raises(StorageError) as caught:
            world.look("a", [1])
        assert caught.value is broken
    assert ground.scans.count("a") == 2


def test_e1_a_declaration_that_cannot_look_is_refused(ground: Ground) -> None:
    ground.ports["a"].broken = StorageError("unreachable", "no answer")

    def declare(world: World) -> Any:
        world.look("a", [1])

    with pytest.raises(Refusals) as caught:
        converge(declare, ground.ports, Options(), time.monotonic)
    assert [e.code for e in caught.value.errors] == ["unreachable"]


def test_e1_what_cannot_be_read_is_neither_there_nor_absent(ground: Ground) -> None:
    ground.ports["node"].unreadable["/s"] = StorageError("unreadable", "EIO")
    for value in (DIRECTORY, None):
        found = planned(ground, unit("one", ("node", "/s", value)))
        assert codes(found) == [("unreadable", "one")] and not found.actions
    found = planned(ground, unit("one", ("node", "/s/a", DIRECTORY)), unit("two", ("node", "/s/b", DIRECTORY)))
    assert codes(found) == [("unreadable", "one")]
    assert codes(planned(ground, unit("one", ("node", "/s/a", None)))) == [("unreadable", "one")], (
        "it would stay unsaid"
    )
    ground.ports["node"].unreadable["/s"] = StorageError("unsafe_path", "a link")
    assert not codes(planned(ground, unit("one", ("node", "/s/a", None)))), "nobody asked for the parent"


def test_e1_entries_are_wanted_of_what_may_go_even_when_it_was_seen_before(ground: Ground) -> None:
    node = ground.ports["node"]
    node.want_entries = set()  # type: ignore[attr-defined]
    ground.rows["node", "/s"] = ground.rows["node", "/s/a"] = DIRECTORY
    world = World(ground.ports)
    world.look("node", ["/s/a", "/s", "/t"])
    plan([unit("one", ("node", "/s/a", None)), unit("two", ("node", "/t", DIRECTORY))], world)
    assert node.want_entries == {"/s/a", "/s"}  # type: ignore[attr-defined]
    assert ground.scans == ["node", "node"]
    plan([unit("one", ("node", "/s/a", None)), unit("two", ("node", "/t", DIRECTORY))], world)
    assert ground.scans == ["node", "node"], "the second plan of one look has them already"


def test_names_are_resolved_once_and_refused_by_entry(ground: Ground) -> None:
    def resolve(target: Any, value: Any) -> Any:
        if value["who"] == "nobody":
            raise StorageError("not_found", "no such user")
        return {"uid": 7}

    ground.ports["a"].resolve = resolve  # type: ignore[attr-defined]
    units = [
        unit("one", ("a", 1, {"who": "me"})),
        unit("two", ("a", 2, {"who": "nobody"})),
        unit("three", ("a", 3, None)),
    ]
    found = planned(ground, *units)
    assert codes(found) == [("not_found", "two")]
    assert ("a", 1, None, {"uid": 7}) in listed(found)


# -- E3: owners, merging, circles


def test_e3_a_key_or_a_cell_declared_twice_is_refused_by_name(ground: Ground) -> None:
    one, two = unit("one", ("a", 1, {})), unit("two", ("a", 1, {}))
    found = planned(ground, one, two)
    assert codes(found) == [("conflict", "two")] and "a 1 is declared by one too" in found.errors[0].message
    found = planned(ground, one, one._replace(cells=(), entry="again"))
    assert codes(found) == [("conflict", "again")]
    assert found.errors[0].message == "thing one is declared twice (one)"
    found = planned(ground, unit("one", ("a", (1, "x"), {}), ("a", (1, "x"), {})))
    assert codes(found) == [("conflict", "one")] and "a 1 x is" in found.errors[0].message
    found = planned(ground, one._replace(entry=""), two)
    assert "('thing', 'one')" in found.errors[0].message


def test_e3_circles_are_refused_by_name(ground: Ground) -> None:
    one = unit("one", ("a", 1, {}), needs=(("device", "y"),), provides=(("device", "x"),))
    two = unit("two", ("a", 2, {}), needs=(("device", "x"),), provides=(("device", "y"),))
    three = unit("three", ("a", 3, {}), needs=(("device", "z"),), provides=(("device", "z"),))
    found = planned(ground, one, three, two._replace(entry=""))
    assert codes(found) == [("conflict", "one")]
    assert found.errors[0].message == "these stand on each other in a circle: one, thing two"
    assert len(found.actions) == 3
    many = [unit("u%d" % i, ("a", i, {}), needs=(("d", i),), provides=(("d", (i + 1) % 20),)) for i in range(20)]
    assert planned(ground, *many).errors[0].message.count("u1") == 1 + 0 * len(many)


def test_e3_order_is_stable_and_follows_needs(ground: Ground) -> None:
    units = [unit("u%d" % i, ("a", i, {}), needs=(("d", i - 1),), provides=(("d", i),)) for i in (3, 1, 2, 9, 0, 7)]
    assert [a.target for a in planned(ground, *units).actions] == [9, 0, 7, 1, 2, 3]


def test_needs_in_path_space_are_by_component(ground: Ground) -> None:
    def order(kind: str, needed: str, provided: str) -> list[int]:
        needing = unit("one", ("a", 1, {}), needs=((kind, needed),))
        giving = unit("two", ("a", 2, {}), provides=(("path", provided),))
        return [a.target for a in planned(ground, needing, giving).actions]  # type: ignore[misc]

    stands, free = [2, 1], [1, 2]
    assert order("path", "/s/a/b", "/s/a") == order("path", "/s/a/b", "/s") == order("path", "/s/a", "/") == stands
    assert order("path", "/s/a", "/s/a") == order("above", "/s/a", "/s") == order("above", "/s/a/b/c", "/s") == stands
    assert order("above", "/s/a", "/s/a") == order("path", "/s/ab", "/s/a") == order("path", "/s", "/s/a") == free
    assert order("device", "/s/a", "/s") == free
    deep = "/" + "/".join("x" * 1500)
    assert order("path", deep, "/x") == stands


def test_e3_implied_cells_merge_or_conflict(ground: Ground) -> None:
    one = unit("one", Cell("a", 1, {"x": 1}, True))
    two = unit("two", Cell("a", 1, {"y": 2}, True), ("a", 2, {}))
    found = planned(ground, one, two)
    assert not found.errors and ("a", 1, None, {"x": 1, "y": 2}) in listed(found)
    clash = unit("three", Cell("a", 1, {"x": 2}, True))
    found = planned(ground, one, clash)
    assert codes(found) == [("conflict", "three")] and "needed as {'x': 1} and as {'x': 2}" in found.errors[0].message
    found = planned(ground, one, unit("four", Cell("a", 1, "text", True)))
    assert codes(found) == [("conflict", "four")] and found.errors[0].message.startswith("a 1 is needed as")
    assert found.errors[0].hint == "declare it once"
    assert codes(planned(ground, unit("four", Cell("a", 1, "text", True)), one)) == [("conflict", "one")]
    same = planned(ground, one, unit("five", Cell("a", 1, {"x": 1}, True)), unit("six", Cell("a", 1, {"x": 1}, True)))
    assert not same.errors and len(same.actions) == 1


def test_e3_what_is_implied_may_be_declared_but_not_otherwise(ground: Ground) -> None:
    mount = unit("mount", ("mount", "/s/m", {"x": 1}))
    own = unit("own", ("node", "/s/m", {"type": "directory", "mode": 0o700}))
    found = planned(ground, mount, own)
    assert not found.errors
    assert [(a.port, a.target) for a in found.actions] == [("node", "/s"), ("node", "/s/m"), ("mount", "/s/m")]
    assert found.actions[1].after == {"type": "directory", "mode": 0o700}
    found = planned(ground, mount, own._replace(cells=(Cell("node", "/s/m", None),)))
    assert codes(found) == [("conflict", "own")]
    assert found.errors[0].message == "node /s/m is declared absent, but mount needs it"
    found = planned(ground, mount._replace(entry=""), own._replace(cells=(Cell("node", "/s/m", None),)))
    assert found.errors[0].message == "node /s/m is declared absent, but ('thing', 'mount') needs it"
    found = planned(ground, mount, own._replace(cells=(Cell("node", "/s/m", {"type": "file"}),)))
    assert codes(found) == [("conflict", "own")]


# -- what is implied


def test_an_implied_cell_that_is_met_is_no_action(ground: Ground) -> None:
    for path in ("/s", "/s/a", "/s/b"):
        ground.rows["node", path] = {"type": "directory", "mode": 0o700}
    units = [unit("one", ("mount", "/s/a", {"x": 1})), unit("two", ("mount", "/s/b", {"x": 1}))]
    assert [a.port for a in planned(ground, *units).actions] == ["mount", "mount"]
    ground.rows["mount", "/s/a"] = ground.rows["mount", "/s/b"] = {"x": 1}
    found = planned(ground, *units)
    assert not found.actions and not found.conditional and not found.errors


def test_an_implied_parent_stands_beneath_what_is_declared_above_it(ground: Ground) -> None:
    """A shared parent of two mounts is itself beneath a declared directory: that one is first."""
    units = [
        unit("one", ("mount", "/s/d/x/one", {"x": 1})),
        unit("two", ("mount", "/s/d/x/two", {"x": 1})),
        unit("three", ("node", "/s/d", {"type": "directory", "mode": 0o700})),
    ]
    targets = [a.target for a in planned(ground, *units).actions if a.port == "node"]
    assert targets == ["/s", "/s/d", "/s/d/x", "/s/d/x/one", "/s/d/x/two"]


def test_what_stands_on_two_things_that_stand_on_one_comes_last() -> None:
    """A diamond of implications: the top implies two things, both imply the bottom."""
    ground = Ground()
    below = {"top": ("left", "right"), "left": ("bottom",), "right": ("bottom",), "bottom": ()}
    port = Rows("a", ground)
    port.implies = lambda target, value: [("a", t, {"x": 1}) for t in below[target]]  # type: ignore[attr-defined]
    order = [a.target for a in planned(ground, unit("one", ("a", "top", {"x": 1}))).actions]
    assert order[0] == "bottom" and order[-1] == "top" and len(order) == 4


def test_implied_only_where_it_is_needed_first() -> None:
    """A unit's implied cell comes right below the cell that needs it, not below the whole unit."""
    ground = Ground()
    Nodes("node", ground)
    Rows("a", ground)
    Mounts("mount", ground, behind=False)
    found = planned(ground, unit("one", ("a", 1, {}), ("mount", "/m", {"x": 1}), ("a", 2, {})))
    assert [a.target for a in found.actions] == [1, "/m", "/m", 2]


def test_released_parents_go_from_the_top_when_they_are_ours_and_empty(ground: Ground) -> None:
    for path, made in (("/s", False), ("/s/a", True), ("/s/a/b", True)):
        ground.rows["node", path] = {"type": "directory", "_made": made}
    gone = unit("one", ("node", "/s/a/b", None))
    assert [a.target for a in planned(ground, gone).actions] == ["/s/a/b", "/s/a"]
    ground.rows["node", "/s/a/other"] = DIRECTORY
    assert [a.target for a in planned(ground, gone).actions] == ["/s/a/b"]
    keeper = unit("two", ("node", "/s/a/c", DIRECTORY))
    del ground.rows["node", "/s/a/other"]
    assert [a.target for a in planned(ground, gone, keeper).actions] == ["/s/a/b", "/s/a/c"]
    both = unit("two", ("node", "/s/a", None))
    assert [a.unit for a in planned(ground, gone, both).actions] == [0, 1]
    del ground.rows["node", "/s/a/b"]
    assert [a.target for a in planned(ground, gone).actions] == ["/s/a"], "left over by a run that was killed"


def test_a_shared_parent_is_released_after_all_of_its_users(ground: Ground) -> None:
    for path in ("/s", "/s/a", "/s/a/b", "/s/a/c"):
        ground.rows["node", path] = {"type": "directory", "_made": True}
    units = [unit("one", ("node", "/s/a/b", None)), unit("two", ("node", "/s/a/c", None))]
    found = planned(ground, *units)
    assert [a.target for a in found.actions] in (["/s/a/c", "/s/a/b", "/s/a", "/s"], ["/s/a/b", "/s/a/c", "/s/a", "/s"])
    shared = found.actions[2].unit
    assert found.units[shared].key == ("implied", "node /s/a") and found.units[shared].entry == "one"
    assert shared in found.needs[0] and shared in found.needs[1]


# -- values


def test_a_partial_value_leaves_the_rest_as_it_is(ground: Ground) -> None:
    ground.rows["a", 1] = {"x": 1, "y": 2, "_seen": 3}
    assert not planned(ground, unit("one", ("a", 1, {"y": 2}))).actions
    assert not planned(ground, unit("one", ("a", 1, {}))).actions
    found = planned(ground, unit("one", ("a", 1, {"y": 5})))
    assert listed(found) == [("a", 1, {"x": 1, "y": 2, "_seen": 3}, {"x": 1, "y": 5, "_seen": 3})]
    assert planned(ground, unit("one", ("a", 1, {"z": 5}))).actions[0].after == {"x": 1, "y": 2, "_seen": 3, "z": 5}
    ground.rows["a", 1] = "text"
    assert listed(planned(ground, unit("one", ("a", 1, "other")))) == [("a", 1, "text", "other")]


def test_met_and_merged() -> None:
    assert met({"x": 1, "id": 7}, {"id": UNKNOWN}) and not met({"x": 1}, {"id": UNKNOWN})
    assert met({"x": 1, "_y": 1}, {"_y": 2}) and not met({"x": 1}, {"_y": 2})
    assert not met({"x": 1}, {"x": 2}) and not met({"x": 1}, "x") and met("x", "x") and not met(None, {})
    assert merged({"x": 1, "id": 7}, {"x": 2, "id": UNKNOWN}) == {"x": 2, "id": 7}
    assert merged({"x": 1}, {"id": UNKNOWN}) == {"x": 1, "id": UNKNOWN}
    assert merged(None, {"id": UNKNOWN}) == {"id": UNKNOWN} and merged({"x": 1}, "y") == "y"


def test_a_port_may_say_itself_what_is_met_and_what_follows(ground: Ground) -> None:
    port: Any = ground.ports["a"]
    ground.rows["a", 1] = {"x": 1}
    port.same = lambda target, now, declared: now["x"] > 0 and declared["x"] < 10
    port.merge = lambda target, now, declared: {"now": now, **declared}
    assert not planned(ground, unit("one", ("a", 1, {"x": 9}))).actions
    assert planned(ground, unit("one", ("a", 1, {"x": 10}))).actions[0].after == {"now": {"x": 1}, "x": 10}
    port.replaces = lambda target, before, after: after["x"] == 11
    found = planned(ground, unit("one", ("a", 1, {"x": 11})), unit("two", ("a", 2, {"x": 11})))
    assert listed(found) == [
        ("a", 1, {"x": 1}, None), ("a", 1, None, {"now": None, "x": 11}), ("a", 2, None, {"now": None, "x": 11})
    ]  # fmt: skip


# -- doors


@pytest.fixture
def house() -> Ground:
    """A room behind a door, a table that lies in no space behind it."""
    ground = Ground(lambda spot: ("door", "d") if spot[0] == "room" else None)
    Rows("door", ground, door="unknown")
    Rows("tent", ground, door="empty")
    Rows("room", ground)
    Rows("table", ground, behind=False)
    return ground


DOOR = unit("door", ("door", "d", {"open": 1}), provides=(("x", "d"),))


def test_what_lies_behind_a_closed_door_is_unknown_and_waits(house: Ground) -> None:
    house.rows["room", 1] = {"x": 1}
    house.under["room", 1] = {"x": 7}
    inside = unit("in", ("room", 1, {"x": 1}), ("table", 1, {"x": 1}), needs=(("x", "d"),))
    found = planned(house, inside, DOOR)
    assert listed(found) == [
        ("door", "d", None, {"open": 1}),
        ("room", 1, UNKNOWN, {"x": 1}),
        ("table", 1, None, {"x": 1}),
    ]
    assert [a.port for a in found.now] == ["door"] and found.conditional
    house.rows["door", "d"] = {"open": 1}
    found = planned(house, inside, DOOR)
    assert listed(found) == [("table", 1, None, {"x": 1})] and found.now == found.actions and not found.conditional


def test_only_what_the_door_stands_on_comes_before_it(house: Ground) -> None:
    house.rows["table", "shrinks"] = {"size": 5}
    house.rows["table", "goes"] = {"x": 1}
    base = unit(
        "base",
        ("table", 1, {}),
        ("table", "shrinks", {"size": 2}),
        provides=(("x", "base"),),
        consents={"allow_shrink": True},
    )
    door = unit(
        "door", ("table", 2, {}), ("door", "d", {}), ("table", 3, {}), needs=(("x", "base"),), provides=(("x", "d"),)
    )
    other = unit("other", ("table", 4, {}), ("table", "goes", None))
    inside = unit("in", ("room", 1, None), needs=(("x", "d"),))
    found = planned(house, inside, other, door, base)
    assert [a.target for a in found.now] == [1, 2, "d"]
    assert [a.target for a in found.actions] == [1, "shrinks", "goes", 4, 1, 2, "d", 3]
    assert found.actions[0].before is UNKNOWN and found.actions[0].after is None


def test_what_must_be_made_anew_beneath_a_door_is_removed_first(house: Ground) -> None:
    house.ports["table"].replaced = ("x",)
    house.rows["table", 1] = {"x": 1}
    door = unit("door", ("table", 1, {"x": 2}), ("door", "d", {}), provides=(("x", "d"),))
    found = planned(house, door, unit("in", ("room", 1, {}), needs=(("x", "d"),)))
    assert [(a.target, a.after) for a in found.now] == [(1, None), (1, {"x": 2}), ("d", {})]


def test_a_door_behind_a_door_waits_for_it(house: Ground) -> None:
    second = unit("second", ("room", "before", {}), ("tent", "t", {}), needs=(("x", "d"),), provides=(("x", "t"),))
    house.ports["tent"].door = "unknown"
    house.ports["tent"].behind = False
    found = planned(house, unit("in", ("room", 1, {}), needs=(("x", "t"),)), second, DOOR)
    assert [a.port for a in found.now] == ["door"]


def test_behind_a_fresh_door_there_is_nothing(house: Ground) -> None:
    house.rows["table", 1] = house.rows["tent", 9] = {"x": 1}
    house.ports["table"].behind = True
    tent = unit("tent", ("tent", "t", {}), provides=(("x", "t"),))
    found = planned(house, tent, unit("in", ("table", 1, {"x": 1}), ("table", 2, None), needs=(("x", "t"),)))
    assert listed(found) == [("tent", "t", None, {}), ("table", 1, None, {"x": 1})] and not found.conditional
    house.ports["table"].fresh = lambda target, place, mount: {"x": 1}  # of what a mount brings, and this is none
    assert listed(planned(house, tent, unit("in", ("table", 1, {"x": 1}), needs=(("x", "t"),)))) == listed(found)
    del house.ports["table"].fresh
    gone = planned(house, tent, unit("in", ("table", 1, None), needs=(("x", "t"),)))
    assert listed(gone) == [("tent", "t", None, {})] and ("table", 1) not in [
        ("table", t) for t in predicted(gone)["table"]
    ]


def test_an_unknown_door_within_a_fresh_one_stays_unknown(house: Ground) -> None:
    both = unit("both", ("door", "d", {}), ("tent", "t", {}), provides=(("x", "t"),))
    house.ports["tent"].behind = False
    found = planned(house, both, unit("in", ("room", 1, {}), needs=(("x", "t"),)))
    assert found.actions[-1].before is UNKNOWN


def test_what_is_named_by_something_behind_a_door_waits_with_all_of_it(house: Ground) -> None:
    """A line of a table lies in no space, but what to write into it is not known."""
    house.rows["table", 1] = house.rows["table", 2] = {"x": 1}
    inside = unit("in", ("table", 1, {"x": 2}), ("table", 2, None), needs=(("x", "d"),), behind=True)
    above = unit("above", ("table", 3, {}), needs=(("x", "in"),))
    found = planned(house, inside._replace(provides=(("x", "in"),)), above, DOOR)
    assert listed(found) == [
        ("table", 2, UNKNOWN, None), ("door", "d", None, {"open": 1}), ("table", 1, UNKNOWN, {"x": 2}),
        ("table", 3, None, {}),
    ]  # fmt: skip
    assert [a.port for a in found.now] == ["door"]
    house.rows["door", "d"] = {"open": 1}
    assert [a.before for a in planned(house, inside, DOOR).actions] == [UNKNOWN, UNKNOWN], "it still does not know"
    assert planned(house, inside, DOOR).now == [], "nothing is done before it does"
    assert [a.before for a in planned(house, inside._replace(behind=False), DOOR).actions] == [{"x": 1}, {"x": 1}]
    house.rows["room", 1] = {"x": 1}
    on_it = unit("on it", ("room", 1, {"x": 1}), needs=(("x", "in"),))
    assert len(planned(house, inside._replace(provides=(("x", "in"),)), on_it).actions) == 3, "nor what stands on it"


def test_a_door_that_waits_itself_hides_what_is_behind_it(house: Ground) -> None:
    """Even one that would open on nothing: it may be there already."""
    house.lies = lambda spot: None
    for number, name in enumerate(("t", "/t")):
        tent = unit("tent", ("tent", name, {}), provides=(("x", "t"),), behind=True)
        target = name + "/x" if number else 1
        house.rows["room", target] = {"x": 1}
        found = planned(house, tent, unit("in", ("room", target, {"x": 1}), needs=(("x", "t"),)))
        assert [a.before for a in found.actions] == [UNKNOWN, UNKNOWN] and found.now == []


def test_what_is_implied_lies_where_its_path_says(house: Ground) -> None:
    """The directory of a mount point is seen, whatever is to be mounted there; what lies beneath the mount is not."""
    Nodes("node", house)
    Mounts("mount", house, behind=False, door="unknown")
    house.rows["node", "/s"] = house.rows["node", "/s/m"] = DIRECTORY
    house.lies = lambda spot: None
    inside = unit("in", ("room", 1, {}), needs=(("x", "d"),), provides=(("x", "in"),))
    for behind in (True, False):
        over = unit("over", ("mount", "/s/m", {}), needs=(("x", "in"),), provides=(("path", "/s/m"),), behind=behind)
        top = unit("top", ("node", "/s/m/a/b", DIRECTORY), needs=(("path", "/s/m/a"),))
        found = planned(house, DOOR, inside, over, top)
        assert [(a.port, a.target, a.before) for a in found.actions[1:]] == [
            ("room", 1, UNKNOWN), ("mount", "/s/m", UNKNOWN if behind else None),
            ("node", "/s/m/a", UNKNOWN), ("node", "/s/m/a/b", UNKNOWN),
        ]  # fmt: skip
    declared = unit("over", ("node", "/s/m", DIRECTORY), needs=(("x", "in"),))
    assert [a.before for a in planned(house, DOOR, inside, declared).actions[1:]] == [UNKNOWN, UNKNOWN]


# -- refusals, and the whole


def test_e5_a_port_refuses_before_a_consent_is_asked_for(house: Ground) -> None:
    table: Any = house.ports["table"]
    table.destroys, table.strict = "wipe_token", True
    house.rows["table", 1] = house.rows["table", 2] = {}
    seen = []

    def refuse(target: Any, before: Any, after: Any, gone: Any) -> Any:
        seen.append(set(gone))
        return StorageError("in_use", "busy") if target == 1 else None

    table.refuse = refuse
    found = planned(
        house, unit("one", ("table", 1, None)), unit("two", ("table", 2, None)), unit("three", ("table", 3, {}))
    )
    assert codes(found) == [("not_blank", "two"), ("in_use", "one")]
    assert seen == [{("table", 1), ("table", 2)}] * 3


def test_a_plan_keeps_what_it_saw_and_foretells_what_comes(house: Ground) -> None:
    house.rows["table", 1] = {"x": 1}
    house.rows["table", 2] = {"x": 1}
    found = planned(house, unit("one", ("table", 1, {"x": 2}), ("table", 3, {}), ("table", 2, None)))
    assert found.world.rows["table"] == {1: {"x": 1}, 2: {"x": 1}}
    assert predicted(found)["table"] == {1: {"x": 2}, 3: {}}


def test_what_a_port_tells_of_another_is_foretold_there(ground: Ground) -> None:
    """Of what changes or comes; what goes tells nothing."""
    told = []

    def tells(target: Any, value: Any) -> Any:
        told.append(value)
        return "b", target, {"x": value["x"], "unheard": 1}

    Rows("b", ground)
    ground.ports["a"].tells = tells
    ground.rows.update({("a", 1): {"x": 1}, ("a", 2): {"x": 1}, ("b", 1): {"x": 1, "y": 1}, ("b", 2): {"x": 1}})
    others = (("b", 1, {"y": 1}), ("b", 2, {"x": 1}))
    found = planned(ground, unit("one", ("a", 1, {"x": 2}), ("a", 2, None), *others))
    assert predicted(found)["b"] == {1: {"x": 2, "y": 1}, 2: {"x": 1}} and told == [{"x": 2}]


def test_what_becomes_larger_beneath_is_seen_so_above(house: Ground) -> None:
    """In one plan a device grows and what fills it with it; what lies behind a closed door is not asked."""
    asked: list[Any] = []
    Rows("a", house)

    def resizes(target: Any, before: Any, after: Any) -> Any:
        asked.append(target)
        return after["size"] if before and before["size"] != after["size"] else None

    house.ports["table"].resizes = resizes
    house.ports["room"].resizes = resizes
    house.ports["a"].resized = lambda target, row, size: {**row, "fills": row["size"] == size}
    house.ports["a"].merge = lambda target, now, declared: {**(now or {}), **declared}
    house.rows["table", "/d"] = house.rows["table", "/e"] = {"size": 1}
    house.rows["a", "/d"] = house.rows["a", "/e"] = {"size": 1, "fills": True}
    disk = unit("disk", ("table", "/d", {"size": 2}), ("table", "/e", {"size": 1}), provides=(("path", "/d"),))
    content = unit("content", ("a", "/d", {"fills": True}), ("a", "/e", {"fills": True}), needs=(("path", "/d"),))
    for units in ((disk, content), (content, disk)):
        found = planned(house, *units)
        assert listed(found) == [
            ("table", "/d", {"size": 1}, {"size": 2}),
            ("a", "/d", {"size": 1, "fills": False}, {"size": 1, "fills": True}),
        ]
    del asked[:]
    behind = planned(house, DOOR, unit("in", ("room", "/x", {"size": 5}), needs=(("x", "d"),)))
    assert behind.actions[-1].before is UNKNOWN and asked == []


def test_what_becomes_smaller_beneath_is_told_what_does_so_above_first(house: Ground) -> None:
    told: list[Any] = []
    Rows("a", house)
    for name in ("a", "table"):
        house.ports[name].risk = lambda target, before, after: SHRINKS
        house.ports[name].lowers = lambda target, before, after: True
        house.ports[name].consent = lambda target, before, after: ("allow_shrink", True)
    house.ports["table"].resizes = lambda target, before, after: after["size"]
    house.ports["table"].refuse = lambda target, before, after, gone: told.append(gone)
    house.ports["a"].resized = lambda target, row, size: {**row, "fills": False}
    house.ports["a"].merge = lambda target, now, declared: {**now, **declared}
    house.rows["table", "/d"] = {"size": 3}
    house.rows["a", "/d"] = {"fills": True}
    disk = unit("disk", ("table", "/d", {"size": 2}), provides=(("path", "/d"),))
    content = unit("content", ("a", "/d", {"fills": True}), needs=(("path", "/d"),))
    found = planned(house, *(each._replace(consents={"allow_shrink": True}) for each in (content, disk)))
    assert [(a.port, a.target) for a in found.actions] == [("a", "/d"), ("table", "/d")] and found.errors == []
    assert told == [{("smaller a", "/d"), ("smaller table", "/d")}]


def test_a_row_that_could_not_be_read_is_not_compared(ground: Ground) -> None:
    def same(target: Any, row: Any, value: Any) -> bool:
        assert isinstance(row, dict)
        return True

    ground.ports["a"].same = same  # type: ignore[attr-defined]
    ground.ports["a"].unreadable[1] = StorageError("unreadable", "EIO")
    assert codes(planned(ground, unit("one", ("a", 1, {"x": 1})))) == [("unreadable", "one")]


def tenants(count: int) -> tuple[Ground, dict[str, Any], list[Unit]]:
    """Three cells each, with implied parents shared and not."""
    ground = Ground()
    ports = {
        "fstab": Rows("fstab", ground, behind=False),
        "mount": Mounts("mount", ground, behind=False),
        "node": Nodes("node", ground),
        "quota": Rows("quota", ground),
    }
    units = [
        Unit(
            ("tmpfs", path),
            (
                Cell("fstab", ("/etc/fstab", path), {"o": 1}),
                Cell("mount", path, {"size": 10}),
                Cell("quota", path, {"b": 1}),
            ),
            (("above", path),),
            (("path", path),),
            "tmpfs[%d]" % number,
        )
        for number, path in enumerate("/srv/t%d/tmp" % n for n in range(count))
    ]
    return ground, ports, units


def test_planning_takes_few_calls_for_a_unit() -> None:
    """The first plan (five actions a unit) and the idle one. Calls are counted, since no clock is as sure."""
    ground, ports, units = tenants(1000)
    for expected, most in ((5001, FIRST_CALLS), (0, IDLE_CALLS)):
        calls = 0

        def called(_frame: Any, event: str, _arg: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(called)
        try:
            found = plan(units, World(ports))
        finally:
            sys.setprofile(before)
        assert len(found.actions) == expected and not found.errors
        assert calls <= most * len(units), "%.1f calls a unit for %d actions" % (calls / len(units), expected)
        ground.rows.update({(a.port, a.target): a.after for a in found.actions})


def test_planning_ten_times_as_much_takes_ten_times_as_long() -> None:
    """No step of it grows with the square: that would be a hundred times."""
    took: dict[int, list[float]] = {1000: [], 10000: []}
    hosts = {count: tenants(count) for count in took}
    for expected in (5, 0):
        for _attempt in range(3):
            for count, (_ground, ports, units) in hosts.items():
                gc.collect()
                start = time.process_time()
                found = plan(units, World(ports))
                took[count].append(time.process_time() - start)
                assert len(found.actions) == expected * count + (expected > 0) and not found.errors
        assert min(took[10000]) <= 30 * min(took[1000]), took
        for count, (ground, ports, units) in hosts.items():
            ground.rows.update({(a.port, a.target): a.after for a in plan(units, World(ports)).actions})
            took[count].clear()


def test_the_collector_rests_only_while_planning(ground: Ground) -> None:
    seen = []
    ground.ports["a"].canon = lambda target: seen.append(gc.isenabled()) or target  # type: ignore[attr-defined]
    try:
        for enabled in (True, False):
            (gc.enable if enabled else gc.disable)()
            planned(ground, unit("one", ("a", 1, {})))
            assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert seen == [False, False]


def test_rows_that_tell_what_exists_stand_before_it_and_go_after_it(ground: Ground) -> None:
    record: Any = Rows("record", ground, behind=False)
    record.outlasts = True
    ground.rows.update({("record", "old"): {}, ("record", "kept"): {"x": 1}, ("a", "old"): {}, ("a", "gone"): {}})
    units = [
        unit("one", ("a", 1, {}), ("record", 1, {"x": 1})),
        unit("two", ("a", 2, {}), ("record", "kept", {"x": 2})),
        unit("three", ("a", "old", None), ("record", "old", None)),
        unit("four", ("a", "gone", None)),
    ]
    order = [(a.port, a.target) for a in planned(ground, *units).actions]
    assert order == [
        ("a", "gone"), ("a", "old"), ("record", "old"), ("record", 1), ("a", 1), ("a", 2), ("record", "kept")
    ]  # fmt: skip


# -- what is shared behind a door


def shared(ground: Ground, *units: Unit) -> list[Any]:
    found = planned(ground, *units)
    assert not found.errors, found.errors
    return [(a.target, "-" if a.after is None else "+") for a in found.actions]


@pytest.fixture
def tents() -> Ground:
    ground = Ground()
    Nodes("node", ground)
    Mounts("tent", ground, behind=False, door="empty")
    Rows("a", ground)
    return ground


def below(name: str, path: str, *value: Any) -> Unit:
    return unit(
        name, ("node", path, value[0] if value else DIRECTORY), needs=(("above", path),), provides=(("path", path),)
    )


def test_a_parent_shared_behind_a_door_is_made_behind_it(tents: Ground) -> None:
    """What lies at the same path before the door opens is another directory."""
    tents.rows["node", "/t/x"] = tents.rows["node", "/t"] = DIRECTORY
    door = unit("door", ("tent", "/t", {}), provides=(("path", "/t"),))
    made = shared(tents, below("one", "/t/x/1"), below("two", "/t/x/2"), door)
    assert made == [("/t", "+"), ("/t/x", "+"), ("/t/x/1", "+"), ("/t/x/2", "+")]


def test_a_parent_shared_with_the_unit_of_the_door_is_made_by_it(tents: Ground) -> None:
    """The mount and a directory on it are one unit, and another unit has a neighbour of that directory."""
    volume = unit("volume", ("tent", "/t", {}), ("node", "/t/x/1", DIRECTORY), provides=(("path", "/t"), ("name", "/")))
    other = below("other", "/t/x/2")
    other = other._replace(provides=(*other.provides, ("name", "/t/"), ("name", "/t")))
    for units in ((volume, other), (other, volume)):
        made = shared(tents, *units)
        assert made == [("/t", "+"), ("/t", "+"), ("/t/x", "+"), ("/t/x/1", "+"), ("/t/x/2", "+")]
    for path in ("/t", "/t/x", "/t/x/1", "/t/x/2"):
        tents.rows["node", path] = {"type": "directory", "_made": True}
    tents.rows["tent", "/t"] = {}
    gone = volume._replace(cells=tuple(c._replace(value=None) for c in volume.cells))
    removed = shared(tents, gone, below("other", "/t/x/2", None))
    assert removed == [("/t/x/2", "-"), ("/t/x/1", "-"), ("/t/x", "-"), ("/t", "-"), ("/t", "-")]


def test_a_thing_that_is_itself_what_is_shared_lies_behind_nobodys_door(tents: Ground) -> None:
    """Two mounts within a mount point's directory: that directory is before the mount, which only covers it."""
    first = unit("first", ("tent", "/s/t", {}), needs=(("above", "/s/t"),), provides=(("path", "/s/t"),))
    second = below("second", "/s/t/x")
    assert shared(tents, second, first) == [("/s", "+"), ("/s/t", "+"), ("/s/t", "+"), ("/s/t/x", "+")]


def test_a_parent_that_stays_does_not_keep_what_is_beneath_it_in_the_unit(tents: Ground) -> None:
    for path in ("/s", "/s/b"):
        tents.rows["node", path] = {"type": "directory"}
    tents.rows["a", 1] = {}
    assert shared(tents, unit("one", ("a", 1, None), ("node", "/s/b", None))) == [("/s/b", "-"), (1, "-")]


def test_a_door_whose_ground_is_unknown_waits(house: Ground) -> None:
    house.ports["tent"].door, house.ports["tent"].behind = "unknown", False
    middle = unit("middle", ("room", 1, {}), needs=(("x", "d"),), provides=(("x", "m"),))
    second = unit("second", ("tent", "t", {}), needs=(("x", "m"),), provides=(("x", "t"),))
    free = unit("free", ("tent", "free", {}), provides=(("x", "f"),))
    behind = unit("behind", ("room", 2, {}), needs=(("x", "f"),))
    found = planned(house, DOOR, middle, second, free, behind)
    assert sorted(str(a.target) for a in found.now) == ["d", "free"]


def test_a_change_beneath_a_door_comes_before_it(house: Ground) -> None:
    house.rows["table", 1] = {"x": 1}
    door = unit("door", ("table", 1, {"x": 2}), ("door", "d", {}), provides=(("x", "d"),))
    found = planned(house, door, unit("in", ("room", 1, {}), needs=(("x", "d"),)))
    assert [a.target for a in found.now] == [1, "d"]


def test_a_refusal_is_found_beside_what_is_unknown(house: Ground) -> None:
    house.rows["table", 1] = {"size": 5}
    found = planned(
        house, unit("in", ("room", 1, None), needs=(("x", "d"),)), DOOR, unit("one", ("table", 1, {"size": 2}))
    )
    assert codes(found) == [("would_shrink", "one")]


class Bare:
    """The least that is a port."""

    name = "bare"

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {1: {"x": 1}}

    def scan(self, targets: Any) -> Any:
        return {t: self.rows[t] for t in targets if t in self.rows}

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        return "reversible"


def test_a_port_need_not_offer_more_than_it_must(house: Ground) -> None:
    ports = {**house.ports, "bare": Bare()}
    behind = unit("in", ("bare", 1, {"x": 2}), needs=(("x", "d"),))
    found = plan([unit("one", ("bare", 1, {"x": 2}), ("bare", 2, {}))], World(ports))
    assert listed(found) == [("bare", 1, {"x": 1}, {"x": 2}), ("bare", 2, None, {})] and not found.errors
    assert plan([DOOR, behind], World(ports)).actions[1].before is UNKNOWN


# -- cells of one port that stand for those of another


def test_a_cell_stands_for_the_same_thing_seen_through_another_port(ground: Ground) -> None:
    Rows("data", ground).stands_for = "node"  # type: ignore[attr-defined]
    below = unit("volume", ("data", "/s", {"size": 1}))
    found = planned(ground, unit("tree", ("node", "/s/t", DIRECTORY)), below)
    assert [(a.port, a.target) for a in found.actions] == [("data", "/s"), ("node", "/s/t")], "it is not made twice"
    assert not found.errors and found.needs[0] == {1}


def test_what_a_cell_stands_for_is_not_released_from_beneath_it(ground: Ground) -> None:
    Rows("data", ground).stands_for = "node"  # type: ignore[attr-defined]
    ground.rows["node", "/s"] = ground.rows["node", "/s/t"] = DIRECTORY
    ground.rows["data", "/s"] = {"size": 1}
    found = planned(ground, unit("volume", ("data", "/s", {"size": 1})), unit("tree", ("node", "/s/t", None)))
    assert [(a.port, a.target) for a in found.actions] == [("node", "/s/t")] and found.needs[1] == {0}


def test_a_world_lists_everything_once(ground: Ground) -> None:
    ground.rows["a", 1], ground.rows["a", 2] = {"x": 1}, {"x": 2}
    world = World(ground.ports)
    assert world.everything("a") == world.everything("a") == {1: {"x": 1}, 2: {"x": 2}}
    again = plan([unit("one", ("a", 1, {"x": 3}))], world).gathered
    assert again is None, "what is declared may depend on it: it is declared anew the next time"
    assert world.look("a", [1, 3]) == {1: {"x": 1}, 2: {"x": 2}}
    assert ground.scans == ["a"], "what was listed whole is not looked for again"


# -- what a cell says it is missing


def test_what_nobody_brings_is_refused_before_anything_is_done(ground: Ground) -> None:
    lacking = {"x": 1, "_missing": "/dev/nowhere"}
    assert codes(planned(ground, unit("one", ("a", 1, lacking)))) == [("not_found", "one")]
    assert not planned(ground, unit("one", ("a", "/dev/nowhere", {"x": 2}), ("a", 1, lacking))).errors, "it is made"
    implying = unit("two", ("node", "/dev/nowhere/deeper", DIRECTORY))
    assert codes(planned(ground, implying, unit("one", ("a", 1, lacking)))) == [("not_found", "one")], "in no order"
    giving = implying._replace(provides=(("path", "/dev/nowhere"),))
    stands = unit("one", ("a", 1, lacking), needs=(("path", "/dev/nowhere"),))
    assert not planned(ground, stands, giving).errors, "the root of a tree comes with the tree"
    ground.rows["node", "/dev/nowhere"] = ground.rows["node", "/dev/nowhere/deeper"] = DIRECTORY
    assert codes(planned(ground, stands, giving)) == [("not_found", "one")], "nobody makes it"
    ground.rows.clear()
    above = unit("two", ("a", 2, {"x": 2}), provides=(("path", "/dev"),))
    below = unit("one", ("a", 1, lacking), needs=(("path", "/dev/nowhere"),))
    assert codes(planned(ground, above, below)) == [("not_found", "one")], "what is above does not bring it"
    ground.ports["a"].behind = False
    ground.ports["a"].opens = lambda target, before, after: "unknown" if target == 2 else None
    assert not planned(ground, above, below).errors, "it may come with what opens beneath it"


def test_only_what_lies_beneath_a_fresh_mount_is_hidden_by_it(ground: Ground) -> None:
    ground.rows.update({("node", path): DIRECTORY for path in ("/m", "/m/x", "/s", "/s/x")})
    ground.ports["mount"].opens = lambda target, before, after: "empty" if target == "/m" else "unknown"
    fresh = unit("one", ("mount", "/m", {"x": 1}), provides=(("path", "/m"),))
    above = unit("two", ("node", "/m/x", DIRECTORY), ("mount", "/s/x", {"x": 1}), needs=(("path", "/m/x"),))
    made = [(a.port, a.target) for a in planned(ground, fresh, above).actions]
    assert made == [("mount", "/m"), ("node", "/m/x"), ("mount", "/s/x")]


def test_a_door_knows_whether_it_was_open(ground: Ground) -> None:
    """What is mounted and only changes hides nothing; one that nobody sees counts as shut."""
    seen = []

    def opens(target: Any, before: Any, after: Any) -> Any:
        seen.append((target, before, after))
        return None if before else "unknown"

    ground.ports["mount"].opens = opens
    ground.rows["mount", "/m"], ground.rows["node", "/m"] = {"x": 2}, DIRECTORY
    one = unit("one", ("mount", "/m", {"x": 1}), provides=(("path", "/m"),))
    two = unit("two", ("mount", "/m/y", {"x": 3}), needs=(("path", "/m/y"),))
    found = planned(ground, one, two)
    assert seen == [("/m", {"x": 2}, {"x": 1}), ("/m/y", None, {"x": 3})] and not found.conditional
    del ground.rows["mount", "/m"], seen[:]
    found = planned(ground, one, two)
    assert seen == [("/m", None, {"x": 1}), ("/m/y", None, {"x": 3})] and found.conditional


def test_what_a_fresh_mount_hides_is_not_there_for_who_stands_on_it(ground: Ground) -> None:
    ground.rows.update({("node", path): DIRECTORY for path in ("/m", "/m/lib", "/s", "/s/x")})
    ground.ports["mount"].opens = lambda target, before, after: "empty" if target == "/m" else None
    fresh = unit("one", ("mount", "/m", {"x": 1}), provides=(("path", "/m"),))
    found = planned(ground, fresh, unit("two", ("mount", "/s/x", {"x": 1}), needs=(("path", "/m/lib"),)))
    assert codes(found) == [("not_found", "two")] and "/m/lib does not exist" in str(found.errors[0])


def test_what_a_fresh_mount_brings_is_there_already(ground: Ground) -> None:
    """A port tells what stands in it; where others can write, nothing of ours is made in it."""
    seen = []

    def fresh(target: Any, place: Any, mount: Any) -> Any:
        seen.append((target, place, mount))
        return DIRECTORY if target == place else None

    ground.ports["node"].fresh = fresh
    ground.ports["mount"].opens = lambda target, before, after: "empty"
    one = unit("one", ("mount", "/m", {"x": 1}), ("node", "/m", DIRECTORY), provides=(("path", "/m"),))
    two = unit("two", ("node", "/m/x", DIRECTORY), needs=(("path", "/m/x"),))
    made = [(a.port, a.target) for a in planned(ground, one, two).actions]
    assert made == [("mount", "/m"), ("node", "/m/x")]
    assert seen == [("/m", "/m", {"x": 1}), ("/m/x", "/m", {"x": 1})]
    theirs = unit("one", ("mount", "/m", {"_theirs": True}), provides=(("path", "/m"),))
    assert codes(planned(ground, theirs, two)) == [("unsafe_path", "two")]


def test_what_goes_with_its_content_is_needed_by_nobody(ground: Ground) -> None:
    Rows("whole", ground)
    ground.ports["whole"].stands_for = "node"  # type: ignore[attr-defined]
    ground.rows["whole", "/s"] = ground.rows["node", "/s"] = DIRECTORY
    goes = unit("goes", ("whole", "/s", None))
    found = planned(ground, goes, unit("needs", ("mount", "/s/m", {})))
    assert codes(found) == [("conflict", "goes")] and "declared absent, but needs needs it" in str(found.errors[0])
    assert not planned(ground, goes, unit("needs", ("mount", "/s/m", None))).errors
    stays = unit("stays", ("whole", "/s", DIRECTORY))
    assert not planned(ground, stays, unit("needs", ("mount", "/s/m", {}))).errors


# -- what is proven, and what is covered


def test_what_a_row_proves_is_not_asked(ground: Ground) -> None:
    ground.rows["node", "/m"], ground.rows["mount", "/m"] = DIRECTORY, {"x": 1}
    assert not planned(ground, unit("one", ("mount", "/m", {"x": 1}))).actions
    assert ground.scans == ["mount"], "what is mounted has a mount point"
    ground.scans.clear()
    found = planned(ground, unit("one", ("mount", "/m", {"x": 2})), unit("two", ("mount", "/n", {"x": 1})))
    assert listed(found) == [
        ("mount", "/m", {"x": 1}, {"x": 2}),
        ("node", "/n", None, {**DIRECTORY, "_made": True}),
        ("mount", "/n", None, {"x": 1}),
    ]
    assert sorted(ground.scans) == ["mount", "node"], "once each, where something differs"


def test_a_port_that_is_asked_anyway_is_asked_at_once(ground: Ground) -> None:
    ground.rows["mount", "/m"] = {"x": 1}
    ground.rows["node", "/s"] = DIRECTORY
    found = planned(ground, unit("one", ("mount", "/m", {"x": 1})), unit("two", ("node", "/s", DIRECTORY)))
    assert sorted(ground.scans) == ["mount", "node"]
    assert [(a.port, a.target) for a in found.actions] == [("node", "/m")], "and then nothing is taken for proven"


def test_what_is_absent_proves_nothing(ground: Ground) -> None:
    ground.rows["node", "/m"] = {**DIRECTORY, "_made": True}
    assert [(a.port, a.after) for a in planned(ground, unit("one", ("mount", "/m", None))).actions] == [("node", None)]
    ground.rows["node", "/m"] = DIRECTORY
    assert not planned(ground, unit("one", ("mount", "/m", None))).actions


def test_an_unreadable_row_proves_nothing(ground: Ground) -> None:
    ground.ports["mount"].unreadable["/m"] = StorageError("unreadable", "EIO")
    assert codes(planned(ground, unit("one", ("mount", "/m", {"x": 1})))) == [("unreadable", "one")]
    assert codes(planned(ground, unit("one", ("mount", "/m", None)))) == [("unreadable", "one")]


def test_ports_are_made_when_they_are_asked() -> None:
    made: list[str] = []

    def maker(name: str) -> Any:
        def make() -> Rows:
            made.append(name)
            return Rows(name)

        return make

    ports = Ports({name: maker(name) for name in ("a", "b", "c")})
    assert (list(ports), len(ports), made) == (["a", "b", "c"], 3, [])
    assert planned_with(ports, unit("one", ("b", 1, None)), unit("two", ("b", 2, None))) == []
    assert made == ["b"] and ports["b"] is ports["b"] and made == ["b"]
    with pytest.raises(LookupError, match="no port 'd' was given, only: a b c"):
        planned_with(ports, unit("one", ("d", 1, None)))


def planned_with(ports: Ports, *units: Unit) -> list[Any]:
    return listed(plan(list(units), World(ports)))


@pytest.fixture
def covered(ground: Ground) -> Ground:
    """Who stands on a mount sees ``root`` where others see ``node``."""
    Rows("root", ground)
    ground.ports["mount"].covers = ("node", "root")  # type: ignore[attr-defined]
    return ground


def test_who_stands_on_a_mount_means_what_is_mounted(covered: Ground) -> None:
    on = unit("on", ("node", "/m", {"x": 1}), needs=(("path", "/m"),), provides=(("path", "/m"),))
    mount = unit("mount", ("mount", "/m", {}), needs=(("above", "/m"),), provides=(("path", "/m"),))
    for units in ((on, mount), (mount, on)):
        assert not planned(covered, *units).errors
        assert [(a.port, a.target) for a in planned(covered, *units).actions] == [
            ("node", "/m"),
            ("mount", "/m"),
            ("root", "/m"),
        ]
    gone = mount._replace(cells=(Cell("mount", "/m", None),))
    assert [(a.port, a.after) for a in planned(covered, gone, on).actions] == [("node", {"x": 1})], "it is seen again"
    covered.rows["node", "/m"], covered.rows["mount", "/m"], covered.rows["root", "/m"] = DIRECTORY, {}, {"x": 1}
    leaves = on._replace(cells=(Cell("node", "/m", None),))
    assert planned(covered, mount, leaves).actions == [], "the root of what is mounted cannot go"
    assert [a.port for a in planned(covered, gone, leaves).actions] == ["mount"], "its mount point is not asked"


def test_who_makes_a_mount_point_has_no_say_about_what_covers_it(covered: Ground) -> None:
    mount = unit("mount", ("mount", "/m", {}), needs=(("above", "/m"),), provides=(("path", "/m"),))
    tree = unit("tree", ("node", "/m", {**DIRECTORY, "x": 1}), provides=(("path", "/"), ("path", "/m")))
    found = planned(covered, mount, tree)
    assert codes(found)[0] == ("conflict", "tree") and "/m is a mount point of this declaration" in str(found.errors[0])
    assert "root: /m" in found.errors[0].hint
    plain = planned(covered, mount, tree._replace(cells=(Cell("node", "/m", DIRECTORY),)))
    assert not plain.errors and [a.port for a in plain.actions] == ["node", "mount"]
    assert [plain.units[a.unit].entry for a in plain.actions] == ["tree", "mount"]
    own = unit("own", ("node", "/m", {**DIRECTORY, "x": 1}), ("mount", "/m", {}))
    found = planned(covered, own)
    assert [(a.port, a.after) for a in found.actions] == [("node", {**DIRECTORY, "x": 1}), ("mount", {})], "as it says"
    implied = unit("other", Cell("node", "/m", {"type": "directory"}, True), needs=(("path", "/m"),))
    assert [a.port for a in planned(covered, mount, implied).actions] == ["node", "mount"]
    takes = tree._replace(cells=(Cell("node", "/m", None),), provides=())
    assert codes(planned(covered, mount, takes)) == [("conflict", "tree")], "a mount needs the directory it is on"


def test_a_mount_that_is_only_implied_covers_nothing(covered: Ground) -> None:
    giver = unit("giver", Cell("mount", "/m", {}, True), ("a", 1, {}), provides=(("path", "/m"),))
    tree = unit("tree", ("node", "/m", {**DIRECTORY, "x": 1}), provides=(("path", "/m"),))
    found = planned(covered, giver, tree)
    assert not found.errors and [a.port for a in found.actions] == ["node", "mount", "a"]


# -- what may not be replaced


def test_what_is_another_thing_is_replaced_only_where_the_unit_allows_it(ground: Ground) -> None:
    Rows("b", ground).replaces = lambda target, before, after: True  # type: ignore[method-assign]
    ground.rows["b", 1] = {"x": 1}
    assert [a.after for a in planned(ground, unit("one", ("b", 1, {"x": 2}))).actions] == [None, {"x": 2}]
    found = planned(ground, unit("one", ("b", 1, {"x": 2}), consents={"replace": False}))
    assert codes(found) == [("conflict", "one")] and not found.actions
    error = found.errors[0]
    assert (error.message, error.hint) == ("something else stands at b 1", "remove it first")
    own = unit("one", ("b", 1, {"x": 2}), consents={"replace": False, "drift": "b"})
    found = planned(ground, own)
    assert [error.hint for error in found.errors] == ["set on_drift: replace"], "a kind with on_drift has its own words"


def test_what_is_missing_is_said_with_a_hint(ground: Ground) -> None:
    error = planned(ground, unit("one", ("a", 1, {"_missing": "/x"}))).errors[0]
    assert (error.message, error.hint) == ("/x does not exist", "make it, or declare what makes it too")
    twice = unit("one", ("a", 1, {"_missing": "/x"}), ("a", 2, {"_missing": "/y"}))
    assert codes(planned(ground, twice)) == [("not_found", "one")], "one entry is told once"


def test_what_a_unit_opens_itself_is_not_missing_in_it(ground: Ground) -> None:
    ground.rows["a", "/dev/x"] = {"x": 1}
    ground.ports["a"].opens = lambda target, before, after: "unknown" if target == "/dev/x" else None
    ground.ports["a"].behind = False
    within = ("a", "/dev/x", {"x": 2}), ("a", 1, {"_missing": "/dev/x"})
    assert not planned(ground, unit("one", *within)).errors
    lacking = unit("two", ("a", 2, {"_missing": "/dev/x"}))
    assert codes(planned(ground, unit("one", *within), lacking)) == [("not_found", "two")]


def test_an_implied_parent_is_no_source_and_a_refusal_is_said_once(ground: Ground) -> None:
    ground.rows["node", "/s"] = DIRECTORY
    lacking = unit("one", ("mount", "/s/a", {"x": 1, "_missing": "/x"}))
    found = planned(ground, lacking, unit("two", ("mount", "/s/b", {"x": 1})))
    assert codes(found) == [("not_found", "one")]
    ground.ports["a"].refuse = lambda target, before, after, gone: StorageError("protected", "no")
    assert codes(planned(ground, unit("one", ("a", 1, {"_missing": "/x"})))) == [("protected", "one")]


def test_a_declared_cell_may_satisfy_what_is_implied_in_its_ports_own_way(ground: Ground) -> None:
    def same(target: Any, now: Any, declared: Any) -> bool:
        return (
            target == "/s"
            and met(now, declared)
            or (now.get("type"), declared.get("type")) == ("subvolume", "directory")
        )

    ground.ports["node"].same = same
    found = planned(
        ground, unit("one", ("node", "/s", {"type": "subvolume"})), unit("two", ("node", "/s/b", DIRECTORY))
    )
    assert not found.errors and [(a.target, a.after) for a in found.actions][0] == ("/s", {"type": "subvolume"})
