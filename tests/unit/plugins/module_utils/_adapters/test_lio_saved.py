# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""saveconfig.json: what rtslib wrote (2.1.76, cut short), what others left there, and what we make of it."""

from __future__ import annotations

import copy
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import LioSaved
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_savedchange import changed
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret, state_of

IQN, ME = "iqn.2026-01.org.x:a", "iqn.1993-08.org.debian:me"
WRITTEN: dict[str, Any] = {
    "fabric_modules": [],
    "storage_objects": [
        {
            "aio": False,
            "alua_tpgs": [{"name": "default_tg_pt_gp", "tg_pt_gp_id": 0}],
            "attributes": {"block_size": 512, "emulate_write_cache": 1},
            "dev": "/root/t.img",
            "name": "lun0",
            "plugin": "fileio",
            "size": 134217728,
            "write_back": True,
            "wwn": "abc-def",
        }
    ],
    "targets": [
        {
            "fabric": "iscsi",
            "parameters": {"cmd_completion_affinity": "-1"},
            "tpgs": [
                {
                    "attributes": {"authentication": 1, "default_erl": 0, "generate_node_acls": 0},
                    "enable": True,
                    "luns": [
                        {
                            "alias": "aaaa",
                            "alua_tg_pt_gp_name": "default_tg_pt_gp",
                            "index": 0,
                            "storage_object": "/backstores/fileio/lun0",
                        }
                    ],
                    "node_acls": [
                        {
                            "attributes": {"authentication": -1, "dataout_timeout": 3},
                            "chap_password": "secretsecret",
                            "chap_userid": "user",
                            "mapped_luns": [{"alias": "bbbb", "index": 0, "tpg_lun": 0, "write_protect": False}],
                            "node_wwn": ME,
                        }
                    ],
                    "parameters": {"AuthMethod": "CHAP"},
                    "portals": [
                        {"ip_address": "[::1]", "iser": False, "offload": False, "port": 3261},
                        {"ip_address": "0.0.0.0", "iser": False, "offload": False, "port": 3260},
                    ],
                    "tag": 1,
                }
            ],
            "wwn": IQN,
        }
    ],
}
CHAP = {"username": "user", "password": Secret("secretsecret"), "mutual_username": None, "mutual_password": None}
VALUE: dict[str, Any] = {
    "luns": {"0": {"plugin": "fileio", "path": "/root/t.img", "size": 134217728, "serial": "abc-def"}},
    "portals": ("0.0.0.0:3260", "[::1]:3261"),
    "initiators": {ME: {**CHAP, "luns": ("0",), "own_rule": None}},
    "authentication": True,
    "demo_mode": False,
    "enabled": True,
    "leftover": (),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "saveconfig.json"
    path.write_text(text(WRITTEN), encoding="ascii")
    return path


def text(document: Any) -> str:
    """As rtslib does."""
    return json.dumps(document, sort_keys=True, indent=2) + "\n"


def test_what_rtslib_wrote_is_understood(file: Path) -> None:
    assert state_of(LioSaved(str(file)).scan([IQN])[IQN]) == VALUE
    assert LioSaved(str(file)).scan([IQN[:-1], IQN + "a"]) == {}
    assert list(LioSaved(str(file)).scan()) == [IQN]


def test_a_rule_that_one_initiator_has_for_itself_is_seen(file: Path) -> None:
    document = copy.deepcopy(WRITTEN)
    document["targets"][0]["tpgs"][0]["node_acls"][0]["attributes"]["authentication"] = 0
    file.write_text(text(document), encoding="ascii")
    port = LioSaved(str(file))
    assert port.scan([IQN])[IQN]["initiators"][ME]["own_rule"] == "0"
    port.put(IQN, port.scan([IQN])[IQN], VALUE)
    assert state_of(port.scan([IQN])[IQN]) == VALUE


def test_what_is_as_declared_is_written_as_it_was(file: Path) -> None:
    """But for what we say of it beside that: everything else of an entry stays."""
    new = changed(WRITTEN, IQN, VALUE)
    group, old = new["targets"][0]["tpgs"][0], WRITTEN["targets"][0]["tpgs"][0]
    assert group["parameters"] == old["parameters"] and group["attributes"]["default_erl"] == 0
    assert group["node_acls"][0]["attributes"]["dataout_timeout"] == 3
    assert group["luns"][0]["alua_tg_pt_gp_name"] == "default_tg_pt_gp"
    assert new["storage_objects"][0]["attributes"] == WRITTEN["storage_objects"][0]["attributes"]


def test_a_password_that_is_no_longer_declared_is_gone(file: Path) -> None:
    open_to = {**dict.fromkeys(CHAP), "luns": ("0",), "own_rule": None}
    port = LioSaved(str(file))
    wanted = {**VALUE, "initiators": {ME: open_to}, "authentication": False}
    port.put(IQN, port.scan([IQN])[IQN], wanted)
    assert "secretsecret" not in file.read_text() and "chap_" not in file.read_text()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_others_stay_byte_for_byte(file: Path) -> None:
    before, port, mine = file.read_bytes(), LioSaved(str(file)), IQN + ":mine"
    lun = {"plugin": "iblock", "path": "/dev/a/b", "size": None, "serial": "0" * 32}
    port.put(mine, None, {**VALUE, "luns": {"4": lun}, "initiators": {}})
    assert port.scan([mine])[mine]["luns"] == {"4": lun}
    assert json.loads(file.read_text())["targets"][0] == WRITTEN["targets"][0]
    port.put(mine, port.scan([mine])[mine], None)
    assert file.read_bytes() == before


def test_a_file_of_ours_goes_with_its_last_target(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "saveconfig.json"
    port = LioSaved(str(path))
    port.put(IQN, None, VALUE)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    port.put(IQN, port.scan([IQN])[IQN], None)
    assert not path.exists()


def test_a_storage_object_that_others_serve_too_stays(file: Path) -> None:
    document = copy.deepcopy(WRITTEN)
    document["storage_objects"][0]["name"] = IQN + ":lun0"
    spot = "/backstores/fileio/%s:lun0" % IQN
    for wwn in (IQN, IQN + ":other"):
        entry = copy.deepcopy(WRITTEN["targets"][0])
        entry["wwn"] = wwn
        entry["tpgs"][0]["luns"][0]["storage_object"] = spot
        document["targets"].append(entry)
    del document["targets"][0]
    assert [each["wwn"] for each in changed(document, IQN, None)["targets"]] == [IQN + ":other"]
    assert len(changed(document, IQN, None)["storage_objects"]) == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"[]",
        b"null",
        b'"secret"',
        b"\xff",
        b'{"targets": {}}',
        b'{"targets": ["secret"]}',
        b'{"storage_objects": [1]}',
        b'{"targets": [{"wwn": "%s", "fabric": "iscsi", "tpgs": ["secret"]}]}' % IQN.encode(),
        b'{"targets": [{"wwn": "%s", "fabric": "iscsi", "tpgs": [{"tag": 1, "luns": 3}]}]}' % IQN.encode(),
        b'{"targets": [{"wwn": "%s", "fabric": "iscsi", "tpgs": [{"tag": 1, "node_acls": ["s"]}]}]}' % IQN.encode(),
    ],
)
def test_what_is_not_understood_is_unreadable_and_stays(file: Path, broken: bytes) -> None:
    file.write_bytes(broken)
    for action in (lambda: LioSaved(str(file)).scan([IQN]), lambda: LioSaved(str(file)).put(IQN, None, VALUE)):
        with pytest.raises(StorageError) as caught:
            action()
        assert caught.value.code == "unreadable" and "secret" not in str(caught.value.as_dict())
    assert file.read_bytes() == broken
