# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of open-iscsi, and the name of this host: iscsiadm, which reads them, and a real target judge."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import re
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_recordchange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import IscsiRecord
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh, until

BASE, NODES = "/var/lib/iscsi", "/var/lib/iscsi/nodes"
IQN, TEN, ME = "iqn.2026-01.org.example:vol1", "iqn.2026-01.org.example:vol10", "iqn.2026-01.org.example:me"
NAME, CONF = "/etc/iscsi/initiatorname.iscsi", "/etc/iscsi/iscsid.conf"
HERE, SIX = "127.0.0.1:3260", "[::1]:3260"
FAR = ("192.0.2.1:3260", "[2001:db8::1]:3261")
NONE = {"username": None, "password": None, "mutual_username": None, "mutual_password": None}
CHAP = {**NONE, "username": "user", "password": Secret("a secret of 12")}
MUTUAL = {**CHAP, "mutual_username": "target", "mutual_password": Secret("another secret")}
OURS = {"node.startup", "node.conn[0].startup"}
OURS |= {"node.session.auth." + name for name in ("authmethod", "username", "password", "username_in", "password_in")}
AUTHORIZATION = 24  # iscsiadm(8): login failed due to authorization failure


def have(declared, target=IQN):
    """As the engine would; False where nothing differs."""
    port = IscsiRecord()
    row = look(target)
    if row is declared or (row and declared and port.same(target, row, declared)):
        return False
    after = port.merge(target, row, declared) if declared else None
    error = port.refuse(target, row, after, set())
    if error is not None:
        raise error
    port.put(target, row, after)
    found = look(target)
    assert found is declared or port.same(target, found, declared)
    return True


def look(target=IQN):
    row = IscsiRecord().scan([target]).get(target)
    if isinstance(row, StorageError):
        raise row
    return row


def both(declared, target=IQN):
    """Done, and quiet then."""
    assert have(declared, target)
    before = picture()
    assert not have(declared, target)
    assert picture() == before
    return look(target)


def picture():
    """Every file, folder and link of the database."""
    found = {}
    for folder, folders, files in os.walk(BASE):
        for name in [*folders, *files]:
            path = folder + "/" + name
            about = os.lstat(path)
            link = os.path.islink(path)
            found[path] = os.readlink(path) if link else about.st_mode
            if name in files and not link:
                with open(path, "rb") as stream:
                    found[path] = (about.st_mode & 0o7777, about.st_ino, stream.read())
    return found


def iscsiadm(*arguments, check=True):
    done = subprocess.run(["iscsiadm", *arguments], check=False, capture_output=True, timeout=120)
    if check and done.returncode:
        raise RuntimeError("%s: %d %r" % (arguments, done.returncode, done.stderr))
    return done if not check else done.stdout.decode()


def shown(portal, target=IQN):
    """What iscsiadm itself reads; ``<empty>`` is how it shows nothing."""
    text = iscsiadm("-m", "node", "-T", target, "-p", portal, "-S")
    assert text.count("# BEGIN RECORD") == 1, text
    said = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    return {name: None if value == "<empty>" else value for name, value in said.items()}


def auth(portal, target=IQN):
    said = shown(portal, target)
    return tuple(said["node.session.auth." + name] for name in ("username", "password", "username_in", "password_in"))


def nodes():
    """What iscsiadm lists: (portal, target) of every record."""
    done = iscsiadm("-m", "node", check=False)
    assert done.returncode in (0, 21), done
    return sorted(re.findall(r"(\S+),\d+ (\S+)", done.stdout.decode()))


def login(portal=HERE, target=IQN):
    return iscsiadm("-m", "node", "-T", target, "-p", portal, "--login", check=False).returncode


def logout():
    iscsiadm("-m", "session", "-u", check=False)
    assert until(lambda: not glob.glob("/sys/class/iscsi_session/*"))


