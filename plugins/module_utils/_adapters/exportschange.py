# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing our own table of exports(5): only the line of a path changes. Loaded only where one differs."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.exports import Target, parse, read
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_HEAD = b"# Written by bulkhead.storage, a line for each path. Lines of other paths stay.\n"
_FOLDER = b"# Its folder was made for it.\n"
_SPECIAL = re.compile(rb'[\x00-\x20"#\\\x7f]')


def put(port: Any, target: Target, before: Any, after: Any) -> None:
    file, path = target
    now = port.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    if now != (before and state_of(before)):
        raise StorageError("moved", "the line of %s in %s is not as it was planned for" % (path, file), "run it again")
    folder, head = os.path.dirname(file), _HEAD
    if after is not None and not os.path.isdir(folder):
        _make(folder)
        head += _FOLDER
    old = read(file)
    lines = (old or head).split(b"\n")
    mine = [entry for entry in parse(file, old) if entry.path == path]
    place = mine[0].start if mine else len(lines) if lines[-1] else len(lines) - 1
    for entry in reversed(mine):
        del lines[entry.start : entry.stop]
    if after is not None:
        lines.insert(place, b" ".join([_escaped(path), *map(encode, after["clients"])]))
    new = b"\n".join(lines)
    found = [entry.clients for entry in parse(file, new) if entry.path == path]
    others = [[entry[2:] for entry in parse(file, data) if entry.path != path] for data in (old, new)]
    if found != ([] if after is None else [tuple(after["clients"])]) or others[0] != others[1]:
        raise StorageError("failed", "%s would not read back as meant; nothing was written" % file)
    atomic.replace(file, new, 0o644)  # without its last line too: it sweeps up what killed runs left
    if new in (_HEAD, _HEAD + _FOLDER):
        _remove(file, folder, new != _HEAD)


def _remove(file: str, folder: str, folder_too: bool) -> None:
    try:
        os.unlink(file)
        sync_directory(folder)
    except OSError as error:
        raise failure(error, "cannot remove " + file) from error
    if folder_too:
        with contextlib.suppress(OSError):  # somebody else put something there
            os.rmdir(folder)
            sync_directory(os.path.dirname(folder))


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
        os.chmod(folder, 0o755)  # whatever the umask is
        sync_directory(os.path.dirname(folder))
    except OSError as error:
        raise failure(error, "cannot make " + folder) from error


def _escaped(path: str) -> bytes:
    return _SPECIAL.sub(lambda m: b"\\%03o" % m.group(0)[0], encode(path))
