package questions

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

//go:embed partitions.sql
var partitionFunctions string

// Population is workflow executions with all that belongs to them, which have come evenly
// over some months. What they are depends on the fields alone.
type Population struct {
	// Executions is their number.
	Executions int
	// Months is how many months, the current one included, have a partition of their own.
	// A month before these is in the first partition, the next four have empty ones.
	Months int
	// Now is when the last one came.
	Now time.Time
}

// firstMonth is the first month with a partition of its own.
func (p Population) firstMonth() time.Time {
	return time.Date(p.Now.UTC().Year(), p.Now.UTC().Month()+1-time.Month(p.Months), 1, 0, 0, 0, 0, time.UTC)
}

// MakePartitions gives the tables of a database without rows their partitions.
func (p Population) MakePartitions(ctx context.Context, conn *pgx.Conn) error {
	const monthsAhead = 4
	_, err := conn.Exec(ctx, partitionFunctions)
	if err == nil {
		_, err = conn.Exec(ctx, `SELECT pg_temp.make_partitions($1, $2)`, p.firstMonth(), p.Months+monthsAhead)
	}
	if err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	return nil
}

// execution is a workflow execution, which has been expected. Of a hundred, 70 are PASSED,
// 15 REJECTED, 10 WARNING, 2 failed and 2 expired; of 1 the end never became known. The
// last callback of one of the PASSED got lost.
type execution struct {
	n                 int
	id, account       string
	reference         string
	startedAt         time.Time
	at                time.Time // of the first callback
	processedAt       time.Time // of the second, and last, one, or when Jumio was asked
	detailsAt         time.Time
	callbacks         int // how many of the two came
	deadlineAt        time.Time
	expectation       string // its state
	asked             int    // how often
	lastAskedAt       any    // time or NULL, like the next three
	nextAskAt         any
	overdueAt         any
	answeredAt        any
	detailsID         uuid.UUID
	status, state     string
	decision          any // text or NULL, like the next two
	capability, label any
	idCard, selfie    string // ids of the credentials
	documentNumber    string
	hasDetails        bool
}

// The default settings that deadlines are made of.
const (
	tokenLifetime   = 30 * time.Minute
	sessionAndGrace = 20 * time.Minute
)

// askDelays are those of the default settings, from the deadline on.
var askDelays = []time.Duration{0, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}

// rejectedEvery is how many workflow executions there are for each rejected callback. With
// this number, those that have one are of every kind.
const rejectedEvery = 7

func (p Population) execution(n int) *execution {
	since := p.firstMonth().AddDate(0, -1, 0)
	at := since.Add(time.Duration(float64(p.Now.Sub(since)-time.Hour) * float64(n) / float64(p.Executions))).Truncate(8 * time.Microsecond)
	// A fifth are of a person who has another one, from just before or from long ago.
	person := n
	switch n % 10 {
	case 4:
		person = n - 1
	case 9:
		person = n / 2
	}
	e := &execution{
		n: n, id: name("execution", n), account: name("account", person), reference: "person-" + strconv.Itoa(person),
		startedAt: at.Add(-5 * time.Minute), at: at, processedAt: at.Add(time.Minute),
		callbacks: 2, deadlineAt: at.Add(sessionAndGrace), expectation: "answered", idCard: name("card", n), selfie: name("selfie", n),
		documentNumber: "D" + strconv.Itoa(person), status: "PROCESSED", state: "retrieved", hasDetails: true,
	}
	switch outcome := n * 19 % 100; {
	case outcome == 0:
		e.decision = "PASSED"
		e.callbacks, e.expectation, e.processedAt = 1, "recovered", e.deadlineAt
		e.asked, e.lastAskedAt = 1, e.deadlineAt
	case outcome < 70:
		e.decision = "PASSED"
	case outcome < 85:
		e.decision, e.capability, e.label = "REJECTED", "usability", "BAD_QUALITY"
	case outcome < 95:
		e.decision, e.capability, e.label = "WARNING", "liveness", "AGE_DIFFERENCE"
	case outcome < 97:
		e.state, e.hasDetails = "failed", false
	case outcome < 99:
		e.status, e.state, e.hasDetails = "SESSION_EXPIRED", "not_required", false
	default:
		e.status, e.state, e.hasDetails = "ACQUIRED", "awaiting", false
		e.deadlineAt = e.processedAt.Add(sessionAndGrace)
		if n%200 > 100 { // nobody has opened every second one
			e.status, e.callbacks, e.deadlineAt = "", 0, e.startedAt.Add(tokenLifetime+sessionAndGrace)
		}
		e.wait(p.Now)
	}
	if e.state != "awaiting" {
		e.answeredAt = e.processedAt
	}
	e.detailsAt = e.processedAt.Add(time.Minute)
	e.detailsID = idAt(e.detailsAt, "details", n)
	return e
}

