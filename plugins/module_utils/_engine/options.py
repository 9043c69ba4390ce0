# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of an entry against the argument spec of its kind: the coercions of a module, for thousands of entries.

Ansible itself checks the options of a single module; ``layout`` carries entries of many kinds in one text and checks
them here, with the one OPTIONS that serve both.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_TRUE = frozenset(("yes", "on", "1", "true", "t", "y", 1, True))
_TEXTS = ("str", "raw")  # a text is one already
_FALSE = frozenset(("no", "off", "0", "false", "f", "n", 0, False))


def check(spec: dict[str, Any], rules: dict[str, Any], given: Any, secrets: set[str]) -> dict[str, Any]:
    """The options of one entry, coerced, with defaults filled in. Raises ``invalid`` with every problem at once."""
    problems: list[str] = []
    params = _dict(spec, rules, given, "", problems, secrets)
    if problems:
        raise StorageError("invalid", "; ".join(problems), "see ansible-doc for the options of this kind")
    return params


def _dict(
    spec: dict[str, Any], rules: dict[str, Any], given: Any, where: str, problems: list[str], secrets: set[str]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        problems.append("%s is not a dictionary" % (where or "the entry"))
        return {}
    params: dict[str, Any] = {}
    left = dict(given)
    for name, option in spec.items():
        value = left.pop(name, None)
        if "aliases" in option:
            for alias in option["aliases"]:
                other = left.pop(alias, None)
                value = other if value is None else value
        if value is None:
            value = option.get("default")
            if value is None:
                if option.get("required"):
                    problems.append("%s is required" % (where + name))
                params[name] = None
                continue
        if type(value) is not str or option.get("type", "str") not in _TEXTS or "choices" in option:
            value = _value(option, value, where + name, problems, secrets)
        params[name] = value
        if option.get("no_log") and value not in (None, ""):
            secrets.add(str(value))
    if left:
        problems.append(
            "unknown option%s: %s" % ("s"[: len(left) > 1], ", ".join(sorted(where + str(k) for k in left)))
        )
    _rules(rules, params, where, problems)
    return params


def _value(option: dict[str, Any], value: Any, where: str, problems: list[str], secrets: set[str]) -> Any:
    kind = option.get("type", "str")
    if kind == "list":
        items = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [value]
        if option.get("elements") == "str" and "choices" not in option and all(type(v) is str for v in items):
            return list(items)
        item = {**option, "type": option.get("elements", "raw")}
        return [_value(item, v, "%s[%d]" % (where, i), problems, secrets) for i, v in enumerate(items)]
    if kind == "dict":
        if "options" in option:
            return _dict(option["options"], option, value, where + ".", problems, secrets)
        if not isinstance(value, dict):
            problems.append("%s is not a dictionary" % where)
        return value
    good, value = _SCALARS[kind](value)
    if not good:
        problems.append("%s %.80r is not %s" % (where, value, _NAMES.get(kind, "a " + kind)))
    choices = option.get("choices")
    if good and choices is not None and value not in choices:
        problems.append("%s %.80r is none of %s" % (where, value, ", ".join(map(str, choices))))
    return value


def _str(value: Any) -> tuple[bool, Any]:
    if isinstance(value, (bool, float)) or not isinstance(value, (str, int)):
        return False, value
    return True, str(value)


def _path(value: Any) -> tuple[bool, Any]:
    """With ``~`` and ``$NAME`` of the target, as Ansible reads a path of a module."""
    good, value = _str(value)
    if not good or ("$" not in value and value[:1] != "~"):
        return good, value
    try:
        return True, posixpath.expanduser(posixpath.expandvars(value))
    except ValueError:  # no name of a user can hold that
        return False, value


def _bool(value: Any) -> tuple[bool, Any]:
    if isinstance(value, (str, int)):
        word = value.lower().strip() if isinstance(value, str) else value
        if word in _TRUE:
            return True, True
        if word in _FALSE:
            return True, False
    return False, value


def _int(value: Any) -> tuple[bool, Any]:
    if isinstance(value, int) and not isinstance(value, bool):
        return True, value
    if isinstance(value, str):
        try:
            return True, int(value)
        except ValueError:
            return False, value
    return False, value


def _float(value: Any) -> tuple[bool, Any]:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return True, float(value)
        except ValueError:
            return False, value
    return False, value


def _raw(value: Any) -> tuple[bool, Any]:
    return True, value


_SCALARS = {"str": _str, "path": _path, "bool": _bool, "int": _int, "float": _float, "raw": _raw}
_NAMES = {"str": "a text", "path": "a path", "bool": "yes or no", "int": "an integer", "float": "a number"}


def _rules(rules: dict[str, Any], params: dict[str, Any], where: str, problems: list[str]) -> None:
    for name, value, needed, *any_of in rules.get("required_if", ()):
        if params.get(name) == value:
            missing = [n for n in needed if params.get(n) is None]
            if missing and not (any_of and any_of[0] and len(missing) < len(needed)):
                problems.append("%s is required when %s is %s" % (", ".join(where + m for m in missing), name, value))
    for group in rules.get("mutually_exclusive", ()):
        given = [n for n in group if params.get(n) is not None]
        if len(given) > 1:
            problems.append("%s exclude each other" % ", ".join(where + g for g in given))
