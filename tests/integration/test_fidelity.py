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
from ansible_collections.bulkhead.storage.tests.support.known_cases import KNOWN

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
WORLD_S += ("capacity_bytes",)


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
    before, named = eyes.picture(times=False), places(rows, check)
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
            same(mountless(check, before), mountless(check, after), "P9 a run refused behind a door changed", run)
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
                late or hidden(error, check) or aliased(error, blind) or unordered(error, document),
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
    neighbours(run, before, after, rows, named)
    still = eyes.picture()
    again = worlds.call(document, look_only=True, plain=plain)
    whole(again, "rerun")
    hold(not again.get("failed"), "P4 the second run fails", run, again)
    hold(not again["changed"] and not again["actions"], "P4 the second run changes", run, again)
    same(still, eyes.picture(), "P4 the second run changed", again)
    foreseen(check["resources"], again["resources"], check)
    return run


def hidden(error: Move, check: Move) -> bool:
    """It is about something beneath a fresh mount of this declaration: nobody knows what is in it yet, and where
    others than root can write nobody looks beyond a mount."""
    over = [row["target"] for row in check["actions"] if row["port"] == "mount" and row["before"] is None]
    ends = [path.rstrip("/") + end for path in over for end in ("/", ": project quota", " is a foreign mount")]
    codes = ("not_found", "not_enforced", "unsupported", "unsafe_path")
    return error["code"] in codes and error["message"].startswith(tuple(ends))


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


def mountless(check: Move, seen: Move) -> Move:
    """``books`` without the content of images that a run mounts: a filesystem writes down that it was mounted."""
    values = [row["after"] for row in check["actions"] if row["port"] == "mount" and isinstance(row["after"], dict)]
    images = {value["source"] for value in values if not value.get("bind") and value["source"] in seen}
    return {k: v[:6] if k in images else v for k, v in books(seen).items()}


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
        value = dressed(answer, row, row[side]) if side == "after" else row[side]
        found = eyes.wrong(row, value, now, hidden)
        hold(not found, name, found, answer)


def dressed(answer: Move, row: Move, value: Any) -> Any:
    """The rights of a memory filesystem are those of its root: the last row that says them is right."""
    for other in answer["actions"]:
        if (row["port"], other["port"], other["target"]) == ("mount", "mounted", row["target"]) and value:
            rights = {"o:" + k: other["after"][k] for k in ("mode", "uid", "gid") if "o:" + k in value}
            value = {**value, **rights}
    return value


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
    told_later = any(row["before"] == "UNKNOWN" for row in check["actions"])  # refused behind a door: not failed
    more = len(run["errors"]) - summary["failed"]
    hold(not more or (more > 0 and told_later) or not summary["failed"], "P5 failed", run)
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
        same(mountless(check, before), mountless(check, after), "P5 a failed run that kept nothing changed", run)


def places(rows: list[Any], answer: Move) -> tuple[set[Any], ...]:
    """What may change, found by a table of mounts: itself, with all that lies in it, and where something is mounted."""
    at = eyes.Places(rows)
    itself, whole, mounts = set(), set(), set()
    for row in answer.get("actions", ()):
        if row["port"] == "mount":
            mounts.add(at.where(row["target"], True))
            values = [row[side] for side in ("before", "after") if isinstance(row[side], dict)]
            images = [str(value.get("source")) for value in values if not value.get("bind")]
            itself |= {at.where(path, True) for path in (row["target"], *images) if path[:1] == "/"}
        elif row["port"] == "fstab":  # by whatever other name it is seen
            itself.add(at.where(row["target"].partition(" ")[0], True))
        elif row["target"][:1] == "/":
            if any((other["port"], other["target"]) == ("mount", row["target"]) for other in answer["actions"]):
                dev, above = at.where(
                    os.path.dirname(row["target"]), True
                )  # its mount point, whatever is mounted there
                itself.add((dev, above.rstrip("/") + "/" + os.path.basename(row["target"])))
            (whole if row["port"] == "data" else itself).add(at.where(row["target"], True))
    return itself, whole, mounts


