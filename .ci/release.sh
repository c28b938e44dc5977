#!/bin/sh
# Packs the binaries bin/release/OS_ARCH/callbackd for delivery:
#   release.sh CYCLONEDX_GOMOD DIST VERSION
# DIST gets an archive and a bill of materials for each, and the checksums of all.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."
bom=$1 dist=$2 version=$3

fail() {
	echo "release: $1" >&2
	exit 1
}

# Prints the licences and notices of all code in the binary: Go's own, and those
# next to the files of each module and package.
licences() {
	go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}} {{.Dir}}{{"\n"}}{{.Path}}@{{.Version}} {{$.Dir}}{{end}}{{end}}' \
		./cmd/callbackd >bin/release/dirs
	echo "Go $(go env GOROOT)" >>bin/release/dirs
	sed '/^$/d' bin/release/dirs | sort -u | while read -r module dir; do
		find "$dir" -maxdepth 1 -type f \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' -o -iname 'NOTICE*' -o -iname 'PATENTS*' \) | sort |
			while read -r file; do
				printf '==== %s: %s\n\n' "$module" "${file##*/}"
				cat "$file"
				echo
			done
	done
}

mkdir -p "$dist"
for dir in bin/release/*_*; do
	target=${dir##*/}
	name=callbackd_${version}_$target
	export CGO_ENABLED=0 GOOS="${target%_*}" GOARCH="${target#*_}"
	licences >"$dir/THIRD_PARTY_LICENSES"
	cut -d ' ' -f 1 bin/release/dirs | sort -u | while read -r module; do
		[ -z "$module" ] || grep -q "^==== $module: " "$dir/THIRD_PARTY_LICENSES" || fail "$module has no licence"
	done
	# The hashes of the program that wrote it differ between systems, and scanners
	# know Go's library as stdlib 1.2.3.
	"$bom" bin -json -std -short-purls -noserial -notimestamp -output-version 1.6 -version "$version" "$dir/callbackd" >bin/release/bom.json
	sed -e '/"tools": \[/,/^    \],/{' -e '/"hashes": \[/,/^        \],/d' -e '}' \
		-e 's,golang/std@go,golang/stdlib@,' -e 's/"name": "std"/"name": "stdlib"/' -e 's/"version": "go/"version": "/' \
		bin/release/bom.json >"$dir/callbackd.cdx.json"
	cp "$dir/callbackd.cdx.json" "$dist/$name.cdx.json"
	# Only what is committed: deploy may hold an operator's secrets. Each entry has
	# the commit's time and belongs to root.
	git -c tar.umask=0022 archive --format=tar --prefix="$name/" --add-file="$dir/callbackd" \
		--add-file="$dir/THIRD_PARTY_LICENSES" --add-file="$dir/callbackd.cdx.json" \
		-o bin/release/archive.tar HEAD CHANGELOG.md LICENSE README.md deploy docs
	gzip -9n <bin/release/archive.tar >"$dist/$name.tar.gz"
done
cd "$dist"
if command -v sha256sum >/dev/null; then
	sha256sum callbackd_* >SHA256SUMS
else
	shasum -a 256 callbackd_* >SHA256SUMS
fi
