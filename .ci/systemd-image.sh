#!/bin/sh
# Makes the Docker image callbackd-systemd, in which the tests start the units
# of deploy/systemd: a minimal Debian or Ubuntu with systemd as its first process,
# and PostgreSQL. An existing image is kept; to remove it:
#   docker rmi callbackd-systemd
set -eu
cd "$(dirname "$0")/.."
image=callbackd-systemd

fail() {
	echo "$image: $1" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

if docker image inspect $image >/dev/null 2>&1; then
	exit 0
fi
command -v apt-get >/dev/null || fail "it is made from Debian or Ubuntu packages, which needs apt-get"
work=$(mktemp -d)
trap 'as_root rm -rf "$work"' EXIT
sh .ci/debian-root.sh "$work/root" systemd,systemd-sysv,postgresql
as_root rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists" "$work/root/usr/share/doc"
# Mounts are shared, as on any machine that systemd has booted: the files of
# LoadCredential= reach a service that way.
as_root tar -C "$work/root" -c . |
	docker import -c 'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init"]' - $image >/dev/null
