# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes that runs are killed in, and the proof that nothing of the kill is left.

``serve`` is a process of its own with a host of its own (see ``host``): it reads tasks as lines of JSON from its
standard input and answers each with one line.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.tests.support import crash, module, namespace, reconciling
from ansible_collections.bulkhead.storage.tests.support import host as hosts

ERRORS = ("ENOSPC", "EROFS", "EIO")
# What befalls a call. ``kill``: the run is gone, a program that it started goes on; ``reset``: both are gone;
# ``program``: only the program is gone; ``turn``: as ``kill``, and then everything is taken away again. Else the call
# fails with that error.
MODES = ("kill", "reset", "program", "turn", *ERRORS)
BOOKS = ("/var/lib/bulkhead", "/run/bulkhead")
_IMPLIED = "trusted.bulkhead.implied"
_CODES = frozenset(
    "invalid conflict unsafe_path not_found not_blank unreadable unstable_device in_use protected would_shrink"
    " would_destroy not_enforced unsupported limit_exceeded no_space checksum denied unreachable missing_tool locked"
    " moved unfenced did_not_settle timeout failed".split()
)


class Scene(NamedTuple):
    """``up`` makes what ``down`` takes away; ``first`` is made before both and is gone after ``last``."""

    module: str
    up: dict[str, Any]
    down: dict[str, Any]
    first: dict[str, Any] = {}  # options of layout
    last: dict[str, Any] = {}
    token: str = ""  # a device whose wipe_token ``down`` takes


_TREE: dict[str, Any] = {
    "root": "/srv/tenants",
    "entries": [
        {"path": "blue", "mode": "2770", "group": "1000", "acl": ["u:1001:rwX"], "default_acl": ["u:1001:rwX"]},
        {"path": "blue/builds", "mode": "0750", "owner": "1000"},
    ],
}
_TREE_GONE = {"root": "/srv/tenants", "entries": [{"path": e["path"]} for e in _TREE["entries"]], "state": "absent"}
_BLANK = "/dev/disk/by-id/virtio-blank-000%d"
_LOOP = {"name": "fast", "backend": "loop", "config": {"path": "/srv/fast"}}
_BTRFS = {"name": "fast", "backend": "btrfs", "config": {"path": "/srv/fast"}}
_GONE = {"name": "fast", "confirm": "fast", "state": "absent"}
_VOLUME = {"name": "data", "size": "8MiB", "pool": "fast", "owner": "1000", "mode": "0750"}
_IMAGE = {"path": "/mnt/deep/image", "source": "/srv/images/tools.img", "fstype": "ext4", "options": ["noatime"]}
_BIND = {"path": "/mnt/b/public", "source": "/srv/data/public", "bind": True, "options": ["nosuid", "nodev"]}
_UNIT = {"path": "/mnt/u", "size": "64KiB", "persist": "unit"}
_TMPFS = {"path": "/mnt/a/scratch", "size": "1MiB", "owner": "1000", "mode": "0700"}


def _absent(entry: dict[str, Any], *more: str) -> dict[str, Any]:
    return {**{name: entry[name] for name in ("path", *more)}, "state": "absent"}


