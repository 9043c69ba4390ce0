# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``make demo`` claims, seen from outside: while it runs, when it is killed, and after it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from ansible_collections.bulkhead.storage.tests.support import namespace

FOLDER = "/var/cache/bulkhead-demo-test-%d" % os.getpid()
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
APART = ["unshare", "--mount", "--propagation", "private", "--"]
# What changes a file system, a mount, a limit or a device.
MUTATING = (
    "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,"
    "chown,fchown,lchown,fchownat,truncate,ftruncate,fallocate,mknod,mknodat,setxattr,lsetxattr,fsetxattr,removexattr,"
    "lremovexattr,fremovexattr,utime,utimes,utimensat,mount,umount2,move_mount,fsopen,fsconfig,fsmount,fspick,open_tree,"
    "mount_setattr,pivot_root,quotactl,quotactl_fd,swapon,swapoff,sync,syncfs"
)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The demo may leave nothing on the machine, however it ended (a killed one: once it was run again)."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = machine()
    yield
    left = machine()
    shutil.rmtree(FOLDER, ignore_errors=True)
    assert left == before


def machine() -> dict[str, Any]:
    """Of this machine, what the demo could touch: other programs may well use the rest meanwhile."""
    seen: dict[str, Any] = {"loop": namespace.loop_devices(FOLDER), "mounts": namespace.mount_points(FOLDER)}
    seen["over"] = [len(namespace.mount_points(path)) for path in ("/etc", "/var/lib/bulkhead")]
    fstab = Path("/etc/fstab")
    seen["fstab"] = (
        (hashlib.sha256(fstab.read_bytes()).hexdigest(), fstab.stat().st_mtime_ns) if fstab.exists() else None
    )
    seen["etc"] = sorted(os.listdir("/etc"))
    state = Path("/var/lib/bulkhead")
    seen["state"] = sorted(str(path) for path in state.rglob("*")) if state.exists() else None
    seen["folder"] = os.path.exists(FOLDER)
    return seen


def environment(folder: Path) -> dict[str, str]:
    roots = [path for path in sys.path if os.path.isdir(path + "/ansible_collections/bulkhead/storage")]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))},
        "PATH": os.path.dirname(sys.executable) + ":/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(roots),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_NOCOLOR": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }


def command(playbook: str, *arguments: str) -> list[str]:
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", playbook, "-e", "demo_folder=" + FOLDER, *arguments]


