# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities of CephX users, as the monitors read them: clauses, each of which grants something by itself."""

from __future__ import annotations

import re
from typing import List

Clause = List[str]
_TOKEN = re.compile(r'\s*("[^"]*"|\'[^\']*\'|[^\s,;="\']+|[=,;])')
_PLAIN = re.compile(r"[^\s,;=\"']+")
_NAMING = ("pool", "namespace", "object_prefix")  # ``pool a`` is an older spelling of ``pool=a``


def clauses(text: str) -> list[Clause] | None:
    """The words of each clause, ``name=value`` in one. None: nothing that can be read so."""
    tokens = _tokens(text)
    if tokens is None:
        return None
    found: list[Clause] = [[]]
    at = 0
    while at < len(tokens):
        word, at = tokens[at], at + 1
        following = tokens[at] if at < len(tokens) else ","
        if word in (",", ";"):
            found.append([])
            continue
        if word == "=":
            return None
        if following == "=" or (word in _NAMING and following not in (",", ";")):
            at += following == "="
            if at == len(tokens) or tokens[at] in ("=", ",", ";"):
                return None
            word, at = "%s=%s" % (word, _bare(tokens[at])), at + 1
            while word[:5] == "gids=" and tokens[at : at + 1] == [","] and "".join(tokens[at + 1 : at + 2]).isdigit():
                word, at = "%s,%s" % (word, tokens[at + 1]), at + 2
        found[-1].append(_bare(word))
    return [clause for clause in found if clause]


def _tokens(text: str) -> list[str] | None:
    found, place = [], 0
    match = _TOKEN.match(text)
    while match is not None:
        found.append(match.group(1))
        place = match.end()
        match = _TOKEN.match(text, place)
    return None if text[place:].strip() else found


def _bare(word: str) -> str:
    """Without quotes that mean nothing, and with one kind of them."""
    if word[:1] not in ("'", '"'):
        return word
    inner = word[1:-1]
    return inner if _PLAIN.fullmatch(inner) else '"%s"' % inner if '"' not in inner else word


def canonical(text: str) -> str:
    """One text for all that grant the same: neither space, quotes nor the order of clauses mean anything."""
    read = clauses(text)
    return " ".join(text.split()) if read is None else ", ".join(sorted({" ".join(clause) for clause in read}))


def named(clause: Clause, word: str) -> str | None:
    """The value that a clause has for a word such as ``pool``."""
    return next((each.partition("=")[2] for each in clause if each.startswith(word + "=")), None)
