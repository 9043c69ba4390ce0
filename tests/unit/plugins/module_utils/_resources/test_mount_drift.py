# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``drift`` of the module ``mount`` on the real kernel: what others changed behind its back."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module

DATA: dict[str, Any] = {"path": "/mnt/data", "source": "/dev/disk/by-id/virtio-data-0001", "fstype": "ext4"}
BOUND: dict[str, Any] = {"path": "/mnt/bound", "source": "/srv/data", "bind": True}


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def drift(options: dict[str, Any], check: bool = False, **more: Any) -> Any:
    done = module.run("mount", {**options, **more}, check=check)
    assert done.rc == 0, done.result
    return done.result["resource"]["drift"], done.result["changed"]


def test_what_was_changed_by_hand_is_named_and_mended(host: None) -> None:
    declared = {**DATA, "options": ["nosuid", "noatime", "errors=remount-ro"]}
    assert drift(declared) == ([], True), "what was not there has not drifted"
    assert drift(declared) == ([], False)
    subprocess.run(["mount", "-o", "remount,suid,errors=continue", "/mnt/data"], check=True)
    for check in (True, False):
        assert drift(declared, check=check) == (["errors", "nosuid"], True)
    assert drift(declared) == ([], False)
    assert drift({**DATA, "state": "unmounted"}) == ([], True)


def test_what_only_the_line_declares_is_named_and_left_alone(host: None) -> None:
    declared = {**DATA, "options": ["nosuid", "discard", "data=ordered"]}
    drift(declared)
    assert drift(declared, state="present") == ([], False)
    subprocess.run(["mount", "-o", "remount,suid,nodiscard", "/mnt/data"], check=True)
    for _again in range(2):
        assert drift(declared, state="present") == (["discard", "nosuid"], False)


def test_another_source_is_drift(host: None) -> None:
    os.mkdir("/srv/other")
    drift(BOUND)
    assert drift({**BOUND, "source": "/srv/other"}, state="present")[0] == ["source"]
    assert drift({**BOUND, "source": "/srv/other"}, on_drift="replace")[0] == ["source"]


def test_a_refused_unmount_of_a_recursive_bind_leaves_nothing_to_mend(host: None) -> None:
    os.makedirs("/srv/data/sub", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "sub", "/srv/data/sub"], check=True)
    declared = {**BOUND, "recursive": True}
    assert drift(declared) == ([], True)
    sleeper = subprocess.Popen(["sleep", "60"], cwd="/mnt/bound")
    try:
        assert module.run("mount", {"path": "/mnt/bound", "state": "absent"}).result["code"] == "in_use"
        assert os.path.ismount("/mnt/bound/sub")
        subprocess.run(["mount", "--make-rprivate", "/mnt/bound"], check=True)
        subprocess.run(["umount", "/mnt/bound/sub"], check=True)
        assert drift(declared, check=True) == (["recursive"], True)
        assert drift(declared) == (["recursive"], True)
        assert os.path.ismount("/mnt/bound/sub") and drift(declared) == ([], False)
    finally:
        sleeper.kill()
        sleeper.wait()
    for path in ("/mnt/bound", "/srv/data/sub"):
        subprocess.run(["umount", "-R", path], check=True)