SCENES = {
    "tree": Scene("tree", _TREE, _TREE_GONE),
    "tmpfs": Scene("tmpfs", _TMPFS, _absent(_TMPFS)),
    "tmpfs with a unit": Scene("tmpfs", _UNIT, _absent(_UNIT)),
    "unit instead of a line": Scene(
        "mount",
        {**_BIND, "persist": "unit"},
        _BIND,
        {"mounts": [_BIND]},
        {"mounts": [_absent(_BIND)]},
    ),
    "mount of an image": Scene("mount", _IMAGE, _absent(_IMAGE)),
    "mount of a folder": Scene("mount", _BIND, _absent(_BIND)),
    "quota": Scene(
        "quota", {"path": "/srv/projects/blue", "hard": "64MiB"}, {"path": "/srv/projects/blue", "state": "absent"}
    ),
    "ext4": Scene(
        "filesystem",
        {"device": _BLANK % 1, "fstype": "ext4", "label": "data"},
        {"device": _BLANK % 1, "state": "absent"},
        token=_BLANK % 1,
    ),
    "xfs": Scene(
        "filesystem",
        {"device": _BLANK % 2, "fstype": "xfs"},
        {"device": _BLANK % 2, "state": "absent"},
        token=_BLANK % 2,
    ),
    "btrfs": Scene(
        "filesystem",
        {"device": "/srv/images/pool.img", "fstype": "btrfs"},
        {"device": "/srv/images/pool.img", "state": "absent"},
        token="/srv/images/pool.img",
    ),
    "pool of images": Scene("pool", _LOOP, _GONE),
    "pool of subvolumes": Scene("pool", _BTRFS, _GONE),
    "image": Scene(
        "volume",
        {**_VOLUME, "state": "attached", "target": "/mnt/v/data"},
        {"name": "data", "state": "absent", "force": True},
        {"pools": [_LOOP]},
        {"pools": [_GONE]},
    ),
    "subvolume": Scene(
        "volume",
        {**_VOLUME, "state": "attached", "target": "/mnt/v/data"},
        {"name": "data", "state": "absent", "force": True},
        {"pools": [_BTRFS]},
        {"pools": [_GONE]},
    ),
    "memory": Scene(
        "volume",
        {"name": "m", "type": "memory", "size": "1MiB", "state": "attached", "target": "/mnt/m", "job": "j1"},
        {"name": "m", "state": "absent", "force": True},
    ),
    "growth of an image": Scene(
        "volume",
        {"name": "data", "size": "32MiB", "labels": {"tier": "pro"}},
        {"name": "data", "size": "16MiB", "allow_shrink": True, "labels": {}},
        {"pools": [_LOOP], "volumes": [{**_VOLUME, "size": "16MiB"}]},
        {"pools": [_GONE], "volumes": [{"name": "data", "state": "absent"}]},
    ),
    "clone of an image": Scene(
        "volume",
        {"name": "copy", "size": "16MiB", "pool": "fast", "source": {"type": "clone", "name": "data"}},
        {"name": "copy", "state": "absent"},
        {"pools": [_LOOP], "volumes": [_VOLUME]},
        {"pools": [_GONE], "volumes": [{"name": "data", "state": "absent"}]},
    ),
    "snapshot of a subvolume": Scene(
        "snapshot",
        {"name": "s", "volume": "data"},
        {"name": "s", "volume": "data", "state": "absent"},
        {"pools": [_BTRFS], "volumes": [_VOLUME]},
        {"pools": [_GONE], "volumes": [{"name": "data", "state": "absent"}]},
    ),
    "snapshot of an image": Scene(
        "snapshot",
        {"name": "s", "volume": "data"},
        {"name": "s", "volume": "data", "state": "absent"},
        {"pools": [_LOOP], "volumes": [{**_VOLUME, "state": "attached", "target": "/mnt/v/data"}]},
        {"pools": [_GONE], "volumes": [{"name": "data", "state": "absent", "force": True}]},
    ),
    "layout": Scene(
        "layout",
        {
            "trees": [_TREE],
            "tmpfs": [_TMPFS, {"path": "/srv/tenants/blue/tmp", "size": "64KiB"}],
            "mounts": [_BIND, _IMAGE],
            "quotas": [{"path": "/srv/projects/blue", "hard": "64MiB"}],
            "filesystems": [{"device": _BLANK % 1, "fstype": "ext4", "label": "data"}],
            "pools": [_LOOP],
            "volumes": [
                {**_VOLUME, "state": "attached", "target": "/mnt/v/data"},
                {"name": "m", "type": "memory", "size": "1MiB", "state": "attached", "target": "/mnt/v/m", "job": "j1"},
            ],
        },
        {
            "state": "absent",
            "trees": [{key: _TREE_GONE[key] for key in ("root", "entries")}],
            "tmpfs": [{"path": "/mnt/a/scratch"}, {"path": "/srv/tenants/blue/tmp"}],
            "mounts": [{"path": "/mnt/b/public"}, {"path": "/mnt/deep/image"}],
            "quotas": [{"path": "/srv/projects/blue"}],
            "filesystems": [{"device": _BLANK % 1}],
            "pools": [{"name": "fast", "confirm": "fast"}],
            "volumes": [{"name": "data", "force": True}, {"name": "m", "force": True}],
        },
        token=_BLANK % 1,
    ),
}


