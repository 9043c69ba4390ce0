# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exports of a server as options of ``layout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netaddr
import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_export, nfs_export_words
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import nfs_server

ROLE = Path(__file__).resolve().parents[4] / "roles" / "nfs_server"


def layout(exports: Any, **more: Any) -> list[dict[str, Any]]:
    found = nfs_server.layout(exports, **more)
    assert list(found) == ["nfs_exports"]
    for entry in found["nfs_exports"]:
        options.check(nfs_export.OPTIONS, nfs_export.RULES, entry, set())
    return found["nfs_exports"]


def test_entries_are_those_of_the_module() -> None:
    clients = [{"host": "192.0.2.0/24", "options": ["rw"]}, {"host": "*.example.com"}]
    assert layout([{"path": "/srv/a", "clients": clients}]) == [{"path": "/srv/a", "clients": clients}]
    survey = [
        {
            "path": "/srv/a",
            "state": "",
            "clients": [{"host": "h", "options": "rw, async,"}, {"host": "i", "options": ""}],
        }
    ]
    said = [{"host": "h", "options": ["rw", "async"]}, {"host": "i"}]
    assert layout(survey) == [{"path": "/srv/a", "clients": said}]
    for empty in ([], None, ""):
        assert layout(empty) == []


def test_absent_keeps_the_path_only() -> None:
    exports = [{"path": "/srv/a", "clients": [{"host": "no/such"}], "state": "present"}]
    assert layout(exports, state="absent") == [{"path": "/srv/a", "state": "absent"}]


@pytest.mark.parametrize(
    "exports, state, text",
    [
        ([], "gone", "state 'gone' is neither present nor absent"),
        ("/srv", "present", "nfs_server_exports '/srv' is not a list"),
        (["/srv"], "present", "nfs_server_exports[0] '/srv' is not a dictionary"),
        ("192.0.2.7/24", "present", "write 192.0.2.0/24, or the address alone"),
        ("192.0.2.7/33", "present", "host '192.0.2.7/33' is no address"),
        ("192.0.2", "present", "host '192.0.2' is no address"),
        ("192.0.2.256", "present", "host '192.0.2.256' is no address"),
        ("2001:db8::1/64", "present", "write 2001:db8::/64, or the address alone"),
        ("2001:db8:::/64", "present", "host '2001:db8:::/64' is no address"),
    ],
)
def test_refusals(exports: Any, state: str, text: str) -> None:
    if isinstance(exports, str) and exports[0] != "/":
        exports = [{"path": "/srv", "clients": [{"host": "ok"}, {"host": exports}]}]
        text = "nfs_server_exports[0].clients[1]: |" + text
    with pytest.raises(StorageError) as caught:
        nfs_server.layout(exports, state)
    assert caught.value.code == "invalid" and all(part in str(caught.value) for part in text.split("|"))


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "192.0.2.0/24",
        "192.0.2.0/255.255.255.0",
        "0.0.0.0/1",
        "2001:db8::",
        "2001:db8::/33",
        "192.0.2.1/32",
    ],
)
def test_controller_and_target_mean_the_same(host: str) -> None:
    nfs_server.layout([{"path": "/srv", "clients": [{"host": host}]}])
    assert netaddr.IPNetwork(nfs_export_words.host(host)) == netaddr.IPNetwork(host)


def test_what_is_compared_is_what_can_be_said() -> None:
    """One table for each side of the target: neither imports the other."""
    assert tuple(map(" ".join, nfs_export_words.PAIRS)) == exportfs.PAIRS
    for name in nfs_export_words.VALUES:
        assert exportfs.settings(name + "=x") != exportfs.settings(""), name
    for name in nfs_export_words.ALONE:
        assert exportfs.settings(name) != exportfs.settings(""), name


def test_the_specification_of_the_role_is_that_of_the_module() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    assert _bare(spec["nfs_server_exports"]["options"]) == _bare(nfs_export.OPTIONS)


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: {k: v for k, v in option.items() if k not in ("description", "default")} for name, option in spec.items()
    }
    return {name: {**option, "options": _bare(option.get("options", {}))} for name, option in kept.items()}
