# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of ``layout`` on its way to the target: one archive from its action plugin, imported from memory there.

Ansible would otherwise parse each file that any kind may need, for every task, and send them one by one: most of
what a run with nothing to do costs. An archive of all of them is a tenth of that work, and half as much to send.
"""

from __future__ import annotations

import base64
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import zlib
from typing import Any, Sequence

from ansible.module_utils import basic

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


def sent(option: str) -> bool:
    """Is this option among what was sent? Asked before the options are declared."""
    return b'"%s"' % option.encode() in (getattr(basic, "_ANSIBLE_ARGS", None) or b"")


def run(name: str, *names: str) -> None:
    """Call ``run`` of a file of ours with other files of ours. Where no archive was sent, they are on Python's path."""
    finder = None
    before = set(sys.modules)
    code = basic._load_params().get(OPTION) if sent(OPTION) else None  # or somebody's own word for something
    if code is not None:
        finder = _Finder(json.loads(zlib.decompress(base64.b64decode(code))))
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


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = {"%s.%s" % (PACKAGE, name): source for name, source in sources.items()}
        self.packages = {name.rpartition(".")[0] for name in self.sources}

    def has(self, fullname: str) -> bool:
        return fullname in self.sources or (fullname in self.packages and fullname != PACKAGE)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.has(fullname):
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def is_package(self, fullname: str) -> bool:
        return fullname in self.packages

    def get_source(self, fullname: str) -> str:
        return self.sources.get(fullname, "")

    def get_filename(self, fullname: str) -> str:
        """Where it would be, had Ansible shipped it."""
        path = os.path.join(os.path.dirname(__file__), *fullname[len(PACKAGE) + 1 :].split("."))
        return path + (os.sep + "__init__.py" if self.is_package(fullname) else ".py")
