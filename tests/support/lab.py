# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of the lab for tests: the fixture ``guest`` is alpha, clean, with this tree in it.

A guest that was up before the tests stays up after them; others are taken down.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Sequence

import environments
import pytest
import trees
from ansible import release

LAB = str(trees.ROOT / "tests" / "lab")
TOP = "/opt/bulkhead"  # in the guest
PLACE = TOP + "/" + str(trees.PLACE)
PUSHED = ("plugins/", "tests/", "tools/", "meta/", "pytest.ini", "galaxy.yml")
_guests: dict[str, Guest] = {}
_mine = contextlib.ExitStack()


def lab(*arguments: str, timeout: float = 1800.0, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    """The lab's program. What it has to complain is what the test shows."""
    argv = [sys.executable, LAB, *arguments]
    done = subprocess.run(argv, stdin=-3, stdout=-1, stderr=-2, encoding="utf-8", timeout=timeout, check=False, **more)
    if check and done.returncode:
        raise RuntimeError("tests/lab %s: %s" % (" ".join(arguments), done.stdout))
    return done


def ansible(folder: Path, argv: Sequence[str], **more: str) -> tuple[int, str]:
    """A program of Ansible, from a folder of its own, for guests that are up: its status and what it said."""
    lab("inventory")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON"))}
    env.update(ANSIBLE_COLLECTIONS_PATH=str(trees.linked()), ANSIBLE_PIPELINING="1", HOME=str(folder))
    env.update(ANSIBLE_INVENTORY=str(trees.CACHE / "lab" / "inventory.json"))
    env.update(more)
    argv = [os.path.join(os.path.dirname(sys.executable), argv[0]), *argv[1:]]
    done = subprocess.run(
        argv, env=env, cwd=folder, stdin=-3, stdout=-1, stderr=-2, encoding="utf-8", check=False, timeout=900
    )
    return done.returncode, done.stdout


class Guest:
    """A guest that runs, and has our tree at PLACE."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = any(line.split()[:2] == [name, "up"] for line in lab("status").stdout.splitlines())
        self.reset()

    def run(
        self, argv: Sequence[str], check: bool = True, input: str | None = None, timeout: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the guest; no shell sees its arguments. Seconds include the way there: 0.2 without load."""
        return self._ssh(shlex.join(argv), check, None if input is None else input.encode(), timeout)

    def python(self, code: str, *arguments: str, check: bool = True, timeout: float = 300.0) -> str:
        """What a piece of Python prints in the guest; this collection is importable."""
        argv = ["env", "PYTHONPATH=" + TOP, "python3", "-", *arguments]
        return self.run(argv, check=check, input=code, timeout=timeout).stdout

    def reset(self) -> None:
        """Clean root, blank disks, our tree: in seconds."""
        lab("reset", self.name)
        self.push()

    def reboot(self) -> None:
        """The guest's own reboot, disks as they are: half a minute."""
        lab("reboot", self.name)

    def push(self) -> None:
        """Our tree, as it is now."""
        packed = io.BytesIO()
        core = Path(release.__file__).parent
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in trees.files():
                if name.startswith(PUSHED):
                    archive.add(trees.ROOT / name, trees.PLACE / name)
            # what modules import of Ansible, in the version that the tests have here
            for path in sorted([*core.glob("*.py"), *core.glob("_vendor/*.py"), *core.glob("module_utils/**/*.py")]):
                archive.add(path, Path("ansible", path.relative_to(core)))
        command = "rm -rf %s && mkdir -p %s && tar -xf - --no-same-owner -C %s" % (TOP, TOP, TOP)
        self._ssh(command, True, packed.getvalue(), 300.0)

    def _ssh(self, command: str, check: bool, fed: bytes | None, timeout: float) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, LAB, "ssh", self.name, command]
        stdin = {"stdin": subprocess.DEVNULL} if fed is None else {"input": fed}
        done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False, **stdin)  # type: ignore[call-overload]
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise RuntimeError("%s: %s ended with %d\n%s%s" % (self.name, command, done.returncode, out, err))
        return subprocess.CompletedProcess(command, done.returncode, out, err)


def brought_up(name: str) -> Guest:
    """A guest by name, once per test run. Another run that wants it waits until this one ends."""
    if name not in _guests:
        _mine.enter_context(environments.locked("lab/tests-of-" + name))
        _guests[name] = Guest(name)
    return _guests[name]


@pytest.fixture(scope="session")
def guest() -> Guest:
    return brought_up("alpha")


def pytest_unconfigure() -> None:
    names = [name for name, known in _guests.items() if not known.found]
    _guests.clear()
    if names and "BULKHEAD_LAB_GUEST" not in os.environ:
        lab("down", *names)
    _mine.close()
