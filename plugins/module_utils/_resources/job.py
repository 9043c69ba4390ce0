# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job: a command that runs once, in a root of its own, with the volumes that it was given and nothing else.

Its record stands at the bottom; then its volumes, which it attaches; on top the service that runs it. A job may end at
any moment: whether it has ended is decided once a call.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Entry, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place

KIND, LIST = "job", "jobs"
OVER = ("done", "lost")
# Bytes of JSON of what a job said in a result, which holds 72 KiB of resources (listing.RESULT_BYTES), and of all else
# that is told of it. A program that takes more words than that is told by its first ones.
TOLD, LITTLE = 60 << 10, 4 << 10
_VOLUME = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "path": {"type": "path"},
    "read_only": {"type": "bool", "default": False},
}
_IO: dict[str, Any] = {  # io_limit's; not taken from there, since few jobs have any
    "path": {"type": "path"},
    "device": {"type": "path"},
    **{name: {"type": "str"} for name in ("read_bps", "write_bps", "min_bps", "burst_bps")},
    **{
        name: {"type": "int"}
        for name in ("read_iops", "write_iops", "weight", "min_iops", "burst_iops", "burst_seconds")
    },
}
OPTIONS: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str"},
    "user": {"type": "str"},
    "group": {"type": "str"},
    "working_dir": {"type": "path"},
    "environment": {"type": "dict"},
    "stdin": {"type": "str"},
    "volumes": {"type": "list", "elements": "dict", "options": _VOLUME},
    "rootfs": {"type": "str"},
    "work_size": {"type": "str"},
    "io": {"type": "dict", "options": _IO},
    "memory_max": {"type": "str"},
    "cpu_quota": {"type": "str"},
    "pids_max": {"type": "int"},
    "timeout": {"type": "int"},
    "network": {"type": "str", "choices": ["none", "host"]},
    "output_max": {"type": "str"},
    "keep_finished": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["prepared", "started", "finished", "absent"], "default": "started"},
}
RULES: dict[str, Any] = {}
FILTERS: dict[str, Any] = {"id": {"type": "str"}}


