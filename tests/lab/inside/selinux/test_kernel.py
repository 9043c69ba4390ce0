# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest that has SELinux has it as a host has it: a policy, and labels on its files."""

from __future__ import annotations

import os
import subprocess


def run(*argv: str) -> str:
    return subprocess.run(argv, stdout=-1, check=True, encoding="utf-8").stdout


def test_a_policy_is_loaded_and_files_have_their_labels() -> None:
    assert run("getenforce") == "Permissive\n"
    assert os.getxattr("/etc/passwd", "security.selinux").split(b":")[2] == b"etc_t"
    assert run("matchpathcon", "-V", "/etc/passwd", "/usr/bin/python3", "/srv").count("verified.") == 3


def test_a_wrong_label_is_seen_and_mended(arena: str) -> None:
    path = "/srv/lab-label"
    os.mkdir(path)
    try:
        run("chcon", "-t", "tmp_t", path)
        assert ":tmp_t:" in run("stat", "-c", "%C", path)
        run("restorecon", path)
        assert ":var_t:" in run("stat", "-c", "%C", path)
    finally:
        os.rmdir(path)
