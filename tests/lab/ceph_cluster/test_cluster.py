# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ceph cluster itself: what a test may rely on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
import trees

from ansible_collections.bulkhead.storage.tests.lab import ceph, ceph_packages, network
from ansible_collections.bulkhead.storage.tests.lab.places import Refused
from ansible_collections.bulkhead.storage.tests.support import lab

KILLS = 5 if os.environ.get("BULKHEAD_SOAK") else 1
# A client by way of the binding: writes an object to a pool, and prints what it reads.
CLIENT = """
import sys, rados
conf, name, pool = sys.argv[1:]
with rados.Rados(conffile=conf, name=name) as cluster, cluster.open_ioctx(pool) as objects:
    objects.write_full("thing", b"from " + name.encode())
    print(objects.read("thing").decode())
"""
# Where a program of the packages, and one that they bring along, are seen; and from which folder.
SEES = "import os, shutil, rados, rbd; print(shutil.which('ceph-mon'), shutil.which('lvm'), os.getcwd())"
# The folder of the packages, in the cache that the environment tells.
UNPACK = """
import sys
sys.path[:0] = sys.argv[1:]
from ansible_collections.bulkhead.storage.tests.lab import ceph_packages
print(ceph_packages.unpacked())
"""
HOSTS_OWN = ("/etc/ceph", "/var/lib/ceph", "/var/log/ceph", "/run/ceph")  # where Ceph would be if it were the host's


def until(true: Callable[[], bool], longest: float = 30.0) -> bool:
    end = time.monotonic() + longest
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def mentioning(word: str) -> list[str]:
    """Processes whose command line has a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(word) in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def inhabitants(space: int) -> list[int]:
    """Processes in a network namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = os.stat(entry / "ns" / "net")
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # the first one may be hidden from root
                continue
            if here.st_ino == os.fstat(space).st_ino:
                found.append(int(entry.name))
    return found


def state(pid: int) -> str:
    """The letter that the kernel has for what a process does."""
    return Path("/proc/%d/stat" % pid).read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def written_by(cluster: ceph.Cluster) -> str:
    """The host's own files with a word of a cluster that shall have left none."""
    argv = ["grep", "-rlF", "-e", str(cluster.folder), "-e", cluster.ceph("fsid")["fsid"]]
    argv += [path for path in HOSTS_OWN if os.path.exists(path)]
    done = subprocess.run(argv, check=False, capture_output=True, encoding="utf-8")
    return done.stdout + done.stderr


def mounts(pid: int) -> list[str]:
    return Path("/proc/%d/mountinfo" % pid).read_text(encoding="utf-8").splitlines()


def installed() -> list[tuple[str, int, int]]:
    """What dpkg and apt have written down, and when."""
    paths = [Path("/var/lib/dpkg"), *Path("/var/lib/dpkg").glob("[a-z]*"), Path("/var/lib/apt/extended_states")]
    paths += [Path("/var/cache/apt"), *Path("/var/cache/apt").rglob("*"), Path("/var/log/dpkg.log")]
    found = [(str(path), path.stat()) for path in sorted(paths) if path.exists()]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in found]


def test_it_is_healthy_with_three_osds_each_a_domain_of_its_own(cluster: ceph.Cluster) -> None:
    questions = ("status", "osd tree", "osd crush rule dump replicated_rule", "mgr module ls")
    status, tree, rule, modules = cluster.ask(*questions)
    assert status["health"] == {"status": "HEALTH_OK", "checks": {}, "mutes": []}
    osds = {node["name"]: (node["type"], node["status"]) for node in tree["nodes"] if node["id"] >= 0}
    assert osds == dict.fromkeys(("osd.0", "osd.1", "osd.2"), ("osd", "up"))
    assert [step["type"] for step in rule["steps"] if "choose" in step["op"]] == ["osd"]
    assert modules["enabled_modules"] == []
    assert cluster.ceph("osd", "pool", "ls") == []


def test_a_pool_of_size_three_is_active_and_clean_on_three_osds(cluster: ceph.Cluster) -> None:
    cluster.ceph("osd", "pool", "create", "three")
    start = time.monotonic()
    cluster.settle()
    print("active+clean: %.1f s" % (time.monotonic() - start))
    (pool,), groups = cluster.ask("osd pool ls detail", "pg ls-by-pool three")
    assert (pool["size"], pool["min_size"], pool["pg_num"], pool["pg_autoscale_mode"]) == (3, 2, 8, "off")
    assert len(groups["pg_stats"]) == 8
    for group in groups["pg_stats"]:
        assert group["state"] == "active+clean" and sorted(group["acting"]) == [0, 1, 2]


def test_a_killed_osd_is_missed_and_comes_back(cluster: ceph.Cluster) -> None:
    cluster.ceph("osd", "pool", "create", "three")
    cluster.settle()
    cluster.kill("osd.2")

    def missed() -> bool:
        groups = cluster.ceph("pg", "ls-by-pool", "three")["pg_stats"]
        return {(group["state"], tuple(sorted(group["acting"]))) for group in groups} == {("active+undersized", (0, 1))}

    start = time.monotonic()
    assert until(missed)
    print("missed: %.1f s" % (time.monotonic() - start))
    assert "OSD_DOWN" in cluster.ceph("health")["checks"]
    cluster.start("osd.2")
    cluster.settle()


