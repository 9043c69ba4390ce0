# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consents, procedures, and what people are shown."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import guard, listing, procedure, render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import CODES, Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
    Action,
    Cell,
    Secret,
    Unit,
    state_of,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.procedure import Step
from ansible_collections.bulkhead.storage.tests.unit.world import Ground, Killed, Rows

# -- the guard


class Asking:
    def __init__(self, *asked: Any) -> None:
        self.asked = asked or None

    def consent(self, target: Any, before: Any, after: Any) -> Any:
        return self.asked


def verdict(
    risk: str, port: Any, consents: dict[str, Any], target: Any = "x", after: Any = None
) -> StorageError | None:
    action = Action(0, "fs", target, {"size": 2}, after, risk)
    return guard.consented(action, Unit(("fs", "x"), (), consents=consents), port)


def test_what_loses_nothing_takes_no_consent() -> None:
    for risk in (REVERSIBLE, FORWARD):
        assert verdict(risk, Asking("absent", True), {}) is None


@pytest.mark.parametrize("risk", [SHRINKS, DESTROYS])
@pytest.mark.parametrize(
    "name,token,code,hint",
    [
        ("wipe_token", "ab12", "not_blank", "repeat the task with wipe_token: ab12 to destroy what is there"),
        ("confirm", "vg0", "would_destroy", "repeat the task with confirm: vg0"),
        ("allow_shrink", True, "would_shrink", "set allow_shrink: true once the content is known to fit"),
        ("absent", True, "would_destroy", "say state: absent to remove it with its content"),
    ],
)
def test_each_consent_counts_for_itself_only(risk: str, name: str, token: Any, code: str, hint: str) -> None:
    port = Asking(name, token)
    assert verdict(risk, port, {name: token}) is None
    others = {"wipe_token": "ab12", "confirm": "vg0", "allow_shrink": True, "absent": True, "force": True}
    del others[name]
    for consents in ({}, others, {name: "other"}, {name: False}, {name: None}):
        refused = verdict(risk, port, consents)
        assert refused is not None
        assert (refused.code, refused.hint, refused.details) == (code, hint, {name: token})
        what = {SHRINKS: "shrink", DESTROYS: "destroy"}[risk]
        assert refused.message == "remove of fs x would %s content" % what


def test_an_entry_of_several_devices_names_a_token_for_each() -> None:
    port = Asking("wipe_token", "ab12")
    assert verdict(DESTROYS, port, {"wipe_token": ["cd34", "ab12"]}) is None
    for others in ([], ["cd34"], ["ab1", "ab123"], [None]):
        assert verdict(DESTROYS, port, {"wipe_token": others}) is not None
    assert verdict(DESTROYS, Asking("wipe_token", ""), {"wipe_token": [""]}) is not None


@pytest.mark.parametrize("token", [None, "", False])
def test_a_token_that_says_nothing_consents_to_nothing(token: Any) -> None:
    for consents in ({}, {"wipe_token": token}):
        assert verdict(DESTROYS, Asking("wipe_token", token), consents) is not None


def test_without_a_way_to_consent_it_is_never_allowed() -> None:
    for port in (Asking(), object()):
        refused = verdict(DESTROYS, port, {"absent": True}, target=("vg", 1), after={})
        assert refused is not None and refused.code == "would_destroy"
        assert refused.message == "change of fs vg 1 is never allowed"


def test_a_name_that_changes_takes_its_own_consent_whatever_is_done() -> None:
    class Devices(Asking):
        def unstable(self, target: Any) -> StorageError | None:
            return StorageError("unstable_device", "%s changes" % target) if target == "x" else None

    port = Devices("wipe_token", "ab12")
    for risk, after in ((REVERSIBLE, {"size": 3}), (FORWARD, {"size": 3}), (DESTROYS, None)):
        for consents in ({}, {"wipe_token": "ab12"}, {"wipe_token": "ab12", "allow_unstable_device": False}):
            refused = verdict(risk, port, consents, after=after)
            assert refused is not None and refused.code == "unstable_device"
        both = {"wipe_token": "ab12", "allow_unstable_device": True}
        assert verdict(risk, port, both, after=after) is None
        assert verdict(risk, port, {"wipe_token": "ab12"}, target="y", after=after) is None
    refused = verdict(DESTROYS, port, {"allow_unstable_device": True})
    assert refused is not None and refused.code == "not_blank"