# -- what stands ---------------------------------------------------------------------------------------------------


def world() -> dict[str, Any]:
    """Everything that stands, by eyes of our own; see ``reconciling.snapshot``."""
    seen = reconciling.snapshot()
    seen["fstab"] = sorted(seen["fstab"].splitlines())  # a killed run may have written a later line first
    seen["mounts"] = [(*m[:3], re.sub(r"subvolid=\d+", "subvolid=N", m[3])) for m in seen["mounts"]]
    seen["rows"] = {" ".join(key): row for key, row in seen["rows"].items()}
    seen["tree"].pop("/var/lib/bulkhead/catalogue.reserve", None)  # there is one or not
    seen["etc"] = sorted(os.listdir(_upper()))
    seen["units"] = {
        os.path.join(at, name): _unit(os.path.join(at, name))
        for at, folders, files in os.walk("/etc/systemd/system")
        for name in folders + files
    }
    seen["run"] = sorted(os.listdir("/run/bulkhead"))
    seen["loops"] = _loops()
    seen["subvolumes"] = sorted(line.split()[-1] for line in _said("btrfs", "subvolume", "list", "/srv").splitlines())
    rows = [line.split() for line in _said("btrfs", "qgroup", "show", "-re", "--raw", "/srv").splitlines()]
    # Numbers of subvolumes are given once only, and the kernel keeps the group of one that is gone for a while.
    seen["limits"] = sorted(
        (row[0][0], row[3], row[4])
        for row in rows
        if len(row) > 4 and row[0][0].isdigit() and (row[0][0] != "0" or row[3:5] != ["none", "none"])
    )
    seen["disks"] = [_disk(path) for path in (_BLANK % 1, _BLANK % 2, "/srv/images/pool.img")]
    seen["implied"] = sorted(path for path in seen["tree"] if _IMPLIED in os.listxattr(path, follow_symlinks=False))
    return seen


def _unit(path: str) -> str:
    if os.path.islink(path) or os.path.isdir(path):
        return os.readlink(path) if os.path.islink(path) else "/"
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _disk(path: str) -> str:
    """By the magic numbers of magic(5)."""
    with open(path, "rb") as stream:
        head = stream.read(0x10100)
    if head[0x438:0x43A] == b"\x53\xef":
        return "ext4 " + head[0x478:0x488].rstrip(b"\0").decode()
    if head[:4] == b"XFSB":
        return "xfs"
    if head[0x10040:0x10048] == b"_BHRfS_M":
        return "btrfs"
    return "blank" if not any(head) else "remains"


def _upper() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        line = next(line for line in stream if line.split()[4] == "/etc" and " overlay " in line)
    return re.search(r"upperdir=([^,\s]+)", line).group(1)  # type: ignore[union-attr]


def _loops() -> int:
    """Loop devices over files of this host, also over those that have no name any more."""
    devices = {os.lstat(at).st_dev for own in reconciling.OWN for at, _folders, _files in os.walk(own)}
    count = 0
    for name in os.listdir("/sys/block"):
        if name.startswith("loop") and os.path.exists("/sys/block/%s/loop" % name):
            info = bytearray(232)  # struct loop_info64, linux/loop.h
            with contextlib.suppress(OSError), open("/dev/" + name, "rb") as stream:
                fcntl.ioctl(stream, namespace.LOOP_GET_STATUS64, info)
                count += struct.unpack_from("=Q", info)[0] in devices
    return count


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()


def difference(expected: dict[str, Any], seen: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> list[str]:
    """How the world differs, in words. It is given a moment: a loop device goes after its last user."""
    deadline = time.monotonic() + 2
    while True:
        lines = list(_differ("", expected, seen(world())))
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)