def label(p: dict[str, Any]) -> str:
    return str(p["id"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    key = names.identifier(p["id"], "id")
    return [("record", ("job", key)), ("job", key)]


def unit(p: dict[str, Any], look: Any) -> Unit:
    key = names.identifier(p["id"], "id")
    record, over = _record(key, look), p["state"] != "absent" and ended(p, look)
    spot = ("record", ("job", key))
    output = names.join(pool_place.JOBS, key, "output")
    cells: list[Cell]
    if p["state"] == "absent":
        cells = [Cell(*spot, None), Cell("mount", output, None), Cell("job", key, None)]
        needs = [("volume", name) for name in (record or {}).get("volumes", ())]
        return Unit((KIND, key), tuple(cells), tuple(needs), (("job", key),), consents={"absent": True})
    if record is not None and p["command"] is None:
        spec, row = {}, record
        if not over and look.look("job", [key]).get(key, {"state": "part"})["state"] == "part":
            text = "a run that was to make the job did not come to its end"
            raise StorageError("invalid", text, "declare the job with all of its options", option="command")
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job_words

        spec = job_words.spec(p)
        row = job_words.recorded(spec)
        if record is not None and record["digest"] != row["digest"]:
            text = "the job is known with other options, and a job runs once"
            raise StorageError("conflict", text, "give it another id, or remove it first with state: absent")
    needs = [("volume", name) for name in row["volumes"]]
    state = "prepared" if p["state"] == "prepared" else "running"
    cells = [Cell(*spot, {"digest": row["digest"]} if over or not spec else row)]
    if over:
        cells.append(Cell("mount", output, None))
    elif not spec:  # asked for by its id alone: it goes on as it was begun
        cells.append(Cell("job", key, {"state": state}))
    else:
        cells += [pool_place.shelf(), Cell("mount", output, job_words.output(spec))]
        if spec["rootfs"] == "minimal":
            cells.append(Cell("rootfs", "minimal", {"intact": True}, True))
        else:
            needs.append(("above", spec["rootfs"]))
        cells.append(Cell("job", key, {"state": state, "_spec": {**spec, "output": output}}))
    # to what it has said already being said elsewhere
    consents = {"absent": over, "allow_unstable_device": bool(p.get("allow_unstable_device"))}
    return Unit((KIND, key), tuple(cells), tuple(needs), (("job", key),), consents=consents)


def _record(key: str, look: Any) -> Any:
    row = look.look("record", [("job", key)]).get(("job", key))
    if isinstance(row, StorageError):
        raise row
    return row


def ended(p: dict[str, Any], look: Any) -> bool:
    """Has it ended, as this call goes by?"""
    if "_ended" not in p:
        row = look.look("job", [p["id"]]).get(p["id"])
        if isinstance(row, StorageError):
            raise row
        p["_ended"] = row is not None and row["state"] in OVER
    return bool(p["_ended"])


# -- the volumes ---------------------------------------------------------------------------------------------------


def place(key: str, name: str, namespace: str) -> str:
    """Where a volume is attached for a job."""
    return names.join(pool_place.JOBS, key, namespace, name)


def beside(entries: list[Entry], look: Any) -> list[Entry]:
    """The entries, and those of volumes that jobs have and nobody declares. In ``_jobs`` a volume hears how each job is
    to have it, or None of one that lets go of it.
    """
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume

    jobs = [entry for entry in entries if entry.resource.KIND == KIND]
    records = look.look("record", [("job", entry.params["id"]) for entry in jobs])
    look.look("job", [entry.params["id"] for entry in jobs])
    had: dict[str, dict[str, Any]] = {}
    whose: dict[str, Entry] = {}
    for entry in jobs:
        key = entry.params["id"]
        known = records.get(("job", key))
        takes = _takes(entry.params, look)
        for name in [*takes, *(known.get("volumes", ()) if isinstance(known, dict) else ())]:
            had.setdefault(name, {})[key] = takes.get(name)
            whose.setdefault(name, entry)
    found = []
    for entry in entries:
        mine = had.pop(volume.label(entry.params), None) if entry.resource.KIND == volume.KIND else None
        found.append(entry if mine is None else entry._replace(params={**entry.params, "_jobs": mine}))
    for name, mine in had.items():
        namespace, _slash, plain = name.partition("/")
        params = options.check(volume.OPTIONS, volume.RULES, {"name": plain, "namespace": namespace}, set())
        unstable = whose[name].params["allow_unstable_device"]
        params.update(state="used", _jobs=mine, allow_unstable_device=unstable)
        found.append(Entry("%s (volume %s)" % (whose[name].label, name), volume, params))
    return found


def _takes(p: dict[str, Any], look: Any) -> dict[str, Any]:
    """How a job has each of the volumes that it names; None where it has ended, or goes, and has none any more.

    What is wrong with a name, or cannot be looked at, is told where the job is declared.
    """
    unseen = isinstance(look.look("job", [p["id"]]).get(p["id"]), StorageError)
    over = p["state"] == "absent" or unseen or ended(p, look)
    found: dict[str, Any] = {}
    for each in p["volumes"] or ():
        held = {"target": place(p["id"], each["name"], each["namespace"]), "read_only": each["read_only"]}
        found["%s/%s" % (each["namespace"], each["name"])] = None if over else held
    return found


def to_the_end(entries: list[Entry], ports: Any, report: Any, converged: Any) -> Any:
    """Where jobs are waited for: the report, with what was done after their end, and what those say that failed."""
    awaited = [entry for entry in entries if entry.resource.KIND == KIND and entry.params["state"] == "finished"]
    if not awaited:
        return report
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import waiting

    return waiting.to_the_end(awaited, ports, report, converged)


def leaves(p: dict[str, Any]) -> bool:
    """Is nothing of it to be kept once its end was told?"""
    return p["keep_finished"] is False


def over(p: dict[str, Any], ports: Any) -> bool:
    """Has it ended by now? From here on it has, for this call."""
    row = ports["job"].scan([p["id"]]).get(p["id"])
    if isinstance(row, StorageError):
        raise row
    p["_ended"] = row is None or row["state"] in OVER
    return bool(p["_ended"])


def verdict(p: dict[str, Any], rows: Any) -> StorageError | None:
    """A job that failed fails its task, as a command does."""
    row = rows["job"].get(p["id"]) or {}
    if row.get("state") == "done" and row["_rc"] == 0:
        return None
    if row.get("state") != "done":
        text = "the host went down while the job ran, or it was removed"
        return StorageError("failed", text, "remove it with state: absent to run it again")
    text = "the job ended with %s (%s)" % (row["_rc"], row["_result"])
    said = (row["_stderr"].strip() or row["_stdout"].strip())[-400:]
    return StorageError("failed", text, said, rc=row["_rc"], result=row["_result"])


# -- what is shown -------------------------------------------------------------------------------------------------


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    return describe(p["id"], rows["record"].get(("job", p["id"])), rows["job"].get(p["id"]), rows.get("room", TOLD))


def describe(key: str, record: Any, row: Any, room: int) -> dict[str, Any]:
    """``room``: how many bytes of JSON its words and what it said may take."""
    record, row = record or {}, row or {}
    state = row.get("state", "absent")
    said = {name: row.get("_" + name) for name in ("stdout", "stderr")}
    told = {name: text and _cut(text, (room - LITTLE) // 2) for name, text in said.items()}
    return {
        "id": key,
        "state": {"running": "started", "done": "finished"}.get(state, state),
        "command": record.get("command"),
        "volumes": record.get("volumes"),
        **{name: row.get("_" + name) for name in ("rc", "result", "started_at", "finished_at")},
        **told,
        "truncated": told != said or bool(row.get("_more")),
    }


def _cut(text: str, room: int) -> str:
    """The beginning of a text that takes at most so many bytes of JSON."""
    while text and len(text) * 6 > room:  # whatever it is made of, it does else
        took = len(json.dumps(text))
        if took <= room:
            break
        text = text[: max(0, len(text) * room // took - 2)]
    return text


def gather(p: dict[str, Any], ports: Any) -> dict[str, Any]:
    """Every job that is recorded or has left anything, or the one that is asked for."""
    record, job = ports["record"], ports["job"]
    keys = [names.identifier(p["id"], "id")] if p["id"] is not None else None
    rows = job.scan(keys)
    if keys is None:
        keys = sorted({key for kind, key in record.scan(None) if kind == "job"} | set(rows))
    known = record.scan([("job", key) for key in keys])
    for row in rows.values():
        if isinstance(row, StorageError):
            raise row
    keys = [key for key in keys if key in rows or ("job", key) in known]
    room = max(LITTLE, TOLD // max(1, len(keys)))
    return {"jobs": [describe(key, known.get(("job", key)), rows.get(key), room) for key in keys]}
