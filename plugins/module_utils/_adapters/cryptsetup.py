# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cryptsetup(8): keys reach it by standard input or an anonymous file, never by its arguments."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret

SLOW = 600.0  # seconds; a key is made slow to try, and memory may be short
MOST = 8 << 20  # bytes of a key file, as cryptsetup has it
_SLOT = re.compile(rb"Key slot (\d+) unlocked")
_KEY, _BUSY = 2, 5  # exit codes: no key fits; the device is in use


def key(given: str | Secret) -> bytes:
    """What is in a key file, all of it; or a passphrase. ``not_found``, ``denied``, or ``invalid`` when it is none."""
    if isinstance(given, Secret):
        text, where = given.reveal().encode("utf-8", "surrogateescape"), "the passphrase"
    else:
        where = "key file " + given
        try:
            with open(given, "rb") as stream:
                text = stream.read(MOST + 1)
        except OSError as error:
            raise failure(error, "cannot read " + where, "it must be on this host") from error
    if not text or len(text) > MOST:
        raise StorageError("invalid", "%s holds %s" % (where, "more than 8 MiB" if text else "nothing"))
    return text


def program(search: list[str]) -> str:
    """Its path; ``missing_tool``, or ``unsupported`` where the kernel has nothing for it."""
    found = next((p for p in (d + "/cryptsetup" for d in search) if os.access(p, os.X_OK)), "")
    if not found:
        hint = "install cryptsetup-bin (Debian, Ubuntu) or cryptsetup (RHEL)"
        raise StorageError("missing_tool", "cryptsetup is not installed", hint)
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise failure(error, "cannot open /dev/mapper/control") from error
        raise StorageError("unsupported", "this kernel has no device mapper", "load dm_mod and dm_crypt") from error
    return found


class Cryptsetup:
    """``port`` has ``run`` and ``search``; ``target`` is what an error is about."""

    def __init__(self, port: Any, target: str) -> None:
        self.port, self.target = port, target

    def __call__(self, *argv: str, stdin: bytes = b"") -> bytes:
        code, out, err = self._run(argv, stdin)
        if code:
            raise self._error(argv[0], code, err)
        return bytes(out)

    def slot(self, device: str, text: bytes) -> int | None:
        """The slot that a key opens; None when it opens none."""
        argv = ("open", "--verbose", "--test-passphrase", "--type", "luks2", "--key-file=-", device)
        code, out, err = self._run(argv, text)
        if code == _KEY:
            return None
        found = _SLOT.search(out)
        if code or found is None:
            raise self._error("open --test-passphrase", code, err)
        return int(found.group(1))

    def _run(self, argv: tuple[str, ...], stdin: bytes) -> Any:
        return self.port.run([program(self.port.search), *argv], stdin, SLOW)

    def _error(self, verb: str, code: int, err: bytes) -> StorageError:
        said = err.strip().decode("utf-8", "backslashreplace")[-600:]
        kind = {_KEY: "denied", _BUSY: "in_use"}.get(code, "failed")
        return StorageError(kind, "cryptsetup %s of %s: rc %d: %s" % (verb, self.target, code, said), rc=code)
