# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays run by ansible-playbook against this host, as a user runs them, in the mount namespace of the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple


class Played(NamedTuple):
    code: int
    output: str
    results: list[Any]  # of the tasks, in order


def play(tasks: list[dict[str, Any]], *arguments: str, program: str = "", **more: Any) -> Played:
    """Run tasks in one play. The result of each is kept, also of one that fails (the play goes on)."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-play-") as folder:
        listed: list[dict[str, Any]] = []
        for index, task in enumerate(tasks):
            kept = "%s/result-%d" % (folder, index)
            name = "result_%d" % index
            copy = {"content": "{{ %s | to_json }}" % name, "dest": kept, "mode": "0600"}
            listed.append({"register": name, "ignore_errors": True, **task})
            listed.append({"ansible.builtin.copy": copy, "check_mode": False, "no_log": True, "diff": False})
        text = [{"hosts": "localhost", "gather_facts": False, "tasks": listed, **more}]
        with open(folder + "/play.json", "w", encoding="utf-8") as stream:
            json.dump(text, stream)
        done = run(folder + "/play.json", *arguments, program=program, cwd=folder)
        results = []
        for index in range(len(tasks)):
            with open("%s/result-%d" % (folder, index), encoding="utf-8") as stream:
                results.append(json.load(stream))
        return Played(done.returncode, done.stdout.decode(), results)


def run(playbook: str, *arguments: str, program: str = "", cwd: str = "/") -> subprocess.CompletedProcess[bytes]:
    """ansible-playbook with an explicit interpreter and this collection on its path."""
    program = program or os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    roots = [path for path in sys.path if os.path.isdir(path + "/ansible_collections/bulkhead/storage")]
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON"))},
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(roots),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCAL_TEMP": cwd + "/.ansible" if cwd != "/" else "/tmp/.ansible",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        [program, "-i", "localhost,", "-c", "local", playbook, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        check=False,
        timeout=300,
    )
