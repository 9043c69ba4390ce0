# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file of the target side that knows Ansible: options in, engine, result out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import render
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Entry

if TYPE_CHECKING:
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile

COMMON = {
    "rollback": {"type": "bool", "default": True},
    "workers": {"type": "int", "default": 4},
    "lock_timeout": {"type": "int", "default": 30},
    "actions_limit": {"type": "int", "default": 100},
    "allow_unstable_device": {"type": "bool", "default": False},
}


class Module(AnsibleModule):
    """Its own refusals have our shape too."""

    def fail_json(self, msg: str, **result: Any) -> NoReturn:
        if "errors" not in result:
            error = StorageError("invalid", str(msg)).as_dict()
            result.update(code="invalid", hint="", errors=[error], errors_total=1)
        result.setdefault("changed", False)
        if "rollback" in self.argument_spec:
            from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile

            result.setdefault("summary", dict.fromkeys(reconcile.SUMMARY, 0))
        super().fail_json(msg, **result)
        raise SystemExit(1)  # it never comes back


def run(resource: Any, ports: dict[str, Callable[[], Any]], away: Any = None) -> None:
    """A module of one kind: its options are one entry."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports

    module = Module(argument_spec={**COMMON, **resource.OPTIONS}, supports_check_mode=True, **resource.RULES)
    entry = Entry("%s (%s)" % (resource.KIND, resource.label(module.params)), resource, module.params)
    reconcile_entries(module, [entry], Ports(ports, away), [])


def reconcile_many(
    options: dict[str, Any],
    read: Callable[[dict[str, Any], set[str]], tuple[list[Entry], Mapping[str, Any], list[StorageError]]],
    extra: Callable[[dict[str, Any], list[Entry], reconcile.Report], dict[str, Any]],
) -> None:
    """For ``layout``: its options beside the common ones. ``read`` adds the secrets it meets to its set."""
    module = Module(argument_spec={**COMMON, **options}, supports_check_mode=True)
    secrets: set[str] = set()
    try:
        entries, ports, errors = read(module.params, secrets)
    except StorageError as error:
        entries, ports, errors = [], {}, [error]
    module.no_log_values.update(secret for secret in secrets if len(secret) > 2)
    reconcile_entries(module, entries, ports, errors, lambda report: extra(module.params, entries, report))


def inform(options: dict[str, Any], gather: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """An info module: looks, never changes."""
    module = Module(argument_spec=options, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **gather(module.params))
    except StorageError as error:
        refuse(module, [error], {})


def reconcile_entries(
    module: Module,
    entries: list[Entry],
    ports: Mapping[str, Any],
    errors: list[StorageError],
    extra: Callable[[reconcile.Report], dict[str, Any]] | None = None,
) -> None:
    """Plan, apply unless in check mode, and answer. ``errors``: of reading the options."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import reconcile

    for entry in entries:
        if hasattr(entry.resource, "warned"):
            entry.resource.warned(entry.params, module.warn)
    params, wait, away = module.params, module.params["lock_timeout"], getattr(ports, "away", None)
    options = reconcile.Options(
        check=module.check_mode,
        rollback=params["rollback"],
        workers=max(1, params["workers"]),
        lock=lambda: _lock(wait),
        still=lambda: _lock(wait, shared=True),
        journal=lambda: _journal(module.warn),
        ready=lambda: _lock(0).unready(),
    )
    options = away(entries, options, wait) if away else options
    try:
        report = reconcile.fulfil(entries, errors, ports, options)
    except Refusals as refused:
        refuse(module, refused.errors, {})
    except StorageError as error:
        refuse(module, [error], {})
    result: dict[str, Any] = {
        "changed": bool(report.summary["applied"] or report.summary["kept"]) if report.errors else bool(report.listed),
        "actions": [],
        "plan_digest": report.digest,
        "summary": report.summary,
        "journal": report.journal,
    }
    if report.listed or module._diff:
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing

        result["actions"] = listing.bounded(report.listed, params["actions_limit"])
        if module._diff:
            result["diff"] = listing.diff(result["actions"])
    if report.errors:
        refuse(module, report.errors, result)
    if extra is not None:
        result.update(extra(report))
    else:
        result["resource"] = shown(entries[0], seen(report))
    if report.ended:
        refuse(module, report.ended, result)
    module.exit_json(**result)


def seen(report: reconcile.Report) -> dict[str, Any]:
    """What ``show`` is told: rows of each port, what changed beneath a path, what was done."""
    rows = {**report.rows, "changed": lambda ports, root: [], "done": {}}
    if report.listed:
        from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing

        rows.update(changed=listing.changed(report.listed), done=listing.done(report.listed))
    return rows


def shown(entry: Entry, rows: dict[str, Any]) -> Any:
    return render.plain(entry.resource.show(entry.params, rows))


def refuse(module: Module, errors: list[StorageError], result: dict[str, Any]) -> NoReturn:
    """The task's own code and message are the first error's."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._engine import listing

    module.fail_json(**listing.refusals(errors), **result)


def _lock(timeout: float, shared: bool = False) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock

    return Lock(timeout=timeout, shared=shared)


def _journal(warn: Callable[[str], None]) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.journal import Journal

    return Journal(warn=warn)
