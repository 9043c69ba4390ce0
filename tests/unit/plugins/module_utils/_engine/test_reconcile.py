# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying: walk back, doors, settling, the lock, threads and the journal, each on a world made for it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell, Entry, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import (
    Options,
    Report,
    converge,
    declare,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import World
from ansible_collections.bulkhead.storage.tests.unit.world import Ground, Killed, Mounts, Nodes, Rows


def unit(name: str, *cells: Any, on: tuple[str, ...] = (), **consents: Any) -> Unit:
    """Gives its own name and stands on the names in ``on``."""
    made = tuple(c if isinstance(c, Cell) else Cell(*c) for c in cells)
    return Unit(("thing", name), made, tuple(("x", o) for o in on), (("x", name),), name, consents)


@pytest.fixture
def ground() -> Ground:
    ground = Ground(lambda spot: ("door", "d") if spot[0] == "room" else None)
    for name in ("a", "b", "room"):
        Rows(name, ground)
    Rows("hard", ground, forward=True, destroys="absent")
    Rows("door", ground, door="unknown")
    return ground


def run(ground: Ground, *units: Unit, **options: Any) -> Report:
    return converge(lambda world: (list(units), []), ground.ports, Options(**{"workers": 1, **options}), time.monotonic)


def fails_on(ground: Ground, *spots: Any, code: str = "no_space") -> None:
    def fault(count: int, spot: Any) -> None:
        if spot in spots:
            raise StorageError(code, "%s fails" % (spot,))

    ground.before_put = fault


def puts(ground: Ground) -> list[Any]:
    return [(spot, after) for spot, _before, after in ground.log]


