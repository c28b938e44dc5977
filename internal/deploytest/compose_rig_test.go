//go:build deploy

package deploytest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// composePatience is how long a container may take on a busy machine for a few
	// seconds' work.
	composePatience = 4 * time.Minute
	// composeImage stays on the machine, so that the next build finds its layers.
	composeImage   = "callbackd-deploytest"
	composeVersion = "v0.0.0-deploytest"
	composeCommit  = "0123456789abcdef"
)

// composeStack is docker-compose.yml with the test's own project name, ports,
// subnet and secrets.
type composeStack struct {
	t       *testing.T
	command []string // that of Compose: v2's or v1's
	project string
	environ []string
	subnet  string // without its last byte
	secrets string // directory

	callbackURL         string // through nginx, from outside
	sandbox, prometheus string // base URLs
	grafana             string
	receivers           [2]string   // base URLs of the admin listeners
	client              http.Client // believes nginx's certificate
}

// newComposeStack starts nothing yet. The end of the test removes all that was started.
func newComposeStack(t *testing.T) *composeStack {
	t.Helper()
	s := &composeStack{
		t: t, command: composeCommand(t),
		project: fmt.Sprintf("callbackd-deploytest-%d", os.Getpid()),
		// Beside the default one, which may be in use.
		subnet:  fmt.Sprintf("10.219.%d", 100+os.Getpid()%150),
		secrets: filepath.Join(t.TempDir(), "secrets"),
	}
	composeRun(t, nil, "sh", "deploy/secrets.sh", s.secrets)
	ports := map[string]string{}
	for _, name := range []string{"HTTPS_PORT", "RECEIVER_1_ADMIN_PORT", "RECEIVER_2_ADMIN_PORT", "WORKER_ADMIN_PORT", "SANDBOX_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"} {
		ports[name] = composeFreePort(t)
		s.environ = append(s.environ, name+"="+ports[name])
	}
	s.environ = append(s.environ,
		"COMPOSE_PROJECT_NAME="+s.project, "IMAGE="+composeImage, "VERSION="+composeVersion, "COMMIT="+composeCommit,
		"SECRETS_DIR="+s.secrets, "SUBNET="+s.subnet, "HTTPS_ADDRESS=127.0.0.1",
		"CALLBACKD_TRUSTED_PROXIES="+s.subnet+".10", "CALLBACKD_ALLOWED_CIDRS="+s.subnet+".0/24")
	s.callbackURL = "https://localhost:" + ports["HTTPS_PORT"] + composeRead(t, filepath.Join(s.secrets, "callback_path"))
	s.sandbox = "http://127.0.0.1:" + ports["SANDBOX_PORT"]
	s.prometheus = "http://127.0.0.1:" + ports["PROMETHEUS_PORT"]
	s.grafana = "http://127.0.0.1:" + ports["GRAFANA_PORT"]
	s.receivers = [2]string{"http://127.0.0.1:" + ports["RECEIVER_1_ADMIN_PORT"], "http://127.0.0.1:" + ports["RECEIVER_2_ADMIN_PORT"]}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(composeRead(t, filepath.Join(s.secrets, "tls_certificate")))) {
		t.Fatal("deploy/secrets.sh made no certificate")
	}
	s.client = http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
		Timeout:   composePatience,
	}
	t.Cleanup(s.remove)
	return s
}

// composeCommand is how this machine calls Compose.
func composeCommand(t *testing.T) []string {
	t.Helper()
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Fatalf("the Docker engine does not answer: %v\n%s", err, out)
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if out, err := exec.Command(command[0], append(command[1:], "version", "--short")...).Output(); err == nil {
			t.Logf("with %s %s", strings.Join(command, " "), bytes.TrimSpace(out))
			return command
		}
	}
	t.Fatal("Docker Compose is not installed: neither `docker compose` nor `docker-compose` answers")
	return nil
}

