-- The comments of the views in plainer words.
COMMENT ON VIEW jumio.callbacks IS 'Every delivery of a callback, duplicates included, as it arrived.';
COMMENT ON VIEW jumio.rejected_callbacks IS 'Requests on the callback path that were rejected with 400 or 403, up to the hourly limit, and dead letters: callbacks that were answered 200 and could not be stored or promoted (not_storable).';
COMMENT ON COLUMN jumio.rejected_callbacks.replayed_at IS 'When an operator replayed it; NULL again if a dead letter then fails again.';
COMMENT ON COLUMN jumio.rejected_callbacks.source_ip IS 'The client address; NULL if none could be determined.';
COMMENT ON COLUMN jumio.callbacks.callback_sent_at IS 'callbackSentAt; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.callbacks.workflow_href IS 'workflowExecution.href; never requested as it is.';
COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user): from the details; until they are there, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition: from the details; until they are there, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference from the details; until they are there, or if they have none, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or what Jumio answered when it was asked; an open list.';
COMMENT ON COLUMN jumio.workflow_executions.retrieval_state IS 'awaiting (no final callback yet), pending, retrieved, partial (an image is unavailable), failed, not_required (expired).';
COMMENT ON COLUMN jumio.workflow_executions.created_at IS 'createdAt of the details; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.started_at IS 'startedAt of the details; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.completed_at IS 'completedAt of the details; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.extracted_documents.date_of_birth IS 'dateOfBirth; NULL if it is not a date (the original is in data).';
COMMENT ON COLUMN jumio.extracted_documents.expiry_date IS 'expiryDate; NULL if it is not a date.';
COMMENT ON COLUMN jumio.extracted_documents.issuing_date IS 'issuingDate; NULL if it is not a date.';
COMMENT ON COLUMN jumio.capabilities.credential_ids IS 'The credentials it was executed on; empty if Jumio names none.';
