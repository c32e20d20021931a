# State of systemd units, as key=value lines; each unit begins with unit=NAME.
# Usage: units.sh UNIT...
for unit in "$@"; do
    echo "unit=$unit"
    systemctl show "$unit" -p LoadState,ActiveState,UnitFileState,NeedDaemonReload,MainPID
    for drop_in in "/etc/systemd/system/$unit.d"/*.conf; do
        if [ -e "$drop_in" ]; then echo "drop_in=$drop_in"; fi
    done
    pid=$(systemctl show -p MainPID --value "$unit")
    [ -r "/proc/${pid:-0}/environ" ] || continue
    tr '\0' '\n' <"/proc/$pid/environ" | grep '^JARVIS_UNIT=' | head -n 1
    # A process gets its groups when it starts: those its user has joined since do not count.
    echo "has_groups=$(sed -n 's/^Gid:\|^Groups:/ /p' "/proc/$pid/status" | xargs)"
    echo "user_groups=$(id -G "$(stat -c %U "/proc/$pid")")"
done
