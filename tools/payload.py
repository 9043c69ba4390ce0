# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users pay for on every task: the bytes a module ships above ``ping`` and the lines of ours that a call executes.

``python tools/payload.py`` prints the table; ``tests/unit/test_budget.py`` holds the budgets of the design.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import sys
import tokenize
import zlib
from typing import Iterable, NamedTuple

from ansible.modules import ping

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PREFIX = "ansible_collections.bulkhead.storage."


class Budget(NamedTuple):
    """What a call may execute of ours when it finds everything as declared: the design's bounds, section 9 there.

    Beside them two ceilings against growth: lines when something has to change, and all that is shipped, deflated.
    What only a change needs is shipped every time, since nobody knows beforehand, but read and compiled only then.
    """

    lines: int
    kib: float
    changing: int
    shipped: float


PRIMITIVE = Budget(1500, 30.0, 4805, 141.4)  # a new record also looks whether there is a unit
COMPOSITE = Budget(4000, 76.0, 6285, 229.6)  # any of them may meet a pool of logical volumes, and the guard
JOB = COMPOSITE._replace(shipped=259.7)  # volumes of any pool, and what runs it
NETWORK = PRIMITIVE._replace(kib=36.0)  # asks servers too, with a deadline
DOCS = ("DOCUMENTATION", "EXAMPLES", "RETURN")
COMPOSITES = ("volume", "pool", "snapshot", "image")
# A real call: a program that sets the module's arguments, runs it as __main__, and names what of ours was executed.
_CALL = (
    """
import json, os, runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
out = os.dup(1)
try:
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
except SystemExit:
    pass
sys.stdout.flush()
names = [n for n in sys.modules if n.startswith("%s")]
os.write(out, ("\\nEXECUTED " + json.dumps(names) + "\\n").encode())
"""
    % PREFIX
)


def budget(module: str) -> Budget:
    if module in ("nfs_mount", "iscsi_session", "ceph_pool", "ceph_user"):
        return NETWORK
    return JOB if module == "job" else COMPOSITE if module in COMPOSITES else PRIMITIVE


def modules() -> list[str]:
    folder = os.path.join(ROOT, "plugins", "modules")
    return sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("_"))


def path_of(name: str) -> str:
    return os.path.join(ROOT, *name[len(PREFIX) :].split(".")) + ".py"


def imports(path: str, everything: bool = True) -> set[str]:
    """Our modules that a file imports; with ``everything`` those inside functions too, because they are shipped."""
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    nodes = ast.walk(tree) if everything else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX[:-1]):
            for alias in node.names:
                deeper = "%s.%s" % (node.module, alias.name)
                found.add(deeper if os.path.exists(path_of(deeper)) else str(node.module))
    return {name for name in found if os.path.exists(path_of(name))}


def closure(module: str, everything: bool = True) -> list[str]:
    """Files that a module ships (or, without ``everything``, loads before it does anything)."""
    start = PREFIX + "plugins.modules." + module
    seen = {start}
    todo = [start]
    while todo:
        for name in imports(path_of(todo.pop()), everything):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return sorted(seen)


def code_lines(path: str) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings, no module documentation."""
    with open(path, encoding="utf-8") as stream:
        source = stream.read()
    skip: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            skip.update(range(body[0].lineno, (body[0].end_lineno or 0) + 1))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in DOCS:
            skip.update(range(node.lineno, (node.end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - skip)


def kib(files: Iterable[str]) -> float:
    """Deflated size of our files as the payload holds them, less that of ``ping`` in whose place they stand, in KiB."""
    sizes = []
    for path in [ping.__file__, *map(path_of, files)]:
        with open(path, "rb") as stream:
            sizes.append(len(zlib.compress(stream.read(), 6)))
    return (sum(sizes) - 2 * sizes[0]) / 1024


def executed(module: str, arguments: str, python: str = sys.executable) -> tuple[int, list[str], str]:
    """Run a module for real with JSON arguments; (lines of ours, files, its output)."""
    done = subprocess.run(
        [python, "-c", _CALL, PREFIX + "plugins.modules." + module],
        input=arguments.encode(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        capture_output=True,
        check=False,
    )
    out = done.stdout.decode()
    if "EXECUTED " not in out:
        raise RuntimeError("%s did not run: %s%s" % (module, out, done.stderr.decode()))
    text, _mark, tail = out.rpartition("EXECUTED ")
    names = ast.literal_eval(tail.strip())
    files = sorted({name for name in names if os.path.exists(path_of(name))} | {PREFIX + "plugins.modules." + module})
    return sum(code_lines(path_of(name)) for name in files), files, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="list the files of each module with their lines")
    options = parser.parse_args()
    print("%-16s %12s %14s %10s" % ("module", "shipped KiB", "loaded lines", "files"))
    for module in modules():
        loaded = closure(module, everything=False)
        lines = sum(code_lines(path_of(name)) for name in loaded)
        print("%-16s %12.1f %14d %10d" % (module, kib(closure(module)), lines, len(closure(module))))
        if options.files:
            for name in closure(module):
                mark = " " if name in loaded else "(lazy)"
                print("    %6d %s %s" % (code_lines(path_of(name)), name[len(PREFIX) :], mark))
    return 0


if __name__ == "__main__":
    sys.exit(main())
