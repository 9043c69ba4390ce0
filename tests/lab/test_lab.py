# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself, from outside: what a test may rely on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest
import trees

from ansible_collections.bulkhead.storage.tests.support import lab

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_"
KILLS = 5 if os.environ.get("BULKHEAD_SOAK") else 1
SMOKE = "tests/lab/inside/alpha/test_kernel.py::test_btrfs_counts_with_simple_quotas"


def head(guest: lab.Guest, disk: str) -> str:
    """The first word on a disk, past every cache."""
    argv = ["dd", "if=" + DISK + disk, "bs=4096", "count=1", "iflag=direct", "status=none"]
    return guest.run(argv).stdout.partition("\0")[0]


def write(guest: lab.Guest, disk: str, word: str) -> None:
    argv = ["dd", "of=" + DISK + disk, "bs=4096", "count=1", "oflag=direct", "conv=notrunc", "status=none"]
    guest.run(argv, input=word.ljust(4096, "\0"))


def test_the_plugins_run_in_the_guest(guest: lab.Guest) -> None:
    code = "import os, sys; from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo\n"
    code += "print(os.uname().nodename, os.uname().release, sys.argv[1], mountinfo.__file__)"
    words = guest.python(code, "argument").split()
    assert words[0] == "alpha" and words[1] != os.uname().release and words[2] == "argument"
    assert words[3] == lab.PLACE + "/plugins/module_utils/_adapters/mountinfo.py"


def test_a_reset_gives_a_clean_root_blank_disks_and_the_right_time(guest: lab.Guest) -> None:
    guest.run(["touch", "/root/mark"])
    write(guest, "data1", "mark")
    assert head(guest, "data1") == "mark"
    start = time.monotonic()
    guest.reset()
    print("reset: %.1f s" % (time.monotonic() - start))
    assert guest.run(["test", "-e", "/root/mark"], check=False).returncode == 1
    assert [head(guest, "data%d" % n) for n in (1, 2, 3)] == ["", "", ""]
    assert abs(float(guest.run(["date", "+%s"]).stdout) - time.time()) < 5


def test_a_reboot_is_a_real_one(guest: lab.Guest) -> None:
    guest.run(["mkfs.ext4", "-q", "-F", DISK + "data1"])
    line = DISK + "data1 /mnt ext4 nofail 0 2\n"
    guest.run(["tee", "-a", "/etc/fstab"], input=line)
    boot = guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    assert guest.run(["findmnt", "/mnt"], check=False).returncode == 1
    start = time.monotonic()
    guest.reboot()
    print("reboot: %.1f s" % (time.monotonic() - start))
    assert guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot
    assert guest.run(["hostname"]).stdout == "alpha\n"
    assert guest.run(["findmnt", "-no", "FSTYPE", "/mnt"]).stdout == "ext4\n"
    assert guest.run(["systemctl", "is-active", "mnt.mount"]).stdout == "active\n"
    guest.reset()


def test_a_write_of_one_guest_is_read_by_the_other(guest: lab.Guest) -> None:
    other = lab.brought_up("beta")
    write(guest, "shared", "from alpha")
    assert head(other, "shared") == "from alpha"
    other.run(["ping", "-q", "-c1", "alpha"])
    ids = {one.run(["uuidgen"]).stdout for one in (guest, other)}
    assert len(ids) == 2
    other.reset()
    assert head(other, "shared") == "from alpha", "a disk that another guest has is not emptied"


def test_ansible_finds_the_guests(guest: lab.Guest) -> None:
    inventory = json.loads(lab.lab("inventory").stdout)
    assert DISK + "data3" in inventory["all"]["children"]["lab"]["hosts"]["alpha"]["lab_disks"]
    program = os.path.join(os.path.dirname(sys.executable), "ansible")
    argv = [program, "-i", str(trees.CACHE / "lab" / "inventory.json"), "alpha", "-m", "ansible.builtin.command"]
    done = subprocess.run([*argv, "-a", "uname -n"], stdout=-1, stderr=-2, encoding="utf-8", check=False)
    assert done.returncode == 0 and done.stdout.endswith(">>\nalpha\n"), done.stdout


def test_the_network_of_the_host_knows_nothing(guest: lab.Guest) -> None:
    assert not Path("/sys/class/net/lab0").exists() and not Path("/sys/class/net/alpha").exists()
    assert guest.run(["ip", "route", "show", "default"]).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "more", "tells"),
    [
        (["up", "nobody"], {}, "there is no guest nobody, only alpha, beta, server, selinux"),
        (["up", "alpha"], {"PATH": "/nowhere"}, "these Debian packages are missing: apt-get install "),
    ],
)
def test_what_is_missing_is_said_in_one_line(arguments: list[str], more: dict[str, str], tells: str) -> None:
    done = lab.lab(*arguments, check=False, env={**os.environ, **more})
    assert done.returncode == 1
    assert done.stdout.startswith("lab: " + tells) and done.stdout.count("\n") == 1, done.stdout


# Killed runs


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A lab of its own, with the images of this one."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "images").symlink_to((trees.CACHE / "lab" / "images").resolve())
    env = {**os.environ, "BULKHEAD_CACHE": str(tmp_path)}
    yield env
    lab.lab("down", env=env)
    assert mentioning(str(tmp_path)) == []


def mentioning(word: str) -> list[str]:
    """Processes whose command line has a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(word) in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def killed(argv: list[str], env: dict[str, str], longest: float) -> None:
    """Start a program, and kill it alone at a random moment."""
    moment = random.uniform(0, longest)
    print("killed after %.3f s: %s" % (moment, " ".join(argv[1:])))
    with subprocess.Popen(argv, env=env, stdin=-3, stdout=-3, stderr=-3, cwd=trees.ROOT) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("turn", range(KILLS))
def test_the_lab_works_after_a_killed_run(guest: lab.Guest, apart: dict[str, str], turn: int) -> None:
    killed([sys.executable, lab.LAB, "up", "alpha"], apart, 4.0)
    lab.lab("up", "alpha", env=apart)
    assert lab.lab("ssh", "alpha", "hostname", env=apart).stdout == "alpha\n"
    killed([sys.executable, "-m", "pytest", "-q", SMOKE], apart, 20.0)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", SMOKE],
        env=apart,
        cwd=trees.ROOT,
        stdin=-3,
        stdout=-1,
        stderr=-2,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # and the lab that others use at the same time is as it was
    assert guest.run(["hostname"]).stdout == "alpha\n"


@pytest.mark.parametrize("turn", range(KILLS))
def test_a_killed_build_leaves_nothing_running_and_no_image(tmp_path: Path, turn: int) -> None:
    env = {**os.environ, "BULKHEAD_CACHE": str(tmp_path)}
    killed([sys.executable, lab.LAB, "build"], env, 15.0)
    until = time.monotonic() + 10
    while mentioning(str(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert mentioning(str(tmp_path)) == []
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        assert str(tmp_path) not in f.read()
    assert not list((tmp_path / "lab" / "images").glob("[!.]*/"))
