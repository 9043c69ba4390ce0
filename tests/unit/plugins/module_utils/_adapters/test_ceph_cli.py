# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ``ceph`` and ``rbd`` programs of Ceph 16.2 answer, byte for byte, and how they are asked."""

from __future__ import annotations

import errno
import json
import time
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ceph_cli import Program
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

ACCESS = {"cluster": "far", "conf": "/etc/ceph/far.conf", "user": "client.a", "timeout": 30}
STALE = b"2026-11-22T15:17:44.560+0000 7fc79559d6c0 -1 auth: unable to find a keyring on /tmp/x: (2) No such file\n\n"
LIST = {"verb": "list", "pool": "a"}


class Programs:
    """Each answers the same, once it is asked."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.answer = status, out, err
        self.asked: list[list[str]] = []

    def __call__(self, argv: list[str], stdin: bytes, timeout: float) -> tuple[int, bytes, bytes]:
        self.asked.append(argv)
        if self.answer[0] == 0 and not 0 < timeout <= 30:
            raise ValueError("no deadline")
        return self.answer


def ask(programs: Any, *commands: Any, to: str = "mon", seconds: float = 30.0) -> Any:
    return Program(ACCESS, programs).ask(to, commands, time.monotonic() + seconds)


@pytest.mark.parametrize(
    ("status", "out", "err", "number", "text"),
    [
        (0, b"\n", b"pool 'n1' created\n", 0, "pool 'n1' created"),
        (0, b'\n[{"entity":"client.n2"}]', b"exported keyring for client.n2\n", 0, "exported keyring for client.n2"),
        (0, b"{}", b"Error EINVAL: of a message that is none\n", 0, "of a message that is none"),
        (2, b"", b"Error ENOENT: unrecognized pool 'nope'\n", errno.ENOENT, "unrecognized pool 'nope'"),
        (34, b"", b"Error ERANGE:  pg_num 4096 size 3 would\n", errno.ERANGE, "pg_num 4096 size 3 would"),
        (13, b"", b"Error EACCES: access denied\n", errno.EACCES, "access denied"),
        (
            22,
            b"",
            b"no valid command found; 10 closest matches:\nosd pool ls\n",
            errno.EINVAL,
            "no valid command found",
        ),
        (-9, b"", b"", 9, ""),
    ],
)
def test_ceph(status: int, out: bytes, err: bytes, number: int, text: str) -> None:
    ((told, said, words),) = ask(Programs(status, out, err), {"prefix": "osd dump"})
    assert (told, said) == (number, out.decode()) and words.strip().startswith(text)


@pytest.mark.parametrize(
    ("status", "err", "code"),
    [
        (13, STALE + b"[errno 13] RADOS permission denied (error connecting to the cluster)\n", "denied"),
        (2, b"[errno 2] RADOS object not found (error connecting to the cluster)\n", "denied"),
        (1, b"[errno 110] RADOS timed out (error connecting to the cluster)\n", "unreachable"),
        (1, b"timed out\n", "unreachable"),
        (22, b"[errno 22] RADOS invalid argument (error calling conf_read_file)\n", "failed"),
    ],
)
def test_a_cluster_that_is_not_reached(status: int, err: bytes, code: str) -> None:
    with pytest.raises(StorageError) as caught:
        ask(Programs(status, b"", err), {"prefix": "osd dump"})
    assert caught.value.code == code and "far" in caught.value.message


def test_a_cluster_that_goes_away() -> None:
    program = Program(ACCESS, Programs(0, b"{}", b""))
    until = time.monotonic() + 30
    assert program.ask("mon", [{"prefix": "status"}], until)[0][0] == 0
    program.run = Programs(1, b"", b"timed out\n")
    assert program.ask("mon", [{"prefix": "status"}], until)[0][0] == errno.ETIMEDOUT
    assert program.ask("mon", [{"prefix": "status"}], time.monotonic() - 1)[0][0] == errno.ETIMEDOUT


@pytest.mark.parametrize(
    ("code", "seen"), [("timeout", "unreachable"), ("missing_tool", "missing_tool"), ("failed", "failed")]
)
def test_a_program_that_does_not_run(code: str, seen: str) -> None:
    def run(argv: list[str], stdin: bytes, timeout: float) -> Any:
        raise StorageError(code, "%s is not what it was" % argv[0])

    with pytest.raises(StorageError) as caught:
        ask(run, {"prefix": "osd dump"})
    assert caught.value.code == seen
    if code == "missing_tool":
        assert "rados" in caught.value.message and "python3-rados" in caught.value.hint


def test_words() -> None:
    """Lists as they are, flags by their name, all else with its name: nothing is taken for an option of ceph."""
    programs = Programs(0, b"", b"")
    ask(programs, {"prefix": "osd pool delete", "pool": "-a", "yes_i_really_really_mean_it": True})
    ask(programs, {"prefix": "auth caps", "entity": "client.b", "caps": ["mon", "allow r"]})
    common = ["--cluster", "far", "--conf", "/etc/ceph/far.conf", "--name", "client.a"]
    own = ["--connect-timeout", "29", "--format", "json"]
    assert programs.asked == [
        ["ceph", *common, *own, "osd", "pool", "delete", "--pool=-a", "--yes-i-really-really-mean-it"],
        ["ceph", *common, *own, "auth", "caps", "--entity=client.b", "mon", "allow r"],
    ]


def test_rbd() -> None:
    programs = Programs(0, b'[{"name":"red"},{"name":"blue"}]', b"")
    ((number, out, _text),) = ask(programs, LIST, to="rbd")
    assert (number, json.loads(out)) == (0, ["red", "blue"])
    ask(programs, {"verb": "create", "pool": "a", "namespace": "b"}, to="rbd")
    assert programs.asked[0][-5:] == ["list", "--pool", "a", "--format", "json"]
    assert programs.asked[1][-5:] == ["create", "--pool", "a", "--namespace", "b"]
    programs.answer = 16, b"", b"rbd: namespace contains images which must be deleted first.\n"
    assert ask(programs, {"verb": "remove", "pool": "a", "namespace": "b"}, to="rbd")[0][0] == errno.EBUSY
