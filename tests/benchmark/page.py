# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the documentation, from the raw figures. Pure: the same figures make the same page."""

from __future__ import annotations

from statistics import median
from typing import Any, Callable

from ansible_collections.bulkhead.storage.tests.benchmark.figures import (
    above,
    extrapolated,
    middle,
    ratio,
    seconds,
    spread,
    table,
    times,
)

_HEAD = """..
  Copyright (c) 2026 bulkhead.storage contributors
  GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
  SPDX-License-Identifier: GPL-3.0-or-later

.. _ansible_collections.bulkhead.storage.docsite.performance:

What bulkhead.storage costs
===========================

.. contents::
   :local:

Measured on %(date)s by ``make benchmark``, which writes this page: %(cpu)s, %(cores)d cores, %(memory_gib)d GiB, Linux
%(kernel)s; ansible-core %(ansible-core)s on Python %(controller_python)s, the target's Python %(target_python)s. All of
it is one host, reached by the ``local`` connection with pipelining, without fact gathering. The raw figures are in
``tests/benchmark/results``.

CPU is user and system time of a process and all its children. What is compared ran in turn, and a ratio is the median
of the ratios of each round, so that a noisy moment hits both sides. One tenant is a directory with owner, mode and six
ACL entries.
"""
_WORDS = {
    "directories": "directories, owner, mode, ACL",
    "tmpfs": "tmpfs",
    "binds": "bind mounts",
    "filesystems": "ext4 filesystems",
    "quotas": "Btrfs quotas",
    "volumes": "Btrfs volumes",
}
_PEERS = {
    "directories": "``ansible.builtin.file``, ``ansible.posix.acl``",
    "tmpfs": "``ansible.posix.mount``",
    "binds": "``ansible.posix.mount``",
    "filesystems": "``community.general.filesystem``",
    "quotas": "``ansible.builtin.command``: btrfs",
}
_PLACES = (
    ("file", "ping", "a file on the target", 1.15),
    ("json", "load json", "JSON, ``vars_files``", 1.6),
    ("host", "load host", "JSON, ``host_vars``", 1.6),
    ("yaml", "load yaml", "YAML, ``vars_files``", 3.0),
)
Found = dict[str, Any]
_WHY = """
What stands between the figures and the goals that are not reached:

* *Packing.* Once a play Ansible parses every file that a module may import, to find what to send. For ``layout``, which
  sends all kinds, that is the largest part of the difference to a ping.
* *Variables.* Loading JSON through ``vars_files`` costs most of what is allowed, whoever uses it then.
* *Loading.* A quiet call reads and compiles some 1,400 lines of ours from the archive; with one entry as with many that
  is nearly all that the module process is allowed above a ping's.
* *Safety.* A first converge looks three times (before the lock, under it, and when it is done), reaches every path by
  descriptor, makes a directory under a private name before it appears, reads back what the kernel was asked for, and
  writes what it does to a journal. In Python each of these costs more than the one system call that it guards. What
  *safe calls alone* cost is measured with a plain script (``tests/benchmark/careful.py``) that makes only the calls
  that a safe run cannot leave out, without declarations, plan and journal: nothing in Python that keeps the promises
  gets below that.
"""


def written(found: Found) -> str:
    parts = [_HEAD % {"date": found["date"], **found["machine"]}, _goals(found), _plays(found), _module(found)]
    parts += [_loops(found), _guest(found), _thin(found), _jobs(found), _network(found), _elsewhere(found)]
    parts += [_floor(found), _mitogen(found)]
    return "\n".join(part for part in parts if part).rstrip("\n") + "\n"


def _title(text: str) -> str:
    return "%s\n%s\n\n" % (text, "-" * len(text))


