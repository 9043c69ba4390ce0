# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a ``.mount`` unit (systemd.mount(5)): bytes in, values out, and back. No file is touched here.

What is written is what systemd-fstab-generator(8) makes of the same line of fstab.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import systemd_names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

MARK = b"# Made by bulkhead.storage. What is changed here is undone; a drop-in stays (systemctl edit).\n"
_KEYS = {"source": b"What", "fstype": b"Type", "options": b"Options"}
_UNSAID = {"source": "", "fstype": "auto", "options": "defaults"}
_NETWORK = frozenset(
    "afs ceph cifs smb3 smbfs sshfs ncpfs ncp nfs nfs4 gfs gfs2 glusterfs pvfs2 ocfs2 lustre davfs".split()
)
# Options of fstab that systemd reads in the words of a unit: the line of [Unit] or [Mount] for each.
_WORDS = {
    "x-systemd.requires": "Requires=%(unit)s\nAfter=%(unit)s",
    "x-systemd.after": "After=%(unit)s",
    "x-systemd.before": "Before=%(unit)s",
    "x-systemd.requires-mounts-for": "RequiresMountsFor=%(word)s",
    "x-systemd.wants-mounts-for": "WantsMountsFor=%(word)s",
}
_LINKS = {"x-systemd.wanted-by": "wants", "x-systemd.required-by": "requires"}
_OTHERS = ("x-systemd.mount-timeout", "x-systemd.rw-only")


class Said(NamedTuple):
    """One assignment of a unit file, and which lines of the file it takes."""

    section: bytes
    key: bytes
    value: bytes
    start: int
    stop: int


def parse(data: bytes) -> list[Said]:
    """Comments, sections and continued lines by systemd.syntax(7)."""
    found: list[Said] = []
    section, start, so_far = b"", -1, b""
    for number, line in enumerate(data.split(b"\n")):
        line = line.strip()
        if line.startswith((b"#", b";")):
            continue
        start = number if start < 0 else start
        if line.endswith(b"\\"):
            so_far += line[:-1] + b" "
            continue
        whole, first, start, so_far = so_far + line, start, -1, b""
        if whole.startswith(b"[") and whole.endswith(b"]"):
            section = whole[1:-1]
        elif b"=" in whole:
            key, _eq, value = whole.partition(b"=")
            found.append(Said(section, key.strip(), value.strip(), first, number + 1))
    return found


def value_of(path: str, data: bytes) -> dict[str, Any]:
    """Source, type, options; ``fsck``: is it checked at boot; ``intact``: does all the rest say what it should."""
    said = parse(data)
    last = {each.key: text(each.value) for each in said if each.section == b"Mount"}
    value: dict[str, Any] = {name: last.get(key) or _UNSAID[name] for name, key in _KEYS.items()}
    value["source"] = systemd_names.device_node(value["source"])
    needs = [each.value for each in said if each.section == b"Unit" and each.key in (b"Requires", b"Wants")]
    value["fsck"] = any(b"systemd-fsck@" in need for need in needs)
    if data.startswith(MARK):
        value["intact"] = data == render(path, value)
    else:
        value.update(intact=last.get(b"Where", "").rstrip("/") == path.rstrip("/"), _foreign=True)
    return value


def row(path: str, data: bytes, links: list[str]) -> dict[str, Any]:
    """The value of a scan. ``links``: the folders with links that enable it."""
    value = value_of(path, data)
    wanted = wanted_by(value)
    value["_links"] = sorted(links)
    value["enabled"] = not wanted or bool(links) if "_foreign" in value else value["_links"] == wanted
    return value


def resolve(target: str, declared: Any) -> Any:
    """A line of fstab as a unit says it. Raises ``invalid`` or ``unsupported`` for what no unit can say."""
    systemd_names.mount_unit(target)
    value = {**declared, "source": systemd_names.device_node(declared["source"]), "enabled": True, "intact": True}
    for key in _KEYS:
        problem = systemd_names.written_problem(value[key])
        if problem:
            text = "%s %.300r %s" % (key, value[key], problem)
            raise StorageError("invalid", text, "use persist: fstab", option=key)
    if value.pop("dump", 0):
        raise StorageError("invalid", "a unit has no dump", "leave it out, or use persist: fstab", option="dump")
    strange = unknown(value["options"])
    if strange:
        text = "%s cannot be said in a mount unit" % ", ".join(strange)
        raise StorageError("unsupported", text, "use persist: fstab", option="options")
    if "passno" in value:
        value["fsck"] = value.pop("passno") > 0 and systemd_names.is_device(value["source"])
    return value


