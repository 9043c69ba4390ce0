# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module of many entries of many kinds: what ``layout`` does before and after the engine."""

from __future__ import annotations

import gc
import json
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils import _shipped
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Report
from ansible_collections.bulkhead.storage.plugins.module_utils._shell import (
    reconcile_many,
    seen,
    shown,
)


def run(kinds: Any) -> None:
    """Many entries of many kinds. ``kinds`` knows which list holds which kind; each is imported only when used."""
    gc.disable()  # thousands of entries are no garbage, only much for the collector to walk over, again and again
    options: dict[str, Any] = {
        "state": {"type": "str", "choices": ["present", "absent"]},
        "src": {"type": "path"},
        "remote_src": {"type": "bool", "default": False},
        "purge": {"type": "list", "elements": "str", "default": []},
        "confirm_purge": {"type": "list", "elements": "str", "default": []},
        "return_resources": {"type": "bool", "default": False},
    }
    if _shipped.sent("_secrets"):  # always by the action plugin: the lists are in one text, or in a file here
        options[_shipped.OPTION] = {"type": "str", "no_log": True}
        options["_declaration"] = {"type": "str", "no_log": True}
        options["_secrets"] = {"type": "list", "elements": "str", "no_log": True}
    else:
        options.update((name, kinds.option(name)) for name in kinds.LISTS)
    reconcile_many(options, lambda params, secrets: _read(kinds, params, secrets), _extra)


def _read(kinds: Any, params: dict[str, Any], secrets: set[str]) -> tuple[list[Entry], Any, list[StorageError]]:
    if params["src"] and any(params.get(name) is not None for name in (*kinds.LISTS, "_declaration")):
        raise StorageError("invalid", "src and lists exclude each other", "declare the lists in the file")
    if params.get("_declaration"):
        document = json.loads(_unpacked(params["_declaration"]))
    elif params["src"]:
        document = kinds.read(params["src"])
    else:
        document = {name: params[name] for name in (*kinds.LISTS, "state") if params.get(name) is not None}
    if params["purge"]:
        raise StorageError("unsupported", "purge is not supported yet", "declare entries with state: absent")
    if params["state"] is not None:
        document["state"] = params["state"]
    entries, errors = kinds.entries(document, params, secrets)
    return entries, kinds.ports([name for name in kinds.LISTS if document.get(name)]), errors


def _unpacked(text: str) -> str | bytes:
    """JSON as it is, or deflated by the action plugin."""
    if text.startswith("{"):
        return text
    import base64
    import zlib

    return zlib.decompress(base64.b64decode(text))


def _extra(params: dict[str, Any], entries: list[Entry], report: Report) -> dict[str, Any]:
    more: dict[str, Any] = {"timings": {k: round(v * 1000, 3) for k, v in report.timings.items()}}
    if params["return_resources"]:
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing

        rows = seen(report)
        lists: dict[str, list[Entry]] = {}
        for entry in entries:
            lists.setdefault(entry.resource.LIST, []).append(entry)
        room = listing.RESULT_BYTES // max(1, len(lists))
        rows["room"] = room // max(map(len, lists.values()), default=1)  # for what one entry tells
        more["resources"] = {
            name: listing.bounded((shown(entry, rows) for entry in listed), len(listed), room)
            for name, listed in lists.items()
        }
        more["resources_total"] = {name: len(listed) for name, listed in lists.items()}
    return more
