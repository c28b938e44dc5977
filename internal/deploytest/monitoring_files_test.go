package deploytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	alertsFile    = "../../deploy/prometheus/alerts.yml"
	dashboardFile = "../../deploy/grafana/dashboards/callbackd.json"
	runbookFile   = "../../docs/runbook.md"
	// runbookURL is where the links lead until the operator changes them, as
	// deploy/prometheus/README.md says.
	runbookURL = "https://github.com/YOUR-ORG/callbackd/blob/main/docs/runbook.md"
)

// alertRule is one rule of deploy/prometheus/alerts.yml.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readAlerts(t *testing.T) []alertRule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string      `yaml:"name"`
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, alertsFile, &file)
	var rules []alertRule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) == 0 {
		t.Fatalf("%s has no rules", alertsFile)
	}
	return rules
}

// readYAML rejects keys that the type does not have.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestMonitoringAlerts: an alert tells the person on call what happened, how bad it
// is, and what to do.
func TestMonitoringAlerts(t *testing.T) {
	for _, rule := range readAlerts(t) {
		if severity := rule.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: the severity is %q", rule.Alert, severity)
		}
		if rule.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", rule.Alert)
		}
		// What is missing has no value.
		if description := rule.Annotations["description"]; !strings.Contains(rule.Expr, "absent(") && !strings.Contains(description, "$value") && !strings.Contains(description, "$labels.") {
			t.Errorf("%s: the description %q shows no value", rule.Alert, description)
		}
		if want := runbookURL + "#" + anchor(rule.Alert); rule.Annotations["runbook_url"] != want {
			t.Errorf("%s: the runbook_url is %q, want %q", rule.Alert, rule.Annotations["runbook_url"], want)
		}
	}
}

// anchor is what GitHub makes of a heading of one word.
func anchor(heading string) string { return strings.ToLower(heading) }

// TestMonitoringRunbook: no alert is without a section of the runbook, no section
// without an alert, and each section answers the same questions.
func TestMonitoringRunbook(t *testing.T) {
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(heading, "Callbackd") {
			sections[heading] = body
		}
	}
	alerts := map[string]bool{}
	for _, rule := range readAlerts(t) {
		alerts[rule.Alert] = true
	}
	for alert := range alerts {
		body, found := sections[alert]
		if !found {
			t.Errorf("%s has no section in %s", alert, runbookFile)
		}
		for _, part := range []string{"**Meaning.**", "**Look.**", "**Causes.**", "**Do.**", "**Wake.**"} {
			if found && !strings.Contains(body, part) {
				t.Errorf("the section %s lacks %s", alert, part)
			}
		}
	}
	for heading := range sections {
		if !alerts[heading] {
			t.Errorf("the section %s belongs to no alert", heading)
		}
	}
}

