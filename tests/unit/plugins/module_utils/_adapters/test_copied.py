# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An empty directory is filled with a copy of another one, once; find(1) and sha256sum(1) compare the two."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import copied
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import crash

VOLUME = ("volume", "default/copy")


def listing(top: str) -> list[str]:
    """Of all that is in it: kind, mode, owner, links, size, time, target and content."""
    find = ["find", ".", "-mindepth", "1"]
    runs = [[*find, "-printf", "%P %y %m %U:%G %n %l %s\n"], [*find, "-type", "f", "-exec", "sha256sum", "{}", "+"]]
    runs.append([*find, "-type", "f", "-printf", "%P %T@\n"])
    said = "".join(subprocess.run(argv, check=True, capture_output=True, text=True, cwd=top).stdout for argv in runs)
    return sorted(said.splitlines())


@pytest.fixture
def case(arena: str) -> dict[str, Any]:
    """A source, an empty target of somebody else, and a catalogue."""
    source, target = arena + "/source", arena + "/target"
    os.makedirs(source + "/a/b")
    os.chown(source + "/a", 7, 7)
    for name in ("one", "a/two", "a/b/three"):
        with open(source + "/" + name, "wb") as stream:
            stream.write(os.urandom(3000))
    os.symlink("/etc", source + "/link")
    os.link(source + "/one", source + "/a/same")
    os.mkdir(target)
    os.chmod(target, 0o750)
    os.chown(target, 20001, 20001)
    os.mkdir(arena + "/books", 0o700)
    record = Record(arena + "/books")
    record.put(VOLUME, None, {"size": 1, "pool": "far"})
    return {"source": source, "target": target, "record": record}


def asked(case: dict[str, Any]) -> tuple[copied.Copied, dict[str, Any]]:
    port = copied.Copied(case["record"])
    declared = {"from": case["source"], "phase": "done", "_volume": VOLUME[1]}
    return port, port.resolve(case["target"], declared)


def put(case: dict[str, Any]) -> None:
    port, wanted = asked(case)
    port.put(case["target"], port.scan([case["target"]])[case["target"]], wanted)


def seen(case: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = asked(case)[0].scan([case["target"]])[case["target"]]
    return row


def whole(case: dict[str, Any]) -> None:
    assert listing(case["target"]) == listing(case["source"])
    assert (seen(case)["from"], seen(case)["phase"]) == (case["source"], "done")
    top = os.stat(case["target"])
    assert (top.st_uid, top.st_mode & 0o7777) == (20001, 0o750), "its own rights are not those of the other one"


def test_a_copy_is_made_once(case: dict[str, Any]) -> None:
    assert seen(case) == {"from": case["source"], "phase": "copying", "_others": []}
    put(case)
    whole(case)
    os.unlink(case["target"] + "/one")
    assert seen(case)["phase"] == "done", "what becomes of it later is nobody's business"
    assert seen(case)["_others"] == [], "nor looked at"
    case["target"] += "/no"
    port, _wanted = asked(case)
    assert port.scan([case["target"]]) == {}


def test_files_of_others_are_not_mixed_with_it(case: dict[str, Any]) -> None:
    mine = case["target"] + "/mine"
    os.mkdir(mine)
    port, wanted = asked(case)
    error = port.refuse(case["target"], seen(case), wanted, set())
    assert error is not None and (error.code, error.details["entries"]) == ("not_blank", ["mine"])
    with pytest.raises(StorageError, match="not empty: mine"):
        put(case)
    os.rename(mine, case["target"] + "/" + copied.PART)
    with pytest.raises(StorageError, match="not empty: .bulkhead-copy"):
        put(case)
    os.rmdir(case["target"] + "/" + copied.PART)
    assert port.refuse(case["target"], seen(case), wanted, set()) is None


def test_what_cannot_be_copied_leaves_nothing(case: dict[str, Any]) -> None:
    os.mknod(case["source"] + "/a/device", 0o20600, os.makedev(1, 3))
    with pytest.raises(StorageError, match="is a device and is not copied"):
        put(case)
    assert os.listdir(case["target"]) == [] and seen(case)["phase"] == "copying"
    os.unlink(case["source"] + "/a/device")
    put(case)
    whole(case)


def test_what_was_begun_for_another_volume_of_its_name_counts_for_nothing(case: dict[str, Any]) -> None:
    """That one failed and is forgotten; somebody has emptied the directory since, or has not."""
    asked(case)[0].note(case["target"], "moving")
    os.mkdir(case["target"] + "/" + copied.PART)
    assert (seen(case)["phase"], seen(case)["_others"]) == ("moving", [])
    case["record"].put(VOLUME, case["record"].scan([VOLUME])[VOLUME], None)
    assert (seen(case)["phase"], seen(case)["_others"]) == ("copying", [copied.PART])
    case["record"].put(VOLUME, None, {"size": 1, "pool": "far"})
    with pytest.raises(StorageError, match="not empty: .bulkhead-copy"):
        put(case)
    os.rmdir(case["target"] + "/" + copied.PART)
    put(case)
    whole(case)


def test_a_name_that_somebody_took_is_not_written_over(case: dict[str, Any]) -> None:
    part = case["target"] + "/" + copied.PART
    os.mkdir(part)
    for folder, text in ((part, "ours"), (case["target"], "theirs")):
        with open(folder + "/one", "w", encoding="ascii") as stream:
            stream.write(text)
    asked(case)[0].note(case["target"], "moving")
    with pytest.raises(StorageError, match="has 'one' already") as error:
        put(case)
    assert error.value.code == "conflict"
    with open(case["target"] + "/one", encoding="ascii") as stream:
        assert stream.read() == "theirs"
    os.unlink(case["target"] + "/one")
    put(case)
    assert os.listdir(case["target"]) == ["one"] and seen(case)["phase"] == "done"


def test_killed_at_each_changing_call_the_next_run_has_the_whole(case: dict[str, Any]) -> None:
    crash.prepare(modules=False)
    number = 0
    while True:
        number += 1
        count = 0

        def decide(call: Any, last: int = number) -> Any:
            nonlocal count
            count += 1
            return crash.Kill(caller=False) if count == last else None

        ended = crash.forked(lambda: (put(case), print("{}"))[1], decide)
        if ended.result is not None:
            break
        assert ended.status == -9, ended.output
        put(case)
        whole(case)
        subprocess.run(["find", case["target"], "-mindepth", "1", "-delete"], check=True)
        Intents(case["record"]).end(case["target"])
    whole(case)
    assert number > 60, "more than the calls of the catalogue"
