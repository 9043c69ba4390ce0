# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets that are not of this host: a pool of a Ceph cluster, a volume of EC2."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret


class Afar(str):
    """Its text says which one, and is all that is compared and shown; ``access`` says how to get there."""

    access: Mapping[str, Any]

    def __new__(cls, text: str, access: Mapping[str, Any]) -> Afar:
        made = super().__new__(cls, text)
        made.access = access
        return made


def access(options: Mapping[str, Mapping[str, Any]], p: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says of those options, secrets as such."""
    said = {name: p[name] for name in options if p[name] is not None}
    return {name: Secret(v) if options[name].get("no_log") else v for name, v in said.items()}