def test_drift_may_be_declared_to_be_left_alone() -> None:
    """Of the port that the user spoke of only, not of what stands beneath."""

    def drifted(after: Any, consents: dict[str, Any], drift: str = "mount", before: Any = 1) -> StorageError | None:
        action = Action(0, "mount", ("/m", 1), before, after, REVERSIBLE)
        return guard.consented(action, Unit(("kind", "x"), (), consents={**consents, "drift": drift}), object())

    refused = drifted(None, {"replace": False, "change": True})
    assert refused is not None and (refused.code, refused.hint) == ("conflict", "set on_drift: replace")
    assert refused.message == "/m 1 is not as declared, and on_drift says not to replace it"
    refused = drifted({"x": 1}, {"replace": True, "change": False})
    assert refused is not None and (refused.code, refused.hint) == ("conflict", "set on_drift: remount")
    assert refused.message == "/m 1 is not as declared, and on_drift says not to change it"
    assert drifted(None, {"replace": True, "change": False}) is None and drifted({}, {"replace": False}) is None
    assert drifted(None, {}) is None and drifted({}, {}) is None
    assert drifted({}, {"replace": False, "change": False}, before=None) is None, "making it is no drift"
    assert drifted({}, {"replace": False, "change": False}, drift="tmpfs") is None


def test_a_unit_may_say_itself_how_its_consent_is_given() -> None:
    refused = verdict(DESTROYS, Asking("absent", True), {"absent": False, "hint": "repeat with confirm: /s"})
    assert refused is not None and refused.hint == "repeat with confirm: /s"


# -- procedures


def test_what_is_absent_does_not_hold_and_is_not_compared() -> None:
    ground = Ground()
    port = Rows("a", ground)
    port.same = lambda target, now, declared: now["x"] == declared["x"]  # type: ignore[method-assign,union-attr]
    taken = procedure.run(steps(("a", 1, {"x": 1})), ground.ports, False, lambda text, sync: None)
    assert [action.before for action in taken] == [None]


def test_what_must_be_absent_is_not_compared_either() -> None:
    ground = Ground()
    port = Rows("a", ground)
    port.same = lambda target, now, declared: now["x"] == declared["x"]  # type: ignore[method-assign,union-attr]
    ground.rows["a", 1] = {"x": 1}
    assert [a.after for a in procedure.run(steps(("a", 1, None)), ground.ports, False, lambda text, sync: None)] == [
        None
    ]


def test_what_cannot_be_read_ends_a_procedure_before_it_begins() -> None:
    ground = Ground()
    Rows("a", ground).unreadable[1] = StorageError("unreadable", "EIO")
    for dry in (True, False):
        with pytest.raises(StorageError) as caught:
            procedure.run(steps(("a", 1, {"x": 1})), ground.ports, dry, lambda text, sync: None)
        assert (caught.value.code, caught.value.details["step"]) == ("unreadable", "step 1")
    assert not ground.puts


def test_everything_after_the_first_step_that_does_not_hold_is_foreseen() -> None:
    ground = Ground()
    Rows("a", ground)
    cells = [("a", n, {"x": n}) for n in (1, 2, 3)]
    foreseen = procedure.run(steps(*cells), ground.ports, True, lambda text, sync: None)
    assert [a.target for a in foreseen] == [1, 2, 3]
    ground.rows["a", 1] = {"x": 1}
    taken = procedure.run(steps(*cells), ground.ports, False, lambda text, sync: None)
    assert [a.target for a in taken] == [2, 3], "what holds is passed over, not the end"


