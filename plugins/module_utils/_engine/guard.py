# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which risk needs which consent. Nothing else consents to destruction (interface, table of consents)."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import DESTROYS, SHRINKS, Action, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text

_REFUSALS = {
    "wipe_token": ("not_blank", "repeat the task with wipe_token: %s to destroy what is there"),
    "confirm": ("would_destroy", "repeat the task with confirm: %s"),
    "allow_shrink": ("would_shrink", "set allow_shrink: true once the content is known to fit"),
    "absent": ("would_destroy", "say state: absent to remove it with its content"),
}


def consented(action: Action, unit: Unit, port: Any) -> StorageError | None:
    """None when the action is harmless or the user typed the consent it takes; else the refusal, with the token."""
    if action.port == unit.consents.get("drift") and action.before is not None:
        verb = "replace" if action.after is None else "change"
        if unit.consents.get(verb) is False:
            text = "%s is not as declared, and on_drift says not to %s it" % (target_text(action.target), verb)
            return StorageError("conflict", text, "set on_drift: %s" % ("replace" if verb == "replace" else "remount"))
    unstable = getattr(port, "unstable", None)
    error: StorageError | None = unstable(action.target) if unstable else None
    if error is not None and not unit.consents.get("allow_unstable_device"):
        return error
    if action.risk not in (SHRINKS, DESTROYS):
        return None
    consent = getattr(port, "consent", None)
    asked = consent(action.target, action.before, action.after) if consent else None
    where = target_text(action.target)
    if asked is None:
        return StorageError("would_destroy", "%s of %s %s is never allowed" % (action.verb, action.port, where))
    name, token = asked
    given = unit.consents.get(name)  # one, or those of several devices
    if token and (given == token or (isinstance(given, list) and token in given)):
        return None
    code, hint = _REFUSALS[name]
    hint = unit.consents.get("hint") or (hint % token if "%s" in hint else hint)
    what = "shrink" if action.risk == SHRINKS else "destroy"
    return StorageError(
        code,
        "%s of %s %s would %s content" % (action.verb, action.port, where, what),
        hint,
        **{name: token},
    )