class Journal:
    """Its own maker. Remembers what it was told, and how many puts had been made by then."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.told: list[Any] = []

    def __call__(self) -> Journal:
        return self

    def begin(self, listed: list[Any], digest: str) -> str:
        self.told.append(("begin", [row["target"] for row in listed], digest, self.ground.puts))
        return "/journal/1"

    def step(self, index: int, outcome: str, sync: bool) -> None:
        self.told.append(("step", index, outcome, sync, self.ground.puts))

    def end(self, summary: dict[str, int]) -> None:
        self.told.append(("end", dict(summary), self.ground.puts))


# -- E7: walking back


def test_e7_undo_is_newest_first_and_stops_at_what_cannot_be_undone(ground: Ground) -> None:
    fails_on(ground, ("b", 5))
    report = run(ground, unit("one", ("a", 1, {}), ("hard", 2, {}), ("a", 3, {}), ("a", 4, {}), ("b", 5, {})))
    assert puts(ground) == [
        (("a", 1), {}), (("hard", 2), {}), (("a", 3), {}), (("a", 4), {}), (("a", 4), None), (("a", 3), None)
    ]  # fmt: skip
    assert report.summary == {"planned": 5, "applied": 2, "failed": 1, "undone": 2, "kept": 2, "skipped": 0}
    assert report.errors[0].entry == "one"
    assert report.errors[0].details["kept"] == ["create hard 2 (forward)", "create a 1 (reversible)"]
    assert report.rows["a"] == {1: {}} and report.rows["hard"] == {2: {}}


def test_e7_what_stands_on_a_failed_unit_is_skipped_and_others_go_on(ground: Ground) -> None:
    fails_on(ground, ("a", 2))
    units = [
        unit("one", ("a", 1, {}), ("a", 2, {}), ("a", 3, {})),
        unit("two", ("a", 4, {}), ("a", 5, {}), on=("one",)),
        unit("three", ("a", 6, {}), on=("two",)),
        unit("four", ("a", 7, {})),
    ]
    report = run(ground, *units)
    assert report.summary == {"planned": 7, "applied": 1, "failed": 1, "undone": 1, "kept": 0, "skipped": 4}
    assert ground.snapshot() == {("a", 7): {"id": 0}}
    assert "kept" not in report.errors[0].details


def test_e7_several_failures_are_all_told_in_the_order_of_the_declaration(ground: Ground) -> None:
    fails_on(ground, ("a", 1), ("a", 2))
    report = run(ground, unit("one", ("a", 1, {})), unit("two", ("a", 2, None)), unit("three", ("a", 3, {})))
    assert [e.entry for e in report.errors] == ["one"]
    ground.rows = {("a", 2): {}}
    report = run(ground, unit("one", ("a", 1, {})), unit("two", ("a", 2, None)), unit("three", ("a", 3, {})))
    assert [e.entry for e in report.errors] == ["one", "two"] and report.summary["failed"] == 2


def test_e7_what_could_not_be_torn_down_keeps_what_it_stands_on(ground: Ground) -> None:
    ground.rows = {**{("a", n): {} for n in range(1, 6)}, ("b", 6): {}}
    fails_on(ground, ("a", 3))
    report = run(
        ground,
        unit("base", ("a", 1, None)),
        unit("sibling", ("b", 6, None), on=("base",)),
        unit("top", ("a", 3, None), ("a", 2, None), on=("base",)),
        unit("higher", ("a", 4, None), on=("top",)),
        unit("other", ("a", 5, None)),
    )
    assert set(ground.rows) == {("a", 1), ("a", 2), ("a", 3), ("a", 4)}
    assert report.summary == {"planned": 6, "applied": 2, "failed": 1, "undone": 2, "kept": 0, "skipped": 1}


def test_e7_what_is_gone_beneath_comes_back_before_what_stood_on_it(ground: Ground) -> None:
    """``top`` takes one thing down and puts another up; when that fails, ``base``, gone meanwhile, comes back first."""
    ground.rows = {("a", 1): {}, ("b", 2): {}}
    ground.ports["b"].stands = lambda target, value: [("a", 1)]
    fails_on(ground, ("a", 3))
    report = run(ground, unit("base", ("a", 1, None)), unit("top", ("b", 2, None), ("a", 3, {}), on=("base",)))
    assert puts(ground) == [(("b", 2), None), (("a", 1), None), (("a", 1), {}), (("b", 2), {})]
    assert report.summary["undone"] == 2 and report.summary["kept"] == 0


def test_e7_a_unit_made_anew_is_not_put_back_for_the_sake_of_one_above_it(ground: Ground) -> None:
    ground.rows = {("a", 1): {"x": 1}, ("b", 2): {}}
    ground.ports["a"].replaced = ("x",)
    fails_on(ground, ("a", 3))
    run(ground, unit("base", ("a", 1, {"x": 2})), unit("top", ("b", 2, None), ("a", 3, {}), on=("base",)))
    assert ground.snapshot() == {("a", 1): {"x": 2, "id": 0}, ("b", 2): {"id": 0}}


def test_e7_a_unit_that_stays_up_holds_what_is_to_be_made_anew_beneath_it(ground: Ground) -> None:
    ground.rows = {("a", 1): {"x": 1}, ("b", 2): {}}
    ground.ports["a"].replaced = ("x",)
    fails_on(ground, ("b", 2))
    units = [
        unit("base", ("a", 1, {"x": 2})),
        unit("top", ("b", 2, None), on=("base",)),
        unit("new", ("b", 3, {}), on=("base",)),
    ]
    report = run(ground, *units)
    assert ground.snapshot() == {("a", 1): {"x": 1, "id": 0}, ("b", 2): {"id": 0}}
    assert report.summary["skipped"] == 3 and not ground.log


def test_e7_nothing_is_put_back_on_what_stays_gone(ground: Ground) -> None:
    """Its own removal cannot be undone, so what stood on it is kept as it is: gone."""
    ground.rows = {("hard", 1): {}, ("a", 2): {}, ("b", 3): {}}
    fails_on(ground, ("b", 4))
    units = [
        unit("base", ("b", 4, {}), ("hard", 1, None), absent=True),
        unit("top", ("a", 2, None), on=("base",)),
        unit("other", ("b", 3, None)),
    ]
    report = run(ground, *units)
    assert ground.rows == {}
    assert report.errors[0].details["kept"] == ["remove hard 1 (destroys)", "remove a 2 (reversible)"]
    assert report.summary["kept"] == 2 and report.summary["applied"] == 3


def test_e7_what_stood_on_something_that_stands_is_put_back(ground: Ground) -> None:
    ground.rows = {("a", 2): {}}
    fails_on(ground, ("b", 4))
    report = run(ground, unit("base", ("hard", 1, {}), ("b", 4, {})), unit("top", ("a", 2, None), on=("base",)))
    assert set(ground.rows) == {("hard", 1), ("a", 2)}
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)"]


def test_e7_a_door_stays_open_beneath_what_cannot_be_undone(ground: Ground) -> None:
    """The lower unit fails at last, tearing down, when one above it has long done what is kept."""
    Rows("second", ground, door="unknown")
    Rows("far", ground)
    ground.lies = lambda spot: {"hard": ("door", "d"), "second": ("door", "d"), "far": ("second", 2)}.get(spot[0])
    ground.rows = {("a", 5): {}}
    units = [
        unit("base", ("a", 5, None), ("a", 6, {}), ("door", "d", {})),
        unit("top", ("hard", 1, {}), ("second", 2, {}), on=("base",)),
        unit("far", ("far", 3, {}), on=("top",)),
    ]
    fails_on(ground, ("a", 5))
    report = run(ground, *units)
    assert set(ground.rows) == {("a", 5), ("a", 6), ("door", "d"), ("hard", 1)}
    assert report.errors[0].details["kept"] == [
        "create hard 1 (forward)", "create door d (reversible)", "create a 6 (reversible)"
    ]  # fmt: skip


def test_e7_a_stranger_is_not_undone(ground: Ground) -> None:
    def stranger(count: int, spot: Any) -> None:
        ground.rows["a", 1] = {"x": "theirs"}

    ground.after_put = stranger
    fails_on(ground, ("b", 2))
    report = run(ground, unit("one", ("a", 1, {"x": 1}), ("b", 2, {})))
    assert ground.rows == {("a", 1): {"x": "theirs"}} and report.summary["kept"] == 1


def test_e7_what_lies_beneath_something_kept_is_kept(ground: Ground) -> None:
    """A door's unit fails late, when one above it already did what cannot be undone: the door stays as it is."""
    second = Rows("second", ground, door="unknown")
    far = Rows("far", ground)
    ground.lies = lambda spot: {"hard": ("door", "d"), "second": ("door", "d"), "far": ("second", 2)}.get(spot[0])
    units = [
        unit("base", ("door", "d", {}), ("room", 9, {})),
        unit("top", ("hard", 1, {}), ("second", 2, {}), on=("base",)),
        unit("far", ("far", 3, {}), on=("top",)),
    ]
    assert second.door and far.behind
    fails_on(ground, ("second", 2))
    report = run(ground, *units)
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)"]
    assert set(ground.rows) == {("door", "d"), ("room", 9), ("hard", 1)}


