#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the guest of `make vm`: Debian 12's minbase with systemd, its own kernel and guest.packages, as DIR/root.img, DIR/vmlinuz
# and DIR/initrd.  No part of ration is in it: tests/vm/run hands that over at each boot.  So it is made once, and again when this file or the list of
# packages has changed.  Root only: it makes files of many owners.  The mirror is the one that apt on this machine uses.
#
#   tests/vm/image.sh DIR
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
mkdir -p "$dir"
key=$(cat "$here/image.sh" "$here/guest.packages" | sha256sum)
[ "$(cat "$dir/key" 2>/dev/null)" != "$key" ] || exit 0
rm -f "$dir/key"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

indexes() {
  apt-get indextargets --format "deb \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' 'Origin: Debian' | grep bookworm | sort -u
}
indexes >"$work/sources" || { apt-get update -q >/dev/null && indexes >"$work/sources"; }
packages=$(sed 's/#.*//' "$here/guest.packages" | xargs | tr ' ' ,)

# In the root file system before it becomes an image.
cat >"$work/customize" <<'CUSTOMIZE'
#!/bin/sh
set -eu
root=$1
echo ration-vm >"$root/etc/hostname"
echo "127.0.0.1 localhost ration-vm" >"$root/etc/hosts"
echo "/dev/vda / ext4 defaults 0 1" >"$root/etc/fstab"
chroot "$root" passwd -q -d root
chroot "$root" useradd -m -s /bin/bash -G sudo tester
echo "tester ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/tester"

# root logs in at the first serial line: a real session, by login, PAM and logind.  What is to be done there comes with the second disk.
mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
cat >"$root/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf" <<'UNIT'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --noissue %I 115200 linux
UNIT
cat >"$root/root/.bash_profile" <<'PROFILE'
if [ "$(tty)" = /dev/ttyS0 ]; then
  mkdir -p /root/ration && tar -xf /dev/vdb -C /root/ration && exec bash /root/ration/tests/vm/guest/start
fi
PROFILE

# An initrd of what this machine has, and no time spent on what it has not.
printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules"
printf 'MODULES=list\nCOMPRESS=gzip\n' >"$root/etc/initramfs-tools/conf.d/vm"
chroot "$root" update-initramfs -u -k all
chroot "$root" systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
  getty@tty1.service systemd-timesyncd.service systemd-random-seed.service memcached.service
CUSTOMIZE
chmod +x "$work/customize"

echo "vm: making the guest's image in $dir" >&2
mmdebstrap --quiet --variant=minbase --format=directory --include="$packages" --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="$work/customize" bookworm "$work/root" "$work/sources"

cp "$(readlink -f "$work"/root/boot/vmlinuz-*)" "$dir/vmlinuz"
cp "$(readlink -f "$work"/root/boot/initrd.img-*)" "$dir/initrd"
rm -f "$dir/root.img"
truncate -s 3G "$dir/root.img"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$work/root" "$dir/root.img"
echo "$key" >"$dir/key"