def demo(folder: Path, *arguments: str) -> str:
    argv = [*APART, *command("bulkhead.storage.demo", *arguments)]
    done = subprocess.run(
        argv, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def test_killed_in_the_middle_and_run_again_it_shows_what_it_promises(tmp_path: Path) -> None:
    """Killed without a warning while everything is mounted: the next one takes away what it left."""
    argv = [*APART, *command("bulkhead.storage.demo")]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    with subprocess.Popen(argv, env=environment(tmp_path), **pipe) as process:  # type: ignore[call-overload]
        for line in process.stdout:
            if b"Write more than" in line:
                os.killpg(process.pid, signal.SIGKILL)
    assert os.path.exists(FOLDER + "/pool"), "it was killed in the middle"
    deadline = time.monotonic() + 20
    while namespace.loop_devices(FOLDER) and time.monotonic() < deadline:
        time.sleep(0.2)  # the kernel takes the namespace down, and the loop devices with it
    assert namespace.loop_devices(FOLDER) == []
    output = promised(tmp_path, "true", "Disk quota exceeded")
    assert re.search(r"acme/cache +64MiB +67\d{6}  (simple_quota|qgroup)", output)
    assert re.search(r"initech +150GiB", output)


def test_without_btrfs_a_tenant_is_bounded_by_a_volume(tmp_path: Path) -> None:
    promised(tmp_path, "false", "No space left on device")


def promised(folder: Path, btrfs: str, refusal: str) -> str:
    start = time.monotonic()
    output = demo(folder, "-e", "demo_btrfs=" + btrfs)
    assert time.monotonic() - start < 120
    assert "dd: error writing '%s/builderd/tenants/acme/cache/too-much': %s" % (FOLDER, refusal) in output
    assert "changed=0, and the mount table, fstab and" in output
    assert "The mount table and fstab are as before the first run, and no loop device or file is left" in output
    assert re.search(r"jobs/data +filesystem +64MiB .* block", output)
    assert re.search(r"jobs/fast +memory +16MiB .* tmpfs", output)
    return output


def test_it_refuses_to_run_where_others_would_see_its_mounts(tmp_path: Path) -> None:
    shared = ["unshare", "--mount", "--propagation", "shared", "--"]
    argv = [*shared, *command("bulkhead.storage.demo")]
    done = subprocess.run(
        argv, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    assert done.returncode != 0 and b"Start it with `make demo`" in done.stdout
    assert not os.path.exists(FOLDER)


def test_the_second_run_makes_no_mutating_system_call(tmp_path: Path) -> None:
    """Not our own ``changed``, not even Ansible's: every system call of the second run, outside Ansible's own files."""
    (play,) = yaml.safe_load((PLAYBOOKS / "demo.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    prepare, build = (str(PLAYBOOKS / "tasks" / name) for name in ("demo_prepare.yml", "demo_build.yml"))
    first = [{"ansible.builtin.include_tasks": prepare}, {"ansible.builtin.include_tasks": build}]
    probe = {"ansible.builtin.slurp": {"path": "/proc/filesystems"}, "register": "demo__filesystems"}
    end = play["tasks"][names.index("Remove everything in one call") :]
    end[-1] = {"ansible.builtin.include_tasks": str(PLAYBOOKS / "tasks" / "demo_leave.yml")}
    end = [task for task in end if task.get("name") not in ("Nothing is left",)]
    for name, tasks in (
        ("first", first),
        ("second", [probe, {"ansible.builtin.include_tasks": build}]),
        ("end", [probe, *end]),
    ):
        (tmp_path / (name + ".yml")).write_text(yaml.safe_dump([{**play, "tasks": tasks}]))
    trace = str(tmp_path / "trace")
    strace = ["strace", "-ff", "-y", "-qq", "-o", trace, "-e", "trace=open,openat,openat2,creat,ioctl," + MUTATING]
    script = "set -e; %s; %s %s; %s" % (
        " ".join(command(str(tmp_path / "first.yml"))),
        " ".join(strace),
        " ".join(command(str(tmp_path / "second.yml"))),
        " ".join(command(str(tmp_path / "end.yml"))),
    )
    argv = [*APART, "bash", "-c", script]
    done = subprocess.run(
        argv, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
    traces = tmp_path.glob("trace.*")  # one of each process, so that no call is cut in two
    lines = [line for path in traces for line in path.read_text(errors="replace").splitlines()]
    assert len(lines) > 1000, "the trace saw something"
    found = [line for line in lines if mutates(line, str(tmp_path))]
    assert found == [], "\n".join(found[:40])


# Requests of ioctl(2) that look only: terminals, descriptors, addresses, and what a file system or device tells.
_LOOKING = re.compile(
    r"TCGETS|TIOCGWINSZ|FIOCLEX|FIONBIO|FIONREAD|SIOCG|BLKGET|BLKSSZGET|BLKPBSZGET|BLKROGET|LOOP_GET_STATUS|FS_IOC_GETFLAGS"
    r"|FS_IOC_FSGETXATTR|BTRFS_IOC_(TREE_SEARCH|INO_LOOKUP|FS_INFO|QUOTA_RESCAN_STATUS)"
)

# Of libuuid, where uuidd is installed: ansible-core asks Python for the address of a network card, and Python asks it.
_CLOCK = "/var/lib/libuuid/clock.txt"


def mutates(line: str, own: str) -> bool:
    """Does this line of strace -y tell of a call that succeeded and changed something outside ``own`` and /dev?"""
    call = re.match(r"\w+(?=\()", line)
    if call is None or " = -1 " in line:
        return False
    name = call.group()
    if name in ("statmount", "syscall_0x1c9"):  # one and the same, which strace may not know and then shows unasked
        return False
    if name in ("open", "openat", "openat2") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", line):
        return False
    if name == "ioctl":
        return not _LOOKING.search(line)
    line = re.sub(r"AT_FDCWD<[^>]*>", "", line)
    paths = re.findall(r"<(/[^>]*)>", line) + re.findall(r'"(/[^"]*)"', line)
    return not paths or not all(path.startswith((own, "/dev/", "/proc/self/", _CLOCK)) for path in paths)


def test_the_filter_of_the_trace_sees_what_it_should() -> None:
    seen = [
        'mkdirat(5</srv>, "a", 0700) = 0',
        'mkdir("a", 0700) = 0',
        'renameat2(5</t>, ".x", 5</srv>, "x", RENAME_NOREPLACE) = 0',
        'openat(AT_FDCWD</t>, "/etc/fstab", O_WRONLY|O_CREAT, 0644) = 3</etc/fstab>',
        "ioctl(5</dev/loop0>, LOOP_SET_STATUS64, {}) = 0",
        "ioctl(5</srv>, BTRFS_IOC_QGROUP_LIMIT, {}) = 0",
        'fsetxattr(3</srv/a>, "system.posix_acl_access", "", 44, 0) = 0',
        "sync() = 0",
    ]
    assert [line for line in seen if not mutates(line, "/t")] == []
    unseen = [
        'mkdir("/t/a", 0700) = 0',
        'mkdir("/srv", 0700) = -1 EEXIST (File exists)',
        'openat(AT_FDCWD</t>, "/etc/fstab", O_RDONLY|O_CLOEXEC) = 3</etc/fstab>',
        "ioctl(5</srv>, BTRFS_IOC_TREE_SEARCH_V2, {}) = 0",
        'openat(AT_FDCWD</t>, "/var/lib/libuuid/clock.txt", O_RDWR|O_CREAT|O_CLOEXEC, 0660) = 3'
        "</var/lib/libuuid/clock.txt>",
        "syscall_0x1c9(0x7f5a7ff994f0, 0x7f5a7ff94a30, 0x200, 0, 0x7f5a813326f8, 0x7) = 0",
        "+++ exited with 0 +++",
    ]
    assert [line for line in unseen if mutates(line, "/t")] == []
