# Everything a machine needs to run, show and test kpf-ebpf. The first run installs, later ones notice that
# nothing changed. Debian's own Python it must be: python3-bpfcc is built for it, and for no other in PATH.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := install

SYSTEM_PYTHON := /usr/bin/python3
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input --quiet

RUNTIME_PACKAGES := python3-bpfcc python3-venv python3-pyroute2 python3-psutil python3-click python3-cattr \
                    python3-dnspython python3-rich python3-setuptools python3-wheel
DEMO_PACKAGES := curl ncat iproute2
DEB_PACKAGES := dpkg-dev debhelper dh-python pybuild-plugin-pyproject python3-all python3-click python3-setuptools \
                lowdown git
VM_PACKAGES := qemu-system-x86 mmdebstrap e2fsprogs kmod busybox-static $(DEB_PACKAGES)
KERNELS ?=
# Debian's testing, which has no VERSION_ID, has no vagrant either; tests/packaging goes by the same mark.
VAGRANT_PACKAGES := $(shell . /etc/os-release && echo $${VERSION_ID:+vagrant vagrant-libvirt})
TEST_PACKAGES := $(DEMO_PACKAGES) $(DEB_PACKAGES) $(VAGRANT_PACKAGES) groff-base shellcheck bind9-dnsutils \
                 dnsmasq-base iputils-ping gcc libc6-dev e2fsprogs btrfs-progs squashfuse squashfs-tools fuse3 \
                 tinyproxy rsyslog openssl bsdutils

BENCH_PACKAGES := nftables iptables libnetfilter-queue1 libnfnetlink0

SOURCES := $(sort $(shell find kpf_ebpf cli bpf -type f ! -name '*.py[co]'))

.PHONY: install demo fuzz reliability bench bench-micro vm-test vm-packages deb deb-packages verified test lint clean root runtime-packages demo-packages test-packages bpffs checks FORCE

install: root runtime-packages bpffs $(VENV)/installed ## leaves .venv/bin/kpf-ebpf

demo: install demo-packages ## curl permitted, ncat denied, in namespaces of its own; leaves nothing behind
	scripts/demo

vm-test: vm-packages ## boots stock Debian kernels and tests in them: KERNELS="6.1 7.3" TESTS=tests/kernel RESULTS=folder ACCEPT=1
	$(SYSTEM_PYTHON) tests/vm/run.py --kernels "$(KERNELS)" $(if $(TESTS),--tests $(TESTS)) \
	    $(if $(RESULTS),--results $(RESULTS)) $(if $(ACCEPT),--accept) $(if $(KERNELS)$(TESTS),,--record docs/kernels.md)

SECONDS_EACH ?= 60
test: install test-packages checks ## -P: the tests see the installed package, not the folder of the same name
	KPF_FUZZ_SECONDS=$(SECONDS_EACH) $(PYTHON) -P -m pytest --numprocesses 5

fuzz: install test-packages $(VENV)/dev ## hostile input: SECONDS_EACH=600 SEED=… FIRST=… TESTS=tests/fuzz/test_policy.py
	KPF_FUZZ_SECONDS=$(SECONDS_EACH) KPF_FUZZ_SEED=$(SEED) KPF_FUZZ_FIRST=$(FIRST) \
	    $(PYTHON) -P -m pytest $(or $(TESTS),tests/fuzz) --numprocesses 2

reliability: install test-packages $(VENV)/dev ## hundreds of kills, a thousand swaps, a million peers: WHAT="kills swaps"
	$(PYTHON) -u -m tests.reliability $(WHAT)

bench: install test-packages $(VENV)/dev ## all that is measured, against the bars and against peers, some thirteen minutes
	$(call apt,$(BENCH_PACKAGES))
	$(PIP) install --root-user-action=ignore matplotlib
	$(MAKE) build/opensnitch || echo "OpenSnitch could not be fetched: it will not be among the contenders" >&2
	$(PYTHON) -m benchmarks --folder build