def _goals(found: Found) -> str:
    rows = [["Goal", "Wanted", "Reached", ""]]

    def add(what: str, limit: str, value: str, good: bool) -> None:
        rows.append([what, limit, value, "yes" if good else "**no**"])

    plays, module = found["plays"]["rounds"], found["module"]["rounds"]
    for name, _load, words, limit in _PLACES:
        got = ratio(plays, name, "ping")
        add("Play that changes nothing, %s" % words, "%s of a ping play" % times(limit), times(got), got <= limit)
    for name, words in (("file", "a file on the target"), ("json", "JSON variables")):
        got, size = ratio(module, name, "ping"), middle(module, name, "rss")
        add("Its module process, %s: CPU" % words, "1.25x of ping's", times(got), got <= 1.25)
        add("Its module process, %s: memory" % words, "32 MiB", "%.1f MiB" % size, size <= 32)
    calls = found["module"]["calls"]
    count = sum(len(calls[name][what]) for name in ("file", "json") for what in ("programs", "changes"))
    add("Programs run and mutating system calls", "0", str(count), count == 0)
    for size, limit in ((100, 90), (1000, 400)):
        theirs, mine = _theirs(found, "directories", size), _mine(found, "directories", size)
        if theirs is not None and mine is not None:
            mark = "" if theirs[1] else " (extrapolated)"
            got = theirs[0] / mine
            add("Loops of others at %d tenants" % size, "at least %dx" % limit, times(got) + mark, got >= limit)
    for kind in ("directories", "tmpfs", "binds"):
        row = _row(found["floor"], kind, 1000)
        if row is not None:
            got = above(row["first"], "module", "ping") / middle(row["first"], "bare")
            value = times(got)
            if "careful" in row["first"][0]:
                value += " (safe calls alone: %s)" % times(ratio(row["first"], "careful", "bare"))
            add("First converge of 1,000 %s" % _WORDS[kind], "2x of the system calls", value, got <= 2)
    return _title("Goals") + table(rows) + _WHY


def _plays(found: Found) -> str:
    plays = found["plays"]["rounds"]
    rows = [["Declaration", "CPU", "of a ping play", "smallest to largest", "the same variables, ping"]]
    rows.append(["(an empty play)", seconds(middle(plays, "empty")), times(ratio(plays, "empty", "ping")), "", ""])
    rows.append(["(a play with one ping)", seconds(middle(plays, "ping")), "1x", "", ""])
    for name, load, words, _limit in _PLACES:
        low, high = spread(plays, name, "ping")
        floor = "" if load == "ping" else times(ratio(plays, load, "ping"))
        cost = seconds(middle(plays, name))
        rows.append([words, cost, times(ratio(plays, name, "ping")), "%s to %s" % (times(low), times(high)), floor])
    text = """
A play with one ``layout`` of {:,} tenants that are as declared, beside a play with one ``ansible.builtin.ping``. The
last column is a play with the same variables and a ping that does not use them: the price of loading them, which is
Ansible's. Keep large declarations in JSON, or in a file on the target.
""".format(found["plays"]["count"])
    peak = "\nThe controller's largest process took %.0f MiB for JSON variables, %.0f MiB for a ping.\n" % (
        middle(plays, "json", "rss"),
        middle(plays, "ping", "rss"),
    )
    return _title("Whole plays with nothing to do") + text.lstrip() + "\n" + table(rows) + peak + _fleet(found)


def _fleet(found: Found) -> str:
    fleet = found.get("fleet")
    if not fleet:
        return ""
    cells = {}
    for name in ("ping", "file"):
        each = above(fleet["rounds"], name + " all", name + " one") / (fleet["hosts"] - 1)
        cells[name] = each
    text = """
Ansible packs a module once a play and sends it to every host. A further host costs {} of CPU for a ``layout`` of {:,}
tenants from a file on the target, {} for a ping, {} of it (plays on {} hosts less plays on one, all of them this host).
"""
    ratio_of = times(cells["file"] / cells["ping"])
    return text.format(seconds(cells["file"]), fleet["count"], seconds(cells["ping"]), ratio_of, fleet["hosts"])


def _module(found: Found) -> str:
    rounds = found["module"]["rounds"]
    rows = [["Process on the target", "CPU", "of ping's", "wall", "peak memory", "sent", "its looking and planning"]]
    for name, words in (("ping", "ping"), ("file", "layout, a file"), ("json", "layout, JSON variables")):
        inside = "" if name == "ping" else seconds(middle(rounds, name, "inside"))
        rows.append(
            [
                words,
                seconds(middle(rounds, name)),
                times(ratio(rounds, name, "ping")),
                seconds(middle(rounds, name, "wall")),
                "%.1f MiB" % middle(rounds, name, "rss"),
                "%.0f KiB" % (found["module"]["sent"][name] / 1024),
                inside,
            ]
        )
    text = (
        "What Ansible sends to the target, run again without the controller around it; {:,} tenants, nothing to do.\n"
    )
    return _title("The module process") + text.format(found["module"]["count"]) + "\n" + table(rows)


