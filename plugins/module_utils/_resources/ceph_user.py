# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of a Ceph cluster, what it may do, and the file with its key. The key is the cluster's, and never told."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import afar, names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import caps as words
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_access

KIND, LIST = "ceph_user", "ceph_users"
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "caps": {"type": "dict"},
    "keyring_path": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **ceph_access.OPTIONS,
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["caps"])]}
world = ceph_access.world
DAEMONS = ("mon", "osd", "mgr", "mds")
_DAEMON = re.compile(r"(mon|osd|mgr|mds)\..*|mon", re.DOTALL)
_OWN = ("client.admin", "client.bootstrap-")
_LONGEST = 4096


def label(p: dict[str, Any]) -> str:
    return str(p["name"])


def warned(p: dict[str, Any], warn: Callable[[str], None]) -> None:
    """What it may do is bound to no pool."""
    for clause in words.clauses(str((p["caps"] or {}).get("osd", ""))) or () if p["state"] == "present" else ():
        reading = "class-read" in clause and words.named(clause, "object_prefix") is not None  # of parents of clones
        if not (words.named(clause, "pool") or "tag" in clause or reading):
            text = "ceph_user (%s): the osd capability %r names no pool, so it holds in every pool"
            warn(text % (label(p), " ".join(clause)))


def unit(p: dict[str, Any], look: Any) -> Unit:
    """The file is above the user, so that it goes first. Pools that capabilities name come before both."""
    name = entity(p)
    target = ceph_access.target(p, name)
    value = {"caps": declared(p["caps"])} if p["state"] == "present" else None
    cells = [Cell("ceph_auth", target, value)]
    needs = [("ceph_pool", "%s/%s" % (p["cluster"], pool)) for pool in _pools(p["caps"])]
    if p["keyring_path"] is not None:
        path = names.path(p["keyring_path"], "keyring_path")
        current = {"current": True, "mode": 0o600, "own": True} if value is not None else None
        cells.append(Cell("ceph_keyring", afar.Afar(path, {"of": target}), current))
        needs.append(("path", path))
    return Unit((KIND, str(target)), tuple(cells), tuple(needs), ((KIND, str(target)),))


def entity(p: dict[str, Any]) -> str:
    """Neither a daemon, nor who could then no more be connected as."""
    if _DAEMON.fullmatch(str(p["name"])):
        raise StorageError("protected", "%.100r is a daemon of the cluster, not a user" % p["name"])
    name = ceph_access.client(p["name"], "name")
    if name.startswith(_OWN):
        raise StorageError("protected", "%s is the cluster's own user" % name, "make one of your own")
    if name == ceph_access.access(p)["user"]:
        raise StorageError("protected", "%s is the user that this connects as" % name, "connect as another")
    return name


def declared(caps: dict[str, Any]) -> dict[str, str]:
    """In one spelling. A namespace without a pool is the namespace of that name in every pool."""
    found = {}
    for daemon, text in caps.items():
        option = "caps.%s" % daemon
        if daemon not in DAEMONS:
            raise StorageError("invalid", "caps are for %s, not %.80r" % (", ".join(DAEMONS), daemon), option="caps")
        read = words.clauses(text) if isinstance(text, str) and text.isprintable() and len(text) <= _LONGEST else None
        if not read:
            raise StorageError(
                "invalid", "%s %.300r is no capability" % (option, text), "such as 'allow r'", option=option
            )
        for clause in read if daemon == "osd" else ():
            namespace = words.named(clause, "namespace")
            if namespace is not None and not (words.named(clause, "pool") or "tag" in clause):
                said = " ".join(clause)
                hint = said.replace("namespace=", "pool=<name> namespace=")
                text = "%s %r names a namespace and no pool: it would hold in every pool" % (option, said)
                raise StorageError("invalid", text, hint, option=option)
        found[daemon] = words.canonical(text)
    if not found:
        raise StorageError(
            "invalid", "caps are empty: such a user may do nothing", "such as {mon: allow r}", option="caps"
        )
    return found


def _pools(caps: Any) -> list[str]:
    read = words.clauses(str((caps or {}).get("osd", ""))) or ()
    return [pool for pool in (words.named(clause, "pool") for clause in read) if pool]


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    target = ceph_access.target(p, entity(p))
    path = p["keyring_path"]
    row = rows["ceph_auth"].get(target)
    file = rows["ceph_keyring"].get(names.path(path)) if path is not None else None
    return {
        "cluster": p["cluster"],
        "name": entity(p),
        "caps": row["caps"] if row is not None else None,
        "keyring_path": path if file is not None else None,
    }