def _differ(where: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _differ("%s %s" % (where, key), one.get(key), other.get(key))
    elif one != other:
        yield "%s: %r became %r" % (where.strip(), one, other)


def bare(seen: dict[str, Any]) -> dict[str, Any]:
    """A world without the books of the collection, which a run that takes everything back leaves."""
    books = re.compile("|".join([*BOOKS, r"/var/lib/bulkhead/(journal|catalogue\..*)"]))
    tree = {path: row for path, row in seen["tree"].items() if not books.fullmatch(path)}
    return {**seen, "tree": tree, "run": []}


def swept(seen: dict[str, Any]) -> dict[str, Any]:
    """Without what the next change in the same folder sweeps away: a run that has nothing to do there does not look."""
    private = re.compile(r"(.*/)?\.(bulkhead|catalogue)-[^/]*")
    seen = bare(seen)
    return {
        **seen,
        "tree": {path: row for path, row in seen["tree"].items() if not private.fullmatch(path)},
        "etc": [name for name in seen["etc"] if not private.fullmatch(name)],
        "units": {path: text for path, text in seen["units"].items() if not private.fullmatch(path)},
        "implied": [path for path in seen["implied"] if not private.fullmatch(path)],
        "limits": [row for row in seen["limits"] if row[1:] != ("none", "none")],
    }


# -- runs in a scene -----------------------------------------------------------------------------------------------


class Wrong(Exception):
    """What a point was meant to prove does not hold."""


def layout(document: dict[str, Any], decide: crash.Decide | None = None) -> crash.Ended:
    """As the action plugin sends it; one at a time, so that the calls come in the same order each time."""
    options = {"_declaration": json.dumps(document), "_secrets": [], "workers": 1}
    return crash.run("layout", options, decide)


JOURNAL = "/var/lib/bulkhead/catalogue.sqlite-journal"


def _looks(call: crash.Call) -> bool:
    """Part of a look: beneath a mount; and SQLite, as root, hands the journal that a killed writer left without a
    header to the owner of the database, who has it, whenever it sees it. The next row that is written removes it."""
    return call.name == "open_tree" or call.text == "fchown %s" % JOURNAL


class Stage:
    """One scene on one host."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.at = scene, "nothing"
        self.options = {"up": dict(scene.up), "down": dict(scene.down)}
        self.calls, self.worlds = {}, {}
        self.to("down")
        for way in ("up", "down"):
            self.ready(way)
            done = self.run(way, lambda call: None)
            self.good(done, way)
            self.at = "used" if way == "down" else "up"
            self.calls[way] = list(filter(Points(), done.calls))
            self.worlds[way] = world()
            self.quiet(way)

    def run(self, way: str, decide: crash.Decide | None = None) -> crash.Ended:
        options = self.options[way]
        module = self.scene.module
        return layout(options, decide) if module == "layout" else crash.run(module, options, decide)

    def to(self, where: str) -> None:
        """``nothing``: a host on which this collection never was; there every way up begins."""
        while self.at != where:
            if self.at == "up":
                self.ready("down")
                self.good(self.run("down"), "a whole run down")
                self.at = "used"
            elif self.at in ("used", "down") and where != "up":
                self.clear()
                self.at = "nothing"
            elif self.at == "nothing":
                if self.scene.first:
                    self.good(layout(self.scene.first), "first")
                self.at = "down"
            else:
                self.good(self.run("up"), "a whole run up")
                self.at = "up"

    def clear(self) -> None:
        if self.scene.last:
            self.good(layout(self.scene.last), "last")
        shutil.rmtree("/var/lib/bulkhead", ignore_errors=True)
        for name in os.listdir("/run/bulkhead"):
            os.unlink("/run/bulkhead/" + name)
        subprocess.run(["btrfs", "quota", "disable", "/srv"], check=False, stderr=subprocess.DEVNULL)

    def ready(self, way: str) -> None:
        """The consent to wipe tells what is there, so it is asked for each time."""
        if way == "down" and self.scene.token:
            entry = {"device": self.scene.token, "state": "absent"}
            refused = crash.run("filesystem", entry).result or {}
            with contextlib.suppress(KeyError, IndexError):
                entry["wipe_token"] = refused["errors"][0]["details"]["wipe_token"]
            if self.scene.module == "layout":
                self.options["down"]["filesystems"] = [entry]
            else:
                self.options["down"] = entry

    def good(self, done: crash.Ended, what: str) -> dict[str, Any]:
        if done.result is None or done.result.get("failed") or done.status:
            raise Wrong("%s failed: %s" % (what, _brief(done)))
        return done.result

    def quiet(self, way: str) -> None:
        """One more run: nothing to do, and nothing done."""
        done = self.run(way, lambda call: None)
        result = self.good(done, "the run after")
        calls = [call.text for call in done.calls if is_point(call) and not _looks(call)]
        if result["changed"] or calls:
            raise Wrong("the run after changes something: %s %s" % (result["actions"], calls[:3]))

    def prove(self, way: str, index: int, mode: str) -> str:
        """One point. Returns "" or, for a call that failed and did not matter, what it was."""
        self.to("up" if way == "down" else "down")
        self.ready(way)
        before = world() if mode in ERRORS or mode == "program" else {}
        struck = Struck(index, mode)
        done = self.run(way, struck)
        if struck.call is None:
            raise Wrong(
                "the run has only %d points: %s, %s"
                % (struck.count, [plain(c.text) for c in done.calls[-8:]], _brief(done))
            )
        ignored = ""
        if mode in ("kill", "reset", "turn"):
            if done.status != -9:
                raise Wrong("it was not killed: %s" % _brief(done))
        else:
            ignored = self.told(done, struck.call, way, before)
        if mode == "turn":
            way = "down"
            self.ready(way)
        again = self.run(way)
        if again.result is not None and again.result.get("code") == "not_blank" and way == "down":
            self.ready(way)  # it had been wiped in part: another content, another consent
            again = self.run(way)
        self.good(again, "the next run")
        eyes = swept if mode == "turn" else dict
        lines = difference(eyes(self.worlds[way]), eyes)
        if lines:
            raise Wrong("the next run leaves another world: " + "; ".join(lines[:8]))
        self.quiet(way)
        self.at = "used" if way == "down" else "up"
        return ignored

    def told(self, done: crash.Ended, call: crash.Call, way: str, before: dict[str, Any]) -> str:
        """A run in which a call failed: it says so in a typed way, or it did without."""
        if done.result is None or done.status not in (0, 1):
            raise Wrong("it does not answer: %s" % _brief(done))
        if not done.result.get("failed"):
            lines = difference(self.worlds[way])
            if lines:
                raise Wrong("it says that all is well: " + "; ".join(lines[:8]))
            return plain(call.text)
        errors = done.result.get("errors") or []
        if not errors or any(error["code"] not in _CODES or not error["message"] for error in errors):
            raise Wrong("it fails without a code: %s" % _brief(done))
        for error in errors:
            if re.search(r"Traceback|: \w*(Error|Exception): ", error["message"]):
                raise Wrong("it fails by a defect: %s" % error)
        summary = done.result["summary"]
        forward = [action for action in done.result.get("actions", ()) if action["risk"] != "reversible"]
        if summary["failed"] and not summary["kept"] and not forward:
            # A limit is lifted in several calls, which are not taken back one by one.
            lines = [line for line in difference(bare(before), bare) if not line.startswith("limits:")]
            if lines:
                raise Wrong("it says that all was undone: %s; %s" % ("; ".join(lines[:8]), errors))
        return ""


def _brief(done: crash.Ended) -> str:
    if done.result and done.result.get("errors"):
        return "; ".join("%s %s" % (e["code"], e["message"]) for e in done.result["errors"][:3])
    return "status %d: %s" % (done.status, done.output[-1500:])


def plain(text: str) -> str:
    """The words of a call without what is different each time."""
    text = re.sub(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{8}\.jsonl", "J.jsonl", text)
    text = re.sub(r"/dev/loop\d+", "/dev/loopN", re.sub(r"[0-9a-f]{16,32}", "X", text))
    return re.sub(r"/proc/\d+/fd/\d+", "/proc/P/fd/N", text)


def is_point(call: crash.Call) -> bool:
    return call.own or call.name in ("execve", "exit_group")


class Points:
    """Which calls of a run are points. One is counted once, also when another process took the loop device first."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, call: crash.Call) -> bool:
        again = self.last == "LOOP_CONFIGURE" and call.text.startswith(("openat /dev/loop", "LOOP_CONFIGURE"))
        if is_point(call) and not again:
            self.last = call.name
        return is_point(call) and not again


class Struck:
    """Strikes at one point, and lets everything else go on."""

    def __init__(self, index: int, mode: str) -> None:
        self.index, self.mode, self.count, self.points = index, mode, 0, Points()
        self.call: crash.Call | None = None

    def __call__(self, call: crash.Call) -> Any:
        if not self.points(call):
            return None
        self.count += 1
        if self.count != self.index:
            return None
        self.call = call
        if self.mode in ERRORS:
            return getattr(errno, self.mode)
        return crash.Kill(run=self.mode != "program", caller=self.mode not in ("kill", "turn") and not call.own)


# -- the process ---------------------------------------------------------------------------------------------------


def suits(call: crash.Call, mode: str) -> bool:
    if mode in ("reset", "program"):
        return not call.own
    return mode in ("kill", "turn") or call.name != "exit_group"


def outlived(device: str, fstype: str, point: int) -> list[str]:
    """A run is killed while its mkfs is at its n-th change of the device, and the next run comes before that ends.

    Returns what does not hold: the next run is refused, or a later change of the first mkfs is not beneath it.
    """
    options = {"device": device, "fstype": fstype}
    seen: list[crash.Ended] = []
    count = 0

    def decide(call: crash.Call) -> None:
        nonlocal count
        count += not is_point(call)
        if count == point and not seen:
            with open("/proc/%d/status" % call.pid, encoding="utf-8") as stream:
                parent = next(int(line.split()[1]) for line in stream if line.startswith("PPid"))
            os.kill(parent, signal.SIGKILL)
            os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)
            seen.append(crash.run("filesystem", options, alone=False))

    crash.run("filesystem", options, decide)
    if not seen:
        return ["it changes the device only %d times" % count]
    code = (seen[0].result or {}).get("code")
    wrong = [] if code == "in_use" else ["the next run was not refused, its code was %s" % code]
    again = crash.run("filesystem", options)
    if again.status:
        wrong.append("the run after that failed: %s" % _brief(again))
    argv = {"ext4": ["e2fsck", "-fn"], "btrfs": ["btrfs", "check"], "xfs": ["xfs_repair", "-n"]}[fstype]
    done = subprocess.run([*argv, device], check=False, capture_output=True)
    return wrong + ([done.stdout.decode()[-300:]] if done.returncode else [])


