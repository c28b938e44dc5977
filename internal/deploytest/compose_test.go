//go:build deploy

package deploytest

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
	"callbackd/internal/workflow"
)

const (
	composeMaxImage = 32 << 20 // bytes
	composeUser     = "65532"
)

// TestCompose builds the image and brings up docker-compose.yml with the sandbox,
// breaks and restarts what is in it, and compares the database with the
// sandbox's ledger.
func TestCompose(t *testing.T) {
	s := newComposeStack(t)
	for _, phase := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"image", s.checkImage},
		{"up", s.checkUp},
		{"confinement", s.checkConfinement},
		{"addresses", s.checkAddresses},
		{"journeys", s.checkJourneys},
		{"restarts", s.checkRestarts},
		{"image store", s.checkImageStore},
		{"monitoring", s.checkMonitoring},
	} {
		if !t.Run(phase.name, phase.run) {
			return
		}
	}
}

// checkImage: built by Compose from the Dockerfile, small, for an ordinary user,
// and its binary static, stamped and the same as one built elsewhere.
func (s *composeStack) checkImage(t *testing.T) {
	s.compose(t, "build", "migrate")
	var images []struct {
		Size   int64
		Config struct {
			User        string
			Entrypoint  []string
			Labels      map[string]string
			Healthcheck struct{ Test []string }
		}
	}
	composeDecode(t, composeRun(t, nil, "docker", "image", "inspect", composeImage), &images)
	image := images[0]
	if image.Size >= composeMaxImage {
		t.Errorf("the image has %d bytes, want less than %d", image.Size, composeMaxImage)
	}
	if user, _, _ := strings.Cut(image.Config.User, ":"); user != composeUser {
		t.Errorf("the image's user is %q, want %s", image.Config.User, composeUser)
	}
	if want := []string{"CMD", "/callbackd", "healthcheck"}; !slices.Equal(image.Config.Healthcheck.Test, want) {
		t.Errorf("the image's health check is %q, want %q", image.Config.Healthcheck.Test, want)
	}
	if got := image.Config.Labels["org.opencontainers.image.version"]; got != composeVersion {
		t.Errorf("the image's label says version %q, want %q", got, composeVersion)
	}
	version := composeRun(t, nil, "docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", composeImage, "version")
	if !strings.HasPrefix(version, "callbackd "+composeVersion+"\ncommit "+composeCommit+"\n") {
		t.Errorf("callbackd version prints %q", version)
	}
	composeChecked(t, "the image has %.1f MiB, user %s, health check and version stamp", float64(image.Size)/(1<<20), image.Config.User)

	binary := filepath.Join(t.TempDir(), "callbackd")
	id := composeRun(t, nil, "docker", "create", composeImage)
	defer composeRun(t, nil, "docker", "rm", id)
	composeRun(t, nil, "docker", "cp", id+":/callbackd", binary)
	program, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 || program.Section(".interp") != nil {
		t.Errorf("the binary is not static: libraries %q, error %v", libraries, err)
	}
	here := s.buildAlike(t, binary)
	if a, b := composeSum(t, binary), composeSum(t, here); a != b {
		t.Errorf("the image's binary has the SHA-256 %s, one built here from the same source %s", a, b)
	}
	composeChecked(t, "the binary is static, and byte for byte the one that is built outside of a container")
}

// buildAlike builds the binary that is in the image again: on this machine, in
// another directory, with another cache, by the same version of Go.
func (s *composeStack) buildAlike(t *testing.T, binary string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOEXPERIMENT=", "GOTOOLCHAIN=" + info.GoVersion}
	for _, setting := range info.Settings {
		if strings.HasPrefix(setting.Key, "GO") {
			environ = append(environ, setting.Key+"="+setting.Value)
		}
	}
	path := filepath.Join(t.TempDir(), "callbackd")
	composeRun(t, environ, "go", "build", "-trimpath",
		"-ldflags", "-s -w -X main.version="+composeVersion+" -X main.commit="+composeCommit, "-o", path, "./cmd/callbackd")
	return path
}

