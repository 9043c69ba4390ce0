# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the guests: a tree of Debian packages, a filesystem made of it, a kernel, a small initramfs, and QEMU.

QEMU and the kernel come from the same Debian release as the guest, whatever the host is: they are only unpacked, and
QEMU runs with its own libraries. Everything lies in one folder that is named by the SHA-256 of what it was made from,
is built beside, and gets its name when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Iterator

from . import network
from .places import IMAGES, Refused, called, phase

SUITE = "trixie"
RELEASES = {"bookworm", "trixie", "forky", "stable", "testing", "sid", "unstable"}
FALLBACK = "http://deb.debian.org/debian"
KEPT = 24 * 3600  # seconds: an image that nobody has used for so long goes when a new one is built
ROOT_SIZE = 3 << 30

# Only unpacked, never configured: what runs on the host, or before the guest's root.
UNPACKED = "qemu-system-x86 qemu-utils linux-image-cloud-amd64 busybox-static"
PACKAGES = """
    systemd-sysv dbus libpam-systemd openssh-server kmod udev iproute2 iputils-ping procps psmisc sudo
    python3 python3-selinux python3-pytest python3-yaml python3-hypothesis
    lvm2 thin-provisioning-tools cryptsetup-bin systemd-cryptsetup
    nfs-kernel-server nfs-common open-iscsi multipath-tools targetcli-fb sg3-utils
    xfsprogs e2fsprogs btrfs-progs dosfstools uuid-runtime quota acl attr strace gdisk fdisk parted
    selinux-policy-default selinux-utils policycoreutils policycoreutils-python-utils
    busybox-static
"""

# Loaded in the saved state already: the first use of a module costs seconds in an emulated guest.
MODULES = "xfs btrfs loop overlay dm_mod dm_thin_pool dm_snapshot dm_crypt quota_v2 vfat squashfs"

NAME = """\
#!/bin/sh
# lab-name NAME NUMBER: who this guest is. Without arguments (at boot) the kernel's command line knows.
if [ $# = 0 ]; then
  for word in $(cat /proc/cmdline); do
    case $word in lab.name=*) name=${word#*=} ;; lab.number=*) number=${word#*=} ;; esac
  done
  set -- "$name" "$number"
fi
[ -n "$1" ] || exit 0
set -e
echo "$1" >/etc/hostname
echo "$1" >/proc/sys/kernel/hostname
echo "InitiatorName=iqn.1993-08.org.debian:01:$1" >/etc/iscsi/initiatorname.iscsi
ip link set lo up
ip link set eth0 down
ip link set eth0 address "$(printf 52:54:00:bb:00:%02x "$2")"
ip address flush dev eth0
ip address add 10.77.0.$((10 + $2))/24 dev eth0
ip link set eth0 up
"""

# Scripts over the second serial line, for what must be said before there is a network: a line each, so that one of
# which the beginning got lost (nobody listened yet) harms no other.
SHELL = """\
#!/bin/sh
stty -F /dev/ttyS1 raw -echo clocal
exec </dev/ttyS1 >/dev/ttyS1 2>&1
while read -r mark word script; do
  [ "$mark" = lab ] || continue
  echo "@<$word"
  sh -c "$(echo "$script" | base64 -d)" </dev/null
  echo "@>$word $?"
done
"""

INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
echo 'lab: the kernel runs' >/dev/console
$b insmod /virtio_blk.ko
while [ ! -b /dev/vda ]; do $b usleep 20000; done
$b mount -t ext4 -o noatime /dev/vda /root && $b mount --move /dev /root/dev
exec $b switch_root /root /sbin/init
"""

FILES = {
    "etc/fstab": "",  # the root is the initramfs's affair: no unit waits for its device
    "etc/hostname": "lab\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/resolv.conf": "",
    "etc/modules-load.d/lab.conf": "virtio_net\nvirtio_scsi\n",
    "etc/ssh/sshd_config.d/lab.conf": "PermitRootLogin prohibit-password\nUsePAM no\nUseDNS no\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=volatile\n",
    # the whole coldplug takes 10 s and more in an emulated guest
    "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf": "[Service]\nExecStart=\nExecStart=-udevadm trigger"
    " --type=devices --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=virtio"
    " --subsystem-match=pci --subsystem-match=scsi\n",
    "etc/systemd/system/lab-name.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-modules-load.service"
    " systemd-remount-fs.service\nWants=network.target\nBefore=network.target ssh.service\n[Service]\nType=oneshot\n"
    "RemainAfterExit=yes\nExecStart=/usr/local/sbin/lab-name\n[Install]\nWantedBy=multi-user.target\n",
    "etc/systemd/system/lab-shell.service": "[Service]\nExecStart=/usr/local/sbin/lab-shell\nRestart=always\n"
    "[Install]\nWantedBy=multi-user.target\n",
    "usr/local/sbin/lab-name": NAME,
    "usr/local/sbin/lab-shell": SHELL,
}
ENABLED = "ssh.service lab-name.service lab-shell.service"
# What no test needs and every boot would pay for.
MASKED = """
    dev-hugepages.mount getty.target ldconfig.service modprobe@configfs.service modprobe@drm.service
    modprobe@efi_pstore.service modprobe@fuse.service proc-sys-fs-binfmt_misc.automount serial-getty@ttyS0.service
    sshd-keygen.service sys-kernel-debug.mount sys-kernel-tracing.mount systemd-binfmt.service
    systemd-hwdb-update.service systemd-journal-flush.service systemd-pcrphase.service systemd-pstore.service
    systemd-random-seed.service systemd-rfkill.socket systemd-tpm2-setup-early.service systemd-tpm2-setup.service
    systemd-udev-load-credentials.service systemd-update-utmp-runlevel.service systemd-update-utmp.service
