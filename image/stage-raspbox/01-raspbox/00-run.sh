#!/bin/bash -e
# The package as image/build.sh has built and named it; apt installs it in the next step.

install -m 644 "${RASPBOX_PACKAGE:?image/build.sh sets it}" "${ROOTFS_DIR}/raspboxd.deb"
