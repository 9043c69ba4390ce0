# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers made to be read wrongly: by a path, a table of mounts, fstab, a loop device, a parser of sizes.

Each is first misread by what is commonly written, then meets ours. What is refused is in ``tests/data``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bulkhead.storage.tests.support import attack, module, namespace, reconciling

DATA = Path(__file__).resolve().parents[1] / "data"
TENANT = attack.TENANT


pytestmark = pytest.mark.usefixtures("attacked")


def listed(what: str, which: str = "wrong") -> list[Any]:
    """The values of a file of ``tests/data`` as a declaration can hold them."""

    def read(value: Any) -> Any:
        if isinstance(value, dict) and "repeat" in value:
            return value["repeat"][0] * value["repeat"][1]
        if isinstance(value, dict) and "escaped" in value:
            return value["escaped"].encode().decode("unicode_escape")
        return value

    rows = yaml.safe_load((DATA / ("wrong_%s.yml" % what)).read_text(encoding="utf-8"))[which]
    return [[read(value) for value in row] if isinstance(row, list) and which == "right" else read(row) for row in rows]


def readable(text: str) -> bool:
    """Nothing in it moves a cursor, turns the direction of writing, or ends the line."""
    return text.isprintable()


def test_a08_names_that_leave_and_names_that_are_only_strange() -> None:
    """The wrong are shown by their repr and join nowhere; the strange are made, changed and removed as they are."""
    base = attack.make("/srv/names", 0)
    escaped = 0
    for name in listed("names"):  # os.path.join, as it is written everywhere
        if isinstance(name, str) and "\0" not in name and name:
            with contextlib.suppress(OSError, UnicodeEncodeError):
                where = os.path.normpath(os.path.join(base, name))
                escaped += os.path.dirname(where) != base or name != os.path.basename(where)
    shown = 0
    for what, kind, option in (("names", "volumes", "name"), ("paths", "tmpfs", "path")):
        for value in listed(what):
            if isinstance(value, str) and (what, value[:1]) != ("paths", "~"):  # that is a home
                answer = attack.engine({kind: [{option: value, "size": "1MiB"}]}, check=True)
                assert answer["code"] == "invalid", (value, answer)
                assert all(readable(e["message"] + e["hint"]) for e in answer["errors"]), answer
                shown += 1
    made = 0
    rights = [row[1] for row in listed("paths", "right") if row[1] not in ("/", "/a/b", "/x/deleted", "/..a/.b")]
    for path in rights:
        raw = os.fsencode(base) + path.encode("utf-8", "surrogateescape")
        entry = {"path": path[1:], "owner": str(TENANT), "mode": "0750"}
        for mode, planned in (("0750", None), ("0750", 0), ("0700", 1)):
            answer = attack.engine({"trees": [{"root": base, "entries": [{**entry, "mode": mode}]}]})
            assert answer["code"] == "ok" and planned in (None, answer["summary"]["planned"]), (path, answer)
        about = os.lstat(raw)
        assert (about.st_uid, about.st_mode & 0o7777) == (TENANT, 0o700)
        # The tenant fills it with all that a name can be.
        for inner in (b"a\nb", b"\xff", b"-rf", b" ", b"\xe2\x80\xae", b"\x1b[31m", b"n" * 255, b"%n", b"..."):
            os.mkdir(raw + b"/" + inner)
            os.close(os.open(raw + b"/" + inner + b"/f", os.O_CREAT | os.O_WRONLY))
        gone = {"root": base, "confirm": base, "entries": [{"path": path[1:], "type": "absent"}]}
        assert attack.engine({"trees": [{**gone, "confirm": None}]})["code"] == "would_destroy"
        assert attack.engine({"trees": [gone]})["code"] == "ok" and not os.path.lexists(raw)
        made += 1
    assert os.listdir(base) == []
    os.rmdir(base)
    print(
        "A8: %d names and paths refused by their repr, naive left its folder with %d; %d strange ones made"
        % (shown, escaped, made)
    )
    assert escaped >= 5 and made >= 10 and shown > 60


