# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: whole plays, the module process, the loops of others, the bare system calls."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any, Callable

from ansible_collections.bulkhead.storage.tests.benchmark import bare, careful, costs, declarations, world
from ansible_collections.bulkhead.storage.tests.benchmark.plays import TARGET, Plays

PING: declarations.Tasks = [{"ansible.builtin.ping": {}}]
TENANTS: declarations.Tasks = [{"bulkhead.storage.layout": {"trees": "{{ trees }}"}}]
NOTHING_YET: dict[str, float] = {"cpu": 0.0, "wall": 0.0, "rss": 0.0}


def converged(plays: Plays, kind: str, count: int) -> str:
    """A fresh world in which a kind is as declared; the play that did it, with its variables in JSON."""
    world.fresh(plays.work, kind, count)
    document = plays.document("vars-%s-%d" % (kind, count), declarations.document(kind, count))
    ours = plays.play("ours-%s-%d" % (kind, count), declarations.ours(kind, count), vars_files=[document])
    plays.run(ours)
    _quiet(plays.run(ours)[1], ours)
    return ours


def _quiet(changed: int, what: str) -> None:
    if changed:
        raise costs.Failed("%s changed something where nothing was to do" % what)


def _no_op(plays: Plays, path: str, **more: str) -> dict[str, float]:
    cost, changed = plays.run(path, **more)
    _quiet(changed, path)
    return cost


def whole_plays(plays: Plays, count: int, rounds: int) -> dict[str, Any]:
    """A play that changes nothing, with the declaration in four places, beside a play with one ping.

    ``load ...`` is a ping in a play with the same variables, which it does not use: Ansible's own price for them.
    """
    converged(plays, "directories", count)
    document = declarations.document("directories", count)
    as_json, as_yaml = plays.document("trees", document), plays.document("trees-yaml", document, as_yaml=True)
    plays.document("vars/host_vars/localhost", document)
    src: declarations.Tasks = [{"bulkhead.storage.layout": {"src": as_json, "remote_src": True}}]
    paths = {
        "empty": plays.play("empty", []),
        "ping": plays.play("ping", PING),
        "file": plays.play("file", src),
        "load json": plays.play("load-json", PING, vars_files=[as_json]),
        "json": plays.play("json", TENANTS, vars_files=[as_json]),
        "load yaml": plays.play("load-yaml", PING, vars_files=[as_yaml]),
        "yaml": plays.play("yaml", TENANTS, vars_files=[as_yaml]),
    }
    things: dict[str, Callable[[], dict[str, float]]] = {n: partial(_no_op, plays, p) for n, p in paths.items()}
    of_host = plays.play("of-host", TENANTS)
    things["load host"] = partial(_no_op, plays, paths["ping"], inventory="vars")
    things["host"] = partial(_no_op, plays, of_host, inventory="vars")
    return {"count": count, "rounds": costs.rounds(rounds, things)}


def module_process(plays: Plays, count: int, rounds: int) -> dict[str, Any]:
    """The process on the target alone, beside the one of ping; and what it calls."""
    converged(plays, "directories", count)
    as_json = plays.document("trees", declarations.document("directories", count))
    src: declarations.Tasks = [{"bulkhead.storage.layout": {"src": as_json, "remote_src": True}}]
    sent = {
        "ping": plays.sent("ping", plays.play("ping", PING)),
        "file": plays.sent("file", plays.play("file", src)),
        "json": plays.sent("json", plays.play("json", TENANTS, vars_files=[as_json])),
    }
    things: dict[str, Callable[[], dict[str, float]]] = {n: partial(_module, plays, s, False) for n, s in sent.items()}
    found = {"count": count, "rounds": costs.rounds(rounds, things), "sent": _sizes(sent)}
    return {**found, "calls": {name: plays.calls(sent[name]) for name in ("ping", "file", "json")}}