def neighbours(run: Move, before: Move, after: Move, old: list[Any], named: tuple[set[Any], ...]) -> None:
    """Only what is declared changes, by whatever name it is seen; what is mounted changes what is seen there."""
    ours: dict[str, set[str]] = collections.defaultdict(set)
    for row in run["actions"]:
        ours[row["port"]].add(row["target"])
    now = eyes.mounts()
    itself, whole, mounts = (one | two for one, two in zip(named, places(now, run)))
    then, there = eyes.Places(old), eyes.Places(now)
    for path in eyes.changed(books(before), books(after)):
        if path in ("mounts", "rows", "fstab", "/etc", "loops", "quota"):
            continue
        was, is_now = then.where(path), there.where(path)
        if was == is_now:
            mine = was in itself or eyes.within(was, whole)
        else:
            mine = eyes.within(was, mounts) or eyes.within(is_now, mounts)
        hold(mine, "P7 a neighbour changed", path, before.get(path), after.get(path), run)
    rows = [key for key in before["rows"].keys() | after["rows"].keys() if "%s %s" % key not in ours["record"]]
    hold(all(before["rows"].get(k) == after["rows"].get(k) for k in rows if k[0] != "intent"), "P7 a row changed", run)
    mounted(run, ours["mount"], old, now)
    lines = [
        [at for at in seen["fstab"].split(b"\n") if eyes.point(at) not in ours["fstab"]] for seen in (before, after)
    ]
    hold([at for at in lines[0] if at] == [at for at in lines[1] if at], "P7 fstab changed", lines, run)


def mounted(run: Move, ours: set[str], old: list[Any], now: list[Any]) -> None:
    """No mount comes, goes or changes but where one is declared, and what it takes along or brings beneath it.

    All mounts of a filesystem show its one set of options; a bind lives on when its directory is removed.
    """
    shared = {row.dev for row in (*old, *now) if row.path in ours}

    def shown(rows: list[Any], others: list[Any]) -> list[Any]:
        gone = {(row.number, row.root[: -len("//deleted")]) for row in others if row.root.endswith("//deleted")}
        found = []
        for row in rows:
            kinds = tuple(tag.partition(":")[0] for tag in row.tags)
            root = row.root + "//deleted" * ((row.number, row.root) in gone)
            more = () if row.dev in shared else tuple(sorted(row.more.items()))
            found.append((row.path, row.dev, root, kinds, row.fstype, row.source, tuple(sorted(row.options)), more))
        return found

    one, two = shown(old, now), shown(now, old)
    differ = [row for row in one if row not in two] + [row for row in two if row not in one]
    far = [row for row in differ if not any(row[0] == path or row[0].startswith(path + "/") for path in ours)]
    hold(not far, "P7 a mount changed", far, run)


def foreseen(said: Any, seen: Any, answer: Move, at: str = "") -> None:
    """What check mode says would stand, and what stands; what only the world can choose is left out."""
    if isinstance(said, dict) and isinstance(seen, dict):
        for key in said.keys() | seen.keys():
            if key not in WORLD_S:
                foreseen(said.get(key), seen.get(key), answer, "%s.%s" % (at, key))
    elif at.endswith(".options") and isinstance(said, list) and seen:
        # of a bind they are its source's where they are not declared
        hold(set(said) <= set(seen), "P3 resources" + at, said, seen, answer)
    elif isinstance(said, list) and isinstance(seen, list) and len(said) == len(seen):
        for index, pair in enumerate(zip(said, seen)):
            foreseen(*pair, answer, "%s[%d]" % (at, index))
    else:
        hold(said == seen or said in ("UNKNOWN", None), "P3 resources" + at, said, seen, answer)


# -- what stood before makes no difference (P6) ------------------------------------------------------------------------


def succeed(base: str, case: Move) -> Move:
    """The last declaration on a blank host, or after the first one: what it answered, and the counts."""
    counts: collections.Counter[str] = collections.Counter()
    answer: Move = {"wrong": None, "run": {}}
    worlds.enter(base, case["srv"])
    try:
        for move in case["images"]:
            worlds.do(base, move, [])
        if "blank" in case:
            declared({"declare": case["first"]}, counts)
        counts.clear()
        answer["run"] = declared({"declare": case["last"]}, counts)
        if "blank" in case and not answer["run"].get("failed"):
            for row in decided(case):
                found = eyes.wrong(row, row["after"], eyes.mounts())
                hold(not found, "P6 what stood before makes a difference", found, answer["run"])
            counts["decided"] += len(decided(case))
    except Wrong as error:
        answer["wrong"] = list(error.args)
    finally:
        worlds.leave(base)
    return {**answer, "counts": counts}