def test_a_client_does_what_its_caps_allow_and_no_more(cluster: ceph.Cluster) -> None:
    for pool in ("own", "other"):
        cluster.ceph("osd", "pool", "create", pool)
    keyring = cluster.user("client.tenant", mon="allow r", osd="allow rw pool=own")
    assert keyring.stat().st_mode & 0o777 == 0o600
    conf = str(cluster.conf)
    assert cluster.python(CLIENT, conf, "client.tenant", "own") == "from client.tenant\n"
    with pytest.raises(Refused, match="PermissionError"):
        cluster.python(CLIENT, conf, "client.tenant", "other")
    done = cluster.run(cluster.cli("--name", "client.tenant", "osd", "pool", "create", "mine"), check=False)
    assert done.returncode == 13 and "EACCES" in done.stderr


def test_a_client_without_caps_or_with_a_wrong_key_is_denied(cluster: ceph.Cluster) -> None:
    cluster.user("client.nobody")
    done = cluster.run(cluster.cli("--name", "client.nobody", "status"), check=False)
    assert done.returncode == 13 and "error connecting to the cluster" in done.stderr, done.stderr
    stranger = cluster.user("client.stranger", mon="allow r")
    assert cluster.run(cluster.cli("--name", "client.stranger", "osd", "ls")).stdout == "0\n1\n2\n"
    cluster.ceph("auth", "rm", "client.stranger")
    argv = cluster.cli("--name", "client.stranger", "--keyring", str(stranger), "osd", "ls")
    done = cluster.run(argv, check=False)
    assert done.returncode == 13 and "error connecting to the cluster" in done.stderr, done.stderr


def test_old_clients_that_reclaim_an_id_without_proof_are_refused(cluster: ceph.Cluster) -> None:
    told = cluster.ceph("tell", "mon.a", "config", "get", "auth_allow_insecure_global_id_reclaim")
    assert told == {"auth_allow_insecure_global_id_reclaim": "false"}


def test_the_collection_is_importable_beside_rados(cluster: ceph.Cluster) -> None:
    code = (
        "import rados, rbd; from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo"
    )
    assert cluster.python(code + "; print(mountinfo.__file__)").endswith("/_adapters/mountinfo.py\n")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_a_monitor_the_command_line_ends_when_told(cluster: ceph.Cluster, how: str) -> None:
    {"stopped": cluster.stop, "killed": cluster.kill}[how]("mon.a")
    start = time.monotonic()
    done = cluster.run(cluster.cli("status", timeout=2), check=False)
    print("ended: %.1f s" % (time.monotonic() - start))
    assert (done.returncode, done.stderr) == (1, "timed out\n")
    assert time.monotonic() - start >= 2
    {"stopped": cluster.cont, "killed": cluster.start}[how]("mon.a")
    assert cluster.ceph("osd", "ls") == [0, 1, 2]


def test_a_stopped_daemon_hangs_and_goes_on(cluster: ceph.Cluster) -> None:
    """The figures of OSDs are the manager's to tell."""
    cluster.stop("mgr.x")
    assert state(cluster.daemons["mgr.x"].pid) == "T"
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run(cluster.cli("osd", "df"), timeout=3)
    cluster.cont("mgr.x")
    assert len(cluster.ceph("osd", "df")["nodes"]) == 3


def test_an_osd_that_hangs_is_marked_down_by_the_others(cluster: ceph.Cluster) -> None:
    cluster.ceph("osd", "pool", "create", "three")
    cluster.settle()
    cluster.ceph("config", "set", "global", "osd_heartbeat_grace", "4")  # seconds, 20 by default
    try:
        cluster.stop("osd.1")
        start = time.monotonic()
        assert until(lambda: cluster.ceph("osd", "tree", "down")["nodes"] != [], 60)
        print("marked down: %.1f s" % (time.monotonic() - start))
        assert [node["name"] for node in cluster.ceph("osd", "tree", "down")["nodes"] if node["id"] >= 0] == ["osd.1"]
    finally:
        cluster.ceph("config", "rm", "global", "osd_heartbeat_grace")


def test_a_daemon_is_started_once(cluster: ceph.Cluster) -> None:
    with pytest.raises(Refused, match="osd.0 runs already"):
        cluster.start("osd.0")


def test_a_reset_cluster_is_as_new(cluster: ceph.Cluster) -> None:
    def world() -> object:
        tell = cluster.ask("osd pool ls", "osd crush rule ls", "osd erasure-code-profile ls", "auth ls", "osd tree")
        return [*tell, sorted(path.name for path in cluster.folder.glob("*.keyring"))]

    before = world()
    cluster.ceph("osd", "erasure-code-profile", "set", "wide", "k=2", "m=1", "crush-failure-domain=osd")
    cluster.ceph("osd", "pool", "create", "coded", "8", "8", "erasure", "wide")
    cluster.ceph("osd", "pool", "create", "plain")
    cluster.user("client.a", mon="allow r")
    cluster.stop("osd.1")
    cluster.kill("osd.2")
    cluster.kill("mgr.x")
    assert world() != before
    cluster.reset()
    assert world() == before
    assert [state(cluster.daemons[name].pid) for name in ceph.DAEMONS] == ["S"] * 5
    assert cluster.ceph("health")["status"] == "HEALTH_OK"


