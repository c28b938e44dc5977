package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"callbackd/bench/questions"
)

const (
	// fewExecutions is the number that the larger one is compared with.
	fewExecutions = 100_000
	// timesAsked is how often each question is asked, each time with other keys.
	timesAsked = 1000
	// What is wanted when everything is in memory, in milliseconds.
	keyTarget, pageTarget = 5, 20
	// growthTarget is how many times longer a question may take on the larger database.
	growthTarget = 2
)

// asked is how long a question took on one database.
type asked struct {
	Question   string         `json:"question"`
	Kind       questions.Kind `json:"kind"`
	Executions int            `json:"workflow_executions"`
	Cold       answerTimes    `json:"cold"`
	Warm       answerTimes    `json:"warm"`
	Plan       string         `json:"plan"`
	// GenericPlan is that for any keys, if it is another one.
	GenericPlan string `json:"generic_plan,omitempty"`
}

type answerTimes struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// filled is a database that the questions were asked of.
type filled struct {
	Executions int     `json:"workflow_executions"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"load_s"`
}

// queries asks the documented questions of a small and of a large database. A plan that
// reads all of a growing table fails the benchmark once the results are written.
func (b *bench) queries(ctx context.Context) error {
	list, err := readQuestions(ctx)
	if err != nil {
		return err
	}
	for _, executions := range []int{fewExecutions, b.executions} {
		err := b.withDatabase(ctx, func(dsn string) error {
			p := questions.Population{Executions: executions, Months: 12, Now: time.Now()}
			if err := b.populate(ctx, dsn, p); err != nil {
				return err
			}
			if err := b.askAll(ctx, dsn, p, list); err != nil {
				return err
			}
			return b.plan(ctx, dsn, executions)
		})
		if err != nil {
			return err
		}
	}
	b.results.questionFigures(b.executions)
	return nil
}

func readQuestions(ctx context.Context) ([]questions.Question, error) {
	root, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "questions.sql"))
	if err != nil {
		return nil, fmt.Errorf("read the questions: %w", err)
	}
	return questions.Parse(string(text))
}

// populate fills the database, without the indexes at first.
func (b *bench) populate(ctx context.Context, dsn string, p questions.Population) error {
	began := time.Now()
	if err := b.set(ctx, "max_wal_size", "'4GB'"); err != nil { // fewer checkpoints
		return err
	}
	var indexes []questions.Index
	err := query(ctx, dsn, func(conn *pgx.Conn) (err error) {
		if err = p.MakePartitions(ctx, conn); err == nil {
			indexes, err = questions.Indexes(ctx, conn)
		}
		return err
	})
	if err != nil {
		return err
	}
	var load, create []work
	var drop []string
	for _, index := range indexes {
		drop, create = append(drop, index.Drop), append(create, statement(index.Make))
	}
	const chunk = 10_000
	for first := 1; first <= p.Executions; first += chunk {
		load = append(load, func(ctx context.Context, conn *pgx.Conn) error {
			return p.Load(ctx, conn, first, min(first+chunk-1, p.Executions))
		})
	}
	drops := statement(strings.Join(drop, ";"))
	for _, step := range [][]work{{drops}, load, create} {
		if err := inTwoSessions(ctx, dsn, step); err != nil {
			return fmt.Errorf("make %d workflow executions: %w", p.Executions, err)
		}
		b.progress("queries  %d workflow executions: a step done after %.0f s", p.Executions, time.Since(began).Seconds())
	}
	f := filled{Executions: p.Executions}
	if f.Bytes, err = vacuum(ctx, dsn); err != nil {
		return err
	}
	f.Seconds = time.Since(began).Seconds()
	b.progress("queries  %d workflow executions in %.0f s, %.1f GB", f.Executions, f.Seconds, float64(f.Bytes)/1e9)
	b.results.Filled = append(b.results.Filled, f)
	return b.set(ctx, "max_wal_size", "DEFAULT")
}

// set changes a setting of the cluster.
func (b *bench) set(ctx context.Context, name, value string) error {
	for _, sql := range []string{"ALTER SYSTEM SET " + name + " = " + value, "SELECT pg_reload_conf()"} {
		if _, err := b.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// work is done on a connection that others use after it.
type work func(context.Context, *pgx.Conn) error

func statement(sql string) work {
	return func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	}
}

// inTwoSessions does all of a list, in its order, without a wait for the disk and without
// the queue's trigger.
func inTwoSessions(ctx context.Context, dsn string, list []work) error {
	const settings = "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '1GB'"
	queue := make(chan work)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		for _, w := range list {
			select {
			case queue <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range 2 {
		group.Go(func() error {
			return query(ctx, dsn, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, settings)
				for w := range queue {
					if err = errors.Join(err, w(ctx, conn)); err != nil {
						return err
					}
				}
				return err
			})
		})
	}
	return group.Wait()
}

// vacuum does what autovacuum would have done: to partitions, not to what they are of. It
// returns the database's size.
func vacuum(ctx context.Context, dsn string) (size int64, err error) {
	var list []work
	err = query(ctx, dsn, func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, `SELECT format('VACUUM (ANALYZE) callbackd.%I', relname) FROM pg_class
			WHERE relnamespace = 'callbackd'::regnamespace AND relkind = 'r'`) // its error is that of reading the rows
		statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, sql := range statements {
			list = append(list, statement(sql))
		}
		return err
	})
	if err == nil {
		err = inTwoSessions(ctx, dsn, list)
	}
	if err == nil {
		err = scan(ctx, dsn, `SELECT pg_database_size(current_database())`, nil, &size)
	}
	if err != nil {
		return 0, fmt.Errorf("vacuum: %w", err)
	}
	return size, nil
}

