# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, starting and removing a job: its folder, its service (systemd.exec(5), systemd.service(5)), its start.

The unit lies in /run: a job does not start by itself, and not again. Nobody had its name before, so systemd reads it
without being told to.
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, rootfs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.job import ENDS, MOMENT, UNITS, unit
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

SYSTEMD = 257  # PrivatePIDs=
FOLDERS = ("proc", "sys", "dev", "tmp", "work", "run", "volumes")  # of every job, whatever its root is made of
PLAIN = re.compile(r"[A-Za-z0-9_.+@-]+", re.ASCII)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START, STOP = 120.0, 120.0  # seconds; what has not ended in 10 is killed
# What no job has: a network (unless it is told so), processes of others, devices, privileges, the kernel's own knobs.
# PrivateUsers: who is root in a job is nobody outside, and may not change the project that a file is charged to.
CONFINED = """\
MountAPIVFS=yes
ProtectProc=invisible
ProcSubset=pid
InaccessiblePaths=+/sys
ProtectSystem=strict
PrivateDevices=yes
DevicePolicy=closed
PrivatePIDs=yes
PrivateIPC=yes
PrivateUsers=yes
PrivateMounts=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictNamespaces=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
LimitCORE=0
OOMPolicy=kill
TimeoutStopSec=10
"""
# After the job, in a service of its own, as every program of the job's would be in its root: what it said, no more than
# it may say, and how it ended. The result comes last.
_END = """\
[Unit]
Description=The end of job %%i of bulkhead.storage
CollectMode=inactive-or-failed
[Service]
Type=oneshot
ExecStart=/bin/sh %(home)s/%%i/collect
"""
_COLLECT = """\
#!/bin/sh
set -u
cd %(home)s || exit 1
for name in stdout stderr; do
    head -c %(most)d %(output)s/$name > $name 2> /dev/null
    cmp -s %(output)s/$name $name || : > more
done
printf '%%s %%s %%s\\n' "$MONITOR_SERVICE_RESULT" "${MONITOR_EXIT_CODE:-none}" "${MONITOR_EXIT_STATUS:-0}" > .result
sync .result stdout stderr
mv .result result
rm -f %(unit)s
"""


def refuse(run: Any) -> StorageError | None:
    """Why this host can run no job at all."""
    try:
        status, out, _err = run(["systemctl", "--version"])
    except StorageError as error:
        return error
    found = re.match(rb"systemd (\d+)", out)
    if status or found is None:
        return StorageError("unsupported", "systemd does not tell its version", "a job is a service of systemd")
    if int(found.group(1)) < SYSTEMD:
        text = "systemd %d cannot give a job processes of its own (PrivatePIDs=)" % int(found.group(1))
        return StorageError("unsupported", text, "systemd %d or newer" % SYSTEMD)
    if not os.path.isdir("/run/systemd/system"):
        return StorageError("unsupported", "systemd does not run this system", "a job is a service of systemd")
    return None


def unlimited(after: dict[str, Any]) -> StorageError | None:
    """Why its reading and writing could not be limited."""
    io = after.get("_spec", {}).get("io")
    return _io().refuse(io) if io else None


def _io() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobio

    return jobio


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = port.row(target)
    if after is not None and (now and now["state"]) != (before and before["state"]):  # one that goes may end by itself
        raise StorageError("moved", "job %s is not as it was planned for" % target, "run it again")
    try:
        if after is None:
            _remove(port, target)
            return
        try:
            if now is None or now["state"] == "part":
                _make(port, target, after["_spec"])
            if after["state"] == "running":
                _start(port, target)
        except (OSError, StorageError):
            if now is None:  # what it was to stand on can go again
                _remove(port, target)
            raise
    except OSError as error:
        raise failure(error, "cannot make job %s" % target) from error


