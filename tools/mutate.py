# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a test fail when a line of the engine changes? Small wrong edits, one at a time, in a copy of the checkout.

`python3 tools/mutate.py` tries every mutant, `--sample 120 --seed 7` some, `guard plan` only those files. Ends with 1
below 90 % killed in any file, or when a mutant survives that tools/mutants.txt does not list with a reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import multiprocessing
import multiprocessing.process
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import hypothesis  # noqa: F401  # pylint: disable=unused-import
import pytest
import yaml  # noqa: F401  # pylint: disable=unused-import

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "plugins/module_utils/_engine"
TESTS = "tests/unit/plugins/module_utils/_engine"
ACCEPTED = ROOT / "tools" / "mutants.txt"
FLOOR = 90
# The tests written for a file first, the generated worlds last: nearly every mutant dies early.
ORDER = [
    "test_guard_procedure_render.py",
    "test_reconcile.py",
    "test_plan.py",
    "test_size_names.py",
    "test_waiting.py",
    "test_properties.py",
]
FILES = "errors guard listing model names parallel plan procedure reconcile render runner size waiting world".split()
FIRST = dict.fromkeys(("parallel", "reconcile", "runner"), "test_reconcile.py")
FIRST.update(dict.fromkeys(("model", "plan", "world"), "test_plan.py"))
FIRST.update(dict.fromkeys(("names", "size"), "test_size_names.py"), waiting="test_waiting.py")
DEADLINE = 60.0
COMPARISONS = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mult: ast.Add}


class Mutant(NamedTuple):
    file: str
    function: str
    text: str  # what became what, the same however the file is laid out
    source: str

    @property
    def key(self) -> str:
        return "%s | %s | %s" % (self.file, self.function, self.text)


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Every wrong version of one node."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            wrong = copy.deepcopy(node)
            wrong.ops[at] = COMPARISONS[type(operator)]()
            yield wrong
    elif isinstance(node, ast.BoolOp):
        wrong_bool = copy.deepcopy(node)
        wrong_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield wrong_bool
        for at in range(len(node.values)):
            fewer = copy.deepcopy(node)
            del fewer.values[at]
            yield fewer if len(fewer.values) > 1 else fewer.values[0]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        wrong_sum = copy.deepcopy(node)
        wrong_sum.op = ARITHMETIC[type(node.op)]()
        yield wrong_sum
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value and "%" not in node.value:
        yield ast.Constant(node.value + "x")
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, (ast.If, ast.While)):
        wrong_if = copy.deepcopy(node)
        wrong_if.test = ast.UnaryOp(ast.Not(), wrong_if.test)
        yield wrong_if
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    if isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Raise)):
        yield ast.Pass()
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield ast.Return(ast.Constant(None))


def mutants(path: Path) -> Iterator[Mutant]:
    tree = ast.parse(path.read_bytes())
    yield from _within(tree, tree, path.stem, "")


def _within(tree: ast.Module, parent: ast.AST, file: str, function: str) -> Iterator[Mutant]:
    for name, field in ast.iter_fields(parent):
        if name in ("annotation", "returns", "decorator_list") or isinstance(parent, (ast.Import, ast.ImportFrom)):
            continue
        for at, node in enumerate(field if isinstance(field, list) else [field]):
            if not isinstance(node, ast.AST) or _is_idle(node):
                continue
            for wrong in replacements(node):
                ast.copy_location(wrong, node)
                _put(parent, name, at, wrong)
                source = ast.unparse(ast.fix_missing_locations(tree))
                _put(parent, name, at, node)
                yield Mutant(file, function or "(module)", "%s -> %s" % (_line(node), _line(wrong)), source)
            inner = function
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inner = (function + "." if function else "") + node.name
            yield from _within(tree, node, file, inner)


