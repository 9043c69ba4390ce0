# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of udev in a folder of the test. What udev makes of them is tested in a guest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.udev_rule import UdevRule
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.tests.support.namespace import image, loop_device

MIB = 1 << 20
KEPT = {"scheduler": "none", "read_ahead": MIB, "read_only": True, "intact": True}


def world(tmp_path: Path, device: str, serial: str) -> UdevRule:
    rdev = os.stat(device).st_rdev
    (tmp_path / "data").mkdir(exist_ok=True)
    text = "S:disk/by-id/x\nE:ID_SERIAL_SHORT=no\nE:ID_SERIAL=%s\nE:ID_BUS=scsi\n" % serial
    (tmp_path / "data" / ("b%d:%d" % (os.major(rdev), os.minor(rdev)))).write_text(text)
    return UdevRule(str(tmp_path / "rules"), str(tmp_path / "data"))


def test_a_rule_comes_and_goes(tmp_path: Path, arena: str) -> None:
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = world(tmp_path, device, "0QEMU_data1")
        assert port.scan([device]) == {} and port.refuse(device, None, KEPT, set()) is None
        port.put(device, None, KEPT)
        path = Path(port.file(device))
        assert path.name == "90-bulkhead-%s.rules" % os.path.basename(device) and path.stat().st_mode & 0o777 == 0o644
        head, rule = path.read_text().splitlines()
        assert head.startswith("# ") and rule == (
            'ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ENV{ID_SERIAL}=="0QEMU_data1", '
            'ATTR{queue/scheduler}="none", ATTR{queue/read_ahead_kb}="1024", '
            'RUN+="/usr/sbin/blockdev --setro $devnode"'
        )
        now = port.scan([device])[device]
        assert port.same(device, now, KEPT) and not port.same(device, now, {"read_only": True, "intact": True})
        with pytest.raises(StorageError) as caught:
            port.put(device, None, KEPT)
        assert caught.value.code == "moved"
        other = world(tmp_path, device, "another")
        assert other.scan([device])[device]["intact"] is False, "it is for another disk"
        path.write_text("# by hand\n")
        torn = other.scan([device])[device]
        assert {k: v for k, v in torn.items() if k[0] != "_"} == {"intact": False}
        other.put(device, torn, KEPT)
        assert "another" in path.read_text()
        other.put(device, other.scan([device])[device], torn)  # undone
        assert path.read_text() == "# by hand\n"
        other.put(device, other.scan([device])[device], None)
        assert os.listdir(str(path.parent)) == []


@pytest.mark.parametrize("serial", ["", "a*b", 'x", RUN+="/bin/sh', "a\tb", " a", "a "])
def test_a_serial_number_that_is_none(tmp_path: Path, arena: str, serial: str) -> None:
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = world(tmp_path, device, serial)
        error: Any = port.refuse(device, None, KEPT, set())
        assert error.code == "unsupported" and port.refuse(device, KEPT, None, set()) is None


def test_blanks_in_a_serial_number_are_its_own(tmp_path: Path, arena: str) -> None:
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = world(tmp_path, device, "Amazon Elastic Block Store_vol0123")
        assert port.refuse(device, None, KEPT, set()) is None
        port.put(device, None, KEPT)
        assert 'ENV{ID_SERIAL}=="Amazon Elastic Block Store_vol0123", ' in Path(port.file(device)).read_text()
        assert port.scan([device])[device]["intact"] is True


def test_a_disk_that_udev_has_only_named_yet(tmp_path: Path, arena: str) -> None:
    """Its links are there before what is known of it; without udev nothing will ever be known."""
    with loop_device(image(arena + "/i", 8 * MIB)) as device:
        port = UdevRule(str(tmp_path / "rules"), str(tmp_path / "data"))
        for running, expected in ((False, "unsupported"), (True, "not_found")):
            if running:
                (tmp_path / "control").touch()
            error: Any = port.refuse(device, None, KEPT, set())
            assert error.code == expected and error.details["option"] == "persist"
            error = port.refuse("/dev/disk/by-id/not-there-yet", None, KEPT, set())
            assert error.code == expected
        assert world(tmp_path, device, "0QEMU_data1").refuse(device, None, KEPT, set()) is None
        late: Any = world(tmp_path, device, "").refuse(device, None, KEPT, set())
        assert late.code == "unsupported", "it is known that there is none"


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "rules" / "90-bulkhead-x.rules").mkdir(parents=True)
    port = UdevRule(str(tmp_path / "rules"), str(tmp_path))
    assert isinstance(port.scan(["/dev/disk/by-id/x"])["/dev/disk/by-id/x"], StorageError)
    assert port.file("/dev/disk/by-id/a b\n") == str(tmp_path / "rules" / "90-bulkhead-a+20+b+a+.rules")
