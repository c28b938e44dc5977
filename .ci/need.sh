#!/bin/sh
# Makes sure that these programs are on this machine:
#   need.sh [postgres] [compiler] [loadbalancers] [consumers] [browser] [wrk] [prometheus] [chromium] [docker] [debootstrap] [systemd]
# Installs missing ones with apt-get or brew, or says what to do.
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
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -q -y "$@" </dev/null >&2
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

# A compiler is useless without the C library's headers.
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

# Debian keeps both out of an ordinary user's PATH, and nginx' stream module in a
# package of its own; others build it in.
has_loadbalancers() (
	PATH="$PATH:/usr/sbin:/usr/local/sbin"
	command -v nginx >/dev/null && command -v haproxy >/dev/null || return 1
	built=$(nginx -V 2>&1 | tr ' ' '\n')
	modules=$(echo "$built" | sed -n 's/^--modules-path=//p')
	echo "$built" | grep -qx -e --with-stream ||
		[ -e "${modules:-/usr/lib/nginx/modules}/ngx_stream_module.so" ]
)

# Debian's packages would start these programs as services; policy-rc.d forbids it,
# because the tests start their own on free ports.
apt_install_stopped() {
	policy=/usr/sbin/policy-rc.d
	if [ -e $policy ]; then
		apt_install "$@"
		return
	fi
	printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
	as_root chmod 755 $policy
	trap 'as_root rm -f $policy' EXIT
	apt_install "$@"
	as_root rm -f $policy
	trap - EXIT
}

need_loadbalancers() {
	if has_loadbalancers; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install_stopped nginx-light libnginx-mod-stream haproxy
	elif command -v brew >/dev/null; then
		brew install nginx haproxy </dev/null >&2
	fi
	has_loadbalancers || fail "the tests need nginx with its stream module and HAProxy: install both and put them into PATH"
}

# Debian's psycopg belongs to Debian's Python, which need not be the first in PATH.
has_consumers() {
	command -v psql >/dev/null || return 1
	python3 -c 'import psycopg' 2>/dev/null || /usr/bin/python3 -c 'import psycopg' 2>/dev/null
}

need_consumers() {
	if has_consumers; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install postgresql-client python3-psycopg
	fi
	has_consumers || fail "the tests of the consumers need psql in PATH and Python with psycopg 3: install both, psycopg with pip install 'psycopg[binary]'"
}

# Any browser of Chromium's family, where it is usually found.
has_browser() {
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
		[ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

need_browser() {
	if has_browser; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install chromium
	elif command -v brew >/dev/null; then
		brew install --cask google-chrome </dev/null >&2
	fi
	has_browser || fail "the test of the web journey needs Chromium or Chrome: install one of them"
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

has_prometheus() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }

need_prometheus() {
	if has_prometheus; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install_stopped prometheus
	elif command -v brew >/dev/null; then
		brew install prometheus </dev/null >&2
	fi
	has_prometheus || fail "the tests of the alerts need prometheus and promtool: install both and put them into PATH"
}

# Outside Debian it is usually an application, not a program in PATH.
need_chromium() {
	if command -v chromium >/dev/null; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install chromium
	fi
	command -v chromium >/dev/null || fail "the screenshot needs chromium: install it and put it into PATH"
}

has_compose() {
	docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1
}

# An engine that answers, and Compose: v2 as a plugin, or v1.
need_docker() {
	if ! command -v docker >/dev/null && command -v apt-get >/dev/null; then
		apt_install docker.io
	fi
	command -v docker >/dev/null || fail "Docker is needed: install Docker Engine or Docker Desktop"
	if ! has_compose && command -v apt-get >/dev/null; then
		apt_install docker-compose
	fi
	has_compose || fail "Docker Compose is needed: install the plugin docker-compose-v2 or docker-compose-plugin"
	if ! docker info >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
		as_root systemctl start docker >&2 || true # the next line tells what is wrong
	fi
	answer=$(docker info 2>&1 >/dev/null) || fail "the Docker engine does not answer; start it, or let this user use it: $(echo "$answer" | tail -n 1)"
}

need_debootstrap() {
	if PATH="$PATH:/usr/sbin" command -v debootstrap >/dev/null; then
		return
	fi
	if command -v apt-get >/dev/null; then
		apt_install debootstrap
	fi
	PATH="$PATH:/usr/sbin" command -v debootstrap >/dev/null || fail "making base images needs debootstrap"
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
