# What is installed of Ollama, as key=value lines. Usage: releases.sh ROOT COMMAND
echo "command=$(readlink "$2")"
if [ -d /usr/share/ollama/.ollama/models/manifests ]; then
    echo "upstream_store=/usr/share/ollama/.ollama/models"
fi
cd "$1" || exit 0
incoming=$(du -sB1 .incoming)
echo "incoming=${incoming%%[!0-9]*}"
echo "current=$(readlink current)"
echo "previous=$(readlink previous)"
for directory in */; do
    directory=${directory%/}
    if [ ! -d "$directory" ] || [ -L "$directory" ]; then continue; fi
    echo "release=$directory"
    sed 's/^/archive=/' "$directory/.jarvis-archives"
done
