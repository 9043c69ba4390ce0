# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a timer finds to clean up. That it does it is shown in a guest, with jobs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _cleanup
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

NOON = 1_800_000_000.0  # 2027-01-15T08:00:00Z
HOME = "/run/bulkhead-jobs/%s/default/v"


class Port:
    def __init__(self, rows: dict[Any, Any]) -> None:
        self.rows = rows

    def scan(self, targets: Any = None) -> dict[Any, Any]:
        return {k: v for k, v in self.rows.items() if targets is None or k in targets}


def volume(*holders: str, kind: str = "filesystem", used: str | None = None) -> dict[str, Any]:
    held = {name: {"target": HOME % name, "read_only": False} for name in holders}
    row = {"type": kind, "attachments": held, "created_at": "2027-01-15T07:00:00Z"}
    return row if used is None else {**row, "last_used": used}


def wanted(volumes: dict[str, Any], jobs: dict[str, Any] | None = None, idle: int | None = None, **records: Any) -> Any:
    rows: dict[Any, Any] = {("volume", "default/" + name): row for name, row in volumes.items()}
    rows.update({("job", name): row for name, row in records.items()})
    ports = {"record": Port(rows), "job": Port({k: {"state": v} for k, v in (jobs or {}).items()})}
    return list(_cleanup.wanted(ports, idle, NOON))


def test_nothing_is_to_be_done() -> None:
    assert wanted({}) == []
    assert wanted({"v": volume("j")}, {"j": "running"}, j={}) == []
    assert wanted({"v": volume("j")}, {"j": "prepared"}, j={}) == [] == wanted({"v": volume("j")}, {"j": "part"}, j={})
    assert wanted({"v": volume("j")}, j={}) == [], "its record stands, and what became of it nobody knows"


@pytest.mark.parametrize("state", ["done", "lost"])
def test_jobs_that_ended_are_asked_for_by_their_ids(state: str) -> None:
    assert wanted({"v": volume("j", "k")}, {"j": state, "k": "running"}, j={}, k={}) == [
        {"jobs": [{"id": "j"}], "volumes": []}
    ]


def test_who_has_a_volume_elsewhere_is_not_ours() -> None:
    row = volume("j")
    row["attachments"]["j"]["target"] = "/mnt/v"
    assert wanted({"v": row}) == []
    row["attachments"]["j"]["target"] = HOME % "k"
    assert wanted({"v": row}) == []


def test_a_job_that_only_a_volume_knows_lets_go_of_it() -> None:
    let = [{"volumes": [{"namespace": "default", "name": n, "state": "detached", "job": "j"}]} for n in ("u", "v")]
    assert wanted({"u": volume("j"), "v": volume("j")}) == let


def test_memory_goes_that_nobody_used_for_so_long() -> None:
    used = "2027-01-15T07:59:00Z"
    volumes = {
        "attached": volume("j", kind="memory", used=used),
        "disk": volume(),
        "new": volume(kind="memory"),
        "used": volume(kind="memory", used=used),
    }
    gone = [{"namespace": "default", "name": name, "state": "absent"} for name in ("new", "used")]
    assert wanted(volumes, {"j": "running"}, None, j={}) == []
    assert wanted(volumes, {"j": "running"}, 3601, j={}) == []
    assert wanted(volumes, {"j": "running"}, 3600, j={}) == [{"jobs": [], "volumes": gone[:1]}]
    assert wanted(volumes, {"j": "running"}, 61, j={}) == [{"jobs": [], "volumes": gone[:1]}]
    assert wanted(volumes, {"j": "running"}, 60, j={}) == [{"jobs": [], "volumes": gone}]


def test_a_job_that_cannot_be_looked_at_is_told_of() -> None:
    rows = {("volume", "default/v"): volume("j"), ("job", "j"): {}}
    ports = {"record": Port(rows), "job": Port({"j": StorageError("unreadable", "no")})}
    assert list(_cleanup.wanted(ports, None, NOON)) == [{"jobs": [{"id": "j"}], "volumes": []}]
