# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files of mounts beside what systemd's own programs make of the same: escape, fstab-generator, analyze."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, systemd_mount, systemd_names
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstabchange import escape as field
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.systemd_unit import Units
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import Refusals, StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.reconcile import Options, converge

GENERATOR = "/usr/lib/systemd/system-generators/systemd-fstab-generator"
AT = "/srv/data"
LINE = {"source": "/dev/vg/data", "fstype": "ext4", "options": "nosuid,noatime", "passno": 2}
FOREIGN = b"""# by hand
[Unit]
Description=Somebody's
 After = a.service

[Mount]
; a comment
What=/dev/old
Where=/srv/data
Type=ext4
Options = \\
   nosuid,noatime
TimeoutSec=7

[Install]
WantedBy=multi-user.target
"""

# A name of a path: no slash, no control character; bytes that are no UTF-8 too.
CONTROL = names._CONTROL
PART = st.binary(min_size=1, max_size=20).map(lambda raw: CONTROL.sub("_", os.fsdecode(raw).replace("/", "_")))
PATHS = st.lists(PART, min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join("..." if part in (".", "..") else part for part in parts)
)


class Host:
    """A folder of units, and how often systemd was told."""

    def __init__(self, base: str) -> None:
        self.base, self.folder, self.told = base, base + "/system", []
        self.file = self.folder + "/srv-data.mount"
        os.mkdir(self.folder)
        os.mkdir(base + "/booted")

    def port(self) -> Units:
        return Units(Fstab(self._run, self.base + "/booted"), self.folder, self.base + "/run")

    def _run(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        self.told.append(argv)
        return 0, b"", b""

    def converge(self, declared: Any, check: bool = False) -> Any:
        port = self.port()
        unit = Unit(("mount", AT), (Cell("unit", AT, declared),))
        try:
            return converge(lambda look: ([unit], []), {"unit": port}, Options(check=check), iter(range(99)).__next__)
        except Refusals as refused:
            raise refused.errors[0] from refused

    def picture(self) -> dict[str, Any]:
        """Every name there: what a link says, what a file holds."""
        found: dict[str, Any] = {}
        for at, folders, files in os.walk(self.folder):
            for name in folders + files:
                path = os.path.join(at, name)
                kind = os.path.islink(path), os.path.isdir(path)
                text = os.readlink(path) if kind[0] else "" if kind[1] else Path(path).read_bytes()
                found[os.path.relpath(path, self.folder)] = text
        return found


@pytest.fixture
def host(arena: str) -> Host:
    return Host(arena)


# -- names ---------------------------------------------------------------------------------------------------------


def test_names_are_those_of_systemd() -> None:
    compared: set[str] = set()

    @settings(max_examples=40, deadline=None)
    @given(st.lists(PATHS, min_size=25, max_size=25, unique=True))
    def compare(paths: list[str]) -> None:
        argv = ["systemd-escape", "--path", "--", *paths]
        said = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode().rstrip("\n")
        assert [systemd_names.escape(path) for path in paths] == said.split(" ")
        compared.update(paths)

    compare()
    print("names compared with systemd-escape: %d, all different" % len(compared))
    assert len(compared) >= 500


@pytest.mark.parametrize(
    ("path", "name"),
    [("/", "-"), ("/.a", "\\x2ea"), ("/a.b/.c", "a.b-.c"), ("/a-b", "a\\x2db"), ("/a b\\", "a\\x20b\\x5c")]
    + [("/%i", "\\x25i"), ("/é:_", "\\xc3\\xa9:_"), ("/a\udcff", "a\\xff"), ("/--help", "\\x2d\\x2dhelp")],
)
def test_a_name(path: str, name: str) -> None:
    assert systemd_names.escape(path) == name
    argv = ["systemd-escape", "--path", "--", os.fsencode(path)]
    assert subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode().rstrip("\n") == name


@pytest.mark.parametrize("length", [249, 250])
def test_a_name_is_as_long_as_systemd_allows(length: int) -> None:
    path = "/" + "a" * 200 + "/" + "b" * (length - 201)
    if length == 249:
        assert len(systemd_names.mount_unit(path)) == 255
        return
    with pytest.raises(StorageError, match="makes a unit name of 256 bytes, and 255 is the most") as caught:
        systemd_names.mount_unit(path)
    assert (caught.value.code, caught.value.hint) == ("invalid", "use persist: fstab")


@pytest.mark.parametrize("path", ["/a\udcff", "/a ", "/a\\"])
def test_a_path_that_would_not_read_back_is_invalid(path: str) -> None:
    with pytest.raises(StorageError) as caught:
        systemd_names.mount_unit(path)
    assert caught.value.code == "invalid"


# -- what is written is what the generator makes of the same line --------------------------------------------------

LINES = [
    ("UUID=1234-ABCD", "/mnt/a", "ext4", "noatime", 2),
    ("LABEL=b%c+d", "/mnt/label", "auto", "defaults", 0),
    ("PARTLABEL=é", "/mnt/part", "xfs", "defaults", 1),
    ("/dev/disk/by-id/virtio-1", "/mnt/b", "ext4", "nofail,noatime", 2),
    ("/srv/i%m/a b.img", "/mnt/c d", "ext4", "loop,nosuid", 2),
    ("/srv/data", "/mnt/bind", "none", "bind,ro", 0),
    ("tmpfs", "/mnt/t-m%n", "tmpfs", "size=1m,mode=0700", 0),
    ("srv:/x", "/mnt/n", "nfs4", "_netdev", 0),
    ("srv:/x", "/mnt/n4", "nfs4", "nofail,ro", 0),
    ("/dev/sdb", "/mnt/iscsi", "ext4", "_netdev,nofail", 2),
    ("/dev/sdc", "/mnt/no", "ext4", "noauto", 0),
    ("/dev/sdc", "/mnt/no2", "ext4", "noauto,x-systemd.wanted-by=w.target", 0),
    (
        "/dev/sdz",
        "/mnt/x",
        "ext4",
        "x-systemd.requires=foo.service,x-systemd.requires=/srv/y-z,x-systemd.requires=/dev/vg/a,x-systemd.after=/srv/y,"
        "x-systemd.after=bar,x-systemd.after=a%i.service,x-systemd.after=/a/../b//c,x-systemd.before=b.service,"
        "x-systemd.wanted-by=w.target,x-systemd.required-by=r.target,"
        "x-systemd.requires-mounts-for=/srv/q%i,x-systemd.mount-timeout=30s,x-systemd.rw-only",
        1,
    ),
]


def directives(text: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """What systemd acts by: not where it came from, nor how it is enabled, which is told by the links."""
    said = [each for each in systemd_mount.parse(text) if each.key not in (b"Documentation", b"SourcePath")]
    said = [each for each in said if each.section != b"Install"]
    lists = (b"After", b"Before", b"Requires")
    return sorted(
        (each.section, each.key, value)
        for each in said
        for value in (each.value.split() if each.key in lists else [each.value])
    )


@pytest.mark.parametrize("line", LINES, ids=[line[1] for line in LINES])
def test_a_unit_is_what_the_generator_makes_of_the_line(host: Host, line: Any) -> None:
    source, path, fstype, options, passno = line
    fields = [field(word) for word in (source, path, fstype, options, "0", str(passno))]
    Path(host.base, "fstab").write_bytes(b" ".join(fields) + b"\n")
    folders = [host.base + "/" + name for name in ("normal", "early", "late")]
    for folder in folders:
        os.mkdir(folder)
    env = {**os.environ, "SYSTEMD_FSTAB": host.base + "/fstab", "SYSTEMD_PROC_CMDLINE": ""}
    subprocess.run([GENERATOR, *folders], env=env, check=True)
    name = systemd_names.mount_unit(path)
    theirs = Path(folders[0], name).read_bytes()
    port = host.port()
    declared = port.resolve(path, {"source": source, "fstype": fstype, "options": options, "passno": passno})
    port.put(path, None, port.merge(path, None, declared))
    ours = Path(host.folder, name).read_bytes()
    # For what x-systemd.wanted-by= names, newer releases order it by umount.target alone and older by local-fs.target.
    order = (b"local-fs.target", b"umount.target", b"no") if "ed-by=" in options else ()
    told = [[each for each in directives(text) if each[2] not in order] for text in (ours, theirs)]
    assert told[0] == told[1]
    links = sorted(str(each.relative_to(folders[0])) for each in Path(folders[0]).rglob("*/" + name))
    assert links == sorted(str(each.relative_to(host.folder)) for each in Path(host.folder).rglob("*/" + name))
    # systemctl(1) would enable it with these very links.
    for each in Path(host.folder).rglob("*/" + name):
        assert os.readlink(each) == "%s/%s" % (host.folder, name)
    row = port.scan([path])[path]
    assert row["enabled"] and row["intact"] and port.same(path, row, declared)


def test_systemctl_agrees_about_the_links(host: Host) -> None:
    """``systemctl enable`` has nothing to add, ``is-enabled`` says so, ``disable`` takes just these away."""
    root = host.base + "/root"
    folder = root + "/etc/systemd/system"
    os.makedirs(folder)
    port = Units(Fstab(booted="/nowhere"), folder, "/nowhere")
    for path, options in (("/srv/a b", "nosuid"), ("/srv/b", "nofail"), ("/srv/c", "_netdev")):
        value = port.resolve(path, {"source": "/dev/vg/x", "fstype": "ext4", "options": options})
        port.put(path, None, port.merge(path, None, value))
        before = sorted(map(str, Path(folder).rglob("*")))
        name = systemd_names.mount_unit(path)

        def systemctl(verb: str, unit: str = name) -> str:
            argv = ["systemctl", "--root=" + root, verb, "--", unit]
            return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout.decode()

        assert systemctl("is-enabled").strip() == "enabled"
        systemctl("enable")
        assert sorted(map(str, Path(folder).rglob("*"))) == before
        systemctl("disable")
        assert port.scan([path])[path]["_links"] == []
        port.put(path, port.scan([path])[path], {**value, "fsck": False})
        assert sorted(map(str, Path(folder).rglob("*"))) == before
        port.put(path, port.scan([path])[path], None)
        assert list(Path(folder).rglob("*")) == []


def test_systemd_takes_the_file_without_a_word(host: Host) -> None:
    port = host.port()
    options = "nosuid,x-systemd.requires-mounts-for=/srv/q,x-systemd.mount-timeout=30s"
    for path in (AT, "/srv/a b%i-c"):
        value = port.resolve(path, {**LINE, "options": options})
        port.put(path, None, port.merge(path, None, value))
        file = os.path.join(host.folder, port.unit(path))
        argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert (done.returncode, done.stdout.decode()) == (0, "")
    bad = Path(host.folder, "srv-bad.mount")
    bad.write_text("[Mount]\nWhat=/dev/x\nWhere=/elsewhere\n", encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(bad)], stderr=subprocess.PIPE, check=False)
    assert b"Where=" in done.stderr, "and of a bad one it has something to say"


# -- what is there -------------------------------------------------------------------------------------------------


def test_made_found_changed_and_gone(host: Host) -> None:
    first = host.converge(LINE, check=True)
    assert (len(first.listed), host.picture(), host.told) == (1, {}, [])
    made = host.converge(LINE)
    assert (made.errors, made.digest) == ([], first.digest)
    assert host.told == [["systemctl", "daemon-reload"]]
    seen = host.picture()
    assert sorted(seen) == ["local-fs.target.requires", "local-fs.target.requires/srv-data.mount", "srv-data.mount"]
    assert os.stat(host.file).st_mode & 0o7777 == 0o644
    again = host.converge(LINE)
    assert (again.listed, host.picture(), len(host.told)) == ([], seen, 1), "nothing changed, nobody is told"
    host.converge({**LINE, "options": "nofail", "passno": 0})
    assert sorted(host.picture()) == ["local-fs.target.wants", "local-fs.target.wants/srv-data.mount", "srv-data.mount"]
    assert b"Options=nofail" in host.picture()["srv-data.mount"] and b"fsck" not in host.picture()["srv-data.mount"]
    host.converge(None)
    assert host.picture() == {} and len(host.told) == 3


def test_the_same_declaration_makes_the_same_bytes(host: Host) -> None:
    host.converge(LINE)
    seen = host.picture()
    host.converge(None)
    host.converge(LINE)
    assert host.picture() == seen


def test_nobody_is_told_where_systemd_does_not_run(host: Host) -> None:
    os.rmdir(host.base + "/booted")
    assert host.converge(LINE).errors == [] and host.told == [] and "srv-data.mount" in host.picture()


def test_what_is_changed_by_hand_is_mended(host: Host) -> None:
    host.converge(LINE)
    seen = host.picture()
    link, other = host.folder + "/local-fs.target.requires/srv-data.mount", host.folder + "/x.target.wants"
    for spoil in (
        lambda: Path(host.file).write_bytes(seen["srv-data.mount"] + b"\n[Mount]\nSloppyOptions=yes\n"),
        lambda: Path(host.file).write_bytes(seen["srv-data.mount"].replace(b"noatime", b"suid")),
        lambda: Path(host.file).write_bytes(seen["srv-data.mount"].replace(b"Where=/srv/data", b"Where=/srv")),
        lambda: Path(host.file).write_bytes(seen["srv-data.mount"].replace(b"Requires=", b"Wants=")),
        lambda: Path(host.file).write_bytes(systemd_mount.MARK),
        lambda: os.unlink(link),
        lambda: (os.mkdir(other), os.symlink("/x", other + "/srv-data.mount")),
    ):
        spoil()
        assert host.picture() != seen
        foreseen = host.converge(LINE, check=True)
        assert len(foreseen.listed) == 1, "check mode says so"
        mended = host.converge(LINE)
        assert (mended.errors, mended.digest, host.picture()) == ([], foreseen.digest, seen)
        assert host.converge(LINE).listed == []


def test_a_drop_in_stays(host: Host) -> None:
    os.mkdir(host.file + ".d")
    Path(host.file + ".d/50-mine.conf").write_text("[Mount]\nTimeoutSec=1\n", encoding="utf-8")
    host.converge(LINE)
    host.converge(None)
    assert host.picture() == {"srv-data.mount.d": "", "srv-data.mount.d/50-mine.conf": b"[Mount]\nTimeoutSec=1\n"}


@pytest.mark.parametrize("how", ["link", "empty", "runtime"])
def test_a_masked_unit_is_a_conflict(host: Host, how: str) -> None:
    if how == "link":
        os.symlink("/dev/null", host.file)
    elif how == "empty":
        Path(host.file).touch()
    else:
        os.mkdir(host.base + "/run")
        os.symlink("/dev/null", host.base + "/run/srv-data.mount")
    seen = host.picture()
    for check in (True, False):
        with pytest.raises(StorageError, match="is masked") as caught:
            host.converge(LINE, check)
        assert caught.value.code == "conflict" and "systemctl unmask srv-data.mount" in caught.value.hint
    assert host.picture() == seen


def test_a_link_to_elsewhere_is_a_conflict(host: Host) -> None:
    os.symlink("/srv/other.mount", host.file)
    with pytest.raises(StorageError, match="is a link"):
        host.converge(LINE)


def test_without_a_folder_of_units_it_is_not_supported_and_absent_is_quiet(host: Host) -> None:
    os.rmdir(host.folder)
    with pytest.raises(StorageError, match="use persist: fstab") as caught:
        host.converge(LINE)
    assert caught.value.code == "unsupported"
    assert host.converge(None).listed == []


def test_what_cannot_be_read_is_not_absent(host: Host) -> None:
    Path(host.folder).rmdir()
    Path(host.folder).touch()
    with pytest.raises(StorageError) as caught:
        host.converge(None)
    assert caught.value.code == "unreadable"


# -- a unit of somebody else ---------------------------------------------------------------------------------------


def test_of_a_foreign_unit_only_what_differs_changes(host: Host) -> None:
    """As of a line of fstab that was there: it is what the host goes by."""
    Path(host.file).write_bytes(FOREIGN)
    declared = {"source": "/dev/vg/da%ta", "fstype": "ext4", "options": "nosuid,noatime"}
    host.converge(declared)
    assert host.picture()["srv-data.mount"] == FOREIGN.replace(b"/dev/old", b"/dev/vg/da%%ta")
    assert "local-fs.target.requires/srv-data.mount" in host.picture(), "else it would not be there after a boot"
    assert host.converge(declared).listed == []
    host.converge({**declared, "fstype": "xfs", "options": "ro"})
    wanted = FOREIGN.replace(b"/dev/old", b"/dev/vg/da%%ta").replace(b"ext4", b"xfs")
    assert host.picture()["srv-data.mount"] == wanted.replace(b"Options = \\\n   nosuid,noatime", b"Options=ro")
    host.converge(None)
    assert host.picture() == {}


def test_fields_that_a_foreign_unit_lacks(host: Host) -> None:
    Path(host.file).write_bytes(b"[Mount]\nWhat=UUID=12-AB\nWhere=/srv/data")
    os.mkdir(host.folder + "/m.target.wants")
    os.symlink(host.file, host.folder + "/m.target.wants/srv-data.mount")
    declared = {"source": "UUID=12-AB", "fstype": "ext4", "options": "ro"}
    host.converge(declared)
    text = host.picture()["srv-data.mount"]
    assert text.split(b"\n")[0] == b"[Mount]" and text.endswith(b"What=UUID=12-AB\nWhere=/srv/data")
    assert host.port().scan([AT])[AT]["_links"] == ["m.target.wants"], "it was enabled already"
    assert host.converge(declared).listed == []


def test_what_a_foreign_unit_stands_on_is_its_own(host: Host) -> None:
    Path(host.file).write_bytes(FOREIGN)
    for more in ({"passno": 2}, {"options": "nofail"}, {"options": "x-systemd.requires=a.service"}):
        with pytest.raises(StorageError, match="was written by somebody else") as caught:
            host.converge({"source": "/dev/old", "fstype": "ext4", "options": "nosuid", **more})
        assert caught.value.code == "conflict"
    assert host.picture() == {"srv-data.mount": FOREIGN}


def test_a_foreign_unit_comes_back_to_the_byte(host: Host) -> None:
    Path(host.file).write_bytes(FOREIGN)
    port, seen = host.port(), host.picture()
    before = port.scan([AT])[AT]
    after = port.merge(AT, before, {"source": "/dev/new", "enabled": True})
    port.put(AT, before, after)
    port.put(AT, after, before)
    assert host.picture() == seen
    port.put(AT, before, None)
    assert host.picture() == {}
    port.put(AT, None, before)
    assert host.picture() == seen


# -- making it so --------------------------------------------------------------------------------------------------


def test_a_world_that_moved_is_not_overwritten(host: Host) -> None:
    host.converge(LINE)
    port = host.port()
    before = port.scan([AT])[AT]
    Path(host.file).write_bytes(FOREIGN)
    for after in (None, {**before, "options": "ro"}):
        with pytest.raises(StorageError) as caught:
            port.put(AT, before, after)
        assert caught.value.code == "moved"
    assert host.picture()["srv-data.mount"] == FOREIGN


def test_options_of_systemd_that_need_a_second_unit(host: Host) -> None:
    for word in (
        *("x-systemd.automount", "x-systemd.idle-timeout=1", "x-systemd.growfs", "x-systemd.device-timeout=9"),
        *("x-systemd.wanted-by=../../tmp/a.target", "x-systemd.required-by=a", "x-systemd.after="),
    ):
        with pytest.raises(StorageError, match="use persist: fstab") as caught:
            host.port().resolve(AT, {**LINE, "options": "nosuid," + word})
        assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    ("option", "value"),
    [("source", "/srv/x\\"), ("source", "/a\nExecStart=/b"), ("fstype", "ext4\nA=b"), ("options", "ro\r")],
)
def test_what_would_not_read_back_is_invalid(host: Host, option: str, value: str) -> None:
    with pytest.raises(StorageError) as caught:
        host.port().resolve(AT, {**LINE, option: value})
    assert (caught.value.code, caught.value.details["option"]) == ("invalid", option)


