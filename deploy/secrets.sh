#!/bin/sh
# Makes the secrets that docker-compose.yml names: random passwords, the database
# URLs that hold them, the SQL that makes the roles, an unguessable callback path,
# and a certificate for trying it out. What is there already stays.
#
#   sh deploy/secrets.sh [DIRECTORY]
#
# The directory is deploy/secrets, or what SECRETS_DIR says to docker-compose.yml.
# It must be open to its owner alone: the files in it are readable to all, because
# the containers' users are not this one and Compose mounts the files as they are.
set -eu
umask 077
deploy=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$deploy/secrets}"
cd "${1:-$deploy/secrets}"
if [ -n "$(find . -prune \( ! -user "$(id -u)" -o -perm -040 -o -perm -020 -o -perm -010 -o -perm -004 -o -perm -002 -o -perm -001 \))" ]; then
	echo "others may enter $PWD, where the secrets would be readable to them: chmod 700 it, and run this as its owner" >&2
	exit 1
fi
echo '*' >.gitignore

random() {
	od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

if [ ! -f roles.sql ]; then
	postgres=$(random) owner=$(random) worker=$(random) receive=$(random)
	printf '%s' "$postgres" >postgres_password
	printf '%s' "postgres://callbackd_owner:$owner@postgres/callbackd" >owner_url
	printf '%s' "postgres://callbackd_worker:$worker@postgres/callbackd" >worker_url
	printf '%s' "postgres://callbackd_receive:$receive@postgres/callbackd" >receive_url
	{
		cat "$deploy/roles.sql"
		echo "ALTER ROLE callbackd_owner PASSWORD '$owner';"
		echo "ALTER ROLE callbackd_worker PASSWORD '$worker';"
		echo "ALTER ROLE callbackd_receive PASSWORD '$receive';"
	} >roles.sql
fi
[ -f callback_path ] || printf '/jumio/%s' "$(random)" >callback_path
[ -f grafana_password ] || random >grafana_password
# The sandbox's secret, until yours takes its place.
[ -f jumio_client_secret ] || printf sandbox >jumio_client_secret
# Signed by nobody else, until yours takes its place: Jumio would not believe it.
if [ ! -f tls_certificate ]; then
	openssl req -x509 -newkey rsa:2048 -nodes -days 825 -subj /CN=nginx \
		-addext 'subjectAltName = DNS:nginx, DNS:localhost, IP:127.0.0.1' \
		-keyout tls_key -out tls_certificate 2>/dev/null || {
		echo "openssl could not make a certificate: put yours into tls_certificate and tls_key in $PWD" >&2
		exit 1
	}
fi

# For the containers' users; the directory keeps all others out.
chmod 444 ./*_url ./*_secret ./*_password ./callback_path ./tls_* roles.sql
