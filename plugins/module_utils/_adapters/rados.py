# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ceph clusters, asked through librados: one connection for all that a run has to say to a cluster.

It is held by a process of its own, see ``rados_child``, so that no call outlives its deadline and any Python will do.
Where none has the bindings the ``ceph`` program is asked instead (``ceph_cli``), with the same answers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import queue
import stat
import subprocess
import sys
import threading
import time
import weakref
from typing import Any, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

Access = Mapping[str, Any]
Command = Mapping[str, Any]
Said = Tuple[int, str, str]  # the number of an error or 0, what was asked for, what is said about it
# That of the module, the system's, and that of RHEL's own tools.
PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/libexec/platform-python")
_START = "import sys; exec(compile(sys.stdin.read(int(sys.argv[1])), 'rados_child', 'exec'))"
_ENDED = {"errno": errno.ECONNRESET, "out": "", "text": "the process that asks it has ended"}
_CODES = {errno.EINVAL: "invalid", errno.ERANGE: "limit_exceeded", errno.ETIMEDOUT: "timeout"}


class Answer(NamedTuple):
    value: Any
    text: str


class Clusters:
    """The connections of a run, by what says how to get there (``ceph_access``). Threads may share them."""

    def __init__(self, pythons: Sequence[str] = PYTHONS) -> None:
        self.pythons = pythons
        self.turn = threading.Lock()
        self.known: dict[Any, Any] = {}
        self.gone: dict[Any, StorageError] = {}

    def session(self, access: Access) -> Session:
        """For one look or one change, whose time begins now."""
        return Session(self, access, time.monotonic() + access["timeout"])

    def connection(self, access: Access, until: float) -> Any:
        key = _key(access)
        with self.turn:
            gone = self.gone.get(key)
            if gone is None and key not in self.known:
                try:
                    self.known[key] = self._connect(access, until)
                except StorageError as error:
                    gone = self.gone[key] = error
            if gone is not None:  # nobody waits a second time for who did not answer
                raise StorageError(gone.code, gone.message, gone.hint, **gone.details)
            return self.known[key]

    def lost(self, access: Access, error: StorageError) -> None:
        key = _key(access)
        with self.turn:
            self.gone[key] = error
            if key in self.known:
                self.known.pop(key).close()

    def _connect(self, access: Access, until: float) -> Any:
        for option in ("conf", "keyring"):
            if option in access:
                trusted(access[option], option)
        for python in dict.fromkeys(self.pythons):
            if os.access(python, os.X_OK):
                made = Connection(python, access)
                if made.begun(until):
                    return made
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_cli

        return ceph_cli.Program(access)


class Session:
    """Asks a cluster until its time is over."""

    def __init__(self, clusters: Clusters, access: Access, until: float) -> None:
        self.clusters, self.access, self.until = clusters, access, until

    def ask(self, *commands: Command, to: str = "mon") -> list[Answer]:
        """Answers of the monitors, the manager (``mgr``), or RBD. Asked side by side; the first error is raised."""
        answers = self.each(commands, to)
        for answer in answers:
            if isinstance(answer, StorageError):
                raise answer
        return [answer for answer in answers if isinstance(answer, Answer)]

    def each(self, commands: Sequence[Command], to: str = "mon") -> list[Answer | StorageError]:
        """Likewise, each with its own error. Monitors that do not answer at all are asked no more in this run."""
        connection = self.clusters.connection(self.access, self.until)
        try:
            said: list[Said] = connection.ask(to, commands, self.until)
        except StorageError as error:  # it was not even reached
            self.clusters.lost(self.access, error)
            raise
        if any(number == errno.ETIMEDOUT for number, _out, _text in said):
            who = {"mon": "its monitors", "mgr": "its manager"}.get(to, "its OSDs")
            text = "the cluster %s did not answer within %d s" % (self.access["cluster"], self.access["timeout"])
            late = StorageError("timeout", text, "see to %s and the network" % who)
            if to == "mon":
                self.clusters.lost(self.access, late)
            raise late
        return [
            self._refused(command, number, text) if number else Answer(json.loads(out) if out.strip() else None, text)
            for command, (number, out, text) in zip(commands, said)
        ]

    def _refused(self, command: Command, number: int, text: str) -> StorageError:
        what = command.get("prefix") or "rbd namespace %s" % command["verb"]
        doing = "the cluster %s answers to %s" % (self.access["cluster"], what)
        said = text.strip() or os.strerror(number)
        if number in _CODES:
            return StorageError(_CODES[number], "%s: %s" % (doing, said), errno=number)
        hint = "see the capabilities of %s" % self.access["user"] if number in (errno.EACCES, errno.EPERM) else ""
        return failure(OSError(number, said), doing, hint)

    def more(self, seconds: float) -> Session:
        return Session(self.clusters, self.access, time.monotonic() + seconds)

    def left(self) -> float:
        return self.until - time.monotonic()


