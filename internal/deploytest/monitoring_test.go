//go:build deploy

package deploytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.yaml.in/yaml/v3"
	"golang.org/x/time/rate"
)

var (
	screenshotFile = flag.String("monitoring.screenshot", "", "draw the dashboard into this PNG")
	dayLength      = flag.Float64("monitoring.day", 1, "how long the bad day is; 1 is half a minute")
)

// promtool runs promtool in the directory of the rules and demands that it
// succeeds.
func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = filepath.Dir(alertsFile)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestMonitoringPromtool: promtool accepts rules and configuration, and its unit
// tests of the rules pass.
func TestMonitoringPromtool(t *testing.T) {
	t.Parallel()
	promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
	promtool(t, "", "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
	promtool(t, "", "test", "rules", "alerts_test.yml", "alerts_week_test.yml")
	t.Logf("checked: deploy/prometheus: promtool check rules, check config, test rules; %d rules", len(readAlerts(t)))
}

// scrapeSeconds is how often the rig's Prometheus scrapes and evaluates.
const scrapeSeconds = 1

// TestMonitoringPrometheus: a real Prometheus scrapes two receivers and a worker
// on a bad day. Then every query of every panel has data, every rule is healthy,
// and the alert that must fire does.
func TestMonitoringPrometheus(t *testing.T) {
	t.Parallel()
	r := newMonitoringRig(t, 2, "0s,2s,4s,8s,15s,30s")
	p := r.startPrometheus()
	p.badDay(*dayLength)

	for _, i := range append(r.receivers, r.worker) {
		code, text, err := monitoringGet("http://" + i.admin + "/metrics")
		if err != nil || code != http.StatusOK {
			t.Fatalf("/metrics: %d, %v", code, err)
		}
		promtool(t, text, "check", "metrics")
	}
	t.Logf("checked: promtool check metrics on 2 receivers and a worker")
	p.checkRules()
	p.checkPanels()
	if *screenshotFile != "" {
		p.screenshot(*screenshotFile)
	}
}

// prometheus is a running Prometheus that scrapes the rig.
type prometheus struct {
	*monitoringRig
	url   string
	start time.Time
}

func (r *monitoringRig) startPrometheus() *prometheus {
	r.t.Helper()
	dir := r.t.TempDir()
	data := filepath.Join(dir, "data")
	p := &prometheus{monitoringRig: r, start: time.Now()}
	p.writeLastWeek(dir, data)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, p.config(), 0o600); err != nil {
		r.t.Fatal(err)
	}
	output := r.run([]string{"PATH=" + os.Getenv("PATH")}, "prometheus", "--config.file="+config, "--storage.tsdb.path="+data,
		"--storage.tsdb.retention.time=30d", "--web.listen-address=127.0.0.1:0")
	listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	r.await(func() error {
		for _, line := range output.lines() {
			if match := listening.FindStringSubmatch(line); match != nil {
				p.url = "http://" + match[1]
			}
		}
		if p.url == "" {
			return errors.New("Prometheus does not listen")
		}
		code, _, err := monitoringGet(p.url + "/-/ready")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("Prometheus is not ready: %d", code)
		}
		return err
	})
	return p
}

