# Free space where a path is or would be: the path, its file system's device number, bytes.
# Usage: space.sh PATH...
for path in "$@"; do
    there=$path
    while [ ! -e "$there" ]; do
        there=${there%/*}
        there=${there:-/}
    done
    stat -f -c '%a %S' "$there" | {
        read -r blocks size
        echo "$path $(stat -c %d "$there") $((blocks * size))"
    }
done
