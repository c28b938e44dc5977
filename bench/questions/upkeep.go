package questions

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// AnalysePartitions does what autovacuum does in time. It leaves out the tables that have
// partitions, as autovacuum does.
const AnalysePartitions = `
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'callbackd'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ANALYZE callbackd.%I', name);
    END LOOP;
END
$$`

// Index is one that is quicker made anew than kept while a table is filled.
type Index struct {
	Drop, Make string
}

// Indexes returns those of callbackd's growing tables, but for primary keys.
func Indexes(ctx context.Context, conn *pgx.Conn) ([]Index, error) {
	rows, _ := conn.Query(ctx, `
		SELECT CASE WHEN k.conname IS NULL THEN format('DROP INDEX callbackd.%I', x.relname)
				ELSE format('ALTER TABLE callbackd.%I DROP CONSTRAINT %I', t.relname, k.conname) END AS drop,
			CASE WHEN k.conname IS NULL THEN pg_get_indexdef(x.oid)
				ELSE format('ALTER TABLE callbackd.%I ADD CONSTRAINT %I %s', t.relname, k.conname, pg_get_constraintdef(k.oid)) END AS make
		FROM pg_index AS i
		JOIN pg_class AS x ON x.oid = i.indexrelid
		JOIN pg_class AS t ON t.oid = i.indrelid
		LEFT JOIN pg_constraint AS k ON k.conindid = x.oid AND k.conrelid = t.oid
		WHERE t.relnamespace = 'callbackd'::regnamespace AND t.relkind = 'r' AND NOT i.indisprimary
			AND (t.relispartition OR t.relname IN ('workflow_executions', 'extracted_documents', 'expectations'))
		ORDER BY t.relname, x.relname`) // its error is that of reading the rows
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Index])
	if err != nil {
		return nil, fmt.Errorf("list the indexes: %w", err)
	}
	return list, nil
}
