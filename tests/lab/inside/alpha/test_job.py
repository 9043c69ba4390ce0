# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that systemd runs: what they see, what they cannot do, what is left of them. systemctl(1) and /proc tell."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shipped
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import jobio, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import Lock
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import job as resource
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume as volume_resource
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

MIB = 1 << 20
BASE = "/var/lib/bulkhead"


def table() -> str:
    """The host's mounts, without the numbers that each new one gets."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        return "".join(" ".join(line.split()[2:]) + "\n" for line in stream)


def left() -> dict[str, Any]:
    """Whatever jobs could leave on a host."""
    units = sh(["systemctl", "list-units", "--all", "--plain", "--no-legend", "bulkhead-job-*.service"])
    files = [name for name in os.listdir("/run/systemd/system") if name.startswith("bulkhead-job-") and "@" not in name]
    loops = sh(["losetup", "-nlO", "BACK-FILE"])
    groups = [name for _at, names, _files in os.walk("/sys/fs/cgroup") for name in names if "bulkhead-job-" in name]
    folders = os.listdir("/run/bulkhead-jobs") if os.path.isdir("/run/bulkhead-jobs") else []
    groups = [name for name in groups if name.endswith(".service")]
    return {"mounts": table(), "units": units, "files": files, "loops": loops, "groups": groups, "folders": folders}


def homes() -> list[str]:
    return sorted(os.listdir(BASE + "/jobs")) if os.path.isdir(BASE + "/jobs") else []


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """In the mounts of systemd, which runs the jobs: other tests may have gone to some of their own."""
    folder, mine = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY)
    with open("/proc/1/ns/mnt", "rb") as theirs:
        os.setns(theirs.fileno(), os.CLONE_NEWNS)
    try:
        yield
        _cleared()
    finally:
        os.setns(mine, os.CLONE_NEWNS)
        os.close(mine)
        os.chdir(folder)


def _cleared() -> None:
    jobs = [{"id": name, "state": "absent"} for name in homes()]
    volumes = [{"name": name, "state": "absent", "force": True} for name in ("data", "fast")]
    good(converge([], jobs=jobs, volumes=volumes))


def good(done: dict[str, Any]) -> dict[str, Any]:
    assert not done["refused"] and not done["errors"], (done["refused"], done["errors"])
    return done


def job(key: str, script: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "command": ["sh", "-c", script], "state": "finished", **more}


def ran(one: dict[str, Any], **lists: Any) -> dict[str, Any]:
    done = good(converge([], jobs=[one], **lists))
    shown: dict[str, Any] = done["shown"]["jobs[0] (%s)" % one["id"]]
    return {**shown, "actions": done["actions"]}


def test_a_job_runs_once_and_is_told_again() -> None:
    before = left()
    one = job("first", "echo out; echo err >&2; echo $JOB_ID $JOB_VOLUMES_COUNT; date +%s%N")
    shown = ran(one)
    assert (shown["rc"], shown["state"], shown["result"]) == (0, "finished", "success")
    assert shown["stdout"].startswith("out\nfirst 0\n") and shown["stderr"] == "err\n"
    again = ran(one)
    assert again["actions"] == [] and again["stdout"] == shown["stdout"]
    assert ran({"id": "first", "state": "finished"})["stdout"] == shown["stdout"], "its id is enough"
    assert left() == before
    ports = _kinds.ports(["jobs"])
    (told,) = resource.gather({"id": None}, ports)["jobs"]
    assert told == {name: value for name, value in shown.items() if name != "actions"}
    assert (
        resource.gather({"id": "first"}, ports)["jobs"] == [told] and not resource.gather({"id": "none"}, ports)["jobs"]
    )
    other = converge([], jobs=[{**one, "command": ["true"]}])
    assert [error["code"] for error in other["refused"]] == ["conflict"]


def test_a_job_has_its_volumes_and_nothing_else() -> None:
    """Two volumes, of which one is memory; what the job could see and write is told by the job, and by the host."""
    good(converge([], volumes=[{"name": "data", "size": "8MiB", "owner": "65534"}]))
    before = left()
    script = """
    id -u; pwd; echo $(ls /) ; echo $(ls /volumes); echo $JOB_VOLUMES_COUNT $JOB_VOLUME_0 $JOB_VOLUME_1
    echo data > /volumes/data/file; echo fast > /elsewhere/file; cat /volumes/data/file /elsewhere/file
    for place in /work /tmp /volumes/data /elsewhere; do
        dd if=/dev/zero of=$place/full bs=64k 2> /dev/null; stat -c '%s' $place/full; rm $place/full
    done
    n=0; while touch /work/$n; do n=$((n + 1)); done 2> /dev/null; echo $n
    n=0; while touch /volumes/data/$n; do n=$((n + 1)); done 2> /dev/null; echo $n; rm /volumes/data/[0-9]*
    grep -c . /proc/self/mountinfo; grep -E 'data|elsewhere' /proc/self/mountinfo
    """
    volumes = [{"name": "data"}, {"name": "fast", "path": "/elsewhere"}]
    fast = {"name": "fast", "type": "memory", "size": "2MiB", "owner": "65534"}
    shown = ran(job("both", script, volumes=volumes), volumes=[fast])
    lines = shown["stdout"].split("\n")
    assert lines[:2] == ["65534", "/work"]
    assert lines[2] == "bin dev elsewhere etc lib lib64 proc root run sys tmp usr var volumes work"
    assert lines[3:7] == ["data", "2 data fast", "data", "fast"]
    work, tmp, data, memory = map(int, lines[7:11])
    assert work == tmp == MIB and memory == 2 * MIB - 4096 and 5 * MIB < data < 8 * MIB
    assert 32 <= int(lines[11]) < 64, "inodes of /work"
    assert 1000 < int(lines[12]) < 8192, "inodes of the volume"
    for line in lines[14:16]:
        assert "nosuid,nodev" in line, line
    assert left() == before, "the memory volume is gone"
    image = BASE + "/volumes/default/data.img"
    assert sh(["debugfs", "-R", "cat /file", image]) == "data\n", "the other one is there"


# Each is a way out that root has in a plain chroot(2): what it prints there is what it reached.
ESCAPES = {
    "the root above": """
