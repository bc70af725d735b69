# Runs a command with a tool tree as the root folder: enter.sh TREE HERE COMMAND…; HERE appears as /run/here.
# Workspace and temporary folders are memory, as they are for begat.
set -eu
tree=$1 here=$2
shift 2
mount --make-rprivate /
mount --rbind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount --rbind /sys "$tree/sys"
for folder in run tmp var/tmp work; do
    mount -t tmpfs -o mode=0755 tmpfs "$tree/$folder"
done
mkdir "$tree/run/here" "$tree/work/mkosi" "$tree/work/cache"
mount --bind "$here" "$tree/run/here"
exec chroot "$tree" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin TZ=UTC "$@"
