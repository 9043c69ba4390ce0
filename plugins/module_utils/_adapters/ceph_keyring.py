# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with the key of one user of a Ceph cluster."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_auth import Auth, named
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, is_link, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import parent

_LARGEST = 1 << 16  # bytes
_SECTION = re.compile(r"\[([^\[\]]+)\]")


class Keyrings:
    """Port ``ceph_keyring``: path -> is it the ``current`` key ``of`` a user, in an ``own`` file of that ``mode``?

    A file in which anything else is kept is a ``conflict``: it is somebody else's.
    """

    name = "ceph_keyring"

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.homeless: set[str] = set()

    def scan(self, targets: Iterable[Any] | None = None) -> dict[Any, Any]:
        if targets is None:
            raise StorageError("unsupported", "keyrings are looked up by user and path only")
        wanted = list(targets)
        rows: dict[Any, Any] = {}
        known = self.auth.read([target.access["of"] for target in wanted])
        with Walk() as walk:
            for target in wanted:
                try:
                    row = self._row(walk, target, known.get(target.access["of"]))
                except StorageError as error:
                    row = error
                if row is not None:
                    rows[target] = row
        return rows

    def _row(self, walk: Walk, target: Any, known: Any) -> Any:
        user, path = named(target.access["of"]), str(target)
        self.homeless.discard(path)
        try:
            about, data = _read(walk, path)
        except StorageError as error:
            if error.code != "not_found":
                raise
            if not _is_there(walk, parent(path)):
                self.homeless.add(path)
            return None
        found = keys(data)
        others = None if found is None else sorted(set(found) - {user})
        if found is None or others:
            what = "the key of %s" % ", ".join(others) if others else "something else"
            text = "%s holds %s, and would be replaced as a whole" % (path, what)
            raise StorageError("conflict", text, "name another file, or move it away")
        current = known is not None and found.get(user) == known["key"].reveal()
        return {"current": current, "mode": stat.S_IMODE(about.st_mode), "own": about.st_uid == os.geteuid()}

    def merge(self, target: Any, before: Any, value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "_missing": parent(target)} if target in self.homeless else value

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        """Nobody gets back what was another key, or another's file."""
        lost = before is not None and (after is not None or not before["current"])
        return FORWARD if lost else REVERSIBLE

    def put(self, target: Any, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_keyringchange

        ceph_keyringchange.put(self, target, before, after)


def _read(walk: Walk, path: str) -> tuple[os.stat_result, bytes]:
    at, name, _trusted = walk.parent(path)
    try:
        if is_link(at, name):
            raise StorageError("unsafe_path", "%s is a symbolic link" % path, "name the file itself")
    except OSError as error:
        raise refused(error, path) from error
    fd = walk.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise StorageError("conflict", "%s is no plain file" % path, "name another file, or move it away")
        return about, os.read(fd, _LARGEST)
    finally:
        os.close(fd)


def _is_there(walk: Walk, folder: str) -> bool:
    try:
        os.close(walk.open(folder, os.O_PATH | os.O_DIRECTORY))
    except StorageError as error:
        if error.code != "not_found":
            raise
        return False
    return True


def keys(data: bytes) -> dict[str, str] | None:
    """The key of each user in a keyring. None: it is none."""
    found: dict[str, str] = {}
    user = None
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        section = _SECTION.fullmatch(line)
        if section:
            user = section.group(1).strip()
            found.setdefault(user, "")
        elif line and line[0] not in "#;":
            word, sign, said = line.partition("=")
            if user is None or not sign:
                return None
            if word.strip() == "key":
                found[user] = said.strip()
    return found


def text(name: str, key: str) -> bytes:
    return ("[%s]\n\tkey = %s\n" % (name, key)).encode()
