#!/bin/bash -e
# The network is NetworkManager's alone, by profiles that raspboxd writes from raspbox.toml.

install -m 644 files/raspbox.conf "${ROOTFS_DIR}/etc/NetworkManager/conf.d/"
# A file with this mode, or NetworkManager ignores it.
install -m 600 files/raspbox-fallback.nmconnection "${ROOTFS_DIR}/etc/NetworkManager/system-connections/"
