# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Ceph cluster of Debian's packages: monitor, manager and three OSDs, in a network namespace of the lab.

It is made anew each time, in seconds: the keys and the first map are written before any daemon runs, so that nothing
has to be asked of the monitor. The daemons are children of ours and die with us; there is no container and no loop
device, and all files are in one folder. The packages are not installed: only programs of the cluster see them
(``ceph_packages``). What runs on the host cannot reach it, what runs in the namespace can: guests of the lab when it is
theirs, and programs by ``Cluster.run``.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import struct
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, Sequence

import trees

from . import ceph_packages
from .network import HOST, inside
from .places import Refused

OSDS = ("osd.0", "osd.1", "osd.2")
DAEMONS = ("mon.a", "mgr.x", *OSDS)
OSD_SIZE = 4 << 30  # bytes, sparse; 0.3 GB of each are the database's
PYTHON = str(ceph_packages.SEEING)  # Debian's, with rados and the programs, for who is in the network namespace
START = 60.0  # seconds; 3 on a quiet machine
ANSWER = 60.0  # seconds for one call of a program; 0.2 on a quiet machine

PROGRAMS = {  # and the Debian packages that bring them
    **ceph_packages.PROGRAMS,
    "ip": "iproute2",
    "nsenter": "util-linux",
}
CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    **{name: {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"} for name in OSDS},
}
# Every module of the manager is an interpreter of its own: these are 150 MB and seconds, and none is always on.
NOT_LOADED = "alerts cephadm dashboard influx insights iostat k8sevents localpool mirroring nfs osd_perf_query"
NOT_LOADED += " osd_support prometheus restful rook selftest snap_schedule stats telegraf test_orchestrator zabbix"
# The manager would make a pool of its own, and move data at times of its own.
STILL = ("mgr/devicehealth/enable_monitoring", "mgr/balancer/active")
CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:{host}:3300,v1:{host}:6789]
public_addr = {host}
run_dir = {folder}
crash_dir = {folder}
keyring = {folder}/$name.keyring
auth_allow_insecure_global_id_reclaim = false
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_delete = true
# what hangs is marked down when the others say so, and they are all on one host
mon_osd_reporter_subtree_level = osd
# a nearly full disk beneath is no finding
mon_data_avail_warn = 2
mon_data_avail_crit = 1
# seconds: a test waits for what others can be told later
paxos_propose_interval = 0.05
mon_tick_interval = 1
mgr_tick_period = 1
mgr_stats_period = 1
[mon]
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
mon_data = {folder}/mon.a
mon_cluster_log_file = {folder}/cluster.log
mgr_initial_modules =
[mgr]
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
mgr_data = {folder}/mgr.x
mgr_disabled_modules = {not_loaded}
[osd]
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
osd_data = {folder}/$name
osd_crush_update_on_start = false
bluestore_block_size = {size}
bluestore_block_db_create = false
bluestore_fsck_on_mkfs = false
# without these an OSD takes gigabytes by and by
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
# milliseconds; every closed device waits for the end of one such turn, and there are ten at the start
bdev_aio_poll_ms = 20
"""
# A parent that is gone before its child asked for the signal sends none: then the child has another parent.
ONLY_OURS = 'test $PPID = "$0" && exec "$@"'


def require() -> None:
    """Refuse at once what would fail later for want of a program or a right."""
    if os.geteuid() != 0:
        raise Refused("a Ceph cluster needs root: it is in namespaces of its own")
    lacking = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if lacking:
        raise Refused("these Debian packages are missing: apt-get install " + " ".join(lacking))


class Cluster:
    """A cluster, from ``with`` to the end of its block.

    ``folder`` is made and shall not be there before; who gave it removes it. ``space`` is a descriptor of a
    network namespace with the lab's bridge in it (``network.made``, or that of the guests), open as long as the
    cluster runs. The thread that starts a daemon must outlive it: the kernel takes its end for ours.
    """

    def __init__(self, folder: Path, space: int) -> None:
        self.folder = folder
        self.space = space
        self.conf = folder / "ceph.conf"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        require()
        self.packages = ceph_packages.unpacked()
        try:
            self._make()
            self.settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.daemons.values():
            process.kill()
        for process in self.daemons.values():
            process.wait()
        self.daemons.clear()

    # daemons: mon.a, mgr.x, osd.0, osd.1, osd.2

    def start(self, name: str) -> None:
        """Start a daemon that does not run, with the data that it has; returns at once."""
        if name in self.daemons:
            raise Refused("%s runs already" % name)
        program, _dot, number = name.partition(".")
        self.daemons[name] = self._begin(name, ["ceph-" + program, "--foreground", "--id", number])

    def kill(self, name: str) -> None:
        """End a daemon as a power failure would."""
        process = self.daemons.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """Let a daemon hang: its connections stay, nothing is answered."""
        self.daemons[name].send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.daemons[name].pid, os.WSTOPPED)

    def cont(self, name: str) -> None:
        """Let a stopped daemon go on."""
        self.daemons[name].send_signal(signal.SIGCONT)

    # programs

    def bound(self, argv: Sequence[str]) -> list[str]:
        """A command line in the namespaces, for a child of ours that lives no longer than we; no fork on the way."""
        ours = ["sh", "-c", ONLY_OURS, str(os.getpid()), *argv]
        return [*inside(self.space), "setpriv", "--pdeathsig", "KILL", *ceph_packages.shown(self.packages, ours)]

    def run(
        self, argv: Sequence[str], check: bool = True, input: str | None = None, timeout: float = ANSWER, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace; ``more`` are variables of its environment, where nothing tells of Ceph."""
        done = subprocess.run(
            self.bound(argv),
            env={**environment(), **more},
            cwd=self.folder,
            input=input or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise Refused("%s ended with %d: %s" % (" ".join(argv), done.returncode, done.stderr.strip()))
        return done

    def python(self, code: str, *arguments: str, check: bool = True, timeout: float = ANSWER) -> str:
        """What a piece of Python prints in the namespace; rados, rbd and this collection are importable."""
        argv = [ceph_packages.PYTHON, "-c", code, *arguments]
        return self.run(argv, check=check, timeout=timeout, PYTHONPATH=str(trees.linked())).stdout

    def cli(self, *words: str, timeout: int = 10) -> list[str]:
        """A call of ``ceph``, for ``run``; seconds to the first answer of the monitor."""
        return ["ceph", "--conf", str(self.conf), "--connect-timeout", str(timeout), *words]

    def ceph(self, *words: str) -> Any:
        """What ``ceph`` answers to client.admin: the value of its JSON, or None where it says nothing."""
        said = self.run(self.cli("--format", "json", *words)).stdout.strip()
        return json.loads(said) if said else None

    def ask(self, *questions: str) -> list[Any]:
        """Several questions to ``ceph`` in the time of one."""
        said = self.run(self.cli("--format", "json"), input="\n".join(questions) + "\n")
        rest, answers = said.stdout.strip(), []
        while rest:
            answer, end = json.JSONDecoder().raw_decode(rest)
            answers.append(answer)
            rest = rest[end:].strip()
        if len(answers) != len(questions):
            raise Refused("ceph answers %d of %s: %s" % (len(answers), questions, said.stderr.strip()))
        return answers

    # what a test begins with

    def user(self, name: str, **caps: str) -> Path:
        """The keyring of a user (``client.a``) with these caps; programs given ``conf`` find it by the name."""
        words = [word for kind in caps.items() for word in kind]
        keyring = self.folder / (name + ".keyring")
        _write(keyring, self.run(self.cli("auth", "get-or-create", name, *words)).stdout)
        return keyring

    def reset(self) -> None:
        """All daemons run, and pools, users, CRUSH rules and erasure profiles are those of the start."""
        for name in DAEMONS:
            if name in self.daemons:
                self.cont(name)
            else:
                self.start(name)
        pools, rules, profiles, known = self.ask(
            "osd pool ls", "osd crush rule ls", "osd erasure-code-profile ls", "auth ls"
        )
        for pool in pools:
            self.ceph("osd", "pool", "rm", pool, pool, "--yes-i-really-really-mean-it")
        for rule in rules:
            if rule != "replicated_rule":
                self.ceph("osd", "crush", "rule", "rm", rule)
        for profile in profiles:
            if profile != "default":
                self.ceph("osd", "erasure-code-profile", "rm", profile)
        for entity in [row["entity"] for row in known["auth_dump"]]:
            if entity not in CAPS and not entity.startswith("client.bootstrap-"):
                self.ceph("auth", "rm", entity)
                (self.folder / (entity + ".keyring")).unlink(missing_ok=True)
        self.settle()

    def settle(self, longest: float = START) -> None:
        """Wait until all is well: HEALTH_OK, every OSD up and counted, every placement group active and clean."""
        until = time.monotonic() + longest
        while True:
            status, pools = self.ask("status", "osd pool ls detail")
            groups = {row["state_name"]: row["count"] for row in status["pgmap"]["pgs_by_state"]}
            want = {"active+clean": sum(pool["pg_num"] for pool in pools)} if pools else {}
            found = (status["health"]["status"], status["osdmap"]["num_up_osds"], status["mgrmap"]["available"])
            # the manager counts bytes when it has heard of the OSDs
            if found == ("HEALTH_OK", len(OSDS), True) and status["pgmap"]["bytes_total"] and groups == want:
                return
            for name, process in self.daemons.items():
                if process.poll() is not None:
                    raise Refused("%s ended with %d; see %s/%s.out" % (name, process.returncode, self.folder, name))
            if time.monotonic() > until:
                told = [check["summary"]["message"] for check in status["health"]["checks"].values()]
                raise Refused("the cluster is not well after %d s: %s %s %s" % (longest, found, groups, told))

    # how it is made

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True)
        fsid = str(uuid.uuid4())
        values = {"folder": self.folder, "fsid": fsid, "host": HOST, "size": OSD_SIZE}
        _write(self.conf, CONF.format(not_loaded=",".join(NOT_LOADED.split()), **values))
        keys = {name: _keyring(name, caps) for name, caps in CAPS.items()}
        for name, text in keys.items():
            _write(self.folder / ((name if name != "mon." else "mon.a") + ".keyring"), text)
        _write(self.folder / "all.keyring", "".join(keys.values()))
        for name in DAEMONS:
            (self.folder / name).mkdir()
        osdmap = str(self.folder / "osdmap")
        self.run(["osdmaptool", "--conf", str(self.conf), "--createsimple", str(len(OSDS)), osdmap])
        # without --foreground each would be the parent of one that does it
        mkfs = ["--foreground", "--mkfs", "--osd-uuid"]
        making = {
            name: self._begin(name, ["ceph-osd", "--id", name[4:], "--no-mon-config", *mkfs, str(uuid.uuid4())])
            for name in OSDS
        }
        try:
            monitor = ["ceph-mon", "--conf", str(self.conf), "--foreground", "--mkfs", "--id", "a", "--fsid", fsid]
            monitor += ["--mon-initial-members", "a", "--osdmap", osdmap]
            self.run([*monitor, "--keyring", str(self.folder / "all.keyring")])
            self.start("mon.a")
            self.start("mgr.x")
            for option in STILL:  # before there are OSDs to do it with
                self.run(self.cli("config", "set", "mgr", option, "false", "--force"))
            for name, process in making.items():
                if process.wait(START):
                    raise Refused("mkfs of %s ended with %d; see %s/*.out" % (name, process.returncode, self.folder))
                self.start(name)
        finally:
            for process in making.values():
                process.kill()
                process.wait()

    def _begin(self, name: str, argv: list[str]) -> subprocess.Popen[bytes]:
        with open(self.folder / (name + ".out"), "ab") as out:
            return subprocess.Popen(
                self.bound([argv[0], "--conf", str(self.conf), *argv[1:]]),
                env=environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # the terminal's signals are not for them
            )


def environment() -> dict[str, str]:
    """Our own variables, but for those that tell of another Ceph or another Python."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CEPH_", "PYTHON"))}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # those that lie in a cache stay as they are
    return env


def _keyring(name: str, caps: dict[str, str]) -> str:
    # type 1 (AES), seconds and nanoseconds of its birth, length, key: CryptoKey::encode in src/auth/Crypto.cc
    key = base64.b64encode(struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secrets.token_bytes(16)).decode()
    lines = ["[%s]" % name, "key = " + key, *('caps %s = "%s"' % pair for pair in caps.items())]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