# Unpacked, not installed: the package's installation would start its service, which filters this machine.
build/opensnitch:
	rm -rf $@.new
	mkdir -p $@.new
	cd $@.new && apt-get download --quiet=2 opensnitch && dpkg-deb --extract opensnitch_*.deb .
	mv $@.new $@

bench-micro: install $(VENV)/dev ## a flow's classification in ns, and instructions the verifier walks
	$(PYTHON) -m benchmarks.micro

deb: deb-packages ## build/kpf-ebpf_VERSION_all.deb, from a clean copy of the tracked files; DEB_VERSION=0.1.1 to try an upgrade
	scripts/deb $(DEB_VERSION)

verified: install $(VENV)/dev ## accepts what the programs cost the verifier here; vm-test ACCEPT=1 does it there
	PYTHONPATH=. $(PYTHON) -m tests.kernel.verified

lint: checks

checks: $(VENV)/installed $(VENV)/dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	cd $(VENV) && bin/python -P -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p kpf_ebpf

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kpf_ebpf cli bpf tests -type d -name __pycache__ -prune -exec rm -rf {} +

root:
	@[[ $$(id -u) == 0 ]] || { echo "This needs root. Run: sudo make $(or $(MAKECMDGOALS),install)" >&2; exit 1; }

# $(call apt,PACKAGES): installs those that are missing; touches neither the network nor apt's lists if none is.
define apt
@missing=(); for package in $(1); do \
    state=$$(dpkg-query --show --showformat='$${db:Status-Status}' "$$package" 2>/dev/null || true); \
    [[ $$state == installed ]] || missing+=("$$package"); \
done; \
if (( $${#missing[@]} )); then \
    echo "Installing $${missing[*]}"; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update --quiet=2; \
    apt-get install --quiet=2 --yes --no-install-recommends "$${missing[@]}" </dev/null; \
fi
endef

runtime-packages: root
	$(call apt,$(RUNTIME_PACKAGES))

demo-packages: root
	$(call apt,$(DEMO_PACKAGES))

vm-packages: root
	$(call apt,$(VM_PACKAGES))

deb-packages: root
	$(call apt,$(DEB_PACKAGES))

test-packages: root
	$(call apt,$(TEST_PACKAGES))

bpffs: root
	@grep -q ' bpf ' /proc/mounts || mount -t bpf bpf /sys/fs/bpf || \
	    echo "Warning: no bpf file system at /sys/fs/bpf; kpf-ebpf up will not work here." >&2

$(PYTHON):
	@[[ $$(id -u) == 0 ]] || { echo "kpf-ebpf is not installed yet. Run: sudo make install" >&2; exit 1; }
	$(SYSTEM_PYTHON) -m venv --system-site-packages $(VENV)

# Changes when a source appears or goes: a removed file leaves no newer one behind.
$(VENV)/sources: FORCE | $(PYTHON)
	@printf '%s\n' $(SOURCES) | cmp --silent - $@ || printf '%s\n' $(SOURCES) > $@

# A copy is installed, not a link, so it is made anew when a source changes. Everything it needs comes from apt: no
# package index is asked. build/lib goes first, since setuptools would ship what an earlier build left there.
$(VENV)/installed: Makefile pyproject.toml README.md $(SOURCES) $(VENV)/sources | $(PYTHON)
	rm -rf build/lib build/bdist.* kpf_ebpf.egg-info
	$(PIP) install --force-reinstall --no-deps --no-build-isolation --root-user-action=ignore .
	rm -rf build/lib build/bdist.* kpf_ebpf.egg-info
	@$(PYTHON) -I -c 'import bcc, cattrs, click, dns, psutil, pyroute2, rich, kpf_ebpf'
	@touch $@

$(VENV)/dev: pyproject.toml | $(PYTHON)
	@$(PYTHON) -c 'import tomllib; f = open("pyproject.toml", "rb"); \
	    print(*tomllib.load(f)["project"]["optional-dependencies"]["dev"], sep="\n")' > $@.txt
	$(PIP) install --root-user-action=ignore --requirement $@.txt
	@touch $@

FORCE:
