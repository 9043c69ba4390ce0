# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lvm(8) reports, as it was recorded from LVM 2.03.31, and what a report that is none is told as."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2, lvm2change, lvm2content
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

RECORDED = {
    "report": [
        {
            "vg": [
                {
                    "vg_name": "data",
                    "vg_uuid": "tFOd59-QQqX-bD9C-fTu0-5SON-t0a0-dHRUzN",
                    "vg_size": "4290772992",
                    "vg_free": "4240441344",
                    "vg_extent_size": "4194304",
                    "vg_systemid": "",
                    "vg_exported": "",
                    "vg_lock_type": "",
                    "vg_missing_pv_count": "0",
                },
            ],
            "pv": [
                {
                    "pv_name": "/dev/sda",
                    "pv_size": "4290772992",
                    "pv_free": "4240441344",
                    "pv_used": "50331648",
                    "pv_missing": "",
                    "pv_duplicate": "",
                },
            ],
            "lv": [
                {
                    "lv_name": "home",
                    "lv_uuid": "agUn3m-oJS2-hWOc-eB0x-o5Xn-7gQI-3U5mm4",
                    "lv_size": "8388608",
                    "lv_metadata_size": "",
                    "pool_lv": "",
                    "origin": "",
                    "data_percent": "",
                    "metadata_percent": "",
                    "lv_tags": "bulkhead.new,bulkhead.share=40_VG,tenant=1",
                    "lv_active": "active",
                    "lv_device_open": "",
                    "lv_profile": "",
                    "lv_layout": "linear",
                    "lv_health_status": "",
                },
                {
                    "lv_name": "one",
                    "lv_uuid": "cIKArt-0ldb-RPbZ-OWjN-X6W3-akJd-daCrfI",
                    "lv_size": "16777216",
                    "lv_metadata_size": "",
                    "pool_lv": "pool",
                    "origin": "",
                    "data_percent": "0.00",
                    "metadata_percent": "",
                    "lv_tags": "",
                    "lv_active": "active",
                    "lv_device_open": "",
                    "lv_profile": "",
                    "lv_layout": "thin,sparse",
                    "lv_health_status": "",
                },
                {
                    "lv_name": "pool",
                    "lv_uuid": "VDkoA3-omfO-btC0-0WgJ-4Zf8-Z7wK-pVILgZ",
                    "lv_size": "33554432",
                    "lv_metadata_size": "4194304",
                    "pool_lv": "",
                    "origin": "",
                    "data_percent": "0.00",
                    "metadata_percent": "10.94",
                    "lv_tags": "",
                    "lv_active": "active",
                    "lv_device_open": "open",
                    "lv_profile": "",
                    "lv_layout": "thin,pool",
                    "lv_health_status": "",
                },
                {
                    "lv_name": "snap",
                    "lv_uuid": "2bkcDR-QYhe-g1jl-9cyk-iqP0-h3fW-mse207",
                    "lv_size": "16777216",
                    "lv_metadata_size": "",
                    "pool_lv": "pool",
                    "origin": "one",
                    "data_percent": "",
                    "metadata_percent": "",
                    "lv_tags": "",
                    "lv_active": "",
                    "lv_device_open": "unknown",
                    "lv_profile": "",
                    "lv_layout": "thin,sparse",
                    "lv_health_status": "",
                },
            ],
            "pvseg": [
                {"pvseg_start": "0"},
            ],
        },
        {
            "pv": [
                {
                    "pv_name": "/dev/sdb",
                    "pv_size": "4294967296",
                    "pv_free": "4294967296",
                    "pv_used": "0",
                    "pv_missing": "",
                    "pv_duplicate": "",
                },
            ],
            "pvseg": [
                {"pvseg_start": "0"},
            ],
        },
    ]
}


