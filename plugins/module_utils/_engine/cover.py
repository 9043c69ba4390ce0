# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mounts of a declaration cover up of the rest of it, and show of it in another way."""

from __future__ import annotations

from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.plan import EMPTY, Planner, path_of


def refusals(planner: Planner, order: list[int]) -> Iterator[StorageError]:
    yield from _disagreeing(planner)
    if planner.openers:
        yield from _too_early(planner, order)
        for index, unit in enumerate(planner.units):
            for kind, name in unit.needs:
                over = {planner.doors[up] for up in ancestors(str(name)) if up in planner.doors}
                if kind == "path" and over == {EMPTY} and (kind, name) not in unit.provides:
                    planner.buried[index] = str(name)


def _disagreeing(planner: Planner) -> Iterator[StorageError]:
    """One thing that two ports show cannot be two things."""
    for (name, target), (index, value) in planner.owner.items():
        tells = planner.hooks[name].tells
        port, where, fields = tells(target, value) if tells is not None and value is not None else ("", "", {})
        other, said = planner.owner.get((port, where), (index, None))
        if other != index and any((said or fields).get(k, v) != v for k, v in fields.items()):
            text = "%s %s is declared by %s too" % (name, target, planner.units[other].entry)
            yield StorageError("conflict", text, "declare it once").at(planner.units[index].entry)


def _too_early(planner: Planner, order: list[int]) -> Iterator[StorageError]:
    """What is made before what it lies in."""
    turn = {index: number for number, index in enumerate(order)}
    first: dict[str, tuple[int, Any]] = {}
    for (name, target), (index, value) in planner.owner.items():
        path = path_of(target) if value is not None and planner.hooks[name].behind else ""
        for up in ancestors(path or "/"):
            if up not in first or turn[index] < first[up][0]:
                first[up] = (turn[index], path)
    for door, opener in planner.openers.items():
        number, path = first.get(door, (len(order), ""))
        if number < turn[opener]:
            yield hidden(path, door).at(planner.units[order[number]].entry)


def hidden(target: Any, door: Any) -> StorageError:
    text = "%s is a mount point of this declaration, which would hide %s" % (door, target)
    return StorageError("conflict", text, "give it a tree of its own with root: %s" % door)
