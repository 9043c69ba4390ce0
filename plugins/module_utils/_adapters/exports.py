# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of exports(5): bytes in, values out. Back into bytes, of our own one: exportschange."""

from __future__ import annotations

import os
import re
from typing import Any, Iterable, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

Target = Tuple[str, str]  # our own table, and a path
FILE = "/etc/exports"
_SPACE = re.compile(r"\s*", re.ASCII)
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+', re.ASCII)
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


class Entry(NamedTuple):
    """An export: its lines in the file (the last one not included), its path, its clients as they are written."""

    start: int
    stop: int
    path: str
    clients: tuple[str, ...]


class Exports:
    """Port ``exports``: (our own table, path) -> ``{clients}``, each as ``host(options)``.

    A path that another table has too is a ``conflict``: exportfs(8) would take one of the two.
    """

    name, behind, slow = "exports", False, False

    def __init__(self, main: str = FILE) -> None:
        self.main = main

    def scan(self, targets: Iterable[Target] | None = None) -> dict[Target, Any]:
        if targets is None:
            raise StorageError("unsupported", "exports are looked up by table and path only")
        wanted: dict[str, set[str]] = {}
        for file, path in targets:
            wanted.setdefault(file, set()).add(path)
        rows: dict[Target, Any] = {}
        for file, paths in wanted.items():
            for entry in parse(file, read(file)):
                if entry.path in paths:
                    before = rows.get((file, entry.path), {"clients": ()})["clients"]
                    rows[file, entry.path] = {"clients": before + entry.clients}
            for other in self.others(file):
                for entry in parse(other, read(other)):
                    if entry.path in paths:
                        text = "%s is exported by line %d of %s too" % (entry.path, entry.start + 1, other)
                        hint = "remove it there, or here: one place says who may mount it"
                        rows[file, entry.path] = StorageError("conflict", text, hint)
        return rows

    def others(self, file: str) -> list[str]:
        """The tables that exportfs(8) reads beside ours."""
        folder, _slash, ours = file.rpartition("/")
        try:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name[:1] != "." and e.name != ours and e.is_file())
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise failure(error, "cannot look into " + folder) from error
        return [self.main] + ["%s/%s" % (folder, name) for name in names if name[-8:] == ".exports"]

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportschange

        exportschange.put(self, target, before, after)


def parse(file: str, data: bytes) -> list[Entry]:
    """As nfs-utils reads it: quotes anywhere in a word, octal escapes, lines that go on after a backslash."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    found, number = [], 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        words, more = _words(line, file, number)
        while more and number < len(lines):
            line = line[:-1] + " " + lines[number].lstrip(" \t")
            number += 1
            words, more = _words(line, file, number)
        if words:
            found.append(Entry(start, number, words[0].rstrip("/") or "/", tuple(words[1:])))
    return found


def _words(line: str, file: str, number: int) -> tuple[list[str], bool]:
    """The words of a line, and whether the next one belongs to it. A comment ends where its line ends."""
    words: list[str] = []
    place = _SPACE.match(line).end()  # type: ignore[union-attr]
    while place < len(line):
        if line[place] == "#":
            return words, False
        word = _WORD.match(line, place)
        if word is None:
            raise StorageError("unreadable", "line %d of %s has a quote without its other" % (number, file))
        words.append(plain(word.group(0).replace('"', "")))
        place = _SPACE.match(line, word.end()).end()  # type: ignore[union-attr]
    return words, line.endswith("\\")


def plain(text: str) -> str:
    """Without octal escapes."""
    if "\\" not in text:
        return text
    data = _OCTAL.sub(lambda m: bytes([int(m.group(1), 8)]), text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def read(path: str) -> bytes:
    """A missing one is empty."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise failure(error, "cannot read " + path) from error
