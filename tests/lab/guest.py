# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests: QEMU processes that are restored from a saved state, and known again by what they were started with.

A base is booted once per image, kind of guest and accelerator, and its memory is saved. Every guest is that base: after
its memory is read back it is told its name, address and the time over a serial line, and its disks are blank files.
No file says which processes are ours: the command line of each names the folder of this lab, and a process is only
ended through a descriptor of its own after that was read again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from . import image, network
from .places import DISKS, LAB, RUN, Refused, called, phase

MEMORY = 1024  # MiB
DISKS_OWN = ("data1", "data2", "data3")  # serial numbers
DISK_SHARED = "shared"  # one file in all guests
DISK_SIZE = 4 << 30  # bytes, sparse
KINDS = {"plain": "", "selinux": "security=selinux selinux=1 enforcing=0"}  # kernel arguments
TRIAL = 10.0  # seconds in which KVM must bring a kernel to its first line from user space
BOOT = 300.0  # seconds; 17 on a quiet machine, more where several boot at once
RESTORE = 60.0  # seconds; 2 on a quiet machine
HANG_UP = 5.0  # seconds in which ssh must end a connection that it keeps open


class Guest(NamedTuple):
    number: int  # the last part of address and MAC
    kind: str = "plain"


GUESTS = {
    "alpha": Guest(1),
    "beta": Guest(2),
    "server": Guest(3),
    "selinux": Guest(4, "selinux"),
}
DEFAULT = ("alpha", "beta", "server")


# processes


def processes(name: str = "") -> Iterator[int]:
    """The QEMU processes of this lab, or of one guest."""
    mark = os.fsencode("%s/%s" % (RUN, name + "/pid" if name else ""))
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _marked(int(entry), mark):
            yield int(entry)


def _marked(pid: int, mark: bytes) -> bool:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            words = f.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    if b"-pidfile" not in words[:-1]:
        return False
    value = words[words.index(b"-pidfile") + 1]
    return value == mark or (mark.endswith(b"/") and value.startswith(mark))


def end(name: str) -> None:
    """End a guest at once, and what ssh keeps open to it."""
    folder = RUN / name
    with contextlib.suppress(FileNotFoundError):
        (folder / "ready").unlink()
    hang_up(name)
    mark = os.fsencode("%s/pid" % folder)
    for pid in processes(name):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _marked(pid, mark):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                _gone(process)
        finally:
            os.close(process)


def hang_up(name: str) -> None:
    """End the connection that ssh keeps open to a guest; one that does not answer is left behind."""
    control = RUN / name / "ssh"
    if control.exists():
        argv = ["ssh", "-F", str(RUN / "ssh_config"), "-O", "exit", name]
        try:
            subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=HANG_UP)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(FileNotFoundError):
                control.unlink()  # it ends by its ServerAliveInterval; nobody is led to it any more


def _gone(process: int) -> None:
    if not select.select([process], [], [], 30)[0]:
        raise Refused("a QEMU process did not end within 30 s of SIGKILL")


def namespace() -> int:
    """A descriptor of the network namespace: that of a running guest, or a new one."""
    for pid in processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.stat("/proc/%d/ns/net" % pid).st_ino != os.stat("/proc/self/ns/net").st_ino:
                return os.open("/proc/%d/ns/net" % pid, os.O_RDONLY | os.O_CLOEXEC)
    return network.made()


# QEMU's two sockets


