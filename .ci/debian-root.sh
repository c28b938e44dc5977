#!/bin/sh
# Makes a minimal system from this machine's Debian or Ubuntu packages:
#   debian-root.sh DIRECTORY PACKAGE,...
# The directory then belongs to root.
set -eu
root=$1 packages=$2
sh "$(dirname "$0")/need.sh" debootstrap

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
targets=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI) $(COMPONENT)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite')
mirror=$(echo "$targets" | awk 'NR == 1 { print $2 }')
components=$(echo "$targets" | awk -v mirror="$mirror" '$2 == mirror { print $3 }' | sort -u | paste -sd, -)
if [ -z "$mirror" ]; then
	echo "no image can be made: apt has no mirror of $suite" >&2
	exit 1
fi

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "making a minimal $suite with $packages, which takes some minutes" >&2
install -d -m 755 "$root"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
$sudo env PATH="$PATH:/usr/sbin:/sbin" debootstrap --variant=minbase --components="$components" --include="$packages" \
	"$suite" "$root" "$mirror" >"$log" 2>&1 || {
	echo "debootstrap failed: $(tail -n 5 "$log")" >&2
	exit 1
}
