package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// The baselines: what one would write without callbackd. They make none of its
// checks and log nothing, so they are hard to beat.

// baselineConnections is the size of their pool.
const baselineConnections = 50

// runBaseline is the process of a baseline: its name, then its address.
func runBaseline(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "bareloop" {
		return runBareLoop(ctx, os.Stdin, os.Stdout)
	}
	if len(args) != 2 {
		return errors.New("usage: bench baseline bareloop, or noop|naive|jobtx ADDRESS")
	}
	name, address := args[0], args[1]
	store := func(context.Context, *payload, []byte, netip.Addr, string) error { return nil }
	if name != "noop" {
		pool, err := openPool(ctx, baselineConnections)
		if err != nil {
			return err
		}
		defer pool.Close()
		switch name {
		case "naive":
			store = storeNaive(pool)
		case "jobtx":
			if store, err = storeWithJob(pool); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown baseline %q", name)
		}
	}
	return serveBaseline(ctx, address, store)
}

func openPool(ctx context.Context, connections int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, errors.New("parse DATABASE_URL: not a valid Postgres connection string")
	}
	cfg.MaxConns = connections
	return pgxpool.NewWithConfig(ctx, cfg)
}

// payload is a callback (guide, "Callback Parameters").
type payload struct {
	CallbackSentAt    time.Time `json:"callbackSentAt"`
	UserReference     string    `json:"userReference"`
	WorkflowExecution struct {
		ID            string `json:"id"`
		Href          string `json:"href"`
		DefinitionKey string `json:"definitionKey"`
		Status        string `json:"status"`
	} `json:"workflowExecution"`
	Account struct {
		ID   string `json:"id"`
		Href string `json:"href"`
	} `json:"account"`
}

type storeFunc func(ctx context.Context, p *payload, body []byte, from netip.Addr, contentType string) error

func serveBaseline(ctx context.Context, address string, store storeFunc) error {
	router := chi.NewRouter()
	router.Get(readyPath, func(http.ResponseWriter, *http.Request) {})
	router.Post(callbackPath, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var p payload
		if err := json.Unmarshal(body, &p); err != nil || p.WorkflowExecution.ID == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil {
			err = store(r.Context(), &p, body, from.Addr(), r.Header.Get("Content-Type"))
		}
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: router, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/2)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	})
	if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// insertOne: bench.callbacks has callbackd's own columns and indexes, and no
// trigger.
const insertOne = `
INSERT INTO bench.callbacks (callback_id, received_at, callback_sent_at, source_ip, content_type, workflow_execution_id,
    workflow_status, workflow_href, definition_key, account_id, account_href, user_reference, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

func insertArguments(p *payload, body []byte, from netip.Addr, contentType string) ([]any, error) {
	id, err := uuid.NewV7()
	w := &p.WorkflowExecution
	return []any{
		id, time.Now(), p.CallbackSentAt, from, contentType, w.ID, w.Status, w.Href, w.DefinitionKey,
		p.Account.ID, p.Account.Href, p.UserReference, body,
	}, err
}

// storeNaive is one INSERT for each request.
func storeNaive(pool *pgxpool.Pool) storeFunc {
	return func(ctx context.Context, p *payload, body []byte, from netip.Addr, contentType string) error {
		arguments, err := insertArguments(p, body, from, contentType)
		if err != nil {
			return err
		}
		_, err = pool.Exec(ctx, insertOne, arguments...)
		return err
	}
}

// retrievalJob is the job of storeWithJob.
type retrievalJob struct {
	WorkflowExecutionID string `json:"workflow_execution_id"`
}

// Kind is the name of the job in River's table.
func (retrievalJob) Kind() string { return "retrieval" }

// storeWithJob is one transaction for each request, with the callback and a
// River job, as River's documentation advises. River's tables are its own,
// with all their indexes.
func storeWithJob(pool *pgxpool.Pool) (storeFunc, error) {
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: "bench"})
	if err != nil {
		return nil, fmt.Errorf("make a River client: %w", err)
	}
	return func(ctx context.Context, p *payload, body []byte, from netip.Addr, contentType string) error {
		arguments, err := insertArguments(p, body, from, contentType)
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insertOne, arguments...); err != nil {
				return err
			}
			_, err := jobs.InsertTx(ctx, tx, retrievalJob{p.WorkflowExecution.ID}, nil)
			return err
		})
	}, nil
}
