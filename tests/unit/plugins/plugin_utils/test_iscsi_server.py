# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets of an iSCSI server as options of ``layout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.filter.iscsi_server_layout import FilterModule
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import iscsi_server

ROLE = Path(__file__).resolve().parents[4] / "roles" / "iscsi_server"
TARGET: dict[str, Any] = {
    "target": "iqn.2026-01.org.example:disks",
    "luns": [{"lun": 0, "file": "/srv/a.img", "size": "1GiB"}],
    "initiators": [{"iqn": "iqn.2026-01.org.example:me", "chap": {"username": "me", "password": "a long secret"}}],
}


def layout(targets: Any, **more: Any) -> list[dict[str, Any]]:
    found = iscsi_server.layout(targets, **more)
    assert list(found) == ["iscsi_targets"]
    for entry in found["iscsi_targets"]:
        options.check(iscsi_target.OPTIONS, iscsi_target.RULES, entry, set())
    return found["iscsi_targets"]


def test_entries_are_those_of_the_module() -> None:
    assert layout([TARGET]) == [TARGET]
    survey = {**TARGET, "portals": "", "luns": [{**TARGET["luns"][0], "device": ""}]}
    survey["initiators"] = [{"iqn": "iqn.2026-01.org.example:me", "chap": ""}]
    assert layout([survey]) == [{**TARGET, "initiators": [{"iqn": "iqn.2026-01.org.example:me"}]}]
    assert layout([]) == layout(None) == layout("") == []


def test_absent_keeps_names_only() -> None:
    assert layout([{**TARGET, "state": "present"}], state="absent") == [{"target": TARGET["target"], "state": "absent"}]


@pytest.mark.parametrize(
    "targets, state, text",
    [
        ([], "gone", "state 'gone' is neither present nor absent"),
        ({"password": "x"}, "present", "iscsi_server_targets is a dict, not a list"),
        ([TARGET, "a secret"], "present", "iscsi_server_targets[1] is a str, not a dictionary"),
    ],
)
def test_refusals(targets: Any, state: str, text: str) -> None:
    with pytest.raises(StorageError) as caught:
        iscsi_server.layout(targets, state)
    assert caught.value.code == "invalid" and text in str(caught.value) and "secret" not in str(caught.value)


def test_the_filter_answers_and_refuses() -> None:
    found = FilterModule().filters()["iscsi_server_layout"]
    assert found([TARGET]) == {"iscsi_targets": [TARGET]}
    with pytest.raises(AnsibleFilterError, match="is a str, not a list"):
        found("x")


def test_the_specification_of_the_role_is_that_of_the_module() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    assert _bare(spec["iscsi_server_targets"]["options"]) == _bare(iscsi_target.OPTIONS)


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Options without their descriptions, and without what only the module checks."""
    bare = {}
    for name, option in spec.items():
        kept = {key: option[key] for key in option if key in ("type", "elements", "required", "choices", "no_log")}
        bare[name] = {"type": "str", **kept, "options": _bare(option.get("options", {}))}
    return bare
