# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import and say what: the layers of the architecture, held over every file by a walk over its syntax."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = "ansible_collections.bulkhead.storage.plugins."
UTILS = OURS + "module_utils."
STDLIB = set(sys.stdlib_module_names) if sys.version_info >= (3, 10) else set()

# (files, what they may import: prefixes of ours or others' names, "stdlib" for the standard library)
ADAPTERS = [UTILS + "_engine." + name for name in ("caps", "errors", "model", "names", "partition", "size")]
ADAPTERS += ["boto3", "botocore", "rados", "rbd", "cryptography"]
MAY_IMPORT = [
    ("module_utils/_engine/", ["stdlib", UTILS + "_engine"]),
    ("module_utils/_resources/", ["stdlib", UTILS + "_engine", UTILS + "_resources"]),
    ("module_utils/_adapters/", ["stdlib", UTILS + "_adapters", *ADAPTERS]),
    ("module_utils/_ports.py", ["stdlib", UTILS + "_engine", UTILS + "_adapters"]),
    ("module_utils/_shell.py", ["stdlib", "ansible", UTILS + "_engine", UTILS + "_adapters", UTILS + "_resources"]),
    ("module_utils/_shipped.py", ["stdlib", "ansible"]),
    (
        "module_utils/_cleanup.py",
        ["stdlib", UTILS + "_kinds", UTILS + "_engine", UTILS + "_adapters", UTILS + "_resources"],
    ),
    ("module_utils/_layout.py", ["stdlib", UTILS + "_engine", UTILS + "_shell", UTILS + "_shipped"]),
    ("plugin_utils/_maps/", ["stdlib", "netaddr", UTILS + "_engine"]),
]
RESOURCES_NEVER = {"os", "subprocess", "fcntl", "ctypes", "shutil", "socket", "pathlib", "urllib", "ansible"}
SHELL_WORDS = {"fail_json", "exit_json", "check_mode", "AnsibleModule"}
MODULE_LINES = 40


def names_imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of every import; ``from a.b import c`` is ``a.b:c``. Those for types only do not count."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (node.lineno, "." * node.level + (node.module or "") + ":" + alias.name) for alias in node.names
            )


def allowed(name: str, prefixes: list[str]) -> bool:
    plain = name.replace(":", ".")
    if plain.split(".")[0] in STDLIB:
        return "stdlib" in prefixes
    return any(plain == p or plain.startswith(p + ".") for p in prefixes)


def of_imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    for folder, prefixes in MAY_IMPORT:
        if path.startswith(folder):
            for line, name in names_imported(tree):
                if not allowed(name, prefixes):
                    yield line, "imports %s" % name
                if folder == "module_utils/_resources/" and re.split("[.:]", name)[0] in RESOURCES_NEVER:
                    yield line, "imports %s, which has effects" % name
    if path.startswith("modules/") or path.startswith("module_utils/"):
        for line, name in names_imported(tree):
            if name.startswith("."):
                yield line, "imports relatively"


def of_words(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Assert):
            yield line, "asserts"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield line, "catches everything"
        if isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", True) is not False:
            yield line, "runs a shell"
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("system", "popen")
            and getattr(node.value, "id", "") == "os"
        ):
            yield line, "runs a shell"
        word = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "arg", None)
        if word in SHELL_WORDS and path != "module_utils/_shell.py" and not path.startswith("action/"):
            yield line, "says %s" % word
        if (
            isinstance(node, ast.Attribute)
            and getattr(node.value, "id", "") == "module"
            and path != "module_utils/_shell.py"
            and path.startswith("module_utils/")
        ):
            yield line, "asks the module for %s" % node.attr


