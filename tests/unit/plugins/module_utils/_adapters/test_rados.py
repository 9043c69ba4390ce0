# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection and the process that holds it, with a small cluster in the place of the bindings of Python."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import rados
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

# Of a cluster: a command tells how long it takes, what it answers, and may end the process.
BINDINGS = """
import json, os, time

class Error(OSError):
    pass

class Rados:
    def __init__(self, conffile, conf, name, clustername):
        self.said = {"conf": conf, "name": name, "cluster": clustername, "conffile": conffile}

    def connect(self):
        trouble = open(self.said["conffile"]).read()
        if trouble == "hang":
            time.sleep(60)
        if trouble:
            raise Error(int(trouble), "not today")

    def mon_command(self, text, inbuf, timeout=0):
        asked = json.loads(text)
        time.sleep(asked.get("takes", 0))
        if asked["prefix"] == "die":
            os._exit(1)
        if asked["prefix"] == "said":
            return 0, json.dumps(self.said).encode(), ""
        if asked["prefix"] == "raw":
            return 0, b'"' + bytes([0xFF]) * asked["bytes"] + b'"', ""
        return -asked.get("errno", 0), b'"%s"' % asked["prefix"].encode(), asked.get("text", "")

    mgr_command = mon_command
"""


@pytest.fixture
def access(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "conf").write_text("")
    return {"cluster": "ceph", "conf": str(tmp_path / "conf"), "user": "client.a", "timeout": 5}


@pytest.fixture
def python(tmp_path: Path) -> str:
    (tmp_path / "rados.py").write_text(BINDINGS)
    return made(tmp_path / "python", "import sys; sys.path.insert(0, '%s'); sys.modules['rbd'] = None; " % tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """One that has no bindings, whatever is installed here."""
    return made(tmp_path / "bare", "import sys; sys.modules['rados'] = None; ")


def made(path: Path, before: str) -> str:
    path.write_text('#!/bin/sh\nexec %s -I -c "%s$3" "$4"\n' % (sys.executable, before))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def clusters(python: str) -> Iterator[Clusters]:
    found = Clusters((python,))
    yield found
    for connection in found.known.values():
        connection.close()


def alive(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return os.path.exists("/proc/%d" % pid) and "Z" not in Path("/proc/%d/stat" % pid).read_text().split()[2]


def code(work: Any) -> str:
    with pytest.raises(StorageError) as caught:
        work()
    return caught.value.code


def test_it_says_who_it_is(clusters: Clusters, access: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "keyring").write_text("")
    (said,) = clusters.session({**access, "keyring": str(tmp_path / "keyring")}).ask({"prefix": "said"})
    assert said.value["name"] == "client.a" and said.value["cluster"] == "ceph"
    conf = said.value["conf"]
    assert conf["keyring"] == str(tmp_path / "keyring")
    times = ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")
    assert {conf[name] for name in times} == {"5"} and conf["log_to_stderr"] == "false"


def test_one_connection_for_all_and_side_by_side(clusters: Clusters, access: dict[str, Any]) -> None:
    start = time.monotonic()
    answers = clusters.session(access).ask(*({"prefix": "n%d" % each, "takes": 0.5} for each in range(20)))
    assert [answer.value for answer in answers] == ["n%d" % each for each in range(20)]
    assert time.monotonic() - start < 5
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.extend(clusters.session(dict(access)).ask({"prefix": "x"})))
        for _each in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.value for answer in found] == ["x"] * 8 and len(clusters.known) == 1


def test_what_it_refuses(clusters: Clusters, access: dict[str, Any]) -> None:
    for number, expected in ((2, "not_found"), (13, "denied"), (1, "denied"), (16, "in_use"), (22, "invalid")):
        assert code(lambda: clusters.session(access).ask({"prefix": "x", "errno": number})) == expected  # noqa: B023
    for number, expected in (
        (34, "limit_exceeded"),
        (95, "unsupported"),
        (17, "moved"),
        (28, "no_space"),
        (5, "unreadable"),
    ):
        assert code(lambda: clusters.session(access).ask({"prefix": "x", "errno": number})) == expected  # noqa: B023
    with pytest.raises(StorageError) as caught:
        clusters.session(access).ask({"prefix": "fine"}, {"prefix": "osd x", "errno": 13, "text": "access denied\n"})
    assert str(caught.value) == "the cluster ceph answers to osd x: access denied (see the capabilities of client.a)"
    fine, wrong = clusters.session(access).each([{"prefix": "fine"}, {"prefix": "x", "errno": 2}])
    assert fine == ("fine", "") and isinstance(wrong, StorageError) and wrong.details["errno"] == 2


def test_whatever_a_name_holds_comes_through(clusters: Clusters, access: dict[str, Any]) -> None:
    (answer,) = clusters.session(access).ask({"prefix": "raw", "bytes": 300000})
    assert answer.value == "\udcff" * 300000


def test_what_hangs_ends_and_is_asked_no_more(clusters: Clusters, access: dict[str, Any]) -> None:
    access["timeout"] = 1
    clusters.session(access).ask({"prefix": "x"})
    (connection,) = clusters.known.values()
    start = time.monotonic()
    assert code(lambda: clusters.session(access).ask({"prefix": "x", "takes": 60})) == "timeout"
    assert 0.9 < time.monotonic() - start < 2.5 and not alive(connection.child.pid)
    start = time.monotonic()
    assert code(lambda: clusters.session(access).ask({"prefix": "x"})) == "timeout"
    assert time.monotonic() - start < 0.2


