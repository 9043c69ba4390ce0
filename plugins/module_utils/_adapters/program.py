# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs, where a program is the interface: an argument list, a deadline, the C locale, never a shell."""

from __future__ import annotations

import os
import subprocess

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def execute(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> tuple[int, bytes, bytes]:
    """Run a program: no shell, C locale, a deadline. A child stuck in the kernel is abandoned, never waited for."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"}
    try:
        child = subprocess.Popen(  # pylint: disable=ansible-bad-function  # its run_command needs a module at hand
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            close_fds=False,  # what is inheritable is a lock that lives as long as the program
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise StorageError(
            "missing_tool", "%s is not installed" % argv[0], "install the package that has it"
        ) from error
    except OSError as error:
        raise StorageError("failed", "%s: %s" % (argv[0], os.strerror(error.errno or 0))) from error
    try:
        out, err = child.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        child.kill()
        try:
            child.communicate(timeout=2)
            stuck = ""
        except subprocess.TimeoutExpired:
            stuck = ", its process %d is stuck in the kernel" % child.pid
        raise StorageError("timeout", "%s did not end within %d s%s" % (argv[0], timeout, stuck)) from error
    return child.returncode, out, err
