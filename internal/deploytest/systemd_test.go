//go:build deploy

package deploytest

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	systemdDir = "../../deploy/systemd"
	// systemdImage is what .ci/systemd-image.sh makes.
	systemdImage = "callbackd-systemd"
	// systemdPatience is how long anything may take on a busy machine.
	systemdPatience = 3 * time.Minute
	systemdPath     = "/jumio/unguessable"
)

var systemdUnits = []string{"callbackd-receiver.service", "callbackd-worker.service"}

// TestSystemdSandbox: systemd-analyze finds no error in the units and rates their
// exposure as low.
func TestSystemdSandbox(t *testing.T) {
	// ExecStart= must name an existing program.
	program := filepath.Join(t.TempDir(), "callbackd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range systemdUnits {
		text, err := os.ReadFile(filepath.Join(systemdDir, name))
		if err != nil {
			t.Fatal(err)
		}
		unit := strings.ReplaceAll(string(text), "/usr/local/bin/callbackd", program)
		if said := systemdVerify(t, name, unit); said != "" {
			t.Errorf("systemd-analyze verify %s: %s", name, said)
		}
		if said := systemdVerify(t, name, strings.Replace(unit, "ProtectSystem=strict", "ProtectSystems=strict", 1)); said == "" {
			t.Error("systemd-analyze verify does not see a misspelt line")
		}
		exposure := systemdExposure(t, name, unit)
		if exposure >= 2 {
			t.Errorf("systemd-analyze security %s: exposure %.1f, want less than 2.0", name, exposure)
		}
		if bare := systemdExposure(t, name, "[Service]\nExecStart="+program+" serve\n"); bare < 9 {
			t.Errorf("systemd-analyze security: exposure %.1f of a unit without a sandbox, want more than 9", bare)
		}
		t.Logf("checked: %s: systemd-analyze verify is silent, systemd-analyze security says %.1f of 10", name, exposure)
	}
}

func systemdWrite(t *testing.T, name, unit string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// systemdVerify returns systemd-analyze's complaints about a unit.
func systemdVerify(t *testing.T, name, unit string) string {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", systemdWrite(t, name, unit)).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("systemd-analyze verify: %v", err)
	}
	// Complaints about this machine's other units begin with their names.
	var about []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, name) {
			about = append(about, line)
		}
	}
	return strings.Join(about, "")
}

// systemdExposure is from 0 to 10.
func systemdExposure(t *testing.T, name, unit string) float64 {
	t.Helper()
	// Above its threshold it exits with 1, which is fine here.
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=100", systemdWrite(t, name, unit)).CombinedOutput()
	overall := regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d)`).FindSubmatch(out)
	if err != nil || overall == nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	exposure, err := strconv.ParseFloat(string(overall[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return exposure
}

// systemdMachine is a container with systemd as its first process.
type systemdMachine struct {
	t  *testing.T
	id string
}

// systemdBoot starts the machine, with callbackd installed as deploy/systemd/README.md says.
func systemdBoot(t *testing.T) *systemdMachine {
	t.Helper()
	program := buildCallbackd(t)
	// As good as --privileged, which a machine that lacks CAP_SYS_RESOURCE itself
	// cannot give.
	out, err := exec.Command("docker", "run", "--detach", "--publish=127.0.0.1::8080", "--env=container=docker",
		"--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
		"--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec", systemdImage).Output()
	if err != nil {
		t.Fatalf("start the image %s, which .ci/systemd-image.sh makes: %v", systemdImage, err)
	}
	m := &systemdMachine{t, strings.TrimSpace(string(out))}
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := m.try("journalctl --no-pager -n 40 | cut -c 1-400")
			t.Logf("the end of the journal:\n%s", journal)
		}
		if out, err := exec.Command("docker", "rm", "--force", "--volumes", m.id).CombinedOutput(); err != nil {
			t.Errorf("remove the container: %v\n%s", err, out)
		}
	})
	eventually(m.t, systemdPatience, func() error {
		state, _ := m.try("systemctl is-system-running --wait")
		if state = strings.TrimSpace(state); state != "running" {
			return fmt.Errorf("the machine is %q", state)
		}
		return nil
	})
	m.copy(program, "/usr/local/bin/callbackd")
	m.copy("../../deploy/roles.sql", "/root/roles.sql")
	for _, name := range systemdUnits {
		m.copy(filepath.Join(systemdDir, name), "/etc/systemd/system/"+name)
	}
	return m
}

func (m *systemdMachine) copy(from, to string) {
	m.t.Helper()
	if out, err := exec.Command("docker", "cp", from, m.id+":"+to).CombinedOutput(); err != nil {
		m.t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// try runs a shell script as root of the machine.
func (m *systemdMachine) try(script string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("docker", "exec", "--interactive", m.id, "sh", "-eu")
	cmd.Stdin, cmd.Stderr = strings.NewReader(script), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", script, err, stderr.String())
	}
	return string(out), err
}

// run is try for a script that must succeed.
func (m *systemdMachine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (m *systemdMachine) want(what, script, want string) {
	m.t.Helper()
	if got := m.run(script); got != want {
		m.t.Errorf("%s: %s: got %q, want %q", what, script, got, want)
		return
	}
	m.t.Logf("checked: %s", what)
}

// post sends a callback from this machine, and demands that it is stored.
func (m *systemdMachine) post(id string) {
	m.t.Helper()
	out, err := exec.Command("docker", "port", m.id, "8080").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	address, _, _ := strings.Cut(string(out), "\n")
	client := &http.Client{Timeout: systemdPatience}
	answer, err := client.Post("http://"+address+systemdPath, "application/json", strings.NewReader(fmt.Sprintf(`{"workflowExecution":{"id":%q,"status":"SESSION_EXPIRED"}}`, id)))
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		m.t.Fatalf("the callback %s is answered %s, want 200", id, answer.Status)
	}
}

// TestSystemdUnits: systemd starts both units in their sandbox and considers them
// started when they are ready, not before; callbacks are accepted while Postgres is
// down, and the stop is clean.
func TestSystemdUnits(t *testing.T) {
	m := systemdBoot(t)
	m.run(`
