# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to get to a Ceph cluster: options that all its kinds have, as targets carry them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import afar, names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

OPTIONS: dict[str, Any] = {
    "cluster": {"type": "str", "default": "ceph"},
    "conf": {"type": "path"},
    "user": {"type": "str"},
    "keyring": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
}
MOST = 3600  # seconds
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}", re.ASCII)


def world(p: dict[str, Any]) -> str:
    """Whose lock it takes."""
    return "ceph:%s" % p["cluster"]


def target(p: dict[str, Any], text: str) -> afar.Afar:
    """What is there in the cluster under that name."""
    return afar.Afar("%s/%s" % (p["cluster"], text), access(p))


def access(p: dict[str, Any]) -> dict[str, Any]:
    cluster = matched(_CLUSTER, p["cluster"], "cluster", "letters, digits, _ and -")
    if p["user"] is None:
        text = "user is not given: client.admin is never assumed"
        raise StorageError("invalid", text, "name the user to connect as, such as bulkhead", option="user")
    said: dict[str, Any] = {"cluster": cluster, "user": client(p["user"], "user"), "timeout": p["timeout"]}
    said["conf"] = names.path(p["conf"] or "/etc/ceph/%s.conf" % cluster, "conf")
    if p["keyring"] is not None:
        said["keyring"] = names.path(p["keyring"], "keyring")
    if not 1 <= p["timeout"] <= MOST:
        text = "timeout %d is not within 1 and %d" % (p["timeout"], MOST)
        raise StorageError("invalid", text, "it is in seconds", option="timeout")
    return said


def client(value: Any, option: str) -> str:
    """``x`` and ``client.x`` are the same."""
    plain = value[7:] if isinstance(value, str) and value.startswith("client.") else value
    return "client." + matched(_CLIENT, plain, option, "letters, digits and _ . - @")


def name(value: Any, option: str = "name") -> str:
    """Of a pool or of what is in it."""
    return matched(_NAME, value, option, "letters, digits and _ . -, not beginning with -")


def matched(pattern: re.Pattern[str], value: Any, option: str, of: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise StorageError("invalid", "%s %.300r is not a valid name" % (option, value), of, option=option)
    return value