def _start(port: Any, target: str) -> None:
    _write(os.path.join(port.home, target, "started"), "")
    status, _out, err = port.run(["systemctl", "start", unit(target)], timeout=START)
    if not status:
        error = _io().held(target) if _limited(target) else None
        if error is not None:
            raise error
        return
    until = time.monotonic() + MOMENT
    while time.monotonic() < until:
        if (port.row(target) or {}).get("state") == "done":  # what is no program has ended too
            return
        time.sleep(0.05)
    text = err.decode("utf-8", "replace").strip().partition("\n")[0]
    raise StorageError("failed", "job %s does not start: %s" % (target, text), "journalctl -u " + unit(target))


def _limited(target: str) -> bool:
    try:
        with open(os.path.join(UNITS, unit(target)), encoding="utf-8") as stream:
            return "\nIO" in stream.read()
    except FileNotFoundError:  # it has ended
        return False


def _remove(port: Any, target: str) -> None:
    if target in port.leaving:  # each may take seconds: all are told before one is waited for
        rows = port.scan(port.leaving)
        going = [unit(key) for key, row in rows.items() if isinstance(row, dict) and row["state"] == "running"]
        port.leaving.clear()
        if len(going) > 1:
            port.run(["systemctl", "stop", "--no-block", *going], timeout=STOP)
    file = os.path.join(UNITS, unit(target))
    if (port.row(target) or {"state": ""})["state"] in ("running", "prepared"):
        status, _out, err = port.run(["systemctl", "stop", unit(target)], timeout=STOP)
        ends = [end % target for end in ENDS.values()]  # nobody asks any more
        port.run(["systemctl", "stop", *ends], timeout=STOP)
        if status and port.row(target)["state"] == "running":
            text = err.decode("utf-8", "replace").strip().partition("\n")[0]
            raise StorageError("in_use", "job %s does not stop: %s" % (target, text), "journalctl -u " + unit(target))
    if os.path.lexists(file):
        os.unlink(file)
    rootfs.removed(os.path.join(port.home, target))


def _make(port: Any, target: str, spec: dict[str, Any]) -> None:
    private_directory(os.path.dirname(port.home))
    os.makedirs(port.home, mode=0o711, exist_ok=True)
    home = os.path.join(port.home, target)
    private_directory(home)
    binds = _root(home + "/root", spec)
    for volume in spec["volumes"]:
        _folder(home + "/root" + volume["path"])
    _write(home + "/environment", "".join("%s=%s\n" % (k, _quoted(v)) for k, v in _environment(target, spec).items()))
    if spec["stdin"] is not None:
        _write(home + "/stdin", spec["stdin"])
    file = os.path.join(UNITS, unit(target))
    about = {"home": home, "most": spec["output_max"], "output": spec["output"], "unit": file}
    _write(home + "/collect", _COLLECT % about)
    for end in ENDS.values():
        template = os.path.join(UNITS, end % "")
        if not os.path.lexists(template):
            atomic.replace(template, (_END % {"home": port.home}).encode(), 0o644)
    limits = _io().lines(spec["io"], spec["volumes"]) if spec["io"] else []
    atomic.replace(file, text(target, home, spec, binds, limits).encode(), 0o644)  # last: what has it is complete


def _root(root: str, spec: dict[str, Any]) -> list[str]:
    """Folders to mount at, and the lines that say what is mounted there."""
    for folder in FOLDERS:
        _folder(os.path.join(root, folder))
    source = rootfs.path("minimal") if spec["rootfs"] == "minimal" else spec["rootfs"]
    _trusted(source)
    binds = []
    for name in sorted(os.listdir(source)):
        there, here = os.path.join(source, name), os.path.join(root, name)
        if name in FOLDERS or os.path.lexists(here):
            continue
        kind = os.lstat(there).st_mode
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink(there), here)
        elif stat.S_ISDIR(kind):
            if not PLAIN.fullmatch(name):  # it would be read as something else in a unit
                text = "%s holds a folder of the name %.80r" % (source, name)
                raise StorageError("unsafe_path", text, "letters, digits and _ . + @ -")
            _folder(here)
            binds.append("%s:/%s" % (there, name))
    return binds


