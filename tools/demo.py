# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a small environment with ansible-core, and the playbook bulkhead.storage.demo on this very host.

The playbook runs in a mount namespace of its own, so what it mounts is not seen outside and goes with it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import environments
import interpreters
import packages
import trees

CORE = "ansible-core==2.19.14"


def main(arguments: list[str]) -> int:
    if os.geteuid() != 0:
        print("make demo mounts filesystems and sets quotas here, so it needs root: sudo make demo", file=sys.stderr)
        return 1
    packages.install()
    pythons = interpreters.found()
    python = interpreters.newest(pythons, (3, 11), (3, 13))
    if python is None:
        print("make demo needs Python 3.11, 3.12 or 3.13 with venv; found: %s" % sorted(pythons), file=sys.stderr)
        return 1
    venv = environments.made("demo", python, [CORE, "-r", "requirements.txt"])
    env = environments.variables(venv, trees.linked())
    env["ANSIBLE_PYTHON_INTERPRETER"] = str(venv / "bin" / "python")
    env["ANSIBLE_REMOTE_TEMP"] = str(trees.CACHE / "home" / ".ansible" / "tmp")
    apart = ["unshare", "--mount", "--propagation", "private", "--"]
    playbook = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", "bulkhead.storage.demo"]
    return subprocess.run([*apart, *playbook, *arguments], cwd=trees.ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
