# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From pools and users that a host wants of a Ceph cluster to options of ``layout``. Pure; raises StorageError."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

ACCESS = ("cluster", "conf", "user", "keyring", "timeout")
KEPT = {"ceph_pools": ("name", "confirm"), "ceph_users": ("name", "keyring_path")}  # of what goes


def layout(
    pools: Any, users: Any = None, access: Any = None, state: str = "present"
) -> dict[str, list[dict[str, Any]]]:
    """The lists ``ceph_pools`` and ``ceph_users``. ``access`` is for entries that do not say it themselves.

    With ``state`` absent every declared user and pool goes, whatever it says itself.
    """
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    access = {} if access in (None, "") else access
    if not isinstance(access, dict) or access.keys() - set(ACCESS):
        text = "ceph_client_access holds more than %s" % ", ".join(ACCESS)
        raise StorageError("invalid", text, "such as {user: bulkhead}", option="access")
    lists = {"ceph_pools": ("ceph_client_pools", pools), "ceph_users": ("ceph_client_users", users)}
    return {name: _entries(name, variable, given, _given(access), state) for name, (variable, given) in lists.items()}


def _entries(name: str, variable: str, given: Any, access: dict[str, Any], state: str) -> list[dict[str, Any]]:
    given = [] if given in (None, "") else given
    if not isinstance(given, list):
        raise StorageError("invalid", "%s is a %s, not a list" % (variable, type(given).__name__), option=variable)
    found = []
    for index, entry in enumerate(given):
        if not isinstance(entry, dict):
            text = "%s[%d] is a %s, not a dictionary" % (variable, index, type(entry).__name__)
            raise StorageError("invalid", text, option=variable)
        said = {**access, **_given(entry)}
        if state == "absent":
            said = {option: value for option, value in said.items() if option in (*KEPT[name], *ACCESS)}
            said["state"] = "absent"
        found.append(said)
    return found


def _given(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what a survey left unanswered."""
    return {option: value for option, value in entry.items() if value not in (None, "")}