func composeSum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// checkUp: `up` ends well, everything gets healthy, and each was started after what
// it depends on.
func (s *composeStack) checkUp(t *testing.T) {
	s.compose(t, "up", "-d")
	containers := map[string]composeContainer{}
	for _, service := range []string{"postgres", "migrate", "receiver-1", "receiver-2", "worker", "nginx", "sandbox"} {
		s.settled(t, service)
		containers[service] = s.inspect(t, service)
	}
	for _, order := range [][2]string{
		{"postgres", "migrate"},
		{"migrate", "receiver-1"},
		{"migrate", "receiver-2"},
		{"migrate", "worker"},
		{"receiver-1", "nginx"},
		{"receiver-2", "nginx"},
		{"nginx", "sandbox"},
		{"worker", "sandbox"},
	} {
		ready := containers[order[0]].State.StartedAt
		if order[0] == "migrate" {
			ready = containers[order[0]].State.FinishedAt
		}
		if started := containers[order[1]].State.StartedAt; !ready.Before(started) {
			t.Errorf("%s was started at %s, but %s was ready at %s only", order[1], started, order[0], ready)
		}
	}
	composeChecked(t, "up started Postgres, the migrations, two receivers and the worker, nginx, the sandbox in this order, and all are healthy")
}

// checkConfinement looks at the processes themselves, through a container that
// shares their process ids.
func (s *composeStack) checkConfinement(t *testing.T) {
	spy := composeRun(t, nil, "docker", "inspect", "--format", "{{.Image}}", s.inspect(t, "postgres").ID)
	for _, service := range []string{"receiver-1", "receiver-2", "worker", "nginx", "sandbox"} {
		c := s.inspect(t, service)
		out := composeRun(t, nil, "docker", "run", "--rm", "--network", "none", "--pid", "container:"+c.ID, "--cap-add", "SYS_PTRACE", "--entrypoint", "cat", spy, "/proc/1/status", "/proc/1/mounts")
		var root string
		status := map[string]string{}
		for line := range strings.Lines(out) {
			if fields := strings.Fields(line); len(fields) > 3 && fields[1] == "/" {
				root, _, _ = strings.Cut(fields[3], ",")
			}
			if key, value, found := strings.Cut(line, ":"); found {
				status[key] = strings.Join(strings.Fields(value), " ")
			}
		}
		got := map[string]string{"root": root}
		for _, key := range []string{"Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
			got[key] = status[key]
		}
		const none = "0000000000000000"
		want := map[string]string{
			"root": "ro", "Uid": strings.TrimSpace(strings.Repeat(composeUser+" ", 4)), "NoNewPrivs": "1", "Seccomp": "2",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", service, diff)
		}
	}
	composeChecked(t, "receivers, worker, nginx and sandbox run as user %s with a read-only root, no capability, no new privileges", composeUser)
}

// checkAddresses: nginx tells callbackd who calls, whatever the caller says, and
// passes on /readyz but nothing else that is not a callback.
func (s *composeStack) checkAddresses(t *testing.T) {
	id := s.postCallback(t, http.Header{"X-Forwarded-For": {"34.202.241.227"}})
	if from := s.sourceOf(t, id); from != s.subnet+".1" {
		t.Errorf("the callback came from %s, want the network's gateway %s.1", from, s.subnet)
	}
	var fromSandbox []string
	address := ""
	for _, network := range s.inspect(t, "sandbox").NetworkSettings.Networks {
		address = network.IPAddress
	}
	eventually(t, composePatience, func() error {
		s.query(t, &fromSandbox, `SELECT coalesce(json_agg(DISTINCT host(source_ip)), '[]') FROM jumio.callbacks WHERE callback_id <> '`+id+`'`)
		if !slices.Equal(fromSandbox, []string{address}) {
			return fmt.Errorf("callbacks came from %q, want the sandbox's address %s alone", fromSandbox, address)
		}
		return nil
	})
	base, _, _ := strings.Cut(s.callbackURL, "/jumio/")
	for path, want := range map[string]int{"/readyz": 200, "/jumio/callback": 404, "/healthz": 404, "/metrics": 404, "/": 404} {
		if code, _, _, err := s.send(http.MethodGet, base+path, "", nil); err != nil || code != want {
			t.Errorf("GET %s through nginx: %d, %v, want %d", path, code, err, want)
		}
	}
	composeChecked(t, "TLS at nginx, the callers' addresses behind it, a forged X-Forwarded-For without effect, /readyz answered, 404 elsewhere")
}

// postCallback posts a callback of its own through nginx, demands 200, waits until
// it is in the database, and returns its id.
func (s *composeStack) postCallback(t *testing.T, header http.Header) string {
	t.Helper()
	body := fmt.Sprintf(`{"callbackSentAt":%q,"workflowExecution":{"id":"deploytest-%d","status":"ACQUIRED"}}`, time.Now().UTC().Format(time.RFC3339), time.Now().UnixNano())
	code, answer, answerHeader, err := s.send(http.MethodPost, s.callbackURL, body, header)
	if err != nil || code != http.StatusOK {
		t.Fatalf("a callback through nginx: answered %d %s, error %v", code, answer, err)
	}
	id := answerHeader.Get("X-Request-Id")
	eventually(t, composePatience, func() error {
		if s.sourceOf(t, id) == "" {
			return errors.New("a callback that was answered with 200 is not in the database")
		}
		return nil
	})
	return id
}

