# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole block stack, struck at the system calls of a run that change something and around each of its programs.

A bare disk becomes partition, LUKS, volume group with a thick and a thin volume, filesystems, mounts and the lines that
bring them back at boot, and goes the other way. Each run is struck at the first point that was not tried before, and
the next one begins with what it left; in the end all is as declared, or gone. sfdisk, blkid, cryptsetup, lvs, dmsetup,
findmnt and the bytes of the disk tell so, never our own scan.

In CI a seeded sample of the points is tried, with ``BULKHEAD_SOAK=1`` all of them.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import random
import re
import shutil
import sqlite3
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import crash, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
PART, MAP = DISK + "-part1", "/dev/mapper/deep"
THICK, THIN = "/dev/deep/thick", "/dev/deep/thin"
KEY = "/run/key-deep"
BOOKS = "/var/lib/bulkhead"
TABS = ("/etc/fstab", "/etc/crypttab")
MIB = 1 << 20
EDGE = 4 * MIB
crash.DEADLINE = 300.0  # an emulated guest on a busy host
REACH = 130 * MIB  # where everything that is made here ends, but for the backup of the table
ERRORS = ("ENOSPC", "EIO")
UP: dict[str, Any] = {
    "block_devices": [{"device": DISK, "partitions": [{"number": 1, "size": "128MiB", "type": "luks"}]}],
    "luks_devices": [
        {"device": PART, "name": "deep", "key_file": KEY, "pbkdf": "pbkdf2", "pbkdf_iterations": 1000},
    ],
    "volume_groups": [
        {
            "vg": "deep",
            "pvs": [MAP],
            "thin_pools": [{"name": "pool", "size": "24MiB", "metadata_size": "4MiB"}],
            "lvs": [
                {"name": "thick", "size": "24MiB"},
                {"name": "thin", "size": "32MiB", "thin_pool": "pool"},
            ],
        }
    ],
    "filesystems": [{"device": THICK, "fstype": "ext4", "label": "thick"}, {"device": THIN, "fstype": "ext4"}],
    "mounts": [
        {"path": "/mnt/thick", "source": THICK, "fstype": "ext4"},
        {"path": "/mnt/thin", "source": THIN, "fstype": "ext4"},
    ],
}
NAMES = {"deep", "deep-thick", "deep-thin", "deep-pool", "deep-pool-tpool", "deep-pool_tmeta", "deep-pool_tdata"}
LINES = {
    "/etc/crypttab": ["deep %s %s luks" % (PART, KEY)],
    "/etc/fstab": ["%s /mnt/thick ext4 defaults 0 0" % THICK, "%s /mnt/thin ext4 defaults 0 0" % THIN],
}


def absent(document: dict[str, Any]) -> dict[str, Any]:
    return {name: [{**copy.deepcopy(entry), "state": "absent"} for entry in rows] for name, rows in document.items()}


def cleared(tabs: dict[str, bytes | None]) -> None:
    """Nothing of it is left, whatever stands. No program of ours is asked."""
    for path in sh(["findmnt", "-nro", "TARGET"]).split():
        if path.startswith("/mnt/"):
            sh(["umount", path])
    _removed()
    for path, data in tabs.items():
        _replaced(path, data)
    for name in os.listdir(BOOKS):
        path = os.path.join(BOOKS, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    for path in ("/mnt/thick", "/mnt/thin"):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)
    sh(["partx", "-d", DISK], check=False)
    size = int(sh(["blockdev", "--getsize64", DISK]))
    for at, count in ((0, REACH), (size - EDGE, EDGE)):
        sh(["blkdiscard", "-z", "-o", str(at), "-l", str(count), DISK])
    sh(["udevadm", "settle"])


def _removed() -> None:
    """Every mapping, top first. udev may look at one for a moment."""
    for _turn in range(20):
        sh(["dmsetup", "remove_all"], check=False)
        if "\t" not in sh(["dmsetup", "ls"]):
            return
        time.sleep(0.1)
    raise RuntimeError("mappings that stay: " + sh(["dmsetup", "ls"]))


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _replaced(path: str, data: bytes | None) -> None:
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with open(path, "wb") as stream:
        stream.write(data)


# -- what stands, by other eyes ----------------------------------------------------------------------------------------


