# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for the fake and for every real port, so that the fake cannot lie.

A real port takes part through ``case_<port>()`` in a module of this folder: a context manager that yields the port, a
target, a first value that can be put from nothing, and a second one that it can be changed to (None: it cannot).
What needs the kernel of a guest is named ``guest_case_<port>()`` or, where it must have a policy, ``selinux_case_``, so
that the host too knows which tests there are.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    merged,
    met,
    state_of,
)
from ansible_collections.bulkhead.storage.tests.unit.world import Ground, Nodes, Rows

HERE = Path(__file__).resolve().parent
PACKAGE = "ansible_collections.bulkhead.storage.tests.unit.ports."


@contextlib.contextmanager
def fake_rows() -> Iterator[Any]:
    yield Rows("rows"), ("a", 1), {"x": 1, "size": 5}, {"x": 2, "size": 4}


@contextlib.contextmanager
def fake_nodes() -> Iterator[Any]:
    yield Nodes("node", Ground()), "/srv", {"type": "directory", "mode": 1}, {"type": "directory", "mode": 2}


def found(prefix: str = "case_") -> dict[str, Callable[[], Any]]:
    cases: dict[str, Callable[[], Any]] = {}
    for file in sorted(HERE.glob("[!_t]*.py")):
        module = importlib.import_module(PACKAGE + file.stem)
        for name in sorted(vars(module)):
            if name.startswith(prefix):
                cases["%s %s" % (file.stem, name[len(prefix) :])] = getattr(module, name)
    return cases


CASES: dict[str, Callable[[], Any]] = {"fake rows": fake_rows, "fake nodes": fake_nodes, **found()}


class Case:
    def __init__(self, port: Any, target: Any, first: Any, second: Any) -> None:
        self.port, self.target, self.first, self.second = port, target, first, second

    def row(self) -> Any:
        row = self.port.scan([self.target]).get(self.target)
        if isinstance(row, StorageError):
            raise row
        return row

    def holds(self, declared: Any) -> bool:
        """What the engine asks: is the declared value met by what is there?"""
        row = self.row()
        if row is None or declared is None:
            return row is declared
        same = getattr(self.port, "same", None)
        return bool(same(self.target, row, declared) if same else met(row, declared))

    def after(self, declared: Any) -> Any:
        """The whole value that the engine would put, as it is predicted from what is there now."""
        merge = getattr(self.port, "merge", None)
        return merge(self.target, self.row(), declared) if merge else merged(self.row(), declared)

    def put(self, declared: Any) -> Any:
        before, after = self.row(), None if declared is None else self.after(declared)
        self.port.put(self.target, before, after)
        return after

    def moved(self, before: Any, after: Any) -> None:
        """A put on what is not as it was is refused, and changes nothing.

        Where somebody else already did the very same, a port may also find that nothing is left to do.
        """
        standing = self.row()
        try:
            self.port.put(self.target, before, after)
            assert self.holds(after), "the world had moved, and was overwritten"
        except StorageError as error:
            assert error.code == "moved", error
        assert state_of(self.row()) == state_of(standing)


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if "fake" not in request.node.callspec.id and os.geteuid() != 0:
        pytest.skip("needs root")
    with request.param() as made:
        yield Case(*made)


def test_all_adapters_with_a_factory_are_here() -> None:
    assert len(CASES) >= 2 and all(callable(case) for case in CASES.values())


def test_it_is_a_port(case: Case) -> None:
    assert isinstance(case.port.name, str) and callable(case.port.scan) and callable(case.port.put)
    assert isinstance(getattr(case.port, "behind", True), bool) and isinstance(getattr(case.port, "slow", False), bool)


def test_what_is_absent_is_left_out(case: Case) -> None:
    assert case.port.scan([case.target]) == {}
    assert case.port.scan([]) == {}


def test_what_is_put_is_found(case: Case) -> None:
    after = case.put(case.first)
    assert case.holds(case.first) and case.holds(after)
    seen = case.row()
    if isinstance(after, dict):
        assert {k for k in after if not k.startswith("_")} <= seen.keys() | _creation(case), "predicted, but never seen"
    assert state_of(case.row()) == state_of(seen), "looking changes nothing"
    assert list(case.port.scan([case.target])) == [case.target]


