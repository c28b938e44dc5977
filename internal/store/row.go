package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/callback"
)

// Row maps a struct to columns. The tag `db:"column"` of a field names its column, so
// the name is written once. A zero text, time, address or byte slice is NULL, in both
// directions; a zero integer, boolean or UUID is not. An option after the name changes
// that: "notnull" or "zeronull". A "readonly" column is read but not written; a "date" is
// the UTC date of a time, a "numeric" is a text in Go (only for Set). A nil list of texts
// is NULL.
//
// Characters that a Postgres text cannot hold are written as U+FFFD. COPY requires an
// integer field to have its column's size: int32 or int64.
type Row[T any] struct {
	read, written []column
}

type column struct {
	name     string
	index    []int
	kind     kind
	zeroNull bool
}

// kind is a column's type; parameters use bigint for every integer.
type kind string

const (
	text      kind = "text"
	timestamp kind = "timestamptz"
	address   kind = "inet"
	bytea     kind = "bytea"
	id        kind = "uuid"
	integer   kind = "bigint"
	boolean   kind = "boolean"
	optional  kind = "bool" // a pointer to a boolean, nil for NULL; only for Arrays
	date      kind = "date"
	texts     kind = "text[]"
	numeric   kind = "numeric" // a text in Go
)

// RowOf reads the tags of T and of the structs that it embeds. It panics if a tagged
// field's type has no kind.
func RowOf[T any]() *Row[T] {
	r := new(Row[T])
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		tag, tagged := f.Tag.Lookup("db")
		if !tagged {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		c := column{name: name, index: f.Index, kind: kindOf(f.Type)}
		switch option {
		case "date":
			c.kind = date
		case "numeric":
			c.kind = numeric
		}
		switch c.kind {
		case id, integer, boolean, optional, texts:
			c.zeroNull = option == "zeronull"
		default:
			c.zeroNull = option != "notnull"
		}
		r.read = append(r.read, c)
		if option != "readonly" {
			r.written = append(r.written, c)
		}
	}
	return r
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[time.Time]():
		return timestamp
	case reflect.TypeFor[netip.Addr]():
		return address
	case reflect.TypeFor[uuid.UUID]():
		return id
	case reflect.TypeFor[[]byte]():
		return bytea
	case reflect.TypeFor[[]string]():
		return texts
	}
	switch t.Kind() {
	case reflect.String:
		return text
	case reflect.Int, reflect.Int32, reflect.Int64:
		return integer
	case reflect.Bool:
		return boolean
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Bool {
			return optional
		}
	}
	panic(fmt.Sprintf("no kind of column for a %v", t))
}

// Columns lists the columns to read, each after a prefix such as "w.".
func (r *Row[T]) Columns(prefix string) string {
	return list(r.read, func(_ int, c column) string { return prefix + c.name })
}

// Written lists the columns to write.
func (r *Row[T]) Written() string {
	return list(r.written, func(_ int, c column) string { return c.name })
}

// Insert returns an INSERT of one row, with the parameters that Values returns.
func (r *Row[T]) Insert(table string) string {
	parameters := list(r.written, func(i int, _ column) string { return fmt.Sprint("$", i+1) })
	return "INSERT INTO " + table + " (" + r.Written() + ") VALUES (" + parameters + ")"
}

// Set returns assignments for an UPDATE, with the parameters that Values returns, after as
// many other parameters as before.
func (r *Row[T]) Set(before int) string {
	return list(r.written, func(i int, c column) string {
		parameter := fmt.Sprintf("$%d::%s", before+i+1, c.kind)
		if c.kind == numeric {
			parameter = fmt.Sprintf("$%d::text::numeric", before+i+1)
		}
		return c.name + " = " + parameter
	})
}

// Copy returns a COPY of rows that AppendCopy encodes, each followed by the values of
// the columns in more.
func (r *Row[T]) Copy(table string, more ...string) string {
	columns := strings.Join(append([]string{r.Written()}, more...), ", ")
	return "COPY " + table + " (" + columns + ") FROM STDIN (FORMAT binary)"
}

// Unnest returns a table for FROM, whose rows and columns (Written) are in the
// parameters that Arrays returns, after as many other parameters as before. A list of
// texts is in it as a text; Selected casts it.
func (r *Row[T]) Unnest(alias string, before int) string {
	arrays := list(r.written, func(i int, c column) string {
		kind := c.kind
		if kind == texts {
			kind = text // unnest would flatten a list of lists
		}
		return fmt.Sprintf("$%d::%s[]", before+i+1, kind)
	})
	return "unnest(" + arrays + ") AS " + alias + " (" + r.Written() + ")"
}

// Selected lists the columns to write as they are selected from Unnest.
func (r *Row[T]) Selected(alias string) string {
	return list(r.written, func(_ int, c column) string {
		if c.kind == texts {
			return alias + "." + c.name + "::text[]"
		}
		return alias + "." + c.name
	})
}

func list(columns []column, f func(int, column) string) string {
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = f(i, c)
	}
	return strings.Join(texts, ", ")
}

// Scan reads a row of Columns, for pgx.CollectRows.
func (r *Row[T]) Scan(row pgx.CollectableRow) (T, error) {
	var t T
	return t, row.Scan(r.Into(&t)...)
}

// Into returns where Scan is to store each of Columns.
func (r *Row[T]) Into(t *T) []any {
	v := reflect.ValueOf(t).Elem()
	into := make([]any, len(r.read))
	for i, c := range r.read {
		p := v.FieldByIndex(c.index).Addr()
		switch c.kind {
		case text:
			p = p.Convert(reflect.TypeFor[*zeronull.Text]())
		case timestamp:
			p = p.Convert(reflect.TypeFor[*zeronull.Timestamptz]())
		case id:
			p = p.Convert(reflect.TypeFor[*zeronull.UUID]())
		}
		into[i] = p.Interface()
	}
	return into
}

// Values returns the parameters of Insert, nil for NULL.
func (r *Row[T]) Values(t *T) []any {
	v := reflect.ValueOf(t).Elem()
	values := make([]any, len(r.written))
	for i, c := range r.written {
		values[i] = c.value(v.FieldByIndex(c.index))
	}
	return values
}

// Arrays returns the parameters of Unnest, one array for each column.
func (r *Row[T]) Arrays(rows []*T) []any {
	arrays := make([]any, len(r.written))
	for i, c := range r.written {
		values := make([]any, len(rows))
		for j, t := range rows {
			values[j] = c.value(reflect.ValueOf(t).Elem().FieldByIndex(c.index))
			if c.kind == texts && values[j] != nil {
				values[j] = arrayLiteral(values[j].([]string))
			}
		}
		arrays[i] = values
	}
	return arrays
}

func (c column) value(v reflect.Value) any {
	switch {
	case c.zeroNull && v.IsZero():
		return nil
	case c.kind == text, c.kind == numeric:
		return callback.CleanText(v.String())
	case c.kind == address:
		return v.Interface().(netip.Addr).WithZone("") // inet has no zones
	case c.kind == bytea && v.IsNil():
		return []byte{}
	case c.kind == integer:
		return v.Int()
	case c.kind == texts && v.IsNil():
		return nil
	case c.kind == texts:
		clean := make([]string, v.Len())
		for i := range clean {
			clean[i] = callback.CleanText(v.Index(i).String())
		}
		return clean
	}
	return v.Interface()
}

// arrayLiteral returns an array of texts in Postgres' own syntax (manual, "Array Input
// and Output Syntax").
func arrayLiteral(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// CopyHeader and CopyTrailer enclose the rows of a COPY (PostgreSQL manual, COPY,
// "Binary Format").
const (
	CopyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // signature, no flags, no extension
	CopyTrailer = "\xff\xff"
)

// AppendCopy appends t in COPY's binary format. The caller then appends the values of
// as many more columns.
func (r *Row[T]) AppendCopy(row []byte, t *T, more int) []byte {
	v := reflect.ValueOf(t).Elem()
	row = binary.BigEndian.AppendUint16(row, uint16(len(r.written)+more)) //nolint:gosec // a handful
	for _, c := range r.written {
		row = c.appendCopy(row, v.FieldByIndex(c.index))
	}
	return row
}

func (c column) appendCopy(row []byte, v reflect.Value) []byte {
	if c.zeroNull && v.IsZero() {
		return append(row, 0xff, 0xff, 0xff, 0xff) // NULL
	}
	switch c.kind {
	case text:
		return appendField(row, callback.CleanText(v.String()))
	case timestamp:
		return appendInt64(row, v.Addr().Interface().(*time.Time).UnixMicro()-postgresEpoch)
	case address:
		return appendAddr(row, *v.Addr().Interface().(*netip.Addr))
	case bytea:
		return appendField(row, v.Bytes())
	case id:
		return appendField(row, v.Addr().Interface().(*uuid.UUID)[:])
	case boolean:
		if v.Bool() {
			return append(row, 0, 0, 0, 1, 1)
		}
		return append(row, 0, 0, 0, 1, 0)
	}
	if v.Kind() == reflect.Int32 {
		return binary.BigEndian.AppendUint32(append(row, 0, 0, 0, 4), uint32(v.Int())) //nolint:gosec // two's complement is the format
	}
	return appendInt64(row, v.Int())
}

func appendField[T string | []byte](row []byte, value T) []byte {
	row = binary.BigEndian.AppendUint32(row, uint32(len(value))) //nolint:gosec // bounded by the limit of a body
	return append(row, value...)
}

func appendInt64(row []byte, value int64) []byte {
	return binary.BigEndian.AppendUint64(append(row, 0, 0, 0, 8), uint64(value)) //nolint:gosec // two's complement is the format
}

// postgresEpoch is 2000-01-01, the zero of a timestamptz's microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// appendAddr appends an inet: family, prefix length, "is a cidr", length, bytes.
func appendAddr(row []byte, a netip.Addr) []byte {
	family := byte(2) // AF_INET; the next is IPv6, on every platform
	if a.Is6() {
		family++
	}
	bits := byte(a.BitLen()) //nolint:gosec // 32 or 128
	row = append(row, 0, 0, 0, 4+bits/8, family, bits, 0, bits/8)
	row, _ = a.WithZone("").AppendBinary(row) // inet has no zones; never fails
	return row
}
