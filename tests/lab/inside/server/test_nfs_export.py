# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of a server that runs: mount.nfs, exportfs -v and the bytes of the tables tell every outcome."""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import shutil
import stat
import subprocess

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.tests.support import crash, quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh

crash.DEADLINE = 300.0  # an emulated guest on a busy host
BASE, SEEN, HOST = "/srv/lab-exports", "/mnt/lab-exports", "10.77.0.13"
A, B = BASE + "/a", BASE + "/b"
TABLE, FOLDER, ETAB = "/etc/exports.d/bulkhead.exports", "/etc/exports.d", "/var/lib/nfs/etab"
HEAD = b"# Written by bulkhead.storage, a line for each path. Lines of other paths stay.\n"
MADE = b"# Its folder was made for it.\n"
SAID = "sync,secure,root_squash,no_subtree_check"
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"


def converge(check=False, *, more=None, **entry):
    return quotas.converge([], check, nfs_exports=[{"path": A, **entry}], **(more or {}))


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def both(**entry):
    """Foreseen, done, and quiet then."""
    before = picture()
    foreseen = converge(True, **entry)
    assert (codes(foreseen), picture()) == ([], before), foreseen
    done = converge(**entry)
    assert (codes(done), done["actions"], done["digest"]) == ([], foreseen["actions"], foreseen["digest"]), done
    quiet(**entry)
    return [(each["verb"], each["port"]) for each in done["actions"]]


def quiet(**entry):
    before = picture()
    again = converge(**entry)
    assert (codes(again), again["actions"]) == ([], []), again
    assert picture() == before


def picture():
    """The bytes of every table, and the inode of ours and of the live one: who writes anew has another."""
    files = {path: content(path) for path in ["/etc/exports", *glob.glob(FOLDER + "/*"), *glob.glob(FOLDER + "/.*")]}
    inodes = [os.stat(path).st_ino for path in (TABLE, ETAB) if os.path.exists(path)]
    return files, inodes, os.path.isdir(FOLDER), content(ETAB)


def content(path):
    with open(path, "rb") as stream:
        return stream.read()


def exported(path=A):
    """By client its options, in their order, as exportfs(8) lists them."""
    found = []
    for line in re.sub(r"\n\t", " ", sh(["exportfs", "-v"])).splitlines():
        place, client, options = re.fullmatch(r"(\S+)\s+(\S+?)\((\S*)\)", line).groups()
        if place == path:
            found.append((client, options.split(",")))
    return found


def mounts(path=A, server="127.0.0.1", options=""):
    """Does a client get it? What it says if not."""
    argv = ["mount", "-t", "nfs4", "-o", "vers=4.2,retry=0" + options, "%s:%s" % (server, path), SEEN]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=240)
    if done.returncode == 0:
        sh(["umount", SEEN])
    return "" if done.returncode == 0 else done.stderr


class Mounted:
    """What a client finds."""

    def __init__(self, path=A, server="127.0.0.1"):
        self.what = "%s:%s" % (server, path)

    def __enter__(self):
        sh(["mount", "-t", "nfs4", "-o", "vers=4.2,retry=0", self.what, SEEN])
        return SEEN

    def __exit__(self, *_error):
        sh(["umount", SEEN])


def writes(path):
    """The user of what a client's root writes there, None where it may not."""
    try:
        with open(path + "/written", "w", encoding="ascii"):
            pass
        return os.stat(path + "/written").st_uid
    except OSError:
        return None
    finally:
        if os.path.exists(path + "/written"):
            os.unlink(path + "/written")


@pytest.fixture(scope="module", autouse=True)
def server():
    """One that grants at once: a client waits out the grace of 90 seconds otherwise."""
    crash.prepare(modules=False)
    shutil.rmtree("/var/lib/bulkhead", ignore_errors=True)
    sh(["modprobe", "nfsd"])
    if not os.path.exists("/proc/fs/nfsd/threads"):
        sh(["mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd"])
    sh(["systemctl", "stop", "nfs-server"])
    for name in ("nfsv4gracetime", "nfsv4leasetime"):
        with open("/proc/fs/nfsd/" + name, "w", encoding="ascii") as stream:
            stream.write("10")
    sh(["systemctl", "start", "nfs-server"])
    yield
    sh(["systemctl", "stop", "nfs-server"])
    shutil.rmtree("/var/lib/bulkhead", ignore_errors=True)


