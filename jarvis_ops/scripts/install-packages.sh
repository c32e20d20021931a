# Install Debian packages, also after another installation was cut off, and while a freshly booted
# machine's own upgrades are at work.
# Usage: install-packages.sh SECONDS PACKAGE...   (SECONDS to wait for other package managers)
limit=$(($(date +%s) + $1))
shift
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# Runs a command, again and again as long as it fails for a lock.
unlocked() {
    until "$@" >/dev/null 2>"$errors"; do
        if ! grep -q 'lock' "$errors" || [ "$(date +%s)" -ge "$limit" ]; then
            cat "$errors" >&2
            return 1
        fi
        echo "waiting for another package manager"
        sleep 5
    done
}

install() {
    unlocked apt-get -qq -y --no-install-recommends \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
}

unlocked dpkg --configure -a || exit 1
# An index of the last day is tried first; what it lists may be gone from the mirrors all the same.
if [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1)" ]; then
    install "$@" 2>/dev/null && exit 0
fi
unlocked apt-get -qq update && install "$@"