def serve(chap, target=IQN):
    words = {name: each.reveal() if isinstance(each, Secret) else each for name, each in (chap or {}).items() if each}
    lun = {"lun": 0, "file": "/srv/records.img", "size": "1MiB"}
    initiators = [{"iqn": ME, **({"chap": words} if words else {})}]
    entry = {"target": target, "luns": [lun], "initiators": initiators, "portals": [HERE, SIX]}
    done = quotas.converge([], iscsi_targets=[entry])
    assert not done["refused"] and not done["errors"], done


@contextlib.contextmanager
def configured(text):
    """Other defaults of this host."""
    with open(CONF, encoding="utf-8") as stream:
        old = stream.read()
    with open(CONF, "a", encoding="utf-8") as stream:
        stream.write(text)
    try:
        yield
    finally:
        with open(CONF, "w", encoding="utf-8") as stream:
            stream.write(old)


@pytest.fixture(scope="module", autouse=True)
def initiator():
    with open(NAME, "w", encoding="ascii") as stream:
        stream.write("InitiatorName=%s\n" % ME)
    sh(["systemctl", "restart", "iscsid"])
    sh(["rm", "-rf", NODES, BASE + "/send_targets"])
    with configured("node.session.initial_login_retry_max = 1\n"), quotas.own_catalogue():
        yield
    sh(["systemctl", "stop", "iscsid.socket", "iscsid.service"])


@pytest.fixture(autouse=True)
def clean():
    assert nodes() == []
    yield
    logout()
    iscsiadm("-m", "node", "-o", "delete", check=False)
    iscsiadm("-m", "discoverydb", "-t", "st", "-p", HERE, "-o", "delete", check=False)
    if os.path.isdir("/sys/kernel/config/target"):
        sh(["targetctl", "clear"])
    for path in (*glob.glob("/etc/rtslib-fb-target/*"), *glob.glob("/srv/records.img")):
        if os.path.isfile(path):
            os.unlink(path)


# -- iscsiadm reads what is declared -------------------------------------------------------------------------------


def test_what_is_declared_is_what_iscsiadm_reads():
    iscsiadm("-m", "node", "-o", "new", "-T", TEN, "-p", "192.0.2.1:3260")
    defaults = shown("192.0.2.1:3260", TEN)
    start = picture()
    row = both({"portals": FAR, "startup": "automatic", **MUTUAL})
    assert (row["portals"], row["startup"], row["authmethod"], row["intact"]) == (FAR, "automatic", "CHAP", True)
    assert nodes() == sorted([(FAR[0], IQN), (FAR[1], IQN), (FAR[0], TEN)])
    for portal in FAR:
        said = shown(portal)
        assert auth(portal) == ("user", "a secret of 12", "target", "another secret")
        assert said["node.session.auth.authmethod"] == "CHAP"
        assert said["node.startup"] == said["node.conn[0].startup"] == "automatic"
        differ = {name for name, value in said.items() if defaults[name] != value}
        assert differ <= OURS | {"node.name", "node.conn[0].address", "node.conn[0].port"}, "else as this host has it"
    both({"portals": FAR[:1], "startup": "manual", **CHAP})
    assert auth(FAR[0]) == ("user", "a secret of 12", None, None)
    assert nodes() == [(FAR[0], IQN), (FAR[0], TEN)]
    both({"portals": FAR, **NONE})
    assert [auth(portal) for portal in FAR] == [(None,) * 4] * 2
    assert {shown(portal)["node.session.auth.authmethod"] for portal in FAR} == {"None"}
    assert set(IscsiRecord().scan()) == {IQN, TEN}
    both(None)
    assert picture() == start, "a target whose name begins alike"