// TestMonitoringAlertsAreTested: of each alert there is a case in which it fires
// and one in which it does not. promtool runs them.
func TestMonitoringAlertsAreTested(t *testing.T) {
	paths, err := filepath.Glob("../../deploy/prometheus/*_test.yml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no tests of the rules: %v", err)
	}
	fires, misses := map[string]bool{}, map[string]bool{}
	severities := map[string]bool{}
	for _, path := range paths {
		var file struct {
			RuleFiles          []string `yaml:"rule_files"`
			EvaluationInterval string   `yaml:"evaluation_interval"`
			Tests              []struct {
				Name        string `yaml:"name"`
				Interval    string `yaml:"interval"`
				InputSeries []any  `yaml:"input_series"`
				Cases       []struct {
					Alert    string `yaml:"alertname"`
					EvalTime string `yaml:"eval_time"`
					Expected []struct {
						Labels      map[string]string `yaml:"exp_labels"`
						Annotations map[string]string `yaml:"exp_annotations"`
					} `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		readYAML(t, path, &file)
		for _, test := range file.Tests {
			for _, c := range test.Cases {
				if len(c.Expected) == 0 {
					misses[c.Alert] = true
				}
				for _, expected := range c.Expected {
					fires[c.Alert] = true
					severities[c.Alert+" "+expected.Labels["severity"]] = true
				}
			}
		}
	}
	known := map[string]bool{}
	for _, rule := range readAlerts(t) {
		known[rule.Alert] = true
		if !severities[rule.Alert+" "+rule.Labels["severity"]] {
			t.Errorf("no case in which %s fires as %s", rule.Alert, rule.Labels["severity"])
		}
		if !misses[rule.Alert] {
			t.Errorf("no case in which %s does not fire", rule.Alert)
		}
	}
	for alert := range fires {
		if !known[alert] {
			t.Errorf("the tests name %s, which is no alert", alert)
		}
	}
}

// The dashboard's JSON, as far as it is used here. Keys missing from these types
// are rejected, so a misspelt key does not go unnoticed: Grafana would ignore it.
// The names are those of Grafana's dashboard schema.
type (
	dashboard struct {
		UID           string                    `json:"uid"`
		Title         string                    `json:"title"`
		Description   string                    `json:"description"`
		Tags          []string                  `json:"tags"`
		SchemaVersion int                       `json:"schemaVersion"`
		Version       int                       `json:"version"`
		Editable      bool                      `json:"editable"`
		GraphTooltip  int                       `json:"graphTooltip"`
		Timezone      string                    `json:"timezone"`
		Refresh       string                    `json:"refresh"`
		Time          struct{ From, To string } `json:"time"`
		Links         []dashboardLink           `json:"links"`
		Annotations   struct {
			List []dashboardAnnotation `json:"list"`
		} `json:"annotations"`
		Templating struct {
			List []dashboardVariable `json:"list"`
		} `json:"templating"`
		Panels []dashboardPanel `json:"panels"`
	}
	dashboardSource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	dashboardLink struct {
		Title       string   `json:"title"`
		Type        string   `json:"type"`
		URL         string   `json:"url"`
		Icon        string   `json:"icon"`
		Tooltip     string   `json:"tooltip"`
		Tags        []string `json:"tags"`
		TargetBlank bool     `json:"targetBlank"`
		AsDropdown  bool     `json:"asDropdown"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
	}
	dashboardAnnotation struct {
		Name        string          `json:"name"`
		Source      dashboardSource `json:"datasource"`
		Enable      bool            `json:"enable"`
		Hide        bool            `json:"hide"`
		IconColor   string          `json:"iconColor"`
		Expr        string          `json:"expr"`
		TitleFormat string          `json:"titleFormat"`
		Step        string          `json:"step"`
	}
	dashboardVariable struct {
		Name       string           `json:"name"`
		Label      string           `json:"label"`
		Type       string           `json:"type"`
		Source     *dashboardSource `json:"datasource"`
		Definition string           `json:"definition"`
		Query      any              `json:"query"`
		Refresh    int              `json:"refresh"`
		Sort       int              `json:"sort"`
		Hide       int              `json:"hide"`
		Multi      bool             `json:"multi"`
		IncludeAll bool             `json:"includeAll"`
		AllValue   string           `json:"allValue"`
		Current    any              `json:"current"`
	}
	dashboardPanel struct {
		ID          int                      `json:"id"`
		Type        string                   `json:"type"`
		Title       string                   `json:"title"`
		Description string                   `json:"description"`
		Collapsed   bool                     `json:"collapsed"`
		Panels      []any                    `json:"panels"`
		Source      *dashboardSource         `json:"datasource"`
		Grid        struct{ X, Y, W, H int } `json:"gridPos"`
		Targets     []dashboardTarget        `json:"targets"`
		Links       []dashboardLink          `json:"links"`
		FieldConfig struct {
			Defaults  fieldConfig `json:"defaults"`
			Overrides []struct {
				Matcher struct {
					ID      string `json:"id"`
					Options string `json:"options"`
				} `json:"matcher"`
				Properties []struct {
					ID    string          `json:"id"`
					Value json.RawMessage `json:"value"`
				} `json:"properties"`
			} `json:"overrides"`
		} `json:"fieldConfig"`
		Options struct {
			ColorMode     string `json:"colorMode"`
			GraphMode     string `json:"graphMode"`
			JustifyMode   string `json:"justifyMode"`
			Orientation   string `json:"orientation"`
			TextMode      string `json:"textMode"`
			ShowHeader    bool   `json:"showHeader"`
			ReduceOptions struct {
				Calcs  []string `json:"calcs"`
				Fields string   `json:"fields"`
				Values bool     `json:"values"`
			} `json:"reduceOptions"`
			Legend struct {
				DisplayMode string   `json:"displayMode"`
				Placement   string   `json:"placement"`
				ShowLegend  bool     `json:"showLegend"`
				Calcs       []string `json:"calcs"`
			} `json:"legend"`
			Tooltip struct {
				Mode string `json:"mode"`
				Sort string `json:"sort"`
			} `json:"tooltip"`
		} `json:"options"`
		Transformations []struct {
			ID      string `json:"id"`
			Options struct {
				ExcludeByName map[string]bool   `json:"excludeByName"`
				IndexByName   map[string]int    `json:"indexByName"`
				RenameByName  map[string]string `json:"renameByName"`
			} `json:"options"`
		} `json:"transformations"`
	}
	dashboardTarget struct {
		Source     dashboardSource `json:"datasource"`
		RefID      string          `json:"refId"`
		EditorMode string          `json:"editorMode"`
		Expr       string          `json:"expr"`
		Legend     string          `json:"legendFormat"`
		Range      bool            `json:"range"`
		Instant    bool            `json:"instant"`
		Format     string          `json:"format"`
	}
	// fieldConfig is how a field is shown; overrides name its parts.
	fieldConfig struct {
		Unit       string      `json:"unit"`
		Decimals   *int        `json:"decimals"`
		Min        *float64    `json:"min"`
		Max        *float64    `json:"max"`
		NoValue    string      `json:"noValue"`
		Mappings   []any       `json:"mappings"`
		Thresholds *thresholds `json:"thresholds"`
		Color      fieldColor  `json:"color"`
		Custom     struct {
			Align             string                `json:"align"`
			DrawStyle         string                `json:"drawStyle"`
			LineWidth         float64               `json:"lineWidth"`
			LineStyle         lineStyle             `json:"lineStyle"`
			FillOpacity       float64               `json:"fillOpacity"`
			ShowPoints        string                `json:"showPoints"`
			SpanNulls         bool                  `json:"spanNulls"`
			Stacking          lineStacking          `json:"stacking"`
			ThresholdsStyle   struct{ Mode string } `json:"thresholdsStyle"`
			ScaleDistribution struct {
				Type string `json:"type"`
				Log  int    `json:"log"`
			} `json:"scaleDistribution"`
		} `json:"custom"`
	}
	fieldColor struct {
		Mode       string `json:"mode"`
		FixedColor string `json:"fixedColor"`
	}
	lineStyle struct {
		Fill string    `json:"fill"`
		Dash []float64 `json:"dash"`
	}
	lineStacking struct {
		Mode  string `json:"mode"`
		Group string `json:"group"`
	}
	thresholds struct {
		Mode  string `json:"mode"`
		Steps []struct {
			Color string   `json:"color"`
			Value *float64 `json:"value"` // null for the first
		} `json:"steps"`
	}
)

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := unmarshalStrictly(text, &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

func unmarshalStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

// field is how what a target returns is shown: the panel's defaults with the
// overrides for the target and for the name of the series.
func (p *dashboardPanel) field(refID, name string) (fieldConfig, error) {
	f := p.FieldConfig.Defaults
	for _, o := range p.FieldConfig.Overrides {
		switch {
		case o.Matcher.ID == "byFrameRefID" && o.Matcher.Options == refID:
		case o.Matcher.ID == "byName" && o.Matcher.Options == name:
		case o.Matcher.ID == "byFrameRefID", o.Matcher.ID == "byName":
			continue
		default:
			return f, fmt.Errorf("%s: unknown matcher %q", p.Title, o.Matcher.ID)
		}
		for _, property := range o.Properties {
			into, known := map[string]any{
				"unit": &f.Unit, "color": &f.Color, "thresholds": &f.Thresholds, "custom.stacking": &f.Custom.Stacking,
				"custom.fillOpacity": &f.Custom.FillOpacity, "custom.lineStyle": &f.Custom.LineStyle,
			}[property.ID]
			if !known {
				return f, fmt.Errorf("%s: unknown property %q", p.Title, property.ID)
			}
			if property.ID == "thresholds" {
				f.Thresholds = nil // not merged with the defaults
			}
			if err := unmarshalStrictly(property.Value, into); err != nil {
				return f, fmt.Errorf("%s: %s: %w", p.Title, property.ID, err)
			}
		}
	}
	return f, nil
}

// units are those that the dashboard uses, all of them Grafana's.
var units = []string{"none", "s", "percentunit", "bytes", "Bps"}

// TestMonitoringDashboard: Grafana understands the dashboard, each panel says what
// it shows, and its links lead to existing alerts.
func TestMonitoringDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.SchemaVersion < 39 || d.UID == "" || d.Title == "" {
		t.Errorf("schemaVersion %d, uid %q, title %q", d.SchemaVersion, d.UID, d.Title)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Name == "runbook" && v.Query != runbookURL {
			t.Errorf("the variable runbook is %v, want %s", v.Query, runbookURL)
		}
	}
	if want := []string{"datasource", "job", "instance", "runbook"}; !slices.Equal(variables, want) {
		t.Errorf("variables %q, want %q", variables, want)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		checkPanel(t, &p)
	}
	checkGrid(t, d.Panels)
}

func checkPanel(t *testing.T, p *dashboardPanel) {
	t.Helper()
	if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
		t.Errorf("panel %d %q: title, description and queries are wanted", p.ID, p.Title)
	}
	if !slices.Contains([]string{"stat", "timeseries", "table"}, p.Type) {
		t.Errorf("%s: unknown type %q", p.Title, p.Type)
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if refs[target.RefID] {
			t.Errorf("%s: the refId %s is taken", p.Title, target.RefID)
		}
		refs[target.RefID] = true
		if target.Source != (dashboardSource{"prometheus", "${datasource}"}) {
			t.Errorf("%s: the data source is %v", p.Title, target.Source)
		}
		if target.Range == target.Instant {
			t.Errorf("%s: either range or instant", p.Title)
		}
		if f, err := p.field(target.RefID, target.Legend); err != nil {
			t.Error(err)
		} else if p.Type != "table" && !slices.Contains(units, f.Unit) {
			t.Errorf("%s: unknown unit %q", p.Title, f.Unit)
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if _, err := p.field(o.Matcher.Options, o.Matcher.Options); err != nil {
			t.Error(err)
		}
		if o.Matcher.ID == "byFrameRefID" && !refs[o.Matcher.Options] {
			t.Errorf("%s: no query %s to override", p.Title, o.Matcher.Options)
		}
	}
}

// checkGrid: no two panels overlap, and all fit the 24 columns.
func checkGrid(t *testing.T, panels []dashboardPanel) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		if p.Grid.W < 1 || p.Grid.H < 1 || p.Grid.X < 0 || p.Grid.X+p.Grid.W > 24 {
			t.Errorf("%s stands out of the grid: %+v", p.Title, p.Grid)
		}
		for x := p.Grid.X; x < p.Grid.X+p.Grid.W; x++ {
			for y := p.Grid.Y; y < p.Grid.Y+p.Grid.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// runbookLink is a panel's link to an alert's section.
var runbookLink = regexp.MustCompile(`^\$\{runbook\}#(\w+)$`)

// TestMonitoringThresholds: a panel turns red where an alert that it links to
// fires, and every alert has a panel.
func TestMonitoringThresholds(t *testing.T) {
	expressions := map[string][]string{}
	for _, rule := range readAlerts(t) {
		expressions[anchor(rule.Alert)] = append(expressions[anchor(rule.Alert)], rule.Expr)
	}
	linked := map[string]bool{}
	for _, p := range readDashboard(t).Panels {
		var exprs []string
		for _, link := range p.Links {
			match := runbookLink.FindStringSubmatch(link.URL)
			if match == nil {
				continue // to the runbook's beginning
			}
			if expressions[match[1]] == nil {
				t.Errorf("%s links to %s, which is no alert", p.Title, match[1])
			}
			linked[match[1]] = true
			exprs = append(exprs, expressions[match[1]]...)
		}
		for _, target := range p.Targets {
			f, err := p.field(target.RefID, target.Legend)
			if err != nil {
				t.Fatal(err)
			}
			if red, found := redFrom(f.Thresholds); found && len(exprs) > 0 && !slices.ContainsFunc(exprs, func(e string) bool { return firesFrom(e, red) }) {
				t.Errorf("%s: %s turns red at %v, where no linked alert fires", p.Title, target.Legend, red)
			}
		}
	}
	for alert := range expressions {
		if !linked[alert] {
			t.Errorf("no panel links to %s", alert)
		}
	}
}

func redFrom(t *thresholds) (float64, bool) {
	if t == nil {
		return 0, false
	}
	for _, step := range t.Steps {
		if step.Color == "red" && step.Value != nil {
			return *step.Value, true
		}
	}
	return 0, false
}

// firesFrom reports whether the expression compares with the value; a count of 1
// is above 0.
func firesFrom(expr string, value float64) bool {
	wanted := []string{fmt.Sprintf("> %g", value), fmt.Sprintf(">= %g", value), fmt.Sprintf("+ %g", value)}
	if value == 1 {
		wanted = append(wanted, "> 0", "== 0")
	}
	for _, w := range wanted {
		if regexp.MustCompile(regexp.QuoteMeta(w) + `($|[^.\d])`).MatchString(expr) {
			return true
		}
	}
	return false
}
