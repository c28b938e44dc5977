package handler

import (
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewServer returns a server with the limits that both listeners keep: headers
// within 5 s and of at most 16 KiB, idle connections closed after 75 s. The body
// has 15 s of its own, and the answer 10 s, which Handler sees to; the server's
// whole-request limits stand behind that. HTTP/1 only: TLS ends before it.
func NewServer(h http.Handler, log *zap.Logger) *http.Server {
	const headerTimeout = 5 * time.Second
	errorLog, err := zap.NewStdLogAt(log, zapcore.DebugLevel)
	if err != nil {
		panic(err) // only for an unknown level
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout + bodyTimeout,
		WriteTimeout:      time.Minute,
		IdleTimeout:       75 * time.Second,
		// net/http allows 4 KiB more than it is told.
		MaxHeaderBytes: 12 << 10,
		// "OPTIONS *" is answered like anything else.
		DisableGeneralOptionsHandler: true,
		// What clients do wrong is of interest only when somebody looks for it.
		ErrorLog: errorLog,
	}
}