def test_e7_an_undo_that_fails_is_told_and_ends_the_walk(ground: Ground) -> None:
    def fault(count: int, spot: Any) -> None:
        if count in (4, 5):
            raise StorageError("no_space", "full")

    ground.before_put = fault
    journal = Journal(ground)
    report = run(ground, unit("one", *[("a", n, {}) for n in range(1, 5)]), journal=journal)
    assert report.summary["undone"] == 0 and report.summary["kept"] == 3 and report.summary["applied"] == 3
    assert [e.message for e in report.errors] == ["full"]
    assert ("step", 3, "not undone (no_space): a 3", False, 5) in journal.told


def test_e7_implied_parents_of_failed_units_go_again(ground: Ground) -> None:
    Nodes("node", ground, stands=lambda target, value: [("node", u)] if (u := target.rpartition("/")[0]) else [])
    Mounts("mount", ground, behind=False, stands=lambda target, value: [("node", target)])
    fails_on(ground, ("mount", "/s/a/one"), ("mount", "/s/a/two"))
    units = [unit(n, ("mount", "/s/a/" + n, {"x": 1})) for n in ("one", "two")]
    report = run(ground, *units)
    assert ground.rows == {} and len(report.errors) == 2 and report.summary["undone"] == 4
    fails_on(ground, ("mount", "/s/a/one"))
    run(ground, *units)
    assert set(ground.rows) == {("node", "/s"), ("node", "/s/a"), ("node", "/s/a/two"), ("mount", "/s/a/two")}
    ground.rows = {}
    fails_on(ground, ("node", "/s/a"))
    report = run(ground, *units)
    assert ground.rows == {} and [e.entry for e in report.errors] == ["one"] and report.summary["skipped"] == 4


def test_e7_a_choice_of_the_world_is_undone_too(ground: Ground) -> None:
    fails_on(ground, ("b", 2))
    run(ground, unit("one", ("a", 1, {"id": UNKNOWN}), ("b", 2, {})))
    assert ground.rows == {}


def test_e7_a_defect_of_a_port_is_a_failure_like_any_other(ground: Ground) -> None:
    def fault(count: int, spot: Any) -> None:
        if spot == ("b", 2):
            raise ZeroDivisionError("oops")

    ground.before_put = fault
    report = run(ground, unit("one", ("a", 1, {}), ("b", 2, {})))
    assert str(report.errors[0]) == "one: b 2: ZeroDivisionError: oops" and report.errors[0].code == "failed"
    assert ground.rows == {}


# -- doors


INSIDE = unit("in", ("room", 1, {}), on=("door",))
DOOR = unit("door", ("door", "d", {}))


def test_a_door_that_does_not_open_holds_back_what_lies_behind_it_and_nothing_else(ground: Ground) -> None:
    ground.rows["a", 3] = {}
    fails_on(ground, ("door", "d"))
    report = run(ground, INSIDE, DOOR, unit("free", ("a", 2, {}), ("a", 3, None)))
    assert report.summary == {"planned": 4, "applied": 2, "failed": 1, "undone": 0, "kept": 0, "skipped": 1}
    assert set(ground.rows) == {("a", 2)} and [e.entry for e in report.errors] == ["door"]


def test_nothing_goes_from_beneath_what_is_still_unknown(ground: Ground) -> None:
    ground.rows["a", 1] = {"size": 5}
    fails_on(ground, ("door", "d"))
    base = unit("base", ("a", 1, {"size": 2}), allow_shrink=True)
    report = run(
        ground, base, unit("door", ("door", "d", {}), on=("base",)), unit("in", ("room", 1, None), on=("door",))
    )
    assert ground.rows["a", 1] == {"size": 5} and report.summary["skipped"] == 2 and report.summary["applied"] == 0


def test_e7_what_a_failing_put_has_done_is_counted_and_walked_back(ground: Ground) -> None:
    def late(count: int, spot: Any) -> None:
        if spot == ("b", 5):
            ground.after_put = lambda count, spot: None
            raise StorageError("failed", "told too late")

    for before, after in ((None, {"x": 1}), ({"x": 0}, {"x": 1}), ({"x": 0}, None)):
        ground.rows = {spot: value for spot, value in {("b", 5): before}.items() if value is not None}
        ground.after_put = late
        report = run(ground, unit("one", ("b", 5, after), ("a", 1, {})))
        assert [e.code for e in report.errors] == ["failed"] and "kept" not in report.errors[0].details
        assert ground.rows.get(("b", 5)) == before and ("a", 1) not in ground.rows
        assert (report.summary["failed"], report.summary["undone"], report.summary["applied"]) == (1, 1, 0)


def test_e7_what_is_lent_goes_back_when_all_it_was_lent_to_fail(ground: Ground) -> None:
    ground.rows["a", 1] = {"x": 0}
    own = unit("own", ("a", 2, {}))
    lent = unit("lent", ("a", 1, {"x": 1}), on=("own",))._replace(lent=True)
    two = unit("one", ("b", 1, {}), on=("lent",)), unit("two", ("b", 2, {}), on=("lent",))
    fails_on(ground, ("b", 1))
    assert run(ground, own, lent, *two).summary["undone"] == 0
    assert ground.rows == {("a", 1): {"x": 1}, ("a", 2): {}, ("b", 2): {}}
    ground.rows = {("a", 1): {"x": 0}}
    fails_on(ground, ("b", 1), ("b", 2))
    assert run(ground, own, lent, *two).summary["undone"] == 1
    assert ground.rows == {("a", 1): {"x": 0}, ("a", 2): {}}, "what is its own stays"
    ground.rows = {("a", 1): {"x": 0}}
    assert not run(ground, lent).errors and ground.rows["a", 1] == {"x": 1}, "to nobody"


