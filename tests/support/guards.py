# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each guard against destroying something, removed: one wrong version of an adapter for each of them.

A guard is a refusal by one of ``CODES``, a question to ``blank`` or about users, an exclusive or proved open, and a
risk that takes a consent.
"""

from __future__ import annotations

import ast
import copy
import importlib
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

PACKAGE = "ansible_collections.bulkhead.storage.plugins.module_utils._adapters."
FOLDER = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_adapters"
FILES = (
    "blank", "gpt", "gptchange", "luks", "lukschange", "dmcryptchange", "lvm2", "lvm2change", "mkfs", "mkfschange",
)  # fmt: skip
CODES = ("not_blank", "unreadable", "in_use", "protected", "moved", "conflict", "would_shrink", "checksum", "denied")
# What a device holds at that moment, as if its token had been typed.
_THERE = """
def _there(look, target):
    import os
    from %sblkprobe import opened
    from %sblank import seen
    fd = opened(target)
    try:
        return seen(look, target, fd)[1]
    finally:
        os.close(fd)
""" % (PACKAGE, PACKAGE)


class Guard(NamedTuple):
    file: str
    function: str
    text: str  # what is removed
    place: tuple[int, int]  # which node of the file, and which wrong version of it

    @property
    def key(self) -> str:
        return "%s | %s | %s" % (self.file, self.function, self.text)


def removed(file: str) -> Iterator[Guard]:
    """The guards of a file."""
    tree = ast.parse((FOLDER / (file + ".py")).read_bytes())
    seen: dict[str, int] = {}
    for number, (_holder, _field, _at, node, function, handled) in enumerate(_nodes(tree, "", False)):
        for version, wrong in enumerate(_without(node, file, function, handled)):
            text = "%s -> %s" % (_line(node), _line(wrong))
            seen[function + text] = count = seen.get(function + text, 0) + 1
            yield Guard(file, function, text + " (%d)" % count * (count > 1), (number, version))


def without(guard: Guard) -> Any:
    """Its file without it, compiled."""
    tree = ast.parse((FOLDER / (guard.file + ".py")).read_bytes())
    number, version = guard.place
    for at_node, (holder, field, at, node, function, handled) in enumerate(_nodes(tree, "", False)):
        if at_node == number:
            wrong = list(_without(node, guard.file, function, handled))[version]
            _put(holder, field, at, ast.copy_location(wrong, node))
            break
    tree.body += ast.parse(_THERE).body
    return compile(ast.fix_missing_locations(tree), guard.file, "exec")


def _put(holder: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(holder, field, node)
    else:
        getattr(holder, field)[at] = node


def _nodes(holder: ast.AST, function: str, handled: bool) -> Iterator[tuple[Any, ...]]:
    for field, value in ast.iter_fields(holder):
        for at, node in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(node, ast.AST):
                continue
            yield holder, field, at if isinstance(value, list) else None, node, function, handled
            inner = function
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inner = (function + "." if function else "") + node.name
            yield from _nodes(node, inner, handled or isinstance(node, ast.ExceptHandler))


def _without(node: ast.AST, file: str, function: str, handled: bool) -> Iterator[ast.AST]:
    name = function.rpartition(".")[2]
    asked = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "error" and not handled
    if asked or (isinstance(node, ast.Raise) and _refusal(node.exc)):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and _refusal(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Return) and name in ("_edges_blank", "_hollow"):
        yield ast.Return(ast.Constant(True))
    elif isinstance(node, ast.Return) and name == "_stamp" and isinstance(node.value, ast.Tuple):
        for at in range(len(node.value.elts)):
            yield ast.Return(ast.Tuple(node.value.elts[:at] + node.value.elts[at + 1 :], ast.Load()))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value)[1] in _STEPS:
        yield ast.Pass()
    elif isinstance(node, ast.Call):
        yield from _unasked(node, name)
    elif isinstance(node, ast.Attribute) and node.attr == "O_EXCL":
        yield ast.Constant(0)
    elif isinstance(node, ast.Name) and name == "risk" and node.id in ("DESTROYS", "SHRINKS"):
        yield ast.Name("FORWARD", ast.Load())
    elif isinstance(node, ast.IfExp) and file == "blank" and "token" in ast.unparse(node):
        yield copy.deepcopy(node.body)
        yield copy.deepcopy(node.orelse)


_STEPS = ("again", "claim", "lock")


def _refusal(node: ast.AST | None) -> bool:
    call = isinstance(node, ast.Call) and _called(node)[1] == "StorageError" and node.args
    return bool(call) and any(
        isinstance(each, ast.Constant) and each.value in CODES
        for each in ast.walk(node.args[0])  # type: ignore[union-attr]
    )


def _called(node: ast.Call) -> tuple[str, str]:
    if isinstance(node.func, ast.Attribute):
        return ast.unparse(node.func.value), node.func.attr
    return "", node.func.id if isinstance(node.func, ast.Name) else ""


def _unasked(node: ast.Call, function: str) -> Iterator[ast.AST]:
    whose, name = _called(node)
    if name in ("vital", "in_use") and whose in ("", "blank"):
        yield ast.Constant(None)
    elif name == "in_use" and function != "_settled":
        yield ast.List([], ast.Load())
    elif name == "protected":
        yield ast.Constant("")
    elif name == "is_ours":
        yield ast.Constant(True)
    elif name == "Taken" and not isinstance(node.args[2], ast.Call):
        look, target = node.args[:2]
        there = ast.Call(ast.Name("_there", ast.Load()), [copy.deepcopy(look), copy.deepcopy(target)], [])
        yield ast.Call(node.func, [look, target, there], [])


def _line(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).strip().split("\n", maxsplit=1)[0]
    return text if len(text) <= 100 else text[:97] + "..."


def install(guard: Guard) -> None:
    """From now on this process has the adapter without it: never call this but in a child."""
    for name in FILES:
        importlib.import_module(PACKAGE + name)
    module = sys.modules[PACKAGE + guard.file]
    old = dict(vars(module))
    exec(without(guard), vars(module))  # pylint: disable=exec-used
    for other in [each for name, each in sys.modules.items() if name.startswith(PACKAGE) and each is not module]:
        for name, value in list(vars(other).items()):
            if not name.startswith("__") and name in old and value is old[name]:
                setattr(other, name, vars(module)[name])
