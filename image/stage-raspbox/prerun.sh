#!/bin/bash -e
# What every stage of pi-gen begins with: the root as the stage before has left it.

if [ ! -d "${ROOTFS_DIR}" ]; then
	copy_previous
fi
