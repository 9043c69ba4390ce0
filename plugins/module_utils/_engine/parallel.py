# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units that do not stand on each other side by side; loaded only when a slow port has something to build."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Action


def build(
    actions: list[Action],
    needs: list[set[int]],
    users: list[set[int]],
    workers: int,
    slow: Callable[[Action], bool],
    one: Callable[[Action], None],
) -> None:
    """Call ``one`` for every action, a unit's in their order and after all of what it stands on.

    Units with a slow action run in up to ``workers`` threads, all others in this one. The first exception of ``one``
    (a defect, a kill) is raised once the threads have ended; nothing more is started.
    """
    work: dict[int, list[Action]] = {}
    for action in actions:
        work.setdefault(action.unit, []).append(action)
    missing = [len(mine) for mine in needs]
    waiting: deque[int] = deque()
    flying: dict[Future[None], int] = {}

    def unit(mine: list[Action]) -> None:
        for action in mine:
            one(action)

    with ThreadPoolExecutor(workers) as pool:

        def start(index: int) -> None:
            mine = work.get(index, [])
            if any(slow(action) for action in mine):
                flying[pool.submit(unit, mine)] = index
            else:
                waiting.append(index)

        for index, count in enumerate(missing):
            if not count:
                start(index)
        while waiting or flying:
            ended = []
            if waiting:  # a thread starts as soon as it may, not when all others here are done
                ended.append(waiting.popleft())
                unit(work.get(ended[0], []))
            for future in wait(flying, 0 if ended else None, FIRST_COMPLETED).done:
                ended.append(flying.pop(future))
                future.result()
            for index in ended:
                for user in sorted(users[index]):
                    missing[user] -= 1
                    if not missing[user]:
                        start(user)
