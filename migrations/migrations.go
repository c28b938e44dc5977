// Package migrations embeds the schema's migrations, paired SQL files in the
// format of golang-migrate. It holds no logic; internal/store applies them.
package migrations

import "embed"

// FS holds every NNNNNN_name.up.sql and its .down.sql.
//
//go:embed *.sql
var FS embed.FS
