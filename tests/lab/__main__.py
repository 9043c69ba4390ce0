# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: guests with a kernel of their own, for what the kernel of a development host lacks.

`python3 tests/lab up` brings the guests up (the first time it builds their image, which takes minutes), `inventory`
says to Ansible where they are. The page "Contributing" of the documentation tells the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools"))

import environments  # noqa: E402
import trees  # noqa: E402

sys.path.insert(0, str(trees.linked()))

from ansible_collections.bulkhead.storage.tests.lab import ceph, guest, image, network  # noqa: E402
from ansible_collections.bulkhead.storage.tests.lab.places import (  # noqa: E402
    DISKS,
    INVENTORY,
    LAB,
    RUN,
    Refused,
    phase,
    require,
)


def bring_up(names: list[str], anew: bool) -> None:
    """Guests that run stay as they are, unless they shall begin anew."""
    require()
    LAB.mkdir(parents=True, exist_ok=True)
    RUN.mkdir(mode=0o700, exist_ok=True)
    with environments.locked("lab/lab"):
        base, saved = prepared({guest.GUESTS[name].kind for name in names})
        text = guest.ssh_config(base, "%s %s" % (shlex.quote(sys.executable), shlex.quote(str(HERE))))
        (RUN / "ssh_config").write_text(text, encoding="utf-8")
        states = {name: saved[guest.GUESTS[name].kind] for name in names}
        begin = [name for name in names if anew or not guest.ready(name, states[name])]
        if begin:
            for name in begin:  # all before any: the shared disk is emptied when nobody has it
                guest.end(name)
            guest.share()
            with phase("restore of " + ", ".join(begin)), ThreadPoolExecutor(len(begin)) as pool:
                space = guest.namespace()
                try:
                    list(pool.map(lambda name: guest.restore(name, base, states[name], space), begin))
                finally:
                    os.close(space)
        write_inventory()


def prepared(kinds: set[str]) -> tuple[Path, dict[str, Path]]:
    """The image and the saved states; several checkouts may share the folder of the images."""
    image.place()
    with environments.locked("lab/images/images"):
        base = image.built()
        return base, {kind: guest.state(base, kind) for kind in sorted(kinds)}


def take_down(names: list[str]) -> None:
    """End some guests; or every one, and remove all but the images."""
    LAB.mkdir(parents=True, exist_ok=True)
    with environments.locked("lab/lab"):
        if names:
            for name in names:
                guest.end(name)
            write_inventory()
            return
        for name in [*guest.GUESTS, *("base-" + kind for kind in guest.KINDS)]:
            guest.end(name)
        for folder in (RUN, DISKS):
            if folder.exists():
                shutil.rmtree(folder)
        INVENTORY.unlink(missing_ok=True)


def write_inventory() -> None:
    new = INVENTORY.with_suffix(".new")
    new.write_text(json.dumps(guest.inventory(), indent=2) + "\n", encoding="utf-8")
    new.rename(INVENTORY)


def connect(name: str) -> None:
    """ssh's way into the namespace."""
    for pid in guest.processes(name):
        space = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY | os.O_CLOEXEC)
        network.relay(space, network.address(guest.GUESTS[name].number), 22)
        return
    raise Refused("%s does not run: python3 tests/lab up %s" % (name, name))


def ssh(name: str, command: list[str]) -> None:
    if not (RUN / name / "ready").exists():
        raise Refused("%s does not run: python3 tests/lab up %s" % (name, name))
    os.execvp("ssh", ["ssh", "-F", str(RUN / "ssh_config"), name, *command])


def with_ceph(command: list[str]) -> int:
    """A Ceph cluster as long as a command runs: in the network of the guests, if there are any."""
    ceph.require()
    LAB.mkdir(parents=True, exist_ok=True)
    folder = LAB / "ceph"
    with environments.locked("lab/ceph"):
        if folder.exists():  # of a killed run
            shutil.rmtree(folder)
        space = guest.namespace()
        try:
            with ceph.Cluster(folder, space) as cluster:
                env = {**ceph.environment(), "CEPH_CONF": str(cluster.conf)}
                argv = command or [os.environ.get("SHELL", "sh")]
                ended = subprocess.run(cluster.bound(argv), env=env, check=False).returncode
        finally:
            os.close(space)
        shutil.rmtree(folder)  # of one that failed it stays, to be read
    return ended


def status() -> None:
    for name in guest.GUESTS:
        pids = list(guest.processes(name))
        word = "down" if not pids else "up" if (RUN / name / "ready").exists() else "half up"
        print("%-8s %-8s %s" % (name, word, " ".join(map(str, pids))))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/lab", description="Guests with a kernel of their own.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, tell in (
        ("build", "only make the image and the saved states"),
        ("up", "bring guests up; those that run stay as they are (default: %s)" % ", ".join(guest.DEFAULT)),
        ("reset", "begin anew: clean root, blank disks (default: the guests that run)"),
        ("reboot", "let a guest boot again with the disks that it has"),
        ("ssh", "a shell or a command in a guest"),
        ("connect", "for ssh: a connection into the network of the guests"),
        ("status", "which guests run"),
        ("inventory", "where the guests are, for Ansible"),
        ("down", "end guests (default: all, and remove their disks)"),
        ("ceph", "a Ceph cluster as long as a command runs (default: a shell)"),
    ):
        options = verbs.add_parser(verb, help=tell, description=tell)
        if verb in ("up", "reset", "down"):
            options.add_argument("names", nargs="*", metavar="NAME")
        if verb in ("ssh", "connect", "reboot"):
            options.add_argument("name", metavar="NAME")
        if verb in ("ssh", "ceph"):
            options.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    try:
        for name in [*getattr(asked, "names", []), *filter(None, [getattr(asked, "name", None)])]:
            if name not in guest.GUESTS:
                raise Refused("there is no guest %s, only %s" % (name, ", ".join(guest.GUESTS)))
        perform(asked)
    except Refused as error:
        print("lab: %s" % error, file=sys.stderr)
        return 1
    return 0


def perform(asked: argparse.Namespace) -> None:
    if asked.verb == "build":
        require()
        LAB.mkdir(parents=True, exist_ok=True)
        RUN.mkdir(mode=0o700, exist_ok=True)
        print(prepared(set(guest.KINDS))[0])
    elif asked.verb == "up":
        bring_up(asked.names or list(guest.DEFAULT), anew=False)
        print(INVENTORY)
    elif asked.verb == "reset":
        names = asked.names or [name for name in guest.GUESTS if any(guest.processes(name))]
        bring_up(names, anew=True)
    elif asked.verb == "reboot":
        guest.reboot(asked.name)
    elif asked.verb == "ssh":
        ssh(asked.name, asked.command)
    elif asked.verb == "connect":
        connect(asked.name)
    elif asked.verb == "status":
        status()
    elif asked.verb == "ceph":
        sys.exit(with_ceph(asked.command))
    elif asked.verb == "inventory":
        print(json.dumps(guest.inventory(), indent=2))
    else:
        take_down(asked.names)


if __name__ == "__main__":
    sys.exit(main())