systemctl start postgresql
cd /tmp
su postgres -c psql >/dev/null </root/roles.sql
for role in owner worker receive; do
	echo "ALTER ROLE callbackd_$role PASSWORD '$role'" | su postgres -c psql >/dev/null
done
umask 077
mkdir -p /etc/callbackd/receiver /etc/callbackd/worker
cd /etc/callbackd
printf 'postgres://callbackd_receive:receive@127.0.0.1/callbackd' >receiver/database-url
printf '` + systemdPath + `' >receiver/callback-path
printf 'postgres://callbackd_worker:worker@127.0.0.1/callbackd' >worker/database-url
printf 'client' >worker/jumio-client-id
printf 'hunter2' >worker/jumio-client-secret
# Whoever reaches the machine from outside its container may be Jumio.
printf 'CALLBACKD_JUMIO_HOSTS=none\nCALLBACKD_ALLOWED_CIDRS=0.0.0.0/0\nCALLBACKD_STORE_TIMEOUT=1s\n' >receiver.env
echo 'JUMIO_USER_AGENT="YourCompany YourApp/v1.0"' >worker.env
systemctl daemon-reload
`)
	if out, err := m.try("systemctl start callbackd-worker"); err == nil {
		t.Errorf("a worker without a schema counts as started: %s", out)
	}
	m.run("systemctl stop callbackd-worker; DATABASE_URL=postgres://callbackd_owner:owner@127.0.0.1/callbackd callbackd migrate up")

	m.want("systemctl start returns when the receiver is ready", "systemctl start callbackd-receiver && callbackd healthcheck && echo ready", "ready")
	m.want("systemctl start returns when the worker is ready", "systemctl start callbackd-worker && CALLBACKD_ADMIN_LISTEN=127.0.0.1:9091 callbackd healthcheck && echo ready", "ready")
	m.want("systemctl status says what the receiver does", "systemctl show -P StatusText callbackd-receiver", "receiving on [::]:8080")
	m.want("systemctl status says what the worker does", "systemctl show -P StatusText callbackd-worker", "retrieving with 8 workers")
	for _, unit := range systemdUnits {
		exposure := m.run("systemd-analyze security --no-pager --threshold=20 " + unit + " | tail -n 1")
		t.Logf("checked: systemd itself: %s", exposure)
		m.want(unit+": an ordinary user without capabilities, in a system call filter",
			`awk '/^(CapEff|CapBnd|NoNewPrivs|Seccomp):/ { print $1 $2 } /^Uid:/ { print ($2 >= 61184 && $2 <= 65519 ? "dynamic user" : "user " $2) }' /proc/$(systemctl show -P MainPID `+unit+`)/status | LC_ALL=C sort`,
			"CapBnd:0000000000000000\nCapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2\ndynamic user")
		m.want(unit+": no secret in its environment", `tr '\0' '\n' </proc/$(systemctl show -P MainPID `+unit+`)/environ | grep -c -e hunter2 -e unguessable -e postgres:// || true`, "0")
	}

	count := func(want int) error {
		out, err := m.try(`cd /tmp; echo "SELECT count(*) FROM jumio.callbacks" | su postgres -c "psql -At callbackd"`)
		if err == nil && strings.TrimSpace(out) != strconv.Itoa(want) {
			err = fmt.Errorf("%s callbacks are stored, want %d", strings.TrimSpace(out), want)
		}
		return err
	}
	m.post("with-postgres")
	eventually(m.t, systemdPatience, func() error { return count(1) })
	m.run("systemctl stop 'postgresql@*'") // postgresql.service would not wait for it
	m.post("without-postgres")
	m.want("the spool is in the StateDirectory, for nobody else",
		`cd /var/lib/private/callbackd/spool && stat -c '%a' . && ls | grep -c '[.]wal$' && find . -type f ! -perm 600`, "700\n1")
	m.want("the receiver starts without Postgres, and its spool outlives it", "systemctl restart callbackd-receiver && callbackd healthcheck && echo ready", "ready")
	m.run("systemctl start postgresql")
	eventually(m.t, systemdPatience, func() error { return count(2) })
	t.Logf("checked: what was spooled is in Postgres when it is back")

	for _, unit := range systemdUnits {
		m.want(unit+": the stop is clean", "systemctl stop "+unit+"; systemctl show -p ActiveState -p ExecMainStatus -p Result "+unit+" | sort", "ActiveState=inactive\nExecMainStatus=0\nResult=success")
	}
}