@pytest.fixture
def ground() -> Ground:
    ground = Ground()
    Rows("a", ground)
    Rows("hard", ground, destroys="absent", forward=True)
    return ground


def steps(*cells: Any) -> list[Step]:
    return [Step("step %d" % n, Cell(*cell)) for n, cell in enumerate(cells, 1)]


FENCE = (("a", 1, {"x": 1}), ("hard", 2, {"x": 2, "id": UNKNOWN}), ("a", 3, None))


def test_e12_steps_are_taken_in_order_and_passed_over_when_they_hold(ground: Ground) -> None:
    ground.rows = {("a", 1): {"x": 0, "y": 5}, ("a", 3): {}}
    notes: list[Any] = []
    taken = procedure.run(steps(*FENCE), ground.ports, False, lambda text, sync: notes.append((text, sync)))
    assert [(a.unit, a.port, a.target, a.before, a.after, a.risk) for a in taken] == [
        (0, "a", 1, {"x": 0, "y": 5}, {"x": 1, "y": 5}, "reversible"),
        (1, "hard", 2, None, {"x": 2, "id": UNKNOWN}, "forward"),
        (2, "a", 3, {}, None, "reversible"),
    ]
    assert notes == [(w + " step %d" % n, True) for n in (1, 2, 3) for w in ("begin", "done")]
    assert ground.snapshot() == {("a", 1): {"x": 1, "y": 5, "id": 0}, ("hard", 2): {"x": 2, "id": 0}}
    assert procedure.run(steps(*FENCE), ground.ports, False, lambda text, sync: notes.append(text)) == []
    assert len(notes) == 6 and ground.puts == 3


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("when", ["before_put", "after_put"])
def test_e12_killed_anywhere_it_resumes_by_looking(ground: Ground, count: int, when: str) -> None:
    ground.rows = {("a", 3): {}}

    def kill(puts: int, spot: Any) -> None:
        if puts == count:
            raise Killed

    setattr(ground, when, kill)
    with pytest.raises(Killed):
        procedure.run(steps(*FENCE), ground.ports, False, lambda text, sync: None)
    setattr(ground, when, lambda puts, spot: None)
    left = 3 - len(ground.log)
    assert len(procedure.run(steps(*FENCE), ground.ports, False, lambda text, sync: None)) == left
    assert ground.snapshot() == {("a", 1): {"x": 1, "id": 0}, ("hard", 2): {"x": 2, "id": 0}}


def test_e12_foreseen_is_what_would_be_taken_and_touches_nothing(ground: Ground) -> None:
    ground.rows = {("a", 1): {"x": 1}, ("a", 3): {}}
    foreseen = procedure.run(steps(*FENCE), ground.ports, True, lambda text, sync: pytest.fail("noted"))
    assert [(a.unit, a.before, a.after, a.risk) for a in foreseen] == [
        (1, None, {"x": 2, "id": UNKNOWN}, "forward"),
        (2, UNKNOWN, None, "reversible"),
    ]
    assert not ground.puts and ground.scans == ["a", "hard"]


def test_e12_a_failing_step_ends_it_and_walks_nothing_back(ground: Ground) -> None:
    def fault(puts: int, spot: Any) -> None:
        if puts == 2:
            raise StorageError("denied", "no")

    ground.before_put = fault
    with pytest.raises(StorageError) as caught:
        procedure.run(steps(*FENCE), ground.ports, False, lambda text, sync: None)
    assert caught.value.details == {"step": "step 2"} and set(ground.rows) == {("a", 1)}


