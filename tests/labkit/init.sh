# The lab's first process, after the settings that boot.py writes before this text: LAB_MODULES, LAB_WRITABLE,
# LAB_ADDRESS, LAB_LINK, LAB_JOB, LAB_CWD, LAB_CONSOLE (only when interactive), LAB_LOAD, LAB_NATIVE (the kernel is the
# host's own) and LAB_LOWER (file systems below / that an overlay of / does not show).
#
# Root becomes an overlay over the host's tree whose upper half is memory: programs may write anywhere and the host's
# files stay as they are, except below the directories in LAB_WRITABLE.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
version=$(uname -r)

if [ -n "$LAB_NATIVE" ]; then
    mount --make-rprivate /
else
    # Started by a user, root's files are somebody else's in here, and a setuid mount would run as them.
    setpriv --no-new-privs mount -o remount,nosuid /
fi
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
if [ -z "$LAB_NATIVE" ]; then
    grep -qw overlay /proc/filesystems || insmod "$LAB_MODULES"/kernel/fs/overlayfs/overlay.ko*
fi

number=0
overlay() {
    number=$((number + 1))
    mkdir -p "/run/up$number" "/run/work$number" "/run/new$1"
    mount -t overlay -o "nosuid,lowerdir=$1,upperdir=/run/up$number,workdir=/run/work$number" overlay "/run/new$1"
}
overlay /
while read -r lower; do
    [ -z "$lower" ] || overlay "$lower"
done << END
$LAB_LOWER
END

mount -t proc proc /run/new/proc
mount -t sysfs sysfs /run/new/sys
mount -t cgroup2 cgroup2 /run/new/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run/new/run
if [ -n "$LAB_NATIVE" ]; then
    mount --rbind /dev /run/new/dev
else
    mount -t devtmpfs devtmpfs /run/new/dev
    mkdir -p /run/new/dev/pts /run/new/dev/shm
    mount -t devpts -o ptmxmode=666 devpts /run/new/dev/pts
    mount -t tmpfs tmpfs /run/new/dev/shm
    ln -s /proc/self/fd /run/new/dev/fd
    mkdir -p /run/new/lib/modules
    [ -e "/run/new/lib/modules/$version" ] || ln -s "$LAB_MODULES" "/run/new/lib/modules/$version"
fi
echo "$LAB_WRITABLE" | while read -r directory; do
    [ -z "$directory" ] || mount --bind "$directory" "/run/new$directory"
done

# Not chroot: whoever enters a mount namespace later is put at its true root.
mkdir -p /run/new/run/host
pivot_root /run/new /run/new/run/host
exec chroot / /bin/sh "$LAB_JOB/inside"
