#!/bin/sh
# What makes a bare Debian one of the lab's machines. mmdebstrap calls it with the root directory.
set -eu
root=$1

chroot "$root" useradd --create-home --shell /bin/bash lab
echo 'lab ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/lab"
chmod 0440 "$root/etc/sudoers.d/lab"
install -d -m 0700 "$root/home/lab/.ssh"
chroot "$root" chown lab:lab /home/lab/.ssh

cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'END'
PermitRootLogin no
PasswordAuthentication no
UseDNS no
END
# Every host gets keys and an identity of its own.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"

# Nothing may start by itself in the middle of a test.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

cp "$JARVIS_LAB_CERTIFICATES"/*.crt "$root/usr/local/share/ca-certificates/"
chroot "$root" update-ca-certificates