def decided(case: Move) -> list[Move]:
    """The last word on everything that the last declaration names, as it was on the blank host."""
    document, run = case["last"], case["blank"]
    named = {path.rstrip("/") or "/" for kind in ("tmpfs", "mounts", "quotas") for path in _paths(document, kind)}
    trees = [(tree, entry) for tree in document.get("trees", ()) for entry in tree["entries"]]
    named |= {os.path.normpath("%s/%s" % (tree["root"], entry["path"])) for tree, entry in trees}
    mounted = {row["target"] for row in run["actions"] if row["port"] == "mount" and row["after"]}
    rows = {(row["port"], row["target"]): row for row in run["actions"]}
    found = []
    for (port, target), row in rows.items():
        path = target.partition(" ")[2] if port in ("fstab", "quota") else target
        if path not in named or port not in ("node", "mounted", "mount", "fstab", "quota") or not row["after"]:
            continue
        if port == "node" and target in mounted:
            continue  # it is hidden, and nobody says more of it than that it is there
        after = dict(row["after"])
        if port == "mount":
            after = dressed(run, row, after)
        found.append({**row, "after": after})
    return found


def _paths(document: Move, kind: str) -> list[str]:
    return [entry["path"] for entry in document.get(kind, ())]


def succeeded(base: str, case: Move, how: str) -> Move:
    answer: Move = worlds.forked(lambda: succeed(base, case))
    assert not answer["wrong"], "%s: %s\n%s" % (how, json.dumps(case), "\n".join(answer["wrong"]))
    return answer


