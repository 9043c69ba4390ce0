# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of ``layout``: it holds all of our code, and what it holds is what runs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import payload
import pytest
from ansible import constants

from ansible_collections.bulkhead.storage.plugins.action import layout as action
from ansible_collections.bulkhead.storage.plugins.module_utils import _shipped

UTILS = os.path.join(payload.ROOT, "plugins", "module_utils")


def unpacked(text: str) -> dict[str, str]:
    sources: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(text)))
    return sources


def answer(sources: dict[str, str]) -> tuple[list[str], str]:
    """Files of ours that are loaded when layout is through, and what it said, given an archive."""
    code = base64.b64encode(zlib.compress(json.dumps(sources).encode())).decode()
    sent = {"_declaration": '{"wrong": []}', "_secrets": [], "_code": code}
    _lines, files, text = payload.executed("layout", json.dumps({"ANSIBLE_MODULE_ARGS": sent}))
    return [name[len(payload.PREFIX) :] for name in files], text


def test_the_archive_holds_every_file() -> None:
    sources = unpacked(_shipped.packed())
    there = {
        os.path.relpath(os.path.join(folder, name), UTILS)[:-3].replace("/", ".")
        for folder, _folders, names in os.walk(UTILS)
        for name in names
        if name.endswith(".py")
    }
    assert set(sources) == there
    with open(os.path.join(UTILS, "_engine", "plan.py"), encoding="utf-8") as stream:
        assert sources["_engine.plan"] == stream.read()


def test_what_runs_is_the_archive_and_nothing_of_it_stays() -> None:
    sources = unpacked(_shipped.packed())
    sources["_kinds"] = sources["_kinds"].replace("no such list", "no list of that name")
    files, text = answer(sources)
    assert json.loads(text)["msg"].startswith("no list of that name: wrong")
    assert files == ["plugins.module_utils._shipped", "plugins.modules.layout"]


def test_a_defect_is_told_with_its_line() -> None:
    sources = unpacked(_shipped.packed())
    lines = sources["_kinds"].count("\n")
    sources["_kinds"] += "raise RuntimeError('broken')\n"
    with pytest.raises(RuntimeError) as caught:
        answer(sources)
    assert re.search(
        r'/module_utils/_kinds\.py", line %d, in <module>\nRuntimeError: broken' % (lines + 1), str(caught.value)
    )


def test_it_is_packed_once_a_run() -> None:
    path = os.path.join(constants.DEFAULT_LOCAL_TMP, "bulkhead-storage-code")
    first = action._code()
    try:
        assert first == _shipped.packed()
        with open(path, "w", encoding="ascii") as stream:
            stream.write("what lies there")
        assert action._code() == "what lies there"
    finally:
        os.unlink(path)
    assert [name for name in os.listdir(constants.DEFAULT_LOCAL_TMP) if name.startswith("tmp")] == []


def test_a_program_of_it_needs_nothing_else(tmp_path: Path) -> None:
    """No package of others, no variable, no file beside it."""
    file = tmp_path / "cleanup.py"
    file.write_text(_shipped.program("_cleanup"), encoding="utf-8")
    argv = [sys.executable, "-I", "-S", "-B", str(file), "--help"]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "--memory-volume-timeout SECONDS" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["cleanup.py"]
    broken = _shipped.program("_cleanup").replace('alone("_cleanup"', 'alone("_nothing"')
    file.write_text(broken, encoding="utf-8")
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and "No module named '%s._nothing'" % _shipped.PACKAGE in done.stderr
