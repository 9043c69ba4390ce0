# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What check mode says is what a run does, on random hosts of the real kernel: check, run, rerun of ``layout``.

``BULKHEAD_SEQUENCES`` says how many (500), ``BULKHEAD_SEED`` where to begin. A case that fails is made smaller and
printed; ``BULKHEAD_CASE`` runs a printed one again.
"""

from __future__ import annotations

import collections
import json
import os
import re
import resource
import sys
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import cases, eyes, namespace, worlds

Move = dict[str, Any]
# What only the kernel knows, and only while it does it: such a failure comes in the run alone.
LATE = {
    "denied": "Operation not permitted|Read-only file system",  # immutable, or mounted read-only
    "failed": "cannot mount .*: Invalid argument",  # an image holds another filesystem than was said
    "unreadable": "cannot mount .*: Input/output error",  # an image that ends before its filesystem
    "unsupported": "this kernel knows no filesystem|is on btrfs, but not a subvolume",
    "invalid": "parent .* is not a subvolume of the same filesystem",  # of a quota
    "in_use": "",
    "no_space": "",
}
WORLD_S = ("used_bytes", "used_inodes", "usage", "created_at", "last_used", "id", "device", "ratio", "changed_paths")
WORLD_S += ("provisioned_bytes", "volumes", "capacity_bytes")


class Wrong(Exception):
    """A property that does not hold: its name, and what was seen."""


def play(base: str, case: Move) -> Move:
    """One case on a host of its own. Returns the first property that did not hold (if any), and counts."""
    counts: collections.Counter[str] = collections.Counter()
    answer: Move = {"wrong": None}
    worlds.enter(base, case["srv"])
    held: list[int] = []
    moves = case["moves"]
    blank: Any = None  # what stood before something was made that a later move takes away again
    try:
        for move, follower in zip(moves, [*moves[1:], {}]):
            if "do" in move:
                worlds.do(base, move, held)
                continue
            if follower.get("undoes"):
                gone = worlds.call(follower["declare"], check=True, look_only=True)
                blank = None if gone.get("failed") or gone["actions"] else eyes.picture(times=False)
            if "kill" in move:
                worlds.killed(move["declare"], move["kill"])
                counts["killed"] += 1
                continue
            run = declared(move, counts)
            if move.get("undoes") and blank and not run.get("failed"):
                counts["undone"] += 1
                same(undone(blank), undone(eyes.picture(times=False)), "P8 absent does not restore", run)
    except Wrong as error:
        answer["wrong"] = list(error.args)
    finally:
        for fd in held:
            os.close(fd)
        left = worlds.leave(base)
    if left and not answer["wrong"]:
        answer["wrong"] = ["a loop device is left", str(left)]
    return {**answer, "counts": counts}


def hold(fact: Any, name: str, *seen: Any) -> None:
    if not fact:
        raise Wrong(name, *[json.dumps(each, default=str)[:6000] for each in seen])


def undone(seen: Move) -> Move:
    """What must be as before once everything is absent: quota stays on, the default pool and filesystems stay."""
    kept = ("/var/lib/bulkhead", worlds.IMAGES + "/")
    return {k: v for k, v in books(seen).items() if not k.startswith(kept) and k != "quota"}


def declared(move: Move, counts: collections.Counter[str]) -> Move:
    """Check, run, rerun. Returns what the run answered."""
    document, plain = move["declare"], move.get("plain", False)
    worlds.settle()
    start = eyes.picture()
    check = worlds.call(document, check=True, look_only=True, plain=plain)
    whole(check, "check")
    same(start, eyes.picture(), "P1 check changed", check)
    rows = eyes.mounts()
    if not check.get("failed"):
        first = {(row["port"], row["target"]): row for row in reversed(check["actions"])}
        told(first.values(), "before", rows, rows, "P3 before", check)
    before = eyes.picture(times=False)
    run = worlds.call(document, plain=plain)
    whole(run, "run")
    after = eyes.picture(times=False)
    if check.get("failed"):
        counts["refused " + check["code"]] += 1
        for error in check["errors"] if os.environ.get("BULKHEAD_TELL") else ():
            print("REFUSED", error["code"], error["message"][:300], json.dumps(document), file=sys.stderr)
        hold(run.get("failed"), "P9 the run does what check refused", check, run)
        hold(codes(check) == codes(run), "P2 check and run refuse differently", check, run)
        hold(not run["changed"], "P9 a refused run says changed", run)
        same(start, eyes.picture(), "P9 a refused run changed", run)
        return run
    blind = any(row["before"] == "UNKNOWN" for row in check["actions"])
    if run.get("failed") and "actions" not in run:
        hold(blind, "P2 check foresaw what the run refuses", check, run)
        counts["refused behind a door " + run["code"]] += 1
        if not any("kept" in error["details"] for error in run["errors"]):
            same(books(before), books(after), "P9 a run refused behind a door changed", run)
        return run
    keys = ("actions", "plan_digest")
    hold(all(check[k] == run[k] for k in keys), "P2 check and run differ", check, run)
    hold(check["changed"] == bool(check["actions"]), "P2 changed is not derived", check)
    if run.get("failed"):
        for error in run["errors"] if os.environ.get("BULKHEAD_TELL") else ():
            print("LATE", error["code"], error["message"][:300], json.dumps(document), file=sys.stderr)
        counts["failed " + run["code"]] += 1
        if all(piled(error, rows) for error in run["errors"]):
            return run
        for error in run["errors"]:
            late = re.search(LATE.get(error["code"], "never"), error["message"])
            hold(
                late or hidden(error, document) or aliased(error, blind) or unordered(error, document),
                "P2 check could have known " + error["code"],
                error,
                document,
                check,
                run,
            )
        failed_as_told(check, run, before, after)
        return run
    counts["changed" if run["changed"] else "quiet"] += 1
    counts["actions"] += len(run["actions"])
    hold(check["changed"] == run["changed"], "P2 changed differs", check, run)
    last = {(row["port"], row["target"]): row for row in run["actions"]}
    told(last.values(), "after", rows, eyes.mounts(), "P3 after", run)
    neighbours(run, before, after)
    still = eyes.picture()
    again = worlds.call(document, look_only=True, plain=plain)
    whole(again, "rerun")
    hold(not again.get("failed"), "P4 the second run fails", run, again)
    hold(not again["changed"] and not again["actions"], "P4 the second run changes", run, again)
    same(still, eyes.picture(), "P4 the second run changed", again)
    foreseen(check["resources"], again["resources"], check)
    return run


def hidden(error: Move, document: Move) -> bool:
    """It is about something beneath a fresh mount of this declaration: there is nothing in it yet, and where others
    than root can write nobody looks beyond a mount."""
    over = [entry["path"] for kind in ("tmpfs", "mounts") for entry in document.get(kind, ())]
    return error["code"] in ("not_found", "not_enforced", "unsupported", "unsafe_path") and any(
        error["message"].startswith((path.rstrip("/") + "/", path + " is a foreign mount")) for path in over
    )


def piled(error: Move, rows: list[Any]) -> bool:
    """Of mounts that lie on each other one goes in a run."""
    targets = [row["target"] for row in error["details"].get("actions", ()) if row["port"] == "mount"]
    return error["code"] == "did_not_settle" and any(stacked(rows, target) for target in targets)


def aliased(error: Move, blind: bool) -> bool:
    """One directory by two names, of which one comes with a mount of this declaration, is made once only."""
    return blind and error["code"] == "moved"


def unordered(error: Move, document: Move) -> bool:
    """A limit on the directory of a pool, or none on one, that comes with this very declaration."""
    pools = [entry.get("config", {}).get("path") for entry in document.get("pools", ())]
    gone = [
        entry["path"] for entry in document.get("quotas", ()) if "absent" in (entry.get("state"), document.get("state"))
    ]
    path = error["message"].partition(" is ")[0]
    return (error["code"], path in pools) == ("moved", True) or (error["code"], path in gone) == ("not_enforced", True)


def whole(answer: Move, what: str) -> None:
    hold("broken" not in answer and answer["rc"] in (0, 1), "P0 the %s broke" % what, answer)
    hold(bool(answer.get("failed")) == (answer["rc"] == 1), "P0 the status of the %s" % what, answer)
    hold(not answer["stderr"], "P0 the %s complains" % what, answer)
    for error in answer.get("errors", ()):
        text = "%s %s" % (error["message"], error["hint"])
        hold(
            "Error:" not in text and "object has no attribute" not in text, "P0 a defect shows in the %s" % what, answer
        )


def codes(answer: Move) -> list[Any]:
    return sorted((error["entry"], error["code"], error["message"]) for error in answer["errors"])


def same(before: Move, after: Move, name: str, answer: Move) -> None:
    lost = eyes.changed(before, after)
    hold(not lost, name, [(path, before.get(path), after.get(path)) for path in lost[:6]], answer)


def books(seen: Move) -> Move:
    """A picture without what every run that begins leaves behind: journal, catalogue, lock."""
    ours = ("/var/lib/bulkhead/journal", "/var/lib/bulkhead/catalogue.", "/run/bulkhead/")
    return {k: v for k, v in seen.items() if not k.startswith(ours) and k not in ("/var/lib/bulkhead", "/run/bulkhead")}


def told(rows: Any, side: str, old: list[Any], now: list[Any], name: str, answer: Move) -> None:
    """Each row against what stands there."""
    made = {row["target"] for row in answer["actions"] if row["port"] == "mount" and row["after"] is not None}
    gone = {row["target"] for row in answer["actions"] if row["port"] == "mount" and row["after"] is None}
    for row in rows:
        above = [path for path in made | gone if row["target"].startswith(path.rstrip("/") + "/")]
        if row["port"] in ("node", "data", "quota", "superblock", "mounted", "quota_enabled") and (
            (side == "before" and above) or (side == "after" and set(above) & gone)
        ):
            continue  # which of the two that were one over the other is meant?
        if side == "before" and row["port"] == "mounted":
            continue
        fresh = row["target"] in made and eyes.top(old, row["target"]) is None
        hidden = side == "after" and row["port"] == "node" and fresh
        if side == "after" and row["after"] is None and row["port"] == "mount" and stacked(old, row["target"]):
            continue
        found = eyes.wrong(row, row[side], now, hidden)
        hold(not found, name, found, answer)


def stacked(rows: list[Any], path: str) -> bool:
    return sum(1 for row in rows if row.path == path) > 1


def failed_as_told(check: Move, run: Move, before: Move, after: Move) -> None:
    """Done, undone, kept and skipped as the summary has them; the journal's last word on each row holds."""
    summary = run["summary"]
    with open(run["journal"], encoding="ascii") as stream:
        lines = [json.loads(line) for line in stream]
    words = [line["outcome"].partition(" ")[::2] for line in lines if "outcome" in line]
    done = collections.Counter(rest for word, rest in words if word == "done")
    undone = collections.Counter(rest for word, rest in words if word == "undone")
    half = {rest.partition(" ")[2] for word, rest in words if word == "half"}
    hold(sum(undone.values()) == summary["undone"], "P5 undone", words, run)
    hold(sum((done - undone).values()) == summary["applied"], "P5 applied", words, run)
    hold(summary["failed"] == len(run["errors"]) or not summary["failed"], "P5 failed", run)
    hold(run["changed"] == bool(summary["applied"] or summary["kept"]), "P5 changed", run)
    rows = eyes.mounts()
    for row in run["actions"]:
        name = "%s %s" % (row["port"], row["target"])
        if sum(1 for other in run["actions"] if "%(port)s %(target)s" % other == name) > 1 or row["port"] == "mounted":
            continue
        if name in half:  # neither as before nor as after
            continue
        side = "after" if (done - undone)[name] else "before"
        others = [
            r
            for r in run["actions"]
            if r["port"] == "mount" and r["target"] != row["target"] and row["target"].startswith(r["target"])
        ]
        if (
            others
            or any(r["port"] == "mount" and r["target"] == row["target"] for r in run["actions"])
            and row["port"] == "node"
        ):
            continue
        found = eyes.wrong(row, row[side], rows)
        hold(not found, "P5 a failed run left something else (%s)" % side, found, words, run)
    if not (done - undone) and not half:
        same(books(before), books(after), "P5 a failed run that kept nothing changed", run)