def test_a_manager_that_hangs_is_not_the_monitors_matter(clusters: Clusters, access: dict[str, Any]) -> None:
    access["timeout"] = 1
    assert code(lambda: clusters.session(access).ask({"prefix": "x", "takes": 60}, to="mgr")) == "timeout"
    assert clusters.session(access).ask({"prefix": "x"})[0].value == "x"


def test_a_cluster_that_answers_late_itself(clusters: Clusters, access: dict[str, Any]) -> None:
    assert code(lambda: clusters.session(access).ask({"prefix": "x", "errno": 110})) == "timeout"
    assert clusters.known == {}


@pytest.mark.parametrize(
    ("trouble", "expected"), [("13", "denied"), ("1", "denied"), ("2", "denied"), ("110", "unreachable")]
)
def test_who_is_not_let_in(clusters: Clusters, access: dict[str, Any], trouble: str, expected: str) -> None:
    Path(access["conf"]).write_text(trouble)
    for _again in range(2):
        assert code(lambda: clusters.session(access).ask({"prefix": "x"})) == expected
    Path(access["conf"]).write_text("")
    assert code(lambda: clusters.session(access).ask({"prefix": "x"})) == expected, "once a run is enough"


def test_a_connection_that_hangs(clusters: Clusters, access: dict[str, Any]) -> None:
    Path(access["conf"]).write_text("hang")
    access["timeout"] = 1
    start = time.monotonic()
    assert code(lambda: clusters.session(access).ask({"prefix": "x"})) == "unreachable"
    assert time.monotonic() - start < 2.5


def test_a_process_that_dies_is_told(clusters: Clusters, access: dict[str, Any]) -> None:
    start = time.monotonic()
    for _again in range(2):
        with pytest.raises(StorageError, match="has ended"):
            clusters.session(access).ask({"prefix": "die"})
    assert time.monotonic() - start < 4


def test_who_nobody_knows_any_more_ends(python: str, access: dict[str, Any]) -> None:
    clusters = Clusters((python,))
    clusters.session(access).ask({"prefix": "x"})
    pid = next(iter(clusters.known.values())).child.pid
    del clusters
    gc.collect()
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


def test_the_first_python_that_has_the_bindings(bare: str, python: str, access: dict[str, Any], tmp_path: Path) -> None:
    found = Clusters(("", str(tmp_path / "none"), bare, python))
    assert found.session(access).ask({"prefix": "x"})[0].value == "x"
    connection = next(iter(found.known.values()))
    assert len(found.known) == 1 and isinstance(connection, rados.Connection)
    connection.close()


def test_no_python_that_has_them(bare: str, access: dict[str, Any]) -> None:
    found = Clusters((bare,))
    connection = found.connection(access, time.monotonic() + 5)
    assert type(connection).__name__ == "Program"


def test_without_the_bindings_of_rbd_its_program_is_asked(clusters: Clusters, access: dict[str, Any]) -> None:
    """It is not installed, or has no cluster to ask."""
    with pytest.raises(StorageError) as caught:
        clusters.session(access).ask({"verb": "list", "pool": "a"}, to="rbd")
    assert caught.value.code in ("missing_tool", "unreachable", "denied", "failed"), str(caught.value)


def test_who_asks_after_the_end_is_told_at_once(clusters: Clusters, access: dict[str, Any]) -> None:
    """The end is heard between two questions: the pipe may still take the second one."""
    clusters.session(access).ask({"prefix": "x"})
    (connection,) = clusters.known.values()
    connection.child.kill()
    connection.child.wait()
    until = time.monotonic() + 5
    while not connection.heard.ended and time.monotonic() < until:
        time.sleep(0.01)
    reading, writing = os.pipe()
    os.dup2(writing, connection.child.stdin.fileno())
    start = time.monotonic()
    with pytest.raises(StorageError, match="has ended"):
        clusters.session(access).ask({"prefix": "x"})
    assert time.monotonic() - start < 1
    os.close(reading)
    os.close(writing)


class TestFiles:
    """Told before anybody is asked: no Python is given."""

    def code(self, access: dict[str, Any], **more: Any) -> str:
        return code(lambda: Clusters(()).connection({**access, **more}, time.monotonic() + 5))

    def test_not_there(self, access: dict[str, Any]) -> None:
        assert self.code(access, conf="/none/x") == "not_found"
        assert self.code(access, keyring="/none/x") == "not_found"

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_others_can_write(self, access: dict[str, Any], mode: int) -> None:
        os.chmod(access["conf"], mode)
        assert self.code(access) == "unsafe_path"

    def test_of_somebody_else(self, access: dict[str, Any]) -> None:
        os.chown(access["conf"], 65534, 65534)
        assert self.code(access) == "unsafe_path"

    def test_no_plain_file(self, access: dict[str, Any], tmp_path: Path) -> None:
        assert self.code(access, conf=str(tmp_path)) == "unsafe_path"
        os.mkfifo(tmp_path / "pipe")
        assert self.code(access, keyring=str(tmp_path / "pipe")) == "unsafe_path"

    def test_readable_by_all(self, access: dict[str, Any]) -> None:
        os.chmod(access["conf"], 0o644)
        assert Clusters(()).connection(access, time.monotonic() + 5)