def _trusted(path: str) -> None:
    """Nobody but root can put something else there while systemd mounts it."""
    with Walk() as walk:
        _fd, _name, trusted = walk.parent(path.rstrip("/") + "/.")  # is root the only one who names what is in it?
    if os.path.realpath(path) != path or not trusted:
        text = "%s is not a directory that only root can write to" % path
        raise StorageError("unsafe_path", text, "chown root:root and chmod go-w it, and name no link", option="rootfs")


def text(target: str, home: str, spec: dict[str, Any], binds: list[str], limits: list[str]) -> str:
    """The unit. ``:`` before the program: what looks like a variable in its arguments is left alone."""
    lines = ["[Unit]", "Description=Job %s of bulkhead.storage" % target, "CollectMode=inactive-or-failed"]
    lines += ["On%s=%s" % (way, end % target) for way, end in ENDS.items()] + ["[Service]"]
    lines += ["Type=exec", "Slice=bulkhead-jobs.slice", "ExecSearchPath=" + PATH]
    lines += ["ExecStart=:" + " ".join(_unit_word(word) for word in spec["command"])]
    lines += ["RootDirectory=%s/root" % home, "EnvironmentFile=%s/environment" % home]
    lines += ["User=" + spec["user"], "WorkingDirectory=" + spec["working_dir"]]
    lines += ["Group=%s" % spec["group"]] * (spec["group"] is not None)
    lines += ["StandardInput=" + ("null" if spec["stdin"] is None else "file:%s/stdin" % home)]
    lines += ["StandardOutput=file:%s/stdout" % spec["output"], "StandardError=file:%s/stderr" % spec["output"]]
    lines += ["BindReadOnlyPaths=" + bind for bind in binds]
    inodes = max(64, spec["work_size"] // 16384)
    for folder in ("/work", "/tmp"):
        bounds = (folder, spec["work_size"], inodes)
        lines.append("TemporaryFileSystem=%s:size=%d,nr_inodes=%d,mode=1777,nosuid,nodev" % bounds)
    for volume in spec["volumes"]:
        lines.append("Bind%sPaths=%s:%s" % ("ReadOnly" * volume["read_only"], volume["at"], volume["path"]))
    lines += ["PrivateNetwork=yes"] * (spec["network"] == "none")
    if spec["memory_max"]:
        lines += ["MemoryMax=%d" % spec["memory_max"], "MemorySwapMax=0"]
    for option, word in (("cpu_quota", "CPUQuota=%d%%"), ("pids_max", "TasksMax=%d"), ("timeout", "RuntimeMaxSec=%d")):
        lines += [word % spec[option]] if spec[option] else []
    return "\n".join(lines + limits) + "\n" + CONFINED


def _environment(target: str, spec: dict[str, Any]) -> dict[str, str]:
    found = {"HOME": "/work", "PATH": PATH, "JOB_ID": target}
    found["JOB_VOLUMES_COUNT"] = str(len(spec["volumes"]))
    for number, volume in enumerate(spec["volumes"]):
        found["JOB_VOLUME_%d" % number] = volume["name"].partition("/")[2]
    return {**found, **spec["environment"]}


def _unit_word(word: str) -> str:
    """A word as a unit file quotes it (systemd.syntax(7)); no specifier is one."""
    return '"%s"' % "".join(_escaped(char) for char in word).replace("%", "%%")


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return "".join("\\x%02x" % byte for byte in char.encode()) if ord(char) < 32 or ord(char) == 127 else char


def _quoted(value: str) -> str:
    """A value as an environment file quotes it (systemd.exec(5), EnvironmentFile=)."""
    return '"%s"' % re.sub(r'(["\\`$])', r"\\\1", value)


def _folder(path: str) -> None:
    os.makedirs(path, mode=0o755, exist_ok=True)


def _write(path: str, text: str) -> None:
    atomic.replace(path, text.encode(), 0o600)