def _loops(found: Found) -> str:
    rows = [["What", "With", "N", "their loop", "layout, JSON", "ratio", ""]]
    for kind, words in _WORDS.items():
        for count in (10, 100, 1000):
            theirs, mine = _theirs(found, kind, count), _mine(found, kind, count)
            if theirs is not None and mine is not None:
                note = "" if theirs[1] else "extrapolated"
                cells = [seconds(theirs[0]), seconds(mine), times(theirs[0] / mine), note]
                rows.append([words, _PEERS[kind], f"{count:,}", *cells])
    text = """
CPU of whole plays with nothing to do, start-up included on both sides: one ``loop`` task (directories: one for the
directories, one for the ACL entries) beside one ``layout``. At 1,000 their loop is extrapolated along the straight line
through 10 and 100, and ours is the measured play with directories, which stands for all kinds.
"""
    changed = sorted({_PEERS[row["kind"]] for row in found["loops"] if row["changed"]})
    if changed:
        text += "%s says ``changed`` on every run.\n" % " and ".join(changed)
    return _title("Beside the loops of others") + text.lstrip() + "\n" + table(rows)


def _guest(found: Found) -> str:
    guest = found.get("guest")
    if not guest:
        return ""
    calls, loops = guest["calls"], guest["loops"]
    rows = [["Play with nothing to do", "N", "wall", ""], ["ping", "", seconds(median(guest["ping"])), ""]]
    rows.append(["``layout``", "{:,}".format(guest["count"]), seconds(median(guest["layout"])), ""])
    rows += [["``community.general.xfs_quota``", count, seconds(loops[count]), ""] for count in sorted(loops, key=int)]
    note = times(guest["ratio"]) + " (extrapolated)"
    rows.append(
        ["``community.general.xfs_quota``", "{:,}".format(guest["count"]), seconds(guest["extrapolated"]), note]
    )
    text = """
Project quotas on XFS, Linux {} in an emulated guest (``tests/benchmark/xfs_quota.py``). The module process walked the
quotas once: {:,} steps, {} programs, {} limits set.
"""
    told = text.lstrip().format(guest["kernel"], calls["next"], calls["programs"], calls["set"])
    return _title("Project quotas in a guest") + told + "\n" + table(rows)


def _jobs(found: Found) -> str:
    """Medians of the rounds; a share is the median of the shares of each."""
    told = found.get("jobs")
    if not told:
        return ""
    rounds = told["rounds"]

    def share(part: str, whole: str) -> str:
        return times(median(one[part] / one[whole] for one in rounds))

    rows = [["One of them", "wall", ""]]
    for name, words, note in (
        ("mounts", "``mount`` of an image and a bind of it", ""),
        ("attach", "attach a volume", share("attach", "mounts") + " of these"),
        ("detach", "detach it", ""),
        ("service", "``systemd-run`` of a plain service", ""),
        ("walled", "``systemctl start`` of a service with the walls of a job", share("walled", "service") + " of that"),
        ("start", "start a job with a volume", share("start", "walled") + " of that"),
        ("systemd", "of it ``systemctl start``", share("systemd", "start") + " of the whole"),
        ("again", "ask for it again, nothing to do", ""),
        ("end", "end and remove it", ""),
    ):
        rows.append([words, seconds(median(one[name] for one in rounds)), note])
    text = """
In an emulated guest (``tests/benchmark/jobs.py``), Linux {}, systemd {}; the engine without Ansible before it, medians
of {} rounds in which each was done in turn. A volume is an image with ext4. To attach one is to mount it and to bind
it, with the looks, the lock, the journal and the catalogue, which is on disk before. A job has its volume attached, a
tmpfs for what it says, and its service made and started.
"""
    return (
        _title("Volumes and jobs in a guest")
        + text.lstrip().format(told["kernel"], told["systemd"], len(rounds))
        + "\n"
        + table(rows)
    )


