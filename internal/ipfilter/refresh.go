package ipfilter

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Address is a resolved address of a host name, as it is remembered.
type Address struct {
	Host string
	Addr netip.Addr
	// LastSeen is when an answer last held the address.
	LastSeen time.Time
	// MissingSince is when a good answer first lacked it; the zero time while
	// the last good answer holds it.
	MissingSince time.Time
}

func (a Address) allowedUntil(grace time.Duration) time.Time {
	if a.MissingSince.IsZero() {
		return time.Time{}
	}
	return a.MissingSince.Add(grace)
}

// hostAddr is what an Address is known by.
type hostAddr struct {
	host string
	addr netip.Addr
}

// Memory keeps resolved addresses over a restart. LoadAddresses gives those of the
// host names, with times that are not in the future. SaveAddresses adds or updates
// the given ones and leaves others alone.
type Memory interface {
	LoadAddresses(ctx context.Context, hosts []string) ([]Address, error)
	SaveAddresses(ctx context.Context, addresses []Address) error
}

// Run reads the remembered addresses, resolves the host names at once, then on
// the interval and when an unknown address calls. It returns nil when ctx ends.
func (f *Filter) Run(ctx context.Context) error {
	defer f.stop()
	if len(f.hosts) == 0 {
		<-ctx.Done()
		return nil
	}
	for {
		f.refresh(ctx)
		f.save(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(withJitter(f.cfg.DNSRefresh)):
		case <-f.wanted:
		}
	}
}

// withJitter returns d give or take a tenth, so that instances which started
// together do not ask together.
func withJitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// refresh asks for all host names at the same time, and for the remembered
// addresses while they have not been read. Every answer is in force as soon as it
// is there: a slow name server does not hold back the others.
func (f *Filter) refresh(ctx context.Context) {
	f.begin()
	defer f.end()

	lookupCtx, cancel := context.WithTimeout(ctx, f.lookupTimeout)
	defer cancel()
	lookups := make(chan lookup)
	for _, host := range f.hosts {
		for _, network := range []string{"ip4", "ip6"} {
			go func() { lookups <- f.lookUp(lookupCtx, network, host) }()
		}
	}
	pending := 2 * len(f.hosts)
	remembered := make(chan []Address)
	if f.memory != nil && !f.loaded {
		go func() { remembered <- f.load(ctx) }()
		pending++
	}

	first := make(map[string]lookup)
	for ; pending > 0; pending-- {
		select {
		case rows := <-remembered:
			f.merge(rows)
		case l := <-lookups:
			f.seen(l)
			if other, ok := first[l.host]; !ok {
				first[l.host] = l
			} else if ctx.Err() == nil { // a look-up that a stop cut short says nothing
				f.judge(l, other)
			}
		}
		f.forget()
		f.publish()
	}
}

// seen takes in the addresses of one look-up.
func (f *Filter) seen(l lookup) {
	now := f.now()
	for _, addr := range l.addrs {
		key := hostAddr{l.host, addr}
		if _, ok := f.known[key]; !ok {
			f.log.Info("address allowed: it came into DNS", zap.String("host", l.host), zap.Stringer("address", addr))
		}
		f.known[key] = Address{Host: l.host, Addr: addr, LastSeen: now}
		f.unsaved = true
	}
}

// judge counts a host's two look-ups and starts the grace of the addresses that a
// good answer lacks. A family whose look-up failed keeps its addresses.
func (f *Filter) judge(a, b lookup) {
	outcome := combine(a, b)
	f.metrics.refreshes.WithLabelValues(a.host, outcome).Inc()
	f.logOutcome(a, b, outcome)
	f.logLeftOut(a.host, slices.Concat(a.leftOut, b.leftOut))
	if outcome != outcomeOK && outcome != outcomePartial {
		return
	}
	now := f.now()
	f.metrics.lastSuccess.WithLabelValues(a.host).Set(float64(now.UnixNano()) / 1e9)
	held := slices.Concat(a.addrs, b.addrs)
	for key, known := range f.known {
		if key.host != a.host || !known.MissingSince.IsZero() || slices.Contains(held, key.addr) {
			continue
		}
		if !a.answers(key.addr) && !b.answers(key.addr) {
			continue
		}
		known.MissingSince = now
		f.known[key] = known
		f.unsaved = true
		f.log.Info("address left DNS, allowed until its grace ends", zap.String("host", key.host),
			zap.Stringer("address", key.addr), zap.Time("until", known.allowedUntil(f.cfg.DNSGrace)))
	}
}

// answers says whether the look-up speaks about addresses of addr's family.
func (l lookup) answers(addr netip.Addr) bool {
	good := l.outcome == outcomeOK || l.outcome == outcomeNotFound
	return good && addr.Is4() == (l.network == "ip4")
}

// logOutcome logs a host's outcome when it is another than the last.
func (f *Filter) logOutcome(a, b lookup, outcome string) {
	if f.outcomes[a.host] == outcome {
		return
	}
	f.outcomes[a.host] = outcome
	fields := []zap.Field{zap.String("host", a.host), zap.String("outcome", outcome)}
	if outcome == outcomeOK {
		f.log.Info("host name resolved", fields...)
		return
	}
	for _, l := range []lookup{a, b} {
		if l.outcome != outcomeOK {
			fields = append(fields, zap.NamedError(l.network+"_error", l.err))
		}
	}
	f.log.Warn("host name not resolved, its last addresses stay allowed", fields...)
}

// forget drops the addresses whose grace has ended.
func (f *Filter) forget() {
	now := f.now()
	for key, known := range f.known {
		if !known.MissingSince.IsZero() && !now.Before(known.allowedUntil(f.cfg.DNSGrace)) {
			delete(f.known, key)
			f.log.Info("address no longer allowed: its grace ended", zap.String("host", key.host), zap.Stringer("address", key.addr))
		}
	}
}

// load reads the memory. A failure gives nil, and the next refresh tries again.
func (f *Filter) load(ctx context.Context) []Address {
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	rows, err := f.memory.LoadAddresses(ctx, f.hosts)
	if err != nil {
		f.log.Warn("remembered addresses not read", zap.Error(err))
		return nil
	}
	if rows == nil {
		rows = []Address{}
	}
	return rows
}

// merge takes in what load read. What this process has seen itself is newer; host
// names that are not configured do not count, nor what DNS could not have said.
func (f *Filter) merge(rows []Address) {
	if rows == nil {
		return
	}
	f.loaded = true
	var leftOut []netip.Addr
	for _, row := range rows {
		row.Addr = plain(row.Addr)
		key := hostAddr{row.Host, row.Addr}
		if _, ok := f.known[key]; ok || !slices.Contains(f.hosts, row.Host) {
			continue
		}
		if !f.believable(row.Addr) {
			leftOut = append(leftOut, row.Addr)
			continue
		}
		f.known[key] = row
	}
	if len(leftOut) > 0 {
		f.log.Warn("remembered addresses are not public and left out", logged(leftOut)...)
	}
}

// save writes all known addresses when something about them is new. A failure is
// tried again after the next refresh.
func (f *Filter) save(ctx context.Context) {
	if f.memory == nil || !f.unsaved {
		return
	}
	rows := make([]Address, 0, len(f.known))
	for _, known := range f.known {
		rows = append(rows, known)
	}
	// The same order everywhere: instances that save together must not deadlock.
	slices.SortFunc(rows, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), a.Addr.Compare(b.Addr))
	})
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	if err := f.memory.SaveAddresses(ctx, rows); err != nil {
		f.log.Warn("resolved addresses not remembered", zap.Error(err))
		return
	}
	f.unsaved = false
}
