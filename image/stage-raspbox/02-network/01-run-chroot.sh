systemctl enable NetworkManager.service systemd-timesyncd.service
# It waits for a network that may never come; nothing of ours does.
systemctl mask NetworkManager-wait-online.service systemd-networkd-wait-online.service
# Neither of these may be there: both write network settings of their own.
for package in cloud-init netplan.io; do
	if dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
		apt-get purge -y "$package"
	fi
done