def _thin(found: Found) -> str:
    told = found.get("thin")
    if not told:
        return ""
    rows = [["Thin volumes with ext4 and mounts", "N", "wall", "CPU"]]
    count, few = "{:,}".format(told["count"]), max(told["loops"], key=int)

    def add(words: str, number: str, cost: Callable[[str], str]) -> None:
        rows.append([words, number, cost("wall"), cost("cpu")])

    add("bare commands, from a blank disk", count, lambda what: seconds(middle(told["firsts"], "bare", what)))
    add("``layout``, from a blank disk", count, lambda what: seconds(middle(told["firsts"], "ours", what)))
    add("*times the bare commands (wanted: 1.3x)*", "", lambda what: times(ratio(told["firsts"], "ours", "bare", what)))
    add("ping", "", lambda what: seconds(middle(told["quiet"], "ping", what)))
    add("``layout``, nothing to do", count, lambda what: seconds(middle(told["quiet"], "layout", what)))
    add("*times a ping (wanted: 1.5x)*", "", lambda what: times(ratio(told["quiet"], "layout", "ping", what)))
    add("loops of others, nothing to do", few, lambda what: seconds(sum(one[what] for one in told["loops"][few])))
    add("the same, extrapolated", count, lambda what: seconds(looped(told, what)))
    add(
        "*times layout (wanted: 50x)*",
        "",
        lambda what: times(looped(told, what) / middle(told["quiet"], "layout", what)),
    )
    text = """
A group on a blank disk, a thin pool, {} thin volumes, an ext4 and a mount with its line of fstab on each: LVM {}, Linux
{} in an emulated guest (``tests/benchmark/thin.py``), just restored for each way, which ran in turn. The bare commands
are ``vgcreate``, ``lvcreate``, ``mkfs.ext4`` and ``mount``, one after the other, no play; ``layout`` is a whole play
over ssh. The loops are ``community.general.lvol``, ``community.general.filesystem`` and ``ansible.posix.mount``. CPU is
that of the controller and of the emulator; wall time is also what others did on the same host (load {:.1f}). A play
that changes nothing ran {} program, the report of LVM.

Above the bare commands are the start of a play, three looks with a report each, and for every volume the proof that it
is blank (8 MiB read before mkfs), what is begun written down and synced, and fstab replaced whole.
"""
    words = told["count"], told["lvm"], told["kernel"], told["load"], told["programs"]
    return _title("Thin volumes in a guest") + text.lstrip().format(*words) + "\n" + table(rows)


def _network(found: Found) -> str:
    told = found.get("network")
    if not told:
        return ""
    rows = [["What", "N", "", "wall", "CPU"]]
    words = {"nfs4": ("mounts of NFS", "their loop"), "ext4": ("LUNs, ext4 and mount", "their loops")}
    for kind, (what, loops) in words.items():
        for name, part in (("first", "firsts"), ("no-op", "quiet")):
            runs = told[kind][part]
            for way, which in (("``layout``", "ours"), (loops, "theirs")):
                cells = [seconds(middle(runs, which, cost)) for cost in ("wall", "cpu")]
                rows.append(["%s, %s" % (what, way), str(told["count"]), name, *cells])
            rows.append(
                ["*times layout*", "", name, *(times(ratio(runs, "theirs", "ours", c)) for c in ("wall", "cpu"))]
            )
    text = """
An emulated guest, Linux {}, and another one that serves it (``tests/benchmark/network.py``), each way from a guest that
was just restored and LUNs that are blank, N as it stands there. Their loops are ``ansible.posix.mount``, for LUNs after
``community.general.open_iscsi`` and ``community.general.filesystem``. CPU is that of the controller and of the emulator
of the client; wall time is also what others did on the same host (load {:.1f}).
"""
    title = _title("NFS and iSCSI in a guest")
    return title + text.lstrip().format(told["kernel"], told["load"]) + "\n" + table(rows)


def _elsewhere(found: Found) -> str:
    told = found.get("elsewhere")
    if not told:
        return ""
    rows = [["What", "N", "", "wall", "CPU", "less a ping"]]
    words = {"ec2": ("volumes of EBS", "their loop"), "ceph": ("pools of Ceph", "loop over ceph")}
    for kind, (what, loop) in words.items():
        for name, part in (("first", "firsts"), ("no-op", "quiet")):
            runs = told[kind][part]
            for way, which in (("``layout``", "ours"), (loop, "theirs")):
                if which in runs[0]:
                    cells = [seconds(middle(runs, which, cost)) for cost in ("wall", "cpu")]
                    own = seconds(above(runs, which, "ping")) if "ping" in runs[0] else ""
                    rows.append(["%s, %s" % (what, way), str(told[kind]["count"]), name, *cells, own])
            if "theirs" in runs[0]:
                ratios = [times(ratio(runs, "theirs", "ours", c)) for c in ("wall", "cpu")]
                own = times(above(runs, "theirs", "ping") / above(runs, "ours", "ping")) if "ping" in runs[0] else ""
                rows.append(["*times layout*", "", name, *ratios, own])
    calls = told["ec2"]["quiet"][0]
    text = """
Volumes on a double of EC2 on this host, which answers in milliseconds, beside ``amazon.aws.ec2_vol`` in a loop; pools
of a cluster that runs on this host, beside a loop over ``ceph osd pool get``, which asks for one figure of each
(``tests/benchmark/elsewhere.py``). The no-op of ``layout`` is {} request to EC2, that of the loop {}. CPU is that of
the controller with its modules. *Less a ping*: CPU above that of a play that pings (load {:.1f}).
"""
    count = [calls["calls " + which]["calls"] for which in ("ours", "theirs")]
    return _title("EC2 and Ceph") + text.lstrip().format(*count, told["load"]) + "\n" + table(rows)


