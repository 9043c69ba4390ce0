# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of exports(5) and of exportfs(8): what is read, and what is written back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import exportfs, exportfschange, exports
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"# /a *(ro)\n \n", []),
        (b"/a *(ro)", [(0, 1, "/a", ("*(ro)",))]),
        (b"/a/ h\n", [(0, 1, "/a", ("h",))]),
        (b"/ *(ro)\r\n", [(0, 1, "/", ("*(ro)",))]),
        (b"\n  /a h(ro) # *(rw)\n", [(1, 2, "/a", ("h(ro)",))]),
        (b"/a h#1(ro)\n", [(0, 1, "/a", ("h#1(ro)",))]),
        (b'"/a b" "h"(ro)\n', [(0, 1, "/a b", ("h(ro)",))]),
        (b'/a" "b h\n', [(0, 1, "/a b", ("h",))]),
        (b"/a\\040\\043b h\n", [(0, 1, "/a #b", ("h",))]),
        (b"/\\303\\251 h\n", [(0, 1, "/\u00e9", ("h",))]),
        (b"/\xff h\n", [(0, 1, "/\udcff", ("h",))]),
        (b"/a \\\n\t h(ro) \\\n i(rw)\n/b j\n", [(0, 3, "/a", ("h(ro)", "i(rw)")), (3, 4, "/b", ("j",))]),
        (b"/a h # i \\\n/b j\n", [(0, 1, "/a", ("h",)), (1, 2, "/b", ("j",))]),
        (b"/a h \\", [(0, 1, "/a", ("h", "\\"))]),
        (b"/a -sync,rw h @n(ro)\n", [(0, 1, "/a", ("-sync,rw", "h", "@n(ro)"))]),
    ],
)
def test_lines(data: bytes, found: object) -> None:
    assert [tuple(entry) for entry in exports.parse("/t", data)] == found


@pytest.mark.parametrize("data", [b'/a\n"/b h\n', b'/a\n/b h"\n', b'/a\n"/b\nc" h\n', b'/a\n/b "h" "\n'])
def test_a_quote_without_its_other_is_not_guessed_about(data: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        exports.parse("/t", data)
    assert caught.value.code == "unreadable" and "line 2 of /t" in caught.value.message


def test_what_cannot_be_read_is_not_absent(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "d").mkdir()
    table = str(tmp_path / "d" / "ours.exports")
    with pytest.raises(StorageError, match="cannot read"):
        exports.Exports(str(tmp_path / "exports")).scan([(table, "/a")])
    (tmp_path / "etab").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        exportfs.ExportTable(etab=str(tmp_path / "etab")).scan(["/a"])


def test_only_what_exportfs_reads_is_a_conflict(tmp_path: Path) -> None:
    for name in (".hidden.exports", "other.export", "folder.exports/x", "ours.exports"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("/a *(rw)\n")
    port, target = exports.Exports(str(tmp_path / "main")), (str(tmp_path / "ours.exports"), "/a")
    assert port.scan([target]) == {target: {"clients": ("*(rw)",)}}
    (tmp_path / "other.exports").write_text("\n/b *\n/a *\n")
    found = port.scan([target])[target]
    assert isinstance(found, StorageError) and found.code == "conflict"
    assert "line 3 of %s" % (tmp_path / "other.exports") in found.message


@pytest.mark.parametrize("line", ["/a *(ro)", "/a\t*(ro", "/a\t(ro)", "/a\t* (ro)", "\t*(ro)", "/a\t*(ro) x", ""])
def test_a_line_that_is_no_export_is_not_passed_over(tmp_path: Path, line: str) -> None:
    etab = tmp_path / "etab"
    etab.write_text("/b\t*(ro)\n%s\n" % line)
    with pytest.raises(StorageError) as caught:
        exportfs.ExportTable(etab=str(etab)).scan(["/b"])
    assert caught.value.code == "unreadable" and "line 2" in caught.value.message


@pytest.mark.parametrize(
    ("one", "two", "alike"),
    [
        ("ro", "", True),
        ("rw", "", False),
        ("ro,sync,secure,sec=sys", "ro,sync,wdelay,anonuid=65534,anongid=65534,sec=sys,ro,secure,root_squash", True),
        ("ro,sec=sys", "ro,sec=sys,rw", False),
        ("rw,sec=sys", "ro,sec=sys,rw", False),
        ("ro,sec=sys", "ro,sec=sys,ro,sec=krb5,ro", False),
        ("ro,sec=sys:krb5", "ro,sec=krb5:sys,ro", False),
        ("rw", "rw,some_new_word,other=1", True),
        ("rw", "rw,crossmnt", False),
        ("rw", "rw,fsid=0", False),
        ("rw,mountpoint", "rw", False),
        ("rw,mountpoint", "rw,mountpoint=/a", False),
        ("rw", "rw,reexport=auto-fsidnum", False),
    ],
)
def test_what_options_mean(one: str, two: str, alike: bool) -> None:
    assert (exportfs.settings(one) == exportfs.settings(two)) is alike


def test_programs_get_a_client_as_they_want_it() -> None:
    assert exportfschange.spec("2001:db8::/64", "/a:/b") == "[2001:db8::]/64:/a:/b"
    assert exportfschange.spec("2001:db8::1", "/a") == "[2001:db8::1]:/a"
    assert exportfschange.spec("192.0.2.0/24", "/a") == "192.0.2.0/24:/a"


@ROOT
def test_a_table_that_is_written_stays_what_others_made_it(tmp_path: Path) -> None:
    """Bytes that are not ours, an owner and a mode stay; two lines of one path become one, where the first was."""
    table = tmp_path / "ours.exports"
    table.write_bytes(b'# one\n/a h(ro) \\\n  i(ro)\n"/b \xff" *\n/a j\n#end')
    os.chown(table, 1, 2)
    port, target = exports.Exports(str(tmp_path / "main")), (str(table), "/a")
    row = port.scan([target])[target]
    assert row == {"clients": ("h(ro)", "i(ro)", "j")}
    port.put(target, row, {"clients": ("k(rw)",)})
    assert table.read_bytes() == b'# one\n/a k(rw)\n"/b \xff" *\n#end'
    assert (table.stat().st_uid, table.stat().st_gid, table.stat().st_mode & 0o777) == (1, 2, 0o644)
    port.put(target, {"clients": ("k(rw)",)}, None)
    assert table.read_bytes() == b'# one\n"/b \xff" *\n#end'


@ROOT
def test_a_folder_goes_with_its_last_line_if_it_came_with_the_first(tmp_path: Path) -> None:
    one = {"clients": ("h(ro)",)}
    for there in (False, True):
        folder = tmp_path / str(there)
        if there:
            folder.mkdir()
            folder.chmod(0o755)  # whatever the umask is
        port, file = exports.Exports(str(tmp_path / "main")), folder / "ours.exports"
        port.put((str(file), "/a"), None, one)
        port.put((str(file), "/b"), None, one)
        assert file.read_bytes().startswith(b"# Written by bulkhead.storage") and folder.stat().st_mode & 0o777 == 0o755
        port.put((str(file), "/a"), one, None)
        assert file.read_bytes().endswith(b"\n/b h(ro)\n")
        port.put((str(file), "/b"), one, None)
        assert (file.exists(), folder.exists()) == (False, there)
    port.put((str(file), "/a"), None, one)
    file.write_bytes(file.read_bytes() + b"# kept\n")
    port.put((str(file), "/a"), one, None)
    assert file.read_bytes().endswith(b"stay.\n# kept\n")
