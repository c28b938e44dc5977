-- Questions to the database, with statements that stay fast however much it holds.
-- Each is for the role jumio_reader.
--
-- kind key: finds what belongs to one thing. kind page: at most 100 rows in an order. The
-- parameters are $1, $2 and so on. To get the next page, pass what the last row of this
-- page has; for the first page of an ascending order '-infinity', an empty text or 0, of
-- a descending one 'infinity', a text or an id above all others.

-- name: verifications_of_user_reference
-- question: Which verifications has a person, and how did they end?
-- kind: key
-- parameters: user_reference
SELECT * FROM jumio.verifications WHERE user_reference = $1;

-- name: verifications_of_unsigned_reference
-- question: The same, by the reference without our signature.
-- kind: key
-- parameters: user_reference_unsigned
SELECT * FROM jumio.verifications WHERE user_reference_unsigned = $1;

-- name: verifications_of_customer_reference
-- question: The same, by the customer internal reference.
-- kind: key
-- parameters: customer_internal_reference
SELECT * FROM jumio.verifications WHERE customer_internal_reference = $1;

-- name: verifications_of_account
-- question: The same, by Jumio's account.
-- kind: key
-- parameters: account_id
SELECT * FROM jumio.verifications WHERE account_id = $1;

-- name: verification
-- question: How did one workflow execution end?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.verifications WHERE workflow_execution_id = $1;

-- name: why_not_passed
-- question: Why was it not passed, and does trying again help?
-- kind: key
-- parameters: workflow_execution_id
SELECT v.decision_type, v.reason_capability, v.reason_type, v.reason_label, l.meaning, l.retry_helps
FROM jumio.verifications AS v
LEFT JOIN jumio.labels AS l ON l.capability = v.reason_capability AND l.label = v.reason_label
WHERE v.workflow_execution_id = $1;

-- name: capabilities
-- question: What did each check say?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.capabilities WHERE workflow_execution_id = $1 ORDER BY capability, position;

-- name: extracted_documents
-- question: What was read from the documents?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.extracted_documents WHERE workflow_execution_id = $1 ORDER BY position;

-- name: credentials_with_images
-- question: What did the person give, and which images are there of it?
-- kind: key
-- parameters: workflow_execution_id
SELECT c.position, c.credential_id, c.category, c.classifiers, i.image_id, i.classifier, i.content_type, i.size_bytes
FROM jumio.credentials AS c
LEFT JOIN jumio.images AS i ON i.workflow_execution_id = c.workflow_execution_id AND i.credential_id = c.credential_id
WHERE c.workflow_execution_id = $1
ORDER BY c.position, i.classifier;

-- name: images_of_documents
-- question: From which images was each document read?
-- kind: key
-- parameters: workflow_execution_id
SELECT x.position, x.type, x.issuing_country, i.image_id, i.credential_id, i.classifier, i.content_type, i.size_bytes
FROM jumio.extracted_documents AS x
CROSS JOIN unnest(x.credential_ids) AS c (id)
JOIN jumio.images AS i ON i.workflow_execution_id = x.workflow_execution_id AND i.credential_id = c.id
WHERE x.workflow_execution_id = $1
ORDER BY x.position, i.classifier;

-- name: images_of_account
-- question: Which images are there of a person?
-- kind: key
-- parameters: account_id
SELECT image_id, workflow_execution_id, credential_id, category, classifier, content_type, size_bytes, sha256, width, height, retrieved_at
FROM jumio.images
WHERE account_id = $1
ORDER BY image_id;

-- name: extracted_documents_of_number
-- question: In which workflow executions was a document seen?
-- kind: key
-- parameters: document_number, issuing_country
SELECT workflow_execution_id, position, type, first_name, last_name, date_of_birth, expiry_date
FROM jumio.extracted_documents
WHERE document_number = $1 AND issuing_country = $2;

-- name: verifications_of_document
-- question: Who holds a document, and how did their verifications end?
-- kind: key
-- parameters: document_number, issuing_country
SELECT * FROM jumio.verifications WHERE document_number = $1 AND issuing_country = $2;

-- name: verifications_by_decision
-- question: What was decided lately, for example REJECTED?
-- kind: page
-- parameters: decision_type, details_retrieved_at, workflow_execution_id
SELECT * FROM jumio.verifications
WHERE decision_type = $1 AND (details_retrieved_at, workflow_execution_id) < ($2, $3)
ORDER BY details_retrieved_at DESC, workflow_execution_id DESC
LIMIT 100;