def looped(told: Found, what: str) -> float:
    """The three loops of others over as many as ours, extrapolated."""
    points = sorted((int(few), sum(one[what] for one in tasks)) for few, tasks in told["loops"].items())
    return extrapolated(points, told["count"])


def _floor(found: Found) -> str:
    head = ["What", "N", "", "system calls", "safe calls", "layout above ping", "ratio"]
    rows = [[*head, "wall: calls", "wall: layout's own"]]
    for row in found["floor"]:
        for name, words in (("first", "first"), ("again", "no-op")):
            rounds = row[name]
            careful = seconds(middle(rounds, "careful")) if "careful" in rounds[0] else ""
            bare, ours = middle(rounds, "bare"), above(rounds, "module", "ping")
            walls = seconds(middle(rounds, "bare", "wall")), seconds(middle(rounds, "module", "inside"))
            cells = [_WORDS[row["kind"]], "{:,}".format(row["count"]), words]
            rows.append([*cells, seconds(bare), careful, seconds(ours), times(ours / bare), *walls])
    text = """
The same results by the bare system calls in a plain Python script (``tests/benchmark/bare.py``), from nothing to all of
it, and looked at again. The script's figures are those of its loops alone. Ours are the CPU of the module process less
that of ping's, so loading our code and checking the options count as ours; the last column is the wall time that the
module spent on looking, planning, applying and looking again. The script checks nothing, follows links, races others
and leaves half of it behind when it is killed. *Safe calls* are those that a run without these faults cannot do without
(``tests/benchmark/careful.py``).
"""
    left = "".join("\nFailed, so that it is missing here: %s.\n" % name for name in found.get("failed", ()))
    left += "".join(
        f"\nLeft out, because it takes minutes: {count:,} {_WORDS[kind]}.\n" for kind, count in found["left_out"]
    )
    return _title("Beside the bare system calls") + text.lstrip() + "\n" + table(rows) + left


def _mitogen(found: Found) -> str:
    """Measured where mitogen ran; else what an earlier measurement makes of the figures of this page."""
    title = _title("With mitogen")
    sizes = (found.get("mitogen") or {}).get("sizes")
    if not sizes:
        theirs, mine = _theirs(found, "directories", 100), _mine(found, "directories", 100)
        if theirs is None or mine is None:
            return ""
        text = """
Not measured here. An earlier measurement (mitogen 0.3.54, ansible-core 2.19) found a looped item at 14 ms instead of
269 ms of CPU, and 0.8 s more to start. **Calculated** with that: the loops over 100 tenants would take some {}, a
``layout`` some {}, so that the ratio shrinks from {} to {}.
"""
        loop, one = 100 * 7 * 0.014 + 1.6, mine + 0.8
        words = seconds(loop), seconds(one), times(theirs[0] / mine), times(loop / one)
        return title + text.lstrip().format(*words)
    rows = [["N", "ping", "layout", "their loops", "ratio"]]
    points = []
    for row in sizes:
        rounds, count = row["rounds"], row["count"]
        note = ""
        if "peers" in rounds[0]:
            theirs_cpu = middle(rounds, "peers")
            points.append((count, theirs_cpu))
        else:
            theirs_cpu, note = extrapolated(points, count), " (extrapolated)"
        mine_cpu = middle(rounds, "ours")
        cells = [seconds(middle(rounds, "ping")), seconds(mine_cpu), seconds(theirs_cpu) + note]
        rows.append([f"{count:,}", *cells, times(theirs_cpu / mine_cpu)])
    text = """
Mitogen keeps a Python running on the target, so that an item of a loop costs its work and not a process. CPU of whole
plays with directories, owner, mode and ACL, nothing to do, all of them with ``strategy: mitogen_linear``.
"""
    return title + text.lstrip() + "\n" + table(rows)


def _row(rows: list[Any], kind: str, count: int) -> Any:
    return next((row for row in rows if row["kind"] == kind and row["count"] == count), None)


def _mine(found: Found, kind: str, count: int) -> float | None:
    row = _row(found["loops"], kind, count)
    if row is not None:
        return middle(row["rounds"], "ours")
    return middle(found["plays"]["rounds"], "json") if count == found["plays"]["count"] else None


def _theirs(found: Found, kind: str, count: int) -> tuple[float, bool] | None:
    """(CPU, was it measured?)"""
    points = [(r["count"], middle(r["rounds"], "peers")) for r in found["loops"] if r["kind"] == kind]
    measured = dict(points)
    if count in measured:
        return measured[count], True
    return (extrapolated(sorted(points), count), False) if len(points) > 1 else None
