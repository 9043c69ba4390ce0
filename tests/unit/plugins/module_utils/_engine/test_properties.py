# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's contract over generated stacked worlds, with a fault at every put and a kill around every put.

``BULKHEAD_SEEDS`` sets how many worlds; a failing one is named by its seed in the test's id.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Unit, met, state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.plan import Planner, reach
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Options, Report, converge
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Gathering, World
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import compare as plan
from ansible_collections.bulkhead.storage.tests.unit import world

SEEDS = range(int(os.environ.get("BULKHEAD_SEEDS", "150")))
seeds = pytest.mark.parametrize("seed", SEEDS)


def run(s: world.Scenario, **options: Any) -> Report:
    return converge(lambda look: (s.units, []), s.ports, Options(**{"workers": 1, **options}), time.perf_counter)


def reference(seed: int) -> tuple[world.Scenario, Report]:
    """The world after an undisturbed run; scenarios that are refused or cannot come out are another test's."""
    s = world.scenario(seed)
    try:
        report = run(s)
    except Refusals:
        return s, None  # type: ignore[return-value]
    return s, report if not report.errors else None  # type: ignore[return-value]


def fails(count: int) -> Any:
    def fault(puts: int, spot: Any) -> None:
        if puts == count:
            raise StorageError("no_space", "the %d. put fails" % count, spot=spot)

    return fault


def kills(count: int) -> Any:
    def kill(puts: int, spot: Any) -> None:
        if puts == count:
            raise world.Killed

    return kill


def tokens(unit: Unit) -> dict[str, str]:
    found = ["token of %s" % cell.target for cell in unit.cells if cell.port == "fs"]
    return {"wipe_token": found[0]} if found else {}


def undisturbed(ground: world.Ground) -> None:
    ground.before_put = ground.after_put = lambda count, spot: None


def test_worlds_are_worth_it() -> None:
    """The generator makes what the properties are about, often enough."""
    found: Counter[str] = Counter()
    for seed in range(300):
        s = world.scenario(seed)
        found["worlds"] += 1
        seen = plan(s.units, World(s.ports))
        found["refused"] += bool(seen.errors)
        found["staged"] += seen.conditional
        found["changing"] += bool(seen.actions)
        found["idle"] += not seen.actions
        for action in seen.actions:
            found[action.risk] += 1
            found[action.verb] += 1
        found["implied"] += any(u.key[0] == "implied" for u in seen.units)
        found["replaced"] += any(b > 1 for b in Counter((a.port, a.target) for a in seen.actions).values())
    assert found["worlds"] == 300
    for what, least in {
        "refused": 10, "staged": 55, "changing": 180, "idle": 15, "destroys": 60, "forward": 60, "shrinks": 15,
        "remove": 100, "create": 400, "change": 100, "implied": 90, "replaced": 15,
    }.items():  # fmt: skip
        assert found[what] >= least, (what, found)


@seeds
def test_e1_one_scan_per_port_and_look(seed: int) -> None:
    s = world.scenario(seed)
    looks: list[World] = []

    def declare(look: World) -> Any:
        looks.append(look)
        look.asked = True  # else it is not asked to declare again
        return s.units, []

    failed = 0
    with contextlib.suppress(Refusals):
        failed = converge(declare, s.ports, Options(workers=1), time.perf_counter).summary["failed"]
    undone = [1 for (_spot, before, after) in s.ground.log if after is None]
    assert max(Counter(s.ground.scans).values(), default=0) <= len(looks) + len(undone) + failed
    if not s.ground.puts:
        assert len(looks) == 1
        assert max(Counter(s.ground.scans).values(), default=0) <= 1


@seeds
@pytest.mark.parametrize("moves", [None, 0, 1, 2, "fails"])
def test_e2_what_asks_nothing_need_not_be_declared_again(seed: int, moves: Any) -> None:
    """Whatever the world does while a run waits for its lock and while it works: the outcome is that of who declares
    at each look. Nothing is scanned more often, and most runs do declare but once."""
    told: list[Any] = []
    for asks in (True, False):
        s = world.scenario(seed)
        declared: list[World] = []

        def declare(look: World, s: Any = s, asks: bool = asks, note: Any = declared.append) -> Any:
            note(look)
            look.asked |= asks
            return s.units, []

        if moves == "fails":
            s.ground.before_put = fails(2)
        report: Any
        try:
            lock = None if moves is None or moves == "fails" else lambda s=s: moved(s, moves)
            report = converge(declare, s.ports, Options(workers=1, lock=lock), time.perf_counter)
        except Refusals as refused:
            report = refused
            told.append([error.as_dict() for error in refused.errors])
        else:
            told.append((report.listed, report.digest, report.summary, report.rows))
            told.append([error.as_dict() for error in report.errors])
        told.append((s.ground.snapshot(True), s.ground.log, Counter(s.ground.scans), isinstance(report, Refusals)))
        if asks:
            often = len(declared)
    half = len(told) // 2
    assert told[:half] == told[half:]
    assert len(declared) <= often


