# Runs on the overlay root (init.sh), again after boot.py's settings; then LAB_COMMAND, LAB_CWD and the environment apply.
umount -l /run/host
rmdir /run/host
# Tunnel modules must not put a device into every namespace that is made.
[ -n "$LAB_NATIVE" ] || echo 1 > /proc/sys/net/core/fb_tunnels_only_for_init_net
modprobe -a -q $LAB_LOAD
ip link set lo up
if [ -n "$LAB_LINK" ]; then
    ip address add "$LAB_ADDRESS" dev "$LAB_LINK"
    ip link set "$LAB_LINK" up
fi
# Where the kernel has no nf_tables families, the system's iptables is the legacy one, as a distribution would have it.
if ! unshare --net iptables-nft -N lab > /dev/null 2>&1; then
    for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        case $tool in
        *-*) legacy=${tool%-*}-legacy-${tool##*-} ;;
        *) legacy=$tool-legacy ;;
        esac
        ln -sf "/usr/sbin/$legacy" "/etc/alternatives/$tool"
    done
fi
# The host asks for a power-off by what it finds in the status file, so it is written last and in one piece.
finish() {
    echo "$1" > "$LAB_JOB/status.new"
    mv "$LAB_JOB/status.new" "$LAB_JOB/status"
    if [ -n "$LAB_NATIVE" ]; then
        rmdir /sys/fs/cgroup/kubepods/burstable /sys/fs/cgroup/kubepods 2> /dev/null
        exit 0
    fi
    echo o > /proc/sysrq-trigger
    while :; do sleep 60; done
}
cd "$LAB_CWD" || finish 125
if [ -n "$LAB_CONSOLE" ]; then
    setsid -c -w /bin/sh "$LAB_JOB/command" < "$LAB_CONSOLE" > "$LAB_CONSOLE" 2>&1
else
    /bin/sh "$LAB_JOB/command" < /dev/null >> "$LAB_JOB/stdout" 2>> "$LAB_JOB/stderr"
fi
finish $?