// askAll asks each question, on a Postgres that has just started and then again.
func (b *bench) askAll(ctx context.Context, dsn string, p questions.Population, list []questions.Question) error {
	var keys []questions.Keys
	var growing []string
	err := query(ctx, dsn, func(conn *pgx.Conn) (err error) {
		if keys, err = p.Keys(ctx, conn, timesAsked, 1); err == nil {
			growing, err = questions.Growing(ctx, conn)
		}
		return errors.Join(err, keys[0].Check(list))
	})
	if err != nil {
		return err
	}
	for _, q := range list {
		if err := b.restartPostgres(ctx); err != nil {
			return err
		}
		err := b.asReader(ctx, dsn, func(conn *pgx.Conn) error {
			a, err := b.ask(ctx, conn, q, keys, growing)
			a.Executions = p.Executions
			b.results.Questions = append(b.results.Questions, a)
			b.progress("queries  %s: cold %.2f and %.2f ms, warm %.2f and %.2f ms", q.Name, a.Cold.P50, a.Cold.P99, a.Warm.P50, a.Warm.P99)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
	}
	return nil
}

// asReader runs f on a connection with the rights of jumio_reader.
func (b *bench) asReader(ctx context.Context, dsn string, f func(*pgx.Conn) error) error {
	return query(ctx, dsn, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET ROLE jumio_reader"); err != nil {
			return fmt.Errorf("become jumio_reader: %w", err)
		}
		return f(conn)
	})
}

// restartPostgres empties Postgres' cache, and the system's where that is allowed.
func (b *bench) restartPostgres(ctx context.Context) (err error) {
	if _, err := b.admin.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	if err := errors.Join(b.admin.Close(ctx), b.postgres.Restart(ctx)); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	syscall.Sync()
	b.results.SystemCacheKept = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) != nil
	if b.admin, err = pgx.Connect(ctx, b.postgres.DSN("postgres")); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return nil
}

// ask measures one question.
func (b *bench) ask(ctx context.Context, conn *pgx.Conn, q questions.Question, keys []questions.Keys, growing []string) (a asked, err error) {
	a = asked{Question: q.Name, Kind: q.Kind}
	var list [][]any
	for _, k := range keys {
		if args, ok := k.Args(q); ok {
			list = append(list, args)
		}
	}
	if a.Cold, err = timeAnswers(ctx, conn, q, list); err != nil {
		return a, err
	}
	if a.Warm, err = timeAnswers(ctx, conn, q, list); err != nil {
		return a, err
	}
	plans := make([]questions.Plan, 2)
	for i := range plans {
		if plans[i], err = questions.Explain(ctx, conn, q, list[0], i == 1); err != nil {
			return a, err
		}
		if err := plans[i].Check(growing); err != nil {
			b.failures = append(b.failures, fmt.Errorf("%s: %w", q.Name, err))
		}
	}
	a.Plan, a.GenericPlan = plans[0].String(), plans[1].String()
	if a.GenericPlan == a.Plan {
		a.GenericPlan = ""
	}
	return a, nil
}

// timeAnswers asks timesAsked times, with each of the arguments in turn, by a prepared
// statement. A time ends with the last row.
func timeAnswers(ctx context.Context, conn *pgx.Conn, q questions.Question, args [][]any) (answerTimes, error) {
	times := make([]float64, timesAsked)
	rows := 0
	for i := range times {
		began := time.Now()
		tag, err := conn.Exec(ctx, q.SQL, args[i%len(args)]...)
		if err != nil {
			return answerTimes{}, err
		}
		times[i] = float64(time.Since(began)) / float64(time.Millisecond)
		rows += int(tag.RowsAffected())
	}
	if rows == 0 {
		return answerTimes{}, errors.New("nothing was found")
	}
	return answerTimes{median(times), percentile(times, 99)}, nil
}

// percentile returns the value that so many in a hundred do not exceed.
func percentile(values []float64, percent int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)*percent+99)/100-1]
}