// sourceOf is the stored source address of a callback, "" if it is not stored.
func (s *composeStack) sourceOf(t *testing.T, id string) string {
	t.Helper()
	var from string
	s.query(t, &from, `SELECT to_json(coalesce((SELECT host(source_ip) FROM jumio.callbacks WHERE callback_id = '`+id+`'), ''))`)
	return from
}

// checkJourneys sends journeys, about a third of them with a fault, and kills a
// receiver and Postgres on their way. Everything must end as the sandbox's
// ledger expects.
func (s *composeStack) checkJourneys(t *testing.T) {
	s.startJourneys(t, 100)
	s.awaitAcknowledged(t, 20)
	s.kill(t, "receiver-1")
	s.awaitAcknowledged(t, 30)
	s.start(t, "receiver-1")
	composeChecked(t, "with a receiver killed, nginx hands its callbacks to the other one")

	s.startJourneys(t, 150)
	s.awaitAcknowledged(t, 20)
	s.kill(t, "postgres")
	s.awaitAcknowledged(t, 30)
	if n := s.spooled(t); n < 1 {
		t.Errorf("%d callbacks are in the spools while Postgres is away, want some", n)
	}
	s.start(t, "postgres")
	eventually(t, composePatience, func() error {
		if n := s.spooled(t); n > 0 {
			return fmt.Errorf("%d callbacks are still in the spools", n)
		}
		return nil
	})
	composeChecked(t, "with Postgres killed, callbacks are taken into the spools, and moved when it is back")

	// The retrieval of a worker that lost Postgres at the wrong moment is taken over
	// within three minutes.
	const takeOver = 5 * time.Minute
	var l sandbox.Ledger
	eventually(t, composePatience+takeOver, func() (err error) {
		l, err = s.compareWithLedger(t)
		return err
	})
	images := s.compareImages(t, l)
	if l.Totals.CallbacksGivenUp > 0 || l.Totals.CallbacksSent != l.Totals.CallbacksAcknowledged {
		t.Errorf("%d callbacks were sent, %d acknowledged, %d given up; want all acknowledged", l.Totals.CallbacksSent, l.Totals.CallbacksAcknowledged, l.Totals.CallbacksGivenUp)
	}
	composeChecked(t, "%d journeys, %d callbacks sent through nginx, all answered with 200 and in the database; every end state and %d images are the ledger's",
		len(l.Journeys), l.Totals.CallbacksSent, images)
}

func (s *composeStack) startJourneys(t *testing.T, count int) []sandbox.Entry {
	t.Helper()
	code, answer, _, err := s.send(http.MethodPost, s.sandbox+"/_sandbox/journeys", fmt.Sprintf(`{"count":%d,"rate":5}`, count), nil)
	if err != nil || code != http.StatusAccepted {
		t.Fatalf("start journeys: %d %s, %v", code, answer, err)
	}
	var entries []sandbox.Entry
	composeDecode(t, answer, &entries)
	return entries
}

func (s *composeStack) ledger(t *testing.T) (l sandbox.Ledger) {
	t.Helper()
	s.get(t, s.sandbox+"/_sandbox/ledger", &l)
	return l
}

// awaitAcknowledged waits until so many more callbacks are acknowledged. The
// sandbox sends each once: none may fail, whatever is down.
func (s *composeStack) awaitAcknowledged(t *testing.T, more int) {
	t.Helper()
	want := s.ledger(t).Totals.CallbacksAcknowledged + more
	eventually(t, composePatience, func() error {
		totals := s.ledger(t).Totals
		if totals.CallbacksGivenUp > 0 {
			t.Fatalf("%d of %d callbacks were not answered with 200", totals.CallbacksGivenUp, totals.CallbacksSent)
		}
		if got := totals.CallbacksAcknowledged; got < want {
			return fmt.Errorf("%d callbacks were answered with 200, want %d", got, want)
		}
		return nil
	})
}

// spooled counts the callbacks in both spools.
func (s *composeStack) spooled(t *testing.T) (n int) {
	t.Helper()
	for _, receiver := range s.receivers {
		eventually(t, composePatience, func() error {
			_, metrics, _, err := s.send(http.MethodGet, receiver+"/metrics", "", nil)
			if err != nil {
				return err
			}
			_, rest, _ := strings.Cut(metrics, "\ncallbackd_spool_callbacks ")
			one := 0
			if _, err := fmt.Sscan(rest, &one); err != nil {
				return fmt.Errorf("callbackd_spool_callbacks of %s: %w", receiver, err)
			}
			n += one
			return nil
		})
	}
	return n
}

