# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables and rules of udev on loop devices for the port contract suite; partitions need udev, so a guest."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.gpt import Partitions, Tables
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.udev_rule import UdevRule
from ansible_collections.bulkhead.storage.tests.support import namespace

MIB = 1 << 20


@contextmanager
def case_gpt() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path, namespace.loop_device(namespace.image(path + "/i", 64 * MIB)) as device:
        yield Tables(execute, lambda: Intents(Record(path + "/own"))), device, {"label": "gpt", "whole": True}, None


@contextmanager
def case_udev_rule() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path, namespace.loop_device(namespace.image(path + "/i", 8 * MIB)) as device:
        rdev = os.stat(device).st_rdev
        os.mkdir(path + "/data")
        with open("%s/data/b%d:%d" % (path, os.major(rdev), os.minor(rdev)), "w", encoding="ascii") as stream:
            stream.write("E:ID_SERIAL=0QEMU_data1\n")
        first = {"scheduler": "none", "intact": True}
        yield UdevRule(path + "/rules", path + "/data"), device, first, {**first, "read_ahead": MIB}


@contextmanager
def guest_case_partition() -> Iterator[tuple[Any, str, Any, Any]]:
    with namespace.place() as path, namespace.loop_device(namespace.image(path + "/i", 64 * MIB)) as device:
        intents = Intents(Record(path + "/own"))
        table = Tables(execute, lambda: intents)
        table.put(device, None, table.merge(device, None, {"label": "gpt"}))
        first = {"start": MIB, "size": 8 * MIB, "name": "first"}
        first["_among"] = ((1, MIB, 8 * MIB, False),)
        second = {**first, "size": 16 * MIB, "name": "second", "_among": ((1, MIB, 16 * MIB, False),)}
        yield Partitions(execute, lambda: intents), device + "p1", first, second
