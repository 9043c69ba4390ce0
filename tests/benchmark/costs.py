# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a child process cost: CPU and wall of it and all its children, and the peak memory of the largest of them.

Two things spoil such figures and are avoided here. With ``PYTHONUNBUFFERED`` in its environment Python reads a
program from a pipe one byte at a time, which a module sent by pipelining pays for: no variable of Python's or Ansible's
gets through. And a child is charged the memory of the process that it was forked from: a small one starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Callable, Mapping, Sequence

_STARTER = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], 0, 0)])
status, used = os.wait4(pid, 0)[1:]
wall = time.perf_counter() - start
os.write(2, b'{"status": %d, "cpu": %f, "wall": %f, "rss": %f}'
         % (status, used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024))
"""


class Failed(Exception):
    """Something that is measured went wrong; the text is what it printed."""


def clean(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables without any that change how Python or Ansible run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV", "MITOGEN_"))}
    return {**kept, "LC_ALL": "C.UTF-8", **extra}


def child(argv: Sequence[str], env: Mapping[str, str], stdin: str = os.devnull) -> tuple[dict[str, float], bytes]:
    """Run a program to its end: (its cost, what it printed); Failed unless it exits with 0."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        starter = [sys.executable, "-I", "-S", "-c", _STARTER, stdin, "/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *argv]
        subprocess.run(starter, env=env, stdout=out, stderr=told, check=True)
        out.seek(0)
        told.seek(0)
        text, cost = out.read(), json.loads(told.read())
    if cost.pop("status"):
        raise Failed("%s failed\n%s" % (" ".join(argv[:8]), text[-4000:].decode("utf-8", "replace")))
    return cost, text


def rounds(count: int, things: Mapping[str, Callable[[], dict[str, float]]]) -> list[dict[str, dict[str, float]]]:
    """All things in turn, ``count`` times, after a round that does not count (it fills caches)."""
    found = [{name: run() for name, run in things.items()} for _round in range(count + 1)]
    return found[1:]