@pytest.fixture(autouse=True)
def clean():
    hosts = content("/etc/hosts"), content("/etc/exports")
    blank()
    for path in (A, B, SEEN):
        os.makedirs(path)
        os.chmod(path, 0o755)
        with open(path + "/file", "w", encoding="ascii") as stream:
            stream.write("of " + path)
    yield
    for path, data in zip(("/etc/hosts", "/etc/exports"), hosts):
        with open(path, "wb") as stream:
            stream.write(data)
    blank()


def blank():
    sh(["umount", DISK], check=False)
    sh(["umount", SEEN], check=False)
    sh(["exportfs", "-au"])
    sh(["exportfs", "-f"])
    for path in (FOLDER, BASE, SEEN):
        shutil.rmtree(path, ignore_errors=True)


def blanked():
    """Whatever a test before this one has left on the disk."""
    sh(["wipefs", "-qaf", DISK])
    with open(DISK, "r+b") as disk:
        disk.write(bytes(8 << 20))
        disk.seek(-(8 << 20), os.SEEK_END)
        disk.write(bytes(8 << 20))
    sh(["udevadm", "settle"])


def test_in_a_stack(clean):
    """A filesystem, its mount, a directory and its export in one call, and all of it gone in one.

    The first, since each run of exportfs(8) puts the second off in which the kernel lets go of what was exported: after
    those of the other tests it lies minutes ahead.
    """
    blanked()
    path = BASE + "/disk"
    stack = {
        "filesystems": [{"device": DISK, "fstype": "ext4"}],
        "mounts": [{"path": path, "source": DISK, "fstype": "ext4", "persist": "none"}],
        "trees": [{"root": path + "/out", "entries": [{"path": ".", "mode": "0755"}]}],
    }
    export = {"path": path + "/out", "clients": [{"host": HOST, "options": ["rw", "mountpoint=" + path]}]}
    foreseen = converge(True, more=stack, **export)
    assert codes(foreseen) == [], foreseen
    done = converge(more=stack, **export)
    assert codes(done) == [], done
    assert (codes(done), done["digest"]) == ([], foreseen["digest"]), done
    assert [each["port"] for each in done["actions"]][-2:] == ["exports", "exportfs"]
    assert converge(more=stack, **export)["actions"] == []
    sh(["sh", "-c", "echo there > %s/out/file" % path])
    for _time in range(10):  # each counts as a second later than the one before
        sh(["exportfs", "-f"])
    with Mounted(path + "/out", HOST) as seen:
        assert content(seen + "/file") == b"there\n"
    os.unlink(path + "/out/file")
    gone = {name: [{**entries[0], "state": "absent"}] for name, entries in stack.items() if name != "filesystems"}
    done = converge(more=gone, path=path + "/out", state="absent")
    assert codes(done) == [], done
    assert [each["port"] for each in done["actions"]][:2] == ["exportfs", "exports"]
    assert [each["port"] for each in done["actions"]][-2:][0] in ("mount", "node")
    assert not os.path.ismount(path) and not os.path.exists(FOLDER) and content(ETAB) == b""
    blanked()


def test_a_client_reads_and_another_is_refused():
    assert both(clients=[{"host": HOST}]) == [("create", "exports"), ("create", "exportfs")]
    assert content(TABLE) == HEAD + MADE + b"%s %s(ro,%s)\n" % (A.encode(), HOST.encode(), SAID.encode())
    assert stat.S_IMODE(os.stat(TABLE).st_mode) == 0o644 and stat.S_IMODE(os.stat(FOLDER).st_mode) == 0o755
    ((client, options),) = exported()
    assert client == HOST
    assert {"ro", "sync", "secure", "root_squash", "no_subtree_check", "sec=sys"} <= set(options)
    with Mounted(server=HOST) as path:
        assert content(path + "/file") == b"of " + A.encode()
        assert writes(path) is None
    refused = mounts(server="127.0.0.1")
    assert re.search(r"denied|not permitted|No such file", refused), refused
    assert both(state="absent") == [("remove", "exportfs"), ("remove", "exports")]
    assert not os.path.exists(FOLDER) and content(ETAB) == b""
    assert mounts(server=HOST), "nobody is served any more"


