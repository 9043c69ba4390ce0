# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the checkout is, and the two trees in which Python and Ansible find it as a collection.

A checkout may have any name; Ansible wants it at `ansible_collections/bulkhead/storage`. `linked` makes that path
of symlinks (nothing is copied, an edit is seen at once); `copied` makes it of files, in a git repository of its own,
for the programs that follow links in circles or read everything they find.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("BULKHEAD_CACHE") or ROOT / ".cache").resolve()
PLACE = Path("ansible_collections", "bulkhead", "storage")

DEPENDENCIES = ("amazon/aws",)  # what galaxy.yml asks for

# Other collections of the same environment stay importable beside ours.
_BESIDE = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


def files(root: Path = ROOT) -> list[str]:
    """The files of the project: what git tracks, and what is new and not ignored."""
    git = ["git", "-C", str(root), "-c", "safe.directory=*"]  # root may read a checkout that is another user's
    argv = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    return sorted(name for name in names if os.path.lexists(root / name))


def linked(root: Path = ROOT, cache: Path = CACHE) -> Path:
    """The folder to put on `sys.path` or in ANSIBLE_COLLECTIONS_PATH; made, or brought up to date."""
    top = cache / "collections"
    place = top / PLACE
    place.mkdir(parents=True, exist_ok=True)
    beside = top / "ansible_collections" / "__init__.py"
    if not beside.exists():
        beside.write_text(_BESIDE, encoding="utf-8")
    wanted = {entry.name for entry in root.iterdir() if not entry.name.startswith(".") and entry.name != "collections"}
    for name in set(os.listdir(place)) - wanted:
        _unlink(place / name)
    for name in sorted(wanted):
        _link(place / name, root / name)
    return top


def _link(link: Path, to: Path) -> None:
    if link.is_symlink() and Path(os.readlink(link)) == to:
        return
    if os.path.lexists(link):
        _unlink(link)
    try:
        link.symlink_to(to)
    except FileExistsError:  # another test run made it first
        if Path(os.readlink(link)) != to:
            raise


def _unlink(link: Path) -> None:
    try:
        link.unlink()
    except FileNotFoundError:  # another test run removed it first
        return


def copied(root: Path = ROOT, cache: Path = CACHE) -> Path:
    """A fresh copy of the project's files; returns the collection's own folder in it."""
    top = cache / "copy"
    place = top / PLACE
    if top.exists():
        shutil.rmtree(top)
    for name in files(root):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(place)], check=True)
    for name in DEPENDENCIES:  # whose documentation ours refers to
        for other in cache.glob("venv-test/lib/python3*/site-packages/ansible_collections/" + name):
            beside = top / "ansible_collections" / name
            shutil.copytree(other, beside, ignore=shutil.ignore_patterns("__pycache__", "tests"))
            subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(beside)], check=True)
    return place
