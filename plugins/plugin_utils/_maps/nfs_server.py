# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the exports of a server to options of ``layout``. Pure; raises StorageError.

Entries take exactly the options of the module ``nfs_export``; ``layout`` checks them. Networks are checked here too, so
that a wrong one is told before any host is asked.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_ADDRESS = re.compile(r"[0-9.]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")


def layout(exports: Any, state: str = "present") -> dict[str, list[dict[str, Any]]]:
    """The list of ``layout``. With ``state`` absent everything declared goes."""
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    if exports in (None, ""):
        exports = []
    if not isinstance(exports, list):
        raise StorageError("invalid", "nfs_server_exports %.80r is not a list" % (exports,), option="exports")
    return {"nfs_exports": [_entry(index, entry, state) for index, entry in enumerate(exports)]}


def _entry(index: int, entry: Any, state: str) -> dict[str, Any]:
    where = "nfs_server_exports[%d]" % index
    if not isinstance(entry, dict):
        raise StorageError("invalid", "%s %.80r is not a dictionary" % (where, entry), option="exports")
    said = {option: value for option, value in entry.items() if value not in (None, "")}  # "": not answered in a survey
    if state == "absent":
        return {"path": said.get("path"), "state": "absent"}
    clients = said.get("clients")
    if isinstance(clients, list):
        said["clients"] = [_client("%s.clients[%d]" % (where, at), client) for at, client in enumerate(clients)]
    return said


def _client(where: str, client: Any) -> Any:
    if not isinstance(client, dict):
        return client
    said = {option: value for option, value in client.items() if value not in (None, "")}
    if isinstance(said.get("options"), str):
        said["options"] = [word.strip() for word in said["options"].split(",") if word.strip()]
    host = said.get("host")
    if isinstance(host, str) and _ADDRESS.fullmatch(host.partition("/")[0]):
        _proved(where, host)
    return said


def _proved(where: str, host: str) -> None:
    """An address or a network, as netaddr has it; where that is not installed, the target finds out."""
    try:
        import netaddr
    except ImportError:
        return
    try:
        if "/" not in host:
            netaddr.IPAddress(host, flags=netaddr.INET_PTON)
            return
        network = netaddr.IPNetwork(host)
    except (netaddr.AddrFormatError, ValueError) as error:
        hint = "as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64"
        raise StorageError("invalid", "%s: host %.80r is no address" % (where, host), hint, option="host") from error
    if network.ip != network.network:
        text = "%s: host %.80r is an address within a network" % (where, host)
        raise StorageError("invalid", text, "write %s, or the address alone" % network.cidr, option="host")
