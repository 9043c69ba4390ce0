# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel showed (Linux 6.12, configfs), and what of it nobody should believe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import LioTarget, canonical
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret, state_of

IQN, ME = "iqn.2026-01.org.x:a", "iqn.1993-08.org.debian:me"
FILEIO = (
    "Status: ACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 16384\n"
    "        TCM FILEIO ID: 0        File: /srv/a  b.img  Size: 1048576  Mode: O_DSYNC Async: 0\n"
)
IBLOCK = (
    "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 65528\n"
    "        iBlock device: sda  UDEV PATH: /dev/disk/by-id/x  readonly: 0\n"
    "        Major: 8 Minor: 0  CLAIMED: IBLOCK\n"
)
NOBODY = "No active iSCSI Session for Initiator Endpoint: %s\n" % ME


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A target with a LUN of each kind, and one initiator that sees both."""
    root = tmp_path / "target"
    group = root / "iscsi" / IQN / "tpgt_1"
    for hba, name, info, serial in (("fileio_0", IQN + ":lun0", FILEIO, "aa"), ("iblock_3", "theirs", IBLOCK, "bb")):
        write(root / "core" / hba / name / "info", info)
        write(root / "core" / hba / name / "wwn" / "vpd_unit_serial", "T10 VPD Unit Serial Number: %s\n" % serial)
    acl = group / "acls" / ME
    for number, spot in (("0", "fileio_0/%s:lun0" % IQN), ("12", "iblock_3/theirs")):
        for folder in (group / "lun" / ("lun_" + number), acl / ("lun_" + number)):
            folder.mkdir(parents=True)
        os.symlink(root / "core" / spot, group / "lun" / ("lun_" + number) / "0a1b2c3d4e")
        os.symlink(group / "lun" / ("lun_" + number), acl / ("lun_" + number) / "x")
        write(acl / ("lun_" + number) / "write_protect", "0\n")
    for name, text in (
        ("userid", "user"),
        ("password", "secretsecret"),
        ("userid_mutual", ""),
        ("password_mutual", ""),
    ):
        write(acl / "auth" / name, text + "\n")
    write(acl / "info", NOBODY)
    write(acl / "attrib" / "authentication", "-1\n")
    for name, value in (("authentication", 1), ("generate_node_acls", 0), ("cache_dynamic_acls", 0)):
        write(group / "attrib" / name, "%d\n" % value)
    write(group / "enable", "1\n")
    write(group / "dynamic_sessions", "")
    (group / "np" / "[0:0::1]:3260").mkdir(parents=True)
    write(root / "iscsi" / "discovery_auth" / "userid", "\n")
    return tmp_path


def row(tree: Path, target: str = IQN) -> Any:
    return LioTarget(root=str(tree), modules=str(tree / "none")).row(target)


def test_what_the_kernel_showed_is_understood(tree: Path) -> None:
    chap = {"username": "user", "password": Secret("secretsecret"), "mutual_username": None, "mutual_password": None}
    assert state_of(row(tree)) == {
        "luns": {
            "0": {"plugin": "fileio", "path": "/srv/a  b.img", "size": 1048576, "serial": "aa"},
            "12": {"plugin": "iblock", "path": "/dev/disk/by-id/x", "size": None, "serial": "bb"},
        },
        "portals": ("[::1]:3260",),
        "initiators": {ME: {**chap, "luns": ("0", "12"), "own_rule": None}},
        "authentication": True,
        "demo_mode": False,
        "enabled": True,
        "leftover": (),
    }
    assert row(tree)["_sessions"] == [] and row(tree, IQN + ":b") is None and row(tree, IQN[:-1]) is None
    assert list(LioTarget(root=str(tree)).scan()) == [IQN]


def test_who_is_logged_in(tree: Path) -> None:
    group = tree / "target" / "iscsi" / IQN / "tpgt_1"
    write(group / "acls" / ME / "info", "InitiatorName: %s\nSession State: TARG_SESS_STATE_LOGGED_IN\n" % ME)
    write(group / "dynamic_sessions", "iqn.a\0iqn.b\n")
    assert row(tree)["_sessions"] == sorted([ME, "iqn.a", "iqn.b"])


@pytest.mark.parametrize("word", ["NULL", "NULLify", ""])
def test_what_the_kernel_takes_for_no_password_is_none(tree: Path, word: str) -> None:
    write(tree / "target" / "iscsi" / IQN / "tpgt_1" / "acls" / ME / "auth" / "password", word + "\n")
    assert row(tree)["initiators"][ME]["password"] is None


@pytest.mark.parametrize("name", ["generate_node_acls", "cache_dynamic_acls"])
def test_an_open_door_is_seen(tree: Path, name: str) -> None:
    write(tree / "target" / "iscsi" / IQN / "tpgt_1" / "attrib" / name, "1\n")
    assert row(tree)["demo_mode"] is True


def test_what_an_initiator_sees_otherwise_is_told(tree: Path) -> None:
    acl = tree / "target" / "iscsi" / IQN / "tpgt_1" / "acls" / ME
    write(acl / "lun_0" / "write_protect", "1\n")
    os.unlink(acl / "lun_12" / "x")
    write(acl / "attrib" / "authentication", "0\n")
    seen = row(tree)["initiators"][ME]
    assert (seen["luns"], seen["own_rule"]) == (("0 read-only", "12 is nothing"), "0")


def test_what_a_killed_run_left_is_known_by_its_name(tree: Path) -> None:
    os.unlink(tree / "target" / "iscsi" / IQN / "tpgt_1" / "lun" / "lun_0" / "0a1b2c3d4e")
    seen = row(tree)
    assert (list(seen["luns"]), seen["leftover"]) == (["12"], (IQN + ":lun0",))
    os.rename(tree / "target" / "iscsi" / IQN, tree / "target" / "iscsi" / (IQN + "x"))
    assert row(tree)["leftover"] == (IQN + ":lun0",) and not row(tree)["enabled"]
    assert row(tree, IQN + ":lun0") is None


def test_where_nobody_can_see_it_nothing_is_said_to_be_absent(tmp_path: Path) -> None:
    assert LioTarget(root=str(tmp_path), modules=str(tmp_path / "modules")).scan([IQN]) == {}
    (tmp_path / "modules" / "target_core_mod").mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        LioTarget(root=str(tmp_path), modules=str(tmp_path / "modules")).scan([IQN])
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize(
    ("portal", "name"),
    [("[0:0::1]:3260", "[::1]:3260"), ("10.0.0.1:1", "10.0.0.1:1"), ("x", "x"), ("[::]:3260", "[::]:3260")],
)
def test_a_portal_has_one_name(portal: str, name: str) -> None:
    assert canonical(portal) == name
