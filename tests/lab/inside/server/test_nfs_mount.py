# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of NFS through the faults of their server, which runs in this guest too. findmnt(8) and /proc tell."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign, mountinfo
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

EXPORTS = "".join(
    "/srv/%s 127.0.0.1(%s,insecure,no_subtree_check,no_root_squash)\n" % each
    for each in (("a", "rw"), ("b", "rw"), ("r", "ro"))
)
BEFORE: list[str] = []  # children that a test has found
MUTE = """
import shutil
import socket
server, kept = socket.create_server(("", 2049)), []
print(flush=True)
while True:
    kept.append(server.accept())
"""
A: dict[str, Any] = {"path": "/mnt/a", "server": "127.0.0.1", "export": "/srv/a", "persist": "none", "timeout": 20}

F: dict[str, Any] = {**A, "options": ["timeo=20"]}  # tenths of a second: it notices sooner that the server is back


def served(running: bool = True) -> None:
    sh(["systemctl", "start" if running else "stop", "nfs-server"])


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    for name in "abr":
        os.makedirs("/srv/" + name, exist_ok=True)
        Path("/srv/%s/told" % name).write_text(name)
    Path("/etc/exports").write_text(EXPORTS)
    os.makedirs("/etc/nfs.conf.d", exist_ok=True)
    Path("/etc/nfs.conf.d/lab.conf").write_text("[nfsd]\ngrace-time=2\nlease-time=2\n")  # 90 s each else
    served()
    yield
    served(False)
    Path("/etc/exports").write_text("")


@pytest.fixture(autouse=True)
def clean(server: None) -> Iterator[None]:
    before = Path("/etc/fstab").read_bytes()
    BEFORE[:] = Path("/proc/self/task/%d/children" % os.getpid()).read_text(encoding="ascii").split()
    yield
    served(False)
    served()
    subprocess.run(["umount", "-a", "-t", "nfs4"], check=False, timeout=180)
    for name in os.listdir("/mnt"):
        os.rmdir("/mnt/" + name)
    Path("/etc/fstab").write_bytes(before)


def good(done: dict[str, Any]) -> dict[str, Any]:
    assert not done["refused"] and not done["errors"], str((done["refused"], done["errors"]))
    return done


