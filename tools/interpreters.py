# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Pythons this machine has: on PATH, under pyenv, and where distributions put them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

Version = Tuple[int, int]

_NAME = re.compile(r"python3(\.\d+)?")
_PROBE = """
import importlib.util, json, sys
able = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
path = getattr(sys, "_base_executable", sys.executable)  # not that of an active environment
print(json.dumps([sys.version_info[0], sys.version_info[1], path, bool(able)]))
"""


class Interpreter(NamedTuple):
    version: Version
    path: str

    def __str__(self) -> str:
        return "Python %d.%d (%s)" % (*self.version, self.path)


def folders() -> Iterator[Path]:
    """Folders that may hold interpreters. pyenv's shims are left out: they answer for one version only."""
    for name in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if name and Path(name).name != "shims":
            yield Path(name)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    if pyenv.is_dir():
        yield from (version / "bin" for version in sorted(pyenv.iterdir()))
    yield from (Path("/usr/local/bin"), Path("/usr/bin"))


def probe(path: Path) -> Interpreter | None:
    """The interpreter at this path; None where it does not start or cannot make an environment with pip."""
    try:
        argv = [str(path), "-c", _PROBE]
        answer = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor, real, able = json.loads(answer.stdout)
    return Interpreter((major, minor), real) if able else None


def found() -> dict[Version, Interpreter]:
    """The first usable interpreter of each version."""
    pythons: dict[Version, Interpreter] = {}
    seen = set()
    for folder in folders():
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            real = path.resolve()
            if not _NAME.fullmatch(path.name) or real in seen:
                continue
            seen.add(real)
            python = probe(path)
            if python:
                pythons.setdefault(python.version, python)
    return pythons


def newest(pythons: dict[Version, Interpreter], lowest: Version, highest: Version) -> Interpreter | None:
    """The newest of these Pythons within a range, both ends included."""
    fitting = [version for version in pythons if lowest <= version <= highest]
    return pythons[max(fitting)] if fitting else None