import os
fd = os.open("/", os.O_RDONLY)
os.makedirs("/tmp/in", exist_ok=True)
os.chroot("/tmp/in")
os.fchdir(fd)
for _n in range(64):
    os.chdir("..")
os.chroot(".")
assert os.path.exists("/mark-of-the-host")
""",
    "a mount": """
import ctypes
assert ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0
assert ctypes.CDLL(None).umount2(b"/tmp", 2) == 0
""",
    "a disk": """
import os
os.mknod("/tmp/disk", 0o600 | 0o060000, DEVICE)
os.pread(os.open("/tmp/disk", os.O_RDONLY), 16, 0)
""",
    "a process": """
import os
os.kill(PROCESS, 0)
""",
    "what runs": """
import os
running = [open("/proc/%s/cmdline" % n, "rb").read() for n in os.listdir("/proc") if n.isdigit()]
assert any(b"of-another-" + b"process" in line for line in running)
""",
    "the root of a process": """
import os
assert os.path.exists("/proc/%d/root/mark-of-the-host" % PROCESS)
""",
    "a namespace": """
import ctypes
assert ctypes.CDLL(None).unshare(0x00020000) == 0
""",
    "a knob of the kernel": """
open("/proc/sys/kernel/core_pattern", "r+").close()
""",
    "sysfs": """
import os
assert os.listdir("/sys/kernel")
""",
    "a program of root": """