def test_what_is_hard_to_write_is_read_as_it_is():
    for text in ("#", "=", "a = b", "a  b#c", "'a\"", "\\n\\", "é€", "x" * 255, "********"):
        both({"portals": FAR[:1], **CHAP, "username": text, "password": Secret("p" + text[:254])})
        assert auth(FAR[0])[:2] == (text, "p" + text[:254]), text
    before = picture()
    for text in ("", " a", "a ", "\ta", "a\nb", "a\0", "\x7f", "x" * 256, "é" * 128, "\udcff"):
        for words in (
            {"username": text},
            {"password": Secret(text)},
            {"mutual_username": "a", "mutual_password": Secret(text)},
        ):
            with pytest.raises(StorageError) as raised:
                have({"portals": FAR[:1], **CHAP, **words})
            assert raised.value.code == "invalid"
    assert picture() == before


def test_the_defaults_of_this_host_do_not_show_through():
    text = "node.startup = automatic\nnode.conn[0].startup = automatic\nnode.session.auth.authmethod = CHAP\n"
    text += "node.session.auth.username = them\nnode.session.auth.password = theirs\n"
    with configured(text):
        both({"portals": FAR[:1], "startup": "manual", **NONE})
        said = shown(FAR[0])
        assert (auth(FAR[0]), said["node.startup"], said["node.conn[0].startup"]) == ((None,) * 4, "manual", "manual")
        assert said["node.session.auth.authmethod"] == "None"
        both(None)
        both({"portals": FAR[:1]})
        assert auth(FAR[0])[:2] == ("them", "theirs"), "what is not declared is as this host has it"
        both({"portals": FAR, "startup": "manual"})
        assert [auth(portal)[:2] for portal in FAR] == [("them", "theirs")] * 2
        assert shown(FAR[1])["node.startup"] == "manual"
    change = ("-o", "update", "-n", "node.session.auth.password", "-v", "wrong")
    iscsiadm("-m", "node", "-T", IQN, "-p", FAR[1], *change)
    both({"portals": (HERE, *FAR)})
    assert auth(HERE)[:2] == ("them", "theirs"), "as the first of those that were there, not as this host has it now"
    assert auth(FAR[1])[:2] == ("them", "wrong")


def test_what_others_say_by_iscsiadm_is_drift():
    declared = {"portals": FAR, "startup": "manual", **CHAP}
    both(declared)
    for name, value in (
        ("node.startup", "automatic"),
        ("node.conn[0].startup", "automatic"),
        ("node.session.auth.password", "wrong"),
        ("node.session.auth.username_in", "x"),
        ("node.session.auth.authmethod", "None"),
    ):
        iscsiadm("-m", "node", "-T", IQN, "-p", FAR[1], "-o", "update", "-n", name, "-v", value)
        assert shown(FAR[1])[name] == value
        both(declared)
        assert shown(FAR[1])[name] != value
    iscsiadm("-m", "node", "-T", IQN, "-p", FAR[1], "-o", "update", "-n", "node.session.queue_depth", "-v", "7")
    assert not have(declared)
    both({**declared, "startup": "automatic"})
    assert shown(FAR[1])["node.session.queue_depth"] == "7", "what is not ours stays"
    iscsiadm("-m", "node", "-T", IQN, "-p", FAR[0], "-o", "delete")
    both(declared)


# -- a host logs in by it ------------------------------------------------------------------------------------------


def test_it_logs_in_and_a_secret_is_rotated():
    serve(CHAP)
    declared = {"portals": (HERE, SIX), "startup": "manual", **CHAP}
    both(declared)
    for portal in (HERE, SIX):
        assert login(portal) == 0
    logout()
    serve({**CHAP, "password": Secret("the next secret")})
    assert login() == AUTHORIZATION
    both({**declared, "password": Secret("the next secret")})
    assert login() == 0
    logout()
    serve(MUTUAL)
    both({**declared, **MUTUAL, "mutual_password": Secret("a third secret")})
    assert login() != 0
    both({**declared, **MUTUAL})
    assert login(SIX) == 0
    logout()
    serve(None)
    both({**declared, **NONE})
    assert login() == 0


def test_records_of_a_discovery_are_taken_over():
    serve(CHAP)
    iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", HERE)
    assert nodes() == [(HERE, IQN), (SIX, IQN)]
    start = picture()
    assert NODES + "/%s/127.0.0.1,3260,1/default" % IQN in start
    both({"portals": (HERE, SIX), "startup": "manual", **CHAP})
    assert nodes() == [(HERE, IQN), (SIX, IQN)], "and not doubled"
    assert picture().keys() == start.keys()
    assert login() == 0
    logout()
    both({"portals": (HERE,), **CHAP})
    assert nodes() == [(HERE, IQN)]
    both({"portals": (HERE, SIX), **CHAP})
    assert nodes() == [(HERE, IQN), (SIX, IQN)]
    both(None)
    there = picture()
    sources = {path: value for path, value in start.items() if "/send_targets" in path and not isinstance(value, str)}
    assert sources and sources.items() <= there.items(), "where it looked is kept"
    assert os.listdir(NODES) == [] and not any(isinstance(value, str) for value in there.values()), "no link to nothing"
    iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", HERE)
    assert nodes() == [(HERE, IQN), (SIX, IQN)]
    iscsiadm("-m", "discoverydb", "-t", "st", "-p", HERE, "-o", "delete")
    assert nodes() == []


def test_what_is_taken_back_is_the_very_same():
    iscsiadm("-m", "node", "-o", "new", "-T", IQN, "-p", "[2001:DB8:0::1]:3261,7")
    path = NODES + "/%s/2001:DB8:0::1,3261,7/default" % IQN
    with open(path, "a", encoding="ascii") as stream:
        stream.write("node.session.auth.password=no line\n# a word\nnode.session.auth.username = x")
    before = contents()
    port, row = IscsiRecord(), look()
    assert (row["portals"], row["username"]) == (("[2001:db8::1]:3261",), None)
    after = port.merge(IQN, row, {"portals": FAR, **MUTUAL})
    port.put(IQN, row, after)
    assert port.same(IQN, look(), after)
    assert shown(FAR[1])["node.tpgt"] == "7"
    port.put(IQN, after, row)
    assert contents() == before
    port.put(IQN, row, None)
    assert not os.path.exists(NODES + "/" + IQN)
    port.put(IQN, None, row)
    assert contents() == before


def contents():
    return {path: value[2] for path, value in picture().items() if isinstance(value, tuple) and "/nodes/" in path}


# -- secrets, the lock, and kills ----------------------------------------------------------------------------------


def test_a_password_is_nowhere_but_where_it_must_be():
    canary, second = ("canary-%s" % os.urandom(8).hex() for _each in range(2))
    code = (
        "import json, sys\n"
        "from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret\n"
        "from ansible_collections.bulkhead.storage.tests.lab.inside.server import test_iscsi_record as it\n"
        "made = {'password': Secret, 'mutual_password': Secret, 'portals': tuple}\n"
        "for said in json.load(sys.stdin):\n"
        "    it.have({k: made.get(k, str)(v) for k, v in said.items()} or None)\n"
        "    print(it.look())\n"
    )
    log = "/run/record-strace"
    argv = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "9999", "-v", "-e", "trace=execve,openat,rename", "-o", log]
    argv += [sys.executable, "-c", code]
    chap = {"portals": FAR, "username": "user", "password": canary, "mutual_username": "t", "mutual_password": second}
    every = [chap, {}, chap, {**chap, "startup": "automatic"}]
    done = subprocess.run(argv, input=json.dumps(every).encode(), check=True, capture_output=True, timeout=120)
    with open(log, encoding="utf-8", errors="replace") as stream:
        traced = stream.read()
    assert NODES in traced and '"iscsiadm"' in traced
    for word in (canary, second):
        assert word.encode() not in done.stdout + done.stderr and word not in traced
    born = re.findall(r'openat\(\d+, "\.bulkhead-[0-9a-f]+", [A-Z_|]*O_CREAT[A-Z_|]*, (\d+)\)', traced)
    assert born == ["0600"] * 6, born
    search = ["grep", "-rlE", canary + "|" + second, BASE, "/var/lib/bulkhead", "/etc", "/tmp", "/run", "/srv"]
    files = sh(search, False).split()
    assert len(files) == 2 and all(each.startswith(NODES + "/%s/" % IQN) for each in files), files
    assert {os.stat(each).st_mode & 0o777 for each in files} == {0o600}
    have(None)
    assert sh(search, False) == ""