def test_what_is_said_holds_for_a_client():
    os.chmod(A, 0o777)
    both(clients=[{"host": HOST, "options": ["rw"]}])
    with Mounted(server=HOST) as path:
        assert writes(path) == 65534
    assert both(clients=[{"host": HOST, "options": ["rw", "no_root_squash"]}]) == [
        ("change", "exports"),
        ("change", "exportfs"),
    ]
    with Mounted(server=HOST) as path:
        assert writes(path) == 0
    both(clients=[{"host": HOST, "options": ["rw", "all_squash", "anonuid=1234"]}])
    with Mounted(server=HOST) as path:
        assert writes(path) == 1234
    both(clients=[{"host": HOST}])
    assert "ro" in exported()[0][1] and "anonuid=1234" not in exported()[0][1], "what was said before is forgotten"


def test_ipv6_and_every_way_to_name_a_client():
    hosts = ["::1", "2001:db8::/64", "192.0.2.0/24", "*.example.com", "build[0-9].example.com", "@trusted", "*"]
    both(clients=[{"host": host} for host in hosts])
    assert {client for client, _options in exported()} == {*hosts[:-1], "<world>"}
    both(clients=[{"host": "::1"}])
    assert [client for client, _options in exported()] == ["::1"]
    with Mounted(server="[::1]") as path:
        assert content(path + "/file") == b"of " + A.encode()
    assert mounts(server="127.0.0.1")
    both(clients=[{"host": "2001:db8::/64"}, {"host": "2001:db8::7"}])
    both(state="absent")
    assert content(ETAB) == b""


@pytest.mark.parametrize("narrow_first", [True, False])
def test_the_first_that_is_declared_counts_now_and_after_a_start(narrow_first):
    os.chmod(A, 0o777)
    clients = [{"host": "127.0.0.0/30", "options": ["rw"]}, {"host": "127.0.0.0/8"}]
    clients = clients if narrow_first else clients[::-1]
    both(clients=clients)
    for _start in range(2):
        with Mounted() as path:
            assert (writes(path) is not None) == narrow_first
        sh(["systemctl", "restart", "nfs-server"])
        quiet(clients=clients)


def test_a_server_that_is_stopped_forgets_and_the_next_run_tells_it():
    both(clients=[{"host": HOST}])
    sh(["systemctl", "stop", "nfs-server"])
    assert content(ETAB) == b""
    assert both(clients=[{"host": HOST}]) == [("create", "exportfs")]
    sh(["systemctl", "start", "nfs-server"])
    quiet(clients=[{"host": HOST}])
    assert not mounts(server=HOST)


def test_drift_is_mended():
    clients = [{"host": HOST}, {"host": "192.0.2.0/24", "options": ["rw"]}]
    both(clients=clients)
    good = content(TABLE), sorted(content(ETAB).splitlines())

    def mended(*ports):
        assert [port for _verb, port in both(clients=clients)] == list(ports)
        assert (content(TABLE), sorted(content(ETAB).splitlines())) == good

    sh(["exportfs", "-u", "%s:%s" % (HOST, A)])
    assert mounts(server=HOST)
    mended("exportfs")
    assert not mounts(server=HOST)
    sh(["exportfs", "-o", "rw,no_root_squash,insecure", "%s:%s" % (HOST, A)])
    assert "no_root_squash" in exported()[0][1]
    mended("exportfs")
    sh(["exportfs", "-o", "rw", "127.0.0.1:" + A])
    assert not mounts()
    mended("exportfs")
    assert mounts()
    with open(TABLE, "wb") as stream:
        stream.write(good[0].replace(b"(ro,", b"(rw,no_root_squash,"))
    mended("exports")
    with open(TABLE, "ab") as stream:
        stream.write(b'"%s" \\\n\t*(rw) # everybody\n' % A.encode())
    sh(["exportfs", "-ra"])
    mended("exports", "exportfs")
    os.unlink(TABLE)
    sh(["exportfs", "-ra"])
    assert content(ETAB) == b""
    mended_ports = [port for _verb, port in both(clients=clients)]
    assert mended_ports == ["exports", "exportfs"] and sorted(content(ETAB).splitlines()) == good[1]


