# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries that a task waits for: until when, what is done then, and what is told of all of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile, waiting
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Entry, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import SUMMARY, Report


def report(name: str, applied: int = 1, **more: Any) -> Report:
    listed = [{"what": name}] * applied
    summary = {**dict.fromkeys(SUMMARY, 0), "planned": applied, "applied": applied}
    times = {"scan": 1.0, "apply": 0.5}
    said = {"listed": listed, "digest": name, "summary": summary, "errors": [], "rows": {"job": {name: {}}}}
    return Report(**{**said, "journal": "of " + name if applied else "", "timings": times, **more})


class Jobs:
    """A resource whose entries end after some looks, and go or stay, well or not."""

    KIND = "job"

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.pauses: list[float] = []

    def over(self, p: dict[str, Any], ports: Any) -> bool:
        self.looks.append(p["id"])
        p["left"] -= 1
        return bool(p["left"] < 0)

    def leaves(self, p: dict[str, Any]) -> bool:
        return bool(p.get("leaves", False))

    def verdict(self, p: dict[str, Any], rows: Any) -> StorageError | None:
        assert rows == {"job": {"second": {}}}
        return StorageError("failed", "it ended with 3") if p.get("fails") else None


def waited(*params: dict[str, Any], **reports: Report) -> tuple[Report, Jobs, list[str]]:
    jobs, states = Jobs(), []
    entries = [Entry("jobs[%d]" % n, jobs, {"state": "finished", **p}) for n, p in enumerate(params)]
    to_come = [reports.get("second", report("second")), reports.get("third", report("third"))]

    def converged() -> Report:
        states.append(" ".join(entry.params["state"] for entry in entries))
        return to_come.pop(0)

    done = waiting.to_the_end(entries, {}, reports.get("first", report("first")), converged, jobs.pauses.append)
    return done, jobs, states


def test_each_is_looked_at_until_it_is_over_and_then_no_more() -> None:
    _done, jobs, states = waited({"id": "a", "left": 0}, {"id": "b", "left": 3})
    assert jobs.looks == ["a", "b", "b", "b", "b"] and states == ["finished finished"]
    assert jobs.pauses == pytest.approx([0.02, 0.03, 0.045])


def test_the_pause_is_never_longer_than_the_longest() -> None:
    _done, jobs, _states = waited({"id": "a", "left": 11})
    assert jobs.pauses[7] < 0.5 and jobs.pauses[8:] == [0.5, 0.5, 0.5]


def test_all_is_told_as_one() -> None:
    done, _jobs, states = waited({"id": "a", "left": 0, "leaves": True}, {"id": "b", "left": 0})
    assert states == ["finished finished", "absent finished"], "only who leaves goes"
    assert [action["what"] for action in done.listed] == ["first", "second", "third"]
    assert (done.digest, done.journal, done.rows) == ("first", "of first", {"job": {"second": {}}})
    assert (done.summary["planned"], done.summary["applied"], done.summary["failed"]) == (3, 3, 0)
    assert done.timings == {"scan": 3.0, "apply": 1.5} and done.errors == [] and done.ended == []


def test_the_digest_is_of_the_first_with_anything_to_do() -> None:
    done, _jobs, _states = waited({"id": "a", "left": 0}, first=report("first", 0))
    assert (done.digest, done.journal) == ("second", "of second")
    done, _jobs, _states = waited({"id": "a", "left": 0}, first=report("first", 0), second=report("second", 0))
    assert (done.digest, done.journal, done.listed) == ("first", "", [])


def test_who_failed_is_named_and_goes_all_the_same() -> None:
    done, _jobs, states = waited({"id": "a", "left": 0}, {"id": "b", "left": 0, "fails": True, "leaves": True})
    assert [(error.entry, error.code) for error in done.ended] == [("jobs[1]", "failed")]
    assert states[-1] == "finished absent" and done.errors == []


@pytest.mark.parametrize("leaves", [False, True])
def test_nothing_is_removed_after_a_failure(leaves: bool) -> None:
    wrong = StorageError("in_use", "somebody is in it")
    failed = report("second", errors=[wrong])
    done, _jobs, states = waited({"id": "a", "left": 0, "leaves": leaves}, second=failed)
    assert done.errors == [wrong] and states == ["finished"]
    assert SimpleNamespace(**done._asdict()).ended == []


class Port:
    """Holds what is put, or refuses it."""

    behind = False

    def __init__(self, broken: bool) -> None:
        self.rows: dict[Any, Any] = {}
        self.broken = broken

    def scan(self, targets: Any = None) -> dict[Any, Any]:
        return dict(self.rows)

    def put(self, target: Any, before: Any, after: Any) -> None:
        if self.broken:
            raise StorageError("failed", "it cannot")
        self.rows[target] = after

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return False

    def risk(self, target: Any, before: Any, after: Any) -> str:
        return "reversible"


class Awaited:
    """A resource that somebody waits for to the end."""

    KIND = "job"

    def __init__(self) -> None:
        self.waits = 0

    def label(self, p: dict[str, Any]) -> str:
        return "x"

    def unit(self, p: dict[str, Any], look: Any) -> Unit:
        return Unit(("job", "x"), (Cell("job", "x", {"runs": True}),))

    def to_the_end(self, entries: Any, ports: Any, report: Report, converged: Any) -> Report:
        self.waits += 1
        return report._replace(digest="of the end")


@pytest.mark.parametrize("check, broken, waits", [(False, False, 1), (True, False, 0), (False, True, 0)])
def test_nobody_waits_in_check_mode_nor_for_what_failed(check: bool, broken: bool, waits: int) -> None:
    kind = Awaited()
    options = reconcile.Options(check=check)
    done = reconcile.fulfil([Entry("jobs[0]", kind, {})], [], {"job": Port(broken)}, options)
    assert (kind.waits, done.digest == "of the end", bool(done.errors)) == (waits, bool(waits), broken)
