#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The BPF programs pass the verifier of older kernels, and do their work there: boots each kernel
# image named in RATION_TEST_KERNELS (paths of bzImages, for instance Debian's linux-image-6.1) in
# qemu, without KVM, and runs test_watch inside.  Skips where none is named or no qemu is installed.
# timeout: 900
set -eu

skip() { echo "$1"; exit 77; }
build=$(realpath "${BUILD:-build}")
qemu=qemu-system-$(uname -m)
[ -n "${RATION_TEST_KERNELS:-}" ] || skip "RATION_TEST_KERNELS names no kernel image"
command -v "$qemu" >/dev/null || skip "$qemu is not installed"
busybox=$(command -v busybox || true)
[ -n "$busybox" ] || skip "busybox is not installed"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
root=$dir/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp "$busybox" "$root/bin/busybox"
cp "$build/tests/unit/test_watch" "$root/bin/"
for f in "$busybox" "$build/tests/unit/test_watch"; do
  { ldd "$f" 2>/dev/null || true; } | grep -oE '/[^ ]+\.so[^ ]*' | while read -r lib; do
    mkdir -p "$root$(dirname "$lib")"
    cp -L "$lib" "$root$lib"
  done
done
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
for a in mount uname poweroff; do busybox ln -s busybox /bin/$a; done
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp
echo "kernel $(uname -r)"
CK_TIMEOUT_MULTIPLIER=20 test_watch 2>&1
echo "test_watch exits $?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && busybox find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd.gz"

failed=0
for kernel in $RATION_TEST_KERNELS; do
  timeout 600 "$qemu" -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nographic -no-reboot -kernel "$kernel" \
    -initrd "$dir/initrd.gz" -append "console=ttyS0 panic=-1 quiet" </dev/null >"$dir/out" 2>&1 || true
  if grep -q '^test_watch exits 0' "$dir/out"; then
    echo "ok - $(grep -oE 'kernel [0-9][^ ]*' "$dir/out" | tr -d '\r')"
  else
    tail -40 "$dir/out"
    echo "not ok - $kernel"
    failed=1
  fi
done
exit $failed
