#!/bin/bash
# kube-router's Service proxy on node n1 of takeover-kube-router.yaml: `start`, `end`.
#
# The real one where $KUBE_ROUTER names its binary. Else what it does is done by commands, after what v2.11 puts into the
# kernel for the Services of that file, one of them with direct server return, and for one pod with a policy; and a
# process has its name.
set -euo pipefail

vips=(10.96.0.1 10.96.0.10) vips6=(fd00:10:96::10)
node=192.0.2.11 node6=2001:db8::11

virtual_server() { # VIP:PORT ENDPOINT...
    ipvsadm -A -t "$1" -s rr
    local endpoint
    for endpoint in "${@:2}"; do ipvsadm -a -t "$1" -r "$endpoint" -m; done
}

bind() { # FAMILY SOURCE VIP...
    local vip
    for vip in "${@:3}"; do
        ip "-$1" address add "$vip" dev kube-dummy-if scope link nodad 2>/dev/null || ip "-$1" address add "$vip" dev kube-dummy-if scope link
        ip "-$1" route replace local "$vip" dev kube-dummy-if table local proto kernel scope host src "$2" 2>/dev/null ||
            ip "-$1" route replace local "$vip" dev kube-dummy-if table local src "$2"
    done
}

services() {
    modprobe -a xt_ipvs xt_TCPMSS 2>/dev/null || true
    ip link add kube-dummy-if type dummy && ip link set kube-dummy-if up
    bind 4 "$node" "${vips[@]}"
    bind 6 "$node6" "${vips6[@]}"
    virtual_server 10.96.0.1:443 172.31.255.1:6443
    virtual_server 10.96.0.10:80 10.244.1.20:8080 10.244.2.20:8080
    virtual_server "$node:30080" 10.244.1.20:8080 10.244.2.20:8080
    virtual_server "[fd00:10:96::10]:80" "[fd00:10:244:1::20]:8080" "[fd00:10:244:2::20]:8080"
    virtual_server "[$node6]:30080" "[fd00:10:244:1::20]:8080" "[fd00:10:244:2::20]:8080"
    sysctl -q net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1 net.ipv4.conf.all.arp_ignore=1
}

firewall() { # IPTABLES PREFIX-OF-SETS FAMILY ICMP LOCAL VIP...
    local tables=$1 sets=$2 vip
    ipset create "${sets}kube-router-local-ips" hash:ip family "$3" timeout 0
    ipset create "${sets}kube-router-svip" hash:ip family "$3" timeout 0
    ipset create "${sets}kube-router-svip-prt" hash:ip,port family "$3" timeout 0
    ipset add "${sets}kube-router-local-ips" "$5"
    for vip in "${@:6}"; do ipset add "${sets}kube-router-svip" "$vip"; ipset add "${sets}kube-router-svip-prt" "$vip,tcp:80"; done
    ipset add "${sets}kube-router-svip" "$5"
    ipset add "${sets}kube-router-svip-prt" "$5,tcp:30080"
    "$tables" -N KUBE-ROUTER-SERVICES
    "$tables" -A KUBE-ROUTER-SERVICES -p "$4" -j ACCEPT
    "$tables" -A KUBE-ROUTER-SERVICES -m set --match-set "${sets}kube-router-svip-prt" dst,dst -j ACCEPT
    "$tables" -A KUBE-ROUTER-SERVICES -m set ! --match-set "${sets}kube-router-local-ips" dst -j REJECT
    "$tables" -I INPUT -m set --match-set "${sets}kube-router-svip" dst -j KUBE-ROUTER-SERVICES
    "$tables" -t nat -A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "" \
        -j SNAT --to-source "$5" --random-fully
}

direct_server_return() {
    ipvsadm -A -f 3298 -s rr
    ipvsadm -a -f 3298 -r 10.244.2.20:80 -i
    local hook
    for hook in PREROUTING OUTPUT; do
        iptables -t mangle -A $hook -d 203.0.113.7 -p tcp -m tcp --dport 80 -j MARK --set-mark 3298
    done
    iptables -t mangle -A PREROUTING -s 203.0.113.7 -i kube-bridge -p tcp -m tcp --sport 80 --tcp-flags SYN,RST SYN \
        -j TCPMSS --set-mss 1440
    ip rule add fwmark 3298 table 78 priority 32764
    ip route add local default dev lo table 78
    ip rule add from all table 79 priority 32765
}

policies() {
    ipset create KUBE-DST-IZ5JGF4W6BKI7CEV hash:ip family inet timeout 0
    iptables -N KUBE-ROUTER-FORWARD
    iptables -N KUBE-POD-FW-C23KD7UE4TAT3Y5M
    iptables -N KUBE-NWPLCY-IZ5JGF4W6BKI7CEV
    iptables -I FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD
    iptables -A KUBE-ROUTER-FORWARD -d 10.244.1.77 -j KUBE-POD-FW-C23KD7UE4TAT3Y5M
    iptables -A KUBE-POD-FW-C23KD7UE4TAT3Y5M -d 10.244.1.77 -j KUBE-NWPLCY-IZ5JGF4W6BKI7CEV
    iptables -A KUBE-NWPLCY-IZ5JGF4W6BKI7CEV -m set --match-set KUBE-DST-IZ5JGF4W6BKI7CEV dst -j MARK --set-xmark 0x10000/0x10000
}

case $1 in
start)
    if [[ -n ${KUBE_ROUTER:-} ]]; then
        "$KUBE_ROUTER" --kubeconfig=/run/lab/admin.kubeconfig --hostname-override=n1 --run-router=false --run-firewall=false \
            --run-service-proxy=true --enable-ipv6 --service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112 \
            >/run/kube-router.log 2>&1 &
    else
        (exec -a kube-router sleep 1000000) &
        services
        firewall iptables "" inet icmp "$node" "${vips[@]}"
        firewall ip6tables inet6: inet6 ipv6-icmp "$node6" "${vips6[@]}"
        direct_server_return
        policies
    fi
    echo $! >/run/kube-router.pid
    ;;
end)
    kill "$(cat /run/kube-router.pid)"
    while kill -0 "$(cat /run/kube-router.pid)" 2>/dev/null; do sleep 0.1; done
    ;;
esac
