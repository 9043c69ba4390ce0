# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder that outlives a run, ``/var/lib/bulkhead``, in bad shape: full, behind a link, open to others."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module, namespace

OURS = "/var/lib/bulkhead"
TREE = {"root": "/srv/t", "entries": [{"path": "a"}]}


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


@pytest.fixture
def small(host: None, arena: str) -> Iterator[None]:
    """``/var/lib/bulkhead`` on a filesystem of its own, of 24 MiB."""
    image = namespace.image(arena + "/small.img", 24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m0", image], check=True)
    os.mkdir(OURS, 0o700)
    subprocess.run(["mount", image, OURS], check=True)
    os.chmod(OURS, 0o700)
    try:
        yield
    finally:
        namespace.take_down(OURS)


def fill(path: str) -> None:
    """Until not one byte more can be written."""
    for size in ("64k", "4k", "1"):
        argv = ["dd", "if=/dev/zero", "of=%s/fill-%s" % (path, size), "bs=" + size, "count=5000", "conv=fsync"]
        done = subprocess.run(argv, check=False, stderr=subprocess.PIPE, env={"LC_ALL": "C"})
        assert b"No space left" in done.stderr
    os.sync()


def rows() -> list[str]:
    with sqlite3.connect("file:%s/catalogue.sqlite?mode=ro" % OURS, uri=True) as db:
        return [key for (key,) in db.execute("SELECT key FROM rows WHERE kind = 'volume' ORDER BY key")]


def done(kind: str, check: bool = False, **options: Any) -> dict[str, Any]:
    return module.run(kind, options, check=check).result


def test_a_full_disk_can_be_emptied(small: None) -> None:
    """A thin volume fills the disk that holds the journal and the catalogue as well, and so does somebody else."""
    for options in (
        {"name": "big", "size": "20MiB", "state": "attached"},
        {"name": "note", "type": "memory", "size": "1MiB"},
    ):
        made = done("volume", **options)
        assert made["changed"] and made["journal"] and "warnings" not in made
    at = OURS + "/volumes/default/big"
    fill(at)
    assert os.path.ismount(at)
    fill(OURS)
    journals = sorted(os.listdir(OURS + "/journal"))
    for _try in range(2):
        refused = done("volume", name="more", type="memory", size="1MiB")
        assert refused["code"] == "no_space" and not refused["changed"]
        assert sorted(os.listdir(OURS + "/journal")) == journals, "no torn journal takes the last room"

    checked = done("volume", check=True, name="note", state="absent")
    gone = done("volume", name="note", state="absent")  # which frees nothing: its record is all there is of it
    assert gone["changed"] and gone["actions"] == checked["actions"] and gone["journal"] == ""
    assert "No space left" in str(gone["warnings"][0]) and rows() == ["default/big"]
    gone = done("volume", name="big", state="absent", force=True)
    assert gone["changed"] and rows() == [] and not os.path.lexists(at)
    assert not namespace.loop_devices(OURS + "/volumes")
    made = done("volume", name="more", type="memory", size="1MiB")
    assert made["changed"] and os.path.exists(made["journal"]) and "warnings" not in made


def _behind_a_link() -> str:
    os.mkdir("/srv/elsewhere", 0o700)
    os.symlink("/srv/elsewhere", OURS)
    return OURS


def _open_to_its_group() -> str:
    os.mkdir(OURS)
    os.chmod(OURS, 0o770)
    return OURS


def _journal_of_somebody() -> str:
    os.makedirs(OURS + "/journal", 0o700)
    os.chown(OURS + "/journal", 1000, 1000)
    return OURS + "/journal"


def _lock_open_to_all() -> str:
    os.chmod("/run/bulkhead", 0o777)
    return "/run/bulkhead"


@pytest.mark.parametrize("spoil", [_behind_a_link, _open_to_its_group, _journal_of_somebody, _lock_open_to_all])
def test_an_unsafe_folder_is_refused_with_all_the_rest_in_check_mode_too(host: None, spoil: Any) -> None:
    assert done("layout", trees=[{"root": "/srv/u", "entries": [{"path": "."}]}])["changed"]
    subprocess.run(["rm", "-r", OURS], check=True)
    path = spoil()
    before = hosts.picture()
    wrong = [TREE, {"root": "/srv/v", "entries": [{"path": "a", "owner": "nosuchuser"}]}]
    for check in (True, False):
        refused = done("tree", check=check, **TREE)
        assert refused["code"] == "unsafe_path" and path in refused["msg"] and refused["hint"].startswith("chown")
        assert [e["code"] for e in done("layout", check=check, trees=wrong)["errors"]] == ["not_found", "unsafe_path"]
    assert hosts.changed(before, hosts.picture()) == []
    quiet = done("tree", root="/srv/u", entries=[{"path": "."}])
    assert not quiet["changed"] and quiet.get("code") is None, "where nothing differs nothing of it is needed"
    assert not Path("/srv/t").exists()
