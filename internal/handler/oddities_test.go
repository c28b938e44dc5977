package handler

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	small = `{"workflowExecution":{"id":"a"}}`
	// probe follows each request: it is answered only where the connection is
	// kept and both sides agree on where the request before it ended.
	probe = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
)

// post returns a callback with the given header lines.
func post(lines string, body string) string {
	return head + lines + "\r\n" + body
}

func length(body string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(body)) }

// smuggled is a whole callback. As the body of another request, or as what follows
// it, it must never be read as a callback.
var smuggled = post(length(`{"workflowExecution":{"id":"smuggled"}}`), `{"workflowExecution":{"id":"smuggled"}}`)

// converse sends text and reads the statuses of all answers, until the server
// closes.
func (r *rig) converse(text string) []int {
	r.t.Helper()
	conn := r.dial()
	// The server may close before everything is sent.
	go func() { _, _ = io.WriteString(conn, text) }()
	in := bufio.NewReader(conn)
	var statuses []int
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset by peer") {
				r.t.Errorf("read an answer: %v", err)
			}
			return statuses
		}
		a := readAnswer(r.t, resp)
		if strings.Contains(a.body, "smuggled") || strings.Contains(a.body, callbackPath) {
			r.t.Errorf("the answer repeats the request: %s", a.body)
		}
		statuses = append(statuses, a.StatusCode)
	}
}

