# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing and removing drop-ins with limits of I/O, and what speaks against one. Loaded only where one differs."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, io_device, program, systemd_io
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cgroup_iochange import weightless
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of

# systemd.unit(5), table 1, and what generators write; a slice needs no file
_PATHS = [folder + "/systemd/system" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")]
_PATHS += ["/run/systemd/" + name for name in ("transient", "generator", "generator.early", "generator.late")]


def refusal(port: Any, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
    unit, found = systemd_io.unit_of(target[0]), port.found[target]
    if not os.path.isdir(port.booted):
        text = "systemd does not run this system, so it sets no limit for %s" % unit
        return StorageError("unsupported", text, "name a cgroup, with persist: false")
    devices = io_device.Devices()
    if not _device(target, devices, found):
        return _nameless(devices, found)
    error = weightless(io_device.CGROUPS, found.number, after)
    if error is not None:
        return error
    said = _asked(port, unit)
    if said["LoadState"] == "masked":
        return StorageError("conflict", "%s is masked" % unit, "systemctl unmask it first")
    if said["LoadState"] != "loaded" and not _known(unit):
        text = "systemd knows no unit %s, so nothing would be limited" % unit
        return StorageError("not_found", text, "name one that exists, or a slice", option="slice")
    ours = {before["_device"]} if before else set()
    ours |= {_recorded(file) for port_name, (file, _source) in _files(gone) if port_name == "io_dropin"}
    for path in {entry[1] for entry in said["entries"]} - ours:
        try:
            other = devices.find(path)
        except StorageError:
            continue  # systemd ignores a device that is not there too
        if other.number == found.number:
            text = "%s has another setting for %s, as %s, and systemd would keep one of them only" % (
                unit, devices.path(found.number), path,
            )  # fmt: skip
            hint = "systemctl cat %s shows where; declare one limit for a disk of a slice" % unit
            return StorageError("conflict", text, hint)
    return None


def put(port: Any, target: Any, before: Any, after: Any) -> None:
    file = target[0]
    devices = io_device.Devices()
    now = port.row(target, devices)
    if (now and state_of(now)) != (before and state_of(before)):
        raise StorageError("moved", "%s changed since it was read" % file, "run it again")
    folder = os.path.dirname(file)
    try:
        if after is None:
            os.unlink(file)
            port.written.pop(file, None)
            sync_directory(folder)
            if not os.listdir(folder):
                os.rmdir(folder)
                sync_directory(os.path.dirname(folder))
            port.stale = True
            return
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # whatever the umask is
            sync_directory(os.path.dirname(folder))
    except OSError as error:
        raise failure(error, "cannot write " + file) from error
    if "_text" in after:  # taken back, to the very bytes
        text, device, limits = after["_text"], "", {}
    else:
        device = (now or {}).get("_device", "")
        if not device or now["_elsewhere"]:
            device = _device(target, devices, devices.find(target[1]))
        if not device:
            raise _nameless(devices, devices.find(target[1]))
        limits = {key: after.get(key) for key in systemd_io.SETTINGS}
        text = systemd_io.render(systemd_io.unit_of(file), device, limits)
    atomic.replace(file, text.encode("utf-8", "surrogateescape"), 0o644)
    port.written[file] = {"device": device, "limits": limits}
    port.stale = True


def reload(port: Any) -> None:
    """And look whether what is written counts: a drop-in of others that is read later may say something else."""
    port.stale = False
    run = port.run or program.execute
    code, _out, err = run(["systemctl", "daemon-reload"])
    if code:
        said = err.decode("utf-8", "replace").strip() or "it ended with %d" % code
        hint = "systemd goes by what it knew before until it is told: systemctl daemon-reload"
        raise StorageError("failed", "systemctl daemon-reload: %.300s" % said, hint)
    for file, kept in port.written.items():
        unit = systemd_io.unit_of(file)
        entries = _asked(port, unit)["entries"]
        for key, value in kept["limits"].items():
            setting = systemd_io.SETTINGS[key]
            if value is not None and (setting, kept["device"], value) not in entries:
                text = "%s of %s for %s is not what %s says" % (setting, unit, kept["device"], file)
                raise StorageError("not_enforced", text, "see systemctl cat %s for what comes after it" % unit)
    port.written.clear()


def _asked(port: Any, unit: str) -> dict[str, Any]:
    """What systemd knows of a unit: ``LoadState``, and the settings as (name, path, value)."""
    wanted = ",".join(["LoadState", *systemd_io.SETTINGS.values()])
    argv = ["systemctl", "show", "--property=" + wanted, "--", unit]
    code, out, err = (port.run or program.execute)(argv)
    if code:
        raise StorageError("failed", "systemctl show %s: %.300s" % (unit, err.decode("utf-8", "replace").strip()))
    found: dict[str, Any] = {"LoadState": "", "entries": set()}
    for line in out.decode("utf-8", "replace").splitlines():
        name, _equals, value = line.partition("=")
        path, _space, number = value.rpartition(" ")
        if name == "LoadState":
            found[name] = value
        elif number.isdigit():
            found["entries"].add((name, path, int(number)))
    return found


def _device(target: Any, devices: io_device.Devices, found: io_device.Found) -> str:
    """How the file names the disk; what lasts until the next boot may name it as the kernel does."""
    name = devices.name(found)
    return name or (devices.path(found.number) if target[0].startswith("/run/") else "")


def _nameless(devices: io_device.Devices, found: io_device.Found) -> StorageError:
    text = "udev knows no name of %s that stays the same after a reboot" % devices.path(found.number)
    return StorageError("unsupported", text, "set persist: false", option="persist")


def _files(gone: Any) -> Any:
    return [(name, target) for name, target in gone if isinstance(target, tuple) and len(target) == 2]


def _recorded(file: str) -> str:
    return str(systemd_io.record(systemd_io.read(file) or "").get("device", ""))


def _known(unit: str) -> bool:
    template = re.sub(r"@.*\.", "@.", unit)
    return unit.endswith(".slice") or any(os.path.exists(p + "/" + name) for p in _PATHS for name in (unit, template))