@contextlib.contextmanager
def moved(s: world.Scenario, change: int) -> Iterator[None]:
    """Somebody else had the lock: did nothing, took a thing away that differs, or did all that was to do."""
    if change == 2:
        with contextlib.suppress(Refusals):
            converge(lambda look: (s.units, []), s.ports, Options(workers=1), time.perf_counter)
    elif change == 1 and s.ground.rows:
        del s.ground.rows[sorted(s.ground.rows, key=str)[0]]
    yield


def test_runs_declare_but_once_where_nothing_intervenes() -> None:
    """What the test above compares is really done: without it every run that changes something declares three times."""
    found: Counter[int] = Counter()
    for seed in SEEDS:
        s = world.scenario(seed)
        declared: list[World] = []

        def declare(look: World, s: Any = s, note: Any = declared.append) -> Any:
            note(look)
            return s.units, []

        with contextlib.suppress(Refusals):
            report = converge(
                declare, s.ports, Options(workers=1, lock=contextlib.nullcontext), time.perf_counter
            )  # with a lock: three looks
            if s.ground.puts and not report.errors:
                found[len(declared)] += 1
    print(found)
    assert found[1] > len(SEEDS) / 8, found


@seeds
def test_e2_plan_is_pure_and_check_mode_shows_the_same(seed: int) -> None:
    s, t = world.scenario(seed), world.scenario(seed)
    before = s.ground.snapshot(True)
    first, second = plan(s.units, World(s.ports)), plan(s.units, World(s.ports))
    assert (first.actions, first.now, first.needs) == (second.actions, second.now, second.needs)
    assert [e.as_dict() for e in first.errors] == [e.as_dict() for e in second.errors]
    shown: Any
    done: Any
    try:
        shown = run(s, check=True)
    except Refusals as refused:
        shown = refused
    assert s.ground.snapshot(True) == before and s.ground.puts == 0
    try:
        done = run(t)
    except Refusals as refused:
        done = refused
    if isinstance(shown, Refusals):
        assert isinstance(done, Refusals)
        assert [e.as_dict() for e in shown.errors] == [e.as_dict() for e in done.errors]
    elif isinstance(done, Report):
        assert (shown.listed, shown.digest) == (done.listed, done.digest)
        assert shown.summary["planned"] == done.summary["planned"] == len(first.actions)
        assert bool(shown.listed) == bool(t.ground.puts)


@seeds
def test_e4_down_from_the_top_and_up_from_the_bottom(seed: int) -> None:
    """The ground refuses any other order within a unit's stack; here: across a whole plan, by what units stand on."""
    s = world.scenario(seed)
    found = plan(s.units, World(s.ports))
    if any(error.code == "conflict" for error in found.errors):
        return  # a circle has no order
    lower = [a for a in found.actions if a.after is None or s.ports[a.port].lowers(a.target, a.before, a.after)]
    assert found.actions[: len(lower)] == lower, "something is built before everything is down"
    place = {id(action): at for at, action in enumerate(found.actions)}
    by_unit: dict[int, list[Any]] = {}
    for action in found.actions:
        by_unit.setdefault(action.unit, []).append(action)
    down = {id(a) for a in lower}
    for top, actions in by_unit.items():
        for under in reach([top], found.needs) - {top}:
            for one in actions:
                for two in by_unit.get(under, ()):
                    if id(one) in down and id(two) in down:
                        assert place[id(one)] < place[id(two)]
                    if id(one) not in down and id(two) not in down:
                        assert place[id(two)] < place[id(one)]


@seeds
def test_e5_all_refusals_come_at_once_and_touch_nothing(seed: int) -> None:
    s = world.scenario(seed)
    bare = [unit._replace(consents={}) for unit in s.units]
    before = s.ground.snapshot(True)
    found = plan(bare, World(s.ports))
    risky = [a for a in found.actions if a.risk in ("shrinks", "destroys") and a.before is not UNKNOWN]
    answers = []
    for check in (True, False):
        try:
            report = converge(lambda look: (bare, []), s.ports, Options(check=check, workers=1), time.perf_counter)
            assert not risky and (check or report is not None)
            answers.append(None)
        except Refusals as refused:
            answers.append([e.as_dict() for e in refused.errors])
            if risky:
                assert s.ground.puts == 0 and s.ground.snapshot(True) == before
        if risky:
            assert len(answers[-1] or ()) >= len(risky)
            assert all(e["entry"] for e in answers[-1] or ())
    if risky:
        assert answers[0] == answers[1]


