package processtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/details"
)

// markedJumio is a Jumio whose every field, id and image is marked.
type markedJumio struct {
	url   string
	marks *marks

	mu            sync.Mutex
	verifications map[string]*markedVerification // by workflow execution
	images        map[string][]byte              // by path
	// deleting, if set, is called before a deletion is answered.
	deleting func(path string)
}

// markedVerification is a verification of a person.
type markedVerification struct {
	person, id, account, reference string
	definitionKey                  string
	// status is what Get Status says, and details.
	status string
	// detailsCode and imageCode are the answers' statuses; 200 if 0. imageCode is that of
	// the last image.
	detailsCode, imageCode int
	// hangs: the last image is not answered. hung: it has been asked for.
	hangs, hung bool
	details     []byte
	lastImage   string
	deleted     bool
}

func startMarkedJumio(t testing.TB, m *marks) *markedJumio {
	t.Helper()
	j := &markedJumio{marks: m, verifications: map[string]*markedVerification{}, images: map[string][]byte{}}
	server := httptest.NewServer(j)
	t.Cleanup(server.Close)
	j.url = server.URL
	return j
}

// person is an end user: the account and the reference of all verifications.
type person struct{ name, account, reference string }

func (m *marks) newPerson(name string) *person {
	return &person{name, "acct-" + m.plant(name, "account"), "ref/" + m.plant(name, "reference")}
}

// verify makes a verification of a person, ready to be retrieved.
func (j *markedJumio) verify(p *person, configure func(*markedVerification)) *markedVerification {
	v := &markedVerification{person: p.name, id: uuid.NewString(), account: p.account, reference: p.reference, status: "PROCESSED"}
	v.definitionKey = j.marks.plant(v.id, "definitionKey")
	if configure != nil {
		configure(v)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	v.details = j.newDetails(v)
	j.verifications[v.id] = v
	return v
}

// newDetails fills every text that internal/details knows with a mark of its own.
func (j *markedJumio) newDetails(v *markedVerification) []byte {
	plant := func(what string) string { return j.marks.plant(v.id, what) }
	fill := func(into map[string]any, of reflect.Type) {
		for i := range of.NumField() {
			field := of.Field(i)
			path, _, _ := strings.Cut(field.Tag.Get("jumio"), ",")
			if path == "" || field.Type.Kind() != reflect.String || strings.HasSuffix(path, "score") {
				continue
			}
			setPath(into, path, plant("details "+path))
		}
	}
	all, document := map[string]any{}, map[string]any{}
	fill(all, reflect.TypeFor[details.Details]())
	fill(document, reflect.TypeFor[details.Document]())
	document["dlCategories"] = []string{plant("dlCategories")}
	setPath(all, "workflow.id", v.id)
	setPath(all, "workflow.status", v.status)
	setPath(all, "workflow.definitionKey", v.definitionKey)
	setPath(all, "workflow.userReference", v.reference)
	setPath(all, "account.id", v.account)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	all["createdAt"], all["startedAt"], all["completedAt"] = now, now, now
	all["unknown"] = plant("a field that nobody knows")

	var credentials []any
	for _, c := range []struct {
		category    string
		classifiers []string
	}{{"ID", []string{"FRONT", "BACK"}}, {"SELFIE", []string{"FACE"}}} {
		id := "cred-" + plant("credential")
		var parts []any
		for _, classifier := range c.classifiers {
			path := fmt.Sprintf("/api/v1/accounts/%s/credentials/%s/parts/%s", v.account, id, classifier)
			content := markedImage(plant("image " + classifier))
			sum := sha256.Sum256(content)
			j.marks.plantHash(v.id, "hash of image "+classifier, sum[:])
			j.images[path], v.lastImage = content, path
			parts = append(parts, map[string]any{"classifier": classifier, "href": "https://retrieval.amer-1.jumio.ai" + path})
		}
		credentials = append(credentials, map[string]any{"id": id, "category": c.category, "parts": parts})
	}
	all["credentials"] = credentials
	decision := func() map[string]any {
		return map[string]any{"type": "PASSED", "details": map[string]any{"label": plant("capability label")}}
	}
	all["capabilities"] = map[string]any{
		"extraction": []any{map[string]any{"id": plant("capability id"), "credentials": credentials[:1], "decision": decision(), "data": document}},
		"liveness":   []any{map[string]any{"decision": decision(), "data": map[string]any{"type": plant("liveness type")}}},
		"similarity": []any{map[string]any{"decision": decision(), "data": map[string]any{"similarity": plant("similarity")}}},
	}
	body, err := json.Marshal(all)
	if err != nil {
		panic(err) // a fault in this file
	}
	return body
}

// setPath sets the member at a path of names joined by dots.
func setPath(object map[string]any, path string, value any) {
	first, rest, nested := strings.Cut(path, ".")
	if !nested {
		object[first] = value
		return
	}
	inner, ok := object[first].(map[string]any)
	if !ok {
		inner = map[string]any{}
		object[first] = inner
	}
	setPath(inner, rest, value)
}

// markedImage is a JPEG of noise with a comment.
func markedImage(comment string) []byte {
	drawing := image.NewGray(image.Rect(0, 0, 96, 96))
	for i := range drawing.Pix {
		drawing.Pix[i] = byte(rand.Uint32())
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, drawing, nil); err != nil {
		panic(err) // into memory
	}
	const start = 2 // its marker
	segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xfe}, uint16(2+len(comment)))
	return bytes.Join([][]byte{file.Bytes()[:start], segment, []byte(comment), file.Bytes()[start:]}, nil)
}

