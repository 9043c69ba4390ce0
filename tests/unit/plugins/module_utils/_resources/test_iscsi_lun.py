# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on a LUN, from before the login to after the logout; nothing is made under a name that nothing has."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell, Entry, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import World
from ansible_collections.bulkhead.storage.tests.unit.world import Ground, Mounts, Nodes, Rows

IQN = "iqn.2026-01.org.example:disks"
LUN = {"iscsi": IQN, "lun": 0}
NOWHERE = "/dev/iscsi/%s/lun0" % IQN
DISK = "/dev/disk/by-id/scsi-36001405aaaa"
SERVED = {"0": {"path": DISK, "size": 1 << 30}}
STACK = {
    "filesystems": [{"device": LUN, "fstype": "ext4"}],
    "mounts": [{"path": "/mnt/a", "source": LUN, "fstype": "ext4"}],
}


FILESYSTEM = {"filesystems": [{"device": LUN, "fstype": "ext4"}]}
OTHERS: dict[str, dict[str, Any]] = {
    "luks_devices": {"device": LUN, "name": "vault", "key_file": "/k", "nofail": True},
    "block_devices": {"device": LUN, "label": "gpt", "partitions": [{"number": 1}], "read_ahead": "1MiB"},
    "io_limits": {"name": "slow", "device": LUN, "read_iops": 100},
    "volume_groups": {
        "vg": "data",
        "pvs": [LUN, "/dev/disk/by-id/virtio-1"],
        "lvs": [{"name": "home", "size": "1GiB"}],
    },
}


class Sessions(Rows):
    """Who logs in finds what is served then."""

    def __init__(self, ground: Ground) -> None:
        super().__init__("iscsi_session", ground, behind=False)
        self.served: dict[str, Any] = SERVED

    def put(self, target: Any, before: Any, after: Any) -> None:
        super().put(target, before, after)
        if after is not None:
            self.ground.rows[self.name, target] = {**after, "luns": dict(self.served)}

    def same(self, target: Any, now: Any, declared: Any) -> bool:
        return set(declared["_wanted"]) <= set(now["luns"])

    def merge(self, target: Any, now: Any, declared: Any) -> Any:
        return {**declared, "luns": UNKNOWN}

    def opens(self, target: Any, before: Any, after: Any) -> str | None:
        return "unknown" if after is not None else None


def session_unit(p: dict[str, Any], look: Any) -> Unit:
    value = {"luns": UNKNOWN, "_wanted": [str(lun) for lun in p["luns"] or ()]} if p["state"] == "connected" else None
    cells = (Cell("iscsi_session", p["target"], value),) if p["state"] != "present" else ()
    return Unit(("iscsi_session", p["target"]), cells, provides=(("iscsi", p["target"]),))


SESSION = SimpleNamespace(KIND="iscsi_session", LIST="iscsi_sessions", label=lambda p: p["target"], unit=session_unit)


@pytest.fixture
def ground() -> Ground:
    """What is on the disk lies behind the session."""
    ground = Ground(lambda spot: ("iscsi_session", IQN) if spot == ("superblock", DISK) else None)
    Sessions(ground)
    Rows("superblock", ground, forward=True, replaced=("fstype",), destroys="wipe_token")
    Mounts(
        "mount", ground, behind=False, door="unknown", stands=lambda target, value: [("superblock", value["source"])]
    )
    Nodes("node", ground)
    ground.rows["node", "/mnt"] = {"type": "directory"}
    for name in ("fstab", "unit", "crypttab", "udev_rule", "iscsi_node"):
        Rows(name, ground, behind=False)
    for name in ("luks", "mapping", "gpt", "partition", "block", "pv", "vg", "io_kept", "io_dropin", "io_max"):
        Rows(name, ground)
    return ground


def entries(document: dict[str, Any], **session: Any) -> list[Entry]:
    found, errors = _kinds.entries(document, {"allow_unstable_device": False}, set())
    assert not errors, errors
    if session:
        found.append(
            Entry("session", SESSION, {"target": IQN, "luns": None, "state": document.get("state"), **session})
        )
    return found