@seeds
def test_e5_a_refusal_behind_a_door_closes_it_again(seed: int) -> None:
    s = world.scenario(seed)
    bare = [unit._replace(consents={}) for unit in s.units]
    before = s.ground.snapshot()
    try:
        converge(lambda look: (bare, []), s.ports, Options(workers=1), time.perf_counter)
    except Refusals as refused:
        kept = refused.errors[0].details.get("kept", [])
        assert (s.ground.snapshot() == before) == (not kept), (kept, s.ground.log)
        forward = [1 for _spot, was, is_ in s.ground.log if was is None and s.ports[_spot[0]].forward]
        assert not kept or forward


@seeds
def test_e6_a_stranger_is_never_overwritten(seed: int) -> None:
    _s, report = reference(seed)
    for count in range(1, (_s.ground.puts if report else 0) + 1):
        s = world.scenario(seed)
        strange: dict[Any, Any] = {}

        def drift(puts: int, spot: Any, s: world.Scenario = s, held: Any = (strange,), count: int = count) -> None:
            row = s.ground.rows.get(spot)
            if puts == count and isinstance(row, dict):
                held[0][spot] = s.ground.rows[spot] = {**row, "stranger": count}

        s.ground.before_put = drift
        result = run(s)
        for spot, row in strange.items():
            assert s.ground.rows.get(spot) == row, "the stranger's value was overwritten"
            assert "moved" in {e.code for e in result.errors}


def failed_at_every_put(seed: int, when: str) -> Iterator[tuple[world.Scenario, Any, Report, Any]]:
    """After each run with one fault: its world, how that began, its report, the ideal end. The next run gets there."""
    ideal, report = reference(seed)
    for count in range(1, (ideal.ground.puts if report else 0) + 1):
        s = world.scenario(seed)
        start = s.ground.snapshot()
        setattr(s.ground, when + "_put", fails(count))
        result = run(s)
        assert [e.code for e in result.errors] == ["no_space"] and result.summary["failed"] == 1
        assert len(s.ground.log) == result.summary["applied"] + 2 * result.summary["undone"]
        yield s, start, result, ideal.ground.snapshot()
        undisturbed(s.ground)
        assert not run(s).errors
        assert s.ground.snapshot() == ideal.ground.snapshot(), "the next run converges"


@seeds
def test_e7_a_fault_at_every_put(seed: int) -> None:
    for s, start, result, ideal in failed_at_every_put(seed, "before"):
        error, summary, fresh = result.errors[0], result.summary, world.scenario(seed)
        found = plan(fresh.units, World(fresh.ports))
        assert summary["kept"] >= len(error.details.get("kept", ()))
        if not found.conditional:
            assert summary["planned"] == summary["applied"] + summary["undone"] + summary["skipped"] + 1
        end = s.ground.snapshot()
        lost = {spot for spot, _before, after in s.ground.log if after is None and spot[0] in ("tmpfs", "fs")}
        lost |= {("mount", s) for s in lost and [c.target for u in s.units for c in u.cells if c.port == "mount"]}
        at = next(a.unit for a in found.actions if (a.port, a.target) == error.details["spot"])
        if not error.details.get("kept"):
            for cell in found.units[at].cells:
                spot = (cell.port, cell.target)
                if s.ground.lies(spot) not in lost:
                    assert end.get(spot) == start.get(spot), "a failed unit is left as it was found"
        for index in _strangers(found, at, found.conditional):
            for cell in found.units[index].cells:
                spot = (cell.port, cell.target)
                assert end.get(spot) == ideal.get(spot), "an unrelated unit goes on"


def test_where_nothing_differs_the_planner_would_do_nothing() -> None:
    """The short way (``met``) and the long one agree, in the world as it was found and as it was made.

    But for a circle: it is refused when something is to be done, and nobody minds while nothing is.
    """
    short = 0
    for seed in range(300):
        s = world.scenario(seed)
        for _again in range(2):
            gathered = Gathering(list(s.units), World(s.ports))
            quiet, long = gathered.met(), Planner(Gathering(list(s.units), World(s.ports))).run()
            errors = [error for error in long.errors if "in a circle" not in str(error)]
            assert not (quiet and (long.actions or errors))
            short += quiet
            with contextlib.suppress(Refusals):
                run(s)
    assert short > 100, short


