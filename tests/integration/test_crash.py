# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every system call of a run that changes something is the last one once, and fails once with each error.

``BULKHEAD_CRASH=all`` lets every call fail with every error, and a run end together with its program at every call;
without it a sample of these is tried. The kills of a run alone are always complete. ``BULKHEAD_SCENES=tree,tmpfs``
tries only those.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import crashing

# Points of each scene up and down; fewer are a scene that has lost something, or eyes that have.
FLOORS = {
    "tree": (28, 17), "tmpfs": (36, 28), "tmpfs with a unit": (30, 20),
    "unit instead of a line": (20, 20), "mount of an image": (36, 26), "mount of a folder": (31, 26),
    "quota": (19, 13), "ext4": (85, 60), "xfs": (85, 60), "btrfs": (85, 60), "pool of images": (64, 34),
    "pool of subvolumes": (64, 34), "image": (120, 55), "subvolume": (61, 51), "memory": (76, 40),
    "growth of an image": (45, 45), "clone of an image": (45, 36), "layout": (400, 240),
    "snapshot of a subvolume": (45, 38), "snapshot of an image": (45, 38),
}  # fmt: skip
SAMPLE = 0.1
WORKERS = 2
CHUNK = 12
_SERVE = "from ansible_collections.bulkhead.storage.tests.support import crashing; crashing.serve()"