def neighbours(run: Move, before: Move, after: Move) -> None:
    """Only what is declared changes: a path, what lies in it, or another name of it."""
    ours: dict[str, set[str]] = collections.defaultdict(set)
    for row in run["actions"]:
        ours[row["port"]].add(row["target"])
    named = {part for row in run["actions"] for part in (row["target"], *row["target"].split(" ", 1)) if part[0] == "/"}
    values = [row[side] for row in run["actions"] for side in ("before", "after") if row["port"] == "mount"]
    named |= {str(value["source"]) for value in values if isinstance(value, dict) and value.get("source")}
    for path in eyes.changed(books(before), books(after)):
        if path in ("mounts", "rows", "fstab", "/etc", "loops", "quota"):
            continue
        mine = any(path == name or path.startswith(name + "/") for name in named)
        same_file = os.path.exists(path) and any(os.path.exists(n) and os.path.samefile(n, path) for n in named)
        hold(
            mine or same_file or elsewhere(path, named),
            "P7 a neighbour changed",
            path,
            before.get(path),
            after.get(path),
            run,
        )
    rows = [key for key in before["rows"].keys() | after["rows"].keys() if "%s %s" % key not in ours["record"]]
    hold(all(before["rows"].get(k) == after["rows"].get(k) for k in rows if k[0] != "intent"), "P7 a row changed", run)
    still = {row[:1] + row[2:] for row in after["mounts"] if row[1].endswith("//deleted")}  # so a bind lives on
    lost = [row for row in before["mounts"] if row not in after["mounts"] and row[0] not in ours["mount"]]
    lost = [row for row in lost if row[:1] + row[2:] not in still]
    beneath = [row for row in lost if any(row[0].startswith(path + "/") for path in ours["mount"])]
    hold(lost == beneath, "P7 a mount changed", lost, run)
    lines = [
        [at for at in seen["fstab"].split(b"\n") if eyes.point(at) not in ours["fstab"]] for seen in (before, after)
    ]
    hold([at for at in lines[0] if at] == [at for at in lines[1] if at], "P7 fstab changed", lines, run)


