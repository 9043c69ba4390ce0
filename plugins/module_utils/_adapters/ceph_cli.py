# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same questions as to librados, by the ``ceph`` and ``rbd`` programs. Loaded only where no Python has bindings."""

from __future__ import annotations

import errno
import json
import re
import time
from typing import Any, Callable, List, Mapping, Sequence, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Access, Said, unreached
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_CONNECTING = re.compile(r"\[errno (\d+)\] ([^\n]*)")
_ERROR = re.compile(r"^Error (E[A-Z0-9]+): (.*)", re.MULTILINE | re.DOTALL)
_ABREAST = 4
Run = Callable[[List[str], bytes, float], Tuple[int, bytes, bytes]]


class Program:
    """Instead of a connection."""

    def __init__(self, access: Access, run: Run = program.execute) -> None:
        self.access, self.run, self.reached = access, run, False
        self.options = ["--cluster", access["cluster"], "--conf", access["conf"], "--name", access["user"]]
        if "keyring" in access:
            self.options += ["--keyring", access["keyring"]]

    def ask(self, to: str, commands: Sequence[Mapping[str, Any]], until: float) -> list[Said]:
        from concurrent.futures import ThreadPoolExecutor  # each is an interpreter's start, and a second's wait

        with ThreadPoolExecutor(_ABREAST) as pool:
            return list(pool.map(lambda command: self._one(to, command, until), commands))

    def close(self) -> None:
        """There is nothing to close."""

    def _one(self, to: str, command: Mapping[str, Any], until: float) -> Said:
        left = until - time.monotonic()
        if left <= 0:
            return errno.ETIMEDOUT, "", ""
        argv = self._ceph(command, left) if to in ("mon", "mgr") else self._rbd(command)
        try:
            status, out, err = self.run(argv, b"", left)
        except StorageError as error:
            if error.code == "missing_tool":
                hint = "install python3-rados, or what has %s" % argv[0]
                raise StorageError("missing_tool", "%s, nor Python's rados" % error.message, hint) from error
            if error.code != "timeout":
                raise
            return self._late()
        text = err.decode("utf-8", "replace").strip()
        said = _CONNECTING.search(text)
        if status and text == "timed out":
            return self._late()
        if status and said:
            raise unreached(self.access, int(said.group(1)), said.group(2))
        self.reached = True
        if not status and command.get("verb") == "list":
            out = json.dumps([each["name"] for each in json.loads(out)]).encode()
        told = _ERROR.search(text)
        number = abs(status) and (getattr(errno, told.group(1), 0) if told else 0) or abs(status)
        return number, out.decode("utf-8", "surrogateescape"), told.group(2) if told else text

    def _late(self) -> Said:
        if not self.reached:
            raise unreached(self.access, errno.ETIMEDOUT, "")
        return errno.ETIMEDOUT, "", ""

    def _ceph(self, command: Mapping[str, Any], left: float) -> list[str]:
        """A command as the monitors know it: words, ``--name=value`` for what it says, lists without their name."""
        seconds = str(max(1, int(left)))
        argv = ["ceph", *self.options, "--connect-timeout", seconds, "--format", "json", *command["prefix"].split()]
        for name, value in command.items():
            if isinstance(value, list):
                argv += value
            elif value is True:
                argv.append("--" + name.replace("_", "-"))
            elif name != "prefix":
                argv.append("--%s=%s" % (name, value))
        return argv

    def _rbd(self, command: Mapping[str, Any]) -> list[str]:
        argv = ["rbd", *self.options, "namespace", command["verb"], "--pool", command["pool"]]
        return argv + (["--namespace", command["namespace"]] if "namespace" in command else ["--format", "json"])
