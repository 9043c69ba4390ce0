# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module the way Ansible does: a process of its own, options in as JSON, one JSON document out.

done = run("tmpfs", {"path": "/srv/scratch", "size": "64MiB"}, check=True)
assert done.rc == 0 and done.result["changed"]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

# What a module finds on its standard input is its own; the options come through the variable that ansible-core itself
# fills. From ansible-core 2.19 on it also wants to know how they are encoded.
_MAIN = """
import importlib, os, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = os.fdopen(int(sys.argv[2]), "rb").read()
basic._ANSIBLE_PROFILE = "legacy"
importlib.import_module(sys.argv[1]).main()
"""
_MODULES = "ansible_collections.bulkhead.storage.plugins.modules."


class Done(NamedTuple):
    """``result`` is what the module printed, ``stderr`` what it should not have."""

    rc: int
    result: dict[str, Any]
    stderr: str


def run(
    name: str,
    options: dict[str, Any],
    check: bool = False,
    diff: bool = False,
    python: str = sys.executable,
    environment: dict[str, str] | None = None,
    timeout: float = 120.0,
) -> Done:
    """Raises ValueError when the module printed anything but its result. A name with dots is that of another file."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": "/tmp"}
    reading, writing = os.pipe()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [python, "-c", _MAIN, name if "." in name else _MODULES + name, str(reading)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "LC_ALL": "C.UTF-8", **(environment or {})},
        pass_fds=[reading],
    ) as child:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
    try:
        result = json.loads(out)
    except ValueError as error:
        raise ValueError("%s printed %r and %s" % (name, out[:2000], err.decode("utf-8", "replace"))) from error
    return Done(child.returncode, result, err.decode("utf-8", "replace"))