def test_e7_what_is_lent_stays_beneath_what_is_half_done(ground: Ground) -> None:
    def half(count: int, spot: Any) -> None:
        if spot == ("hard", 1):
            ground.rows["hard", 1] = {"x": "half"}
            raise StorageError("failed", "it died")

    ground.before_put = half
    lent = unit("lent", ("a", 1, {"x": 1}))._replace(lent=True)
    report = run(ground, lent, unit("one", ("hard", 1, {"x": 1}), on=("lent",)))
    assert report.summary["undone"] == 0 and ground.rows == {("a", 1): {"x": 1}, ("hard", 1): {"x": "half"}}


def test_e7_whether_a_failing_put_is_done_its_port_says(ground: Ground) -> None:
    """What is declared and what is seen may be two words for one thing."""

    def late(count: int, spot: Any) -> None:
        ground.after_put = lambda count, spot: None
        ground.rows[spot] = {"x": "one"}
        raise StorageError("failed", "told too late")

    def same(target: Any, row: Any, value: Any) -> bool:
        assert row is not None and value is not None, "a port is not asked whether nothing is the same"
        return says and bool(row["x"] == "one")

    for says in (True, False):
        ground.rows, ground.after_put = {("b", 5): {"x": 0}}, late
        ground.ports["b"].same = same  # type: ignore[attr-defined]
        report = run(ground, unit("one", ("b", 5, {"x": 1})))
        assert (report.summary["failed"], report.summary["kept"]) == (1, int(says)), "done, and not to be walked back"
    for before, after, left in (({"x": 0}, None, None), ({"x": 0}, {"x": 1}, None), ({"x": 0}, None, {"x": 7})):

        def halved(count: int, spot: Any, left: Any = left) -> None:
            ground.after_put = lambda count, spot: None
            ground.rows = {spot: left} if left else {}
            raise StorageError("failed", "told too late")

        ground.rows, ground.after_put = {("b", 5): before}, halved
        report = run(ground, unit("one", ("b", 5, after)))
        assert (report.summary["failed"], report.summary["undone"]) == (1, int(left is None and after is None))


def test_e7_a_port_that_cannot_look_any_more_after_a_put_that_failed(ground: Ground) -> None:
    def dark(count: int, spot: Any) -> None:
        ground.ports["hard"].broken = StorageError("unreachable", "gone")
        raise StorageError("failed", "it died")

    ground.before_put = dark
    report = run(ground, unit("one", ("hard", 1, {"x": 1})))
    assert [e.code for e in report.errors] == ["failed"]
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)"]


def test_what_cannot_be_flushed_is_told_with_what_was_done(ground: Ground) -> None:
    def full() -> None:
        raise StorageError("no_space", "not on the disk")

    ground.ports["a"].flush = full  # type: ignore[method-assign]
    report = run(ground, unit("one", ("a", 1, {})))
    assert [e.code for e in report.errors] == ["no_space"] and ("a", 1) in ground.rows
    assert (report.summary["applied"], report.summary["failed"]) == (1, 1)


def test_a_journal_is_begun_for_each_run(ground: Ground) -> None:
    begun: list[Journal] = []

    def maker() -> Journal:
        begun.append(Journal(ground))
        return begun[-1]

    run(ground, unit("one", ("a", 1, {})), journal=maker)
    assert [row[0] for row in begun[0].told] == ["begin", "step", "end"] and len(begun) == 1


def test_e7_what_another_made_is_not_taken_away(ground: Ground) -> None:
    """A put that finds the world moved has done nothing, though what it was to make is there."""

    def quicker(count: int, spot: Any) -> None:
        if spot == ("a", 2):
            ground.rows["a", 2] = {}
            raise StorageError("moved", "another run made it")

    ground.before_put = quicker
    report = run(ground, unit("one", ("a", 1, {}), ("a", 2, {})))
    assert set(ground.rows) == {("a", 2)}
    assert (report.summary["applied"], report.summary["undone"], report.summary["failed"]) == (0, 1, 1)


def test_e7_what_cannot_be_walked_back_stops_the_walk_even_half_done(ground: Ground) -> None:
    """A filesystem that was growing when its program died still needs the device beneath to be as long as it is."""

    def half(count: int, spot: Any) -> None:
        if spot == ("hard", 1):
            ground.rows["hard", 1] = {"x": "half"}
            raise StorageError("failed", "it died")

    ground.before_put = half
    journal = Journal(ground)
    report = run(ground, unit("one", ("a", 1, {}), ("hard", 1, {"x": 1}), ("a", 2, {})), journal=journal)
    assert [row[2] for row in journal.told if row[0] == "step"] == ["done a 1", "begin hard 1", "half done hard 1"]
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)", "create a 1 (reversible)"]
    assert set(ground.rows) == {("a", 1), ("hard", 1)}
    assert report.summary == {"planned": 3, "applied": 1, "failed": 1, "undone": 0, "kept": 2, "skipped": 1}


def test_e7_what_failed_before_it_did_anything_stops_nothing(ground: Ground) -> None:
    fails_on(ground, ("hard", 1))
    report = run(ground, unit("one", ("a", 1, {}), ("hard", 1, {"x": 1})))
    assert report.summary["undone"] == 1 and not ground.rows and "kept" not in report.errors[0].details


def test_e7_what_cannot_be_looked_at_after_it_failed_is_taken_for_half_done(ground: Ground) -> None:
    def dark(count: int, spot: Any) -> None:
        if spot[1] == 1 and spot[0] != "a":
            ground.ports[spot[0]].unreadable[1] = StorageError("unreadable", "EIO")
            raise StorageError("failed", "it died")

    ground.before_put = dark
    report = run(ground, unit("one", ("a", 1, {}), ("hard", 1, {"x": 1})), unit("two", ("a", 2, {}), ("b", 1, {})))
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)", "create a 1 (reversible)"]
    assert "kept" not in report.errors[1].details and set(ground.rows) == {("a", 1)}


