# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of LUKS2, as cryptsetup writes it and as accidents leave it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import luks, luksheader

ONE, TWO = 16384, 2 * 16384


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> bytes:
    """The first MiB of what cryptsetup made."""
    path = tmp_path_factory.mktemp("luks") / "image"
    path.write_bytes(b"")
    os.truncate(path, 32 << 20)
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--subsystem", "bulkhead:0123"]
    argv = ["cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, "--key-file=-", str(path)]
    subprocess.run(argv, input=b"key", check=True)
    said = subprocess.run(["cryptsetup", "luksDump", "--dump-json-metadata", str(path)], check=True, stdout=-1).stdout
    uuid = subprocess.run(["cryptsetup", "luksUUID", str(path)], check=True, stdout=-1).stdout
    facts = {"meta": json.loads(said), "uuid": uuid.decode().strip()}
    return json.dumps(facts).encode() + b"\n" + path.read_bytes()[: 1 << 20]


@pytest.fixture
def facts(made: bytes) -> Any:
    return json.loads(made.split(b"\n", 1)[0])


@pytest.fixture
def image(made: bytes, tmp_path: Any) -> Iterator[Any]:
    path = tmp_path / "image"
    path.write_bytes(made.split(b"\n", 1)[1])
    yield path


def read(path: Any, **patches: bytes) -> luksheader.Header | None:
    """``at_<place>`` is written first."""
    fd = os.open(path, os.O_RDWR)
    try:
        for place, data in patches.items():
            os.pwrite(fd, data, int(place[3:]))
        return luksheader.read(fd)
    finally:
        os.close(fd)


def test_it_says_what_cryptsetup_says(image: Any, facts: Any) -> None:
    head = read(image)
    assert head is not None
    assert (head.version, head.intact, head.subsystem, head.offset) == (2, 2, "bulkhead:0123", 16 << 20)
    assert (head.uuid, head.meta) == (facts["uuid"], facts["meta"])
    row = luks.value(head)
    assert (row["cipher"], row["pbkdf"], row["keyslots"]) == ("aes-xts-plain64", "pbkdf2", (0,))


@pytest.mark.parametrize("place", [0, 6, 8, 16, 100, 168, 450, 4096, 9000, ONE - 1])
def test_one_damaged_copy_is_known_by_its_checksum(image: Any, facts: Any, place: int) -> None:
    for copy in (0, ONE):
        data = image.read_bytes()
        head = read(image, **{"at_%d" % (copy + place): bytes([data[copy + place] ^ 0x40])})
        assert head is not None and (head.intact, head.uuid) == (1, facts["uuid"])
        image.write_bytes(data)


def test_the_later_copy_counts(image: Any) -> None:
    old = image.read_bytes()
    subprocess.run(["cryptsetup", "config", "--subsystem", "", str(image)], check=False)  # the image is short of data
    os.truncate(image, 32 << 20)
    subprocess.run(["cryptsetup", "config", "--subsystem", "", str(image)], check=True)
    first = read(image)
    mixed = read(image, at_0=old[:ONE])
    assert first is not None and mixed is not None
    assert (mixed.subsystem, mixed.seqid, mixed.intact) == ("", first.seqid, 2)


def test_two_damaged_copies_are_a_header_still(image: Any) -> None:
    head = read(image, at_4200=b"\0" * 64, at_20584=b"\0" * 64)
    assert head is not None and (head.intact, head.meta, head.subsystem) == (0, {}, "bulkhead:0123")


def test_nothing_is_no_header(image: Any) -> None:
    assert read(image, at_0=b"\0" * TWO) is None
    os.truncate(image, 100)
    assert read(image) is None


def test_a_copy_that_belongs_elsewhere_is_none(image: Any) -> None:
    """As what an older header with larger copies leaves behind."""
    data = image.read_bytes()
    head = read(image, at_0=b"\0" * TWO, at_32768=data[ONE:TWO])
    assert head is not None and head.intact == 0


def test_luks1_is_told_apart(image: Any) -> None:
    head = read(image, at_6=b"\0\1")
    assert head is not None and head.version == 1


def test_any_bytes_are_fine(image: Any) -> None:
    data = image.read_bytes()
    for seed in range(300):
        dice = random.Random(seed)
        head = bytearray(data[:TWO])
        for _each in range(dice.choice((1, 3, 200))):
            head[dice.randrange(dice.choice((600, TWO)))] = dice.randrange(256)
        found = read(image, at_0=bytes(head))
        assert found is None or 0 <= found.intact <= 2


def test_a_key_file_is_known_by_all_but_its_content(image: Any, tmp_path: Any) -> None:
    """What the header keeps of it cannot be tried offline, and is void when the file or the slots are others."""
    head, new = read(image), tmp_path / "new"
    assert head is not None
    new.write_bytes(b"a key")
    want = {"_key": "/etc/old", "_new_key": str(new)}
    token = {"type": luks.TOKEN, "stamp": luks.stamp(head, want)}
    head = head._replace(meta={**head.meta, "tokens": {"0": token}})
    assert luks.proved(head, want)
    assert not luks.proved(head, {**want, "_key": "/etc/other"})
    assert not luks.proved(head._replace(meta={**head.meta, "keyslots": {}}), want)
    os.utime(new, (1, 1))
    assert not luks.proved(head, want)
