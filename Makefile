# The entry point. `make` alone lists what there is; every target can be repeated.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list the targets
	@echo "Narrowboat. Targets:"
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "To begin: make run"

.PHONY: setup
setup: ## install what building and testing need (Debian packages; quick when all is there)
	@.ci/setup build test corpus

.PHONY: build
build: setup ## build the product's one program (target/release/narrowboat) and what demo and benches use
	@cargo build --release --bin narrowboat --bin narrowboat-bench
	@bench/nfsload/build

.PHONY: run
run: build ## the main job on this machine: two boxes, two days, a thin line, everything given back
	@bench/run-demo $(ARGS)

.PHONY: stop
stop: ## end the boxes that `make run` left running
	@bench/run-demo --stop

.PHONY: test
test: setup ## run every test; NARROWBOAT_SEEDS=N tries more random worlds
	@.ci/test

.PHONY: fuzz
fuzz: ## let libFuzzer look for harmful bytes, a minute for each target (needs a nightly compiler; ARGS="--keep 600 session")
	@.ci/fuzz $(ARGS)

.PHONY: api-fuzz
api-fuzz: setup ## ask a real box for whatever its OpenAPI document allows, and for what it does not (schemathesis, minutes; ARGS="--max-examples 200")
	@.ci/api-fuzz $(ARGS)

.PHONY: check
check: ## formatting, lints, licences of dependencies, links between documents
	@.ci/check

.PHONY: ci
ci: ## what continuous integration runs: check, then test
	@.ci/run

.PHONY: docs
docs: ## build the reference of the code (target/doc) and check the links of the pages
	@.ci/doclinks
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

.PHONY: clean
clean: ## remove what was built and what `make run` left (its boxes must be stopped)
	@rm -rf target run

.PHONY: bench
bench: build ## speed, processor time and memory beside restic, borg, nfs-ganesha and tgt, into docs/performance.md
	@bench/compare/run --page docs/performance.md $(ARGS)
	@bench/compare/upkeep --page docs/performance.md
	@bench/compare/generations --page docs/performance.md
	@bench/compare/protocol --page docs/performance.md
	@bench/compare/iscsi --page docs/performance/iscsi.md --summary docs/performance.md
	@bench/compare/steady --page docs/performance/iscsi.md
	@bench/compare/pipeline --page docs/performance.md
	@bench/browsers --page docs/performance.md

.PHONY: bench-wan
bench-wan: setup ## bad lines, and what our controller and quinn's make of them, into docs/performance/wan.md (minutes)
	@bench/wan/run --page docs/performance/wan.md $(ARGS)

.PHONY: bench-assess
bench-assess: build ## what an assessment foretells beside what the replication then takes, into docs/assessment.md (an hour; ARGS="--sets files --lines 1")
	@bench/assess/run --page docs/assessment.md $(ARGS)

.PHONY: bench-wire
bench-wire: build ## bytes from day 1 to day 2 beside rsync, restic, borg and casync (an hour; ARGS="--sets pages", "--quick")
	@bench/wire/run $(ARGS)

.PHONY: test-wan
test-wan: setup ## whole boxes in network namespaces, with 100 cuts by kill -9 and dead lines (half an hour, root; ARGS="cuts")
	@NARROWBOAT_CUTS=$${NARROWBOAT_CUTS:-100} cargo test -p narrowboat --test networks --test disturbed -- --nocapture --test-threads=1 $(ARGS)

.PHONY: screens
screens: setup ## pictures of every page of a real box into docs/screens (two minutes)
	@.ci/setup screens && .ci/screens

.PHONY: bad-disk
bad-disk: setup ## a real box on disks that fail, vanish, fill up and are slow, told step by step (minutes, root)
	@cargo test -p narrowboat --test bad_disk -- --nocapture --test-threads=1 $(ARGS)

.PHONY: worlds
worlds: setup ## ten thousand simulated worlds of boxes, of sessions, and of real stores (half an hour of one core; goes on where it was; ARGS=500)
	@.ci/worlds $(ARGS)

.PHONY: sim
sim: setup ## whole lives of stores with faults of their disks, 100,000 (six hours of one core; goes on where it was; ARGS=2000; SEED=N: that one again)
	@SEED=$(SEED) .ci/sim $(ARGS)

.PHONY: client-vm
client-vm: build ## the kernel's own NFS client and iSCSI initiator, in a QEMU guest, against a box (an hour; ARGS="--steps iscsi")
	@hw-tests/client-vm/run $(ARGS)

.PHONY: disks-vm
disks-vm: build ## disks pulled, replaced, stolen and without power, below a box in a QEMU guest (half an hour; ARGS="--steps make,pull")
	@hw-tests/disks-vm/run $(ARGS)

.PHONY: network-vm
network-vm: setup ## the machine's network set up by a box below systemd-networkd, VLANs included, in a QEMU guest (a quarter of an hour; ARGS=a_vlan_comes_and_goes)
	@.ci/setup guest && hw-tests/network-vm/run $(ARGS)
