# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of things and paths: what is allowed, and what lies beneath what: by component, never by prefix."""

from __future__ import annotations

import re
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# What nearly all paths look like; they pass without a closer look.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254})+", re.ASCII)
_IDENTIFIER = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?", re.ASCII)
# C0 and C1 controls, DEL, line and paragraph separators, bidirectional overrides: none of them belongs in a path
# that is written to fstab, a unit file or a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
PATH_MAX, NAME_MAX = 4095, 255


def identifier(value: Any, what: str = "name") -> str:
    """A volume, pool, tenant, job or namespace name; ``invalid`` shows the repr of anything else."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value) or ".." in value:
        raise StorageError(
            "invalid",
            "%s %.300r is not a valid name" % (what, value),
            "1 to 63 of a-z 0-9 _ . -, starting and ending with a letter or digit, without '..'",
            option=what,
        )
    return value


def path(value: Any, what: str = "path") -> str:
    """An absolute path without ``.``, ``..``, doubled slashes or control characters; a trailing slash is dropped."""
    if value.__class__ is str and len(value) <= PATH_MAX and _PLAIN.fullmatch(value):
        return value
    problem = ""
    if not isinstance(value, str) or not value.startswith("/"):
        problem = "is not absolute"
    else:
        plain = _canonical(value)
        parts = plain[1:].split("/") if plain != "/" else []
        if _CONTROL.search(plain):
            problem = "holds a control character"
        elif any(part in ("", ".", "..") for part in parts):
            problem = "holds an empty, '.' or '..' component"
        elif len(encode(plain)) > PATH_MAX or any(len(encode(part)) > NAME_MAX for part in parts):
            problem = "is too long"
    if problem:
        raise StorageError(
            "invalid", "%s %.300r %s" % (what, value, problem), "write a plain absolute path", option=what
        )
    return plain


def relative(value: Any, what: str = "path") -> str:
    """A path beneath a root: ``a/b``, never absolute, never leaving; ``.`` names the root itself."""
    if value in (".", "./"):
        return "."
    if not isinstance(value, str) or value.startswith("/") or not value:
        raise StorageError(
            "invalid", "%s %.300r is not relative" % (what, value), "write it relative to the root", option=what
        )
    return path("/" + value, what)[1:]


def join(base: str, *parts: str) -> str:
    """``base`` and the components beneath it; ``invalid`` when a part tries to leave."""
    for part in parts:
        step = relative(part)
        if step != ".":
            base = base.rstrip("/") + "/" + step
    return base


def parent(value: str) -> str:
    return value.rpartition("/")[0] or "/"


def ancestors(value: str) -> Iterator[str]:
    """Every directory above an absolute path, nearest first, ending with ``/``."""
    while value != "/":
        value = parent(value)
        yield value


def within(value: str, base: str) -> bool:
    """True when ``value`` is ``base`` or lies beneath it."""
    return value == base or base == "/" or value.startswith(base + "/")


def _canonical(value: str) -> str:
    """One spelling for one path: no slash at the end, and no text that only its bytes would show for what it is."""
    try:
        plain = encode(value).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair is no text and no byte
        return "\0"
    return plain[:-1] if plain.endswith("/") and len(plain) > 2 else plain


def encode(value: str) -> bytes:
    """The bytes of a path, whatever the locale of this process is."""
    return value.encode("utf-8", "surrogateescape")