def run(ground: Ground, listed: list[Entry], check: bool = False) -> reconcile.Report:
    options = reconcile.Options(check=check, workers=1)
    return reconcile.converge(
        lambda look: reconcile.declare(look, listed, []), ground.ports, options, time.perf_counter
    )


def refused(ground: Ground, listed: list[Entry]) -> StorageError:
    with pytest.raises(Refusals) as caught:
        run(ground, listed)
    assert ground.puts == 0
    return caught.value.errors[0]


def puts(ground: Ground) -> list[Any]:
    return ["%s%s" % ("-" if after is None else "+", spot[0]) for spot, _before, after in ground.log]


UP = entries(STACK, luns=[0], state="connected")


def test_from_the_login_to_the_mount_in_one_run(ground: Ground) -> None:
    foreseen = run(ground, UP, check=True)
    assert [(row["port"], row["target"], row["before"]) for row in foreseen.listed] == [
        ("iscsi_session", IQN, None),
        ("superblock", NOWHERE, "UNKNOWN"),
        ("fstab", "/etc/fstab /mnt/a", "UNKNOWN"),
        ("node", "/mnt/a", None),
        ("mount", "/mnt/a", "UNKNOWN"),
    ]
    assert ground.puts == 0
    report = run(ground, UP)
    assert report.errors == [] and (report.listed, report.digest) == (foreseen.listed, foreseen.digest)
    assert report.summary == {"planned": 5, "applied": 5, "failed": 0, "undone": 0, "kept": 0, "skipped": 0}
    assert NOWHERE not in str(ground.log), "nothing is made under a name that nothing has"
    assert puts(ground) == ["+iscsi_session", "+superblock", "+fstab", "+node", "+mount"]
    assert ground.rows["fstab", ("/etc/fstab", "/mnt/a")] == {"source": DISK, "fstype": "ext4", "options": "_netdev"}
    assert ground.rows["mount", "/mnt/a"]["source"] == DISK and ("superblock", DISK) in ground.rows
    done = ground.puts
    again = run(ground, UP)
    assert (again.listed, again.errors, ground.puts) == ([], [], done)
    shown = [entry.resource.show(entry.params, {**again.rows, "done": {}}) for entry in UP[:2]]
    assert [shown[0]["device"], shown[1]["source"]] == [DISK, DISK]


def test_what_stands_on_another_lun_of_the_session_is_looked_at_again(ground: Ground) -> None:
    """It may have grown. What does not differ then is left alone."""
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    run(ground, entries(STACK))
    done = len(ground.log)
    ground.ports["iscsi_session"].served = {**SERVED, "1": {"path": DISK + "1"}}  # type: ignore[attr-defined]
    listed = entries(STACK, luns=[0, 1], state="connected")
    foreseen = run(ground, listed, check=True)
    assert [(row["port"], row["before"]) for row in foreseen.listed[1:]] == [("superblock", "UNKNOWN")]
    assert run(ground, listed).errors == [] and puts(ground)[done:] == ["+iscsi_session"]


def test_what_is_not_blank_closes_the_session_again(ground: Ground) -> None:
    """And no line of fstab tells of it."""
    ground.rows["superblock", DISK] = {"fstype": "xfs", "fills": True}
    before = ground.snapshot()
    report = run(ground, UP)
    assert [(e.code, e.entry) for e in report.errors] == [("not_blank", "filesystems[0] (%s)" % entry(LUN))]
    assert "kept" not in report.errors[0].details
    assert ground.snapshot() == before and puts(ground) == ["+iscsi_session", "-iscsi_session"]


def entry(lun: dict[str, Any]) -> str:
    return "iscsi %(iscsi)s lun %(lun)s" % lun


def test_where_nobody_can_log_in_nothing_else_happens(ground: Ground) -> None:
    def fault(count: int, spot: Any) -> None:
        raise StorageError("unreachable", "nobody answers")

    ground.before_put = fault
    for document in (STACK, {"mounts": STACK["mounts"]}, {"mounts": [{**STACK["mounts"][0], "state": "present"}]}):
        report = run(ground, entries(document, luns=[0], state="connected"))
        assert [(e.code, e.entry) for e in report.errors] == [("unreachable", "session")]
        assert report.summary["applied"] == 0 and ground.log == []


