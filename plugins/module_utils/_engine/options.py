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
_ITSELF = {"str": str, "bool": bool, "int": int}
_NO_WAY = ("", None)
_known: dict[int, tuple[Any, ...]] = {}  # by the identity of a spec, which is kept with it
_FALSE = frozenset(("no", "off", "0", "false", "f", "n", 0, False))


def check(spec: dict[str, Any], rules: dict[str, Any], given: Any, secrets: set[str]) -> dict[str, Any]:
    """The options of one entry, coerced, with defaults filled in. Raises ``invalid`` with every problem at once."""
    quick = _quick(spec, rules, given)
    if quick is not None:
        return quick
    problems: list[str] = []
    params = _dict(spec, rules, given, "", problems, secrets)
    if problems:
        raise StorageError("invalid", "; ".join(problems), "see ansible-doc for the options of this kind")
    return params


def _quick(spec: dict[str, Any], rules: dict[str, Any], given: Any) -> dict[str, Any] | None:
    """The same for what needs no coercion and holds no secret, as nearly every entry of thousands; None for others."""
    if given.__class__ is not dict:
        return None
    known = _known.get(id(spec))
    if known is None:
        known = _known[id(spec)] = _plain_options(spec)
    _spec, defaults, required, ways = known
    if not ways:
        return None
    params = dict(defaults)
    for name, value in given.items():
        if value is None and name in ways:
            continue
        kind, option = ways.get(name, _NO_WAY)
        if kind is str or kind is bool or kind is int:
            if value.__class__ is not kind or (option and value not in option):
                return None
        elif kind == "texts":
            if value.__class__ is not list:
                return None
            for text in value:
                if text.__class__ is not str:
                    return None
            value = value[:]
        elif kind == "path":
            if value.__class__ is not str or "$" in value or value[:1] == "~":
                return None
        elif kind == "dicts":
            if value.__class__ is not list:
                return None
            value = [_quick(option["options"], option, item) for item in value]
            if None in value:
                return None
        elif kind != "raw":
            return None
        params[name] = value
    for name in required:
        if params[name] is None:
            return None
    if "required_if" in rules or "mutually_exclusive" in rules:
        problems: list[str] = []
        _rules(rules, params, "", problems)
        if problems:
            return None
    return params


def _plain_options(spec: dict[str, Any]) -> tuple[Any, ...]:
    """The defaults, what is required, and which options may pass without a closer look."""
    defaults = {name: option.get("default") for name, option in spec.items()}
    required = [name for name, option in spec.items() if option.get("required")]
    ways: dict[str, tuple[Any, Any]] = {}
    for name, option in spec.items():
        kind, choices, default = option.get("type", "str"), option.get("choices"), defaults[name]
        if default is not None and (default.__class__ is not _ITSELF.get(kind) or option.get("no_log")):
            return spec, {}, [], {}
        if "aliases" in option or option.get("no_log"):
            continue
        if kind in _ITSELF:
            ways[name] = _ITSELF[kind], choices
        elif kind == "list" and choices is None and option.get("elements") in ("str", "dict"):
            if option["elements"] == "str":
                ways[name] = "texts", None
            elif "options" in option:
                ways[name] = "dicts", option
        elif kind in ("path", "raw") and choices is None:
            ways[name] = kind, None
    return spec, defaults, required, ways


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
        if value.__class__ is not str or option.get("type", "str") not in _TEXTS or "choices" in option:
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
        if option.get("elements") == "str" and "choices" not in option and all(v.__class__ is str for v in items):
            return list(items)
        item = {**option, "type": option.get("elements", "raw")}
        return [_value(item, v, "%s[%d]" % (where, i), problems, secrets) for i, v in enumerate(items)]
    if kind == "dict":
        if "options" in option:
            return _dict(option["options"], option, value, where + ".", problems, secrets)
        if not isinstance(value, dict):
            problems.append("%s is not a dictionary" % where)
        return value
    choices = option.get("choices")
    if choices and value.__class__ is bool and kind == "str":  # YAML reads the words on and off so
        value = next((each for each in choices if str(each) in (_TRUE if value else _FALSE)), value)
    good, value = _SCALARS[kind](value)
    if not good:
        problems.append("%s %.80r is not %s" % (where, value, _NAMES.get(kind, "a " + kind)))
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