@settings(max_examples=100, deadline=None)
@given(PATHS, PATHS, st.sampled_from(["defaults", "ro,size=5%", "nofail,x-systemd.after=a@%i.service"]), st.booleans())
def test_a_file_reads_back_as_it_was_meant(path: str, source: str, options: str, fsck: bool) -> None:
    if systemd_names.written_problem(path) or systemd_names.written_problem(source):
        return
    value = {"source": source, "fstype": "ext4", "options": options, "fsck": fsck}
    text = systemd_mount.render(path, value)
    assert systemd_mount.value_of(path, text) == {**value, "intact": True}
    assert text.decode("utf-8")


def test_the_order_on_disk(host: Host, tmp_path: Path) -> None:
    """The file is on disk before its name, the name before the link, and the link goes before the file."""
    code = "import sys; from %s import Units; from %s import Fstab; p = Units(Fstab(booted='/no'), sys.argv[1]); "
    code %= (Units.__module__, Fstab.__module__)
    code += "v = p.merge('/srv/data', None, p.resolve('/srv/data', %r)); p.put('/srv/data', None, v); " % LINE
    code += "p.put('/srv/data', p.scan(['/srv/data'])['/srv/data'], None)"
    log = str(tmp_path / "log")
    calls = "trace=fsync,rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir"
    argv = ["strace", "-y", "-o", log, "-e", calls, sys.executable, "-c", code, host.folder]
    subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    text = Path(log).read_text(encoding="utf-8").splitlines()
    lines = [line for line in text if host.folder in line or "link" in line]
    order = [line.partition("(")[0].replace("at2", "").replace("at", "") for line in lines if "= 0" in line]
    made, gone = order[: order.index("symlink") + 2], order[order.index("symlink") + 2 :]
    assert made == ["fsync", "rename", "fsync", "mkdir", "fsync", "symlink", "fsync"], lines
    assert gone == ["unlink", "rmdir", "fsync", "unlink", "fsync"], lines


def test_what_a_killed_run_left_is_swept(host: Host) -> None:
    left = Path(host.folder, ".bulkhead-0123456789abcdef")
    left.write_bytes(b"half")
    assert atomic._TEMPORARY.fullmatch(os.fsencode(left.name))
    host.converge(LINE)
    assert not left.exists()