def test_e12_a_step_may_refuse_what_it_finds_and_must_hold_once_taken(ground: Ground) -> None:
    def refuse(row: Any) -> None:
        raise StorageError("unfenced", "found %r" % (row,), step="own")

    with pytest.raises(StorageError, match="found None") as caught:
        procedure.run([Step("s", Cell("a", 1, {}), refuse)], ground.ports, True, lambda text, sync: None)
    assert caught.value.details == {"step": "own"}
    ground.after_put = lambda puts, spot: ground.rows.clear()
    with pytest.raises(StorageError, match="step step 1 does not hold after it was taken") as caught:
        procedure.run(steps(("a", 1, {"x": 1})), ground.ports, False, lambda text, sync: None)
    assert caught.value.code == "did_not_settle"
    ground.ports["a"].unreadable[1] = StorageError("unreadable", "EIO")
    with pytest.raises(StorageError, match="EIO"):
        procedure.run(steps(("a", 1, {"x": 1})), ground.ports, False, lambda text, sync: None)


def test_e12_a_step_that_destroys_takes_its_consent(ground: Ground) -> None:
    ground.rows["hard", 1] = {}
    for dry in (True, False):
        with pytest.raises(StorageError) as caught:
            procedure.run(steps(("hard", 1, None)), ground.ports, dry, lambda text, sync: None)
        assert caught.value.code == "would_destroy" and ground.rows
    procedure.run(steps(("hard", 1, None)), ground.ports, False, lambda text, sync: None, {"absent": True})
    assert not ground.rows


def test_e12_a_port_says_itself_when_a_step_holds(ground: Ground) -> None:
    ground.rows["a", 1] = {"x": 7}
    ground.ports["a"].same = lambda target, now, declared: now["x"] > declared["x"]  # type: ignore[attr-defined]
    assert not procedure.run(steps(("a", 1, {"x": 6})), ground.ports, False, lambda text, sync: None)
    assert procedure.run(steps(("a", 1, {"x": 7})), ground.ports, True, lambda text, sync: None)


# -- what is shown


def test_secrets_and_observations_are_never_shown() -> None:
    value = {
        "key": Secret("swordfish"),
        "_used": 5,
        "list": [Secret("swordfish"), {"_x": 1, "y": b"\xff\n"}],
        3: UNKNOWN,
    }
    shown = render.plain(value)
    assert shown == {"key": "********", "list": ["********", {"y": "\\xff\n"}], "3": "UNKNOWN"}
    assert render.plain({"s": {3, 1, 2}, "f": frozenset("b"), "t": (1,)}) == {"s": [1, 2, 3], "f": ["b"], "t": [1]}
    assert render.plain("a\udcffb") == "a\\udcffb" and render.plain(7) == 7 and render.plain(None) is None
    assert repr(Secret("swordfish")) == "********" and "swordfish" not in "%s %r" % (
        Secret("swordfish"),
        [Secret("swordfish")],
    )
    one, same, other = Secret("a"), Secret("a"), Secret("b")
    assert one == same and one != other and one != "a" and len({one, same, other}) == 2 and one.reveal() == "a"
    assert hash(one) != hash("a") and repr(UNKNOWN) == "UNKNOWN"


def test_a_row_of_the_result() -> None:
    unit = Unit(("quota", "t1"), (), entry="quotas[3] (t1)")
    action = Action(0, "quota", ("/srv", 7), {"bytes": 1, "_used": 2}, {"bytes": 2}, REVERSIBLE)
    assert listing.row(action, unit) == {
        "kind": "quota", "entry": "quotas[3] (t1)", "port": "quota", "target": "/srv 7", "verb": "change",
        "risk": "reversible", "before": {"bytes": 1}, "after": {"bytes": 2},
    }  # fmt: skip
    assert listing.row(action, unit._replace(entry=""))["entry"] == "quota t1"
    verbs = {
        (None, 1): "create",
        (1, None): "remove",
        (1, 2): "change",
        (UNKNOWN, 1): "change",
        (UNKNOWN, None): "remove",
    }
    for (before, after), verb in verbs.items():
        assert listing.rows([action._replace(before=before, after=after)], [unit])[0]["verb"] == verb
    assert state_of({"x": 1, "_y": 2}) == {"x": 1} and state_of("text") == "text"


