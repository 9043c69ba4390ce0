# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reading of a GUID partition table that sfdisk wrote, whole and torn; and where partitions go. On the real thing
the effects are tested in a guest.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import gpt, gptchange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import partition
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support import namespace

MIB = 1 << 20
SIZE = 64 * MIB
LINUX, LVM = gptchange.LINUX, "e6d6d379-f507-44c2-a23c-238f2a3df928"
SCRIPT = (
    'label: gpt\n1 : start=2048, size=20480, name="first one"\n5 : start=40960, size=20480, type=%s\n' % LVM.upper()
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: Any) -> bytes:
    image: Path = tmp_path_factory.mktemp("gpt") / "disk"
    with open(image, "wb") as stream:
        stream.truncate(SIZE)
    subprocess.run(["sfdisk", "--quiet", str(image)], input=SCRIPT.encode(), check=True)
    return image.read_bytes()


def parsed(data: bytes, sector: int = 512) -> Any:
    return gpt.parse(lambda start, count: data[start : start + count], len(data), sector)


def torn(data: bytes, at: int, new: bytes) -> bytes:
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


def test_what_sfdisk_wrote(written: bytes) -> None:
    table = parsed(written)
    assert (table.problem, table.whole, table.sector, table.size) == ("", True, 512, SIZE)
    assert {n: (e.first, e.last, e.type, e.name) for n, e in table.entries.items()} == {
        1: (2048, 22527, LINUX, "first one"),
        5: (40960, 61439, LVM, ""),
    }
    assert (table.begin, table.end) == (MIB, 63 * MIB)
    assert (table.limit(1), table.limit(5)) == (20 * MIB, 63 * MIB)


def test_a_disk_that_became_larger(written: bytes) -> None:
    table = parsed(written + bytes(16 * MIB))
    assert (table.problem, table.whole, table.end, len(table.entries)) == ("", False, 79 * MIB, 2)


@pytest.mark.parametrize(
    ("at", "new", "says"),
    [
        (512 + 60, b"\xff", "first copy of the table is damaged"),
        (512, bytes(8), "first copy of the table is missing"),
        (1024 + 41, b"\xff", "first copy of the table is damaged"),
        (-512 + 60, b"\xff", "backup copy of the table is damaged"),
        (-512, bytes(8), "backup copy of the table is missing"),
        (-33 * 512, b"\xff", "backup copy of the table is damaged"),
        (510, bytes(2), "protective MBR"),
        (446 + 16 + 4, b"\x83", "protective MBR"),
    ],
)
def test_torn(written: bytes, at: int, new: bytes, says: str) -> None:
    table = parsed(torn(written, at, new))
    assert says in table.problem and set(table.entries) == {1, 5}


def test_both_copies_torn_and_none_at_all(written: bytes) -> None:
    both = parsed(torn(torn(written, 512 + 60, b"\xff"), -512 + 60, b"\xff"))
    assert "both copies" in both.problem and both.entries == {}
    assert parsed(bytes(SIZE)) is None and parsed(torn(torn(written, 512, bytes(8)), -512, bytes(8))) is None
    assert parsed(written, 4096) is None


