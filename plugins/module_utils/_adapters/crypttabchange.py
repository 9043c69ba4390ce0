# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing /etc/crypttab (crypttab(5)): only the fields of our line change, everything else stays as it is.

Imported by the port ``crypttab`` only when a line differs: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.crypttab import Target, parse, read, twice
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_PLAIN = re.compile("[^\\s\x00-\x1f\x7f#][^\\s\x00-\x1f\x7f]*")  # the file knows no escapes
_FIELD = re.compile(rb"[^ \t\r]+")
_PLACES = {"device": 1, "key_file": 2, "options": 3}


def put(target: Target, before: Any, after: Any) -> None:
    file, name = target
    old = read(file)
    lines = old.split(b"\n")
    mine = [line for line in parse(old) if line.name == name]
    if len(mine) > 1:
        raise twice(file, mine[-1])
    if (mine[0].value if mine else None) != state_of(before):
        raise StorageError("moved", "the line of %s in %s is not as it was planned for" % (name, file), "run it again")
    if after is None:
        del lines[mine[0].number]
    else:
        after = state_of(after)
        for field in _PLACES:
            if not _PLAIN.fullmatch(after[field] or "luks"):
                text = "%s %.300r cannot be written to %s, which knows no blanks" % (field, after[field], file)
                raise StorageError("invalid", text, option=field)
        if mine:
            lines[mine[0].number] = _edited(lines[mine[0].number], before, after)
        else:
            new = b" ".join(encode(word) for word in (name, *(after[field] for field in _PLACES)))
            # a file without a final newline keeps it so: taking the line out restores the bytes
            lines.insert(len(lines) if lines[-1] else len(lines) - 1, new)
    data = b"\n".join(lines)
    rows = [line.value for line in parse(data) if line.name == name]
    others = [[line[1:] for line in parse(each) if line.name != name] for each in (old, data)]
    if rows != ([] if after is None else [after]) or others[0] != others[1]:
        raise StorageError("failed", "%s would not read back as meant; nothing was written" % file)
    atomic.replace(file, data, mode=None if old else 0o600)


def _edited(line: bytes, before: dict[str, Any], after: dict[str, Any]) -> bytes:
    """The line with its changed fields replaced, and those that it lacks; spacing and the line's end stay."""
    spans = [match.span() for match in _FIELD.finditer(line)]
    changed = [field for field in _PLACES if after[field] != before[field]]
    last = max(map(_PLACES.__getitem__, changed))
    if last >= len(spans):
        missing = [encode(after[field]) for field, place in _PLACES.items() if len(spans) <= place <= last]
        line = b" ".join([line.rstrip(), *missing])
    for field in reversed(changed):
        if _PLACES[field] < len(spans):
            start, stop = spans[_PLACES[field]]
            line = line[:start] + encode(after[field]) + line[stop:]
    return line
