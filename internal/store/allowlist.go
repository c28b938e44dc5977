package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
)

// AllowlistAddress is an address that a callback host name resolved to.
type AllowlistAddress struct {
	Host string
	Addr netip.Addr
	// LastSeen is the time of the last good answer that held it.
	LastSeen time.Time
	// MissingSince is the time of the first good answer that lacked it; zero
	// while the last one held it.
	MissingSince time.Time
}

// LoadAddresses gives every remembered address.
func (s *Store) LoadAddresses(ctx context.Context) ([]AllowlistAddress, error) {
	rows, err := s.pool.Query(ctx, `SELECT host, address, last_seen, missing_since FROM callbackd.allowlist_addresses`)
	if err != nil {
		return nil, translate("load remembered addresses", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (AllowlistAddress, error) {
		var a AllowlistAddress
		var missing *time.Time
		err := row.Scan(&a.Host, &a.Addr, &a.LastSeen, &missing)
		if missing != nil {
			a.MissingSince = *missing
		}
		return a, err
	})
	return list, translate("load remembered addresses", err)
}

// SaveAddresses remembers addresses. Several instances may save at once; the
// later sighting holds.
func (s *Store) SaveAddresses(ctx context.Context, list []AllowlistAddress) error {
	n := len(list)
	hosts, addrs := make([]string, n), make([]netip.Addr, n)
	seen, missing := make([]time.Time, n), make([]*time.Time, n)
	for i, a := range list {
		hosts[i], addrs[i], seen[i], missing[i] = a.Host, a.Addr.WithZone(""), a.LastSeen, nullTime(a.MissingSince)
	}
	// In one order everywhere, so that two instances cannot deadlock.
	_, err := s.pool.Exec(ctx, `
		INSERT INTO callbackd.allowlist_addresses AS a (host, address, last_seen, missing_since)
		SELECT * FROM unnest($1::text[], $2::inet[], $3::timestamptz[], $4::timestamptz[]) AS n (host, address, seen, missing)
		ORDER BY n.host, n.address
		ON CONFLICT (host, address) DO UPDATE SET last_seen = excluded.last_seen, missing_since = excluded.missing_since
		WHERE excluded.last_seen > a.last_seen
		   OR excluded.last_seen = a.last_seen AND excluded.missing_since IS DISTINCT FROM a.missing_since`,
		hosts, addrs, seen, missing)
	return translate("remember addresses", err)
}