def _is_idle(node: ast.AST) -> bool:
    """Documentation, and names of types: nothing that runs in a way a test could see."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript) and isinstance(node.targets[0], ast.Name):
        return isinstance(node.value.value, ast.Name) and node.value.value.id in ("Tuple", "Callable", "List", "Dict")
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _put(parent: ast.AST, name: str, at: int, node: ast.AST) -> None:
    field = getattr(parent, name)
    if isinstance(field, list):
        field[at] = node
    else:
        setattr(parent, name, node)


def _line(node: ast.AST) -> str:
    """The node as text, of a block only its head."""
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).strip().split("\n", maxsplit=1)[0]
    return text if len(text) <= 110 else text[:107] + "..."


class Trial(NamedTuple):
    mutant: Mutant | None
    place: Path
    child: multiprocessing.process.BaseProcess
    deadline: float


def copied(place: Path) -> Path:
    """A copy of what the tests need, in which a mutant is written; never the checkout."""
    collection = place / "ansible_collections" / "bulkhead" / "storage"
    for name in (ENGINE, TESTS, "tests/data"):
        shutil.copytree(ROOT / name, collection / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/unit/world.py", collection / "tests/unit/world.py")
    (place / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n", "utf-8")
    return place


def trial(mutant: Mutant | None, top: Path) -> Trial:
    place = copied(top / ("copy%d" % time.monotonic_ns()))
    if mutant:
        file = place / "ansible_collections" / "bulkhead" / "storage" / ENGINE / (mutant.file + ".py")
        file.write_text(mutant.source, encoding="utf-8")
    child = multiprocessing.get_context("fork").Process(target=_tests, args=(place, mutant.file if mutant else ""))
    child.start()
    return Trial(mutant, place, child, time.monotonic() + DEADLINE)


def _tests(place: Path, file: str) -> None:
    """In a process of its own, forked so that pytest and hypothesis need not be imported a thousand times."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(place)
    sys.path.insert(0, str(place))
    sys.dont_write_bytecode = True
    tests = place / "ansible_collections" / "bulkhead" / "storage" / TESTS
    order = sorted(ORDER, key=lambda name: name != FIRST.get(file))
    common = ["-x", "-q", "-c", str(place / "pytest.ini"), "--rootdir", str(place), "--hypothesis-seed=1"]
    code = 0
    for names in (order[:1], order[1:]):
        code = code or pytest.main([*common, "-k", "not ten_thousand", *[str(tests / name) for name in names]])
    os._exit(int(code))


def killed(found: Sequence[Mutant | None], workers: int, top: Path) -> Iterator[tuple[int, bool]]:
    """Which of them a test noticed, by their place, as they end."""
    waiting = list(enumerate(found))
    running: dict[int, Trial] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            at, mutant = waiting.pop(0)
            running[at] = trial(mutant, top)
        time.sleep(0.02)
        for at, each in list(running.items()):
            if each.child.is_alive() and time.monotonic() < each.deadline:
                continue
            if each.child.is_alive():
                os.killpg(each.child.pid or 0, signal.SIGKILL)
            each.child.join()
            shutil.rmtree(each.place)
            del running[at]
            yield at, each.child.exitcode != 0


def accepted() -> dict[str, str]:
    """Survivors with a reason: lines of ``file | function | what -> what  # reason``."""
    lines = ACCEPTED.read_text(encoding="utf-8").splitlines() if ACCEPTED.exists() else []
    pairs = [line.rpartition("  # ") for line in lines if line.strip() and not line.startswith("#")]
    return {key.strip(): reason.strip() for key, _hash, reason in pairs}


def main() -> int:
    parser = argparse.ArgumentParser(description="mutate the engine and see which tests notice")
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--sample", type=int, default=0, help="try only so many, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=40, help="generated worlds for each mutant")
    options = parser.parse_args()
    found = [mutant for name in options.files for mutant in mutants(ROOT / ENGINE / (name + ".py"))]
    if options.sample and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    listed, start = accepted(), time.monotonic()
    stale = set(listed) - {mutant.key for mutant in found} if not options.sample and options.files == FILES else set()
    os.environ["BULKHEAD_SEEDS"] = str(options.seeds)
    with tempfile.TemporaryDirectory(prefix="bulkhead-mutants-") as top:
        if any(dead for _at, dead in killed([None], 1, Path(top))):
            print("the tests fail without any mutant")
            return 1
        ended = dict(killed(found, options.workers, Path(top)))
    results = [(mutant, ended[at]) for at, mutant in enumerate(found)]
    return _report(results, listed, stale, time.monotonic() - start)


def _report(results: list[tuple[Mutant, bool]], listed: dict[str, str], stale: set[str], seconds: float) -> int:
    failed = False
    for file in sorted({mutant.file for mutant, _killed in results}):
        mine = [killed for mutant, killed in results if mutant.file == file]
        rate = 100.0 * sum(mine) / len(mine)
        failed = failed or (rate < FLOOR and len(mine) >= 20)  # a rate of fewer says nothing
        print("%-12s %4d of %4d killed, %5.1f %%" % (file, sum(mine), len(mine), rate))
    for mutant, killed in results:
        if not killed and not listed.get(mutant.key):
            failed = True
            print("survived, without a reason in %s: %s" % (ACCEPTED.name, mutant.key))
    for key in sorted(stale):
        failed = True
        print("listed in %s, but no mutant: %s" % (ACCEPTED.name, key))
    total = sum(killed for _mutant, killed in results)
    print("%d of %d mutants killed in %d s" % (total, len(results), seconds))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