def of_modules(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A module is documentation, imports and one short ``main``."""
    if not path.startswith("modules/"):
        return
    mains = 0
    for node in tree.body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            mains += 1
            if last - node.lineno + 1 > MODULE_LINES:
                yield node.lineno, "main is longer than %d lines" % MODULE_LINES
        elif isinstance(node, ast.Assign):
            names = {getattr(target, "id", "") for target in node.targets}
            if not names <= {"DOCUMENTATION", "EXAMPLES", "RETURN"} or not isinstance(node.value, ast.Constant):
                yield node.lineno, "holds more than documentation, imports and main"
        elif isinstance(node, ast.If):
            if ast.unparse(node.test) not in ("__name__ == '__main__'", "TYPE_CHECKING"):
                yield node.lineno, "holds more than documentation, imports and main"
        elif not isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_text(node):
            yield node.lineno, "holds more than documentation, imports and main"
    if mains != 1:
        yield 1, "has %d functions main" % mains


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def of_tests(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    for line, name in names_imported(tree):
        if "mock" in re.split("[.:]", name):
            yield line, "imports mocks"
    for node in ast.walk(tree):
        word = getattr(node, "attr", None) or getattr(node, "id", None)
        if word in ("MagicMock", "Mock", "mocker"):
            yield node.lineno, "mocks"  # type: ignore[attr-defined]
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "setattr"
            and getattr(node.value, "id", "") == "monkeypatch"
        ):
            yield node.lineno, "patches"
        if isinstance(node, (ast.Name, ast.Attribute)) and word == "patch":
            yield node.lineno, "patches"


def violations(root: Path) -> list[str]:
    found = []
    for file in sorted((root / "plugins").rglob("*.py")):
        path = file.relative_to(root / "plugins").as_posix()
        tree = ast.parse(file.read_bytes())
        for rule in (of_imports, of_words, of_modules):
            found += ["plugins/%s:%d %s" % (path, line, what) for line, what in rule(path, tree)]
    for file in sorted((root / "tests").rglob("*.py")):
        path = file.relative_to(root).as_posix()
        found += ["%s:%d %s" % (path, line, what) for line, what in of_tests(path, ast.parse(file.read_bytes()))]
    return found


def test_the_house_keeps_its_layers() -> None:
    assert violations(ROOT) == []


MAIN = 'DOCUMENTATION = ""\ndef main():\n    pass\n'
WRONG = [
    ("plugins/module_utils/_engine/x.py", "import ansible", "imports ansible"),
    ("plugins/module_utils/_engine/x.py", "from %s_adapters import loop" % UTILS, "imports"),
    ("plugins/module_utils/_engine/x.py", "def f():\n    from %s_resources.quota import unit" % UTILS, "imports"),
    ("plugins/module_utils/_engine/x.py", "import yaml", "imports yaml"),
    ("plugins/module_utils/_engine/x.py", "from . import model", "imports relatively"),
    ("plugins/module_utils/_resources/x.py", "import os", "imports os"),
    ("plugins/module_utils/_resources/x.py", "from os import path", "imports os:path"),
    ("plugins/module_utils/_resources/x.py", "from subprocess import run", "effects"),
    ("plugins/module_utils/_resources/x.py", "from ansible.module_utils import basic", "imports ansible"),
    ("plugins/module_utils/_resources/x.py", "from %s_adapters import loop" % UTILS, "imports"),
    ("plugins/module_utils/_resources/x.py", "from %s_shell import run" % UTILS, "imports"),
    ("plugins/module_utils/_adapters/x.py", "import ansible.module_utils.basic", "imports ansible"),
    ("plugins/module_utils/_adapters/x.py", "from %s_resources import quota" % UTILS, "imports"),
    ("plugins/module_utils/_adapters/x.py", "from %s_engine import plan" % UTILS, "imports"),
    ("plugins/module_utils/_adapters/x.py", "from %s_engine.reconcile import converge" % UTILS, "imports"),
    ("plugins/module_utils/_adapters/x.py", "def f(m):\n    m.fail_json()", "says fail_json"),
    ("plugins/module_utils/_adapters/x.py", "def f(m):\n    return m.check_mode", "says check_mode"),
    ("plugins/module_utils/_adapters/x.py", "assert True", "asserts"),
    ("plugins/module_utils/_adapters/x.py", "try:\n    pass\nexcept:\n    pass", "catches everything"),
    ("plugins/module_utils/_adapters/x.py", "def f(run):\n    run('x', shell=True)", "runs a shell"),
    ("plugins/module_utils/_adapters/x.py", "import os\nos.system('x')", "runs a shell"),
    ("plugins/module_utils/_adapters/x.py", "import os\nos.popen('x')", "runs a shell"),
    ("plugins/module_utils/_layout.py", "from ansible.module_utils import basic", "imports ansible"),
    ("plugins/module_utils/_layout.py", "def f(m):\n    m.exit_json()", "says exit_json"),
    ("plugins/module_utils/_layout.py", "def f(module):\n    return module.params", "asks the module for params"),
    ("plugins/module_utils/_kinds.py", "def f(module):\n    module.no_log_values.add(1)", "asks the module for"),
    ("plugins/modules/x.py", MAIN + "    AnsibleModule()", "says AnsibleModule"),
    ("plugins/modules/x.py", MAIN + "    m.exit_json()", "says exit_json"),
    ("plugins/modules/x.py", MAIN + "    pass\n" * 40, "longer than 40 lines"),
    ("plugins/modules/x.py", MAIN + "def other():\n    pass", "holds more"),
    ("plugins/modules/x.py", MAIN + "TABLE = {}", "holds more"),
    ("plugins/modules/x.py", MAIN + "DOCUMENTATION = f()", "holds more"),
    ("plugins/modules/x.py", MAIN + "if True:\n    pass", "holds more"),
    ("plugins/modules/x.py", MAIN + "for x in ():\n    pass", "holds more"),
    ("plugins/modules/x.py", "import os", "has 0 functions main"),
    ("plugins/filter/x.py", "def f(x):\n    assert x", "asserts"),
    ("tests/unit/test_x.py", "from unittest import mock", "imports mocks"),
    ("tests/unit/test_x.py", "import unittest.mock", "imports mocks"),
    ("tests/unit/test_x.py", "def test(m):\n    m.MagicMock()", "mocks"),
    ("tests/unit/test_x.py", "def test(monkeypatch):\n    monkeypatch.setattr(1, 2, 3)", "patches"),
    ("tests/unit/test_x.py", "def test(x):\n    with x.patch('y'):\n        pass", "patches"),
]
RIGHT = [
    ("plugins/module_utils/_engine/x.py", "import re\nfrom %s_engine.model import Cell" % UTILS),
    ("plugins/module_utils/_resources/x.py", "import re\nfrom %s_engine import size, names" % UTILS),
    ("plugins/module_utils/_resources/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os"),
    ("plugins/module_utils/_adapters/x.py", "import os\nfrom %s_engine import names" % UTILS),
    (
        "plugins/module_utils/_adapters/x.py",
        "from %s_adapters.loop import Loop\ndef f(run):\n    run([], shell=False)" % UTILS,
    ),
    (
        "plugins/module_utils/_adapters/x.py",
        "def f():\n    import boto3\n    from %s_engine.errors import StorageError" % UTILS,
    ),
    (
        "plugins/module_utils/_shell.py",
        "from ansible.module_utils.basic import AnsibleModule\ndef f(m):\n    m.fail_json()",
    ),
    ("plugins/module_utils/_layout.py", "def f(entry):\n    return entry.params"),
    ("plugins/action/x.py", "def f(m):\n    return m.check_mode"),
    ("plugins/modules/x.py", '"""x"""\nimport os\n' + MAIN + "if __name__ == '__main__':\n    main()"),
    ("tests/unit/test_x.py", "def test(monkeypatch):\n    assert monkeypatch.setenv('A', 'b')"),
]


def planted(root: Path, path: str, text: str) -> list[str]:
    for folder in ("plugins", "tests"):
        (root / folder).mkdir()
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")
    return violations(root)


@pytest.mark.parametrize("path,text,says", WRONG)
def test_each_rule_sees_what_breaks_it(tmp_path: Path, path: str, text: str, says: str) -> None:
    found = planted(tmp_path, path, text)
    assert found and all(entry.startswith(path + ":") for entry in found)
    assert any(says in entry for entry in found), found


@pytest.mark.parametrize("path,text", RIGHT)
def test_no_rule_sees_what_is_fine(tmp_path: Path, path: str, text: str) -> None:
    assert planted(tmp_path, path, text) == []
