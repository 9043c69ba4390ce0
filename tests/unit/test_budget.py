# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task costs its users, held: lines executed, bytes shipped, time to plan, size of an answer."""

from __future__ import annotations

import json
from typing import Any, Iterator

import payload
import pytest

from ansible_collections.bulkhead.storage.tests.support import host as hosts

# A call of each kind that finds everything as declared (what users pay for on every task), made so by a first call.
CALLS: dict[str, dict[str, Any]] = {
    "block_device": {"device": "/dev/disk/by-id/virtio-blank-0001", "label": "gpt"},
    "tmpfs": {"path": "/mnt/scratch", "size": "1MiB"},
    "tree": {"root": "/srv/t", "entries": [{"path": "a", "mode": "0750", "acl": ["u:1000:rwX"]}]},
    "mount": {"path": "/mnt/bound", "source": "/srv", "bind": True},
    "quota": {"path": "/srv/projects/blue", "hard": "10MiB"},
    "filesystem": {"device": "/srv/images/pool.img", "fstype": "ext4"},
    "pool": {"name": "fast", "backend": "loop", "config": {"path": "/srv/fast"}},
    "volume": {"name": "data", "size": "8MiB"},
    "snapshot": {"name": "daily", "volume": "kept"},
}
# What there must be for it.
BEFORE = {"snapshot": {"volumes": [{"name": "kept", "size": "8MiB", "pool": "subvolumes"}]}}
BEFORE["snapshot"]["pools"] = [{"name": "subvolumes", "backend": "btrfs", "config": {"path": "/srv/subvolumes"}}]


@pytest.fixture(scope="module")
def host() -> Iterator[None]:
    with hosts.host():
        yield


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_costs_no_more_than_its_budget(host: None, name: str) -> None:
    budget = payload.budget(name)
    if name in BEFORE:
        there = {"_declaration": json.dumps(BEFORE[name]), "_secrets": []}
        payload.executed("layout", json.dumps({"ANSIBLE_MODULE_ARGS": there}))
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": CALLS[name]})
    first, _files, answer = payload.executed(name, arguments)
    assert json.loads(answer)["changed"], "the first call had something to do"
    again, files, answer = payload.executed(name, arguments)
    assert json.loads(answer)["changed"] is False
    executed, shipped = payload.kib(files), payload.kib(payload.closure(name))
    text = "%-12s no-op %5d lines %5.2f KiB; changing %5d lines; shipped %6.1f KiB"
    print(text % (name, again, executed, first, shipped))
    assert again <= budget.lines and executed <= budget.kib, files
    assert first <= budget.changing and shipped <= budget.shipped


@pytest.mark.parametrize(
    "name",
    "ceph_pool ceph_user io_limit iscsi_session iscsi_target job luks_device nfs_export nfs_mount volume_group".split(),
)
def test_what_this_kernel_cannot_run_loads_no_more_than_its_budget(name: str) -> None:
    """A quiet call imports what stands at the top of its files, and the engine."""
    engine = [payload.PREFIX + "plugins.module_utils._engine." + part for part in ("reconcile", "world")]
    files = sorted({*payload.closure(name, False), *engine})
    lines, shipped = sum(map(payload.code_lines, map(payload.path_of, files))), payload.kib(payload.closure(name))
    print("%-12s loads %5d lines %5.1f KiB; shipped %6.1f KiB" % (name, lines, payload.kib(files), shipped))
    budget = payload.budget(name)
    assert lines <= budget.lines and payload.kib(files) <= budget.kib and shipped <= budget.shipped, files


def test_layout_executes_what_its_kinds_need_and_no_more(host: None) -> None:
    """A declaration of trees executes no adapter of mounts, quotas, the catalogue or filesystems."""
    document = json.dumps({"trees": [CALLS["tree"]]})
    _lines, files, _answer = payload.executed(
        "layout", json.dumps({"ANSIBLE_MODULE_ARGS": {"_declaration": document, "_secrets": []}})
    )
    for other in ("mounts", "fstab", "qgroup", "catalogue", "mkfs", "btrfs", "loop", "blkprobe"):
        assert not any(name.endswith("_adapters." + other) for name in files), files


def test_the_programs_that_count_can_count(tmp_path: Any) -> None:
    """The budget test can fail: lines and bytes of a file are what they are."""
    source = tmp_path / "x.py"
    source.write_text(
        '"""Doc\n\nstring."""\n\n# comment\nX = 1\nY = """a\nb"""\n\n\ndef f():\n    """Doc."""\n    return X\n'
    )
    assert payload.code_lines(str(source)) == 5