// config is deploy/prometheus/prometheus.yml with the rig's addresses, and faster.
func (p *prometheus) config() []byte {
	p.t.Helper()
	file, err := os.ReadFile(filepath.Join(filepath.Dir(alertsFile), "prometheus.yml"))
	if err != nil {
		p.t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(file, &config); err != nil {
		p.t.Fatal(err)
	}
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		p.t.Fatal(err)
	}
	interval := fmt.Sprintf("%ds", scrapeSeconds)
	config["global"] = map[string]any{"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
	config["rule_files"] = []string{rules}
	addresses := map[string]string{}
	for _, i := range append(p.receivers, p.worker) {
		addresses[i.name] = i.admin
	}
	for _, job := range config["scrape_configs"].([]any) {
		var targets []any
		for _, static := range job.(map[string]any)["static_configs"].([]any) {
			for _, name := range static.(map[string]any)["targets"].([]any) {
				address, known := addresses[name.(string)]
				if !known {
					p.t.Fatalf("prometheus.yml scrapes %v, which the rig does not have", name)
				}
				targets = append(targets, map[string]any{"targets": []string{address}, "labels": map[string]any{"instance": name}})
			}
		}
		job.(map[string]any)["static_configs"] = targets
	}
	out, err := yaml.Marshal(config)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// writeLastWeek gives Prometheus a last week: two hours of callbacks around this
// time, by an instance that is no longer there.
func (p *prometheus) writeLastWeek(dir, data string) {
	p.t.Helper()
	const step, perSecond = 5, 3.0
	begin := p.start.Add(-7*24*time.Hour - time.Hour).Unix()
	var text bytes.Buffer
	text.WriteString("# TYPE callbackd_callbacks counter\n")
	total := 0.0
	for at := begin; at < begin+2*3600; at += step {
		fmt.Fprintf(&text, "callbackd_callbacks_total{job=\"callbackd-receiver\",instance=\"receiver-0:9090\",outcome=\"stored\"} %g %d\n", total, at)
		total += math.Round(step * perSecond * (1 + 0.2*math.Sin(float64(at)/90)))
	}
	text.WriteString("# EOF\n")
	path := filepath.Join(dir, "lastweek.om")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	promtool(p.t, "", "tsdb", "create-blocks-from", "openmetrics", path, data)
}

// badDay lets happen what the dashboard is for. Each part waits until Prometheus
// has seen it.
func (p *prometheus) badDay(long float64) {
	p.t.Helper()
	const perSecond = 1.2 // to each receiver
	defer p.startVerifications()()
	for _, i := range p.receivers {
		p.sendJourneys(i, 5000, perSecond, nil)
		// Some that will never get their details, or an image of theirs.
		p.sendJourneys(i, 2, 0, map[string]any{"kind": "passed-passport", "faults": []string{"details:500"}})
		p.sendJourneys(i, 2, 0, map[string]any{"kind": "passed-id-card", "faults": []string{"image:404:0:part=BACK"}})
		p.sendJourneys(i, 2, 0, map[string]any{"kind": "odd-unknown-status"})
		p.sendJourneys(i, 2, 0, map[string]any{"kind": "odd-wrong-types"})
	}
	p.awaitQuery(long, "accepted", `sum(callbackd_callbacks_total{outcome="stored"}) - %g`, 25*long)

	// Callers that are refused.
	limit := rate.NewLimiter(6, 1)
	for n := range int(30 * long) {
		if err := limit.Wait(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
		caller := []struct{ from, body string }{
			{monitoringForeign, "{}"}, {monitoringForeign, "{}"}, {"", "{}"}, {monitoringJumio, "{"}, {monitoringForeign, ""}, {monitoringJumio, "x"},
		}[n%6]
		if code, err := p.receivers[n%2].post(caller.from, caller.body); err != nil || code < 400 || code >= 500 {
			p.t.Fatalf("a caller to be refused is answered %d, %v", code, err)
		}
	}

	// Jumio has too much to do, for some journeys more.
	p.sendJourneys(p.receivers[0], int(25*long), 4, map[string]any{
		"kind": "passed-id-card", "faults": []string{"details:429:1:retry-after=1s", "image:503:1", "details:502:1"},
	})
	p.ask("health", map[string]any{"status": "DEGRADED", "details": map[string]string{"callback": "DEGRADED"}})
	p.awaitQuery(long, "health", `0.5 - min(callbackd_jumio_health{service="callback"}) - %g`, 0)
	p.awaitQuery(long, "429", `sum(callbackd_jumio_requests_total{code="429"}) - %g`, 20*long)
	p.awaitQuery(long, "503", `sum(callbackd_jumio_requests_total{code="503"}) - %g`, 10*long)
	// It does not know us for a moment.
	p.setFaults("details:401")
	p.awaitQuery(long, "401", `sum(callbackd_retrieval_attempts_total{outcome="unauthorized"}) - %g`, 4*long)
	p.setFaults()
	p.ask("health", map[string]any{"status": "UP"})
	// Callbacks have got lost, and some ends are never known.
	p.awaitQuery(long, "recovered", `max(callbackd_expectations{state="recovered"}) - %g`, 3*long)
	p.awaitQuery(long, "overdue", `max(callbackd_expectations{state="overdue"}) - %g`, long)
	// A callback comes after its verification is erased.
	p.awaitQuery(long, "erased", `max(callbackd_erasures{state="done"}) - %g`, 1)
	p.sendLateCallback()
	p.awaitQuery(long, "late callbacks", `sum(callbackd_tombstoned_callbacks_total) - %g`, 1)

	// Postgres goes away.
	if err := p.postgres.Kill(); err != nil {
		p.t.Fatal(err)
	}
	p.awaitQuery(long, "spooled", `sum(callbackd_spool_callbacks) - %g`, 30*long)
	if err := p.postgres.Restart(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.awaitQuery(long, "moved", `(sum(callbackd_spool_callbacks) == bool 0) - %g`, 1)
	before := p.query(`sum(callbackd_callbacks_total{outcome="stored"})`, time.Now())[0].last()
	p.awaitQuery(long, "accepted afterwards", `sum(callbackd_callbacks_total{outcome="stored"}) - %g`, before+25*long)
}

// startVerifications starts a verification a second and says so, until it is told to stop.
// An eighth loses its callbacks; of every twentieth, Jumio does not know the end, either;
// another twentieth is erased.
func (p *prometheus) startVerifications() (stop func()) {
	p.t.Helper()
	pool, err := pgxpool.New(p.t.Context(), p.postgres.DSN("postgres"))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		limit := rate.NewLimiter(1, 1)
		for n := 0; limit.Wait(ctx) == nil; n++ {
			var faults []string
			switch {
			case n%20 == 5:
				faults = []string{"callback:lost", "status:404"}
			case n%8 == 3:
				faults = []string{"callback:lost"}
			}
			if err := p.startVerification(ctx, pool, p.receivers[n%2], faults, n%20 == 8); err != nil && ctx.Err() == nil {
				p.t.Error(err)
				return
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
		pool.Close()
	}
}

func (p *prometheus) startVerification(ctx context.Context, pool *pgxpool.Pool, to *monitoredInstance, faults []string, erase bool) error {
	answer, err := p.askSandbox("journeys", map[string]any{
		"kind": "passed-passport", "hold": true, "faults": faults, "callback_url": "http://" + to.callback + "/jumio/callback",
	})
	var started []struct {
		ID         string `json:"workflow_execution_id"`
		AccountID  string `json:"account_id"`
		DataCenter string `json:"data_center"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(answer), &started)
	}
	if err != nil {
		return fmt.Errorf("start a verification: %w", err)
	}
	j := started[0]
	if _, err := pool.Exec(ctx, `SELECT jumio.expect($1, $2, $3, token_lifetime => '5 seconds')`, j.ID, j.AccountID, j.DataCenter); err != nil {
		return nil //nolint:nilerr // while Postgres is away, nothing is started
	}
	if erase {
		if _, err := pool.Exec(ctx, `SELECT jumio.request_erasure('workflow_execution', $1, 'asked for')`, j.ID); err != nil {
			return nil //nolint:nilerr // while Postgres is away, nothing is erased
		}
	}
	_, err = p.askSandbox("journeys/"+j.ID+"/callbacks", map[string]any{})
	return err
}

func (p *prometheus) sendLateCallback() {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.postgres.DSN("postgres"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	var erased string
	if err := conn.QueryRow(p.t.Context(), `SELECT workflow_execution_id FROM jumio.verifications WHERE stage = 'erased' LIMIT 1`).Scan(&erased); err != nil {
		p.t.Fatal(err)
	}
	p.ask("journeys/"+erased+"/callbacks", map[string]any{})
}

// awaitQuery waits until the query with the number in it is 0 or more.
func (p *prometheus) awaitQuery(long float64, what, query string, number float64) {
	p.t.Helper()
	poll := time.NewTicker(500 * time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(time.Duration(float64(monitoringPatience) * max(1, long)))
	for {
		samples := p.query(fmt.Sprintf(query, number), time.Now())
		if len(samples) == 1 && samples[0].last() >= 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited too long: %s: %v", what, samples)
		}
		<-poll.C
	}
}

// samples is one series of an answer of Prometheus.
type samples struct {
	Metric map[string]string    `json:"metric"`
	Value  [2]json.RawMessage   `json:"value"`
	Values [][2]json.RawMessage `json:"values"`
}

// points are the times, in Unix seconds, and values; NaN are left out.
func (s *samples) points() (points [][2]float64) {
	values := s.Values
	if values == nil {
		values = [][2]json.RawMessage{s.Value}
	}
	for _, v := range values {
		var at float64
		var text string
		if json.Unmarshal(v[0], &at) != nil || json.Unmarshal(v[1], &text) != nil {
			continue
		}
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
			points = append(points, [2]float64{at, value})
		}
	}
	return points
}

// last is the newest value, NaN when there is none.
func (s *samples) last() float64 {
	points := s.points()
	if len(points) == 0 {
		return math.NaN()
	}
	return points[len(points)-1][1]
}

// api asks Prometheus's HTTP API and decodes data.
func (p *prometheus) api(path string, values url.Values, into any) {
	p.t.Helper()
	_, text, err := monitoringGet(p.url + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s %s: %s %s, %v", path, values.Get("query"), answer.Status, answer.Error, err)
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		p.t.Fatal(err)
	}
}

func (p *prometheus) query(query string, at time.Time) []samples {
	p.t.Helper()
	var data struct{ Result []samples }
	p.api("query", url.Values{"query": {query}, "time": {fmt.Sprint(float64(at.UnixMilli()) / 1000)}}, &data)
	return data.Result
}

func (p *prometheus) queryRange(query string, from, to time.Time, step time.Duration) []samples {
	p.t.Helper()
	var data struct{ Result []samples }
	p.api("query_range", url.Values{
		"query": {query}, "start": {fmt.Sprint(from.Unix())}, "end": {fmt.Sprint(to.Unix())}, "step": {fmt.Sprint(step.Seconds())},
	}, &data)
	return data.Result
}

// answer is what a target's query returns, as Grafana would ask for it.
func (p *prometheus) answer(target *dashboardTarget, to time.Time, step time.Duration) []samples {
	p.t.Helper()
	query := strings.NewReplacer("$__rate_interval", fmt.Sprintf("%ds", max(15, int(step.Seconds())+scrapeSeconds)), "$job", ".*", "$instance", ".*").Replace(target.Expr)
	if strings.Contains(query, "$") {
		p.t.Fatalf("%s has a variable that is not known", query)
	}
	if target.Instant {
		return p.query(query, to)
	}
	return p.queryRange(query, p.start, to, step)
}

// checkPanels: every query has data, and every series a name.
func (p *prometheus) checkPanels() {
	p.t.Helper()
	panels, queries, now := 0, 0, time.Now()
	for _, panel := range readDashboard(p.t).Panels {
		if panel.Type != "row" {
			panels++
		}
		for _, target := range panel.Targets {
			queries++
			answer, values := p.answer(&target, now, 2*time.Second), 0
			for _, s := range answer {
				values += len(s.points())
			}
			if values == 0 {
				p.t.Errorf("%s %s: %s returns no data", panel.Title, target.RefID, target.Expr)
			}
		}
	}
	p.t.Logf("checked: %d panels, %d queries, each returns data from a real Prometheus", panels, queries)
}

// checkRules: all rules are loaded and healthy, and that of the credentials
// fires, after the attempts that were answered 401.
func (p *prometheus) checkRules() {
	p.t.Helper()
	p.await(func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
		p.api("rules", nil, &data)
		loaded := 0
		for _, group := range data.Groups {
			for _, rule := range group.Rules {
				loaded++
				if rule.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
			}
		}
		if want := len(readAlerts(p.t)); loaded != want {
			p.t.Fatalf("%d rules are loaded, want %d", loaded, want)
		}
		p.t.Logf("checked: %d rules are loaded and healthy", loaded)
		return nil
	})
	p.await(func() error {
		if len(p.query(`ALERTS{alertname="CallbackdJumioCredentials",alertstate="firing"}`, time.Now())) == 0 {
			return errors.New("CallbackdJumioCredentials does not fire")
		}
		return nil
	})
	p.t.Log("checked: CallbackdJumioCredentials fires after attempts that Jumio answered 401")
}