def test_copies_that_disagree(written: bytes, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(written)
    subprocess.run(["sfdisk", "--quiet", "--delete", str(image), "5"], check=True)
    table = parsed(torn(image.read_bytes(), 0, written[: 34 * 512]))
    assert "disagree" in table.problem and set(table.entries) == {1, 5}


def test_any_bytes_are_fine(written: bytes) -> None:
    chance = random.Random(5)
    for _round in range(300):
        data = bytearray(written)
        for _byte in range(chance.randrange(1, 40)):
            at = chance.choice((chance.randrange(34 * 512), SIZE - 1 - chance.randrange(33 * 512)))
            data[at] = chance.randrange(256)
        table = parsed(bytes(data))
        assert table is None or table.problem or table.entries == parsed(written).entries


@pytest.mark.parametrize(
    ("disk", "number", "path"),
    [
        ("/dev/disk/by-id/scsi-0A", 1, "/dev/disk/by-id/scsi-0A-part1"),
        ("/dev/nvme0n1", 12, "/dev/nvme0n1p12"),
        ("/dev/sda", 128, "/dev/sda128"),
        ("/dev/loop3", 2, "/dev/loop3p2"),
    ],
)
def test_paths_of_partitions(disk: str, number: int, path: str) -> None:
    assert partition.path(disk, number) == path and partition.split(path) == (disk, number)


def placed(written: bytes, *among: Any) -> Any:
    found = gptchange.place(parsed(written), among)
    return {
        n: span.code if isinstance(span, StorageError) else tuple(edge / MIB for edge in span)
        for n, span in found.items()
    }


def test_where_partitions_go(written: bytes) -> None:
    """Used: 1 to 11 MiB, 20 to 30 MiB, of 1 to 63 MiB."""
    for among, spans in (
        ([(2, None, 5 * MIB, False)], {2: (11, 16)}),
        ([(2, None, 10 * MIB, False)], {2: (30, 40)}),
        ([(2, None, None, False)], {2: (30, 63)}),
        ([(2, 12 * MIB, None, False)], {2: (12, 20)}),
        ([(2, 12 * MIB, 9 * MIB, False)], {2: "no_space"}),
        ([(2, 5 * MIB, MIB, False)], {2: "no_space"}),
        ([(2, None, 34 * MIB, False)], {2: "no_space"}),
        ([(1, None, None, False)], {1: (1, 20)}),
        ([(1, None, 19 * MIB, False)], {1: (1, 20)}),
        ([(1, None, 20 * MIB, False)], {1: "no_space"}),
        ([(1, None, 3 * MIB, False)], {1: (1, 4)}),  # and refused, since that is smaller
        ([(1, 2 * MIB, None, False)], {1: "unsupported"}),
        ([(5, None, None, True), (1, None, None, False)], {1: (1, 63)}),
        ([(5, None, None, False), (9, None, 5 * MIB, False)], {9: (11, 16), 5: (20, 63)}),
        ([(2, None, 20 * MIB, False), (3, None, 13 * MIB, False)], {2: (30, 50), 3: (50, 63)}),
    ):
        assert placed(written, *among) == spans, among


NOISE = b"\xa5" * 4096


def left(written: bytes, kind: str) -> bytes:
    """What a disk may hold of which we know that a table was begun there."""
    empty = bytes(SIZE)
    return {
        "blank": empty,
        "wiped from the front": torn(empty, 2 * MIB, NOISE),
        "half of a first table": torn(torn(empty, 0, written[: 34 * 512]), 600, b"x"),
        "noise": torn(empty, 0, NOISE * 1024),
        "noise in one sector": torn(empty, 0, NOISE[:512]),
        "noise where the table goes": torn(empty, 512, NOISE),
        "noise behind the table": torn(torn(empty, 0, NOISE[:512]), 34 * 512, NOISE),
        "noise before the backup": torn(torn(empty, 0, NOISE[:512]), -33 * 512 - 4096, NOISE),
    }[kind]


KINDS = {"blank": True, "wiped from the front": True, "half of a first table": True, "noise": False}
KINDS.update({"noise where the table goes": False, "noise behind the table": False, "noise before the backup": False})


@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_that_a_table_was_begun_is_no_consent_to_what_came_later(
    arena: str, written: bytes, kind: str, wiped: bool
) -> None:
    """A wipe may leave what was there behind its zeros; once it is done, nobody but others can have put that there."""
    mine = KINDS[kind] and not (wiped and kind == "wiped from the front")
    with namespace.loop_device(namespace.image(arena + "/disk", SIZE)) as device:
        with open(device, "r+b") as stream:
            stream.write(left(written, kind))
        tables = gpt.Tables(execute, lambda: Intents(Record(arena + "/own")))
        tables.intents().begin(device, wiped=wiped)
        tables.resolve(device, {"label": "gpt"})
        row = tables.scan([device])[device]
        found = not isinstance(row, StorageError) and tables.risk(device, row, {"label": "gpt"}) == "forward"
        assert found is mine, row


@pytest.mark.parametrize("kind", ["table", "noise where the first copy goes", "iso9660"])
def test_a_copy_is_written_anew_only_where_nothing_else_came(arena: str, written: bytes, kind: str) -> None:
    """The backup tells what the table was; in place of the first copy is half of one, or something else."""
    there = {"table": torn(written, 600, b"x"), "iso9660": torn(torn(written, 512, bytes(16896)), 32769, b"CD001")}
    with namespace.loop_device(namespace.image(arena + "/disk", SIZE)) as device:
        with open(device, "r+b") as stream:
            stream.write(there.get(kind) or torn(written, 512, NOISE))
        tables = gpt.Tables(execute, lambda: Intents(Record(arena + "/own")))
        tables.intents().begin(device)
        tables.resolve(device, {"label": "gpt"})
        row = tables.scan([device])[device]
        assert isinstance(row, StorageError) is (kind != "table"), row
        assert kind == "table" or row.code == "checksum"
