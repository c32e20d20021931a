# What a model store holds: manifests with their text in base64, blobs with their sizes, and what
# unfinished downloads take, in blocks of 512 bytes.
# Usage: store.sh PATH
cd "$1/manifests" || exit 0
find . -mindepth 4 -maxdepth 4 -type f | while read -r file; do
    echo "manifest ${file#./} $(base64 -w 0 "$file")"
done
cd ../blobs || exit 0
find . -maxdepth 1 -type f -name 'sha256-*' ! -name '*-partial*' -printf 'blob %f %s\n'
find . -maxdepth 1 -type f -name '*-partial*' -printf 'partial %b\n'
