package processtest

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/doctest"
)

// The chaos suite, TestChaos*: callbackd under load while what it depends on
// breaks, with a ledger of every callback that was answered with 200. The short
// version is part of the tests; `make chaos` is the full one.
var (
	chaosFull = flag.Bool("chaos.full", false, "run the chaos suite in full: many more faults, held for longer")
	chaosDocs = flag.Bool("chaos.docs", false, "write the chaos suite's ledger into docs/reliability.md")
	chaosSeed = flag.Uint64("chaos.seed", 0, "seed of the chaos suite's random moments; 0 draws one")
)

var started = time.Now()

// seed is the run's seed, drawn once unless it was given.
var seed = sync.OnceValue(func() uint64 {
	if *chaosSeed != 0 {
		return *chaosSeed
	}
	return rand.Uint64()
})

// seeded is the source of a test's random moments: the run's seed and the
// test's name decide it.
func seeded(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name) // a hash takes everything
	return rand.New(rand.NewPCG(seed(), h.Sum64()))
}

// times is how often a fault happens, in full or in short; duration-like
// numbers are chosen by it too.
func times[T any](full, short T) T {
	if *chaosFull {
		return full
	}
	return short
}

// ledgerLine is what one chaos test did and found. Each callback is posted with
// a mark of its own, a repeat of an unanswered one too.
type ledgerLine struct {
	test string
	// sent counts posts, acknowledged those answered with 200, stored all that are
	// in jumio.callbacks.
	sent, acknowledged, stored int
	// lost were acknowledged and are not stored under the id of the answer.
	lost int
	// retrieved counts the published retrievals: events of the type retrieved.
	retrieved int
	// duplicated counts rows beyond one for each post, images beyond one for
	// each part, and retrievals, failures and expiries published beyond one for
	// each generation, that is for each different callback that asks for one.
	duplicated int
	faults     map[string]int
	notDone    []string
}

// ledger is that of the whole run.
var ledger struct {
	mu    sync.Mutex
	lines []*ledgerLine
}

func newLedgerLine(t *testing.T) *ledgerLine {
	line := &ledgerLine{test: t.Name(), faults: map[string]int{}}
	ledger.mu.Lock()
	defer ledger.mu.Unlock()
	ledger.lines = append(ledger.lines, line)
	return line
}

// printLedger writes the run's ledger as a table, if a chaos test ran; with
// -chaos.docs into the documentation as well.
func printLedger(w io.Writer) error {
	ledger.mu.Lock()
	defer ledger.mu.Unlock()
	if len(ledger.lines) == 0 {
		return nil
	}
	lines, total := map[string]*ledgerLine{}, &ledgerLine{test: "total"}
	for _, line := range ledger.lines {
		name := line.group()
		if lines[name] == nil {
			lines[name] = &ledgerLine{test: name, faults: map[string]int{}}
		}
		lines[name].add(line)
		total.add(line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n`-chaos.full=%t -chaos.seed=%d` on %s, %s/%s, %d processors, %s, in %s:\n\n", *chaosFull, seed(),
		started.Format("2 January 2006"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Since(started).Round(time.Second))
	b.WriteString("| test | sent | acknowledged | stored | lost | retrieved | duplicated | faults |\n|---|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(lines[name].row())
	}
	b.WriteString(total.row() + "\n")
	for _, what := range total.notDone {
		fmt.Fprintf(&b, "Not done: %s.\n\n", what)
	}
	if _, err := io.WriteString(w, b.String()); err != nil || !*chaosDocs {
		return err
	}
	return doctest.Write("../../docs/reliability.md", "ledger", b.String())
}

// group is the test's name without its case, but for whether there was a spool.
func (l *ledgerLine) group() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(l.test, "TestChaos"), "/")
	if strings.HasSuffix(l.test, "WithoutSpool") {
		name += " without spool"
	}
	return name
}

func (l *ledgerLine) add(line *ledgerLine) {
	l.sent += line.sent
	l.acknowledged += line.acknowledged
	l.stored += line.stored
	l.lost += line.lost
	l.retrieved += line.retrieved
	l.duplicated += line.duplicated
	l.notDone = append(l.notDone, line.notDone...)
	if l.faults == nil { // the total lists none
		return
	}
	for kind, n := range line.faults {
		l.faults[kind] += n
	}
}

func (l *ledgerLine) row() string {
	return doctest.Row(l.test, strconv.Itoa(l.sent), strconv.Itoa(l.acknowledged),
		strconv.Itoa(l.stored), strconv.Itoa(l.lost), strconv.Itoa(l.retrieved), strconv.Itoa(l.duplicated), l.listFaults())
}

func (l *ledgerLine) listFaults() string {
	var list []string
	for kind, n := range l.faults {
		list = append(list, fmt.Sprintf("%s: %d", kind, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
