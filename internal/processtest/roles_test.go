package processtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"callbackd/internal/pgserver"
)

// The login roles of deploy/roles.sql that hold less than the owner's rights.
const (
	readerLogin   = "results"
	receiverLogin = "callbackd_receive"
)

// rolesRig is a private Postgres with the roles of deploy/roles.sql and the schema.
type rolesRig struct {
	t      *testing.T
	server *pgserver.Server
	db     *database // as the superuser
}

// newRolesRig runs the file as an administrator would. prepare, if not nil, runs
// before it, as the superuser.
func newRolesRig(t *testing.T, settings map[string]string, prepare func(*pgx.Conn)) *rolesRig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := pgserver.Start(ctx, pgserver.Options{NoSync: true, Settings: settings})
	if err != nil {
		t.Fatalf("a Postgres of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop Postgres: %v", err)
		}
	})
	r := &rolesRig{t: t, server: server}
	admin := r.connect(server.DSN("postgres"))
	if prepare != nil {
		prepare(admin)
	}
	r.runFile()
	for _, role := range []string{"callbackd_owner", "callbackd_worker", receiverLogin, readerLogin} {
		if _, err := admin.Exec(t.Context(), "ALTER ROLE "+role+" PASSWORD '"+role+"'"); err != nil {
			t.Fatal(err)
		}
	}
	r.db = open(t, server.DSN("callbackd"))
	succeed(t, []string{"DATABASE_URL=" + r.dsn("callbackd_owner")}, "migrate", "up")
	return r
}

// runFile runs deploy/roles.sql, which must succeed and print nothing.
func (r *rolesRig) runFile() {
	r.t.Helper()
	file, err := os.Open("../../deploy/roles.sql") // here, so that go test's cache knows of it
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	psql := exec.Command("psql", "-X", "-q", "-d", r.server.DSN("postgres"))
	psql.Stdin = file
	if out, err := psql.CombinedOutput(); err != nil || len(out) > 0 {
		r.t.Fatalf("deploy/roles.sql: %v\n%s", err, out)
	}
}

// dsn is the DSN of the database for a login role.
func (r *rolesRig) dsn(role string) string { return r.dsnOf("callbackd", role) }

func (r *rolesRig) dsnOf(database, role string) string {
	u, err := url.Parse(r.server.DSN(database))
	if err != nil {
		r.t.Fatal(err)
	}
	u.User = url.UserPassword(role, role)
	return u.String()
}

func (r *rolesRig) connect(dsn string) *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// try connects, runs a statement, and returns the SQLSTATE of the first error, or
// "".
func (r *rolesRig) try(dsn, sql string, args ...any) string {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), dsn)
	if err != nil {
		return sqlState(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if len(args) == 0 { // several statements are taken without parameters only
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	_, err = conn.Exec(r.t.Context(), sql, args...)
	return sqlState(err)
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pgErr):
		return pgErr.Code
	}
	return err.Error()
}