def refuse(name: str, before: Any, after: Any) -> StorageError | None:
    """In a unit of somebody else what it stands on is not changed."""
    if after is None or "_foreign" not in before or dependencies(before) == dependencies({**before, **after}):
        return None
    text = "%s was written by somebody else, and what it stands on would change" % name
    return StorageError("conflict", text, "remove that file, then it is made anew")


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape").replace("%%", "%")


def written(value: str) -> str:
    """``%`` begins a specifier (systemd.unit(5)), and doubled it is one."""
    return value.replace("%", "%%")


def words(value: dict[str, Any]) -> list[str]:
    return [word for word in value["options"].split(",") if word]


def unknown(options: str) -> list[str]:
    """Options for systemd that no text of a mount unit says: those that make a second unit, or name none."""
    told = [word.partition("=") for word in options.split(",") if word.startswith("x-systemd.")]
    known = (*_WORDS, *_LINKS, *_OTHERS)
    return [
        name + eq + arg
        for name, eq, arg in told
        if name not in known or (name in _LINKS and not systemd_names.UNIT.fullmatch(arg)) or (eq and not arg)
    ]


def wanted_by(value: dict[str, Any]) -> list[str]:
    """The folders whose links enable it: ``local-fs.target.requires`` and the like. None of them with ``noauto``."""
    told = [word.partition("=") for word in words(value)]
    links = [
        arg + "." + _LINKS[name] for name, _eq, arg in told if name in _LINKS and systemd_names.UNIT.fullmatch(arg)
    ]
    if not links and "noauto" not in words(value):
        links = ["%s.%s" % (_target(value), "wants" if "nofail" in words(value) else "requires")]
    return sorted(set(links))


def dependencies(value: dict[str, Any]) -> list[str]:
    """Lines of [Unit] that the options ask for."""
    lines = []
    for word in words(value):
        name, _eq, arg = word.partition("=")
        if name in _WORDS and arg:
            lines += (_WORDS[name] % {"unit": systemd_names.unit_of(arg), "word": written(arg)}).split("\n")
    if "nofail" not in words(value):
        lines.append("Before=" + _target(value))
    if value["fsck"]:
        service = "systemd-fsck@%s.service" % systemd_names.escape(value["source"])
        lines += ["Requires=" + service, "After=" + service]
    return lines


def render(path: str, value: dict[str, Any]) -> bytes:
    """The whole file. The same value always makes the same bytes."""
    lines = ["", "[Unit]", *dependencies(value)]
    if systemd_names.is_device(value["source"]):
        lines.append("After=blockdev@%s.target" % systemd_names.escape(value["source"]))
    lines += ["", "[Mount]", "What=" + written(value["source"]), "Where=" + written(path)]
    lines += ["Type=" + value["fstype"]] * (value["fstype"] != "auto")
    lines += ["Options=" + written(value["options"])] * (value["options"] != "defaults")
    for word in words(value):
        name, _eq, arg = word.partition("=")
        lines += ["TimeoutSec=" + written(arg)] * (name == "x-systemd.mount-timeout")
        lines += ["ReadWriteOnly=yes"] * (name == "x-systemd.rw-only")
    links = [folder.rpartition(".") for folder in wanted_by(value)]
    if links:
        lines += ["", "[Install]"]
        lines += ["%s=%s" % ({"wants": "WantedBy"}.get(how, "RequiredBy"), unit) for unit, _dot, how in links]
    return MARK + encode("\n".join(lines) + "\n")


def edited(path: str, data: bytes, before: dict[str, Any], after: dict[str, Any]) -> bytes:
    """A file that somebody else wrote, with only the fields changed that differ; all else stays, byte for byte."""
    wanted = {key: after[name] for name, key in _KEYS.items() if before[name] != after[name]}
    if not before["intact"]:
        wanted[b"Where"] = path
    lines: list[bytes | None] = list(data.split(b"\n"))
    said = [each for each in parse(data) if each.section == b"Mount"]
    missing = []
    for key, new in wanted.items():
        line = key + b"=" + encode(written(new))
        mine = [each for each in said if each.key == key]
        if mine:
            lines[mine[-1].start : mine[-1].stop] = [line] + [None] * (mine[-1].stop - mine[-1].start - 1)
        else:
            missing.append(line)
    kept = [line for line in lines if line is not None]
    if missing:
        head = [number for number, line in enumerate(kept) if line.strip() == b"[Mount]"]
        at = head[-1] + 1 if head else len(kept)
        kept[at:at] = missing if head else [b"[Mount]", *missing]
    return b"\n".join(kept)


def _target(value: dict[str, Any]) -> str:
    network = "_netdev" in words(value) or value["fstype"] in _NETWORK
    return "remote-fs.target" if network else "local-fs.target"
