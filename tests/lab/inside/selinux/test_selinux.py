# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels and file contexts on a kernel with a policy; ls, matchpathcon, semanage and restorecon tell the outcome."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support.quotas import converge

ROOT = ""
_numbers = itertools.count()
TYPE, OTHER = "var_log_t", "var_lib_t"


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=-1, stderr=-2, encoding="utf-8", check=False)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stdout)
    return done.stdout.rstrip("\n")


def label(path: str) -> str:
    return run("ls", "-dZ", "--", path).split(" ")[0]


def rule(path: str) -> str:
    return run("matchpathcon", "-n", "--", path)


def entry(path: str, kind: str = TYPE, **more: Any) -> dict[str, Any]:
    return {"path": path, "mode": "0750", "selinux": {"type": kind, **more}}


def trees(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"trees": [{"root": ROOT, "entries": list(entries), **more}]}


def good(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    assert (answer["refused"], answer["errors"]) == ([], [])
    return [(action["verb"], action["port"], action["target"]) for action in answer["actions"]]


@pytest.fixture(autouse=True)
def apart(request: pytest.FixtureRequest) -> Iterator[None]:
    """A root of its own for each test: to take rules away with semanage(8) costs a minute here."""
    global ROOT
    ROOT = "/srv/tenants-%d" % next(_numbers)
    yield
    shutil.rmtree(ROOT, ignore_errors=True)


def test_a_directory_is_labelled_and_restorecon_keeps_it() -> None:
    document = trees(entry("blue", level="s0:c2,c1"))
    foreseen = good(converge([], check=True, **document))
    assert not os.path.exists(ROOT)
    start = time.monotonic()
    assert good(converge([], **document)) == foreseen
    print("label and rule: %.1f s" % (time.monotonic() - start))
    blue = ROOT + "/blue"
    assert label(blue).endswith(":object_r:%s:s0:c1,c2" % TYPE)
    assert rule(blue) == rule(blue + "/a/b") == "system_u:object_r:%s:s0:c1,c2" % TYPE
    assert re.search(r"(?m)^/srv/tenants-\d/blue\(/\.\*\)\? +all files +system_u:object_r:%s:s0:c1,c2" % TYPE,
                     run("semanage", "fcontext", "-l", "-C", "-n"))  # fmt: skip
    assert run("restorecon", "-nvR", ROOT + "/blue") == ""
    start = time.monotonic()
    assert good(converge([], **document)) == []
    print("the second run: %.2f s" % (time.monotonic() - start))
    # another commit of the store keeps it: it is in the store, not only in the file made from it
    run("semanage", "fcontext", "-a", "-t", "etc_t", "/srv/else(/.*)?")
    assert good(converge([], **document)) == []
    assert rule("/srv/else") == "system_u:object_r:etc_t:s0"
    gone = trees(entry("blue", level="s0:c1,c2"), state="absent")
    assert [action[:2] for action in good(converge([], **gone))][:2] == [("remove", "fcontext"), ("remove", "node")]
    assert not os.path.exists(blue) and rule(blue).split(":")[2] != TYPE
    assert rule("/srv/else") == "system_u:object_r:etc_t:s0", "a rule of somebody else stays"
    assert good(converge([], **gone)) == []


def test_what_was_changed_by_hand_is_mended() -> None:
    document = trees(entry("blue", level="s0:c1"))
    good(converge([], **document))
    run("chcon", "-t", OTHER, ROOT + "/blue")
    assert good(converge([], **document)) == [("change", "label", ROOT + "/blue")]
    assert label(ROOT + "/blue").endswith(":%s:s0:c1" % TYPE)
    run("semanage", "fcontext", "-d", ROOT + "/blue(/.*)?")
    assert good(converge([], **document)) == [("create", "fcontext", ROOT + "/blue")]
    assert rule(ROOT + "/blue") == "system_u:object_r:%s:s0:c1" % TYPE
    assert good(converge([], **document)) == []


def test_rules_for_what_lies_beneath_are_the_stronger_whatever_came_first() -> None:
    good(converge([], **trees(entry("blue/builds", OTHER))))
    both = trees(entry("blue", TYPE), entry("blue/builds", OTHER))
    good(converge([], **both))
    assert [rule(ROOT + "/blue").split(":")[2], rule(ROOT + "/blue/builds/x").split(":")[2]] == [TYPE, OTHER]
    assert good(converge([], **both)) == []
    assert run("restorecon", "-nvR", ROOT + "/blue") == ""


def test_a_label_without_a_level_keeps_its_level() -> None:
    os.makedirs(ROOT + "/blue")
    run("chcon", "-l", "s0:c9", ROOT + "/blue")
    good(converge([], **trees(entry("blue"))))
    assert label(ROOT + "/blue").endswith(":%s:s0:c9" % TYPE)


def test_a_name_is_no_pattern() -> None:
    paths = ["a.b+c", "x[1]$", "(q)?"]
    document = trees(*map(entry, paths))
    good(converge([], **document))
    assert {rule(ROOT + "/" + path).split(":")[2] for path in paths} == {TYPE}
    assert TYPE not in {rule(ROOT + "/" + path).split(":")[2] for path in ("aXbbc", "x1", "q", "")}
    assert good(converge([], **document)) == []


@pytest.mark.parametrize(
    ("selinux", "word"),
    [({"type": "no_such_t"}, "does not know"), ({"type": TYPE, "level": "s9:c1"}, "does not know")]
    + [({"type": "a:b"}, "is no SELinux label"), ({"type": TYPE, "level": "s0 x"}, "is no SELinux label")],
)
def test_what_the_policy_does_not_know_is_refused_before_anything(selinux: dict[str, str], word: str) -> None:
    said = converge([], **trees({"path": "blue", "selinux": selinux}))
    assert {error["code"] for error in said["refused"]} == {"invalid"} and word in said["refused"][0]["message"]
    assert not os.path.exists(ROOT)


def test_a_link_of_a_tenants_is_not_followed() -> None:
    os.makedirs(ROOT)
    os.chown(ROOT, 1000, 1000)
    os.symlink("/etc", ROOT + "/blue")
    before = label("/etc")
    said = converge([], **trees(entry("blue")))
    assert "unsafe_path" in {error["code"] for error in said["refused"]}
    assert label("/etc") == before
