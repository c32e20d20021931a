# The GPUs of a machine, as key=value lines; each GPU begins with gpu=PCI-ADDRESS.
# Usage: gpus.sh [ROOT]   (ROOT is a recorded tree; none means this machine)
root=${1:-}
for device in "$root"/sys/bus/pci/devices/*; do
    # Display controllers (VGA, 3D, other) and processing accelerators.
    case $(cat "$device/class") in
    0x0300* | 0x0302* | 0x0380* | 0x1200*) ;;
    *) continue ;;
    esac
    echo "gpu=${device##*/}"
    echo "vendor=$(cat "$device/vendor")"
    echo "device=$(cat "$device/device")"
    driver=$(readlink "$device/driver")
    echo "driver=${driver##*/}"
    for file in mem_info_vram_total mem_info_gtt_total; do
        if [ -r "$device/$file" ]; then echo "$file=$(cat "$device/$file")"; fi
    done
    # The amdgpu driver has these for cards with memory of their own.
    if [ -e "$device/board_info" ] || [ -e "$device/mem_info_vram_vendor" ]; then
        echo "own_memory=yes"
    fi
done
for node in "$root"/sys/class/kfd/kfd/topology/nodes/*/properties; do
    if [ ! -r "$node" ]; then continue; fi
    awk '{ value[$1] = $2 } END { if (value["gfx_target_version"] > 0)
        print "kfd=" value["domain"] + 0, value["location_id"], value["gfx_target_version"] }' "$node"
done
if [ -e "$root/dev/kfd" ]; then echo "has_kfd=yes"; fi
if command -v nvidia-smi >/dev/null; then
    timeout 10 nvidia-smi --query-gpu=pci.bus_id,memory.total,name --format=csv,noheader,nounits |
        sed 's/^/nvidia=/'
fi