def elsewhere(path: str, named: set[str]) -> bool:
    """Is it seen through a mount of a filesystem that something declared lies on, such as a bind of it?"""
    devices = {os.stat(name).st_dev for name in named if os.path.exists(name)}
    points = {row.path for row in eyes.mounts() if row.path.startswith(eyes.OWN)} - set(eyes.OWN)
    over = [point for point in points if path == point or path.startswith(point + "/")]
    here = os.stat(os.path.dirname(path)).st_dev if os.path.exists(os.path.dirname(path)) else -1
    through = [point for point in points if any(name.startswith(point + "/") for name in named)]
    return any(os.stat(p).st_dev in devices for p in over) or any(os.stat(p).st_dev == here for p in through)


def foreseen(said: Any, seen: Any, answer: Move, at: str = "") -> None:
    """What check mode says would stand, and what stands; what only the world can choose is left out."""
    if isinstance(said, dict) and isinstance(seen, dict):
        for key in said.keys() | seen.keys():
            if key not in WORLD_S:
                foreseen(said.get(key), seen.get(key), answer, "%s.%s" % (at, key))
    elif isinstance(said, list) and isinstance(seen, list) and len(said) == len(seen):
        for index, pair in enumerate(zip(said, seen)):
            foreseen(*pair, answer, "%s[%d]" % (at, index))
    else:
        if at.endswith(".options") and said and seen:  # of a bind they are its source's where they are not declared
            said = seen if set(said[1:]) <= set(seen) else said
        hold(said == seen or said in ("UNKNOWN", None), "P3 resources" + at, said, seen, answer)


