#!/bin/sh
# Makes sure that this machine has the base images of the Dockerfile and
# docker-compose.yml. Missing ones are pulled. Where no registry answers, a stand-in
# is built from this machine's Debian or Ubuntu packages and its Go: good enough for
# the tests in internal/deploytest, and for nothing else.
# Stand-ins carry the label callbackd.stand-in. To remove them:
#   docker rmi -f $(docker images -q --filter label=callbackd.stand-in)
set -eu
cd "$(dirname "$0")/.."

repository=$(pwd)
label=callbackd.stand-in
debian=callbackd-stand-in:debian

say() {
	echo "base images: $1" >&2
}

fail() {
	say "$1"
	exit 1
}

there() {
	docker image inspect "$1" >/dev/null 2>&1
}

# Prints what the stand-in image $1 was made of; nothing for a real image.
stand_in() {
	docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

work=$(mktemp -d)
clean_up() {
	if [ -d "$work/debian" ]; then
		as_root rm -rf --one-file-system "$work"
	else
		rm -rf "$work"
	fi
}
trap clean_up EXIT

# The part of the official Postgres image that docker-compose.yml uses: the first
# start makes a cluster with the password in POSTGRES_PASSWORD_FILE and runs the SQL
# in /docker-entrypoint-initdb.d on a server that listens on its socket only.
postgres_entrypoint() {
	cat <<-'SCRIPT'
		#!/bin/sh
		set -eu
		if [ "$(id -u)" = 0 ]; then
			chown -R postgres:postgres "$PGDATA"
			chmod 700 "$PGDATA"
			exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
		fi
		if [ ! -s "$PGDATA/PG_VERSION" ]; then
			initdb -U postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C.UTF-8 >/dev/null
			echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
			pg_ctl -w -o "-c listen_addresses=" start >/dev/null
			for script in /docker-entrypoint-initdb.d/*.sql; do
				psql -q -v ON_ERROR_STOP=1 -X -U postgres -d postgres -f "$script"
			done
			pg_ctl -w -m fast stop >/dev/null
		fi
		exec "$@" -c listen_addresses='*'
	SCRIPT
}

# Nearly all stand-ins are this image with other settings: a minimal system with the
# programs from the packages. It is one layer, because the engine may need minutes
# to compute another layer's changes.
make_debian() {
	if there $debian; then
		return
	fi
	sh .ci/debian-root.sh "$work/debian" ca-certificates,tzdata,postgresql,nginx-light,prometheus
	postgres_entrypoint >"$work/entrypoint"
	as_root sh -euc '
		cd "$1"
		# The certificates that this machine trusts: there may be a proxy of its own.
		cp -L /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ca-certificates.crt
		rm -rf var/cache/apt/* var/lib/apt/lists/* var/lib/postgresql/* etc/postgresql/* usr/share/doc usr/share/man
		install -m 755 "$2" usr/local/bin/postgres-entrypoint
		for program in usr/lib/postgresql/*/bin/*; do ln -s "/$program" usr/local/bin/; done
		chroot . install -d -o postgres -g postgres /var/run/postgresql /var/lib/postgresql/data
		chroot . install -d -o nobody -g nogroup /prometheus
	' sh "$work/debian" "$work/entrypoint"
	as_root tar -C "$work/debian" -c . | docker import - $debian >/dev/null
}

# Each writes one image's Dockerfile and its files into the current directory.
stand_in_golang() {
	cp -R "$(go env GOROOT)" go
	cat >Dockerfile <<-DOCKERFILE
		FROM $debian
		COPY go /usr/local/go
		ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOTOOLCHAIN=local GOPATH=/go
		LABEL $label="$(go env GOVERSION) of this machine on its packages"
	DOCKERFILE
}

stand_in_distroless() {
	mkdir -p root/etc/ssl/certs root/home/nonroot root/tmp
	cp -L /etc/ssl/certs/ca-certificates.crt root/etc/ssl/certs/
	printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >root/etc/passwd
	printf 'root:x:0:\nnonroot:x:65532:\n' >root/etc/group
	cat >Dockerfile <<-DOCKERFILE
		FROM scratch
		COPY root /
		COPY --from=$debian /usr/share/zoneinfo /usr/share/zoneinfo
		ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
		USER 65532
		WORKDIR /home/nonroot
		LABEL $label="certificates, time zones and users alone"
	DOCKERFILE
}

stand_in_postgres() {
	cat >Dockerfile <<-DOCKERFILE
		FROM $debian
		ENV PGDATA=/var/lib/postgresql/data
		VOLUME /var/lib/postgresql/data
		STOPSIGNAL SIGINT
		ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]
		CMD ["postgres"]
		LABEL $label="PostgreSQL of this machine's packages"
	DOCKERFILE
}

stand_in_nginx() {
	cat >Dockerfile <<-DOCKERFILE
		FROM $debian
		STOPSIGNAL SIGQUIT
		CMD ["nginx", "-g", "daemon off;"]
		LABEL $label="nginx of this machine's packages"
	DOCKERFILE
}

stand_in_prometheus() {
	cat >Dockerfile <<-DOCKERFILE
		FROM $debian
		USER nobody
		VOLUME /prometheus
		WORKDIR /prometheus
		ENTRYPOINT ["/usr/bin/prometheus"]
		LABEL $label="Prometheus of this machine's packages"
	DOCKERFILE
}

stand_in_versitygw() {
	(cd "$repository/internal/imagestore/versitygw" && CGO_ENABLED=0 go build -o "$work/versitygw/versitygw" github.com/versity/versitygw/cmd/versitygw)
	cat >Dockerfile <<-DOCKERFILE
		FROM $debian
		COPY versitygw /usr/local/bin/versitygw
		LABEL $label="versitygw, compiled from its module"
	DOCKERFILE
}

need() {
	image=$1
	if there "$image" && [ -z "$(stand_in "$image")" ]; then
		return
	fi
	if docker pull -q "$image" >/dev/null 2>"$work/pull"; then
		say "$image: pulled"
		return
	fi
	if there "$image"; then
		say "$image: no registry answered, a stand-in was made earlier: $(stand_in "$image")"
		return
	fi
	case $image in
	golang:*) kind=golang ;;
	*distroless/static*) kind=distroless ;;
	postgres:*) kind=postgres ;;
	nginx:*) kind=nginx ;;
	prom/prometheus:*) kind=prometheus ;;
	versity/versitygw:*) kind=versitygw ;;
	*)
		say "$image: could not be pulled and no package can replace it, so it will not be started: $(head -n 1 "$work/pull")"
		return
		;;
	esac
	command -v apt-get >/dev/null || fail "$image could not be pulled, and without apt-get no stand-in can be made: $(head -n 1 "$work/pull")"
	make_debian
	mkdir "$work/$kind"
	(cd "$work/$kind" && stand_in_$kind)
	docker build -t "$image" "$work/$kind" >"$work/log" 2>&1 || fail "docker build failed: $(tail -n 5 "$work/log")"
	say "$image: no registry answered, a stand-in was made: $(stand_in "$image")"
}

{
	sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile
	sed -n 's/^ *image: \([^ $]*\)$/\1/p' docker-compose.yml
} | sort -u >"$work/images"
while read -r image; do
	need "$image" </dev/null
done <"$work/images"
