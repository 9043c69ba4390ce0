# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing /etc/fstab (fstab(5)): only the fields of our line change, everything else stays as it is.

Imported by the port ``fstab`` only when a line differs: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import (
    DEFAULTS,
    FIELD,
    Target,
    parse,
    read,
    twice,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_SPECIAL = re.compile(rb"[ \t\n\\]|^#")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_PLACES = {"source": 0, "fstype": 2, "options": 3, "dump": 4, "passno": 5}


class Written(NamedTuple):
    data: bytes
    paths: list[str | None]  # by line


def escape(value: str) -> bytes:
    """A field as fstab(5) wants it; a leading ``#`` would make the line a comment."""
    return _SPECIAL.sub(lambda m: b"\\%03o" % m.group(0)[0], encode(value))


def put(target: Target, before: Any, after: Any, written: dict[str, Written] | None = None) -> None:
    """``written``: what this run wrote, by file. A file that still holds just that is not parsed again."""
    file, path = target
    old = read(file)
    lines = old.split(b"\n")
    known = (written or {}).get(file)
    paths = list(known.paths) if known is not None and known.data == old else _paths(old, len(lines))
    place = paths.index(path) if path in paths else -1
    if paths.count(path) > 1:
        raise twice(file, [line for line in parse(old) if line.path == path][-1])
    if (parse(lines[place])[0].value if place >= 0 else None) != state_of(before):
        raise StorageError("moved", "the line of %s in %s is not as it was planned for" % target[::-1], "run it again")
    if after is not None:
        after = {**DEFAULTS, **state_of(after)}
        _refuse_bad(file, path, after)
    if place >= 0 and after is None:
        del lines[place], paths[place]
        if place == len(lines) and lines:
            lines[-1] = lines[-1].rstrip(b"\r")
    elif place >= 0:
        lines[place] = _edited(lines[place], before, after)
    else:
        fields = [escape(after["source"]), escape(path)] + [escape(str(after[k])) for k in list(_PLACES)[1:]]
        end = b"\r" if lines[0].endswith(b"\r") else b""
        # A file without a final newline keeps it so, and CRLF stays CRLF: taking the line out restores the bytes.
        if lines[-1]:
            lines[-1] += end
            lines.append(b" ".join(fields))
            paths.append(path)
        else:
            lines.insert(len(lines) - 1, b" ".join(fields) + end)
            paths.insert(len(paths) - 1, path)
    new = b"\n".join(lines)
    _prove(file, path, *_apart(old, new, place if place >= 0 else paths.index(path)), after)
    if path in paths and (after is None or paths.count(path) > 1):
        raise StorageError("failed", "%s would not read back as meant; nothing was written" % file)
    atomic.replace(file, new, sweep=known is None)
    if written is not None:
        written[file] = Written(new, paths)


def _paths(data: bytes, count: int) -> list[str | None]:
    """The mount point of each line; None where it is no active one."""
    paths: list[str | None] = [None] * count
    for line in parse(data):
        paths[line.number] = line.path
    return paths


def _apart(old: bytes, new: bytes, place: int) -> tuple[bytes, bytes]:
    """Both without the lines before and after a place, if these are the same."""
    one, two = old.split(b"\n"), new.split(b"\n")
    head = place if one[:place] == two[:place] else 0
    tail = max(0, min(len(one), len(two)) - place - 1)
    tail = tail if one[len(one) - tail :] == two[len(two) - tail :] else 0
    return b"\n".join(one[head : len(one) - tail]), b"\n".join(two[head : len(two) - tail])


def walked(file: str) -> int:
    """Elsewhere a tenant's link could lead to the host's table."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk

    try:
        with Walk() as walk:
            return walk.content(file, os.O_RDONLY)
    except StorageError as error:
        if error.code == "unsafe_path":
            raise
        raise OSError(error.details.get("errno", 0), error.message) from error


def reload(run: Callable[..., Any] | None) -> None:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program

    code, _out, err = (run or program.execute)(["systemctl", "daemon-reload"])
    if code:
        said = err.decode("utf-8", "replace").strip() or "it ended with %d" % code
        hint = "systemd goes by the old /etc/fstab until it is told: systemctl daemon-reload"
        raise StorageError("failed", "systemctl daemon-reload: %.300s" % said, hint)


def _refuse_bad(file: str, path: str, value: dict[str, Any]) -> None:
    for key, item in [("path", path), *value.items()]:
        good = isinstance(item, str) and item and not _CONTROL.search(item)
        if key in ("dump", "passno"):
            good = isinstance(item, int) and not isinstance(item, bool) and item >= 0
        if not good:
            raise StorageError("invalid", "%s %.300r cannot be written to %s" % (key, item, file), option=key)


def _edited(line: bytes, before: dict[str, Any], after: dict[str, Any]) -> bytes:
    """The line with its changed fields replaced; spacing, further fields and the line's end stay."""
    end = line[len(line.rstrip(b"\r")) :]
    line = line[: len(line) - len(end)]
    spans = [match.span() for match in FIELD.finditer(line)]
    for key, place in reversed(list(_PLACES.items())):
        if place < len(spans) and after[key] != before[key]:
            start, stop = spans[place]
            line = line[:start] + escape(str(after[key])) + line[stop:]
    missing = [key for key, place in _PLACES.items() if place >= len(spans)]
    if any(after[key] != before[key] for key in missing):
        line = line.rstrip(b" \t") + b"".join(b" " + escape(str(after[key])) for key in missing)
    return line + end


def _prove(file: str, path: str, old: bytes, new: bytes, after: Any) -> None:
    """The new bytes must read back as meant, and every other line as before."""
    mine = [line.value for line in parse(new) if line.path == path]
    if mine != ([] if after is None else [after]) or _others(old, path) != _others(new, path):
        raise StorageError("failed", "%s would not read back as meant; nothing was written" % file)


def _others(data: bytes, path: str) -> list[bytes]:
    mine = {line.number for line in parse(data) if line.path == path}
    return [line.rstrip(b"\r") for number, line in enumerate(data.split(b"\n")) if number not in mine and line]
