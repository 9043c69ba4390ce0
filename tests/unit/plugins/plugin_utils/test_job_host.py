# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools and volumes of a job host as options of ``layout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import io_limit, job, pool, volume
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import job_host

ROLE = Path(__file__).resolve().parents[4] / "roles" / "job_host"
KINDS = {"pools": pool, "volumes": volume, "jobs": job, "io_limits": io_limit}


def layout(*args: Any, **more: Any) -> dict[str, list[dict[str, Any]]]:
    found = job_host.layout(*args, **more)
    assert set(found) == set(KINDS)
    for name, entries in found.items():
        for entry in entries:
            kind: Any = KINDS[name]
            options.check(kind.OPTIONS, kind.RULES, entry, set())
    return found


def test_entries_are_those_of_the_modules() -> None:
    pools = [{"name": "p", "backend": "loop", "config": {"path": "/mnt/p"}, "max_volume_size": "1GB"}]
    volumes = [{"name": "v", "size": "64MB", "pool": "p", "labels": {"a": "b"}, "read_only": False, "target": ""}]
    found = layout("/srv/j", pools, volumes)
    assert found["pools"] == pools
    assert found["volumes"] == [{"name": "v", "size": "64MB", "pool": "p", "labels": {"a": "b"}, "read_only": False}]


@pytest.mark.parametrize("backend", ["auto", "directory", "loop", "btrfs"])
def test_a_pool_without_a_path_lies_below_the_base(backend: str) -> None:
    pools = [{"name": name, "backend": backend, "config": config} for name, config in (("default", None), ("p", {}))]
    homes = [entry["config"]["path"] for entry in layout("/srv/j/", pools)["pools"]]
    assert homes == ["/srv/j/volumes", "/srv/j/pools/p"]
    assert layout("/srv/j", [{"name": "m", "backend": "memory"}])["pools"] == [{"name": "m", "backend": "memory"}]


def test_absent_keeps_names_and_consents_only() -> None:
    pools = [{"name": "p", "backend": "loop", "confirm": "p", "state": "present"}]
    volumes = [{"name": "v", "namespace": "n", "size": "64MB", "state": "attached", "job": "j", "force": True}]
    found = layout("/srv/j", pools, volumes, state="absent")
    assert found["pools"] == [{"name": "p", "confirm": "p", "state": "absent"}]
    assert found["volumes"] == [{"name": "v", "namespace": "n", "force": True, "state": "absent"}]
    assert "confirm" not in layout("/srv/j", [{"name": "p", "backend": "loop"}], state="absent")["pools"][0]


def test_a_job_as_one_types_it() -> None:
    typed = {"id": "j", "command": "ls /data", "volumes": "data:/data, blue/cache::ro,plain", "user": ""}
    (found,) = layout("/srv/j", jobs=[typed])["jobs"]
    assert found["command"] == ["sh", "-c", "ls /data"] and "user" not in found
    assert found["volumes"] == [
        {"name": "data", "path": "/data"},
        {"name": "cache", "namespace": "blue", "read_only": True},
        {"name": "plain"},
    ]
    listed = {"id": "j", "command": ["ls"], "volumes": [{"name": "data"}], "state": "finished"}
    assert layout("/srv/j", jobs=[listed])["jobs"] == [listed]
    assert layout("/srv/j", jobs=[listed], state="absent")["jobs"] == [{"id": "j", "state": "absent"}]
    for wrong in ("data:/data:rx", "a:b:c:d"):
        with pytest.raises(StorageError, match="is not name"):
            layout("/srv/j", jobs=[{**listed, "volumes": wrong}])
    with pytest.raises(StorageError) as caught:
        layout("/srv/j", jobs=[{"name": "j"}])
    assert caught.value.code == "invalid"