@seeds
def test_e7_a_fault_after_every_put(seed: int) -> None:
    """What told of a failure too late is walked back like what was done, and never hides that it stands."""
    for s, start, result, _ideal in failed_at_every_put(seed, "after"):
        if s.ground.snapshot() != start:
            assert result.summary["applied"] + result.summary["kept"], "what stands is never told as unchanged"


def _strangers(found: Any, at: int, staged: bool) -> set[int]:
    """Units that share no stack with unit ``at`` (an implied parent does not make kin, unless it is the one).

    With a door closed, what lies beneath anything that stays unknown is not torn down either.
    """
    users: list[set[int]] = [set() for _unit in found.units]
    for index, needs in enumerate(found.needs):
        for need in needs:
            users[need].add(index)
    kin = reach([at], users)
    kin |= {i for i in reach(kin if staged else [at], found.needs) if found.units[i].key[0] != "implied"}
    kin = reach(kin, users)
    return {i for i in range(len(found.units)) if i not in kin and found.units[i].key[0] != "implied"}


@seeds
def test_e7_without_rollback_everything_done_is_kept(seed: int) -> None:
    ideal, report = reference(seed)
    for count in range(1, (ideal.ground.puts if report else 0) + 1):
        s = world.scenario(seed)
        s.ground.before_put = fails(count)
        result = run(s, rollback=False)
        assert result.summary["undone"] == 0 and len(s.ground.log) == result.summary["applied"]
        undisturbed(s.ground)
        assert not run(s).errors and s.ground.snapshot() == ideal.ground.snapshot()


@seeds
@pytest.mark.parametrize("when", ["before", "after"])
def test_e8_killed_around_every_put(seed: int, when: str) -> None:
    ideal, report = reference(seed)
    for count in range(1, (ideal.ground.puts if report else 0) + 1):
        s = world.scenario(seed)
        setattr(s.ground, when + "_put", kills(count))
        with pytest.raises(world.Killed):
            run(s)
        undisturbed(s.ground)
        assert not run(s).errors
        assert s.ground.snapshot() == ideal.ground.snapshot()
        puts = s.ground.puts
        assert not run(s).listed and s.ground.puts == puts, "nothing is left to do"


@seeds
def test_e8_killed_while_walking_back(seed: int) -> None:
    ideal, report = reference(seed)
    for count in range(2, (ideal.ground.puts if report else 0) + 1):
        s = world.scenario(seed)
        s.ground.before_put = fails(count)
        s.ground.after_put = kills(count + 1)
        try:
            run(s)
        except world.Killed:
            undisturbed(s.ground)
            assert not run(s).errors
            assert s.ground.snapshot() == ideal.ground.snapshot()


@seeds
def test_e9_predicted_is_what_the_next_scan_finds(seed: int) -> None:
    _ideal, report = reference(seed)
    if report is None:
        return
    s = world.scenario(seed)
    blind = {(a.port, a.target) for a in plan(s.units, World(s.ports)).actions if a.before is UNKNOWN}
    shown = run(s, check=True).rows
    done = run(s).rows
    for port, rows in shown.items():
        for target, value in rows.items():
            real = s.ground.row((port, target))
            if (port, target) in blind:
                assert met(real, state_of(value)), (port, target)
            elif not _hidden(s, (port, target)):
                assert met(state_of(real), state_of(value)) and state_of(real).keys() == state_of(value).keys()
    for port, rows in done.items():
        for target in rows:
            assert target in shown[port] or (port, target) in blind or s.ground.lies((port, target))


def _hidden(s: world.Scenario, spot: Any) -> bool:
    return s.ground.lies(spot) is not None and not s.ground.seen(spot)


def named_behind(s: world.Scenario) -> tuple[Any, dict[Any, Any]]:
    """Declared as what only learns behind a door what its device is called; and by spot which door that is."""
    doors = {c.target for u in s.units for c in u.cells if c.port == "crypt" and c.value is not None}
    waits: dict[Any, Any] = {}
    for unit in s.units:
        on = [c.target for c in unit.cells if c.port == "fs"]
        on += [c.value["device"] for c in unit.cells if c.port == "mount" and c.value is not None]
        if on and on[0] in doors and not any(c.port == "crypt" for c in unit.cells):
            waits.update({(c.port, c.target): on[0] for c in unit.cells})

    def declare(look: World) -> Any:
        shut = doors - look.look("crypt", doors).keys()
        return [u._replace(behind=any(waits.get((c.port, c.target)) in shut for c in u.cells)) for u in s.units], []

    return declare, waits


