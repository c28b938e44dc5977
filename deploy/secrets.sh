#!/bin/sh
# Makes the secrets that docker-compose.yml names, in deploy/secrets/: random
# passwords, the database URLs that hold them, and the SQL that makes the roles.
# What is there already stays.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets
echo '*' >.gitignore

password() {
	od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

if [ ! -f roles.sql ]; then
	postgres=$(password) owner=$(password) worker=$(password) receive=$(password)
	printf '%s' "$postgres" >postgres_password
	printf '%s' "postgres://callbackd_owner:$owner@postgres/callbackd" >owner_url
	printf '%s' "postgres://callbackd_worker:$worker@postgres/callbackd" >worker_url
	printf '%s' "postgres://callbackd_receive:$receive@postgres/callbackd" >receive_url
	{
		cat ../roles.sql
		echo "ALTER ROLE callbackd_owner PASSWORD '$owner';"
		echo "ALTER ROLE callbackd_worker PASSWORD '$worker';"
		echo "ALTER ROLE callbackd_receive PASSWORD '$receive';"
	} >roles.sql
fi
# The sandbox's secret, until yours takes its place.
[ -f jumio_client_secret ] || printf sandbox >jumio_client_secret

# The containers' users are not this one; the directory keeps others out.
chmod 444 ./*_url ./*_secret ./*_password roles.sql