class Program:
    """Answers with what was recorded, and remembers what it was asked."""

    def __init__(self, rc: int = 0, out: Any = None, own: bytes = b"  system ID: \n") -> None:
        self.rc, self.out, self.own = rc, json.dumps(RECORDED if out is None else out).encode(), own
        self.asked: list[str] = []

    def __call__(self, argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        self.asked.append(argv[1])
        return (0, self.own, b"") if argv[1] == "systemid" else (self.rc, self.out, b"  a reason")


def ports(program: Program) -> dict[str, Any]:
    return {name: make() for name, make in lvm2.makers(program).items() if name != "superblock"}


def varied(**fields: str) -> Any:
    found = copy.deepcopy(RECORDED)
    found["report"][0]["vg"][0].update(fields)  # type: ignore[index]
    return found


def test_one_report_serves_every_port_of_a_look() -> None:
    program = Program()
    port = ports(program)
    group = port["vg"].scan(["data", "none"])["data"]["_group"]
    assert (group["size"], group["free"], group["extent"], group["problem"]) == (4290772992, 4240441344, 4194304, None)
    rows = port["lv"].scan(["/dev/data/home", "/dev/data/one", "/dev/data/none", "/dev/none/home"])
    assert {k: v for k, v in rows["/dev/data/home"].items() if k[0] != "_"} == {
        "size": 8388608,
        "share": "40%VG",
        "thin_pool": None,
        "tags": ("tenant=1",),
        "active": True,
        "unfinished": True,
    }
    assert (rows["/dev/data/one"]["thin_pool"], len(rows)) == ("pool", 2)
    pool = port["thin_pool"].scan([("data", "pool"), ("data", "none")])
    assert {k: v for k, v in pool["data", "pool"].items() if k[0] != "_"} == {
        "size": 33554432,
        "metadata_size": 4194304,
        "share": None,
        "autoextend_threshold": None,
    }
    assert program.asked == ["fullreport"]
    port["lv"].scan(["/dev/data/home"])  # a second time: another look
    assert program.asked == ["fullreport"] * 2


def test_a_pool_is_no_volume_and_a_volume_no_pool() -> None:
    port = ports(Program())
    assert port["lv"].scan(["/dev/data/pool"])["/dev/data/pool"].code == "conflict"
    assert port["thin_pool"].scan([("data", "home")])["data", "home"].code == "conflict"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"vg_missing_pv_count": "1"}, "unreadable"),
        ({"vg_exported": "exported"}, "protected"),
        ({"vg_lock_type": "sanlock"}, "in_use"),
        ({"vg_lock_type": "none"}, None),
        ({"vg_systemid": "elsewhere"}, "protected"),
        ({"vg_systemid": "here"}, None),
    ],
)
def test_groups_that_are_not_ours_to_change(fields: dict[str, str], code: str | None) -> None:
    group = ports(Program(out=varied(**fields), own=b"  system ID: here\n"))["vg"].scan(["data"])["data"]["_group"]
    assert (group["problem"] or [None])[0] == code


def test_two_groups_of_one_name() -> None:
    twice = {"report": [RECORDED["report"][0]] * 2}
    assert ports(Program(out=twice))["vg"].scan(["data"])["data"]["_group"]["problem"][0] == "conflict"


@pytest.mark.parametrize("cut", [0, 1, 100, 1000])
def test_half_a_report_is_unreadable(cut: int) -> None:
    program = Program()
    program.out = program.out[:cut]
    with pytest.raises(StorageError, match="a reason") as caught:
        ports(program)["vg"].scan(["data"])
    assert caught.value.code == "unreadable"


def test_a_report_that_failed_is_unreadable_though_it_looks_whole() -> None:
    with pytest.raises(StorageError, match="rc 5"):
        ports(Program(rc=5))["vg"].scan(["data"])


def test_risks_and_doors_of_a_volume() -> None:
    port = ports(Program())["lv"]
    row = {"size": 8, "share": None, "thin_pool": None, "tags": (), "active": True}
    shut, new = {**row, "active": False}, {**row, "unfinished": True}
    steps = [(None, row), (shut, row), (row, shut), (row, {**row, "size": 9}), (row, {**row, "size": 7}), (row, None)]
    assert [port.risk("/dev/a/b", *step) for step in steps] == [
        "forward",
        "reversible",
        "reversible",
        "forward",
        "shrinks",
        "destroys",
    ]
    assert [port.lowers("/dev/a/b", *step) for step in steps] == [False, False, True, False, True, True]
    assert [port.opens("/dev/a/b", *step) for step in steps] == ["empty", "unknown", None, None, None, None]
    assert (port.opens("/dev/a/b", new, row), port.same("/dev/a/b", new, row)) == ("empty", False)
    assert port.risk("/dev/a/b", {**row, "_blank": True}, None) == "forward"
    assert port.merge("/dev/a/b", row, {"share": "9%FREE", "size": UNKNOWN})["size"] is UNKNOWN


def test_a_pool_that_has_grown_is_as_declared() -> None:
    port = ports(Program())["thin_pool"]
    row = {"size": 96, "metadata_size": 8, "share": None, "autoextend_threshold": 80}
    assert port.same(("a", "b"), row, {"size": 64, "metadata_size": 4, "autoextend_threshold": 80})
    assert not port.same(("a", "b"), row, {"size": 100})
    assert not port.same(("a", "b"), row, {"size": 64, "autoextend_threshold": None})
    assert port.merge(("a", "b"), row, {"size": 64, "metadata_size": 16}) == {**row, "metadata_size": 16}