def test_what_never_comes_to_know_its_name_is_not_done(ground: Ground) -> None:
    """With a door that opens on something else, with one that was open, with none at all."""
    waits = unit("waits", ("a", 1, {}), ("b", 1, {}), on=("door",))._replace(behind=True)
    for beneath in ([DOOR], [DOOR], []):
        report = run(ground, *beneath, waits, unit("above", ("a", 2, {}), on=("waits",)))
        assert [e.code for e in report.errors] == ["did_not_settle"] and report.summary["skipped"] == 3
        assert set(ground.rows) == {("door", "d")}


def test_a_refusal_behind_a_door_is_all_that_happens(ground: Ground) -> None:
    ground.rows["room", 1] = {"size": 5}
    before = ground.snapshot()
    journal = Journal(ground)
    report = run(
        ground, DOOR, unit("in", ("room", 1, {"size": 2}), on=("door",)), unit("far", ("a", 1, {})), journal=journal
    )
    assert [(e.code, e.entry) for e in report.errors] == [("would_shrink", "in")]
    assert "kept" not in report.errors[0].details and (report.summary, report.journal) == (
        journal.told[-1][1],
        "/journal/1",
    )
    assert ground.snapshot() == before and puts(ground) == [(("door", "d"), {}), (("door", "d"), None)]
    assert journal.told[-1] == (
        "end",
        {"planned": 3, "applied": 0, "failed": 0, "undone": 1, "kept": 0, "skipped": 0},
        2,
    )
    assert ground.ports["door"].flushes == 1 and ground.ports["a"].flushes == 0


def test_what_cannot_be_closed_again_is_told(ground: Ground) -> None:
    ground.rows["room", 1] = {"size": 5}
    units = [
        unit("base", ("a", 1, {}), ("hard", 1, {}), ("a", 2, {})),
        unit("door", ("door", "d", {}), on=("base",)),
        unit("in", ("room", 1, {"size": 2}), on=("door",)),
    ]
    journal = Journal(ground)
    report = run(ground, *units, journal=journal)
    assert (
        report.summary
        == journal.told[-1][1]
        == {"planned": 5, "applied": 2, "failed": 0, "undone": 2, "kept": 2, "skipped": 0}
    )
    assert report.errors[0].details["kept"] == ["create hard 1 (forward)", "create a 1 (reversible)"]
    assert len(report.listed) == 5 and report.rows["hard"] == {1: {}}, "what stands is told, and what was planned"
    assert set(ground.rows) == {("a", 1), ("hard", 1), ("room", 1)}


def test_failures_before_a_refusal_are_told_with_it(ground: Ground) -> None:
    ground.rows["room", 1] = {"size": 5}
    Rows("gate", ground, door="unknown")
    fails_on(ground, ("gate", 1))
    units = [
        unit("gate", ("a", 7, {}), ("gate", 1, {})),
        DOOR,
        unit("in", ("room", 1, {"size": 2}), on=("door",)),
        unit("far", ("a", 1, {}), on=("gate",)),
    ]
    report = run(ground, *units)
    assert [e.code for e in report.errors] == ["no_space", "would_shrink"] and report.summary["failed"] == 1
    assert report.errors[0].details == {} and set(ground.rows) == {("room", 1)}


def test_what_failed_is_not_refused_besides_and_the_rest_goes_on(ground: Ground) -> None:
    gate = Rows("gate", ground, door="unknown")

    def fault(count: int, spot: Any) -> None:
        if spot == ("gate", 1):
            gate.unreadable[1] = StorageError("unreadable", "nor can it be looked at now")
            raise StorageError("no_space", "it fails")

    ground.before_put = fault
    lost = unit("far", ("a", 1, {}), on=("gate",))
    report = run(ground, unit("gate", ("gate", 1, {})), lost, DOOR, INSIDE, unit("free", ("a", 2, {})))
    assert [(e.entry, e.code) for e in report.errors] == [("gate", "no_space")]
    assert set(ground.rows) >= {("a", 2), ("door", "d")} and report.summary["failed"] == 1


def test_a_door_that_falls_shut_is_not_opened_for_ever(ground: Ground) -> None:
    def shut(count: int, spot: Any) -> None:
        if spot == ("door", "d"):
            del ground.rows["door", "d"]

    ground.after_put = shut
    report = run(ground, DOOR, INSIDE)
    assert report.errors[0].code == "did_not_settle" and ground.puts <= 3
    assert report.summary["skipped"] == 1


# -- E8: settling


def test_e8_a_world_that_does_not_hold_still_is_told(ground: Ground) -> None:
    def meddle(count: int, spot: Any) -> None:
        ground.rows["a", 1] = {"x": 2}

    ground.after_put = meddle
    report = run(ground, unit("one", ("a", 1, {"x": 1}), ("a", 2, {})))
    error = report.errors[0]
    assert len(report.errors) == 1 and (error.code, error.entry) == ("did_not_settle", "one")
    assert error.message == "after every action the world still differs: change a 1"
    assert error.details["actions"][0]["before"] == {"x": 2} and error.details["actions"][0]["after"] == {"x": 1}
    assert report.rows["a"][1] == {"x": 2}