_RESTORE = {"name": "s", "volume": "data", "state": "restored"}


def restored(pool: dict[str, Any], points: list[int], mode: str) -> dict[str, Any]:
    """A restore is struck at points, or (none given) at each; every time the next run has to bring it to its end.

    ``wrong``: what does not hold. Both contents must be there at any moment, the volume has one of them, and in the end
    nothing is left.
    """
    volume = "/srv/fast/default/data" + (".img" if pool["backend"] == "loop" else "/file")
    place = volume.replace("/default/", "/.snapshots/default/").replace("/data", "/data/%s", 1)
    layout({"pools": [pool], "volumes": [_VOLUME]})
    wrong: list[str] = []
    tried = index = 0
    for index in points or range(1, 1000):
        _write(volume, b"old")
        layout({"snapshots": [{"name": "s", "volume": "data"}]})
        _write(volume, b"new")
        struck = Struck(index, mode)
        crash.run("snapshot", _RESTORE, struck)
        tried += struck.call is not None
        at = "%d %s: " % (index, plain(struck.call.text) if struck.call else "")
        found = [_read(path) for path in (volume, place % "before-restore-s")]
        if found not in ([b"new", b"old"], [b"new", b""], [b"old", b"new"]) or _read(place % "s") != b"old":
            wrong.append(at + "what was struck left %r" % found)
        key = "snapshot default/data/before-restore-s"
        if mode in ERRORS and os.path.exists(place % "before-restore-s") and key not in world()["rows"]:
            wrong.append(at + "what is kept is not recorded")
        again = crash.run("snapshot", _RESTORE)
        found = [_read(path) for path in (volume, place % "before-restore-s")]
        if again.status or found != [b"old", b"new"]:
            wrong.append(at + "the run after left %r: %s" % (found, _brief(again)))
        quiet = crash.run("snapshot", _RESTORE)
        if (quiet.result or {}).get("changed") is not False:
            wrong.append(at + "the run after that: %s" % _brief(quiet))
        gone = [{"name": name, "volume": "data", "state": "absent"} for name in ("s", "before-restore-s")]
        done = layout({"snapshots": gone})
        argv = ["btrfs", "qgroup", "show", "-re", "--raw", "/srv"]
        listed = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.splitlines()
        limits = [line.split()[3] for line in listed if line.startswith("1/")]
        if mode in ERRORS:  # a group that could not be given its limit may stay, and charges nobody
            limits = [limit for limit in limits if limit != "none"]
        left = sorted(os.listdir("/srv/fast")), sorted(os.listdir("/srv/fast/default")), limits
        bounds = ["8388608"] if pool["backend"] == "btrfs" else []
        if done.status or left != (["default"], [os.path.basename(volume).replace("file", "data")], bounds):
            wrong.append(at + "it leaves %r: %s" % (left, _brief(done)))
        if struck.call is None:
            break
    layout({"volumes": [{"name": "data", "state": "absent"}], "pools": [_GONE]})
    return {"wrong": wrong, "tried": tried}


