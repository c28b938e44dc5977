package handler

import (
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewServer returns a server with the limits of both listeners: headers within 5 s
// and at most 16 KiB, idle connections closed after 75 s. Handler gives the body 15 s
// and the answer 10 s; the server's own limits for a whole request back that up.
// HTTP/1 only: TLS ends in front of it.
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
		// "OPTIONS *" is answered like any other request.
		DisableGeneralOptionsHandler: true,
		// Clients' mistakes matter only to somebody who looks for them.
		ErrorLog: errorLog,
	}
}
