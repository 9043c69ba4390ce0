# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of ``layout``: a declaration of thousands of entries is read and serialised once, as one text.

Ansible would otherwise template, check and encode every option of every entry on its own; that, not the work on the
target, is what a large declaration costs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import zlib
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing import vault
from ansible.plugins.action import ActionBase

from ansible_collections.bulkhead.storage.plugins.module_utils import _shipped
from ansible_collections.bulkhead.storage.plugins.module_utils._kinds import LISTS

# Before ansible-core 2.19 a vaulted value stays an object of its own; since then it is a text that carries a tag.
_TAG: Any = getattr(vault, "VaultedValue", None)
# Variables of other hosts, and the variables once more.
_OTHERS = ("hostvars", "groups", "vars")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        if not (self._task.until or self._task.retries):  # else they are read again when it is tried again
            # What stays here goes back with the result, for callbacks that show it: not thousands of entries.
            self._task.args = {name: value for name, value in args.items() if name not in LISTS}
        lists = [name for name in LISTS if args.get(name) is not None]
        remote = str(args.get("remote_src", False)).lower() in ("1", "true", "yes", "on", "y", "t")
        if args.get("src") and lists:
            raise AnsibleActionFail("src and lists exclude each other: declare the lists in the file")
        if not (args.get("src") and remote):  # a file on the target is read there, and state overrides its own
            document = {name: args.pop(name) for name in (*lists, "state") if args.get(name) is not None}
            if args.get("src"):
                document = {**self._read(args.pop("src")), **document}
            text, args["_secrets"] = _serialised(document, task_vars or {})
            args["_declaration"] = _packed(text)
        else:
            args["_secrets"] = []  # no list comes with the task: the module need not know any kind's options
        args[_shipped.OPTION] = _code()
        done: dict[str, Any] = self._execute_module(
            module_name="bulkhead.storage.layout", module_args=args, task_vars=task_vars
        )
        return done

    def _read(self, src: str) -> dict[str, Any]:
        document = self._loader.load_from_file(self._find_needle("files", src))
        if not isinstance(document, dict):
            raise AnsibleActionFail("%s does not hold a dictionary of lists" % src)
        return document


def _code() -> str:
    """What runs on the target, packed once a run of Ansible and not once a host: in its folder, which it removes."""
    path = os.path.join(C.DEFAULT_LOCAL_TMP, "bulkhead-storage-code")
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as stream:
        return stream.read()
    code = _shipped.packed()
    handle, part = tempfile.mkstemp(dir=C.DEFAULT_LOCAL_TMP)
    with open(handle, "w", encoding="ascii") as stream:
        stream.write(code)
    os.replace(part, path)  # whole for the other processes, whoever is first
    return code


def _serialised(document: dict[str, Any], task_vars: dict[str, Any]) -> tuple[str, list[str]]:
    """The declaration as one text, and what in it came out of a vault."""
    secrets: list[str] = []
    _find_secrets(document, secrets)
    text = json.dumps(document, default=lambda value: _plain(value, secrets))
    if _TAG is None:
        vaulted: list[str] = []
        _find_vaulted({k: v for k, v in task_vars.items() if k not in _OTHERS}, vaulted)
        secrets += [secret for secret in vaulted if json.dumps(secret)[1:-1] in text]
    return text, secrets


def _packed(text: str) -> str:
    """Deflated where that pays: Ansible copies, quotes and parses it several times on its way to the target."""
    return text if len(text) < 4096 else base64.b64encode(zlib.compress(text.encode(), 1)).decode()


def _find_vaulted(value: Any, found: list[str]) -> None:
    """Before 2.19 a template makes a plain text of a vaulted value: the variables still tell which texts these are."""
    if isinstance(value, dict):
        for item in value.values():
            _find_vaulted(item, found)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _find_vaulted(item, found)
    elif hasattr(value, "_ciphertext"):
        with contextlib.suppress(AnsibleError, UnicodeError):  # nobody could decrypt it, so it is in no text either
            found.append(str(value))


def _find_secrets(value: Any, secrets: list[str]) -> None:
    """Texts that came out of a vault, so that the target masks them wherever they would be printed."""
    if isinstance(value, dict):
        for item in value.values():
            _find_secrets(item, secrets)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _find_secrets(item, secrets)
    elif _TAG is not None and value.__class__ is not str and isinstance(value, str) and _TAG.is_tagged_on(value):
        secrets.append(str(value))


def _plain(value: Any, secrets: list[str]) -> str:
    """Whatever JSON does not know: a vaulted value of an older core, or one that was read from a file."""
    text = str(value)
    if isinstance(
        value, tuple(getattr(vault, name) for name in ("EncryptedString",) if hasattr(vault, name))
    ) or hasattr(value, "_ciphertext"):
        secrets.append(text)
    return text
