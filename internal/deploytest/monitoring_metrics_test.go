package deploytest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"callbackd/internal/doctest"
)

// series is what is exposed under one name, as label sets.
type series []map[string]string

// TestMonitoringNames: every metric, every label and every value of a label that
// the dashboard and the rules name is exposed by the running binary, and what it
// exposes is documented.
func TestMonitoringNames(t *testing.T) {
	t.Parallel()
	r := newMonitoringRig(t, 1, "0s,200ms,200ms")
	r.sendJourneys(r.receivers[0], 3, 0, map[string]any{"kind": "passed-passport"})
	r.sendJourneys(r.receivers[0], 1, 0, map[string]any{"kind": "odd-wrong-types"})
	// If the address that the balancer names is private again, it is a second,
	// undeclared balancer.
	for range 3 {
		if code, err := r.receivers[0].post("10.0.0.7", "{}"); err != nil || code != http.StatusForbidden {
			t.Fatalf("a balancer that is not declared is answered %d, %v", code, err)
		}
	}
	var exposed map[string]series
	documented := map[string]*dto.MetricFamily{}
	r.await(func() error {
		exposed = map[string]series{}
		for _, i := range append(r.receivers, r.worker) {
			if err := scrape(exposed, documented, i); err != nil {
				return err
			}
		}
		// These have no series before something has happened.
		for _, name := range []string{
			"callbackd_dns_last_success_timestamp_seconds", "callbackd_unreadable_fields_total",
			"callbackd_partitions_ahead", "callbackd_consumer_lag_events", "callbackd_expectations", "callbackd_jumio_health",
		} {
			if len(exposed[name]) == 0 {
				return fmt.Errorf("%s is not exposed yet", name)
			}
		}
		return nil
	})
	// Prometheus's own.
	for _, i := range append(r.receivers, r.worker) {
		exposed["up"] = append(exposed["up"], map[string]string{"job": i.job(), "instance": i.name})
	}
	for _, rule := range readAlerts(t) {
		exposed["ALERTS"] = append(exposed["ALERTS"], map[string]string{"alertname": rule.Alert, "alertstate": "firing"})
	}

	d := readDashboard(t)
	queries := map[string]string{}
	for _, rule := range readAlerts(t) {
		queries["alert "+rule.Alert+" "+rule.Labels["severity"]+" "+rule.Labels["window"]] = rule.Expr
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries["panel "+p.Title+" "+target.RefID] = target.Expr
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.Legend, -1) {
				queries["legend of "+p.Title+" "+target.RefID] = "sum by (" + label[1] + ") (" + target.Expr + ")"
			}
		}
	}
	for _, a := range d.Annotations.List {
		queries["annotation "+a.Name] = a.Expr
	}
	for _, v := range d.Templating.List {
		if match := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition); match != nil {
			queries["variable "+v.Name] = "sum by (" + match[2] + ") (" + match[1] + ")"
		} else if v.Type == "query" {
			t.Errorf("the variable %s: %q is not understood", v.Name, v.Definition)
		}
	}
	for _, where := range slices.Sorted(maps.Keys(queries)) {
		if err := checkQuery(exposed, queries[where]); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	checkDocumented(t, documented)
}

func (i *monitoredInstance) job() string {
	if i.callback == "" {
		return "callbackd-worker"
	}
	return "callbackd-receiver"
}

// scrape adds what an instance exposes, with the labels that Prometheus adds.
func scrape(into map[string]series, all map[string]*dto.MetricFamily, i *monitoredInstance) error {
	code, text, err := monitoringGet("http://" + i.admin + "/metrics")
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("/metrics of %s is %d", i.name, code)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return err
	}
	maps.Copy(all, families)
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{"job": i.job(), "instance": i.name}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetType() != dto.MetricType_HISTOGRAM {
				into[name] = append(into[name], labels)
				continue
			}
			into[name+"_sum"] = append(into[name+"_sum"], labels)
			into[name+"_count"] = append(into[name+"_count"], labels)
			for _, bucket := range metric.GetHistogram().GetBucket() {
				withBound := maps.Clone(labels)
				withBound["le"] = fmt.Sprint(bucket.GetUpperBound())
				into[name+"_bucket"] = append(into[name+"_bucket"], withBound)
			}
		}
	}
	return nil
}

// grafanaVariables are replaced before a query is read, as Grafana does.
var grafanaVariables = strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*")