class Workers:
    """Processes with a host each; a task goes to whichever is free."""

    def __init__(self, count: int) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
        self.children = [subprocess.Popen([sys.executable, "-c", _SERVE], **pipes) for _child in range(count)]

    def all(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers in the order of the tasks."""
        left, answers = list(enumerate(tasks)), {}
        guard = threading.Lock()

        def drive(child: subprocess.Popen[str]) -> None:
            while True:
                with guard:
                    if not left:
                        return
                    index, task = left.pop(0)
                assert child.stdin and child.stdout
                child.stdin.write(json.dumps(task) + "\n")
                child.stdin.flush()
                answers[index] = json.loads(child.stdout.readline())

        threads = [threading.Thread(target=drive, args=(child,)) for child in self.children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(tasks), "a worker died"
        return [answers[index] for index in sorted(answers)]

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=30)
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def workers(private_mounts: None) -> Iterator[Workers]:
    started = Workers(WORKERS)
    yield started
    started.close()


@pytest.fixture(scope="module")
def points(workers: Workers) -> dict[str, Any]:
    """Of each scene: its points in a run that nothing befalls."""
    answers = workers.all([{"scene": name} for name in crashing.SCENES])
    broken = [(answer["scene"], answer["wrong"]) for answer in answers if "wrong" in answer]
    assert not broken, broken
    return {answer["scene"]: answer for answer in answers}


def proved(workers: Workers, points: dict[str, Any], chosen: list[tuple[str, str, int, str]]) -> list[str]:
    """What does not hold at the chosen points; prints how many were tried of each scene."""
    tasks = []
    for scene in crashing.SCENES:
        ways = [[point[1:] for point in chosen if point[:2] == (scene, way)] for way in ("up", "down")]
        own = [point for pair in itertools.zip_longest(*ways) for point in pair if point]  # each ends where one begins
        tasks += [{"scene": scene, "points": own[at : at + CHUNK]} for at in range(0, len(own), CHUNK)]
    wrong, ignored = [], set()
    seconds = dict.fromkeys(crashing.SCENES, 0.0)
    for answer in workers.all(tasks):
        seconds[answer["scene"]] += answer["seconds"]
        for way, index, mode, ok, text in answer["results"]:
            at = points[answer["scene"]][way][index - 1][0]
            if not ok:
                wrong.append("%s %s %d %s (%s): %s" % (answer["scene"], way, index, mode, at, text[:1500]))
            elif text:
                ignored.add(text)
    print("\n".join(wrong))
    for scene in crashing.SCENES:
        count = sum(point[0] == scene for point in chosen)
        print("%-20s %5d points %7.1f s" % (scene, count, seconds[scene]))
    print("%d points; what failed without harm: %s" % (len(chosen), sorted(ignored)))
    return wrong


def suitable(points: dict[str, Any], modes: tuple[str, ...]) -> list[tuple[str, str, int, str]]:
    return [
        (scene, way, index, mode)
        for scene in os.environ.get("BULKHEAD_SCENES", ",".join(crashing.SCENES)).split(",")
        for way in ("up", "down")
        for index, (_text, able) in enumerate(points[scene][way], 1)
        for mode in modes
        if mode in able
    ]


def test_there_are_as_many_points_as_ever(points: dict[str, Any]) -> None:
    found = {scene: (len(points[scene]["up"]), len(points[scene]["down"])) for scene in crashing.SCENES}
    print(found)
    assert set(FLOORS) == set(found)
    assert all(found[scene][way] >= FLOORS[scene][way] for scene in FLOORS for way in (0, 1)), found


def test_a_run_killed_at_any_call_converges(workers: Workers, points: dict[str, Any]) -> None:
    chosen = suitable(points, ("kill",)) + sample(suitable(points, ("reset",)), 0.5)
    assert proved(workers, points, sorted(chosen)) == []


def sample(chosen: list[tuple[str, str, int, str]], part: float) -> list[tuple[str, str, int, str]]:
    if os.environ.get("BULKHEAD_CRASH") == "all":
        return chosen
    return sorted(random.Random(20261).sample(chosen, int(len(chosen) * part)))


def test_what_a_killed_run_began_can_be_taken_away(workers: Workers, points: dict[str, Any]) -> None:
    chosen = [point for point in suitable(points, ("turn",)) if point[1] == "up"]
    assert proved(workers, points, sample(chosen, SAMPLE)) == []


def test_a_call_that_fails_is_told_and_converges(workers: Workers, points: dict[str, Any]) -> None:
    chosen = suitable(points, ("program", *crashing.ERRORS))
    assert proved(workers, points, sample(chosen, SAMPLE)) == []


def test_a_program_that_outlives_its_run_meets_no_other(workers: Workers) -> None:
    """mkfs goes on when the run that started it is killed; the next run must not make a filesystem beneath it."""
    image, disk = "/srv/images/pool.img", "/dev/disk/by-id/virtio-blank-0001"
    cases = [(image, "ext4"), (image, "btrfs"), (disk, "ext4"), (disk[:-1] + "2", "xfs")]
    tasks = [{"outlived": [device, fstype, point]} for device, fstype in cases for point in (3, 8, 20)]
    answers = workers.all(tasks)
    wrong = [(task["outlived"], answer["wrong"]) for task, answer in zip(tasks, answers) if answer["wrong"]]
    assert wrong == []


@pytest.mark.parametrize("mode", ["kill", "ENOSPC", "EIO"])
@pytest.mark.parametrize("backend", ["btrfs", "loop"])
def test_a_restore_that_is_struck_loses_nothing(workers: Workers, backend: str, mode: str) -> None:
    """What the volume held and what the snapshot holds are there at any moment; the next run restores it."""
    points = [] if os.environ.get("BULKHEAD_CRASH") == "all" else sorted(random.Random(mode).sample(range(1, 70), 8))
    (answer,) = workers.all([{"restored": backend, "points": points, "mode": mode}])
    print("%d points of a restore (%s, %s)" % (answer["tried"], backend, mode))
    assert answer["wrong"] == [] and answer["tried"] >= min(len(points) or 45, 45)


@pytest.mark.parametrize("scene", ["layout", "subvolume", "growth of an image", "clone of an image"])
def test_strace_sees_the_same_calls(workers: Workers, scene: str) -> None:
    """Nothing that changes something escapes the filter, and no call is made of which nobody knows what it does."""
    (seen,) = workers.all([{"traced": scene}])
    assert seen["unknown"] == []
    assert seen["strace"] == seen["ours"]
