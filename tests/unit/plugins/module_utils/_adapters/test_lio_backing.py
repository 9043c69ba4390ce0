# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files that are served: made where only root can write, never taken back with something in them."""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_backing import LioBacking
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace

MIB = 1 << 20
ONE = {"type": "file", "size": MIB}


@pytest.fixture
def place(private_mounts: None) -> Iterator[str]:
    with namespace.place() as path:
        yield path


def code(port: Any, target: str, before: Any, after: Any) -> str:
    with pytest.raises(StorageError) as caught:
        port.put(target, before, after)
    return caught.value.code


def test_one_that_was_written_to_is_not_taken_back(place: str) -> None:
    port, image = LioBacking(), place + "/image"
    port.put(image, None, ONE)
    with open(image, "r+b") as stream:
        stream.write(b"x")
        os.fsync(stream.fileno())
    assert code(port, image, ONE, None) == "would_destroy"
    assert os.stat(image).st_size == MIB


def test_it_is_for_root_only_and_sparse(place: str) -> None:
    LioBacking().put(place + "/image", None, ONE)
    seen = os.stat(place + "/image")
    assert (seen.st_mode & 0o7777, seen.st_size, seen.st_blocks) == (0o600, MIB, 0)


def test_where_others_can_write_none_is_made(place: str) -> None:
    port, folder = LioBacking(), place + "/open"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    error = port.refuse(folder + "/image", None, ONE, set())
    assert error is not None and error.code == "unsafe_path"
    assert code(port, folder + "/image", None, ONE) == "unsafe_path"
    os.symlink(place, folder + "/link")
    assert code(port, folder + "/link/image", None, ONE) == "unsafe_path"
    os.chown(folder, 1000, 1000)
    os.chmod(folder, 0o755)
    assert code(port, folder + "/image", None, ONE) == "unsafe_path"
    assert os.listdir(folder) == ["link"] and not os.path.exists(place + "/image")


def test_a_link_in_its_place_is_not_followed(place: str) -> None:
    os.symlink(place + "/elsewhere", place + "/image")
    assert code(LioBacking(), place + "/image", None, ONE) == "moved"
    assert not os.path.exists(place + "/elsewhere")


def test_a_device_and_a_folder_are_no_files(place: str) -> None:
    rows = LioBacking().scan([place, "/dev/null", place + "/none", place + "/none/none"])
    assert {name: row.code for name, row in rows.items()} == {place: "invalid", "/dev/null": "invalid"}


def test_what_is_lost_or_has_no_home_is_told(place: str) -> None:
    port, image = LioBacking(), place + "/none/image"
    port.scan([image, place + "/image"])
    assert port.merge(image, None, ONE)["_missing"] == place + "/none"
    assert "_missing" not in port.merge(place + "/image", None, ONE)
    assert port.merge(place + "/image", None, {**ONE, "_known": True})["_missing"] == place + "/image"
