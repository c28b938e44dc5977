#!/bin/sh
# Makes the Docker image callbackd-systemd, in which the tests start the units
# of deploy/systemd: a minimal Debian or Ubuntu with systemd as its first process,
# and PostgreSQL. What is there already stays; to be rid of it:
#   docker rmi callbackd-systemd
set -eu
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
command -v apt-get >/dev/null || fail "it is made of the packages of Debian or Ubuntu, which needs apt-get"
PATH="$PATH:/usr/sbin:/sbin" command -v debootstrap >/dev/null || fail "making it needs debootstrap"

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
targets=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(COMPONENT)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite')
mirror=$(echo "$targets" | awk 'NR == 1 { print $2 }')
components=$(echo "$targets" | awk -v mirror="$mirror" '$2 == mirror { print $3 }' | sort -u | paste -sd, -)
[ -n "$mirror" ] || fail "apt names no mirror of $suite"

work=$(mktemp -d)
trap 'as_root rm -rf "$work"' EXIT
echo "$image: making it of the packages of $suite, which takes a minute or two" >&2
as_root env PATH="$PATH:/usr/sbin:/sbin" debootstrap --variant=minbase --components="$components" \
	--include=systemd,systemd-sysv,postgresql "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 ||
	fail "debootstrap failed: $(tail -n 5 "$work/log")"
as_root rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists" "$work/root/usr/share/doc"
# Mounts are shared, as on any machine that systemd has started: that is how the
# files of LoadCredential= get to a service.
as_root tar -C "$work/root" -c . |
	docker import -c 'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init"]' - $image >/dev/null
