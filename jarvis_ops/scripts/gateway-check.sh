# Start a release of the gateway once with a fleet file, as its user and in its sandbox. The file is
# removed if that fails.
# Usage: gateway-check.sh ROOT RELEASE UNIT FLEET SECONDS
set -eu
release=$2 program=$1/$2/bin/python unit=$1/$2/$3 fleet=$4 seconds=$5

set -- --quiet --pipe --wait --collect --service-type=exec --property "RuntimeMaxSec=$seconds"
is_sandbox=
while IFS= read -r line; do
    case $line in
    '# From here '*) is_sandbox=yes ;;
    '#'* | '') ;;
    '['*) is_sandbox= ;;
    *) if [ -n "$is_sandbox" ]; then set -- "$@" --property "$line"; fi ;;
    esac
done <"$unit"

if output=$(systemd-run "$@" "$program" -I -B -m litellm_plugins.gateway --fleet "$fleet" --check 2>&1); then
    exit 0
fi
rm -f "$fleet"
printf '%s\n' "$output" >&2
reason=$(printf '%s\n' "$output" | tail -n 1)
echo "release $release does not start with this fleet, and what runs is left alone: ${reason:-no answer within $seconds seconds}" >&2
exit 1