def fleet(plays: Plays, count: int, hosts: int, rounds: int) -> dict[str, Any]:
    """What each further host costs: plays on one host and on several (names for this one)."""
    converged(plays, "directories", count)
    plays.hosts("fleet", hosts)
    as_json = plays.document("trees", declarations.document("directories", count))
    src: declarations.Tasks = [{"bulkhead.storage.layout": {"src": as_json, "remote_src": True}}]
    paths = {"ping": plays.play("ping-all", PING, hosts="all"), "file": plays.play("file-all", src, hosts="all")}
    things: dict[str, Callable[[], dict[str, float]]] = {}
    for name, path in paths.items():
        things[name + " one"] = partial(_no_op, plays, path)
        things[name + " all"] = partial(_no_op, plays, path, inventory="fleet")
    return {"count": count, "hosts": hosts, "rounds": costs.rounds(rounds, things)}


def _sizes(sent: dict[str, str]) -> dict[str, int]:
    return {name: os.path.getsize(path) for name, path in sent.items()}


def _module(plays: Plays, sent: str, changes: bool) -> dict[str, float]:
    cost, result = plays.module(sent)
    if bool(result.get("changed")) is not changes or result.get("failed"):
        raise costs.Failed("%s: %s" % (sent, json.dumps(result)[:4000]))
    inside = sum(result.get("timings", {}).values()) / 1000
    return {**cost, "inside": inside}


def floor(plays: Plays, kind: str, count: int, rounds: int) -> dict[str, Any]:
    """The module process beside the bare system calls, from nothing to all, and then with nothing to do."""
    world.fresh(plays.work, kind, count)
    document = plays.document("%s-%d" % (kind, count), declarations.document(kind, count))
    task: declarations.Tasks = [{"bulkhead.storage.layout": {"src": document, "remote_src": True}}]
    ping = plays.sent("ping", plays.play("ping", PING))
    sent = plays.sent("floor", plays.play("floor", task))
    script = os.path.abspath(bare.__file__)
    found: dict[str, list[dict[str, Any]]] = {"first": [], "again": []}
    for _round in range(rounds):
        world.fresh(plays.work, kind, count)
        told = json.loads(costs.child([TARGET, script, kind, str(count)], plays.env)[1])
        if kind in careful.KINDS:
            world.fresh(plays.work, kind, count)
            argv = [TARGET, os.path.abspath(careful.__file__), kind, str(count)]
            told["careful"] = json.loads(costs.child(argv, plays.env)[1])
        world.fresh(plays.work, kind, count)
        for name in found:
            one = {"ping": _module(plays, ping, False), "bare": told[name]}
            if name == "first" and "careful" in told:
                one["careful"] = told["careful"]
            found[name].append({**one, "module": _module(plays, sent, name == "first")})
    return {"kind": kind, "count": count, **found}


def loops(plays: Plays, kind: str, count: int, rounds: int) -> dict[str, Any]:
    """Our play beside the loop of others, both with nothing to do, at the same size.

    Each round has a fresh world: some loops change what they find as declared.
    """
    theirs = plays.play("theirs-%s-%d" % (kind, count), declarations.peers(kind, count))
    found = []
    changed = 0
    for _round in range(rounds):
        one = {"ours": _no_op(plays, converged(plays, kind, count))}
        one["peers"], changed = plays.run(theirs)
        found.append(one)
    return {"kind": kind, "count": count, "changed": changed, "rounds": found}


def with_mitogen(plays: Plays, strategies: str, counts: list[int], rounds: int) -> dict[str, Any]:
    """The same pairs under mitogen's strategy, which keeps a Python running on the target."""
    plays.configure("mitogen", TARGET, "strategy_plugins = %s\nstrategy = mitogen_linear" % strategies)
    found = []
    for count in counts:
        ours = converged(plays, "directories", count)
        theirs = plays.play("theirs-directories-%d" % count, declarations.peers("directories", count))
        things: dict[str, Callable[[], dict[str, float]]] = {
            "ping": partial(_no_op, plays, plays.play("ping", PING), config="mitogen"),
            "ours": partial(_no_op, plays, ours, config="mitogen"),
        }
        if count <= 100:
            things["peers"] = partial(_no_op, plays, theirs, config="mitogen")
        found.append({"count": count, "rounds": [{n: run() for n, run in things.items()} for _round in range(rounds)]})
    return {"sizes": found}
