# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job leaves in its folder, and what its unit and its root are made of. That systemd runs it is for the lab."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import job as adapter
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobchange, rootfs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import Job
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job, job_words


@pytest.fixture
def rooted() -> Iterator[Path]:
    """A folder that only root can change, down from the root: none in /tmp is."""
    with tempfile.TemporaryDirectory(dir="/var/lib") as folder:
        yield Path(folder)


PLAIN: dict[str, Any] = {**dict.fromkeys(job.OPTIONS), "id": "j", "command": ["ls"]}


def jobs(base: Path) -> Job:
    return Job(lambda argv, **_more: (1, b"", b"no program here"), str(base))


def home(base: Path, *files: str, **texts: str) -> None:
    (base / "j").mkdir(exist_ok=True)
    for name in files:
        (base / "j" / name).write_text("")
    for name, text in texts.items():
        (base / "j" / name).write_text(text)


def lines(**more: Any) -> list[str]:
    spec = {**job_words.spec({**PLAIN, **more}), "output": "/run/x"}
    return jobchange.text("j", "/home/j", spec, ["/a/bin:/bin"], ["IOWriteBandwidthMax=/dev/a 1"]).splitlines()


def test_what_is_left_tells_the_state(tmp_path: Path) -> None:
    port = jobs(tmp_path)
    assert port.scan(["j"]) == {} and port.scan(None) == {}
    home(tmp_path)
    assert port.scan(["j"]) == {"j": {"state": "part"}}
    home(tmp_path, "started")
    assert port.scan(["j"])["j"]["state"] == "lost", "no unit of it is there"
    home(tmp_path, result="exit-code exited 3\n", stdout="out", stderr="err")
    row = port.scan(None)["j"]
    assert (row["state"], row["_rc"], row["_result"], row["_stdout"], row["_stderr"]) == (
        "done",
        3,
        "exit-code",
        "out",
        "err",
    )
    assert row["_started_at"].endswith("Z") and row["_finished_at"] >= row["_started_at"]


@pytest.mark.parametrize(
    ("said", "result", "number"),
    [
        ("success exited 0\n", "success", 0),
        ("signal killed KILL\n", "signal", 137),
        ("timeout killed 9\n", "timeout", 137),
        ("core-dump dumped SEGV\n", "core-dump", 139),
        ("timeout exited 9\n", "timeout", 9),
        ("timeout none 0\n", "timeout", 137),
    ],
)
def test_how_it_ended(tmp_path: Path, said: str, result: str, number: int) -> None:
    home(tmp_path, result=said)
    row = jobs(tmp_path).scan(["j"])["j"]
    assert (row["_result"], row["_rc"], row["_stdout"]) == (result, number, "")


def test_an_end_that_nobody_writes_down_is_not_waited_for(tmp_path: Path) -> None:
    """The folder of what it said is there, its service is not, nor the one that comes after it."""
    port = jobs(tmp_path)
    name = "gone-%d" % os.getpid()
    output = Path(adapter.RUN) / name / "output"
    output.mkdir(parents=True)
    try:
        (output / "stdout").write_text("")
        assert port.scan([name])[name]["state"] == "running"
        port.ending[name] -= adapter.MOMENT
        row = port.scan([name])[name]
        assert isinstance(row, StorageError) and row.code == "failed" and "not written down" in row.message
        port.want_entries = {name}
        assert port.scan([name])[name]["state"] == "running", "it can be removed"
    finally:
        shutil.rmtree(output.parent)
        with contextlib.suppress(OSError):
            os.rmdir(adapter.RUN)


@pytest.mark.parametrize("said", ["", "success exited", "success exited 0", "x\nsuccess exited 0\n"])
def test_half_a_result_is_unreadable(tmp_path: Path, said: str) -> None:
    home(tmp_path, result=said)
    row = jobs(tmp_path).scan(["j"])["j"]
    assert isinstance(row, StorageError) and row.code == "unreadable"