def test_iscsiadm_waits_while_we_write_and_we_while_it_does():
    both({"portals": FAR, **CHAP})
    locks = IscsiRecord().locks
    argv = ["iscsiadm", "-m", "node", "-T", IQN, "-o", "update", "-n", "node.startup", "-v", "automatic"]
    with contextlib.ExitStack() as stack:
        with iscsi_recordchange.locked(locks):
            child = stack.enter_context(subprocess.Popen(argv))
            time.sleep(0.5)
            assert child.poll() is None
            with pytest.raises(StorageError) as raised, iscsi_recordchange.locked(locks, 0.1):
                pass
            assert (raised.value.code, child.poll()) == ("locked", None)
        assert child.wait(timeout=20) == 0
    assert shown(FAR[0])["node.startup"] == "automatic"
    os.link(locks + "/lock", locks + "/lock.write")  # as one of iscsiadm's that runs
    try:
        with pytest.raises(StorageError) as raised, iscsi_recordchange.locked(locks, 0.1):
            pass
        assert raised.value.code == "locked"
    finally:
        os.unlink(locks + "/lock.write")
    os.link(locks + "/lock.bulkhead", locks + "/lock.write")  # as one of ours that was killed
    both({"portals": (HERE, *FAR), **CHAP})
    assert not os.path.exists(locks + "/lock.write")


def test_killed_anywhere_the_next_run_converges():
    """SIGKILL at a system call of ours that changes something; iscsiadm then says the same as it does without."""
    calls = "mkdir,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,write,fsync"
    wanted = {"portals": (HERE, *FAR), "startup": "automatic", **MUTUAL}
    iscsiadm("-m", "node", "-o", "new", "-T", TEN, "-p", "192.0.2.1:3260")

    def before(state):
        if look() is not None:
            have(None)
        if state != "made":
            iscsiadm("-m", "node", "-o", "new", "-T", IQN, "-p", HERE + ",1")
            iscsiadm("-m", "node", "-o", "new", "-T", IQN, "-p", "192.0.2.9:3260")

    states = {"made": wanted, "changed": wanted, "removed": None}
    points, meant = [], {}
    for state, declared in states.items():
        before(state)
        status, said = quotas.traced(lambda d=declared: int(not have(d)), "-qq", "-e", "trace=" + calls, follow=False)
        assert status == 0, said
        made = [match.group(1) for match in re.finditer(r"^(\w+)\(", said, re.M)]
        points += [(state, call, made[: at + 1].count(call)) for at, call in enumerate(made)]
        meant[state] = contents()
    print(len(points), "points")
    chosen = points if os.environ.get("BULKHEAD_SOAK") else random.Random(20261122).sample(points, 8)
    killed = 0
    for state, call, at in chosen:
        before(state)
        inject = "inject=%s:signal=SIGKILL:when=%s" % (call, at)
        strace = ("-qq", "-e", "trace=" + calls, "-e", inject)
        status, _said = quotas.traced(lambda s=state: int(not have(states[s])), *strace, follow=False)
        killed += os.WIFSIGNALED(status)
        have(states[state])
        assert not have(states[state]), (state, call, at)
        assert contents() == meant[state], (state, call, at)
        assert not os.path.exists(IscsiRecord().locks + "/lock.write") or states[state] is None
        iscsi_recordchange.mend()
    assert killed == len(chosen) and len(points) >= 60