def test_what_is_others_stays():
    os.mkdir(FOLDER)
    with open("/etc/exports", "ab") as stream:
        stream.write(b"%s/x 192.0.2.1(ro) \\\n 192.0.2.2(rw)\n" % BASE.encode())
    with open(FOLDER + "/other.exports", "wb") as stream:
        stream.write(b'"%s/y y" -sync,rw 192.0.2.3 @here(ro)' % BASE.encode())
    with open(TABLE, "wb") as stream:
        stream.write(b"# by hand\n%s\t192.0.2.4(rw)" % B.encode())
    os.makedirs(BASE + "/x")
    os.makedirs(BASE + "/y y")
    sh(["exportfs", "-ra"])
    sh(["exportfs", "-o", "rw,anonuid=7", "192.0.2.9:" + BASE + "/x"])  # by hand, in no table
    sh(["exportfs", "-o", "rw,anonuid=8", "192.0.2.1:" + BASE + "/x"])  # otherwise than a table has it
    before, others = picture()[0], set(content(ETAB).splitlines())
    assert len(others) == 6
    both(clients=[{"host": HOST}])
    assert set(content(ETAB).splitlines()) > others and len(content(ETAB).splitlines()) == 7
    assert content(TABLE) == before[TABLE] + b"\n%s %s(ro,%s)" % (A.encode(), HOST.encode(), SAID.encode())
    both(clients=[{"host": "*", "options": ["rw"]}])
    both(state="absent")
    assert picture()[0] == before and set(content(ETAB).splitlines()) == others


def test_two_tables_for_one_path():
    with open("/etc/exports", "ab") as stream:
        stream.write(b"# no\n %s 192.0.2.1(ro)\n" % A.encode())
    sh(["exportfs", "-ra"])
    before = picture()
    for entry in ({"clients": [{"host": HOST}]}, {"state": "absent"}):
        for check in (True, False):
            answer = converge(check, **entry)
            assert codes(answer) == ["conflict"], answer
            number = content("/etc/exports").count(b"\n")
            assert "line %d of /etc/exports" % number in answer["refused"][0]["message"]
    assert picture() == before


def test_names_are_known_by_what_the_resolver_makes_of_them():
    with open("/etc/hosts", "ab") as stream:
        stream.write(b"\n%s client.example.com client\n192.0.2.77 gone.example.com\n" % HOST.encode())
    both(clients=[{"host": "client", "options": ["rw"]}])
    assert exported()[0][0] == "client.example.com"
    assert not mounts(server=HOST) and mounts(server="127.0.0.1")
    both(clients=[{"host": "client.example.com", "options": ["rw"]}])
    for clients, code in (
        ([{"host": "client"}, {"host": HOST}], "conflict"),
        ([{"host": "nobody.example.com"}], "not_found"),
    ):
        before = picture()
        assert (codes(converge(True, clients=clients)), codes(converge(clients=clients))) == ([code], [code])
        assert picture() == before
    sh(["exportfs", "-o", "ro", "gone.example.com:" + B])
    with open("/etc/hosts", "rb+") as stream:
        text = stream.read().replace(b"192.0.2.77 gone.example.com\n", b"")
        stream.seek(0)
        stream.truncate()
        stream.write(text)
    before = picture()
    answer = converge(clients=[{"host": "192.0.2.5"}])
    assert codes(answer) == ["conflict"] and "gone.example.com" in answer["refused"][0]["message"]
    assert picture() == before, "what would have been dropped is still there"