def test_limits_are_those_of_the_module() -> None:
    limit = {"name": "slow", "path": "/srv", "read_bps": "1MiB", "persist": False}
    assert layout("/srv/j", io_limits=[{**limit, "slice": ""}])["io_limits"] == [limit]
    gone = {"name": "slow", "persist": False, "state": "absent"}
    assert layout("/srv/j", io_limits=[limit], state="absent")["io_limits"] == [gone]


def test_nothing_declared() -> None:
    for empty in (None, "", []):
        found = layout("/srv/j", empty, empty)
        assert found["pools"] == found["volumes"] == []


@pytest.mark.parametrize(
    "args, text",
    [
        (("srv",), "base 'srv' is not absolute"),
        (("/srv", "p"), "job_host_pools 'p' is not a list"),
        (("/srv", None, {"name": "v"}), "job_host_volumes {'name': 'v'} is not a list"),
        (("/srv", ["p"]), "job_host_pools[0] 'p' is not a dictionary"),
        (("/srv", None, [{"name": "v"}, {"size": 1}]), "job_host_volumes[1]: name None is not a valid name"),
        (("/srv", None, None, "gone"), "state 'gone' is neither present nor absent"),
    ],
)
def test_refusals(args: Any, text: str) -> None:
    with pytest.raises(StorageError) as caught:
        job_host.layout(*args)
    assert caught.value.code == "invalid" and text in str(caught.value)


def test_the_specification_of_the_role_is_that_of_the_modules() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    assert _bare(spec["job_host_pools"]["options"]) == _bare(pool.OPTIONS)
    assert _bare(spec["job_host_volumes"]["options"]) == _bare(volume.OPTIONS)
    assert _bare(spec["job_host_io_limits"]["options"]) == _bare(io_limit.OPTIONS)
    typed = {"command": {"type": "raw", "options": {}}, "volumes": {"type": "raw", "options": {}}}  # as text too
    assert _bare(spec["job_host_jobs"]["options"]) == {**_bare(job.OPTIONS), **typed}


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Options without their descriptions."""
    bare = {}
    for name, option in spec.items():
        kept = {key: value for key, value in option.items() if key not in ("description", "default", "options")}
        kept["options"] = _bare(option.get("options", {}))
        bare[name] = {"type": "str", **kept}
    return bare


def test_a_cleanup_is_a_timer_a_service_and_a_program() -> None:
    def text(part: str, **given: Any) -> str:
        return job_host.cleanup({"interval": "5m", **given}, part, "/opt/python", lambda: "code")

    assert text("program") == "code"
    assert "OnUnitInactiveSec=300\n" in text("timer") and "OnActiveSec=90\n" in text("timer", interval=90)
    start = "ExecStart=/opt/python -I -B /usr/local/lib/bulkhead-cleanup.py"
    assert start + "\n" in text("service") and start + "\n" in text("service", memory_volume_timeout="none")
    assert start + " --memory-volume-timeout 86400\n" in text("service", memory_volume_timeout="24h")
    roles = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))["job_host__cleanup"]
    assert roles["program"] == job_host.PROGRAM and list(roles) == ["program", "service", "timer"]


@pytest.mark.parametrize(
    "given, says",
    [
        ("5m", "is not a dictionary"),
        ({"interval": "5m", "more": 1}, "is not a dictionary"),
        ({}, "interval None is not a time"),
        ({"interval": "soon"}, "job_host_cleanup.interval 'soon' is not a time"),
        ({"interval": 0}, "interval 0 is not a time"),
        ({"interval": True}, "interval True is not a time"),
        ({"interval": "1m", "memory_volume_timeout": "-1"}, "memory_volume_timeout '-1' is not a time"),
    ],
)
def test_a_cleanup_that_cannot_be_is_refused(given: Any, says: str) -> None:
    with pytest.raises(StorageError) as caught:
        job_host.cleanup(given, "service", "/usr/bin/python3", str)
    assert says in caught.value.message and caught.value.code == "invalid" and caught.value.hint
    with pytest.raises(StorageError):
        job_host.cleanup({"interval": 1}, "socket", "/usr/bin/python3", str)
