-- What each column of a view holds, and what deletes it: at the end of its comment, as
-- " [data class, retention class]". Verbatim texts have the class of the most that they
-- may hold. What stands on a document and says which person that is, numbers of the person
-- included, is identity; what says which document that is, is document.
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT l.view, a.name, col_description(format('jumio.%I', l.view)::regclass, p.attnum) AS comment,
            format(' [%s, %s]', l.data_class, l.retention_class) AS classes
        FROM (VALUES
            ('callbacks', 'technical', 'callbacks', 'callback_id received_at source_ip content_type workflow_status definition_key callback_sent_at'),
            ('callbacks', 'reference', 'callbacks', 'workflow_execution_id workflow_href account_id account_href user_reference'),
            ('callbacks', 'identity', 'callbacks', 'body'),

            ('workflow_executions', 'technical', 'none', 'definition_key status callback_count first_callback_at last_callback_at retrieval_state
                retrieval_attempts retrieval_error retrieved_at created_at started_at completed_at decision_type decision_label risk_score details_retrieved_at'),
            ('workflow_executions', 'reference', 'none', 'workflow_execution_id account_id user_reference user_reference_unsigned customer_internal_reference'),
            ('workflow_executions', 'identity', 'results', 'details'),

            ('capabilities', 'technical', 'results', 'capability position decision_type decision_label credential_categories similarity liveness_type'),
            ('capabilities', 'reference', 'results', 'workflow_execution_id credential_ids capability_id valid_face_map_for_authentication'),
            ('capabilities', 'identity', 'results', 'data'),

            ('extracted_documents', 'technical', 'results', 'position'),
            ('extracted_documents', 'reference', 'results', 'workflow_execution_id credential_ids'),
            ('extracted_documents', 'document', 'results', 'type sub_type issuing_country state expiry_date issuing_date issuing_authority issuing_place
                document_number passport_number issuing_number dl_categories duration_of_stay number_of_entries visa_category'),
            ('extracted_documents', 'identity', 'results', 'first_name last_name date_of_birth gender nationality place_of_birth mothers_name fathers_name
                personal_number personal_identification_number optional_mrz_field1 optional_mrz_field2 curp tax_number cpf registration_number rg_number
                voter_id_number dni pesel address address_line1 address_line2 address_line3 address_line4 address_line5 address_country
                address_postal_code address_subdivision address_city address_formatted data'),

            ('images', 'technical', 'images', 'image_id category classifier content_type size_bytes width height retrieved_at stored_in object_key encrypted'),
            ('images', 'reference', 'images', 'workflow_execution_id account_id credential_id'),
            ('images', 'biometric', 'images', 'sha256 data'),

            ('rejected_callbacks', 'technical', 'rejected', 'rejected_id received_at reason content_type replayed_at'),
            ('rejected_callbacks', 'reference', 'rejected', 'workflow_execution_id user_reference'),
            -- Whoever sent it may be a person. That of callbacks is Jumio's.
            ('rejected_callbacks', 'identity', 'rejected', 'source_ip body'),

            ('events', 'technical', 'events', 'event_id occurred_at type retrieval_state decision_type changed'),
            ('events', 'reference', 'events', 'workflow_execution_id account_id user_reference'),

            ('credentials', 'technical', 'results', 'position category classifiers'),
            ('credentials', 'reference', 'results', 'workflow_execution_id credential_id'),

            ('verifications', 'technical', 'none', 'definition_key stage status retrieval_state decision_type decision_source decision_label risk_score
                reason_capability reason_type reason_label image_count expected_at first_callback_at last_callback_at details_retrieved_at
                retrieved_at created_at started_at completed_at'),
            ('verifications', 'reference', 'none', 'workflow_execution_id account_id user_reference user_reference_unsigned customer_internal_reference'),
            ('verifications', 'document', 'results', 'document_type document_sub_type issuing_country document_number expiry_date'),
            ('verifications', 'identity', 'results', 'first_name last_name date_of_birth'),

            ('consumers', 'technical', 'none', 'consumer last_event_id handled_at lag_events oldest_unhandled_at'),

            ('labels', 'technical', 'none', 'capability label meaning retry_helps'),

            ('expectations', 'technical', 'none', 'data_center definition_key expected_at deadline_at state asked_count last_asked_at next_ask_at answered_at'),
            ('expectations', 'reference', 'none', 'workflow_execution_id account_id user_reference'),

            ('erasures', 'technical', 'none', 'order_id requested_at requested_by reason subject_kind at_jumio state error finished_at deleted jumio_answer'),

            ('image_reads', 'technical', 'none', 'read_at reader image_id reason way'),
            ('image_reads', 'reference', 'none', 'workflow_execution_id')
        ) AS l (view, data_class, retention_class, names)
        CROSS JOIN regexp_split_to_table(l.names, '\s+') AS a (name)
        JOIN pg_attribute AS p ON p.attrelid = format('jumio.%I', l.view)::regclass AND p.attname = a.name
    LOOP
        IF c.comment !~ ' \[[a-z]+, [a-z]+\]$' THEN
            EXECUTE format('COMMENT ON COLUMN jumio.%I.%I IS %L', c.view, c.name, c.comment || c.classes);
        END IF;
    END LOOP;
END
$$;

CREATE VIEW jumio.data_inventory AS
SELECT c.relname::text AS view_name, a.attname::text AS column_name,
       substring(m.comment FROM ' \[([a-z]+), [a-z]+\]$') AS data_class,
       nullif(substring(m.comment FROM ' \[[a-z]+, ([a-z]+)\]$'), 'none') AS retention_class,
       regexp_replace(m.comment, ' \[[a-z]+, [a-z]+\]$', '') AS description
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind = 'v'
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (SELECT col_description(c.oid, a.attnum) AS comment) AS m
WHERE n.nspname = 'jumio';
COMMENT ON VIEW jumio.data_inventory IS 'One row for every column of every view: what it holds, and which retention class deletes it (docs/data-protection.md).';
COMMENT ON COLUMN jumio.data_inventory.view_name IS 'The view. [technical, none]';
COMMENT ON COLUMN jumio.data_inventory.column_name IS 'The column. [technical, none]';
COMMENT ON COLUMN jumio.data_inventory.data_class IS 'identity (who a person is), document (which document it is), biometric (pictures and what is made of them), reference (ids and references that lead to a person), technical (states, decisions, times, counts, labels). [technical, none]';
COMMENT ON COLUMN jumio.data_inventory.retention_class IS 'The class of CALLBACKD_RETENTION that deletes it: images (in jumio.images: biometrics, for the categories SELFIE and FACEMAP), results, callbacks, rejected, events. NULL if no retention does, only an erasure. [technical, none]';
COMMENT ON COLUMN jumio.data_inventory.description IS 'What the column means. [technical, none]';
GRANT SELECT ON jumio.data_inventory TO jumio_reader;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['jumio_results', 'jumio_summary'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA jumio TO jumio_results, jumio_summary;

-- A migration that adds a column, or changes its class, calls it at its end.
CREATE FUNCTION callbackd.grant_columns() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    g record;
BEGIN
    REVOKE ALL ON ALL TABLES IN SCHEMA jumio FROM jumio_results, jumio_summary;
    FOR g IN
        SELECT format('GRANT SELECT (%s) ON jumio.%I TO jumio_results', string_agg(quote_ident(i.column_name), ', '), i.view_name) AS statement
        FROM jumio.data_inventory AS i WHERE i.column_name NOT IN ('body', 'details', 'data')
        GROUP BY i.view_name
        UNION ALL
        SELECT format('GRANT SELECT (%s) ON jumio.%I TO jumio_summary', string_agg(quote_ident(i.column_name), ', '), i.view_name)
        FROM jumio.data_inventory AS i WHERE i.data_class IN ('technical', 'reference')
        GROUP BY i.view_name
    LOOP
        EXECUTE g.statement;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION callbackd.grant_columns() FROM PUBLIC;
SELECT callbackd.grant_columns();