def test_e8_of_many_differences_three_are_named(ground: Ground) -> None:
    ground.after_put = lambda count, spot: ground.rows.clear()
    error = run(ground, unit("one", *[("a", n, {}) for n in range(5)])).errors[0]
    assert error.message.endswith("differs: create a 0; create a 1; create a 2") and len(error.details["actions"]) == 3
    assert error.hint == "something else changes it, or it cannot hold the declared value; see errors[].details"


def test_e8_a_world_that_can_no_longer_be_read_is_told(ground: Ground) -> None:
    def blind(count: int, spot: Any) -> None:
        ground.ports["a"].broken = StorageError("unreadable", "gone dark")

    ground.after_put = blind
    assert [e.code for e in run(ground, unit("one", ("a", 1, {}))).errors] == ["unreadable"]


def test_e8_a_failure_is_not_drowned_by_what_it_left_undone(ground: Ground) -> None:
    fails_on(ground, ("a", 1))
    assert [e.code for e in run(ground, unit("one", ("a", 1, {}))).errors] == ["no_space"]


def test_the_report_times_and_flushes(ground: Ground) -> None:
    ticks = iter(range(1000))
    report = converge(lambda w: ([unit("one", ("a", 1, {}))], []), ground.ports, Options(), lambda: float(next(ticks)))
    assert set(report.timings) == {"scan", "plan", "apply", "settle"} and min(report.timings.values()) > 0
    assert report.timings == {"scan": 2, "plan": 4, "apply": 1, "settle": 5}
    assert [p.flushes for p in ground.ports.values()] == [1, 0, 0, 0, 0]
    assert report.listed[0]["entry"] == "one" and report.journal == ""
    idle = converge(lambda w: ([unit("one", ("a", 1, {}))], []), ground.ports, Options(), time.monotonic)
    assert idle.summary == dict.fromkeys(idle.summary, 0) and idle.listed == [] and idle.rows["a"] == {1: {}}


def test_errors_of_a_declaration_come_first_and_stop_everything(ground: Ground) -> None:
    wrong = StorageError("invalid", "no")
    for check in (True, False):
        with pytest.raises(Refusals) as caught:
            units = [unit("one", ("hard", 1, {})), unit("one", ("a", 1, {}))]
            converge(lambda world, u=units: (u, [wrong]), ground.ports, Options(check=check), time.monotonic)  # type: ignore[misc]
        assert [e.code for e in caught.value.errors] == ["invalid", "conflict"]
        assert str(caught.value).startswith("no; one: thing one is declared twice")
    assert not ground.puts


# -- E11: the lock and the threads


class Lock:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.told: list[str] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self.told.append("taken after %d scans" % len(self.ground.scans))
        try:
            yield
        finally:
            self.told.append("left after %d puts" % self.ground.puts)


def test_e11_the_lock_is_taken_only_for_a_change(ground: Ground) -> None:
    lock = Lock(ground)
    one = unit("one", ("a", 1, {}))
    shown = run(ground, one, lock=lock, check=True).summary
    assert shown == {"planned": 1, "applied": 0, "failed": 0, "undone": 0, "kept": 0, "skipped": 0}
    assert lock.told == [] and Options() == (False, True, 4, None, None, None, None)
    run(ground, one, lock=lock)
    assert lock.told == ["taken after 2 scans", "left after 1 puts"]
    assert len(ground.scans) == 4, "scanned again once it is ours, and to settle"
    run(ground, one, lock=lock)
    assert len(lock.told) == 2
    with pytest.raises(Refusals):
        run(ground, one, one, lock=lock)
    assert len(lock.told) == 2


def test_e11_nothing_is_refused_because_somebody_else_is_half_way(ground: Ground) -> None:
    """What a look finds in the midst of another run is no reason; only wrong input is, which no look can mend."""
    lock, waited = Lock(ground), []

    @contextlib.contextmanager
    def until_the_other_is_done() -> Iterator[None]:
        waited.append(1)
        ground.ports["a"].broken = None
        yield

    def refused(code: str, text: str, **options: Any) -> None:
        ground.ports["a"].broken = StorageError(code, text)
        with pytest.raises(Refusals, match=text):
            run(ground, unit("two", ("a", 2, {})), lock=lock, **options)

    refused("unreadable", "half made", still=until_the_other_is_done, check=True)
    refused("invalid", "never", still=until_the_other_is_done)
    refused("unreadable", "for good", still=contextlib.nullcontext)
    refused("unreadable", "whoever is at work")
    assert lock.told == [] and not waited, "a refusal takes no lock, and check mode waits for nobody"
    report = run(ground, unit("one", ("b", 1, {})), lock=lock, still=until_the_other_is_done)
    assert (report.errors, ground.puts, waited) == ([], 1, [])
    report = run(ground, unit("two", ("a", 2, {})), lock=lock, still=until_the_other_is_done)
    assert (report.errors, ground.puts, waited) == ([], 2, [1])
    ground.ports["a"].broken = StorageError("unreadable", "half made")
    report = run(ground, unit("two", ("a", 2, {})), lock=lock, still=until_the_other_is_done)
    assert report.summary["planned"] == 0 and len(lock.told) == 4, "the other did it all: the lock is not taken"


def test_e11_who_waited_for_the_lock_looks_again(ground: Ground) -> None:
    journal = Journal(ground)

    @contextlib.contextmanager
    def behind_another() -> Iterator[None]:
        ground.rows["a", 1] = {}
        yield

    report = run(ground, unit("one", ("a", 1, {})), lock=behind_another, journal=journal)
    assert report.listed == [] and not ground.puts and journal.told == [] and report.journal == ""

    @contextlib.contextmanager
    def before_a_wrecker() -> Iterator[None]:
        ground.ports["a"].broken = StorageError("unreadable", "dark")
        yield

    with pytest.raises(Refusals):
        run(ground, unit("one", ("a", 1, None)), unit("two", ("b", 1, {})), lock=before_a_wrecker)
    assert not ground.puts


