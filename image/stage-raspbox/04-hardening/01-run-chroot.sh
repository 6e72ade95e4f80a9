# pi-gen makes one, with a password that only it has seen.
if getent passwd "${FIRST_USER_NAME}" >/dev/null; then
	userdel --remove "${FIRST_USER_NAME}" || [ $? = 12 ] # 12: it had no home
fi
rm -f /etc/sudoers.d/010_*
# No password is this one's.
usermod --password '*' root

systemctl disable ssh.service
systemctl enable raspbox-ssh.service
# - Would ask on the screen for a user's name at the first start, and wait for ever.
# - Grow the root over the state partition, make SSH's keys, start SSH for a file on the card.
# - Nobody can log in there.
# - Update lists in memory, or write to the card.
systemctl mask \
	userconfig.service \
	rpi-resize.service regenerate_ssh_host_keys.service sshswitch.service \
	ssh.socket getty@.service serial-getty@.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer \
	systemd-random-seed.service systemd-machine-id-commit.service