// compareWithLedger: every journey was sent, every workflow execution is in the
// state that the ledger expects, and no acknowledged callback is missing. More
// may be stored than acknowledged: a callback whose answer was lost is sent again.
func (s *composeStack) compareWithLedger(t *testing.T) (sandbox.Ledger, error) {
	t.Helper()
	var rows map[string]struct {
		State, Error string
		Callbacks    int
	}
	s.query(t, &rows, `SELECT coalesce(json_object_agg(workflow_execution_id, json_build_object(
		'state', retrieval_state, 'error', coalesce(retrieval_error, ''), 'callbacks', callback_count)), '{}') FROM jumio.workflow_executions`)
	l := s.ledger(t) // after the rows: it has the images of all that is retrieved by then
	for _, e := range l.Journeys {
		row := rows[e.WorkflowExecutionID]
		switch {
		case e.CallbacksSent == 0:
			return l, errors.New("not all journeys were sent yet")
		case row.State != string(e.Expected.State):
			return l, fmt.Errorf("%s, faults %q: %q %s, want %q", e.Kind, e.Faults, row.State, row.Error, e.Expected.State)
		case row.Callbacks < e.CallbacksAcknowledged:
			return l, fmt.Errorf("%s: %d callbacks stored, %d acknowledged", e.Kind, row.Callbacks, e.CallbacksAcknowledged)
		case e.MaxConcurrentSame > 1:
			t.Errorf("%s was retrieved %d times at once", e.Kind, e.MaxConcurrentSame)
		}
	}
	return l, nil
}

// compareImages compares all images, by their SHA-256, with what was served.
func (s *composeStack) compareImages(t *testing.T, l sandbox.Ledger) int {
	t.Helper()
	var want, got []string
	for _, e := range l.Journeys {
		for _, i := range e.Expected.Images {
			want = append(want, strings.Join([]string{e.WorkflowExecutionID, i.CredentialID, i.Classifier, i.SHA256}, " "))
		}
	}
	s.query(t, &got, `SELECT coalesce(json_agg(concat_ws(' ', workflow_execution_id, credential_id, classifier, encode(sha256(data), 'hex'))), '[]') FROM jumio.images`)
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("images (-served +stored):\n%s", diff)
	}
	return len(got)
}

// checkRestarts restarts one service after the other; after each a callback is
// taken, and in the end a journey passes through all of them.
func (s *composeStack) checkRestarts(t *testing.T) {
	services := []string{"postgres", "migrate", "receiver-1", "receiver-2", "worker", "nginx", "sandbox"}
	for _, service := range services {
		before := s.inspect(t, service).State.StartedAt
		s.compose(t, "restart", service)
		s.settled(t, service)
		if !s.inspect(t, service).State.StartedAt.After(before) {
			t.Errorf("%s was not restarted", service)
		}
		s.postCallback(t, nil)
	}
	for _, service := range services {
		s.settled(t, service)
	}
	began := time.Now()
	var final []string
	for _, e := range s.startJourneys(t, 10) {
		if e.Expected.State == workflow.Retrieved {
			final = append(final, e.WorkflowExecutionID)
		}
	}
	eventually(t, composePatience, func() error {
		var retrieved []string
		s.query(t, &retrieved, fmt.Sprintf(`SELECT coalesce(json_agg(DISTINCT workflow_execution_id), '[]') FROM jumio.events
			WHERE type = 'retrieved' AND occurred_at > to_timestamp(%d)`, began.Unix()))
		for _, id := range final {
			if !slices.Contains(retrieved, id) {
				return fmt.Errorf("after the restarts, %s is not retrieved", id)
			}
		}
		return nil
	})
	composeChecked(t, "%s were restarted one at a time, a callback was taken after each, and %d journeys were retrieved afterwards", strings.Join(services, ", "), len(final))
}