def intents() -> list[str]:
    """What the books still call begun, but for what tells of nothing: marks that are no more on what they name, and
    that a table is half written: it is not, and what is whole is never made again.
    """
    path = BOOKS + "/catalogue.sqlite"
    if not os.path.exists(path):
        return []
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT key, value FROM rows WHERE kind = 'intent' ORDER BY key").fetchall()
    keys = [key for key, value in rows if key != DISK or not json.loads(value)["wiped"]]
    return [key for key in keys if not re.fullmatch(r".* mark|lv (/dev/|going ).*", key)]


def mappings() -> set[str]:
    return {line.split("\t")[0] for line in sh(["dmsetup", "ls"]).splitlines() if "\t" in line}


def lines(path: str) -> list[str]:
    """Those that are not of the image itself."""
    mine = [line for line in (_bytes(path) or b"").decode().splitlines() if "deep" in line]
    return [" ".join(line.split()) for line in mine]


def strays() -> list[str]:
    """Private names of ours that a run left where others look."""
    found = []
    for folder in ("/etc", "/mnt", BOOKS, "/etc/lvm/profile"):
        with contextlib.suppress(FileNotFoundError):
            found += [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(".")]
    return [path for path in found if re.search(r"/\.(bulkhead|catalogue)-", path)]


def built() -> list[str]:
    """What is not as it was declared."""
    wrong = []
    table = json.loads(sh(["sfdisk", "--json", DISK]))["partitiontable"]
    wrong += _differs("partitions", [(p["start"], p["size"]) for p in table["partitions"]], [(2048, 128 * 2048)])
    wrong += _differs("sgdisk", "No problems found" in sh(["sgdisk", "--verify", DISK]), True)
    for device, kind in ((PART, "crypto_LUKS"), (MAP, "LVM2_member"), (THICK, "ext4"), (THIN, "ext4")):
        wrong += _differs(
            "blkid " + device, sh(["blkid", "-p", "-o", "value", "-s", "TYPE", device], False).strip(), kind
        )
    wrong += _differs("label", sh(["blkid", "-p", "-o", "value", "-s", "LABEL", THICK], False).strip(), "thick")
    dump = sh(["cryptsetup", "luksDump", PART])
    wrong += _differs("mark", "(no subsystem)" in dump, True)
    uuid = sh(["cryptsetup", "luksUUID", PART]).strip()
    with contextlib.suppress(FileNotFoundError):
        wrong += _differs("backups", os.listdir(BOOKS + "/luks"), [uuid + ".img"])
    told = json.loads(sh(["lvs", "--reportformat", "json", "--units", "m", "--nosuffix", "-o",
                          "lv_name,lv_size,pool_lv,lv_tags,lv_active"]))["report"][0]["lv"]  # fmt: skip
    rows = sorted((r["lv_name"], float(r["lv_size"]), r["pool_lv"], r["lv_tags"]) for r in told)
    wrong += _differs("lvs", rows, [("pool", 24.0, "", ""), ("thick", 24.0, "", ""), ("thin", 32.0, "pool", "")])
    active = sorted(r["lv_name"] for r in told if r["lv_active"] == "active")
    wrong += _differs("active", [name for name in active if name != "pool"], ["thick", "thin"])  # a pool need not be
    wrong += _differs("mappings", mappings() - NAMES, set())
    for source, path in ((THICK, "/mnt/thick"), (THIN, "/mnt/thin")):
        mounted = sh(["findmnt", "-nro", "SOURCE,FSTYPE", path], False).splitlines()
        wrong += _differs("findmnt " + path, mounted, ["%s ext4" % source])
    for path, wanted in LINES.items():
        wrong += _differs(path, lines(path), wanted)
    return wrong + _differs("intents", intents(), []) + _differs("strays", strays(), [])


def gone() -> list[str]:
    """What is left."""
    wrong = _differs("findmnt", [p for p in sh(["findmnt", "-nro", "TARGET"]).split() if p.startswith("/mnt/")], [])
    wrong += _differs("mappings", mappings(), set())
    wrong += _differs("partitions", os.path.exists(PART), False)
    with open(DISK, "rb", buffering=0) as disk:
        os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        head = disk.read(EDGE)
        disk.seek(-EDGE, os.SEEK_END)
        wrong += _differs("edges", any(head) or any(disk.read(EDGE)), False)
        disk.seek(MIB)
        wrong += _differs("the end of the partition", [_any(disk, at) for at in (MIB, 125 * MIB)], [False, False])
    for path in LINES:
        wrong += _differs(path, lines(path), [])
    with contextlib.suppress(FileNotFoundError):
        wrong += _differs("backups", os.listdir(BOOKS + "/luks"), [])
    wrong += _differs("pvs", sh(["pvs", "--noheadings", "-o", "pv_name"]).split(), [])
    wrong += _differs("folders", [p for p in ("/mnt/thick", "/mnt/thin") if os.path.exists(p)], [])
    return wrong + _differs("intents", intents(), []) + _differs("strays", strays(), [])


