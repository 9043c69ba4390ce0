# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the oldest Python of a target that is found here: every kind, run and run again, on the real kernel."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support import module

TREE = {"root": "/srv/t", "entries": [{"path": "a", "type": "subvolume", "acl": ["u:1000:rwX"]}]}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tmpfs", {"path": "/mnt/x", "size": "1MiB"}),
    ("tree", TREE),
    ("quota", {"path": "/srv/t/a", "hard": "10MiB"}),
    ("mount", {"path": "/mnt/b", "source": "/srv", "bind": True}),
    ("filesystem", {"device": "/srv/images/pool.img", "fstype": "ext4"}),
    ("pool", {"name": "p", "backend": "loop", "config": {"path": "/srv/p"}}),
    ("volume", {"name": "v", "pool": "p", "size": "8MiB", "state": "attached", "target": "/mnt/v"}),
    ("layout", {"_declaration": json.dumps({"trees": [{**TREE, "root": "/srv/z"}]}), "_secrets": []}),
]


@pytest.fixture
def host(private_mounts: None) -> Iterator[None]:
    with hosts.host():
        yield


def test_every_kind_on_the_oldest_python(host: None, tmp_path: Path) -> None:
    """The checks name the oldest Python found and the oldest core; without them it is the Python of the tests."""
    python, program = os.environ.get("BULKHEAD_TARGET_PYTHON", ""), os.environ.get("BULKHEAD_ANSIBLE_PLAYBOOKS", "")
    environment: dict[str, str] = {}
    if python and program:  # that core's module_utils, and nothing else of an environment of another Python
        (place,) = Path(program.split(os.pathsep)[0]).parents[1].glob("lib/python3*/site-packages/ansible")
        (tmp_path / "ansible").mkdir()
        (tmp_path / "ansible" / "__init__.py").touch()
        (tmp_path / "ansible" / "module_utils").symlink_to(place.resolve() / "module_utils")
        ours = next(entry for entry in sys.path if Path(entry, "ansible_collections/bulkhead/storage").is_dir())
        environment["PYTHONPATH"] = "%s:%s" % (tmp_path, ours)
    else:
        python = sys.executable
    for name, options in CALLS:
        first = module.run(name, options, python=python, environment=environment)
        again = module.run(name, options, python=python, environment=environment)
        assert first.result.get("changed") and not first.result.get("failed"), (name, first)
        assert again.result["changed"] is False, (name, again)
    print("every kind on %s" % python)