def _creation(case: Case) -> set[str]:
    """Fields that matter only while a thing is made; a port that has them decides itself what is the same."""
    return set(case.first) if hasattr(case.port, "same") else set()


def test_a_change_is_found(case: Case) -> None:
    case.put(case.first)
    if case.second is not None:
        case.put(case.second)
        assert case.holds(case.second)
        assert not case.holds(case.first)


def test_what_is_removed_is_left_out(case: Case) -> None:
    case.put(case.first)
    case.put(None)
    assert case.port.scan([case.target]) == {}


def test_it_can_be_made_again(case: Case) -> None:
    case.put(case.first)
    case.put(None)
    case.put(case.first)
    assert case.holds(case.first)


def test_what_was_made_meanwhile_is_not_overwritten(case: Case) -> None:
    after = case.after(case.first)
    case.put(case.first)
    case.moved(None, after)
    if case.second is not None:
        case.moved(None, {**after, **case.second} if isinstance(case.second, dict) else case.second)


def test_what_is_gone_is_not_removed_twice(case: Case) -> None:
    case.put(case.first)
    seen = case.row()
    case.put(None)
    case.moved(seen, None)
    case.moved(seen, {**seen, **case.second} if isinstance(case.second, dict) else seen)
    assert case.port.scan([case.target]) == {}


def test_what_was_changed_meanwhile_is_neither_changed_nor_removed(case: Case) -> None:
    case.put(case.first)
    if case.second is None:
        return
    stale = case.row()
    case.put(case.second)
    case.moved(stale, None)
    third = {**stale, **case.first} if isinstance(case.first, dict) else case.first
    case.moved(stale, third)
    assert case.holds(case.second)


def test_undo_is_the_swapped_put(case: Case) -> None:
    case.put(case.first)
    first = case.row()
    if case.second is not None:
        after = case.put(case.second)
        if case.port.risk(case.target, first, after) == REVERSIBLE:
            case.port.put(case.target, case.row(), first)
            assert state_of(case.row()) == state_of(first)
    if case.port.risk(case.target, None, first) == REVERSIBLE:
        case.port.put(case.target, case.row(), None)
        assert case.port.scan([case.target]) == {}


def test_risk_and_direction_are_pure_and_total(case: Case) -> None:
    after = case.put(case.first)
    row = case.row()
    values = [None, row, after] + ([case.after(case.second)] if case.second is not None else [])
    for before in (None, row):
        for later in values:
            if before is None and later is None:
                continue
            risks = [case.port.risk(case.target, before, later) for _again in range(2)]
            assert risks[0] == risks[1] and risks[0] in (REVERSIBLE, FORWARD, SHRINKS, DESTROYS)
            lowers = case.port.lowers(case.target, before, later)
            assert bool(lowers) == bool(case.port.lowers(case.target, before, later))
            assert lowers or later is not None, "removal is always from the top"
            assert not lowers or before is not None, "there is nothing beneath which to lower what is not there"
            if risks[0] in (SHRINKS, DESTROYS) and before is row and hasattr(case.port, "consent"):
                asked = case.port.consent(case.target, before, later)
                assert asked is None or asked[0] in ("wipe_token", "confirm", "allow_shrink", "absent")
    assert state_of(case.row()) == state_of(row)


def test_what_it_implies_and_refuses_is_pure(case: Case) -> None:
    after = case.put(case.first)
    row = case.row()
    if hasattr(case.port, "implies"):
        for value in (after, None):
            for name, target, _wanted in case.port.implies(case.target, value):
                assert isinstance(name, str) and hash(target) is not None
    if hasattr(case.port, "canon"):
        assert case.port.canon(case.port.canon(case.target)) == case.port.canon(case.target)
    if hasattr(case.port, "opens"):
        assert case.port.opens(case.target, None, after) in (None, "unknown", "empty")
        assert case.port.opens(case.target, row, None) is None, "what goes opens nothing"
    if hasattr(case.port, "refuse"):
        for gone in (set(), {(case.port.name, case.target)}):
            error = case.port.refuse(case.target, row, None, gone)
            assert error is None or isinstance(error, StorageError)
    assert state_of(case.row()) == state_of(row)
