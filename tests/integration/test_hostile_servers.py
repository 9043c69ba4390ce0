# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant's own FUSE server that stops answering: whoever asks it anything waits for ever, so nobody of ours does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import attack, fuse, module, namespace

DEADLINE = 5.0
ASKS: list[tuple[str, dict[str, Any]]] = [
    ("tree", {"root": "@", "entries": [{"path": "a"}]}),
    ("tree", {"root": "@/x", "entries": [{"path": "a"}]}),
    ("tree", {"root": "^", "entries": [{"path": "$", "mode": "0700"}]}),
    ("tree", {"root": "^", "entries": [{"path": "$/q", "type": "absent"}], "confirm": "^"}),
    ("tree", {"root": "@", "state": "absent", "confirm": "@"}),
    ("quota", {"path": "@", "hard": "1GiB"}),
    ("quota", {"path": "@/q", "hard": "1GiB"}),
    ("tmpfs", {"path": "@/t", "size": "1MiB", "persist": "none"}),
    ("mount", {"path": "/mnt/b", "source": "@", "bind": True, "persist": "none"}),
    ("mount", {"path": "/mnt/b", "source": "@/deep", "bind": True, "persist": "none"}),
    ("mount", {"path": "/mnt/b", "source": "@/img", "fstype": "ext4", "persist": "none"}),
    ("mount", {"path": "@/m", "state": "absent", "persist": "none"}),
    ("mount", {"path": "/mnt/b", "source": "/srv/images/tools.img", "fstype": "ext4", "fstab": "@/fstab"}),
    ("mount", {"path": "@", "state": "unmounted"}),
    ("filesystem", {"device": "@/img", "fstype": "ext4"}),
    ("filesystem", {"device": "@", "fstype": "ext4"}),
    ("pool", {"name": "p1", "backend": "directory", "config": {"path": "@"}}),
    ("pool", {"name": "p2", "backend": "loop", "config": {"path": "@/sub"}}),
]


pytestmark = pytest.mark.usefixtures("attacked")


def at(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: at(each, where) for key, each in value.items()}
    if isinstance(value, list):
        return [at(each, where) for each in value]
    up, _slash, name = where.rpartition("/")
    return value.replace("@", where).replace("^", up).replace("$", name) if isinstance(value, str) else value


@pytest.mark.parametrize("place", ["in their directory", "on their directory, which stands in root's"])
def test_a17_a_server_that_stops_answering(theirs: str, place: str) -> None:
    """Everything that would have to ask it is refused at once and by its type, and it can be unmounted."""
    where = attack.make((theirs if place.startswith("in") else "/srv") + "/shown")
    try:
        with fuse.mounted(where, attack.TENANT) as stop_answering:
            stop_answering()
            with pytest.raises(subprocess.TimeoutExpired):  # as a careful person would
                naive = [sys.executable, "-c", "import os, sys; os.listdir(sys.argv[1])", where]
                subprocess.run(naive, check=False, timeout=1)
            for name, options in ASKS:
                for check in (True, False):
                    answer = module.run(name, at(options, where), check=check, timeout=DEADLINE).result
                    assert answer["code"] == "unsafe_path", (name, options, answer)
                    assert where + " is a mount of type fuse" in answer["msg"], (name, options, answer)
            gone = {"path": where, "state": "absent", "persist": "none"}
            assert module.run("mount", gone, check=True, timeout=DEADLINE).result["changed"]
            assert attack.mounted(where) == [where]
            held = os.open(where, os.O_PATH)  # busy: a failure with a type, and no waiting
            try:
                answer = module.run("mount", gone, timeout=DEADLINE).result
            finally:
                os.close(held)
            assert answer["code"] == "in_use" and attack.mounted(where) == [where], answer
            assert module.run("mount", gone, timeout=DEADLINE).result["changed"]
            assert attack.mounted(where) == []
    finally:
        if not theirs.startswith(os.path.dirname(where)):
            os.rmdir(where)


def test_a17_what_its_owner_calls_the_source_is_not_believed(theirs: str) -> None:
    """A source is free text there: one that names a device would have been asked for its free space."""
    where = attack.make(theirs + "/shown")
    with fuse.mounted(where, attack.TENANT, source="/dev/loop0") as stop_answering:
        stop_answering()
        gone = {"path": where, "state": "absent", "persist": "none"}
        assert module.run("mount", gone, timeout=DEADLINE).result["changed"]
        assert attack.mounted(where) == []


def test_a17_a_program_that_uses_a_device_is_known_by_its_type_with_any_subtype() -> None:
    """It says that all there is root's."""
    where = attack.make("/srv/blk", 0)
    with namespace.loop_device(namespace.image("/srv/images/shown.img", 1 << 20)) as device:
        for fstype in ("fuseblk", "fuseblk.x"):
            with fuse.mounted(where, attack.TENANT, device, fstype):
                assert subprocess.check_output(["findmnt", "-no", "FSTYPE", where]).decode().strip() == fstype
                answer = module.run("tree", {"root": where, "entries": [{"path": "dir"}]}, timeout=DEADLINE).result
                assert answer.get("code") == "unsafe_path", answer
                assert "%s is a mount of type %s:" % (where, fstype) in answer["msg"], answer
    os.unlink("/srv/images/shown.img")
    os.rmdir(where)


def test_a17_a_program_of_root_is_entered_as_somebody_elses_territory() -> None:
    where = attack.make("/srv/roots", 0)
    with fuse.mounted(where, 0):
        answer = module.run("tree", {"root": where, "entries": [{"path": "dir"}]}, timeout=DEADLINE).result
        assert answer["changed"] is False, answer
    os.rmdir(where)
