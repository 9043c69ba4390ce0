# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns of the engine: a declaration is a set of cells, a plan is the cells that differ."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, Tuple

REVERSIBLE, FORWARD, SHRINKS, DESTROYS = "reversible", "forward", "shrinks", "destroys"

Key = Tuple[str, str]
Spot = Tuple[str, Hashable]


class _Unknown:
    """A value that only the world can choose (a server-made id) or that lies behind a closed door."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Secret:
    """A value that must never be shown; equal to another Secret of the same text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __repr__(self) -> str:
        return "********"


class Cell(NamedTuple):
    """One fact that must hold. ``value`` None: must not exist; a dict is partial: undeclared fields stay."""

    port: str
    target: Hashable
    value: Any
    implied: bool = False


class Unit(NamedTuple):
    """What one entry stands for: its cells, bottom first, and what it stands on, as spots: paths, devices, names.

    ``lent``: undone when all who stand on it fail. ``behind``: all of it lies behind a door.
    """

    key: Key
    cells: tuple[Cell, ...]
    needs: tuple[Spot, ...] = ()
    provides: tuple[Spot, ...] = ()
    entry: str = ""
    consents: dict[str, Any] = {}
    lent: bool = False
    behind: bool = False


class Entry(NamedTuple):
    """Of a declaration: its name in messages, the resource of its kind, its options."""

    label: str
    resource: Any
    params: dict[str, Any]


class Action(NamedTuple):
    """One cell that differs. Undo is the same action with before and after swapped."""

    unit: int
    port: str
    target: Hashable
    before: Any
    after: Any
    risk: str

    @property
    def verb(self) -> str:
        if self.before is None:
            return "create"
        return "remove" if self.after is None else "change"


def state_of(value: Any) -> Any:
    """A value without its observations: fields that begin with ``_`` are seen, never declared nor compared."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if not k.startswith("_")}
    return value


def met(row: Any, declared: Any) -> bool:
    """Does what is there satisfy what is declared? Every declared field equal; UNKNOWN is satisfied by any value."""
    if isinstance(declared, dict) and isinstance(row, dict):
        for name, value in declared.items():
            if name not in row or (row[name] != value and value is not UNKNOWN and not name.startswith("_")):
                return False
        return True
    return bool(row == declared)


def merged(row: Any, declared: Any) -> Any:
    """The whole value that meeting ``declared`` leaves: undeclared fields stay, a known value stands for UNKNOWN."""
    if isinstance(declared, dict) and isinstance(row, dict):
        return {**row, **{name: row.get(name, v) if v is UNKNOWN else v for name, v in declared.items()}}
    return declared
