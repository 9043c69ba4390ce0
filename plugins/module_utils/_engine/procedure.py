# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedures: a fixed list of forward steps, each a cell. Resumed by looking again, never by trusting a record."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import guard
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    UNKNOWN,
    Action,
    Cell,
    Unit,
    merged,
    met,
)


class Step(NamedTuple):
    """``cell`` must hold before the next step begins. ``check`` may refuse what it finds by raising StorageError."""

    name: str
    cell: Cell
    check: Callable[[Any], None] = lambda row: None


def run(
    steps: list[Step],
    ports: dict[str, Any],
    dry: bool,
    note: Callable[[str, bool], None],
    consents: dict[str, Any] | None = None,
) -> list[Action]:
    """Walk the steps in order; a step that already holds is passed over. Returns the actions taken (or foreseen).

    In a dry run everything after the first step that does not hold is conditional: its ``before`` is UNKNOWN. A failing
    step raises with ``details.step``; nothing is walked back, because every step leads forward. A step that shrinks or
    destroys takes a consent, as everywhere.
    """
    taken: list[Action] = []
    for index, step in enumerate(steps):
        port, target, wanted = ports[step.cell.port], step.cell.target, step.cell.value
        if dry and taken:
            taken.append(Action(index, step.cell.port, target, UNKNOWN, wanted, port.risk(target, None, wanted)))
            continue
        try:
            before = _row(port, target)
            step.check(before)
            if _holds(port, target, before, wanted):
                continue
            after = merged(before, wanted)
            action = Action(index, step.cell.port, target, before, after, port.risk(target, before, after))
            refusal = guard.consented(action, Unit(("step", step.name), (), consents=consents or {}), port)
            if refusal is not None:
                raise refusal
            if not dry:
                note("begin %s" % step.name, True)
                port.put(target, before, after)
                if not _holds(port, target, _row(port, target), wanted):
                    raise StorageError("did_not_settle", "step %s does not hold after it was taken" % step.name)
                note("done %s" % step.name, True)
        except StorageError as error:
            error.details.setdefault("step", step.name)
            raise
        taken.append(action)
    return taken


def _row(port: Any, target: Any) -> Any:
    row = port.scan([target]).get(target)
    if isinstance(row, StorageError):
        raise row
    return row


def _holds(port: Any, target: Any, row: Any, wanted: Any) -> bool:
    if row is None or wanted is None:
        return row is wanted
    same = getattr(port, "same", None)
    return bool(same(target, row, wanted) if same else met(row, wanted))
