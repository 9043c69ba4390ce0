# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random cases for ``worlds``: what stands there, what is declared over it, what happens in between.

Few names, so that things meet: a file where a directory should be, a mount on the target, a volume of an earlier run.
Most of what is declared is valid; some of it contradicts itself or the world.
"""

from __future__ import annotations

import random
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.tests.support.worlds import IMAGES, MIB

Move = dict[str, Any]
NAMES = ("a", "a", "a", "b", "b", "c", "x y", "é", "#h", "t\\040", "-f", "'q")
MODES = ("0755", "0750", "0700", "2770", "1777", "0711", "0555", "0000")
OWNERS = ("0", "0", "1000", "1001", "daemon", "nobody")
ACLS = (["u:1001:rwx"], ["u:1001:r-x", "g:1002:rwX"], ["g:daemon:r--"], ["u:1000:---"], [])
SIZES = ("64KiB", "1MiB", "4096", "100KB", "2MiB", "5000")
FLAGS = ("nosuid", "nodev", "noexec", "noatime", "ro", "relatime", "nodiratime", "strictatime")


def case(seed: int) -> Move:
    return Maker(random.Random(seed)).case()


class Maker:
    def __init__(self, chance: random.Random) -> None:
        self.r = chance
        self.images: list[tuple[str, str]] = []  # and what they hold
        self.pools: list[str] = []
        self.folders: list[str] = []  # that stand there, or may

    def case(self) -> Move:
        srv = self.r.choices(("tmpfs", "plain", "simple", "full", "ext4"), (40, 15, 25, 10, 10))[0]
        self.btrfs = srv in ("plain", "simple", "full")
        moves = [self._image_made() for _move in range(self.r.choice((0, 0, 1, 2)))]
        moves += [self._deed() for _move in range(self.r.choice((0, 1, 2, 3, 5, 8)))]
        for turn in range(self.r.choice((1, 1, 1, 2, 2, 3))):
            if turn and self.r.random() < 0.5:
                moves += [self._deed() for _move in range(self.r.choice((1, 1, 2)))]
            move: Move = {"declare": self._document(), "plain": self.r.random() < 0.15}
            if self.r.random() < 0.12:
                move["kill"] = self.r.randint(1, 8)
            moves.append(move)
            if turn == 0 and self.r.random() < 0.25:  # the same, with all of it gone
                moves.append({"declare": self._gone(moves[-1]["declare"]), "undoes": True})
        return {"srv": srv, "moves": moves}

    def _path(self, deepest: int = 3) -> str:
        parts = [self.r.choice(NAMES) for _part in range(self.r.choice((1, 1, 1, 2, 2, deepest)))]
        return "/".join([self.r.choice(("/srv", "/srv", "/mnt")), *parts])

    def _folder(self) -> str:
        """One that is likely to be there."""
        return self.r.choice([*self.folders, "/srv", "/mnt"]) if self._rare(0.8) else self._path(2)

    def _some(self, *values: Any) -> Any:
        return self.r.choice(values)

    def _rare(self, chance: float = 0.1) -> bool:
        return self.r.random() < chance

    # -- what stands there ---------------------------------------------------------------------------------------

    def _deed(self) -> Move:
        path = self._path()
        deeds: list[tuple[int, Move]] = [
            (9, {"do": "dir", "path": path, "mode": int(self.r.choice(MODES), 8), "uid": self._some(0, 0, 1000)}),
            (3, {"do": "dir", "path": path, "acl": "u:1001:rwx,g:1002:r-x", "default_acl": "u:1001:rwx"}),
            (3, {"do": "dir", "path": path, "mode": 0o2770, "gid": 1000, "acl": "m::r-x,u:1001:rwx"}),
            (4, {"do": "file", "path": path, "size": self._some(0, 1, 5000)}),
            (8 * self.btrfs, {"do": "subvolume", "path": path}),
            (3 * self.btrfs, {"do": "limit", "path": path, "size": self._some(MIB, 16 * MIB)}),
            (3, {"do": "symlink", "path": path, "to": self._some("/srv/a", "/mnt/b", "b", "/etc", "/nowhere", ".")}),
            (2, {"do": "odd", "path": path, "what": self._some("fifo", "socket", "device")}),
            (6, {"do": "tmpfs", "path": path, **self._foreign_tmpfs()}),
            (4, {"do": "bind", "path": path, "source": self._path(), "flags": self._some(0, 1, 6, 8)}),
            (1, {"do": "shared", "path": path}),
            (4, {"do": "fstab", "text": self._fstab_text(path)}),
            (5, self._image_made()),
            (
                3,
                {
                    "do": "image mount",
                    "path": path,
                    "image": self._image()[0],
                    "options": self._some("", ",ro", ",nosuid"),
                },
            ),
            (3, {"do": "umount", "path": path, "lazy": self._rare()}),
            (3, {"do": "busy", "path": path}),
            (3, {"do": "remove", "path": path}),
            (3, {"do": "chmod", "path": path, "mode": int(self.r.choice(MODES), 8)}),
            (1, {"do": "immutable", "path": path}),
            (1, {"do": "frozen", "path": path}),
            (2, {"do": "full", "path": path}),
        ]
        deed = self.r.choices([deed for _weight, deed in deeds], [weight for weight, _deed in deeds])[0]
        if deed["do"] in ("dir", "subvolume", "tmpfs"):
            self.folders.append(path)
        return deed

    def _foreign_tmpfs(self) -> Move:
        options = self._some(
            "", "size=64k", "size=1m,nr_inodes=64", "size=4k,nr_inodes=2", "mode=0700,uid=1000", "size=0"
        )
        return {"options": options, "flags": self._some(0, 0, 1, 6, 14), "source": self._some("tmpfs", "other thing")}

    def _fstab_text(self, path: str) -> str:
        plain = path.replace("\\", "\\134").replace(" ", "\\040")
        return self._some(
            "tmpfs\t%s  tmpfs\tsize=65536,nosuid 0 0\n" % plain,
            "# a comment about %s\n\n" % plain,
            "/srv/a %s none bind 0 0" % plain,
            "UUID=1234-ABCD %s vfat defaults,noauto\n" % plain,
            "tmpfs %s tmpfs defaults 0 0\r\n" % plain,
            "one two\n",
            "tmpfs %s tmpfs defaults x y\n" % plain,
        )

    def _image_made(self) -> Move:
        path = "%s/%s.img" % (IMAGES, self._some("a", "b", "c"))
        what = self.r.choices(("blank", "ext4", "vfat", "btrfs", "xfs", "swap", "noise"), (8, 8, 2, 1, 2, 1, 2))[0]
        self.images.append((path, what))
        return {
            "do": "image",
            "path": path,
            "what": what,
            "size": self._some(0, MIB, 16 * MIB),
            "more": self._some(0, 0, MIB),
        }

    def _image(self) -> tuple[str, str]:
        """One that is there, or not, and what it holds."""
        return self.r.choice(self.images or [(IMAGES + "/a.img", "ext4")])

    # -- what is declared ----------------------------------------------------------------------------------------

    def _document(self) -> Move:
        document: Move = {}
        makers = {
            "trees": (8, self._tree), "tmpfs": (6, self._tmpfs), "mounts": (6, self._mount),
            "quotas": (5 if self.btrfs else 0.3, self._quota),
            "filesystems": (3 if self.images else 0.3, self._filesystem),
            "pools": (3, self._pool), "volumes": (5, self._volume),
        }  # fmt: skip
        taken: set[Any] = set()
        for _entry in range(self.r.choice((1, 1, 2, 2, 3, 4, 6))):
            kind = self.r.choices(list(makers), [weight for weight, _make in makers.values()])[0]
            entry = makers[kind][1]()
            key = entry.get("root", entry.get("device", entry.get("path", (kind, entry.get("name")))))
            if key not in taken or self._rare(0.03):  # the same thing twice is a conflict
                document.setdefault(kind, []).append(entry)
                taken.add(key)
        if self._rare(0.06):
            document["state"] = "absent"
        if self._rare(0.01):
            document["gadgets"] = []
        return document

    def _given(self, **options: tuple[float, Any]) -> Move:
        return {name: value for name, (chance, value) in options.items() if self.r.random() < chance}

    def _tree(self) -> Move:
        root = self._path(2) if self._rare(0.7) else self._folder() if self._rare(0.5) else self._some("/srv", "/mnt/")
        if self._rare(0.02):
            root = self._some("/srv/./a", "srv", "/srv/../etc/x", "/srv//a")
        entries = [self._entry() for _entry in range(self.r.choice((1, 1, 2, 3)))]
        self.folders += ["%s/%s" % (root, entry["path"]) for entry in entries]
        tree: Move = {"root": root, "entries": entries}
        if self._rare(0.15):
            tree.update(state="absent", **self._given(confirm=(0.4, root)))
        return tree

    def _entry(self) -> Move:
        path = "/".join(self.r.choice(NAMES) for _part in range(self.r.choice((1, 1, 2))))
        entry: Move = {"path": "." if self._rare() else path}
        kind = self.r.choices(("directory", "subvolume", "absent"), (80, 12 if self.btrfs else 2, 8))[0]
        if kind != "directory":
            entry["type"] = kind
        return {**entry, **self._given(
            mode=(0.5, self.r.choice(MODES)), owner=(0.3, self.r.choice(OWNERS)),
            group=(0.3, self.r.choice(OWNERS[:-1])),
            acl=(0.25, self.r.choice(ACLS)), default_acl=(0.2, self.r.choice(ACLS)),
        ), **({"owner": "ghost"} if self._rare(0.01) else {})}  # fmt: skip

    def _tmpfs(self) -> Move:
        path = self._path()
        self.folders += [path, path]  # so that it is bound elsewhere, or made a tree of
        return {"path": path, "size": self.r.choice(SIZES), **self._given(
            inodes=(0.3, self._some(2, 64, 1000)), mode=(0.3, self.r.choice(MODES)), owner=(0.2, self.r.choice(OWNERS)),
            group=(0.2, "1000"), noexec=(0.2, False),
            options=(0.2, [self._some("ro", "noatime", "nosuid", "exec", "x-a=b")]),
            persist=(0.4, "none"), state=(0.25, self._some("absent", "unmounted", "mounted")),
        )}  # fmt: skip

    def _mount(self) -> Move:
        common = self._given(
            options=(0.5, self.r.sample(FLAGS, self.r.choice((1, 1, 2)))), read_only=(0.15, self._some(True, False)),
            on_drift=(0.2, self._some("fail", "replace", "remount")), persist=(0.3, "none"), nofail=(0.1, True),
            state=(0.3, self._some("absent", "unmounted", "present", "mounted")),
        )  # fmt: skip
        if self._rare(0.65) or not self.images and self._rare(0.9):
            more = self._given(recursive=(0.2, True), propagation=(0.15, self._some("private", "slave", "shared")))
            return {"path": self._path(), "source": self._folder(), "bind": True, **more, **common}
        image, what = self._image()
        fstype = what if what in ("ext4", "xfs", "btrfs") and self._rare(0.9) else self._some("ext4", "xfs", "vfat")
        return {"path": self._path(), "source": image, "fstype": fstype, **common}

    def _quota(self) -> Move:
        path = self._path(2) if self._rare(0.2) else self._subvolume()
        return {"path": path, "hard": self._some("1MiB", "16MiB", "64KiB", "none"), **self._given(
            soft=(0.05, "1MiB"), parent=(0.12, self._subvolume()), state=(0.15, "absent"),
            kind=(0.03, "user"), inodes_hard=(0.03, "100"),
        )}  # fmt: skip

    def _subvolume(self) -> str:
        return self.r.choice([path for path in self.folders if path[:5] == "/srv/"] or ["/srv/a"])

    def _filesystem(self) -> Move:
        fstype = self.r.choices(("ext4", "vfat", "swap", "btrfs", "xfs"), (10, 2, 2, 1, 1))[0]
        device = self._image()[0] if self._rare(0.9) else self._path(1)
        return {"device": device, "fstype": fstype, **self._given(
            label=(0.4, self._some("DATA", "data", "A B", "x" * 17)), grow=(0.2, False), quota=(0.1, ["project"]),
            features=(0.1, [self._some("mmp", "metadata_csum", "verity", "bigtime")]), state=(0.1, "absent"),
            uuid=(0.1, "01234567-89ab-cdef-0123-456789abcdef"),
        )}  # fmt: skip

    def _pool(self) -> Move:
        name = self._some("p1", "p1", "p2")
        backend = self.r.choices(("loop", "auto", "btrfs", "memory", "directory", "lvm"), (30, 20, 20, 5, 3, 1))[0]
        backend = self._some("loop", "auto") if backend == "btrfs" and not self.btrfs else backend
        self.pools.append(name)
        pool: Move = {"name": name, "backend": backend}
        if backend != "memory":
            pool["config"] = {"path": self._some("/srv/%s" % name, "/srv/%s" % name, self._path(2))}
        pool.update(self._given(
            max_volume_size=(0.1, "8MiB"), max_volumes_per_namespace=(0.1, 1), overcommit=(0.1, self._some(1.0, 1.5)),
            confirm=(0.15, name), state=(0.15, "absent"),
        ))  # fmt: skip
        return pool

    def _volume(self) -> Move:
        volume: Move = {
            "name": self._some("v1", "v1", "v2", "v3"),
            "size": self._some("2MiB", "8MiB", "8MiB", "12MiB", "64KiB"),
        }
        volume.update(self._given(
            pool=(0.75 if self.pools else 0.1, self.r.choice(self.pools or ["p1"])), target=(0.4, self._path(2)),
            namespace=(0.15, "n1"), type=(0.3, self._some("memory", "filesystem")),
            state=(0.7, self._some("attached", "attached", "detached", "present", "absent")),
            job=(0.3, self._some("j1", "j2")), owner=(0.2, self.r.choice(OWNERS)), mode=(0.2, self.r.choice(MODES)),
            read_only=(0.15, True), force=(0.3, True), allow_shrink=(0.3, True), scope=(0.15, "host"),
            sharing=(0.15, self._some("exclusive", "read_only", "read_write")), labels=(0.1, {"a": "b"}),
            fstype=(0.08, self._some("ext4", "xfs")), provisioning=(0.06, "thick"),
            source=(0.12, {"type": "clone", "name": self._some("v1", "v2")}),
        ))  # fmt: skip
        if volume.get("type") == "memory" and self._rare(0.9):
            volume.pop("pool", None)
            volume.pop("source", None)
            volume.pop("fstype", None)
        return volume

    def _gone(self, document: Move) -> Move:
        return gone(document, self._rare(0.8))


def gone(document: Move, consenting: bool = True) -> Move:
    """The same declaration with everything absent. A filesystem stays: what would consent is known on refusal only."""
    out: Move = {"state": "absent"}
    for kind, entries in document.items():
        if isinstance(entries, list) and kind != "filesystems":
            out[kind] = [_absent(kind, entry, consenting) for entry in entries]
    return out


def _absent(kind: str, entry: Move, consenting: bool) -> Move:
    keys = {
        "trees": ("root", "entries"),
        "tmpfs": ("path", "persist"),
        "mounts": ("path", "persist"),
        "quotas": ("path",),
    }
    kept = {key: entry[key] for key in keys.get(kind, ("name", "namespace")) if key in entry}
    if kind == "pools" and consenting:
        kept["confirm"] = entry["name"]
    if kind == "volumes":
        kept["force"] = consenting
    return kept


def succession(seed: int) -> Move:
    """Two declarations, of which the second says everything of what it names: the first makes no difference to it."""
    maker = Maker(random.Random(seed))
    srv = maker.r.choices(("tmpfs", "plain", "simple", "ext4"), (40, 15, 35, 10))[0]
    maker.btrfs = srv in ("plain", "simple")
    images = [maker._image_made() for _move in range(maker.r.choice((0, 1, 2)))]
    first, last = maker._document(), maker._document()
    for document in (first, last):
        document.pop("gadgets", None)
    return {"srv": srv, "images": images, "first": first, "last": complete(last)}


def complete(document: Move) -> Move:
    """The same with every option that could stay as somebody else has left it."""
    rights = {"mode": "0755", "owner": "0", "group": "0"}
    said: Move = {**document}
    for tree in said.get("trees", ()):
        for entry in tree["entries"]:
            entry.update({**rights, "acl": [], "default_acl": [], **entry})
    for entry in said.get("tmpfs", ()):
        entry.update({**rights, "inodes": 64, "noexec": True, "options": [], **entry})
        entry["options"] = _all_flags(entry["options"], ("suid", "dev", "exec"))
    for entry in said.get("mounts", ()):
        entry.update({"options": [], "on_drift": "replace", "propagation": "private", "nofail": False, **entry})
        entry["options"] = _all_flags(entry["options"])
        if entry.get("read_only") is None and not {"ro", "rw"} & set(entry["options"]):
            entry["read_only"] = False
        if entry.get("bind"):
            entry.setdefault("recursive", False)
    for entry in said.get("volumes", ()):
        entry.update({**rights, "labels": {}, **entry})
    for entry in said.get("pools", ()):
        names = ("max_volume_size", "max_volumes_per_namespace", "overcommit")
        entry.update({**dict.fromkeys(names, "none"), **entry})
    return said


def _all_flags(words: list[str], but: tuple[str, ...] = ()) -> list[str]:
    """One word of each kind of flag."""
    flags = [("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("diratime", "nodiratime")]
    kinds = [*flags, ("relatime", "noatime", "strictatime")]
    return [*words, *(kind[0] for kind in kinds if kind[0] not in but and not set(kind) & set(words))]


def smaller(case: Move) -> Iterator[Move]:
    """Cases with something less: a move, an entry, an option, a path of a tree."""
    moves = case["moves"]
    for index in reversed(range(len(moves))):
        yield {**case, "moves": moves[:index] + moves[index + 1 :]}
    if case["srv"] != "tmpfs":
        yield {**case, "srv": "tmpfs"}
    for index, move in enumerate(moves):
        for less in _less(move):
            yield {**case, "moves": [*moves[:index], less, *moves[index + 1 :]]}


def _less(move: Move) -> Iterator[Move]:
    for key in ("kill", "plain"):
        if move.get(key):
            yield {k: v for k, v in move.items() if k != key}
    document = move.get("declare", {})
    for kind, entries in document.items():
        if not isinstance(entries, list):
            yield {**move, "declare": {k: v for k, v in document.items() if k != kind}}
            continue
        for index, entry in enumerate(entries):
            rest = [*entries[:index], *entries[index + 1 :]]
            others = {k: v for k, v in document.items() if k != kind}
            yield {**move, "declare": {**others, kind: rest} if rest else others}
            for less in _less_entry(entry):
                yield {**move, "declare": {**document, kind: [*entries[:index], less, *entries[index + 1 :]]}}


def _less_entry(entry: Move) -> Iterator[Move]:
    for key, value in entry.items():
        if key == "entries":
            for index, deeper in enumerate(value):
                if len(value) > 1:
                    yield {**entry, key: value[:index] + value[index + 1 :]}
                for option in deeper:
                    if option != "path":
                        less = {k: v for k, v in deeper.items() if k != option}
                        yield {**entry, key: [*value[:index], less, *value[index + 1 :]]}
        elif key not in ("path", "root", "name", "device", "fstype", "source", "size", "backend", "hard"):
            yield {k: v for k, v in entry.items() if k != key}
