#!/bin/sh
# Makes sure that what is named is on this machine:
#   need.sh [postgres] [compiler] [loadbalancers] [wrk] [systemd]
# Installs it with apt-get or brew where it is missing, else says what to do.
set -eu
cd "$(dirname "$0")/.."

fail() {
	echo "$1" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		fail "installing packages needs root or sudo; as root: $*"
	fi
}

apt_install() {
	echo "installing with apt-get: $*" >&2
	as_root apt-get update -q </dev/null >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y "$@" </dev/null >&2
}

# Only the programs are wanted: Debian's package would also create a cluster
# and start it as a service.
apt_install_postgres() {
	dropin=/etc/postgresql-common/createcluster.d/callbackd-no-cluster.conf
	as_root mkdir -p "$(dirname $dropin)"
	echo "create_main_cluster = false" | as_root tee $dropin >/dev/null
	trap 'as_root rm -f $dropin' EXIT
	apt_install postgresql
	as_root rm -f $dropin
	trap - EXIT
}

need_postgres() {
	if [ -n "${DATABASE_URL:-}" ]; then
		return
	fi
	GOBIN="$PWD/.tools" CGO_ENABLED=0 go install ./internal/pgserver/findpostgres
	if .tools/findpostgres >/dev/null 2>&1; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install_postgres
	elif command -v brew >/dev/null; then
		brew install postgresql@17 </dev/null >&2
	fi
	.tools/findpostgres >/dev/null # says what to do when there is still none
}

# A compiler without the C library's headers is of no use either.
has_compiler() {
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' |
		$(go env CC) -x c -o /dev/null - >/dev/null 2>&1
}

need_compiler() {
	if has_compiler; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install gcc libc6-dev
	fi
	has_compiler || fail "the race detector needs a C compiler: install gcc, or on macOS run xcode-select --install"
}

has_loadbalancers() {
	# Debian keeps both out of an ordinary user's PATH.
	PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx >/dev/null &&
		PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v haproxy >/dev/null
}

# The tests start nginx and HAProxy themselves, on free ports; Debian's packages
# must not start them as services, which policy-rc.d forbids.
apt_install_loadbalancers() {
	policy=/usr/sbin/policy-rc.d
	if [ -e $policy ]; then
		apt_install nginx-light haproxy
		return
	fi
	printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
	as_root chmod 755 $policy
	trap 'as_root rm -f $policy' EXIT
	apt_install nginx-light haproxy
	as_root rm -f $policy
	trap - EXIT
}

need_loadbalancers() {
	if has_loadbalancers; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install_loadbalancers
	elif command -v brew >/dev/null; then
		brew install nginx haproxy </dev/null >&2
	fi
	has_loadbalancers || fail "the tests need nginx and HAProxy: install both and put them into PATH"
}

need_wrk() {
	if command -v wrk >/dev/null; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install wrk
	elif command -v brew >/dev/null; then
		brew install wrk </dev/null >&2
	fi
	command -v wrk >/dev/null || fail "the benchmark needs wrk: install it and put it into PATH"
}

need_systemd() {
	if command -v systemd-analyze >/dev/null; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install systemd
	fi
	command -v systemd-analyze >/dev/null || fail "checking the units needs systemd-analyze, which comes with systemd"
}

for what in "$@"; do
	"need_$what"
done