def test_a_daemon_that_ended_by_itself_is_told(cluster: ceph.Cluster) -> None:
    cluster.daemons["osd.1"].terminate()
    cluster.daemons["osd.1"].wait()
    with pytest.raises(Refused, match="osd.1 ended with "):
        cluster.settle()
    cluster.kill("osd.1")


def test_what_is_missing_is_said_in_one_line() -> None:
    done = lab.lab("ceph", "true", check=False, env={**os.environ, "PATH": "/nowhere"})
    assert done.returncode == 1
    packages = "apt dpkg iproute2 mount util-linux\n"
    assert done.stdout == "lab: these Debian packages are missing: apt-get install " + packages


# The end


def test_the_host_knows_of_nothing(cluster: ceph.Cluster) -> None:
    assert written_by(cluster) == ""
    assert network.BRIDGE not in os.listdir("/sys/class/net")
    assert [line for line in mounts(os.getpid()) if "overlay lab " in line or str(cluster.folder) in line] == []
    for process in cluster.daemons.values():
        assert len([line for line in mounts(process.pid) if " /usr ro" in line and " - overlay lab ro," in line]) == 1
    # its programs, with the host's network
    argv = [
        ceph.PYTHON,
        "-c",
        "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
        *cluster.cli("status", timeout=1),
    ]
    done = subprocess.run(argv, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "timed out" in done.stderr, (done.stdout, done.stderr)


def test_unpacking_changes_nothing_of_the_hosts(tmp_path: Path) -> None:
    """In a cache of its own: what comes of it is what we have."""
    argv = [sys.executable, "-c", UNPACK, str(trees.ROOT / "tools"), str(trees.linked())]
    env = {**os.environ, "BULKHEAD_CACHE": str(tmp_path / "a,b:c")}
    before = (installed(), mounts(os.getpid()))
    place = tmp_path / "a,b:c" / "lab" / "ceph-packages"
    for _turn in ("cold", "warm"):
        start = time.monotonic()
        done = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        print("%s: %.1f s" % (_turn, time.monotonic() - start))
        assert done.stdout == "%s\n" % (place / ceph_packages.unpacked().parent.name / "root")
    root = Path(done.stdout.strip())
    assert os.listdir(root.parent) == ["root"] and os.listdir(root) == ["usr"]
    assert sorted(os.listdir(place)) == sorted(["asked", "packages.lock", "python3", root.parent.name])
    done = subprocess.run([place / "python3", "-c", SEES], check=True, stdout=-1, encoding="utf-8", cwd=tmp_path)
    assert done.stdout == "/usr/bin/ceph-mon /usr/sbin/lvm %s\n" % tmp_path
    assert (installed(), mounts(os.getpid())) == before


def test_nothing_runs_when_it_has_ended(tmp_path: Path) -> None:
    space = network.made()
    try:
        with ceph.Cluster(tmp_path / "a", space) as cluster:
            pids = {process.pid for process in cluster.daemons.values()}
            assert len(pids) == 5 and set(inhabitants(space)) == pids
            cluster.stop("osd.0")  # a hanging one ends too
        assert inhabitants(space) == [] and mentioning(str(tmp_path)) == []
    finally:
        os.close(space)


@pytest.mark.parametrize("turn", range(KILLS))
def test_a_killed_run_leaves_nothing_running(tmp_path: Path, turn: int) -> None:
    env = {**os.environ, "BULKHEAD_CACHE": str(tmp_path), "CEPH_ARGS": "--id nobody"}  # of another Ceph
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "ceph-packages").symlink_to(ceph_packages.PLACE)
    moment = random.uniform(0.3, 4.0)
    print("killed after %.3f s" % moment)
    argv = [sys.executable, lab.LAB, "ceph", "sleep", "1000"]
    with subprocess.Popen(argv, env=env, stdin=-3, stdout=-3, stderr=-3, cwd=trees.ROOT) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    assert until(lambda: mentioning(str(tmp_path)) == [], 10), mentioning(str(tmp_path))
    done = lab.lab("ceph", "ceph", "health", env=env)
    assert done.stdout == "HEALTH_OK\n" and not (tmp_path / "lab" / "ceph").exists()
    assert lab.lab("ceph", "false", env=env, check=False).returncode == 1


def test_a_cluster_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    space = network.made()
    try:
        with ceph.Cluster(tmp_path / "a", space) as cluster:
            pids = {process.pid for process in cluster.daemons.values()}
            with pytest.raises(Refused), ceph.Cluster(tmp_path / "b", space):  # the monitor's port is taken
                pass
            assert set(inhabitants(space)) == pids
            assert cluster.ceph("health")["status"] == "HEALTH_OK"
    finally:
        os.close(space)
