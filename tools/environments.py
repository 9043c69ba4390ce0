# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments in the cache, and the environment variables of what runs in them."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Sequence

import interpreters
import trees

# Longer than any program takes; one that hangs fails instead of holding CI.
DEADLINE = 75 * 60


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time per name and cache."""
    trees.CACHE.mkdir(parents=True, exist_ok=True)
    with open(trees.CACHE / (name + ".lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run that holds %s" % lock.name, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made(name: str, python: interpreters.Interpreter, requirements: Sequence[str]) -> Path:
    """The environment `venv-<name>` with these arguments to pip; made anew when they or the Python changed."""
    place = trees.CACHE / ("venv-" + name)
    wanted = _fingerprint(python, requirements)
    stamp = place / "made-from"
    with locked("venv-" + name):
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            print("%s is up to date" % place.name)
            return place
        print("making %s with %s" % (place.name, python), flush=True)
        if place.exists():
            shutil.rmtree(place)
        subprocess.run([python.path, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *requirements], cwd=trees.ROOT, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return place


def _fingerprint(python: interpreters.Interpreter, requirements: Sequence[str]) -> str:
    """Changes with the interpreter, the arguments, and the text of any requirements file of the project."""
    digest = hashlib.sha256(repr((tuple(python), tuple(requirements))).encode())
    if any(argument.startswith("-r") for argument in requirements):
        for path in (trees.ROOT / "requirements.txt", trees.ROOT / "tests" / "requirements.txt"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def variables(venv: Path, collections: Path) -> dict[str, str]:
    """The caller's variables with this environment first on PATH and a home of its own.

    The home of whoever runs the checks stays as it is; pip's settings are taken along, since some programs
    (ansible-test) drop the variables that pip reads.
    """
    home = trees.CACHE / "home"
    carry_pip_settings(home, venv)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    env.update(
        HOME=str(home),
        PATH=os.pathsep.join([str(venv / "bin"), env.get("PATH", os.defpath)]),
        VIRTUAL_ENV=str(venv),
        PYTHONUNBUFFERED="1",
        ANSIBLE_COLLECTIONS_PATH=str(collections),
        ANSIBLE_LOCALHOST_WARNING="False",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="False",
    )
    if not sys.stdout.isatty():
        env["NO_COLOR"] = "1"
    return env


def call(argv: Sequence[str], cwd: Path, env: dict[str, str], deadline: float = DEADLINE) -> None:
    """Run a program; a deadline or an interrupt ends its whole family, with time to clean up."""
    with subprocess.Popen(argv, cwd=cwd, env=env, start_new_session=True) as process:
        try:
            status = process.wait(deadline)
        except BaseException:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if status:
        raise subprocess.CalledProcessError(status, list(argv))


def carry_pip_settings(home: Path, venv: Path) -> None:
    """Write what pip goes by here, from its files and variables, as the private home's pip.conf."""
    argv = [str(venv / "bin" / "python"), "-m", "pip", "config", "list"]
    spoken = dict(os.environ, PIP_QUIET="0", PIP_VERBOSE="0")
    listed = subprocess.run(argv, env=spoken, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    settings: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():  # section.key='value', or :env:.key='value', which outranks a file
        name, _equals, value = line.partition("=")
        section, _dot, key = name.rpartition(".")
        section = "global" if section == ":env:" else section
        if section and key and not (key in settings.get(section, {}) and not name.startswith(":env:")):
            settings.setdefault(section, {})[key] = ast.literal_eval(value).replace("\n", "\n    ")
    settings["global"].update(quiet="1", verbose="0")
    text = "".join(
        "[%s]\n%s\n" % (section, "".join("%s = %s\n" % pair for pair in sorted(pairs.items())))
        for section, pairs in sorted(settings.items())
    )
    target = home / ".config" / "pip" / "pip.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as conf:
        conf.write(text)