// checkQuery reads the query with a parser of PromQL.
func checkQuery(exposed map[string]series, query string) error {
	expr, err := metricsql.Parse(grafanaVariables.Replace(query))
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	var errs []error
	names := 0
	metricsql.VisitAll(expr, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.MetricExpr:
			for _, filters := range e.LabelFilterss {
				names++
				errs = append(errs, checkSelector(exposed, filters))
			}
		case *metricsql.AggrFuncExpr:
			if strings.EqualFold(e.Modifier.Op, "without") {
				errs = append(errs, errors.New("without is not looked into; use by"))
				return
			}
			errs = append(errs, checkLabels(exposed, e, e.Modifier.Args))
		case *metricsql.BinaryOpExpr:
			errs = append(errs, checkLabels(exposed, e, e.GroupModifier.Args))
		}
	})
	if names == 0 {
		errs = append(errs, fmt.Errorf("%s names no metric", query))
	}
	return errors.Join(errs...)
}

// checkSelector: the metric is there, with each of the labels, and with a value
// for each matcher that wants one. Of alternatives, each is there.
func checkSelector(exposed map[string]series, filters []metricsql.LabelFilter) error {
	if len(filters) == 0 || filters[0].Label != "__name__" || filters[0].IsRegexp {
		return errors.New("a selector without a name")
	}
	name := filters[0].Value
	all := exposed[name]
	if len(all) == 0 {
		return fmt.Errorf("%s is not exposed", name)
	}
	for _, f := range filters[1:] {
		values := map[string]bool{}
		for _, labels := range all {
			if value, found := labels[f.Label]; found {
				values[value] = true
			}
		}
		if len(values) == 0 {
			return fmt.Errorf("%s has no label %s", name, f.Label)
		}
		wanted := []string{regexp.QuoteMeta(f.Value)}
		if f.IsRegexp {
			wanted = strings.Split(f.Value, "|")
		}
		for _, w := range wanted {
			pattern, err := regexp.Compile("^(?:" + w + ")$")
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(values)), pattern.MatchString) {
				return fmt.Errorf("%s has no %s=%q", name, f.Label, w)
			}
		}
	}
	return nil
}

// checkLabels: the labels that an aggregation or a match keeps are those of a
// metric below it.
func checkLabels(exposed map[string]series, e metricsql.Expr, labels []string) error {
	for _, label := range labels {
		found := false
		metricsql.VisitAll(e, func(e metricsql.Expr) {
			if m, ok := e.(*metricsql.MetricExpr); ok {
				for _, filters := range m.LabelFilterss {
					found = found || slices.ContainsFunc(exposed[filters[0].Value], func(l map[string]string) bool { _, ok := l[label]; return ok })
				}
			}
		})
		if !found {
			return fmt.Errorf("nothing has the label %s", label)
		}
	}
	return nil
}

// checkDocumented: the table in docs/operations.md is what is exposed, each
// metric with the alerts that ask for it; docs/database.md has every code that a
// label can take.
func checkDocumented(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	var b strings.Builder
	b.WriteString("| metric | meaning | alerts |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, "callbackd_") {
			continue
		}
		family := families[name]
		shown := name
		if labels := family.GetMetric()[0].GetLabel(); len(labels) > 0 && name != "callbackd_build_info" {
			var names []string
			for _, label := range labels {
				names = append(names, label.GetName())
			}
			shown += "{" + strings.Join(names, ",") + "}"
		}
		b.WriteString(doctest.Row("`"+shown+"`", family.GetHelp(), strings.Join(alertsOf(t, name), ", ")))
	}
	doctest.Section(t, "../../docs/operations.md", "metrics", b.String())

	codes, err := os.ReadFile("../../docs/database.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"callbackd_refused_callbacks_total", "callbackd_retrieval_attempts_total"} {
		for _, metric := range families[name].GetMetric() {
			code := metric.GetLabel()[0].GetValue()
			if !regexp.MustCompile("`(malformed: )?" + code + "`").Match(codes) {
				t.Errorf("docs/database.md does not list %s, a value of %s", code, name)
			}
		}
	}
}

// alertsOf links the alerts whose rules name the metric to the runbook.
func alertsOf(t *testing.T, metric string) (links []string) {
	t.Helper()
	named := regexp.MustCompile(`\b` + metric + `(_bucket|_sum|_count)?\b`)
	for _, rule := range readAlerts(t) {
		link := fmt.Sprintf("[%s](runbook.md#%s)", strings.TrimPrefix(rule.Alert, "Callbackd"), anchor(rule.Alert))
		if named.MatchString(rule.Expr) && !slices.Contains(links, link) {
			links = append(links, link)
		}
	}
	return links
}