# -- many ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(private_mounts: None) -> Iterator[str]:
    with namespace.place("3g") as path:
        os.mkdir(path + "/own")
        os.makedirs("/run/bulkhead", exist_ok=True)
        worlds.prepare(path)
        yield path


def tried(base: str, case: Move) -> Move:
    answer: Move = worlds.forked(lambda: play(base, case))
    return answer


def shrunk(base: str, case: Move, name: str, patience: float = 60.0) -> tuple[Move, Move]:
    """The smallest case found that breaks the same property."""
    deadline, answer = time.monotonic() + patience, {}
    again = True
    while again and time.monotonic() < deadline:
        again = False
        for less in cases.smaller(case):
            found = tried(base, less)
            if found["wrong"] and found["wrong"][0] == name:
                case, answer, again = less, found, True
                break
            if time.monotonic() > deadline:
                break
    return case, answer or tried(base, case)


def test_check_mode_says_what_a_run_does(base: str) -> None:
    if os.environ.get("BULKHEAD_CASE"):
        answer = tried(base, json.loads(os.environ["BULKHEAD_CASE"]))
        assert not answer["wrong"], "\n".join(answer["wrong"])
        return
    seed, wanted = (
        int(os.environ.get("BULKHEAD_" + name, word)) for name, word in (("SEED", "1"), ("SEQUENCES", "500"))
    )
    limit, start = int(os.environ.get("BULKHEAD_FAILURES", "1")), time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    bad: dict[str, str] = {}
    for number in range(seed, seed + wanted):
        case = cases.case(number)
        answer = tried(base, case)
        counts.update(answer["counts"])
        if answer["wrong"]:
            name = answer["wrong"][0]
            counts["WRONG " + name] += 1
            if name not in bad and len(bad) < limit:
                small, last = shrunk(base, case, name)
                bad[name] = "seed %d\n%s\n%s" % (number, json.dumps(small), "\n".join(last["wrong"] or ["(not again)"]))
                print(bad[name], file=sys.stderr)
            if len(bad) >= limit:
                break
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        "%.1f s, %.1f s of CPU" % (time.monotonic() - start, spent.ru_utime + spent.ru_stime),
        dict(sorted(counts.items())),
    )
    assert not bad, "\n\n".join(bad.values())
