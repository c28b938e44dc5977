package ipfilter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"callbackd/internal/store/receiving"
)

// memory is a Memory that can fail.
type memory struct {
	mu    sync.Mutex
	rows  map[hostAddr]receiving.Address
	err   error
	saves int
}

func (m *memory) LoadAddresses(context.Context, []string) ([]receiving.Address, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	return m.sorted(), nil
}

func (m *memory) SaveAddresses(_ context.Context, rows []receiving.Address) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.saves++
	if m.rows == nil {
		m.rows = make(map[hostAddr]receiving.Address)
	}
	for _, row := range rows {
		m.rows[hostAddr{row.Host, row.Addr}] = row
	}
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) sorted() []receiving.Address {
	var rows []receiving.Address
	for _, row := range m.rows {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b receiving.Address) int { return a.Addr.Compare(b.Addr) })
	return rows
}

// turn does what Run does in one round.
func turn(t *testing.T, f *Filter) {
	t.Helper()
	f.refresh(t.Context())
	f.save(t.Context())
}

func TestRestartWhileDNSIsDown(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4, newV4)
	server.set(dns.TypeAAAA, modeAnswer, oldV6)
	mem := new(memory)
	f, c := dnsFilter(t, server, mem)
	turn(t, f)
	seen := c.now()
	c.advance(time.Minute)
	server.set(dns.TypeA, modeAnswer, newV4)
	turn(t, f)
	want := []receiving.Address{
		{Host: host, Addr: addrs(oldV4)[0], LastSeen: seen, MissingSince: c.now()},
		{Host: host, Addr: addrs(newV4)[0], LastSeen: c.now()},
		{Host: host, Addr: addrs(oldV6)[0], LastSeen: c.now()},
	}
	if diff := cmp.Diff(want, mem.sorted(), cmpopts.EquateComparable(addrs(oldV4)[0])); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}

	server.set(dns.TypeA, modeSERVFAIL)
	server.set(dns.TypeAAAA, modeSERVFAIL)
	again, c2 := dnsFilter(t, server, mem)
	c2.advance(time.Minute)
	start(t, again)
	for _, addr := range []string{oldV4, newV4, oldV6} {
		if d := check(again, addr); !d.Allowed {
			t.Errorf("%s rejected after the restart", addr)
		}
	}
	c2.advance(grace) // the grace that began before the restart
	wantAllowed(t, again, newV4, oldV6)
}

func TestRememberedAddressOfAnotherHostIsNotAllowed(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeSERVFAIL)
	mem := new(memory)
	row := receiving.Address{Host: "gone.test", Addr: addrs(oldV4)[0]}
	mem.rows = map[hostAddr]receiving.Address{{row.Host, row.Addr}: row}
	f, _ := dnsFilter(t, server, mem)
	turn(t, f)
	wantAllowed(t, f)
}

// What is not believed from DNS is not believed from the memory either: somebody else
// has written it there.
func TestRememberedAddressThatIsNotPublicIsNotAllowed(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeSERVFAIL)
	server.set(dns.TypeAAAA, modeSERVFAIL)
	mem := new(memory)
	mem.rows = map[hostAddr]receiving.Address{}
	for _, s := range []string{oldV4, "127.0.0.1", "10.0.0.1", "::1", "192.168.1.1"} {
		row := receiving.Address{Host: host, Addr: addrs(s)[0]}
		mem.rows[hostAddr{row.Host, row.Addr}] = row
	}
	f, _ := dnsFilter(t, server, mem)
	f.cfg.AllowedCIDRs = prefixes(t, "192.168.0.0/16")
	logs := observe(f)
	turn(t, f)
	turn(t, f)
	if diff := cmp.Diff([]string{oldV4, "192.168.1.1"}, allowed(f, oldV4, "127.0.0.1", "10.0.0.1", "::1", "192.168.1.1")); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	lines := logs.FilterMessage("remembered addresses are ignored: they are not public").All()
	if len(lines) != 1 || lines[0].ContextMap()["count"] != int64(3) {
		t.Errorf("warned %v, want one line with a count of 3", lines)
	}
}

// What this process has seen is newer than what it reads later.
func TestLateMemoryDoesNotOverrule(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, newV4)
	mem := new(memory)
	f, c := dnsFilter(t, server, mem)
	mem.fail(errors.New("database away"))
	turn(t, f)
	missing := c.now().Add(-grace / 2)
	mem.rows = map[hostAddr]receiving.Address{}
	for _, s := range []string{oldV4, newV4} {
		row := receiving.Address{Host: host, Addr: addrs(s)[0], MissingSince: missing}
		mem.rows[hostAddr{row.Host, row.Addr}] = row
	}
	mem.fail(nil)
	server.set(dns.TypeA, modeSERVFAIL)
	turn(t, f)
	wantAllowed(t, f, oldV4, newV4)
	c.advance(grace / 2)
	wantAllowed(t, f, newV4)
}

func TestMemoryFailuresAreTriedAgain(t *testing.T) {
	server := startNameServer(t)
	server.set(dns.TypeA, modeAnswer, oldV4)
	mem := new(memory)
	f, _ := dnsFilter(t, server, mem)
	mem.fail(errors.New("database away"))
	turn(t, f)
	wantAllowed(t, f, oldV4) // a memory that fails changes nothing else
	server.set(dns.TypeA, modeSERVFAIL)
	mem.fail(nil)
	turn(t, f)
	if !f.loaded || len(mem.rows) != 1 {
		t.Errorf("loaded %v, %d rows saved; want true and 1", f.loaded, len(mem.rows))
	}
	turn(t, f)
	if mem.saves != 1 {
		t.Errorf("saved %d times, want 1: nothing was new", mem.saves)
	}
}
