# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tenants that race root's mounts: names exchanged while something is mounted on them, shown from them, unmounted.

Each attack first wins against what a careful person writes by paths, then meets the engine doing the same.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections import Counter

import pytest

from ansible_collections.bulkhead.storage.tests.support import attack, reconciling

pytestmark = pytest.mark.usefixtures("attacked")


def test_a05_a_mount_point_exchanged_between_check_and_mount(theirs: str) -> None:
    path, victim = attack.make(theirs + "/data"), "/srv/victim"
    raw = os.fsencode(path)

    def by_call() -> None:
        if not os.path.islink(path):
            attack.libc.mount(b"naive", raw, b"tmpfs", ctypes.c_ulong(0), b"size=4k")

    def by_program() -> None:
        if os.path.realpath(path) == path:
            argv = ["mount", "-i", "-t", "tmpfs", "-o", "size=4k", "naive", path]
            subprocess.run(argv, check=False, stderr=subprocess.DEVNULL)

    hit = 0

    def victims() -> int:
        nonlocal hit
        hit += attack.taken_down(victim)
        attack.taken_down(theirs)
        return hit

    document = {"tmpfs": [{"path": path, "size": "4KiB", "persist": "none"}]}
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(path, theirs + "/link")) as them:
        naive = attack.lost(by_call, victims), attack.lost(by_program, victims)
        end = time.monotonic() + 4
        while outcomes.total() < 500 or time.monotonic() < end:
            outcomes[attack.engine(document, quick=bool(outcomes.total() % 10))["code"]] += 1
            assert attack.mounted(victim) == []
            attack.taken_down(theirs)
        exchanges = them.count
    line = "A5: %d mounts (%s), %d exchanges, naive lost %d of %d and %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[0][::-1], *naive[1][::-1]))
    assert naive[0][1] and naive[1][1] and outcomes["ok"] > 20 and outcomes["unsafe_path"] > 20
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved", "did_not_settle", "not_found"}, outcomes


def test_a05_a_bind_whose_source_is_exchanged(theirs: str) -> None:
    """What root shows to somebody at /mnt/shown must never be what the tenant's link leads to."""
    path, shown = attack.make(theirs + "/data"), "/mnt/shown"
    os.mkdir(shown)

    def by_call() -> None:
        if os.path.realpath(path) == path:
            attack.libc.mount(os.fsencode(path), os.fsencode(shown), None, ctypes.c_ulong(4096), None)

    hit = 0

    def victims() -> int:
        nonlocal hit
        hit += os.path.exists(shown + "/deep")
        attack.taken_down(shown)
        return hit

    document = {"mounts": [{"path": shown, "source": path, "bind": True, "persist": "none"}]}
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(path, theirs + "/link")) as them:
        naive = attack.lost(by_call, victims)
        end = time.monotonic() + 3
        while outcomes.total() < 500 or time.monotonic() < end:
            outcomes[attack.engine(document, quick=True)["code"]] += 1
            assert not os.path.exists(shown + "/deep")
            attack.taken_down(shown)
        exchanges = them.count
    line = "A5 bind: %d mounts (%s), %d exchanges, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[::-1]))
    os.rmdir(shown)
    assert naive[1] and outcomes["ok"] > 20 and outcomes["unsafe_path"] > 20
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved", "did_not_settle", "conflict"}, outcomes


def test_a06_an_unmount_where_the_name_leads_elsewhere(theirs: str) -> None:
    """In a mount namespace of its own, made before the mount, a tenant can rename what is a mount point of ours."""
    path, victim = attack.make(theirs + "/data"), "/mnt/victim"
    os.mkdir(victim)
    subprocess.run(["mount", "-t", "tmpfs", "victim", victim], check=True)
    os.unlink(theirs + "/link")
    os.symlink(victim, theirs + "/link")
    fallen = 0

    def victims() -> int:
        nonlocal fallen
        if attack.mounted(victim) == []:
            fallen += 1
            subprocess.run(["mount", "-t", "tmpfs", "victim", victim], check=True)
        return fallen

    def number() -> str:
        with open("/proc/self/mountinfo", encoding="utf-8", newline="\n") as stream:
            return next(line.split(" ")[0] for line in stream if line.split(" ")[4] == victim)

    def ready() -> None:
        attack.taken_down(theirs)
        if os.path.islink(path):
            attack.exchange(path, theirs + "/link")()

    def by_table() -> None:
        with them.paused():
            ready()
            attack.libc.mount(b"naive", os.fsencode(path), b"tmpfs", ctypes.c_ulong(0), b"size=4k")
        if path in attack.mounted(theirs) or os.path.ismount(path):
            attack.libc.umount2(os.fsencode(path), 0)

    up = {"tmpfs": [{"path": path, "size": "4KiB", "persist": "none"}]}
    down = {"tmpfs": [{"path": path, "state": "absent", "persist": "none"}]}
    outcomes: Counter[str] = Counter()
    with attack.tenant(attack.exchange(path, theirs + "/link"), namespaces=True) as them:
        naive = attack.lost(by_table, victims)
        before = number()
        end = time.monotonic() + 4
        while outcomes.total() < 300 or time.monotonic() < end:
            with them.paused():
                ready()
                assert attack.engine(up, quick=True)["code"] == "ok"
            outcomes[attack.engine(down, quick=True)["code"]] += 1
            assert number() == before
        exchanges = them.count
    line = "A6: %d unmounts (%s), %d exchanges, naive lost %d of %d, ours 0"
    print(line % (outcomes.total(), attack.told(outcomes), exchanges, *naive[::-1]))
    attack.taken_down(victim)
    os.rmdir(victim)
    assert naive[1] and outcomes["unsafe_path"] and outcomes["ok"]
    assert outcomes.keys() <= {"ok", "unsafe_path", "moved", "did_not_settle", "not_found"}, outcomes


def test_a05_what_would_lie_in_a_mount_of_theirs_is_refused_beforehand(theirs: str) -> None:
    """Nobody looks beneath a mount where others can write, so nothing is promised there; beside it all is well."""
    memory = {"size": "1MiB", "persist": "none"}
    for place in (theirs + "/a", theirs + "/new/a"):  # in a directory of theirs, and in one that is yet to be made
        over = {"path": place, **memory}
        for document in (
            {"tmpfs": [over, {"path": place + "/b", **memory}]},
            {"tmpfs": [over], "trees": [{"root": place + "/b", "entries": [{"path": "c"}]}]},
            {"tmpfs": [over], "trees": [{"root": place, "entries": [{"path": ".", "mode": "0700"}]}]},
        ):
            for check in (True, False):
                answer = reconciling.run(document, check=check)
                assert {error["code"] for error in answer.get("refused", ())} == {"unsafe_path"}, (document, answer)
            assert attack.mounted(theirs) == [] and os.listdir(theirs) == ["link"]
        assert reconciling.run({"tmpfs": [over]})["errors"] == [] and attack.mounted(place) == [place]
        assert reconciling.run({"tmpfs": [{**over, "state": "absent"}]})["errors"] == []
    inner = {"path": "/mnt/ours/b", **memory}
    assert reconciling.run({"tmpfs": [inner, {"path": "/mnt/ours", **memory}]})["errors"] == []
    subprocess.run(["umount", "/mnt/ours/b", "/mnt/ours"], check=True)
    os.rmdir("/mnt/ours")
