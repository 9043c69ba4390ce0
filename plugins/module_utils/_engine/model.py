# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns of the engine: a declaration is a set of cells, a plan is the cells that differ."""

from __future__ import annotations

from typing import Any, Hashable, NamedTuple, Tuple

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
    """What one entry of a declaration stands for: its cells, bottom first, and what it stands on.

    ``needs`` and ``provides`` are spots in the space of paths, devices and names; the graph is derived from them.
    """

    key: Key
    cells: tuple[Cell, ...]
    needs: tuple[Spot, ...] = ()
    provides: tuple[Spot, ...] = ()
    entry: str = ""
    consents: dict[str, Any] = {}


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
