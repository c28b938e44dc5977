-- How far the requests to Jumio are reserved in time, for all instances together. A row
-- changes a few times a second, always in its own page.
CREATE TABLE callbackd.request_budgets (
    data_center text,
    class text,
    -- The end of the last reserved slot.
    taken_until timestamptz NOT NULL,
    -- When those that yield to others may reserve again, whoever waits.
    yielded_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (data_center, class)
) WITH (fillfactor = 10);
