# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as iscsiadm 2.1.11 wrote them, cut short; what others did to them, and what we make of it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_record, iscsi_recordchange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import IscsiRecord, fields
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret, state_of

IQN = "iqn.2026-01.org.x:a"
WRITTEN = b"""# BEGIN RECORD 2.1.11
node.name = iqn.2026-01.org.x:a
node.tpgt = 1
node.startup = manual
iface.iscsi_ifacename = default
node.session.auth.authmethod = CHAP
node.session.auth.username = user
node.session.auth.password = secret
node.session.auth.chap_algs = MD5
node.conn[0].address = 10.0.0.1
node.conn[0].port = 3260
node.conn[0].startup = manual
node.conn[0].timeo.login_timeout = 15
# END RECORD
"""
NONE: dict[str, Any] = {"username": None, "password": None, "mutual_username": None, "mutual_password": None}
CHAP: dict[str, Any] = {**NONE, "username": "user", "password": Secret("secret")}
ONE, TWO = "10.0.0.1,3260,1/default", "2001:DB8::1,3261"
PORTALS = ("10.0.0.1:3260", "[2001:db8::1]:3261")


class Place:
    """A database, and the port over it; nobody makes records in it but we."""

    def __init__(self, base: Path) -> None:
        self.base, self.here = base, base / "nodes" / IQN
        self.port = IscsiRecord(run=self.no_program, folder=str(base), locks=str(base / "lock"))
        self.here.mkdir(parents=True)

    def no_program(self, argv: list[str]) -> Any:
        raise AssertionError("ran %s" % argv)

    def write(self, path: str, text: bytes = WRITTEN, mode: int = 0o600) -> Path:
        file = self.here / path
        file.parent.mkdir(exist_ok=True, mode=0o700)
        file.write_bytes(text)
        file.chmod(mode)
        return file

    def row(self) -> Any:
        return self.port.scan([IQN]).get(IQN)

    def put(self, declared: Any) -> None:
        row = self.row()
        assert not self.port.same(IQN, row, declared)
        after = self.port.merge(IQN, row, declared)
        assert self.port.refuse(IQN, row, after, set()) is None
        self.port.put(IQN, row, after)
        assert self.port.same(IQN, self.row(), declared)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return Place(tmp_path)


def test_what_there_is(place: Place) -> None:
    place.write(ONE)
    place.write(TWO)
    row = place.row()
    assert state_of(row) == {"portals": PORTALS, "startup": "manual", "authmethod": "CHAP", "intact": True, **CHAP}
    assert place.port.scan() == {IQN: row}
    assert place.port.scan([IQN[:-1], IQN + "a"]) == {}
    assert "secret" not in repr(row)
    assert IscsiRecord(folder=str(place.base / "none")).scan() == {}


@pytest.mark.parametrize(
    "line,says",
    [
        (b"node.session.auth.username=me\n", None),  # as iscsiadm reads it: there is no blank beside the sign
        (b"node.session.auth.username= me\n", None),
        (b"node.session.auth.username =me\n", "me"),
        (b"\t node.session.auth.username \t = \v me # too \t\n", "me # too"),
        (b"node.session.auth.username = me\r\n", "me"),
        (b"#node.session.auth.username = me\n", None),
        (b" # node.session.auth.username = me\n", None),
        (b"node.session.auth.username = \n", None),
        (b"node.session.auth.username\n", None),
        (b"node.session.auth.username = me\nnode.session.auth.username = you\n", "you"),
        (b"node.session.auth.username = me\nnode.session.auth.username =\n", "me"),
        (b"node.session.auth.username = =\n", "="),
        (b"node.session.auth.username_in = me\n", None),
        (b"node.session.auth.username = me", None),  # the line has no end
        (b"node.session.auth.username = \xff\n", "\udcff"),
    ],
)
def test_a_line_is_what_iscsiadm_takes_it_for(line: bytes, says: Any) -> None:
    assert fields(line)["username"] == says


@pytest.mark.parametrize(
    "lines,says",
    [
        (b"", "manual"),
        (b"node.startup = automatic\n", "automatic"),
        (b"node.startup = manual\nnode.conn[0].startup = automatic\n", "automatic"),
        (b"node.startup = onboot\nnode.conn[0].startup = manual\n", "onboot"),
    ],
)
def test_one_of_both_is_enough_to_be_logged_in_at_boot(lines: bytes, says: str) -> None:
    assert fields(lines)["startup"] == says


def test_what_is_not_ours_stays_to_the_byte(place: Place) -> None:
    odd = WRITTEN.replace(b"# END", b"# a word\r\n  odd\xff\n\nx=y\n# END") + b"after = it"
    files = [place.write(ONE, odd), place.write(TWO, odd)]
    place.put({"portals": PORTALS, **CHAP, "password": Secret("next")})
    assert [file.read_bytes() for file in files] == [odd.replace(b"= secret", b"= next")] * 2
    place.put({"portals": PORTALS, "startup": "automatic"})
    changed = odd.replace(b"= secret", b"= next").replace(b"startup = manual", b"startup = automatic")
    assert [file.read_bytes() for file in files] == [changed] * 2
    place.put({"portals": PORTALS[:1], **NONE})
    without = b"".join(
        line for line in changed.splitlines(True) if b".auth.user" not in line and b".auth.pass" not in line
    )
    assert files[0].read_bytes() == without.replace(b"= CHAP", b"= None")
    assert not files[1].exists()


