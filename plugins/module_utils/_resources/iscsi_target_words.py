# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only targets with CHAP or with devices ask: words that a kernel understands, and who else serves a device."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret

MOST = 255  # MAX_PASS_LEN of the kernel, with its end
_WORD = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", re.ASCII)


def chap(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """``NULL`` at the beginning is how the kernel is told that there is none."""
    for word in said:
        text = said[word]
        if text is not None and (not _WORD.fullmatch(text) or len(text) > MOST or text.startswith("NULL")):
            hint = "1 to %d printable ASCII characters, no blank at either end, and no NULL at the beginning" % MOST
            raise StorageError("invalid", "%s of %s cannot be used" % (word, name), hint, option=word)
    if (said["mutual_username"] is None) != (said["mutual_password"] is None):
        text = "%s has only one of mutual_username and mutual_password" % name
        raise StorageError("invalid", text, "give both, or none", option="chap")
    if said["password"] is not None and said["password"] == said["mutual_password"]:
        text = "password and mutual_password of %s are the same" % name
        raise StorageError("invalid", text, "RFC 7143 (9.2.1) wants one for each direction", option="mutual_password")
    secret = {word: None if said[word] is None else Secret(said[word]) for word in ("password", "mutual_password")}
    return {**said, **secret}


def alone(kind: str, device: str, target: str, look: Any) -> None:
    """Of two files the one cell would tell."""
    users: Any = look.memo.get(kind)
    if users is None:
        users = look.memo[kind] = {}
        for (each, name), said in look.declared.items():
            for lun in said["luns"] or () if each == kind and said["state"] == "present" else ():
                users.setdefault(lun["device"], []).append(name)
    others = sorted(set(users.get(device, ())) - {target})
    if others:
        text = "%s is declared by %s too" % (device, ", ".join(others))
        raise StorageError("conflict", text, "one thing is one LUN of one target")
