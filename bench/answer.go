package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"callbackd/internal/pgserver"
)

// pgbenchScript inserts a callback like those of callback.lua. The variable parts
// cost next to nothing here, which is in pgbench's favour. (A colon before a
// letter or digit would be a variable to pgbench.)
const pgbenchScript = `INSERT INTO %s (callback_id, received_at, callback_sent_at, source_ip, content_type,
 workflow_execution_id, workflow_status, workflow_href, definition_key, account_id, account_href, user_reference, body)
VALUES (gen_random_uuid(), now(), now(), '127.0.0.1', 'application/json', gen_random_uuid()::text, 'PROCESSED',
 '%[2]s/workflow-executions/22222222-2222-4222-8222-222222222222', '3', '11111111-1111-4111-8111-111111111111',
 '%[2]s', 'user-1', '\x%[3]s')
`

// answer compares the answer time at one connection with that of the bare
// database: one prepared INSERT, into the same table with its trigger, and into
// the baselines' copy of it that has none.
func (b *bench) answer(ctx context.Context) error {
	var own, queued, plain []float64
	for round := range b.rounds {
		m, err := b.measureFresh(ctx, receiver(), 1)
		if err != nil {
			return err
		}
		same, err := b.pgbench(ctx, "callbackd.callbacks")
		if err != nil {
			return err
		}
		bare, err := b.pgbench(ctx, "bench.callbacks")
		if err != nil {
			return err
		}
		b.progress("answer %d/%d  callbackd %.3f ms, pgbench %.3f ms, without the trigger %.3f ms", round+1, b.rounds, m.P50, same, bare)
		own, queued, plain = append(own, m.P50), append(queued, same), append(plain, bare)
	}
	f := figure{
		What: "answer time (median), 1 connection", Value: median(own), Unit: "ms",
		OverWhat: "one prepared INSERT by pgbench", Over: median(queued), atMost: 1.5,
	}
	b.results.compare(f)
	f.OverWhat, f.Over, f.atMost = "the same into a table without a trigger", median(plain), 0
	b.results.compare(f)
	return nil
}

// pgbench returns the median time, in milliseconds, of one INSERT into the
// table by one client.
func (b *bench) pgbench(ctx context.Context, table string) (ms float64, err error) {
	program, err := pgbenchProgram()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(b.dir, "pgbench-")
	if err != nil {
		return 0, fmt.Errorf("make a directory for pgbench: %w", err)
	}
	script := filepath.Join(dir, "insert.sql")
	body := hex.EncodeToString([]byte(strings.Repeat("x", 482)))
	account := "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-1111-4111-8111-111111111111"
	if err := os.WriteFile(script, fmt.Appendf(nil, pgbenchScript, table, account, body), 0o600); err != nil {
		return 0, fmt.Errorf("write pgbench's script: %w", err)
	}
	err = b.withDatabase(ctx, func(dsn string) error {
		cmd := exec.CommandContext(ctx, program, "-n", "-M", "prepared", "-c", "1", "-j", "1", //nolint:gosec // next to the server that is running
			"-T", strconv.Itoa(int(b.duration.Seconds())), "-f", script, "-l", "--log-prefix", filepath.Join(dir, "log"))
		if cmd.Env, err = libpqEnvironment(dsn); err != nil {
			return err
		}
		return runCommand(cmd)
	})
	if err != nil {
		return 0, err
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "log.*")) // fails for a bad pattern only
	var times []float64
	for _, log := range logs {
		content, err := os.ReadFile(log)
		if err != nil {
			return 0, fmt.Errorf("read pgbench's log: %w", err)
		}
		if times, err = parsePgbenchLog(times, string(content)); err != nil {
			return 0, err
		}
	}
	if len(times) == 0 {
		return 0, fmt.Errorf("pgbench has logged no transaction")
	}
	return median(times), nil
}

// parsePgbenchLog appends the time of each transaction in milliseconds, the
// third field of its line, which is in microseconds.
func parsePgbenchLog(times []float64, content string) ([]float64, error) {
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("read pgbench's log: line %q", line)
		}
		microseconds, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read pgbench's log: %w", err)
		}
		times = append(times, microseconds/1e3)
	}
	return times, nil
}

// pgbenchProgram finds pgbench beside the server's programs, or in PATH.
func pgbenchProgram() (string, error) {
	dir, err := pgserver.Find()
	if err != nil {
		return "", err
	}
	for _, name := range []string{filepath.Join(dir, "pgbench"), "pgbench"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("pgbench is neither in %s nor in PATH: apt-get install postgresql-contrib, or dnf install postgresql-contrib", dir)
}

// libpqEnvironment keeps the password out of the command line.
func libpqEnvironment(dsn string) ([]string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	return []string{
		"PATH=" + os.Getenv("PATH"), "PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(),
		"PGPASSWORD=" + password, "PGDATABASE=" + strings.TrimPrefix(u.Path, "/"), "PGSSLMODE=disable",
	}, nil
}