def test_the_digest_is_of_the_whole_canonical_list() -> None:
    rows = [{"b": 1, "a": "é"}, {"a": 2}]
    assert listing.digest(rows) == hashlib.sha256(b'{"a":"\\u00e9","b":1}\n{"a":2}\n').hexdigest()
    assert listing.digest(rows) != listing.digest(rows[::-1]) and listing.digest([]) == hashlib.sha256().hexdigest()


def huge(count: int, size: int) -> list[dict[str, Any]]:
    unit = Unit(("a", "x"), (), entry="e")
    text = 'é\n"\\' * (size // 4)
    return listing.rows([Action(0, "a", n, {"x": text}, {"x": text + "!"}, REVERSIBLE) for n in range(count)], [unit])


@pytest.mark.parametrize("size", [4, 400, 4000, 60000, 10**6 // 2])
def test_e10_no_result_is_above_256_kib(size: int) -> None:
    listed = huge(min(400, 2 * 10**6 // size), size)
    shown = listing.bounded(listed, 10**6)
    said = listing.refusals([StorageError("failed", "x" * size, "y" * size, users=["é" * size]) for _row in listed])
    result = {"actions": shown, "diff": listing.diff(listed), **said}
    assert len(json.dumps(result)) < 240 * 1024
    assert said["errors"] and said["errors_total"] == len(listed), "the first error is always told"
    assert shown == listed[: len(shown)] and (shown or size >= 60000)


def test_e10_the_limit_is_the_callers() -> None:
    listed = huge(400, 4)
    assert (
        listing.bounded(listed, 100) == listed[:100] and listing.bounded(listed, 0) == listing.bounded(listed, -5) == []
    )
    assert listing.bounded(listed[:300], 1000) == listed[:300]
    exact = [{"x": "y" * (listing.RESULT_BYTES - len('{"x": ""}'))}]
    assert listing.bounded(exact, 5) == exact and listing.bounded([{"x": exact[0]["x"] + "y"}], 5) == []


def test_an_error_that_is_large_by_itself_keeps_what_people_and_programs_need() -> None:
    users = ["/mnt/pool/volumes/tenant-%d" % n for n in range(9999)]
    error = StorageError("in_use", "é" * 9000, "stop them", wipe_token="t" * 64, users=users, text="z" * 9999)
    said = listing.refusals([error.at("tmpfs[0] (/mnt/pool)"), StorageError("failed", "other")])
    first, other = said["errors"]
    assert (first["code"], first["entry"], first["hint"]) == ("in_use", "tmpfs[0] (/mnt/pool)", "stop them")
    assert first["message"] == "é" * 1000 + "..." and first["details"]["wipe_token"] == "t" * 64
    kept = first["details"]["users"]
    assert 20 < len(kept) < 100 and kept == users[: len(kept)] and first["details"]["text"] == "z" * 1000 + "..."
    assert first["details"]["cut"] == ["users", "text"] and len(json.dumps(first)) < 16 * 1024
    many = StorageError("in_use", "many", **{"d%02d" % n: "x" * 5000 for n in range(10)})
    (kept,) = listing.refusals([many])["errors"]
    assert sorted(kept["details"]) == ["cut", *("d%02d" % n for n in range(8))], "eight of them"
    assert other == StorageError("failed", "other").as_dict() and said["errors_total"] == 2
    assert (said["code"], said["hint"]) == ("in_use", "stop them") and said["msg"].startswith("tmpfs[0] (/mnt/pool): é")
    many = listing.refusals([StorageError("invalid", "no %d" % n) for n in range(5000)])
    assert len(many["errors"]) < 1000 and many["errors_total"] == 5000 and many["msg"] == "no 0"


def test_what_tenants_call_things_is_shown_and_not_obeyed() -> None:
    evil = "a\n\x1b[31m\u202eb\u2028\x9b\udcff"
    said = listing.refusals([StorageError("in_use", evil, evil, paths=[evil], by={evil: evil}).at(evil)])
    told = "a\\n\\x1b[31m\\u202eb\\u2028\\x9b\\udcff"
    assert said["errors"][0] == {
        "entry": told, "code": "in_use", "message": told, "hint": told, "details": {"paths": [told], "by": {told: told}}
    }  # fmt: skip
    assert said["hint"] == told and said["msg"] == "%s: %s (%s)" % (told, told, told)
    plain = listing.refusals([StorageError("in_use", "/srv/\u00e9 'b\\'")])
    assert plain["msg"] == plain["errors"][0]["message"] == "/srv/\u00e9 'b\\'"


def test_what_was_changed_at_and_beneath_a_path() -> None:
    paths = ["/a", "/a!", "/a-b/c", "/a/b", "/a/b/c", "/a0", "/b", "/a/\u00e9"]
    asked = listing.changed([{"port": port, "target": path} for path in paths for port in ("node", "data", "fstab")])
    assert asked(("node",), "/a") == ["/a", "/a/b", "/a/b/c", "/a/\u00e9"] == asked(("node", "data", "no"), "/a")
    assert asked(("node",), "/") == sorted(paths) and asked(("no",), "/a") == asked(("node",), "/c") == []
    assert asked(("node",), "/a/b/c") == ["/a/b/c"]
    many = listing.changed([{"port": "node", "target": "/%04d" % n} for n in range(500)])
    assert many(("node",), "/") == ["/%04d" % n for n in range(100)]


def test_the_diff_reads_as_text() -> None:
    unit = Unit(("a", "x"), (), entry="e")
    made = [
        Action(0, "a", "t", None, {"y": [1], "x": "v"}, REVERSIBLE),
        Action(0, "b", ("t", 2), "old", None, REVERSIBLE),
    ]
    assert listing.diff(listing.rows(made, [unit])) == {
        "before": 'a t: absent\nb t 2:\n  "old"\n',
        "after": 'a t:\n  x: "v"\n  y: [1]\nb t 2: absent\n',
    }
    assert listing.diff([]) == {"before": "", "after": ""}


# -- errors


def test_an_error_says_what_where_and_what_to_do() -> None:
    error = StorageError("in_use", "busy", "unmount it", pids=[1])
    assert str(error) == "busy (unmount it)" and error.at("quotas[3]") is error
    assert str(error.at("another")) == "quotas[3]: busy (unmount it)"
    assert error.as_dict() == {
        "entry": "quotas[3]", "code": "in_use", "message": "busy", "hint": "unmount it", "details": {"pids": [1]}
    }  # fmt: skip
    assert str(StorageError("failed", "plain")) == "plain"
    with pytest.raises(ValueError, match="unknown error code 'nonsense'"):
        raise StorageError("nonsense", "x")
    assert len(CODES) == 25
    both = Refusals([error, StorageError("failed", "plain")])
    assert str(both) == "quotas[3]: busy (unmount it); plain" and len(both.errors) == 2


def test_file_modes_are_octal_digits() -> None:
    assert render.plain({"mode": "0755"}) == {"mode": "0755"}
    shown = render.plain({"mode": 0o2770, "o:mode": 0o777, "deep": {"mode": 7}, "modes": 8, "list": [{"mode": True}]})
    assert shown == {"mode": "2770", "o:mode": "0777", "deep": {"mode": "0007"}, "modes": 8, "list": [{"mode": True}]}


def test_lists_keep_their_order_and_sets_get_one() -> None:
    assert render.plain([3, 1, 2]) == [3, 1, 2] and render.plain((3, 1)) == [3, 1]
    assert render.plain({"c", "a", "b"}) == ["a", "b", "c"] and render.plain(frozenset("zyx")) == ["x", "y", "z"]


def test_what_is_cut_is_the_tail() -> None:
    rows = [{"n": 1}, {"n": "x" * listing.RESULT_BYTES}, {"n": 3}]
    assert listing.bounded(rows, 10) == rows[:1]
