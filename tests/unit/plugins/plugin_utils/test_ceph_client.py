# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools and users of a Ceph cluster as options of ``layout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.filter.ceph_client_layout import FilterModule
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_access, ceph_pool, ceph_user
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import ceph_client

ROLE = Path(__file__).resolve().parents[4] / "roles" / "ceph_client"
POOL: dict[str, Any] = {"name": "images", "application": ["rbd"], "quota_bytes": "2TiB"}
USER: dict[str, Any] = {"name": "blue", "caps": {"mon": "profile rbd"}, "keyring_path": "/etc/ceph/blue.keyring"}


def layout(pools: Any, users: Any = None, **more: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found = ceph_client.layout(pools, users, **more)
    assert list(found) == ["ceph_pools", "ceph_users"]
    for entry in found["ceph_pools"]:
        options.check(ceph_pool.OPTIONS, ceph_pool.RULES, entry, set())
    for entry in found["ceph_users"]:
        options.check(ceph_user.OPTIONS, ceph_user.RULES, entry, set())
    return found["ceph_pools"], found["ceph_users"]


def test_entries_are_those_of_the_modules() -> None:
    assert layout([POOL], [USER]) == ([POOL], [USER])
    assert layout([{**POOL, "crush_rule": ""}], "") == ([POOL], [])
    assert layout(None) == layout("", [], access="") == ([], [])


def test_access_is_for_entries_that_do_not_say_it() -> None:
    access = {"user": "bulkhead", "timeout": 10, "conf": ""}
    pools, users = layout([POOL, {**POOL, "name": "other", "user": "x"}], [USER], access=access)
    assert pools[0] == {**POOL, "user": "bulkhead", "timeout": 10}
    assert (pools[1]["user"], pools[1]["timeout"], users[0]["user"]) == ("x", 10, "bulkhead")


def test_absent_keeps_what_says_which_and_the_consent() -> None:
    pools, users = layout([{**POOL, "confirm": "images"}], [USER], access={"user": "b"}, state="absent")
    assert pools == [{"name": "images", "confirm": "images", "user": "b", "state": "absent"}]
    assert users == [{"name": "blue", "keyring_path": USER["keyring_path"], "user": "b", "state": "absent"}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"pools": [], "state": "gone"}, "state 'gone' is neither present nor absent"),
        ({"pools": {}}, "ceph_client_pools is a dict, not a list"),
        ({"pools": [POOL, "x"]}, "ceph_client_pools[1] is a str, not a dictionary"),
        ({"pools": [], "users": "x"}, "ceph_client_users is a str, not a list"),
        ({"pools": [], "access": {"key": "secret"}}, "ceph_client_access holds more than"),
        ({"pools": [], "access": ["secret"]}, "ceph_client_access holds more than"),
    ],
)
def test_refusals(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(StorageError) as caught:
        ceph_client.layout(**arguments)
    assert caught.value.code == "invalid" and text in str(caught.value) and "secret" not in str(caught.value)
    found = FilterModule().filters()["ceph_client_layout"]
    with pytest.raises(AnsibleFilterError):
        found(arguments.pop("pools"), **arguments)
    assert found([POOL]) == ceph_client.layout([POOL])


def test_the_specification_of_the_role_is_that_of_the_modules() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    assert _bare(spec["ceph_client_pools"]["options"]) == _bare(ceph_pool.OPTIONS)
    assert _bare(spec["ceph_client_users"]["options"]) == _bare(ceph_user.OPTIONS)
    assert _bare(spec["ceph_client_access"]["options"]) == _bare(ceph_access.OPTIONS)
    assert tuple(ceph_access.OPTIONS) == ceph_client.ACCESS


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Options without their descriptions, and without what only the module checks."""
    bare = {}
    for name, option in spec.items():
        kept = {key: option[key] for key in option if key in ("type", "elements", "required", "choices", "no_log")}
        bare[name] = {"type": "str", **kept, "options": _bare(option.get("options", {}))}
    return bare
