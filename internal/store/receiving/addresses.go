package receiving

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"callbackd/internal/store"
)

// Address is an address that one of Jumio's callback host names resolved to.
type Address struct {
	Host string     `db:"host,notnull"`
	Addr netip.Addr `db:"address"`
	// LastSeen is the time of the last good answer with the address.
	LastSeen time.Time `db:"last_seen"`
	// MissingSince is the time of the first good answer without the address; zero
	// if the last one had it.
	MissingSince time.Time `db:"missing_since"`
}

var addressRow = store.RowOf[Address]()

// mostAddresses bounds what is loaded at once. Jumio has a few dozen addresses.
const mostAddresses = 10_000

// possibleAddress is true of a row that callbackd could have written, on a machine
// whose clock may be ten minutes off. The CASE keeps arithmetic on impossible times
// from failing.
const possibleAddress = `masklen(a.address) = CASE family(a.address) WHEN 4 THEN 32 ELSE 128 END
	AND CASE WHEN a.last_seen BETWEEN '2000-01-01 UTC' AND now() + interval '10 minutes'
		THEN a.missing_since IS NULL OR a.missing_since BETWEEN a.last_seen - interval '10 minutes' AND now() + interval '10 minutes'
		ELSE false END`

// LoadAddresses returns the remembered addresses of hosts, at most the 10,000 seen
// last. The receiver's role may add any row, so networks and impossible times, such as
// future ones, are skipped, and their number is logged.
func (s *Store) LoadAddresses(ctx context.Context, hosts []string) ([]Address, error) {
	var ignored int
	err := s.db.Pool().QueryRow(ctx, `SELECT count(*) FROM callbackd.allowlist_addresses AS a
		WHERE host = ANY($1) AND NOT (`+possibleAddress+`)`, hosts).Scan(&ignored)
	if err != nil {
		return nil, store.Translate("check remembered addresses", err)
	}
	if ignored > 0 {
		s.db.Log.Warn("remembered addresses are ignored, no callbackd wrote them", zap.Int("count", ignored))
	}
	rows, err := s.db.Pool().Query(ctx, `SELECT `+addressRow.Columns("")+` FROM callbackd.allowlist_addresses AS a
		WHERE host = ANY($1) AND `+possibleAddress+` ORDER BY last_seen DESC LIMIT $2`, hosts, mostAddresses)
	if err != nil {
		return nil, store.Translate("load remembered addresses", err)
	}
	list, err := pgx.CollectRows(rows, addressRow.Scan)
	return list, store.Translate("load remembered addresses", err)
}

// SaveAddresses remembers addresses. Several instances may save at once: the later
// sighting wins, unless its times are impossible.
func (s *Store) SaveAddresses(ctx context.Context, list []Address) error {
	addresses := make([]*Address, len(list))
	for i := range list {
		addresses[i] = &list[i]
	}
	// Always in the same order, so that two instances cannot deadlock.
	_, err := s.db.Pool().Exec(ctx, `
		INSERT INTO callbackd.allowlist_addresses AS a (`+addressRow.Written()+`)
		SELECT * FROM `+addressRow.Unnest("n", 0)+` ORDER BY host, address
		ON CONFLICT (host, address) DO UPDATE SET last_seen = excluded.last_seen, missing_since = excluded.missing_since
		WHERE excluded.last_seen > a.last_seen
		   OR excluded.last_seen = a.last_seen AND excluded.missing_since IS DISTINCT FROM a.missing_since
		   OR NOT (`+possibleAddress+`)`, addressRow.Arrays(addresses)...)
	return store.Translate("remember addresses", err)
}
