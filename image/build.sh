#!/usr/bin/env bash
# Builds the SD card's image with pi-gen: deploy/raspbox-VERSION-ARCHITECTURE.img.xz, its SHA-256, a bill of
# what is in it (SPDX) and a manifest for Raspberry Pi Imager. As root, on Debian, with a checkout of pi-gen at the
# commit that image/config names, in the folder PI_GEN_DIR.
# usage: PI_GEN_DIR=FOLDER image/build.sh [arm64|armhf]
#   RASPBOX_PACKAGE=FILE  this package of raspboxd, and none is built
#   RASPBOX_URL=URL       the folder from which Imager will get the image; else the one here
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-arm64}
case $architecture in
arm64) branch=arm64 devices='"pi3-64bit", "pi4-64bit", "pi5-64bit"' ;;
armhf) branch=master devices='"pi1-32bit", "pi2-32bit", "pi3-32bit", "pi4-32bit"' ;;
*) echo "usage: PI_GEN_DIR=FOLDER image/build.sh [arm64|armhf]" >&2 && exit 2 ;;
esac
export RASPBOX_STAGE=$PWD/image/stage-raspbox
# shellcheck source=image/config
. image/config
pinned=RASPBOX_PI_GEN_$architecture
commit=${!pinned}

# All that is missing, before an hour has gone by.
missing=0
complain() {
    printf '%s\n' "$*" >&2
    missing=1
}
[ "$(id -u)" = 0 ] || complain "pi-gen has to be run as root"
if [ -z "${PI_GEN_DIR:-}" ]; then
    complain "PI_GEN_DIR names no checkout of pi-gen. This gets it:" \
        "git clone --branch $branch https://github.com/RPi-Distro/pi-gen pi-gen-$architecture &&" \
        "git -C pi-gen-$architecture checkout $commit"
elif [ ! -x "$PI_GEN_DIR/build.sh" ]; then
    complain "$PI_GEN_DIR is no checkout of pi-gen: there is no build.sh"
elif ! found=$(git -C "$PI_GEN_DIR" rev-parse HEAD 2>&1); then
    complain "$PI_GEN_DIR: $found"
elif [ "$found" != "$commit" ]; then
    complain "$PI_GEN_DIR is at $found. This gets the right one:" \
        "git -C $PI_GEN_DIR fetch origin $branch && git -C $PI_GEN_DIR checkout $commit"
elif [ -n "$(git -C "$PI_GEN_DIR" status --porcelain --untracked-files=no 2>&1)" ]; then
    complain "$PI_GEN_DIR was changed; what is built shall be what was pinned: git -C $PI_GEN_DIR checkout ."
else
    # Its own list: TOOL or TOOL:PACKAGE on each line.
    while IFS=: read -r tool package; do
        [ -z "$tool" ] || command -v "$tool" >/dev/null || [ -e "/usr/sbin/$tool" ] ||
            complain "pi-gen needs $tool: apt install ${package:-$tool}"
    done <"$PI_GEN_DIR/depends"
fi
case ${PI_GEN_DIR:-} in *[[:space:]]*) complain "PI_GEN_DIR has a space in it, which debootstrap can't have" ;; esac
for tool in sfdisk:fdisk mke2fs:e2fsprogs debugfs:e2fsprogs mtype:mtools xz:xz-utils sha256sum:coreutils; do
    command -v "${tool%:*}" >/dev/null || [ -x "/usr/sbin/${tool%:*}" ] ||
        complain "${tool%:*} is missing: apt install ${tool#*:}"
done
PATH=$PATH:/usr/sbin:/sbin
if [ -n "${RASPBOX_PACKAGE:-}" ]; then
    [ -f "$RASPBOX_PACKAGE" ] || complain "there is no $RASPBOX_PACKAGE"
fi
work=$PWD/target/image/$architecture
free_mib=$(df --output=avail --block-size=1M . | tail -1)
[ "$free_mib" -ge 12000 ] || complain "building takes 12 GB, and $free_mib MB are free here"
[ $missing = 0 ] || exit 1

if [ -z "${RASPBOX_PACKAGE:-}" ]; then
    RASPBOX_PACKAGE=$(image/package/build --only=raspboxd "$architecture" | tail -1)
fi
RASPBOX_PACKAGE=$(realpath "$RASPBOX_PACKAGE")
[ "$(dpkg-deb --field "$RASPBOX_PACKAGE" Architecture)" = "$architecture" ] ||
    { echo "$RASPBOX_PACKAGE is not for $architecture" >&2 && exit 1; }
version=$(dpkg-deb --field "$RASPBOX_PACKAGE" Version)
name=raspbox-$version-$architecture

# pi-gen would go on where it was left, and with another package.
rm -rf "$work"
mkdir -p "$work" deploy
{
    printf 'export RASPBOX_STAGE=%q RASPBOX_PACKAGE=%q\n' "$RASPBOX_STAGE" "$RASPBOX_PACKAGE"
    cat image/config
    printf 'WORK_DIR=%q DEPLOY_DIR=%q IMG_FILENAME=%q\n' "$work/work" "$work/deploy" "$name"
} >"$work/config"
(cd "$PI_GEN_DIR" && ./build.sh -c "$work/config")

image=$work/deploy/$name.img
[ -f "$image" ] || { echo "pi-gen has made no $image; its log is in $work/work" >&2 && exit 1; }
image/finish "$image" deploy

printf '{ "os_list": [ {\n' >"deploy/$name.json"
{
    printf '  "name": "raspbox %s (%s)",\n' "$version" "$architecture"
    printf '  "description": "Your own Dropbox on an old Raspberry Pi",\n'
    printf '  "url": "%s/%s.img.xz",\n' "${RASPBOX_URL:-file://$PWD/deploy}" "$name"
    printf '  "release_date": "%s",\n' "$(date --utc +%F)"
    printf '  "extract_size": %s,\n' "$(stat --format=%s "$image")"
    printf '  "extract_sha256": "%s",\n' "$(sha256sum "$image" | cut -d' ' -f1)"
    printf '  "image_download_size": %s,\n' "$(stat --format=%s "deploy/$name.img.xz")"
    printf '  "image_download_sha256": "%s",\n' "$(cut -d' ' -f1 "deploy/$name.img.xz.sha256")"
    printf '  "devices": [ %s ],\n' "$devices"
    # All settings are in raspbox.toml; Imager's own would be for cloud-init.
    printf '  "init_format": "none"\n} ] }\n'
} >>"deploy/$name.json"
ls -l deploy/"$name"*
