# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity, on the oldest and the newest ansible-core that this machine's Pythons carry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import environments
import interpreters


class Core(NamedTuple):
    """A release of ansible-core and the Pythons its controller runs on."""

    release: str
    lowest: interpreters.Version
    highest: interpreters.Version


CORES = (
    Core("2.17.14", (3, 10), (3, 12)),
    Core("2.18.19", (3, 11), (3, 13)),
    Core("2.19.14", (3, 11), (3, 13)),
    Core("2.20.10", (3, 12), (3, 14)),
    Core("2.21.5", (3, 12), (3, 14)),
)

# ansible-test looks here before it downloads a script that installs pip, from a host that is not a package
# registry. The packages to install are this script's arguments; ensurepip runs on its own because in-process
# it would switch off pip's configuration for what follows.
_GET_PIP = """\
import subprocess, sys
packages = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *packages])
"""

_PIP_VERSIONS = """
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
from ansible_test._internal.constants import SUPPORTED_PYTHON_VERSIONS
print(*{get_venv_packages(SimpleNamespace(version=version))["pip"] for version in SUPPORTED_PYTHON_VERSIONS})
"""


def chosen(pythons: dict[interpreters.Version, interpreters.Interpreter]) -> list[Core]:
    """The oldest and the newest core that run here, or the one that does."""
    fitting = [core for core in CORES if interpreters.newest(pythons, core.lowest, core.highest)]
    if not fitting:
        raise LookupError("no Python here runs a supported ansible-core; found: %s" % sorted(pythons))
    return [fitting[0], fitting[-1]] if len(fitting) > 1 else fitting


def environment(core: Core, pythons: dict[interpreters.Version, interpreters.Interpreter]) -> Path:
    """A virtual environment that holds this core, on the newest Python here that runs it."""
    python = interpreters.newest(pythons, core.lowest, core.highest)
    if python is None:
        raise LookupError("no Python here runs ansible-core " + core.release)
    return environments.made("core-" + core.release, python, ["ansible-core==" + core.release])


def run(core: Core, pythons: dict[interpreters.Version, interpreters.Interpreter], collection: Path) -> None:
    """All sanity tests of this core over a copied tree, for every supported target Python found here."""
    venv = environment(core, pythons)
    env = environments.variables(venv, collection.parents[2])
    _provide_pip(venv, env)
    beside = [str(Path(other.path).parent) for other in pythons.values()]
    env["PATH"] = os.pathsep.join([str(venv / "bin"), *beside, env["PATH"]])
    print("ansible-core %s" % core.release, flush=True)
    environments.call([str(venv / "bin" / "ansible-test"), "sanity", "--color", "no"], collection, env)


def _provide_pip(venv: Path, env: dict[str, str]) -> None:
    argv = [str(venv / "bin" / "python"), "-c", _PIP_VERSIONS]
    versions = subprocess.run(argv, env=env, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout.split()
    cache = Path(env["HOME"], ".ansible", "test", "cache")
    cache.mkdir(parents=True, exist_ok=True)
    for version in versions:
        (cache / ("get_pip_%s.py" % version.replace(".", "_"))).write_text(_GET_PIP, encoding="utf-8")
