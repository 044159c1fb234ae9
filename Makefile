# Every target is one line into scripts/; each does the set-up it needs, and a second run does none.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup check test unit scenarios api kernel lab rolling-updates policy-campaign policy-moments demo bench bench-peers bgp router-gue test-qemu-demo control-plane clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: ## a virtual environment, and Debian packages where we are root
	@scripts/setup

check: setup ## ruff, mypy --strict, import contracts
	@scripts/test check

test: setup ## everything: check, unit, scenarios, api, kernel, lab
	@scripts/test

unit: setup ## decisions: no root, no clock, no network
	@scripts/test unit

scenarios: setup ## a cluster in, a node's state out, as text
	@scripts/test scenarios

api: setup ## against a real kube-apiserver and etcd
	@scripts/test api

kernel: setup ## every kernel edge, in the lab kernel
	@scripts/test kernel

lab: setup ## packets: every scenario of tests/lab (FILES="a.yaml b.yaml" for some)
	@scripts/test lab $(FILES)

rolling-updates: setup ## ten pods replaced under load, per scheduler, with draining and without (SCHEDULERS="rr mh" for some)
	@scripts/rolling-updates $(SCHEDULERS)

demo: setup ## three nodes, real traffic through IPVS, on one screen
	@scripts/demo

policy-campaign: setup ## random worlds of NetworkPolicy, packets against the judge (EXAMPLES=1000 SEED=7 MINUTES=60)
	@scripts/policy-campaign matrix

policy-moments: setup ## connections all the time while policies change and the agent dies (EXAMPLES=1000 SEED=7 MINUTES=60)
	@scripts/policy-campaign moments

bench: setup ## how fast and how big, in the lab kernel
	@scripts/bench

bench-peers: setup ## the same beside kube-proxy and kube-router (hours; PEERS=ours,ipvs POINTS=1000x10 for a part)
	@scripts/bench-peers

bgp: setup ## each kind of BGP peer and each role at length; `make test` plays their common part (minutes)
	@scripts/lab run tests/lab/slow/bgp-*.yaml

router-gue: setup ## the pod network in UDP, on Linux 6.12 (slow: QEMU)
	@scripts/test qemu-router-gue

test-qemu-demo: setup ## the demo's world once more on Linux 6.12 with iptables-nft (slow: QEMU)
	@scripts/test qemu-demo

control-plane: setup ## builds etcd, kube-apiserver, kube-controller-manager and kubectl into the cache
	@scripts/control-plane

clean: ## removes what was made inside the tree; the control plane's cache outside stays
	@scripts/clean
