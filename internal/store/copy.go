package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A COPY in the binary format begins and ends with these.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // signature, no flags, no extension
	copyTrailer = "\xff\xff"
)

// copyColumn is a column of the row that copyRow writes, with the OID of its
// type; a nil pointer is NULL.
type copyColumn struct {
	name  string
	oid   uint32
	value any
}

// copyRow inserts one row by COPY in the binary format ("Binary Format" in the
// manual's page on COPY), its last column read straight from data. A parameter
// of an INSERT would be copied whole into the driver's buffer: for eight
// workers with images of 10 MB, that doubles the worker's memory.
//
// It does not wait until the row is on the disk. A later commit that does wait
// also covers the row; until then, a crash of the database may take it back.
func copyRow(ctx context.Context, conn *pgx.Conn, table string, columns []copyColumn, dataColumn string, data []byte) error {
	if int64(len(data)) > math.MaxInt32 {
		return fmt.Errorf("a field of %d bytes is more than Postgres takes", len(data))
	}
	names := make([]string, 0, len(columns)+1)
	row := []byte(copyHeader)
	row = binary.BigEndian.AppendUint16(row, uint16(len(columns)+1)) //nolint:gosec // a handful
	for _, c := range columns {
		names = append(names, c.name)
		start := len(row)
		row = append(row, 0xff, 0xff, 0xff, 0xff)
		encoded, err := conn.TypeMap().Encode(c.oid, pgx.BinaryFormatCode, c.value, row)
		if err != nil {
			return fmt.Errorf("encode column %s: %w", c.name, err)
		}
		if encoded != nil {
			row = encoded
			binary.BigEndian.PutUint32(row[start:], uint32(len(row)-start-4)) //nolint:gosec // short
		}
	}
	names = append(names, dataColumn)
	row = binary.BigEndian.AppendUint32(row, uint32(len(data))) //nolint:gosec // bounded above
	sql := "SET LOCAL synchronous_commit = off; COPY " + table + " (" + strings.Join(names, ", ") + ") FROM STDIN (FORMAT binary)"
	_, err := conn.PgConn().CopyFrom(ctx, io.MultiReader(bytes.NewReader(row), bytes.NewReader(data), strings.NewReader(copyTrailer)), sql)
	return err
}