def test_a_password_that_others_may_read(place: Place) -> None:
    file = place.write(ONE, mode=0o640)
    declared = {"portals": PORTALS[:1], **CHAP}
    assert place.row()["intact"] is False
    place.put(declared)
    assert (file.stat().st_mode & 0o777, file.read_bytes()) == (0o600, WRITTEN)
    place.put({"portals": PORTALS[:1], **NONE})
    file.chmod(0o644)
    assert place.row()["intact"], "there is nothing to hide"


def test_records_that_differ(place: Place) -> None:
    place.write(ONE)
    place.write("10.0.0.1,3260,1/other", WRITTEN.replace(b"secret", b"wrong"))
    place.write(TWO, WRITTEN.replace(b"startup = manual", b"startup = automatic").replace(b"CHAP", b"None"))
    row = place.row()
    assert row["portals"] == PORTALS
    assert row["startup"] == ("manual", "automatic") and row["authmethod"] == ("CHAP", "None")
    assert row["password"] == (Secret("secret"), Secret("wrong"))
    place.put({"portals": PORTALS, "startup": "manual"})
    row = place.row()
    assert (row["startup"], row["password"]) == ("manual", (Secret("secret"), Secret("wrong"))), "nobody said which"
    place.put({"portals": PORTALS, **CHAP})
    assert place.row()["authmethod"] == "CHAP"
    place.write(ONE, WRITTEN.replace(b"CHAP", b"None"))
    place.write("10.0.0.1,3260,1/other", WRITTEN.replace(b"CHAP", b"None"))
    place.write(TWO, WRITTEN.replace(b"CHAP", b"None"))
    assert not place.port.same(IQN, place.row(), CHAP) and place.port.same(IQN, place.row(), {"startup": "manual"})


def test_what_nobody_speaks_of_stays_as_odd_as_it_is(place: Place) -> None:
    odd = WRITTEN.replace(b"= user", b"= \xff").replace(b"node.startup = manual", b"node.startup = automatic")
    file = place.write(ONE, odd)
    place.put({"portals": PORTALS[:1], "startup": "automatic", "password": Secret("next")})
    assert file.read_bytes() == odd.replace(b"= secret", b"= next")


@pytest.mark.parametrize("left", [".bulkhead-record-0", "10.0.0.9,3260,2/", "10.0.0.9,3260", "10.0.0.9,3260,1/default"])
def test_what_a_killed_run_left(place: Place, left: str) -> None:
    """A record without its end iscsiadm left, or a host that crashed."""
    file = place.write(ONE)
    if left.endswith("/"):
        (place.here / left).mkdir()
    else:
        place.write(left, WRITTEN[:100])
    declared = {"portals": PORTALS[:1], **CHAP}
    row = place.row()
    assert (row["portals"], row["intact"]) == (PORTALS[:1], False)
    place.put(declared)
    assert sorted(os.listdir(place.here)) == ["10.0.0.1,3260,1"] and file.read_bytes() == WRITTEN
    place.write(left + "default" if left.endswith("/") else left, b"")
    place.port.put(IQN, place.row(), None)
    assert not place.here.exists()


def test_only_a_folder_is_left(place: Place) -> None:
    row = place.row()
    assert (row["portals"], row["intact"]) == ((), True)
    place.port.put(IQN, row, None)
    assert place.port.scan() == {}


@pytest.mark.parametrize(
    "odd", ["notes", "10.0.0.1,x", "10.0.0.1,3260,1,1", "10.0.0.1,3260/default", "10.0.0.1,3260,1"]
)
def test_what_is_no_record_is_not_guessed_at(place: Place, odd: str) -> None:
    place.write(odd)
    found = place.row()
    assert isinstance(found, StorageError) and found.code == "unreadable" and odd.split("/")[0] in found.message


def test_links_are_not_followed(place: Place) -> None:
    file = place.write(ONE)
    file.rename(place.base / "elsewhere")
    file.symlink_to(place.base / "elsewhere")
    assert place.row().code == "unreadable"
    file.unlink()
    os.mkfifo(str(file))
    assert place.row().code == "unreadable"


@pytest.mark.parametrize("target", ["", "..", ".", "../nodes", "a/b", "-T"])
def test_names_that_lead_elsewhere(place: Place, target: str) -> None:
    assert place.port.scan([target])[target].code == "invalid"


def test_what_makes_no_sense_is_refused(place: Place) -> None:
    place.write(ONE)
    row = place.row()
    for words in (
        {"password": None},
        {"mutual_username": "me"},
        {**NONE, "mutual_username": "me", "mutual_password": Secret("x")},
        {"startup": "now"},
        {"portals": ()},
        {"password": Secret("x" * 256)},
        {"password": Secret("a secret ")},
        {"username": "\ud800"},
    ):
        after = {**state_of(row), **words}
        error = place.port.refuse(IQN, row, after, set())
        assert error.code == "invalid" and "secret" not in str(error)
        with pytest.raises(StorageError) as raised:
            place.port.put(IQN, row, after)
        assert raised.value.code == "invalid"
    assert place.row() == row


