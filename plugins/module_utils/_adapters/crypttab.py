# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/crypttab (crypttab(5)): bytes in, values out. Back into bytes: crypttabchange."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

Target = Tuple[str, str]
WORDS = {"discards": "discard", "nofail": "nofail", "network": "_netdev"}


class Line(NamedTuple):
    """An active line: where it stands in the file, the name of the mapping, its value."""

    number: int
    name: str
    value: dict[str, Any]


def parse(data: bytes) -> list[Line]:
    found = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")):
        fields = line.split()
        if len(fields) < 2 or fields[0].startswith("#"):
            continue
        key, options = (fields[2:4] + ["none", ""])[:2] if len(fields) == 2 else (fields[2:4] + [""])[:2]
        words = options.split(",")
        flags = {name: word in words for name, word in WORDS.items()}
        key = "none" if key == "-" else key
        found.append(Line(number, fields[0], {"device": fields[1], "key_file": key, "options": options, **flags}))
    return found


class Crypttab:
    """Port ``crypttab``: (file, name) -> ``{device, key_file, options, discards, nofail, network}``.

    Undeclared options of a line stay; the last three are some of them.
    """

    name, behind, slow = "crypttab", False, False

    def __init__(self, run: Callable[..., Any] | None = None, booted: str = "/run/systemd/system") -> None:
        self.run, self.booted, self.stale = run, booted, False

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        wanted: dict[str, Any] = {} if targets is not None else {"/etc/crypttab": None}
        for file, name in targets or ():
            wanted.setdefault(file, set()).add(name)
        rows: dict[Target, Any] = {}
        for file, names in wanted.items():
            for line in parse(read(file)):
                if names is None or line.name in names:
                    rows[file, line.name] = line.value if (file, line.name) not in rows else twice(file, line)
        return rows

    def merge(self, target: Target, now: Any, declared: Any) -> dict[str, Any]:
        row = {**(now or dict.fromkeys(WORDS, False)), **declared}
        words = [w for w in (now or {"options": "luks"})["options"].split(",") if w and w not in WORDS.values()]
        words += [word for name, word in WORDS.items() if row[name]]
        return {**row, "options": ",".join(words)} if now is None or row != now else now

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import crypttabchange

        crypttabchange.put(target, before, after)
        self.stale = True

    def flush(self) -> None:
        """systemd made units of the lines it read at boot: it must hear of others."""
        if self.stale and os.path.isdir(self.booted):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fstabchange

            self.stale = False
            fstabchange.reload(self.run)


def read(file: str) -> bytes:
    """The bytes of the file; a missing one is empty."""
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise failure(error, "cannot read %s" % file) from error


def twice(file: str, line: Line) -> StorageError:
    problem = "%s has several lines for %s (one is line %d)" % (file, line.name, line.number + 1)
    return StorageError("conflict", problem, "remove all but one of them; only you know which is right")
