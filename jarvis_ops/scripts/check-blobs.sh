# Delete blobs that are not what their names say. Usage: check-blobs.sh BLOB...
for blob in "$@"; do
    sum=$(sha256sum <"$blob")
    if [ "sha256-${sum%% *}" != "${blob##*/}" ]; then
        echo "${blob##*/} is damaged and is deleted"
        rm -f "$blob"
    fi
done