def _write(path: str, text: bytes) -> None:
    """Into a file, or where an image has nothing."""
    with open(path, "r+b" if path.endswith(".img") else "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(3)
    except FileNotFoundError:
        return b""


# Calls that change nothing that outlives the process.
_HARMLESS = frozenset(
    "access arch_prctl brk clone3 close close_range connect dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait execve"
    " exit exit_group faccessat2 fadvise64 fcntl fgetxattr flistxattr flock fstat fstatfs futex getcwd getdents64"
    " getegid geteuid getgid getpeername getpid getppid getrandom getrlimit getsockname getsockopt gettid getuid"
    " getxattr ioctl kill listxattr lgetxattr llistxattr lseek lstat madvise mmap mprotect mremap munmap newfstatat"
    " open openat openat2 pipe2 poll prctl pread64 preadv preadv2 prlimit64 read readlink readlinkat restart_syscall"
    " rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sendto set_robust_list set_tid_address setsid"
    " sigaltstack socket socketpair stat statfs statx sysinfo umask uname vfork wait4 waitid clone rt_sigtimedwait"
    " clock_nanosleep statmount syscall_0x1c9".split()  # the last two are one, which strace may not know
)


def traced(scene: Scene) -> dict[str, Any]:
    """The calls of one run up as strace(1) sees them, and as we do; and those that neither of us knows."""
    stage = Stage(scene)
    stage.to("down")
    options: dict[str, Any] = scene.up
    if scene.module == "layout":
        options = {"_declaration": json.dumps(scene.up), "_secrets": [], "workers": 1}
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        arguments = {**options, "_ansible_remote_tmp": "/tmp"}
        pipe.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    log = os.path.join(os.path.dirname(_upper()), "strace")
    run = [sys.executable, "-B", "-c", module._MAIN, module._MODULES + scene.module, str(reading)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8"}
    argv = ["strace", "-f", "-X", "raw", "-y", "-o", log, *run]
    subprocess.run(argv, pass_fds=[reading], env=env, check=True, stdout=subprocess.DEVNULL)
    os.close(reading)
    with open(log, encoding="utf-8", errors="replace") as stream:
        lines = [line.split(None, 1) for line in stream]
    stage.at = "up"
    stage.to("nothing")
    programs = {pid for pid, text in lines if text.startswith("execve(")} - {lines[0][0]}  # the others are threads
    own = [text for pid, text in lines if pid not in programs and re.match(r"\w+\(", text)]
    loop = re.compile(r'openat(\([^"]*"| )/dev/loop\d|ioctl\(\d+</dev/loop\d+>, 0x4c0a|LOOP_CONFIGURE')
    own = [text for text in own if not loop.match(text)]  # once more when another process took the device first
    names = collections.Counter(text.partition("(")[0] for text in own if _changes(text))
    calls = [call for call in stage.calls["up"] if not loop.match(call.text)]
    ours = collections.Counter(_IOCTL if call.name in crash.IOCTLS else call.name for call in calls)
    for name in ("execve", "exit_group"):  # of programs
        del ours[name]
    return {"strace": names, "ours": ours, "unknown": sorted({t.partition("(")[0] for t in own} - _KNOWN)}


_IOCTL = "ioctl"
_KNOWN = _HARMLESS | set(crash.CALLS)


def _changes(text: str) -> bool:
    name, _bracket, rest = text.partition("(")
    numbers = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", re.sub(r'"[^"]*"', "", rest))]
    behind = re.match(r"\d+<([^>]*)>", rest)
    if name in ("write", "pwrite64", "writev", "pwritev", "ftruncate"):
        return bool(behind and behind.group(1).startswith("/") and behind.group(1) != "/dev/null")
    if name in ("open", "openat"):
        return bool(next((n for n in numbers if n not in (0xFFFFFF9C,)), 0) & crash.WRITES)
    if name == "openat2":
        flags = int(re.search(r"flags=(?:0x)?([0-9a-f]+)", rest).group(1), 16)  # type: ignore[union-attr]
        return bool(flags & crash.WRITES and not flags & os.O_PATH)
    if name == "open_tree":
        return bool(numbers[-1] & 1)
    if name == "ioctl":
        return numbers[0] in crash.IOCTLS.values()
    if name == "mkdir":
        return "EEXIST" not in rest
    return name in crash.CALLS


class Server:
    """Where something is wrong, nothing is known of the host any more: what comes next gets a new one."""

    def __init__(self, held: contextlib.ExitStack) -> None:
        self.held, self.scene = held, ""
        self.stage: Stage | None = None

    def on(self, scene: str) -> Stage:
        if self.stage is None:
            self.held.close()
            self.held.enter_context(hosts.host())
        elif self.scene == scene:
            return self.stage
        else:
            self.stage.to("nothing")
        self.stage, self.scene = None, scene
        self.stage = Stage(SCENES[scene])
        return self.stage

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        if "outlived" in task:
            self.stage = None
            self.held.close()
            self.held.enter_context(hosts.host())
            return {"wrong": outlived(*task["outlived"])}
        if "restored" in task:
            self.stage = None
            self.held.close()
            self.held.enter_context(hosts.host())
            pool = _LOOP if task["restored"] == "loop" else _BTRFS
            return restored(pool, task["points"], task["mode"])
        if "traced" in task:
            self.stage = None
            self.held.close()
            self.held.enter_context(hosts.host())
            return traced(SCENES[task["traced"]])
        results: list[list[Any]] = []
        answer: dict[str, Any] = {"scene": task["scene"], "results": results}
        try:
            stage = self.on(task["scene"])
            for way in ("up", "down"):
                answer[way] = [[plain(call.text), [m for m in MODES if suits(call, m)]] for call in stage.calls[way]]
        except Wrong as wrong:
            answer["wrong"] = str(wrong)
        for way, index, mode in task.get("points", ()):
            try:
                results.append([way, index, mode, True, self.on(task["scene"]).prove(way, index, mode)])
            except (Wrong, TimeoutError) as wrong:
                results.append([way, index, mode, False, str(wrong)])
                self.stage = None
        answer["seconds"] = time.monotonic() - start
        return answer


def serve() -> None:
    """``{"scene": name, "points": [[way, index, mode], ...]}`` is answered with ``results``, a list of
    ``[way, index, mode, whether all is well, text]``, and with all points of the scene, ``up`` and ``down``, as text
    and as the modes that suit it."""
    crash.prepare()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.ExitStack() as held:
        server = Server(held)
        for line in sys.stdin:
            print(json.dumps(server.answer(json.loads(line))), file=answers, flush=True)
