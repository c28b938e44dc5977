package results

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
)

// PartitionedTables are the tables that have a partition for each month.
func PartitionedTables() []string {
	names := make([]string, len(partitioned))
	for i, t := range partitioned {
		names[i] = t.name
	}
	return names
}

// partitioned are the tables by month, each by its id: a UUIDv7, or the microseconds of
// an event. Their partitions cover all ids, from MINVALUE to MAXVALUE, so that no row ever
// fails for want of one, whatever its id.
//
// The last partition, "later", is for months to come and nearly empty. The first one, "1",
// was the whole table before there were partitions.
var partitioned = []partitionedTable{
	{name: "callbacks", key: "callback_id", written: true},
	{name: "rejected_callbacks", key: "rejected_id", written: true},
	{name: "events", key: "event_id", bigint: true},
	{name: "images", key: "image_id", few: 20},
	{name: "details", key: "details_id", few: 200},
	{name: "credentials", key: "details_id"},
	{name: "capabilities", key: "details_id"},
}

type partitionedTable struct {
	name, key string
	bigint    bool
	// written reports whether the receivers' role may write rows, with any id.
	written bool
	// few rows may be copied out of a partition, and checked, while the table is locked; 0
	// means fewRows.
	few int
}

const (
	// monthsAhead is how many whole months after the current one have a partition.
	monthsAhead = 4
	// fewRows are few, unless the rows are large.
	fewRows = 5000
	// partitionLockTimeout bounds how long callbacks wait behind a change of partitions
	// that waits for a lock.
	partitionLockTimeout = "1000ms"
)