-- name: verifications_by_stage
-- question: What has been in a stage for longest, for example in_review?
-- kind: page
-- parameters: stage, last_callback_at, workflow_execution_id
SELECT * FROM jumio.verifications
WHERE stage = $1 AND (last_callback_at, workflow_execution_id) > ($2, $3)
ORDER BY last_callback_at, workflow_execution_id
LIMIT 100;

-- name: verifications_newest_first
-- question: What came lately?
-- kind: page
-- parameters: first_callback_at, workflow_execution_id
SELECT * FROM jumio.verifications
WHERE first_callback_at IS NOT NULL AND (first_callback_at, workflow_execution_id) < ($1, $2)
ORDER BY first_callback_at DESC, workflow_execution_id DESC
LIMIT 100;

-- name: started_newest_first
-- question: What was started lately, and which stage is it in?
-- kind: page
-- parameters: expected_at, workflow_execution_id
SELECT e.*, v.stage
FROM jumio.expectations AS e
JOIN jumio.verifications AS v ON v.workflow_execution_id = e.workflow_execution_id
WHERE (e.expected_at, e.workflow_execution_id) < ($1, $2)
ORDER BY e.expected_at DESC, e.workflow_execution_id DESC
LIMIT 100;

-- name: started_for_account
-- question: What was started for an account, and what has become of it?
-- kind: key
-- parameters: account_id
SELECT e.*, v.stage
FROM jumio.verifications AS v
JOIN jumio.expectations AS e ON e.workflow_execution_id = v.workflow_execution_id
WHERE v.account_id = $1
ORDER BY e.expected_at DESC;

-- name: past_deadline
-- question: What has had no final callback by its deadline, so that Jumio is asked?
-- kind: page
-- parameters: expected_at, workflow_execution_id
SELECT * FROM jumio.expectations
WHERE state = 'expected' AND deadline_at < now() AND (expected_at, workflow_execution_id) > ($1, $2)
ORDER BY expected_at, workflow_execution_id
LIMIT 100;

-- name: overdue_newest_first
-- question: What is overdue, because Jumio never said how it ended?
-- kind: page
-- parameters: expected_at, workflow_execution_id
SELECT * FROM jumio.expectations
WHERE state = 'overdue' AND (expected_at, workflow_execution_id) < ($1, $2)
ORDER BY expected_at DESC, workflow_execution_id DESC
LIMIT 100;

-- name: answered_in_an_hour
-- question: What share of what ended in the hour from a time on did callbacks tell, and not Jumio when asked?
-- kind: key
-- parameters: answered_at
SELECT count(*) AS ended, count(*) FILTER (WHERE state = 'answered') AS answered, avg((state = 'answered')::int) AS share
FROM jumio.expectations
WHERE answered_at >= $1 AND answered_at < $1 + interval '1 hour';

-- name: events_after
-- question: What has happened since an event?
-- kind: page
-- parameters: event_id
SELECT * FROM jumio.events WHERE event_id > $1 ORDER BY event_id LIMIT 100;

-- name: events_of_workflow_execution
-- question: What has happened to one workflow execution?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.events WHERE workflow_execution_id = $1 ORDER BY event_id;

-- name: callbacks_of_workflow_execution
-- question: Which callbacks came for it?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.callbacks WHERE workflow_execution_id = $1 ORDER BY callback_id;

-- name: callbacks_newest_first
-- question: Which callbacks came lately?
-- kind: page
-- parameters: callback_id
SELECT callback_id, received_at, workflow_execution_id, workflow_status, account_id, user_reference
FROM jumio.callbacks
WHERE callback_id < $1
ORDER BY callback_id DESC
LIMIT 100;

-- name: callbacks_of_an_hour
-- question: Which callbacks came in the hour from a time on?
-- kind: page
-- parameters: received_at
SELECT callback_id, received_at, workflow_execution_id, workflow_status, account_id, user_reference
FROM jumio.callbacks
WHERE callback_id >= jumio.id_at($1) AND callback_id < jumio.id_at($1 + interval '1 hour')
ORDER BY callback_id
LIMIT 100;

-- name: rejected_callbacks_of_workflow_execution
-- question: Was a callback of a workflow execution rejected?
-- kind: key
-- parameters: workflow_execution_id
SELECT * FROM jumio.rejected_callbacks WHERE workflow_execution_id = $1;

-- name: rejected_callbacks_of_user_reference
-- question: Was a callback of a person rejected?
-- kind: key
-- parameters: user_reference
SELECT * FROM jumio.rejected_callbacks WHERE user_reference = $1;
