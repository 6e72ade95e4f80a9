apt-get install -y --no-install-recommends /raspboxd.deb
rm /raspboxd.deb
# The owner's file, on the partition that any laptop can edit.
install -m 644 /usr/share/raspbox/raspbox.toml /boot/firmware/raspbox.toml