@seeds
def test_e9_what_is_named_behind_a_door_waits_and_comes_out_the_same(seed: int) -> None:
    ideal, report = reference(seed)
    if report is None:
        return
    s = world.scenario(seed)
    declare, waits = named_behind(s)

    def open_by_now(count: int, spot: Any) -> None:
        if spot in waits and ("crypt", waits[spot]) not in s.ground.rows:
            raise world.Broken("%r was done before anybody knew its device" % (spot,))

    s.ground.before_put = open_by_now
    shown = converge(declare, s.ports, Options(check=True), time.perf_counter)
    done = converge(declare, s.ports, Options(workers=1), time.perf_counter)
    assert not done.errors and (shown.listed, shown.digest) == (done.listed, done.digest)
    assert s.ground.snapshot() == ideal.ground.snapshot()
    puts = s.ground.puts
    assert not converge(declare, s.ports, Options(workers=1), time.perf_counter).listed and s.ground.puts == puts


def test_enough_is_named_behind_a_door() -> None:
    found: Counter[str] = Counter()
    for seed in range(300):
        s = world.scenario(seed)
        declare, waits = named_behind(s)
        units = declare(World(s.ports))[0]
        found["waits"] += any(unit.behind for unit in units)
        found["open"] += bool(waits) and not any(unit.behind for unit in units)
        found["lines"] += any(unit.behind and cell.port == "fstab" for unit in units for cell in unit.cells)
        found["others"] += any(unit.behind for unit in units) and not all(unit.behind for unit in units)
    assert min(found[each] for each in ("waits", "open", "others")) >= 10, found


@seeds
def test_e9_absent_after_present_restores_the_start(seed: int) -> None:
    s = world.scenario(seed, empty=True)
    present = [u._replace(cells=tuple(c for c in u.cells if c.value is not None)) for u in s.units]
    try:
        report = converge(lambda look: (present, []), s.ports, Options(workers=1), time.perf_counter)
    except Refusals:
        return
    if report.errors:
        return
    everything = {"allow_shrink": True, "absent": True}
    gone = [
        u._replace(
            cells=tuple(c._replace(value=None) for c in u.cells),
            consents={
                **everything,
                **tokens(u),
            },
        )
        for u in present
    ]
    report = converge(lambda look: (gone, []), s.ports, Options(workers=1), time.perf_counter)
    assert not report.errors and s.ground.rows == {}


@seeds
def test_e10_the_digest_is_the_plans(seed: int) -> None:
    s = world.scenario(seed)
    found = plan(s.units, World(s.ports))
    listed = listing.rows(found.actions, found.units)
    assert "first" not in str(listed) and "second" not in str(listed), "a secret is shown"
    if not found.errors:
        assert run(s, check=True).digest == listing.digest(listed)


@pytest.mark.parametrize("seed", range(min(60, len(SEEDS))))
def test_e11_concurrent_is_as_serial(seed: int) -> None:
    serial, beside = world.scenario(seed, chains=5), world.scenario(seed, slow=0.003, chains=5)
    outcomes = []
    for s, workers in ((serial, 1), (beside, 4)):
        try:
            report = run(s, workers=workers)
            outcomes.append((report.summary, [e.as_dict() for e in report.errors], report.digest))
        except Refusals as refused:
            outcomes.append(([e.as_dict() for e in refused.errors],))
    assert outcomes[0] == outcomes[1]
    assert serial.ground.snapshot() == beside.ground.snapshot()


@pytest.mark.parametrize("seed", range(min(40, len(SEEDS))))
def test_e11_concurrent_failures_are_as_serial(seed: int) -> None:
    ideal = world.scenario(seed, chains=5)
    try:
        run(ideal)
    except Refusals:
        return
    for spot in {s for s, before, _after in ideal.ground.log if before is None and s[0] in ("fs", "crypt")}:
        outcomes = []
        for slow, workers in ((0.0, 1), (0.003, 3)):
            s = world.scenario(seed, slow=slow, chains=5)

            def fault(puts: int, at: Any, spot: Any = spot) -> None:
                if at == spot:
                    raise StorageError("no_space", "full")

            s.ground.before_put = fault
            report = run(s, workers=workers)
            outcomes.append((report.summary, [e.as_dict() for e in report.errors], s.ground.snapshot()))
        assert outcomes[0] == outcomes[1]
