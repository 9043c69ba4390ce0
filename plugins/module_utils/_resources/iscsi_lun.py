# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``{iscsi: <iqn>, lun: <n>}`` where a device is named: which one that is, and what it waits for until it can be told.

Loaded only where a device is named so.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target

SESSION = "iscsi_session"  # the port, and the kind
OPTIONS, MANY = ("device", "source"), ("pvs", "remove_pvs")  # of all kinds that name devices
ONLINE = "_netdev"  # fstab(5), systemd.mount(5), crypttab(5): after there is a network, and gone before it is


class Lun(NamedTuple):
    """``path``: of what is not there, a name that nothing has."""

    iqn: str
    number: int
    path: str
    there: bool

    def __str__(self) -> str:
        return "iscsi %s lun %d" % self[:2]


def label(given: Any) -> str:
    """Of whatever stands in the place of a device, right or wrong."""
    return "iscsi %s lun %s" % (given.get("iscsi"), given.get("lun")) if isinstance(given, dict) else str(given)


def read(given: Any, what: str) -> tuple[str, int]:
    """The name of the target and the number of the LUN."""
    if not isinstance(given, dict) or given.keys() != {"iscsi", "lun"}:
        text = "%s %.300r is neither a path nor a LUN" % (what, given)
        hint = "such as {iscsi: iqn.2026-01.org.example:disks, lun: 0}"
        raise StorageError("invalid", text, hint, option=what)
    name, number = iscsi_target.iqn(given["iscsi"], what), given["lun"]
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 6:
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= iscsi_target.MOST_LUN:
        text = "%s: lun %.40r is not in 0..%d" % (what, number, iscsi_target.MOST_LUN)
        raise StorageError("invalid", text, "a whole number", option=what)
    return name, number


def find(given: Any, what: str, rows: Mapping[Any, Any]) -> Lun:
    """By the rows of the sessions."""
    name, number = read(given, what)
    row = rows.get(name)
    if isinstance(row, StorageError):
        raise row
    luns = row.get("luns") if row else None
    path = luns.get(str(number), {}).get("path") if isinstance(luns, dict) else None  # "": udev has not named it yet
    return Lun(name, number, path or "/dev/iscsi/%s/lun%d" % (name, number), bool(path))


class On:
    """A kind whose devices are LUNs, in all else as it is.

    The kind is told the path that a LUN has or, until the session has it, one that nothing has; its entry is called
    by the LUN in every stage. What names a LUN that only a login brings lies behind that door with all of its cells:
    a line of fstab can be read before, but what to write into it is not known.
    """

    def __init__(self, kind: Any, options: tuple[str, ...]) -> None:
        self.kind, self.options = kind, options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def label(self, p: dict[str, Any]) -> str:
        named = {option: label(p[option]) for option in self.options if isinstance(p[option], dict)}
        return str(self.kind.label({**p, **named}))

    def facts(self, p: dict[str, Any], look: Any) -> Any:
        p, _luns = self.by_path(p, _sessions(look))
        return self.kind.facts(p, look) if hasattr(self.kind, "facts") else ()

    def unit(self, p: dict[str, Any], look: Any) -> Unit:
        rows = _sessions(look)
        p, luns = self.by_path(p, rows)
        made: Unit = self.kind.unit(_online(p) if self.kind.KIND == "mount" else p, look)
        key, cells, waits = made.key, made.cells, False
        for what, lun in luns:
            key = (key[0], str(lun)) if key[1] == lun.path else key
            about = [cell for cell in cells if _tells(cell, lun.path)]
            said = look.declared.get((SESSION, lun.iqn))
            goes = said is not None and said["state"] in ("disconnected", "absent")
            if goes and any(cell.value is not None for cell in about):
                text = "iscsi_session %s is declared %s, but this stands on its LUN %d"
                text %= (lun.iqn, said["state"], lun.number)
                raise StorageError("conflict", text, "declare it connected, or this absent", option=what)
            if goes and not lun.there:
                cells = tuple(cell for cell in cells if cell not in about)  # it went with the session
            elif about and not lun.there:
                _awaited(lun, said, rows, what)
                waits = True
        needs = dict.fromkeys((*made.needs, *(("iscsi", lun.iqn) for _what, lun in luns)))
        return made._replace(key=key, cells=tuple(map(_line, cells)), needs=tuple(needs), behind=waits)

    def show(self, p: dict[str, Any], rows: Any) -> Any:
        return self.kind.show(self.by_path(p, rows.get(SESSION) or {})[0], rows)

    def by_path(self, p: dict[str, Any], rows: Mapping[Any, Any]) -> tuple[dict[str, Any], list[tuple[str, Lun]]]:
        """The options of the kind, and which LUNs are meant by which of them."""
        p, luns = dict(p), []

        def path(given: Any) -> Any:
            if isinstance(given, str):
                return given
            luns.append((option, find(given, option, rows)))
            return luns[-1][1].path

        for option in self.options:
            if p[option] is not None:
                p[option] = list(map(path, p[option])) if option in MANY else path(p[option])
        if "check" in p and not all(lun.there for _what, lun in luns):
            p["check"] = False  # of what nobody can see
        return p, luns