class Connection:
    """To a process of ``rados_child`` under a Python."""

    def __init__(self, python: str, access: Access) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import rados_child

        source = rados_child.__loader__.get_source(rados_child.__name__)  # type: ignore[union-attr]  # of a zip too
        self.access = access
        self.child = subprocess.Popen(  # pylint: disable=ansible-bad-function  # it is talked to while it runs
            [python, "-I", "-c", _START, str(len(source))],
            bufsize=0,  # nothing that a thread could hold when this process ends
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"},
            start_new_session=True,
        )
        self.heard = _Heard()
        self._write(source.encode())
        # When nobody knows us any more its input ends, and so does it; thus the thread knows nothing of us.
        weakref.finalize(self, self.child.stdin.close)  # type: ignore[union-attr]
        out = os.dup(self.child.stdout.fileno())  # type: ignore[union-attr]
        threading.Thread(target=self.heard.listen, args=(out,), daemon=True).start()

    def begun(self, until: float) -> bool:
        """Connected. False: that Python lacks the bindings."""
        seconds = str(self.access["timeout"])
        options = dict.fromkeys(("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"), seconds)
        options.update({"log_file": "", "admin_socket": "", "log_to_stderr": "false"})
        if "keyring" in self.access:
            options["keyring"] = self.access["keyring"]
        said = {name: self.access[name] for name in ("cluster", "conf", "user")}
        answer = self._answer(self._tell({**said, "options": options}), until)
        if answer["errno"] == 0:
            return True
        self.close()
        if "missing" in answer:
            return False
        raise unreached(self.access, answer["errno"], answer["text"])

    def ask(self, to: str, commands: Sequence[Command], until: float) -> list[Said]:
        numbers = [self._tell({"to": to, "command": {**command, "format": "json"}}) for command in commands]
        answers = [self._answer(number, until) for number in numbers]
        if any("missing" in answer for answer in answers):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_cli

            return ceph_cli.Program(self.access).ask(to, commands, until)
        return [(answer["errno"], answer["out"], answer["text"]) for answer in answers]

    def close(self) -> None:
        """Nobody waits for a process that is stuck in the kernel."""
        self.child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(2)

    def _tell(self, said: dict[str, Any]) -> int:
        """The number under which it is answered."""
        with self.heard.turn:
            number = self.heard.expect()
            self._write(json.dumps({**said, "id": number}).encode() + b"\n")
        return number

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # its end is heard
            while rest:
                rest = rest[os.write(self.child.stdin.fileno(), rest) :]  # type: ignore[union-attr]

    def _answer(self, number: int, until: float) -> dict[str, Any]:
        try:
            return self.heard.answers[number].get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return {"errno": errno.ETIMEDOUT, "out": "", "text": ""}


class _Heard:
    """Answers by their numbers. Who begins to wait when the process has ended already is told so too."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.answers: list[queue.SimpleQueue[dict[str, Any]]] = []
        self.ended = False

    def expect(self) -> int:
        """To be called in turn."""
        self.answers.append(queue.SimpleQueue())
        if self.ended:
            self.answers[-1].put(_ENDED)
        return len(self.answers) - 1

    def listen(self, out: int) -> None:
        rest, data = b"", os.read(out, 1 << 16)
        while data:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self.answers[answer["id"]].put(answer)
            data = os.read(out, 1 << 16)
        os.close(out)
        with self.turn:
            self.ended = True
            for waiting in self.answers:
                waiting.put(_ENDED)


def unreached(access: Access, number: int, text: str) -> StorageError:
    where, who = "the cluster " + access["cluster"], access["user"]
    if number == errno.ETIMEDOUT:
        hint = "see to its monitors, mon_host in %s and the network" % access["conf"]
        return StorageError("unreachable", "%s did not answer within %d s" % (where, access["timeout"]), hint)
    if number in (errno.EACCES, errno.EPERM, errno.ENOENT):
        hint = "is the key of %s in %s?" % (who, access.get("keyring", "the keyring that %s names" % access["conf"]))
        return StorageError("denied", "%s does not let %s in" % (where, who), hint, errno=number)
    return failure(OSError(number, text or os.strerror(number)), "cannot connect to %s as %s" % (where, who))


def trusted(path: str, option: str) -> None:
    """A file of ours or of Ceph's that nobody else can write; else an error, before anybody is asked anything."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise failure(error, "cannot read %s" % path, "name it with %s" % option, option=option) from error
    about = os.fstat(fd)
    os.close(fd)
    owners = [0, os.geteuid()]
    with contextlib.suppress(KeyError):
        owners.append(pwd.getpwnam("ceph").pw_uid)
    if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o022 or about.st_uid not in owners:
        text = "%s is no plain file that only root, ceph or who runs this can write" % path
        raise StorageError("unsafe_path", text, "see to its owner and mode", option=option)


def _key(access: Access) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(access.items()))