// Requests that proxies and servers are known to read differently: 200 only for what
// is stored exactly once, and no further request on the connection after ambiguous
// framing.
func TestOddRequests(t *testing.T) {
	const (
		chunks = "Transfer-Encoding: chunked\r\n"
		ok     = http.StatusOK
	)
	type oddity struct {
		request string
		want    []int // with the probe's 200 where the connection is kept
		stored  int
	}
	line := func(request string) string { return request + "\r\nHost: x\r\n" + length(small) + "\r\n" + small }
	tests := map[string]oddity{
		// Framing (RFC 9112, section 6).
		"Content-Length twice, the same":              {post(length(small)+length(small), small), []int{ok, ok}, 1},
		"Content-Length twice, different":             {post(length(small)+"Content-Length: 5\r\n", small), []int{400}, 0},
		"Content-Length as a list":                    {post(fmt.Sprintf("Content-Length: %d, %d\r\n", len(small), len(small)), small), []int{400}, 0},
		"Content-Length with a sign":                  {post("Content-Length: +5\r\n", small), []int{400}, 0},
		"Content-Length negative":                     {post("Content-Length: -5\r\n", small), []int{400}, 0},
		"Content-Length hexadecimal":                  {post("Content-Length: 0x20\r\n", small), []int{400}, 0},
		"Content-Length empty":                        {post("Content-Length: \r\n", small), []int{400}, 0},
		"blank before the colon":                      {post(strings.Replace(length(small), ":", " :", 1), small), []int{400}, 0},
		"Content-Length too short":                    {post("Content-Length: 2\r\n", "{}"+small), []int{400, 400}, 0},
		"Transfer-Encoding and Content-Length":        {post(chunks+length(small), chunked(small, 9)), []int{ok}, 1},
		"Content-Length and Transfer-Encoding":        {post(length("0\r\n\r\n"+smuggled)+chunks, "0\r\n\r\n"+smuggled), []int{400}, 0},
		"Transfer-Encoding twice":                     {post(chunks+chunks, chunked(small, 9)), []int{501}, 0},
		"Transfer-Encoding unknown":                   {post("Transfer-Encoding: xchunked\r\n", chunked(small, 9)), []int{501}, 0},
		"Transfer-Encoding gzip, chunked":             {post("Transfer-Encoding: gzip, chunked\r\n", chunked(small, 9)), []int{501}, 0},
		"Transfer-Encoding identity":                  {post("Transfer-Encoding: identity\r\n"+length(small), small), []int{501}, 0},
		"Transfer-Encoding with a vertical tab":       {post("Transfer-Encoding: \vchunked\r\n"+length(small), small), []int{400}, 0},
		"HTTP/1.0 kept alive, with Transfer-Encoding": {strings.Replace(post("Connection: keep-alive\r\n"+chunks+length(small), small), "HTTP/1.1", "HTTP/1.0", 1), []int{ok}, 1},

		// Chunks (RFC 9112, section 7).
		"trailers":                      {post(chunks+"Trailer: X-Sum\r\n", strings.TrimSuffix(chunked(small, 9), "\r\n")+"X-Sum: 1\r\n\r\n"), []int{ok}, 1},
		"trailers not announced":        {post(chunks, strings.TrimSuffix(chunked(small, 9), "\r\n")+"Content-Length: 5\r\nHost: y\r\n\r\n"), []int{ok}, 1},
		"trailer announces framing":     {post(chunks+"Trailer: Content-Length\r\n", chunked(small, 9)), []int{400}, 0},
		"trailers without end":          {post(chunks, strings.TrimSuffix(chunked(small, 9), "\r\n")+"X: "+strings.Repeat("x", 100_000)), []int{400}, 0},
		"chunk extension":               {post(chunks, fmt.Sprintf("%x;a=b;c=\"d\"\r\n%s\r\n0\r\n\r\n", len(small), small)), []int{ok}, 1},
		"chunk extension without end":   {post(chunks, "5;"+strings.Repeat("x", 100_000)), []int{400}, 0},
		"chunk length negative":         {post(chunks, "-5\r\n"+small), []int{400}, 0},
		"chunk length too large":        {post(chunks, "10000000000000005\r\n"+small), []int{400}, 0},
		"chunk length with a prefix":    {post(chunks, fmt.Sprintf("0x%x\r\n%s\r\n0\r\n\r\n", len(small), small)), []int{400}, 0},
		"chunk without its end of line": {post(chunks, fmt.Sprintf("%x\r\n%sXX0\r\n\r\n", len(small), small)), []int{400}, 0},
		"chunk longer than announced":   {post(chunks, "5\r\n"+small+"\r\n0\r\n\r\n"), []int{400}, 0},

		// The request line and its target.
		"encoded letter":                {line("POST /jumio/callbac%6b HTTP/1.1"), []int{404, ok}, 0},
		"encoded dot segment":           {line("POST /jumio/x/%2e%2e/callback HTTP/1.1"), []int{404, ok}, 0},
		"dot segments that lead here":   {line("POST /healthz/../jumio/callback HTTP/1.1"), []int{404, ok}, 0},
		"path parameter":                {line("POST /jumio/callback;a=b HTTP/1.1"), []int{404, ok}, 0},
		"encoded NUL at the end":        {line("POST /jumio/callback%00 HTTP/1.1"), []int{404, ok}, 0},
		"encoded question mark":         {line("POST /jumio/callback%3Fa HTTP/1.1"), []int{404, ok}, 0},
		"fragment":                      {line("POST /jumio/callback#a HTTP/1.1"), []int{404, ok}, 0},
		"empty query":                   {line("POST /jumio/callback? HTTP/1.1"), []int{ok, ok}, 1},
		"query with a path in it":       {line("POST /jumio/callback?/../x HTTP/1.1"), []int{ok, ok}, 1},
		"backslashes":                   {line(`POST \jumio\callback HTTP/1.1`), []int{400}, 0},
		"broken percent-encoding":       {line("POST /jumio/callback%zz HTTP/1.1"), []int{400}, 0},
		"absolute-form of another host": {line("POST https://other.example:444/jumio/callback HTTP/1.1"), []int{ok, ok}, 1},
		"two blanks":                    {line("POST  /jumio/callback HTTP/1.1"), []int{400}, 0},
		"tab for a blank":               {line("POST\t/jumio/callback HTTP/1.1"), []int{400}, 0},
		"method in another case":        {line("post /jumio/callback HTTP/1.1"), []int{405, ok}, 0},
		"CONNECT with the path":         {line("CONNECT /jumio/callback HTTP/1.1"), []int{405, ok}, 0},
		"CONNECT with an authority":     {line("CONNECT jumio:443 HTTP/1.1"), []int{404, ok}, 0},
		"TRACE":                         {"TRACE /jumio/callback HTTP/1.1\r\nHost: smuggled\r\n\r\n", []int{405, ok}, 0},
		"OPTIONS *":                     {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, ok}, 0},
		"GET with a request as body":    {"GET /jumio/callback HTTP/1.1\r\nHost: x\r\n" + length(smuggled) + "\r\n" + smuggled, []int{405, ok}, 0},
		"another path, request as body": {"POST /x HTTP/1.1\r\nHost: x\r\n" + length(smuggled) + "\r\n" + smuggled, []int{404, ok}, 0},
		"HTTP/0.9":                      {"POST /jumio/callback\r\n\r\n", []int{400}, 0},
		"HTTP/1.0 without a Host":       {strings.Replace(strings.Replace(post(length(small), small), "HTTP/1.1", "HTTP/1.0", 1), "Host: x\r\n", "", 1), []int{ok}, 1},
		"HTTP/1.0 with a Host":          {strings.Replace(post(length(small), small), "HTTP/1.1", "HTTP/1.0", 1), []int{ok}, 1},
		"HTTP/3.0":                      {strings.Replace(post(length(small), small), "HTTP/1.1", "HTTP/3.0", 1), []int{505}, 0},
		"no Host":                       {strings.Replace(post(length(small), small), "Host: x\r\n", "", 1), []int{400}, 0},
		"two Hosts":                     {post("Host: y\r\n"+length(small), small), []int{400}, 0},
		"malformed Host":                {strings.Replace(post(length(small), small), "Host: x", "Host: x y", 1), []int{400}, 0},

		// Upgrades are not wanted.
		"HTTP/2 by prior knowledge": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", []int{404}, 0},
		"HTTP/2 by upgrade": {
			post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"+length(small), small), []int{ok, ok}, 1,
		},
		"WebSocket": {post("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n"+length(small), small), []int{ok, ok}, 1},

		// Headers.
		"folded header":                  {post("X-Folded: a\r\n b\r\n"+length(small), small), []int{ok, ok}, 1},
		"folded Content-Length":          {post(strings.Replace(length(small), ": ", ":\r\n ", 1), small), []int{ok, ok}, 1},
		"first header folded":            {"POST /jumio/callback HTTP/1.1\r\n Host: x\r\n" + length(small) + "\r\n" + small, []int{400}, 0},
		"NUL in a value":                 {post("X-Odd: a\x00b\r\n"+length(small), small), []int{400}, 0},
		"NUL in a name":                  {post("X\x00Odd: a\r\n"+length(small), small), []int{400}, 0},
		"carriage return in a value":     {post("X-Odd: a\rTransfer-Encoding: chunked\r\n"+length(small), small), []int{400}, 0},
		"no colon":                       {post("X-Odd\r\n"+length(small), small), []int{400}, 0},
		"no name":                        {post(": a\r\n"+length(small), small), []int{400}, 0},
		"a thousand headers":             {post(strings.Repeat("A: b\r\n", 1000)+length(small), small), []int{ok, ok}, 1},
		"a hundred thousand headers":     {post(strings.Repeat("A: b\r\n", 100_000)+length(small), small), []int{431}, 0},
		"a very long request line":       {line("POST /jumio/callback?" + strings.Repeat("x", 100_000) + " HTTP/1.1"), []int{431}, 0},
		"an expectation of another kind": {post("Expect: everything\r\n"+length(small), small), []int{417}, 0},

		// Pipelining: each request gets its answer, in order.
		"three callbacks at once":       {strings.Repeat(post(length(small), small), 3), []int{ok, ok, ok, ok}, 3},
		"a rejected one between":        {post(length(small), small) + post(length("{}"), "{}") + post(length(small), small), []int{ok, 400, ok, ok}, 2},
		"another path between":          {post(length(small), small) + line("POST /x HTTP/1.1") + post(length(small), small), []int{ok, 404, ok, ok}, 2},
		"behind broken framing":         {post(length(small)+"Content-Length: 5\r\n", small) + post(length(small), small), []int{400}, 0},
		"behind one that wants the end": {post("Connection: close\r\n"+length(small), small) + post(length(small), small), []int{ok}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			if got := r.converse(tc.request + probe); !slices.Equal(got, tc.want) {
				t.Errorf("answers %v, want %v", got, tc.want)
			}
			callbacks, _ := r.store.kept()
			if len(callbacks) != tc.stored {
				t.Errorf("%d stored, want %d", len(callbacks), tc.stored)
			}
			for _, c := range callbacks {
				if string(c.Body) != small {
					t.Errorf("stored the body %q", c.Body)
				}
			}
		})
	}
}
