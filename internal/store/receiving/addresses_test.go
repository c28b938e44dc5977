package receiving_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/store/receiving"
	"callbackd/internal/store/storetest"
)

const rememberedHost = "callback.test"

// observedStore is on a database of its own, in which no constraint keeps rows
// out that were there before it.
func observedStore(t *testing.T) (*storetest.Store, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	s := storetest.Open(t, storetest.NewMigrated(t), zap.New(core))
	exec(t, s, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'callbackd.allowlist_addresses'::regclass AND contype = 'c' LOOP
			EXECUTE format('ALTER TABLE callbackd.allowlist_addresses DROP CONSTRAINT %I', name);
		END LOOP; END $$`)
	return s, logs
}

func exec(t *testing.T, s *storetest.Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool().Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// remembered are the addresses that LoadAddresses gives.
func remembered(t *testing.T, s *storetest.Store) map[netip.Addr]bool {
	t.Helper()
	list, err := s.LoadAddresses(t.Context(), []string{rememberedHost})
	if err != nil {
		t.Fatal(err)
	}
	addrs := make(map[netip.Addr]bool)
	for _, a := range list {
		addrs[a.Addr] = true
	}
	return addrs
}

// What callbackd cannot have written is passed over with a warning, the rest is
// loaded, and the next sighting of an address repairs its row.
func TestImpossibleAddressesAreIgnoredAndOverwritten(t *testing.T) {
	s, logs := observedStore(t)
	possible := map[string]string{ // by address, the two times
		"34.192.0.1":   `now(), NULL`,
		"34.192.0.2":   `now() - interval '10 years', NULL`,
		"34.192.0.3":   `now() - interval '1 day', now() - interval '1 hour'`,
		"34.192.0.4":   `now() + interval '9 minutes', NULL`, // another instance's clock
		"34.192.0.5":   `now() + interval '8 minutes', now() + interval '9 minutes'`,
		"34.192.0.6":   `now() - interval '1 hour', now() - interval '69 minutes'`,
		"2600:1f18::1": `now(), NULL`,
	}
	impossible := map[string]string{
		"34.192.1.1":     `'infinity', NULL`,
		"34.192.1.2":     `'-infinity', NULL`,
		"34.192.1.3":     `now() + interval '11 minutes', NULL`,
		"34.192.1.4":     `'294276-12-31', NULL`,
		"34.192.1.5":     `'4713-01-01 BC', NULL`,
		"34.192.1.6":     `'4713-01-01 BC', now()`,
		"34.192.1.7":     `now(), 'infinity'`,
		"34.192.1.8":     `now(), '-infinity'`,
		"34.192.1.9":     `now(), now() + interval '11 minutes'`,
		"34.192.1.10":    `now(), now() - interval '11 minutes'`,
		"34.192.1.11":    `'infinity', 'infinity'`,
		"34.192.1.12":    `'294276-12-31', '294276-12-31'`,
		"34.192.2.0/24":  `now(), NULL`,
		"2600:1f18::/64": `now(), NULL`,
	}
	for address, times := range possible {
		exec(t, s, `INSERT INTO callbackd.allowlist_addresses SELECT $1, $2::text::inet, `+times, rememberedHost, address)
	}
	if n := logs.Len(); n != 0 {
		t.Errorf("%d lines", n)
	}
	for address, times := range impossible {
		exec(t, s, `INSERT INTO callbackd.allowlist_addresses SELECT $1, $2::text::inet, `+times, rememberedHost, address)
	}
	exec(t, s, `INSERT INTO callbackd.allowlist_addresses VALUES ('other.test', '34.192.3.1', now(), NULL)`)

	want := make(map[netip.Addr]bool)
	for address := range possible {
		want[netip.MustParseAddr(address)] = true
	}
	if diff := cmp.Diff(want, remembered(t, s)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	lines := logs.FilterMessage("remembered addresses are ignored, no callbackd wrote them").All()
	if len(lines) != 1 || lines[0].ContextMap()["count"] != int64(len(impossible)) {
		t.Errorf("warned %v, want one line with a count of %d", lines, len(impossible))
	}

	var seen []receiving.Address
	for address := range impossible {
		if addr, err := netip.ParseAddr(address); err == nil {
			seen = append(seen, receiving.Address{Host: rememberedHost, Addr: addr, LastSeen: time.Now()})
			want[addr] = true
		}
	}
	if err := s.SaveAddresses(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, remembered(t, s)); diff != "" {
		t.Errorf("loaded after the next sighting (-want +got):\n%s", diff)
	}
}

// A table that was stuffed costs no more than the newest rows.
func TestLoadedAddressesAreBounded(t *testing.T) {
	s, _ := observedStore(t)
	const most = 10_000
	exec(t, s, `INSERT INTO callbackd.allowlist_addresses
		SELECT $1, '34.192.0.0'::inet + n, now() - n * interval '1 second', NULL FROM generate_series(1, $2::int) AS n`, rememberedHost, most+100)
	exec(t, s, `INSERT INTO callbackd.allowlist_addresses
		SELECT 'stuffed.test', '34.192.0.0'::inet + n, now(), NULL FROM generate_series(1, $1::int) AS n`, most)
	got := remembered(t, s)
	if len(got) != most || !got[netip.MustParseAddr("34.192.0.1")] {
		t.Errorf("%d loaded, want the newest %d", len(got), most)
	}
}

func TestAddressesAreRemembered(t *testing.T) {
	s := storetest.New(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	a := receiving.Address{Host: "callback.jumio.com", Addr: netip.MustParseAddr("192.0.2.1"), LastSeen: now}
	b := receiving.Address{Host: "callback.jumio.com", Addr: netip.MustParseAddr("2001:db8::1"), LastSeen: now, MissingSince: now}
	if err := s.SaveAddresses(t.Context(), []receiving.Address{a, b}); err != nil {
		t.Fatal(err)
	}
	older := a
	older.LastSeen, older.MissingSince = now.Add(-time.Hour), now
	b.LastSeen, b.MissingSince = now.Add(time.Minute), time.Time{}
	if err := s.SaveAddresses(t.Context(), []receiving.Address{older, b}); err != nil {
		t.Fatal(err)
	}
	got, err := s.LoadAddresses(t.Context(), []string{"callback.jumio.com"})
	if err != nil {
		t.Fatal(err)
	}
	want := []receiving.Address{b, a} // the one seen last goes first; the later sighting holds
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateApproxTime(0)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
