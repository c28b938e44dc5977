package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby makes a second cluster that streams from this running one and can be
// read, with the same password. Whether commits wait for it is this server's
// setting synchronous_standby_names; its own stays empty. Stop ends it. ctx
// bounds the making only.
func (s *Server) Standby(ctx context.Context) (_ *Server, err error) {
	dir, err := makeDirectory(s.user)
	if err != nil {
		return nil, err
	}
	standby := &Server{programs: s.programs, dir: dir, user: s.user, password: s.password, options: s.options}
	if standby.watchdog, err = startWatchdog(ctx, s.programs, dir, s.user); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, standby.Stop())
		}
	}()
	backup := standby.command(ctx, "pg_basebackup", "--pgdata", standby.data(), "--write-recovery-conf", "--checkpoint", "fast",
		"--no-sync", "--host", "127.0.0.1", "--port", strconv.Itoa(s.port), "--username", superuser)
	if backup.Path, err = s.besidePostgres("pg_basebackup"); err != nil {
		return nil, err
	}
	backup.Env = append(backup.Env, "PGPASSWORD="+s.password)
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, oneLine(out))
	}
	standby.mu.Lock()
	defer standby.mu.Unlock()
	if err := standby.startAnywhere(ctx); err != nil {
		return nil, err
	}
	return standby, nil
}

// besidePostgres finds a program that is no part of what a cluster needs, and
// which nobody may have linked into a directory of PATH: beside the true
// postgres.
func (s *Server) besidePostgres(name string) (string, error) {
	postgres, err := filepath.EvalSymlinks(filepath.Join(s.programs, "postgres"))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return filepath.Join(filepath.Dir(postgres), name), nil
}

// Promote makes a standby a server of its own and waits until it takes writes.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	const patience = 60 // seconds
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", patience).Scan(&promoted); err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	if !promoted {
		return fmt.Errorf("promote the standby: not done within %s", patience*time.Second)
	}
	return nil
}

// Address is the server's host and port, such as 127.0.0.1:15432.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