def test_a09_a_row_in_a_row_of_the_table_of_mounts() -> None:
    """A tenant's directory is called what splitlines() and split() read as a mount at somebody else's place."""
    blank, line = "\u2003", "\u2028"
    forged = "x" + line + blank.join(("36", "35", "0:99", "", ""))[:-1]
    path = "/srv/" + forged + "/" + blank + "/mnt/a9" + blank.join(("", "rw", "-", "tmpfs", "tmpfs", "rw"))
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "them", path], check=True)
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        rows = [row.split() for row in stream.read().splitlines()]
    naive = any(len(row) > 4 and row[4] == "/mnt/a9" for row in rows)
    answer = module.run("tmpfs", {"path": "/mnt/a9", "size": "64KiB", "persist": "none"}).result
    assert answer["changed"] and attack.mounted("/mnt/a9") == ["/mnt/a9"]
    assert not module.run("tmpfs", {"path": "/mnt/a9", "size": "64KiB", "persist": "none"}).result["changed"]
    assert module.run("tmpfs", {"path": "/mnt/a9", "state": "absent", "persist": "none"}).result["changed"]
    names = 0
    for raw in (b"a\rb", b"\xff\xfe", b"#x", b"a b", b"a\tb", b"a\nb", b"\\040", b"\xc2\x85", b"\x0c", b"\xe2\x80\xa8"):
        point = b"/mnt/a9-" + raw
        os.mkdir(point)
        subprocess.run([b"mount", b"-t", b"tmpfs", b"-o", b"size=64k", b"them", point], check=True)
        beside = module.run("tmpfs", {"path": "/mnt/beside", "size": "64KiB", "persist": "none"}).result
        assert beside["changed"] and attack.mounted("/mnt/beside") == ["/mnt/beside"]
        assert module.run("tmpfs", {"path": "/mnt/beside", "state": "absent", "persist": "none"}).result["changed"]
        subprocess.run([b"umount", point], check=True)
        os.rmdir(point)
        names += 1
    attack.taken_down("/srv/" + forged)
    shutil.rmtree("/srv/" + forged)
    print("A9 mounts: naive saw a mount that is none: %s; ours never, beside %d names" % (naive, names))
    assert naive


def test_a09_a_line_in_a_comment_of_fstab() -> None:
    """Line breaks that only Python knows are none in fstab: not a byte of a stranger's line changes."""
    hidden = "# by blue\u2028/dev/vdz /mnt/evil ext4 suid 0 0\x0c/dev/vdy /mnt/evil2 ext4 suid 0 0\x85x y z\n"
    with open("/etc/fstab", "rb") as stream:
        before = stream.read()
    with open("/etc/fstab", "ab") as stream:
        stream.write(hidden.encode() + b"none /mnt/\xff\rx tmpfs noauto 0 0\n")
    with open("/etc/fstab", "rb") as stream:
        strange = stream.read()
    naive = "".join(row + "\n" for row in strange.decode("utf-8", "replace").splitlines())
    lost = "\n/dev/vdz /mnt/evil ext4" in naive and naive.encode() != strange
    assert module.run("tmpfs", {"path": "/mnt/a9", "size": "64KiB"}).result["changed"]
    with open("/etc/fstab", "rb") as stream:
        assert stream.read().startswith(strange)
    answer = module.run("mount", {"path": "/mnt/evil", "state": "absent"}).result
    assert not answer["changed"], "it is no line"
    assert module.run("tmpfs", {"path": "/mnt/a9", "state": "absent"}).result["changed"]
    with open("/etc/fstab", "rb") as stream:
        assert stream.read() == strange
    with open("/etc/fstab", "wb") as stream:
        stream.write(before)
    print("A9 fstab: naive made a line of a comment: %s; ours kept %d bytes" % (lost, len(strange)))
    assert lost


def test_a10_what_is_called_deleted_and_what_is() -> None:
    """The kernel says //deleted and (deleted); a tenant can say (deleted) too."""
    source, point = attack.make("/srv/src"), "/mnt/a10"
    bind = {"path": point, "source": source, "bind": True, "persist": "none"}
    assert module.run("mount", bind).result["changed"]
    assert attack.once(lambda: os.rmdir(source)) != 0  # its parent is root's
    os.rmdir(source)
    with open("/proc/self/mountinfo", encoding="utf-8", newline="\n") as stream:
        row = next(line.split(" ") for line in stream if line.split(" ")[4] == point)
    attack.make(source)  # another directory of the same name
    naive = (
        row[3].endswith("//deleted") and row[3][: -len("//deleted")] == "/src"
    )  # which a parser of text takes for it
    answer = module.run("mount", bind).result
    assert answer["failed"] and answer["code"] == "conflict", answer
    assert module.run("mount", {**bind, "on_drift": "replace"}).result["changed"]
    attack.write(source + "/seen")
    assert os.listdir(point) == ["seen"]
    assert module.run("mount", {"path": point, "state": "absent", "persist": "none"}).result["changed"]
    # A file that is really named so, beside the one that a text without it would name.
    images = [namespace.image("/srv/vol.img" + end, size << 20, "ext4") for end, size in ((" (deleted)", 16), ("", 24))]
    points = ["/mnt/a10-%d" % n for n in range(2)]
    for image, where in zip(images, points):
        options = {"path": where, "source": image, "fstype": "ext4", "persist": "none"}
        assert module.run("mount", options).result["changed"]
        assert not module.run("mount", options).result["changed"], "it is known by its inode"
        swapped = {**options, "source": images[1 - images.index(image)]}
        assert module.run("mount", swapped, check=True).result["code"] == "conflict"
    seen = [
        Path("/sys/block/%s/loop/backing_file" % os.path.basename(d)).read_text()
        for d in namespace.loop_devices("/srv")
    ]
    stripped = {text.rstrip("\n").replace(" (deleted)", "") for text in seen if "vol.img" in text}
    sizes = [os.statvfs(where).f_blocks * os.statvfs(where).f_frsize for where in points]
    assert sizes[0] < 16 << 20 < sizes[1] < 24 << 20
    os.unlink(images[1])  # now one is deleted, and the other is only called so
    assert module.run("mount", {"path": points[0], "state": "absent", "persist": "none"}).result["changed"]
    assert module.run("mount", {"path": points[1], "state": "absent", "persist": "none"}).result["changed"]
    left = [
        d
        for d in namespace.loop_devices("/srv")
        if "vol.img" in Path("/sys/block/%s/loop/backing_file" % os.path.basename(d)).read_text()
    ]
    assert left == [] and attack.mounted("/mnt/a10") == []
    os.unlink(images[0])
    shutil.rmtree(source)
    print(
        "A10: naive took a deleted source for the new one: %s, two files for %d; ours none" % (naive, len(stripped)),
    )
    assert naive and len(stripped) == 1


