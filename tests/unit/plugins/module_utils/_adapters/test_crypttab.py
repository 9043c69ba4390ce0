# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crypttab(5) byte for byte, but for our line."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.crypttab import Crypttab, parse
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

OTHERS = (
    b"# a comment, and no line end below\nroot\tUUID=1  none\tluks,x-initrd.attach\r\n"
    b"\nswap /dev/sdb1 /dev/urandom swap"
)
WANTED = {"device": "/dev/disk/by-id/a", "key_file": "/etc/key"}


@pytest.fixture
def file(tmp_path: Any) -> str:
    path = str(tmp_path / "crypttab")
    with open(path, "wb") as stream:
        stream.write(OTHERS)
    os.chmod(path, 0o640)
    return path


def content(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


def declare(file: str, name: str, wanted: Any) -> Any:
    port = Crypttab(booted="/nowhere")
    before = port.scan([(file, name)]).get((file, name))
    if isinstance(before, StorageError):
        raise before
    after = port.merge((file, name), before, wanted) if wanted else None
    port.put((file, name), before, after)
    return after


def test_a_line_is_added_changed_and_taken_out(file: str) -> None:
    declare(file, "vault", WANTED)
    assert content(file) == OTHERS + b"\nvault /dev/disk/by-id/a /etc/key luks"
    declare(file, "vault", {"nofail": True, "key_file": "/etc/new"})
    assert content(file) == OTHERS + b"\nvault /dev/disk/by-id/a /etc/new luks,nofail"
    assert os.stat(file).st_mode & 0o777 == 0o640
    declare(file, "vault", None)
    assert content(file) == OTHERS


def test_what_is_not_declared_of_a_line_stays(file: str) -> None:
    after = declare(file, "root", {"discards": True})
    assert after["options"] == "luks,x-initrd.attach,discard"
    assert content(file) == OTHERS.replace(b"x-initrd.attach", b"x-initrd.attach,discard")
    declare(file, "root", {"discards": False})
    assert content(file) == OTHERS


def test_short_lines_are_read_and_filled_up(file: str) -> None:
    with open(file, "wb") as stream:
        stream.write(b"a /dev/a\nb /dev/b -\n")
    rows = {line.name: line.value for line in parse(content(file))}
    assert [(row["key_file"], row["options"]) for row in rows.values()] == [("none", ""), ("none", "")]
    declare(file, "a", {"nofail": True})
    declare(file, "b", {"device": "/dev/c"})
    assert content(file) == b"a /dev/a none nofail\nb /dev/c -\n"
    with open(file, "wb") as stream:
        stream.write(b"a /dev/a")
    declare(file, "a", {"nofail": True, "key_file": "/etc/key"})
    assert content(file) == b"a /dev/a /etc/key nofail"


def test_what_takes_a_network_says_so(tmp_path: Any) -> None:
    file = str(tmp_path / "crypttab")
    declare(file, "a", {"device": "/dev/a", "key_file": "/k", "network": True})
    assert content(file) == b"a /dev/a /k luks,_netdev\n"
    declare(file, "a", {"nofail": True})
    assert content(file) == b"a /dev/a /k luks,nofail,_netdev\n", "what is not declared stays"


def test_a_new_file_is_nobody_elses_to_read(tmp_path: Any) -> None:
    file = str(tmp_path / "crypttab")
    declare(file, "vault", WANTED)
    assert os.stat(file).st_mode & 0o777 == 0o600 and content(file) == b"vault /dev/disk/by-id/a /etc/key luks\n"
    declare(file, "vault", None)
    assert content(file) == b""


@pytest.mark.parametrize("word", ["/etc/a key", "/etc/key\nroot /dev/sda x", "\u2003"])
def test_what_the_file_cannot_say_is_refused(file: str, word: str) -> None:
    with pytest.raises(StorageError) as caught:
        declare(file, "vault", {**WANTED, "key_file": word})
    assert caught.value.code == "invalid" and content(file) == OTHERS


def test_two_lines_of_one_name_are_nobodys_to_choose_from(file: str) -> None:
    with open(file, "ab") as stream:
        stream.write(b"\nroot UUID=2\n")
    with pytest.raises(StorageError) as caught:
        declare(file, "root", {"discards": True})
    assert caught.value.code == "conflict"


def test_a_line_that_moved_is_left_alone(file: str) -> None:
    with pytest.raises(StorageError) as caught:
        Crypttab(booted="/nowhere").put((file, "swap"), None, {**WANTED, "options": ""})
    assert caught.value.code == "moved" and content(file) == OTHERS


def test_what_cannot_be_read_is_told(tmp_path: Any) -> None:
    with pytest.raises(StorageError):
        Crypttab().scan([(str(tmp_path), "vault")])