// wait makes it one of which Jumio, when it is asked, knows no end.
func (e *execution) wait(now time.Time) {
	e.expectation = "expected"
	at := e.deadlineAt
	for _, delay := range askDelays {
		if at = at.Add(delay); at.After(now) {
			e.nextAskAt = at
			return
		}
		e.asked++
		e.lastAskedAt = at
	}
	e.expectation, e.overdueAt = "overdue", at
}

// digest is what is random about a thing.
func digest(kind string, n int) [sha256.Size]byte {
	return sha256.Sum256(strconv.AppendInt([]byte(kind), int64(n), 10))
}

// name is the id of a thing of Jumio's.
func name(kind string, n int) string {
	d := digest(kind, n)
	return uuid.UUID(d[:16]).String()
}

// idAt is a UUIDv7.
func idAt(at time.Time, kind string, n int) uuid.UUID {
	d := digest(kind, n)
	id := uuid.UUID(d[:16])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	ms := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// table is one that a workflow execution has rows in.
type table struct {
	name    string
	columns []string
	rows    func(*execution) [][]any
}

// Load stores the workflow executions with the numbers from first to last, from 1 on. It
// should be told, by session_replication_role, to leave out the trigger that would have all
// callbacks promoted.
func (p Population) Load(ctx context.Context, conn *pgx.Conn, first, last int) error {
	list := make([]*execution, 0, last-first+1)
	for n := first; n <= last; n++ {
		list = append(list, p.execution(n))
	}
	for _, t := range tables {
		var rows [][]any
		next := 0
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"callbackd", t.name}, t.columns, pgx.CopyFromFunc(func() ([]any, error) {
			for len(rows) == 0 && next < len(list) {
				rows = t.rows(list[next])
				next++
			}
			if len(rows) == 0 {
				return nil, nil
			}
			row := rows[0]
			rows = rows[1:]
			return row, nil
		}))
		if err != nil {
			return fmt.Errorf("fill %s: %w", t.name, err)
		}
	}
	return nil
}

// withDetails leaves out workflow executions that have none.
func withDetails(rows func(*execution) [][]any) func(*execution) [][]any {
	return func(e *execution) [][]any {
		if !e.hasDetails {
			return nil
		}
		return rows(e)
	}
}

var tables = []table{
	{"workflow_executions", []string{
		"workflow_execution_id", "account_id", "definition_key", "status", "user_reference", "user_reference_unsigned",
		"customer_internal_reference", "callback_count", "first_callback_at", "last_callback_at", "retrieval_state", "retrieval_generation",
		"retrieval_attempts", "retrieved_at", "details_retrieved_at", "data_center", "details_id", "created_at", "started_at", "completed_at",
		"decision_type", "decision_source", "reason_capability", "reason_type", "reason_label", "image_count", "expected_at", "overdue_at",
	}, executionRows},
	{"expectations", []string{
		"workflow_execution_id", "account_id", "data_center", "user_reference", "definition_key", "expected_at", "token_lifetime", "deadline_at",
		"state", "asked_count", "asked_since_deadline", "last_asked_at", "next_ask_at", "answered_at",
	}, expectationRows},
	{"details", []string{"details_id", "workflow_execution_id", "generation", "details", "body"}, withDetails(detailsRows)},
	{"credentials", []string{"details_id", "position", "credential_id", "category", "classifiers"}, withDetails(credentialRows)},
	{"capabilities", []string{
		"details_id", "capability", "position", "decision_type", "decision_label", "credential_ids", "credential_categories",
	}, withDetails(capabilityRows)},
	{"extracted_documents", []string{
		"details_id", "workflow_execution_id", "position", "is_first", "credential_ids", "type", "sub_type", "issuing_country",
		"first_name", "last_name", "date_of_birth", "expiry_date", "document_number",
	}, withDetails(documentRows)},
	{"images", []string{
		"image_id", "workflow_execution_id", "account_id", "credential_id", "category", "classifier", "content_type", "size_bytes", "sha256",
		"width", "height", "retrieved_at", "generation", "published", "data",
	}, withDetails(imageRows)},
	{"events", []string{
		"event_id", "occurred_at", "type", "workflow_execution_id", "account_id", "user_reference", "retrieval_state", "decision_type", "changed",
	}, eventRows},
	{"callbacks", []string{
		"callback_id", "received_at", "callback_sent_at", "source_ip", "content_type", "workflow_execution_id", "workflow_status",
		"definition_key", "account_id", "user_reference", "body",
	}, callbackRows},
	{"rejected_callbacks", []string{
		"rejected_id", "received_at", "source_ip", "reason", "content_type", "body", "workflow_execution_id", "user_reference",
	}, rejectedRows},
}

