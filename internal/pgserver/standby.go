package pgserver

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby makes a second cluster that streams from this running one and can be
// read, with the same password. Whether commits wait for it is this server's
// setting synchronous_standby_names; its own stays empty. Stop ends it. ctx
// bounds the start only.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	standby := &Server{programs: s.programs, user: s.user, password: s.password, options: s.options}
	return standby, standby.create(ctx, func(ctx context.Context) (err error) {
		backup := standby.command(ctx, "pg_basebackup", "--pgdata", standby.data(), "--write-recovery-conf", "--checkpoint", "fast",
			"--no-sync", "--host", "127.0.0.1", "--port", strconv.Itoa(s.port), "--username", superuser)
		if backup.Path, err = s.besidePostgres("pg_basebackup"); err != nil {
			return err
		}
		backup.Env = append(backup.Env, "PGPASSWORD="+s.password)
		if out, err := backup.CombinedOutput(); err != nil {
			return fmt.Errorf("pg_basebackup: %w: %s", err, oneLine(out))
		}
		return nil
	})
}

// besidePostgres finds a further program beside the real postgres: it need not be
// linked into a directory of PATH.
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