// month is the first instant of a month, in UTC.
func month(t time.Time) time.Time {
	return time.Date(t.UTC().Year(), t.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
}

// bound returns the smallest id of a time as an SQL literal.
func (t partitionedTable) bound(at time.Time) string {
	if t.bigint {
		return strconv.FormatInt(at.UnixMicro(), 10)
	}
	var id uuid.UUID
	ms := uuidTime(at)
	copy(id[:], ms[:])
	return "'" + id.String() + "'"
}

// uuidTime returns the first six bytes of a UUIDv7 of a time (RFC 9562, section 5.7).
func uuidTime(at time.Time) (ms [6]byte) {
	var whole [8]byte
	binary.BigEndian.PutUint64(whole[:], uint64(at.UnixMilli()))
	copy(ms[:], whole[2:])
	return ms
}

// timeOf returns the time of an id, as pg_get_expr prints it in a partition's bounds.
func (t partitionedTable) timeOf(literal string) (time.Time, error) {
	literal = strings.Trim(literal, "'")
	if t.bigint {
		us, err := strconv.ParseInt(literal, 10, 64)
		return time.UnixMicro(us).UTC(), err
	}
	id, err := uuid.Parse(literal)
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC(), err
}

// partition is the last one of a table.
type partition struct {
	table partitionedTable
	name  string
	// lower is its lower bound as SQL, from its time unless that is zero: MINVALUE.
	lower string
	from  time.Time
}

// EnsurePartitions gives each table a partition for the current month and the next four.
// It waits at most a second for a lock, with callbacks behind it; after an error it can
// be repeated. Several instances may do it at once.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	var errs []error
	for _, t := range partitioned {
		if err := s.ensurePartitions(ctx, t, now); err != nil {
			errs = append(errs, fmt.Errorf("make partitions of %s: %w", t.name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) ensurePartitions(ctx context.Context, t partitionedTable, now time.Time) error {
	last, err := s.lastPartition(ctx, t)
	if err != nil {
		return err
	}
	target := month(now).AddDate(0, monthsAhead+1, 0)
	if !last.from.Before(target) {
		return nil
	}
	many, err := s.hasMany(ctx, last.name, cmp.Or(t.few, fewRows))
	switch {
	case err != nil:
		return err
	case last.from.IsZero() || many:
		err = s.closeLast(ctx, last, now, target)
	default:
		err = s.cutLast(ctx, last, target)
	}
	if err == nil {
		return nil
	}
	if changed, lookErr := s.lastPartition(ctx, t); lookErr == nil && changed != last {
		return nil // by another instance, which was quicker
	}
	return err
}

// lastPartition returns the partition of a table that ends at MAXVALUE.
func (s *Store) lastPartition(ctx context.Context, t partitionedTable) (partition, error) {
	list, err := s.partitions(ctx, t)
	if err != nil {
		return partition{}, err
	}
	if len(list) == 0 || list[len(list)-1].upper != "MAXVALUE" {
		return partition{}, fmt.Errorf("%s has no last partition: %w", t.name, store.ErrNotFound)
	}
	last := list[len(list)-1]
	return partition{table: t, name: last.Name, lower: last.lower, from: last.From}, nil
}

func (s *Store) hasMany(ctx context.Context, partition string, few int) (many bool, err error) {
	err = s.db.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM callbackd.`+pgx.Identifier{partition}.Sanitize()+` OFFSET $1)`, few).Scan(&many)
	return many, store.Translate("count a partition's rows", err)
}

// cutLast makes the partitions of the months until target out of the last one's range.
func (s *Store) cutLast(ctx context.Context, last partition, target time.Time) error {
	t := last.table
	sql := lockTable(last) + fmt.Sprintf("ALTER TABLE callbackd.%s DETACH PARTITION callbackd.%s;", t.name, last.name)
	for from := last.from; from.Before(target); from = from.AddDate(0, 1, 0) {
		sql += t.newPartition(last.name, t.monthly(from), t.bound(from), t.bound(from.AddDate(0, 1, 0)))
	}
	return s.change(ctx, sql+t.moveEarlier(last.name, target)+fmt.Sprintf(
		"ALTER TABLE callbackd.%s ATTACH PARTITION callbackd.%s FOR VALUES FROM (%s) TO (MAXVALUE);", t.name, last.name, t.bound(target)))
}

// moveEarlier moves rows to the partitions of their months: they were there before their
// time, by a wrong clock or because no worker ran. The trigger that adds callbacks to the
// inbox must not run for them.
func (t partitionedTable) moveEarlier(from string, until time.Time) string {
	sql := fmt.Sprintf(`
		INSERT INTO callbackd.%[1]s SELECT * FROM callbackd.%[2]s WHERE %[3]s < %[4]s;
		DELETE FROM callbackd.%[2]s WHERE %[3]s < %[4]s;`, t.name, from, t.key, t.bound(until))
	if t.name == "callbacks" {
		sql = "ALTER TABLE callbackd.callbacks DISABLE TRIGGER queue_callbacks;" + sql + "ALTER TABLE callbackd.callbacks ENABLE TRIGGER queue_callbacks;"
	}
	return sql
}

// closeLast ends the last partition, which has many rows, at the end of the next month,
// and makes the partitions after it. Its rows are checked while others use the table.
func (s *Store) closeLast(ctx context.Context, last partition, now, target time.Time) error {
	t := last.table
	end := month(now).AddDate(0, 2, 0)
	if !last.from.Before(end) { // all that it has is before its time
		end = last.from.AddDate(0, 1, 0)
	}
	if !t.written {
		var err error
		if end, err = s.afterAll(ctx, last, end); err != nil {
			return err
		}
	}
	bound := t.bound(end)
	if err := s.change(ctx, lockTable(last)+t.pullBack(last, end)+fmt.Sprintf(
		`ALTER TABLE callbackd.%s DROP CONSTRAINT IF EXISTS range_check, ADD CONSTRAINT range_check CHECK (%s < %s) NOT VALID;`,
		last.name, t.key, bound)); err != nil {
		return err
	}
	if err := s.change(ctx, fmt.Sprintf("ALTER TABLE callbackd.%s VALIDATE CONSTRAINT range_check;", last.name)); err != nil {
		return err
	}
	sql := lockTable(last) + fmt.Sprintf("ALTER TABLE callbackd.%[1]s DETACH PARTITION callbackd.%[2]s;", t.name, last.name)
	name := last.name
	if !last.from.IsZero() { // "later" is now the partition of some months
		name = t.monthly(last.from)
		sql += fmt.Sprintf("ALTER TABLE callbackd.%s RENAME TO %s;", last.name, name)
	}
	sql += fmt.Sprintf(`
		ALTER TABLE callbackd.%[1]s ATTACH PARTITION callbackd.%[2]s FOR VALUES FROM (%[3]s) TO (%[4]s);
		ALTER TABLE callbackd.%[2]s DROP CONSTRAINT range_check;`, t.name, name, last.lower, bound) + t.leaveIDs()
	from := end
	for ; from.Before(target); from = from.AddDate(0, 1, 0) {
		sql += t.newPartition(name, t.monthly(from), t.bound(from), t.bound(from.AddDate(0, 1, 0)))
	}
	return s.change(ctx, sql+t.newPartition(name, t.name+"_later", t.bound(from), "MAXVALUE"))
}

// afterAll returns the first month from end on that no row of the partition reaches.
func (s *Store) afterAll(ctx context.Context, last partition, end time.Time) (time.Time, error) {
	var greatest *string
	err := s.db.Pool().QueryRow(ctx, fmt.Sprintf(`SELECT (SELECT p.%[1]s::text FROM callbackd.%[2]s AS p ORDER BY p.%[1]s DESC LIMIT 1)`,
		last.table.key, last.name)).Scan(&greatest)
	if err != nil || greatest == nil {
		return end, store.Translate("read the greatest id", err)
	}
	at, err := last.table.timeOf(*greatest)
	for !at.Before(end) {
		end = end.AddDate(0, 1, 0)
	}
	return end, err
}

// pullBack gives the rows that the receivers' role has written with an id from end on,
// which callbackd makes only if its clock is a month ahead, an id in the last millisecond
// before end, and makes a trigger do so for those that are written until leaveIDs. So they
// neither keep the partition from ending, nor fail, nor are lost. The new id is a hash of
// the old one, so that it is the same wherever the old one stands.
func (t partitionedTable) pullBack(last partition, end time.Time) string {
	if !t.written {
		return ""
	}
	before := uuidTime(end.Add(-time.Millisecond))
	pulledBack := func(key string) string {
		return fmt.Sprintf(`('%s' || left(encode(sha256(uuid_send(%s)), 'hex'), 20))::uuid`, hex.EncodeToString(before[:]), key)
	}
	update := func(table string) string {
		return fmt.Sprintf(`UPDATE callbackd.%s SET %[2]s = %[3]s WHERE %[2]s >= %[4]s;`, table, t.key, pulledBack(t.key), t.bound(end))
	}
	sql := t.leaveIDs() + update(last.name)
	if t.name == "callbacks" {
		sql += update("inbox")
	}
	return sql + fmt.Sprintf(`
		CREATE FUNCTION callbackd.pull_back_%[1]s() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $pull$
		BEGIN
			NEW.%[3]s := %[4]s;
			RETURN NEW;
		END $pull$;
		REVOKE ALL ON FUNCTION callbackd.pull_back_%[1]s() FROM PUBLIC;
		CREATE TRIGGER pull_back BEFORE INSERT ON callbackd.%[2]s FOR EACH ROW WHEN (NEW.%[3]s >= %[5]s)
			EXECUTE FUNCTION callbackd.pull_back_%[1]s();`, t.name, last.name, t.key, pulledBack("NEW."+t.key), t.bound(end))
}

// leaveIDs removes the trigger of pullBack.
func (t partitionedTable) leaveIDs() string {
	if !t.written {
		return ""
	}
	return fmt.Sprintf(`DROP FUNCTION IF EXISTS callbackd.pull_back_%s() CASCADE;`, t.name)
}

// monthly returns the name of a month's partition.
func (t partitionedTable) monthly(from time.Time) string { return t.name + from.Format("_200601") }

// newPartition returns SQL that makes a partition with all that another one has.
func (t partitionedTable) newPartition(like, name, from, to string) string {
	return fmt.Sprintf(`
		CREATE TABLE callbackd.%[3]s (LIKE callbackd.%[2]s INCLUDING ALL EXCLUDING COMMENTS);
		ALTER TABLE callbackd.%[3]s DROP CONSTRAINT IF EXISTS range_check;
		ALTER TABLE callbackd.%[1]s ATTACH PARTITION callbackd.%[3]s FOR VALUES FROM (%[4]s) TO (%[5]s);`, t.name, like, name, from, to)
}

// lockTable locks the table, and makes sure that no other instance has changed its
// partitions meanwhile. What follows is done as the table's owner, who is to own the
// partitions, too: a worker may connect as a member of that role.
func lockTable(last partition) string {
	return asOwner(last.table.name) + fmt.Sprintf(`LOCK TABLE callbackd.%s IN ACCESS EXCLUSIVE MODE;`, last.table.name) +
		mustHaveBounds(last.name, last.lower, "MAXVALUE")
}

// asOwner makes the rest of the transaction run as a table's owner.
func asOwner(table string) string {
	return fmt.Sprintf(`
		DO $$ BEGIN
			EXECUTE format('SET LOCAL ROLE %%s', (SELECT relowner::regrole FROM pg_class WHERE oid = 'callbackd.%s'::regclass));
		END $$;`, table)
}

// mustHaveBounds fails unless a partition is as it was when it was looked up.
func mustHaveBounds(partition, lower, upper string) string {
	return fmt.Sprintf(`
		DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = to_regclass('callbackd.%s')
				AND pg_get_expr(c.relpartbound, c.oid) = $bound$FOR VALUES FROM (%s) TO (%s)$bound$) THEN
				RAISE serialization_failure USING MESSAGE = 'another instance changes the partitions';
			END IF;
		END $$;`, partition, lower, upper)
}

// change runs statements in one transaction.
func (s *Store) change(ctx context.Context, sql string) error {
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return store.Translate("change the partitions", err)
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(ctx, "BEGIN; SET LOCAL lock_timeout = '"+partitionLockTimeout+"';"+sql+"COMMIT").ReadAll()
	if err != nil {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return store.Translate("change the partitions", err)
}

// PartitionsAhead returns, for each table, how many whole months after the current one
// have a partition of their own; 0 if there are none.
func (s *Store) PartitionsAhead(ctx context.Context, now time.Time) (map[string]int, error) {
	ahead := make(map[string]int, len(partitioned))
	for _, t := range partitioned {
		last, err := s.lastPartition(ctx, t)
		if err != nil {
			return nil, err
		}
		for at := month(now).AddDate(0, 1, 0); at.Before(last.from); at = at.AddDate(0, 1, 0) {
			ahead[t.name]++
		}
		ahead[t.name] += 0
	}
	return ahead, nil
}
