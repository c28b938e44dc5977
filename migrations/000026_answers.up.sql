-- The views over the typed tables, and what consumers need.

CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id, w.account_id, w.definition_key, w.status, w.user_reference, w.customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       w.created_at, w.started_at, w.completed_at,
       coalesce((SELECT o.details FROM callbackd.workflow_details AS o WHERE o.workflow_execution_id = w.workflow_execution_id),
                (SELECT d.details FROM callbackd.details AS d WHERE d.details_id = w.details_id)) AS details,
       w.user_reference_unsigned, w.jumio_decision_type AS decision_type, w.jumio_decision_label AS decision_label,
       w.risk_score, w.details_retrieved_at
FROM callbackd.workflow_executions AS w;

CREATE OR REPLACE VIEW jumio.capabilities AS
SELECT w.workflow_execution_id, c.capability, c.position, c.decision_type, c.decision_label, c.credential_ids,
       (SELECT callbackd.as_array(d.details #> ARRAY['capabilities', c.capability]) -> (c.position - 1)
        FROM callbackd.details AS d WHERE d.details_id = c.details_id) AS data,
       c.capability_id, c.credential_categories, c.similarity, c.liveness_type, c.valid_face_map_for_authentication
FROM callbackd.workflow_executions AS w JOIN callbackd.capabilities AS c ON c.details_id = w.details_id
UNION ALL
SELECT d.workflow_execution_id, c.key, e.position::int,
       callbackd.scalar_text(e.value #> '{decision,type}'), callbackd.scalar_text(e.value #> '{decision,details,label}'),
       ARRAY(SELECT callbackd.scalar_text(r.value -> 'id')
             FROM jsonb_array_elements(callbackd.as_array(e.value -> 'credentials')) WITH ORDINALITY AS r (value, n)
             WHERE callbackd.scalar_text(r.value -> 'id') IS NOT NULL
             ORDER BY r.n),
       e.value,
       NULL, NULL, NULL, NULL, NULL
FROM callbackd.workflow_details AS d,
     jsonb_each(callbackd.as_object(d.details -> 'capabilities')) AS c,
     jsonb_array_elements(callbackd.as_array(c.value)) WITH ORDINALITY AS e (value, position);

CREATE OR REPLACE VIEW jumio.extracted_documents AS
SELECT x.workflow_execution_id, x.position,
       x.type, x.sub_type, x.issuing_country, x.first_name, x.last_name, x.date_of_birth, x.expiry_date,
       x.issuing_date, x.document_number, x.gender, x.nationality,
       (SELECT nullif(callbackd.as_array(d.details #> '{capabilities,extraction}') -> (x.position - 1) #> '{data,address}', 'null'::jsonb)
        FROM callbackd.details AS d WHERE d.details_id = x.details_id) AS address,
       (SELECT callbackd.as_array(d.details #> '{capabilities,extraction}') -> (x.position - 1) -> 'data'
        FROM callbackd.details AS d WHERE d.details_id = x.details_id) AS data,
       x.credential_ids,
       x.state, x.personal_number, x.optional_mrz_field1, x.optional_mrz_field2, x.issuing_authority,
       x.issuing_place, x.curp, x.place_of_birth, x.tax_number, x.cpf, x.registration_number, x.mothers_name,
       x.fathers_name, x.personal_identification_number, x.rg_number, x.dl_categories, x.voter_id_number,
       x.issuing_number, x.passport_number, x.duration_of_stay, x.number_of_entries, x.visa_category, x.dni,
       x.pesel, x.address_line1, x.address_line2, x.address_line3, x.address_line4, x.address_line5,
       x.address_country, x.address_postal_code, x.address_subdivision, x.address_city, x.address_formatted
FROM callbackd.extracted_documents AS x
UNION ALL
SELECT d.workflow_execution_id, e.position::int,
       callbackd.scalar_text(x.data -> 'type'), callbackd.scalar_text(x.data -> 'subType'), callbackd.scalar_text(x.data -> 'issuingCountry'),
       callbackd.scalar_text(x.data -> 'firstName'), callbackd.scalar_text(x.data -> 'lastName'),
       callbackd.to_date_or_null(x.data -> 'dateOfBirth'), callbackd.to_date_or_null(x.data -> 'expiryDate'),
       callbackd.to_date_or_null(x.data -> 'issuingDate'),
       callbackd.scalar_text(x.data -> 'documentNumber'), callbackd.scalar_text(x.data -> 'gender'), callbackd.scalar_text(x.data -> 'nationality'),
       nullif(x.data -> 'address', 'null'::jsonb), x.data,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL
FROM callbackd.workflow_details AS d,
     jsonb_array_elements(callbackd.as_array(d.details #> '{capabilities,extraction}')) WITH ORDINALITY AS e (value, position),
     LATERAL (SELECT e.value -> 'data' AS data) AS x
WHERE jsonb_typeof(x.data) = 'object';

CREATE VIEW jumio.credentials AS
SELECT w.workflow_execution_id, c.position, c.credential_id, c.category, c.classifiers
FROM callbackd.workflow_executions AS w JOIN callbackd.credentials AS c ON c.details_id = w.details_id;

-- For jumio.verifications, of workflow executions whose count is not stored: a function,
-- so that the planner does not take its cost for that of each row.
CREATE FUNCTION callbackd.count_images(workflow_execution_id text) RETURNS int
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE COST 1 SET search_path = pg_catalog
    RETURN (SELECT count(*) FROM callbackd.images AS i WHERE i.workflow_execution_id = count_images.workflow_execution_id AND i.published);

CREATE VIEW jumio.verifications AS
SELECT w.workflow_execution_id, w.account_id, w.user_reference, w.user_reference_unsigned, w.customer_internal_reference, w.definition_key,
       callbackd.stage(w.erased_at, w.details_id, w.retrieval_state, w.overdue_at, w.status) AS stage,
       w.status, w.retrieval_state,
       w.decision_type, w.decision_source, w.jumio_decision_label AS decision_label, w.risk_score,
       w.reason_capability, w.reason_type, w.reason_label,
       x.type AS document_type, x.sub_type AS document_sub_type, x.issuing_country, x.first_name, x.last_name,
       x.date_of_birth, x.document_number, x.expiry_date,
       coalesce(w.image_count, callbackd.count_images(w.workflow_execution_id)) AS image_count,
       w.expected_at, w.first_callback_at, w.last_callback_at, w.details_retrieved_at, w.retrieved_at,
       w.created_at, w.started_at, w.completed_at
FROM callbackd.workflow_executions AS w
LEFT JOIN callbackd.extracted_documents AS x
    ON x.details_id = w.details_id AND x.workflow_execution_id = w.workflow_execution_id AND x.is_first;

-- The place of each consumer in the events.
CREATE TABLE callbackd.consumers (
    consumer text PRIMARY KEY CHECK (consumer COLLATE "C" ~ '^[A-Za-z0-9_.-]+$' AND octet_length(consumer) <= 64),
    last_event_id bigint NOT NULL,
    handled_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE VIEW jumio.consumers AS
SELECT c.consumer, c.last_event_id, c.handled_at,
       (SELECT count(*) FROM callbackd.events AS e WHERE e.event_id > c.last_event_id) AS lag_events,
       (SELECT e.occurred_at FROM callbackd.events AS e WHERE e.event_id > c.last_event_id
        ORDER BY e.event_id LIMIT 1) AS oldest_unhandled_at
FROM callbackd.consumers AS c;

CREATE FUNCTION jumio.handled(consumer text, event_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF consumer IS NULL OR consumer COLLATE "C" !~ '^[A-Za-z0-9_.-]+$' OR octet_length(consumer) > 64 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a consumer''s name is 1 to 64 characters of A-Z a-z 0-9 _ . -';
    END IF;
    IF event_id IS NULL OR event_id < 0 OR event_id > (SELECT s.last_value FROM callbackd.event_ids AS s) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'there is no such event yet: pass the event_id of an event, or 0';
    END IF;
    IF (SELECT count(*) >= 100 FROM callbackd.consumers)
        AND NOT EXISTS (SELECT FROM callbackd.consumers AS c WHERE c.consumer = handled.consumer) THEN
        RAISE configuration_limit_exceeded USING MESSAGE = 'there are 100 consumers already: delete those that are gone from callbackd.consumers';
    END IF;
    INSERT INTO callbackd.consumers AS c (consumer, last_event_id, handled_at)
    VALUES (handled.consumer, handled.event_id, clock_timestamp())
    ON CONFLICT ON CONSTRAINT consumers_pkey DO UPDATE SET
        last_event_id = greatest(c.last_event_id, excluded.last_event_id),
        handled_at = CASE WHEN excluded.last_event_id > c.last_event_id THEN excluded.handled_at ELSE c.handled_at END;
END
$$;
COMMENT ON FUNCTION jumio.handled(text, bigint) IS 'Moves a consumer on to an event, never back, and creates it if it is new. Locks the consumer until the transaction ends. 0 only creates and locks.';

-- For readers: the smallest callback_id, rejected_id or image_id of a time.
CREATE FUNCTION jumio.id_at(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN at IS NOT NULL THEN
        (lpad(to_hex(least(greatest(floor(extract(epoch FROM at) * 1000), 0), 281474976710655)::bigint), 12, '0') || repeat('0', 20))::uuid END;
COMMENT ON FUNCTION jumio.id_at(timestamptz) IS 'The smallest callback_id, rejected_id or image_id of a time: these ids are UUIDv7, in the order of time.';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_consumer') THEN
        CREATE ROLE jumio_consumer NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
REVOKE ALL ON FUNCTION jumio.handled(text, bigint) FROM PUBLIC;
GRANT USAGE ON SCHEMA jumio TO jumio_consumer;
GRANT EXECUTE ON FUNCTION jumio.handled(text, bigint) TO jumio_consumer;

-- Every decision label of the guide, for each capability that can have it, in words that a
-- support agent can pass on. The guide names labels without explaining them; the meanings
-- follow Jumio's later documentation where it explains them. No foreign key leads here:
-- Jumio may send any label.
CREATE TABLE callbackd.labels (
    capability text,
    label text,
    meaning text NOT NULL,
    retry_helps boolean NOT NULL,
    PRIMARY KEY (capability, label)
);

INSERT INTO callbackd.labels (capability, label, meaning, retry_helps) VALUES
    ('usability', 'OK', 'The images are good enough for the other checks; there is nothing to do.', false),
    ('usability', 'BLACK_WHITE', 'The image is black and white; the person can try again with a colour photo of the original document.', true),
    ('usability', 'MISSING_PAGE', 'Not all sides or pages of the document were uploaded; the person can try again with all of them, usually front and back.', true),
    ('usability', 'MISSING_SIGNATURE', 'No signature was found on the document; the person can sign it, if it has a place for that, and try again with the signature in view.', true),
    ('usability', 'NOT_A_DOCUMENT', 'The image does not show an identity document; the person can try again with a photo of one.', true),
    ('usability', 'BAD_QUALITY', 'The image is too poor to be checked; the person can try again with better light, a steady camera and no glare.', true),
    ('usability', 'PHOTOCOPY', 'The image shows a photocopy; the person can try again with the original document.', true),
    ('usability', 'UNSUPPORTED_COUNTRY', 'The document comes from a country that is not supported; the person can try again with a document from a supported one.', true),
    ('usability', 'UNSUPPORTED_DOCUMENT_TYPE', 'This type of document is not supported; the person can try again with another one, such as a passport.', true),
    ('usability', 'NOT_UPLOADED', 'An image was not uploaded; the person can try again and finish every upload.', true),
    ('usability', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true),
    ('usability', 'LIVENESS_UNDETERMINED', 'The images do not show whether a living person was in front of the camera; the person can try again with better light.', true),

    ('imageChecks', 'OK', 'Nothing was found against the images of the document; there is nothing to do.', false),
    ('imageChecks', 'DIFFERENT_PERSON', 'The face in the images does not seem to be that of the person on the document; trying again does not help, so have the images reviewed.', false),
    ('imageChecks', 'DIGITAL_COPY', 'The image shows the document on a screen; the person can try again with the original document.', true),
    ('imageChecks', 'WATERMARK', 'There is a watermark on the image of the document; the person can try again with a photo of the original document, taken without one.', true),
    ('imageChecks', 'MANIPULATED_DOCUMENT', 'The photo or the text of the document seems to have been altered; trying again does not help, so have the images reviewed.', false),
    ('imageChecks', 'OTHER_REJECTION', 'The document was rejected for a reason that has no label of its own; nobody can say what the person should do differently, so have the images reviewed.', false),
    ('imageChecks', 'GHOST_IMAGE_DIFFERENT', 'The small second portrait on the document, the ghost image, differs from the main photo; trying again does not help, so have the images reviewed.', false),
    ('imageChecks', 'PUNCHED', 'The document has been hole-punched, as is done to invalidate it; the person can try again with a valid document.', true),
    ('imageChecks', 'PRECONDITION_NOT_FULFILLED', 'The check did not run because usability was not passed; the label of usability says what the person can do.', false),
    ('imageChecks', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true),
    ('imageChecks', 'SAMPLE', 'The document is a specimen that was issued to nobody; the person can try again with their own document.', true),

    ('extraction', 'OK', 'The data on the document has been read; there is nothing to do.', false),
    ('extraction', 'PRECONDITION_NOT_FULFILLED', 'Nothing was read because usability or imageChecks was not passed; the label of that check says what the person can do.', false),
    ('extraction', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the document from being read; the person can try again later.', true),

    ('dataChecks', 'OK', 'Nothing was found against the data on the document; there is nothing to do.', false),
    ('dataChecks', 'NFC_CERTIFICATE', 'The chip of the document could not be verified, or its data is not what is printed; trying again does not help, so have the document reviewed.', false),
    ('dataChecks', 'MISMATCHING_DATAPOINTS', 'Data that the document shows twice does not agree, for example in print and in the barcode; the person can try once more with sharp photos of one and the same document.', true),
    ('dataChecks', 'MRZ_CHECKSUM', 'The check digits in the machine-readable lines of the document are wrong, misread or forged; the person can try once more with a sharp photo of these lines.', true),
    ('dataChecks', 'PRECONDITION_NOT_FULFILLED', 'The check did not run because usability, imageChecks or extraction was not passed; the label of that check says what the person can do.', false),
    ('dataChecks', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true),

    ('liveness', 'OK', 'A living person was in front of the camera; there is nothing to do.', false),
    ('liveness', 'LIVENESS_UNDETERMINED', 'It could not be told whether a living person was in front of the camera; the person can try again with better light, doing what the screen asks.', true),
    ('liveness', 'ID_USED_AS_SELFIE', 'The selfie shows the photo on a document; the person can try again with their own face in front of the camera.', true),
    ('liveness', 'MULTIPLE_PEOPLE', 'The selfie shows more than one person; the person can try again with nobody else in the picture.', true),
    ('liveness', 'DIGITAL_COPY', 'The selfie was taken from a screen; the person can try again with their own face in front of the camera.', true),
    ('liveness', 'PHOTOCOPY', 'The selfie was taken from a print; the person can try again with their own face in front of the camera.', true),
    ('liveness', 'MANIPULATED', 'The selfie was altered before it was uploaded, for example its background; the person can try again with a selfie as the camera takes it.', true),
    ('liveness', 'NO_FACE_PRESENT', 'The selfie shows no face; the person can try again with their face in the middle of the picture.', true),
    ('liveness', 'FACE_NOT_FULLY_VISIBLE', 'The selfie shows only part of the face; the person can try again with the whole face in the picture, without a mask, sunglasses or a hat.', true),
    ('liveness', 'BLACK_WHITE', 'The selfie is black and white; the person can try again with a selfie in colour.', true),
    ('liveness', 'AGE_DIFFERENCE', 'The face looks much older or younger than the document says; trying again does not help, so have the images reviewed.', false),
    ('liveness', 'BAD_QUALITY', 'The selfie is of poor quality; the person can try again with better light and a steady camera.', true),
    ('liveness', 'PRECONDITION_NOT_FULFILLED', 'The check did not run because usability was not passed; the label of usability says what the person can do.', false),
    ('liveness', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true),

    ('similarity', 'MATCH', 'The two faces, usually in the selfie and on the document, are the same person''s; there is nothing to do.', false),
    ('similarity', 'NO_MATCH', 'The two faces, usually in the selfie and on the document, are different people''s; trying again does not help, so have the images reviewed.', false),
    ('similarity', 'NOT_POSSIBLE', 'The two faces could not be compared; the person can try again with a clear selfie and a sharp photo of the document.', true),
    ('similarity', 'PRECONDITION_NOT_FULFILLED', 'The check did not run because usability was not passed; the label of usability says what the person can do.', false),
    ('similarity', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true),

    ('authentication', 'OK', 'The face is that of the facemap captured earlier; there is nothing to do.', false),
    ('authentication', 'FAILED', 'The face was not recognised as that of the facemap captured earlier; the person can try again with better light and the whole face in the picture.', true),
    ('authentication', 'PRECONDITION_NOT_FULFILLED', 'The check did not run because usability was not passed; the label of usability says what the person can do.', false),
    ('authentication', 'TECHNICAL_ERROR', 'An error that is not the person''s kept the check from running; the person can try again later.', true);

CREATE VIEW jumio.labels AS
SELECT l.capability, l.label, l.meaning, l.retry_helps
FROM callbackd.labels AS l;

COMMENT ON VIEW jumio.labels IS 'One row per capability and decision label of Jumio''s guide, explained for people. Jumio may send other labels, so LEFT JOIN it.';
COMMENT ON COLUMN jumio.labels.capability IS 'The capability, as in jumio.capabilities.';
COMMENT ON COLUMN jumio.labels.label IS 'decision.details.label, as decision_label in jumio.capabilities.';
COMMENT ON COLUMN jumio.labels.meaning IS 'One plain sentence: what the label means, and what the person can do.';
COMMENT ON COLUMN jumio.labels.retry_helps IS 'Whether it can help that the person tries again, with a better picture or another document; false also for OK and MATCH, and for PRECONDITION_NOT_FULFILLED, where the label of the cause counts.';

COMMENT ON COLUMN jumio.workflow_executions.user_reference_unsigned IS 'user_reference without our signature; the same where it has none.';
COMMENT ON COLUMN jumio.workflow_executions.customer_internal_reference IS 'workflow.customerInternalReference of the details.';
COMMENT ON COLUMN jumio.workflow_executions.decision_type IS 'Jumio''s own overall decision, decision.type of the details; NULL if Jumio sends none. See jumio.verifications.';
COMMENT ON COLUMN jumio.workflow_executions.decision_label IS 'decision.details.label of the details, with the overall decision.';
COMMENT ON COLUMN jumio.workflow_executions.risk_score IS 'decision.risk.score of the details.';
COMMENT ON COLUMN jumio.workflow_executions.details_retrieved_at IS 'When details were first stored.';

COMMENT ON COLUMN jumio.capabilities.capability_id IS 'id of the result.';
COMMENT ON COLUMN jumio.capabilities.credential_categories IS 'Categories of the credentials it was executed on, in their order.';
COMMENT ON COLUMN jumio.capabilities.similarity IS 'similarity: data.similarity, MATCH, NO_MATCH or NOT_POSSIBLE; an open list.';
COMMENT ON COLUMN jumio.capabilities.liveness_type IS 'liveness: data.type, such as JUMIO_STANDARD; an open list.';
COMMENT ON COLUMN jumio.capabilities.valid_face_map_for_authentication IS 'validFaceMapForAuthentication, the address of the face map; never requested as it is.';

COMMENT ON COLUMN jumio.extracted_documents.credential_ids IS 'The credentials it was read from; empty if Jumio names none.';
COMMENT ON COLUMN jumio.extracted_documents.state IS 'state, of the issuing country.';
COMMENT ON COLUMN jumio.extracted_documents.dl_categories IS 'dlCategories, categories of a driving license; NULL if Jumio sends none.';
COMMENT ON COLUMN jumio.extracted_documents.address_formatted IS 'address.formattedAddress';
COMMENT ON COLUMN jumio.extracted_documents.personal_number IS 'personalNumber';
COMMENT ON COLUMN jumio.extracted_documents.optional_mrz_field1 IS 'optionalMrzField1';
COMMENT ON COLUMN jumio.extracted_documents.optional_mrz_field2 IS 'optionalMrzField2';
COMMENT ON COLUMN jumio.extracted_documents.issuing_authority IS 'issuingAuthority';
COMMENT ON COLUMN jumio.extracted_documents.issuing_place IS 'issuingPlace';
COMMENT ON COLUMN jumio.extracted_documents.curp IS 'curp';
COMMENT ON COLUMN jumio.extracted_documents.place_of_birth IS 'placeOfBirth';
COMMENT ON COLUMN jumio.extracted_documents.tax_number IS 'taxNumber';
COMMENT ON COLUMN jumio.extracted_documents.cpf IS 'cpf';
COMMENT ON COLUMN jumio.extracted_documents.registration_number IS 'registrationNumber';
COMMENT ON COLUMN jumio.extracted_documents.mothers_name IS 'mothersName';
COMMENT ON COLUMN jumio.extracted_documents.fathers_name IS 'fathersName';
COMMENT ON COLUMN jumio.extracted_documents.personal_identification_number IS 'personalIdentificationNumber';
COMMENT ON COLUMN jumio.extracted_documents.rg_number IS 'rgNumber';
COMMENT ON COLUMN jumio.extracted_documents.voter_id_number IS 'voterIdNumber';
COMMENT ON COLUMN jumio.extracted_documents.issuing_number IS 'issuingNumber';
COMMENT ON COLUMN jumio.extracted_documents.passport_number IS 'passportNumber';
COMMENT ON COLUMN jumio.extracted_documents.duration_of_stay IS 'durationOfStay';
COMMENT ON COLUMN jumio.extracted_documents.number_of_entries IS 'numberOfEntries';
COMMENT ON COLUMN jumio.extracted_documents.visa_category IS 'visaCategory';
COMMENT ON COLUMN jumio.extracted_documents.dni IS 'dni';
COMMENT ON COLUMN jumio.extracted_documents.pesel IS 'pesel';
COMMENT ON COLUMN jumio.extracted_documents.address_line1 IS 'address.line1';
COMMENT ON COLUMN jumio.extracted_documents.address_line2 IS 'address.line2';
COMMENT ON COLUMN jumio.extracted_documents.address_line3 IS 'address.line3';
COMMENT ON COLUMN jumio.extracted_documents.address_line4 IS 'address.line4';
COMMENT ON COLUMN jumio.extracted_documents.address_line5 IS 'address.line5';
COMMENT ON COLUMN jumio.extracted_documents.address_country IS 'address.country, ISO 3166-1 alpha-3.';
COMMENT ON COLUMN jumio.extracted_documents.address_postal_code IS 'address.postalCode';
COMMENT ON COLUMN jumio.extracted_documents.address_subdivision IS 'address.subdivision';
COMMENT ON COLUMN jumio.extracted_documents.address_city IS 'address.city';

COMMENT ON VIEW jumio.credentials IS 'One row per credential of the details: what the person gave.';
COMMENT ON COLUMN jumio.credentials.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.credentials.position IS 'Place among the credentials, from 1, in Jumio''s order.';
COMMENT ON COLUMN jumio.credentials.credential_id IS 'id';
COMMENT ON COLUMN jumio.credentials.category IS 'ID, SELFIE, FACEMAP, DOCUMENT; an open list.';
COMMENT ON COLUMN jumio.credentials.classifiers IS 'The parts that Jumio names, retrieved or not: FRONT, BACK, FACE and others.';

COMMENT ON VIEW jumio.verifications IS 'One row per workflow execution that answers: is this person verified, and why not? (docs/decisions.md)';
COMMENT ON COLUMN jumio.verifications.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.verifications.account_id IS 'Jumio''s id of the account (one end user).';
COMMENT ON COLUMN jumio.verifications.user_reference IS 'userReference, a signature included.';
COMMENT ON COLUMN jumio.verifications.user_reference_unsigned IS 'user_reference without our signature; the same where it has none.';
COMMENT ON COLUMN jumio.verifications.customer_internal_reference IS 'workflow.customerInternalReference of the details.';
COMMENT ON COLUMN jumio.verifications.definition_key IS 'Key of the workflow definition.';
COMMENT ON COLUMN jumio.verifications.stage IS 'Where it stands: created, started, in_review, decided (details are there), expired, failed, overdue, erased.';
COMMENT ON COLUMN jumio.verifications.status IS 'Status of the newest callback, or what Jumio answered when it was asked; an open list.';
COMMENT ON COLUMN jumio.verifications.retrieval_state IS 'As in jumio.workflow_executions.';
COMMENT ON COLUMN jumio.verifications.decision_type IS 'Jumio''s overall decision, or the worst of the capabilities'': PASSED, REJECTED, WARNING, NOT_EXECUTED; an open list. NULL until there are details.';
COMMENT ON COLUMN jumio.verifications.decision_source IS 'jumio (the overall decision) or capabilities.';
COMMENT ON COLUMN jumio.verifications.decision_label IS 'Label of Jumio''s overall decision; NULL if it sends none.';
COMMENT ON COLUMN jumio.verifications.risk_score IS 'decision.risk.score of the details.';
COMMENT ON COLUMN jumio.verifications.reason_capability IS 'The first capability that was not passed: the cause, not its consequences. NULL if all were passed.';
COMMENT ON COLUMN jumio.verifications.reason_type IS 'Its decision.type.';
COMMENT ON COLUMN jumio.verifications.reason_label IS 'Its label; see jumio.labels.';
COMMENT ON COLUMN jumio.verifications.document_type IS 'type of the first extracted document.';
COMMENT ON COLUMN jumio.verifications.document_sub_type IS 'Its subType.';
COMMENT ON COLUMN jumio.verifications.issuing_country IS 'Its issuingCountry.';
COMMENT ON COLUMN jumio.verifications.first_name IS 'Its firstName.';
COMMENT ON COLUMN jumio.verifications.last_name IS 'Its lastName.';
COMMENT ON COLUMN jumio.verifications.date_of_birth IS 'Its dateOfBirth; NULL if it is not a date.';
COMMENT ON COLUMN jumio.verifications.document_number IS 'Its documentNumber.';
COMMENT ON COLUMN jumio.verifications.expiry_date IS 'Its expiryDate; NULL if it is not a date.';
COMMENT ON COLUMN jumio.verifications.image_count IS 'Images in jumio.images.';
COMMENT ON COLUMN jumio.verifications.expected_at IS 'When it was expected; NULL if only a callback told of it.';
COMMENT ON COLUMN jumio.verifications.first_callback_at IS 'When the first callback was received.';
COMMENT ON COLUMN jumio.verifications.last_callback_at IS 'When the latest callback was received.';
COMMENT ON COLUMN jumio.verifications.details_retrieved_at IS 'When details were first stored.';
COMMENT ON COLUMN jumio.verifications.retrieved_at IS 'When the latest retrieval ended as retrieved or partial.';
COMMENT ON COLUMN jumio.verifications.created_at IS 'createdAt of the details.';
COMMENT ON COLUMN jumio.verifications.started_at IS 'startedAt of the details.';
COMMENT ON COLUMN jumio.verifications.completed_at IS 'completedAt of the details.';

COMMENT ON VIEW jumio.consumers IS 'The place of each named consumer in jumio.events.';
COMMENT ON COLUMN jumio.consumers.consumer IS 'Its name.';
COMMENT ON COLUMN jumio.consumers.last_event_id IS 'The last event that it has handled.';
COMMENT ON COLUMN jumio.consumers.handled_at IS 'When it said so.';
COMMENT ON COLUMN jumio.consumers.lag_events IS 'Events after that.';
COMMENT ON COLUMN jumio.consumers.oldest_unhandled_at IS 'When the first of them was recorded; NULL if there is none.';

GRANT SELECT ON jumio.verifications, jumio.credentials, jumio.consumers, jumio.labels TO jumio_reader;