def _any(disk: Any, at: int) -> bool:
    disk.seek(at)
    return any(disk.read(EDGE))


def _differs(what: str, seen: Any, wanted: Any) -> list[str]:
    return [] if seen == wanted else ["%s: %r, not %r" % (what, seen, wanted)]


# -- runs --------------------------------------------------------------------------------------------------------------


class Wrong(Exception):
    """What a point was meant to prove does not hold."""


def run(document: dict[str, Any], decide: crash.Decide | None = None, check: bool = False) -> crash.Ended:
    """The engine over the real adapters, in a fork."""

    def main() -> None:
        print(json.dumps(quotas.converge([], check, **document), default=repr))

    return crash.forked(main, decide, within=False)


def errors(done: crash.Ended) -> list[dict[str, Any]]:
    if done.result is None:
        raise Wrong("it does not answer: status %d: %s" % (done.status, done.output[-3000:]))
    return list(done.result["refused"] + done.result["errors"])


def said(found: list[dict[str, Any]]) -> str:
    return "; ".join("%s: %s %s" % (e["entry"], e["code"], e["message"]) for e in found[:4])


def good(done: crash.Ended, what: str) -> dict[str, Any]:
    found = errors(done)
    if found:
        raise Wrong("%s fails: %s" % (what, said(found)))
    return done.result or {}


def consented(document: dict[str, Any]) -> dict[str, Any]:
    """With the tokens that its refusal prints, if it is refused for want of them."""
    refused = errors(run(document, check=True))
    given = {error["details"]["wipe_token"] for error in refused if error["code"] == "not_blank"}
    for each in refused:
        name, index = re.match(r"(\w+)\[(\d+)\]", each["entry"]).groups()  # type: ignore[union-attr]
        entry = document[name][int(index)]
        if each["code"] != "not_blank":
            raise Wrong("it is refused: " + said([each]))
        several = name in ("block_devices", "volume_groups")
        entry["wipe_token"] = sorted(given) if several else each["details"]["wipe_token"]
    return document