def test_what_stood_before_makes_no_difference(base: str) -> None:
    """Run the first, then the second: as the second alone on a blank host, or refused, in check mode too (P6)."""
    seed = int(os.environ.get("BULKHEAD_SEED", "1"))
    wanted = max(1, int(os.environ.get("BULKHEAD_SEQUENCES", "500")) // 10)
    counts: collections.Counter[str] = collections.Counter()
    for number in range(seed, seed + wanted):
        case = cases.succession(number)
        blank = succeeded(base, case, "on a blank host")
        if blank["run"].get("failed"):
            counts["not to be had: " + blank["run"]["code"]] += 1
            for error in blank["run"]["errors"] if os.environ.get("BULKHEAD_TELL") else ():
                print("BLANK", error["code"], error["message"][:300], file=sys.stderr)
            continue
        counts.update(succeeded(base, {**case, "blank": blank["run"]}, "after another")["counts"])
    print(dict(sorted(counts.items())))
    assert counts["decided"], "nothing was compared"


# -- many ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(private_mounts: None) -> Iterator[str]:
    with namespace.place("3g") as path:
        os.mkdir(path + "/own")
        os.makedirs("/run/bulkhead", exist_ok=True)
        worlds.prepare(path)
        yield path


def tried(base: str, case: Move) -> Move:
    try:
        answer: Move = worlds.forked(lambda: play(base, case))
    except RuntimeError as error:
        return {"wrong": ["P0 a host has no end", str(error)], "counts": {}}
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


@pytest.mark.parametrize("name", KNOWN)
def test_what_was_wrong_once_is_right(base: str, name: str) -> None:
    wrong = tried(base, KNOWN[name])["wrong"]
    assert not wrong, "\n".join(wrong)


MEMORY = {"path": "/srv/m", "size": "64KiB"}


def _root(**rights: str) -> Move:
    return {"trees": [{"root": "/srv/m", "entries": [{"path": ".", **rights}]}]}


def _bind(source: str) -> Move:
    return {"mounts": [{"path": "/mnt/here", "source": source, "bind": True}]}


REFUSED: dict[str, tuple[str, Move]] = {
    "two modes of one root": ("conflict", {"tmpfs": [{**MEMORY, "mode": "0700"}], **_root(mode="0711")}),
    "two owners of one root": ("conflict", {"tmpfs": [{**MEMORY, "owner": "1"}], **_root(owner="2")}),
    "a source that is hidden": ("not_found", {"tmpfs": [MEMORY], **_bind("/srv/m/old")}),
    "a limit that memory cannot hold": (
        "not_enforced",
        {"tmpfs": [MEMORY], "quotas": [{"path": "/srv/m", "hard": "1MiB"}]},
    ),
    "what a mount will hide": (
        "conflict",
        {"tmpfs": [MEMORY], "trees": [{"root": "/srv", "entries": [{"path": "m/a"}]}]},
    ),
    "a link to what is to come": ("unsafe_path", {"tmpfs": [MEMORY], **_bind("/srv/link/m")}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_mode_refuses_what_a_run_cannot_do(base: str, name: str) -> None:
    code, document = REFUSED[name]
    moves = [{"do": "dir", "path": "/srv/m/old"}, {"do": "symlink", "path": "/srv/link", "to": "."}]
    assert worlds.forked(lambda: refused(base, moves, document)) == [code]
    fitting = {kind: entries for kind, entries in document.items() if kind == "tmpfs"}
    assert worlds.forked(lambda: refused(base, moves, fitting)) == [], "without the other it can be done"


def refused(base: str, moves: list[Move], document: Move) -> list[str]:
    worlds.enter(base, "tmpfs")
    try:
        for move in moves:
            worlds.do(base, move, [])
        return [error["code"] for error in worlds.call(document, check=True, look_only=True).get("errors", ())]
    finally:
        worlds.leave(base)


STRANGERS: dict[str, list[Move]] = {
    "a neighbour": [{"do": "chmod", "path": "/srv/other", "mode": 0o700}],
    "a neighbour by its other name": [{"do": "chmod", "path": "/mnt/bound/other", "mode": 0o700}],
    "a directory beside": [{"do": "dir", "path": "/srv/new"}],
    "a directory in one that is only kept as it is": [{"do": "dir", "path": "/srv/a/new"}],
    "a file in a filesystem that is resized": [{"do": "file", "path": "/mnt/mem/new"}],
    "a directory where a bind is made": [{"do": "dir", "path": "/srv/source/new"}],
    "a neighbour that goes": [{"do": "remove", "path": "/srv/other"}],
    "a mount": [{"do": "tmpfs", "path": "/srv/other", "options": "size=64k"}],
    "the size of a mount": [{"do": "resize", "path": "/mnt/foreign"}],
    "a flag of the same filesystem's other mount": [{"do": "frozen", "path": "/mnt/membound"}],
    "a mount that goes": [{"do": "umount", "path": "/mnt/foreign"}],
    "a line of fstab": [{"do": "fstab", "text": "/srv/a /mnt/x none bind 0 0\n"}],
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_change_that_nobody_declared_is_noticed(base: str, name: str) -> None:
    """The other side of P7: what it takes for declared, it must not take for more."""
    assert worlds.forked(lambda: noticed(base, STRANGERS[name])), name
    assert not worlds.forked(lambda: noticed(base, [])), "without it all is well"


def noticed(base: str, moves: list[Move]) -> bool:
    worlds.enter(base, "tmpfs")
    try:
        for path in ("/srv/other", "/srv/source"):
            worlds.do(base, {"do": "dir", "path": path}, [])
        worlds.do(base, {"do": "bind", "path": "/mnt/bound", "source": "/srv"}, [])
        for path, beside in (("/mnt/mem", "/mnt/membound"), ("/mnt/foreign", "/mnt/other")):
            worlds.do(base, {"do": "tmpfs", "path": path, "options": "size=1m,nr_inodes=64"}, [])
            worlds.do(base, {"do": "bind", "path": beside, "source": path}, [])
        document = {
            "trees": [{"root": "/srv/a", "entries": [{"path": "b", "mode": "0700"}]}],
            "tmpfs": [{"path": "/mnt/mem", "size": "64KiB"}],
            "mounts": [{"path": "/srv/here", "source": "/srv/source", "bind": True}],
        }
        rows, check = eyes.mounts(), worlds.call(document, check=True)
        before, named = eyes.picture(times=False), places(rows, check)
        run = worlds.call(document)
        assert run["changed"] and not run.get("failed"), run
        for move in moves:
            if move["do"] == "resize":
                worlds._mount("", move["path"], "tmpfs", "size=64k", 32)
            else:
                worlds._DEEDS[move["do"]](base, move, [])
        try:
            neighbours(run, before, eyes.picture(times=False), rows, named)
        except Wrong:
            return True
        return False
    finally:
        worlds.leave(base)


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
        counts["hosts"] += 1
        if counts["hosts"] % 250 == 0:
            print(counts["hosts"], "hosts, %.0f s" % (time.monotonic() - start), file=sys.stderr)
        if answer["wrong"]:
            name = answer["wrong"][0]
            counts["WRONG " + name] += 1
            if name not in bad and len(bad) < limit:
                small, last = shrunk(base, case, name)
                bad[name] = "seed %d\n%s\n%s" % (
                    number,
                    json.dumps(small),
                    "\n".join(last["wrong"] or ["(not again)", *answer["wrong"]]),
                )
                print(bad[name], file=sys.stderr)
            if len(bad) >= limit:
                break
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        "%.1f s, %.1f s of CPU" % (time.monotonic() - start, spent.ru_utime + spent.ru_stime),
        dict(sorted(counts.items())),
    )
    assert not bad, "\n\n".join(bad.values())
