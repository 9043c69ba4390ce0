# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian packages that bindep.txt asks for, installed where they are missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Iterable

from trees import ROOT

_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?:\s+\[(?P<selectors>[^\]]*)\])?")


class Missing(Exception):
    """Packages are missing and may not be installed by this user."""


def wanted(text: str, profile: str = "") -> list[str]:
    """Names for a Debian system: those without a profile, and those of the one named."""
    names = []
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise ValueError("bindep.txt: cannot read %r" % line)
        selectors = (match["selectors"] or "").split()
        platforms = [word for word in selectors if word.startswith("platform:")]
        profiles = [word for word in selectors if not word.startswith("platform:")]
        if (not platforms or "platform:dpkg" in platforms) and (not profiles or profile in profiles):
            names.append(match["name"])
    return names


def missing(names: Iterable[str]) -> list[str]:
    """Those of the names that dpkg does not hold as installed."""
    argv = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    listed = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", check=False)
    held = {line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in held]


def install(profile: str = "") -> None:
    """Install what is missing, and nothing (not even a list of packages) when all is there."""
    lacking = missing(wanted((ROOT / "bindep.txt").read_text(encoding="utf-8"), profile))
    if not lacking:
        print("all there")
        return
    if os.geteuid() != 0:
        raise Missing("these Debian packages are missing, and only root may install them: " + " ".join(lacking))
    print("installing " + " ".join(lacking), flush=True)
    _apt("update")
    _apt("install", "--no-install-recommends", *lacking)


def _apt(*arguments: str) -> None:
    options = ["Dpkg::Use-Pty=0", "Dpkg::Lock::Timeout=300", "Acquire::Retries=3"]
    argv = ["apt-get", "-q", "-y", *("--option=" + option for option in options), *arguments]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        install(*sys.argv[1:])
    except Missing as refused:
        sys.exit(str(refused))
