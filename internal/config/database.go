package config

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

const redacted = "[redacted]"

// DatabaseUser is the role that a Postgres DSN connects as, "" if the DSN is wrong.
func DatabaseUser(dsn string) string {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	return c.User
}

// showDatabase gives the hosts, ports, database and user of a Postgres DSN as they
// take effect, in libpq's key=value form, and whether there is a password. What
// cannot be parsed is redacted whole.
func showDatabase(dsn string) string {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil || splitsPassword(dsn) {
		return redacted
	}
	hosts, ports := []string{c.Host}, []string{strconv.Itoa(int(c.Port))}
	for _, f := range c.Fallbacks {
		// A host that is tried with and without TLS is there twice.
		if port := strconv.Itoa(int(f.Port)); f.Host != hosts[len(hosts)-1] || port != ports[len(ports)-1] {
			hosts, ports = append(hosts, f.Host), append(ports, port)
		}
	}
	text := "host=" + quoteDSN(strings.Join(hosts, ",")) + " port=" + strings.Join(ports, ",") +
		" dbname=" + quoteDSN(c.Database) + " user=" + quoteDSN(c.User)
	if c.Password != "" {
		text += " password=" + redacted
	}
	return text
}

// splitsPassword tells whether a URL may hold a password with an unescaped slash,
// question mark or hash, the rest of which would pass for the database's name.
func splitsPassword(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	end := strings.IndexAny(rest, "/?#")
	return isURL && end >= 0 && strings.Contains(rest[end:], "@")
}

// quoteDSN quotes a value of libpq's key=value form where that is needed.
func quoteDSN(value string) string {
	if value != "" && !strings.ContainsAny(value, ` '\`) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
