package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// The baseline of retrieval: a bare loop that asks for the details, asks for
// the images that they name, and inserts what it gets. It retries nothing,
// checks nothing, keeps no state, and would lose its work when it dies.

// bareTask is what it reads from its standard input.
type bareTask struct {
	BaseURL  string    `json:"base_url"`
	Journeys []journey `json:"journeys"`
}

// runBareLoop writes the seconds that it took.
func runBareLoop(ctx context.Context, in io.Reader, out io.Writer) error {
	var task bareTask
	if err := json.NewDecoder(in).Decode(&task); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	pool, err := openPool(ctx, retrievalWorkers)
	if err != nil {
		return err
	}
	defer pool.Close()
	loop := bareLoop{pool, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: retrievalWorkers}}, task.BaseURL}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(retrievalWorkers)
	for _, j := range task.Journeys {
		group.Go(func() error { return loop.retrieve(ctx, j) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = fmt.Fprint(out, time.Since(began).Seconds())
	return err
}

type bareLoop struct {
	pool   *pgxpool.Pool
	client *http.Client
	base   string
}

func (l *bareLoop) retrieve(ctx context.Context, j journey) error {
	account := l.base + "/api/v1/accounts/" + j.AccountID
	body, _, err := l.get(ctx, account+"/workflow-executions/"+j.WorkflowExecutionID, "application/json")
	if err != nil {
		return err
	}
	_, err = l.pool.Exec(ctx, `INSERT INTO bench.details (workflow_execution_id, details) VALUES ($1, $2)`, j.WorkflowExecutionID, body)
	if err != nil {
		return fmt.Errorf("insert details: %w", err)
	}
	var details struct {
		Credentials []struct {
			ID    string `json:"id"`
			Parts []struct {
				Classifier string `json:"classifier"`
			} `json:"parts"`
		} `json:"credentials"`
	}
	if err := json.Unmarshal(body, &details); err != nil {
		return fmt.Errorf("read details: %w", err)
	}
	for _, c := range details.Credentials {
		for _, part := range c.Parts {
			data, contentType, err := l.get(ctx, account+"/credentials/"+c.ID+"/parts/"+part.Classifier, "image/jpeg, image/png, application/json;q=0.5")
			if err != nil {
				return err
			}
			_, err = l.pool.Exec(ctx, `INSERT INTO bench.images (workflow_execution_id, credential_id, classifier, content_type, data)
				VALUES ($1, $2, $3, $4, $5)`, j.WorkflowExecutionID, c.ID, part.Classifier, contentType, data)
			if err != nil {
				return fmt.Errorf("insert an image: %w", err)
			}
		}
	}
	return nil
}

func (l *bareLoop) get(ctx context.Context, url, accept string) (body []byte, contentType string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	request.SetBasicAuth("sandbox", "sandbox")
	request.Header.Set("Accept", accept)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "callbackd bench/v1.0")
	response, err := l.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close() // nothing was written
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s answered %s", url, response.Status)
	}
	body, err = io.ReadAll(response.Body)
	return body, response.Header.Get("Content-Type"), err
}
