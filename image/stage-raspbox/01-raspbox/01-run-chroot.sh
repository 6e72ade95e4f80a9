apt-get install -y --no-install-recommends /raspboxd.deb
rm /raspboxd.deb
# Each start makes it immutable; here it has to be removed when the image is built again.
chattr -i /srv/raspbox || : # where there is no such thing
# The owner's file, on the partition that any laptop can edit.
install -m 644 /usr/share/raspbox/raspbox.toml /boot/firmware/raspbox.toml