import os
open("/tmp/suid", "w").close()
os.chmod("/tmp/suid", 0o4755)
assert os.stat("/tmp/suid").st_mode & 0o4000
""",
    "another project": """
import fcntl, os, struct
fd = os.open("/volumes/data/charged", os.O_RDWR | os.O_CREAT)
had = bytearray(fcntl.ioctl(fd, 0x801C581F, bytes(28)))
struct.pack_into("I", had, 12, struct.unpack_from("I", had, 12)[0] + 1)
fcntl.ioctl(fd, 0x401C5820, bytes(had))
""",
    "the clock": """
import time
time.clock_settime(time.CLOCK_REALTIME, time.time())
""",
}
TRIES = """
import os, sys
DEVICE, PROCESS = %d, %d
for name, code in %r.items():
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(2)
        try:
            exec(code)
        except BaseException as error:
            print(name, type(error).__name__, flush=True)
            os._exit(1)
        print(name, "reached", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
PLAIN = """
set -e
mkdir -p /srv/plain/usr /srv/plain/proc /srv/plain/sys /srv/plain/tmp /srv/plain/volumes/data
ln -sfn usr/bin /srv/plain/bin; ln -sfn usr/lib /srv/plain/lib; ln -sfn usr/lib64 /srv/plain/lib64
mount --bind /usr /srv/plain/usr; mount --bind "$1" /srv/plain/volumes/data
mount -t proc proc /srv/plain/proc; mount -t sysfs sysfs /srv/plain/sys
exec chroot /srv/plain /usr/bin/python3 -c "$2"
"""


def test_nothing_is_reached_from_a_job_that_is_from_a_plain_chroot() -> None:
    volume = {"name": "data", "size": "300MiB", "fstype": "xfs", "owner": "0"}
    place = "/mnt/escapes"
    with open("/mark-of-the-host", "w", encoding="utf-8"):
        pass
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600; : of-another-process"]) as process:
        try:
            disk = os.stat(os.path.realpath("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1")).st_rdev
            tries = TRIES % (disk, process.pid, ESCAPES)
            good(converge([], volumes=[{**volume, "state": "attached", "target": place}]))
            plain = sh(["unshare", "--mount", "sh", "-c", PLAIN, "sh", place, tries]).splitlines()
            assert plain == [name + " reached" for name in ESCAPES], "or it is no escape"
            good(converge([], volumes=[{**volume, "state": "detached"}]))
            before = left()
            one = {"id": "out", "command": ["python3", "-c", tries], "user": "0", "rootfs": "/", "state": "finished"}
            shown = ran({**one, "volumes": [{"name": "data"}]})
            print(shown["stdout"], shown["stderr"])
            said = shown["stdout"].splitlines()
            assert [line.rpartition(" ")[0] for line in said] == list(ESCAPES), shown
            assert [line for line in said if line.endswith(" reached")] == []
            assert left() == before
        finally:
            process.kill()
            os.unlink("/mark-of-the-host")


def test_a_job_that_fails_says_how() -> None:
    said = {
        "exit 7": (7, "exit-code"),
        "sh -c 'kill -9 $$'; exit $?": (137, "exit-code"),
        "trap 'exit 9' TERM; sleep 120 & wait": (9, "timeout"),
        "trap '' TERM; sleep 120": (137, "timeout"),
        "exec /nowhere": (127, "exit-code"),
    }
    short = {"timeout": 40}  # only where it is to be over; a very busy guest takes longer than 15 until the trap is set
    jobs = [
        job("fails-%d" % n, script, **(short if said[script][1] == "timeout" else {})) for n, script in enumerate(said)
    ]
    jobs.append({"id": "no-program", "command": ["/no/such/program"], "state": "finished"})
    done = converge([], jobs=jobs)
    assert not done["refused"]
    found = [(error["code"], error["details"]["rc"], error["details"]["result"]) for error in done["errors"]]
    assert found == [("failed", *each) for each in said.values()] + [("failed", 203, "exit-code")]
    quiet = {**jobs[0], "state": "started"}
    assert good(converge([], jobs=[quiet]))["actions"] == [], "told once, and no reason to fail who does not ask"


def test_what_a_job_says_is_bounded() -> None:
    script = "dd if=/dev/zero bs=1024 count=64 2> /dev/null | tr '\\0' x; true"
    shown = ran(job("loud", script, output_max="16KiB"))
    assert shown["stderr"] == "" and shown["stdout"] == "x" * 16384, (
        "of the 32 KiB that there was room for, as much as is kept"
    )
    good(converge([], jobs=[{"id": "loud", "state": "absent"}]))


def test_a_job_is_told_its_words_as_they_are() -> None:
    """No word is a specifier, a variable or two words to systemd."""
    words = [
        "%n",
        "$HOME",
        "${HOME}",
        "a b",
        'q"q',
        "q'q",
        "back\\slash",
        "line\nline",
        "",
        ";",
        "t\tt",
        "\u00e9",
        "%%",
        "#",
    ]
    print_all = "for word; do printf '<%s>' \"$word\"; done; printf '<%s>' \"$SAID\"; cat"
    one = {"id": "words", "command": ["sh", "-c", print_all, "sh", *words], "state": "finished"}
    value = 'a "b" $HOME `x` \\ %n\nnext\u00e9'
    shown = ran({**one, "environment": {"SAID": value}, "stdin": "in %n $HOME\n"})
    assert shown["stdout"] == "".join("<%s>" % word for word in [*words, value]) + "in %n $HOME\n"


def test_volumes_are_protected_while_a_job_has_them() -> None:
    volume = {"name": "data", "size": "4MiB", "owner": "65534"}
    long = {"id": "long", "command": ["sleep", "600"], "volumes": [{"name": "data", "read_only": True}]}
    good(converge([], volumes=[volume], jobs=[long]))
    assert "ro,nosuid,nodev" in [line for line in table().splitlines() if "bulkhead-jobs/long/default/data" in line][0]
    refused = converge([], volumes=[{"name": "data", "state": "absent"}])["refused"]
    assert [(error["code"], error["details"]["users"]) for error in refused] == [("in_use", ["long"])]
    refused = converge([], jobs=[{**long, "id": "other", "volumes": [{"name": "missing"}]}])["refused"]
    assert [error["code"] for error in refused] == ["not_found"]
    done = good(converge([], volumes=[{"name": "data", "state": "absent"}], jobs=[{"id": "long", "state": "absent"}]))
    assert (done["actions"][0]["port"], done["actions"][0]["verb"]) == ("job", "remove")
    assert "bulkhead-job-long" not in left()["units"]


def test_a_job_is_held_to_its_limits() -> None:
    """What the kernel was told is in the job's cgroup; how long it took is told by the job."""
    good(converge([], volumes=[{"name": "data", "size": "16MiB", "owner": "65534"}]))
    data = [{"name": "data"}]
    script = "time -p dd if=/dev/zero of=/volumes/data/f bs=1M count=4 conv=fsync"
    quick = ran(job("quick", script, volumes=data))
    slow = ran(job("slow", script, volumes=data, io={"write_bps": "1MiB", "read_iops": 1000}))
    took = [float(said["stderr"].split("real ")[1].split()[0]) for said in (quick, slow)]
    assert took[0] < 2.5 and 3.0 < took[1] < 8, took
    good(converge([], jobs=[job("runs", "sleep 1000", volumes=data, io={"write_bps": "1MiB"}, state="started")]))
    loop = sh(["findmnt", "-nvo", "MAJ:MIN", BASE + "/volumes/default/data"]).strip()
    limits = "/sys/fs/cgroup/bulkhead.slice/bulkhead-jobs.slice/bulkhead-job-runs.service/io.max"
    with open(limits, encoding="ascii") as stream:
        assert stream.read() == "%s rbps=max wbps=1048576 riops=max wiops=max\n" % loop
    assert jobio.held("runs") is None
    with open(limits, "w", encoding="ascii") as stream:
        stream.write(loop + " wbps=max")
    wrong = jobio.held("runs")
    assert wrong is not None and wrong.code == "not_enforced" and "without a limit, not 1048576" in wrong.message
    # a disk of its own, though it has no volume
    disk = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
    good(converge([], jobs=[job("named", "sleep 1000", io={"device": disk, "read_bps": "2MiB"}, state="started")]))
    with open(limits.replace("-runs", "-named"), encoding="ascii") as stream:
        assert stream.read().endswith(" rbps=2097152 wbps=max riops=max wiops=max\n")


@pytest.mark.parametrize(
    "io, code, says",
    [
        ({"write_bps": "1MiB"}, "not_enforced", "no volume of the job lies on a disk"),
        ({"write_bps": "1MiB", "path": "/run"}, "not_enforced", "/run lies on no block device"),
        ({"write_bps": "1MiB", "path": "/nowhere"}, "not_found", "/nowhere"),
        ({"write_bps": "1MiB", "device": "/dev/sdb"}, "unstable_device", "/dev/sdb"),
        ({"weight": 10, "path": "/"}, "not_enforced", "by no weight"),
    ],
)
def test_a_limit_that_nobody_would_keep_is_refused(io: dict[str, Any], code: str, says: str) -> None:
    fast = {"name": "fast", "type": "memory", "size": "1MiB"}
    good(converge([], volumes=[fast]))
    before = left()
    done = converge([], jobs=[job("one", "true", volumes=[{"name": "fast"}], io=io)])
    errors = done["refused"] + done["errors"]
    assert [error["code"] for error in errors] == [code] and says in errors[0]["message"], errors
    assert left() == before and homes() == [], "nothing stays attached for a job that does not run"
    assert volumes_left() == [("fast", [])]


def cleanup(*words: str) -> tuple[int, str]:
    """As the timer runs it: one file, and Python's own library."""
    with open("/run/cleanup.py", "w", encoding="utf-8") as stream:
        stream.write(_shipped.program("_cleanup"))
    argv = [sys.executable, "-I", "-S", "-B", "/run/cleanup.py", *words]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def volumes_left() -> list[tuple[str, list[str]]]:
    found = volume_resource.gather(dict.fromkeys(volume_resource.FILTERS), _kinds.ports(["volumes"]))["volumes"]
    return sorted((row["name"], row["job_ids"]) for row in found)


def test_what_a_job_left_is_cleaned_up_without_a_call() -> None:
    fast = {"name": "fast", "type": "memory", "size": "1MiB", "owner": "65534"}
    good(converge([], volumes=[{"name": "data", "size": "8MiB", "owner": "65534"}, fast]))
    before = left()
    assert cleanup() == (0, ""), "nothing to do"
    both = [{"name": "data"}, {"name": "fast"}]
    good(converge([], jobs=[job("ends", "read go; echo said", stdin="go\n", volumes=both, state="started")]))
    good(converge([], jobs=[job("runs", "sleep 1000", volumes=[{"name": "data"}], state="started")]))
    until = time.monotonic() + 30
    while not os.path.exists(BASE + "/jobs/ends/result") and time.monotonic() < until:
        time.sleep(0.1)
    assert volumes_left() == [("data", ["ends", "runs"]), ("fast", ["ends"])]
    with Lock():
        status, text = cleanup("--lock-timeout", "0")
        assert status == 75 and text.startswith("locked: "), text
    status, text = cleanup("--memory-volume-timeout", "3600")
    assert status == 0 and "job (ends) (volume default/fast): remove mount /run/bulkhead-jobs/" in text, text
    assert volumes_left() == [("data", ["runs"]), ("fast", [])]
    assert ran({"id": "ends", "state": "finished"})["stdout"] == "said\n"
    # what nobody uses any more; what others attached is theirs; what a job had that nobody knows is nobody's
    good(converge([], jobs=[{"id": "runs", "state": "absent"}]))
    assert left() == before
    theirs = {"name": "data", "state": "attached", "job": "theirs", "target": "/mnt/theirs"}
    ghost = {"name": "data", "state": "attached", "job": "ghost", "target": "/run/bulkhead-jobs/ghost/default/data"}
    good(converge([], volumes=[theirs]))
    good(converge([], volumes=[ghost]))
    time.sleep(1.1)
    assert cleanup("--memory-volume-timeout", "1")[0] == 0
    assert volumes_left() == [("data", ["theirs"])]
    assert sh(["findmnt", "-no", "TARGET", "/mnt/theirs"]) == "/mnt/theirs\n"


def test_what_another_run_has_half_made_is_not_cleaned_up() -> None:
    """A volume is recorded as a job's before the job is: the cleanup looks again when nobody else is at work."""
    good(converge([], volumes=[{"name": "data", "size": "8MiB", "owner": "65534"}]))
    place = "/run/bulkhead-jobs/new/default/data"
    good(converge([], volumes=[{"name": "data", "state": "attached", "job": "new", "target": place}]))
    written = _shipped.program("_cleanup")
    with open("/run/cleanup.py", "w", encoding="utf-8") as stream:
        stream.write(written)
    with Lock():
        waiting = subprocess.Popen([sys.executable, "-I", "-B", "/run/cleanup.py"], stdout=-1, stderr=-2)
        time.sleep(5)
        assert waiting.poll() is None, "it has something to do, and waits"
        Record().put(("job", "new"), None, {"digest": "", "command": ["sleep"], "volumes": ["default/data"]})
    assert waiting.wait(60) == 0 and waiting.stdout is not None and waiting.stdout.read() == b""
    assert volumes_left() == [("data", ["new"])]
    Record().put(("job", "new"), Record().scan([("job", "new")])["job", "new"], None)
    assert cleanup()[0] == 0 and volumes_left() == [("data", [])]


def test_a_job_whose_end_nobody_has_written_down_can_be_removed() -> None:
    """What writes it was ended as well, as by a removal that was killed. A slow host looks at it again and again."""
    declared = job("unsaid", "sleep 600", state="started")
    good(converge([], jobs=[declared]))
    with open(BASE + "/jobs/unsaid/collect", "w", encoding="ascii") as stream:
        stream.write("exit 0\n")
    sh(["systemctl", "stop", "bulkhead-job-unsaid.service"])
    until = time.monotonic() + 60
    while sh(["systemctl", "list-units", "--plain", "--no-legend", "bulkhead-job-*unsaid.service"]):
        assert time.monotonic() < until
        time.sleep(0.1)

    def late() -> Any:
        ports = _kinds.ports(["jobs"])
        ports["job"].ending["unsaid"] = -1000.0
        return ports

    (error,) = converge([], ports=late(), jobs=[declared])["refused"]
    assert "how was not written down" in error["message"]
    good(converge([], ports=late(), jobs=[{"id": "unsaid", "state": "absent"}]))
    assert "unsaid" not in homes() and left()["folders"] == []


def test_jobs_that_are_removed_end_at_the_same_time() -> None:
    """A job that does not handle SIGTERM takes ten seconds; many of them take no longer."""
    good(converge([], jobs=[job(key, "sleep 1000", state="started") for key in ("one", "two", "three")]))
    ports, calls = _kinds.ports(["jobs"]), []

    def run(argv: list[str], *more: Any, **options: Any) -> Any:
        calls.append(argv)
        return program.execute(argv, *more, **options)

    ports["job"].run = run
    good(converge([], ports=ports, jobs=[{"id": key, "state": "absent"} for key in ("one", "two")]))
    assert [argv[:3] for argv in calls].count(["systemctl", "stop", "--no-block"]) == 1
    assert sorted(calls[0][3:]) == ["bulkhead-job-one.service", "bulkhead-job-two.service"]
    assert homes() == ["three"], "another one goes on"
    assert sh(["systemctl", "is-active", "bulkhead-job-three.service"]) == "active\n"


def test_what_cannot_be_cleaned_up_keeps_nothing_else() -> None:
    fast = {"name": "fast", "type": "memory", "size": "1MiB", "owner": "65534"}
    good(converge([], volumes=[{"name": "data", "size": "8MiB", "owner": "65534"}, fast]))
    good(converge([], jobs=[job("one", "true", volumes=[{"name": "data"}], state="started")]))
    good(converge([], jobs=[job("two", "true", volumes=[{"name": "fast"}], state="started")]))
    place = "/run/bulkhead-jobs/one/default/data"
    until = time.monotonic() + 30
    while not os.path.exists(BASE + "/jobs/two/result") and time.monotonic() < until:
        time.sleep(0.1)
    with open(place + "/busy", "w", encoding="utf-8"):
        status, text = cleanup()
        assert status == 1 and "in_use: " in text and place in text, text
        assert volumes_left() == [("data", ["one"]), ("fast", [])]
    assert cleanup()[0] == 0
    assert volumes_left() == [("data", []), ("fast", [])]


def test_whatever_is_killed_nothing_is_leaked() -> None:
    """Runs and jobs are killed at random; the next run converges, and removal leaves the host as it was."""
    soak = "BULKHEAD_SOAK" in os.environ
    count, few, rounds = (200, 50, 20) if soak else (8, 4, 2)
    dice = random.Random(20261121)
    size = {"size": "1MiB", "owner": "65534"}
    volumes = [{"name": "v%d" % n, **size, **({"type": "memory"} if n % 4 else {})} for n in range(count)]
    jobs = []
    for n in range(few):
        mine = [{"name": "v%d" % (n + few * turn)} for turn in range(count // few)]
        jobs.append({"id": "j%d" % n, "command": ["sleep", "600"], "volumes": mine, "state": "started"})
    before = left()
    kills = 0
    try:
        for turn in range(rounds):
            start = time.monotonic()
            child = os.fork()
            if not child:
                try:
                    converge([], volumes=volumes, jobs=jobs)
                finally:
                    os._exit(0)
            time.sleep(dice.uniform(0.5, 40.0 if soak else 12.0))
            os.kill(child, signal.SIGKILL)
            kills += os.waitpid(child, 0)[1] == signal.SIGKILL
            for n in dice.sample(range(few), few // 4):
                unit = "bulkhead-job-j%d.service" % n
                subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=False, capture_output=True)
            done = good(converge([], volumes=volumes, jobs=jobs))
            running = sh(["systemctl", "list-units", "--plain", "--no-legend", "bulkhead-job-j*.service"]).split("\n")
            assert len(running) - 1 >= few - few // 4 * (turn + 1), running
            gone = {
                "volumes": [{**v, "state": "absent"} for v in volumes],
                "jobs": [{"id": j["id"], "state": "absent"} for j in jobs],
            }
            child = os.fork()
            if not child:
                try:
                    converge([], **gone)
                finally:
                    os._exit(0)
            time.sleep(dice.uniform(0.5, 20.0 if soak else 6.0))
            os.kill(child, signal.SIGKILL)
            kills += os.waitpid(child, 0)[1] == signal.SIGKILL
            good(converge([], **gone))
            assert left() == before and homes() == [], "round %d" % turn
            print("round %d: %.1f s, %d actions" % (turn, time.monotonic() - start, len(done["actions"])), flush=True)
    finally:
        good(converge([], volumes=[{**v, "state": "absent", "force": True} for v in volumes]))
    assert kills, "every run was through before it was to be killed"