def test_what_another_left_on_its_way_stays_unless_it_is_ours(place: Place) -> None:
    """Links by which iscsiadm knows how it came to a record."""
    place.write(ONE)
    place.write(TWO)
    source = place.base / "send_targets" / "10.0.0.1,3260"
    source.mkdir(parents=True)
    (place.base / "static").mkdir()
    (source / "st_config").write_bytes(b"x")
    (source / "mine").symlink_to(place.here / "10.0.0.1,3260,1")
    (place.base / "static" / "mine").symlink_to(place.here / "10.0.0.1,3260,1")
    for name, goal in (("longer", "10.0.0.1,3260,10"), ("theirs", "../" + IQN + "b/10.0.0.1,3260,1")):
        (source / name).symlink_to(place.here / goal)
    place.put({"portals": PORTALS[1:]})
    assert sorted(os.listdir(source)) == ["longer", "st_config", "theirs"] and not os.listdir(place.base / "static")


def test_a_lock_of_a_run_that_died_is_taken_away(place: Place) -> None:
    place.write(ONE)
    locks = place.base / "lock"
    with iscsi_recordchange.locked(str(locks)):
        assert place.row()["intact"] is False
        with pytest.raises(StorageError) as raised, iscsi_recordchange.locked(str(locks), 0.05):
            pass
        assert raised.value.code == "locked"
    assert os.listdir(locks) == ["lock.bulkhead"]
    os.link(locks / "lock.bulkhead", locks / "lock.write")
    place.put({"portals": PORTALS[:1]})
    assert os.listdir(locks) == ["lock.bulkhead"]
    (locks / "lock").touch()
    os.link(locks / "lock", locks / "lock.write")
    iscsi_recordchange.mend(str(locks))
    assert place.row()["intact"] and (locks / "lock.write").exists(), "that of iscsiadm is its own"
    with pytest.raises(StorageError) as raised, iscsi_recordchange.locked(str(locks), 0.05):
        pass
    assert raised.value.code == "locked"
    locks.chmod(0o777)
    with pytest.raises(StorageError) as raised, iscsi_recordchange.locked(str(locks), 0.05):
        pass
    assert raised.value.code == "unsafe_path"


def test_what_changes_while_we_write_is_not_overwritten(place: Place) -> None:
    file = place.write(ONE)
    row = place.row()
    file.write_bytes(WRITTEN.replace(b"secret", b"theirs"))
    with pytest.raises(StorageError) as raised:
        place.port.put(IQN, row, place.port.merge(IQN, row, {"portals": PORTALS[:1], **NONE}))
    assert raised.value.code == "moved"
    assert b"theirs" in file.read_bytes()


def test_what_changes_while_we_wait_is_not_overwritten(place: Place) -> None:
    file = place.write(ONE)
    row = place.row()
    codes = []

    def put() -> None:
        with pytest.raises(StorageError) as raised:
            place.port.put(IQN, row, place.port.merge(IQN, row, {"portals": PORTALS[:1], **NONE}))
        codes.append(raised.value.code)

    with iscsi_recordchange.locked(place.port.locks):
        thread = threading.Thread(target=put)
        # what a killed run left would be taken away first, and this lock looks like it
        os.rename(place.port.locks + "/lock.write", place.port.locks + "/aside")
        thread.start()
        end = time.monotonic() + 10
        while not list(place.here.glob(".bulkhead-record-*")) and time.monotonic() < end:
            time.sleep(0.01)
        file.write_bytes(WRITTEN.replace(b"secret", b"theirs"))
        os.rename(place.port.locks + "/aside", place.port.locks + "/lock.write")
    thread.join(10)
    assert codes == ["moved"] and b"theirs" in file.read_bytes()
    assert os.listdir(place.here) == ["10.0.0.1,3260,1"]


def test_a_new_portal_without_iscsiadm(place: Place) -> None:
    """What makes it fails: what was there is as it was, and nothing is left."""
    file = place.write(ONE)
    row = place.row()
    place.port.run = lambda argv: (6, b"", b"iscsiadm: no\n")
    before = file.stat().st_ino
    with pytest.raises(StorageError) as raised:
        place.port.put(IQN, row, place.port.merge(IQN, row, {"portals": PORTALS, **NONE}))
    assert raised.value.code in ("failed", "missing_tool")
    assert (file.stat().st_ino, file.read_bytes(), os.listdir(place.here)) == (before, WRITTEN, ["10.0.0.1,3260,1"])


def test_canonical_portals() -> None:
    for address, port, says in (
        ("10.0.0.1", "03260", "10.0.0.1:3260"),
        ("2001:DB8:0::1", "1", "[2001:db8::1]:1"),
        ("fe80::1%eth0", "1", "[fe80::1%eth0]:1"),
        ("Host.example", "1", "Host.example:1"),
    ):
        assert iscsi_record.canonical(address, port) == says