def test_a_file_in_place_of_its_folder_is_no_job(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("")
    row = jobs(tmp_path).scan(["j"])["j"]
    assert isinstance(row, StorageError) and row.code == "conflict"


def test_one_that_has_run_is_one_that_runs(tmp_path: Path) -> None:
    port = jobs(tmp_path)
    order = ("part", "prepared", "running", "done")
    for now in order:
        for declared in ("prepared", "running"):
            same = port.same("j", {"state": now}, {"state": declared})
            assert same is (order.index(now) >= order.index(declared))
    assert port.same("j", {"state": "lost"}, {"state": "running"}) is True


def test_nothing_is_made_over_what_became_another_meanwhile(tmp_path: Path) -> None:
    """But one that is to go may have ended by itself."""
    home(tmp_path, "started")
    with pytest.raises(StorageError) as caught:
        jobs(tmp_path).put("j", None, {"state": "running"})
    assert caught.value.code == "moved" and (tmp_path / "j" / "started").exists()
    jobs(tmp_path).put("j", {"state": "running"}, None)
    assert jobs(tmp_path).scan(["j"]) == {}


def test_the_unit_walls_it_in() -> None:
    said = lines()
    for line in ("PrivatePIDs=yes", "PrivateUsers=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "User=65534"):
        assert line in said
    for line in (
        "PrivateNetwork=yes",
        "InaccessiblePaths=+/sys",
        "ProtectSystem=strict",
        "BindReadOnlyPaths=/a/bin:/bin",
    ):
        assert line in said
    assert "TemporaryFileSystem=/work:size=1048576,nr_inodes=64,mode=1777,nosuid,nodev" in said
    assert not [
        line for line in said if line.startswith(("MemoryMax", "CPUQuota", "TasksMax", "RuntimeMaxSec", "Group"))
    ]


def test_limits_and_volumes_are_in_the_unit() -> None:
    volumes = [{"name": "a", "namespace": "n", "path": None, "read_only": True}]
    volumes.append({"name": "b", "namespace": "n", "path": "/b", "read_only": False})
    more = {"memory_max": "64MiB", "cpu_quota": "150%", "pids_max": 7, "timeout": 60, "group": "g", "network": "host"}
    said = lines(volumes=volumes, **more)
    for line in ("MemoryMax=67108864", "MemorySwapMax=0", "CPUQuota=150%", "TasksMax=7", "RuntimeMaxSec=60", "Group=g"):
        assert line in said
    assert "BindReadOnlyPaths=/run/bulkhead-jobs/j/n/a:/volumes/a" in said
    assert "BindPaths=/run/bulkhead-jobs/j/n/b:/b" in said
    assert "PrivateNetwork=yes" not in said


def test_words_are_quoted() -> None:
    (said,) = [line for line in lines(command=["sh", "%n", 'q"\\', "a\nb", ";"]) if line.startswith("ExecStart=")]
    assert said == 'ExecStart=:"sh" "%%n" "q\\"\\\\" "a\\x0ab" ";"'


def test_variables_of_its_own_come_first(tmp_path: Path) -> None:
    volumes = [{"name": "v", "namespace": "n", "path": None, "read_only": False}]
    spec = job_words.spec({**PLAIN, "volumes": volumes, "environment": {"HOME": "/x", "A": 'q"`$\\'}})
    found = jobchange._environment("j", spec)
    assert (found["JOB_ID"], found["JOB_VOLUMES_COUNT"], found["JOB_VOLUME_0"], found["HOME"]) == ("j", "1", "v", "/x")
    done = subprocess.run(["sh", "-c", 'A=%s; printf %%s "$A"' % jobchange._quoted(found["A"])], check=True, stdout=-1)
    assert done.stdout.decode() == found["A"]


def test_what_a_root_is_made_of(rooted: Path) -> None:
    source = rooted / "source"
    for name in ("usr", "proc", "tmp", "srv"):
        (source / name).mkdir(parents=True)
    (source / "bin").symlink_to("usr/bin")
    (source / "file").write_text("")
    binds = jobchange._root(str(rooted / "root"), {"rootfs": str(source)})
    assert binds == ["%s/srv:/srv" % source, "%s/usr:/usr" % source]
    made = rooted / "root"
    assert sorted(os.listdir(made)) == sorted([*jobchange.FOLDERS, "bin", "srv", "usr"])
    assert os.readlink(made / "bin") == "usr/bin" and os.listdir(made / "usr") == []


def test_a_root_that_others_may_change_is_refused(rooted: Path) -> None:
    (rooted / "root" / "usr").mkdir(parents=True)
    root = str(rooted / "root")

    def refused(path: str = root) -> None:
        with pytest.raises(StorageError) as caught:
            jobchange._root(str(rooted / "made"), {"rootfs": path})
        assert caught.value.code == "unsafe_path"

    assert jobchange._root(str(rooted / "made"), {"rootfs": root}) == ["%s/usr:/usr" % root]
    shutil.rmtree(rooted / "made")
    for place, mode in (("root", 0o777), ("root", 0o1777), (".", 0o775)):
        os.chmod(rooted / place, mode)
        refused()
        os.chmod(rooted / place, 0o755)
    (rooted / "link").symlink_to("root")
    refused(str(rooted / "link"))
    os.chown(root, 65534, 0)
    refused()


@pytest.mark.parametrize("name", ["a b", "a:b", "a%n", "a\nUser=0", 'a"b', "a\\b"])
def test_nothing_gets_into_the_unit_by_the_name_of_a_folder(rooted: Path, name: str) -> None:
    (rooted / "root" / name).mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        jobchange._root(str(rooted / "made"), {"rootfs": str(rooted / "root")})
    assert caught.value.code == "unsafe_path" and "\n" not in caught.value.message
    for option in ("rootfs", "working_dir"):
        with pytest.raises(StorageError) as caught:
            job_words.spec({**PLAIN, option: "/" + name})
        assert (caught.value.code, caught.value.details["option"]) == ("invalid", option)
    volumes = [{"name": "v", "namespace": "n", "path": "/" + name, "read_only": False}]
    with pytest.raises(StorageError) as caught:
        job_words.spec({**PLAIN, "volumes": volumes})
    assert caught.value.code == "invalid"


def test_a_folder_is_removed_but_never_what_is_beyond_it(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("")
    (tmp_path / "gone" / "a" / "b").mkdir(parents=True)
    (tmp_path / "gone" / "a" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "gone" / "file").write_text("")
    rootfs.removed(str(tmp_path / "gone"))
    rootfs.removed(str(tmp_path / "gone"))
    (tmp_path / "link").symlink_to("outside")
    rootfs.removed(str(tmp_path / "link"))
    assert sorted(os.listdir(tmp_path)) == ["outside"] and os.listdir(tmp_path / "outside") == ["kept"]


def elf(tmp_path: Path, kind: int) -> str:
    """The head of a program with one entry in its table."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + bytes(16) + struct.pack("<Q", 64) + bytes(14)
    head += struct.pack("<HH", 56, 1)
    path = tmp_path / ("elf%d" % kind)
    path.write_bytes(head.ljust(64, b"\0") + struct.pack("<I", kind) + bytes(52))
    return str(path)


def test_a_program_that_needs_others_is_not_static(tmp_path: Path) -> None:
    assert rootfs._static(elf(tmp_path, 1)) and not rootfs._static(elf(tmp_path, 3))
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not rootfs._static(str(tmp_path / "script"))
    assert not rootfs._static(shutil.which("sh") or "/bin/sh"), "this host's is dynamic"


def test_only_a_new_enough_systemd() -> None:
    found = jobchange.refuse(lambda argv: (0, b"systemd 252 (252.39)", b""))
    assert found is not None and found.code == "unsupported" and "252" in found.message
    found = jobchange.refuse(lambda argv: (127, b"", b""))
    assert found is not None and found.code == "unsupported"
    assert adapter.unit("j") == "bulkhead-job-j.service"


def test_resource_and_adapter_mean_the_same_place() -> None:
    assert job.unit({**PLAIN, "state": "absent"}, Nothing()).cells[1].target == adapter.RUN + "/j/output"
    assert set(jobchange.FOLDERS) - {"volumes"} <= set(job_words.FOLDERS)


class Nothing:
    """A look at a world where there is nothing."""

    def look(self, port: str, targets: Any) -> dict[Any, Any]:
        return {}


def test_what_a_job_said_is_told_in_so_many_bytes() -> None:
    for text in ("x" * 200000, "\u00e9" * 200000, "\x00" * 200000, 'q"' * 100000):
        row = {"state": "done", "_stdout": text, "_stderr": text, "_rc": 0}
        for room in (job.TOLD, 24 << 10, job.LITTLE):
            told = job.describe("j", {"command": ["x" * 100] * 16, "volumes": []}, row, room)
            assert told["truncated"] is True and text.startswith(told["stdout"])
            size = len(json.dumps(told))
            assert (room - job.LITTLE) * 0.95 < size <= room
    told = job.describe("j", {}, {"state": "done", "_stdout": "out", "_stderr": ""}, job.TOLD)
    assert (told["stdout"], told["truncated"]) == ("out", False)
    words = job_words.recorded(job_words.spec({**PLAIN, "command": ["x" * 5000] * 40}))["command"]
    assert len(json.dumps(words)) < 2048 and words[-1] == "..." and words[0] == "x" * 100 + "..."


def test_systemd_is_asked_once_for_all_jobs(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **_more: Any) -> tuple[int, bytes, bytes]:
        asked.append(argv)
        return 0, b"systemd 252", b""

    port = Job(run, str(tmp_path))
    found = [port.refuse(name, None, {"state": "running"}, set()) for name in ("a", "b")]
    assert [error.code for error in found if error] == ["unsupported"] * 2 and len(asked) == 1
    assert port.refuse("a", {"state": "done"}, None, set()) is None