// deniedToBoth are statements that neither lesser role may run; $me is the login
// role. Each fails with 42501, insufficient_privilege.
var deniedToBoth = []string{
	// What fills the disk or shared memory.
	`CREATE TEMPORARY TABLE t (a int)`,
	`SELECT lo_create(0)`,
	`SELECT lo_creat(-1)`,
	`SELECT lo_from_bytea(0, 'x')`,
	`SELECT lo_put(1, 0, 'x')`,
	`SELECT lo_open(1, 131072)`,
	`SELECT lo_import('/etc/hostname')`,
	`SELECT lowrite(0, 'x')`,
	`SELECT loread(0, 1)`,
	`SELECT lo_truncate64(0, 1)`,
	`SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))`,
	`SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) AS n`,
	`CREATE TABLE public.t (a int)`,
	`CREATE SCHEMA s`,
	`CREATE EXTENSION dblink`,
	`CREATE DATABASE d`,
	// What blocks or ends other sessions.
	`SELECT pg_advisory_lock(4711202604711)`,
	`SELECT pg_try_advisory_lock_shared(4711202604711)`,
	`SELECT pg_advisory_xact_lock(1667329635, 1702257011)`,
	`SELECT pg_try_advisory_xact_lock(1667329635, 1702257011)`,
	`SELECT pg_cancel_backend(pg_backend_pid())`,
	`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()`,
	`BEGIN; LOCK TABLE callbackd.callbacks IN ACCESS EXCLUSIVE MODE`,
	`BEGIN; LOCK TABLE callbackd.events IN ACCESS EXCLUSIVE MODE`,
	`BEGIN; LOCK TABLE callbackd.workflow_executions IN ROW EXCLUSIVE MODE`,
	`BEGIN; LOCK TABLE callbackd.schema_migrations IN ROW EXCLUSIVE MODE`,
	`BEGIN; LOCK TABLE jumio.callbacks IN ROW EXCLUSIVE MODE`,
	// What is callbackd's own.
	`INSERT INTO callbackd.inbox (callback_id) VALUES (gen_random_uuid())`,
	`INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id) VALUES (now(), 'retrieved', 'w')`,
	`INSERT INTO callbackd.river_job (kind, args, max_attempts) VALUES ('retrieve', '{}', 1)`,
	`INSERT INTO callbackd.workflow_executions (workflow_execution_id) VALUES ('w')`,
	`UPDATE callbackd.schema_migrations SET version = 0`,
	`UPDATE callbackd.callbacks SET account_id = 'a'`,
	`DELETE FROM callbackd.callbacks`,
	`TRUNCATE callbackd.callbacks`,
	`SELECT callbackd.append_events('{retrieved}', '{w}')`,
	`SELECT FROM callbackd.callbacks`,
	`SELECT FROM callbackd.rejected_callbacks`,
	`SELECT FROM callbackd.inbox`,
	`SELECT FROM callbackd.workflow_executions`,
	`SELECT FROM callbackd.details`,
	`SELECT FROM callbackd.callbacks_1`,
	`SELECT FROM callbackd.images`,
	`SELECT FROM callbackd.events`,
	`SELECT FROM callbackd.river_job`,
	`CREATE TABLE callbackd.t (a int)`,
	`CREATE VIEW jumio.v AS SELECT 1`,
	// More rights.
	`SET ROLE callbackd_owner`,
	`SET ROLE callbackd_worker`,
	`SET ROLE postgres`,
	`SET SESSION AUTHORIZATION postgres`,
	`GRANT callbackd_owner TO $me`,
	`CREATE ROLE r`,
	`ALTER ROLE $me CREATEROLE`,
	`ALTER ROLE $me CONNECTION LIMIT -1`,
	`ALTER ROLE $me SET temp_file_limit = -1`,
	`SET temp_file_limit = -1`,
	`SET log_parameter_max_length = -1`,
	`SET log_error_verbosity = verbose`,
	`ALTER SYSTEM SET fsync = off`,
	`ALTER DATABASE callbackd CONNECTION LIMIT 0`,
	`SELECT FROM pg_authid`,
	`SELECT pg_read_file('PG_VERSION')`,
	`COPY (SELECT 1) TO '/tmp/callbackd-roles-test'`,
	`COPY (SELECT 1) TO PROGRAM 'true'`,
}

// deniedTo are those that one of them may not run.
var deniedTo = map[string][]string{
	readerLogin: {
		`SET ROLE callbackd_receiver`,
		`BEGIN; LOCK TABLE callbackd.allowlist_addresses IN ACCESS EXCLUSIVE MODE`,
		`SELECT FROM callbackd.allowlist_addresses`,
		`SELECT FROM callbackd.schema_migrations`,
		`INSERT INTO callbackd.callbacks DEFAULT VALUES`,
		`INSERT INTO callbackd.rejected_callbacks DEFAULT VALUES`,
		`INSERT INTO callbackd.allowlist_addresses (host, address, last_seen) VALUES ('h', '192.0.2.1', now())`,
		`INSERT INTO jumio.events (type) VALUES ('retrieved')`,
		`UPDATE jumio.callbacks SET account_id = 'a'`,
		`UPDATE jumio.images SET category = 'ID'`,
		`DELETE FROM jumio.rejected_callbacks`,
		`SELECT FROM jumio.events FOR SHARE`,
		`BEGIN; LOCK TABLE jumio.events IN SHARE MODE`,
	},
	receiverLogin: {
		`SET ROLE jumio_reader`,
		`SELECT FROM jumio.callbacks`,
		`SELECT FROM jumio.workflow_executions`,
		`SELECT FROM jumio.capabilities`,
		`SELECT FROM jumio.extracted_documents`,
		`SELECT FROM jumio.images`,
		`SELECT FROM jumio.rejected_callbacks`,
		`SELECT FROM jumio.events`,
		`COPY callbackd.callbacks TO STDOUT`,
		`DELETE FROM callbackd.allowlist_addresses`,
		`DELETE FROM callbackd.rejected_callbacks`,
		`UPDATE callbackd.rejected_callbacks SET replayed_at = now()`,
	},
}

