# Which firewall is live: the loaded file's checksum, and whether the table is still as loaded.
# Usage: firewall.sh RECORD TABLE
if [ ! -r "$1" ]; then exit 0; fi
{
    read -r file _
    read -r listing _
} <"$1"
# shellcheck disable=SC2086 # the table is a family and a name
live=$(nft -s list table $2 | sha256sum)
echo "file=$file"
if [ "${live%% *}" = "$listing" ]; then echo "untouched=yes"; fi
