# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder that outlives a run, ``/var/lib/bulkhead``, in bad shape: behind a link, open to others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module

OURS = "/var/lib/bulkhead"
TREE = {"root": "/srv/t", "entries": [{"path": "a"}]}


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def done(kind: str, check: bool = False, **options: Any) -> dict[str, Any]:
    return module.run(kind, options, check=check).result


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