func executionRows(e *execution) [][]any {
	row := []any{
		e.id, e.account, "10", e.status, e.reference, e.reference, nil, e.callbacks, e.at, e.processedAt, e.state, 1,
		1, nil, nil, "emea-1", nil, nil, nil, nil,
		e.decision, nil, e.capability, nil, e.label, 0, e.startedAt, e.overdueAt,
	}
	switch e.callbacks {
	case 0:
		row[3], row[8], row[9] = nil, nil, nil
	case 1:
		row[9] = e.at
	}
	if e.hasDetails {
		row[6], row[13], row[14], row[16], row[21], row[25] = "case-"+strconv.Itoa(e.n), e.detailsAt, e.detailsAt, e.detailsID, "capabilities", 3
		row[17], row[18], row[19] = e.startedAt, e.startedAt.Add(time.Minute), e.at.Add(time.Minute)
	}
	if e.capability != nil {
		row[23] = e.decision
	}
	return [][]any{row}
}

func expectationRows(e *execution) [][]any {
	return [][]any{{
		e.id, e.account, "emea-1", e.reference, "10", e.startedAt, tokenLifetime, e.deadlineAt,
		e.expectation, e.asked, e.asked, e.lastAskedAt, e.nextAskAt, e.answeredAt,
	}}
}

// detailsRows has less than Jumio sends, for the disk's sake.
func detailsRows(e *execution) [][]any {
	body := `{"workflow":{"id":"` + e.id + `"},"capabilities":{"extraction":[{"data":{"documentNumber":"` + e.documentNumber +
		`","address":{"city":"Vienna"}}}]}}`
	return [][]any{{e.detailsID, e.id, 1, body, []byte(body)}}
}

func credentialRows(e *execution) [][]any {
	return [][]any{
		{e.detailsID, 1, e.idCard, "ID", []string{"FRONT", "BACK"}},
		{e.detailsID, 2, e.selfie, "SELFIE", []string{"FACE"}},
	}
}

func capabilityRows(e *execution) [][]any {
	var rows [][]any
	for i, capability := range []string{
		"usability", "usability", "imageChecks", "extraction", "dataChecks", "liveness", "similarity", "authentication",
	} {
		decision, label := any("PASSED"), any("OK")
		if capability == e.capability {
			decision, label = e.decision, e.label
		}
		position := 1
		if i == 1 {
			position = 2
		}
		rows = append(rows, []any{e.detailsID, capability, position, decision, label, []string{e.idCard}, []string{"ID"}})
	}
	return rows
}

func documentRows(e *execution) [][]any {
	birth := time.Date(1950+e.n%50, 1, 1+e.n%365, 0, 0, 0, 0, time.UTC)
	return [][]any{{
		e.detailsID, e.id, 1, true,
		[]string{e.idCard},
		"ID_CARD", "NATIONAL_ID", "AUT", "Anna", "Muster", birth, birth.AddDate(90, 0, 0),
		e.documentNumber,
	}}
}

func imageRows(e *execution) [][]any {
	row := func(credential, category, classifier string) []any {
		sum := digest(classifier, e.n)
		return []any{
			idAt(e.detailsAt, classifier, e.n), e.id, e.account, credential, category, classifier, "image/jpeg", 200_000, sum[:],
			1280, 960, e.detailsAt, 1, true,
			[]byte{0},
		}
	}
	return [][]any{row(e.idCard, "ID", "FRONT"), row(e.idCard, "ID", "BACK"), row(e.selfie, "SELFIE", "FACE")}
}

func eventRows(e *execution) [][]any {
	id := e.at.UnixMicro() // those of the next workflow execution are at least 8 on
	row := func(n int64, kind, state string, decision, changed any) []any {
		return []any{id + n, e.at, kind, e.id, e.account, e.reference, state, decision, changed}
	}
	rows := [][]any{row(0, "callback_received", "awaiting", nil, nil), row(1, "callback_received", "pending", nil, nil)}[:e.callbacks]
	if e.expectation == "recovered" {
		rows = append(rows, row(1, "missed_callback_recovered", "pending", nil, nil))
	}
	if e.overdueAt != nil {
		rows = append(rows, row(2, "overdue", e.state, nil, nil))
	}
	if e.hasDetails {
		rows = append(rows, row(2, "retrieved", e.state, e.decision, true))
	}
	return rows
}

func callbackRows(e *execution) [][]any {
	row := func(at time.Time, status string) []any {
		return []any{
			idAt(at, status, e.n), at, at, netip.MustParseAddr("34.202.241.227"), "application/json", e.id, status,
			"10", e.account, e.reference, []byte(`{"workflowExecution":{}}`),
		}
	}
	return [][]any{row(e.at, "ACQUISITION_STARTED"), row(e.processedAt, e.status)}[:e.callbacks]
}

func rejectedRows(e *execution) [][]any {
	if e.n%rejectedEvery != 0 {
		return nil
	}
	return [][]any{{
		idAt(e.at, "rejected", e.n), e.at, netip.MustParseAddr("192.0.2.1"), "address_not_allowed", "application/json", []byte(`{}`), e.id, e.reference,
	}}
}