def _online(p: dict[str, Any]) -> dict[str, Any]:
    if p["bind"]:
        text = "a bind shows a directory, and a LUN is none"
        raise StorageError("invalid", text, "leave bind out, or name a directory", option="source")
    return {**p, "options": [*p["options"], ONLINE]} if p["options"] else p


def _line(cell: Cell) -> Cell:
    """What is written down for the next boot says that it takes a network, also where no options are declared."""
    if cell.value is None or cell.port not in ("fstab", "unit", "crypttab"):
        return cell
    if cell.port == "crypttab":
        return cell._replace(value={**cell.value, "network": True})
    words = [word for word in cell.value["options"].split(",") if word not in ("", "defaults")]
    return cell if ONLINE in words else cell._replace(value={**cell.value, "options": ",".join([*words, ONLINE])})


def _sessions(look: Any) -> Mapping[Any, Any]:
    """Of all targets that are named in this declaration: one look, however many stand on LUNs."""
    found = look.memo.get(SESSION)
    if found is None:
        found = look.memo[SESSION] = look.look(SESSION, dict.fromkeys(_named(look)))
    rows: Mapping[Any, Any] = found
    return rows


def _named(look: Any) -> Iterator[str]:
    for (kind, name), said in look.declared.items():
        given = [{"iscsi": name, "lun": 0}] if kind == SESSION else []
        given += [said.get(option) for option in OPTIONS]
        given += [each for option in MANY for each in said.get(option) or ()]
        for each in given:
            with contextlib.suppress(StorageError):  # of another entry, which says so itself
                if isinstance(each, dict):
                    yield read(each, "")[0]


def _tells(cell: Cell, path: str) -> bool:
    """Does it name that device, or a partition of it?"""
    told = [*(cell.target if isinstance(cell.target, tuple) else (cell.target,))]
    told += cell.value.values() if isinstance(cell.value, dict) else ()
    return any(isinstance(each, str) and each.startswith(path) for each in told)


def _awaited(lun: Lun, said: Any, rows: Mapping[Any, Any], option: str) -> None:
    """Nothing, where the declared session is to bring it; else it would be waited for in vain."""
    connects = said is not None and said["state"] == "connected"
    if lun.iqn not in rows or rows[lun.iqn].get("portals") == ():  # the second: no portal answers
        if connects:
            return
        text, hint = "this host has no session with %s" % lun.iqn, "connect it with iscsi_session"
    else:
        if connects and lun.number in (said["luns"] or ()):
            return
        text = "the session with %s has no LUN %d" % (lun.iqn, lun.number)
        hint = "list it in luns of iscsi_session to have it looked for, or serve it"
    raise StorageError("not_found", text, hint, option=option)
