# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays and modules as users run them: files for ansible-playbook, and the module process on its own.

What Ansible sends to the target is kept by an interpreter that stores its input; replaying that input is the module
process, without the controller around it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from ansible_collections.bulkhead.storage.tests.benchmark import costs, declarations

TARGET = "/usr/bin/python3"
_KEEPER = '#!/bin/sh\ncat > "$BENCHMARK_KEPT"\nexec %s < "$BENCHMARK_KEPT"\n' % TARGET
_CONFIG = """[defaults]
interpreter_python = %(python)s
collections_path = %(collections)s
localhost_warning = False
gathering = explicit
home = %(work)s/home
remote_tmp = %(work)s/remote
%(more)s
[inventory]
inventory_unparsed_warning = False
[connection]
pipelining = True
"""
# strace(1): what leaves a trace on a host; opening to write is told by its flags
_MUTATES = re.compile(
    r"(mk(dir|nod)(at)?|rmdir|unlink(at)?|rename(at2?)?|(sym)?link(at)?|f?l?ch(mod|own)(at2?)?|fch(mod|own)at2?"
    r"|[lf]?(set|remove)xattr|f?truncate|fallocate|u?mount2?|move_mount|fs(open|mount|config)|mount_setattr"
    r"|open_tree|utimensat|quotactl(_fd)?|write|pwrite64|pwritev2?|writev|copy_file_range|sendfile|ioctl)\("
)
_OPENS = re.compile(r"(open|openat|openat2|creat)\(.*(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC)")
_HARMLESS = re.compile(r"ioctl\(.*, (TCGETS|FIONREAD|BTRFS_IOC_(TREE_SEARCH|INO_LOOKUP|FS_INFO))|/dev/null")


class Plays:
    """Everything that is run lies in one folder; a configuration for each way to run it."""

    def __init__(self, work: str, collections: str) -> None:
        self.work, self.collections = work, collections
        self.playbook = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
        self._write("keeper", _KEEPER)
        os.chmod(work + "/keeper", 0o755)
        self.hosts("bare")
        self.hosts("vars")
        self.configure("plain", TARGET)
        self.configure("keeping", work + "/keeper")
        os.makedirs(work + "/tmp", exist_ok=True)
        self.env = costs.clean({"TMPDIR": work + "/tmp", "HOME": work, "BENCHMARK_KEPT": work + "/kept"})

    def configure(self, name: str, python: str, more: str = "") -> None:
        words = {"python": python, "collections": self.collections, "work": self.work, "more": more}
        self._write(name + ".cfg", _CONFIG % words)

    def hosts(self, inventory: str, count: int = 1) -> None:
        names = ["localhost"] if count == 1 else ["host-%d" % i for i in range(count)]
        self._write(inventory + "/hosts", "\n".join(names) + "\n")

    def play(self, name: str, tasks: declarations.Tasks, **more: Any) -> str:
        return self._write(name + ".json", json.dumps(declarations.play(tasks, **more)))

    def document(self, name: str, document: Any, as_yaml: bool = False) -> str:
        return self._write(name + (".yml" if as_yaml else ".json"), yaml(document) if as_yaml else json.dumps(document))

    def run(self, path: str, config: str = "plain", inventory: str = "bare") -> tuple[dict[str, float], int]:
        """(the cost, how many tasks changed something); Failed unless every task went well."""
        env = {**self.env, "ANSIBLE_CONFIG": "%s/%s.cfg" % (self.work, config)}
        argv = [self.playbook, "--inventory", self.work + "/%s/hosts" % inventory, "--connection", "local", path]
        cost, text = costs.child(argv, env)
        recap = re.search(rb"changed=(\d+)", text)
        return cost, int(recap.group(1)) if recap else 0  # a play without tasks has no recap

    def sent(self, name: str, play: str) -> str:
        """Run a play of one task and keep what its module was sent."""
        self.run(play, "keeping")
        kept = "%s/%s.sent" % (self.work, name)
        os.rename(self.work + "/kept", kept)
        return kept

    def module(self, sent: str) -> tuple[dict[str, float], dict[str, Any]]:
        """The module process alone: (its cost, its result)."""
        cost, text = costs.child([TARGET], self.env, stdin=sent)
        result: dict[str, Any] = json.loads(text)
        return cost, result

    def calls(self, sent: str) -> dict[str, Any]:
        """Programs started, and system calls that change something outside Ansible's own temporary folder."""
        log = self.work + "/strace"
        costs.child(["strace", "-f", "-y", "-qq", "-o", log, TARGET], self.env, stdin=sent)
        with open(log, encoding="utf-8", errors="replace") as stream:
            lines = [line.split(None, 1)[1].rstrip() for line in stream]
        programs = [line for line in lines if line.startswith(("execve(", "execveat("))][1:]
        return {"programs": programs, "changes": [line for line in lines if self._changes(line)]}

    def _changes(self, line: str) -> bool:
        if self.work + "/tmp/" in line or re.match(r"(p?write(64|v)?)\([12]<", line) or _HARMLESS.search(line):
            return False
        return bool(_MUTATES.match(line) or _OPENS.match(line))

    def _write(self, name: str, text: str) -> str:
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path


def yaml(value: Any, indent: str = "") -> str:
    """Block style, as people write it; scalars as in JSON."""
    if isinstance(value, dict) and value:
        items = ["%s%s:%s" % (indent, k, _below(v, indent + "  ")) for k, v in value.items()]
    elif isinstance(value, list) and value:
        items = [indent + "- " + yaml(v, indent + "  ").lstrip() for v in value]
    else:
        return indent + json.dumps(value) + "\n"
    return "".join(items)


def _below(value: Any, indent: str) -> str:
    return "\n" + yaml(value, indent) if isinstance(value, (dict, list)) and value else " %s\n" % json.dumps(value)
