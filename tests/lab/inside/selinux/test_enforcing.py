# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What labels are for, in enforcing mode; and changes of labels that are killed on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import crash
from ansible_collections.bulkhead.storage.tests.support.quotas import converge

ROOT, IMAGE = "/srv/confined", "/srv/image"
ALL = "s0-s0:c0.c1023"
# As a container is started: by an engine (which runcon(1) becomes by way of init's domain), in the categories of its
# tenant. What it runs must be a file of containers, and the engine may not ask the kernel about labels, as runcon does.
START = (
    "import os, sys; open('/proc/thread-self/attr/exec', 'w').write(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
)
ENGINE = ["runcon", "system_u:system_r:initrc_t:" + ALL, "runcon", "system_u:system_r:podman_t:" + ALL]


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=-1, stderr=-2, encoding="utf-8", check=False)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stdout)
    return done.stdout.rstrip("\n")


def label(path: str) -> str:
    return run("stat", "-c", "%C", path).split(":", 2)[2]


def contained(level: str, program: str, *arguments: str) -> int:
    argv = [*ENGINE, sys.executable, "-S", "-c", START, "system_u:system_r:container_t:" + level]
    argv += [IMAGE + "/" + program, *arguments]
    status = subprocess.run(argv, stdin=-3, stdout=-3, stderr=-3, check=False, timeout=60).returncode
    assert status in (0, 1, 2), (argv, status)  # what grep(1) and touch(1) end with: it did run
    return status


@pytest.fixture(autouse=True)
def apart() -> Iterator[None]:
    yield
    run("setenforce", "0")
    for path in (ROOT, IMAGE):
        shutil.rmtree(path, ignore_errors=True)


def declared(kind: str = "container_file_t", blue: str = "s0:c1,c2") -> dict[str, Any]:
    entries = [("blue", blue), ("red", "s0:c1,c3")]
    entries = [{"path": name, "mode": "0777", "selinux": {"type": kind, "level": level}} for name, level in entries]
    return {"root": ROOT, "entries": entries}


def good(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    assert (answer["refused"], answer["errors"]) == ([], [])
    return [(action["verb"], action["port"], action["target"]) for action in answer["actions"]]


def test_a_container_reaches_the_tree_of_its_tenant_only() -> None:
    os.mkdir(IMAGE)
    for program in ("grep", "touch"):
        shutil.copy("/usr/bin/" + program, IMAGE)
    run("chcon", "-R", "-t", "container_file_t", "-l", "s0", IMAGE)
    for name in ("blue", "red"):
        os.makedirs("%s/%s" % (ROOT, name))
        os.chmod("%s/%s" % (ROOT, name), 0o777)
    run("setenforce", "1")
    assert run("getenforce") == "Enforcing"
    blue = "s0:c1,c2"
    assert contained(blue, "touch", ROOT + "/blue/f") == 1, "without a label of ours nothing is to be had"
    # by hand, it lasts until the next relabelling
    run("chcon", "-t", "container_file_t", "-l", blue, ROOT + "/blue")
    assert contained(blue, "touch", ROOT + "/blue/f") == 0
    run("restorecon", "-R", "-F", ROOT)
    assert contained(blue, "touch", ROOT + "/blue/f") == 1 and label(ROOT + "/blue") == "var_t:s0"
    assert good(converge([], trees=[declared()]))
    with open(ROOT + "/blue/g", "w", encoding="ascii") as stream:
        stream.write("hi")
    for turn in ("labelled", "relabelled"):
        assert label(ROOT + "/blue") == "container_file_t:" + blue
        assert contained(blue, "touch", ROOT + "/blue/f-" + turn) == 0
        assert label(ROOT + "/blue/f-" + turn) == "container_file_t:" + blue
        assert contained(blue, "grep", "-q", "hi", ROOT + "/blue/g") == 0
        for other in ("s0:c1,c3", "s0"):
            assert contained(other, "grep", "-q", "hi", ROOT + "/blue/g") == 2, other
            assert contained(other, "touch", ROOT + "/blue/theirs") == 1, other
        assert contained("s0:c1,c3", "touch", ROOT + "/red/f") == 0 and contained(blue, "touch", ROOT + "/red/g") == 1
        run("restorecon", "-R", "-F", ROOT)
    assert good(converge([], trees=[declared()])) == []
    assert sorted(os.listdir(ROOT + "/blue")) == ["f", "f-labelled", "f-relabelled", "g"]


def killed(options: dict[str, Any], when: int) -> tuple[int, list[str]]:
    """(status of the run, the calls that changed something): the one with this number was its last."""
    calls: list[str] = []

    def decide(call: crash.Call) -> Any:
        if "/sys/fs/selinux/" not in call.text:  # that is to ask the policy
            calls.append(call.text)
            return crash.Kill() if len(calls) == when else None
        return None

    ended = crash.run("tree", options, decide)
    assert when or (ended.result and "failed" not in ended.result), ended.output
    return ended.status, calls


def settled(options: dict[str, Any], changed: bool | None = None) -> None:
    ended = crash.run("tree", options)
    assert ended.result is not None and "failed" not in ended.result, ended.output
    assert changed is None or ended.result["changed"] is changed
    for entry in options["entries"]:
        assert label("%s/%s" % (ROOT, entry["path"])) == "%(type)s:%(level)s" % entry["selinux"]


def test_killed_at_each_changing_call_of_a_label() -> None:
    crash.prepare()
    options = declared()
    settled(options)

    def drift() -> None:
        for name in ("blue", "red"):
            run("chcon", "-t", "var_lib_t", "-l", "s0", "%s/%s" % (ROOT, name))

    drift()
    _status, calls = killed(options, 0)
    assert sum("setxattr" in text for text in calls) == 2, calls
    for when in range(1, len(calls) + 1):
        drift()
        status, seen = killed(options, when)
        assert status == -9 and len(seen) == when, (when, status, seen)
        settled(options)
    settled(options, changed=False)
    print("labels: killed at each of %d calls: %s" % (len(calls), calls))
