# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of ``layout``: a declaration of thousands of entries is read and serialised once, as one text.

Ansible would otherwise template, check and encode every option of every entry on its own; that, not the work on the
target, is what a large declaration costs.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.parsing import vault
from ansible.plugins.action import ActionBase

from ansible_collections.bulkhead.storage.plugins.module_utils._kinds import LISTS

# Before ansible-core 2.19 a vaulted value stays an object of its own; since then it is a text that carries a tag.
_TAG: Any = getattr(vault, "VaultedValue", None)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        document = {name: args.pop(name) for name in (*LISTS, "state") if args.get(name) is not None}
        remote = str(args.get("remote_src", False)).lower() in ("1", "true", "yes", "on", "y", "t")
        if args.get("src") and not remote:
            if set(document) - {"state"}:
                raise AnsibleActionFail("src and lists exclude each other: declare the lists in the file")
            document = {**self._read(args.pop("src")), **document}
            args.pop("remote_src", None)
        secrets: list[str] = []
        if document or not args.get("src"):
            _find_secrets(document, secrets)
            args["_declaration"] = json.dumps(document, default=lambda value: _plain(value, secrets))
            args["_secrets"] = secrets
        return self._execute_module(module_name="bulkhead.storage.layout", module_args=args, task_vars=task_vars)

    def _read(self, src: str) -> dict[str, Any]:
        document = self._loader.load_from_file(self._find_needle("files", src))
        if not isinstance(document, dict):
            raise AnsibleActionFail("%s does not hold a dictionary of lists" % src)
        return document


def _find_secrets(value: Any, secrets: list[str]) -> None:
    """Texts that came out of a vault, so that the target masks them wherever they would be printed."""
    if isinstance(value, dict):
        for item in value.values():
            _find_secrets(item, secrets)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _find_secrets(item, secrets)
    elif _TAG is not None and type(value) is not str and isinstance(value, str) and _TAG.is_tagged_on(value):
        secrets.append(str(value))


def _plain(value: Any, secrets: list[str]) -> str:
    """Whatever JSON does not know: a vaulted value of an older core, or one that was read from a file."""
    text = str(value)
    if isinstance(
        value, tuple(getattr(vault, name) for name in ("EncryptedString",) if hasattr(vault, name))
    ) or hasattr(value, "_ciphertext"):
        secrets.append(text)
    return text
