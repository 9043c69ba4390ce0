# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real image file for the port contract suite."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import Any, Iterable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock
from ansible_collections.bulkhead.storage.tests.support import namespace


class Begun(set):  # type: ignore[type-arg]
    """Intents in memory: the suite kills nothing."""

    def begin(self, what: str, **details: Any) -> None:
        self.add(what)

    def begun(self, whats: Iterable[str]) -> set[str]:
        return self.intersection(whats)

    def is_ours(self, what: str, **details: Any) -> bool:
        return what in self

    def end(self, what: str) -> None:
        self.discard(what)


def run(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
    done = subprocess.run(argv, input=stdin, timeout=timeout, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def case_superblock() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path:
        image = namespace.image(path + "/image", 64 << 20)
        yield Superblock(run, Begun()), image, {"fstype": "ext4", "label": "one"}, {"fstype": "ext4", "label": "two"}