// composeRun runs a program in the repository's root and returns its standard
// output; a failure ends the test.
func composeRun(t *testing.T, environ []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func composeRead(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func composeFreePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// composeChecked logs a successful check.
func composeChecked(t *testing.T, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		t.Logf("checked: "+format, args...)
	}
}

// compose runs Compose on docker-compose.yml with deploy/sandbox.env.
func (s *composeStack) compose(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--env-file", "deploy/sandbox.env", "--profile", "sandbox"}, args...)
	return composeRun(t, s.environ, s.command[0], append(s.command[1:len(s.command):len(s.command)], args...)...)
}

// remove takes everything down, and demands that nothing is left.
func (s *composeStack) remove() {
	if s.t.Failed() {
		s.t.Logf("the ends of the logs:\n%s", s.compose(s.t, "--profile", "monitoring", "--profile", "images", "logs", "--no-color", "--tail", "30"))
	}
	s.compose(s.t, "--profile", "monitoring", "--profile", "images", "down", "-v", "--remove-orphans", "-t", "10")
	for _, list := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		if left := composeRun(s.t, nil, "docker", append(list, "--filter", "label=com.docker.compose.project="+s.project)...); left != "" {
			s.t.Errorf("docker %s: left after compose down: %s", list[0], left)
		}
	}
}

// composeContainer is what `docker inspect` tells of a container.
type composeContainer struct {
	ID    string
	State struct {
		Status     string
		ExitCode   int
		StartedAt  time.Time
		FinishedAt time.Time
		Health     struct{ Status string }
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapDrop        []string
		SecurityOpt    []string
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

func (s *composeStack) inspect(t *testing.T, service string) composeContainer {
	t.Helper()
	id := composeRun(t, nil, "docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service)
	if id == "" || strings.Contains(id, "\n") {
		t.Fatalf("containers of %s: %q, want one", service, id)
	}
	var all []composeContainer
	composeDecode(t, composeRun(t, nil, "docker", "inspect", id), &all)
	return all[0]
}

func composeDecode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("decode %.200q: %v", text, err)
	}
}

// settled waits until the service is healthy, or has ended well where it is one
// that ends; a service without a health check has to run.
func (s *composeStack) settled(t *testing.T, service string) {
	t.Helper()
	want := map[string]string{"migrate": "exited", "sandbox": "running"}[service]
	eventually(t, composePatience, func() error {
		state := s.inspect(t, service).State
		if got := cmp.Or(state.Health.Status, state.Status); got != cmp.Or(want, "healthy") || state.ExitCode != 0 {
			return fmt.Errorf("%s is %s, exit code %d", service, got, state.ExitCode)
		}
		return nil
	})
}

// kill ends the service's container as a crash would; start starts it again.
func (s *composeStack) kill(t *testing.T, service string) {
	t.Helper()
	composeRun(t, nil, "docker", "kill", s.inspect(t, service).ID)
}

func (s *composeStack) start(t *testing.T, service string) {
	t.Helper()
	composeRun(t, nil, "docker", "start", s.inspect(t, service).ID)
	s.settled(t, service)
}

// query decodes the one JSON value that the SQL selects.
func (s *composeStack) query(t *testing.T, into any, sql string) {
	t.Helper()
	composeDecode(t, composeRun(t, nil, "docker", "exec", s.inspect(t, "postgres").ID,
		"psql", "-U", "postgres", "-d", "callbackd", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql), into)
}

// send makes a request and returns the answer; only its body's end is awaited.
func (s *composeStack) send(method, url, body string, header http.Header) (code int, answer string, answerHeader http.Header, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), composePatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := s.client.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), response.Header, err
}

// get decodes the JSON that the URL answers with, once it answers with 200.
func (s *composeStack) get(t *testing.T, url string, into any) {
	t.Helper()
	var answer string
	eventually(t, composePatience, func() error {
		code, body, _, err := s.send(http.MethodGet, url, "", nil)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%s answered %d", url, code)
		}
		answer = body
		return err
	})
	composeDecode(t, answer, into)
}
