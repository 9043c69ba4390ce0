# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to one Ceph cluster for a module, as a process of its own: a line of JSON in, a line of JSON out.

The bindings (``python3-rados``) are for the system's Python, which may be another than the one that runs a module, and
a call of theirs that hangs can be ended in no other way than with its process. So this file is run as a text by any
Python that can import them. Requests run side by side, each in a thread: the monitors commit a second's changes at
once. Nothing here waits but those threads, so the end of the input ends it whatever hangs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, Dict

Answer = Dict[str, Any]


def connect(said: dict[str, Any]) -> Any:
    import rados  # type: ignore[import-not-found]

    names = {"name": said["user"], "clustername": said["cluster"]}
    cluster = rados.Rados(conffile=said["conf"], conf=said["options"], **names)
    cluster.connect()
    return cluster


def command(cluster: Any, said: dict[str, Any]) -> Answer:
    """Of the monitors, or of the manager: 0 or the number of an error, what is there, what it says about that."""
    ask = cluster.mgr_command if said["to"] == "mgr" else cluster.mon_command
    number, out, text = ask(json.dumps(said["command"]), b"")
    return {"errno": -number, "out": out.decode("utf-8", "surrogateescape"), "text": text}


def namespaces(cluster: Any, said: dict[str, Any]) -> Answer:
    """Those of RBD in a pool, or one of them made or removed."""
    import rbd  # type: ignore[import-not-found]

    words = said["command"]
    with cluster.open_ioctx(words["pool"]) as pool:
        if words["verb"] == "list":
            return {"errno": 0, "out": json.dumps(list(rbd.RBD().namespace_list(pool))), "text": ""}
        getattr(rbd.RBD(), "namespace_" + words["verb"])(pool, words["namespace"])
    return {"errno": 0, "out": "", "text": ""}


def tried(work: Any, *given: Any) -> Answer:
    """What bindings raise are subclasses of OSError, or of ImportError where they are not installed."""
    try:
        return dict(work(*given))
    except ImportError as error:
        return {"errno": 95, "missing": str(error.name or error)}
    except Exception as error:
        return {"errno": abs(getattr(error, "errno", None) or 5), "out": "", "text": str(error)}


def main() -> None:
    said: dict[str, Any] = json.loads(sys.stdin.readline())
    kept: list[Any] = []
    turn = threading.Lock()

    def tell(number: int, answer: Answer) -> None:
        with turn:
            sys.stdout.write(json.dumps({**answer, "id": number}) + "\n")
            sys.stdout.flush()

    def begin() -> Answer:
        kept.append(connect(said))
        return {"errno": 0}

    def serve(asked: dict[str, Any]) -> None:
        tell(asked["id"], tried(command if asked["to"] in ("mon", "mgr") else namespaces, kept[0], asked))

    threading.Thread(target=lambda: tell(0, tried(begin)), daemon=True).start()
    for line in sys.stdin:
        threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
