# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by tools/docs_layout.py from the documentation of the other modules. Do not edit.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description:
      - The state of all entries that do not say their own. V(absent) tears a whole stack down
        in one call, V(present) is what entries do anyway.
    type: str
    choices:
      - present
      - absent
  src:
    description:
      - A YAML or JSON file that holds the lists, instead of the task. It is read on the controller,
        and may be vaulted.
      - With O(remote_src=true) it is read on the target. YAML takes PyYAML there, otherwise
        C(missing_tool).
    type: path
  remote_src:
    description:
      - Whether O(src) is a file on the target.
    type: bool
    default: false
  purge:
    description:
      - Lists whose undeclared things are removed, as far as they are ours. A list that is purged
        must be given, if need be as an empty one.
      - Not supported yet, refused with C(unsupported).
    type: list
    elements: str
    default: []
  confirm_purge:
    description:
      - Names of the lists in O(purge) that hold data, as consent to remove what is stored.
    type: list
    elements: str
    default: []
  return_resources:
    description:
      - Whether to return what stands now, for every entry, in RV(resources).
    type: bool
    default: false
  iscsi_sessions:
    description:
      - Entries take the options of M(bulkhead.storage.iscsi_session). Log in to an iSCSI target,
        now and at boot, and find its LUNs.
    type: list
    elements: dict
    suboptions:
      target:
        description:
          - The name of the target, such as C(iqn.2026-01.org.example:disks), in lower case.
            Names that begin with C(eui.) and C(naa.) are taken too.
        type: str
        required: true
      portals:
        description:
          - Where it is served, each an address and a port, such as C(10.0.0.1:3260) or C([2001:db8::1]:3260).
            The port is 3260 when it is not given. Required when O(iscsi_sessions[].state=connected)
            or O(iscsi_sessions[].state=present).
          - With several of them the LUNs are maps of dm-multipath, C(unsupported) where no
            C(multipathd) runs.
          - A session through any other portal is ended, and its record removed.
        type: list
        elements: str
      chap:
        description:
          - How this host proves who it is, and the target with the mutual words. What the record
            says stays when this is not given.
          - New secrets are proved at every portal first. A session that stands takes them over
            without losing a disk.
        type: dict
        suboptions:
          username:
            description:
              - The name that is said, at most 255 printable characters of ASCII.
            type: str
            required: true
          password:
            description:
              - The secret that is proved to be known. Targets may refuse one of less than 12
                characters (RFC 7143 9.2.1).
            type: str
            required: true
          mutual_username:
            description:
              - The name that the target says.
            type: str
          mutual_password:
            description:
              - The secret that the target proves to know, not the same as the other one.
            type: str
      discovery_chap:
        description:
          - When it is given, a portal is asked what it offers (SendTargets) before the first
            login, with these words, and a target that is not in its list is C(not_found).
        type: dict
        suboptions:
          username:
            description:
              - The name that is said, at most 255 printable characters of ASCII.
            type: str
            required: true
          password:
            description:
              - The secret that is proved to be known. Targets may refuse one of less than 12
                characters (RFC 7143 9.2.1).
            type: str
            required: true
          mutual_username:
            description:
              - The name that the target says.
            type: str
          mutual_password:
            description:
              - The secret that the target proves to know, not the same as the other one.
            type: str
      initiator_name:
        description:
          - The name of this host, written to C(/etc/iscsi/initiatorname.iscsi). C(in_use) while
            another one is logged in.
          - One for the whole host, so entries of M(bulkhead.storage.layout) must agree. It
            stays when this is not given.
        type: str
      startup:
        description:
          - Whether the boot logs in. V(automatic) for a new record.
        type: str
        choices:
          - automatic
          - manual
      luns:
        description:
          - Numbers of LUNs, in 0..65535, that must be there. They are looked for anew when
            one is missing, and it is C(not_found) when it does not appear.
        type: list
        elements: int
      wait:
        description:
          - Seconds for the logins, and for the disks to appear, in 1..600.
        type: int
        default: 30
      state:
        description:
          - V(connected) logs in and keeps the record. V(present) keeps the record only, and
            leaves sessions as they are.
          - V(disconnected) logs out and leaves the record. V(absent) removes it too.
          - Logging out while something uses a LUN is C(in_use).
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - connected
          - disconnected
          - present
          - absent
        default: connected
  block_devices:
    description:
      - Entries take the options of M(bulkhead.storage.block_device). Divide a disk into GPT
        partitions, let them grow, set its scheduler and read-ahead.
    type: list
    elements: dict
    suboptions:
      device:
        description:
          - The disk by a stable name, such as C(/dev/disk/by-id/nvme-eui.0025388b710116a1).
          - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
          - Its partitions are C(<device>-part1) and so on, as udev names them. Other entries
            of the same M(bulkhead.storage.layout) can name them as their devices, also before
            they exist.
          - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its
            number.
        type: raw
        required: true
      label:
        description:
          - The kind of partition table. A disk that has another one, or anything else on it,
            takes O(block_devices[].wipe_token).
          - Given by itself it makes a table without partitions.
        type: str
        choices:
          - gpt
      partitions:
        description:
          - The partitions to make, let grow or remove. They imply O(block_devices[].label=gpt).
        type: list
        elements: dict
        suboptions:
          number:
            description:
              - Its number in the table, from 1 to 128.
            type: int
            required: true
          start:
            description:
              - Where it begins, a multiple of 1 MiB from the beginning of the disk. At least
                1 MiB.
              - When it is not given, in the first free space that is large enough, and without
                a O(block_devices[].partitions[].size) in the largest. An existing partition
                is never moved, another start is C(unsupported).
            type: str
          size:
            description:
              - Its size, rounded up to a multiple of 1 MiB. A larger one lets an existing partition
                grow, a smaller one is C(would_shrink).
              - When it is not given, all that is free from its start to the next partition
                or the end of the disk. At most one partition may be without.
            type: str
          type:
            description:
              - What it is for, as a GUID or one of C(linux), C(lvm), C(luks), C(swap), C(raid),
                C(esp), C(bios), C(home), C(srv) and C(var). C(linux) when a new one is made
                without.
            type: str
          name:
            description:
              - Its name in the table, at most 36 letters, digits, blanks and any of C(_.:@+-).
              - When it is not given, the name stays as it is.
            type: str
          state:
            description:
              - V(absent) removes it. One that is not blank takes its O(block_devices[].wipe_token),
                one in use is refused with C(in_use). Its first and last 4 MiB are zeroed.
            type: str
            choices:
              - present
              - absent
            default: present
      scheduler:
        description:
          - The I/O scheduler, one of those that the kernel has for the disk, otherwise C(unsupported).
        type: str
      read_ahead:
        description:
          - How much is read ahead of a sequential reader, a multiple of 4 KiB up to 1 GiB.
            V(0) for nothing.
        type: str
      read_only:
        description:
          - Whether the kernel refuses to write to the disk. Refused with C(in_use) while it
            is mounted.
        type: bool
      persist:
        description:
          - Whether O(block_devices[].scheduler), O(block_devices[].read_ahead) and O(block_devices[].read_only)
            are set again whenever the disk appears, by a rule of udev in C(/etc/udev/rules.d/90-bulkhead-*.rules)
            for the serial number of the disk.
          - Where udev knows no serial number of the disk, C(unsupported). While it has not
            told yet, C(not_found).
          - With V(false) a rule that was written before is removed.
        type: bool
        default: true
      wipe_token:
        description:
          - Consents to destroy what is on the disk or on its partitions. The refusals print
            them in C(errors[].details.wipe_token), one for each.
          - Each is a digest of a device and of its content, and no longer valid when either
            changes.
        type: list
        elements: str
      state:
        description:
          - V(absent) removes the partitions that are listed, then the table, and wipes the
            first and the last 4 MiB of the disk. A partition that is not blank, and a table
            that had partitions, each take their O(block_devices[].wipe_token).
          - Where only settings are declared, V(absent) removes their rule of udev and leaves
            the disk as it is.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  luks_devices:
    description:
      - Entries take the options of M(bulkhead.storage.luks_device). Encrypt a blank device
        with LUKS2, open it and replace its key.
    type: list
    elements: dict
    suboptions:
      device:
        description:
          - The device by a stable name. An image file is refused with C(unsupported), attach
            it to a loop device first.
          - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
          - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its
            number.
        type: raw
        required: true
      name:
        description:
          - Name of the mapping, C(/dev/mapper/<name>). At most 127 letters, digits, C(_ . +)
            and C(-).
          - Where another device has it, C(conflict).
        type: str
        required: true
      key_file:
        description:
          - A file on the target with the key, all of its bytes, at most 8 MiB. C(not_found)
            when it is needed and missing.
          - One of O(luks_devices[].key_file), O(luks_devices[].passphrase) and O(luks_devices[].tenant)
            is required when O(luks_devices[].state=opened) or O(luks_devices[].state=present).
        type: path
      passphrase:
        description:
          - The key as text, without an end of line.
        type: str
      tenant:
        description:
          - The tenant whose key it is. Not supported yet, refused with C(unsupported), because
            no keys of tenants are kept.
        type: str
      new_key_file:
        description:
          - A file on the target with the key that is to replace O(luks_devices[].key_file)
            or O(luks_devices[].passphrase).
          - When both open the device the old one is removed. A device that is made is made
            with this one.
          - The line in C(/etc/crypttab) names this one. Give it as O(luks_devices[].key_file)
            from the next time on, if you like.
        type: path
      pbkdf:
        description:
          - How a key is made slow to guess, for keys that are added. When it is not given,
            as cryptsetup was built, which is V(argon2id) but in FIPS mode.
          - An existing device with another one is refused with C(unsupported).
        type: str
        choices:
          - argon2id
          - pbkdf2
      pbkdf_iterations:
        description:
          - How often, at least 4, and 1000 for V(pbkdf2). When it is not given, it is measured
            so that a try takes two seconds. A random key of 32 bytes needs no more than the
            least.
        type: int
      pbkdf_memory:
        description:
          - How much memory a try takes, from 32 KiB to 4 GiB, such as C(64MiB). Not with V(pbkdf2),
            refused with C(invalid).
          - When it is not given, up to 1 GiB, less on a host with less.
        type: raw
      cipher:
        description:
          - The cipher as dm-crypt has it, such as C(aes-xts-plain64), which cryptsetup takes
            when it is not given.
          - An existing device with another one is refused with C(unsupported).
        type: str
      discards:
        description:
          - Whether discards pass through to the device. They tell which blocks are unused.
            Kept in the header and in C(/etc/crypttab).
          - When it is not given, not on a new device, and as the header says.
        type: bool
      nofail:
        description:
          - Whether the host boots although the device cannot be opened. When it is not given,
            as the line in C(/etc/crypttab) says, and not in a new line.
        type: bool
      persist:
        description:
          - V(crypttab) keeps one line in C(/etc/crypttab), every other byte of which stays
            as it is. Where systemd runs, it is told of a change.
          - V(none) does not look at it.
          - When it is not given, V(crypttab) with O(luks_devices[].key_file), and V(none) with
            O(luks_devices[].passphrase), for which the boot would wait.
        type: str
        choices:
          - crypttab
          - none
      wipe_token:
        description:
          - Consent to destroy what is there. The refusal prints it in C(errors[].details.wipe_token).
          - It is a digest of the device and of its content, and no longer valid when either
            changes.
        type: str
      state:
        description:
          - V(opened) makes it where nothing is, opens it and writes its line.
          - V(closed) closes the mapping. Header and line stay. A mapping in use is refused
            with C(in_use), which names the mount points and devices.
          - V(present) makes it and writes its line, but neither opens nor closes it.
          - V(absent) closes it, erases the key slots, both copies of the header, the ends of
            the device and the copy of the header, and removes the line. It takes O(luks_devices[].wipe_token),
            unless the mapping is open and reads as blank. A device without LUKS is left alone.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - opened
          - closed
          - present
          - absent
        default: opened
  volume_groups:
    description:
      - Entries take the options of M(bulkhead.storage.volume_group). Manage an LVM volume group
        with its devices, thin pools and volumes.
    type: list
    elements: dict
    suboptions:
      vg:
        description:
          - The name, 1 to 63 of letters, digits and C(_ + . -).
        type: str
        required: true
      pvs:
        description:
          - The devices by stable names. Required when O(volume_groups[].state=present). One
            that the group does not have is added, and one that is not named stays.
          - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true),
            when the device is to be written to.
          - With O(volume_groups[].state=absent) all of them, or none.
          - In M(bulkhead.storage.layout) also LUNs by C(iscsi), their target, and C(lun), their
            number.
        type: list
        elements: raw
      remove_pvs:
        description:
          - Devices that the group gives up. What is on them is moved to others by pvmove(8),
            which a later call continues if this one is killed, at most for 6 hours. Then they
            are wiped.
          - Too little room on the others is C(no_space).
          - LUNs of iSCSI sessions are named as in O(volume_groups[].pvs).
        type: list
        elements: raw
      thin_pools:
        description:
          - Thin pools. Those that are not named stay as they are.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - The name in its group.
            type: str
            required: true
          size:
            description:
              - The least size of the data, rounded up to whole extents, or a share as a volume
                takes one. Required to make it. A pool that has grown beyond it stays so.
            type: str
          metadata_size:
            description:
              - The least size of the metadata, from 2 MiB to 16 GiB. LVM chooses when it is
                not given.
            type: str
          autoextend_threshold:
            description:
              - How full, in percent from 50 to 99, the pool is when dmeventd(8) extends it
                by a fifth. V(100) turns it off.
              - It is kept as a metadata profile, C(bulkhead-thin-<percent>) in C(/etc/lvm/profile),
                that the pool refers to. When it is not given, it stays as it is.
            type: int
          overcommit:
            description:
              - How many times its size the volumes of the pool may have in all. More is C(limit_exceeded).
                The pool takes a size in bytes for it. Unlimited when it is not given.
            type: float
          state:
            description:
              - V(absent) removes an empty pool. One that holds volumes is C(in_use).
            type: str
            choices:
              - present
              - absent
            default: present
      lvs:
        description:
          - Logical volumes. Those that are not named stay as they are.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - The name in its group.
            type: str
            required: true
          size:
            description:
              - The size, rounded up to whole extents, or for one that is not thin a share of
                the group, V(40%VG), of its devices, V(40%PVS), or of what is free when it is
                made, V(100%FREE). Required to make it.
              - A larger size grows it. A smaller one takes O(volume_groups[].allow_shrink=true).
            type: str
          thin_pool:
            description:
              - The thin pool that it takes its space from. It cannot be changed later.
            type: str
          tags:
            description:
              - All its tags, but for our own, which begin with C(bulkhead.). When it is not
                given, they stay as they are.
            type: list
            elements: str
          active:
            description:
              - Whether it is there as a device. One that is in use is not deactivated, but
                refused with C(in_use).
            type: bool
            default: true
          grow_fs:
            description:
              - Whether the C(ext4), C(xfs) or C(btrfs) that is on it grows with it, also when
                it was left behind earlier.
              - A filesystem that is declared in the same call of M(bulkhead.storage.layout)
                does so anyway.
            type: bool
            default: false
          state:
            description:
              - V(absent) wipes and removes it. One that holds something takes O(volume_groups[].wipe_token),
                one that is mounted or has snapshots is C(in_use), and what is on an inactive
                one cannot be seen, which is C(unreadable).
            type: str
            choices:
              - present
              - absent
            default: present
      allow_shrink:
        description:
          - Consent to make volumes smaller. A volume that is not blank must hold a filesystem
            that was made smaller before, otherwise C(would_shrink).
        type: bool
        default: false
      wipe_token:
        description:
          - Consents to destroy what is there, one for each device or volume. The refusal prints
            each in C(errors[].details.wipe_token).
          - Each is a digest of the device and of its content, and no longer valid when either
            changes.
        type: list
        elements: str
      state:
        description:
          - V(absent) removes all volumes, declared or not, each by its own O(volume_groups[].wipe_token)
            unless it is blank, and the group, and wipes the devices.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  filesystems:
    description:
      - Entries take the options of M(bulkhead.storage.filesystem). Make a filesystem on a blank
        device, label it and let it grow.
    type: list
    elements: dict
    suboptions:
      device:
        description:
          - The device by a stable name, or the absolute path of an image file.
          - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
          - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its
            number.
        type: raw
        required: true
      fstype:
        description:
          - Type of the filesystem. Required when O(filesystems[].state=present).
        type: str
        choices:
          - ext4
          - xfs
          - btrfs
          - vfat
          - swap
      label:
        description:
          - The label, of letters, digits, C(_ . -) and blanks. At most 16 characters on V(ext4),
            12 on V(xfs), 255 on V(btrfs), 11 in upper case on V(vfat) and 15 on V(swap).
          - An existing filesystem is given this label. When it is not given, the label stays
            as it is.
        type: str
      uuid:
        description:
          - The UUID in lower case, on V(vfat) the serial number such as V(1A2B-3C4D). When
            it is not given, a random one.
          - That of an existing filesystem is not changed, but refused with C(unsupported).
        type: str
      quota:
        description:
          - The kinds of quota that it must be able to account. V(xfs) has all of them, V(btrfs)
            has V(project), neither needs anything on disk. V(ext4) has those that it is made
            with. Otherwise C(not_enforced).
          - An existing V(ext4) is given those that it lacks by tune2fs(8), none is ever taken
            away. Mounted it is refused with C(in_use), and with C(unsupported) where its inodes
            of 128 bytes have no room for V(project).
          - To enforce them is for the mount, with the options C(prjquota), C(usrquota) and
            C(grpquota).
        type: list
        elements: str
        choices:
          - project
          - user
          - group
      features:
        description:
          - Features that it must have. On V(ext4) C(mmp), C(metadata_csum), C(bigalloc), C(casefold),
            C(large_dir), C(verity) and C(encrypt), on V(xfs) C(bigtime), C(finobt), C(inobtcount),
            C(reflink) and C(rmapbt), on V(btrfs) C(block-group-tree), C(free-space-tree) and
            C(no-holes).
          - A feature that an existing filesystem lacks is C(unsupported).
        type: list
        elements: str
      grow:
        description:
          - Whether it fills its device. It grows when its device is larger, and shrinks before
            a volume beneath it does, which takes O(filesystems[].allow_shrink=true). Without
            effect on V(vfat) and V(swap).
        type: bool
        default: true
      check:
        description:
          - Whether to look for errors first, without repairing any, for at most six hours.
            A damaged one is refused with C(checksum).
          - By C(e2fsck -f -n), C(xfs_repair -n), C(btrfs check --readonly), C(fsck.vfat -n).
        type: bool
        default: false
      allow_shrink:
        description:
          - Consent to make it smaller, together with the logical volume beneath it that is
            declared smaller in the same call of M(bulkhead.storage.layout), which takes an
            O(filesystems[].allow_shrink) of its own.
          - An V(ext4) must not be mounted, otherwise C(in_use); a V(btrfs) may be. V(xfs) cannot
            shrink, which is refused with C(unsupported). What is stored and does not fit is
            C(would_shrink).
        type: bool
        default: false
      wipe_token:
        description:
          - Consent to destroy what is there. The refusal prints it in C(errors[].details.wipe_token).
          - It is a digest of the device and of its content, and no longer valid when either
            changes.
        type: str
      state:
        description:
          - V(absent) wipes the first and the last 4 MiB. A device that holds something takes
            O(filesystems[].wipe_token).
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  mounts:
    description:
      - Entries take the options of M(bulkhead.storage.mount). Mount a filesystem, an image
        or a directory.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - Absolute path of the mount point, without C(..) components. A symbolic link is refused
            with C(unsafe_path).
        type: path
        required: true
      source:
        description:
          - A device, C(UUID=), C(LABEL=), C(PARTUUID=) or C(PARTLABEL=), an image file, or
            a directory when O(mounts[].bind=true).
          - Required when O(mounts[].state=mounted) or O(mounts[].state=present).
          - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its
            number.
          - Its line also says C(_netdev).
        type: raw
        aliases:
          - src
      fstype:
        description:
          - Type of the filesystem, such as C(ext4), C(xfs) or C(btrfs), or V(auto) for what
            is found on the device.
          - Required unless O(mounts[].bind=true). A C(tmpfs) is refused with C(invalid), it
            has a module of its own.
        type: str
      options:
        description:
          - Mount options, one word or C(name=value) an entry, or all of them in one text with
            commas.
          - When they are not given, none on a new mount, and those of a line in O(mounts[].fstab)
            stay. Given, they are all options of the line but those that have an option of their
            own here.
          - Options that can lose committed data at power loss (unless O(mounts[].allow_unsafe_options)
            has them), that run a helper, that set a context, that let others than root mount
            and unmount (C(user), C(users), C(owner), C(group)) or that hold a secret (instead
            of naming the file that does) are refused with C(invalid).
        type: list
        elements: str
        aliases:
          - opts
      bind:
        description:
          - Whether O(mounts[].source) is a directory or file that is to be seen at O(mounts[].path)
            too.
        type: bool
        default: false
      recursive:
        description:
          - Whether a bind takes the mounts beneath O(mounts[].source) along. What is missing
            beneath it is mounted.
          - When it is not given, not on a new mount, and as a line in O(mounts[].fstab) says.
        type: bool
      read_only:
        description:
          - Whether nobody may write through this mount. When it is not given, as O(mounts[].options)
            say or as it is.
        type: bool
      propagation:
        description:
          - Whether mounts made beneath it later are seen elsewhere, see mount_namespaces(7).
        type: str
        choices:
          - private
          - slave
          - shared
      persist:
        description:
          - V(fstab) keeps one line in O(mounts[].fstab), every other byte of which stays as
            it is. Where systemd runs, it is told of a change of C(/etc/fstab).
          - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, enabled, with what
            systemd-fstab-generator(8) would make of the line. In a unit that somebody else
            wrote only source, type and options change. A masked one is a C(conflict).
          - V(none) looks at neither.
        type: str
        choices:
          - fstab
          - unit
          - none
        default: fstab
      fstab:
        description:
          - The file that V(fstab) means.
        type: path
        default: /etc/fstab
      dump:
        description:
          - The fifth field of the line, see fstab(5). When it is not given, 0 in a new line.
        type: int
      passno:
        description:
          - The sixth field of the line, the order of checks at boot, see fstab(5). 0 means
            no check.
          - When it is not given, 0 in a new line.
        type: int
      nofail:
        description:
          - Whether the host boots although the device is missing. When it is not given, as
            O(mounts[].options) say, as the line is, and not in a new line.
        type: bool
      allow_unsafe_options:
        description:
          - Which of C(barrier=0), C(nobarrier), C(nobh), C(data=writeback) O(mounts[].options)
            may have, by the same word.
        type: list
        elements: str
      on_drift:
        description:
          - What to do where something is mounted at O(mounts[].path) in another way than declared.
          - V(remount) changes what can be changed in place.
          - V(replace) also unmounts what cannot, and mounts anew.
          - V(fail) changes nothing.
        type: str
        choices:
          - remount
          - fail
          - replace
        default: remount
      state:
        description:
          - V(mounted) mounts and persists it.
          - V(unmounted) unmounts it. The line or unit stays.
          - V(present) writes the line or unit only.
          - V(absent) unmounts it and removes the line and the unit. Where several mounts lie
            over each other, all of them go. The mount point goes when it was made by this collection
            and is empty.
          - A mount that is used by a process, or has mounts beneath it, is refused with C(in_use),
            which names them.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - mounted
          - unmounted
          - present
          - absent
        default: mounted
  tmpfs:
    description:
      - Entries take the options of M(bulkhead.storage.tmpfs). Mount a memory filesystem with
        bounds that hold.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - Absolute path of the mount point, without C(..) components. A symbolic link is refused
            with C(unsafe_path).
        type: path
        required: true
      size:
        description:
          - The most bytes that its files may occupy, such as C(64MiB), C(1.5G) or C(1073741824).
            Units are powers of 1024.
          - At least one page (4096 bytes), rounded up to whole pages. Less is refused with
            C(invalid).
          - Making it smaller than what is in use is refused with C(in_use).
          - Required when O(tmpfs[].state=mounted).
        type: str
      inodes:
        description:
          - The most files and directories that it may hold, from 2 to 2147483648.
          - When it is not given, one for every 16 KiB of O(tmpfs[].size), at least 64.
        type: int
      mode:
        description:
          - Mode of its root directory, in octal digits as text. A number is taken as it is,
            since YAML reads V(0770) as octal.
          - When it is not given, 1777 on a new mount.
        type: raw
      owner:
        description:
          - Owner of its root directory, a name or a number. When it is not given, root on a
            new mount.
        type: str
      group:
        description:
          - Group of its root directory, a name or a number. When it is not given, root on a
            new mount.
        type: str
      noexec:
        description:
          - Whether programs on it must not be executed.
        type: bool
        default: true
      noswap:
        description:
          - Whether its content must never be written to swap, as for secrets. Needs Linux 6.4,
            else C(unsupported).
          - It can be chosen only while the tmpfs is mounted anew. When it is not given, not
            on a new mount.
        type: bool
      options:
        description:
          - Further mount options, one word or C(name=value) an entry, on top of C(nosuid,nodev),
            which cannot be lifted.
          - Flags such as C(noatime), and C(huge=), C(mpol=), C(inode32), C(inode64). Anything
            else is refused with C(invalid), and so is what has an option of its own here.
          - When they are not given, none on a new mount, and those of a line in C(/etc/fstab)
            stay.
        type: list
        elements: str
      persist:
        description:
          - Where the mount is written down for the next boot.
          - V(fstab) keeps one line in C(/etc/fstab), every other byte of which stays as it
            is. Where systemd runs, it is told of a change.
          - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, as M(bulkhead.storage.mount)
            does.
          - V(none) looks at neither.
        type: str
        choices:
          - fstab
          - unit
          - none
        default: fstab
      state:
        description:
          - V(mounted) mounts it, or changes what is mounted, and persists it.
          - V(unmounted) unmounts it. Its content is lost. The line or unit stays, the mount
            point too.
          - V(absent) unmounts it and removes the line and the unit. Where several tmpfs lie
            over each other, all of them go.
          - A tmpfs that is used by a process, or has mounts beneath it, is refused with C(in_use),
            which names them.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - mounted
          - unmounted
          - absent
        default: mounted
  nfs_mounts:
    description:
      - Entries take the options of M(bulkhead.storage.nfs_mount). Mount an export of an NFS
        server.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - Absolute path of the mount point, without C(..) components. A symbolic link is refused
            with C(unsafe_path).
        type: path
        required: true
      server:
        description:
          - Name or address of the server. An address of IPv6 may be in brackets.
          - Required when O(nfs_mounts[].state=mounted) or O(nfs_mounts[].state=present).
        type: str
      export:
        description:
          - Absolute path of the export as the server names it, without blanks.
          - Required when O(nfs_mounts[].state=mounted) or O(nfs_mounts[].state=present).
        type: str
      version:
        description:
          - The version of the protocol.
        type: str
        choices:
          - '4.1'
          - '4.2'
        default: '4.2'
      sec:
        description:
          - How users are known to the server, see C(sec=) in nfs(5). V(krb5p) also encrypts
            what goes over the network. All but V(sys) need C(rpc.gssd) and a keytab on this
            host.
          - When it is not given, as a line in C(/etc/fstab) says, or what the server offers.
        type: str
        choices:
          - sys
          - krb5
          - krb5i
          - krb5p
      hard:
        description:
          - Whether who reads or writes waits for a server that is away until it is back.
          - V(false) lets them fail after a while, which loses what could not be written, so
            it takes O(nfs_mounts[].read_only=true), and is C(invalid) else.
        type: bool
        default: true
      rsize:
        description:
          - The largest read, 1024 bytes to 1 MiB. The server may lower it.
          - When it is not given, as a line in C(/etc/fstab) says, or as large as the server
            takes.
        type: str
      wsize:
        description:
          - The largest write, as O(nfs_mounts[].rsize).
        type: str
      nconnect:
        description:
          - How many connections to the server are made, 1 to 16. The first mount of a server
            decides for all of them. A later one that asks for another number is C(not_enforced).
        type: int
      automount:
        description:
          - Whether systemd mounts it at boot only when somebody looks (C(x-systemd.automount)).
            It takes effect with the next boot, and needs O(nfs_mounts[].persist=fstab).
          - When it is not given, as a line in C(/etc/fstab) says.
        type: bool
      read_only:
        description:
          - Whether nobody may write through this mount. When it is not given, as O(nfs_mounts[].options)
            say or as it is.
        type: bool
      options:
        description:
          - More mount options, one word or C(name=value) an entry.
          - When they are not given, those of a line in C(/etc/fstab) stay. Given, they are
            all options of the line but those that have an option of their own here, and C(nosuid),
            C(nodev), C(nofail) and C(_netdev), which it always has.
          - C(intr) and C(nointr) are dropped with a warning, since Linux ignores them.
        type: list
        elements: str
      persist:
        description:
          - V(fstab) keeps one line in C(/etc/fstab), every other byte of which stays as it
            is.
          - V(unit) keeps a mount unit in C(/etc/systemd/system) instead, enabled.
          - V(none) looks at neither.
        type: str
        choices:
          - fstab
          - unit
          - none
        default: fstab
      timeout:
        description:
          - Seconds that the server may take to be mounted, and to answer for what is mounted,
            1 to 3600. An unmount waits 30 seconds for it.
        type: int
        default: 30
      on_drift:
        description:
          - What to do where something is mounted at O(nfs_mounts[].path) in another way than
            declared.
          - V(remount) changes what can be changed in place, which is whether it is read-only,
            and the times of access.
          - V(replace) also unmounts what cannot, and mounts anew. So does it with what the
            server does not know any more.
          - V(fail) changes nothing.
        type: str
        choices:
          - remount
          - fail
          - replace
        default: remount
      state:
        description:
          - V(mounted) mounts and persists it.
          - V(unmounted) unmounts it. The line or unit stays.
          - V(present) writes the line or unit only.
          - V(absent) unmounts it and removes the line and the unit. The mount point goes when
            it was made by this collection and is empty.
          - A mount that is used by a process, or has mounts beneath it, is refused with C(in_use),
            which names them.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - mounted
          - unmounted
          - present
          - absent
        default: mounted
  trees:
    description:
      - Entries take the options of M(bulkhead.storage.tree). Directories of one root with owner,
        mode and ACLs.
    type: list
    elements: dict
    suboptions:
      root:
        description:
          - Absolute path of the directory that all entries lie in. Missing directories on the
            way to it are made, owned by root with mode 0755.
        type: path
        required: true
      entries:
        description:
          - What is in it. Parents may be declared before or after their children. Parents that
            are not declared are made, owned by root with mode 0755.
          - Required when O(trees[].state=present). An empty list declares O(trees[].root) alone.
        type: list
        elements: dict
        suboptions:
          path:
            description:
              - Path relative to O(trees[].root), without C(..). V(.) is O(trees[].root) itself.
            type: str
            required: true
          type:
            description:
              - V(directory) is also met by a subvolume. V(subvolume) takes Btrfs, elsewhere
                it is C(unsupported).
              - V(absent) removes an empty directory. One that is not empty is refused with
                C(would_destroy), because a tree never removes content.
            type: str
            choices:
              - directory
              - subvolume
              - absent
            default: directory
          owner:
            description:
              - Owner, a name or a number. When it is not given, root on a new directory.
            type: str
          group:
            description:
              - Group, a name or a number. When it is not given, root on a new directory.
            type: str
          mode:
            description:
              - Octal digits as text, such as V("0750"). When it is not given, 0755 on a new
                directory.
              - Where O(trees[].entries[].acl) names users or groups, the group digits are the
                rights of the owning group, not the mask.
            type: raw
          acl:
            description:
              - The named entries of the access ACL as setfacl(1) writes them, such as V("u:builder:rwX")
                or V("g:ops:r-x"). C(X) is C(x) on directories.
              - The list is complete. An empty list removes all named entries. The owner's,
                the group's and others' rights come from O(trees[].entries[].mode), the mask
                is calculated.
            type: list
            elements: str
          default_acl:
            description:
              - The named entries of the default ACL, which new files and directories in it
                inherit. The list is complete, an empty list removes the default ACL.
            type: list
            elements: str
          selinux:
            description:
              - The SELinux label, and a local file context for the directory and all beneath,
                so that C(restorecon) keeps it. Of what lies beneath already no label changes.
              - Refused with C(unsupported) where SELinux is not enabled, with C(invalid) where
                the policy does not know it. Sources are selinux(8), C(/sys/fs/selinux/context)
                and semanage-fcontext(8).
            type: dict
            suboptions:
              type:
                description:
                  - Type of the label.
                type: str
                required: true
              level:
                description:
                  - MLS or MCS level of the label. When it is not given, that of the label stays.
                type: str
          project:
            description:
              - Name of a quota to charge it to. Not supported yet, refused with C(unsupported).
            type: str
      purge:
        description:
          - Whether to remove what is in O(trees[].root) and not declared. Not supported yet,
            refused with C(unsupported).
        type: bool
        default: false
      confirm:
        description:
          - The value of O(trees[].root) again. It is the consent to remove subvolumes, and
            directories with everything in them, that are declared absent. Without it only empty
            directories go.
          - Nothing is followed out of a tree, and a mount in it is refused with C(unsafe_path).
        type: path
      state:
        description:
          - V(absent) removes the declared entries, deepest first, or O(trees[].root) when none
            are declared. Only what is empty goes, anything else is refused with C(would_destroy).
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  quotas:
    description:
      - Entries take the options of M(bulkhead.storage.quota). Limit what a directory, a user
        or a group may store.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - For O(quotas[].kind=project) the directory that is charged, on Btrfs a subvolume.
            Otherwise any path on the filesystem.
        type: path
        required: true
      paths:
        description:
          - For O(quotas[].kind=project) the trees that are charged together. When it is not
            given, O(quotas[].path).
          - All are on one filesystem. More than one is C(unsupported) on Btrfs.
        type: list
        elements: path
      kind:
        description:
          - What is charged. Btrfs knows V(project) only, the others are C(unsupported) there.
        type: str
        choices:
          - project
          - user
          - group
        default: project
      name:
        description:
          - Name of the project (when not given, its path), user or group. A user or group needs
            this or O(quotas[].id).
          - C(unsupported) on Btrfs.
        type: str
      id:
        description:
          - Number of the project (when not given, a free one from 100000 on), user or group,
            in 1..4294967294.
          - C(unsupported) on Btrfs.
        type: int
      soft:
        description:
          - Bytes that may be exceeded for the time of O(quotas[].grace), such as C(8GiB), or
            V(none) to lift the limit. At least 4096, and no more than O(quotas[].hard).
          - C(unsupported) on Btrfs.
        type: str
      hard:
        description:
          - Bytes that are never exceeded, such as C(10GiB), or V(none) to lift the limit. At
            least 4096.
          - Rounded down to a KiB on ext4, to a block on XFS.
          - At least one limit is required when O(quotas[].state=present).
        type: str
      inodes_soft:
        description:
          - Inodes that may be exceeded for the time of O(quotas[].grace), or V(none) to lift
            the limit. C(unsupported) on Btrfs.
        type: str
      inodes_hard:
        description:
          - Inodes that are never exceeded, or V(none) to lift the limit. C(unsupported) on
            Btrfs.
        type: str
      grace:
        description:
          - How long a soft limit may be exceeded, in seconds or such as V(12h), V(7d).
          - It holds for a whole filesystem and O(quotas[].kind), so all entries must agree.
            C(unsupported) on Btrfs.
        type: str
      parent:
        description:
          - Another limited subvolume whose limit this one counts against as well. Btrfs only.
        type: path
      state:
        description:
          - V(absent) lifts all limits. What is stored stays.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  pools:
    description:
      - Entries take the options of M(bulkhead.storage.pool). A place that volumes come from.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without
            C(..).
        type: str
        required: true
      backend:
        description:
          - V(directory) makes directories, bounded by project quota. It must lie on XFS or
            ext4 where that is enforced (mount option C(prjquota)), otherwise the pool is refused
            with C(not_enforced). On Btrfs it is V(btrfs). What the owner of files can do about
            a project is told in the collection's guide on quota.
          - V(btrfs) makes subvolumes, bounded by simple quota or a qgroup. It must lie on Btrfs.
          - V(loop) makes image files with a filesystem of their own. It works on any filesystem.
          - V(lvm) makes logical volumes in a volume group that is there already or declared
            beside it with M(bulkhead.storage.layout), thin ones where O(pools[].config.thin_pool)
            is given. They are mounted while attached.
          - V(nfs) mounts an export, NFS 4.2 with what M(bulkhead.storage.nfs_mount) does unasked.
            Its volumes are directories that the server holds to their size. For another version,
            Kerberos or other options declare an M(bulkhead.storage.nfs_mount) of the same server
            and export at O(pools[].config.path) beside it. Owner and mode of a volume are set
            by root, so the server must not squash it (C(no_root_squash)), or have them so already.
          - V(iscsi) is V(lvm) in a volume group all of whose devices are LUNs, as M(bulkhead.storage.layout)
            makes it where C(pvs) names LUNs. A group with a disk of this host is a C(conflict).
            Only one host may be let in to those LUNs, nothing here keeps two hosts from writing
            to one group.
          - V(memory) is for memory volumes only and has no path.
          - V(auto) is V(btrfs) on Btrfs, V(directory) where project quota is enforced and V(loop)
            anywhere else. It is chosen once.
          - Required when O(pools[].state=present).
        type: str
        choices:
          - auto
          - directory
          - loop
          - lvm
          - btrfs
          - nfs
          - iscsi
          - ceph_rbd
          - cephfs
          - memory
      config:
        description:
          - Settings of the backend.
        type: dict
        suboptions:
          path:
            description:
              - The directory that volumes lie in. It is made where it is missing, owned by
                root with mode 0711.
              - Required for V(directory), V(btrfs), V(loop) and V(auto), except for the pool
                V(default).
              - For V(lvm) and V(iscsi) the directory that volumes are mounted in, for V(nfs)
                where the export is mounted. When it is not given, the pool's own one in C(/var/lib/bulkhead/pools).
            type: path
          vg:
            description:
              - The volume group. Required for the backends V(lvm) and V(iscsi). It cannot be
                changed later.
            type: str
          thin_pool:
            description:
              - The thin pool of that group (backends V(lvm) and V(iscsi)). Without one all
                volumes are thick, and none can be a clone or of type V(block). It cannot be
                changed later.
            type: str
          server:
            description:
              - The server, a name or an address. Required for backend V(nfs). It cannot be
                changed later.
            type: str
          export:
            description:
              - The exported path. Required for backend V(nfs). It cannot be changed later.
            type: str
          cluster:
            description:
              - Name of the cluster (backends V(ceph_rbd) and V(cephfs)).
            type: str
          pool_name:
            description:
              - The pool of the cluster (backends V(ceph_rbd) and V(cephfs)).
            type: str
          monitors:
            description:
              - Addresses of its monitors (backends V(ceph_rbd) and V(cephfs)).
            type: list
            elements: str
          user:
            description:
              - The user to connect as (backends V(ceph_rbd) and V(cephfs)).
            type: str
          keyring_path:
            description:
              - File on the target that holds the user's key (backends V(ceph_rbd) and V(cephfs)).
            type: path
          namespace:
            description:
              - The namespace inside the pool (backend V(ceph_rbd)).
            type: str
      max_volume_size:
        description:
          - The largest volume allowed, such as C(100GiB). A larger one is refused with C(limit_exceeded),
            existing ones stay. V(none) lifts the limit.
        type: str
      max_volumes_per_namespace:
        description:
          - How many volumes a namespace may have in this pool, at least 1. One more is refused
            with C(limit_exceeded). V(none) lifts the limit.
        type: str
      overcommit:
        description:
          - How many times its capacity a pool may promise, from 1 to 1000. V(none) lifts the
            limit.
        type: raw
      confirm:
        description:
          - The pool's own name, as consent to remove it.
        type: str
      state:
        description:
          - V(absent) takes O(pools[].confirm). A pool that has volumes is refused with C(in_use),
            which names them.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  volumes:
    description:
      - Entries take the options of M(bulkhead.storage.volume). A named, bounded place for files.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without
            C(..).
        type: str
        required: true
      namespace:
        description:
          - The namespace of the name, such as a tenant. Written like O(volumes[].name).
        type: str
        default: default
      pool:
        description:
          - The pool that it is made in. V(default) when it is not given. A volume does not
            move to another pool, that is a C(conflict).
        type: str
      type:
        description:
          - V(filesystem) keeps its files on the pool. V(memory) is a tmpfs and has no pool.
            V(block) is a bare device, the one that C(resource.device) names, without a filesystem,
            an owner or a O(volumes[].target); its pool must have a thin pool, of which it sees
            nothing that others wrote.
          - V(filesystem) when it is not given. It cannot be changed later.
        type: str
        choices:
          - filesystem
          - memory
          - block
      size:
        description:
          - How much it may hold, such as C(10GiB) or C(10737418240). Units are powers of 1024.
            Rounded up to 4096 bytes, in a volume group to its extents.
          - At least 4 KiB, in a Btrfs pool 64 KiB, in an image file or a logical volume 1 MiB
            for V(ext4), 109 MiB for V(btrfs) and 300 MiB for V(xfs). Less is refused with C(invalid).
          - Required to make a volume. A larger size later lets it grow, a smaller one takes
            O(volumes[].allow_shrink).
        type: str
      provisioning:
        description:
          - V(thin) takes room when it is written to, V(thick) at once. V(thin) when it is not
            given. It cannot be changed later. Only image files and logical volumes can be V(thick).
            A logical volume is V(thin) where its pool has a thin pool and V(thick) where it
            has none.
        type: str
        choices:
          - thin
          - thick
      source:
        description:
          - What a new volume holds. Without effect on an existing one.
        type: dict
        suboptions:
          type:
            description:
              - V(clone) copies another volume, by reflink or snapshot where the pool can. Subvolumes
                that are nested in it come along, and can be written in the copy.
              - A thin logical volume is cloned by a thin snapshot, while it is in use too.
                The filesystem in it keeps its UUID, a clone of V(xfs) is mounted with C(nouuid)
                and begins with the size of its source, V(btrfs) is not cloned so.
              - V(snapshot) copies what a snapshot holds, likewise. The volume may go on, or
                be long detached.
            type: str
            choices:
              - empty
              - clone
              - snapshot
              - image
              - url
            default: empty
          name:
            description:
              - The volume to copy, or as C(<volume>/<snapshot>) its snapshot. Required for
                V(clone) and V(snapshot).
            type: str
          namespace:
            description:
              - The namespace of that name. The volume's own when it is not given.
            type: str
          url:
            description:
              - Where to download from.
            type: str
          checksum:
            description:
              - What the download must hash to, V(sha256:) and 64 hexadecimal digits.
            type: str
      fstype:
        description:
          - The filesystem in an image file or a logical volume. V(ext4) when it is not given.
            It cannot be changed later.
        type: str
        choices:
          - ext4
          - xfs
          - btrfs
      owner:
        description:
          - Owner of its root directory, a name or a number. root when it is not given.
        type: str
      group:
        description:
          - Group of its root directory, a name or a number. root when it is not given.
        type: str
      mode:
        description:
          - Mode of its root directory, octal digits as text. V("0750") when it is not given.
        type: raw
      labels:
        description:
          - Names and values to find it by, at most 63 and 255 characters. The given ones replace
            all others.
        type: dict
      qos:
        description:
          - Limits on its input and output. Not supported yet, refused with C(unsupported).
        type: dict
        suboptions:
          read_bps:
            description:
              - The most bytes read in a second.
            type: str
          write_bps:
            description:
              - The most bytes written in a second.
            type: str
          read_iops:
            description:
              - The most reads in a second.
            type: str
          write_iops:
            description:
              - The most writes in a second.
            type: str
          min_iops:
            description:
              - Reads and writes in a second that are granted.
            type: str
          min_bps:
            description:
              - Bytes in a second that are granted.
            type: str
          burst_iops:
            description:
              - Reads and writes in a second during a burst.
            type: str
          burst_bps:
            description:
              - Bytes in a second during a burst.
            type: str
          burst_seconds:
            description:
              - How long a burst may last.
            type: str
      encrypted:
        description:
          - Whether it is encrypted with the key of O(volumes[].tenant). Not supported yet,
            refused with C(unsupported).
        type: bool
      tenant:
        description:
          - The tenant whose key encrypts it.
        type: str
      sharing:
        description:
          - V(exclusive) lets one job attach it at a time, others are refused with C(in_use).
            V(read_only) takes O(volumes[].read_only=true) of whoever attaches it. V(read_write)
            when it is not given.
          - Those who have it attached already count too. As long as one of them may do more,
            it is refused with C(in_use).
        type: str
        choices:
          - exclusive
          - read_only
          - read_write
      scope:
        description:
          - Of a memory volume. V(job) gives each job that attaches it one of its own, V(host)
            keeps one for all of them.
          - V(job) when it is not given. It cannot be changed later.
        type: str
        choices:
          - job
          - host
      job:
        description:
          - The job that it is attached to or detached from. The host itself when it is not
            given.
          - No job can be called C(host).
        type: str
      target:
        description:
          - Absolute path at which an attached volume is seen as well. C(nosuid,nodev) always.
        type: path
      read_only:
        description:
          - Whether nobody may write through O(volumes[].target).
        type: bool
        default: false
      force:
        description:
          - Whether O(volumes[].state=absent) detaches it first. It does not stop anybody who
            uses it.
        type: bool
        default: false
      allow_shrink:
        description:
          - Consent to a smaller O(volumes[].size). A filesystem that does not fit into it is
            refused all the same, and so is any smaller O(volumes[].size) with O(volumes[].type=block),
            where nothing tells what fits.
        type: bool
        default: false
      state:
        description:
          - V(present) makes it. An image file or a logical volume is not mounted then.
          - V(attached) makes it where it is missing, and mounts it.
          - V(detached) takes it from O(volumes[].job), from O(volumes[].target), or from everybody
            when neither is given.
          - V(absent) removes it with all it holds. One that is attached is refused with C(in_use)
            unless O(volumes[].force=true).
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
          - attached
          - detached
        default: present
  snapshots:
    description:
      - Entries take the options of M(bulkhead.storage.snapshot). What a volume held at one
        moment.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without
            C(..).
          - Or a template of such a name, with fields that hold the time of the run in UTC,
            C(%Y %m %d %H %M %S %j %G %V %u) as strftime(3) knows them. One snapshot is made
            for each name that it gives, for example one a day.
          - With O(snapshots[].state=absent) a template stands for all that it has named.
        type: str
        required: true
      volume:
        description:
          - The name of the volume.
        type: str
        required: true
      namespace:
        description:
          - The namespace of the volume.
        type: str
        default: default
      keep:
        description:
          - Which snapshots of the template O(snapshots[].name) are kept. The others are removed.
            Snapshots with other names, also when they look alike, stay.
          - What any of the rules keeps is kept. At least one of them is more than 0, otherwise
            C(invalid).
        type: dict
        suboptions:
          last:
            description:
              - How many of the newest are kept, 0 to 100000.
            type: int
          hourly:
            description:
              - For how many hours that have a snapshot the newest one of the hour is kept,
                0 to 100000.
            type: int
          daily:
            description:
              - As O(snapshots[].keep.hourly), for days.
            type: int
          weekly:
            description:
              - As O(snapshots[].keep.hourly), for weeks that begin on Monday.
            type: int
          monthly:
            description:
              - As O(snapshots[].keep.hourly), for months.
            type: int
      restore_id:
        description:
          - Which restore this is. It is recorded with the snapshot, and the same one is not
            done twice, whatever became of the volume since. Written like a name.
          - The name of the snapshot when it is not given, so that it is restored once.
        type: str
      state:
        description:
          - V(present) makes the snapshot once. What is there under its name is never made again.
          - V(absent) removes it, with what it holds.
          - V(restored) gives the volume what the snapshot holds, once. What the volume held
            until then is kept as the snapshot C(before-restore-<restore_id>). Nothing is lost,
            so it takes no consent.
          - A volume is restored while it is not attached, otherwise C(in_use). Its owner, mode
            and limit stay as they are. An image or a logical volume has the size that it had
            (C(conflict)).
          - A volume of backend V(directory) is C(unsupported).
          - With simple quota, what a volume shares with its snapshots is charged to the subvolume
            that wrote it. A volume that was restored begins with nothing charged to it.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
          - restored
        default: present
  io_limits:
    description:
      - Entries take the options of M(bulkhead.storage.io_limit). Limit how fast a slice, a
        unit or a cgroup reads and writes a disk.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the limit, 1 to 63 of C(a-z 0-9 _ . -).
          - The same name with another slice, device or O(io_limits[].persist) takes the place
            of the earlier limit.
        type: str
        required: true
      path:
        description:
          - A path on the disk to limit, such as the mount point of a volume. This or O(io_limits[].device)
            is required when O(io_limits[].state=present).
          - On tmpfs, overlay and network filesystems, and on Btrfs of several devices, C(not_enforced).
        type: path
      device:
        description:
          - The disk, or what stands on it, by a stable name such as C(/dev/disk/by-id/nvme-eui.0025388b710116a1).
          - A name such as C(/dev/sdb) is refused with C(unstable_device) unless O(allow_unstable_device=true).
          - In M(bulkhead.storage.layout) also a LUN by C(iscsi), its target, and C(lun), its
            number.
        type: raw
      slice:
        description:
          - The slice, or another unit of systemd with its suffix, such as C(tenants.slice)
            or C(backup.service). What is no slice must exist, otherwise C(not_found).
          - When neither this nor O(io_limits[].cgroup) is given, C(bulkhead-<name>.slice),
            with C(\x2d) for each dash of the name, so that it lies within no other limit by
            accident. Run units in it with C(Slice=) or C(systemd-run --slice=).
        type: str
      cgroup:
        description:
          - A cgroup by its path beneath C(/sys/fs/cgroup). That of a unit means the unit.
          - One that belongs to no unit takes O(io_limits[].persist=false), otherwise C(unsupported).
            It must exist, otherwise C(conflict).
        type: path
      read_bps:
        description:
          - Bytes read each second, such as C(10MiB). At least 4096. No limit when it is not
            given.
        type: str
      write_bps:
        description:
          - Bytes written each second, such as C(10MiB). At least 4096. No limit when it is
            not given.
        type: str
      read_iops:
        description:
          - Reads each second, in 1..4294967294. No limit when it is not given.
        type: int
      write_iops:
        description:
          - Writes each second, in 1..4294967294. No limit when it is not given.
        type: int
      weight:
        description:
          - The share of the disk among those who want it at the same time, in 1..10000. Others
            have 100.
          - C(not_enforced) where neither BFQ schedules the disk nor C(io.cost.qos) is on for
            it. BFQ has one step for 11 above 100.
        type: int
      min_bps:
        description:
          - Always C(unsupported), the kernel has no floor for a rate.
        type: str
      min_iops:
        description:
          - Always C(unsupported), the kernel has no floor for a rate.
        type: int
      burst_bps:
        description:
          - Always C(unsupported), C(io.max) has no burst.
        type: str
      burst_iops:
        description:
          - Always C(unsupported), C(io.max) has no burst.
        type: int
      burst_seconds:
        description:
          - Always C(unsupported), C(io.max) has no burst.
        type: int
      persist:
        description:
          - Whether the limit is kept in C(/etc/systemd/system), otherwise in C(/run/systemd/system)
            until the next boot.
          - C(unsupported) where udev knows no name of the disk that stays the same.
          - A unit that is limited for good requires the disk, and does not start where it is
            missing.
        type: bool
        default: true
      state:
        description:
          - V(absent) removes what O(io_limits[].name) keeps, wherever that is, and the limit
            that holds now. Other lines of C(io.max) and drop-ins of others stay.
          - For a O(io_limits[].cgroup) that belongs to no unit the device or path must be named
            too.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  nfs_exports:
    description:
      - Entries take the options of M(bulkhead.storage.nfs_export). Let NFS clients mount a
        directory.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - The directory, without C(..) components. A way that leads through a symbolic link
            is C(unsafe_path), because exportfs(8) would export what it leads to.
          - It must exist, or be made by another entry of the same M(bulkhead.storage.layout),
            otherwise C(not_found).
          - A backslash is C(invalid), and so is more than 1000 bytes.
          - Who may mount a directory can reach the whole filesystem that it lies on by guessing
            file handles, unless O(nfs_exports[].clients[].options) has V(subtree_check), see
            exports(5). Give an export a filesystem or a volume of its own.
        type: path
        required: true
      clients:
        description:
          - Who may mount it, and how. Required when O(nfs_exports[].state=present).
          - Where several match, an address or name counts before a network, then come wildcards,
            netgroups and V(*), and within these the first that is declared.
        type: list
        elements: dict
        suboptions:
          host:
            description:
              - An address, a network such as V(192.0.2.0/24) or V(2001:db8::/64), a host name,
                a wildcard such as V(*.example.com), a netgroup such as V(@trusted), or V(*)
                for everybody.
              - An address with a length that is not the first of its network is C(invalid),
                and the hint names the network.
              - Two that mean the same client are C(invalid), or a C(conflict) where only the
                resolver knows.
            type: str
            required: true
          options:
            description:
              - Options of exports(5), one word or C(name=value) an entry, or all of them in
                one text with commas.
              - What is not given has the default of exports(5), also where it was changed by
                hand, so a client has V(ro), V(sync), V(root_squash), V(no_subtree_check), V(secure)
                and V(sec=sys) unless these say otherwise.
              - V(no_root_squash) lets root of a client write as root here. V(insecure) lets
                every user of a client act as any other. V(async) loses what clients think is
                written when this host goes down. V(crossmnt) exports every filesystem that
                is mounted beneath. None of them is refused.
              - C(auth_nlm), C(no_auth_nlm) and C(mp) are written as C(secure_locks), C(insecure_locks)
                and C(mountpoint). C(fsid=root) is V(fsid=0).
              - Words that contradict, and V(all_squash) beside V(no_root_squash), are C(invalid).
                C(reexport=) is not supported.
            type: list
            elements: str
      state:
        description:
          - V(absent) removes the line and unexports the path to every client. What clients
            have open there keeps the filesystem busy until they close it or the server stops.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  iscsi_targets:
    description:
      - Entries take the options of M(bulkhead.storage.iscsi_target). Serve images and devices
        of this host over iSCSI.
    type: list
    elements: dict
    suboptions:
      target:
        description:
          - The name of the target, such as C(iqn.2026-01.org.example:disks), in lower case.
            Names that begin with C(eui.) and C(naa.) are taken too.
        type: str
        required: true
      portals:
        description:
          - Where it listens, each an address and a port, such as C(10.0.0.1:3260) or C([2001:db8::1]:3260).
            The port is 3260 when it is not given.
          - When this is not given, V(0.0.0.0:3260) for a new target, all addresses of IPv4,
            and those that it has for another.
          - Every other portal of the target is removed when it is given.
        type: list
        elements: str
      luns:
        description:
          - What is served. Required when O(iscsi_targets[].state=present), may be empty.
          - A LUN that stands on something else than declared is C(conflict). Take it out first.
        type: list
        elements: dict
        suboptions:
          lun:
            description:
              - Its number, in 0..65535.
            type: int
            required: true
          device:
            description:
              - A block device by a stable name, such as C(/dev/vg/lv). This or O(iscsi_targets[].luns[].file)
                is required. It grows when the device does.
              - Refused with C(protected) when the host itself stands on it, and with C(in_use)
                when it is mounted or something stands on it. A name such as C(/dev/sdb) is
                C(unstable_device) unless O(allow_unstable_device=true).
            type: path
          file:
            description:
              - An image file, in a folder where nobody but root can write, otherwise C(unsafe_path).
              - A missing one is made, sparse and readable by root only, when O(iscsi_targets[].luns[].size)
                is given. One that this target has served is C(not_found) instead, since its
                filesystem may just not be mounted.
            type: path
          size:
            description:
              - Size of the image, rounded up to a multiple of 512 bytes. A larger one lets
                the image and the LUN grow, which initiators see when they scan for it (C(iscsiadm
                -m session --rescan)).
              - A smaller one is C(would_shrink), because nobody can tell what initiators keep
                at its end.
              - When it is not given, that of the file.
            type: str
      initiators:
        description:
          - Who may log in, and sees every LUN under its number. Nobody when it is empty or
            not given.
          - Others that the target lets in are removed.
        type: list
        elements: dict
        suboptions:
          iqn:
            description:
              - The name of the initiator, in lower case, as in its C(/etc/iscsi/initiatorname.iscsi).
            type: str
            required: true
          chap:
            description:
              - How it proves who it is. Either all initiators of a target have one, or none,
                otherwise C(invalid).
              - Who can read this host's network without one can name itself as any initiator.
              - A change counts for the next login, sessions stay.
            type: dict
            suboptions:
              username:
                description:
                  - The name it says, at most 255 printable characters of ASCII.
                type: str
                required: true
              password:
                description:
                  - The secret it proves to know. Initiators may refuse one of less than 12
                    characters (RFC 7143 9.2.1), and Windows one of more than 16.
                  - The kernel takes at most 255 characters, and none that begins with C(NULL).
                type: str
                required: true
              mutual_username:
                description:
                  - The name that this target says to the initiator.
                type: str
              mutual_password:
                description:
                  - The secret that this target proves to know, not the same as the other one.
                type: str
      persist:
        description:
          - Whether the target comes back after a reboot. It is kept in C(/etc/rtslib-fb-target/saveconfig.json)
            (Debian, Ubuntu) or C(/etc/target/saveconfig.json), with its passwords, readable
            by root only.
          - C(missing_tool) where no service of C(targetcli) would read it. That service must
            be enabled, as the role P(bulkhead.storage.iscsi_server#role) does.
        type: bool
        default: true
      state:
        description:
          - V(absent) ends serving it, now and after a reboot. Image files and devices stay,
            with what is on them.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
  jobs:
    description:
      - Entries take the options of M(bulkhead.storage.job). A command that runs once, walled
        in with the volumes it was given.
    type: list
    elements: dict
    suboptions:
      id:
        description:
          - 1 to 63 of C(a-z 0-9 _ . -), starting and ending with a letter or digit, without
            C(..).
        type: str
        required: true
      command:
        description:
          - The program and its arguments, no shell. The program is an absolute path in the
            job's root, or a name that is found there in C(/usr/local/sbin), C(/usr/local/bin),
            C(/usr/sbin), C(/usr/bin), C(/sbin) and C(/bin).
          - Required for a job that is not known yet.
        type: list
        elements: str
      user:
        description:
          - Who it runs as, a name of the host or a number. C(65534), nobody, when it is not
            given. C(0) is root in the job and has no privileges outside of it.
        type: str
      group:
        description:
          - The group that it runs with. The user's own when it is not given.
        type: str
      working_dir:
        description:
          - Where it begins, in its root. C(/work) when it is not given.
        type: path
      environment:
        description:
          - Variables for it, beside those of its own. They are kept in a file that only root
            reads.
        type: dict
      stdin:
        description:
          - What it reads on its standard input. Nothing when it is not given.
        type: str
      volumes:
        description:
          - The volumes that it has. They must exist, or be declared beside it in M(bulkhead.storage.layout).
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - The volume.
            type: str
            required: true
          namespace:
            description:
              - The namespace of that name.
            type: str
            default: default
          path:
            description:
              - Where the job finds it. C(/volumes/<name>) when it is not given. Not in C(bin),
                C(lib), C(etc) or what else its root has of its own.
            type: path
          read_only:
            description:
              - Whether it can be read only.
            type: bool
            default: false
      rootfs:
        description:
          - V(minimal) is busybox under all its names; it must be installed, linked statically.
            Or the absolute path of a directory, of which the job sees everything read-only
            but C(/proc), C(/sys), C(/dev), C(/run), C(/tmp) and C(/work), which are its own.
          - Only root may be able to write to that directory and those above it. Folders in
            it whose names hold other than letters, digits and C(_ . + @ -) are refused. A job
            of user C(0) reads there what root reads.
          - V(minimal) when it is not given.
        type: str
      work_size:
        description:
          - How much C(/work) holds, and C(/tmp) beside it, in memory. C(1MiB) when it is not
            given. Each holds a file for every 16 KiB, at least 64.
        type: str
      io:
        description:
          - How fast it may read and write, as M(bulkhead.storage.io_limit) limits a slice.
            The kernel is asked once the job runs whether it goes by it, C(not_enforced) otherwise.
          - The disks that its volumes lie on are limited, each to the same. O(jobs[].io.path)
            or O(jobs[].io.device) names another one instead. A job without a volume on a disk
            needs one of them, otherwise C(not_enforced).
        type: dict
        suboptions:
          path:
            description:
              - A path of the host, whose disk is limited.
            type: path
          device:
            description:
              - The disk to limit, by a stable name.
            type: path
          read_bps:
            description:
              - Bytes read each second, such as V(10MiB). At least 4096.
            type: str
          write_bps:
            description:
              - Bytes written each second, such as V(10MiB). At least 4096.
            type: str
          read_iops:
            description:
              - Reads each second, in 1..4294967294.
            type: int
          write_iops:
            description:
              - Writes each second, in 1..4294967294.
            type: int
          weight:
            description:
              - The share of the disk among those who want it at the same time, in 1..10000.
                C(not_enforced) where neither BFQ nor C(io.cost.qos) shares it out.
            type: int
          min_bps:
            description:
              - Always C(unsupported), the kernel has no floor for a rate.
            type: str
          min_iops:
            description:
              - Always C(unsupported), likewise.
            type: int
          burst_bps:
            description:
              - Always C(unsupported), C(io.max) has no burst.
            type: str
          burst_iops:
            description:
              - Always C(unsupported), likewise.
            type: int
          burst_seconds:
            description:
              - Always C(unsupported), likewise.
            type: int
      memory_max:
        description:
          - How much memory it may take, with C(/work), C(/tmp) and what it says. No swap then.
            At least 1 MiB, without a limit when it is not given.
        type: str
      cpu_quota:
        description:
          - How much of one CPU it may take, such as V(50%), or V(200%) for two.
        type: str
      pids_max:
        description:
          - How many processes and threads it may have, 1 to 4194304.
        type: int
      timeout:
        description:
          - Seconds after which it is ended, C(resource.result) is V(timeout) then. At least
            1, as long as it takes when it is not given.
        type: int
      network:
        description:
          - V(none) is a loopback device of its own. V(host) is the network of the host. V(none)
            when it is not given.
        type: str
        choices:
          - none
          - host
      output_max:
        description:
          - How much is kept of its standard output and of its standard error, each. C(1MiB)
            when it is not given. Both together may be twice as long; writing more fails with
            C(ENOSPC), as on a full disk.
        type: str
      keep_finished:
        description:
          - Whether a job that ended is remembered. If not, O(jobs[].state=finished) removes
            it once its end was told.
        type: bool
        default: true
      state:
        description:
          - V(prepared) has everything there but the processes. V(started) runs, or has run.
            V(finished) waits until it has ended and detaches its volumes. V(absent) ends it
            if it runs, and removes what it said.
          - Nothing is locked while a job is waited for.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - prepared
          - started
          - finished
          - absent
        default: started
  ebs_volumes:
    description:
      - Entries take the options of M(bulkhead.storage.ebs_volume). Volumes of Amazon EBS, and
        the instances that have them.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The tag C(Name). Several volumes of that name in the zone are a C(conflict), which
            names them.
          - With O(ebs_volumes[].volume_id) it is the name that the volume gets.
          - One of O(ebs_volumes[].name) and O(ebs_volumes[].volume_id) is required.
        type: str
      volume_id:
        description:
          - The id of a volume that is there, otherwise C(not_found).
        type: str
        aliases:
          - id
      availability_zone:
        description:
          - The zone. Required to make a volume. Volumes of one name in several zones are told
            apart by it.
          - One that the region does not have is C(not_found).
        type: str
        aliases:
          - zone
      size:
        description:
          - The size, such as V(100GiB), rounded up to whole GiB. Required to make a volume,
            unless O(ebs_volumes[].snapshot_id) is given.
          - A larger one grows the volume, its partitions and filesystems stay as they are.
            A smaller one is C(would_shrink).
        type: str
      volume_type:
        description:
          - The type. A new volume is V(io2) with O(ebs_volumes[].multi_attach), otherwise V(gp3).
          - In GiB, V(gp3) has 1 to 65536, V(gp2) 1 to 16384, V(io2) 4 to 65536, V(io1) 4 to
            16384, V(st1) and V(sc1) 125 to 16384, V(standard) 1 to 1024.
        type: str
        choices:
          - gp3
          - gp2
          - io2
          - io1
          - st1
          - sc1
          - standard
      iops:
        description:
          - Operations a second. Required to make a volume of type V(io2) (100 to 256000, at
            most 1000 for each GiB) or V(io1) (100 to 64000, at most 50 for each GiB). Of V(gp3)
            3000 to 80000, at most 500 for each GiB, and 3000 for a new one. Other types take
            none.
        type: int
      throughput:
        description:
          - MiB a second of a volume of type V(gp3), 125 to 2000, and 125 for a new one. Other
            types take none.
        type: int
      multi_attach:
        description:
          - Whether several instances can have it, at most 16 and all of them in its zone and
            built on the Nitro System. A new volume has V(false).
          - Takes the type V(io2) or V(io1). Of V(io2) it can be switched on while no instance
            has the volume, and off while at most one has it, otherwise C(in_use). Of V(io1)
            it stays as it was made.
        type: bool
      encrypted:
        description:
          - Whether it is encrypted. A new volume is. Another value than that of a volume that
            is there is a C(conflict).
        type: bool
      kms_key_id:
        description:
          - The id, the ARN or the alias of the KMS key. A new volume has the account's default
            key. Another key than that of a volume that is there is a C(conflict). An alias
            is not compared.
        type: str
      snapshot_id:
        description:
          - The snapshot that a new volume is made of. Another one than that of a volume that
            is there is a C(conflict).
        type: str
        aliases:
          - snapshot
      tags:
        description:
          - Tags with their values. What begins with C(aws:) is Amazon's and is left alone.
        type: dict
        aliases:
          - resource_tags
      purge_tags:
        description:
          - Whether tags that O(ebs_volumes[].tags) does not name are removed, where O(ebs_volumes[].tags)
            is given. The tag C(Name) stays.
        type: bool
        default: true
      attachments:
        description:
          - The instances that shall have it. Without this option attachments stay as they are.
          - Each has to be V(running) or V(stopped), and in the zone of the volume.
        type: list
        elements: dict
        suboptions:
          instance_id:
            description:
              - The instance. One that is not there is C(not_found).
            type: str
            required: true
          device:
            description:
              - The name that EC2 shall know the disk by there, such as V(/dev/sdf). Otherwise
                the first free one of C(/dev/sdf) to C(/dev/sdz). One that another volume has
                is a C(conflict), that of the root device C(protected).
              - On the instance the disk has another name. Find it by C(by_id) of the result.
            type: str
      attachments_mode:
        description:
          - V(exact) makes O(ebs_volumes[].attachments) all that have it. V(add) attaches those,
            V(remove) detaches those, and others stay.
          - A root device is C(protected) from being detached.
        type: str
        choices:
          - exact
          - add
          - remove
        default: exact
      force_detach:
        description:
          - Whether to detach without the instance, which loses what it has not written yet,
            and may leave a filesystem that has to be repaired. For instances that have failed.
            It cannot be undone.
        type: bool
        default: false
      wait_timeout:
        description:
          - How many seconds each change is waited for, 1 to 86400, then C(timeout). The next
            run goes on from there.
          - A modification takes effect within minutes, and then optimizes for up to 24 hours,
            which nobody waits for unless something is to be modified again. EC2 refuses that
            until then, and more than a few within 24 hours (C(limit_exceeded)).
        type: int
        default: 300
      state:
        description:
          - V(absent) deletes the volume with its content. While an instance has it that is
            C(in_use), unless O(ebs_volumes[].attachments) says to detach it, such as V([]).
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
      access_key:
        description:
          - As O(bulkhead.storage.ebs_volume#module:access_key).
        type: str
        aliases:
          - aws_access_key_id
          - aws_access_key
      secret_key:
        description:
          - As O(bulkhead.storage.ebs_volume#module:secret_key).
        type: str
        aliases:
          - aws_secret_access_key
          - aws_secret_key
      session_token:
        description:
          - As O(bulkhead.storage.ebs_volume#module:session_token).
        type: str
        aliases:
          - aws_session_token
      profile:
        description:
          - As O(bulkhead.storage.ebs_volume#module:profile).
        type: str
        aliases:
          - aws_profile
      region:
        description:
          - As O(bulkhead.storage.ebs_volume#module:region).
        type: str
        aliases:
          - aws_region
      endpoint_url:
        description:
          - As O(bulkhead.storage.ebs_volume#module:endpoint_url).
        type: str
        aliases:
          - aws_endpoint_url
      aws_ca_bundle:
        description:
          - As O(bulkhead.storage.ebs_volume#module:aws_ca_bundle).
        type: path
      validate_certs:
        description:
          - As O(bulkhead.storage.ebs_volume#module:validate_certs).
        type: bool
        default: true
      aws_config:
        description:
          - As O(bulkhead.storage.ebs_volume#module:aws_config).
        type: dict
      debug_botocore_endpoint_logs:
        description:
          - As O(bulkhead.storage.ebs_volume#module:debug_botocore_endpoint_logs).
        type: bool
        default: false
  ceph_pools:
    description:
      - Entries take the options of M(bulkhead.storage.ceph_pool). A pool of a Ceph cluster.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The pool. At most 128 of letters, digits and C(_ . -), not beginning with C(-).
        type: str
        required: true
      type:
        description:
          - How it keeps what it holds safe, V(replicated) for whole copies, V(erasure) for
            parts. A new pool is V(replicated), or V(erasure) where O(ceph_pools[].ec_profile)
            is given.
          - Cannot be changed, that is a C(conflict).
        type: str
        choices:
          - replicated
          - erasure
      size:
        description:
          - How many copies there are, from 1 to 10. A new pool has the cluster's C(osd_pool_default_size),
            commonly 3. Not for O(ceph_pools[].type=erasure).
          - More copies than O(ceph_pools[].crush_rule) finds places for are C(limit_exceeded).
          - With another size the cluster would choose another O(ceph_pools[].min_size) too.
            It is set back to what it was.
          - V(1) also takes O(ceph_pools[].confirm), and the cluster refuses it (C(denied))
            unless C(mon_allow_pool_size_one) is set. A lost disk is lost data then.
        type: int
      min_size:
        description:
          - With fewer copies than these nothing is read or written. From 1 to O(ceph_pools[].size),
            for O(ceph_pools[].type=erasure) from C(k) to C(k+m) of the profile. A new pool
            has what the cluster chooses, commonly O(ceph_pools[].size) less half of it, or
            C(k+1).
        type: int
      pg_num:
        description:
          - The number of placement groups, a power of two from 1 to 65536. A new pool has the
            cluster's C(osd_pool_default_pg_num), commonly 32.
          - While O(ceph_pools[].autoscale) is V(on), declared or not, this is only what a new
            pool begins with.
          - On an existing pool it is what the cluster goes towards by and by.
          - More than C(mon_max_pg_per_osd) allows for are C(limit_exceeded).
        type: int
      autoscale:
        description:
          - Whether the cluster chooses the number of placement groups, or only warns. A new
            pool has the cluster's C(osd_pool_default_pg_autoscale_mode), commonly V(on).
        type: str
        choices:
          - 'on'
          - 'off'
          - warn
      crush_rule:
        description:
          - The name of the rule that says where copies or parts lie. It must exist (C(not_found))
            and be for the O(ceph_pools[].type).
          - A new pool has the cluster's default. One of O(ceph_pools[].type=erasure) has a
            rule of its own name, which the cluster makes as the profile says, and which stays
            when the pool goes.
        type: str
      ec_profile:
        description:
          - The name of a profile of erasure coding, which must exist (C(not_found)). A new
            pool of O(ceph_pools[].type=erasure) has C(default). Cannot be changed, that is
            a C(conflict).
        type: str
      ec_overwrites:
        description:
          - Whether objects of a pool of O(ceph_pools[].type=erasure) may be overwritten in
            part, which RBD and CephFS need. Made as V(false). It cannot be taken back, that
            is a C(conflict).
        type: bool
      application:
        description:
          - What uses the pool, such as V(rbd), V(cephfs) or V(rgw). These are all, one that
            is not listed goes, but not one that has settings in the pool (C(in_use)).
          - A new pool has none, of which C(ceph health) warns.
        type: list
        elements: str
      quota_bytes:
        description:
          - Bytes that it may hold, not counting copies, such as V(100GiB), or V(none). At least
            4096. A new pool has none.
          - Clients notice a full pool some seconds later, so a little more may be written.
        type: str
      quota_objects:
        description:
          - Objects that it may hold, at least 1, or V(none). A new pool has none.
        type: str
      compression:
        description:
          - How BlueStore compresses what is written from now on. What is not given here stays
            as it is, for a new pool as the OSDs are set.
        type: dict
        suboptions:
          mode:
            description:
              - V(none), V(passive) where a client hints that it pays, V(aggressive) unless
                it hints that it does not, or V(force).
            type: str
            choices:
              - none
              - passive
              - aggressive
              - force
          algorithm:
            description:
              - With what.
            type: str
            choices:
              - lz4
              - snappy
              - zlib
              - zstd
          required_ratio:
            description:
              - What is not smaller than this, as a part of what it was, is kept as it is. Above
                0 and at most 1.
            type: float
      namespaces:
        description:
          - Namespaces of RBD that are to be there, named as pools are. Capabilities can be
            bound to one, see M(bulkhead.storage.ceph_user).
          - One that is not listed stays. They go with their pool.
        type: list
        elements: str
      nodelete:
        description:
          - Whether the cluster refuses to remove it. Made as V(false). O(ceph_pools[].state=absent)
            is C(protected) while it is set.
        type: bool
      confirm:
        description:
          - The name of the pool once more, as consent to O(ceph_pools[].state=absent), without
            which it is C(would_destroy), or to O(ceph_pools[].size=1).
        type: str
      state:
        description:
          - V(absent) removes the pool and all that is in it. A pool that is not there is no
            error.
          - A pool of a filesystem or a cache tier is C(in_use), and the cluster's own are C(protected).
          - C(denied) unless C(mon_allow_pool_delete) is set, which is the cluster's own matter,
            and is not changed.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
      cluster:
        description:
          - The name of the cluster. Files that are not named are looked for under it.
          - Tells the clusters of one M(bulkhead.storage.layout) apart. Runs on one host wait
            for each other by it.
        type: str
        default: ceph
      conf:
        description:
          - Its configuration, which says where the monitors are. C(/etc/ceph/<cluster>.conf)
            where this is not given.
          - It must be there (C(not_found)), and belong to root, C(ceph) or who runs this and
            be writable by nobody else (C(unsafe_path)).
        type: path
      user:
        description:
          - The user to connect as, V(bulkhead) or V(client.bulkhead). Required, C(client.admin)
            is never assumed.
          - It needs the capabilities C(mon "allow rw"), and for O(ceph_pools[].namespaces)
            C(osd "allow rwx pool=<name>") or C(osd "profile rbd pool=<name>"). With C(mgr "allow
            r") a message can say which placement groups are late.
        type: str
      keyring:
        description:
          - The file with the key of O(ceph_pools[].user), held to the same rules as O(ceph_pools[].conf).
            Where this is not given, it is the first of what O(ceph_pools[].conf) names, by
            default C(/etc/ceph/<cluster>.client.<user>.keyring).
        type: path
      timeout:
        description:
          - Seconds for a whole look at the cluster, and for each thing that is changed, from
            1 to 3600. Monitors that do not answer for so long are C(unreachable), or C(timeout)
            where they did before, and are asked no more.
        type: int
        default: 30
  ceph_users:
    description:
      - Entries take the options of M(bulkhead.storage.ceph_user). A user of a Ceph cluster,
        what it may do, and the file with its key.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The user, V(blue) or V(client.blue). At most 128 of letters, digits and C(_ . -
            @).
          - Daemons of the cluster, C(client.admin), C(client.bootstrap-*) and O(ceph_users[].user)
            are C(protected).
        type: str
        required: true
      caps:
        description:
          - What it may do, a text for each of V(mon), V(osd), V(mgr) and V(mds). Required when
            O(ceph_users[].state=present).
          - This is all that it may do, what it was given beside that is taken back.
          - Space, quotes and the order of clauses mean nothing. What the cluster cannot read
            is C(invalid), and then nothing has changed.
          - A C(namespace=) without a C(pool=) would hold in every pool that has a namespace
            of that name, which is C(invalid).
        type: dict
      keyring_path:
        description:
          - A file on the host where this runs, with the key of this user and nothing else.
            It belongs to who runs this and has the mode 0600 from the beginning. Other content,
            owner or mode is changed.
          - Its directory must exist, or be made by another entry of the same M(bulkhead.storage.layout),
            else it is C(not_found). A symbolic link is C(unsafe_path).
          - A file with the key of another user, or anything else in it, is a C(conflict), also
            with O(ceph_users[].state=absent).
          - No file is written, looked at or removed where this is not given.
        type: path
      state:
        description:
          - V(absent) removes the user, and the file if O(ceph_users[].keyring_path) is given.
            Who is connected stays so for a while.
          - A user of the same name that is made later has another key.
          - Where the task says O(state=absent), V(absent) for an entry that does not say its
            own.
        type: str
        choices:
          - present
          - absent
        default: present
      cluster:
        description:
          - The name of the cluster. Files that are not named are looked for under it.
          - Tells the clusters of one M(bulkhead.storage.layout) apart. Runs on one host wait
            for each other by it.
        type: str
        default: ceph
      conf:
        description:
          - Its configuration, which says where the monitors are. C(/etc/ceph/<cluster>.conf)
            where this is not given.
          - It must be there (C(not_found)), and belong to root, C(ceph) or who runs this and
            be writable by nobody else (C(unsafe_path)).
        type: path
      user:
        description:
          - The user to connect as, V(bulkhead) or V(client.bulkhead). Required, C(client.admin)
            is never assumed.
          - It needs the capability C(mon "allow rwx"), and can then give itself and others
            any other.
        type: str
      keyring:
        description:
          - The file with the key of O(ceph_users[].user), held to the same rules as O(ceph_users[].conf).
            Where this is not given, it is the first of what O(ceph_users[].conf) names, by
            default C(/etc/ceph/<cluster>.client.<user>.keyring).
        type: path
      timeout:
        description:
          - Seconds for a whole look at the cluster, and for each thing that is changed, from
            1 to 3600. Monitors that do not answer for so long are C(unreachable), or C(timeout)
            where they did before, and are asked no more.
        type: int
        default: 30
"""