def test_e11_a_lock_that_is_not_to_be_had_is_the_answer(ground: Ground) -> None:
    @contextlib.contextmanager
    def held() -> Iterator[None]:
        if not ground.puts:
            raise StorageError("locked", "held by 7")
        yield

    with pytest.raises(StorageError, match="held by 7"):
        run(ground, unit("one", ("a", 1, {})), lock=held)
    assert not ground.puts


def test_what_keeps_every_run_from_beginning_is_refused_with_all_the_rest(ground: Ground) -> None:
    lock, asked = Lock(ground), []

    def ready() -> list[StorageError]:
        asked.append(ground.puts)
        return [StorageError("unsafe_path", "anybody may write there")]

    ground.rows["a", 1] = {"size": 5}
    shrinks = unit("one", ("a", 1, {"size": 2}))
    for check in (True, False):
        with pytest.raises(Refusals) as caught:
            run(ground, shrinks, unit("two", ("b", 1, {})), check=check, lock=lock, ready=ready)
        assert [e.code for e in caught.value.errors] == ["would_shrink", "unsafe_path"]
    assert asked == [0, 0] and lock.told == [] and not ground.puts
    run(ground, unit("one", ("a", 1, {"size": 5})), ready=ready)
    ground.ports["a"].broken = StorageError("unreadable", "dark")
    with pytest.raises(Refusals):
        run(ground, unit("one", ("a", 1, {"size": 5})), ready=ready)
    ground.ports["a"].broken = None
    assert asked == [0, 0], "where nothing is to be done nobody needs to begin"
    assert run(ground, unit("two", ("b", 1, {})), ready=lambda: []).summary["applied"] == 1


class Meeting(Rows):
    """A slow port whose puts only end when two of them are under way."""

    def __init__(self, ground: Ground) -> None:
        super().__init__("slow", ground, slow=1e-9)
        self.barrier = threading.Barrier(2)
        self.threads: set[int] = set()

    def put(self, target: Any, before: Any, after: Any) -> None:
        self.threads.add(threading.get_ident())
        if isinstance(target, int):
            self.barrier.wait(10)
        self.ground.put((self.name, target), before, after)


def test_e11_slow_puts_of_two_units_are_under_way_together(ground: Ground) -> None:
    port = Meeting(ground)
    report = run(ground, unit("one", ("slow", 1, {}), ("a", 1, {})), unit("two", ("slow", 2, {})), workers=2)
    assert not report.errors and len(port.threads) == 2 and threading.get_ident() not in port.threads


def test_e11_one_worker_and_quick_ports_use_no_thread(ground: Ground) -> None:
    port = Meeting(ground)
    del ground.ports["a"].slow
    run(ground, unit("one", ("slow", "x", {})), workers=1)
    assert port.threads == {threading.get_ident()}
    seen = []
    ground.before_put = lambda count, spot: seen.append(threading.get_ident())
    run(ground, unit("two", ("a", 1, {})), unit("three", ("slow", "x", None)), workers=8)
    assert set(seen) == {threading.get_ident()}


def test_e11_what_stands_on_a_slow_unit_waits_for_it(ground: Ground) -> None:
    Rows("slow", ground, slow=0.02)
    ground.ports["a"].stands = lambda target, value: [("slow", target)]
    units = [unit("a%d" % n, ("a", n, {}), on=("s%d" % n,)) for n in range(6)]
    units += [unit("s%d" % n, ("slow", n, {})) for n in range(6)]
    assert not run(ground, *units, workers=3).errors
    fails_on(ground, ("slow", 7))
    units = [unit("a7", ("a", 7, {}), on=("s7",)), unit("s7", ("b", 7, {}), ("slow", 7, {}))]
    report = run(ground, *units, unit("s8", ("slow", 8, {})), workers=3)
    assert report.summary == {"planned": 4, "applied": 1, "failed": 1, "undone": 1, "kept": 0, "skipped": 1}


def test_e11_a_slow_unit_begins_while_quick_ones_are_still_to_come(ground: Ground) -> None:
    begun, waited = threading.Event(), []
    Meeting(ground).put = lambda target, before, after: begun.set()  # type: ignore[method-assign]
    ground.before_put = lambda count, spot: waited.append(spot == ("a", 1) or begun.wait(10))
    units = [unit("s", ("slow", "x", {}), on=("one",)), unit("one", ("a", 1, {})), unit("two", ("a", 2, {}))]
    ground.ports["slow"].stands = lambda target, value: [("a", 1)]
    run(ground, *units, workers=2)
    assert waited == [True, True]


def test_e11_quick_ports_see_one_put_at_a_time() -> None:
    ground = Ground()
    Rows("slow", ground, slow=0.001)
    inside, together = [0], []

    class Quick(Rows):
        def put(self, target: Any, before: Any, after: Any) -> None:
            inside[0] += 1
            time.sleep(0.002)
            together.append(inside[0])
            inside[0] -= 1
            super().put(target, before, after)

    Quick("quick", ground)
    units = [unit("u%d" % n, ("slow", n, {}), ("quick", n, {})) for n in range(12)]
    assert not run(ground, *units, workers=6).errors and max(together) == 1


