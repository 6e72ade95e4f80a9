#!/bin/bash -e
# Nothing that listens but raspbox, nobody who could log in, and a watchdog.

install -d "${ROOTFS_DIR}/etc/systemd/system.conf.d" "${ROOTFS_DIR}/etc/systemd/system-generators"
install -m 644 files/watchdog.conf "${ROOTFS_DIR}/etc/systemd/system.conf.d/90-raspbox-watchdog.conf"
install -m 644 files/sysctl.conf "${ROOTFS_DIR}/etc/sysctl.d/90-raspbox.conf"
install -m 644 files/sshd.conf "${ROOTFS_DIR}/etc/ssh/sshd_config.d/raspbox.conf"
install -m 644 files/raspbox-ssh.service "${ROOTFS_DIR}/etc/systemd/system/"
install -m 755 files/ssh-start "${ROOTFS_DIR}/usr/lib/raspbox/"
# systemd has sshd listen on sockets of its own accord, where there is one.
ln -sf /dev/null "${ROOTFS_DIR}/etc/systemd/system-generators/systemd-ssh-generator"
cat files/config.txt >>"${ROOTFS_DIR}/boot/firmware/config.txt"
# Made when the package was installed: the same for everybody who has this image. ssh-start makes one.
rm -f "${ROOTFS_DIR}"/etc/ssh/ssh_host_*_key*