// checkImageStore: with the profile images, all images move to the S3 server, new ones go
// there, none is missing, and one is read back.
func (s *composeStack) checkImageStore(t *testing.T) {
	s.environ = append(s.environ, "CALLBACKD_IMAGE_STORE=s3://images?endpoint=http://images:7070&path-style=true",
		"CALLBACKD_IMAGE_STORE_ACCESS_KEY=deploytest", "CALLBACKD_IMAGE_STORE_SECRET_KEY="+rand.Text())
	s.compose(t, "--profile", "images", "up", "-d", "images", "worker")
	s.settled(t, "worker")
	worker := s.inspect(t, "worker").ID
	eventually(t, composePatience, func() error { // the S3 server has no health check
		out, err := exec.Command("docker", "exec", worker, "/callbackd", "image", "move").CombinedOutput()
		if err != nil {
			return fmt.Errorf("callbackd image move: %w\n%s", err, out)
		}
		return nil
	})
	s.startJourneys(t, 10)
	eventually(t, composePatience, func() error {
		_, err := s.compareWithLedger(t)
		return err
	})

	var images []struct{ ID, Store, SHA256 string }
	s.query(t, &images, `SELECT json_agg(json_build_object('id', image_id, 'store', stored_in, 'sha256', encode(sha256, 'hex'))) FROM jumio.images`)
	for _, i := range images {
		if i.Store != "s3" {
			t.Errorf("image %s is stored in %q, want s3", i.ID, i.Store)
		}
	}
	want := fmt.Sprintf("%d objects, 0 orphans (0 bytes), 0 missing", len(images))
	eventually(t, composePatience, func() error { // the worker deletes those that were replaced
		if got := composeRun(t, nil, "docker", "exec", worker, "/callbackd", "image", "sweep"); got != want {
			return fmt.Errorf("callbackd image sweep prints %q, want %q", got, want)
		}
		return nil
	})
	content, err := exec.Command("docker", "exec", worker, "/callbackd", "image", "get", images[0].ID, "--reason", "deploytest").Output()
	if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != images[0].SHA256 {
		t.Errorf("callbackd image get writes %d bytes with the SHA-256 %x, want %s; error %v", len(content), sum, images[0].SHA256, err)
	}
	composeChecked(t, "%d images are in the S3 server, none is missing, and one was read back", len(images))
}

// checkMonitoring: Prometheus finds its targets and rules. Grafana is started only
// where its image is on the machine; no package can replace it.
func (s *composeStack) checkMonitoring(t *testing.T) {
	s.compose(t, "--profile", "monitoring", "up", "-d", "prometheus")
	eventually(t, composePatience, func() error {
		var targets struct {
			Data struct {
				ActiveTargets []struct {
					Labels                map[string]string
					Health, LastError     string
					DiscoveredLabels      map[string]string
					ScrapePool, ScrapeURL string
				}
			}
		}
		s.get(t, s.prometheus+"/api/v1/targets?state=active", &targets)
		up := map[string]string{}
		for _, target := range targets.Data.ActiveTargets {
			up[target.Labels["instance"]] = cmp.Or(target.LastError, target.Health)
		}
		want := map[string]string{"receiver-1:9090": "up", "receiver-2:9090": "up", "worker:9090": "up"}
		if diff := gocmp.Diff(want, up); diff != "" {
			return fmt.Errorf("targets of Prometheus (-want +got):\n%s", diff)
		}
		return nil
	})
	rules := 0
	eventually(t, composePatience, func() error {
		var loaded struct {
			Data struct {
				Groups []struct {
					Name  string
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		s.get(t, s.prometheus+"/api/v1/rules", &loaded)
		rules = 0
		for _, group := range loaded.Data.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return fmt.Errorf("rule %s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
				rules++
			}
		}
		if rules == 0 {
			return errors.New("Prometheus has loaded no rules")
		}
		return nil
	})
	composeChecked(t, "Prometheus scrapes both receivers and the worker, and has evaluated %d rules", rules)

	image := s.grafanaImage(t)
	if err := exec.Command("docker", "image", "inspect", image).Run(); err != nil {
		t.Logf("not started: Grafana, for %s is not on this machine", image)
		return
	}
	s.compose(t, "--profile", "monitoring", "up", "-d", "grafana")
	password := composeRead(t, filepath.Join(s.secrets, "grafana_password"))
	var dashboards []struct{ Title string }
	s.get(t, strings.Replace(s.grafana, "://", "://admin:"+password+"@", 1)+"/api/search?type=dash-db", &dashboards)
	if len(dashboards) == 0 {
		t.Error("Grafana shows no dashboard")
	}
	composeChecked(t, "Grafana shows %d dashboards", len(dashboards))
}

// grafanaImage is the image that docker-compose.yml names.
func (s *composeStack) grafanaImage(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(s.compose(t, "--profile", "monitoring", "config")) {
		if image, found := strings.CutPrefix(strings.TrimSpace(line), "image: "); found && strings.HasPrefix(image, "grafana/") {
			return image
		}
	}
	t.Fatal("docker-compose.yml names no image of Grafana")
	return ""
}