@pytest.mark.parametrize("state", ["mounted", "present"])
def test_a_login_that_brings_nothing_writes_nothing(ground: Ground, state: str) -> None:
    """Not even what needs nothing but a name: a line of fstab."""
    ground.ports["iscsi_session"].served = {}  # type: ignore[attr-defined]
    listed = entries({"mounts": [{**STACK["mounts"][0], "state": state}]}, luns=[0], state="connected")
    report = run(ground, listed)
    assert [e.code for e in report.errors] == ["did_not_settle"]
    assert set(puts(ground)) == {"+iscsi_session"} and report.summary["skipped"] >= 1


def test_a_login_that_brings_another_lun_is_closed_again(ground: Ground) -> None:
    ground.ports["iscsi_session"].served = {"1": SERVED["0"]}  # type: ignore[attr-defined]
    report = run(ground, entries(STACK, state="connected"))
    assert {(e.code, e.message) for e in report.errors} == {("not_found", "the session with %s has no LUN 0" % IQN)}
    assert "list it in luns" in report.errors[0].hint and puts(ground) == ["+iscsi_session", "-iscsi_session"]


def test_a_lun_that_is_served_later_is_looked_for(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": {}}
    assert refused(ground, entries(STACK)).code == "not_found", "it is not told to be there"
    assert refused(ground, entries(STACK, state="connected")).code == "not_found"
    report = run(ground, UP)
    assert report.errors == [] and puts(ground)[0] == "+iscsi_session" and len(ground.log) == 5


def test_all_of_it_goes_from_the_mount_to_the_logout(ground: Ground) -> None:
    down = entries({**STACK, "state": "absent"}, state="disconnected")
    for each in down:
        each.params["wipe_token"] = "token of " + DISK
    run(ground, UP)
    ground.log.clear()
    foreseen = run(ground, down, check=True)
    report = run(ground, down)
    assert report.errors == [] and report.digest == foreseen.digest
    assert puts(ground) == ["-mount", "-fstab", "-superblock", "-iscsi_session"] or puts(ground)[-2:] == [
        "-superblock", "-iscsi_session"
    ]  # fmt: skip
    done = ground.puts
    again = run(ground, down)
    assert (again.errors, again.listed, ground.puts) == ([], [], done), "it went with the session"


def test_what_is_to_go_behind_the_login_goes(ground: Ground) -> None:
    ground.rows["superblock", DISK] = {"fstype": "ext4", "fills": True}
    listed = entries({"filesystems": [{"device": LUN, "state": "absent", "wipe_token": "token of " + DISK}]},
                     luns=[0], state="connected")  # fmt: skip
    assert [row["before"] for row in run(ground, listed, check=True).listed] == ["UNKNOWN", None]
    assert run(ground, listed).errors == [] and puts(ground) == ["+iscsi_session", "-superblock"]


def test_a_session_of_somebody_else_is_enough(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    report = run(ground, entries(STACK))
    assert report.errors == [] and puts(ground) == ["+superblock", "+fstab", "+node", "+mount"]
    assert ground.scans.count("iscsi_session") == 2, "one look, and one once all is done"


def test_one_look_for_all_sessions(ground: Ground) -> None:
    names = [IQN + ":%d" % number for number in range(3)]
    ground.rows.update({("iscsi_session", name): {"luns": SERVED} for name in names})
    listed = entries({"filesystems": [{"device": {"iscsi": name, "lun": 0}, "fstype": "xfs"} for name in names[:2]]})
    run(ground, listed[:1] + entries({}, target=names[2], state="connected"), check=True)
    assert ground.scans.count("iscsi_session") == 1
    ground.scans.clear()
    with pytest.raises(Refusals):  # one device, three names
        run(ground, listed, check=True)
    assert ground.scans.count("iscsi_session") == 1


@pytest.mark.parametrize("name", ["filesystems", *sorted(OTHERS)])
def test_it_has_one_name_in_every_stage(ground: Ground, name: str) -> None:
    """What failed in one is known in the next."""
    listed = entries({name: [{**FILESYSTEM["filesystems"][0]} if name == "filesystems" else OTHERS[name]]}, luns=[0],
                     state="connected")  # fmt: skip
    before = units(ground, listed)
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    after = units(ground, listed)
    assert [unit.key for unit in before] == [unit.key for unit in after] and before[0].behind and not after[0].behind
    assert before[0].entry == after[0].entry


UNMOUNTED = {"mounts": [{"path": "/mnt/a", "source": LUN, "state": "unmounted"}]}
GONE = {"mounts": [{"path": "/mnt/a", "source": LUN, "state": "absent"}]}


@pytest.mark.parametrize("session", [{}, {"state": "connected"}, {"state": "disconnected"}, {"state": "present"}])
def test_to_unmount_nobody_asks_for_the_lun(ground: Ground, session: dict[str, Any]) -> None:
    ground.rows["fstab", ("/etc/fstab", "/mnt/a")] = {"source": DISK, "fstype": "ext4", "options": "_netdev"}
    for document, left in ((UNMOUNTED, True), (GONE, False)):
        report = run(ground, entries(document, **session))
        assert report.errors == [] and (("fstab", ("/etc/fstab", "/mnt/a")) in ground.rows) == left


NO_FILESYSTEM = {"filesystems": [{"device": LUN, "state": "absent"}]}
NOT_FOUND = ("not_found", "this host has no session with %s" % IQN)


@pytest.mark.parametrize(
    "document, session, code, message",
    [
        (FILESYSTEM, {}, *NOT_FOUND),
        (FILESYSTEM, {"state": "present"}, *NOT_FOUND),
        (FILESYSTEM, {"state": "disconnected"}, "conflict", "is declared disconnected, but this stands on its LUN 0"),
        (FILESYSTEM, {"state": "absent"}, "conflict", "is declared absent, but this stands on its LUN 0"),
        (NO_FILESYSTEM, {}, *NOT_FOUND),
        (NO_FILESYSTEM, {"state": "present"}, *NOT_FOUND),
    ],
)  # fmt: skip
def test_what_nobody_connects(ground: Ground, document: Any, session: Any, code: str, message: str) -> None:
    error = refused(ground, entries(document, **session))
    assert error.code == code and message in error.message, error


def test_what_stands_on_a_session_that_is_to_go(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    assert refused(ground, entries(FILESYSTEM, state="disconnected")).code == "conflict"


def test_a_lun_that_has_no_name_yet_is_not_there(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": {"0": {"path": "", "size": 1 << 30}}}
    assert refused(ground, entries(FILESYSTEM)).message == "the session with %s has no LUN 0" % IQN


def test_a_session_whose_portals_are_silent_is_none(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"portals": (), "luns": {}}
    error = refused(ground, entries(FILESYSTEM))
    assert (error.code, error.message) == NOT_FOUND
    assert run(ground, entries(FILESYSTEM, state="connected"), check=True).listed[0]["before"] == "UNKNOWN"


def test_a_session_that_nobody_can_look_at(ground: Ground) -> None:
    ground.ports["iscsi_session"].unreadable[IQN] = StorageError("unreadable", "no sysfs")
    assert refused(ground, entries(FILESYSTEM)).code == "unreadable"


@pytest.mark.parametrize(
    "device",
    [
        5, [DISK], {}, {"iscsi": IQN}, {"lun": 0}, {**LUN, "part": 1}, {**LUN, "lun": -1}, {**LUN, "lun": 65536},
        {**LUN, "lun": "x"}, {**LUN, "lun": True}, {**LUN, "lun": None}, {**LUN, "lun": "\u0661"}, {**LUN, "lun": 0.0},
        {**LUN, "lun": "123456"}, {**LUN, "lun": "9" * 5000},
        {**LUN, "iscsi": "disks"}, {**LUN, "iscsi": IQN.upper()}, {**LUN, "iscsi": "-p"},
        {**LUN, "iscsi": None}, {**LUN, "iscsi": IQN + "/../x"},
    ],
)  # fmt: skip
def test_what_is_no_lun(ground: Ground, device: Any) -> None:
    for document in (
        {"filesystems": [{"device": device, "fstype": "ext4"}]},
        {"mounts": [{"path": "/mnt/a", "source": device, "fstype": "ext4"}]},
        {"mounts": [{"path": "/mnt/a", "source": device, "state": "absent"}]},
        {"luks_devices": [{"device": device, "name": "v", "key_file": "/k"}]},
        {"block_devices": [{"device": device, "label": "gpt"}]},
        {"io_limits": [{"name": "a", "device": device, "read_iops": 5}]},
        {"volume_groups": [{"vg": "data", "pvs": [device]}]},
    ):
        error = refused(ground, entries(document))
        assert error.code == "invalid" and error.details["option"] in ("device", "source", "pvs"), error


def test_a_number_may_be_written_as_a_text(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    made = run(ground, entries({"filesystems": [{"device": {**LUN, "lun": "0"}, "fstype": "ext4"}]}))
    assert made.listed[0]["target"] == DISK


def test_a_lun_is_not_bound(ground: Ground) -> None:
    error = refused(ground, entries({"mounts": [{"path": "/mnt/a", "source": LUN, "bind": True}]}, state="connected"))
    assert error.code == "invalid" and error.details["option"] == "source"


@pytest.mark.parametrize(
    "before, options, after",
    [
        (None, None, "_netdev"),
        (None, ["noatime"], "noatime,_netdev"),
        (None, [], "_netdev"),
        (None, ["_netdev", "noatime"], "_netdev,noatime"),
        ("noatime,nofail", None, "noatime,nofail,_netdev"),
        ("_netdev,noatime", None, "_netdev,noatime"),
        ("_netdev,noatime", ["noatime"], "_netdev,noatime"),
        ("defaults", None, "_netdev"),
    ],
)
def test_a_line_says_that_it_takes_a_network(ground: Ground, before: Any, options: Any, after: str) -> None:
    spot = ("fstab", ("/etc/fstab", "/mnt/a"))
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    ground.rows["superblock", DISK] = {"fstype": "ext4", "fills": True}
    if before is not None:
        ground.rows[spot] = {"source": DISK, "fstype": "ext4", "options": before}
    listed = entries({"mounts": [{**STACK["mounts"][0], "options": options}]})
    assert run(ground, listed).errors == []
    assert ground.rows[spot]["options"] == after and not run(ground, listed).listed


def test_a_unit_says_it_too(ground: Ground) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    ground.rows["superblock", DISK] = {"fstype": "ext4", "fills": True}
    run(ground, entries({"mounts": [{**STACK["mounts"][0], "persist": "unit"}]}))
    assert ground.rows["unit", "/mnt/a"]["options"] == "_netdev"


# -- the other kinds


def units(ground: Ground, listed: list[Entry]) -> list[Unit]:
    found, errors = reconcile.declare(World(ground.ports), listed, [])
    assert errors == []
    return found


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_kind_says_of_a_lun_what_it_says_of_its_path(ground: Ground, name: str) -> None:
    ground.rows["iscsi_session", IQN] = {"luns": SERVED}
    path = {key: DISK if value is LUN else value for key, value in OTHERS[name].items()}
    path.update({"pvs": [DISK, "/dev/disk/by-id/virtio-1"]} if "pvs" in path else {})
    by_path, by_lun = units(ground, entries({name: [path]}) + entries({name: [OTHERS[name]]}))
    network = [
        cell._replace(value={**cell.value, "network": True}) for cell in by_path.cells if cell.port == "crypttab"
    ]
    by_path = by_path._replace(cells=tuple(network.pop() if c.port == "crypttab" else c for c in by_path.cells))
    assert by_lun.cells == by_path.cells and by_lun.provides == by_path.provides and not by_lun.behind
    assert by_lun.needs == (*by_path.needs, ("iscsi", IQN))
    assert by_lun.key in (by_path.key, (by_path.key[0], entry(LUN)))
    listed = entries({name: [OTHERS[name]]})
    shown = listed[0].resource.show(listed[0].params, {**world(ground), "vg": {}, "lv": {}})
    assert LUN not in shown.values()


def world(ground: Ground) -> dict[str, Any]:
    return {port: rows.scan(None) for port, rows in ground.ports.items()}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_kind_waits_for_the_login(ground: Ground, name: str) -> None:
    """Whatever its ports are: none of its cells is done under a name that nothing has."""
    Rows("thin_pool", ground, behind=False)
    Rows("lv", ground, behind=False)
    ground.ports["iscsi_session"].served = {}  # type: ignore[attr-defined]
    listed = entries({name: [OTHERS[name]]}, luns=[0], state="connected")
    foreseen = run(ground, listed, check=True)
    assert len(foreseen.listed) > 1 and {row["before"] for row in foreseen.listed[1:]} == {"UNKNOWN"}
    report = run(ground, listed)
    assert [e.code for e in report.errors] == ["did_not_settle"] and set(puts(ground)) == {"+iscsi_session"}
    assert report.summary["skipped"] == len(foreseen.listed) - 1
    ground.ports["iscsi_session"].served = SERVED  # type: ignore[attr-defined]
    report = run(ground, listed)
    assert report.errors == [] and NOWHERE not in str(ground.log) and not run(ground, listed).listed


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_kind_is_gone_with_its_session(ground: Ground, name: str) -> None:
    given = {key: value for key, value in OTHERS[name].items() if key in ("device", "name", "vg", "pvs", "lvs")}
    given.pop("lvs", None)
    Rows("lv", ground)
    Rows("thin_pool", ground)
    for session in ({"state": "disconnected"}, {"state": "absent"}):
        listed = entries({name: [{**given, "state": "absent"}]}, **session)
        report = run(ground, listed)
        assert report.errors == [] and report.listed == []
        assert NOWHERE not in str([unit.cells for unit in units(ground, listed)]), "no port is asked for it"


def test_luks_on_a_lun_and_what_is_in_it(ground: Ground) -> None:
    """Three doors, one behind the other."""
    ground.lies = {
        ("luks", DISK): ("iscsi_session", IQN), ("mapping", "/dev/mapper/v"): ("luks", DISK),
        ("superblock", "/dev/mapper/v"): ("mapping", "/dev/mapper/v"),
    }.get  # fmt: skip
    ground.ports["mapping"].door = "unknown"
    document = {
        "luks_devices": [{"device": LUN, "name": "v", "key_file": "/k"}],
        "filesystems": [{"device": "/dev/mapper/v", "fstype": "ext4"}],
        "mounts": [{"path": "/mnt/v", "source": "/dev/mapper/v", "fstype": "ext4"}],
    }
    listed = entries(document, luns=[0], state="connected")
    foreseen = run(ground, listed, check=True)
    assert [(row["port"], row["before"]) for row in foreseen.listed] == [
        ("iscsi_session", None), ("luks", "UNKNOWN"), ("mapping", "UNKNOWN"), ("crypttab", "UNKNOWN"),
        ("superblock", "UNKNOWN"), ("fstab", None), ("node", None), ("mount", None),
    ]  # fmt: skip
    report = run(ground, listed)
    assert report.errors == [] and report.digest == foreseen.digest and NOWHERE not in str(ground.log)
    assert puts(ground) == [
        "+iscsi_session", "+luks", "+mapping", "+crypttab", "+superblock", "+fstab", "+node", "+mount"
    ]  # fmt: skip
    assert not run(ground, listed).listed


def test_a_check_is_made_once_it_can_be(ground: Ground) -> None:
    Rows("health", ground)
    listed = entries({"filesystems": [{"device": LUN, "fstype": "ext4", "check": True}]}, luns=[0], state="connected")
    ground.rows["superblock", DISK] = {"fstype": "ext4", "fills": True}
    ground.ports["health"].unreadable[DISK] = StorageError("checksum", "it is damaged")
    ground.ports["health"].unreadable[NOWHERE] = StorageError("not_found", "there is nothing")
    assert not run(ground, listed, check=True).errors
    report = run(ground, listed)
    assert [e.code for e in report.errors] == ["checksum"] and puts(ground) == ["+iscsi_session", "-iscsi_session"]
