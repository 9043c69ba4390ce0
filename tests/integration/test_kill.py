# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the real kernel: a run killed at any step of the engine, two runs at once, a lock that names who holds it."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import reconciling

DOCUMENT = {
    "trees": [
        {
            "root": "/srv/tenants",
            "entries": [
                {"path": "blue", "mode": "2770", "group": "1000", "acl": ["u:1001:rwX"], "default_acl": ["u:1001:rwX"]},
                {"path": "blue/builds", "mode": "0750"},
            ],
        }
    ],
    "tmpfs": [{"path": "/mnt/a/scratch", "size": "1MiB"}, {"path": "/srv/tenants/blue/tmp", "size": "64KiB"}],
    "mounts": [{"path": "/mnt/b/tenants", "source": "/srv/tenants", "bind": True, "options": ["nosuid", "nodev"]}],
    "pools": [{"name": "fast", "backend": "loop", "config": {"path": "/srv/fast"}}],
    "volumes": [
        {"name": "data", "size": "8MiB", "pool": "fast", "state": "attached", "target": "/mnt/v/data", "owner": "1000"},
        {"name": "cache", "type": "memory", "size": "1MiB", "state": "attached", "target": "/mnt/v/cache", "job": "j1"},
    ],
}
GONE = {
    "state": "absent",
    "trees": [{"root": "/srv/tenants", "entries": [{"path": "blue"}, {"path": "blue/builds"}]}],
    "tmpfs": [{"path": "/mnt/a/scratch"}, {"path": "/srv/tenants/blue/tmp"}],
    "mounts": [{"path": "/mnt/b/tenants"}],
    "pools": [{"name": "fast", "confirm": "fast"}],
    "volumes": [{"name": "data", "force": True}, {"name": "cache", "force": True}],
}


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def world() -> dict[str, object]:
    """The snapshot; lines of fstab in any order, because a killed run may have written a later one first."""
    seen = reconciling.snapshot()
    return {**seen, "fstab": sorted(seen["fstab"].splitlines())}


def test_a_run_killed_at_any_step_converges(host: None) -> None:
    """At every step of building up and of tearing down: kill, run again, and the world is as without the kill."""
    before = world()
    whole = reconciling.run(DOCUMENT)
    assert whole["errors"] == [] and whole["summary"]["failed"] == 0
    built = world()
    assert built != before
    down = reconciling.run(GONE)
    assert down["errors"] == []
    empty = world()
    assert {k: v for k, v in empty.items() if k != "tree"} == {k: v for k, v in before.items() if k != "tree"}
    points = 0
    for step in range(1, whole["steps"] + 1):
        assert reconciling.run(DOCUMENT, kill=step) == {"killed": True}
        again = reconciling.run(DOCUMENT)
        assert again.get("errors") == [], (step, again)
        assert world() == built, step
        quiet = reconciling.run(DOCUMENT)
        assert quiet["summary"]["planned"] == 0, (step, quiet["actions"])
        points += 1
        killed = step % down["steps"] + 1
        assert reconciling.run(GONE, kill=killed) == {"killed": True}
        again = reconciling.run(GONE)
        assert again.get("errors") == [], (killed, again)
        assert world() == empty, killed
        points += 1
    print("%d points, %d steps up, %d steps down" % (points, whole["steps"], down["steps"]))
    assert whole["steps"] >= 25 and down["steps"] >= 15


def test_two_runs_at_once_converge(host: None) -> None:
    assert reconciling.run(DOCUMENT)["errors"] == []
    built = world()
    assert reconciling.run(GONE)["errors"] == []
    for _round in range(3):
        runs = [reconciling.start(DOCUMENT) for _run in range(3)]
        answers = [reconciling.finish(run) for run in runs]
        assert [a.get("errors") for a in answers] == [[], [], []], answers
        assert sorted(a["summary"]["applied"] > 0 for a in answers) == [False, False, True], "one of them does the work"
        assert world() == built
        assert reconciling.run(GONE)["errors"] == []


def test_a_held_lock_names_its_holder(host: None) -> None:
    import fcntl

    assert reconciling.run({"tmpfs": [{"path": "/mnt/a", "size": "64KiB", "persist": "none"}]})["errors"] == []
    name = os.listdir("/run/bulkhead")[0]
    with open("/run/bulkhead/" + name) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        refused = reconciling.run({"tmpfs": [{"path": "/mnt/b", "size": "64KiB", "persist": "none"}]}, lock_timeout=1)
        assert refused["refused"][0]["code"] == "locked"
        looked = reconciling.run({"tmpfs": [{"path": "/mnt/b", "size": "64KiB", "persist": "none"}]}, check=True)
        assert looked["summary"]["planned"] == 2, "check mode takes no lock"
        quiet = reconciling.run({"tmpfs": [{"path": "/mnt/a", "size": "64KiB", "persist": "none"}]})
        assert quiet["summary"]["planned"] == 0, "a run with nothing to do takes no lock"
    assert not os.path.ismount("/mnt/b")


@pytest.mark.parametrize("signum", [signal.SIGKILL])
def test_a_killed_holder_frees_the_lock_and_a_living_one_is_named(host: None, signum: int) -> None:
    held = {"tmpfs": [{"path": "/mnt/c%d" % i, "size": "64KiB", "persist": "none"} for i in range(4000)]}
    child = reconciling.start(held)
    deadline = time.monotonic() + 30
    while not os.path.ismount("/mnt/c5") and time.monotonic() < deadline:
        time.sleep(0.002)
    refused = reconciling.run({"tmpfs": [{"path": "/mnt/d", "size": "64KiB", "persist": "none"}]}, lock_timeout=0)
    alive = child.poll() is None
    child.send_signal(signum)
    child.communicate()
    assert alive, "the first run ended before the second one asked; raise the number of entries"
    assert refused["refused"][0]["code"] == "locked"
    assert str(child.pid) in str(refused["refused"][0])
    free = reconciling.run({"tmpfs": [{"path": "/mnt/d", "size": "64KiB", "persist": "none"}]}, lock_timeout=0)
    assert free["errors"] == [] and os.path.ismount("/mnt/d")


def test_what_is_half_made_by_another_run_is_no_reason_to_refuse(host: None) -> None:
    """Who asks for a volume while another run makes its pool is told once that is over. Check mode waits for nobody."""
    import fcntl

    needs = {"volumes": [{"name": "late", "size": "8MiB", "pool": "fast"}]}
    assert [e["code"] for e in reconciling.run(needs)["refused"]] == ["not_found"]
    assert os.listdir("/run/bulkhead") == [], "a refusal leaves nothing"
    assert reconciling.run({"tmpfs": [{"path": "/mnt/a", "size": "64KiB", "persist": "none"}]})["errors"] == []
    with open("/run/bulkhead/host.lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert reconciling.run(needs, check=True)["refused"]
        run = reconciling.start(needs)
        while not re.match("230 |115 ", Path("/proc/%d/syscall" % run.pid).read_text()):  # clock_nanosleep(2)
            assert run.poll() is None, run.communicate()
            time.sleep(0.002)
        assert reconciling.run({"pools": DOCUMENT["pools"]}, unlocked=True)["errors"] == []
        assert run.poll() is None
    made = reconciling.finish(run)
    assert made["errors"] == [] and made["summary"]["applied"] > 0
    gone = {"volumes": [{"name": "late"}], "pools": [{"name": "fast", "confirm": "fast"}], "state": "absent"}
    assert reconciling.run(gone)["errors"] == []
