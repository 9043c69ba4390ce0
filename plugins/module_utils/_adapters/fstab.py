# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/fstab (fstab(5)): bytes in, values out. Back into bytes: fstabchange."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Iterable, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import text
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

Target = Tuple[str, str]
FIELD = re.compile(rb"[^ \t]+")
DEFAULTS = {"fstype": "auto", "options": "defaults", "dump": 0, "passno": 0}


class Line(NamedTuple):
    """An active line: where it stands in the file, its mount point, and its value or what is wrong."""

    number: int
    path: str
    value: Any


def parse(data: bytes) -> list[Line]:
    found = []
    for number, line in enumerate(data.split(b"\n")):
        fields = FIELD.findall(line.rstrip(b"\r"))
        if len(fields) < 3 or fields[0].startswith(b"#"):
            continue
        words = dict(zip(("source", "", "fstype", "options"), map(text, fields)))
        value: Any = {**DEFAULTS, **words}
        del value[""]
        try:
            value.update(zip(("dump", "passno"), map(int, fields[4:6])))
        except ValueError:
            value = StorageError("unreadable", "line %d has a dump or passno that is no number" % (number + 1))
        path = text(fields[1])
        found.append(Line(number, path.rstrip("/") or path[:1], value))
    return found


class Fstab:
    """Port ``fstab``: (file, mount point) -> ``{source, fstype, options, dump, passno}``."""

    name = "fstab"
    behind = False
    slow = False

    def __init__(self, run: Callable[..., Any] | None = None, booted: str = "/run/systemd/system") -> None:
        self.run = run  # of a program; None: as every program is run
        self.booted = booted  # there where systemd is process 1, see sd_booted(3)
        self.stale = False
        self.written: dict[str, Any] = {}

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        wanted: dict[str, Any] = {} if targets is not None else {"/etc/fstab": None}
        for file, path in targets or ():
            wanted.setdefault(file, set()).add(path)
        rows: dict[Target, Any] = {}
        for file, paths in wanted.items():
            try:
                lines = parse(read(file))
            except StorageError as error:
                rows.update(((file, path), error) for path in paths or ("",))
                continue
            for line in lines:
                if paths is None or line.path in paths:
                    rows[file, line.path] = line.value if (file, line.path) not in rows else twice(file, line)
        return rows

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fstabchange

        fstabchange.put(target, before, after, self.written)
        self.stale = self.stale or target[0] == "/etc/fstab"

    def flush(self) -> None:
        """systemd made units of the lines it read at boot: it must hear of others, or it acts by the old ones."""
        if self.stale and os.path.isdir(self.booted):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fstabchange

            self.stale = False
            fstabchange.reload(self.run)

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        return all(_normal(k, now[k]) == _normal(k, v) for k, v in declared.items() if not k.startswith("_"))

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        return {**(now or DEFAULTS), **declared}

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE


def read(file: str) -> bytes:
    """The bytes of the file; a missing one is empty."""
    try:
        where: Any = encode(file)
        if file != "/etc/fstab":
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fstabchange

            where = fstabchange.walked(file)
        with open(where, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        error = failure(exc, "cannot read %s" % file)
        raise StorageError("unreadable", error.message, **error.details) from exc


def twice(file: str, line: Line) -> StorageError:
    problem = "%s has several lines for %s (one is line %d)" % (file, line.path, line.number + 1)
    return StorageError("conflict", problem, "remove all but one of them; only you know which is right")


def _normal(key: str, value: Any) -> Any:
    return ([part for part in value.split(",") if part] or ["defaults"]) if key == "options" else value
