# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of worlds that are not this host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import worlds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.worlds import Away
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tmpfs

TOP = Path(_kinds.__file__).parents[5]


def test_two_worlds_do_not_wait_for_each_other_and_one_does() -> None:
    name = "ec2:test/%d" % os.getpid()
    with Away([name + "/a"])(0), Away([name + "/b"])(0):
        with pytest.raises(StorageError, match="is held by") as refused, Away([name + "/b", name + "/c"])(0.1):
            pass
        assert refused.value.code == "locked"
    with Away([name + "/b", name + "/c"])(0):
        pass


def test_the_host_is_one_of_them_only_when_it_is_meant() -> None:
    class Pools:
        @staticmethod
        def world(p: dict[str, str]) -> str:
            return "ceph:" + p["cluster"]

    own, other = Entry("tmpfs", tmpfs, {"path": "/a"}), Entry("pool", Pools, {"cluster": "test-%d" % os.getpid()})
    options = reconcile.Options(journal=list, ready=list)
    assert _kinds.away([own], options, 0) is options
    mixed, far = _kinds.away([own, other], options, 0), _kinds.away([other], options, 0)
    assert (mixed.journal, mixed.ready, far.journal, far.ready) == (list, list, None, None)
    with far.lock(), pytest.raises(StorageError, match="is held by"), mixed.still():
        pass
    with mixed.lock(), pytest.raises(StorageError, match="host.lock is held by"), Away([worlds.HOST])(0):
        pass


def test_who_has_no_privileges_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Run as nobody: two programs of one user meet, and others cannot write where they do."""
    tmp_path.chmod(0o1777)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    code = """
import os, sys
sys.path.insert(0, %r)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.worlds import Away, folder
os.setgid(65534), os.setuid(65534)
with Away(["ec2:one"])(0):
    print(folder(), oct(os.stat(folder()).st_mode))
    child = os.fork()
    if not child:
        try:
            with Away(["ec2:one"])(0.1):
                os._exit(0)
        except Exception as error:
            os._exit(7 if error.code == "locked" else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", code % str(TOP)]
    done = subprocess.run(argv, env=env, cwd="/", check=False, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "bulkhead-65534"), "0o40700", "7"], done.stderr