def test_one_volume_is_told_as_the_report_tells_it_and_a_failure_is_no_absence() -> None:
    """As ``lvm lvs`` of LVM 2.03.31 answers."""
    told: list[tuple[int, bytes, bytes]] = []
    lvm = lvm2.Lvm2(lambda argv, stdin, timeout: told.pop())
    whole = lvm2.parse(copy.deepcopy(RECORDED))["groups"]["data"]["lvs"]["home"]
    row = RECORDED["report"][0]["lv"][0]  # type: ignore[index]
    told.append((0, json.dumps({"report": [{"lv": [row]}]}).encode(), b""))
    assert lvm2change.volume(lvm, "data/home") == whole
    for said in ('Failed to find logical volume "data/none"', 'Volume group "none" not found'):
        log = [{"log_seq_num": "1", "log_type": "error", "log_message": said, "log_errno": "-1", "log_ret_code": "0"}]
        told.append((5, json.dumps({"report": [{"lv": []}], "log": log}).encode(), b""))
        assert lvm2change.volume(lvm, "data/none") is None
    for answer in ((5, b"", b"  Cannot access VG data with system ID there with local system ID here.\n"),
                   (0, b'{"report": [{"lv": []}]}', b""), (0, b"{", b"")):  # fmt: skip
        told.append(answer)
        with pytest.raises(StorageError) as caught:
            lvm2change.volume(lvm, "data/home")
        assert caught.value.code == "unreadable"


def test_a_volume_that_grows_is_asked_about_alone() -> None:
    """Not the whole report again for each of many; and one that is another by now is left alone."""
    row = RECORDED["report"][0]["lv"][1]  # type: ignore[index]
    program = Program(out={"report": [{"lv": [row]}]})
    port = ports(program)["lv"]
    before = {"size": 16777216, "share": None, "thin_pool": "pool", "tags": (), "active": True}
    port.put("/dev/data/one", before, {**before, "size": 33554432})
    assert program.asked == ["lvs", "-L"], "lvm lvs, then lvextend"
    with pytest.raises(StorageError) as caught:
        port.put("/dev/data/one", {**before, "size": 8388608}, {**before, "size": 33554432})
    assert caught.value.code == "moved" and program.asked[2:] == ["lvs"]


def renamed(**names: str) -> Any:
    """The report with volumes under other names."""
    text = copy.deepcopy(RECORDED)
    for row in text["report"][0]["lv"]:
        row["lv_name"] = names.get(row["lv_name"], row["lv_name"])
        row["lv_attr"] = "Vri---tz-k" if row["lv_name"][:2] == "s+" else "Vwi-a-tz--"
        if row["lv_name"][:2] == "r+":
            row["lv_tags"] = "bulkhead.restored=id/s,bulkhead.volume"
    return text


VOLUME, SAID = "/dev/data/v+a", {"restored": "id/s", "kept": "/dev/data/s+a+b"}


def test_a_volume_without_a_name_is_what_its_restore_left() -> None:
    found = ports(Program(out=renamed(one="r+a", snap="s+a+b")))
    assert found["lv"].scan([VOLUME, "/dev/data/home"])[VOLUME]["tags"] == ("bulkhead.volume",)
    row = found["lv"].scan([VOLUME])[VOLUME]
    assert (row["active"], row["_restoring"]) == (False, True) and found["lv"].opens(VOLUME, row, {"active": True})
    found["lv"].want_entries = {VOLUME}
    found["lv"].books = lambda: SimpleNamespace(is_ours=lambda key: False)
    assert found["lv"].scan([VOLUME])[VOLUME]["active"] is True  # as it is where it is to go
    both = ports(Program(out=renamed(one="v+a", snap="r+a")))["lv"].scan([VOLUME])[VOLUME]
    assert both["active"] is True and both["_half"] is True and "_restoring" not in both
    assert "/dev/data/w+a" not in ports(Program(out=renamed(one="r+a")))["lv"].scan(["/dev/data/w+a"])


@pytest.mark.parametrize(
    "names,row",
    [
        ({}, None),
        ({"one": "v+a"}, {"restored": "", "sealed": True}),
        ({"one": "v+a", "snap": "s+a+b"}, {"restored": "", "sealed": True}),
        ({"one": "v+a", "home": "s+a+b"}, {"restored": "", "sealed": False}),  # active
        ({"one": "r+a", "snap": "s+a+b"}, {"restored": "", "sealed": False}),
    ],
)
def test_the_content_of_a_volume_is_told_by_its_mark(names: dict[str, str], row: Any) -> None:
    port = lvm2content.Content(lvm2.Lvm2(Program(out=renamed(**names))), lambda: None)
    port.resolve(VOLUME, SAID)
    found = port.scan([VOLUME]).get(VOLUME)
    assert found == (row and {**row, "_open": False})
    if found:
        assert port.same(VOLUME, {**found, "restored": "id/s", "sealed": True}, {**SAID, "sealed": True})
        assert not port.same(VOLUME, found, {**SAID, "sealed": True})
    refused = port.refuse(VOLUME, found and {**found, "_open": True}, SAID, set())
    assert refused is not None and refused.code == ("in_use" if found else "not_found")
    assert not found or port.refuse(VOLUME, {**found, "_open": True, "restored": "id/s"}, SAID, set()) is None
