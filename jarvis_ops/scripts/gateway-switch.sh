# Run a release of the gateway, with the fleet file that was checked with it; if it does not come
# up, go back to the release that was up before, and to its fleet file.
#
# The unit names the release by its own path, so replacing the unit is the switch. The link
# 'current' follows once the release has come up: it is what there is to go back to.
# Usage: gateway-switch.sh ROOT RELEASE UNIT_FILE FLEET_FILE CANDIDATE URL SECONDS LINES
set -eu
# Once begun it comes to its end, also if nobody listens any more.
trap '' HUP PIPE
root=$1 release=$2 unit_file=$3 fleet=$4 candidate=$5 url=$6 seconds=$7 lines=$8
unit=${unit_file##*/}
before=$fleet.before

exec 9>"$root/.incoming/lock"
flock -w 600 9 || {
    echo "another run is deploying the gateway on this machine; try again when it is done" >&2
    exit 1
}

say() { echo "$*" || true; }

property() { systemctl show -p "$1" --value "$unit"; }

running() {
    pid=$(property MainPID)
    tr '\0' '\n' 2>/dev/null <"/proc/${pid:-0}/environ" | sed -n 's/^JARVIS_UNIT=//p'
}

is_live() { curl -fsS --noproxy '*' --max-time 2 -o /dev/null "$url/health/live" 2>/dev/null; }

# Puts a release's unit in place; fails if it is there already.
put_unit() {
    if cmp -s "$root/$1/$unit" "$unit_file" && [ "$(stat -c '%a %u' "$unit_file")" = '644 0' ]; then return 1; fi
    install -m 644 "$root/$1/$unit" "$unit_file.jarvis-new"
    sync "$unit_file.jarvis-new"
    mv -f "$unit_file.jarvis-new" "$unit_file"
}

restart() {
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl restart "$unit"
}

# Waits until a release answers; one that systemd has to start again is not waited for.
comes_up() {
    restarts=$(property NRestarts)
    until=$(($(date +%s) + seconds))
    while [ "$(date +%s)" -lt "$until" ]; do
        if is_live && [ "$(running)" = "$1" ]; then return 0; fi
        if [ "$(property NRestarts)" != "$restarts" ]; then return 1; fi
        sleep 0.3
    done
    return 1
}

point() {
    ln -sfn "$2" "$root/.$1.new"
    mv -fT "$root/.$1.new" "$root/$1"
}

go_back() {
    journalctl --no-pager -o cat -n "$lines" -u "$unit" || true
    if [ -e "$before" ]; then mv -f "$before" "$fleet"; fi
    if [ -z "$good" ]; then
        systemctl stop "$unit"
        echo "release $release did not come up, and there is none to go back to; its last words are above" >&2
        exit 1
    fi
    put_unit "$good" || true
    restart
    if comes_up "$good"; then
        echo "release $release did not come up, its last words are above; release $good runs again" >&2
    else
        echo "release $release did not come up, its last words are above; nor does $good" >&2
    fi
    exit 1
}

good=$(readlink "$root/current" || true)
if [ ! -e "$root/$good/.complete" ]; then good=; fi

# An interrupted run may have left the older one, which is the one to go back to.
if [ -e "$fleet" ] && [ ! -e "$before" ]; then cp -p "$fleet" "$before"; fi
mv -f "$candidate" "$fleet"

is_stale=
if put_unit "$release"; then is_stale=yes; fi
if [ "$(property NeedDaemonReload)" = yes ] || [ "$(running)" != "$release" ] || ! is_live; then
    is_stale=yes
fi
if [ -n "$is_stale" ]; then
    say "starting release $release"
    restart || go_back
    comes_up "$release" || go_back
else
    systemctl enable --quiet "$unit"
fi

rm -f "$before"
if [ -n "$good" ] && [ "$good" != "$release" ]; then point previous "$good"; fi
point current "$release"
previous=$(readlink "$root/previous" || true)
for directory in "$root"/*/; do
    directory=${directory%/}
    case ${directory##*/} in
    current | previous | "$release" | "$previous") ;;
    *) rm -rf "$directory" ;;
    esac
done
say "release $release is live"
