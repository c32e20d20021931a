# What the machine is, as key=value lines.
. /etc/os-release
echo "os=$ID"
echo "version=$VERSION_ID"
echo "name=$PRETTY_NAME"
# A 32-bit system may run on a 64-bit kernel, so the packages' architecture counts.
echo "architecture=$(dpkg --print-architecture || uname -m)"
if [ -d /run/systemd/system ]; then echo "systemd=yes"; fi
if { command -v curl || command -v python3; } >/dev/null; then echo "can_fetch=yes"; fi
awk '/\|--/ { address = $2 } /\/32 host LOCAL/ { print "address=" address }' /proc/net/fib_trie
