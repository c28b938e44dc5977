package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
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

// mostAddresses are loaded at a time. Jumio has some dozen.
const mostAddresses = 10_000

// possibleAddress holds for a row a that a callbackd can have written; its clock
// may be ten minutes off this server's. CASE, because arithmetic on the times of
// other rows may fail.
const possibleAddress = `masklen(a.address) = CASE family(a.address) WHEN 4 THEN 32 ELSE 128 END
	AND CASE WHEN a.last_seen BETWEEN '2000-01-01 UTC' AND now() + interval '10 minutes'
		THEN a.missing_since IS NULL OR a.missing_since BETWEEN a.last_seen - interval '10 minutes' AND now() + interval '10 minutes'
		ELSE false END`

// LoadAddresses gives the remembered addresses of hosts, at most the 10,000 seen
// last. It passes over rows with impossible times, such as those in the future,
// and over networks, and logs how many those are: the role of a receiver may add
// any row.
func (s *Store) LoadAddresses(ctx context.Context, hosts []string) ([]AllowlistAddress, error) {
	var ignored int
	err := s.pool.QueryRow(ctx, `SELECT count(*) FROM callbackd.allowlist_addresses AS a
		WHERE host = ANY($1) AND NOT (`+possibleAddress+`)`, hosts).Scan(&ignored)
	if err != nil {
		return nil, translate("count impossible remembered addresses", err)
	}
	if ignored > 0 {
		s.log.Warn("remembered addresses are ignored, no callbackd wrote them", zap.Int("count", ignored))
	}
	rows, err := s.pool.Query(ctx, `SELECT host, address, last_seen, missing_since FROM callbackd.allowlist_addresses AS a
		WHERE host = ANY($1) AND `+possibleAddress+` ORDER BY last_seen DESC LIMIT $2`, hosts, mostAddresses)
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
// later sighting holds, but for one with impossible times.
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
		   OR excluded.last_seen = a.last_seen AND excluded.missing_since IS DISTINCT FROM a.missing_since
		   OR NOT (`+possibleAddress+`)`,
		hosts, addrs, seen, missing)
	return translate("remember addresses", err)
}
