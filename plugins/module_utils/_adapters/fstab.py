# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/fstab (fstab(5)): bytes in, bytes out; only the fields of our line change, everything else stays as it is."""

from __future__ import annotations

import re
from typing import Any, Iterable, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import encode, text
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, state_of

Target = Tuple[str, str]
_FIELD = re.compile(rb"[^ \t]+")
_SPECIAL = re.compile(rb"[ \t\n\\]|^#")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_PLACES = {"source": 0, "fstype": 2, "options": 3, "dump": 4, "passno": 5}
_DEFAULTS = {"fstype": "auto", "options": "defaults", "dump": 0, "passno": 0}


class Line(NamedTuple):
    """An active line: where it stands in the file, the mount point it decodes to, and its value or what is wrong."""

    number: int
    path: str
    value: Any


def escape(value: str) -> bytes:
    """A field as fstab(5) wants it; a leading ``#`` would make the line a comment."""
    return _SPECIAL.sub(lambda m: b"\\%03o" % m.group(0)[0], encode(value))


def parse(data: bytes) -> list[Line]:
    found = []
    for number, line in enumerate(data.split(b"\n")):
        fields = _FIELD.findall(line.rstrip(b"\r"))
        if len(fields) < 3 or fields[0].startswith(b"#"):
            continue
        words = dict(zip(("source", "", "fstype", "options"), map(text, fields)))
        value: Any = {**_DEFAULTS, **words}
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

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        wanted: dict[str, Any] = {} if targets is not None else {"/etc/fstab": None}
        for file, path in targets or ():
            wanted.setdefault(file, set()).add(path)
        rows: dict[Target, Any] = {}
        for file, paths in wanted.items():
            try:
                lines = parse(_read(file))
            except StorageError as error:
                rows.update(((file, path), error) for path in paths or ("",))
                continue
            for line in lines:
                if paths is None or line.path in paths:
                    rows[file, line.path] = line.value if (file, line.path) not in rows else _twice(file, line)
        return rows

    def put(self, target: Target, before: Any, after: Any) -> None:
        file, path = target
        old = _read(file)
        lines = old.split(b"\n")
        mine = [line for line in parse(old) if line.path == path]
        if len(mine) > 1:
            raise _twice(file, mine[-1])
        if (mine[0].value if mine else None) != state_of(before):
            raise StorageError(
                "moved", "the line of %s in %s is not as it was planned for" % target[::-1], "run it again"
            )
        if after is not None:
            after = {**_DEFAULTS, **state_of(after)}
            _refuse_bad(file, path, after)
        if mine and after is None:
            del lines[mine[0].number]
            if mine[0].number == len(lines) and lines:
                lines[-1] = lines[-1].rstrip(b"\r")
        elif mine:
            lines[mine[0].number] = _edited(lines[mine[0].number], before, after)
        else:
            fields = [escape(after["source"]), escape(path)] + [escape(str(after[k])) for k in list(_PLACES)[1:]]
            end = b"\r" if lines[0].endswith(b"\r") else b""
            # A file without a final newline keeps it so, and CRLF stays CRLF: taking the line out restores the bytes.
            if lines[-1]:
                lines[-1] += end
                lines.append(b" ".join(fields))
            else:
                lines.insert(len(lines) - 1, b" ".join(fields) + end)
        new = b"\n".join(lines)
        _prove(file, path, old, new, after)
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic

        atomic.replace(file, new)

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        return all(_normal(k, now[k]) == _normal(k, v) for k, v in declared.items() if not k.startswith("_"))

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        return {**(now or _DEFAULTS), **declared}

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE


def _read(file: str) -> bytes:
    """The bytes of the file; a missing one is empty."""
    try:
        with open(encode(file), "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        error = failure(exc, "cannot read %s" % file)
        raise StorageError("unreadable", error.message, **error.details) from exc


def _twice(file: str, line: Line) -> StorageError:
    problem = "%s has several lines for %s (one is line %d)" % (file, line.path, line.number + 1)
    return StorageError("conflict", problem, "remove all but one of them; only you know which is right")


def _normal(key: str, value: Any) -> Any:
    return ([part for part in value.split(",") if part] or ["defaults"]) if key == "options" else value


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
    spans = [match.span() for match in _FIELD.finditer(line)]
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