def test_a13_sizes_are_exact_and_mean_one_thing() -> None:
    """``test_wrong.py`` refuses the wrong ones; here are those that others read otherwise, planned and read back."""

    def common(text: str) -> int:
        """As it is often written: a float and a factor, k for a thousand or not."""
        match = re.match(r"([0-9.e]+)\s*([kmgt]?)", text.lower())
        assert match
        return int(float(match.group(1)) * 1000 ** " kmgt".index(match.group(2) or " "))

    exact = {
        "9007199254740993": (1 << 53) + 4096,
        "1.1GiB": 1181118464,
        "8388609": 8392704,
        "1GB": 1 << 30,
        "1Gi": 1 << 30,
        "64k": 65536,
    }
    differ = sum(-(-common(text) // 4096) * 4096 != size for text, size in exact.items())
    for text, size in exact.items():
        answer = module.run(
            "tmpfs", {"path": "/mnt/a13", "size": text, "inodes": 64, "persist": "none"}, check=True
        ).result
        (action,) = [each for each in answer["actions"] if each["port"] == "mount"]
        assert action["after"]["o:size"] == size, (text, action)
    for text, size in list(exact.items())[1:]:
        assert module.run("tmpfs", {"path": "/mnt/a13", "size": text, "inodes": 64, "persist": "none"}).rc == 0
        room = os.statvfs("/mnt/a13")
        assert room.f_blocks * room.f_frsize == size, text
        assert module.run("tmpfs", {"path": "/mnt/a13", "state": "absent", "persist": "none"}).rc == 0
    traps = yaml.safe_load("[1e9, 010, 1_0, '12:30', true, 0x10, .inf, .nan, -1, 1.5, ~]")
    codes = []
    before = reconciling.snapshot(times=True)
    for value in [*traps, "1e9", "\u0663", "1_000", "0x10", "NaN", "", "0", str(2**63), "-1"]:
        entry = {"path": "/mnt/a13", "size": value, "persist": "none"}
        found = {attack.engine({"tmpfs": [entry]}, check=check)["code"] for check in (True, False)}
        assert len(found) == 1, "the same in check mode"
        codes.append((value, found.pop()))
    read = [value for value, code in codes if code == "ok"]
    assert reconciling.snapshot(times=True)["rows"] == before["rows"]
    print(
        "A13: %d sizes exact, common code reads %d otherwise; %d traps, %d refused"
        % (len(exact), differ, len(codes), len(codes) - len(read))
    )
    assert differ >= 3 and read == [], read


def test_a10_what_is_mounted_and_running_beneath_is_told_and_not_obeyed() -> None:
    """Names of mounts and processes reach people's terminals: escaped, whoever asks, in check mode too."""
    name, told = "a\n\x1b[31m\u202eb", "a\\n\\x1b[31m\\u202eb"
    base = "/srv/told"
    os.makedirs(base)
    subprocess.run(["mount", "-t", "tmpfs", "x", base], check=True)
    os.mkdir(base + "/" + name)
    subprocess.run(["mount", "-t", "tmpfs", "x", base + "/" + name], check=True)
    gone = {"path": base, "state": "absent", "persist": "none"}
    layout = {"_declaration": json.dumps({"tmpfs": [gone]}), "_secrets": []}
    try:
        for kind, options in (("tmpfs", gone), ("mount", gone), ("layout", layout)):
            for check in (True, False):
                answer = module.run(kind, options, check=check).result
                assert answer["code"] == "in_use" and told in answer["msg"] and name not in str(answer["errors"])
                assert answer["msg"].isprintable() and told in answer["errors"][0]["details"]["mounts"][0]
        subprocess.run(["umount", base + "/" + name], check=True)
        call = "import sys\nopen('/proc/self/comm', 'w').write('x\\x1b[31m\\ny')\nprint(flush=True)\nsys.stdin.read()"
        argv, pipe = [sys.executable, "-c", call], subprocess.PIPE
        with subprocess.Popen(argv, cwd=base, stdin=pipe, stdout=pipe) as holder:
            assert holder.stdout and holder.stdout.readline()
            answer = module.run("tmpfs", gone).result
            holder.communicate()
        assert answer["code"] == "in_use" and "x\\x1b[31m\\ny" in answer["msg"] and answer["msg"].isprintable()
    finally:
        attack.taken_down(base)
        os.rmdir(base)
