# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts whose record is a unit, where systemd is process 1: it tells by systemctl(1) what it understood."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_names
from ansible_collections.bulkhead.storage.tests.support.quotas import converge

# pylint: disable-next=unused-import
from ansible_collections.bulkhead.storage.tests.unit.plugins.module_utils._adapters.test_systemd_unit import (  # noqa: F401
    host,
    test_a_name,
    test_a_unit_is_what_the_generator_makes_of_the_line,
    test_systemctl_agrees_about_the_links,
    test_systemd_takes_the_file_without_a_word,
)

UNITS = "/etc/systemd/system"
BASE = "/mnt/units"


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=-1, stderr=-2, encoding="utf-8", check=False)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stdout)
    return done.stdout.rstrip("\n")


def outside(*argv: str) -> str:
    """In the mount namespace of systemd: a test's own is private."""
    return run("nsenter", "--target=1", "--mount", "--", *argv)


def shown(path: str) -> dict[str, str]:
    names = ("ActiveState", "UnitFileState", "FragmentPath", "What", "Where", "Type", "NeedDaemonReload", "LoadState")
    lines = run("systemctl", "show", "--property=" + ",".join(names), "--", unit(path)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def unit(path: str) -> str:
    return systemd_names.escape(path) + ".mount"


def reloads() -> int:
    """How often systemd was told to read its units again, as it has written into its journal."""
    text = run("journalctl", "--quiet", "--no-pager", "--boot", "--output=cat", "_PID=1")
    return len([line for line in text.splitlines() if line.startswith(("Reload requested", "Reloading requested"))])


def test_names_are_those_of_systemd() -> None:
    """The same thousand of any bytes each time; the property test on the host, too slow here, draws others."""
    draw = random.Random(1)
    odd = [bytes([number]) for number in range(33, 256) if number not in b"/\x7f"] + [b"-", b"\\", b"%", b"."] * 20
    parts = [b"".join(draw.choices(odd, k=draw.randint(1, 8))) for _part in range(3000)]
    parts = [part for part in parts if part not in (b".", b"..")]
    made = [b"/".join([b"", *draw.choices(parts, k=draw.randint(1, 4))]) for _path in range(1000)]
    paths = sorted({os.fsdecode(path) for path in [*made, b"/a b/\xc3\xa9", b"/a /b"]})
    said = run("systemd-escape", "--path", "--", *paths).split(" ")
    assert [systemd_names.escape(path) for path in paths] == said
    print("names compared with systemd-escape: %d, all different" % len(paths))
    assert len(set(said)) == len(paths) >= 900


@pytest.fixture
def records() -> Iterator[None]:
    """What is written down is taken away again, whatever a test left."""
    yield
    for path in (BASE + "/t", BASE + "/t-é %i"):
        converge([], mounts=[{"path": path, "persist": "unit", "state": "absent"}])
    assert not [name for name in os.listdir(UNITS) if name.startswith("mnt-units")]


def good(answer: dict[str, Any]) -> list[tuple[str, str]]:
    assert (answer["refused"], answer["errors"]) == ([], [])
    return [(action["verb"], action["port"]) for action in answer["actions"]]


@pytest.mark.parametrize("path", [BASE + "/t", BASE + "/t-é %i"])
def test_systemd_understands_what_it_is_told_and_is_told_once(records: None, path: str) -> None:
    entry = {"path": path, "size": "1MiB", "persist": "unit", "mode": "0700"}
    before = reloads()
    foreseen = good(converge([], check=True, tmpfs=[entry]))
    assert not os.path.exists("%s/%s" % (UNITS, unit(path))) and reloads() == before
    assert good(converge([], tmpfs=[entry])) == foreseen
    assert reloads() == before + 1
    seen = shown(path)
    assert seen["FragmentPath"] == "%s/%s" % (UNITS, unit(path)) and seen["LoadState"] == "loaded"
    assert (seen["UnitFileState"], seen["NeedDaemonReload"], seen["Where"]) == ("enabled", "no", path)
    assert unit(path) in run("systemctl", "list-dependencies", "--plain", "local-fs.target")
    assert good(converge([], tmpfs=[entry])) == [] and reloads() == before + 1
    # systemd mounts by the very record what the kernel was asked for by us
    outside("systemctl", "start", unit(path))
    options = outside("findmnt", "-no", "OPTIONS", path).split(",")
    assert {"nosuid", "nodev", "noexec", "size=1024k", "nr_inodes=64", "mode=700"} <= set(options)
    outside("systemctl", "stop", unit(path))
    outside("systemctl", "start", "local-fs.target")
    assert good(converge([], tmpfs=[{**entry, "state": "absent"}])) != []
    assert shown(path)["LoadState"] == "not-found"
    assert good(converge([], tmpfs=[{**entry, "state": "absent"}])) == []


def test_a_masked_unit_and_an_administrators_drop_in(records: None) -> None:
    path, name = BASE + "/t", unit(BASE + "/t")
    entry = {"path": path, "size": "1MiB", "persist": "unit", "state": "mounted"}
    run("systemctl", "mask", name)
    said = converge([], tmpfs=[entry])
    assert [error["code"] for error in said["refused"]] == ["conflict"] and "is masked" in said["refused"][0]["message"]
    run("systemctl", "unmask", name)
    folder = Path("%s/%s.d" % (UNITS, name))
    folder.mkdir()
    (folder / "50-mine.conf").write_text("[Mount]\nTimeoutSec=77\n", encoding="utf-8")
    try:
        good(converge([], tmpfs=[entry]))
        assert run("systemctl", "show", "--value", "--property=TimeoutUSec", name) == "1min 17s"
        good(converge([], tmpfs=[{**entry, "state": "absent"}]))
        assert (folder / "50-mine.conf").exists()
    finally:
        (folder / "50-mine.conf").unlink()
        folder.rmdir()


def test_a_record_moves_from_the_line_to_the_unit_and_back(records: None) -> None:
    path = BASE + "/t"
    entry = {"path": path, "size": "1MiB", "options": ["noatime"]}
    good(converge([], tmpfs=[entry]))
    before = reloads()
    assert good(converge([], tmpfs=[{**entry, "persist": "unit"}])) == [("remove", "fstab"), ("create", "unit")]
    assert reloads() == before + 1, "once, though both records changed"
    assert path not in Path("/etc/fstab").read_text(encoding="utf-8")
    assert shown(path)["FragmentPath"] == "%s/%s" % (UNITS, unit(path))
    assert good(converge([], tmpfs=[{**entry, "persist": "unit"}])) == []
    assert good(converge([], tmpfs=[entry])) == [("remove", "unit"), ("create", "fstab")]
    assert shown(path)["FragmentPath"] == "/run/systemd/generator/" + unit(path)
    assert good(converge([], tmpfs=[entry])) == []
    good(converge([], tmpfs=[{"path": path, "state": "absent"}]))