def test_e11_a_kill_in_a_thread_ends_the_run(ground: Ground) -> None:
    Rows("slow", ground, slow=0.001)

    def kill(count: int, spot: Any) -> None:
        if spot == ("slow", 1):
            raise Killed

    ground.after_put = kill
    with pytest.raises(Killed):
        run(ground, unit("one", ("slow", 1, {})), unit("two", ("a", 2, {}), on=("one",)), workers=2)
    assert ("a", 2) not in ground.rows


# -- E13: the journal


def test_e13_the_whole_plan_is_on_disk_first_and_what_cannot_be_undone_is_announced(ground: Ground) -> None:
    journal = Journal(ground)
    ground.rows["hard", 2] = {}
    report = run(
        ground, unit("one", ("a", (1, "x"), {}), ("hard", 1, {}), ("hard", 2, None), absent=True), journal=journal
    )
    assert report.journal == "/journal/1"
    assert journal.told == [
        ("begin", ["2", "1 x", "1"], report.digest, 0),
        ("step", 0, "begin hard 2", True, 0),
        ("step", 1, "done hard 2", False, 1),
        ("step", 2, "done a 1 x", False, 2),
        ("step", 2, "begin hard 1", True, 2),
        ("step", 3, "done hard 1", False, 3),
        ("end", report.summary, 3),
    ]


def test_e13_undoing_is_noted_and_nothing_is_written_for_nothing(ground: Ground) -> None:
    journal = Journal(ground)
    fails_on(ground, ("b", 2))
    run(ground, unit("one", ("a", 1, {}), ("b", 2, {})), journal=journal)
    steps = [told[2:4] for told in journal.told if told[0] == "step"]
    assert steps == [("done a 1", False), ("undone a 1", False)]
    idle = Journal(ground)
    run(ground, unit("one", ("a", 1, None)), journal=idle)
    run(ground, unit("one", ("a", 1, {})), journal=idle, check=True)
    assert idle.told == []


def test_e13_nothing_is_destroyed_that_could_not_be_announced(ground: Ground) -> None:
    ground.rows["hard", 1] = {}

    class Full(Journal):
        def step(self, index: int, outcome: str, sync: bool) -> None:
            if sync:
                raise StorageError("no_space", "the journal's disk is full")

    report = run(ground, unit("one", ("hard", 1, None), absent=True), journal=Full(ground))
    assert [e.code for e in report.errors] == ["no_space"] and ("hard", 1) in ground.rows


def test_e13_without_a_journal_nothing_begins(ground: Ground) -> None:
    class Refusing(Journal):
        def begin(self, listed: list[Any], digest: str) -> str:
            raise StorageError("no_space", "full")

    with pytest.raises(StorageError):
        run(ground, unit("one", ("a", 1, {})), journal=Refusing(ground))
    assert not ground.puts


def test_what_is_declared_by_what_was_seen_is_declared_again(ground: Ground) -> None:
    """Somebody else changed what the declaration depends on, before we had the lock."""

    def declare(world: Any) -> Any:
        return [unit("a", ("a", "x", {"size": 1 + len(world.look("b", ["y"]))}))], []

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        ground.rows["b", "y"] = {"size": 7}
        yield

    report = converge(declare, ground.ports, Options(workers=1, lock=lock), time.monotonic)
    assert (report.errors, puts(ground)) == ([], [(("a", "x"), {"size": 2})])


class Kind:
    """A resource that wants to know three things at once, and tells what it was shown."""

    KIND = "thing"

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def label(self, p: dict[str, Any]) -> str:
        return str(p["name"])

    def facts(self, p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
        if p.get("wrong") == "name":
            raise StorageError("invalid", "no name")
        return [("disk", p["name"]), ("disk", "shared")]

    def unit(self, p: dict[str, Any], look: Any) -> Unit:
        self.told.append((p["name"], sorted(look.declared)))
        if p.get("wrong") == "options":
            raise StorageError("conflict", "no such options").at("deeper")
        return Unit(("thing", p["name"]), ())


class Plain:
    """One that wants to know nothing."""

    KIND = "plain"
    label = Kind.label

    def unit(self, p: dict[str, Any], look: Any) -> Unit:
        return Unit(("plain", p["name"]), ())


class Beside(Plain):
    """One with which others come."""

    KIND = "beside"

    def beside(self, entries: list[Entry], look: Any) -> list[Entry]:
        return [*entries, Entry("come along", Plain(), {"name": "more"})]


def test_entries_become_units_in_a_world_that_was_asked_once() -> None:
    asked: list[Any] = []

    class Disk:
        def scan(self, targets: Any) -> dict[Any, Any]:
            asked.append(list(targets))
            return {}

    told: list[Any] = []
    kind, beside = Kind(told), Beside()
    given = [("a", kind, {}), ("b", kind, {"wrong": "name"}), ("c", kind, {"wrong": "options"}), ("d", beside, {})]
    entries = [Entry("[%s]" % name, resource, {"name": name, **more}) for name, resource, more in given]
    first = StorageError("invalid", "said before")
    units, errors = declare(World({"disk": Disk()}), entries, [first])
    assert [(unit.key, unit.entry) for unit in units] == [
        (("thing", "a"), "[a]"),
        (("plain", "d"), "[d]"),
        (("plain", "more"), "come along"),
    ]
    said = [(error.code, error.entry) for error in errors]
    assert said == [("invalid", ""), ("invalid", "[b]"), ("conflict", "deeper")]
    assert asked == [["a", "shared", "c", "shared"]], "and nothing under a name that is none"
    names = [("beside", "d"), ("plain", "more"), ("thing", "a"), ("thing", "b"), ("thing", "c")]
    assert told == [("a", names), ("c", names)]
