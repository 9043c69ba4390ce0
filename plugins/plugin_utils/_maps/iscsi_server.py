# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the targets of an iSCSI server to options of ``layout``. Pure; raises StorageError."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def layout(targets: Any, state: str = "present") -> dict[str, list[dict[str, Any]]]:
    """The list ``iscsi_targets``. With ``state`` absent every declared target goes, whatever it says itself."""
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    if targets in (None, ""):
        targets = []
    if not isinstance(targets, list):
        text = "iscsi_server_targets is a %s, not a list" % type(targets).__name__  # it may hold a password
        raise StorageError("invalid", text, option="targets")
    return {"iscsi_targets": [_entry(index, entry, state) for index, entry in enumerate(targets)]}


def _entry(index: int, entry: Any, state: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        text = "iscsi_server_targets[%d] is a %s, not a dictionary" % (index, type(entry).__name__)
        raise StorageError("invalid", text, option="targets")
    if state == "absent":
        return {**{name: value for name, value in entry.items() if name == "target"}, "state": "absent"}
    said = _given(entry)
    for name in ("luns", "initiators"):
        if isinstance(said.get(name), list):
            said[name] = [_given(each) if isinstance(each, dict) else each for each in said[name]]
    return said


def _given(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what a survey left unanswered."""
    return {option: value for option, value in entry.items() if value not in (None, "")}