def put(*mounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return converge([], nfs_mounts=list(mounts), **more)


def refused(done: dict[str, Any]) -> list[str]:
    return [error["code"] for error in [*done["refused"], *done["errors"]]]


def findmnt(path: str, column: str) -> str:
    return sh(["findmnt", "-n", "-o", column, "--mountpoint", path], check=False).strip()


def children() -> list[str]:
    """Processes of ours that are left, but the server that is one here, and those of other tests."""
    with open("/proc/self/task/%d/children" % os.getpid(), encoding="ascii") as stream:
        found = stream.read().split()
    found = [pid for pid in found if pid not in BEFORE]
    return [pid for pid in found if b"create_server" not in Path("/proc/%s/cmdline" % pid).read_bytes()]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """A server that takes connections, and never says a word. It is no child of ours."""
    served(False)
    mute = subprocess.Popen([sys.executable, "-c", MUTE], stdout=subprocess.PIPE)
    assert mute.stdout is not None
    mute.stdout.readline()
    try:
        yield
    finally:
        mute.kill()
        mute.wait()
        mute.stdout.close()


def test_mounted_written_to_and_gone_again() -> None:
    before = Path("/etc/fstab").read_bytes()
    wanted = {**A, "persist": "fstab", "rsize": "1MiB", "read_only": False}
    checked = good(put(wanted, check=True))
    assert not findmnt("/mnt/a", "SOURCE")
    done = good(put(wanted))
    assert done["actions"] == checked["actions"] and [a["verb"] for a in done["actions"]]
    assert findmnt("/mnt/a", "SOURCE,FSTYPE").split() == ["127.0.0.1:/srv/a", "nfs4"]
    options = findmnt("/mnt/a", "OPTIONS").split(",")
    assert {"rw", "nosuid", "nodev", "hard", "vers=4.2"}.issubset(options)
    assert not good(put(wanted))["actions"], "what the server made of rsize is no drift"
    Path("/mnt/a/new").write_text("kept")
    assert Path("/srv/a/new").read_text() == "kept"
    line = [line for line in Path("/etc/fstab").read_text().splitlines() if "/mnt/a" in line]
    assert line == ["127.0.0.1:/srv/a /mnt/a nfs4 vers=4.2,hard,rsize=1048576,nosuid,nodev,nofail,_netdev 0 0"]
    assert sh(["systemctl", "show", "-p", "What", "--value", "mnt-a.mount"]).strip() == "127.0.0.1:/srv/a"
    good(put({**wanted, "state": "unmounted"}))
    assert not findmnt("/mnt/a", "SOURCE") and "/mnt/a" in Path("/etc/fstab").read_text()
    sh(["mount", "/mnt/a"])  # as mount.nfs(8) does at boot
    assert not good(put(wanted))["actions"]
    good(put({**wanted, "state": "absent"}))
    assert not findmnt("/mnt/a", "SOURCE") and Path("/etc/fstab").read_bytes() == before
    assert Path("/srv/a/new").read_text() == "kept" and not os.path.exists("/mnt/a")
    assert children() == []


def test_two_exports_of_a_server_are_two_things() -> None:
    """They have one device number, and the root of both is /."""
    b = {**A, "path": "/mnt/b", "export": "/srv/b"}
    good(put(A, b))
    assert Path("/mnt/a/told").read_text() == "a" and Path("/mnt/b/told").read_text() == "b"
    rows = mountinfo.parse(mountinfo.read())
    assert len({row.dev for row in rows if row.fstype == "nfs4"}) == 1, "else this test says nothing"
    assert not good(put(A, b))["actions"]
    bound = {"path": "/mnt/c", "source": "/mnt/a", "bind": True, "persist": "none"}
    sh(["mount", "--bind", "-m", "/mnt/b", "/mnt/c"])
    assert refused(converge([], mounts=[bound])) == ["conflict"], "a bind of the other one"
    sh(["umount", "/mnt/c"])
    good(converge([], mounts=[bound]))
    assert Path("/mnt/c/told").read_text() == "a" and not good(converge([], mounts=[bound]))["actions"]
    good(converge([], mounts=[{"path": "/mnt/c", "state": "absent", "persist": "none"}]))
    good(put({**A, "state": "absent"}, {**b, "state": "absent"}))


def test_what_differs_is_replaced_only_when_asked() -> None:
    sh(["mount", "-m", "-t", "nfs4", "-o", "vers=4.1,rsize=4096", "127.0.0.1:/srv/a", "/mnt/a"])
    assert refused(put(A)) == ["conflict"] and "vers=4.1" in findmnt("/mnt/a", "OPTIONS")
    good(put({**A, "on_drift": "replace"}))
    assert "vers=4.2" in findmnt("/mnt/a", "OPTIONS")
    assert "nosuid" in findmnt("/mnt/a", "OPTIONS")
    larger = int([w[6:] for w in findmnt("/mnt/a", "OPTIONS").split(",") if w.startswith("rsize=")][0])
    assert larger > 8192
    assert refused(put({**A, "rsize": "8192"})) == ["conflict"], "more than is asked for"
    good(put({**A, "rsize": "8192", "on_drift": "replace"}))
    assert "rsize=8192" in findmnt("/mnt/a", "OPTIONS") and not good(put({**A, "rsize": "8192"}))["actions"]
    sh(["mount", "-o", "remount,ro", "/mnt/a"])
    done = good(put({**A, "read_only": False}))
    assert [a["verb"] for a in done["actions"]] == ["change"] and findmnt("/mnt/a", "OPTIONS").startswith("rw")


def test_a_soft_mount_is_read_only() -> None:
    assert refused(put({**A, "hard": False})) == ["invalid"]
    good(put({**A, "export": "/srv/r", "hard": False, "read_only": True, "options": ["noatime", "actimeo=7"]}))
    assert {"ro", "soft", "noatime", "acregmin=7"}.issubset(findmnt("/mnt/a", "OPTIONS").split(","))
    assert not good(put({**A, "export": "/srv/r", "hard": False, "read_only": True, "options": ["actimeo=7"]}))[
        "actions"
    ]


def test_the_words_of_nfs5_are_as_the_kernel_shows_them() -> None:
    text = (
        "noatime noac nocto lookupcache=none nosharecache timeo=500 retrans=4 noresvport tcp bg retry=1 local_lock=none"
    )
    words = text.split()
    good(put({**A, "persist": "fstab", "options": words, "nconnect": 1}))
    assert not good(put({**A, "persist": "fstab", "options": words, "nconnect": 1}))["actions"]
    good(put({**A, "persist": "fstab", "options": ["ac", "cto", "sharecache"], "on_drift": "replace"}))
    assert not good(put({**A, "persist": "fstab", "options": ["ac", "cto", "sharecache"]}))["actions"]
    good(put({**A, "persist": "fstab", "state": "absent"}))


@pytest.mark.parametrize("more, code", [
    ({"export": "/srv/none"}, "not_found"),
    ({"server": "10.77.0.250"}, "unreachable"),
    ({"server": "no-such-host.invalid"}, "not_found"),
    ({"sec": "krb5"}, "denied"),
])  # fmt: skip
def test_what_cannot_be_mounted_leaves_nothing(more: dict[str, Any], code: str) -> None:
    before, start = Path("/proc/self/mountinfo").read_bytes(), time.monotonic()
    fstab = Path("/etc/fstab").read_bytes()
    done = put({**A, "persist": "fstab", "timeout": 8, **more})
    found = refused(done)
    assert found == [code] or (more.get("server") == "no-such-host.invalid" and found == ["unreachable"]), done[
        "errors"
    ]
    assert time.monotonic() - start < 25 and children() == []
    assert Path("/proc/self/mountinfo").read_bytes() == before and Path("/etc/fstab").read_bytes() == fstab
    assert not os.path.exists("/mnt/a")


def test_an_export_that_is_not_ours_is_denied() -> None:
    Path("/srv/q").mkdir(exist_ok=True)
    sh(["exportfs", "-o", "rw,no_subtree_check", "10.77.0.77:/srv/q"])
    done = put({**A, "export": "/srv/q"})
    assert refused(done)[0] in ("denied", "not_found"), done["errors"]
    sh(["exportfs", "-u", "10.77.0.77:/srv/q"])


def test_a_server_that_does_not_speak_it() -> None:
    conf = Path("/etc/nfs.conf.d/lab.conf")
    before = conf.read_text()
    try:
        conf.write_text(before + "vers4.2=n\n")
        served(False)
        served()
        assert refused(put(A)) == ["unsupported"] and not os.path.exists("/mnt/a")
        good(put({**A, "version": "4.1"}))
        assert "vers=4.1" in findmnt("/mnt/a", "OPTIONS") and not good(put({**A, "version": "4.1"}))["actions"]
        good(put({**A, "version": "4.1", "state": "absent"}))
    finally:
        conf.write_text(before)
        served(False)


def test_a_server_that_is_stopped() -> None:
    """Before a run, while it is mounted, and when it is to go."""
    served(False)
    assert refused(put(F)) == ["unreachable"] and not os.path.exists("/mnt/a")
    served()
    good(put(F))
    Path("/mnt/a/before").write_text("written before")
    os.sync()
    served(False)
    start = time.monotonic()
    assert refused(put({**F, "timeout": 3})) == ["unreachable"]
    assert time.monotonic() - start < 10 and children() == []
    assert refused(put({**F, "timeout": 3}, check=True)) == ["unreachable"], "nor does check mode hang"
    assert findmnt("/mnt/a", "SOURCE") == "127.0.0.1:/srv/a"
    start, tree = time.monotonic(), {"root": "/mnt/a/t", "entries": [{"path": "x"}]}
    assert set(refused(converge([], trees=[tree]))) == {"unreachable"}, "nor does who knows nothing of NFS"
    assert time.monotonic() - start < foreign.PATIENCE + 10 and children() == []
    start = time.monotonic()
    assert refused(put({**F, "state": "absent"})) == ["unreachable"]
    assert foreign.PATIENCE <= time.monotonic() - start < foreign.PATIENCE + 10
    assert findmnt("/mnt/a", "SOURCE") == "127.0.0.1:/srv/a" and children() == []
    served()
    good(put(F))
    assert Path("/mnt/a/before").read_text() == "written before"
    good(put({**F, "state": "absent"}))
    assert Path("/srv/a/before").read_text() == "written before" and not findmnt("/mnt/a", "SOURCE")


def test_a_server_that_says_nothing() -> None:
    with silence():
        start = time.monotonic()
        done = put({**F, "timeout": 3})
        assert refused(done) == ["unreachable"] and 3 <= time.monotonic() - start < 12, done["errors"]
        start, three = time.monotonic(), [{**F, "path": "/mnt/" + name, "timeout": 4} for name in "abc"]
        assert refused(put(*three)) == ["unreachable"] * 3 and 4 <= time.monotonic() - start < 8, "it waits once"
        assert children() == [] and not os.path.exists("/mnt/a")
    served()
    good(put(F))
    with silence():
        start = time.monotonic()
        assert refused(put({**F, "timeout": 3})) == ["unreachable"]
        assert time.monotonic() - start < 12 and children() == []


def test_a_server_that_stops_during_a_run() -> None:
    """One mount is made, the next one finds nobody: the first stays, and the next run goes on."""
    served()
    b = {**F, "path": "/mnt/b", "export": "/srv/b", "timeout": 3}
    watch = "while ! grep -q ' /mnt/a ' /proc/self/mountinfo; do :; done; echo 0 >/proc/fs/nfsd/threads"
    stopping = subprocess.Popen(["sh", "-c", watch])
    done = put({**F, "timeout": 5}, b)
    stopping.wait(60)
    assert set(refused(done)) <= {"unreachable"} and children() == []
    served(False)
    served()
    good(put(F, b))
    assert Path("/mnt/b/told").read_text() == "b"
    good(put({**F, "state": "absent"}, {**b, "state": "absent"}))


def test_an_export_that_the_server_has_withdrawn_is_stale() -> None:
    good(put(A))
    sh(["exportfs", "-u", "127.0.0.1:/srv/a"])
    sh(["exportfs", "-f"])
    os.rename("/srv/a", "/srv/a.gone")
    os.mkdir("/srv/a")
    Path("/srv/a/told").write_text("new")
    sh(["exportfs", "-ra"])
    try:
        found = refused(put(A))
        assert found == ["conflict"], "it is not as declared, and nobody said to replace it"
        good(put({**A, "on_drift": "replace"}))
        assert Path("/mnt/a/told").read_text() == "new"
        os.rename("/srv/a", "/srv/a.two")
        os.mkdir("/srv/a")
        sh(["exportfs", "-f"])
        time.sleep(1)
        good(put({**A, "state": "absent"}))
        assert not findmnt("/mnt/a", "SOURCE") and not os.path.exists("/mnt/a")
    finally:
        subprocess.run(["umount", "/mnt/a"], check=False)
        shutil.rmtree("/srv/a")
        shutil.rmtree("/srv/a.two", ignore_errors=True)
        os.rename("/srv/a.gone", "/srv/a")
        sh(["exportfs", "-f"])


def test_what_is_in_use_is_not_unmounted() -> None:
    good(put(A))
    with open("/mnt/a/told", encoding="utf-8"):
        done = put({**A, "state": "absent"})
        assert refused(done) == ["in_use"] and str(os.getpid()) in str([*done["refused"], *done["errors"]])
    good(put({**A, "state": "absent"}))


def test_systemd_mounts_it_when_somebody_looks() -> None:
    wanted = {**A, "persist": "fstab", "automount": True}
    good(put(wanted))
    good(put({**wanted, "state": "unmounted"}))
    for _turn in range(20):  # systemd may hear of the unmount later than we ask
        sh(["systemctl", "start", "mnt-a.automount"], check=False)  # as at boot
        if findmnt("/mnt/a", "FSTYPE") == "autofs":
            break
        time.sleep(0.5)
    assert findmnt("/mnt/a", "FSTYPE") == "autofs", sh(["systemctl", "status", "mnt-a.automount"], check=False)
    assert not good(put(wanted))["actions"], "looked at, it is as declared"
    assert "nfs4" in findmnt("/mnt/a", "FSTYPE")
    good(put({**wanted, "state": "absent"}))
    assert (
        not findmnt("/mnt/a", "FSTYPE")
        and sh(["systemctl", "is-active", "mnt-a.automount"], check=False).strip() == "inactive"
    )


def test_what_stands_on_it_is_made_in_the_same_call() -> None:
    tree = {"root": "/mnt/a/t", "entries": [{"path": "x", "mode": "0750"}]}
    good(put(A, trees=[tree]))
    assert oct(os.stat("/srv/a/t/x").st_mode)[-4:] == "0750"
    assert not good(put(A, trees=[tree]))["actions"]
    good(put({**A, "state": "absent"}))


def test_no_program_is_run_for_it() -> None:
    """The kernel is asked directly: nothing of a declaration is on anybody's command line."""
    script = (
        "from ansible_collections.bulkhead.storage.tests.support.quotas import converge\n"
        "done = converge([], nfs_mounts=[%r])\nassert not done['errors'] and done['actions'], done" % A
    )
    log = "/run/lab-strace"
    sh(["strace", "-f", "-qq", "-e", "trace=execve", "-o", log, sys.executable, "-c", script])
    calls = [line for line in Path(log).read_text().splitlines() if "execve" in line]
    assert len(calls) == 1, calls
    assert socket.gethostname() and findmnt("/mnt/a", "SOURCE")