func (j *markedJumio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth2/token" {
		_, _ = w.Write([]byte(`{"access_token":"token","expires_in":3600,"token_type":"Bearer"}`))
		return
	}
	if r.Method == http.MethodDelete {
		j.delete(w, r.URL.Path)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if content, ok := j.images[r.URL.Path]; ok {
		for _, v := range j.verifications {
			if v.lastImage == r.URL.Path && v.hangs {
				v.hung = true
				j.mu.Unlock()
				<-r.Context().Done()
				j.mu.Lock()
				return
			}
			if v.lastImage == r.URL.Path && v.imageCode != 0 {
				if v.imageCode == http.StatusTooManyRequests {
					w.Header().Set("Retry-After", "3000") // seconds
				}
				w.WriteHeader(v.imageCode)
				return
			}
		}
		w.Header().Set("Content-Type", "image/jpeg")
		_, _ = w.Write(content)
		return
	}
	path, status := strings.CutSuffix(r.URL.Path, "/status")
	v := j.verifications[path[strings.LastIndexByte(path, '/')+1:]]
	w.Header().Set("Content-Type", "application/json")
	switch {
	case v == nil || v.deleted:
		w.WriteHeader(http.StatusNotFound)
	case status:
		_ = json.NewEncoder(w).Encode(map[string]any{
			"account":           map[string]string{"id": v.account},
			"workflowExecution": map[string]string{"id": v.id, "status": v.status, "definitionKey": v.definitionKey},
		})
	case v.detailsCode != 0:
		w.WriteHeader(v.detailsCode)
	default:
		_, _ = w.Write(v.details)
	}
}

// hung reports whether the last image of the verification has been asked for in vain.
func (j *markedJumio) hung(v *markedVerification) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return v.hung
}

// answer has the verification hang no more.
func (j *markedJumio) answer(v *markedVerification) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v.hangs = false
}

// onDeletion has f called before a deletion is answered.
func (j *markedJumio) onDeletion(f func(path string)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.deleting = f
}

// forgetDeletions has again what was deleted.
func (j *markedJumio) forgetDeletions() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, v := range j.verifications {
		v.deleted = false
	}
}

func (j *markedJumio) delete(w http.ResponseWriter, path string) {
	j.mu.Lock()
	deleting := j.deleting
	j.mu.Unlock()
	if deleting != nil {
		deleting(path)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	code := http.StatusNotFound
	for _, v := range j.verifications {
		account := "/api/v1/accounts/" + v.account
		if !v.deleted && (path == account || path == account+"/workflow-executions/"+v.id) {
			v.deleted, code = true, http.StatusOK
		}
	}
	w.WriteHeader(code)
}

// callback is a callback of the verification, each with marks of its own.
func (v *markedVerification) callback(m *marks, status string) string {
	return v.callbackAs(m, v.id, v.account, v.reference, v.id, status)
}

// callbackAs names other ids; its marks are the owner's.
func (v *markedVerification) callbackAs(m *marks, id, account, reference, owner, status string) string {
	href := "https://retrieval.amer-1.jumio.ai/api/v1/accounts/" + account
	body, err := json.Marshal(map[string]any{
		"callbackSentAt": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"userReference":  reference,
		"workflowExecution": map[string]string{
			"id": id, "href": href + "/workflow-executions/" + id, "definitionKey": v.definitionKey, "status": status,
		},
		"account": map[string]string{"id": account, "href": href},
		"unknown": m.plant(owner, "callback body"),
	})
	if err != nil {
		panic(err) // a fault in this file
	}
	return string(body)
}

// marked is a Content-Type with a mark.
func (v *markedVerification) contentType(m *marks) string {
	return "application/json; boundary=" + m.plant(v.id, "Content-Type")
}
