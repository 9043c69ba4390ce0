# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a job host's pools, volumes and jobs to options of ``layout``. Pure; raises StorageError.

Entries take exactly the options of the modules ``pool``, ``volume``, ``job`` and ``io_limit``; ``layout`` checks them.
Added here: where a pool lies that does not say so, and a job's command and volumes as one types them.
"""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, times
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_ON_A_PATH = ("auto", "directory", "loop", "btrfs")
PROGRAM = "/usr/local/lib/bulkhead-cleanup.py"
# Nothing that gives a service mounts of its own (systemd.exec(5), PrivateMounts=): it has to unmount the host's.
_SERVICE = """\
[Unit]
Description=Volumes of ended jobs are detached, idle memory volumes removed (bulkhead.storage)
[Service]
Type=oneshot
ExecStart=%s -I -B %s%s
SuccessExitStatus=75
NoNewPrivileges=yes
RestrictRealtime=yes
LockPersonality=yes"""
_TIMER = """\
[Unit]
Description=Cleanup after the jobs of bulkhead.storage
[Timer]
OnActiveSec=%d
OnUnitInactiveSec=%d
AccuracySec=1s
[Install]
WantedBy=timers.target"""
# What an entry still says when the whole host goes: its name, and its consent.
_LEAVING = {
    "pools": ("name", "confirm"),
    "volumes": ("name", "namespace", "force"),
    "jobs": ("id",),
    "io_limits": ("name", "persist"),
}


def layout(
    base: str, pools: Any = None, volumes: Any = None, state: str = "present", jobs: Any = None, io_limits: Any = None
) -> dict[str, list[dict[str, Any]]]:
    """The lists of ``layout``. With ``state`` absent everything that is declared goes."""
    base = names.path(base, "base")
    if state not in ("present", "absent"):
        raise StorageError("invalid", "state %.80r is neither present nor absent" % (state,), option="state")
    found: dict[str, list[dict[str, Any]]] = {}
    lists = {"pools": pools, "volumes": volumes, "jobs": jobs, "io_limits": io_limits}
    for kind, entries in lists.items():
        found[kind] = [_entry(kind, index, entry, base) for index, entry in enumerate(_list(kind, entries))]
        if state == "absent":
            kept = _LEAVING[kind]
            found[kind] = [
                {**{option: value for option, value in entry.items() if option in kept}, "state": "absent"}
                for entry in found[kind]
            ]
    return found


def _entry(kind: str, index: int, entry: Any, base: str) -> dict[str, Any]:
    where = "job_host_%s[%d]" % (kind, index)
    if not isinstance(entry, dict):
        raise StorageError("invalid", "%s %.80r is not a dictionary" % (where, entry), option=kind)
    try:
        name = names.identifier(entry.get("id"), "id") if kind == "jobs" else names.identifier(entry.get("name"))
    except StorageError as error:
        error.at(where)
        raise
    said = {option: value for option, value in entry.items() if value not in (None, "")}  # "": not answered in a survey
    if kind == "jobs":
        return _job(said, where)
    config = said.get("config") or {}
    if kind == "pools" and said.get("backend") in _ON_A_PATH and isinstance(config, dict) and not config.get("path"):
        home = names.join(base, "volumes") if name == "default" else names.join(base, "pools", name)
        said["config"] = {**config, "path": home}
    return said


def _job(said: dict[str, Any], where: str) -> dict[str, Any]:
    """A command that is text is one for the job's shell; volumes that are text are name[:path[:ro]], with commas."""
    if isinstance(said.get("command"), str):
        said["command"] = ["sh", "-c", said["command"]]
    if isinstance(said.get("volumes"), str):
        said["volumes"] = [_volume(word.strip(), where) for word in said["volumes"].split(",") if word.strip()]
    return said


def _volume(word: str, where: str) -> dict[str, Any]:
    namespaced, *rest = word.split(":")
    namespace, slash, name = namespaced.rpartition("/")
    found: dict[str, Any] = {"name": name, **({"namespace": namespace} if slash else {})}
    if rest and rest[0]:
        found["path"] = rest[0]
    if rest[1:] not in ([], ["ro"], ["rw"]):
        text = "%s: volume %.80r is not name[:path[:ro]]" % (where, word)
        raise StorageError("invalid", text, "such as data:/data:ro", option="volumes")
    if rest[1:] == ["ro"]:
        found["read_only"] = True
    return found


def cleanup(given: Any, part: str, python: str, program: Callable[[], str]) -> str:
    """The text of a timer, of the service that it starts, or of the program that this runs."""
    if not isinstance(given, dict) or set(given) - {"interval", "memory_volume_timeout"}:
        text = "job_host_cleanup %.200r is not a dictionary of interval and memory_volume_timeout" % (given,)
        raise StorageError("invalid", text, "such as {interval: 1m, memory_volume_timeout: 24h}", option="cleanup")
    interval = times.seconds(given.get("interval"), "job_host_cleanup.interval")
    words = ""
    if given.get("memory_volume_timeout") not in (None, "", "none"):
        idle = times.seconds(given["memory_volume_timeout"], "job_host_cleanup.memory_volume_timeout")
        words = " --memory-volume-timeout %d" % idle
    if part == "program":
        return program()
    if part == "service":
        return _SERVICE % (names.path(python, "python"), PROGRAM, words)
    if part == "timer":
        return _TIMER % (interval, interval)
    raise StorageError("invalid", "part %.80r is not program, service or timer" % (part,), option="part")


def _list(kind: str, entries: Any) -> list[Any]:
    if entries in (None, ""):
        return []
    if isinstance(entries, list):
        return entries
    raise StorageError("invalid", "job_host_%s %.80r is not a list" % (kind, entries), option=kind)
