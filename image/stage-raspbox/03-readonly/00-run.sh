#!/bin/bash -e
# A root that is never written to: see files/init.

install -d "${ROOTFS_DIR}/usr/lib/raspbox" "${ROOTFS_DIR}/etc/systemd/journald.conf.d"
install -m 755 files/init "${ROOTFS_DIR}/usr/lib/raspbox/"
install -m 644 files/journald.conf "${ROOTFS_DIR}/etc/systemd/journald.conf.d/raspbox.conf"
# Where the state partition is mounted.
install -d -m 755 "${ROOTFS_DIR}/var/lib/raspbox-state"

# It is asked for on the kernel's command line, and nothing may grow the root over the state partition.
cmdline=${ROOTFS_DIR}/boot/firmware/cmdline.txt
read -r -a words <"$cmdline"
kept=()
for word in "${words[@]}"; do
	case $word in
	resize | quiet | init=* | panic=* | cgroup_enable=memory) ;;
	*) kept+=("$word") ;;
	esac
done
# panic: a kernel that is at its end starts again after 10 s. cgroup_enable: a Pi's firmware asks the kernel for no limits
# on memory, and then MemoryMax= in raspbox.service holds nothing.
echo "${kept[*]} panic=10 cgroup_enable=memory init=/usr/lib/raspbox/init" >"$cmdline"

# The owner's file has passwords in it until they are taken in, so only root may read it; and where the
# partition can't be mounted, the appliance starts with what was known before.
awk -v OFS='\t' '$2 == "/boot/firmware" { $4 = "defaults,noatime,umask=0077,nofail" } { print }' \
	"${ROOTFS_DIR}/etc/fstab" >fstab.new
install -m 644 fstab.new "${ROOTFS_DIR}/etc/fstab"
rm fstab.new