// growth returns how many times longer the question took, warm, than on the small database;
// 0 if it was not asked there.
func (r *results) growth(a asked) float64 {
	for _, small := range r.Questions {
		if small.Question == a.Question && small.Executions == fewExecutions {
			return a.Warm.P99 / small.Warm.P99
		}
	}
	return 0
}

// reached reports whether a question is as fast as wanted.
func (r *results) reached(a asked) bool {
	return a.Warm.P99 <= target(a.Kind) && r.growth(a) <= growthTarget
}

func target(kind questions.Kind) float64 {
	if kind == questions.Page {
		return pageTarget
	}
	return keyTarget
}

// questionFigures adds the slowest answers on the larger database.
func (r *results) questionFigures(executions int) {
	slowest := func(of func(asked) float64, with func(asked) bool) asked {
		list := slices.DeleteFunc(slices.Clone(r.Questions), func(a asked) bool { return a.Executions != executions || !with(a) })
		return slices.MaxFunc(list, func(a, b asked) int { return cmp.Compare(of(a), of(b)) })
	}
	p99 := func(a asked) float64 { return a.Warm.P99 }
	for _, kind := range []questions.Kind{questions.Key, questions.Page} {
		a := slowest(p99, func(a asked) bool { return a.Kind == kind })
		r.judge(figure{
			What: fmt.Sprintf("slowest question by %s, warm p99, %d workflow executions", kind, executions), Value: a.Warm.P99, Unit: "ms",
			Target: fmt.Sprintf("<= %g ms", target(kind)), Detail: a.Question,
		}, a.Warm.P99 <= target(kind))
	}
	a := slowest(r.growth, func(asked) bool { return true })
	r.compare(figure{
		What: fmt.Sprintf("question that slows down most, warm p99, %d workflow executions", executions), Value: a.Warm.P99, Unit: "ms",
		OverWhat: fmt.Sprintf("the same with %d", fewExecutions), Over: a.Warm.P99 / r.growth(a), atMost: growthTarget, Detail: a.Question,
	})
}

func (r *results) printQuestions(w io.Writer) {
	fmt.Fprintln(w, "\nQUESTION\tKIND\tEXECUTIONS\t COLD P50 MS\t P99 MS\t WARM P50 MS\t P99 MS\t TIMES\tREACHED\t")
	for _, a := range r.Questions {
		fmt.Fprintf(w, "%s\t%s\t%10d\t%12.2f\t%7.2f\t%12.2f\t%7.2f\t%6.2f\t%s\t\n",
			a.Question, a.Kind, a.Executions, a.Cold.P50, a.Cold.P99, a.Warm.P50, a.Warm.P99, r.growth(a), yesNo(r.reached(a)))
	}
}

// markdown is the table of the questions, with their plans.
func (r *results) markdown() []byte {
	var out strings.Builder
	m := r.Machine
	fmt.Fprintf(&out, "# The documented questions\n\n%.10s, `%s`, %d cores (%s), PostgreSQL %s with its default settings. ", r.Date, r.Command,
		m.Cores, m.CPU, m.Postgres)
	fmt.Fprintf(&out, "Milliseconds, each question asked %d times.\nCold: after a restart of Postgres", timesAsked)
	if r.SystemCacheKept {
		out.WriteString("; the system's cache was kept, which only root can empty")
	} else {
		out.WriteString(", with the system's cache emptied")
	}
	fmt.Fprintf(&out, ". Warm: the same keys again. Wanted, warm: a p99 of at most %d ms by key and %d ms for a page, "+
		"and at most %d times that with %d workflow executions.\n\n", keyTarget, pageTarget, growthTarget, fewExecutions)
	for _, f := range r.Filled {
		fmt.Fprintf(&out, "- %d workflow executions: %.1f GB, made in %.0f s\n", f.Executions, float64(f.Bytes)/1e9, f.Seconds)
	}
	out.WriteString("\n| question | kind | executions | cold p50 | cold p99 | warm p50 | warm p99 | times | reached |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	for _, a := range r.Questions {
		fmt.Fprintf(&out, "| %s | %s | %d | %.2f | %.2f | %.2f | %.2f | %.2f | %s |\n",
			a.Question, a.Kind, a.Executions, a.Cold.P50, a.Cold.P99, a.Warm.P50, a.Warm.P99, r.growth(a), yesNo(r.reached(a)))
	}
	out.WriteString("\n| question | executions | plan |\n|---|---|---|\n")
	for _, a := range r.Questions {
		fmt.Fprintf(&out, "| %s | %d | %s |\n", a.Question, a.Executions, a.Plan)
		if a.GenericPlan != "" {
			fmt.Fprintf(&out, "| %s, for any keys | %d | %s |\n", a.Question, a.Executions, a.GenericPlan)
		}
	}
	return []byte(out.String())
}
