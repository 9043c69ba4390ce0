# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks of worlds that are not this host: ``ceph:<cluster>``, ``ec2:<region>/<name>``.

They hold off runs of this user on this host, which need no privileges for them, and nothing is kept when they are
over. Others, elsewhere, are met by looking again at what is changed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Iterable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock

HOST = "host"


class Away:
    """What holds the worlds of some entries; ``here`` when this host is one of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(set(names))  # in one order for everybody: nobody waits in a circle
        self.here = HOST in self.names

    @contextlib.contextmanager
    def __call__(self, timeout: float, shared: bool = False) -> Iterator[Any]:
        with contextlib.ExitStack() as held:
            for name in self.names:
                where: dict[str, Any] = {} if name == HOST else {"base": folder()}
                held.enter_context(Lock(name, timeout=timeout, shared=shared, **where))
            yield


def held(entries: list[Any], options: Any, timeout: float) -> Any:
    """The options of a run over entries whose kinds may say of each which ``world`` it is about.

    What is wholly away from this host leaves nothing on it.
    """
    found = (getattr(entry.resource, "world", None) for entry in entries)
    away = Away(world(entry.params) if world else HOST for world, entry in zip(found, entries))
    options = options._replace(lock=lambda: away(timeout), still=lambda: away(timeout, shared=True))
    return options if away.here else options._replace(journal=None, ready=None)


def folder() -> str:
    """Where only this user can write, until the host goes down."""
    user = os.geteuid()
    if user == 0:
        return "/run/bulkhead"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), "bulkhead-%d" % user)