def plain(text: str) -> str:
    """The words of a call without what is different each time."""
    text = re.sub(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{8}\.jsonl", "J.jsonl", text)
    text = re.sub(r"/proc/(self|\d+)/fd/\d+|pipe:\S+", "FD", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "U", text)
    return re.sub(r"\.(catalogue|bulkhead)-[0-9a-f]+|bulkhead-[0-9a-f]{16}|dm-\d+", "X", text)


_TRANSACTION = "/catalogue.sqlite"


class Points:
    """The points of a run, each by a name that it has in every run: what it is, and after what else it comes.

    Of a transaction of SQLite's its first and its last call: tests/integration/test_crash.py tries those between.
    """

    def __init__(self) -> None:
        self.program, self.last, self.before, self.times = "", "", "", 0

    def __call__(self, call: crash.Call) -> tuple[Any, ...] | None:
        if not call.own and call.name not in ("execve", "exit_group"):
            return None
        text = plain(call.text)
        if _TRANSACTION in text:
            return (
                (self.program, self.last, text)
                if text.endswith("-journal") and call.name in ("openat", "unlink")
                else None
            )
        if text != self.last:
            self.before, self.last, self.times = self.last, text, 0
        self.times = min(self.times + 1, 3)  # the last of many is seen by what comes next
        if call.name == "execve":
            self.program = text
        return (self.program, self.before, text, self.times)


class Strike:
    """Strikes at the first point of a run that is due and was not struck before, and lets everything else go on.

    ``parts``: by what befalls a call, which part of the points is due.
    """

    def __init__(self, parts: dict[str, float], seed: str) -> None:
        self.parts, self.seed = parts, seed
        self.struck: list[tuple[Any, ...]] = []
        self.known: set[tuple[Any, ...]] = set()
        self.ready()

    def ready(self) -> None:
        self.points, self.at, self.dead = Points(), "", False

    def __call__(self, call: crash.Call) -> Any:
        point = self.points(call)
        if point is None or self.dead:
            return None
        for mode, part in self.parts.items():
            if (mode in ("reset", "program") and call.own) or (mode in ERRORS and not call.own):
                continue
            if self.at and mode not in ("kill", "reset"):  # one failure a run, and it may die of something else
                continue
            if (mode, *point) in self.known or random.Random(repr((self.seed, mode, point))).random() >= part:
                continue
            self.known.add((mode, *point))
            self.struck.append((mode, *point))
            self.at, self.dead = "%s %s" % (mode, call.text), mode in ("kill", "reset")
            if mode in ERRORS:
                return getattr(errno, mode)
            return crash.Kill(run=mode != "program", caller=mode != "kill" and not call.own)
        return None


def crawled(way: str, strike: Strike) -> list[str]:
    """Runs, each struck once, until one comes to its end. Returns what does not hold."""
    wrong = []
    document = copy.deepcopy(UP) if way == "up" else consented(absent(UP))
    asked = 0
    for _turn in range(5000):
        strike.ready()
        done = run(document, strike)
        if strike.at:
            print("%7.1f %s" % (time.monotonic(), strike.at), flush=True)
            if done.result is None and (done.status != -9 or not strike.at.startswith(("kill", "reset"))):
                raise Wrong("%s: status %d: %s" % (strike.at, done.status, done.output[-3000:]))
            for error in errors(done) if done.result is not None else ():
                if re.search(r"Traceback|: \w*(Error|Exception): ", error["message"]):
                    wrong.append("%s: it fails by a defect: %s" % (strike.at, error))
            last = strike.at
            continue
        found = errors(done)
        if way == "down" and found and {error["code"] for error in found} == {"not_blank"}:
            asked += 1  # it had been wiped in part: another content, another consent
            print("consent again:", said(found), flush=True)
            document = consented(absent(UP))
            continue
        if found:
            raise Wrong("after %s the next run %s fails: %s" % (last, way, said(found)))
        break
    left = built() if way == "up" else gone()
    if not left:
        left = quiet(document)
    print("%s: struck %d times, asked again for a consent %d times" % (way, len(strike.struck), asked), flush=True)
    return wrong + left


def quiet(document: dict[str, Any]) -> list[str]:
    """One more run has nothing to do."""
    done = run(document, lambda call: None)
    good(done, "the run after")
    calls = [call.text for call in done.calls if call.own and call.name != "open_tree"]
    return _differs("the run after", [(done.result or {})["actions"], calls], [[], []])


@pytest.fixture
def host() -> Iterator[None]:
    """A bare disk, and a catalogue of its own."""
    crash.prepare(modules=False)
    with open("/etc/lvm/lvmlocal.conf", "w", encoding="utf-8") as stream:  # dmeventd(8) would outlive every run
        stream.write("activation { monitoring = 0 }\n")
    with quotas.own_catalogue():
        with open(os.open(KEY, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
            stream.write(b"k" * 32)
        tabs = {path: _bytes(path) for path in TABS}
        cleared(tabs)
        yield
        cleared(tabs)
    os.unlink("/etc/lvm/lvmlocal.conf")


# What befalls a point, and which part of the points is tried. ``kill``: the run is gone, a program that it started goes
# on; ``reset``: both are gone; ``program``: only the program is gone; else the call fails with that error.
SAMPLE = {"kill": 0.01, "reset": 0.02, "program": 0.014, "ENOSPC": 0.005, "EIO": 0.005}
ALL = {"kill": 1.0, "reset": 1.0, "program": 1.0, "ENOSPC": 0.2, "EIO": 0.2}


FLOORS = {"up": 250, "down": 200}  # fewer are a scene that has lost something, or eyes that have


def test_the_stack_is_built_and_torn_down_whatever_strikes_it(host: None) -> None:
    soak = "BULKHEAD_SOAK" in os.environ
    for way in ("up", "down"):
        strike = Strike(ALL if soak else SAMPLE, "c " + way)
        assert crawled(way, strike) == []
        print(way, {mode: sum(point[0] == mode for point in strike.struck) for mode in SAMPLE})
        assert len(strike.struck) >= (FLOORS[way] if soak else 2)