"""


def mirror(texts: dict[str, str]) -> str:
    """The address that this host's apt gets Debian from: the first archive of a release in its sources.

    `texts` are the files by name, in apt's order; one-line and deb822 style. Security archives and others hold no
    whole release. Without any: Debian's own address.
    """
    for name, text in texts.items():
        found = _deb822(text) if name.endswith(".sources") else _lines(text)
        for uri, suites in found:
            if RELEASES.intersection(suites) and uri.startswith(("http://", "https://")):
                return uri.rstrip("/")
    return FALLBACK


def _lines(text: str) -> list[tuple[str, list[str]]]:
    found = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.split("#", 1)[0]).split()
        if len(words) > 3 and words[0] == "deb":
            found.append((words[1], [words[2]]))
    return found


def _deb822(text: str) -> list[tuple[str, list[str]]]:
    found = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in " \t":
                fields[key] = fields.get(key, "") + line
            else:
                key, _colon, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").strip().lower() != "no":
            found += [(uri, fields.get("suites", "").split()) for uri in fields.get("uris", "").split()]
    return found


def sources() -> dict[str, str]:
    """The files of this host's apt that name archives."""
    parts = Path("/etc/apt/sources.list.d")
    paths = [Path("/etc/apt/sources.list"), *sorted([*parts.glob("*.list"), *parts.glob("*.sources")])]
    return {str(path): path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def settings(dump: str) -> list[str]:
    """How this host's apt reaches its archives (proxies, retries, dates), from what apt-config dumps."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    lines = [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith(' "";')]
    return ['Acquire::Languages "none";', *lines]


def fingerprint() -> str:
    """The SHA-256 of everything that decides how the image comes out."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(repr(_numbers()).encode())
    return digest.hexdigest()


def place() -> Path:
    """The folder of the image that this checkout wants, there or not."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    return IMAGES.resolve() / fingerprint()[:16]


def built() -> Path:
    """The folder of the image; made when it is not there. The caller holds the lock of the images."""
    target = place()
    if not (target / "root.img").exists():
        _sweep(target)
        new = target.with_name(".new-" + target.name)
        new.mkdir()
        with phase("image in all"), _in_memory(new / "tree"):
            _build(new)
        (new / "tree").rmdir()
        new.rename(target)
    os.utime(target)
    return target


@contextlib.contextmanager
def _in_memory(tree: Path) -> Iterator[None]:
    """A tmpfs for the tree, in a mount namespace of our own: it is gone with this process, however that ends."""
    tree.mkdir()
    network.unshare(network.CLONE_NEWNS)
    called(["mount", "--make-rprivate", "/"])
    called(["mount", "-t", "tmpfs", "-o", "mode=0755,size=3g", "lab", str(tree)])
    yield
    called(["umount", str(tree)])


def _sweep(target: Path) -> None:
    """Half-made images (their maker has lost the lock, so it is gone), and those long not used."""
    for path in target.parent.iterdir():
        if path.is_dir() and (path.name.startswith(".new-") or time.time() - path.stat().st_mtime > KEPT):
            shutil.rmtree(path)


def _build(new: Path) -> None:
    uri = mirror(sources())
    options = ["--aptopt=" + line.rstrip(";") for line in settings(called(["apt-config", "dump"]))]
    with phase("Debian packages from the mirror, two trees at once"):
        unpacked = _bootstrap(new / "qemu", UNPACKED, "extract", [*options, uri])
        excluded = ["doc", "man", "locale", "info"]
        more = ["--dpkgopt=path-exclude=/usr/share/%s/*" % name for name in excluded]
        configured = _bootstrap(new / "tree", PACKAGES, "minbase", [*options, *more, "--dpkgopt=force-unsafe-io", uri])
        for process, log in (unpacked, configured):
            if process.wait():
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                tell = [line for line in lines if line.startswith("E:")] or lines[-1:] or ["no message"]
                raise Refused("mmdebstrap failed (all of it: %s): %s" % (_kept(log), tell[0]))
    tree, qemu = new / "tree", new / "qemu"
    with phase("configuration"):
        (kernel,) = (qemu / "boot").glob("vmlinuz-*")
        kernel.rename(new / "kernel")
        _configure(tree, qemu / "usr/lib/modules", new)
    with phase("root filesystem"):
        with open(new / "root.img", "wb") as image:
            image.truncate(ROOT_SIZE)
        extended = "lazy_itable_init=1,root_owner=0:0"
        called(
            ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", extended, "-d", str(tree), str(new / "root.img")]
        )
    (driver,) = (tree / "usr/lib/modules").glob("*/kernel/drivers/block/virtio_blk.ko.xz")
    folders = ["bin", "dev", "root"]
    entries = {
        "bin/busybox": (qemu / "usr/bin/busybox").read_bytes(),
        "init": INIT.encode(),
        "virtio_blk.ko": lzma.decompress(driver.read_bytes()),
    }
    (new / "initramfs").write_bytes(cpio(folders, entries))


def _bootstrap(tree: Path, packages: str, variant: str, more: list[str]) -> tuple[subprocess.Popen[bytes], Path]:
    """Start mmdebstrap in a process and mount namespace of its own, so that it ends whole when we are killed."""
    log = tree.with_suffix(".log")
    argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["mmdebstrap", "--mode=root", "--format=directory", "--variant=" + variant, "--skip=output/dev"]
    argv += ["--include=" + ",".join(packages.split()), *more[:-1], SUITE, str(tree), more[-1]]
    with open(log, "wb") as stream:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream), log


def _kept(log: Path) -> Path:
    """A log that outlives the half-made folder."""
    return Path(shutil.copy(log, IMAGES / log.name))


def _configure(tree: Path, modules: Path, new: Path) -> None:
    shutil.copytree(modules, tree / "usr/lib/modules", dirs_exist_ok=True, symlinks=True)
    (release,) = os.listdir(modules)
    shutil.rmtree(modules)
    called(["chroot", str(tree), "depmod", release])
    # What packages enable is off: a test starts what it needs.
    for wants in (tree / "etc/systemd/system").glob("*.wants"):
        shutil.rmtree(wants)
    for name, text in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if name.startswith("usr/local/sbin/") else 0o644)
    hosts = ["127.0.0.1 localhost", network.HOST + " host"]
    hosts += ["%s %s" % (network.address(number), name) for name, number in _numbers()]
    (tree / "etc/hosts").write_text("".join(line + "\n" for line in hosts), encoding="utf-8")
    called(["chroot", str(tree), "systemctl", "-q", "enable", *ENABLED.split()])
    called(["chroot", str(tree), "systemctl", "-q", "mask", *MASKED.split()])
    called(["chroot", str(tree), "systemctl", "-q", "set-default", "multi-user.target"])
    called(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(new / "key")])
    (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(new / "key.pub", tree / "root/.ssh/authorized_keys")
    # How this host reaches its mirror is nobody's business in the guest.
    for path in (tree / "etc/apt/apt.conf.d").glob("*mmdebstrap*"):
        path.unlink()
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    # The labels of the guests that boot with SELinux; the others do not look at them.
    contexts = "/etc/selinux/default/contexts/files/file_contexts"
    called(["chroot", str(tree), "setfiles", "-F", contexts, "/"])


def _numbers() -> list[tuple[str, int]]:
    from .guest import GUESTS

    return [(name, guest.number) for name, guest in GUESTS.items()]


def cpio(folders: list[str], files: dict[str, bytes]) -> bytes:
    """An archive as the kernel unpacks it (format newc, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    parts = []
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    entries += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
    return b"".join(parts)


def program(image: Path, name: str) -> list[str]:
    """How to run a program of the unpacked tree on this host: with its own loader and libraries."""
    tree = image / "qemu/usr"
    loader = [str(tree / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(tree / "lib/x86_64-linux-gnu")]
    return [*loader, str(tree / "bin" / name)]