def test_a_way_through_a_link_and_no_directory():
    os.symlink("a", BASE + "/link")
    os.mkdir(BASE + "/d")
    os.symlink("../a", BASE + "/d/inner")
    with open(BASE + "/plain", "w", encoding="ascii"):
        pass
    os.chown(BASE + "/d", 1000, 1000)
    before = picture()
    for path, code in (
        (BASE + "/link", "unsafe_path"),
        (BASE + "/d/inner", "unsafe_path"),
        (BASE + "/nothing", "not_found"),
        (BASE + "/plain", "conflict"),
    ):
        for check in (True, False):
            assert codes(converge(check, path=path, clients=[{"host": HOST}])) == [code], path
    assert picture() == before


def test_paths_of_odd_names():
    for name in ("two words", 'quo"ted', "#hash", "é", "a:b", "[x]", "-n", "(p)", "x,y"):
        path = "%s/%s" % (BASE, name)
        os.mkdir(path)
        with open(path + "/file", "w", encoding="utf-8") as stream:
            stream.write(name)
        both(path=path, clients=[{"host": HOST}, {"host": "2001:db8::/64"}])
        sh(["systemctl", "reload", "nfs-server"])  # which is exportfs -r: it reads the line as we meant it
        quiet(path=path, clients=[{"host": HOST}, {"host": "2001:db8::/64"}])
        with Mounted(path, HOST) as seen:
            assert content(seen + "/file") == name.encode()
        both(path=path, state="absent")
    assert not os.path.exists(FOLDER) and content(ETAB) == b""


def test_what_is_too_long_for_exportfs():
    """It reads at most 511 bytes of a client, and drops all that comes after a longer one."""
    longest = "refer=/%s@h" % ("a" * (281 - len("refer=/@h") - 1 - len(HOST)))
    both(clients=[{"host": HOST, "options": [longest]}, {"host": "192.0.2.1"}])
    assert len(exported()) == 2
    sh(["exportfs", "-o", "ro", "192.0.2.9:" + B])  # another run of it reads all that the first wrote
    assert len(exported()) == 2 and len(exported(B)) == 1
    sh(["systemctl", "reload", "nfs-server"])
    quiet(clients=[{"host": HOST, "options": [longest]}, {"host": "192.0.2.1"}])


def test_what_is_shown():
    entry = {"path": A, "clients": [{"host": "192.0.2.0/255.255.255.0", "options": ["rw"]}]}
    both(**entry)
    entries, errors = _kinds.entries({"nfs_exports": [entry]}, {"allow_unstable_device": False}, set())
    assert not errors
    rows = {"exports": _kinds.ports(["nfs_exports"])["exports"].scan([(TABLE, A)])}
    shown = entries[0].resource.show(entries[0].params, rows)
    assert shown == {"path": A, "clients": [{"host": "192.0.2.0/24", "options": ["rw", *SAID.split(",")]}]}


def test_a_run_that_is_killed_leaves_what_the_next_one_mends():
    """At each call of ours that changes something, and at the start and the end of each program."""
    up = {"clients": [{"host": HOST}, {"host": "127.0.0.1", "options": ["rw"]}]}
    down = {"state": "absent"}
    step = 1 if "BULKHEAD_SOAK" in os.environ else 4
    tried = {}
    for name, entry, other in (("up", up, down), ("down", down, up)):
        number = step
        while True:
            assert codes(converge(**other)) == []
            count = 0

            def decide(call, last=number):
                nonlocal count
                if call.own or call.name in ("execve", "exit_group"):
                    count += 1
                    if count == last:
                        return crash.Kill(caller=not call.own)
                return None

            ended = crash.forked(functools.partial(_told, entry), decide, within=False)
            if ended.result is not None:
                break
            assert ended.status == -9, ended.output
            done = converge(**entry)
            assert codes(done) == [], (name, number, done)
            clients = sorted(client for client, _options in exported())
            assert clients == ([HOST, "127.0.0.1"] if entry is up else []), (name, number)
            quiet(**entry)
            number += step
        tried[name] = number // step - 1
        if entry is up:
            assert not mounts(server=HOST) and not mounts()
    print("killed", tried)
    assert min(tried.values()) >= (20 if step == 1 else 4), tried


def _told(entry):
    print(json.dumps(converge(**entry), default=repr))
