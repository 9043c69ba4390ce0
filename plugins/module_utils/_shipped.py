# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of ``layout`` on its way to the target: one archive from its action plugin, imported from memory there.

Ansible would otherwise parse each file that any kind may need, for every task, and send them one by one: most of
what a run with nothing to do costs. An archive of all of them is a tenth of that work, and half as much to send.

The same archive, with this file before it, is a program for a host that is to run some of our code by itself.
"""

from __future__ import annotations

import base64
import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
import zlib
from typing import Any, Sequence

PACKAGE = "ansible_collections.bulkhead.storage.plugins.module_utils"
OPTION = "_code"


def packed() -> str:
    """Every file beside this one and below it, as one text."""
    root = os.path.dirname(os.path.abspath(__file__))
    sources: dict[str, str] = {}
    for folder, _folders, names in os.walk(root):
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as stream:
                    sources[os.path.relpath(path, root)[:-3].replace(os.sep, ".")] = stream.read()
    return base64.b64encode(zlib.compress(json.dumps(sources).encode())).decode()


def program(name: str) -> str:
    """The text of a program that needs nothing but Python's own library, and calls ``main`` of a file of ours."""
    with open(os.path.splitext(__file__)[0] + ".py", encoding="utf-8") as stream:
        own = stream.read()
    return '%s\n\nif __name__ == "__main__":\n    sys.exit(alone("%s", "%s"))' % (own, name, packed())


def alone(name: str, code: str) -> int:
    sys.meta_path.insert(0, _Finder(_sources(code), alone=True))
    status: int = importlib.import_module("%s.%s" % (PACKAGE, name)).main()
    return status


def sent(option: str) -> bool:
    """Is this option among what was sent? Asked before the options are declared."""
    from ansible.module_utils import basic

    return b'"%s"' % option.encode() in (getattr(basic, "_ANSIBLE_ARGS", None) or b"")


def run(name: str, *names: str) -> None:
    """Call ``run`` of a file of ours with other files of ours. Where no archive was sent, they are on Python's path."""
    from ansible.module_utils import basic

    finder = None
    before = set(sys.modules)
    code = basic._load_params().get(OPTION) if sent(OPTION) else None  # or somebody's own word for something
    if code is not None:
        finder = _Finder(_sources(code))
        sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("%s.%s" % (PACKAGE, name)).run(
            *(importlib.import_module("%s.%s" % (PACKAGE, other)) for other in names)
        )
    finally:
        if finder is not None:  # a process that runs one module after another, as Mitogen's, finds all as it was
            sys.meta_path.remove(finder)
            for loaded in set(sys.modules) - before:
                if finder.has(loaded):
                    del sys.modules[loaded]


def _sources(code: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(code)))
    return found


class _Finder:
    """Finder and loader, without importlib.abc, which loads importlib.resources and what that needs.

    ``alone``: nobody else has made the packages that ours lie in.
    """

    def __init__(self, sources: dict[str, str], alone: bool = False) -> None:
        self.sources = {"%s.%s" % (PACKAGE, name): source for name, source in sources.items()}
        self.packages = {name.rpartition(".")[0] for name in self.sources} - {PACKAGE}
        if alone:
            words = PACKAGE.split(".")
            self.packages.update(".".join(words[: count + 1]) for count in range(len(words)))

    def has(self, fullname: str) -> bool:
        return fullname in self.sources or fullname in self.packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.has(fullname):
            return None
        loader: Any = self
        return importlib.util.spec_from_file_location(fullname, self.get_filename(fullname), loader=loader)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """An empty one, as Python makes it."""

    def exec_module(self, made: types.ModuleType) -> None:
        name = made.__name__
        exec(compile(self.get_source(name), self.get_filename(name), "exec", dont_inherit=True), made.__dict__)

    def is_package(self, fullname: str) -> bool:
        return fullname in self.packages

    def get_source(self, fullname: str) -> str:
        return self.sources.get(fullname, "")

    def get_filename(self, fullname: str) -> str:
        """Where it would be, had Ansible shipped it."""
        path = os.path.join(os.path.dirname(__file__), *fullname[len(PACKAGE) + 1 :].split("."))
        return path + (os.sep + "__init__.py" if self.is_package(fullname) else ".py")