// TestLesserRoles: what the login roles for readers and for receive-only
// instances cannot do, with the rights that deploy/roles.sql and the migrations
// give them.
func TestLesserRoles(t *testing.T) {
	t.Parallel()
	r := newRolesRig(t, nil, nil)
	for _, role := range []string{readerLogin, receiverLogin} {
		for _, sql := range slices.Concat(deniedToBoth, deniedTo[role]) {
			sql = strings.ReplaceAll(sql, "$me", role)
			if got := r.try(r.dsn(role), sql); got != pgerrcode.InsufficientPrivilege {
				t.Errorf("%s: %s: SQLSTATE %q, want %s", role, sql, got, pgerrcode.InsufficientPrivilege)
			}
		}
		for _, database := range []string{"postgres", "template1"} {
			if got := r.try(r.dsnOf(database, role), `SELECT 1`); got != pgerrcode.InsufficientPrivilege {
				t.Errorf("%s: connect to database %s: SQLSTATE %q, want %s", role, database, got, pgerrcode.InsufficientPrivilege)
			}
		}
		r.wantOthersHidden(role)
	}
	r.wantConnections(readerLogin, 10)
	r.wantConnections(receiverLogin, 60)

	// A second run leaves all as it is.
	before := r.state()
	r.runFile()
	if after := r.state(); !slices.Equal(before, after) {
		t.Errorf("a second run of deploy/roles.sql changes\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// wantOthersHidden: the role does not see what other roles' sessions run.
func (r *rolesRig) wantOthersHidden(role string) {
	r.t.Helper()
	if got := r.try(r.dsn(role), `DO $$ BEGIN
		ASSERT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename <> current_user AND query <> '<insufficient privilege>');
		ASSERT EXISTS (SELECT FROM pg_stat_activity WHERE usename <> current_user);
	END $$`); got != "" {
		r.t.Errorf("%s: what others run is not hidden: SQLSTATE %s", role, got)
	}
}

// wantConnections: the role gets so many connections, and one more fails with
// 53300, too_many_connections.
func (r *rolesRig) wantConnections(role string, limit int) {
	r.t.Helper()
	var conns []*pgx.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close(context.Background())
		}
	}()
	r.awaitSessions(role, 0)
	for range limit {
		conns = append(conns, r.connect(r.dsn(role)))
	}
	one, err := pgx.Connect(r.t.Context(), r.dsn(role))
	if sqlState(err) != pgerrcode.TooManyConnections {
		r.t.Errorf("%s: connection %d: %v, want SQLSTATE %s", role, limit+1, err, pgerrcode.TooManyConnections)
	}
	if err == nil {
		conns = append(conns, one)
	}
}

// awaitSessions waits until the server has ended the sessions of closed connections.
func (r *rolesRig) awaitSessions(role string, want int) {
	r.t.Helper()
	eventually(r.t, patience, func() error {
		if n := r.db.count(`SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, role); n != want {
			return fmt.Errorf("%s has %d sessions, want %d", role, n, want)
		}
		return nil
	})
}

// state is all that deploy/roles.sql sets.
func (r *rolesRig) state() []string {
	r.t.Helper()
	return r.db.texts(`
		SELECT to_jsonb(a)::text FROM pg_authid AS a
		UNION ALL SELECT concat_ws(' ', roleid::regrole, member::regrole) FROM pg_auth_members
		UNION ALL SELECT to_jsonb(s)::text FROM pg_db_role_setting AS s
		UNION ALL SELECT concat_ws(' ', datname, datacl) FROM pg_database
		UNION ALL SELECT concat_ws(' ', nspname, nspacl) FROM pg_namespace
		UNION ALL SELECT concat_ws(' ', oid::regprocedure, proacl) FROM pg_proc WHERE proacl IS NOT NULL
		ORDER BY 1`)
}

// TestServerLogWithoutPersonalData: with the roles of deploy/roles.sql, a
// server that logs every statement with its parameters, the values of refused
// rows, and plans, writes nothing of a callback, of details or of images. Only its
// CSV log quotes rejected rows: docs/database.md says so.
func TestServerLogWithoutPersonalData(t *testing.T) {
	t.Parallel()
	const reference, rejectedRow, last = "marked-reference-Lw4Hs", "marked-row-Qe6Ny", "marked-end-Zr2Bo"
	r := newRolesRig(t, map[string]string{
		"log_min_duration_statement": "0", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_error_verbosity": "verbose",
		"logging_collector": "on", "log_destination": "stderr,csvlog", "log_directory": "log", "log_filename": "server.log", "log_rotation_size": "0",
	}, explainAll(t))
	receiver := serve(t, receiving(r.dsn(receiverLogin)))
	jumio := startSandbox(t, "--fast-images")
	worker := serve(t, append(retrieving(r.dsn("callbackd_worker"), jumio), "CALLBACKD_RECEIVE=false"))
	for _, kind := range []string{"passed-passport", "passed-id-card"} {
		id := jumio.sendOne(journeys{Kind: kind, UserReference: reference, CallbackURL: receiver.callbackURL()})
		r.db.awaitState(id, "retrieved")
	}
	receiver.post(t, foreignAddress, "application/json", `{"userReference":"`+reference+`"}`).wantCode(t, http.StatusForbidden)
	receiver.stop(terminate)
	worker.stop(terminate)
	for _, role := range []string{receiverLogin, "callbackd_worker", "callbackd_owner"} {
		if got := r.try(r.dsn(role), `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, user_reference, body)
			VALUES (gen_random_uuid(), now(), 'text/plain', 'w', $1, NULL)`, rejectedRow); got != pgerrcode.NotNullViolation {
			t.Errorf("%s: SQLSTATE %q, want %s", role, got, pgerrcode.NotNullViolation)
		}
		if got := r.try(r.dsn(role), `SELECT 1 / (length($1) - length($1))`, reference); got != pgerrcode.DivisionByZero {
			t.Errorf("%s: SQLSTATE %q, want %s", role, got, pgerrcode.DivisionByZero)
		}
	}

	secrets := map[string]string{"user reference": reference, "user reference in hex": fmt.Sprintf("%x", reference)}
	for _, value := range r.db.texts(`SELECT DISTINCT v FROM jumio.extracted_documents,
		unnest(ARRAY[first_name, last_name, document_number, date_of_birth::text, address ->> 'line1']) AS v WHERE v IS NOT NULL`) {
		const tooShort = 5 // to be found for sure, and only where it means the person
		if utf8.RuneCountInString(value) >= tooShort {
			secrets["of a person: "+value] = value
		}
	}
	for n, bytes := range r.db.texts(`SELECT encode(substr(data, 301, 24), 'hex') FROM jumio.images`) {
		secrets[fmt.Sprintf("image %d", n)] = bytes
	}
	if len(secrets) < 10 {
		t.Errorf("only %d secrets to look for", len(secrets))
	}
	r.db.exec(`SELECT '` + last + `'`)
	text, csv := r.serverLog("server.log", last), r.serverLog("server.csv", last)
	wantNoSecrets(t, map[string]string{"the server's log": text, "the server's log in CSV": csv}, secrets)
	wantNoSecrets(t, map[string]string{"the server's log": text}, map[string]string{"rejected row": rejectedRow})
}

// serverLog waits until a file of the server's log tells of the last statement,
// and returns it.
func (r *rolesRig) serverLog(name, last string) string {
	r.t.Helper()
	var log string
	eventually(r.t, patience, func() error {
		data, err := os.ReadFile(filepath.Join(r.server.Dir(), "data", "log", name))
		if err != nil {
			return err
		}
		for _, statement := range []string{
			"INSERT INTO callbackd.callbacks", "INSERT INTO callbackd.rejected_callbacks", "INSERT INTO callbackd.details", "COPY callbackd.images", last,
		} {
			if !bytes.Contains(data, []byte(statement)) {
				return fmt.Errorf("%s does not tell of %q", name, statement)
			}
		}
		log = string(data)
		return nil
	})
	return log
}

// explainAll makes the server log the plan of every statement, nested ones too,
// where it has the module auto_explain.
func explainAll(t *testing.T) func(*pgx.Conn) {
	return func(admin *pgx.Conn) {
		if _, err := admin.Exec(t.Context(), `LOAD 'auto_explain'`); err != nil {
			t.Logf("without auto_explain: %v", err)
			return
		}
		for _, sql := range []string{
			`ALTER SYSTEM SET session_preload_libraries = auto_explain`,
			`ALTER SYSTEM SET auto_explain.log_min_duration = 0`,
			`ALTER SYSTEM SET auto_explain.log_verbose = on`,
			`ALTER SYSTEM SET auto_explain.log_nested_statements = on`,
			`SELECT pg_reload_conf()`,
		} {
			if _, err := admin.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
}
