package ipfilter

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/store/receiving"
)

// allowedUntil is zero unless the address is missing.
func allowedUntil(a receiving.Address, grace time.Duration) time.Time {
	if a.MissingSince.IsZero() {
		return time.Time{}
	}
	return a.MissingSince.Add(grace)
}

// hostAddr is the key of an address.
type hostAddr struct {
	host string
	addr netip.Addr
}

// Memory keeps resolved addresses across restarts. LoadAddresses returns those of
// the host names, with no times in the future. SaveAddresses adds or updates the
// given ones and leaves others alone; instances may save at the same time.
type Memory interface {
	LoadAddresses(ctx context.Context, hosts []string) ([]receiving.Address, error)
	SaveAddresses(ctx context.Context, addresses []receiving.Address) error
}

// Run reads the remembered addresses and resolves the host names: at once, then
// on the interval and when an unknown address calls. It returns nil when ctx ends.
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

// withJitter returns d plus or minus up to a tenth, so that instances that start
// together do not ask together.
func withJitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// refresh resolves all host names at the same time, and reads the remembered
// addresses until that has worked once. Every answer takes effect as soon as it
// arrives, so a slow name server does not delay the others.
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
	remembered := make(chan []receiving.Address)
	if f.memory != nil && !f.loaded {
		go func() { remembered <- f.load(ctx) }()
		pending++
	}

	answers := make(map[string][]lookup)
	for ; pending > 0; pending-- {
		select {
		case rows := <-remembered:
			f.merge(rows)
		case l := <-lookups:
			f.seen(l)
			answers[l.host] = append(answers[l.host], l)
		}
		f.publish()
	}
	if ctx.Err() == nil { // look-ups that a stop cut short mean nothing
		f.judgeAll(answers)
	}
	f.forget()
	f.publish()
}

// seen adds the addresses of one look-up.
func (f *Filter) seen(l lookup) {
	now := f.now()
	for _, addr := range l.addrs {
		key := hostAddr{l.host, addr}
		if _, ok := f.known[key]; !ok {
			f.log.Info("address allowed: it is new in DNS", zap.String("host", l.host), zap.Stringer("address", addr))
		}
		f.known[key] = receiving.Address{Host: l.host, Addr: addr, LastSeen: now}
		f.unsaved = true
	}
}

// judgeAll judges the hosts' answers and logs new failures. Hosts with no known
// address, as at a first start without DNS, share one line, with the last one's
// errors.
func (f *Filter) judgeAll(answers map[string][]lookup) {
	var unknown []string
	var unknownFields []zap.Field
	for _, host := range f.hosts {
		fields := f.judge(answers[host][0], answers[host][1])
		switch {
		case fields == nil:
		case f.knows(host):
			f.log.Warn("host name not resolved, its last addresses stay allowed", append(fields, zap.String("host", host))...)
		default:
			unknown, unknownFields = append(unknown, host), fields
		}
	}
	if len(unknown) > 0 {
		f.log.Warn("host names not resolved and none of their addresses known: only built-in and configured addresses are allowed",
			append(unknownFields, zap.Strings("hosts", unknown))...)
	}
}

func (f *Filter) knows(host string) bool {
	for key := range f.known {
		if key.host == host {
			return true
		}
	}
	return false
}

// judge counts a host's two look-ups and starts the grace period of the addresses
// that a good answer lacks. If the look-up of a family failed, its addresses stay.
// It returns what to log of a failure, nil if there is nothing new.
func (f *Filter) judge(a, b lookup) []zap.Field {
	outcome := combine(a, b)
	f.metrics.refreshes.WithLabelValues(a.host, outcome).Inc()
	f.logIgnored(a.host, slices.Concat(a.ignored, b.ignored))
	if outcome == outcomeOK || outcome == outcomePartial {
		f.startGrace(a, b)
	}
	if f.outcomes[a.host] == outcome {
		return nil
	}
	f.outcomes[a.host] = outcome
	if outcome == outcomeOK {
		f.log.Info("host name resolved", zap.String("host", a.host), zap.String("outcome", outcome))
		return nil
	}
	fields := []zap.Field{zap.String("outcome", outcome)}
	for _, l := range []lookup{a, b} {
		if l.outcome != outcomeOK {
			fields = append(fields, zap.NamedError(l.network+"_error", l.err))
		}
	}
	return fields
}

func (f *Filter) startGrace(a, b lookup) {
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
		f.log.Info("address left DNS, allowed until its grace period ends", zap.String("host", key.host),
			zap.Stringer("address", key.addr), zap.Time("until", allowedUntil(known, f.cfg.DNSGrace)))
	}
}

// answers reports whether the look-up got an answer for addr's family.
func (l lookup) answers(addr netip.Addr) bool {
	good := l.outcome == outcomeOK || l.outcome == outcomeNotFound
	return good && addr.Is4() == (l.network == "ip4")
}

// forget removes the addresses whose grace period has ended.
func (f *Filter) forget() {
	now := f.now()
	for key, known := range f.known {
		if !known.MissingSince.IsZero() && !now.Before(allowedUntil(known, f.cfg.DNSGrace)) {
			delete(f.known, key)
			f.log.Info("address no longer allowed: its grace period ended", zap.String("host", key.host), zap.Stringer("address", key.addr))
		}
	}
}

// load reads the memory. It returns nil if that fails; the next refresh tries
// again.
func (f *Filter) load(ctx context.Context) []receiving.Address {
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	rows, err := f.memory.LoadAddresses(ctx, f.hosts)
	if err != nil {
		f.log.Warn("could not read the remembered addresses", zap.Error(err))
		return nil
	}
	if rows == nil {
		rows = []receiving.Address{}
	}
	return rows
}

// merge adds the addresses that load read, except those that this process has seen
// itself, which is newer, those of host names that are not configured, and those
// that are not believable.
func (f *Filter) merge(rows []receiving.Address) {
	if rows == nil {
		return
	}
	f.loaded = true
	var ignored []netip.Addr
	for _, row := range rows {
		row.Addr = plain(row.Addr)
		key := hostAddr{row.Host, row.Addr}
		if _, ok := f.known[key]; ok || !slices.Contains(f.hosts, row.Host) {
			continue
		}
		if !f.believable(row.Addr) {
			ignored = append(ignored, row.Addr)
			continue
		}
		f.known[key] = row
	}
	if len(ignored) > 0 {
		f.log.Warn("remembered addresses are ignored: they are not public", logged(ignored)...)
	}
}

// save writes all known addresses if any has changed. If that fails, the next
// refresh tries again.
func (f *Filter) save(ctx context.Context) {
	if f.memory == nil || !f.unsaved {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	if err := f.memory.SaveAddresses(ctx, slices.Collect(maps.Values(f.known))); err != nil {
		f.log.Warn("could not save the resolved addresses", zap.Error(err))
		return
	}
	f.unsaved = false
}
