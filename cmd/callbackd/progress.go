package main

import (
	"github.com/schollz/progressbar/v3"

	"callbackd/internal/store/results"
)

// progress shows how far a long command is, on stderr.
type progress struct {
	p     *process
	doing string
	bar   *progressbar.ProgressBar
}

func newProgress(p *process, doing string) *progress { return &progress{p: p, doing: doing} }

func (b *progress) show(r results.Progress) {
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(r.Total, progressbar.OptionSetWriter(b.p.stderr), progressbar.OptionSetDescription(b.doing),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(progressInterval),
			progressbar.OptionOnCompletion(func() { _, _ = b.p.stderr.Write([]byte("\n")) }))
	}
	b.bar.ChangeMax64(max(r.Total, r.Done)) // more may have been stored meanwhile
	_ = b.bar.Set64(r.Done)                 // what cannot be shown is not worth a failure
}
