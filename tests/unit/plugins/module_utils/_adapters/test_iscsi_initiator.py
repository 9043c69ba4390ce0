# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file with the name of an initiator: as iscsid reads it, and byte for byte, but for our line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiator import IscsiInitiator, found
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_initiatorchange import edited
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

NAME = "iqn.2026-01.org.x:a"
OURS = b"InitiatorName=" + NAME.encode()


def port(base: Path) -> IscsiInitiator:
    return IscsiInitiator(sessions=str(base / "sessions"), pid=str(base / "pid"))


@pytest.mark.parametrize(
    "text,says",
    [
        (b"InitiatorName=a", b"a"),
        (b"# x\nInitiatorName = a # b\t\r\nInitiatorName=c\n", b"a # b"),
        (b"#InitiatorName=a\n # InitiatorName=b\nInitiatorName=c\n", b"c"),
        (b"InitiatorName=\nInitiatorName\nInitiatorName= d\n", b"d"),
        (b"InitiatorAlias=a\n", b""),
        (b"", b""),
        (b"GenerateName=yes\nInitiatorName=a\n", b""),
        (b"#GenerateName=yes\nInitiatorName=a\n", b"a"),
    ],
)
def test_as_iscsid_reads_it(text: bytes, says: bytes) -> None:
    assert found(text)[1] == says


@pytest.mark.parametrize(
    "text,after",
    [
        (b"", OURS + b"\n"),
        (b"# x", b"# x\n" + OURS + b"\n"),
        (b"# \xff\n InitiatorName = a\r\nAlias=b\nInitiatorName=c", b"# \xff\n%s\nAlias=b\nInitiatorName=c" % OURS),
        (b"## x\nGenerateName=yes\n", b"## x\n#GenerateName=yes\n%s\n" % OURS),
        (b"GenerateName=yes\nInitiatorName=a\n", b"#GenerateName=yes\n%s\n" % OURS),
    ],
)  # fmt: skip
def test_every_other_byte_stays(text: bytes, after: bytes) -> None:
    assert edited(text, NAME.encode()) == after
    assert found(after)[1] == NAME.encode()


def test_it_is_taken_back(tmp_path: Path) -> None:
    file, text = tmp_path / "initiatorname.iscsi", b"## x\nGenerateName=yes\n"
    for before in (None, text):
        if before:
            file.write_bytes(before)
        port(tmp_path).put(str(file), None, {"name": NAME, "heard": True})
        if before is None:
            assert file.stat().st_mode & 0o777 == 0o600
        port(tmp_path).put(str(file), {"name": NAME, "heard": True}, None)
        assert (file.read_bytes() if file.exists() else None) == before


def test_what_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "initiatorname.iscsi")
    made = port(tmp_path)
    for name in ("", "a", "iqn.", "iqn.a b", "iqn.a\n", "iqn.a#", "iqn." + "a" * 220, "-iqn.a"):
        error = made.refuse(file, None, {"name": name}, set())
        assert error is not None and error.code == "invalid"
        with pytest.raises(StorageError):
            made.put(file, None, {"name": name})
    assert os.listdir(tmp_path) == []
    error = made.refuse("/nowhere/initiatorname.iscsi", None, {"name": NAME}, set())
    assert error is not None and error.code == "missing_tool"
    error = made.refuse(file, {"name": NAME}, None, set())
    assert error is not None and error.code == "unsupported"
    (tmp_path / "sessions" / "session1").mkdir(parents=True)
    for after in ({"name": NAME}, None):
        with pytest.raises(StorageError) as raised:
            made.put(file, None, after)
        assert raised.value.code == "in_use"
    error = made.refuse(file, None, {"name": NAME}, set())
    assert error is not None and error.code == "in_use" and "session1" in error.message


def test_iscsid_that_runs_since_before(tmp_path: Path) -> None:
    file, pid = tmp_path / "initiatorname.iscsi", tmp_path / "pid"
    file.write_bytes(OURS)
    made = port(tmp_path)

    def heard() -> Any:
        return made.scan([str(file)])[str(file)]["heard"]

    assert heard(), "it does not run"
    pid.write_text("%d\n" % os.getpid(), encoding="ascii")
    os.utime(pid, ns=(1, 1))
    assert heard(), "another process has its number"
    with open("/proc/self/comm", "r+", encoding="ascii") as comm:
        old = comm.read()
        comm.write("iscsid")
    try:
        assert not heard()
        assert not made.same(str(file), made.scan([str(file)])[str(file)], {"name": NAME})
        (tmp_path / "sessions" / "session1").mkdir(parents=True)
        assert heard(), "nothing is to be done about it now"
        (tmp_path / "sessions" / "session1").rmdir()
        os.utime(file, ns=(0, 0))
        assert heard()
    finally:
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(old.strip())