class Monitor:
    """QMP, QEMU's own protocol: one line of JSON each way."""

    def __init__(self, folder: Path, deadline: float = 30.0) -> None:
        self.socket = _connected(folder / "qmp", deadline)
        self.stream = self.socket.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()
        self.socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        for line in self.stream:
            answer = json.loads(line)
            if "error" in answer:
                raise Refused("QEMU refuses %s: %s" % (command, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]
        raise Refused("QEMU ended during %s" % command)

    def migrated(self, deadline: float) -> None:
        """Wait until the memory is written, or read."""
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            found = self("query-migrate")
            if found.get("status") == "completed":
                return
            if found.get("status") in ("failed", "cancelled"):
                raise Refused("the memory of a guest: %s" % found.get("error-desc", found["status"]))
            time.sleep(0.02)
        raise Refused("the memory of a guest was not there within %d s" % deadline)


class Shell:
    """The shell on the second serial line of a guest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = _connected(folder / "shell", 30.0)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def __call__(self, script: str, deadline: float, every: float = 0.0) -> str:
        """Run a script, its output. With `every` seconds it is sent again until an answer comes (at boot)."""
        word = secrets.token_hex(8)
        line = b"\nlab %s %s\n" % (word.encode(), base64.b64encode(script.encode()))
        answer = re.compile(b"@<%s\n(.*?)@>%s ([0-9]+)\n" % (word.encode(), word.encode()), re.DOTALL)
        until = time.monotonic() + deadline
        again = 0.0
        seen = b""
        while time.monotonic() < until:
            if not again or (every and time.monotonic() > again):
                self.socket.settimeout(deadline)
                try:
                    self.socket.sendall(line)
                except TimeoutError:
                    break
                again = time.monotonic() + every
            self.socket.settimeout(min(max(until - time.monotonic(), 0.01), every or deadline))
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                continue
            if not part:
                break
            seen += part
            found = answer.search(seen)
            if found and found[2] == b"0":
                return found[1].decode(errors="replace")
            if found and not every:
                raise Refused("a guest's shell ended with %s: %s" % (found[2].decode(), found[1].decode()[-300:]))
            if found:  # of a line that did not arrive whole
                seen = seen[found.end() :]
        raise Refused("%s did not answer within %d s; see %s/console.log" % (self.folder.name, deadline, self.folder))


def _connected(path: Path, deadline: float) -> socket.socket:
    until = time.monotonic() + deadline
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(deadline)
    while True:
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() > until:
                connection.close()
                raise Refused("QEMU's socket %s is not there after %d s" % (path, deadline)) from error
            time.sleep(0.02)


# the machine


def _machine(kind: str, accelerator: str) -> list[str]:
    """What must be the same when a state is saved and when it is restored."""
    processor = "host,migratable=on" if accelerator == "kvm" else "qemu64"
    argv = ["-machine", "q35", "-accel", accelerator, "-cpu", processor, "-smp", "1", "-m", str(MEMORY)]
    argv += ["-nodefaults", "-display", "none", "-rtc", "base=utc"]
    for device in (
        "virtio-blk-pci,drive=root",
        "virtio-net-pci,netdev=lan,mac=52:54:00:bb:00:00,romfile=",
        "virtio-scsi-pci,id=scsi",
        "virtio-rng-pci",
        "vmgenid,guid=auto",  # the kernel sees that it was restored, and draws new random numbers
        # plugged in before the state is saved: doing that to a restored guest takes longer than all else
        *(_disk(serial) for serial in DISKS_OWN),
        _disk(DISK_SHARED) + ",share-rw=on",
    ):
        argv += ["-device", device]
    return argv


def _disk(serial: str) -> str:
    return "scsi-hd,bus=scsi.0,drive=%s,serial=%s,device_id=%s" % (serial, serial, serial)


def _argv(folder: Path, base: Path, name: str, guest: Guest, accelerator: str) -> list[str]:
    share = base / "qemu/usr/share"
    words = "console=ttyS0 net.ifnames=0 loglevel=4 mitigations=off nopti %s" % KINDS[guest.kind]
    words += " lab.name=%s lab.number=%d" % (name, guest.number)
    argv = [*image.program(base, "qemu-system-x86_64"), "-L", str(share / "qemu"), "-L", str(share / "seabios")]
    argv += ["-name", "bulkhead-lab-" + name, "-pidfile", str(folder / "pid")]
    argv += ["-kernel", str(base / "kernel"), "-initrd", str(base / "initramfs"), "-append", words]
    # the image is named here and not in the overlay, so that its folder can be moved
    drive = "if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,backing.driver=raw,backing.file.driver=file"
    drive += ",file=%s,backing.file.filename=%s" % (DISKS / name / "root.qcow2", base / "root.img")
    argv += ["-drive", drive]
    for serial in DISKS_OWN:
        file = DISKS / name / (serial + ".raw")
        argv += ["-drive", "file=%s,if=none,id=%s,format=raw,cache=unsafe,discard=unmap" % (file, serial)]
    # several QEMUs: no lock of theirs, and no page of the host between them
    drive = "if=none,id=%s,format=raw,cache=none,file.locking=off,discard=unmap,file.filename=%s"
    argv += ["-drive", drive % (DISK_SHARED, _shared(name))]
    argv += ["-netdev", "tap,id=lan,ifname=%s,script=no,downscript=no" % name]
    argv += ["-serial", "file:%s" % (folder / "console.log")]
    argv += ["-chardev", "socket,id=shell,path=%s,server=on,wait=off" % (folder / "shell"), "-serial", "chardev:shell"]
    argv += ["-qmp", "unix:%s,server=on,wait=off" % (folder / "qmp")]
    return [*argv, *_machine(guest.kind, accelerator)]


def _emptied(name: str) -> Path:
    """The folder of a guest that starts anew; its disks are blank."""
    end(name)
    for folder in (RUN / name, DISKS / name):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    RUN.chmod(0o700)
    for serial in DISKS_OWN:
        _blank(DISKS / name / (serial + ".raw"))
    return RUN / name


def share() -> None:
    """The disk that all guests have is blank again, unless one has it."""
    DISKS.mkdir(parents=True, exist_ok=True)
    if not any(any(processes(name)) for name in GUESTS):
        _blank(_shared(next(iter(GUESTS))))


def _shared(name: str) -> Path:
    """The file of the disk that all guests have; a base has its own."""
    return (DISKS if name in GUESTS else DISKS / name) / (DISK_SHARED + ".raw")


def _blank(path: Path) -> None:
    with open(path, "wb") as f:
        f.truncate(DISK_SIZE)


# the accelerator


def accelerator(base: Path) -> str:
    """kvm where it has brought a kernel up in this boot of the host, otherwise tcg. A device node proves nothing."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    known = LAB / "accelerator"
    if known.exists():
        at, _space, found = known.read_text(encoding="ascii").partition(" ")
        if at == boot:
            return found
    found = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _trial(base) else "tcg"
    new = known.with_suffix(".new")
    new.write_text("%s %s" % (boot, found), encoding="ascii")
    new.rename(known)
    return found


def _trial(base: Path) -> bool:
    share = base / "qemu/usr/share"
    argv = ["setpriv", "--pdeathsig", "KILL", *image.program(base, "qemu-system-x86_64")]
    argv += [
        "-L",
        str(share / "qemu"),
        "-L",
        str(share / "seabios"),
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
    ]
    argv += ["-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    argv += ["-kernel", str(base / "kernel"), "-initrd", str(base / "initramfs"), "-append", "console=ttyS0 panic=-1"]
    with phase("trial of KVM"):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            output, _none = process.communicate(timeout=TRIAL)
        except subprocess.TimeoutExpired:  # the initramfs waits for a disk that is not there
            process.kill()
            output, _none = process.communicate()
    return b"lab: the kernel runs" in output


# the saved state


def state(base: Path, kind: str) -> Path:
    """The folder of a saved state; booted and saved when it is not there. The caller holds the lock of the images."""
    found = accelerator(base)
    made_from = [_machine(kind, found), KINDS[kind], image.MODULES]
    if found == "kvm":  # another processor may be behind the same image
        made_from.append([Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")])
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:8]
    target = base / ("state-%s-%s-%s" % (kind, found, key))
    if not target.exists():
        _save(base, kind, found, target)
    return target


def _save(base: Path, kind: str, found: str, target: Path) -> None:
    name = "base-" + kind
    folder = _emptied(name)
    _blank(_shared(name))
    new = target.with_name(".new-" + target.name)
    if new.exists():
        shutil.rmtree(new)
    new.mkdir()
    root = DISKS / name / "root.qcow2"
    tool = image.program(base, "qemu-img")
    called([*tool, "create", "-q", "-f", "qcow2", "-b", str(base / "root.img"), "-F", "raw", str(root)])
    space = network.made()
    try:
        network.tap(space, name)
        argv = _argv(folder, base, name, Guest(0, kind), found)
        # ends with us: nobody else waits for it
        argv = [*network.inside(space), "setpriv", "--pdeathsig", "KILL", *argv]
        with open(folder / "qemu.log", "wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with phase("boot of %s with %s" % (name, found)), Shell(folder) as shell:
                shell("true", BOOT, every=2.0)
                shell("systemctl is-system-running --wait", BOOT)
            with phase("what every restored guest has ready"), Shell(folder) as shell:
                shell("modprobe -a %s && python3 -c 'import ctypes, json, subprocess'" % image.MODULES, BOOT)
                shell("ip link set eth0 down; ip address flush dev eth0; sync", BOOT)
            with phase("save"), Monitor(folder) as monitor:
                monitor("stop")
                monitor("migrate-set-parameters", **{"max-bandwidth": 10**11})
                monitor("migrate", uri="file:%s" % (new / "memory"))
                monitor.migrated(60.0)
                monitor("quit")
                process.wait(30)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(space)
    shutil.copy(root, new / "root.qcow2")
    end(name)
    shutil.rmtree(folder)
    shutil.rmtree(DISKS / name)
    new.rename(target)


# guests


def ready(name: str, saved: Path) -> bool:
    """Runs, complete, from this state."""
    try:
        stamp = (RUN / name / "ready").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    pids = list(processes(name))
    if len(pids) != 1 or stamp != "%d %s" % (pids[0], saved):
        return False
    try:
        with Monitor(RUN / name, 5.0) as monitor:
            return bool(monitor("query-status")["running"])
    except (Refused, OSError):
        return False


def restore(name: str, base: Path, saved: Path, space: int) -> None:
    """Start a guest anew from its saved state. Returns when its network is there."""
    guest = GUESTS[name]
    folder = _emptied(name)
    shutil.copy(saved / "root.qcow2", DISKS / name / "root.qcow2")
    network.tap(space, name)
    found = saved.name.split("-")[2]
    argv = [*network.inside(space), *_argv(folder, base, name, guest, found), "-incoming", "defer", "-daemonize"]
    called(argv)
    (pid,) = processes(name)
    with Monitor(folder) as monitor, Shell(folder) as shell:
        monitor("migrate-incoming", uri="file:%s" % (saved / "memory"))
        monitor.migrated(RESTORE)
        monitor("cont")
        shell("date -s @%d >/dev/null && lab-name %s %d" % (time.time() + 1, name, guest.number), RESTORE)
    (folder / "ready").write_text("%d %s" % (pid, saved), encoding="utf-8")


def by_id(serial: str) -> str:
    """The stable name of a disk within a guest."""
    return "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_" + serial


def reboot(name: str) -> None:
    """Let a guest boot again by itself, and wait until it has."""
    folder = RUN / name
    with Shell(folder) as shell:
        before = shell("cat /proc/sys/kernel/random/boot_id", RESTORE)
        shell("systemd-run --quiet --on-active=0.1 --timer-property=AccuracySec=10ms systemctl reboot", RESTORE)
        until = time.monotonic() + BOOT
        now = before
        while now == before:
            if time.monotonic() > until:
                raise Refused("%s did not boot again within %d s; see %s/console.log" % (name, BOOT, folder))
            time.sleep(1)
            now = shell("cat /proc/sys/kernel/random/boot_id", BOOT, every=2.0)
        with contextlib.suppress(Refused):  # "degraded" is an answer too: a test may want a failed unit
            shell("systemctl is-system-running --wait", BOOT)
    hang_up(name)


def ssh_config(base: Path, program: str) -> str:
    """What ssh must know to reach the guests: `program` hands over a connection from inside the namespace."""
    lines = ["Host " + " ".join(GUESTS)]
    lines += [
        "  User root",
        "  IdentityFile %s" % shlex.quote(str(base / "key")),
        "  IdentitiesOnly yes",
        "  ProxyCommand %s connect %%h" % program,
        "  ProxyUseFdpass yes",
        "  StrictHostKeyChecking no",  # the key is that of the image, and the way there is ours alone
        "  UserKnownHostsFile /dev/null",
        "  LogLevel ERROR",
        "  ControlMaster auto",
        "  ControlPath %s/%%n/ssh" % RUN,
        "  ControlPersist 120",
        "  ServerAliveInterval 10",
        "  ServerAliveCountMax 6",
    ]
    return "\n".join(lines) + "\n"


def inventory() -> dict[str, Any]:
    """For Ansible: all guests that run."""
    hosts: dict[str, Any] = {}
    for name, guest in GUESTS.items():
        if (RUN / name / "ready").exists():
            hosts[name] = {
                "lab_address": network.address(guest.number),
                "lab_disks": [by_id(serial) for serial in DISKS_OWN],
                "lab_shared_disk": by_id(DISK_SHARED),
            }
    common = {
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_args": "-F %s" % (RUN / "ssh_config"),  # with its own ControlMaster
        "ansible_ssh_common_args": "",
        "ansible_user": "root",
    }
    return {"all": {"children": {"lab": {"hosts": hosts, "vars": common}}}}
